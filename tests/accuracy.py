"""How exact gradients are: the largest errors measured, as tables for tests/README.md.

    python tests/accuracy.py                  # all backends, some minutes
    python tests/accuracy.py --rows 1000000   # without the ten million rows

Errors are relative to the largest entry of the gradient. Networks of few rows are compared with 50-digit arithmetic,
which differentiates the formulas layer by layer and shares no code with the package; those of millions of rows with
NumPy in extended precision (`numpy.longdouble`), where the machine has it.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import mpmath
import numpy as np

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT

backends = importlib.import_module("bpcore._dispatch")
mp = mpmath.mp
ONE, ZERO = mpmath.mpf(1), mpmath.mpf(0)


def sigmoid(z):
    return ONE / (1 + mpmath.exp(-z))


#: g and g' in as many digits as are set.
EXACT = {
    "identity": (lambda z: z, lambda z: ONE),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (mpmath.tanh, lambda z: mpmath.sech(z) ** 2),
    "relu": (lambda z: max(z, ZERO), lambda z: ONE if z > 0 else ZERO),
    "leaky_relu": (lambda z: z if z > 0 else z * 0.01, lambda z: ONE if z > 0 else mpmath.mpf(0.01)),
    "elu": (lambda z: z if z > 0 else mpmath.expm1(z), lambda z: ONE if z > 0 else mpmath.exp(z)),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), sigmoid),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) + z * sigmoid(z) * sigmoid(-z)),
    "gelu": (lambda z: z * mpmath.ncdf(z), lambda z: mpmath.ncdf(z) + z * mpmath.npdf(z)),
}


def focal(z, y):
    """Of gamma 2."""
    p, q = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
    return y * q**2 * (2 * p * mpmath.log(p) - q) - (1 - y) * p**2 * (2 * q * mpmath.log(q) - p)


#: dLoss/dz of some losses, with the usual parameters.
DELTAS = {
    "quantile": lambda z, y: mpmath.sign(z - y) / 2,
    "gamma": lambda z, y: 1 - y * mpmath.exp(-z),
    "tweedie": lambda z, y: mpmath.exp(z / 2) - y * mpmath.exp(-z / 2),
    "focal": focal,
    "hinge": lambda z, y: -y if y * z < 1 else ZERO,
    "squared_hinge": lambda z, y: -2 * y * max(1 - y * z, ZERO),
}


def exact_delta(loss, z, y):
    """dLoss/dz of a row, for the loss's own output."""
    if loss == "cross_entropy":
        top = max(z)
        e = [mpmath.exp(v - top) for v in z]
        return [v / sum(e) * sum(y) - t for v, t in zip(e, y)]
    if loss == "binary_cross_entropy":
        return [sigmoid(v) - t for v, t in zip(z, y)]
    if loss == "poisson":
        return [mpmath.exp(v) - t for v, t in zip(z, y)]
    if loss == "gaussian_nll":
        n = len(y)
        means = [(v - t) * mpmath.exp(-s) for v, s, t in zip(z[:n], z[n:], y)]
        return means + [(1 - (v - t) ** 2 * mpmath.exp(-s)) / 2 for v, s, t in zip(z[:n], z[n:], y)]
    if loss in DELTAS:
        return [DELTAS[loss](v, t) for v, t in zip(z, y)]
    if loss == "huber":
        return [max(min(v - t, ONE), -ONE) for v, t in zip(z, y)]
    if loss == "absolute_error":
        return [mpmath.sign(v - t) for v, t in zip(z, y)]
    return [v - t for v, t in zip(z, y)]


def exact_gradient(net, params, X, Y):
    """The gradient of the mean loss, row by row, as the textbooks have it; rounded to float64 at the end."""
    layers = [(W.tolist(), b.tolist()) for W, b in net.layers(params.astype(np.float64))]
    sums = [([[ZERO] * len(W[0]) for _ in W], [ZERO] * len(W)) for W, _ in layers]
    for x, y in zip(X.astype(np.float64).tolist(), Y.astype(np.float64).tolist()):
        a, zs = [[mpmath.mpf(v) for v in x]], []
        for (W, b), g in zip(layers, (*net.hidden, None)):
            zs.append([mpmath.fdot(row, a[-1]) + bias for row, bias in zip(W, b)])
            a.append([EXACT[g][0](z) for z in zs[-1]] if g else zs[-1])
        delta = exact_delta(net.loss, zs[-1], [mpmath.mpf(v) for v in y])
        for l in reversed(range(len(layers))):
            for j, d in enumerate(delta):
                sums[l][1][j] += d
                for k, v in enumerate(a[l]):
                    sums[l][0][j][k] += d * v
            if l > 0:
                W, derivative = layers[l][0], EXACT[net.hidden[l - 1]][1]
                delta = [
                    mpmath.fdot([row[k] for row in W], delta) * derivative(zs[l - 1][k]) for k in range(net.sizes[l])
                ]
    flat = [v for W, b in sums for v in [*(v for row in W for v in row), *b]]
    return np.array([float(v / len(X)) for v in flat])


def error(found, right) -> float:
    return float(np.abs(found.astype(np.float64) - right).max() / np.abs(right).max())


def on(name, *args, **kwargs):
    """A network that computes with a backend of that name."""
    backends.core = backends.load(name)
    return bpcore.Network(*args, **kwargs)


def targets(loss, rng, shape):
    if loss == "cross_entropy":
        return np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]
    if loss == "gaussian_nll":
        return rng.normal(size=(shape[0], shape[1] // 2))
    if loss in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0], shape)
    if loss == "gamma":
        return rng.gamma(2.0, size=shape)
    if loss == "tweedie":
        return rng.poisson(2.0, shape).astype(float)
    if loss in ("binary_cross_entropy", "focal"):
        return rng.integers(0, 2, shape).astype(float)
    return rng.poisson(2.0, shape).astype(float) if loss == "poisson" else rng.normal(size=shape)


def few_rows(names, hidden, loss, dtype, scale, networks, sizes=(3, 7, 5, 2)):
    """The largest error of each backend over some random networks of eight rows; weights times ``scale``."""
    worst = dict.fromkeys(names, 0.0)
    for seed in range(networks):
        rng = np.random.default_rng([seed, *map(ord, hidden + loss)])
        net = bpcore.Network(sizes, hidden, loss, dtype=dtype)
        params = (net.initialize(rng) * scale).astype(dtype)
        for layer in net.layers(params):
            layer.bias[...] = rng.normal(scale=0.3 * min(scale, 10), size=layer.bias.shape)
        X, Y = rng.normal(size=(8, sizes[0])).astype(dtype), targets(loss, rng, (8, sizes[-1])).astype(dtype)
        with mpmath.workdps(50):
            right = exact_gradient(net, params, X, Y)
        if not np.abs(right).max() > 1e-30:  # everything saturated
            continue
        for name in names:
            found = on(name, sizes, hidden, loss, dtype=dtype).cost_and_gradient(params, X, Y)[1]
            worst[name] = max(worst[name], error(found, right))
    return worst


def many_rows(names, hidden, dtype, rows, block=100_000):
    """The same for one network and that many random rows, against extended precision."""
    rng = np.random.default_rng(0)
    net = bpcore.Network([4, 8, 1], hidden, dtype=dtype)
    params = net.initialize(1)
    X, Y = rng.standard_normal((rows, 4), dtype=dtype), rng.standard_normal((rows, 1), dtype=dtype)
    wide = np.longdouble
    (W1, b1), (W2, b2) = [(W.astype(wide), b.astype(wide)) for W, b in net.layers(params)]
    parts = []
    for first in range(0, rows, block):
        x, y = X[first : first + block].astype(wide), Y[first : first + block].astype(wide)
        z = x @ W1.T + b1
        a = np.tanh(z) if hidden == "tanh" else np.maximum(z, 0)
        delta = a @ W2.T + b2 - y
        before = delta * W2 * (1 / np.cosh(z) ** 2 if hidden == "tanh" else z > 0)
        parts.append(np.concatenate([(before.T @ x).ravel(), before.sum(0), (delta.T @ a).ravel(), delta.sum(0)]))
    right = (np.sum(parts, axis=0) / rows).astype(np.float64)
    return {
        name: error(on(name, [4, 8, 1], hidden, dtype=dtype).cost_and_gradient(params, X, Y)[1], right)
        for name in names
    }


def table(title, names, lines) -> None:
    print(f"\n{title}\n")
    print("| |", " | ".join(f"{name} {dtype}" for dtype in ("float64", "float32") for name in names), "|")
    print("| --- |", " | ".join("---:" for _ in range(2 * len(names))), "|")
    for label, by_dtype in lines:
        print(f"| {label} |", " | ".join(f"{by_dtype[d][n]:.1e}" for d in by_dtype for n in names), "|", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=12, help="random networks for each figure")
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="of the last table")
    arguments = parser.parse_args()
    names, dtypes, n = bpcore.available_backends(), ("float64", "float32"), arguments.networks
    for scale, title in ((1, "Weights as they are initialized"), (300, "Weights in the hundreds (300 times these)")):
        lines = [(g, {d: few_rows(names, g, "squared_error", d, scale, n) for d in dtypes}) for g in ACTIVATIONS]
        table(f"{title}: 3-7-5-2, squared_error, by hidden activation, against 50 digits.", names, lines)
    lines = [(loss, {d: few_rows(names, "tanh", loss, d, 1, n) for d in dtypes}) for loss in CANONICAL_OUTPUT]
    table("3-7-5-2 tanh, by loss, against 50 digits.", names, lines)
    lines = [
        (loss, {d: few_rows(names, "identity", loss, d, 4000, n, (3, 4)) for d in dtypes})
        for loss in CANONICAL_OUTPUT
        if loss not in ("poisson", "gamma", "tweedie", "gaussian_nll")  # exp(1e4) is no float
    ]
    table("Logits to 1e4: 3-4 without hidden layers, by loss, against 50 digits.", names, lines)
    lines = [
        (f"{rows:,} rows, {hidden}", {d: many_rows(names, hidden, d, rows) for d in dtypes})
        for rows in arguments.rows
        for hidden in ("tanh", "relu")
    ]
    table("4-8-1, squared_error, against extended precision.", names, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
