"""Sums that merge: any split of the rows gives the gradient of the whole."""

from __future__ import annotations

import array
import copy
import ctypes
import multiprocessing
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import SLOWNESS, assert_agree, make_data, make_parameters

import bpcore

pytestmark = pytest.mark.usefixtures("backend")

quick = hypothesis.settings(
    max_examples=40 if SLOWNESS <= 5 else 5,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@quick
@hypothesis.given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 2**20), l2=st.floats(0, 2))
def test_any_split_and_any_order_of_merging_gives_the_same_gradient(dtype, cuts, seed, l2):
    rng = np.random.default_rng(seed)
    net = bpcore.Network([3, 6, 2], "tanh", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 60, rng)
    expected_J, expected = net.cost_and_gradient(params, X, Y, l2, weights)
    pieces = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 60]):
        piece = net.accumulator()
        piece.add(params, X[start:stop], Y[start:stop], weights[start:stop])
        pieces.append(piece)
    rng.shuffle(pieces)
    whole = net.accumulator()
    for piece in pieces:
        before = piece.buffer.copy()
        whole.merge(piece)
        np.testing.assert_array_equal(piece.buffer, before)
    J, grad = whole.finish(params, l2)
    assert J == pytest.approx(expected_J, rel=1e-12 if dtype == "float64" else 1e-5)
    assert_agree(grad, expected, dtype, 2)
    assert (whole.rows, whole.sample_weight_sum) == (60, weights.sum())


@quick
@hypothesis.given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    rows=st.integers(1, 40),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**20),
    hidden=st.sampled_from(["relu", "tanh", "gelu", "softplus"]),
)
def test_a_gradient_never_changes_its_inputs(dtype, sizes, rows, scale, seed, hidden):
    rng = np.random.default_rng(seed)
    net = bpcore.Network(sizes, hidden, dtype=dtype)
    params = (make_parameters(net, rng) * scale).astype(dtype)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, rows, rng)
    copies = [a.copy() for a in (params, X, Y, weights)]
    first = net.cost_and_gradient(params, X, Y, 0.1, weights)
    second = net.cost_and_gradient(params, X, Y, 0.1, weights)
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    for a, b in zip((params, X, Y, weights), copies):
        np.testing.assert_array_equal(a, b)


def test_buffer_is_the_whole_state(dtype, rng):
    """What a sum over processes (MPI's Allreduce) does with the buffers is a merge."""
    net = bpcore.Network([3, 4, 2], "sigmoid", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 30, rng)
    accumulators = [net.accumulator() for _ in range(3)]
    for i, accumulator in enumerate(accumulators):
        accumulator.add(params, X[i::3], Y[i::3], weights[i::3])
        assert accumulator.buffer.dtype == np.float64
        assert accumulator.buffer.flags.c_contiguous
        assert accumulator.buffer.shape == (3 + net.n_parameters,)
    reduced = net.accumulator()
    reduced.buffer[...] = sum(a.buffer for a in accumulators)
    merged = net.accumulator()
    for accumulator in accumulators:
        merged.merge(accumulator)
    np.testing.assert_allclose(reduced.buffer, merged.buffer, rtol=1e-14)
    _, grad = net.cost_and_gradient(params, X, Y, 0.2, weights)
    assert reduced.buffer[0] / reduced.buffer[1] == pytest.approx(net.cost(params, X, Y, 0.0, weights), rel=1e-6)
    assert reduced.buffer[1] == weights.sum()
    assert reduced.buffer[2] == 30
    assert_agree(reduced.finish(params, 0.2)[1], grad, dtype, 2)


@pytest.mark.parametrize("start", [0, 3])
def test_finish_does_not_write_into_the_sums(start, rng):
    net = bpcore.Network([2, 3, 1], "tanh")
    params, accumulator = net.initialize(0), net.accumulator()
    accumulator.add(params, rng.normal(size=(5, 2)), rng.normal(size=(5, 1)))
    before = accumulator.buffer.copy()
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        accumulator.finish(params, out=accumulator.buffer[start : start + net.n_parameters])
    np.testing.assert_array_equal(accumulator.buffer, before)


def test_finish_leaves_the_sums_and_more_can_be_added(rng):
    net = bpcore.Network([3, 2])
    params = make_parameters(net, rng)
    X, Y, _ = make_data(net.sizes, net.loss, "float64", 20, rng)
    accumulator = net.accumulator()
    accumulator.add(params, X[:5], Y[:5])
    assert accumulator.finish(params)[0] == pytest.approx(net.cost(params, X[:5], Y[:5]), rel=1e-14)
    accumulator.finish(params, l2=3.0)
    accumulator.add(params, X[5:], Y[5:])
    assert accumulator.finish(params)[0] == pytest.approx(net.cost(params, X, Y), rel=1e-14)
    accumulator.reset()
    assert accumulator.rows == 0
    assert not accumulator.buffer.any()


def through_read_only_memory(accumulator):
    """As from a sender that passes arrays beside the pickle."""
    parts = []
    data = pickle.dumps(accumulator, protocol=5, buffer_callback=parts.append)
    return pickle.loads(data, buffers=[bytes(part.raw()) for part in parts])


@pytest.mark.parametrize("memory", ["its own", "an array", "a memory map"])
def test_copies_and_pickles_do_not_share_memory(memory, rng, tmp_path):
    net = bpcore.Network([3, 2])
    shape = (3 + net.n_parameters,)
    if memory == "a memory map":
        buffer = np.memmap(tmp_path / "sums", np.float64, "w+", shape=shape)
    else:
        buffer = None if memory == "its own" else np.zeros(shape)
    accumulator = net.accumulator(buffer)
    params, X, Y = net.initialize(0), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    accumulator.add(params, X, Y)
    before = accumulator.buffer.copy()
    clones = [copy.copy(accumulator), copy.deepcopy(accumulator), through_read_only_memory(accumulator)]
    clones += [pickle.loads(pickle.dumps(accumulator, protocol)) for protocol in range(2, 6)]
    for clone in clones:
        assert type(clone) is bpcore.Accumulator
        assert clone.network == net
        assert type(clone.buffer) is np.ndarray
        np.testing.assert_array_equal(clone.buffer, before)
        clone.add(params, X, Y)
        assert clone.rows == 10
        np.testing.assert_array_equal(accumulator.buffer, before)
    assert "5 rows" in repr(accumulator)


def test_iadd_is_merge(dtype, rng):
    net = bpcore.Network([3, 4, 2], "sigmoid", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 30, rng)
    first, second, merged = (net.accumulator() for _ in range(3))
    first.add(params, X[:9], Y[:9], weights[:9])
    second.add(params, X[9:], Y[9:], weights[9:])
    for accumulator in (first, second):
        merged.merge(accumulator)
    name, before = first, second.buffer.copy()
    first += second
    assert first is name
    np.testing.assert_array_equal(first.buffer, merged.buffer)
    np.testing.assert_array_equal(second.buffer, before)
    for bad, error in ((np.zeros_like(before), TypeError), (0, TypeError), (bpcore.Network([3, 2]), TypeError)):
        with pytest.raises(error, match="other must be an Accumulator, got"):
            first += bad
    with pytest.raises(ValueError, match="other must be another accumulator, got this one"):
        first += first
    np.testing.assert_array_equal(first.buffer, merged.buffer)


def test_a_buffer_is_changed_in_place_and_not_replaced(rng):
    net = bpcore.Network([3, 2])
    accumulator, other = net.accumulator(), rng.normal(size=3 + net.n_parameters)
    buffer = accumulator.buffer
    accumulator.buffer += other
    accumulator.buffer -= 2 * other
    accumulator.buffer *= -1.0
    accumulator.buffer = buffer
    assert accumulator.buffer is buffer
    np.testing.assert_array_equal(buffer, other)
    for bad, got in ((other, "another array"), (buffer.copy(), "another array"), (other.tolist(), "list")):
        with pytest.raises(AttributeError, match=f"buffer must stay the array that it is: .*, got {got}"):
            accumulator.buffer = bad
    with pytest.raises(ValueError, match="broadcast"):
        accumulator.buffer += other[:-1]
    with pytest.raises(AttributeError):
        del accumulator.buffer
    assert accumulator.buffer is buffer
    np.testing.assert_array_equal(buffer, other)


class Exposes:
    """An object that shows its memory by ``__array__`` alone."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


MEMORY = {
    "array": np.zeros,
    "row of a matrix": lambda n: np.zeros((3, n))[1],
    "memoryview": lambda n: memoryview(np.zeros(n)),
    "array.array": lambda n: array.array("d", bytes(8 * n)),
    "ctypes": lambda n: (ctypes.c_double * n)(),
    "shared by processes": lambda n: multiprocessing.RawArray("d", n),
    "__array__": lambda n: Exposes(np.zeros(n)),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_memory_of_the_callers_is_used_in_place(kind, dtype, rng):
    net = bpcore.Network([3, 4, 2], "tanh", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 30, rng)
    expected = net.accumulator()
    expected.add(params, X, Y, weights)
    memory = MEMORY[kind](3 + net.n_parameters)
    seen = np.asarray(memory)
    net.accumulator(buffer=memory).add(params, X[:10], Y[:10], weights[:10])
    accumulator = bpcore.Accumulator(net, memory)  # what is in it counts
    assert accumulator.rows == 10
    accumulator.add(params, X[10:], Y[10:], weights[10:])
    assert np.shares_memory(accumulator.buffer, seen)
    np.testing.assert_array_equal(accumulator.buffer, seen)
    assert_agree(seen[3:], expected.buffer[3:], dtype)
    assert accumulator.finish(params, 0.1)[0] == pytest.approx(expected.finish(params, 0.1)[0], rel=1e-6)
    accumulator.merge(expected)
    assert seen[2] == 60
    with pytest.raises(ValueError, match="other must not share memory with this accumulator"):
        accumulator.merge(net.accumulator(memory))
    assert seen[2] == 60
    accumulator.reset()
    assert not seen.any()


def test_memory_that_does_not_fit():
    net = bpcore.Network([3, 2])
    n = 3 + net.n_parameters
    read_only = np.zeros(n)
    read_only.flags.writeable = False
    unaligned = np.frombuffer(bytearray(8 * n + 1), np.uint8)[1:].view(np.float64)
    for bad, error, message in (
        (np.zeros(n, np.float32), ValueError, "buffer must have dtype float64, got float32"),
        (np.zeros(n, np.dtype(np.float64).newbyteorder()), ValueError, "buffer must have dtype float64, got"),
        (bytearray(8 * n), ValueError, "buffer must have dtype float64, got uint8"),
        (np.zeros(n - 1), ValueError, rf"buffer must have shape \({n},\), got \({n - 1},\)"),
        (np.zeros((1, n)), ValueError, "buffer must have shape"),
        (np.zeros(2 * n)[::2], ValueError, "buffer must be C-contiguous and aligned"),
        (unaligned, ValueError, "buffer must be C-contiguous and aligned"),
        (read_only, ValueError, "buffer must be writable, got a read-only array"),
        (memoryview(read_only), ValueError, "buffer must be writable, got a read-only array"),
        (np.ma.zeros(n), TypeError, "buffer must not be a masked array"),
        ([0.0] * n, TypeError, "buffer must be a NumPy array or expose its memory as one, got list"),
        (n, TypeError, "buffer must be a NumPy array or expose its memory as one, got int"),
    ):
        for make in (net.accumulator, lambda buffer: bpcore.Accumulator(net, buffer=buffer)):
            with pytest.raises(error, match=message):
                make(bad)


def test_merge_refuses():
    net = bpcore.Network([3, 2])
    accumulator = net.accumulator()
    for bad, error in (
        (np.zeros(11), TypeError),
        (None, TypeError),
        (accumulator, ValueError),
        (bpcore.Network([3, 3]).accumulator(), ValueError),
        (bpcore.Network([3, 2], dtype="float32").accumulator(), ValueError),
    ):
        with pytest.raises(error, match="other"):
            accumulator.merge(bad)


def test_finish_refuses(rng):
    net = bpcore.Network([3, 2])
    params = net.initialize(0)
    accumulator = net.accumulator()
    with pytest.raises(ValueError, match="rows must be added first"):
        accumulator.finish(params)
    accumulator.add(params, np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="the sum of sample_weight must be finite and > 0, got 0"):
        accumulator.finish(params)
    accumulator.add(params, np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="l2"):
        accumulator.finish(params, -1)
    with pytest.raises(ValueError, match="params"):
        accumulator.finish(params[:3])


def test_a_single_precision_gradient_of_many_rows_keeps_its_digits(rng):
    """300,000 rows in float32 against float64: the error does not grow with the rows, sums being kept in float64."""
    single = bpcore.Network([4, 8, 1], "tanh", dtype="float32")
    double = bpcore.Network([4, 8, 1], "tanh", dtype="float64")
    params = make_parameters(single, rng)
    X = rng.normal(size=(300_000, 4)).astype("float32")
    Y = rng.normal(size=(300_000, 1)).astype("float32") + 1
    J, grad = single.cost_and_gradient(params, X, Y)
    exact_J, exact = double.cost_and_gradient(params, X, Y)
    assert J == pytest.approx(exact_J, rel=1e-6)
    assert np.abs(grad - exact).max() < 1e-6 * np.abs(exact).max()


def test_a_sum_of_weights_that_overflows(backend):
    """Each of the two is in range."""
    net = bpcore.Network([2, 1])
    params, X, Y = np.zeros(3), np.ones((1, 2)), np.ones(1)
    first, second = net.accumulator(), net.accumulator()
    for accumulator in (first, second):
        accumulator.add(params, X, Y, sample_weight=[1.7e308])
    first.merge(second)
    with pytest.raises(ValueError, match="the sum of sample_weight must be finite and > 0, got inf"):
        first.finish(params)
