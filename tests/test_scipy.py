"""SciPy's optimizers take the cost and the gradient as they are, and reach solutions known otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

import bpcore

pytestmark = pytest.mark.usefixtures("backend")

TIGHT = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 2000, "maxfun": 20_000, "maxcor": 30}


def fit(net, *args, method="L-BFGS-B", options=TIGHT):
    """The parameters that the minimizer finds from zero."""
    start = np.zeros(net.n_parameters, net.dtype)
    return minimize(net.cost_and_gradient, start, args=args, jac=True, method=method, options=options).x


def with_ones(X):
    """The inputs with a column of ones behind them, for the bias."""
    return np.column_stack([X, np.ones(len(X))])


@pytest.mark.parametrize("hidden", ["tanh", "relu", "gelu"])
def test_a_network_of_either_dtype(rng, dtype, hidden):
    """SciPy hands over float64 parameters, whatever the network's dtype; the start is not changed."""
    net = bpcore.Network([3, 8, 2], hidden=hidden, dtype=dtype)
    params = net.initialize(0)
    X = rng.normal(size=(50, 3)).astype(dtype)
    Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]]).astype(dtype)
    before, start = net.cost(params, X, Y), params.tobytes()
    options = {"maxiter": 60}
    result = minimize(net.cost_and_gradient, params, args=(X, Y), jac=True, method="L-BFGS-B", options=options)
    assert params.tobytes() == start
    assert result.nit > 5
    assert result.x.shape == params.shape
    assert net.cost(result.x, X, Y) == pytest.approx(result.fun, rel=1e-12)
    assert result.fun < 0.2 * before


@pytest.mark.parametrize("method", ["CG", "BFGS", "TNC", "SLSQP"])
def test_other_methods_with_gradients(rng, method):
    net = bpcore.Network([3, 4, 1], hidden="tanh")
    params, X = net.initialize(0), rng.normal(size=(30, 3))
    Y = np.sin(X[:, :1])
    options = {"maxiter": 40} if method != "TNC" else {"maxfun": 200}
    result = minimize(net.cost_and_gradient, params, args=(X, Y), jac=True, method=method, options=options)
    assert net.cost(result.x, X, Y) < 0.5 * net.cost(params, X, Y)


def test_more_arguments_by_position(rng):
    """The penalty and the sample weights may follow X and Y in args."""
    net = bpcore.Network([3, 4, 1], hidden="tanh")
    params, X = net.initialize(0), rng.normal(size=(30, 3))
    Y, weights = np.sin(X[:, :1]), rng.uniform(size=30)
    result = minimize(net.cost_and_gradient, params, args=(X, Y, 0.01, weights), jac=True, method="L-BFGS-B")
    assert result.fun == pytest.approx(net.cost(result.x, X, Y, l2=0.01, sample_weight=weights), rel=1e-12)
    assert result.fun < net.cost(params, X, Y, l2=0.01, sample_weight=weights)


def test_scipy_agrees_with_the_gradient(rng):
    """Its own check, by forward differences."""
    net = bpcore.Network([3, 4, 2], hidden="silu")
    params, X, Y = net.initialize(0), rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    error = check_grad(lambda p: net.cost(p, X, Y, l2=0.1), lambda p: net.cost_and_gradient(p, X, Y, l2=0.1)[1], params)
    assert error < 1e-6 * net.n_parameters


# ------------------------------------------------------------------------------------------------------ least squares


@pytest.fixture
def regression(rng):
    """Inputs, and two targets with noise."""
    X = rng.normal(size=(60, 4)) @ np.diag([1.0, 2.0, 0.5, 1.5])
    Y = X @ rng.normal(size=(4, 2)) + np.array([3.0, -1.0]) + 0.3 * rng.normal(size=(60, 2))
    return X, Y


def test_least_squares(regression):
    """A network without hidden layers, with squared error, is solved by the normal equations."""
    X, Y = regression
    net = bpcore.Network([4, 2], hidden=[])
    expected = np.linalg.lstsq(with_ones(X), Y, rcond=None)[0]
    layer = net.layers(fit(net, X, Y))[0]
    np.testing.assert_allclose(layer.weights, expected[:-1].T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(layer.bias, expected[-1], rtol=1e-6, atol=1e-7)


def test_least_squares_in_float32(regression):
    """As near as its digits allow."""
    X, Y = regression
    net = bpcore.Network([4, 2], hidden=[], dtype="float32")
    expected = np.linalg.lstsq(with_ones(X), Y, rcond=None)[0]
    layer = net.layers(fit(net, X.astype("float32"), Y.astype("float32")))[0]
    np.testing.assert_allclose(layer.weights, expected[:-1].T, atol=5e-3)
    np.testing.assert_allclose(layer.bias, expected[-1], atol=5e-3)


@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_ridge_with_weights(regression, rng, l2):
    """``(A^T S A / s + l2 I') theta = A^T S y / s``: I' has no 1 for the bias, s is the sum of the weights."""
    X, Y = regression
    weights = rng.uniform(0, 3, len(X))
    weights[:5] = 0
    A = with_ones(X)
    share = weights[:, np.newaxis] / weights.sum()
    expected = np.linalg.solve(A.T @ (share * A) + l2 * np.diag([1, 1, 1, 1, 0]), A.T @ (share * Y))
    net = bpcore.Network([4, 2], hidden=[])
    layer = net.layers(fit(net, X, Y, l2, weights))[0]
    np.testing.assert_allclose(layer.weights, expected[:-1].T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(layer.bias, expected[-1], rtol=1e-6, atol=1e-7)


def test_training_by_gradient_descent_gets_there_too(regression):
    """bpcore.train with full batches reaches the solution of the normal equations."""
    X, Y = regression
    net = bpcore.Network([4, 2], hidden=[])
    expected = np.linalg.lstsq(with_ones(X), Y, rcond=None)[0]
    params = np.zeros(net.n_parameters)
    optimizer = bpcore.GradientDescent(0.2, momentum=0.8, nesterov=True)
    bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=600, batch_size=None)
    np.testing.assert_allclose(net.layers(params)[0].weights, expected[:-1].T, rtol=1e-8)
    np.testing.assert_allclose(net.layers(params)[0].bias, expected[-1], rtol=1e-8)


# ----------------------------------------------------------------------------------------- generalised linear models


def newton(X, y, mean, variance, l2):
    """Weights and bias of a generalised linear model with its canonical link, by Newton's method."""
    A, penalty = with_ones(X), l2 * np.diag([1.0] * X.shape[1] + [0.0])
    theta = np.zeros(A.shape[1])
    for _ in range(50):
        mu = mean(A @ theta)
        gradient = A.T @ (mu - y) / len(y) + penalty @ theta
        hessian = A.T @ (variance(mu)[:, np.newaxis] * A) / len(y) + penalty
        theta -= np.linalg.solve(hessian, gradient)
    assert np.max(np.abs(gradient)) < 1e-13
    return theta


def logistic(z):
    """The mean of a Bernoulli variable with logit z."""
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("l2", [0.0, 0.01, 0.5])
def test_logistic_regression(rng, l2):
    X = rng.normal(size=(80, 3))
    y = (rng.random(80) < logistic(X @ [1.0, -2.0, 0.5] + 0.3)).astype(int)
    expected = newton(X, y, logistic, lambda mu: mu * (1 - mu), l2)
    net = bpcore.Network([3, 1], loss="binary_cross_entropy")
    np.testing.assert_allclose(fit(net, X, y, l2), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_poisson_regression(rng, l2):
    X = rng.normal(size=(80, 3)) / 2
    y = rng.poisson(np.exp(X @ [1.0, -1.0, 0.5] + 0.3))
    expected = newton(X, y, np.exp, lambda mu: mu, l2)
    net = bpcore.Network([3, 1], loss="poisson")
    np.testing.assert_allclose(fit(net, X, y, l2), expected, rtol=1e-6, atol=1e-7)


def test_two_classes_by_softmax_are_logistic_regression(rng):
    """Half the difference goes to each side, so its penalty is half that of one logit of the same difference."""
    X = rng.normal(size=(80, 3))
    y = (rng.random(80) < logistic(X @ [1.0, -2.0, 0.5])).astype(int)
    one = fit(bpcore.Network([3, 1], loss="binary_cross_entropy"), X, y, 0.01)
    net = bpcore.Network([3, 2], loss="cross_entropy")
    layer = net.layers(fit(net, X, y, 0.02))[0]
    np.testing.assert_allclose(layer.weights[1] - layer.weights[0], one[:3], rtol=1e-6)
    np.testing.assert_allclose(layer.weights.sum(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(layer.bias[1] - layer.bias[0], one[3], rtol=1e-6, atol=1e-7)


def test_the_median_by_absolute_error(rng):
    """A single bias with absolute error finds the median of the targets, by training with a falling rate."""
    y = rng.normal(size=101)
    net = bpcore.Network([1, 1], loss="absolute_error")
    params = np.zeros(2)
    optimizer = bpcore.GradientDescent(lambda step: 0.5 / (1 + step))
    bpcore.train(net, params, np.zeros((101, 1)), y, optimizer=optimizer, epochs=400, batch_size=None)
    below, above = np.sort(y)[[49, 51]]
    assert below <= params[1] <= above
    assert params[0] == 0
