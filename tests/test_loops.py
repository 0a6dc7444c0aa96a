"""What the loops make of infinity and NaN, what they read, and where their pointers go.

A tile, a chunk and a group of chunks each have their own pointers into X, Y and the weights, and each adds to sums that
something else has begun. So the last tests have rows for several of them, no two of which are alike: many rows at once
are what the rows are one by one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import dispatch, make_data, make_parameters, outputs_for

import bpcore
from bpcore import fallback
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT

# -------------------------------------------------------------------------------------------------- limits and kinks

#: g(inf), g(-inf), g'(inf) and g'(-inf).
LIMITS = {
    "identity": (np.inf, -np.inf, 1, 1),
    "sigmoid": (1, 0, 0, 0),
    "tanh": (1, -1, 0, 0),
    "relu": (np.inf, 0, 1, 0),
    "leaky_relu": (np.inf, -np.inf, 1, 0.01),
    "elu": (np.inf, -1, 1, 0),
    "softplus": (np.inf, 0, 1, 0),
    "silu": (np.inf, 0, 1, 0),
    "gelu": (np.inf, 0, 1, 0),
}


@pytest.mark.parametrize("hidden", ACTIVATIONS)
@pytest.mark.parametrize("rows", [2, 20])
def test_activations_and_derivatives_at_infinity(backend, dtype, hidden, rows):
    net = bpcore.Network([1, 1, 1], hidden, dtype=dtype)
    X = np.resize(np.array([np.inf, -np.inf], dtype), (rows, 1))
    trace = net.trace(np.array([1, 0, 1, 0], dtype), X)
    _, derivatives = trace.backward(np.ones((rows, 1), dtype), input_gradient=True)
    expected = np.array(LIMITS[hidden], dtype)
    for i in range(rows):
        assert trace.activations[1][i, 0] == expected[i % 2]
        assert derivatives[i, 0] == expected[2 + i % 2]


@pytest.mark.parametrize("n", [2, 15, 16, 17, 19, 20, 33, 40])
@pytest.mark.parametrize("level", [-1e4, -300.0, 1e4])
def test_softmax_of_logits_that_are_all_far_from_zero(backend, dtype, n, level):
    """They are equal, so each output is 1/n; behind a row there may be anything, such as 0."""
    net = bpcore.Network([1, n], (), "cross_entropy", dtype=dtype)
    params = np.concatenate([np.zeros(n), np.full(n, level)]).astype(dtype)
    eps = 8 * float(np.finfo(dtype).eps)
    for rows in (1, 9):
        X = np.zeros((rows, 1), dtype)
        np.testing.assert_allclose(net.forward(params, X), 1 / n, rtol=eps)
        for Y in (np.full(rows, n - 1), np.eye(n, dtype=dtype)[[n - 1] * rows]):
            cost, grad = net.cost_and_gradient(params, X, Y)
            assert cost == pytest.approx(np.log(n), rel=eps)
            np.testing.assert_allclose(grad[n:], np.full(n, 1 / n) - np.eye(n)[n - 1], rtol=2 * eps)


@pytest.mark.parametrize("n", [2, 5, 16, 17, 24, 33, 40])
def test_softmax_of_one_logit_far_above_the_others(backend, dtype, n):
    """Wherever it stands in a row, it is taken off: with any other, the exponential would be infinite."""
    for top in range(n):
        net = bpcore.Network([1, n], (), "cross_entropy", dtype=dtype)
        one = np.eye(n, dtype=dtype)[top]
        params = np.concatenate([np.zeros(n, dtype), 1e4 * one]).astype(dtype)
        np.testing.assert_array_equal(net.forward(params, np.zeros((1, 1), dtype))[0], one)
        cost, grad = net.cost_and_gradient(params, np.zeros((1, 1), dtype), np.array([top]))
        assert cost == 0
        assert not grad.any()


@pytest.mark.parametrize("n", [3, 20])
@pytest.mark.parametrize("rows", [1, 9])
def test_an_infinite_logit_of_a_target_0_costs_nothing(backend, dtype, n, rows):
    """Two classes share the probability, the others have none, and 0 times infinity is not looked at."""
    net = bpcore.Network([1, n], (), "cross_entropy", dtype=dtype)
    two = np.arange(n) < 2
    params = np.r_[np.zeros(n), np.where(two, 0.0, -np.inf)].astype(dtype)
    for Y, y in ((np.ones(rows, np.int64), np.eye(n)[1]), (np.tile(two / 2, (rows, 1)).astype(dtype), two / 2)):
        cost, grad = net.cost_and_gradient(params, np.zeros((rows, 1), dtype), Y)
        assert cost == pytest.approx(np.log(2), rel=1e-6)
        np.testing.assert_allclose(grad[n:], two / 2 - y, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("rows", [1, 9])
def test_nan_stays_in_a_row_of_one_class(backend, dtype, loss, rows):
    """Its delta is minus the sum of no others, which is 0 of a number alone."""
    net = bpcore.Network([1, 1], (), loss, "softmax", dtype=dtype)
    X, Y = np.zeros((rows, 1), dtype), np.ones((rows, 1), dtype)
    X[-1] = np.nan
    for targets in (Y, np.zeros(rows, np.int64)) if loss == "cross_entropy" else (Y,):
        cost, grad = net.cost_and_gradient(np.zeros(2, dtype), X, targets)
        assert np.isnan(cost)
        assert np.isnan(grad).all()
        if rows > 1:
            assert not net.cost_and_gradient(np.zeros(2, dtype), X[:-1], targets[:-1])[1].any()


@pytest.mark.parametrize("chunk_range", [(9, 3, 0, 2), (5, 1, 0, 1), (15, 2, 1, 2), (6, 5, 0, 5)])
def test_a_range_of_chunks_of_other_rows_is_refused_by_the_core(backend, dtype, chunk_range):
    core = dispatch.load(backend)
    plan, X = core.Plan((2, 1), ("identity",), "squared_error", np.dtype(dtype)), np.ones((7, 2), dtype)
    params, sums, Y = np.zeros(3, dtype), np.zeros(3, dtype), np.ones((7, 1), dtype)
    core.accumulate(plan, params, (X, Y, None, 0.0), sums, None, (14, 2, 0, 1))  # the first half of 14 rows
    with pytest.raises(ValueError, match="chunk_range does not fit"):
        core.accumulate(plan, params, (X, Y, None, 0.0), sums, None, chunk_range)


# ------------------------------------------------------------------------------------------- nothing is read outside

FENCE = """
import ctypes, itertools, mmap, sys
import numpy as np
import bpcore
from helpers import make_data

libc = ctypes.CDLL(None, use_errno=True)
pages = []

def fenced(array):
    '''A copy that ends where the next page may be neither read nor written.'''
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    pages.append(memory)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    assert libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy

rng = np.random.default_rng(0)
losses = ["squared_error", "huber", "absolute_error", "binary_cross_entropy", "poisson", "cross_entropy"]
for loss, dtype, n_in, n_out, rows in itertools.product(
    losses, ["float64", "float32"], [1, 3, 9, 34], [1, 2, 3, 5, 17], [1, 3, 6, 23]
):
    print(loss, dtype, n_in, n_out, rows, flush=True)
    net = bpcore.Network([n_in, 7, n_out], "tanh", loss, dtype=dtype)
    X, Y, weights = map(fenced, make_data(net.sizes, loss, dtype, rows, rng))
    labels = fenced(rng.integers(0, n_out, rows))
    params, grad, out = fenced(net.initialize(0)), fenced(np.zeros(net.n_parameters, dtype)), fenced(np.zeros_like(Y))
    net.forward(params, X, out=out)
    for targets in (Y, labels) if loss == "cross_entropy" else (Y,):
        net.cost_and_gradient(params, X, targets, out=grad)
        net.cost_and_gradient(params, X, targets, sample_weight=weights, out=grad)
        net.cost(params, X, targets, sample_weight=weights)
    net.trace(params, X).backward(Y, input_gradient=True)
    bpcore.Adam().step(params, grad)
    for memory in range(len(pages) - 1000):
        pages.pop(0)
bpcore._chunks.THREAD_WORK = 1
bpcore._chunks._dispatch.most_threads = lambda: 64
for dtype, n_in, threads in itertools.product(["float64", "float32"], [515, 523], [2, 3]):
    print(dtype, n_in, threads, "threads", flush=True)
    net = bpcore.Network([n_in, 17, 3], "tanh", "cross_entropy", dtype=dtype)
    X, Y, weights = map(fenced, make_data(net.sizes, "cross_entropy", dtype, 30, rng))
    params, grad, out = fenced(net.initialize(0)), fenced(np.zeros(net.n_parameters, dtype)), fenced(np.zeros_like(Y))
    net.forward(params, X, out=out, threads=threads)
    net.cost_and_gradient(params, X, Y, out=grad, threads=threads)
    net.cost_and_gradient(params, X, Y, sample_weight=weights, out=grad, threads=threads)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are closed by mprotect; not every platform has it")
def test_nothing_is_read_behind_the_arrays(backend):
    """Each array ends before a page that cannot be read: a read or write behind it would end the process."""
    env = os.environ | {"BPCORE_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", FENCE], capture_output=True, text=True, cwd=os.path.dirname(__file__), env=env
    )
    assert (done.returncode, done.stdout[-5:]) == (0, "done\n"), done.stdout[-60:] + done.stderr[-2000:]


# ----------------------------------------------------------------------------------------- pointers into many rows

#: Of the first, two tiles are one chunk; of the second, every chunk is one tile, and eight chunks are one group.
MANY_TILES, MANY_CHUNKS = ([5, 33, 20, 3], 300), ([150, 500, 150], 300)
#: A group and a half of the second.
MANY_GROUPS = 1300


def labelled(loss):
    return [False, True] if loss == "cross_entropy" else [False]


KINDS = [(loss, labels) for loss in CANONICAL_OUTPUT for labels in labelled(loss)]


def make(sizes, rows, loss, labels, dtype, rng):
    """A network, its parameters, and rows with weights, some of which are 0."""
    net = bpcore.Network([*sizes[:-1], outputs_for(loss, sizes[-1])], "tanh", loss, dtype=dtype)
    X, Y, weights = make_data(net.sizes, loss, dtype, rows, rng)
    if labels:
        Y = rng.integers(0, sizes[-1], rows)
    return net, make_parameters(net, rng), X, Y, weights


def one_by_one(net, params, X, Y, weights):
    """The weighted losses and gradients, summed over single rows in float64."""
    losses, sums = 0.0, np.zeros(net.n_parameters)
    for i in range(len(X)):
        if weights[i]:
            cost, grad = net.cost_and_gradient(params, X[i : i + 1], Y[i : i + 1])
            losses += float(weights[i]) * cost
            sums += float(weights[i]) * grad
    return losses, sums


def assert_sums(found, losses, sums, dtype):
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    assert found[0] == pytest.approx(losses, rel=tolerance)
    np.testing.assert_allclose(found[1], sums, rtol=0, atol=tolerance * np.abs(sums).max())


@pytest.mark.parametrize(("loss", "labels"), KINDS)
def test_many_tiles_are_the_sum_of_single_rows(backend, dtype, loss, labels, rng):
    net, params, X, Y, weights = make(*MANY_TILES, loss, labels, dtype, rng)
    rows = len(X)
    singles = [net.cost_and_gradient(params, X[i : i + 1], Y[i : i + 1]) for i in range(rows)]
    costs, grads = np.array([cost for cost, _ in singles]), np.stack([grad for _, grad in singles]).astype(float)
    for w in (weights, np.ones_like(weights), 1 + np.arange(rows, dtype=dtype) / rows):
        losses, sums = w.astype(float) @ costs, w.astype(float) @ grads
        accumulator = net.accumulator()
        accumulator.add(params, X, Y, w)
        assert_sums((accumulator.buffer[0], accumulator.buffer[3:]), losses, sums, dtype)
        assert net.cost(params, X, Y, sample_weight=w) * w.sum(dtype=float) == pytest.approx(losses, rel=1e-4)
    cost, grad = net.cost_and_gradient(params, X, Y)
    assert_sums((cost * rows, grad * rows), costs.sum(), grads.sum(axis=0), dtype)


@pytest.mark.parametrize("tile", [126, 132])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_rows_that_fill_whole_tiles(backend, dtype, tile, tiles, rng):
    """126 rows, which are the most of a tile, rounded up to blocks of 14, 6 or 12: tiles with no room for one more."""
    net, params, X, Y, weights = make(MANY_TILES[0], tile * tiles, "squared_error", False, dtype, rng)
    weights[...] = 1 + np.arange(len(X)) / len(X)
    whole = net.accumulator()
    whole.add(params, X, Y, weights)
    parts, outputs = net.accumulator(), []
    for start in range(0, len(X), 90):
        part = slice(start, start + 90)
        parts.add(params, X[part], Y[part], weights[part])
        outputs.append(net.forward(params, X[part]))
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(net.forward(params, X), np.concatenate(outputs), rtol=tolerance, atol=tolerance)
    assert_sums((whole.buffer[0], whole.buffer[3:]), parts.buffer[0], parts.buffer[3:], dtype)


@pytest.mark.parametrize(("loss", "labels"), [("huber", False), ("cross_entropy", True), ("cross_entropy", False)])
def test_many_chunks_are_the_sum_of_single_rows(backend, dtype, loss, labels, rng):
    net, params, X, Y, weights = make(*MANY_CHUNKS, loss, labels, dtype, rng)
    losses, sums = one_by_one(net, params, X, Y, weights)
    for threads in (1, 2):
        accumulator = net.accumulator()
        accumulator.add(params, X, Y, weights, threads=threads)
        assert_sums((accumulator.buffer[0], accumulator.buffer[3:]), losses, sums, dtype)
        cost = net.cost(params, X, Y, sample_weight=weights, threads=threads)
        assert cost * weights.sum(dtype=float) == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(("loss", "labels"), [("huber", False), ("cross_entropy", True), ("cross_entropy", False)])
def test_many_groups_are_the_sum_of_their_halves(backend, dtype, loss, labels, rng):
    """Rows for more than one group in one call, against two calls of less than one."""
    net, params, X, Y, _ = make(MANY_CHUNKS[0], MANY_GROUPS, loss, labels, dtype, rng)
    assert net._plan.chunk_rows * net._plan.group_size < MANY_GROUPS < 2 * net._plan.chunk_rows * net._plan.group_size
    cost, grad = net.cost_and_gradient(params, X, Y, threads=1)
    halves = [net.cost_and_gradient(params, X[i::2], Y[i::2], threads=1) for i in (0, 1)]
    expected = sum(half[0] for half in halves) / 2, (halves[0][1].astype(float) + halves[1][1]) / 2
    assert_sums((cost, grad), *expected, dtype)


@pytest.mark.parametrize(("loss", "labels"), [("huber", False), ("cross_entropy", True), ("cross_entropy", False)])
@pytest.mark.parametrize("empty", [0, 140], ids=["all", "first tile empty"])
def test_what_is_in_the_sums_does_not_count(backend, dtype, loss, labels, empty, rng):
    """The core overwrites them, also where the first tile has no row of any weight."""
    for sizes, rows in (MANY_TILES, MANY_CHUNKS):
        net, params, X, Y, weights = make(sizes, rows, loss, labels, dtype, rng)
        weights[:empty] = 0
        if sizes == MANY_TILES[0]:
            weights[: 2 * empty] = 0
        losses, sums = one_by_one(net, params, X, Y, weights)
        found = np.full(net.n_parameters, np.nan, dtype)
        for chunk_range in (None, (rows, -(-rows // net._plan.chunk_rows), 0, -(-rows // net._plan.chunk_rows))):
            assert_sums(
                (net._core.accumulate(net._plan, params, (X, Y, weights, 0.0), found, None, chunk_range), found),
                losses,
                sums,
                dtype,
            )
            found[...] = np.nan
        net._core.accumulate(net._plan, params, (X, Y, np.zeros_like(weights), 0.0), found)
        assert not found.any()


@pytest.mark.parametrize(("sizes", "rows"), [MANY_TILES, MANY_CHUNKS], ids=["tiles", "chunks"])
@pytest.mark.parametrize("hidden", ["relu", "gelu"])
def test_a_trace_of_many_rows_is_the_sum_of_single_ones(backend, dtype, sizes, rows, hidden, rng):
    net = bpcore.Network(sizes, hidden, output="sigmoid", dtype=dtype)
    params, X = make_parameters(net, rng), rng.normal(size=(rows, sizes[0])).astype(dtype)
    dA = rng.normal(size=(rows, sizes[-1])).astype(dtype)
    trace = net.trace(params, X)
    grad, dX = trace.backward(dA, input_gradient=True)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    sums = np.zeros(net.n_parameters)
    for i in range(rows):
        single = net.trace(params, X[i : i + 1])
        one, dx = single.backward(dA[i : i + 1], input_gradient=True)
        sums += one
        np.testing.assert_allclose(dX[i], dx[0], rtol=0, atol=tolerance * np.abs(dx).max())
        for many, few in zip(trace.activations, single.activations):
            np.testing.assert_allclose(many[i], few[0], rtol=0, atol=tolerance * np.abs(few).max())
    np.testing.assert_allclose(grad, sums, rtol=0, atol=tolerance * np.abs(sums).max())


def test_backward_of_no_rows_is_zero(backend, dtype):
    net = bpcore.Network([3, 4, 2], "tanh", dtype=dtype)
    X, outputs = np.empty((0, 3), dtype), np.empty((0, 2), dtype)
    params, sums = net.initialize(0), np.full(net.n_parameters, np.nan, dtype)
    kept = net._core.trace(net._plan, params, X)
    for forward_pass in (None, kept):
        net._core.backward(net._plan, params, fallback.Backward(X, outputs, False, X.copy(), forward_pass), sums)
        assert not sums.any()
