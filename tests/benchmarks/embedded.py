"""What a training step costs from Cython, beside the same loop in Python: python tests/benchmarks/embedded.py

The network is 4-64-64-2 (relu, squared error), a step is one row: cost, gradient with l2, Adam. The Cython package is
that of tests/embedding, built against the installed bpcore. Microseconds a step, the best of several repeats.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bpcore

EMBEDDING = Path(__file__).parents[1] / "embedding"
REPEATS = 15
STEPS = 3000


def build(folder: Path) -> None:
    source = shutil.copytree(EMBEDDING / "cython", folder / "source")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--target", str(folder), str(source)], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name))
        sys.path[:0] = [name, str(EMBEDDING)]
        embedded, compare = importlib.import_module("embedding_cython"), importlib.import_module("compare")
        print(f"bpcore {bpcore.__version__}, backend {bpcore.backend}; microseconds a step")
        print("| dtype   | batch | Cython | Python | ratio |\n| ------- | ----: | -----: | -----: | ----: |")
        for dtype in ("float32", "float64"):
            net = bpcore.Network([4, 64, 64, 2], "relu", "squared_error", dtype=dtype)
            rng = np.random.default_rng(0)
            X, Y = rng.normal(size=(64, 4)).astype(dtype), rng.normal(size=(64, 2)).astype(dtype)
            for batch in (1, 32):
                best = [np.inf, np.inf]
                for _ in range(REPEATS):  # in turns
                    for i, steps in enumerate((STEPS, STEPS // 5)):
                        params = net.initialize(seed=0)
                        start = time.perf_counter()
                        if i == 0:
                            embedded.train(params, X, Y, batch, steps, 1e-3)
                        else:
                            compare.python_loop(net, params, X, Y, batch, steps, 1e-3)
                        best[i] = min(best[i], (time.perf_counter() - start) / steps * 1e6)
                print(
                    f"| {dtype} | {batch:5} | {best[0]:6.2f} | {best[1]:6.2f} | {best[1] / best[0]:5.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
