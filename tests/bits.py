"""Digests of the results of random networks, to see that a change leaves every bit as it is.

    python tests/bits.py [--backend NAME] [--cases N] > before.txt     # and after the change > after.txt; then diff

Each line is a case: its network, and a digest of each route through the public functions. The bits depend on the
backend, the compiler and, for the pure-Python backend, on NumPy's BLAS, whose bits may vary from run to run: compare
runs of compiled backends on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

HIDDEN = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")
LOSSES = ("squared_error", "binary_cross_entropy", "cross_entropy", "huber", "absolute_error", "poisson")
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 31, 33, 64, 66, 100, 128, 130, 257, 512)
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 15, 33, 100, 127, 129, 266, 300, 1000, 2049, 5000)


def digest(*values: Any) -> str:
    """The first digits of a hash of the bytes of arrays and numbers."""
    state = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        state.update(f"{array.dtype} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:12]


def problem(bpcore: Any, rng: np.random.Generator) -> tuple[Any, ...]:
    """A network, parameters, inputs, targets, l2 and sample weights."""
    depth = int(rng.integers(0, 4))
    sizes = [int(n) for n in rng.choice(WIDTHS, depth + 2)]
    loss = str(rng.choice(LOSSES))
    output = None if rng.random() < 0.7 or loss in ("cross_entropy", "poisson") else str(rng.choice(HIDDEN))
    if loss == "binary_cross_entropy":
        output = None
    net = bpcore.Network(
        sizes,
        [str(name) for name in rng.choice(HIDDEN, depth)],
        loss,
        output=output,
        dtype=str(rng.choice(["float32", "float64"])),
    )
    m = int(rng.choice(ROWS))
    if net.n_parameters * m > 2e8:
        m = int(rng.choice(ROWS[:10]))
    params = (net.initialize(int(rng.integers(1000))) * rng.choice([0.1, 1, 3])).astype(net.dtype)
    X = rng.normal(size=(m, sizes[0])).astype(net.dtype)
    if loss == "cross_entropy" and rng.random() < 0.5:
        Y = rng.integers(0, sizes[-1], m)
    else:
        Y = rng.random((m, sizes[-1])).astype(net.dtype)
    weight = None
    if rng.random() < 0.5:
        weight = rng.random(m).astype(net.dtype)
        weight[rng.random(m) < 0.3] = 0
        weight[0] = 1
    return net, params, X, Y, float(rng.choice([0, 0.01])), weight


def routes(bpcore: Any, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """What each route returns for one problem, as digests."""
    net, params, X, Y, l2, weight = problem(bpcore, rng)
    yield "network", f"{net!r} {len(X)} rows"
    yield "forward", digest(net.forward(params, X))
    yield "cost", digest(net.cost(params, X, Y, l2, weight))
    yield "gradient", digest(*net.cost_and_gradient(params, X, Y, l2, weight, threads=int(rng.integers(1, 4))))
    accumulator, other = net.accumulator(), net.accumulator()
    half = len(X) // 2
    accumulator.add(params, X[:half], Y[:half], None if weight is None else weight[:half])
    other.add(params, X[half:], Y[half:], None if weight is None else weight[half:])
    accumulator.merge(other)
    yield "accumulator", digest(accumulator.buffer, *accumulator.finish(params, l2))
    trace = net.trace(params, X)
    dA = rng.normal(size=(len(X), net.sizes[-1])).astype(net.dtype)
    yield "trace", digest(*trace.activations, *trace.backward(dA, input_gradient=True))
    sgd = bpcore.GradientDescent
    for name, optimizer in (("sgd", sgd(0.01)), ("nesterov", sgd(0.01, 0.9, True)), ("adam", bpcore.Adam(0.01))):
        trained, size = params.copy(), int(rng.choice([1, 8, 32, 2500]))
        rows = slice(0, 40 * size)
        w = None if weight is None else weight[rows]
        options = {"epochs": 2, "batch_size": size, "l2": l2, "sample_weight": w, "seed": 1}
        try:
            cost = bpcore.train(net, trained, X[rows], Y[rows], optimizer=optimizer, **options).cost
        except FloatingPointError:  # it diverged, at the same step with the same bits
            cost = []
        yield name, digest(trained, cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", help="in place of the best of this machine")
    parser.add_argument("--cases", type=int, default=300)
    options = parser.parse_args()
    if options.backend:
        os.environ["BPCORE_BACKEND"] = options.backend
    import bpcore

    for case in range(options.cases):
        with np.errstate(all="ignore"):
            found = list(routes(bpcore, np.random.default_rng(case)))
        print(case, *(f"{name}={value}" for name, value in found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
