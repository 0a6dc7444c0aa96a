"""Random fits of bpcore.sklearn, compared with scikit-learn's and with plain NumPy, until time is up.

    python tests/hunt_estimators.py [--seconds 600] [--seed N]

The cases are those of test_sklearn.py, with seeds of their own; BPCORE_BACKEND selects the backend. A wrong result ends
the run, with the seed and all settings in its message.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import Counter

import bpcore


def main() -> None:
    """Hunt, and say how much was compared."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little") % 10**9)
    options = parser.parse_args()
    import test_sklearn  # after the options: it takes seconds

    print(f"first seed {options.seed}, backend {bpcore.backend}", flush=True)
    warnings.filterwarnings("ignore")  # of convergence, mostly; those of both are compared
    seed, compared, end = options.seed, Counter(), time.monotonic() + options.seconds
    while time.monotonic() < end:
        for case in (test_sklearn.one_against_theirs, test_sklearn.one_regressor, test_sklearn.one_classifier):
            try:
                compared[case.__name__] += case(seed)
            except Exception:
                print(f"test_sklearn.{case.__name__}({seed})", flush=True)
                raise
        seed += 1
    print(f"{seed - options.seed} seeds, 0 wrong; compared where rounding does not decide: {dict(compared)}")


if __name__ == "__main__":
    main()
