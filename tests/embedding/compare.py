"""Compare the parameters that an embedding package reaches with those of a Python loop: python compare.py MODULE."""

import importlib
import sys
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


def main(name):
    module = importlib.import_module(name)
    dtypes = {"embedding_cython": ["float32", "float64"], "embedding_c": ["float64"]}.get(name, ["float32"])
    for dtype in dtypes:
        net = bpcore.Network([4, 64, 64, 2], "relu", "squared_error", dtype=dtype)
        rng = np.random.default_rng(0)
        X, Y = rng.normal(size=(100, 4)).astype(dtype), rng.normal(size=(100, 2)).astype(dtype)
        for batch in (1, 7, 50):
            expected = net.initialize(seed=0)
            cost = python_loop(net, expected, X, Y, batch, 120, 1e-2)
            found = [net.initialize(seed=0) for _ in range(2)]
            costs = [None, None]

            def work(i, batch=batch, found=found, costs=costs, X=X, Y=Y):
                costs[i] = module.train(found[i], X, Y, batch, 120, 1e-2)

            threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for i in range(2):
                assert costs[i] == cost, (dtype, batch, costs[i], cost)
                assert np.array_equal(found[i], expected), (dtype, batch)
            assert not np.array_equal(expected, net.initialize(seed=0))
    print(bpcore.backend, name, "agrees to the last bit")


if __name__ == "__main__":
    main(sys.argv[1])
