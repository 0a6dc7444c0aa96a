"""Derivatives row by row, and from output gradients: against differences, one another, and exact sums, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_agree, dispatch, make_data, make_parameters

import bpcore
from bpcore import _chunks, fallback
from bpcore.architecture import ACTIVATIONS, FROM_LOGITS, OUTPUTS

SIZES = ([3, 5, 4, 2], [1, 1], [4, 20, 20, 3], [2, 6, 9], [70, 130, 9])
STEP = 1e-6


@pytest.fixture
def every_thread(monkeypatch):
    """No work is too small for threads."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)


def network(sizes, dtype, rng, hidden=None, output=None, loss="squared_error"):
    hidden = [str(name) for name in rng.choice(ACTIVATIONS, len(sizes) - 2)] if hidden is None else hidden
    output = str(rng.choice(OUTPUTS)) if output is None else output
    net = bpcore.Network(sizes, hidden, loss, output, dtype)
    return net, make_parameters(net, rng)


def differences(function, x):
    """The derivative of a function's outputs by each entry of x, along the last axis."""
    columns = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = STEP
        step = step.reshape(x.shape)
        columns.append((function(x + step) - function(x - step)) / (2 * STEP))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", ["tanh", "gelu", "silu"])
def test_jacobians_against_differences(backend, rng, hidden, output):
    net, params = network([3, 4, 2], "float64", rng, hidden, output)
    X = rng.normal(size=(6, 3))
    J = net.jacobian(params, X)
    # relu has a kink at 0, which no z of these comes near
    np.testing.assert_allclose(J, differences(lambda p: net.forward(p, X), params), rtol=0, atol=1e-8)
    Jx = net.input_jacobian(params, X)
    for i in range(6):
        expected = differences(lambda x: net.forward(params, x[np.newaxis])[0], X[i])
        np.testing.assert_allclose(Jx[i], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("rows", [0, 1, 5, 6, 130, 700])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_all_forms_of_the_derivative_agree(backend, dtype, rng, sizes, rows):
    net, params = network(sizes, dtype, rng)
    rows = min(rows, 300) if sizes[0] == 70 else rows  # of three tiles, too; a Jacobian of 700 would have half a GB
    X, Y, _ = make_data(sizes, net.loss, dtype, max(rows, 1), rng)
    X, Y = X[:rows], Y[:rows]
    dA, d_params, d_X = (rng.normal(size=s).astype(dtype) for s in (Y.shape, params.shape, X.shape))
    wide = np.float64
    J, Jx = net.jacobian(params, X), net.input_jacobian(params, X)
    assert J.shape == (rows, sizes[-1], net.n_parameters)
    assert Jx.shape == (rows, sizes[-1], sizes[0])
    factor = 30 if dtype == "float32" else 300
    grad, dX = net.backward(params, X, dA, input_gradient=True)
    assert_agree(grad, np.einsum("mk,mkp->p", dA.astype(wide), J.astype(wide)).astype(dtype), dtype, factor)
    assert_agree(dX, np.einsum("mk,mki->mi", dA.astype(wide), Jx.astype(wide)).astype(dtype), dtype, factor)
    along_params = (J.astype(wide) @ d_params.astype(wide)).astype(dtype)
    along_X = np.einsum("mki,mi->mk", Jx.astype(wide), d_X.astype(wide)).astype(dtype)
    A, dA_params = net.jvp(params, X, d_params)
    assert_agree(A, net.forward(params, X), dtype)
    assert_agree(dA_params, along_params, dtype, factor)
    assert_agree(net.jvp(params, X, d_X=d_X)[1], along_X, dtype, factor)
    assert_agree(net.jvp(params, X, d_params, d_X)[1], along_params + along_X, dtype, factor)
    G = net.per_row_gradients(params, X, Y)
    norms = np.sqrt(np.sum(np.square(G, dtype=wide), axis=1)).astype(dtype)
    assert_agree(net.gradient_norms(params, X, Y), norms, dtype, factor)
    if rows:
        mean = np.mean(G, axis=0, dtype=wide).astype(dtype)
        assert_agree(net.cost_and_gradient(params, X, Y)[1], mean, dtype, factor)


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_trace_gives_what_one_pass_gives(backend, dtype, rng, sizes, rows):
    net, params = network(sizes, dtype, rng)
    X, dA, _ = make_data(sizes, net.loss, dtype, rows, rng)
    trace = net.trace(params, X)
    for logits in (False, True):
        grad, dX = net.backward(params, X, dA, True, logits)
        same, same_dX = trace.backward(dA, True, logits)
        assert_agree(same, grad, dtype)
        assert_agree(same_dX, dX, dtype)
        deltas = trace.deltas(dA, logits)
        assert [delta.shape for delta in deltas] == [(rows, n) for n in sizes[1:]]
        for layer, delta, a in zip(net.layers(grad), deltas, trace.activations):
            assert_agree(layer.weights, delta.T @ a, dtype, 10)
            assert_agree(layer.bias, delta.sum(axis=0), dtype, 10)
        if logits:
            np.testing.assert_array_equal(deltas[-1], dA)
    assert trace.logits.shape == (rows, sizes[-1])
    last = net.layers(params)[-1]
    assert_agree(trace.logits, trace.activations[-2] @ last.weights.T + last.bias, dtype, 10)
    assert not trace.logits.flags.writeable


@pytest.mark.parametrize("loss", list(FROM_LOGITS))
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_a_canonical_output(backend, dtype, rng, loss, rows):
    """Whose forward pass ends with the logits where these are all that is needed, and not elsewhere."""
    net = bpcore.Network([4, 6, 3], "tanh", loss, dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, _ = make_data(net.sizes, loss, dtype, rows, rng)
    dA, J = rng.normal(size=(rows, 3)).astype(dtype), net.jacobian(params, X)
    expected = np.einsum("mk,mkp->p", dA, J)
    assert_agree(net.backward(params, X, dA), expected, dtype, 100)
    assert_agree(net.trace(params, X).backward(dA), expected, dtype, 100)
    dz = net.trace(params, X).deltas(dA)[-1]
    assert_agree(net.backward(params, X, dz, logits=True), expected, dtype, 100)
    mean = net.per_row_gradients(params, X, Y).mean(axis=0)
    assert_agree(net.cost_and_gradient(params, X, Y)[1], mean, dtype, 30)


def test_what_is_in_a_total_before_does_not_count(backend, dtype, rng):
    net, params = network([5, 12, 3], dtype, rng, "tanh", "identity")
    X, dA = rng.normal(size=(6, 5)).astype(dtype), rng.normal(size=(6, 3)).astype(dtype)
    given, total, sums = fallback.Backward(X, dA, False, None), np.full(1 + params.size, np.nan), np.empty_like(params)
    dispatch.core.backward(net._plan, params, given, sums, total, (6, 2, 0, 2))
    assert_agree(total[1:].astype(dtype), net.backward(params, X, dA), dtype)


@pytest.mark.parametrize("rows", [3000, 5000])
def test_chunks_are_added_up(backend, dtype, rng, rows):
    """Two of them, and three."""
    net, params = network([5, 12, 3], dtype, rng, "tanh", "identity")
    X, dA = rng.normal(size=(rows, 5)).astype(dtype), rng.normal(size=(rows, 3)).astype(dtype)
    halves = [net.backward(params, X[half], dA[half]) for half in (slice(rows // 2), slice(rows // 2, rows))]
    assert_agree(net.backward(params, X, dA), halves[0] + halves[1], dtype, 10)
    assert_agree(net.trace(params, X).backward(dA), halves[0] + halves[1], dtype, 10)


@pytest.mark.parametrize("rows", [6, 100, 1500])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_same_bits_for_any_number_of_threads(backend, dtype, rng, every_thread, sizes, rows):
    net, params = network(sizes, dtype, rng)
    rows = min(rows, 100) if backend == "python" else rows  # its threads are NumPy's
    X, Y, _ = make_data(sizes, net.loss, dtype, rows, rng)
    d_params, d_X = rng.normal(size=params.shape).astype(dtype), rng.normal(size=X.shape).astype(dtype)

    def results(threads):
        trace = net.trace(params, X, threads)
        return [
            *net.backward(params, X, Y, True, threads=threads),
            *trace.backward(Y, True, threads=threads),
            *trace.deltas(Y, threads=threads),
            *(*trace.activations, trace.logits),
            *net.jvp(params, X, d_params, d_X, threads),
            net.input_jacobian(params, X, threads=threads),
            net.gradient_norms(params, X, Y, threads),
            net.jacobian(params, X[:200], threads=threads),
            net.per_row_gradients(params, X[:200], Y[:200], threads=threads),
        ]

    one = results(1)
    for threads in (2, 3, 7):
        for found, expected in zip(results(threads), one, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_more_outputs_than_rows_of_a_tile(backend, dtype, rng, rows):
    """Whose deltas do not all have room side by side."""
    net, params = network([3, 2, 300], dtype, rng, "tanh", "softmax")
    X, d_params, d_X = (rng.normal(size=s).astype(dtype) for s in ((rows, 3), params.shape, (rows, 3)))
    J, Jx = net.jacobian(params, X), net.input_jacobian(params, X)
    assert_agree(J @ d_params, net.jvp(params, X, d_params)[1], dtype, 100)
    assert_agree(np.einsum("mki,mi->mk", Jx, d_X), net.jvp(params, X, d_X=d_X)[1], dtype, 100)
    for k in (0, 150, 299):
        dA = np.zeros((rows, 300), dtype)
        dA[:, k] = 1
        grad, dX = net.backward(params, X, dA, input_gradient=True)
        assert_agree(J[:, k].sum(axis=0), grad, dtype, 30)
        assert_agree(Jx[:, k], dX, dtype, 30)


def test_arrays_of_any_dtype_and_layout(backend, rng, monkeypatch):
    """Rows that are converted come in blocks, here of one chunk, and give the same bits."""
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 1)
    net, params = network([5, 12, 3], "float32", rng, "tanh", "identity")
    X, Y = rng.normal(size=(30_000, 5)).astype("float32"), rng.normal(size=(30_000, 3)).astype("float32")
    d_X = rng.normal(size=X.shape).astype("float32")
    wide = [np.asfortranarray(a.astype("float64")) for a in (X, Y, d_X)]
    for found, expected in (
        (net.backward(params, wide[0], wide[1], True), net.backward(params, X, Y, True)),
        (net.jvp(params, wide[0], d_X=wide[2]), net.jvp(params, X, d_X=d_X)),
        ([net.gradient_norms(params, *wide[:2])], [net.gradient_norms(params, X, Y)]),
        ([net.input_jacobian(params, wide[0])], [net.input_jacobian(params, X)]),
        ([net.trace(params, wide[0]).backward(wide[1])], [net.trace(params, X).backward(Y)]),
        (net.trace(params, wide[0]).deltas(wide[1]), net.trace(params, X).deltas(Y)),
        ([net.jacobian(params, wide[0][:5000])], [net.jacobian(params, X[:5000])]),
        (
            [net.per_row_gradients(params, wide[0][:5000], wide[1][:5000])],
            [net.per_row_gradients(params, X[:5000], Y[:5000])],
        ),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_rows_are_converted_block_by_block(monkeypatch):
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 1)
    net = bpcore.Network([3, 2], dtype="float32")
    X, dA = np.zeros((5000, 3), "float32"), np.zeros((5000, 2), "float32")
    for wide_X, wide_dA, count in ((0, 0, 1), (1, 0, 3), (0, 1, 3)):
        given = X.astype("float64") if wide_X else X, dA.astype("float64") if wide_dA else dA
        assert len(list(_chunks.row_blocks(net._plan, list(given), net.dtype))) == count
        backward = fallback.Backward(*given, False, None)
        assert len(list(_chunks.backward_blocks(net._plan, backward, net.dtype))) == count


def test_out_is_filled_and_returned(backend, dtype, rng):
    net, params = network([3, 4, 2], dtype, rng)
    X, Y, _ = make_data([3, 4, 2], net.loss, dtype, 9, rng)
    for call, shape in (
        (lambda out: net.backward(params, X, Y, out=out), params.shape),
        (lambda out: net.trace(params, X).backward(Y, out=out), params.shape),
        (lambda out: net.jacobian(params, X, out=out), (9, 2, params.size)),
        (lambda out: net.input_jacobian(params, X, out=out), (9, 2, 3)),
        (lambda out: net.per_row_gradients(params, X, Y, out=out), (9, params.size)),
    ):
        out = np.full(shape, np.nan, dtype)
        assert call(out) is out
        np.testing.assert_array_equal(out, call(None))
        with pytest.raises(ValueError, match="out must have shape"):
            call(np.zeros((*shape, 1), dtype))
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out must be writable"):
            call(out)


def test_out_may_not_overlap_an_input(rng):
    net = bpcore.Network([3, 3])
    memory = rng.normal(size=100)
    before = memory.copy()
    params, X, Y = rng.normal(size=12), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    inside, many = memory[:12], rng.normal(size=(4, 3, 12))
    for call in (
        lambda: net.backward(inside, X, Y, out=memory[11:23]),
        lambda: net.backward(params, inside.reshape(4, 3), Y, out=memory[11:23]),
        lambda: net.backward(params, X, inside.reshape(4, 3), out=memory[11:23]),
        lambda: net.trace(params, inside.reshape(4, 3)).backward(Y, out=inside),
        lambda: net.trace(params, X).backward(inside.reshape(4, 3), out=inside),
        lambda: net.input_jacobian(inside, X, out=memory[11:47].reshape(4, 3, 3)),
        lambda: net.input_jacobian(params, inside.reshape(4, 3), out=memory[11:47].reshape(4, 3, 3)),
        lambda: net.jacobian(many[3, 2], X, out=many),
        lambda: net.per_row_gradients(inside, X, Y, out=memory[11:59].reshape(4, 12)),
        lambda: net.per_row_gradients(params, inside.reshape(4, 3), Y, out=memory[11:59].reshape(4, 12)),
        lambda: net.per_row_gradients(params, X, inside.reshape(4, 3), out=memory[11:59].reshape(4, 12)),
    ):
        with pytest.raises(ValueError, match="out must not share memory with an input"):
            call()
    np.testing.assert_array_equal(memory, before)


def test_subnormal_numbers_count_as_zero(backend, dtype):
    """Directions that times a large number would be 0.1, and results."""
    if not dispatch.core.FLUSHES_SUBNORMALS:
        pytest.skip("this processor has no mode for it")
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([3, 2], dtype=dtype)
    for rows in (1, 9):
        ones, large = np.ones((rows, 3), dtype), np.full((rows, 3), 0.1 / (tiny / 4), dtype)
        params, small = np.ones(8, dtype), np.full((rows, 3), tiny / 4, dtype)
        assert not net.jvp(params, large, np.full(8, tiny / 4, dtype))[1].any()
        assert not net.jvp(large[0, 0] * params, ones, d_X=small)[1].any()
        assert not net.jvp(params / 8, ones, d_X=4 * small)[1].any()
        assert not net.input_jacobian(np.full(8, tiny / 4, dtype), ones).any()
        params[...] = 0
        Y = np.full((rows, 2), -1.5 * tiny, dtype)
        G = net.per_row_gradients(params, ones / 2, Y)
        assert not G[:, :6].any()
        np.testing.assert_array_equal(G[:, 6:], 1.5 * tiny)
        exp, deep = (
            bpcore.Network([3, 2], loss="poisson", dtype=dtype),
            bpcore.Network([3, 2, 1], "identity", dtype=dtype),
        )
        params[:6], params[6:] = 0.25, 20
        assert not exp.jvp(params, ones, d_X=4 * small)[1].any()
        below = np.full(11, tiny / 4, dtype)
        below[8:10] = 0.1 / (tiny / 4)
        assert not deep.input_jacobian(below, ones).any()


def test_errors_name_the_argument(backend, rng):
    net, params = network([3, 4, 2], "float64", rng)
    X, dA = np.ones((5, 3)), np.ones((5, 2))
    with pytest.raises(ValueError, match="d_params or d_X must be given, got neither"):
        net.jvp(params, X)
    with pytest.raises(ValueError, match=r"d_params must have shape \(26,\), got \(3,\)"):
        net.jvp(params, X, np.ones(3))
    with pytest.raises(ValueError, match="d_X has 4 rows, but X has 5"):
        net.jvp(params, X, d_X=np.ones((4, 3)))
    with pytest.raises(ValueError, match="output_gradient has 4 rows, but X has 5"):
        net.backward(params, X, dA[:4])
    with pytest.raises(ValueError, match="output_gradient has 4 rows, but the trace has 5"):
        net.trace(params, X).deltas(dA[:4])
    with pytest.raises(TypeError, match="logits must be True or False, got 1"):
        net.backward(params, X, dA, logits=1)
    with pytest.raises(TypeError, match="input_gradient must be True or False, got None"):
        net.backward(params, X, dA, None)
    for call in (net.jacobian, net.input_jacobian, net.trace):
        with pytest.raises(ValueError, match="X has 2 columns, but the network has 3 inputs"):
            call(params, X[:, :2])
        with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
            call(params, X, threads=0)
    with pytest.raises(ValueError, match="Y has 4 rows, but X has 5"):
        net.gradient_norms(params, X, dA[:4])


def test_nan_and_infinity_go_on(backend, dtype, rng):
    net, params = network([3, 4, 2], dtype, rng, "tanh", "identity")
    X, Y, _ = make_data([3, 4, 2], net.loss, dtype, 8, rng)
    X[5] = np.nan
    for found in (
        net.gradient_norms(params, X, Y),
        net.per_row_gradients(params, X, Y),
        net.jacobian(params, X),
        net.input_jacobian(params, X),
        net.jvp(params, X, params)[1],
    ):
        wrong = np.isnan(found).reshape(8, -1).any(axis=1)
        assert wrong.tolist() == [i == 5 for i in range(8)]


def test_labels_and_targets_give_the_same_rows(backend, dtype, rng):
    net = bpcore.Network([4, 6, 3], "tanh", "cross_entropy", dtype=dtype)
    params, X, labels = make_parameters(net, rng), rng.normal(size=(50, 4)).astype(dtype), rng.integers(0, 3, 50)
    rows = np.eye(3, dtype=dtype)[labels]
    assert_agree(net.per_row_gradients(params, X, labels), net.per_row_gradients(params, X, rows), dtype)
    assert_agree(net.gradient_norms(params, X, labels), net.gradient_norms(params, X, rows), dtype)


def test_least_squares_takes_the_jacobian(backend, rng):
    """As far as with SciPy's own differences, in fewer evaluations."""
    optimize = pytest.importorskip("scipy.optimize")
    net = bpcore.Network([1, 4, 1], "tanh")
    X = np.linspace(-2, 2, 60)[:, np.newaxis]
    Y = np.sin(2 * X) + rng.normal(scale=0.1, size=X.shape)

    def residuals(params):
        return (net.forward(params, X) - Y).ravel()

    def by(jac):
        return optimize.least_squares(residuals, net.initialize(seed=3), jac, xtol=None, gtol=None, ftol=1e-6)

    found, expected = by(lambda params: net.jacobian(params, X).reshape(-1, net.n_parameters)), by("2-point")
    assert found.success
    assert found.cost <= expected.cost * 1.01


def test_norms_of_many_rows_need_little_memory(backend):
    """Their gradients would take 3.8 GB."""
    resource = pytest.importorskip("resource")
    net = bpcore.Network([64, 128, 10], loss="cross_entropy", dtype="float32")
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(100_000, 64)).astype("float32"), rng.integers(0, 10, 100_000)
    params = net.initialize(0)
    net.gradient_norms(params, X[:5000], Y[:5000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    norms = net.gradient_norms(params, X, Y)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert norms.shape == (100_000,)
    assert grown < 64 * 1024
