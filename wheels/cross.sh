#!/usr/bin/env bash
# wheels/cross.sh [--quick] ARCH [WHEEL]: build a wheel for another architecture from the sdist, or take the given one,
# and run the suite on it in an unpacked Debian of that architecture, under qemu (i386: natively). ARCH: arm64 s390x i386
# armhf ppc64el riscv64, or as wheels name them. --quick: parity, contract, gradients and test_found.py only; the suite
# takes half an hour under emulation. Exit status 3: the mirror has no such Debian.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
quick=
if [ "${1:-}" = --quick ]; then quick=1; shift; fi
# The long tail gets one wheel of the limited API, as in pyproject.toml.
backend=baseline limited=1 slowness=60
case ${1:-} in
  aarch64 | arm64) arch=arm64 machine=aarch64 triplet=aarch64-linux-gnu glibc=2.17 backend=neon limited=0 ;;
  s390x) arch=s390x machine=s390x triplet=s390x-linux-gnu glibc=2.17 ;;
  i386 | i686) arch=i386 machine=i686 triplet=i386-linux-gnu glibc=2.17 slowness=5 ;;
  armhf | armv7l) arch=armhf machine=armv7l triplet=arm-linux-gnueabihf glibc=2.17 ;;
  ppc64el | ppc64le) arch=ppc64el machine=ppc64le triplet=powerpc64le-linux-gnu glibc=2.19 ;;
  riscv64) arch=riscv64 machine=riscv64 triplet=riscv64-linux-gnu glibc=2.31 ;;
  *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
esac
given=${2:-}
if [ "$given" ] && ! [[ -f $given && ${given##*/} == *_$machine.whl ]]; then
  echo "cross.sh: $given is no wheel for $machine" >&2; exit 2
elif [ $# -gt 2 ]; then
  echo "cross.sh: what is ${*:3}?" >&2; exit 2
fi

step "tools"
packages python3-venv git || exit 3 # the mirror's fault, not the package's
tools ziglang
case $arch in
  i386) ;;
  armhf) emulator arm ;;
  *) emulator "$machine" ;;
esac

step "a Debian for $arch"
more=
# Natively it is quick to build packages against the wheel, too (tests/embedding).
if [ "$arch$quick" = i386 ]; then more=,gcc,g++,libc6-dev,python3-pip,python3-setuptools,python3-pybind11,cython3; fi
debian "$arch" "python3,python3-dev,python3-numpy,python3-scipy,python3-pytest,python3-pytest-xdist,python3-hypothesis,python3-mpmath,python3-tqdm,python3-safetensors$more" || exit 3
root=$work/debian
headers=("$root"/usr/include/python3.[0-9]*)
version=${headers[0]##*/python}
mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # pip does not begin without
for part in blas lapack; do ln -sf "$part/lib$part.so.3" "$root/usr/lib/$triplet/lib$part.so.3"; done

build_wheel() {
  zig "${triplet/#i386/x86}.$glibc"
  mkdir -p "$work/target" "$work/headers/$triplet"
  cp -r "${headers[0]}/." "$work/headers/"
  cp -r "$root/usr/include/$triplet/python$version" "$work/headers/$triplet/"
  cp "$root/usr/lib/python$version/_sysconfigdata__$triplet.py" "$work/target/"
  (cd "$work/source" && BPCORE_LIMITED_API=$limited PYTHONPATH=$work/target \
    _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$triplet _PYTHON_HOST_PLATFORM=linux-$machine CC="$work/zcc" \
    LDSHARED="$work/zcc -shared" CFLAGS="-I$work/headers" LDFLAGS=-s \
    python setup.py -q bdist_wheel --dist-dir "$work/built" > "$work/build.log" 2>&1) || { tail -n 30 "$work/build.log"; exit 1; }
  grep -aE '\.(c|h):[0-9:]+ warning:' "$work/build.log" | sort -u | head || true
  if [ "$limited" = 0 ]; then wheel tags --remove --python-tag "cp${version/./}" --abi-tag "cp${version/./}" "$work"/built/*.whl; fi
}

step "sdist, and the wheel from it"
source_from_sdist
if [ "$given" ]; then
  mkdir "$work/built"
  cp "$given" "$work/built/"
else
  build_wheel
fi
python -m zipfile -l "$work"/built/*.whl | grep -F .so
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite on $arch, backend $backend"
python -m zipfile -e "$work"/built/*.whl "$root/site"
neutral "$root/suite"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
inside=(chroot "$root" env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPATH=/site
  OPENBLAS_NUM_THREADS=1 BPCORE_BACKEND="$backend" BPCORE_TEST_SLOWNESS="${BPCORE_TEST_SLOWNESS:-$slowness}" python3)
"${inside[@]}" -c 'import sys, platform, numpy
print(platform.machine(), sys.byteorder, sys.maxsize.bit_length() + 1, "bit, Python", sys.version.split()[0], "NumPy", numpy.__version__)'
"${inside[@]}" -c 'import os, runpy, sys; os.chdir("/suite"); sys.argv[0] = "run_tests.py"; runpy.run_path("wheels/run_tests.py", run_name="__main__")' \
  -p no:cacheprovider --durations=20 "${parallel[@]}" ${quick:+"${quick_tests[@]}"}
echo "cross.sh $arch ($suite, Python $version, $backend${quick:+, quick}): $(basename "$work"/built/*.whl) passed"
