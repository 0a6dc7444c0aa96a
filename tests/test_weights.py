"""Signed weights, weights of single outputs, and clipped gradients: against gradients of rows, differences, and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import COMBINATIONS, assert_agree, make_data, make_parameters

import bpcore
from bpcore import _chunks

ROWS = (3, 300)


@pytest.fixture
def every_thread(monkeypatch):
    """No work is too small for threads."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)


def problem(loss, output, dtype, rows, rng, n_outputs=3, hidden=(7,)):
    sizes = [4, *hidden, 2 * n_outputs if loss == "gaussian_nll" else n_outputs]
    net = bpcore.Network(sizes, "tanh", loss, output, dtype)
    X, Y, _ = make_data(sizes, loss, dtype, rows, rng)
    return net, make_parameters(net, rng), X, Y


def mask(shape, dtype, rng):
    """Weights of outputs, a third of them 0; a row of zeros and one of ones."""
    w = (rng.uniform(size=shape) * (rng.random(shape) < 2 / 3)).astype(dtype)
    w[0], w[1] = 0, 1
    return w


def everything(net, params, X, Y, **how):
    """Cost, gradient and sums, by every way there is."""
    J, grad = net.cost_and_gradient(params, X, Y, 0.01, **how)
    accumulator = net.accumulator()
    accumulator.add(params, X, Y, **how)
    total, found = accumulator.finish(params, 0.01)
    dtype = net.dtype.name
    np.testing.assert_allclose(total, J, rtol=1e-12)
    assert_agree(found, grad, dtype)
    if "clip_norm" not in how:
        np.testing.assert_allclose(net.cost(params, X, Y, 0.01, **how), J, rtol=1e-12)
    return J, grad, accumulator.buffer.copy()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_what_has_no_weight_does_not_count(backend, dtype, rng, loss, output, rows):
    """A target of NaN under weight 0 is a placeholder, bit for bit, also in a row whose inputs are NaN."""
    net, params, X, Y = problem(loss, output, dtype, rows, rng)
    w = mask(Y.shape, dtype, rng)
    hidden = np.where(w == 0, np.nan, Y)
    broken = X.copy()
    broken[0] = np.nan
    for how in ({}, {"clip_norm": 0.3}):
        expected = everything(net, params, X, Y, sample_weight=w, **how)
        for found in (
            everything(net, params, broken, hidden, sample_weight=w, **how),
            everything(net, params, broken, np.asfortranarray(hidden), sample_weight=np.asfortranarray(w), **how),
        ):
            for one, other in zip(found, expected, strict=True):
                assert np.isfinite(one).all()
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_weights_of_outputs_against_weights_of_rows(backend, dtype, rng, loss, output, rows):
    """Equal weights in a row are its weight; and the sums of each output by itself add up to those of all."""
    net, params, X, Y = problem(loss, output, dtype, rows, rng)
    of_rows = rng.uniform(0.5, 2, rows).astype(dtype)
    one, other = (
        everything(net, params, X, Y, sample_weight=w) for w in (of_rows, np.repeat(of_rows[:, np.newaxis], 3, axis=1))
    )
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5 if dtype == "float32" else 1e-12)
    assert_agree(other[1], one[1], dtype)
    w = rng.uniform(0.5, 2, Y.shape).astype(dtype)
    total = net.accumulator()
    for k in range(3):
        total.add(params, X, Y, np.where(np.arange(3) == k, w, 0).astype(dtype))
    whole = net.accumulator()
    whole.add(params, X, Y, w)
    size = np.abs(whole.buffer).max()
    apart = total.buffer[[0, 1, *range(3, len(total.buffer))]], whole.buffer[[0, 1, *range(3, len(whole.buffer))]]
    np.testing.assert_allclose(*apart, rtol=0, atol=size * (1e-5 if dtype == "float32" else 1e-12))
    np.testing.assert_allclose(whole.sample_weight_sum, w.sum(dtype=np.float64) / 3, rtol=1e-12)


def test_weights_of_classes_and_labels(backend, dtype, rng):
    net, params, X, _ = problem("cross_entropy", None, dtype, 60, rng)
    labels, of_classes = rng.integers(0, 3, 60), np.array([0.5, 0.0, 2.0], dtype)
    w = np.repeat(of_classes[np.newaxis], 60, axis=0)
    J, grad, sums = everything(net, params, X, labels, sample_weight=w)
    same_J, same, _ = everything(net, params, X, np.eye(3, dtype=dtype)[labels], sample_weight=w)
    np.testing.assert_allclose(J, same_J, rtol=1e-5)
    assert_agree(same, grad, dtype)
    rows = net.accumulator()
    rows.add(params, X, labels, of_classes[labels])
    assert_agree(sums[3:], rows.buffer[3:], "float32")


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_weights_of_one_output_are_those_of_its_row(backend, dtype, rng, loss):
    net, params, X, Y = problem(loss, None, dtype, 30, rng, 1)
    w = rng.choice([0.0, 0.5, 2.0], 30).astype(dtype)
    w[0] = 1
    for found, expected in zip(
        everything(net, params, X, Y, sample_weight=w[:, np.newaxis]),
        everything(net, params, X, Y, sample_weight=w),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_signed_weights_against_gradients_of_rows(backend, dtype, rng, loss, output, rows):
    net, params, X, Y = problem(loss, output, dtype, rows, rng)
    w = rng.normal(size=rows).astype(dtype)
    w[-1] = 0
    J, grad = net.cost_and_gradient(params, X, Y, sample_weight=w, signed=True)
    G = net.per_row_gradients(params, X, Y).astype(np.float64)
    expected = (w.astype(np.float64) @ G / rows).astype(dtype)
    size = np.abs(w).astype(np.float64) @ np.abs(G) / rows
    np.testing.assert_allclose(grad, expected, rtol=0, atol=10 * np.finfo(dtype).eps * rows**0.5 * size.max())
    assert net.cost(params, X, Y, sample_weight=w, signed=True) == J
    accumulator = net.accumulator()
    accumulator.add(params, X, Y, w, signed=True)
    assert accumulator.sample_weight_sum == rows
    assert accumulator.finish(params)[0] == pytest.approx(J, rel=1e-12)


def test_weights_that_add_up_to_nothing(backend, dtype, rng):
    """The advantages of REINFORCE do, and are no error."""
    net, params, X, Y = problem("cross_entropy", None, dtype, 4, rng)
    w = np.array([1, -1, 0.5, -0.5], dtype)
    J, grad = net.cost_and_gradient(params, X, Y, sample_weight=w, signed=True)
    assert np.isfinite(J)
    assert np.abs(grad).max() > 0
    with pytest.raises(ValueError, match="sample_weight must be finite and >= 0, got sample_weight"):
        net.cost_and_gradient(params, X, Y, sample_weight=w)


@pytest.mark.parametrize(("rows", "hidden"), [(3, [7]), (300, [7]), (3, [7, 5, 6]), (300, [7, 5, 6])])
@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_clipped_sums_against_gradients_of_rows(backend, dtype, rng, loss, output, rows, hidden):
    """In a deep network the norms take the memory of the last layer's deltas."""
    net, params, X, Y = problem(loss, output, dtype, rows, rng, hidden=hidden)
    w = rng.uniform(0.5, 2, rows).astype(dtype)
    G = w[:, np.newaxis].astype(np.float64) * net.per_row_gradients(params, X, Y).astype(np.float64)
    norms = np.sqrt((G * G).sum(axis=1))
    C = float(np.median(norms)) or 1.0
    J, grad = net.cost_and_gradient(params, X, Y, sample_weight=w, clip_norm=C)
    expected = np.minimum(1, C / np.maximum(norms, 1e-300)) @ G / w.sum(dtype=np.float64)
    # what cancels in the delta of a softmax is rounding, of numbers of size 1
    limit = 1000 * np.finfo(dtype).eps * max(np.abs(expected).max(), 1e-2)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=limit)
    assert net.cost(params, X, Y, sample_weight=w) == pytest.approx(J, rel=1e-12)
    _, whole = net.cost_and_gradient(params, X, Y, sample_weight=w)
    np.testing.assert_array_equal(
        net.cost_and_gradient(params, X, Y, sample_weight=w, clip_norm=2.0 * norms.max() + 1)[1], whole
    )


@pytest.mark.parametrize("sizes", [[4, 7, 3], [30, 300, 300, 5]])
def test_same_bits_for_any_number_of_threads(backend, dtype, rng, every_thread, sizes):
    net = bpcore.Network(sizes, "gelu", dtype=dtype)
    params = make_parameters(net, rng)
    rows = 100 if backend == "python" else 700  # it has no threads of its own
    X, Y, _ = make_data(sizes, net.loss, dtype, rows, rng)
    w = mask(Y.shape, dtype, rng)

    def results(threads):
        return [
            *net.cost_and_gradient(params, X, Y, sample_weight=w, threads=threads),
            *net.cost_and_gradient(params, X, Y, sample_weight=w - 0.25, signed=True, threads=threads),
            *net.cost_and_gradient(params, X, Y, sample_weight=w, clip_norm=0.1, threads=threads),
            *net.cost_and_gradient(params, X, Y, clip_norm=1.0, threads=threads),
        ]

    one = results(1)
    for threads in (2, 3, 7):
        for found, expected in zip(results(threads), one, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_training_with_weights_of_outputs(backend, dtype, rng):
    """Steps in the core, in an order, against steps by hand."""
    net, params, X, Y = problem("squared_error", None, dtype, 50, rng)
    w = mask(Y.shape, dtype, rng)
    by_hand, optimizer = params.copy(), bpcore.GradientDescent(0.05)
    generator = np.random.default_rng(7)
    for _ in range(2):
        order = generator.permutation(50)
        for first in range(0, 50, 20):
            rows = order[first : first + 20]
            accumulator = net.accumulator()
            accumulator.add(by_hand, X[rows], Y[rows], w[rows])
            mean = w.sum(dtype=np.float64) / 3 / 50
            optimizer.step(by_hand, (accumulator.buffer[3:] / (len(rows) * mean)).astype(dtype))
    hidden = np.where(w == 0, np.nan, Y)
    descent = bpcore.GradientDescent(0.05)
    bpcore.train(net, params, X, hidden, optimizer=descent, epochs=2, batch_size=20, seed=7, sample_weight=w)
    assert_agree(params, by_hand, dtype, 10)


def test_errors_name_the_argument(backend, rng):
    net, params, X, Y = problem("squared_error", None, "float64", 5, rng)
    w = np.ones((5, 3))
    for wrong, message in (
        (np.ones((5, 2)), r"sample_weight must have shape \(5,\) or \(5, 3\), got \(5, 2\)"),
        (np.ones((5, 3, 1)), r"sample_weight must have shape \(5,\) or \(5, 3\), got \(5, 3, 1\)"),
        (-w, r"sample_weight must be finite and >= 0, got sample_weight\[0, 0\] = -1"),
        (w * np.nan, r"sample_weight must be finite and >= 0, got sample_weight\[0, 0\] = nan"),
        (0 * w, "the sum of sample_weight must be > 0, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            net.cost_and_gradient(params, X, Y, sample_weight=wrong)
    with pytest.raises(ValueError, match=r"sample_weight must be finite, got sample_weight\[0, 0\] = nan"):
        net.cost(params, X, Y, sample_weight=w * np.nan, signed=True)
    with pytest.raises(TypeError, match="signed must be True or False, got 1"):
        net.cost_and_gradient(params, X, Y, signed=1)
    for wrong in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="clip_norm must be finite and > 0"):
            net.cost_and_gradient(params, X, Y, clip_norm=wrong)
    with pytest.raises(ValueError, match="clip_norm must not be subnormal, which counts as 0, got 1e-310"):
        net.cost_and_gradient(params, X, Y, clip_norm=1e-310)
    with pytest.raises(TypeError, match="clip_norm must be a number, got 'one'"):
        net.accumulator().add(params, X, Y, clip_norm="one")


def test_a_target_out_of_range_counts_under_its_weight(backend, rng):
    net, params, X, Y = problem("binary_cross_entropy", None, "float64", 5, rng)
    Y[2, 1] = 7
    w = np.ones((5, 3))
    with pytest.raises(ValueError, match=r"targets of binary_cross_entropy must be .* got Y\[2, 1\] = 7"):
        net.cost_and_gradient(params, X, Y, sample_weight=w)
    w[2, 1] = 0
    assert np.isfinite(net.cost_and_gradient(params, X, Y, sample_weight=w)[0])


def test_a_label_out_of_range_under_no_weight(backend, dtype, rng):
    """In a row whose weights are all 0 it may be any number; elsewhere it is an error."""
    net, params, X, _ = problem("cross_entropy", None, dtype, 4, rng)
    w = np.ones((4, 3), dtype)
    w[2] = 0
    J, grad = net.cost_and_gradient(params, X, np.array([0, 2, 1, 1]), sample_weight=w)
    for label in (9, -7):
        again, same = net.cost_and_gradient(params, X, np.array([0, 2, label, 1]), sample_weight=w)
        assert again == J
        np.testing.assert_array_equal(same, grad)
        with pytest.raises(ValueError, match="labels must be from 0 to 2"):
            net.cost_and_gradient(params, X, np.array([0, label, 1, 1]), sample_weight=w)


def test_parameters_of_losses_near_the_ends_of_their_range(backend):
    """1 - q and p - 1 have all digits in float32, too."""
    X, params = np.ones((1, 1)), np.zeros(2)
    for name, value, y in (("quantile", 1 - 1e-6, -2.0), ("tweedie", 1 + 1e-6, 2.0), ("tweedie", 2 - 1e-6, 2.0)):
        parameter = {"quantile" if name == "quantile" else "power": value}
        wide, narrow = (bpcore.Network([1, 1], (), name, dtype=d, **parameter) for d in ("float64", "float32"))
        J, grad = wide.cost_and_gradient(params, X, [[y]])
        found, rounded = narrow.cost_and_gradient(params, X, [[y]])
        assert found == pytest.approx(J, rel=1e-6)
        np.testing.assert_allclose(rounded, grad, rtol=1e-5)
    with pytest.raises(ValueError, match="gamma must be in the range of float32, got 1e"):
        bpcore.Network([1, 1], (), "focal", dtype="float32", gamma=1e39)


def test_a_mean_that_is_right_costs_no_precision(backend, dtype):
    """However small the variance: 0 times infinity is 0 there."""
    net = bpcore.Network([1, 2], (), "gaussian_nll", dtype=dtype)
    J, grad = net.cost_and_gradient(np.array([0, 0, 2, -800], dtype), np.ones((1, 1), dtype), np.full((1, 1), 2, dtype))
    assert J == -400
    np.testing.assert_array_equal(grad, np.array([0, 0.5, 0, 0.5], dtype))
