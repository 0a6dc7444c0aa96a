"""Time derivatives row by row beside NumPy by hand, JAX's ``vmap`` and ``torch.func``, on one thread.

    python tests/benchmarks/derivatives.py [--rounds N]

Results are compared first, to 1e-4 of the largest entry. Then all take turns, and the best of the rounds counts. A
library that is not installed is left out. Behind each time of bpcore is its ratio to the best of the others; the small
calls are compared with a `cost_and_gradient` of the same network.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", JAX_PLATFORMS="cpu")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

import bpcore

#: Seconds of a round, about.
ROUND = 0.05


def by_hand(sizes, params, X, Y):
    """A forward pass and the way back in NumPy: activations and deltas of tanh layers with linear outputs."""
    layers = bpcore.Network(sizes, "tanh", dtype=X.dtype).layers(params)
    a = [X]
    for l, (W, b) in enumerate(layers):
        z = a[-1] @ W.T + b
        a.append(np.tanh(z) if l < len(layers) - 1 else z)
    deltas = [a[-1] - Y]
    for l in range(len(layers) - 1, 0, -1):
        deltas.insert(0, deltas[0] @ layers[l][0] * (1 - a[l] ** 2))
    return layers, a, deltas


def norms_by_hand(sizes, params, X, Y):
    _, a, deltas = by_hand(sizes, params, X, Y)
    return np.sqrt(sum((d * d).sum(1) * (1 + (x * x).sum(1)) for d, x in zip(deltas, a)))


def rows_by_hand(sizes, params, X, Y):
    _, a, deltas = by_hand(sizes, params, X, Y)
    parts = []
    for d, x in zip(deltas, a):
        parts += [(d[:, :, None] * x[:, None, :]).reshape(len(X), -1), d]
    return np.concatenate(parts, axis=1)


def jacobian_by_hand(sizes, params, X, Y):
    """Backward for each output, of all rows at once."""
    layers, a, _ = by_hand(sizes, params, X, Y)
    out = np.empty((len(X), sizes[-1], params.size), X.dtype)
    for k in range(sizes[-1]):
        d, end = np.zeros_like(a[-1]), params.size
        d[:, k] = 1
        for l in range(len(layers) - 1, -1, -1):
            n_out, n_in = layers[l][0].shape
            out[:, k, end - n_out : end] = d
            out[:, k, end - n_out * (n_in + 1) : end - n_out] = (d[:, :, None] * a[l][:, None, :]).reshape(len(X), -1)
            end -= n_out * (n_in + 1)
            d = d @ layers[l][0] * (1 - a[l] ** 2) if l else d
    return out


def apply(module, sizes, p, x):
    """The network of one row, in jax.numpy or torch."""
    start = 0
    for l, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
        W = p[start : start + n_out * n_in].reshape(n_out, n_in)
        x = W @ x + p[start + n_out * n_in : start + n_out * n_in + n_out]
        x = module.tanh(x) if l < len(sizes) - 2 else x
        start += n_out * n_in + n_out
    return x


def with_jax(name, sizes, params, X, Y):
    import jax
    import jax.numpy as jnp

    def f(p, x):
        return apply(jnp, sizes, p, x)

    def gradient(p, x, y):
        return jax.grad(lambda p: ((f(p, x) - y) ** 2).sum() / 2)(p)

    function = {
        "jacobian": jax.vmap(jax.jacrev(f), (None, 0)),
        "rows": jax.vmap(gradient, (None, 0, 0)),
        "norms": jax.vmap(lambda p, x, y: jnp.linalg.norm(gradient(p, x, y)), (None, 0, 0)),
    }[name]
    compiled = jax.jit(function)
    arguments = [jnp.asarray(a) for a in ((params, X) if name == "jacobian" else (params, X, Y))]
    return lambda: np.asarray(compiled(*arguments))


def with_torch(name, sizes, params, X, Y):
    import torch
    from torch.func import grad, jacrev, vmap

    torch.set_num_threads(1)

    def f(p, x):
        return apply(torch, sizes, p, x)

    gradient = grad(lambda p, x, y: ((f(p, x) - y) ** 2).sum() / 2)
    function = {
        "jacobian": vmap(jacrev(f), (None, 0)),
        "rows": vmap(gradient, (None, 0, 0)),
        "norms": vmap(lambda p, x, y: gradient(p, x, y).norm(), (None, 0, 0)),
    }[name]
    arguments = [torch.from_numpy(a) for a in ((params, X) if name == "jacobian" else (params, X, Y))]
    return lambda: function(*arguments).numpy()


def best_times(calls, rounds: int) -> dict[str, float]:
    """Microseconds of each call, the best of the rounds, in which they take turns."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < ROUND or count == 0:
                once = time.perf_counter()
                for _ in range(10 if best[name] < 100 else 1):
                    call()
                best[name] = min(best[name], (time.perf_counter() - once) * 1e6 / (10 if best[name] < 100 else 1))
                count += 1
    return best


def compete(title, name, sizes, dtype, m, rounds) -> None:
    rng = np.random.default_rng(0)
    net = bpcore.Network(sizes, "tanh", dtype=dtype)
    params, X, Y = net.initialize(0), *(rng.normal(size=(m, n)).astype(dtype) for n in (sizes[0], sizes[-1]))
    ours, hand = {
        "jacobian": (lambda out: net.jacobian(params, X, out=out, threads=1), jacobian_by_hand),
        "rows": (lambda out: net.per_row_gradients(params, X, Y, out=out, threads=1), rows_by_hand),
        "norms": (lambda out: net.gradient_norms(params, X, Y, threads=1), norms_by_hand),
    }[name]
    out = ours(None)
    calls = {"bpcore": lambda: ours(out), "NumPy": lambda: hand(sizes, params, X, Y)}
    for peer, make in (("JAX", with_jax), ("torch.func", with_torch)):
        try:
            calls[peer] = make(name, sizes, params, X, Y)
        except ImportError:
            continue
    for peer, call in calls.items():
        found = call()
        assert np.abs(found - out).max() <= 1e-4 * np.abs(out).max(), (title, peer)
    times = best_times(calls, rounds)
    ratio = min(times[peer] for peer in calls if peer != "bpcore") / times["bpcore"]
    print(f"| {title} |", " | ".join(f"{times.get(p, np.nan):,.4g}" for p in ("bpcore", *PEERS)), f"| {ratio:.2f} |")


PEERS = ("NumPy", "JAX", "torch.func")


def small_calls(rounds: int) -> None:
    rng = np.random.default_rng(0)
    net = bpcore.Network([2, 8, 1], "tanh")
    params, X, Y, w = net.initialize(0), rng.normal(size=(10, 2)), rng.normal(size=(10, 1)), np.ones(10)
    adam, trace, grad = bpcore.Adam(), net.trace(params, X), np.zeros(33)
    adam.step(params, grad)
    calls = {
        "cost_and_gradient": lambda: net.cost_and_gradient(params, X, Y),
        "cost": lambda: net.cost(params, X, Y),
        "with sample_weight": lambda: net.cost_and_gradient(params, X, Y, sample_weight=w),
        "with clip_norm": lambda: net.cost_and_gradient(params, X, Y, clip_norm=1.0),
        "backward": lambda: net.backward(params, X, Y),
        "trace": lambda: net.trace(params, X),
        "trace.backward": lambda: trace.backward(Y),
        "Adam.step": lambda: adam.step(params, grad),
    }
    times = best_times(calls, rounds)
    print("\n| 2-8-1, 10 rows, float64 | microseconds | of cost_and_gradient |\n| --- | ---: | ---: |")
    for name, microseconds in times.items():
        print(f"| {name} | {microseconds:.3g} | {microseconds / times['cost_and_gradient']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    print(f"bpcore {bpcore.backend}\n\n| cell | bpcore |", " | ".join(PEERS), "| ratio |")
    print("| --- |", " | ".join(["---:"] * (len(PEERS) + 2)), "|")
    for dtype in ("float32", "float64"):
        compete(f"Jacobian, 4-20-20-3, 500 rows, {dtype}", "jacobian", [4, 20, 20, 3], dtype, 500, rounds)
        compete(f"gradients of rows, 4-20-20-3, 500 rows, {dtype}", "rows", [4, 20, 20, 3], dtype, 500, rounds)
        compete(f"gradient norms, 64-128-10, 10,000 rows, {dtype}", "norms", [64, 128, 10], dtype, 10_000, rounds)
    small_calls(rounds)


if __name__ == "__main__":
    main()
