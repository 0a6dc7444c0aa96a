#!/usr/bin/env bash
# wheels/macos.sh: compile and link the extensions for macOS, arm64 and x86_64, with zig from the sdist. They cannot run
# here: what is checked is that every one is there, a Mach-O library of the right processor with its PyInit function.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
packages python3-venv git
tools ziglang
source_from_sdist
version=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
include=$(python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
linked=0
for target in aarch64-macos.11.0:arm64 x86_64-macos.11.0:x86_64; do
  arch=${target#*:}
  step "macOS $arch"
  zig "${target%:*}"
  # A small macOS sysconfig: the headers' pyconfig.h is of another system, but of the same word sizes.
  mkdir -p "$work/$arch/sysconfig"
  cat > "$work/$arch/sysconfig/_sysconfigdata__darwin.py" << END
build_time_vars = dict(CC="$work/zcc", CXX="$work/zcc", CFLAGS="-I$include", CCSHARED="", OPT="", BASECFLAGS="",
    LDSHARED="$work/zcc -shared -undefined dynamic_lookup -s", LDCXXSHARED="", AR="ar", ARFLAGS="rcs",
    EXT_SUFFIX=".cpython-${version/./}-darwin.so", SHLIB_SUFFIX=".so", SOABI="cpython-${version/./}-darwin",
    Py_GIL_DISABLED=0, Py_ENABLE_SHARED=0, VERSION="$version", LIBDIR="", srcdir="", LDVERSION="$version")
END
  (cd "$work/source" && PYTHONPATH=$work/$arch/sysconfig _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__darwin \
    _PYTHON_HOST_PLATFORM=macosx-11.0-$arch python setup.py -q build_ext --build-lib "$work/$arch/lib" \
    --build-temp "$work/$arch/temp" > "$work/$arch.log" 2>&1) || { tail -n 30 "$work/$arch.log"; exit 1; }
  found=0
  for file in "$work/$arch"/lib/bpcore/*.so; do
    what=$(python - "$file" << 'END'
import pathlib, struct, sys
path = pathlib.Path(sys.argv[1])
data = path.read_bytes()
magic, cpu, _, kind = struct.unpack("<4I", data[:16])
name = "PyInit_" + path.name.partition(".")[0]
assert magic == 0xFEEDFACF and kind in (6, 8) and name.encode() in data, (hex(magic), kind, name)
print({0x0100000C: "arm64", 0x01000007: "x86_64"}[cpu])
END
    )
    [ "$what" = "$arch" ]
    echo "${file##*/}: $what, $(stat -c %s "$file") bytes"
    found=$((found + 1))
  done
  [ "$found" -ge 1 ]
  linked=$((linked + found))
done
echo "macos.sh: $linked extensions compiled and linked; none can run here"
