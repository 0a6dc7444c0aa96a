"""A user's file, as ``mypy --strict`` sees it: it is checked, and run by a test."""

import numpy as np

import bpcore


def main() -> float:
    net: bpcore.Network = bpcore.Network([2, 8, 1], hidden="tanh", loss="binary_cross_entropy", dtype="float32")
    params = net.initialize(seed=0)
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    Y = [0, 1, 1, 0]
    cost, grad = net.cost_and_gradient(params, X, Y, l2=1e-4)
    bpcore.GradientDescent(learning_rate=lambda step: 0.5 / (1 + step)).step(params, grad)
    accumulator = net.accumulator()
    accumulator.add(params, X, Y)
    cost, grad = accumulator.finish(params)
    trace = net.trace(params, X)
    grad = trace.backward(trace.activations[-1] - 1)
    grad, input_gradient = trace.backward(trace.activations[-1] - 1, input_gradient=True)
    for layer in net.layers(params):
        layer.weights[...] = layer.weights * 0.5 + layer.bias[:, np.newaxis]
    history: bpcore.History = bpcore.train(net, params, X, Y, optimizer=bpcore.Adam(1e-2), epochs=3)
    error: float = bpcore.check_gradient(net, params, X, Y)
    larger: bpcore.Network
    larger, grown = net.grow(params, inputs=3, optimizer=bpcore.Adam())
    other = larger.accumulator(buffer=np.zeros(3 + larger.n_parameters))
    other += bpcore.Accumulator(larger)
    other.buffer += accumulator.buffer[0] * grown[0]
    name: str = bpcore.backend
    names: list[str] = bpcore.available_backends()
    assert name in names
    return history.cost[-1] + error + cost + float(input_gradient.sum())


if __name__ == "__main__":
    main()
