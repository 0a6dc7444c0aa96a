"""What a training step costs from Cython, beside the same loop in Python: python tests/benchmarks/embedded.py

The network is 4-64-64-2 (relu, squared error). A step is the cost, its gradient and an update: of one row by gradient
descent, in one call (sgd_rows) or in two (accumulate, gradient_descent); and of a batch, with l2, by Adam. The
Cython package is that of tests/embedding, built against the installed bpcore. Microseconds a step, the best of several
repeats.

For one row in float64, genann, a small C library for networks of sigmoids, takes about 5.4 microseconds from C on a
machine with AVX-512 (forward, backward and update of 4-64-64-2; a figure published with the task of this benchmark, not
measured here). The last column is that by ours.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import bpcore

EMBEDDING = Path(__file__).parents[1] / "embedding"
REPEATS = 15
STEPS = 3000
#: Microseconds of a step of genann's.
GENANN = 5.4


def build(folder: Path) -> None:
    source = shutil.copytree(EMBEDDING / "cython", folder / "source")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--target", str(folder), str(source)], check=True)


def best(*calls: Callable[[int], object]) -> list[float]:
    """Microseconds a step, of each; in turns."""
    found = [np.inf] * len(calls)
    for _ in range(REPEATS):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call(STEPS)
            found[i] = min(found[i], (time.perf_counter() - start) / STEPS * 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", metavar="FOLDER", help="build the Cython package there, and stop")
    parser.add_argument("--built", metavar="FOLDER", help="take it from there")
    options = parser.parse_args()
    if options.build:
        build(Path(options.build))
        return
    with tempfile.TemporaryDirectory() as name:
        if not options.built:
            build(Path(name))
        sys.path[:0] = [options.built or name, str(EMBEDDING)]
        embedded, compare = importlib.import_module("embedding_cython"), importlib.import_module("compare")
        print(f"bpcore {bpcore.__version__}, backend {bpcore.backend}; microseconds a step\n")
        print("| dtype   | step                          | Cython | Python | ratio | genann by Cython |")
        print("| ------- | ----------------------------- | -----: | -----: | ----: | ---------------: |")
        for dtype in ("float64", "float32"):
            net = bpcore.Network([4, 64, 64, 2], "relu", "squared_error", dtype=dtype)
            rng = np.random.default_rng(0)
            X, Y = rng.normal(size=(64, 4)).astype(dtype), rng.normal(size=(64, 2)).astype(dtype)
            start = net.initialize(seed=0)

            def row(what: str, cython: float, python: float, one: bool, dtype: str = dtype) -> None:
                genann = f"{GENANN / cython:.2f}" if one and dtype == "float64" else ""
                print(
                    f"| {dtype} | {what:29} | {cython:6.2f} | {python:6.2f} | {python / cython:5.2f} | {genann:>16} |"
                )

            fused, two, python = best(
                lambda steps, X=X, Y=Y, start=start: embedded.learn(start.copy(), X, Y, steps, 1e-3, True),
                lambda steps, X=X, Y=Y, start=start: embedded.learn(start.copy(), X, Y, steps, 1e-3, False),
                lambda steps, X=X, Y=Y, start=start, net=net: compare.online_loop(net, start.copy(), X, Y, steps, 1e-3),
            )
            row("one row, descent, one call", fused, python, True)
            row("one row, descent, two calls", two, python, True)
            for batch in (1, 32):
                cython, python = best(
                    lambda steps, b=batch, X=X, Y=Y, s=start: embedded.train(s.copy(), X, Y, b, steps, 1e-3),
                    lambda steps, b=batch, X=X, Y=Y, s=start, net=net: compare.python_loop(
                        net, s.copy(), X, Y, b, steps, 1e-3
                    ),
                )
                row(f"batch of {batch}, l2 and Adam", cython, python, False)


if __name__ == "__main__":
    main()
