"""Subnormal numbers count as 0 in the loops, and are what they were everywhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from helpers import READS_FLOAT_MODE, SLOWNESS, dispatch, float_mode, unusual_float_mode

import bpcore
from bpcore import _chunks


def halved() -> float:
    """5e-310, which is 0 in a mode that flushes subnormal numbers."""
    return float(np.float64(1e-309)) * float(np.float64(0.5))


def flushes() -> bool:
    """Whether the backend counts them as 0: all do, but compiled ones on a processor that has no such mode."""
    return dispatch.core.FLUSHES_SUBNORMALS


def mode() -> object:
    return float_mode() if READS_FLOAT_MODE else halved() != 0


unusual = unusual_float_mode if READS_FLOAT_MODE else contextlib.nullcontext


@pytest.fixture(autouse=True)
def no_work_is_too_small_for_threads(monkeypatch):
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)


# ------------------------------------------------------------------------------------------------- what counts as 0


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
    np.testing.assert_allclose(net.forward(large, X, threads=1), expected, rtol=1e-4)
    np.testing.assert_allclose(net.trace(large, X).activations[-1], expected, rtol=1e-4)
    small = np.full(net.n_parameters, tiny / 4, dtype)
    outputs = net.forward(small, np.full((m, 3), 0.1 / (tiny / 4), dtype))
    assert (np.abs(outputs) < tiny).all()
    accumulator = net.accumulator()
    accumulator.add(large, X, Y)
    for cost, grad in (
        net.cost_and_gradient(large, X, Y),
        net.cost_and_gradient(large, X, Y, threads=1),
        accumulator.finish(large),
    ):
        assert (cost == 0) == flushes()
        assert (grad == 0).all() == flushes()
    assert (net.cost(large, X, Y) == 0) == flushes()


@pytest.mark.parametrize("rows", [1, 9])
def test_the_gradients_of_a_trace_count_as_zero(backend, dtype, rows):
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([3, 2], output="identity", loss="squared_error", dtype=dtype)
    params, X = np.full(net.n_parameters, 1, dtype), np.full((rows, 3), 0.1 / (tiny / 4), dtype)
    grad, inputs = net.trace(params, X).backward(np.full((rows, 2), tiny / 4, dtype), input_gradient=True)
    assert (grad == 0).all() == flushes()
    assert (inputs == 0).all() == flushes()
    params[...] = 0.25
    _, inputs = net.trace(params, np.ones_like(X)).backward(np.full((rows, 2), tiny, dtype), input_gradient=True)
    assert (inputs == 0).all() == flushes()
    exp = bpcore.Network([3, 2], output="exp", loss="poisson", dtype=dtype)
    params[...] = 5  # e^20
    grad = exp.trace(params, np.ones_like(X)).backward(np.full((rows, 2), tiny / 4, dtype))
    assert (grad == 0).all() == flushes()


def test_results_that_are_subnormal_are_zero(backend, dtype):
    """The sums are not, but their mean is, and so is the penalty."""
    tiny = float(np.finfo(dtype).tiny)
    net = bpcore.Network([2, 1], output="identity", loss="squared_error", dtype=dtype)
    params, sums = np.ones(net.n_parameters, dtype), np.full(net.n_parameters, tiny * 3 / 2, dtype)
    for of in (sums, sums.astype(np.float64)):
        for weight in (2.0, 3.0):
            out = np.ones_like(params)
            dispatch.core.finish(net._plan, params, of, weight, 0.0, out)
            assert (out == 0).all() == flushes()
    dispatch.core.finish(net._plan, params, np.zeros_like(params), 1.0, tiny / 2, out)
    assert (out == 0).all() == flushes()
    small = float(np.finfo(np.float64).tiny)
    assert (dispatch.core.cost(net._plan, params, small, 2.0, 0.0) == 0) == flushes()
    assert (dispatch.core.cost(net._plan, params, 0.0, 1.0, small / 2) == 0) == flushes()


def test_rows_of_subnormal_weight_are_left_out(backend, dtype):
    """Even if they contain NaN, or a loss that would count."""
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([2, 1], output="identity", loss="squared_error", dtype=dtype)
    params, X, Y = np.ones(net.n_parameters, dtype), np.ones((9, 2), dtype), np.ones((9, 1), dtype)
    weights = np.ones(9, dtype)
    expected = net.cost_and_gradient(params, X, Y, 0, weights)
    weights[4:6] = tiny / 2
    X[4] = np.nan
    Y[5] = np.sqrt(np.finfo(dtype).max)
    cost, grad = net.cost_and_gradient(params, X, Y, 0, weights)
    if flushes():
        assert cost == pytest.approx(expected[0])
        np.testing.assert_allclose(grad, expected[1], rtol=1e-6)
        assert net.cost(params, X, Y, 0, weights) == pytest.approx(cost)


@pytest.mark.parametrize("sizes", [(300, 300), (2, 1)], ids=["chunks of a group", "groups"])
def test_the_same_bits_for_any_number_of_threads(backend, dtype, sizes):
    """Where the sums of two chunks cancel to a subnormal number, and that of the third is large."""
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network(sizes, output="identity", loss="squared_error", dtype=dtype)
    size = net._plan.chunk_rows
    assert (net._plan.group_size > 1) == (sizes == (300, 300))
    X, Y, params = np.ones((3 * size, sizes[0]), dtype), np.zeros((3 * size, sizes[1]), dtype), net.initialize(seed=0)
    params[...] = 0
    Y[0], Y[size], Y[2 * size] = 1.5 * tiny, -1.25 * tiny, 4 * len(X) * tiny
    first, *others = (net.cost_and_gradient(params, X, Y, threads=threads) for threads in (1, 2, 3, None))
    if dtype == "float64" or sizes == (300, 300):  # sums of groups are float64
        assert (first[1] == -4 * tiny).all() == flushes()
    for cost, grad in others:
        assert cost == first[0]
        assert grad.tobytes() == first[1].tobytes()


def test_subnormal_activations_count_as_zero(backend, dtype):
    """Those of saturated units, which the next layer multiplies by a large number."""
    net = bpcore.Network([1, 3, 1], "sigmoid", "squared_error", output="identity", dtype=dtype)
    params = np.zeros(net.n_parameters, dtype)
    hidden, last = net.layers(params)
    hidden.bias[...] = np.log(np.finfo(dtype).tiny) - 3
    last.weights[...] = np.finfo(dtype).max / 2
    assert (net.forward(params, np.ones((9, 1), dtype)) == 0).all() == flushes()


def test_the_inverse_of_a_very_large_weight_is_not_zero(backend, dtype):
    """It is subnormal; the gradient is not."""
    net = bpcore.Network([1, 1], output="identity", loss="squared_error", dtype=dtype)
    params, X, Y = np.array([1, 0], dtype), np.ones((1, 1), dtype), np.full((1, 1), 0.5, dtype)
    for weight in (np.finfo(dtype).max / 2, 2.0 ** (np.finfo(dtype).maxexp - 1)):
        cost, grad = net.cost_and_gradient(params, X, Y, 0, np.full(1, weight, dtype))
        assert cost == pytest.approx(0.125)
        np.testing.assert_allclose(grad, 0.5, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_takes_no_subnormal_gradient_and_leaves_no_subnormal_parameter(backend, dtype, nesterov):
    tiny = np.finfo(dtype).tiny
    for momentum in (0.0, 0.25):
        params, given = np.ones(37, dtype), (momentum, nesterov and momentum > 0)
        bpcore.GradientDescent(0.4 / tiny, *given).step(params, np.full_like(params, tiny / 2))
        assert (params == 1).all() == flushes()
        params[...] = tiny * 1.5
        bpcore.GradientDescent(1.0, *given).step(params, np.full_like(params, tiny))
        assert (params == 0).all() == flushes()


@pytest.mark.parametrize("optimizer", [bpcore.GradientDescent(0.1, 0.25), bpcore.Adam(beta1=0.25, beta2=0.25)])
def test_an_optimizer_leaves_no_subnormal_state(backend, dtype, optimizer):
    """It decays for ever where the gradient is 0; at the end it is 0."""
    params, tiny = np.ones(37, dtype), np.finfo(dtype).tiny
    optimizer.reset()
    optimizer.step(params, np.ones_like(params))
    for _ in range(90 if dtype == "float32" else 600):
        optimizer.step(params, np.zeros_like(params))
        if flushes():
            state = np.concatenate(optimizer._state)
            assert ((state == 0) | (np.abs(state) >= tiny)).all()
    assert (state == 0).all() or not flushes()


# ------------------------------------------------------------------------------------- the modes of everybody else


def calls(dtype: str) -> dict[str, Callable[[], object]]:
    """Everything that computes, by name, with enough rows for two threads."""
    net = bpcore.Network([4, 30, 2], "tanh", "squared_error", dtype=dtype)
    rng = np.random.default_rng(0)
    params, X = net.initialize(seed=0), rng.normal(size=(2 * net._plan.chunk_rows, 4)).astype(dtype)
    Y, weights = rng.normal(size=(len(X), 2)).astype(dtype), np.ones(len(X), dtype)
    trace, accumulator, added = net.trace(params, X), net.accumulator(), net.accumulator()
    added.add(params, X, Y)
    grad = rng.normal(size=params.size).astype(dtype)

    def stepped(optimizer: bpcore.Adam | bpcore.GradientDescent) -> object:
        changed = params.copy()
        optimizer.step(changed, grad)
        optimizer.step(changed, grad)
        return changed

    def trained(**options: object) -> object:
        changed = params.copy()
        bpcore.train(net, changed, X[:99], Y[:99], epochs=2, batch_size=20, seed=0, **options)
        return changed

    return {
        "forward": lambda: net.forward(params, X[:9]),
        "forward, chunks": lambda: net.forward(params, X, threads=1),
        "forward, threads": lambda: net.forward(params, X, threads=2),
        "cost": lambda: net.cost(params, X, Y, 0.1, threads=1),
        "cost_and_gradient": lambda: net.cost_and_gradient(params, X[:9], Y[:9], 0.1)[1],
        "cost_and_gradient, weights": lambda: net.cost_and_gradient(params, X, Y, 0.1, weights, threads=1)[1],
        "cost_and_gradient, threads": lambda: net.cost_and_gradient(params, X, Y, 0.1, threads=2)[1],
        "trace": lambda: net.trace(params, X).activations[-1],
        "backward": lambda: trace.backward(Y, input_gradient=True)[0],
        "add": lambda: accumulator.add(params, X, Y),
        "finish": lambda: added.finish(params, 0.1)[1],
        "gradient descent": lambda: stepped(bpcore.GradientDescent(0.1)),
        "momentum": lambda: stepped(bpcore.GradientDescent(0.1, 0.9)),
        "Adam": lambda: stepped(bpcore.Adam()),
        "train": lambda: trained(optimizer=bpcore.Adam()),
        "train, a callback": lambda: trained(callback=lambda *_: False),
    }


def test_the_mode_of_the_caller_is_that_before_the_call(backend, dtype):
    for name, call in calls(dtype).items():
        before = mode()
        call()
        assert mode() == before, name
        with unusual():
            before = mode()
            call()
            assert mode() == before, name
    assert halved() != 0


if READS_FLOAT_MODE:

    def test_the_mode_of_the_caller_changes_no_bit(backend, dtype):
        """The loops round to nearest; NumPy rounds as the caller does."""
        for name, call in calls(dtype).items():
            expected = call()
            with unusual():
                found = call()
            if backend != "python" and name != "backward":  # NumPy adds what chunks gave
                np.testing.assert_array_equal(found, expected, name)


def test_the_mode_of_callbacks_is_that_of_the_caller(backend):
    net = bpcore.Network([4, 30, 2], "tanh", "squared_error")
    params, X, Y, seen = net.initialize(seed=0), np.ones((50, 4)), np.ones((50, 2)), []
    with unusual():
        before = mode()
        bpcore.train(net, params, X, Y, epochs=3, callback=lambda *_: seen.append(mode()) and False)
        assert mode() == before
    assert len(seen) >= 3
    assert set(seen) == {before}


class Stop(Exception):
    """What a handler raises."""


if os.name != "nt":  # Windows has no timer that sends a signal

    def long_call(threads: int) -> Callable[[], object]:
        """A call of more than two of the times between looks for signals."""
        net = bpcore.Network([300, 300, 300, 2], "tanh", "squared_error", dtype="float32")
        params, rows, seconds = net.initialize(seed=0), 2000, 0.0
        while seconds < 0.13:
            rows *= 2
            X, Y = np.ones((rows, 300), "float32"), np.ones((rows, 2), "float32")
            start = time.monotonic()
            net.cost_and_gradient(params, X, Y, threads=threads)
            seconds = time.monotonic() - start
        return lambda: net.cost_and_gradient(params, X, Y, threads=threads)

    @contextlib.contextmanager
    def alarms(handler: Callable[..., object]) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_mode_of_a_signal_handler_is_that_of_the_caller(backend, threads):
        call = long_call(threads)
        expected = call()
        seen: list[tuple[float, object]] = []
        within: list[object] = []
        with unusual():
            before, stop = mode(), time.monotonic() + 30 * SLOWNESS
            with alarms(lambda *_: seen.append((time.monotonic(), mode()))):
                while not within and time.monotonic() < stop:
                    seen.clear()
                    start = time.monotonic()
                    found = call()
                    end = time.monotonic()
                    within = [m for when, m in seen if start + 0.02 < when < end - 0.02]  # not just before or after
            assert mode() == before
        assert within
        assert {m for _, m in seen} == {before}
        if backend != "python":  # the loops went on in theirs
            np.testing.assert_array_equal(found[1], expected[1])

    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_mode_after_an_exception_is_that_before_the_call(backend, threads):
        call = long_call(threads)

        def raises(*_: object) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Stop

        with unusual():
            before = mode()
            with pytest.raises(Stop), alarms(raises):  # noqa: PT012 (a call may be over before the signal)
                while True:
                    call()
            assert mode() == before
        assert halved() != 0


def test_the_mode_of_other_threads_is_theirs(backend):
    """One that looks while another computes."""
    call = calls("float64")["cost_and_gradient, weights"]
    before, seen, done = mode(), set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(mode())

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(5):
        call()
    done.set()
    thread.join()
    assert seen == {before}
