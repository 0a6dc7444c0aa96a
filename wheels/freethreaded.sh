#!/usr/bin/env bash
# wheels/freethreaded.sh [VERSION]: build a free-threaded CPython from Debian's source package (3.14, or 3.13 where the
# mirror does not have that), a wheel for it from the sdist, and run the suite on every backend, with the GIL off from the
# first import to the last test. Exit status 3: the mirror has no source.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
version=${1:-3.14}

step "a free-threaded CPython"
packages python3-venv git make gcc libssl-dev zlib1g-dev libffi-dev libbz2-dev liblzma-dev libsqlite3-dev
if ! debian_source "python$version" cpython; then
  if [ $# -gt 0 ]; then exit 3; fi
  version=3.13
  debian_source "python$version" cpython || exit 3
fi
(cd "$work/cpython" && ./configure -q --disable-gil --prefix="$work/python" --without-static-libpython && make -s -j "$(nproc)" \
  && make -s install) > "$work/python.log" 2>&1 || { tail -n 30 "$work/python.log"; exit 1; }
PYTHON=$work/python/bin/python$version tools pip
python -c 'import sys; print(sys.version); assert not sys._is_gil_enabled()'

step "sdist, and the wheel from it"
source_from_sdist
(cd "$work/source" && python -m build -q --wheel --no-isolation --outdir "$work/built" > "$work/build.log" 2>&1) \
  || { tail -n 30 "$work/build.log"; exit 1; }
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite"
neutral "$work/suite"
"$work/python/bin/python$version" -m venv "$work/env"
# What the extra `test` names, but for safetensors, of which there is no wheel for such a Python: its tests are skipped.
"$work/env/bin/pip" install -q --prefer-binary --only-binary numpy,scipy "$work"/built/*.whl \
  pytest hypothesis mpmath scipy tqdm pytest-xdist 'cython>=3.1,<3.4' 'pybind11>=2.13' 'setuptools>=77'
cd "$work/suite"
# A module that does not say that it can do without the GIL turns it on again, with a warning.
"$work/env/bin/python" -W error -c '
import importlib, sys, bpcore, bpcore.capi
print("NumPy", importlib.import_module("numpy").__version__, "backends", *bpcore.available_backends())
for name in bpcore.available_backends(): importlib.import_module("bpcore._dispatch").load(name)
assert not sys._is_gil_enabled()'
"$work/env/bin/python" wheels/run_tests.py "${parallel[@]}"
echo "freethreaded.sh: $(basename "$work"/built/*.whl), Python ${version}t, passed with the GIL off"
