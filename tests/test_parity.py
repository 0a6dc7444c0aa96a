"""Every backend gives the results of the reference implementation: values, dtypes and errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import (
    COMBINATIONS,
    FINITE,
    all_results,
    array_variants,
    assert_agree,
    dispatch,
    make_data,
    make_parameters,
    outputs_for,
)

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT

SIZES = [
    [1, 1],
    [3, 1],
    [1, 1, 1, 1],
    [2, 8, 1],
    [5, 7],
    [4, 64, 64, 2],
    [3, 1, 5, 2],
    [17, 33, 9, 3],
    [2, 3, 4, 5, 6, 7, 3],
    [40, 100, 30, 10],
    [33, 17, 2],
    [40, 9, 18],
    [3, 130, 25, 1],
    [512, 9, 3],
    [1024, 30, 2],
]


def compare(args, kwargs, data, dtype, monkeypatch, factor=1.0):
    """All results on the backend of the test against those of the reference implementation."""
    found = all_results(bpcore.Network(*args, **kwargs), *data)
    monkeypatch.setattr(dispatch, "core", dispatch.load("python"))
    expected = all_results(bpcore.Network(*args, **kwargs), *data)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        if isinstance(a, float):
            assert type(b) is float
            a, b = np.float64(a), np.float64(b)
        buffer = a.dtype == np.float64 and dtype == "float32"
        assert_agree(a, b, "float32" if buffer else dtype, factor)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(backend, dtype, sizes, rng, monkeypatch):
    net = bpcore.Network(sizes, "tanh", "squared_error", dtype=dtype)
    data = [make_parameters(net, rng), *make_data(sizes, net.loss, dtype, 101, rng), 0.01]
    compare([sizes, "tanh", "squared_error"], {"dtype": dtype}, data, dtype, monkeypatch)


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_hidden_activations(backend, dtype, hidden, rng, monkeypatch):
    args = [[6, 20, 11, 3], hidden, "squared_error"]
    net = bpcore.Network(*args, dtype=dtype)
    data = [make_parameters(net, rng), *make_data(net.sizes, net.loss, dtype, 70, rng), 0.1]
    compare(args, {"dtype": dtype}, data, dtype, monkeypatch)


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
@pytest.mark.parametrize("n_outputs", [1, 4])
def test_losses_and_outputs(backend, dtype, loss, output, n_outputs, rng, monkeypatch):
    args = [[5, 9, outputs_for(loss, n_outputs)], "elu", loss, output]
    net = bpcore.Network(*args, dtype=dtype)
    data = [make_parameters(net, rng), *make_data(net.sizes, loss, dtype, 50, rng), 0.1]
    compare(args, {"dtype": dtype}, data, dtype, monkeypatch)


@pytest.mark.parametrize("labels", ["int64", "int8", "uint16", ">i4", "bool"])
def test_integer_labels_are_rows_with_a_single_one(backend, dtype, labels, rng, monkeypatch):
    net = bpcore.Network([5, 9, 3], "sigmoid", "cross_entropy", dtype=dtype)
    params = make_parameters(net, rng)
    X, _, weights = make_data(net.sizes, net.loss, dtype, 33, rng)
    Y = rng.integers(0, 2 if labels == "bool" else 3, 33).astype(labels)
    data = [params, X, Y, weights, 0.0]
    compare([net.sizes, "sigmoid", net.loss], {"dtype": dtype}, data, dtype, monkeypatch)
    one_hot = np.eye(3, dtype=dtype)[Y.astype(int)]
    J, grad = net.cost_and_gradient(params, X, Y, sample_weight=weights)
    same_J, same_grad = net.cost_and_gradient(params, X, one_hot, sample_weight=weights)
    assert J == pytest.approx(same_J, rel=1e-6)
    assert_agree(grad, same_grad, dtype)


LAYOUTS = [
    "Fortran", "strided", "reversed", "read-only", "memory map", "big-endian", "unaligned", "longdouble", "list",
    "transposed",
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_bits(backend, dtype, layout, rng, tmp_path):
    net = bpcore.Network([6, 8, 2], "tanh", "squared_error", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 300, rng)
    expected = all_results(net, params, X, Y, weights, 0.1, Y)
    for i, name in enumerate("XYwp"):
        data = [params, X, Y, weights, 0.1, Y]
        if name == "X":
            data[1] = array_variants(X, tmp_path)[layout]
        elif name == "Y":
            data[2] = data[5] = array_variants(Y, tmp_path)[layout]
        else:
            vector = weights if name == "w" else params
            data[3 if name == "w" else 0] = (
                np.ravel(array_variants(vector[:, None], tmp_path)[layout], order="K")
                if (layout != "list")
                else vector.tolist()
            )
        found = all_results(net, *data)
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b, err_msg=f"{layout} {name} {i}")


@pytest.mark.parametrize("given", ["float16", "int8", "uint32", "bool", "float32", "float64"])
def test_other_dtypes_are_cast(backend, dtype, given, rng):
    net = bpcore.Network([6, 8, 2], "tanh", dtype=dtype)
    params = make_parameters(net, rng)
    X, Y = rng.normal(size=(30, 6)) * 3, rng.normal(size=(30, 2)) * 3
    X, Y = (np.abs(a).astype(given) if given == "uint32" else a.astype(given) for a in (X, Y))
    A = net.forward(params, X)
    J, grad = net.cost_and_gradient(params, X, Y)
    assert A.dtype == grad.dtype == np.dtype(dtype)
    same_J, same_grad = net.cost_and_gradient(params, X.astype(dtype), Y.astype(dtype))
    assert same_J == J
    np.testing.assert_array_equal(grad, same_grad)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 127, 128, 129, 513])
def test_numbers_of_rows(backend, dtype, rows, rng, monkeypatch):
    net = bpcore.Network([3, 70, 2], "silu", dtype=dtype)
    params = make_parameters(net, rng)
    X = rng.normal(size=(rows, 3)).astype(dtype)
    Y = rng.normal(size=(rows, 2)).astype(dtype)
    if rows == 0:
        assert net.forward(params, X).shape == (0, 2)
        accumulator = net.accumulator()
        accumulator.add(params, X, Y)
        assert not accumulator.buffer.any()
        grad, dX = net.trace(params, X).backward(Y, input_gradient=True)
        assert not grad.any()
        assert dX.shape == (0, 3)
        for function in (net.cost, net.cost_and_gradient):
            with pytest.raises(ValueError, match="X must have at least one row"):
                function(params, X, Y)
        with pytest.raises(ValueError, match="rows must be added first"):
            accumulator.finish(params)
        return
    compare([[3, 70, 2], "silu"], {"dtype": dtype}, [params, X, Y], dtype, monkeypatch)


def test_every_number_of_rows_and_of_units_in_a_block(backend, dtype, rng, monkeypatch):
    """The kernels hold up to 14 rows in registers, and there is one for each number."""
    for n in range(6, 44):
        args = [[5, n, 3], "relu"]
        net = bpcore.Network(*args, dtype=dtype)
        data = [make_parameters(net, rng), rng.normal(size=(n, 5)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype)]
        with monkeypatch.context() as patch:
            compare(args, {"dtype": dtype}, data, dtype, patch)


@pytest.mark.parametrize("where", ["X", "Y", "params"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "leaky_relu", "elu", "softplus"])
def test_nan_and_infinity_propagate_alike(backend, dtype, where, value, hidden, rng, monkeypatch):
    args = [[3, 4, 2], hidden, "huber"]
    net = bpcore.Network(*args, dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, _ = make_data(net.sizes, net.loss, dtype, 20, rng)
    {"X": X, "Y": Y, "params": params[None]}[where][0, 1] = value
    found = all_results(net, params, X, Y)
    monkeypatch.setattr(dispatch, "core", dispatch.load("python"))
    expected = all_results(bpcore.Network(*args, dtype=dtype), params, X, Y)
    for a, b in zip(found, expected):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        if where == "X" and np.isnan(value):
            assert np.isnan(found[1])
            assert np.isnan(found[0][0]).any()
            assert not np.isnan(found[0][1:]).any()


@pytest.mark.parametrize("logit", [1e4, -1e4, 700.0, -700.0, 88.0, -88.0, 0.0])
@pytest.mark.parametrize("loss", list(CANONICAL_OUTPUT))
def test_large_logits(backend, dtype, loss, logit, monkeypatch):
    """A logit of 1e4 gives a finite cost and gradient, except for exp(1e4), which is not a float."""
    n = outputs_for(loss, 3)
    args = [[1, n], (), loss]
    X = np.array([[1.0], [-1.0], [0.5]], dtype)
    Y = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype)[:, : 2 if loss == "gaussian_nll" else 3]
    Y = Y + 0.5 if loss == "gamma" else Y
    net = bpcore.Network(*args, dtype=dtype)
    params = np.zeros(2 * n, dtype)
    params[[0, 2]] = logit, -logit
    J, grad = net.cost_and_gradient(params, X, Y)
    if loss in FINITE:
        assert np.isfinite(J)
        assert np.isfinite(grad).all()
    dA = np.arange(1, 3 * n + 1, dtype=dtype).reshape(3, n)  # no two alike, whose derivatives would cancel
    compare(args, {"dtype": dtype}, [params, X, Y, None, 0.0, dA], dtype, monkeypatch)


def test_arguments_are_never_changed(backend, dtype, rng):
    for loss, hidden in itertools.product(CANONICAL_OUTPUT, ["relu", "gelu"]):
        net = bpcore.Network([4, 5, outputs_for(loss, 3)], hidden, loss, dtype=dtype)
        params = make_parameters(net, rng)
        data = [params, *make_data(net.sizes, loss, dtype, 25, rng)]
        copies = [a.copy() for a in data]
        for a in data:
            a.flags.writeable = False
        all_results(net, *data, 0.3)
        for a, b in zip(data, copies):
            np.testing.assert_array_equal(a, b)


def test_initialization_has_the_same_bits_on_every_backend(backend, dtype):
    """Drawn by NumPy's generator, whatever computes: compared with the draws themselves."""
    net = bpcore.Network([5, 4, 3], "relu", "cross_entropy", dtype=dtype)
    generator = np.random.default_rng(7)
    first = generator.normal(0.0, np.sqrt(2 / 5), (4, 5))
    second = generator.uniform(-np.sqrt(6 / 7), np.sqrt(6 / 7), (3, 4))
    expected = np.concatenate([first.ravel(), np.zeros(4), second.ravel(), np.zeros(3)]).astype(dtype)
    np.testing.assert_array_equal(net.initialize(7), expected)
    np.testing.assert_array_equal(net.initialize(np.random.default_rng(7)), expected)
    assert (net.initialize(8) != expected).any()
    assert (net.initialize() != net.initialize()).any()
