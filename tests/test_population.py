"""Outputs and costs of many networks at once: the bits of calls of their own, whatever the arrays and the threads."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from helpers import array_variants, make_data, make_parameters

import bpcore
from bpcore import _chunks, _population, _validation

pytestmark = pytest.mark.usefixtures("backend")

#: Sizes, loss and rows: fewer than are packed, more than a tile, several chunks.
CASES = [
    ([2, 8, 1], "squared_error", 1),
    ([3, 5, 1], "binary_cross_entropy", 4),
    ([4, 6, 3], "cross_entropy", 7),
    ([4, 32, 32, 2], "huber", 33),
    ([5, 3], "poisson", 300),
    ([40, 70, 3], "cross_entropy", 2100),
]


def make_population(net, count, rng):
    return np.stack([make_parameters(net, rng) for _ in range(count)])


def stacked_data(net, count, rows, rng):
    """X and Y for each network, and weights for all."""
    X, Y, weights = make_data(net.sizes, net.loss, net.dtype, count * rows, rng)
    return X.reshape(count, rows, -1), Y.reshape(count, rows, -1), weights[:rows]


def one_by_one(net, params, X, Y, *how, **named):
    """The outputs and costs of calls of their own, for X and Y of each network."""
    outputs = [net.forward(p, x) for p, x in zip(params, X)]
    costs = [net.cost(p, x, y, *how, **named) for p, x, y in zip(params, X, Y)]
    return np.stack(outputs), np.array(costs)


def assert_same(found, expected):
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize(("sizes", "loss", "rows"), CASES)
def test_the_bits_of_single_calls(dtype, sizes, loss, rows, rng):
    net, count = bpcore.Network(sizes, "tanh", loss, dtype=dtype), 5
    params = make_population(net, count, rng)
    X, Y, weights = stacked_data(net, count, rows, rng)
    of_outputs = rng.choice([0.0, 0.5, 2.0], (rows, sizes[-1])).astype(dtype)
    of_outputs[0] = 1
    for how in ((), (0.1,), (0.1, weights), (0.0, of_outputs)):
        expected = one_by_one(net, params, X, Y, *how)
        assert_same((net.forward(params, X), net.cost(params, X, Y, *how)), expected)
        expected = one_by_one(net, params, [X[0]] * count, [Y[0]] * count, *how)
        assert_same((net.forward(params, X[0]), net.cost(params, X[0], Y[0], *how)), expected)
        expected = one_by_one(net, params, X, [Y[0]] * count, *how)
        assert_same((net.forward(params, X), net.cost(params, X, Y[0], *how)), expected)


@pytest.mark.parametrize("signed", [True, np.True_])
def test_signed_weights(dtype, signed, rng):
    net = bpcore.Network([4, 6, 3], loss="cross_entropy", dtype=dtype)
    params = make_population(net, 4, rng)
    X, Y, _ = stacked_data(net, 4, 9, rng)
    weights = rng.normal(size=9).astype(dtype)
    _, expected = one_by_one(net, params, X, Y, 0.1, weights, signed=True)
    assert_same([net.cost(params, X, Y, 0.1, weights, signed=signed)], [expected])


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_labels(dtype, kind, rng):
    """Integers with two axes are labels of each network if X has rows of each, whatever the numbers of rows."""
    for rows in (3, 8):
        net = bpcore.Network([4, 6, 3], loss="cross_entropy", dtype=dtype)
        params = make_population(net, 3, rng)
        X, _, weights = stacked_data(net, 3, rows, rng)
        labels = rng.integers(0, 3, (3, rows)).astype(kind)
        for weight in (None, weights, np.abs(rng.normal(size=(rows, 3))).astype(dtype)):
            _, expected = one_by_one(net, params, X, labels, 0.0, weight)
            assert_same([net.cost(params, X, labels, 0.0, weight)], [expected])
            _, expected = one_by_one(net, params, X, [labels[0]] * 3, 0.0, weight)
            assert_same([net.cost(params, X, labels[0], 0.0, weight)], [expected])
        ones = np.eye(3, dtype=kind)[labels]
        assert_same([net.cost(params, X, ones)], [one_by_one(net, params, X, ones)[1]])
        same = [X[0]] * 3, [ones[0]] * 3
        assert_same([net.cost(params, X[0], ones[0])], [one_by_one(net, params, *same)[1]])


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "poisson"])
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_a_flat_target_for_one_output(dtype, loss, rows, rng):
    net = bpcore.Network([2, 4, 1], loss=loss, dtype=dtype)
    params = make_population(net, 4, rng)
    X, Y, _ = stacked_data(net, 4, rows, rng)
    expected = one_by_one(net, params, X, Y)[1]
    for y in (Y, Y[..., 0], Y[..., 0].astype("float64")):
        assert_same([net.cost(params, X, y)], [expected])
    expected = one_by_one(net, params, X, [Y[0]] * 4)[1]
    for y in (Y[0], Y[0, :, 0], Y[0].tolist(), Y[0, :, 0].tolist()):
        assert_same([net.cost(params, X, y)], [expected])


@pytest.mark.parametrize(("sizes", "loss", "rows"), CASES)
def test_same_bits_for_any_number_of_threads(dtype, sizes, loss, rows, rng):
    """As the backend computes them, however little the work is."""
    net, count = bpcore.Network(sizes, "gelu", loss, dtype=dtype), 70 if rows < 100 else 5
    params = make_population(net, count, rng)
    X, Y, _ = stacked_data(net, count, rows, rng)
    expected = one_by_one(net, params, X, Y, 0.1)
    for threads in (2, 3, 7):
        found = np.zeros((count, rows, sizes[-1]), dtype), np.zeros(count)
        net._core.forward_population(net._plan, params, X, found[0], threads)
        net._core.population_costs(net._plan, params, (X, Y, None, 0.0), float(rows), 0.1, found[1], threads)
        assert_same(found, expected)


@pytest.mark.parametrize("limit", [1 << 22, 3000, 1], ids=["a block", "some networks", "one by one"])
def test_layouts_and_dtypes(dtype, limit, rng, tmp_path, monkeypatch):
    """Converted together, some networks at a time, or each by itself."""
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", limit)
    monkeypatch.setattr(_validation, "MIN_DROP_BYTES", 1)  # every memory map is a large one
    net, count, rows = bpcore.Network([4, 6, 2], "tanh", dtype=dtype), 9, 11
    params = make_population(net, count, rng).astype("float32")
    X, Y, weights = (array.astype("float32") for array in stacked_data(net, count, rows, rng))
    as_it_is = [array.astype(dtype) for array in (params, X, Y, weights)]
    expected = one_by_one(net, *as_it_is[:3], 0.1, as_it_is[3])
    of_all = one_by_one(net, as_it_is[0], [as_it_is[1][0]] * count, [as_it_is[2][0]] * count, 0.1, as_it_is[3])
    other = np.dtype("float32" if dtype == "float64" else "float64")
    matrices, tensors = array_variants(params, tmp_path), {}
    for name, x in array_variants(X.reshape(-1, 4), tmp_path).items():
        tensors[name] = x if isinstance(x, list) else x.reshape(X.shape)
    tensors["list"], tensors["Fortran"] = X.tolist(), np.asfortranarray(X)
    for name in [*matrices, "other"]:
        p = matrices.get(name, params.astype(other))
        x = tensors.get(name, X.astype(other))
        y, w = Y.astype(other), weights.astype(other)
        assert_same((net.forward(p, x), net.cost(p, x, y, 0.1, w)), expected)
        first = X[0] if name != "Fortran" else np.asfortranarray(X[0])
        assert_same((net.forward(p, first), net.cost(p, first, y[0], 0.1, w)), of_all)


@pytest.mark.parametrize("limit", [1000, 1], ids=["some networks", "one by one"])
def test_labels_are_converted_with_their_networks(dtype, limit, rng, monkeypatch):
    net = bpcore.Network([4, 6, 3], loss="cross_entropy", dtype=dtype)
    params = make_population(net, 9, rng)
    X, labels = rng.normal(size=(9, 5, 4)).astype(dtype), rng.integers(0, 3, (9, 5), dtype=np.int32)
    expected = one_by_one(net, params, X, labels)[1], one_by_one(net, params, X, [labels[0]] * 9)[1]
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", limit)
    assert_same((net.cost(params, X, labels), net.cost(params, X, labels[0])), expected)


def test_rows_of_all_are_not_copied_at_once():
    net = bpcore.Network([40, 1], dtype="float32")
    params, X, Y = np.zeros((2, 41), "float32"), np.ones((100_000, 40)), np.ones((100_000, 1))
    tracemalloc.start()
    try:
        net.forward(params, X, threads=1)
        net.cost(params, X, Y, threads=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * _chunks.BLOCK_BYTES < X.nbytes / 2


def test_memory_is_that_of_the_result_and_a_block():
    net = bpcore.Network([8, 128, 1], dtype="float32")
    params, X = np.zeros((5000, net.n_parameters)), np.ones((5000, 16, 8))
    Y = np.ones((16, 1))
    tracemalloc.start()
    try:
        net.forward(params, X, threads=1)
        net.cost(params, X, Y, threads=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * _chunks.BLOCK_BYTES < params.nbytes / 4  # the next block is made while the last is there


def test_one_call_or_one_after_the_other(monkeypatch):
    """Large networks, and few for many threads, are computed by all threads."""
    net = bpcore.Network([40, 600, 300], dtype="float32")
    serial = 3 * _chunks.serial_rows(net._plan)

    def in_one_call(count, rows, threads):
        shape = count, net.n_parameters
        params = np.broadcast_to(np.zeros(1, "float32"), shape)
        X = np.broadcast_to(np.zeros(1, "float32"), (rows, 40))
        sources = [_population.Source(array, net.dtype, array is params) for array in (params, X)]
        monkeypatch.setattr(_population.Source, "is_read_in_place", True)
        return _population._in_one_call(net._plan, sources, rows, threads)

    assert in_one_call(1, 10**6, 1)
    assert in_one_call(2, serial, 8)
    assert not in_one_call(2, serial + 1, 2)
    assert in_one_call(8, serial + 1, 2)
    assert in_one_call(8, _population.MAX_SERIAL * serial, 2)
    assert not in_one_call(8, _population.MAX_SERIAL * serial + 1, 2)
    assert in_one_call(8, _population.MAX_SERIAL * serial + 1, 1)
    assert not in_one_call(1, 10**6, None) or _chunks.n_threads(net._plan, 10**6, None, 1) == 1


@pytest.mark.parametrize("threads", [1, 2, None])
def test_few_networks_of_many_rows(dtype, threads, rng):
    net = bpcore.Network([20, 100, 3], "relu", "cross_entropy", dtype=dtype)
    params = make_population(net, 3, rng)
    X, Y = rng.normal(size=(5000, 20)).astype(dtype), rng.integers(0, 3, 5000)
    expected = one_by_one(net, params, [X] * 3, [Y] * 3, threads=1)
    found = net.forward(params, X, threads=threads), net.cost(params, X, Y, threads=threads)
    assert_same(found, expected)


def test_one_network_and_none(dtype, rng):
    net = bpcore.Network([2, 8, 1], dtype=dtype)
    params, X, Y = net.initialize(0), np.ones((3, 2), dtype), np.ones((3, 1), dtype)
    assert_same([net.forward(params[np.newaxis], X)], [net.forward(params, X)[np.newaxis]])
    assert_same([net.cost(params[np.newaxis], X, Y)], [np.array([net.cost(params, X, Y)])])
    none = np.zeros((0, net.n_parameters), dtype)
    for x, y in ((X, Y), (np.zeros((0, 3, 2)), Y), (np.zeros((0, 3, 2)), np.zeros((0, 3, 1)))):
        assert_same([net.forward(none, x)], [np.zeros((0, 3, 1), dtype)])
        assert_same([net.cost(none, x, y)], [np.zeros(0)])
    assert_same([net.forward(np.stack([params] * 4), X[:0])], [np.zeros((4, 0, 1), dtype)])


def test_out(dtype, rng):
    net = bpcore.Network([2, 8, 3], dtype=dtype)
    params, X = make_population(net, 4, rng), rng.normal(size=(5, 2)).astype(dtype)
    expected = net.forward(params, X)
    for p in (params, np.asfortranarray(params)):
        out = np.zeros((4, 5, 3), dtype)
        assert net.forward(p, X, out) is out
        np.testing.assert_array_equal(out, expected)
    for bad in (np.zeros((5, 3), dtype), np.zeros((4, 3, 5), dtype), np.zeros((4, 5, 3), "int64"), out[:, :, ::-1]):
        with pytest.raises(ValueError, match="out must"):
            net.forward(params, X, bad)
    memory = np.zeros(4 * 5 * 3 + 10, dtype)
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        net.forward(params, memory[:10].reshape(5, 2), memory[:60].reshape(4, 5, 3))


def test_rows_without_weight_are_left_out(dtype, rng):
    """NaN, and labels out of range, in those of each network."""
    net = bpcore.Network([4, 6, 3], loss="cross_entropy", dtype=dtype)
    params = make_population(net, 3, rng)
    X, labels = rng.normal(size=(3, 5, 4)).astype(dtype), rng.integers(0, 3, (3, 5))
    weights = np.array([1, 0, 2, 1, 1], dtype)
    expected = net.cost(params, X[:, weights > 0], labels[:, weights > 0], 0.0, weights[weights > 0])
    X[:, 1], labels[:, 1] = np.nan, 7
    np.testing.assert_allclose(net.cost(params, X, labels, 0.0, weights), expected, rtol=1e-6)


ERRORS = [
    ("params", np.zeros((4, 44)), ValueError, r"params must have shape \(43,\) or \(networks, 43\), got \(4, 44\)"),
    ("params", np.zeros((4, 1, 43)), ValueError, r"params must have shape \(43,\), got \(4, 1, 43\)"),
    ("params", np.zeros((4, 43), complex), TypeError, "params must hold real numbers"),
    ("X", np.zeros((10, 3)), ValueError, "X has 3 columns, but the network has 4 inputs"),
    ("X", np.zeros((4, 10, 3)), ValueError, "X has 3 columns, but the network has 4 inputs"),
    ("X", np.zeros((5, 10, 4)), ValueError, "X has rows for 5 networks, but params has 4"),
    ("X", np.zeros(4), ValueError, r"X must have shape \(rows, 4\) or \(4, rows, 4\), got \(4,\)"),
    ("X", np.ma.masked_array(np.zeros((4, 10, 4)), True), TypeError, "X must not be a masked array"),
]
ERRORS_OF_COSTS = [
    ("X", np.zeros((4, 0, 4)), ValueError, "Y has 10 rows, but X has 0"),
    ("Y", np.zeros((10, 2)), ValueError, r"Y must have shape \(10, 3\), got \(10, 2\)"),
    ("Y", np.zeros((9, 3)), ValueError, "Y has 9 rows, but X has 10"),
    (
        "Y",
        np.zeros((5, 10, 3)),
        ValueError,
        r"Y must have shape \(4, 10, 3\), or be for all networks, got \(5, 10, 3\)",
    ),
    ("Y", np.zeros((4, 10)), ValueError, r"Y must have shape \(10, 3\), got \(4, 10\)"),
    ("Y", np.zeros((4, 10, 3), complex), TypeError, "Y must hold real numbers"),
    (
        "sample_weight",
        np.ones((4, 10)),
        ValueError,
        r"sample_weight must have shape \(10,\) or \(10, 3\), got \(4, 10\)",
    ),
    ("sample_weight", -np.ones(10), ValueError, "sample_weight must be finite and >= 0"),
    ("sample_weight", np.zeros(10), ValueError, "the sum of sample_weight must be > 0"),
    ("l2", -1.0, ValueError, "l2 must be finite and >= 0"),
    ("threads", 0, ValueError, "threads must be >= 1, got 0"),
    ("signed", 1, TypeError, "signed must be True or False, got 1"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), ERRORS + ERRORS_OF_COSTS)
def test_what_is_refused(name, value, error, message):
    net = bpcore.Network([4, 5, 3], "tanh")
    right = {"params": np.zeros((4, 43)), "X": np.zeros((4, 10, 4)), "Y": np.zeros((10, 3)), name: value}
    with pytest.raises(error, match=message):
        net.cost(**right)
    if any(value is case[1] for case in ERRORS):
        with pytest.raises(error, match=message):
            net.forward(right["params"], right["X"])


@pytest.mark.parametrize(
    ("loss", "X", "Y", "error", "message"),
    [
        ("squared_error", (10, 4), np.zeros((4, 10, 3)), ValueError, r"Y must have shape \(10, 3\), got \(4, 10, 3\)"),
        (
            "cross_entropy",
            (4, 10, 4),
            np.full((4, 10), 3),
            ValueError,
            r"labels must be from 0 to 2, got Y\[0\]\[0\] = 3",
        ),
        ("cross_entropy", (4, 10, 4), np.full(10, 3), ValueError, r"labels must be from 0 to 2, got Y\[0\] = 3"),
        ("cross_entropy", (4, 10, 4), np.eye(3, dtype=int)[[0] * 10], ValueError, r"integer labels of shape \(4, 10\)"),
        ("cross_entropy", (4, 10, 4), np.zeros((4, 10)), ValueError, r"Y must have shape \(10, 3\)"),
        ("cross_entropy", (10, 4), np.zeros((4, 10), int), ValueError, r"Y must have shape \(10, 3\)"),
        ("cross_entropy", (4, 10, 4), np.zeros(10), TypeError, "Y must hold integer labels"),
        ("poisson", (4, 10, 4), -np.eye(10, 3) * np.ones((4, 1, 1)), ValueError, r">= 0, got Y\[0\]\[0, 0\] = -1"),
        ("squared_error", (4, 0, 4), np.zeros((4, 0, 3)), ValueError, "X must have at least one row, got 0"),
    ],
)
def test_targets_refused(loss, X, Y, error, message):
    net = bpcore.Network([4, 5, 3], "tanh", loss)
    with pytest.raises(error, match=message):
        net.cost(np.zeros((4, 43)), np.zeros(X), Y)


def test_the_gradient_is_of_one_network():
    net = bpcore.Network([4, 5, 3])
    with pytest.raises(ValueError, match=r"params must have shape \(43,\), got \(4, 43\)"):
        net.cost_and_gradient(np.zeros((4, 43)), np.zeros((2, 4)), np.zeros((2, 3)))
