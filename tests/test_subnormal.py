"""Subnormal numbers count as 0 in the loops, and are what they were everywhere else."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
import pytest

import bpcore


def halved() -> float:
    """5e-310, which is 0 in a mode that flushes subnormal numbers."""
    return float(np.float64(1e-309)) * float(np.float64(0.5))


def flushes() -> bool:
    """Whether the backend counts them as 0: all do, but compiled ones on a processor that has no such mode."""
    return bool(getattr(bpcore._dispatch.core, "FLUSHES_SUBNORMALS", True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [1, 5, 40, 700])
def test_inputs_weights_and_gradients_count_as_zero(backend, dtype, m):
    """Times a large number they would be 0.1: so nothing here is hidden by rounding."""
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([3, 20, 2], "relu", "squared_error", dtype=dtype)
    large = np.full(net.n_parameters, 0.1 / (tiny / 4), dtype)
    X = np.full((m, 3), tiny / 4, dtype)
    Y = np.zeros((m, 2), dtype)
    weights = net.layers(large)
    weights[0][1][...] = 0
    weights[1][0][...], weights[1][1][...] = 1, 0
    expected = 0.0 if flushes() else 0.3 * 20
    np.testing.assert_allclose(net.forward(large, X), expected, rtol=1e-4)
    small = np.full(net.n_parameters, tiny / 4, dtype)
    outputs = net.forward(small, np.full((m, 3), 0.1 / (tiny / 4), dtype))
    assert (np.abs(outputs) < tiny).all()
    cost, grad = net.cost_and_gradient(large, X, Y)
    if flushes():
        assert cost == 0
        assert (grad == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_optimizer_leaves_no_subnormal_state(backend, dtype):
    """Its moments decay for ever where the gradient is 0; at the end they are 0."""
    params, tiny = np.ones(37, dtype), np.finfo(dtype).tiny
    adam = bpcore.Adam(beta1=0.5, beta2=0.5)
    adam.step(params, np.ones_like(params))
    zeros = np.zeros_like(params)
    for _ in range(1100):
        adam.step(params, zeros)
        if flushes():
            state = np.concatenate([np.ravel(moment) for moment in adam._state])
            assert ((state == 0) | (np.abs(state) >= tiny)).all()


def test_the_mode_of_the_caller_and_of_callbacks_is_left_alone(backend):
    net = bpcore.Network([4, 30, 2], "tanh", "squared_error")
    params, X = net.initialize(seed=0), np.ones((50, 4))
    Y, seen = np.ones((50, 2)), []
    net.forward(params, X)
    net.cost_and_gradient(params, X, Y)
    net.trace(params, X).backward(Y)
    net.accumulator().add(params, X, Y)
    assert halved() != 0
    bpcore.train(net, params, X, Y, epochs=3, callback=lambda *_: seen.append(halved()) and False)
    assert seen
    assert all(seen)
    assert halved() != 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends a signal")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_mode_of_a_signal_handler_is_that_of_python(backend, threads):
    net = bpcore.Network([300, 300, 300, 2], "tanh", "squared_error")
    params, X, Y, seen = net.initialize(seed=0), np.ones((4000, 300)), np.ones((4000, 2)), []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(halved()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            net.cost_and_gradient(params, X, Y, threads=threads)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 2
    assert all(seen)
