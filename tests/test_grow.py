"""Networks that get more inputs and outputs: what was learned stays, and so does the state of the optimizer."""

from __future__ import annotations

import copy

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import COMBINATIONS, SLOWNESS, assert_agree, make_data, make_parameters

import bpcore

pytestmark = pytest.mark.usefixtures("backend")

shapes = hypothesis.given(
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    more=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    seed=st.integers(0, 2**20),
)
quick = hypothesis.settings(
    max_examples=40 if SLOWNESS <= 5 else 5,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

OPTIMIZERS = {
    "plain": lambda: bpcore.GradientDescent(0.05),
    "momentum": lambda: bpcore.GradientDescent(lambda step: 0.05 / (1 + step), momentum=0.9),
    "nesterov": lambda: bpcore.GradientDescent(0.05, momentum=0.8, nesterov=True),
    "adam": lambda: bpcore.Adam(0.01),
}


def by_hand(net, larger, vector):
    """A vector of a larger network, entry by entry: 0 at the new places."""
    found, begin, end = [], 0, len(vector)
    for n_in, n_out, new_in, new_out in zip(net.sizes, net.sizes[1:], larger.sizes, larger.sizes[1:]):
        for i in range(new_out):
            found += [vector[begin + i * n_in + j] if i < n_out and j < n_in else 0.0 for j in range(new_in)]
        begin += n_in * n_out
        found += [vector[begin + i] if i < n_out else 0.0 for i in range(new_out)]
        begin += n_out
    assert begin == end
    return np.array(found, vector.dtype)


@quick
@shapes
def test_every_weight_stays_where_it_belongs(dtype, sizes, more, seed):
    rng = np.random.default_rng(seed)
    net = bpcore.Network(sizes, "tanh", dtype=dtype)
    params = rng.normal(size=net.n_parameters).astype(dtype)
    before = params.copy()
    larger, grown = net.grow(params, sizes[0] + more[0], sizes[-1] + more[1])
    assert type(larger) is bpcore.Network
    assert larger == bpcore.Network([sizes[0] + more[0], *sizes[1:-1], sizes[-1] + more[1]], "tanh", dtype=dtype)
    assert grown.dtype == dtype
    np.testing.assert_array_equal(grown, by_hand(net, larger, params))
    np.testing.assert_array_equal(params, before)
    assert not np.shares_memory(params, grown)


@quick
@shapes
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_the_old_logits_are_the_same_function_of_the_old_inputs(dtype, loss, sizes, more, seed):
    """Whatever the new inputs are; and those of new outputs are 0."""
    rng = np.random.default_rng(seed)
    net = bpcore.Network(sizes, "gelu", loss, dtype=dtype)
    params = make_parameters(net, rng)
    X = rng.normal(size=(9, sizes[0])).astype(dtype)
    larger, grown = net.grow(params, inputs=sizes[0] + more[0], outputs=sizes[-1] + more[1])
    wide = np.column_stack([X, rng.normal(scale=1e6, size=(9, more[0]))]).astype(dtype)
    before, after = net.trace(params, X), larger.trace(grown, wide)
    assert_agree(after.logits[:, : sizes[-1]], before.logits, dtype)
    assert not after.logits[:, sizes[-1] :].any()
    for kept, found in zip(before.activations[1:-1], after.activations[1:-1]):
        assert_agree(found, kept, dtype)


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_every_loss_and_output(loss, output, dtype, rng):
    net = bpcore.Network([3, 6, 2], "silu", loss, output, dtype)
    params = make_parameters(net, rng)
    if loss == "gaussian_nll":
        with pytest.raises(ValueError, match="outputs must stay 2 for gaussian_nll, .* got 5"):
            net.grow(params, inputs=4, outputs=5)
        return
    larger, grown = net.grow(params, inputs=4, outputs=5)
    assert (larger.hidden, larger.loss, larger.output, larger.dtype) == (net.hidden, loss, output, net.dtype)
    X = rng.normal(size=(7, 4)).astype(dtype)
    found = larger.forward(grown, X)
    if output == "softmax":
        found[:, :2] /= found[:, :2].sum(axis=1, keepdims=True)
        assert_agree(found[:, :2], net.forward(params, np.ascontiguousarray(X[:, :3])), dtype)
    else:
        at_0 = {"sigmoid": 0.5, "exp": 1.0, "softplus": np.log(2)}.get(output, 0.0)
        assert_agree(found[:, :2], net.forward(params, np.ascontiguousarray(X[:, :3])), dtype)
        np.testing.assert_allclose(found[:, 2:], at_0, rtol=1e-6)


def test_new_weights_learn_from_the_first_step_but_those_of_relu(rng):
    """The reason of zeros, and of a seed for relu, whose derivative at 0 is 0."""
    X, Y = rng.normal(size=(20, 4)), np.tile([1.0, 1, 1, 2], (20, 1))
    for output in ("identity", "relu"):
        net = bpcore.Network([3, 6, 2], "tanh", output=output)
        for seed in (None, 0):
            larger, grown = net.grow(make_parameters(net, rng), 4, 4, seed)
            _, grad = larger.cost_and_gradient(grown, X, Y)
            first, last = larger.layers(grad)
            assert first.weights[:, 3].all()
            assert last.weights[2:].any(axis=1).tolist() == [output == "identity" or seed == 0] * 2
            if last.weights[2:].any():
                assert not np.array_equal(last.weights[2], last.weights[3])


@pytest.mark.parametrize("sizes", [(3, 2), (3, 6, 2)])
def test_a_seed_draws_the_weights_of_new_outputs(sizes, dtype, rng):
    net = bpcore.Network(sizes, "relu", dtype=dtype)
    params = make_parameters(net, rng)
    larger, zeros = net.grow(params, inputs=5, outputs=4)
    for seed in (7, np.random.default_rng(7)):
        _, grown = net.grow(params, inputs=5, outputs=4, seed=seed)
        drawn = larger.layers(larger.initialize(7))[-1].weights
        last = larger.layers(grown)[-1]
        np.testing.assert_array_equal(last.weights[2:, : sizes[-2]], drawn[2:, : sizes[-2]])
        assert last.weights[2:, : sizes[-2]].all()
        last.weights[2:, : sizes[-2]] = 0
        np.testing.assert_array_equal(grown, zeros)
    np.testing.assert_array_equal(net.grow(params, inputs=4, seed=7)[1], net.grow(params, inputs=4)[1])


@quick
@shapes
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_grows_by_zeros(name, dtype, sizes, more, seed):
    rng = np.random.default_rng(seed)
    net = bpcore.Network(sizes, "tanh", dtype=dtype)
    optimizer, params = OPTIMIZERS[name](), net.initialize(0)
    for _ in range(3):
        optimizer.step(params, rng.normal(size=params.shape))
    before = copy.deepcopy(optimizer)
    larger, _ = net.grow(params, sizes[0] + more[0], sizes[-1] + more[1], optimizer=optimizer)
    assert optimizer.steps == 3
    assert optimizer.last_learning_rate == before.last_learning_rate
    assert len(optimizer._state) == {"plain": 0, "adam": 2}.get(name, 1)
    for old, new in zip(before._state, optimizer._state):
        assert new.dtype == dtype
        np.testing.assert_array_equal(new, by_hand(net, larger, old))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_by_hand(name, dtype, rng):
    """The rules of the optimizers in NumPy, with vectors that are grown entry by entry."""
    net = bpcore.Network([3, 5, 2], "tanh", dtype=dtype)
    X, Y, _ = make_data((5, 5, 3), net.loss, dtype, 40, rng)
    params, optimizer = make_parameters(net, rng), OPTIMIZERS[name]()
    velocity, square = np.zeros((2, net.n_parameters))
    expected = params.astype(np.float64)
    rate = optimizer.learning_rate

    def by_rule(network, X, Y, step):
        nonlocal velocity, square, expected
        g = bpcore.Network(network.sizes, "tanh").cost_and_gradient(expected, X, Y, 0.01)[1]
        if name == "adam":
            velocity, square = 0.9 * velocity + 0.1 * g, 0.999 * square + 0.001 * g * g
            mean, root = velocity / (1 - 0.9**step), np.sqrt(square / (1 - 0.999**step))
            expected = expected - rate * mean / (root + 1e-8)
        else:
            momentum = {"plain": 0.0, "momentum": 0.9, "nesterov": 0.8}[name]
            velocity = momentum * velocity + g
            now = rate(step - 1) if callable(rate) else rate
            expected = expected - now * (g + momentum * velocity if name == "nesterov" else velocity)

    for step in range(1, 6):
        x, y = X[:, :3], Y[:, :2]
        optimizer.step(params, net.cost_and_gradient(params, x, y, 0.01)[1])
        by_rule(net, x, y, step)
    larger, params = net.grow(params, inputs=5, outputs=3, optimizer=optimizer)
    velocity, square, expected = (by_hand(net, larger, v) for v in (velocity, square, expected))
    for step in range(6, 16):
        optimizer.step(params, larger.cost_and_gradient(params, X, Y, 0.01)[1])
        by_rule(larger, X, Y, step)
    assert optimizer.steps == 15
    np.testing.assert_allclose(params, expected, rtol=0, atol=1e-10 if dtype == "float64" else 1e-4)
    assert larger.layers(params)[0].weights[:, 3:].all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_train_goes_on_as_if_nothing_had_grown(name, dtype, rng):
    """New inputs that are 0, and a new output that is right, change nothing in training."""
    net = bpcore.Network([3, 5, 2], "tanh", dtype=dtype)
    X, Y, _ = make_data(net.sizes, net.loss, dtype, 40, rng)
    params, optimizer = make_parameters(net, rng), OPTIMIZERS[name]()
    options = {"epochs": 3, "batch_size": 8, "l2": 0.01}
    bpcore.train(net, params, X, Y, optimizer=optimizer, seed=0, **options)
    other = copy.deepcopy(optimizer)
    larger, grown = net.grow(params, inputs=6, outputs=3, optimizer=other)
    bpcore.train(net, params, X, Y, optimizer=optimizer, seed=1, **options)
    X, Y = np.pad(X, ((0, 0), (0, 3))), np.pad(Y, ((0, 0), (0, 1)))
    bpcore.train(larger, grown, X, Y, optimizer=other, seed=1, **options)
    assert other.steps == optimizer.steps == 30
    assert_agree(grown, by_hand(net, larger, params), dtype, 10)


def test_state_of_another_dtype_and_of_ones_own(rng):
    """A state keeps its dtype; and any vector of the shape grows as params do."""
    net = bpcore.Network([3, 2], dtype="float32")
    adam, params = bpcore.Adam(), net.initialize(0).astype(np.float64)
    adam.step(params, rng.normal(size=params.shape))
    moments = adam._state
    larger, grown = net.grow(params, outputs=4, optimizer=adam)
    assert grown.dtype == np.float32
    for old, new in zip(moments, adam._state):
        assert new.dtype == np.float64
        np.testing.assert_array_equal(new, by_hand(net, larger, old))
        np.testing.assert_array_equal(net.grow(old, outputs=4)[1], by_hand(net, larger, old.astype(np.float32)))
    adam.step(grown.astype(np.float64), np.ones(grown.shape))
    fresh = bpcore.Adam()
    net.grow(params, inputs=9, optimizer=fresh)
    assert fresh.steps == 0
    fresh.step(params, params.copy())


def test_grow_refuses(rng):
    net = bpcore.Network([3, 5, 2])
    params, adam = net.initialize(0), bpcore.Adam()
    adam.step(params, np.ones_like(params))
    state = [a.copy() for a in adam._state]
    other = bpcore.Adam()
    other.step(np.ones(4), np.ones(4))
    for arguments, error, message in (
        ({}, ValueError, "inputs or outputs must be given, got neither"),
        ({"inputs": 2}, ValueError, "inputs must be >= 3, got 2"),
        ({"outputs": 1}, ValueError, "outputs must be >= 2, got 1"),
        ({"inputs": 4, "outputs": -1}, ValueError, "outputs must be >= 2, got -1"),
        ({"inputs": 4.0}, TypeError, "inputs must be an integer, got 4.0"),
        ({"outputs": True}, TypeError, "outputs must be an integer, got True"),
        ({"inputs": [4]}, TypeError, "inputs must be an integer"),
        ({"inputs": 1 << 58}, ValueError, "sizes must fit into memory"),
        ({"inputs": 4, "seed": "x"}, TypeError, "seed"),
        ({"inputs": 4, "params": params[1:]}, ValueError, r"params must have shape \(32,\), got \(31,\)"),
        ({"inputs": 4, "params": None}, TypeError, "params must hold real numbers"),
        ({"inputs": 4, "optimizer": "adam"}, TypeError, "optimizer must be a GradientDescent or an Adam, got 'adam'"),
        ({"inputs": 4, "optimizer": bpcore.Adam}, TypeError, "optimizer must be a GradientDescent or an Adam, got"),
        ({"inputs": 4, "optimizer": other}, ValueError, r"of the shape of params, \(32,\), got \(4,\)"),
    ):
        with pytest.raises(error, match=message):
            net.grow(**{"params": params, "optimizer": adam, **arguments})
    for before, after in zip(state, adam._state):
        np.testing.assert_array_equal(after, before)
    assert other._state[0].shape == (4,)
    adam.step(params, np.ones_like(params))  # with which it still fits
