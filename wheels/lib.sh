# shellcheck shell=bash
# What the scripts of this folder share. Each works in a temporary folder, as root on a Debian machine, and installs what
# it needs. KEEP=1 keeps the folder.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
cleanup() { [ "${KEEP:-}" ] || rm -rf "$work"; }
trap cleanup EXIT
unset PYTHONPATH BPCORE_BACKEND BPCORE_PURE BPCORE_DEBUG BPCORE_NUM_THREADS PYTEST_ADDOPTS
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore OPENBLAS_NUM_THREADS=1
step() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }
quick_tests="tests/test_parity.py tests/test_contract.py tests/test_gradients.py"

packages() { # NAME...: install from Debian what is missing
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -q > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" > "$work/apt.log" \
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
  python -m build --sdist --no-isolation --outdir "$work/dist" "$work/checkout" > "$work/sdist.log" 2>&1
  tar -C "$work/source" --strip-components=1 -xf "$work"/dist/*.tar.gz
}

neutral() { # FOLDER: what the suite reads, without the package's sources
  mkdir -p "$1"
  cp -r "$work/source/tests" "$work/source/README.md" "$work/source/pyproject.toml" "$1/"
  # Benchmarks look into the gate's file, which only a checkout has.
  if [ -d "$work/checkout/.ci" ]; then cp -r "$work/checkout/.ci" "$1/"; fi
}

passed() { # LOG: a closing line with the counts; a failed or skipped test is an error
  local line
  line=$(grep -aE '[0-9]+ (passed|failed|error)' "$1" | tail -n 1)
  if grep -aqE '^(SKIPPED|FAILED|ERROR|XFAIL)' "$1" || ! grep -q ' passed' <<< "$line" || grep -qE 'failed|error|skipped' <<< "$line"; then
    echo "FAILED: $line"
    return 1
  fi
  echo "$line"
}
