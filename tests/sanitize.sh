#!/usr/bin/env bash
# tests/sanitize.sh MODE [--quick] [SECONDS] [-- COMMAND...]: build the package for a checker of C code, run the suite
# under it, and tests/hunt.py for so many seconds on each backend. Exit status 1: it has found something, printed above.
#   asan       AddressSanitizer and UndefinedBehaviorSanitizer, every compiled backend that this machine can run
#   ubsan      UndefinedBehaviorSanitizer alone
#   tsan       ThreadSanitizer, on a free-threaded CPython that is built for it, and the tests that use threads
#   valgrind   memcheck, on the baseline backend: memory read before it was written, which no sanitizer of GCC's sees
#   --quick    asan or ubsan in about a minute: two backends, the parity, contract and accumulator tests; and in the
#              Python that is first in PATH, if it has what this takes
#   COMMAND    what to run there in place of the suite and the hunt: python -c '...'
# Works in a temporary folder, which KEEP=1 keeps; JOBS=1 has it use one processor. Takes root only where one of Debian's
# packages is missing.
set -euo pipefail
# shellcheck disable=SC2034
unprivileged=1
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/../wheels/lib.sh"
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

mode=${1:-}
if [[ ! $mode =~ ^(asan|ubsan|tsan|valgrind)$ ]]; then usage; fi
shift
quick=
hunt=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --) shift; break ;;
    [0-9]*) hunt=$1 ;;
    *) usage ;;
  esac
  shift
done
command=("$@")
if [ "$quick" ] && [[ ! $mode =~ ^(asan|ubsan)$ ]]; then usage; fi
jobs=${JOBS:-$(nproc)}
reports=$work/reports
mkdir "$reports"

# ------------------------------------------------------------------------------------------------- what each mode is
#: The compiler's flags, the variables of the environment, and what stands ahead of python.
flags=(-O1 -g1 -fno-omit-frame-pointer)
environment=()
ahead=()
#: How many times longer things may take, for tests that look at a clock (tests/conftest.py).
slowness=10
# Undefined behaviour as GCC checks it, and conversions to integers that have no room for the number. CPython's own flags
# have -fwrapv, which makes signed overflow defined, so that it would go unseen.
undefined=("-fsanitize=undefined,float-cast-overflow" -fno-sanitize-recover=all -fno-wrapv)
#: Tests left out.
without=(
  # Preloads a malloc of its own, where that of the checker has to be; and compiles its C without the checker.
  tests/test_embedding.py::test_no_call_allocates_or_needs_the_gil
)

library() { # NAME: where the compiler has it
  realpath "$(gcc "-print-file-name=$1")"
}

case $mode in
  asan)
    flags+=(-fsanitize=address "${undefined[@]}")
    # A shared library can be checked in a program that is not if the checker is loaded first; and libstdc++ with it,
    # whose exceptions it looks for when it starts. CPython never frees part of what it has at exit, interned strings and
    # static types among it, which is no leak of ours. A test that asks for too much memory wants a NULL, not an end.
    # What was freed stays fenced off, for 64 MB: the default, 256 MB in each process, is much for what NumPy frees.
    options=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64:malloc_context_size=12
    options+=:detect_stack_use_after_return=1:log_path=$reports/asan
    environment=("LD_PRELOAD=$(library libasan.so) $(library libubsan.so) $(library libstdc++.so.6)"
      PYTHONMALLOC=malloc "ASAN_OPTIONS=$options" "UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports/ubsan")
    ;;
  ubsan)
    flags+=("${undefined[@]}")
    environment=("UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports/ubsan")
    ;;
esac

under() { # COMMAND...: in the environment of the checker, with the package
  env PYTHONPATH="$work/package" BPCORE_TEST_SLOWNESS=$slowness "${environment[@]}" "${ahead[@]}" "$@" 2>&1 \
    | tee -a "$reports/output"
}

found() { # the files with reports. Those of a child may be read by a test alone, so each process has a file, too.
  grep -rlE '(ERROR|WARNING): \w+Sanitizer: [a-z]|runtime error: |^==[0-9]+== ' "$reports" || true
}

# --------------------------------------------------------------------------------------------------------- the build
step "Python"
packages gcc
has='import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))'
if [ "$quick" ] && python -c "$has" pip setuptools wheel Cython numpy pytest xdist hypothesis mpmath; then
  PATH=$(python -c 'import os, sys; print(os.path.dirname(sys.executable))'):$PATH # not a script that looks for one
else
  packages python3-venv
  tools numpy scipy pytest hypothesis mpmath tqdm safetensors pytest-xdist 'pybind11>=2.13'
fi

step "the package, with ${flags[*]}"
# Ahead of all other flags they would not count: setup.py's own come after CFLAGS.
printf '#!/bin/sh\nexec gcc "$@" %s\n' "${flags[*]}" > "$work/cc"
chmod +x "$work/cc"
mkdir "$work/source"
(cd "$top" && cp -r setup.py pyproject.toml README.md LICENSE python src tests wheels .ci "$work/source/")
find "$work/source" \( -name '*.so' -o -path '*/src/*.c' \) -delete # of a build in the checkout
# Reports name the lines of the .pyx files.
sed -i 's/cythonize($/&emit_linenums=True, module_list=/' "$work/source/setup.py"
grep -q emit_linenums "$work/source/setup.py"
if [ "$quick" ]; then # an empty module takes no time
  : > "$work/source/src/bpcore/_avx2.pyx"
fi
CC=$work/cc LDSHARED="$work/cc -shared" python -m pip install -q --no-deps --no-build-isolation --target "$work/package" \
  "$work/source" > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
neutral "$work/suite"
cd "$work/suite"

# ------------------------------------------------------------------------------- that the checker sees what is wrong
step "proof"
cat > "$work/wrong.c" << 'EOF'
#include <limits.h>
#include <stdlib.h>
int heap(int n) {
    volatile char *p = malloc(n);
    int last = p[n];
    free((char *)p);
    return last;
}
int overflow(int n) { return INT_MAX - 1 + 2 * n; }
EOF
"$work/cc" -fwrapv -fPIC -shared -w "$work/wrong.c" -o "$work/wrong.so"
wrong=(overflow)
if [ "$mode" = asan ]; then wrong+=(heap); fi
for name in "${wrong[@]}"; do
  if under python -c "import ctypes; ctypes.CDLL('$work/wrong.so').$name(1)" > /dev/null || [ -z "$(found)" ]; then
    echo "sanitize.sh: $mode does not see the planted error: $name" >&2
    exit 1
  fi
  rm "$reports"/*
  echo "$mode sees: $name"
done

# ----------------------------------------------------------------------------------------------------------- the work
bad=
backends=$(under python -c 'import bpcore; print(*bpcore.available_backends())' | tail -n 1)
backends=${backends% python}
if [ "$quick" ]; then backends=${backends/avx2 /}; fi
if [ "${#command[@]}" -gt 0 ]; then
  under "${command[@]}" || bad=1
  backends=
fi
for backend in $backends; do
  step "$mode, $backend: the suite"
  selected=()
  if [ "$quick" ]; then selected=(tests/test_parity.py tests/test_contract.py tests/test_accumulator.py); fi
  # In a process beside pytest's, whose end is a failed test. pytest would take the signals that are the checker's, and
  # keep what is written of a process that ends.
  BPCORE_BACKEND=$backend under python wheels/suite.py -n "$jobs" -s -p no:faulthandler -p no:cacheprovider \
    "${without[@]/#/--deselect=}" "${selected[@]}" || bad=1
  if [ -e "$work/suite/tests/hunt.py" ]; then
    step "$mode, $backend: the hunt"
    BPCORE_BACKEND=$backend under python tests/hunt.py --seconds "${hunt:-120}" --backend "$backend" || bad=1
  fi
done

for report in $(found); do
  bad=1
  if [ "$report" != "$reports/output" ]; then
    printf '\n--- %s\n' "$report"
    head -n 60 "$report"
  fi
done
if [ "$bad" ]; then
  echo "sanitize.sh: $mode has found something" >&2
  exit 1
fi
step "$mode: nothing found"
