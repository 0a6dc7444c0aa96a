#!/usr/bin/env bash
# tests/coverage.sh [DATA ...]: lines of the Python and .pyx files that tests run, in a copy of the tree; fails below 95 %.
# The core is built with line tracing, which makes it some hundred times slower: only tests of small networks run on it.
# Other runs of the suite count too, by their data files: PYTEST_ADDOPTS='--cov=bpcore --cov-report=' COVERAGE_FILE=DATA.
set -euo pipefail
cd "$(dirname "$0")/.."
n=0
work=$(mktemp -d)
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
for data in "$@"; do cp "$data" "$work/.coverage.other.$((++n))"; done
cp -r src python tests docs .ci setup.py pyproject.toml ./*.md LICENSE "$work"
cd "$work"
find . -name '*.so' -delete
BPCORE_DEBUG=1 BPCORE_COVERAGE=1 CFLAGS=-w python setup.py -q build_ext --inplace > build.log 2>&1 || { cat build.log; exit 1; }
export PYTHONPATH=$work/python:$work/tests OPENBLAS_NUM_THREADS=1
backend=$(python -c 'import bpcore; print(bpcore.backend)')
run() { # FILES -k EXPRESSION
  COVERAGE_FILE=.coverage.$((++n)) python -m pytest -q -p no:cacheprovider -n "$(nproc)" --backend="$backend" \
    --cov --cov-config tests/coverage.ini --cov-report= "$@"
}
run tests/test_{buffers,contract,optimizers,elementary,core,published,layout}.py \
  -k "not pairs and not triples and not every_width"
some="((hidden_activations or losses_and_outputs) and float32) or integer_labels or (sizes and 130 and float32)"
some+=" or exact or extreme or input_gradient or infinity or infinite or refused or one_class or range_of_chunks"
some+=" or rows_are_cut or (over_before and float32) or plain_loop or divergence or (without_weight and float32-baseline-700-c)"
some+=" or (functions and float32 and not 300 and not 1000 and not more_than and not threads)"
run tests/test_{parity,gradients,loops,chunks,training,embedding,found}.py -k "$some"
python -m coverage combine -q --rcfile tests/coverage.ini .coverage.*
python -m coverage report --rcfile tests/coverage.ini --show-missing --skip-covered --fail-under 95
