"""What the compiled core refuses by itself; a build without one has none of these tests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import dispatch

import bpcore

COMPILED = [name for name in bpcore.available_backends() if name != "python"]


@pytest.mark.parametrize("bad", [3, -1, 2**40, -(2**40)])
@pytest.mark.parametrize("name", COMPILED)
def test_a_label_out_of_range_in_the_core_is_nan(name, dtype, bad):
    """Labels may be changed by another thread after they were checked: NaN, and no crash."""
    core = dispatch.load(name)
    plan = core.Plan((2, 3), ("softmax",), "cross_entropy", np.dtype(dtype))
    for rows in (1, 7):
        labels, sums = np.zeros(rows, np.int64), np.zeros(9, dtype)
        labels[-1] = bad
        X, params = np.ones((rows, 2), dtype), np.zeros(9, dtype)
        assert np.isnan(core.loss(plan, params, (X, labels, None, 0.0)))
        assert np.isnan(core.accumulate(plan, params, (X, labels, None, 0.0), sums))
        assert np.isnan(sums).any()


@pytest.mark.parametrize("name", COMPILED)
def test_sizes_that_no_memory_holds_are_refused_by_the_core(name, dtype):
    """Network refuses them, too, but the core does not lean on it."""
    core = dispatch.load(name)
    for sizes in ((1 << 40, 1 << 40), (1, 1 << 58), (1 << 58, 1), (3, 1 << 30, 1 << 31, 2)):
        with pytest.raises(ValueError, match="sizes must fit into memory"):
            core.Plan(sizes, ("tanh",) * (len(sizes) - 1), "squared_error", np.dtype(dtype))


def arguments(core, dtype):
    """Right arguments of each function of the interface that takes arrays, and the places of those that it fills."""
    plan, m = core.Plan((2, 3, 1), ("tanh", "identity"), "squared_error", np.dtype(dtype)), 4
    params, sums = np.ones(13, dtype), np.zeros(13, dtype)
    X, Y, out = np.ones((m, 2), dtype), np.ones((m, 1), dtype), np.zeros((m, 1), dtype)
    hidden, dX, wide = np.zeros((m, 3), dtype), np.zeros((m, 2), dtype), np.zeros(m * 13, dtype)
    batch = X, Y, np.ones(m, dtype), 0.0
    two, X_of_two, outputs = np.ones((2, 13), dtype), np.ones((2, m, 2), dtype), np.zeros((2, m, 1), dtype)
    return {
        "forward": ([plan, params, X, out], [3]),
        "forward_population": ([plan, two, X_of_two, outputs], [3]),
        "population_costs": ([plan, two, (X_of_two, outputs, batch[2], 0.0), 4.0, 0.1, np.zeros(2)], [5]),
        "trace": ([plan, params, X], []),
        "backward": ([plan, params, (X, Y, False, dX, None, 0), sums], [3]),
        "deltas": ([plan, params, (X, Y, False, None, None, 0), [hidden, out]], [3]),
        "gradient_norms": ([plan, params, batch, np.zeros(m, dtype)], [3]),
        "row_gradients": ([plan, params, batch, wide], [3]),
        "jacobian": ([plan, params, X, wide.copy()], [3]),
        "input_jacobian": ([plan, params, X, np.zeros(m * 2, dtype)], [3]),
        "jvp": ([plan, params, X, (np.ones(13, dtype), dX), (out, np.zeros((m, 1), dtype))], [4]),
        "accumulate": ([plan, params, batch, sums], [3]),
        "loss": ([plan, params, batch], []),
        "finish": ([plan, params, sums.astype("float64"), 4.0, 0.0, np.zeros(13, dtype)], [5]),
        "cost": ([plan, params, 1.0, 4.0, 0.1], []),
        "train_batches": (
            [
                *(plan, params, batch, (np.arange(m), 0, 2, 10, 1e9, 1, 0.0), 1.0, 0.0),
                (SimpleNamespace(steps=0), (0.9, False), (np.zeros(13, dtype),), 0.1, np.zeros(13, dtype)),
            ],
            [1, 6],
        ),
        "gradient_descent_step": ([params, sums, np.zeros(13, dtype), 0.1, 0.9, False], [0, 2]),
        "adam_step": ([params, sums, (np.zeros(13, dtype), np.zeros(13, dtype)), (0.9, 0.999, 1e-8), 0.1, 1], [0]),
    }


def spoiled(array, written):
    """The array as none of these functions may take it."""
    yield array[:-1]
    yield array.astype("int32")
    yield array.astype("float32" if array.dtype == np.float64 else "float64")
    yield np.repeat(array, 2, axis=0)[::2]
    yield array[..., np.newaxis]
    yield None
    if written:
        array = array.copy()
        array.flags.writeable = False
        yield array


@pytest.mark.parametrize("function", list(arguments(dispatch.load("python"), "float64")))
@pytest.mark.parametrize("name", COMPILED)
def test_the_core_refuses_arrays_that_do_not_fit(name, dtype, function):
    """bpcore never passes such arrays; a mistake of its own would be an error, not a crash or a wrong result."""
    core = dispatch.load(name)
    right, written = arguments(core, dtype)[function]
    getattr(core, function)(*right)
    for i, value in enumerate(right):
        pieces = value if isinstance(value, (list, tuple)) else [value]
        for j, array in enumerate(pieces):
            if not isinstance(array, np.ndarray):
                continue
            for bad in spoiled(array, i in written):
                if bad is None and (function, i, j) in {
                    *(("backward", 2, 3), ("gradient_descent_step", 2, 0), ("train_batches", 3, 0)),
                    *((call, 2, 2) for call in ("accumulate", "loss", "train_batches", "population_costs")),
                    *((call, 2, 2) for call in ("gradient_norms", "row_gradients")),
                    *(("jvp", 3, 0), ("jvp", 3, 1)),
                }:
                    continue  # optional
                if pieces is right[2] and j == 2 and np.shape(bad) == (4, 1):
                    continue  # weights of the one output
                if function == "trace" and i == 2 and np.shape(bad) == (3, 2):
                    continue  # any number of rows is right
                if function == "finish" and i == 2 and getattr(bad, "dtype", None) == np.float32:
                    continue  # sums may be of either type
                changed = list(right)
                changed[i] = type(value)([*pieces[:j], bad, *pieces[j + 1 :]]) if pieces is value else bad
                with pytest.raises((TypeError, ValueError, BufferError, AttributeError)):
                    getattr(core, function)(*changed)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (3, (np.array([0, 1, 2, 4]), 0, 2, 10, 1e9, 1, 0.0)),  # a row that X does not have
        (3, (np.array([0, 1, 2, -1]), 0, 2, 10, 1e9, 1, 0.0)),
        (3, (None, 0, 0, 10, 1e9, 1, 0.0)),  # no rows in a batch
        (3, (None, -1, 2, 10, 1e9, 1, 0.0)),
        (6, (SimpleNamespace(steps=0), (0.9, False), (np.zeros(12),), 0.1, np.zeros(13))),
        (6, (SimpleNamespace(steps=0), (0.9, False), (np.zeros(13),) * 3, 0.1, np.zeros(13))),
        (6, (SimpleNamespace(steps=0), (0.9, 0.99, 1e-8), (np.zeros(13),), 0.1, np.zeros(13))),
    ],
)
@pytest.mark.parametrize("name", COMPILED)
def test_the_core_refuses_to_train_on_what_does_not_fit(name, place, value):
    core = dispatch.load(name)
    right, _ = arguments(core, "float64")["train_batches"]
    right[place] = value
    with pytest.raises(ValueError, match=r"\w"):
        core.train_batches(*right)


@pytest.mark.parametrize("name", COMPILED)
def test_the_order_of_the_rows_is_checked_as_far_as_a_call_goes(name):
    """The rest is of later calls: one of one step that looked at all of it would make an epoch quadratic."""
    core = dispatch.load(name)
    right, _ = arguments(core, "float64")["train_batches"]
    for place in range(4):
        order = np.arange(4)
        order[place] = 4
        for first, steps in ((0, 1), (0, 2), (1, 1), (2, 1), (2, 10)):
            right[3] = order, first, 2, steps, 1e9, 1, 0.0
            if first <= place < first + 2 * steps:
                with pytest.raises(ValueError, match="order must be of rows of X"):
                    core.train_batches(*right)
            else:
                assert core.train_batches(*right)[0] == min(first + 2 * steps, 4)


@pytest.mark.parametrize(
    "heads",
    [
        (("huber", 2, "identity", 1.0, 1.0), ("huber", 2, "identity", 1.0, 1.0)),  # of three outputs
        (("huber", 3, "identity", 0.0, 1.0),),
        (("huber", 3, "identity", 1.0, 0.0),),
        (("poisson", 3, "identity", None, 1.0),),
        (("squared_error", 3, "identity", 1.0, 1.0),),
        (("gaussian_nll", 3, "identity", None, 1.0),),
        (("huber", 4, "identity", 1.0, 1.0), ("huber", -1, "identity", 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("name", COMPILED)
def test_the_core_refuses_heads_that_do_not_fit(name, heads):
    core = dispatch.load(name)
    with pytest.raises(ValueError, match="head"):
        core.Plan((2, 3), ("",), heads, np.dtype("float64"))
    core.Plan((2, 3), ("",), (("huber", 3, "tanh", 1.0, 0.5),), np.dtype("float64"))


def test_layouts_are_counted():
    widths, none = np.array([1, 2, 600]), np.array([], np.int64)
    core = dispatch.load(COMPILED[-1])
    for name in ("avx512", "scalar"):
        assert core.check_layouts(widths, widths, none, np.dtype("float32"), name) == 9
        assert core.check_layouts(widths, widths, widths, np.dtype("float64"), name) == 27


@pytest.mark.parametrize("name", COMPILED)
def test_the_loop_of_multiply_adds_counts_its_operations(name):
    core = dispatch.load(name)
    assert core.fma_loop(2, True) == 2 * core.fma_loop(1, True) == 4 * core.fma_loop(1, False)
