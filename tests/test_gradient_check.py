"""check_gradient finds nothing in right gradients, and finds the mistakes planted here."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT, FROM_LOGITS, OUTPUTS

pytestmark = pytest.mark.usefixtures("backend")

#: More than this is a mistake; the docstring says 1e-7 and 1e-3 are usual, 1e-2 is a mistake.
LIMIT = {"float64": 1e-5, "float32": 1e-2}


def targets(loss: str, rng, shape):
    """Targets that fit a loss, away from its kinks."""
    if loss == "gaussian_nll":
        return 3 * rng.normal(size=(shape[0], shape[1] // 2))
    if loss in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0], shape)
    if loss == "gamma":
        return 0.1 + rng.gamma(2.0, size=shape)
    if loss in ("binary_cross_entropy", "focal"):
        return rng.random(shape)
    if loss == "cross_entropy":
        return rng.dirichlet(np.ones(shape[1]), shape[0])
    if loss in ("poisson", "tweedie"):
        return rng.poisson(2, shape)
    return 3 * rng.normal(size=shape)  # on both sides of huber's threshold


def problem(hidden="tanh", loss="squared_error", output=None, dtype="float64", sizes=(3, 5, 4, 2)):
    """A network with parameters, biases too, and data for it."""
    rng = np.random.default_rng(11)
    net = bpcore.Network(sizes, hidden=hidden, loss=loss, output=output, dtype=dtype)
    params = (net.initialize(0) + 0.3 * rng.normal(size=net.n_parameters)).astype(dtype)
    return net, params, rng.normal(size=(7, sizes[0])), targets(loss, rng, (7, sizes[-1]))


class Planted:
    """A backend with mistakes: what it is given replaces its functions, the others are right."""

    def __init__(self, core, **functions):
        self._core = core
        self.__dict__.update(functions)

    def __getattr__(self, name):
        return getattr(self._core, name)


def plant(net, **functions):
    """The network with a backend of its own that makes mistakes; each function is given the right one first."""
    core = net._core

    def wrong(name):
        return lambda *arguments: functions[name](getattr(core, name), *arguments)

    # The short way of small calls would go round the mistakes.
    planted = {name: wrong(name) for name in functions} | {"try_cost_and_gradient": lambda *arguments: None}
    object.__setattr__(net, "_core", Planted(core, **planted))
    return net


def factor(index, by):
    """A mistake in one entry of the gradient: the sum of it times a number."""

    def accumulate(right, plan, params, batch, sums, *rest):
        losses = right(plan, params, batch, sums, *rest)
        sums[index] *= by
        return losses

    return accumulate


# -------------------------------------------------------------------------------------------------- right gradients


@pytest.mark.parametrize("loss", CANONICAL_OUTPUT)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_every_activation_with_every_loss(hidden, loss):
    """In one dtype, so that each activation and each loss comes in both."""
    dtype = ("float64", "float32")[(ACTIVATIONS.index(hidden) + [*CANONICAL_OUTPUT].index(loss)) % 2]
    net, params, X, Y = problem(hidden, loss, dtype=dtype)
    assert bpcore.check_gradient(net, params, X, Y) < LIMIT[dtype]


@pytest.mark.parametrize("loss", [loss for loss in CANONICAL_OUTPUT if loss not in FROM_LOGITS])
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_with_every_loss_that_takes_it(output, loss):
    """In one dtype, so that each output and each loss comes in both."""
    dtype = ("float64", "float32")[(OUTPUTS.index(output) + [*CANONICAL_OUTPUT].index(loss)) % 2]
    net, params, X, Y = problem("tanh", loss, output, dtype)
    assert bpcore.check_gradient(net, params, X, Y) < LIMIT[dtype]


def test_a_smooth_float64_network_has_seven_digits():
    """The docstring promises about 1e-7."""
    for hidden in ("sigmoid", "tanh", "softplus", "silu", "gelu"):
        net, params, X, Y = problem(hidden)
        assert bpcore.check_gradient(net, params, X, Y) < 1e-6, hidden


def test_labels():
    net, params, X, _ = problem("silu", "cross_entropy", sizes=(3, 5, 4))
    assert bpcore.check_gradient(net, params, X, [0, 1, 2, 3, 0, 1, 3]) < 1e-5


def test_a_network_without_hidden_layers(dtype):
    net, params, X, Y = problem((), "squared_error", dtype=dtype, sizes=(3, 2))
    assert bpcore.check_gradient(net, params, X, Y) < LIMIT[dtype]


@pytest.mark.parametrize("l2", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_penalty_and_weights(dtype, l2, weighted):
    net, params, X, Y = problem(dtype=dtype)
    weights = np.array([1, 0, 2.5, 0.1, 3, 1, 0]) if weighted else None
    error = bpcore.check_gradient(net, params, X, Y, l2=l2, sample_weight=weights)
    assert error < LIMIT[dtype]


def test_zero_where_there_is_no_gradient():
    """Dead units, and a perfect fit, have a gradient of 0 and differences of 0: no error, no warning."""
    net = bpcore.Network([2, 3, 1], hidden="relu")
    params = np.zeros(net.n_parameters)
    net.layers(params)[0].bias[...] = -1
    assert bpcore.check_gradient(net, params, np.ones((4, 2)), np.zeros(4)) < 1e-5
    linear = bpcore.Network([2, 1])
    assert bpcore.check_gradient(linear, np.zeros(3), np.zeros((4, 2)), np.zeros(4)) < 1e-5


def test_the_result_is_a_float_that_says_what_it_was_taken_over(dtype):
    net, params, X, Y = problem(dtype=dtype)
    error = bpcore.check_gradient(net, params, X, Y)
    assert isinstance(error, float)
    assert type(float(error)) is float
    assert (error.checked, error.nonzero, len(error.kinks)) == (net.n_parameters, net.n_parameters, 0)
    assert repr(error) == f"{float(error)!r} ({net.n_parameters} entries compared, {net.n_parameters} not zero)"
    for same in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (same, same.checked, same.nonzero) == (error, error.checked, error.nonzero)
    some = bpcore.check_gradient(net, params, X, Y, indices=[0, -1])
    assert some.checked == 2
    assert bpcore.check_gradient(net, params, X, Y, indices=[]).checked == 0


def test_a_gradient_of_zeros_is_told_from_one_that_was_checked():
    """Hidden biases of -1e3: everything is dead, and agrees."""
    net = bpcore.Network([3, 8, 1], "relu")
    params = net.initialize(0)
    net.layers(params)[0].bias[...] = -1e3
    error = bpcore.check_gradient(net, params, np.ones((4, 3)), np.zeros(4))
    assert (float(error), error.checked, error.nonzero) == (0.0, 41, 0)


@pytest.mark.parametrize("hidden", ["relu", "leaky_relu"])
def test_entries_on_a_kink_are_listed_and_the_others_compared(rng, dtype, hidden):
    """A row of zeros at fresh biases, which are 0: each hidden bias has its kink there, and nothing else has."""
    X, Y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    X[3] = 0
    net = bpcore.Network([4, 8, 3], hidden, "cross_entropy", dtype=dtype)
    params = net.initialize(seed=0)
    error = bpcore.check_gradient(net, params, X, Y)
    assert error < (1e-7 if dtype == "float64" else 1e-3)
    np.testing.assert_array_equal(error.kinks, np.arange(32, 40))
    assert error.checked == error.nonzero == net.n_parameters - 8
    assert "8 more on a kink" in repr(error)
    weights = np.ones(20)
    weights[3] = 0
    assert len(bpcore.check_gradient(net, params, X, Y, sample_weight=weights).kinks) == 0


def test_a_kink_beside_the_parameters_is_stepped_off():
    """A unit that changes sides within the first step, but not within smaller ones."""
    net = bpcore.Network([1, 1, 1], "relu")
    for bias in (3e-6, -3e-6):
        params = np.array([1.0, bias, 2.0, 0.5])
        error = bpcore.check_gradient(net, params, [[0.0], [1.0]], [0.0, 3.0])
        assert error < 1e-6
        assert error.checked == 4


@pytest.mark.parametrize("offset", [0.0, 3e-6, -3e-6, 1e-9])
def test_residuals_of_absolute_error_near_zero(offset):
    """At 0 the difference is that of the gradient, 0; beside it a smaller step shows the derivative."""
    net = bpcore.Network([1, 2], None, "absolute_error")
    params = np.array([1.0, 1.0, offset, 0.5])
    error = bpcore.check_gradient(net, params, [[1.0], [2.0]], [[1.0, 3.0], [0.0, 1.0]])
    assert error < 1e-6
    np.testing.assert_array_equal(error.kinks, [0, 2] if offset == 1e-9 else [])


def test_a_wrong_gradient_beside_a_kink_is_still_found(monkeypatch):
    net, params = bpcore.Network([4, 8, 1], "relu"), None
    params = net.initialize(0)
    X = np.zeros((3, 4))
    X[1:] = [[1, 2, 3, 4], [2, -1, 0, 1]]
    right = bpcore.Network.cost_and_gradient

    def wrong(self, *args, **kwargs):
        J, grad = right(self, *args, **kwargs)
        grad[-1] *= 1.5
        return J, grad

    monkeypatch.setattr(bpcore.Network, "cost_and_gradient", wrong)
    error = bpcore.check_gradient(net, params, X, [1.0, 2.0, 3.0])
    assert error > 0.3
    assert len(error.kinks) > 0


def test_nothing_is_changed(dtype):
    """Read-only data and lists will do."""
    net, params, X, Y = problem(dtype=dtype)
    weights = np.linspace(1, 2, 7)
    before = [array.tobytes() for array in (params, X, Y, weights)]
    for array in (params, X, Y, weights):
        array.flags.writeable = False
    error = bpcore.check_gradient(net, params, X, Y, 0.1, weights)
    assert error < LIMIT[dtype]
    assert [array.tobytes() for array in (params, X, Y, weights)] == before
    lists = [array.tolist() for array in (params, X, Y)]
    assert bpcore.check_gradient(net, *lists, 0.1, weights.tolist()) == error


# ------------------------------------------------------------------------------------------------- planted mistakes


def test_one_entry_doubled():
    """Any one: the error is a half, as ``|2g - g| / |2g|`` is."""
    net, params, X, Y = problem("sigmoid")
    for index in range(net.n_parameters):
        wrong = plant(problem("sigmoid")[0], accumulate=factor(index, 2))
        assert bpcore.check_gradient(wrong, params, X, Y) == pytest.approx(0.5, rel=1e-3), index
    assert bpcore.check_gradient(net, params, X, Y) < 1e-5


@pytest.mark.parametrize(
    ("by", "error"), [(-1, 2.0), (0, 1.0), (0.5, 0.5), (2, 0.5), (1.05, 0.05 / 1.05), (10, 0.9)], ids=str
)
def test_the_size_of_the_error(dtype, by, error):
    """It is relative to the larger of the two."""
    net, params, X, Y = problem(dtype=dtype)
    index = int(np.argmax(np.abs(net.cost_and_gradient(params, X, Y)[1])))
    plant(net, accumulate=factor(index, by))
    assert bpcore.check_gradient(net, params, X, Y) == pytest.approx(error, rel=2e-2)


def test_nan_is_not_small(dtype):
    """A gradient that is NaN does not pass for a right one."""
    net, params, X, Y = problem(dtype=dtype)
    plant(net, accumulate=factor(3, np.nan))
    assert not bpcore.check_gradient(net, params, X, Y) < 1e10


def test_all_entries_are_mistaken(dtype):
    """A mean where a sum is due, or a factor of two."""
    net, params, X, Y = problem(dtype=dtype)
    plant(net, accumulate=factor(slice(None), 1 / 7))
    assert bpcore.check_gradient(net, params, X, Y) == pytest.approx(6 / 7, rel=1e-2)


def test_a_forgotten_penalty(dtype):
    net, params, X, Y = problem(dtype=dtype)
    plant(net, finish=lambda right, plan, p, sums, weight, l2, out: right(plan, p, sums, weight, 0.0, out))
    assert bpcore.check_gradient(net, params, X, Y) < LIMIT[dtype]
    assert bpcore.check_gradient(net, params, X, Y, l2=0.1) > 0.05


def test_a_penalty_on_the_bias(dtype):
    net, params, X, Y = problem(dtype=dtype)

    def finish(right, plan, p, sums, weight, l2, out):
        right(plan, p, sums, weight, 0.0, out)
        out += np.float32(l2) * p

    plant(net, finish=finish)
    assert bpcore.check_gradient(net, params, X, Y, l2=0.1) > 0.05


def test_the_penalty_of_another_convention(dtype):
    """lambda/m, as in Ng's exercises."""
    net, params, X, Y = problem(dtype=dtype)
    plant(net, finish=lambda right, plan, p, sums, weight, l2, out: right(plan, p, sums, weight, l2 / 7, out))
    assert bpcore.check_gradient(net, params, X, Y, l2=0.1) > 0.05


def test_forgotten_weights(dtype):
    net, params, X, Y = problem(dtype=dtype)
    plant(net, accumulate=lambda right, plan, p, batch, *rest: right(plan, p, (*batch[:2], None, 0.0), *rest))
    assert bpcore.check_gradient(net, params, X, Y) < LIMIT[dtype]
    weights = np.array([1, 0, 2, 1, 3, 1, 0.5])
    assert bpcore.check_gradient(net, params, X, Y, sample_weight=weights) > 0.05


def test_a_forgotten_derivative(dtype):
    """The gradient of a network of identities in place of the hidden activations."""
    net, params, X, Y = problem(dtype=dtype)
    other = bpcore.Network(net.sizes, hidden="identity", dtype=dtype)
    plant(net, accumulate=lambda right, plan, *rest: right(other._plan, *rest))
    assert bpcore.check_gradient(net, params, X, Y) > 0.05


# ---------------------------------------------------------------------------------------------------------- options


def test_indices(dtype):
    """Only these are checked, in any kind of iterable, from the end too."""
    net, params, X, Y = problem(dtype=dtype)
    n = net.n_parameters
    plant(net, accumulate=factor(n - 1, 2))
    for without in (range(n - 1), [0, 3, 5], (i for i in (7, 1)), np.array([2, 4]), {6}, [-2], [1, 1]):
        assert bpcore.check_gradient(net, params, X, Y, indices=without) < LIMIT[dtype]
    for including in (None, range(n), [n - 1], [-1], (i for i in (3, n - 1)), np.array([n - 1]), [np.int32(n - 1)]):
        found = bpcore.check_gradient(net, params, X, Y, indices=including)
        assert found == pytest.approx(0.5, rel=1e-2)


def test_no_indices():
    net, params, X, Y = problem()
    assert bpcore.check_gradient(net, params, X, Y, indices=[]) == 0.0


@pytest.mark.parametrize("epsilon", [1e-7, 1e-4, np.float32(1e-5)])
def test_epsilon(epsilon):
    net, params, X, Y = problem()
    assert bpcore.check_gradient(net, params, X, Y, epsilon=epsilon) < 1e-3


def test_epsilon_is_used():
    """Wide differences are wrong by the third derivative, a hundred times as much for ten times the width."""
    net, params, X, Y = problem()
    narrow, wide = (bpcore.check_gradient(net, params, X, Y, epsilon=epsilon) for epsilon in (1e-3, 1e-2))
    assert wide / narrow == pytest.approx(100, rel=0.1)


def test_epsilon_is_relative_to_large_parameters():
    """A bias of 1e12 does not swallow it."""
    net = bpcore.Network([1, 1])
    params, X, Y = np.array([1.0, 1e12]), np.ones((2, 1)), np.full(2, 1e12 + 3e9)
    assert bpcore.check_gradient(net, params, X, Y, indices=[1]) < 1e-5


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("bad", [0, 0.0, -1e-5, np.nan, np.inf, -np.inf, "1e-5", None, True, 1j, [1e-5]], ids=repr)
def test_bad_epsilon(bad):
    net, params, X, Y = problem()
    with pytest.raises((TypeError, ValueError), match="epsilon"):
        bpcore.check_gradient(net, params, X, Y, epsilon=bad)


@pytest.mark.parametrize("tiny", [1e-300, 1e-17])
def test_epsilon_too_small_to_change_a_parameter(tiny):
    """There is no difference to divide by: an error that says so, rather than NaN with a warning."""
    net, params, X, Y = problem()
    with pytest.raises(ValueError, match="epsilon"):
        bpcore.check_gradient(net, params, X, Y, epsilon=tiny)


@pytest.mark.parametrize("bad", [[10**6], [0, -(10**6)], [54], [-55]], ids=str)
def test_indices_out_of_range(bad):
    net, params, X, Y = problem()
    with pytest.raises(IndexError, match=str(bad[-1])):
        bpcore.check_gradient(net, params, X, Y, indices=bad)


@pytest.mark.parametrize("bad", [3, 1.5, object()], ids=["3", "1.5", "object"])
def test_indices_that_are_none(bad):
    net, params, X, Y = problem()
    with pytest.raises(TypeError, match="indices"):
        bpcore.check_gradient(net, params, X, Y, indices=bad)


@pytest.mark.parametrize("bad", [[0.5], ["a"], "abc", [None], [[0, 1]]], ids=repr)
def test_indices_of_the_wrong_kind(bad):
    net, params, X, Y = problem()
    with pytest.raises((TypeError, ValueError, IndexError), match="indices"):
        bpcore.check_gradient(net, params, X, Y, indices=bad)


@pytest.mark.parametrize("bad", [None, "net", [3, 5, 2], bpcore.Network])
def test_bad_net(bad):
    _, params, X, Y = problem()
    with pytest.raises(TypeError, match="net"):
        bpcore.check_gradient(bad, params, X, Y)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("params", np.zeros(3)),
        ("params", None),
        ("params", np.zeros(46, complex)),
        ("X", np.zeros((7, 2))),
        ("X", np.zeros((0, 3))),
        ("X", np.zeros((7, 3), complex)),
        ("Y", np.zeros((6, 2))),
        ("Y", np.zeros((7, 3))),
        ("Y", "Y"),
        ("l2", -1),
        ("l2", np.nan),
        ("l2", "0"),
        ("sample_weight", np.zeros(7)),
        ("sample_weight", -np.ones(7)),
        ("sample_weight", np.ones(6)),
    ],
)
def test_bad_arguments(name, bad):
    """The errors are those of cost_and_gradient: each names the argument."""
    net, params, X, Y = problem()
    arguments = {"net": net, "params": params, "X": X, "Y": Y} | {name: bad}
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        bpcore.check_gradient(**arguments)


# ------------------------------------------------------------------------------ what is wrong on a kink, and what not


class Wrong(bpcore.Network):
    """A network whose gradient is wrong from one entry to another."""

    def cost_and_gradient(self, *args, **options):
        J, grad = super().cost_and_gradient(*args, **options)
        grad[24:30] = 1e6  # the first layer's biases
        return J, grad


def test_a_wrong_entry_on_a_kink_is_an_error(rng):
    X, Y = rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    X[2] = 0  # with zero biases every unit is on its kink there
    for hidden in ("relu", "leaky_relu"):
        net, wrong = bpcore.Network([4, 6, 2], hidden), Wrong([4, 6, 2], hidden)
        params = net.initialize(0)
        right = bpcore.check_gradient(net, params, X, Y)
        assert right < 1e-6
        assert right.kinks.tolist() == [24, 25, 26, 27, 28, 29]
        found = bpcore.check_gradient(wrong, params, X, Y)
        assert found > 0.9
        assert len(found.kinks) == 0


def test_a_kink_of_the_loss_beside_one_of_a_unit(rng):
    net = bpcore.Network([4, 6, 2], "leaky_relu", "absolute_error")
    params, X = net.initialize(0), rng.normal(size=(5, 4))
    X[2] = 0
    Y = net.forward(params, X)
    Y[:3] += 1
    assert bpcore.check_gradient(net, params, X, Y) < 1e-6


def test_at_a_minimum_and_where_all_is_saturated(rng):
    """A gradient of 0, or nearly, is right there, and what differences give is what they leave out."""
    net = bpcore.Network([4, 6, 2], "tanh")
    params, X = net.initialize(0), rng.normal(size=(5, 4))
    assert bpcore.check_gradient(net, params, X, net.forward(params, X)) < 1e-3
    net = bpcore.Network([1, 1], (), output="sigmoid")
    assert bpcore.check_gradient(net, [0, 40.0], [[1.0]], [[0.0]]) < 1e-3
