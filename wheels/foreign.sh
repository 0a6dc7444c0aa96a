#!/usr/bin/env bash
# wheels/foreign.sh [--quick] ARCH: build a wheel for another architecture from the sdist, and run the suite on it in an
# unpacked Debian of that architecture, under qemu (i386: natively). ARCH: arm64 s390x i386 armhf ppc64el riscv64, or as
# wheels name them. --quick: parity, contract and gradients only; the suite takes half an hour and more under emulation.
# JAX is not there, so tests/test_autodiff.py is left out.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
quick=
if [ "${1:-}" = --quick ]; then quick=1; shift; fi
case ${1:-} in
  aarch64 | arm64) arch=arm64 zig=aarch64-linux-gnu.2.17 platform=linux-aarch64 qemu=aarch64 triplet=aarch64-linux-gnu ;;
  s390x) arch=s390x zig=s390x-linux-gnu.2.17 platform=linux-s390x qemu=s390x triplet=s390x-linux-gnu ;;
  i386 | i686) arch=i386 zig=x86-linux-gnu.2.17 platform=linux-i686 qemu='' triplet=i386-linux-gnu ;;
  armhf | armv7l) arch=armhf zig=arm-linux-gnueabihf.2.17 platform=linux-armv7l qemu=arm triplet=arm-linux-gnueabihf ;;
  ppc64el | ppc64le) arch=ppc64el zig=powerpc64le-linux-gnu.2.19 platform=linux-ppc64le qemu=ppc64le triplet=powerpc64le-linux-gnu ;;
  riscv64) arch=riscv64 zig=riscv64-linux-gnu.2.31 platform=linux-riscv64 qemu=riscv64 triplet=riscv64-linux-gnu ;;
  *) echo "usage: $0 [--quick] arm64|s390x|i386|armhf|ppc64el|riscv64" >&2; exit 2 ;;
esac
backend=baseline
if [ "$arch" = arm64 ]; then backend=neon; fi

step "tools"
packages qemu-user-static debootstrap python3-venv git
tools ziglang
if [ "$qemu" ]; then # registered once and left: it changes nothing for other programs
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  [ -e "/proc/sys/fs/binfmt_misc/qemu-$qemu" ] \
    || tail -n 1 "/usr/lib/binfmt.d/qemu-$qemu.conf" > /proc/sys/fs/binfmt_misc/register
fi

# Unpacked only: no package is configured, which under emulation would take minutes.
step "a Debian for $arch"
root=$work/root
include=python3,python3-dev,python3-numpy,python3-scipy,python3-pytest,python3-pytest-xdist,python3-hypothesis
include=$include,python3-mpmath,python3-tqdm
made=
for suite in ${DEBIAN:-trixie bookworm}; do # bookworm where a mirror has no whole trixie
  rm -rf "$root"
  more=$include
  if [ "$suite" != bookworm ]; then more=$include,python3-safetensors; fi
  if debootstrap --foreign --variant=minbase --arch="$arch" --include="$more" "$suite" "$root" > "$work/root.log" 2>&1; then
    made=$suite
    break
  fi
  tail -n 2 "$work/root.log"
done
[ "$made" ]
for archive in "$root"/var/cache/apt/archives/*.deb; do dpkg -x "$archive" "$root"; done
for part in blas lapack; do ln -sf "$part/lib$part.so.3" "$root/usr/lib/$triplet/lib$part.so.3"; done
version=$(basename "$(echo "$root"/usr/include/python3.[0-9]*)")
version=${version#python}
tag=cp${version/./}
if [ "$made" = bookworm ]; then # which has neither safetensors nor a pytest that the suite takes
  pip download -q --no-deps --only-binary :all: --implementation cp --abi abi3 --python-version "$version" \
    --platform "manylinux2014_${platform#linux-}" --dest "$work/extra" 'safetensors<0.9' 2> /dev/null ||
    pip download -q --no-deps --only-binary :all: --implementation cp --abi abi3 --python-version "$version" \
      --platform "manylinux_2_5_${platform#linux-}" --dest "$work/extra" 'safetensors<0.9' 2> /dev/null
  pip install -q --target "$root/site" --no-deps --only-binary :all: --python-version "$version" \
    'pytest<9' pluggy iniconfig packaging pygments 'hypothesis<6.136' sortedcontainers attrs 2> /dev/null
  python -m zipfile -e "$work"/extra/*.whl "$root/site"
fi

step "sdist, and the wheel from it"
source_from_sdist
zig "$zig"
mkdir -p "$work/target" "$work/headers"
cp -r "$root/usr/include/python$version/." "$work/headers/"
mkdir -p "$work/headers/$triplet"
cp -r "$root/usr/include/$triplet/python$version" "$work/headers/$triplet/"
cp "$root/usr/lib/python$version/_sysconfigdata__$triplet.py" "$work/target/"
(cd "$work/source" && PYTHONPATH=$work/target _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$triplet \
  _PYTHON_HOST_PLATFORM=$platform CC="$work/zcc" LDSHARED="$work/zcc -shared" CFLAGS="-I$work/headers" LDFLAGS=-s \
  python setup.py -q bdist_wheel --dist-dir "$work/built" > "$work/build.log" 2>&1) || { tail -n 30 "$work/build.log"; exit 1; }
grep -a 'warning:' "$work/build.log" | grep -v 'argument unused' | sort -u | head || true
wheel tags --remove --python-tag "$tag" --abi-tag "$tag" "$work"/built/*.whl
python -m zipfile -l "$work"/built/*.whl | grep -E '\.so|METADATA'
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite on $arch, backend $backend"
python -m zipfile -e "$work"/built/*.whl "$root/site"
neutral "$root/suite"
what=
if [ "$quick" ]; then what=$quick_tests; fi
# The mounts are of a name space of their own and end with it.
# shellcheck disable=SC2016
unshare --mount bash -euc 'mount --bind /dev "$1/dev"; mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/tmp"
  chroot "$1" env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONPATH=/site PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 \
    BPCORE_BACKEND="$2" sh -c "cd /suite && python3 -c \"import sys, platform, numpy; print(platform.machine(), sys.byteorder, sys.maxsize > 2**32, sys.version.split()[0], numpy.__version__)\" && python3 -m pytest -q -p no:cacheprovider -n $4 -W ignore::pytest.PytestConfigWarning --ignore=tests/test_autodiff.py $3"' \
  bash "$root" "$backend" "$what" "$(nproc)" 2>&1 | tee "$work/suite.log" | grep -avE '^[.FEs]+ +\[' || true
echo "foreign.sh $arch ($made, Python $version, $backend${quick:+, quick}): $(passed "$work/suite.log")"
passed "$work/suite.log" > /dev/null
