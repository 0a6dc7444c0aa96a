"""Compare the parameters that an embedding package reaches with those of a Python loop: python compare.py MODULE."""

import importlib
import sys
import sysconfig
import threading

import numpy as np

import bpcore


def python_loop(net, params, X, Y, batch, steps, rate):
    adam, cost, first = bpcore.Adam(rate), 0.0, 0
    for _ in range(steps):
        cost, grad = net.cost_and_gradient(params, X[first : first + batch], Y[first : first + batch], l2=1e-3)
        adam.step(params, grad)
        first = 0 if first + 2 * batch > len(X) else first + batch
    return cost


def online_loop(net, params, X, Y, steps, rate):
    descent, losses = bpcore.GradientDescent(rate), 0.0
    for step in range(steps):
        i = step % len(X)
        cost, grad = net.cost_and_gradient(params, X[i : i + 1], Y[i : i + 1])
        descent.step(params, grad)
        losses += cost
    return losses


def in_threads(module, found, X, Y, batch, steps, rate):
    """The costs of training each of the parameter vectors, in a thread each."""
    if hasattr(module, "train_all"):  # it has threads of its own
        return module.train_all(found, X, Y, batch, steps, rate)
    costs = [None] * len(found)

    def work(i):
        costs[i] = module.train(found[i], X, Y, batch, steps, rate)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return costs


def refuses(module, params, X, Y, batch):
    """What does not fit is an error, and changes nothing."""
    before = params.copy()
    other = "float32" if X.dtype == "float64" else "float64"
    for wrong in (
        (params[:-1], X, Y, batch),
        (params, X[:, :3].copy(), Y, batch),
        (params, X, Y[:-1], batch),
        (params, X, Y, len(X) + 1),
        (params, X, Y, 0),
        (params.astype(other), X, Y, batch),
        (params, X.astype(other), Y, batch),
        (params, X, Y.tolist(), batch),
    ):
        try:
            module.train(*wrong, 1, 1e-2)
        except (TypeError, ValueError, AttributeError):
            continue
        raise AssertionError([getattr(a, "shape", a) for a in wrong])
    assert np.array_equal(params, before)


def main(name):
    module = importlib.import_module(name)
    dtypes = {"embedding_cython": ["float32", "float64"], "embedding_c": ["float64"]}.get(name, ["float32"])
    for dtype in dtypes:
        net = bpcore.Network([4, 64, 64, 2], "relu", "squared_error", dtype=dtype)
        rng = np.random.default_rng(0)
        X, Y = rng.normal(size=(100, 4)).astype(dtype), rng.normal(size=(100, 2)).astype(dtype)
        start = net.initialize(seed=0)
        refuses(module, start.copy(), X, Y, 7)
        for batch in (1, 7, 50):
            expected = start.copy()
            cost = python_loop(net, expected, X, Y, batch, 120, 1e-2)
            found = np.array([start] * 3)
            costs = in_threads(module, found, X, Y, batch, 120, 1e-2)
            for i in range(len(found)):
                assert costs[i] == cost, (dtype, batch, costs[i], cost)
                assert np.array_equal(found[i], expected), (dtype, batch)
            assert not np.array_equal(expected, start)
        if hasattr(module, "learn"):
            expected = start.copy()
            losses = online_loop(net, expected, X, Y, 250, 1e-2)
            for fused in (False, True):
                found = start.copy()
                assert module.learn(found, X, Y, 250, 1e-2, fused) == losses, (dtype, fused)
                assert np.array_equal(found, expected), (dtype, fused)
            assert not np.array_equal(expected, start)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled()
    print(bpcore.backend, name, "agrees to the last bit")


if __name__ == "__main__":
    main(sys.argv[1])
