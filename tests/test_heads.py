"""Several heads in one network: against a network for each head, with the same hidden layers, by every way there is.

The single networks share no line with the heads: neither where columns are copied, nor where losses are added up.
"""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
from helpers import AGREEMENT, MODEL_SUFFIXES, SLOWNESS, assert_agree

import bpcore
from bpcore import _chunks, fallback
from bpcore.architecture import CANONICAL_OUTPUT, FROM_LOGITS, OUTPUTS

pytestmark = pytest.mark.usefixtures("backend")

#: Networks of random heads that each test draws, with a new seed each time; a failure shows the network.
DRAWS = range(12 if SLOWNESS <= 5 else 2)

MIXED = [("cross_entropy", 3), ("huber", 2, {"delta": 0.5, "output": "tanh", "weight": 2.0}), ("gaussian_nll", 4)]


@pytest.fixture
def every_thread(monkeypatch):
    """No work is too small for threads."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)


def draw_head():
    """Any loss with any activation that it takes, its parameter and a weight."""
    draw = random.Random()
    loss = draw.choice(list(CANONICAL_OUTPUT))
    n = draw.choice([1, 2, 3, 5, 8, 17])
    options = {}
    if loss not in FROM_LOGITS and draw.random() < 0.7:
        options["output"] = draw.choice(OUTPUTS)
    if loss in fallback.LOSS_PARAMETERS and draw.random() < 0.7:
        name = fallback.LOSS_PARAMETERS[loss][0]
        options[name] = {"power": 1.3, "gamma": 1.0, "label_smoothing": 0.2}.get(name, 0.4)
    if draw.random() < 0.5:
        options["weight"] = draw.choice([0.25, 0.7, 3.0])
    return loss, 2 * n if loss == "gaussian_nll" else n, options


def problem(dtype, rng, rows, heads=None):
    """A network, numbers for it, and a network for each head with its part of the parameters."""
    heads = heads or [draw_head() for _ in range(random.randint(2, 6))]
    net = bpcore.Network([4, 9, 7, sum(head[1] for head in heads)], ["tanh", "silu"], heads, dtype=dtype)
    print(net)  # for the report of a failure
    params = net.initialize(rng)
    net.layers(params)[-1].bias[...] = rng.normal(size=net.sizes[-1])
    X = rng.normal(size=(rows, 4)).astype(dtype)
    Y = np.hstack([targets(head, rows, rng) for head in net.heads]).astype(dtype)
    return net, params, X, Y


def targets(head, rows, rng):
    if head.loss in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0], (rows, head.n_targets))
    return rng.uniform(0.1, 0.9, (rows, head.n_targets))


def singles(net, params):
    """For each head: a network of its own, its parameters, its columns of outputs and of targets, its weight."""
    first = first_target = 0
    for head in net.heads:
        options = {}
        if head.loss in fallback.LOSS_PARAMETERS:
            options[fallback.LOSS_PARAMETERS[head.loss][0]] = head.parameter
        sizes = [*net.sizes[:-1], head.n_outputs]
        own = bpcore.Network(sizes, net.hidden, head.loss, head.output, net.dtype, **options)
        outputs, columns = slice(first, first + head.n_outputs), slice(first_target, first_target + head.n_targets)
        p = params.copy()[: own.n_parameters]
        weights, bias = net.layers(params)[-1]
        own.layers(p)[-1].weights[...], own.layers(p)[-1].bias[...] = weights[outputs], bias[outputs]
        yield own, p, outputs, columns, head.weight
        first, first_target = outputs.stop, columns.stop


def assemble(net, parts, divisor=1.0):
    """A gradient of the whole network from those of the single ones: side by side in the last layer, else a sum."""
    whole = np.zeros(net.n_parameters)
    for own, grad, outputs, _, weight in parts:
        for into, of in zip(net.layers(whole)[:-1], own.layers(grad)):
            into.weights[...] += weight * of.weights.astype(np.float64)
            into.bias[...] += weight * of.bias.astype(np.float64)
        last, of = net.layers(whole)[-1], own.layers(grad)[-1]
        last.weights[outputs], last.bias[outputs] = weight * of.weights, weight * of.bias
    return (whole / divisor).astype(net.dtype)


def sums(net, params, X, Y, **how):
    """Losses and gradients, summed."""
    accumulator = net.accumulator()
    accumulator.add(params, X, Y, **how)
    return accumulator.buffer.astype(np.float64)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("rows", [1, 5, 33, 300])
def test_cost_and_gradient_are_those_of_single_networks(dtype, rng, every_thread, rows, draw):
    net, params, X, Y = problem(dtype, rng, rows)
    of_rows = rng.choice([0.0, 0.5, 2.0], rows).astype(dtype)
    of_rows[0] = 1
    of_outputs = rng.choice([0.0, 0.5, 2.0], Y.shape).astype(dtype)
    of_outputs[0] = 1
    for weights in (None, of_rows, of_outputs):
        parts, total = [], 0.0
        for own, p, outputs, columns, weight in singles(net, params):
            w = weights[:, columns] if weights is not None and weights.ndim == 2 else weights
            found = sums(own, p, X, Y[:, columns], sample_weight=w)
            parts.append((own, found[-own.n_parameters :], outputs, columns, weight))
            total += weight * found[0]
        divisor = rows if weights is None else float(weights.sum(dtype=np.float64)) / weights[0].size
        J, grad = net.cost_and_gradient(params, X, Y, sample_weight=weights)
        # The terms of the loss may cancel, so that the largest of them sets the error.
        size = sum(abs(part[-1]) * rows for part in parts) + abs(total)
        assert abs(J - total / divisor) <= (1e-5 if dtype == "float32" else 1e-12) * size / divisor
        assert_agree(grad, assemble(net, parts, divisor), dtype, 2.0)
        assert net.cost(params, X, Y, sample_weight=weights) == J
        for threads in (2, 3, 7):
            again, same = net.cost_and_gradient(params, X, Y, sample_weight=weights, threads=threads)
            assert (again, same.tobytes()) == (J, grad.tobytes())


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("rows", [1, 40, 130])
def test_outputs_and_their_derivatives_are_those_of_single_networks(dtype, rng, rows, draw):
    net, params, X, Y = problem(dtype, rng, rows)
    A, J, Jx = net.forward(params, X), net.jacobian(params, X), net.input_jacobian(params, X)
    d_params, d_X = rng.normal(size=params.shape).astype(dtype), rng.normal(size=X.shape).astype(dtype)
    tangents = net.jvp(params, X, d_params, d_X)
    trace = net.trace(params, X)
    np.testing.assert_array_equal(trace.activations[-1], A)
    np.testing.assert_array_equal(tangents[0], A)
    dA = rng.normal(size=A.shape).astype(dtype)
    grad, dX = net.backward(params, X, dA, input_gradient=True)
    expected_dX, parts = 0.0, []
    directions = [p for _, p, *_ in singles(net, d_params)]
    for (own, p, outputs, columns, _), direction in zip(singles(net, params), directions):
        assert_agree(A[:, outputs], own.forward(p, X), dtype, 20)
        assert_agree(trace.logits[:, outputs], own.trace(p, X).logits, dtype, 20)
        assert_agree(Jx[:, outputs], own.input_jacobian(p, X), dtype, 20)
        assert_agree(tangents[1][:, outputs], own.jvp(p, X, direction, d_X)[1], dtype, 20)
        # A derivative that cancels, as gelu's does, is as exact as the larger ones are.
        size = max(np.abs(J[:, outputs]).max(), 0.05)
        for i in range(0, rows, 11):
            for k, of_output in enumerate(own.jacobian(p, X[i : i + 1])[0]):
                one = assemble(net, [(own, of_output, outputs, columns, 1.0)])
                np.testing.assert_allclose(J[i, outputs.start + k], one, rtol=0, atol=20 * AGREEMENT[dtype] * size)
        own_grad, own_dX = own.backward(p, X, np.ascontiguousarray(dA[:, outputs]), input_gradient=True)
        parts.append((own, own_grad, outputs, columns, 1.0))
        expected_dX = expected_dX + own_dX.astype(np.float64)
    assert_agree(grad, assemble(net, parts), dtype, 20)
    assert_agree(dX, expected_dX.astype(dtype), dtype, 20)
    assert_agree(trace.backward(dA), grad, dtype, 20)
    assert_agree(net.backward(params, X, trace.deltas(dA)[-1], logits=True), grad, dtype, 20)
    rows_of = net.per_row_gradients(params, X, Y)
    assert_agree(rows_of.mean(axis=0), net.cost_and_gradient(params, X, Y)[1], dtype, 20)
    norms = np.linalg.norm(rows_of.astype(np.float64), axis=1).astype(dtype)
    assert_agree(net.gradient_norms(params, X, Y), norms, dtype, 20)


def test_what_has_no_weight_does_not_count(dtype, rng):
    """Targets that one head lacks are NaN under weight 0, and the gradient is that of a placeholder, bit for bit."""
    for rows in (3, 40, 300):
        net, params, X, Y = problem(dtype, rng, rows)
        w = (rng.uniform(size=Y.shape) * (rng.random(Y.shape) < 0.6)).astype(dtype)
        w[0] = 1
        hidden = np.where(w == 0, np.nan, Y)
        for how in ({}, {"clip_norm": 0.3}):
            J, grad = net.cost_and_gradient(params, X, Y, sample_weight=w, **how)
            again, found = net.cost_and_gradient(params, X, hidden, sample_weight=w, **how)
            assert np.isfinite(J)
            assert (J, grad.tobytes()) == (again, found.tobytes())


def test_a_loss_of_the_caller_with_a_pole(dtype, rng):
    """The rule of `output_backward` holds for heads: the derivative of the rounded output where dLoss/da is large."""
    net, params, X, _ = problem(dtype, rng, 40, [("squared_error", 2), ("squared_error", 3, {"output": "sigmoid"})])
    net.layers(params)[-1].bias[2:] += 12
    a = net.forward(params, X)
    dA = np.zeros_like(a)
    dA[:, 2:] = np.divide(1, 1 - a[:, 2:], out=dA[:, 2:].copy(), where=a[:, 2:] < 1)  # of -log(1 - a)
    delta = np.where(dA == 0, 0, a)
    assert (dA > 1e4).any()
    expected = net.backward(params, X, delta, logits=True)
    assert_agree(net.trace(params, X).backward(dA), expected, dtype, 4.0)
    if bpcore.backend != "python":  # whose products may round the outputs otherwise
        assert_agree(net.backward(params, X, dA), expected, dtype, 4.0)


def test_gradients_are_right_by_differences(rng):
    net, params, X, Y = problem("float64", rng, 20, MIXED)
    assert bpcore.check_gradient(net, params, X, Y, 0.1) < 1e-5
    kinked = [("absolute_error", 2, {"output": "relu"}), ("hinge", 1), ("quantile", 2, {"quantile": 0.2})]
    net, params, X, Y = problem("float64", rng, 50, kinked)
    error = bpcore.check_gradient(net, params, X, Y)
    assert error < 1e-5
    assert error.checked > net.n_parameters // 2


def test_a_kink_of_one_head_is_seen(rng):
    """An output on its kink, in a head that is not the first: the entries it concerns are left out, or one-sided."""
    net = bpcore.Network([1, 3], [], [("squared_error", 1), ("squared_error", 2, {"output": "relu"})])
    params = np.array([1.0, 2.0, 3.0, 0.0, 0.0, -3.0])
    assert bpcore.check_gradient(net, params, [[1.0]], [[0.5, 1.0, 1.0]]) < 1e-6


@pytest.mark.parametrize("optimizer", [lambda: bpcore.Adam(0.05), lambda: bpcore.GradientDescent(0.1, 0.5)])
def test_training_learns_all_heads_at_once(dtype, rng, optimizer):
    X = rng.uniform(-1, 1, (300, 2)).astype(dtype)
    labels = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    Y = np.hstack([np.eye(3)[labels], X[:, :1] * X[:, 1:]]).astype(dtype)
    net = bpcore.Network([2, 16, 4], "tanh", [("cross_entropy", 3), ("squared_error", 1)], dtype=dtype)
    params = net.initialize(seed=1)
    before = net.cost(params, X, Y)
    bpcore.train(net, params, X, Y, optimizer=optimizer(), epochs=60, batch_size=30, seed=0)
    assert net.cost(params, X, Y) < 0.3 * before
    outputs = net.forward(params, X)
    assert (outputs[:, :3].argmax(axis=1) == labels).mean() > 0.9
    np.testing.assert_allclose(outputs[:, :3].sum(axis=1), 1, rtol=1e-5)


def test_populations_have_the_costs_of_their_networks(dtype, rng):
    net, params, X, Y = problem(dtype, rng, 30, MIXED)
    many = np.stack([params, params / 2, -params])
    assert net.cost(many, X, Y).tolist() == [net.cost(one, X, Y) for one in many]
    np.testing.assert_array_equal(net.forward(many, X), [net.forward(one, X) for one in many])
    own = np.stack([Y, Y, Y])
    assert net.cost(many, np.stack([X, X, X]), own).tolist() == net.cost(many, X, Y).tolist()
    own[1, 2, 0] = -1
    with pytest.raises(ValueError, match=r"targets of cross_entropy must be >= 0, got Y\[1\]\[2, 0\] = -1"):
        net.cost(many, np.stack([X, X, X]), own)


# ------------------------------------------------------------------------------------------------- the object itself


def test_heads_are_named_tuples():
    net = bpcore.Network([2, 9], loss=MIXED)
    assert (net.loss, net.output, net.loss_parameter) == ("heads", "heads", None)
    assert net.heads == (
        ("cross_entropy", 3, "softmax", 0.0, 1.0),
        ("huber", 2, "tanh", 0.5, 2.0),
        ("gaussian_nll", 4, "identity", None, 1.0),
    )
    assert bpcore.Network([2, 3], loss="huber", output="relu", delta=2).heads == (("huber", 3, "relu", 2.0, 1.0),)


def test_one_head_of_weight_1_is_a_plain_network():
    plain = bpcore.Network([2, 3], loss="huber", output="relu", delta=2)
    assert bpcore.Network([2, 3], loss=[("huber", 3, {"output": "relu", "delta": 2})]) == plain
    scaled = bpcore.Network([2, 3], loss=[("squared_error", 3, {"weight": 0.5})])
    assert scaled.loss == "heads"
    params, X, Y = scaled.initialize(0), np.ones((4, 2)), np.zeros((4, 3))
    assert scaled.cost(params, X, Y) == bpcore.Network([2, 3]).cost(params, X, Y) / 2


def test_heads_make_a_network_again():
    net = bpcore.Network([2, 9], loss=MIXED)
    assert bpcore.Network(net.sizes, net.hidden, net.heads) == net
    changed = [net.heads[0]._replace(weight=0.5), *net.heads[1:]]
    assert bpcore.Network(net.sizes, net.hidden, changed).heads == tuple(changed)
    with pytest.raises(ValueError, match=r"loss\[0\]: loss must be one of"):
        bpcore.Network([2, 9], loss=[bpcore.Head("step", 9, "identity")])


def test_equal_networks_are_equal():
    net = bpcore.Network([2, 9], loss=MIXED)
    same = (eval(repr(net), {"Network": bpcore.Network}), pickle.loads(pickle.dumps(net)), copy.deepcopy(net))
    for other in (*same, bpcore.Network([2, 9], loss=tuple(map(tuple, MIXED)))):
        assert (other, hash(other)) == (net, hash(net))
    other = [*MIXED[:1], ("huber", 2, {"delta": 0.5, "output": "tanh"}), MIXED[2]]
    for different in (bpcore.Network([2, 9]), bpcore.Network([2, 9], loss=other)):
        assert different != net


@pytest.mark.parametrize("suffix", MODEL_SUFFIXES)
def test_a_model_keeps_its_heads(tmp_path, rng, suffix):
    net = bpcore.Network([2, 9], loss=MIXED, dtype="float32")
    bpcore.save(tmp_path / f"m{suffix}", net, net.initialize(rng))
    assert bpcore.load(tmp_path / f"m{suffix}").network == net


def test_each_head_is_initialized_as_its_activation_asks():
    """Glorot's limit is that of the head's own outputs."""
    net = bpcore.Network([100, 600], [], [("squared_error", 300), ("squared_error", 300, {"output": "relu"})])
    (weights, bias) = net.layers(net.initialize(seed=0))[0]
    limit = np.sqrt(6 / 400)
    assert 0.99 * limit < np.abs(weights[:300]).max() <= limit
    np.testing.assert_allclose(weights[300:].std(), np.sqrt(2 / 100), rtol=0.02)
    assert not bias.any()


def test_the_last_head_grows(rng):
    net = bpcore.Network([2, 5], loss=[("squared_error", 2), ("cross_entropy", 3)])
    params = net.initialize(rng)
    larger, grown = net.grow(params, inputs=3, outputs=6)
    assert larger.heads[-1].n_outputs == 4
    X = rng.normal(size=(5, 2))
    found = larger.trace(grown, np.hstack([X, np.ones((5, 1))])).logits
    np.testing.assert_allclose(found[:, :5], net.trace(params, X).logits)
    assert not found[:, 5].any()
    net = bpcore.Network([2, 9], loss=MIXED)
    with pytest.raises(ValueError, match="outputs must stay 9 for gaussian_nll"):
        net.grow(net.initialize(0), outputs=11)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ([], ValueError, r"loss must be for all 5 outputs of the network, got heads with 0"),
        ([("squared_error", 2)], ValueError, "for all 5 outputs of the network, got heads with 2"),
        ([("squared_error", 2), ("huber", 4)], ValueError, "for all 5 outputs of the network, got heads with 6"),
        (["squared_error", "huber"], TypeError, r"loss\[0\] must be a loss and its outputs, as in \('huber', 2\)"),
        ([("squared_error",)], TypeError, r"loss\[0\] must be a loss and its outputs"),
        ([("squared_error", 2), ("huber", 3, 0.5)], TypeError, r"loss\[1\]\[2\] must be a dict of options, got 0.5"),
        ([("squared_error", 5, {"scale": 1})], ValueError, r"loss\[0\]\[2\] must have options among .*, got 'scale'"),
        ([("squared_error", 0), ("huber", 5)], ValueError, r"loss\[0\]\[1\] must be >= 1, got 0"),
        ([("squared_error", 2.5), ("huber", 5)], TypeError, r"loss\[0\]\[1\] must be an integer, got 2.5"),
        ([("huber", 3), ("entropy", 2)], ValueError, r"loss\[1\]: loss must be one of .*, got 'entropy'"),
        ([("huber", 3), (7, 2)], TypeError, r"loss\[1\]: loss must be a name, got 7"),
        ([("huber", 3), ("poisson", 2, {"output": "relu"})], ValueError, r"loss\[1\]: output must be 'exp'"),
        ([("huber", 3, {"delta": 0}), ("poisson", 2)], ValueError, r"loss\[0\]: delta must be .* > 0"),
        ([("huber", 3, {"gamma": 2.0}), ("poisson", 2)], ValueError, r"loss\[0\]: gamma is a parameter of focal"),
        ([("huber", 2), ("gaussian_nll", 3)], ValueError, r"loss\[1\]: gaussian_nll needs two outputs"),
        ([("huber", 3, {"weight": 0}), ("poisson", 2)], ValueError, r"loss\[0\]: weight must be .* > 0"),
        ([("huber", 3, {"weight": 1e-320}), ("poisson", 2)], ValueError, r"loss\[0\]: weight must be in the range"),
        (7, TypeError, "loss must be a name or a sequence of heads, got 7"),
        ({"huber": 5}, TypeError, "loss must be a name or a sequence of heads, got {"),
    ],
)
def test_errors_name_the_head(loss, error, message):
    with pytest.raises(error, match=message):
        bpcore.Network([2, 5], loss=loss)


def test_options_are_given_to_the_head_that_they_are_of():
    with pytest.raises(ValueError, match="delta must be given to the head that it is of"):
        bpcore.Network([2, 5], loss=[("huber", 3), ("poisson", 2)], delta=0.5)
    with pytest.raises(ValueError, match="output must be given to the head that it is of"):
        bpcore.Network([2, 5], loss=[("huber", 3), ("poisson", 2)], output="tanh")


def test_errors_of_targets_name_their_loss(dtype, rng):
    net, params, X, Y = problem(dtype, rng, 6, [("squared_error", 2), ("poisson", 1), ("gamma", 2)])
    Y[:, :2] -= 5  # any number does for the first
    net.cost_and_gradient(params, X, Y)
    for column, loss, limit, value in ((2, "poisson", ">= 0", -1), (4, "gamma", "> 0", 0)):
        wrong = Y.copy()
        wrong[3, column] = value
        with pytest.raises(ValueError, match=rf"targets of {loss} must be {limit}, got Y\[3, {column}\] = {value}"):
            net.cost_and_gradient(params, X, wrong)
        net.cost_and_gradient(params, X, wrong, sample_weight=np.array([1, 1, 1, 0, 1, 1], dtype))
        weights = np.ones_like(Y)
        weights[3, column] = 0
        net.cost_and_gradient(params, X, wrong, sample_weight=weights)
    with pytest.raises(ValueError, match=r"Y must have shape \(6, 5\), the targets of all heads .*, got \(6,\)"):
        net.cost_and_gradient(params, X, np.zeros(6, int))
