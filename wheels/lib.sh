# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share. Each works in a temporary folder, as root on a Debian machine, and installs what
# it needs. KEEP=1 keeps the folder; OUT=DIR gets a copy of the wheels.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# In a name space of its own for mounts, which end with the script; one that mounts nothing sets `unprivileged` ahead.
if [ -z "${unprivileged:-}" ]; then
  if [ "$(id -u)" != 0 ]; then echo "$0: takes root: it mounts, and installs Debian's packages" >&2; exit 2; fi
  if [ -z "${BPCORE_MOUNTS:-}" ]; then BPCORE_MOUNTS=1 exec unshare --mount "$BASH" "$(realpath "$0")" "$@"; fi
fi
if [ "${OUT:-}" ]; then mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd); fi
unset BPCORE_MOUNTS
work=$(mktemp -d)
registered=
cleanup() {
  if [ "$registered" ]; then echo -1 > "/proc/sys/fs/binfmt_misc/$registered" || true; fi
  for mounted in "$work"/debian/{dev,proc,tmp}; do umount -l "$mounted" 2> /dev/null || true; done
  if [ -z "${KEEP:-}" ]; then rm -rf --one-file-system "$work"; fi
}
trap cleanup EXIT
unset PYTHONPATH BPCORE_BACKEND BPCORE_PURE BPCORE_DEBUG BPCORE_NUM_THREADS OMP_NUM_THREADS PYTEST_ADDOPTS
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore OPENBLAS_NUM_THREADS=1
step() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }
parallel=()
if [ "$(nproc)" -gt 1 ]; then parallel=(-n "$(nproc)"); fi
quick_tests=(tests/test_parity.py tests/test_contract.py tests/test_gradients.py tests/test_found.py)

packages() { # NAME...: install from Debian what is missing
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -q > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" > "$work/apt.log" 2>&1 \
      || { tail "$work/apt.log"; return 1; }
  fi
}

tools() { # REQUIREMENT...: a venv of their own for the tools of the build, first in PATH
  "${PYTHON:-python3}" -m venv "$work/tools"
  "$work/tools/bin/pip" install -q build wheel 'setuptools>=77' 'cython>=3.1,<3.4' "$@" 2> "$work/pip.log" \
    || { cat "$work/pip.log"; return 1; }
  PATH=$work/tools/bin:$PATH
}

zig() { # TARGET: a compiler for it, $work/zcc. It is a Python program, which must not see the target's sysconfig.
  printf '#!/bin/sh\nexec env -u PYTHONPATH -u _PYTHON_SYSCONFIGDATA_NAME -u _PYTHON_HOST_PLATFORM \\\n  %s -m ziglang cc -target %s "$@"\n' \
    "$work/tools/bin/python" "$1" > "$work/zcc"
  chmod +x "$work/zcc"
}

source_from_sdist() { # everything is built from the sdist, unpacked into $work/source
  mkdir -p "$work/checkout" "$work/source"
  (cd "$top" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -c) \
    | tar -C "$work/checkout" -x
  python -m build --sdist --no-isolation --outdir "$work/dist" "$work/checkout" > "$work/sdist.log" 2>&1 \
    || { tail "$work/sdist.log"; return 1; }
  tar -C "$work/source" --strip-components=1 -xf "$work"/dist/*.tar.gz
}

debian_source() { # PACKAGE FOLDER: a program's source, as Debian has it, in $work/FOLDER
  packages dpkg-dev
  mkdir -p "$work"/apt/{lists,cache,"$2"} "$work/$2"
  printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
    "${MIRROR:-http://deb.debian.org/debian}" "${DEBIAN_SOURCE:-forky}" > "$work/apt/sources.list"
  local apt=(apt-get -q -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o APT::Sandbox::User=root)
  (cd "$work/apt/$2" && "${apt[@]}" update && "${apt[@]}" source --download-only --tar-only "$1") > "$work/source.log" 2>&1 \
    || { tail "$work/source.log"; return 1; }
  tar -C "$work/$2" --strip-components=1 -xf "$work/apt/$2"/*.orig.tar.*z
}

neutral() { # FOLDER: what the suite reads, without the package's sources
  mkdir -p "$1/wheels"
  for name in tests docs .ci README.md LICENSE CHANGELOG.md CONTRIBUTING.md pyproject.toml; do cp -r "$work/source/$name" "$1/"; done
  cp "$work/source/wheels/run_tests.py" "$1/wheels/"
}

emulator() { # ARCH: let the kernel run programs of that architecture by qemu, as qemu names it
  packages qemu-user-static
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  if [ ! -e "/proc/sys/fs/binfmt_misc/qemu-$1" ]; then
    tail -n 1 "/usr/lib/binfmt.d/qemu-$1.conf" > /proc/sys/fs/binfmt_misc/register
    registered=qemu-$1
  fi
}

debian() { # ARCH PACKAGE,...: a Debian of that architecture in $work/debian, whose name goes to $suite
  packages debootstrap debian-archive-keyring
  # Unpacked only: no package is configured, which under emulation would take minutes. A mirror may lack an
  # architecture of one release for a while, and debootstrap of an older system a script for a newer one.
  for suite in ${DEBIAN:-trixie forky}; do
    rm -rf "$work/debian"
    if debootstrap --foreign --variant=minbase --arch="$1" --include="$2" "$suite" "$work/debian" \
      "${MIRROR:-http://deb.debian.org/debian}" sid > "$work/debian.log" 2>&1; then
      for archive in "$work"/debian/var/cache/apt/archives/*.deb; do dpkg -x "$archive" "$work/debian"; done
      return
    fi
    tail -n 2 "$work/debian.log"
  done
  return 1
}
