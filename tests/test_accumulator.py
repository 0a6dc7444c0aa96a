"""Sums that merge: any split of the rows gives the gradient of the whole."""

from __future__ import annotations

import copy
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


def test_copies_and_pickles(rng):
    net = bpcore.Network([3, 2])
    accumulator = net.accumulator()
    accumulator.add(net.initialize(0), rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))
    for clone in (pickle.loads(pickle.dumps(accumulator)), copy.deepcopy(accumulator)):
        assert clone.network == net
        np.testing.assert_array_equal(clone.buffer, accumulator.buffer)
        clone.reset()
        assert accumulator.rows == 5
    assert "5 rows" in repr(accumulator)


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
