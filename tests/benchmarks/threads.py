"""How independent calls in two threads scale: python tests/benchmarks/threads.py

Each thread has arrays of its own, and calls cost_and_gradient of one and the same Network as often as it can. Printed
is how many times the calls of one thread two threads make; and, for what the machine can give at that moment, two
processes. In turns, the best and the median of several rounds. Aim on a free-threaded Python: 1.8 and more.
"""

from __future__ import annotations

import multiprocessing
import sys
import sysconfig
import threading
import time
from typing import Any

import numpy as np

import bpcore

ROUNDS = 15
SECONDS = 0.1
CELLS = {"4-64-64-2, 1 row": ([4, 64, 64, 2], 1), "64-128-10, 64 rows": ([64, 128, 10], 64)}


def calls(net: bpcore.Network, rows: int, start: Any, counts: Any, i: int) -> None:
    X, params = np.ones((rows, net.sizes[0]), net.dtype), net.initialize(0)
    Y, out = np.zeros((rows, net.sizes[-1]), net.dtype), np.empty_like(params)
    net.cost_and_gradient(params, X, Y, out=out)
    start.wait()
    end = time.perf_counter() + SECONDS
    done = 0
    while time.perf_counter() < end:
        for _ in range(20):
            net.cost_and_gradient(params, X, Y, out=out, threads=1)
        done += 20
    counts[i] = done


def together(kind: str, n: int, net: bpcore.Network, rows: int) -> int:
    """How many calls so many threads or processes make."""
    if kind == "threads":
        counts: Any = [0] * n
        start: Any = threading.Barrier(n)
        workers: list[Any] = [threading.Thread(target=calls, args=(net, rows, start, counts, i)) for i in range(n)]
    else:
        context = multiprocessing.get_context("fork")
        counts, start = context.Array("q", n), context.Barrier(n)
        workers = [context.Process(target=calls, args=(net, rows, start, counts, i)) for i in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts)


def main() -> None:
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, free-threaded {free}, GIL {gil}; backend {bpcore.backend}")
    for name, (sizes, rows) in CELLS.items():
        net = bpcore.Network(sizes, dtype="float32")
        for kind in ("threads",) if sys.platform == "win32" else ("threads", "processes"):
            ratios = []
            for _ in range(ROUNDS):
                one = together(kind, 1, net, rows)
                ratios.append(together(kind, 2, net, rows) / one)
            print(f"{name}: two {kind} {max(ratios):.2f} (median {np.median(ratios):.2f})")


if __name__ == "__main__":
    main()
