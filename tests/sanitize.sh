#!/usr/bin/env bash
# tests/sanitize.sh MODE [--quick] [SECONDS] [-- COMMAND...]: build the package for a checker of C code, run the suite
# under it, and tests/hunt.py for so many seconds on each backend. Exit status 1: it has found something, printed above;
# 3: it takes a CPython whose source the mirror does not have.
#   asan       AddressSanitizer and UndefinedBehaviorSanitizer, every compiled backend that this machine can run
#   ubsan      UndefinedBehaviorSanitizer alone
#   tsan       ThreadSanitizer, on a free-threaded CPython that is built for it, and the tests that use threads
#   valgrind   memcheck on the baseline backend: memory read before it was written, which no sanitizer of GCC's sees
#   --quick    asan or ubsan in about a minute: two backends, the parity, contract and accumulator tests; and in the
#              Python that is first in PATH, if it has what this takes
#   COMMAND    what to run there in place of the suite and the hunt: python -c '...'
# It works in a temporary folder, which KEEP=1 keeps; JOBS=1 has it use one processor. It takes root only where one of
# Debian's packages is missing.
set -euo pipefail
# shellcheck disable=SC2034
unprivileged=1
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/../wheels/lib.sh"
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

mode=
quick=
seconds=
while [ $# -gt 0 ]; do
  case $1 in
    asan | ubsan | tsan | valgrind) mode=$1 ;;
    --quick) quick=1 ;;
    --) shift; break ;;
    *) if [[ $1 =~ ^[0-9]+$ ]]; then seconds=$1; else usage; fi ;;
  esac
  shift
done
command=("$@")
if [ -z "$mode" ] || { [ "$quick" ] && [[ ! $mode =~ ^(asan|ubsan)$ ]]; }; then usage; fi
jobs=${JOBS:-$(nproc)}
reports=$work/reports
mkdir "$reports"

# ------------------------------------------------------------------------------------------------ what each mode is
#: The compiler's flags, the variables of the environment, and what stands ahead of python.
flags=(-O1 -g1 -fno-omit-frame-pointer)
environment=()
ahead=()
#: The tests, all of them if there are none here; those left out; and what else pytest is given.
selected=()
without=()
pytest=(-p no:cacheprovider)
#: How many times longer things may take, for tests that look at a clock (tests/conftest.py).
slowness=10
#: What has to be seen before anything else is looked at.
wrong=(heap)
# Undefined behaviour as GCC checks it, and conversions to integers that have no room for the number. CPython's own
# flags have -fwrapv, which makes signed overflow defined, so that it would go unseen.
undefined=("-fsanitize=undefined,float-cast-overflow" -fno-sanitize-recover=all -fno-wrapv)
#: A test that measures the peak of a process's memory, of which a checker has its share.
memory=tests/test_chunks.py::test_memory_does_not_grow_with_the_rows

library() { # NAME: where the compiler has it
  realpath "$(gcc "-print-file-name=$1")"
}

packages gcc
case $mode in
  asan)
    flags+=(-fsanitize=address "${undefined[@]}")
    # A checked library can be loaded by a program that is not if the checker is loaded first; and libstdc++ with it,
    # whose exceptions it looks for when it starts. CPython never frees part of what it has when it ends, interned
    # strings among it, which is no leak of ours. A test that asks for too much memory wants a NULL, not an end. What
    # was freed stays fenced off, up to 64 MB of it: the 256 MB that are usual would soon be full of NumPy's, in every
    # process. Stacks are not kept for after a return: with tests that make hundreds of threads, that takes minutes.
    options=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64:malloc_context_size=12
    options+=:detect_stack_use_after_return=0:log_path=$reports/asan
    environment=("LD_PRELOAD=$(library libasan.so) $(library libubsan.so) $(library libstdc++.so.6)"
      PYTHONMALLOC=malloc "ASAN_OPTIONS=$options" "UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports/asan")
    # The other preloads a malloc of its own, where that of the checker has to be.
    without=("$memory" tests/test_embedding.py::test_no_call_allocates_or_needs_the_gil)
    wrong=(overflow heap)
    ;;
  ubsan)
    flags+=("${undefined[@]}")
    environment=("UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports/ubsan")
    wrong=(overflow)
    ;;
  tsan)
    flags+=(-fsanitize=thread)
    slowness=50
    selected=(tests/test_chunks.py tests/test_accumulator.py tests/test_found.py
      tests/test_embedding.py::test_functions_share_a_plan_among_threads
      tests/test_embedding_python.py::test_sixteen_threads_share_a_network_and_parameters
      tests/test_embedding_python.py::test_threads_end_with_the_call)
    without=("$memory")
    # NumPy's OpenBLAS is not built for this, and locks by means that cannot be seen.
    printf 'called_from_lib:libscipy_openblas\n' > "$work/suppressions"
    environment=("TSAN_OPTIONS=suppressions=$work/suppressions:log_path=$reports/tsan")
    wrong=(race)
    # GCC's does not know where things are if addresses are chosen at random by more than 28 bits.
    if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2> /dev/null || echo 99)" -gt 28 ]; then ahead=(setarch -R); fi
    ;;
  valgrind)
    packages valgrind libc6-dbg
    flags=(-g1) # what is shipped: at -O1 a choice of no consequence is a jump, too, and Valgrind looks at jumps
    slowness=50
    selected=(tests/test_accumulator.py tests/test_parity.py tests/test_contract.py)
    without=("$memory")
    pytest+=(-k "not every_number")
    # CPython's small integers come of a digit that is looked at although there is none; and libc's and the loader's
    # comparisons read whole words.
    for kind in Cond Value8; do
      printf '{\nCPython\nMemcheck:%s\nobj:%s\n}\n' $kind '*/libpython3*' $kind '*/bin/python3*' $kind '*/_json.*'
    done > "$work/suppressions"
    printf '{\nlibc\nMemcheck:Addr%s\nfun:%s\n}\n' 32 '__wmemcmp_*' 8 strncmp >> "$work/suppressions"
    ahead=(valgrind -q --error-exitcode=9 --trace-children=yes "--trace-children-skip=*/sh,*/gcc,*/lscpu"
      --num-callers=20 "--suppressions=$work/suppressions" "--log-file=$reports/valgrind.%p")
    environment=(PYTHONMALLOC=malloc)
    ;;
esac
if [ "$quick" ]; then
  flags[0]=-Og # compiled in two thirds of the time
  selected=(tests/test_parity.py tests/test_contract.py tests/test_accumulator.py)
fi

under() { # COMMAND...: in the environment of the checker, with the package
  env PYTHONPATH="$work/package" BPCORE_TEST_SLOWNESS=$slowness "${environment[@]}" "${ahead[@]}" "$@" 2>&1 \
    | tee -a "$reports/output"
}

found() { # the files with reports. Those of a child may be read by a test alone, so each process has a file, too.
  grep -rlE '(ERROR|WARNING): \w+Sanitizer: [a-z-]+ |runtime error: |^==[0-9]+== ' "$reports" \
    | xargs -r grep -LE 'Sanitizer failed to allocate' || true
}

# --------------------------------------------------------------------------------------------------------- the build
step "Python"
has='import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))'
if [ "$quick" ] && python -c "$has" pip setuptools Cython numpy pytest xdist hypothesis mpmath; then
  PATH=$(python -c 'import os, sys; print(os.path.dirname(sys.executable))'):$PATH # not a script that looks for one
else
  packages python3-venv
  tools numpy scipy pytest hypothesis mpmath tqdm safetensors pytest-xdist 'pybind11>=2.13'
fi
builder=$(command -v python)
include=
if [ "$mode" = tsan ]; then
  step "a free-threaded CPython with ThreadSanitizer"
  packages make libssl-dev zlib1g-dev libffi-dev libbz2-dev liblzma-dev libsqlite3-dev
  # A mirror may lack the newest. The sanitizer comes with 3.13.
  version=
  for release in forky:3.14 sid:3.14 trixie:3.13; do
    rm -rf "$work/apt" "$work/cpython"
    if DEBIAN_SOURCE=${release%:*} debian_source "python${release#*:}" cpython; then version=${release#*:}; break; fi
  done
  [ "$version" ] || exit 3
  # It would compile its whole library three times over, and install pip, each of them slower than anything below. No
  # error of CPython's own is to end its build.
  (cd "$work/cpython" && export TSAN_OPTIONS=report_bugs=0 && "${ahead[@]}" ./configure -q --disable-gil \
    --with-thread-sanitizer --prefix="$work/python" --without-static-libpython --without-ensurepip OPT='-O1 -g1' \
    && "${ahead[@]}" make -s -j "$jobs" && "${ahead[@]}" make -s install COMPILEALL_OPTS=-h) > "$work/python.log" 2>&1 \
    || { tail -n 30 "$work/python.log"; exit 1; }
  cat "$work/cpython/Tools/tsan/suppressions_free_threading.txt" >> "$work/suppressions" 2> /dev/null \
    || cat "$work"/cpython/Tools/tsan/supp* >> "$work/suppressions"
  if [ "$version" = 3.13 ]; then # bytearrays and ctypes have no lock there, as they have in 3.14
    printf 'race_top:%s\n' bytearray_getbuffer bytearray_releasebuffer bytearray_subscript generic_pycdata_new \
      >> "$work/suppressions"
  fi
  # A newer Hypothesis has a compiled module of the limited API, which such a Python cannot load.
  python -m pip install -q --target "$work/python/lib/python${version}t/site-packages" --python-version "$version" \
    --implementation cp --abi "cp${version/./}t" --abi none --platform manylinux_2_28_x86_64 \
    --platform manylinux2014_x86_64 --platform any --only-binary :all: numpy pytest 'hypothesis<6.140' mpmath
  # The package is built by the other Python, which is many times faster, with the headers of this.
  include=-I$work/python/include/python${version}t
  mkdir "$work/bin"
  ln -s "$work/python/bin/python${version}t" "$work/bin/python"
  PATH=$work/bin:$PATH
fi

step "the package, with ${flags[*]}"
# Ahead of all other flags they would not count: setup.py's own come after CFLAGS.
printf '#!/bin/sh\nexec gcc %s "$@" %s\n' "$include" "${flags[*]}" > "$work/cc"
chmod +x "$work/cc"
mkdir "$work/source"
(cd "$top" && cp -r setup.py pyproject.toml ./*.md LICENSE python src tests docs wheels .ci "$work/source/")
find "$work/source" \( -name '*.so' -o -path '*/src/*.c' \) -delete # of a build in the checkout
# Reports name the lines of the .pyx files; and what is not run is not built.
sed -i 's/cythonize($/&emit_linenums=True, module_list=/' "$work/source/setup.py"
grep -q emit_linenums "$work/source/setup.py"
if [ "$quick" ] || [ "$mode" = tsan ]; then sed -i '/^ *"avx2": /d' "$work/source/setup.py"; fi
if [ "$mode" = valgrind ]; then sed -i '/^ *"avx/d' "$work/source/setup.py"; fi
CC=$work/cc LDSHARED="$work/cc -shared" "$builder" -m pip install -q --no-deps --no-build-isolation \
  --target "$work/package" "$work/source" > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
if [ "$mode" = tsan ]; then # without the name of the Python that has built them
  for module in "$work"/package/bpcore/*.so; do mv "$module" "${module%%.cpython*}.so"; done
fi
neutral "$work/suite"
cd "$work/suite"

# ------------------------------------------------------------------------------- that the checker sees what is wrong
step "proof"
cat > "$work/wrong.c" << 'EOF'
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
int overflow(int n) { return INT_MAX - 1 + 2 * n; }
int heap(int n) {
    volatile char *p = malloc(n);
    int last = p[n];
    free((char *)p);
    return last;
}
static long shared;
static void *add(void *ignored) {
    for (int i = 0; i < 1000; i++) ++*(volatile long *)&shared;
    return ignored;
}
int race(int n) {
    pthread_t other;
    pthread_create(&other, NULL, add, NULL);
    add(NULL);
    return pthread_join(other, NULL) + n;
}
EOF
"$work/cc" -fwrapv -fPIC -shared -pthread -w "$work/wrong.c" -o "$work/wrong.so"
for name in "${wrong[@]}"; do
  code=0
  under python -c "import ctypes; ctypes.CDLL('$work/wrong.so').$name(1)" > "$work/proof.log" || code=$?
  if [ "$code" = 0 ] || [ -z "$(found)" ]; then
    cat "$work/proof.log"
    echo "sanitize.sh: $mode does not see the planted error: $name (exit status $code)" >&2
    exit 1
  fi
  rm "$reports"/*
  echo "$mode sees: $name"
done
if [ "$mode" != valgrind ]; then # and that the package is built for it
  nm -D "$work"/package/bpcore/_baseline*.so | grep -E "__${mode}_(load|store|read|write|report|handle)" > /dev/null
fi

# ----------------------------------------------------------------------------------------------------------- the work
bad=
backends=
if [ "${#command[@]}" -gt 0 ]; then
  under "${command[@]}" || bad=1
else
  backends=$(under python -c 'import bpcore; print(*bpcore.available_backends())' | tail -n 1) || bad=1
  backends=${backends% python}
  if [ "$mode" = tsan ]; then backends=${backends%% *}; fi # what threads share is the same in all
fi
for backend in $backends; do
  export BPCORE_BACKEND=$backend BPCORE_TEST_ALONE=1
  step "$mode, $backend: the suite"
  # Unless that takes too long, in a process beside pytest's, whose end is a failed test. pytest would take the signals
  # that are the checker's, and keep what a process has written that ends.
  run=(-m pytest -q)
  if [[ $mode =~ asan|ubsan ]]; then run=(wheels/run_tests.py -n "$jobs"); fi
  under python "${run[@]}" -s -p no:faulthandler "${pytest[@]}" "${without[@]/#/--deselect=}" "${selected[@]}" || bad=1
  if [ -e tests/hunt.py ]; then
    step "$mode, $backend: the hunt"
    under python tests/hunt.py --seconds "${seconds:-$((quick ? 10 : 120))}" --backend "$backend" || bad=1
  fi
done

for report in $(found); do
  bad=1
  if [ "$report" != "$reports/output" ]; then
    printf '\n--- %s\n' "$report"
    head -n 200 "$report"
  fi
done
if [ "$bad" ]; then
  echo "sanitize.sh: $mode has found something" >&2
  exit 1
fi
step "$mode: nothing found"
