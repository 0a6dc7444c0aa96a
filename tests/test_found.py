"""What was found to be wrong, and what broke in other libraries: each case by name, against something independent."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import hunt
import numpy as np
import oracle
import pytest
from helpers import AGREEMENT, COMBINATIONS

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT
from bpcore.data import load_digits

pytestmark = pytest.mark.usefixtures("backend")

# ------------------------------------------------------------------------------------------ gradients of some shapes

#: Networks whose deltas ran into the region behind theirs on avx2, baseline and neon, with numbers of rows that fill
#: a tile nearly: `tests/hunt.py` draws such ones at random.
SHAPES = [
    ([66, 64, 10], "tanh", "float64", (222, 230, 234)),
    ([65, 64, 1], "tanh", "float64", (232, 239, 245, 252)),
    ([66, 64, 64, 10], "tanh", "float64", (149, 154, 160)),
    ([130, 128, 10], "tanh", "float32", (226, 233, 240)),
    ([8, 258, 256, 16, 1], "tanh", "float32", (127, 129)),
    ([21, 66, 14, 63], "gelu", "float64", (1765,)),
    ([65, 62, 1], "tanh", "float64", (240, 252)),
    ([129, 128, 1], "tanh", "float32", (233, 252)),
    ([65, 64], "tanh", "float64", (232, 240, 252)),
    ([1, 65, 64], "tanh", "float64", (239,)),
    ([512, 513], "tanh", "float64", (132,)),
    ([1024, 1025], "tanh", "float32", (132,)),
]


@pytest.mark.parametrize(("sizes", "hidden", "dtype", "all_rows"), SHAPES, ids=lambda value: str(value))
def test_networks_whose_gradients_were_wrong(sizes, hidden, dtype, all_rows):
    """By every route: threads, accumulator, trace with the input gradient, train, the C table."""
    names = [hidden] * (len(sizes) - 2)
    for rows in all_rows:
        case = {"sizes": sizes, "hidden": names, "output": "identity", "dtype": dtype, "rows": rows, "seed": rows}
        training = {"optimizer": "adam", "batch": rows, "shuffle": False, "epochs": 2}
        assert hunt.check(**case, train=training).calls > 10
        assert hunt.check(**case, weights="zeros", l2=0.1, routes=["gradient", "accumulator"]).calls > 2


def test_rows_of_four_kilobytes_are_copied_within_the_workspace(dtype):
    """132 rows of a page each were copied to where 131 had room; the heap behind the workspace was overwritten."""
    n = 512 if dtype == "float64" else 1024
    net = bpcore.Network([n, n + 1], dtype=dtype)
    params, X = net.initialize(0), np.ones((132, n), dtype)
    first = net.forward(params, X, threads=1)
    blocks = [np.ones(1000 * i) for i in range(1, 50)]
    np.testing.assert_array_equal(net.forward(params, X, threads=1), first)
    assert all((block == 1).all() for block in blocks)
    np.testing.assert_allclose(first, (X[:1] @ net.layers(params)[0].weights.T).repeat(132, axis=0), rtol=0, atol=1e-4)


def test_sample_weights_are_summed_alike_in_every_layout(dtype):
    """NumPy adds misaligned and byte-swapped arrays in another order from 8192 on."""
    rng = np.random.default_rng(0)
    weights = 10 ** rng.uniform(-3, 3, 70_000).astype(dtype).astype(float)
    net = bpcore.Network([1, 1], dtype=dtype)
    params, X = np.ones(2, dtype), rng.normal(size=(len(weights), 1)).astype(dtype)
    misaligned = np.frombuffer(b"x" + weights.tobytes(), offset=1)
    results = [
        net.cost_and_gradient(params, X, X, sample_weight=w)
        for w in (weights, misaligned, weights.astype(">f8"), weights[::-1].copy()[::-1], np.asfortranarray(weights))
    ]
    for J, grad in results[1:]:
        assert J == results[0][0]
        assert grad.tobytes() == results[0][1].tobytes()


# ---------------------------------------------------------------------------------------------------- nothing cancels


@pytest.fixture(scope="module")
def confident():
    """A network that has learned the digits so well that its probabilities are 1 but for the last digits."""
    images, labels = load_digits()
    X = images / 16
    net = bpcore.Network([64, 96, 10], "tanh", "cross_entropy")
    params = net.initialize(seed=0)
    bpcore.train(net, params, X, labels, optimizer=bpcore.Adam(3e-3), epochs=60)
    for part in net.layers(params)[1]:
        part *= 2
    return params, X, labels


def digits_gradient(net, params, X, labels, kind):
    """The textbook's gradient, in which delta at the label is minus the sum of the other probabilities."""
    (W1, b1), (W2, b2) = [(layer.weights.astype(kind), layer.bias.astype(kind)) for layer in net.layers(params)]
    x, rows = X.astype(kind), np.arange(len(X))
    z1 = x @ W1.T + b1
    a = np.tanh(z1)
    z2 = a @ W2.T + b2
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    others = e.copy()
    others[rows, labels] = 0
    delta = e / e.sum(axis=1, keepdims=True)
    delta[rows, labels] = -others.sum(axis=1) / e.sum(axis=1)
    delta1 = delta @ W2 / np.cosh(z1) ** 2
    return np.concatenate([(delta1.T @ x).ravel(), delta1.sum(0), (delta.T @ a).ravel(), delta.sum(0)]) / len(X)


def test_cross_entropy_of_a_network_that_is_right(confident, dtype):
    """``a - 1`` was 5e-4 off in float32 and 5e-7 in float64: beyond what logits and sums are rounded to."""
    params, X, labels = (a.astype(dtype) if a.dtype.kind == "f" else a for a in confident)
    net = bpcore.Network([64, 96, 10], "tanh", "cross_entropy", dtype=dtype)
    J, grad = net.cost_and_gradient(params, X, labels)
    right = digits_gradient(net, params, X, labels, np.longdouble)
    assert J < 1e-3
    error = np.abs(grad - right).max() / np.abs(right).max()
    assert error < (2e-5 if dtype == "float32" else 1e-12)
    _, soft = net.cost_and_gradient(params, X, np.eye(10, dtype=dtype)[labels])
    assert np.abs(soft - right).max() / np.abs(right).max() < (2e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("z", [0.5, 3.0, 12.0, 20.0, 40.0, 80.0])
def test_binary_cross_entropy_of_a_row_that_is_right(z, dtype):
    """``sigmoid(z) - 1`` was 0.9 % off at 12 and 0 at 20, in float32."""
    net = bpcore.Network([1, 1], None, "binary_cross_entropy", dtype=dtype)
    X, eps = np.zeros((1, 1), dtype), np.finfo(dtype).eps
    right = 1 / (1 + math.exp(float(np.dtype(dtype).type(z))))
    for y, logit, sign in ((1, z, -1), (0, -z, 1)):
        J, grad = net.cost_and_gradient(np.array([0, logit], dtype), X, np.array([y]))
        assert grad[1] == pytest.approx(sign * right, rel=8 * float(eps))
        assert J == pytest.approx(math.log1p(math.exp(-float(np.dtype(dtype).type(z)))), rel=8 * float(eps))


def test_infinite_logits_that_are_right_cost_nothing(dtype):
    net = bpcore.Network([1, 1], None, "binary_cross_entropy", dtype=dtype)
    X = np.zeros((1, 1), dtype)
    for y, logit in ((1.0, np.inf), (0.0, -np.inf)):
        J, grad = net.cost_and_gradient(np.array([0, logit], dtype), X, np.array([y], dtype))
        assert (J, grad[1]) == (0, 0)
        J, grad = net.cost_and_gradient(np.array([0, -logit], dtype), X, np.array([y], dtype))
        assert (J, abs(grad[1])) == (np.inf, 1)


@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "elu", "silu", "gelu"])
def test_derivatives_far_from_zero(hidden, dtype):
    """Of the size of exp(-z) and computed as a difference from ``a``, they were some percent off, or 0."""
    net = bpcore.Network([1, 1, 1], hidden, dtype=dtype)
    z = np.array([-40, -20, -15, -10, -5, 5, 10, 15, 20, 40], dtype)[:, None]
    if hidden in ("silu", "gelu", "elu"):
        z = z[z < (-4 if hidden != "gelu" else 0)][:, None]
    _, derivative = net.trace(np.array([1, 0, 1, 0], dtype), z).backward(np.ones_like(z), input_gradient=True)
    x = z.astype(np.longdouble)
    s = 1 / (1 + np.exp(-np.abs(x)))
    right = {
        "sigmoid": np.exp(-np.abs(x)) * s * s,
        "tanh": 1 / np.cosh(x) ** 2,
        "elu": np.exp(x),
        "silu": np.exp(-np.abs(x)) * s * (1 + x * s),
        "gelu": np.array([[math.erfc(-float(v) / math.sqrt(2)) / 2] for v in x[:, 0]])
        + x * np.exp(-x * x / 2) / np.sqrt(2 * np.longdouble(math.pi)),
    }[hidden]
    rel = float(np.finfo(dtype).eps) * (20 + (40 * 40 if hidden == "gelu" else 0))
    np.testing.assert_allclose(derivative, right, rtol=rel, atol=4 * float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_derivatives_of_outputs_far_from_zero(output, dtype):
    net = bpcore.Network([1, 1], (), output=output, dtype=dtype)
    z = np.array([-40, -20, 10, 15, 20, 40], dtype)[:, None]
    _, derivative = net.trace(np.array([1, 0], dtype), z).backward(np.ones_like(z), input_gradient=True)
    x = z.astype(np.longdouble)
    right = 1 / np.cosh(x / 2) ** 2 / 4 if output == "sigmoid" else 1 / np.cosh(x) ** 2
    np.testing.assert_allclose(derivative, right, rtol=30 * np.finfo(dtype).eps, atol=4 * float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_a_loss_of_outputs_with_a_pole(output, dtype):
    """1 / (1 - a) has many times the rounding error of a: 6e-6 off at 1 - a = 1e-11 with exact derivatives."""
    net = bpcore.Network([1, 1], (), output=output, dtype=dtype)
    z = np.linspace(0.5, {"sigmoid": 2, "tanh": 1}[output] * (6 if dtype == "float32" else 16), 40, dtype=dtype)
    trace = net.trace(np.array([1, 0], dtype), z[:, None])
    a = trace.activations[-1]
    assert a.max() < 1
    for scale in (1, -30):
        grad, delta = trace.backward(scale / (1 - a), input_gradient=True)  # of -log(1 - a)
        right = scale * (a if output == "sigmoid" else 1 + a)
        saturated = (1 - a)[:, 0] < 1e-3
        np.testing.assert_allclose(delta[saturated], right[saturated], rtol=8 * np.finfo(dtype).eps)
        np.testing.assert_allclose(delta, right, rtol=500 * np.finfo(dtype).eps)
        np.testing.assert_allclose(grad[1], right.sum(dtype=float), rtol=500 * np.finfo(dtype).eps)
    # The mean over many rows: with either derivative an error is at most a rounding error of the given gradient.
    dA = (1 / (1 - a) / 1000).astype(dtype)
    _, delta = trace.backward(dA, input_gradient=True)
    right = (a if output == "sigmoid" else 1 + a) / 1000
    assert (np.abs(delta - right) <= 4 * np.finfo(dtype).eps * (np.abs(dA) + right)).all()
    large = dA[:, 0] > 2
    np.testing.assert_allclose(delta[large], right[large], rtol=8 * np.finfo(dtype).eps)


def test_a_saturated_softmax_with_a_loss_of_its_outputs(dtype):
    """A row's deltas add up to 0: that of the probability of nearly 1 is minus the others, which are tiny."""
    net = bpcore.Network([1, 3], (), "squared_error", output="softmax", dtype=dtype)
    params = np.array([0, 0, 0, 25, 0, 1], dtype)
    dA = np.array([[1.0, 3.0, -2.0]], dtype)
    grad = net.trace(params, np.zeros((1, 1), dtype)).backward(dA)
    e = np.exp(np.array([0, -25, -24], np.longdouble))
    a = e / e.sum()
    right = a * (dA[0] - (a * dA[0]).sum())
    right[0] = -right[1:].sum()
    np.testing.assert_allclose(grad[3:], right, rtol=1e-5 if dtype == "float32" else 1e-12)


# ------------------------------------------------------------------------------------------------- rows of weight 0


@pytest.mark.parametrize("loss", CANONICAL_OUTPUT)
@pytest.mark.parametrize("rows", [3, 40, 700])
def test_rows_without_weight_may_hold_anything(loss, rows, dtype, rng):
    """NaN and infinity in X and Y of masked rows; as without them, to rounding, by every route that takes weights."""
    net = bpcore.Network([3, 8, 4], "silu", loss, dtype=dtype)
    params = net.initialize(0)
    X = rng.normal(size=(rows, 3)).astype(dtype)
    n_targets = 2 if loss == "gaussian_nll" else 4
    Y = rng.uniform(0.1, 1, size=(rows, n_targets)).astype(dtype)
    weights = rng.choice([0.0, 1.0, 2.0], rows).astype(dtype)
    weights[0] = 0
    weights[1] = 1
    kept = weights > 0
    expected = net.cost_and_gradient(params, X[kept], Y[kept], 0.1, weights[kept])
    trained = params.copy()
    options = {"epochs": 2, "batch_size": None, "shuffle": False, "l2": 0.1}
    bpcore.train(net, trained, X, Y, sample_weight=weights, **options)
    X[~kept] = rng.choice([np.nan, np.inf], (np.count_nonzero(~kept), 3))
    Y[~kept] = rng.choice([np.nan, -3, 7, np.inf], (np.count_nonzero(~kept), n_targets))
    for threads in (1, 2, None):
        J, grad = net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads)
        assert pytest.approx(expected[0], rel=1e-6) == J == net.cost(params, X, Y, 0.1, weights)
        scale = np.abs(expected[1]).max()
        np.testing.assert_allclose(grad, expected[1], rtol=0, atol=AGREEMENT[dtype] * scale)
    masked = net.initialize(0)
    bpcore.train(net, masked, X, Y, sample_weight=weights, **options)
    assert masked.tobytes() == trained.tobytes()
    sums = net.accumulator()
    sums.add(params, X[~kept], Y[~kept], np.zeros(np.count_nonzero(~kept), dtype))
    assert not sums.buffer[3:].any()
    assert sums.buffer[:2].tolist() == [0, 0]


def test_labels_of_rows_without_weight_may_be_none(dtype):
    """-1 is a usual label of rows to be ignored."""
    net = bpcore.Network([3, 4], (), "cross_entropy", dtype=dtype)
    params, X = net.initialize(0), np.arange(12, dtype=dtype).reshape(4, 3)
    labels, weights = np.array([1, -1, 3, 99]), np.array([1, 0, 2, 0])
    expected = net.cost_and_gradient(params, X[::2], labels[::2], sample_weight=weights[::2])
    J, grad = net.cost_and_gradient(params, X, labels, sample_weight=weights)
    assert pytest.approx(expected[0]) == J == net.cost(params, X, labels, sample_weight=weights)
    np.testing.assert_allclose(grad, expected[1], rtol=AGREEMENT[dtype])
    bpcore.train(net, params, X, labels, sample_weight=weights, epochs=1, batch_size=1)
    for counted in ([1, 1, 1, 0], [1, 0, 1, 1]):
        with pytest.raises(ValueError, match=rf"got Y\[{1 if counted[1] else 3}\] ="):
            net.cost(params, X, labels, sample_weight=counted)


# --------------------------------------------------------------------------------------- what broke other libraries


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 300, 3000])
def test_nothing_is_left_of_what_was_in_out_or_in_the_workspace(rows, dtype, rng):
    """NaN times 0 is NaN: a product that adds to what is there, times 0, keeps it. 1 to 8 threads."""
    X, Y = rng.normal(size=(rows, 20)).astype(dtype), rng.normal(size=(rows, 3)).astype(dtype)
    fresh = bpcore.Network([20, 33, 17, 3], "tanh", dtype=dtype)
    params = fresh.initialize(0)
    A, (J, grad) = fresh.forward(params, X), fresh.cost_and_gradient(params, X, Y)
    assert np.isfinite(grad).all()
    for threads in range(1, 9):
        net = bpcore.Network([20, 33, 17, 3], "tanh", dtype=dtype)
        nothing = np.full((rows, 20), np.nan, dtype)
        assert np.isnan(net.cost_and_gradient(params, nothing, Y, threads=threads)[1]).all()
        assert np.isnan(net.forward(params, nothing, threads=threads)).all()
        out = np.full_like(grad, np.nan)
        assert net.cost_and_gradient(params, X, Y, out=out, threads=threads) == (J, out)
        assert out.tobytes() == grad.tobytes()
        outputs = np.full_like(A, np.nan)
        assert net.forward(params, X, out=outputs, threads=threads).tobytes() == A.tobytes()


POSITIONS = [
    *((("tanh", name, "sigmoid"), "identity", "squared_error") for name in ACTIVATIONS),
    *(((name, "softplus", "tanh"), "identity", "huber") for name in ACTIVATIONS),
    *(((name, other, name), "identity", "squared_error") for name, other in zip(ACTIVATIONS, ACTIVATIONS[1:])),
    *((("elu", "silu", "tanh"), output, loss) for loss, output in COMBINATIONS),
]


@pytest.mark.parametrize(("hidden", "output", "loss"), POSITIONS, ids=str)
def test_every_activation_in_every_position_against_complex_steps(hidden, output, loss, rng):
    """A library kept the derivative of the first activation for all layers; another took one loss's delta for all."""
    net = bpcore.Network([3, 5, 4, 6, 2], list(hidden), loss, output)
    params = net.initialize(0) + rng.normal(scale=0.3, size=net.n_parameters)
    X, Y = rng.normal(size=(7, 3)), rng.uniform(0.1, 0.9, size=(7, 1 if loss == "gaussian_nll" else 2))
    weights = rng.uniform(0.5, 2, 7)
    _, grad = net.cost_and_gradient(params, X, Y, 0.1, weights)
    reference = oracle.Reference(net.sizes, (*hidden, output), loss, params, X, 2.0**-52)
    for i in range(net.n_parameters):
        direction = np.zeros(net.n_parameters)
        direction[i] = 1
        right = oracle.by_complex_step(
            lambda p: oracle.cost(reference, p, reference.X, Y, weights, 0.1), params, direction
        )
        assert grad[i] == pytest.approx(right, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        *(("huber", "delta", 0.3), ("quantile", "quantile", 0.9), ("tweedie", "power", 1.2), ("focal", "gamma", 0.5)),
        ("cross_entropy", "label_smoothing", 0.2),
    ],
)
def test_the_parameter_of_a_loss_against_complex_steps(loss, name, value, rng):
    net = bpcore.Network([3, 5, 2], "tanh", loss, **{name: value})
    params = net.initialize(0) + rng.normal(scale=0.3, size=net.n_parameters)
    X, Y = rng.normal(size=(7, 3)), rng.uniform(0.1, 0.9, size=(7, 2))
    weights = rng.uniform(0.5, 2, 7)
    J, grad = net.cost_and_gradient(params, X, Y, 0.1, weights)
    parameter = None if loss == "cross_entropy" else value
    reference = oracle.Reference(net.sizes, ("tanh", net.output), loss, params, X, 2.0**-52, parameter)
    targets = (1 - value) * Y + value / 2 if loss == "cross_entropy" else Y
    assert pytest.approx(oracle.cost(reference, params, reference.X, targets, weights, 0.1), rel=1e-13) == J
    for i in range(net.n_parameters):
        direction = (np.arange(net.n_parameters) == i) * 1.0
        right = oracle.by_complex_step(
            lambda p: oracle.cost(reference, p, reference.X, targets, weights, 0.1), params, direction
        )
        assert grad[i] == pytest.approx(right, rel=1e-11, abs=1e-13)


def test_the_same_bits_with_more_threads_than_processors(dtype, rng):
    """1,001 weighted rows by 1, 3 and 8 threads on one processor."""
    net = bpcore.Network([40, 200, 100, 3], "relu", dtype=dtype)
    params = net.initialize(0)
    X, Y = rng.normal(size=(1001, 40)).astype(dtype), rng.normal(size=(1001, 3)).astype(dtype)
    weights = rng.choice([0, 0.5, 3], 1001)
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        if mask is not None:
            os.sched_setaffinity(0, {min(mask)})
        results = [net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads) for threads in (1, 3, 8)]
    finally:
        if mask is not None:
            os.sched_setaffinity(0, mask)
    assert len({(J, grad.tobytes()) for J, grad in results}) == 1


FEW_THREADS = """
import _thread, resource, sys
import numpy as np
import bpcore
from bpcore import _chunks
_chunks._dispatch.most_threads = lambda: 64
_chunks.THREAD_WORK = 1
net = bpcore.Network([30, 100, 3], "relu", dtype=sys.argv[1])
params = net.initialize(0)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(9000, 30)).astype(net.dtype), rng.normal(size=(9000, 3)).astype(net.dtype)

def call(threads):
    J, grad = net.cost_and_gradient(params, X, Y, threads=threads)
    return J, grad.tobytes(), net.forward(params, X, threads=threads).tobytes()

before = call(1)
size = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (size + (int(sys.argv[2]) << 20), resource.RLIM_INFINITY))
limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY  # qemu takes no limit, and says so
assert call(4) == before
try:
    _thread.start_new_thread(int, ())
    assert int(sys.argv[2]) > 8 or not limited
except RuntimeError:
    assert int(sys.argv[2]) < 8
print("the same")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a limit of memory; not every platform has it")
@pytest.mark.parametrize("megabytes", [6, 14, 22])
def test_threads_that_cannot_be_made_are_done_without(backend, megabytes, dtype):
    """Where there is no memory for a thread's stack the others do its work, and the bits are the same."""
    command = [sys.executable, "-c", FEW_THREADS, dtype, str(megabytes)]
    env = {**os.environ, "BPCORE_BACKEND": backend, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.sep)
    assert result.stdout.strip() == "the same", result.stderr


def test_finish_may_be_called_again_and_out_used_again(dtype, rng):
    net = bpcore.Network([4, 9, 2], "tanh", dtype=dtype)
    params, sums = net.initialize(0), net.accumulator()
    X, Y = rng.normal(size=(50, 4)).astype(dtype), rng.normal(size=(50, 2)).astype(dtype)
    sums.add(params, X[:30], Y[:30])
    sums.add(params, X[30:], Y[30:])
    out = np.full_like(params, np.nan)
    first = sums.finish(params, 0.1, out=out)
    assert first[1] is out
    before = out.copy()
    again = sums.finish(params, 0.1, out=out)
    assert again == (first[0], out)
    assert out.tobytes() == before.tobytes()
    other = sums.finish(params, 0.2)[1]
    for layer, more in zip(net.layers(before), net.layers(other)):
        np.testing.assert_array_equal(layer.bias, more.bias)
    J, grad = net.cost_and_gradient(params, X, Y, 0.1)
    assert first[0] == pytest.approx(J, rel=1e-6)
    np.testing.assert_allclose(before, grad, rtol=0, atol=AGREEMENT[dtype] * np.abs(grad).max())


def test_a_row_of_zero_gradient_among_clipped_ones(dtype):
    """Per-row gradients clipped to norm 1, as embedders write it, and huber's own clipping: 0/0 in neither."""
    net = bpcore.Network([1, 1], None, "huber", dtype=dtype)
    params = np.array([2.0, 0.0], dtype)
    X, Y = np.array([[1.0], [2.0], [-3.0]], dtype), np.array([2.0, 40.0, 0.25], dtype)
    J, grad = net.cost_and_gradient(params, X, Y)
    # residuals 0, -36, -6.25: clipped to 0, -1, -1
    np.testing.assert_allclose(grad, np.array([(-2 + 3) / 3, -2 / 3]), rtol=1e-6)
    assert J == pytest.approx((35.5 + 5.75) / 3, rel=1e-6)
    dA = (net.forward(params, X)[:, 0] - Y)[:, None]
    norms = np.linalg.norm(dA, axis=1, keepdims=True)
    clipped = dA / np.maximum(norms, 1)
    np.testing.assert_allclose(net.trace(params, X).backward(clipped), [1, -2], rtol=1e-6)
