#!/usr/bin/env bash
# wheels/musl.sh [VERSION]: build musl and CPython (3.13 by default) against it from Debian's source packages, a wheel with
# them from the sdist, and run the suite on every backend.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
version=${1:-3.13}

step "CPython $version with musl"
packages python3-venv git make gcc libc6-dev autoconf automake libtool libltdl-dev
# Debian 12 has musl 1.2.3, which does not know the packed relocations of NumPy's libraries and crashes.
debian_source musl libc
debian_source zlib zlib
debian_source libffi libffi
debian_source "python$version" cpython
libraries=$work/musl
# CPython's configure asks the compiler which system it is for.
# shellcheck disable=SC2016
printf '#!/bin/sh\ncase $1 in --print-multiarch) echo x86_64-linux-musl ;; *) exec %s "$@" ;; esac\n' "$libraries/bin/musl-gcc" \
  > "$work/cc"
chmod +x "$work/cc"
bash -eu > "$work/python.log" 2>&1 << END || { tail -n 30 "$work/python.log"; exit 1; }
  cd "$work/libc"
  CC=gcc ./configure --prefix="$libraries" --syslibdir="$libraries/lib"
  make -s -j "$(nproc)"
  make -s install
  export CC=$work/cc CFLAGS=-fPIC
  cd "$work/zlib"
  ./configure --static --prefix="$libraries"
  make install
  cd "$work/libffi"
  autoreconf -fi
  ./configure -q --disable-shared --disable-docs --disable-exec-static-tramp --prefix="$libraries"
  make install
  unset CFLAGS
  export PKG_CONFIG_LIBDIR=$libraries/lib/pkgconfig # none of this machine's libraries
  cd "$work/cpython"
  ./configure -q --prefix="$work/python" --without-ensurepip --disable-test-modules \
    ZLIB_CFLAGS="-I$libraries/include" ZLIB_LIBS="-L$libraries/lib -lz" \
    LIBFFI_CFLAGS="-I$libraries/include" LIBFFI_LIBS="-L$libraries/lib -lffi"
  make -s -j "$(nproc)"
  make -s install
END
python=$work/python/bin/python$version
"$python" -c 'import sys, zlib, ctypes; print(sys.version)'

step "sdist, and the wheel from it"
tools pip
source_from_sdist
musl() { # FOLDER REQUIREMENT...: what that Python, which has no pip, is to import
  local folder=$1
  shift
  pip install -q --target "$folder" --only-binary :all: --implementation cp --python-version "$version" \
    --platform musllinux_1_2_x86_64 "$@" 2> "$work/pip.log" || { cat "$work/pip.log"; return 1; }
}
musl "$work/build" 'cython>=3.1,<3.4' 'setuptools>=77' wheel
(cd "$work/source" && PYTHONPATH=$work/build LDFLAGS=-Wl,--strip-all \
  "$python" setup.py -q bdist_wheel --dist-dir "$work/built" > "$work/build.log" 2>&1) || { tail -n 30 "$work/build.log"; exit 1; }
wheel tags --remove --platform-tag musllinux_1_2_x86_64 "$work"/built/*.whl
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite"
musl "$work/site" numpy scipy pytest pytest-xdist hypothesis mpmath safetensors tqdm
python -m zipfile -e "$work"/built/*.whl "$work/site"
neutral "$work/suite"
cd "$work/suite"
export PYTHONPATH=$work/site
"$python" -c 'import sys, numpy, bpcore; print(sys.version.split()[0], "NumPy", numpy.__version__, *bpcore.available_backends())'
"$python" wheels/run_tests.py -p no:cacheprovider "${parallel[@]}"
echo "musl.sh: $(basename "$work"/built/*.whl), Python $version, passed"
