"""The gradient against independent statements of it: central differences and exact arithmetic."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from helpers import COMBINATIONS, make_data, make_parameters

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
@pytest.mark.parametrize("hidden", ["sigmoid", "silu", "softplus", "elu"])
def test_against_central_differences(loss, output, hidden, rng):
    net = bpcore.Network([3, 5, 4, 2], hidden, loss, output)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, loss, "float64", 12, rng)
    _, grad = net.cost_and_gradient(params, X, Y, 0.1, weights)
    step = 1e-5
    numeric = np.empty_like(grad)
    for i in range(len(params)):
        above, below = params.copy(), params.copy()
        above[i] += step
        below[i] -= step
        numeric[i] = (net.cost(above, X, Y, 0.1, weights) - net.cost(below, X, Y, 0.1, weights)) / (2 * step)
    np.testing.assert_allclose(grad, numeric, rtol=0, atol=2e-7 * max(1.0, np.abs(grad).max()))


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_input_gradient_against_central_differences(hidden, rng):
    net = bpcore.Network([3, 5, 2], hidden, output="sigmoid")
    params = make_parameters(net, rng)
    X, dA = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    _, dX = net.trace(params, X).backward(dA, input_gradient=True)
    step = 1e-6
    for i, j in np.ndindex(X.shape):
        above, below = X.copy(), X.copy()
        above[i, j] += step
        below[i, j] -= step
        difference = np.sum(dA * (net.forward(params, above) - net.forward(params, below))) / (2 * step)
        assert dX[i, j] == pytest.approx(difference, abs=1e-8)


def exact_activation(name, z):
    one = mpmath.mpf(1)
    return {
        "identity": lambda: z,
        "sigmoid": lambda: one / (1 + mpmath.exp(-z)),
        "tanh": lambda: mpmath.tanh(z),
        "relu": lambda: max(z, mpmath.mpf(0)),
        "leaky_relu": lambda: z if z > 0 else mpmath.mpf(0.01) * z,
        "elu": lambda: z if z > 0 else mpmath.expm1(z),
        "softplus": lambda: mpmath.log1p(mpmath.exp(z)),
        "silu": lambda: z / (1 + mpmath.exp(-z)),
        "gelu": lambda: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
    }[name]()


def exact_derivative(name, z):
    one = mpmath.mpf(1)
    s = one / (1 + mpmath.exp(-z))
    return {
        "identity": lambda: one,
        "sigmoid": lambda: s / (1 + mpmath.exp(z)),
        "tanh": lambda: mpmath.sech(z) ** 2,
        "relu": lambda: one if z > 0 else mpmath.mpf(0),
        "leaky_relu": lambda: one if z > 0 else mpmath.mpf(0.01),
        "elu": lambda: one if z > 0 else mpmath.exp(z),
        "softplus": lambda: s,
        "silu": lambda: s + z * s / (1 + mpmath.exp(z)),
        "gelu": lambda: mpmath.ncdf(z) + z * mpmath.npdf(z),
    }[name]()


def both_probabilities(z):
    """sigmoid(z), sigmoid(-z) and their logarithms, none by a difference."""
    p, q = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
    return p, q, -mpmath.log1p(mpmath.exp(-z)), -mpmath.log1p(mpmath.exp(z))


def exact_loss(loss, z, a, y):
    if loss == "squared_error":
        return (a - y) ** 2 / 2
    if loss == "huber":
        r = abs(a - y)
        return r * r / 2 if r <= 1 else r - mpmath.mpf(0.5)
    if loss == "absolute_error":
        return abs(a - y)
    if loss == "binary_cross_entropy":
        return mpmath.log1p(mpmath.exp(z)) - y * z
    if loss == "quantile":
        return abs(a - y) / 2
    if loss == "focal":
        p, q, log_p, log_q = both_probabilities(z)
        return -y * q**2 * log_p - (1 - y) * p**2 * log_q
    if loss in ("hinge", "squared_hinge"):
        return max(1 - y * a, mpmath.mpf(0)) ** (2 if loss == "squared_hinge" else 1)
    if loss == "gamma":
        return z + y * mpmath.exp(-z)
    if loss == "tweedie":
        return 2 * mpmath.exp(z / 2) + 2 * y * mpmath.exp(-z / 2)
    return mpmath.exp(z) - y * z


EXTREMES = [-1e4, -745.0, -104.0, -40.0, -17.5, -3.0, -0.5, -1e-8, 0.0, 1e-30, 1e-8, 0.7, 5.0, 17.5, 37.0, 89.0, 1e4]


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_activations_in_extreme_ranges_against_exact_arithmetic(hidden, dtype):
    """g(z) and g'(z) through a network of two identity layers round one activation, against 60 digits."""
    net = bpcore.Network([1, 1, 1], hidden, dtype=dtype)
    params = np.array([1, 0, 1, 0], dtype)
    z = np.array(EXTREMES, dtype)[:, None]
    trace = net.trace(params, z)
    _, derivative = trace.backward(np.ones_like(z), input_gradient=True)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    with mpmath.workdps(120):
        for i, x in enumerate(z[:, 0]):
            x = mpmath.mpf(float(x))
            g = float(exact_activation(hidden, x))
            right = float(exact_derivative(hidden, x))
            # erfc(-z / sqrt 2) multiplies the rounding of its argument by z^2.
            rel = eps * (20 + float(x * x) if hidden == "gelu" else 20)
            assert trace.activations[1][i, 0] == pytest.approx(g, rel=rel, abs=4 * tiny), (hidden, x)
            # The derivatives of silu and gelu have a zero, and are differences near it.
            size = 2.0 if hidden in ("silu", "gelu") and -20 < x < 0 else 0.0
            assert derivative[i, 0] == pytest.approx(right, rel=rel, abs=4 * tiny + eps * size), (hidden, x)


#: Targets. For whole ones nothing cancels; near a fraction or a count the difference is that of its terms.
TARGETS = {
    "binary_cross_entropy": [0.0, 0.25, 1.0],
    "focal": [0.0, 0.25, 1.0],
    "gamma": [0.5, 2.0],
    "hinge": [-1.0, 0.5, 1.0],
    "squared_hinge": [-1.0, 0.5, 1.0],
}


@pytest.mark.parametrize("loss", [loss for loss in CANONICAL_OUTPUT if loss not in ("cross_entropy", "gaussian_nll")])
def test_losses_in_extreme_ranges_against_exact_arithmetic(loss, dtype):
    net = bpcore.Network([1, 1], (), loss, dtype=dtype)
    params = np.array([1, 0], dtype)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    with mpmath.workdps(60):
        for z in np.array(EXTREMES, dtype):
            if loss in ("poisson", "gamma", "tweedie") and abs(z) > 80:
                continue  # exp overflows float32 there
            for y in TARGETS.get(loss, [0.0, 2.0]):
                x, target = mpmath.mpf(float(z)), mpmath.mpf(y)
                a = {"binary_cross_entropy": exact_activation("sigmoid", x), "poisson": mpmath.exp(x)}.get(loss, x)
                J, grad = net.cost_and_gradient(params, np.array([[z]], dtype), np.array([[y]], dtype))
                expected = exact_loss(loss, x, a, target)
                size = 2 * (abs(float(z)) + y) if loss == "gamma" else 0.0
                assert J == pytest.approx(float(expected), rel=16 * eps, abs=4 * tiny + eps * size), (loss, z, y)
                delta = a - target
                if loss in ("huber", "absolute_error"):
                    limit = 1 if loss == "huber" or delta == 0 else abs(delta)
                    delta = max(min(delta / limit, mpmath.mpf(1)), mpmath.mpf(-1))
                elif loss not in ("squared_error", "binary_cross_entropy", "poisson"):
                    delta = exact_loss_derivative(loss, x, target)
                size = max(abs(float(a)), y) if y not in (0.0, 1.0) or loss == "poisson" else 0.0
                size = {"gamma": 4 + abs(float(delta)), "tweedie": 4 * math.exp(min(abs(float(z)), 100) / 2)}.get(
                    loss, size
                )
                rel = (64 if loss == "focal" else 16) * eps
                assert grad[1] == pytest.approx(float(delta), rel=rel, abs=4 * tiny + 2 * eps * size), (loss, z, y)


def exact_loss_derivative(loss, z, y):
    """By z, by the formula."""
    if loss == "quantile":
        return mpmath.sign(z - y) / 2
    if loss == "hinge":
        return -y if 1 - y * z > 0 else mpmath.mpf(0)
    if loss == "squared_hinge":
        return -2 * y * max(1 - y * z, mpmath.mpf(0))
    if loss == "gamma":
        return 1 - y * mpmath.exp(-z)
    if loss == "tweedie":
        return mpmath.exp(z / 2) - y * mpmath.exp(-z / 2)
    p, q, log_p, log_q = both_probabilities(z)
    return y * q**2 * (2 * p * log_p - q) - (1 - y) * p**2 * (2 * q * log_q - p)


@pytest.mark.parametrize("logarithm", [-80.0, -3.0, 0.0, 1e-3, 5.0, 80.0])
def test_gaussian_likelihoods_against_exact_arithmetic(logarithm, dtype):
    net = bpcore.Network([1, 2], (), "gaussian_nll", dtype=dtype)
    eps = float(np.finfo(dtype).eps)
    for mean, y in ((0.5, 2.0), (1.0, 1.0), (-3.0, -3.5)):
        params = np.array([0, 0, mean, logarithm], dtype)
        J, grad = net.cost_and_gradient(params, np.array([[1.0]], dtype), np.array([[y]], dtype))
        with mpmath.workdps(60):
            s, r = mpmath.mpf(float(dtype_number(logarithm, dtype))), mpmath.mpf(mean) - mpmath.mpf(y)
            square = r * r * mpmath.exp(-s)
            assert J == pytest.approx(float((s + square) / 2), rel=16 * eps, abs=16 * eps)
            assert grad[2] == pytest.approx(float(r * mpmath.exp(-s)), rel=16 * eps)
            assert grad[3] == pytest.approx(float((1 - square) / 2), rel=16 * eps, abs=16 * eps)


def dtype_number(x, dtype):
    return np.array(x, dtype)[()]


@pytest.mark.parametrize("spread", [1.0, 30.0, 800.0, 1e4])
def test_cross_entropy_in_extreme_ranges_against_exact_arithmetic(spread, dtype, rng):
    net = bpcore.Network([1, 4], (), "cross_entropy", dtype=dtype)
    z = (rng.uniform(-1, 1, 4) * spread).astype(dtype)
    y = np.array([0.2, 0.0, 0.5, 0.1], dtype)  # not renormalised
    params = np.concatenate([np.zeros(4), z]).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(v)) for v in z]
        log_sum = mpmath.log(sum(mpmath.exp(v) for v in exact))
        weights = [mpmath.mpf(float(v)) for v in y]
        J, grad = net.cost_and_gradient(params, np.zeros((1, 1), dtype), y[None])
        assert J == pytest.approx(float(sum(w * (log_sum - v) for w, v in zip(weights, exact))), rel=20 * eps)
        delta = [float(mpmath.exp(v - log_sum) * sum(weights) - w) for w, v in zip(weights, exact)]
        np.testing.assert_allclose(grad[4:], delta, rtol=0, atol=8 * eps)
        tiny = float(np.finfo(dtype).tiny)
        for label in range(4):
            J, grad = net.cost_and_gradient(params, np.zeros((1, 1), dtype), [label])
            # A difference of logits is rounded as they are.
            rounding = eps * float(np.abs(z).max())
            right = log_sum - exact[label]
            if exact[label] == max(exact):
                right = mpmath.log1p(sum(mpmath.exp(v - exact[label]) for j, v in enumerate(exact) if j != label))
            assert J == pytest.approx(float(right), rel=20 * eps + rounding, abs=4 * tiny)
            delta = [float(mpmath.exp(v - log_sum)) for v in exact]
            delta[label] = -float(sum(mpmath.exp(v - log_sum) for j, v in enumerate(exact) if j != label))
            np.testing.assert_allclose(grad[4:], delta, rtol=20 * eps + rounding, atol=4 * tiny)
            soft = np.eye(4, dtype=dtype)[label][None]
            _, same = net.cost_and_gradient(params, np.zeros((1, 1), dtype), soft)
            np.testing.assert_allclose(same[4:], delta, rtol=20 * eps + rounding, atol=4 * tiny)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_a_small_network_against_exact_arithmetic(scale, dtype, rng):
    """A 2-3-1 network in 50 digits: cost, and the gradient by mpmath's own differentiation."""
    net = bpcore.Network([2, 3, 1], "sigmoid", "binary_cross_entropy", dtype=dtype)
    params = (make_parameters(net, rng) * np.dtype(dtype).type(scale)).astype(dtype)
    X, Y = rng.normal(size=(3, 2)).astype(dtype), np.array([[0.0], [1.0], [0.3]], dtype)
    J, grad = net.cost_and_gradient(params, X, Y)
    with mpmath.workdps(50):

        def cost(*p):
            total = mpmath.mpf(0)
            for x, y in zip(X.tolist(), Y[:, 0].tolist()):
                z = [p[2 * j] * x[0] + p[2 * j + 1] * x[1] + p[6 + j] for j in range(3)]
                z = sum(p[9 + j] * exact_activation("sigmoid", z[j]) for j in range(3)) + p[12]
                total += exact_loss("binary_cross_entropy", z, None, mpmath.mpf(y))
            return total / 3

        point = [mpmath.mpf(float(v)) for v in params]
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        assert J == pytest.approx(float(cost(*point)), rel=tolerance)
        exact = []
        for i in range(13):
            h = mpmath.mpf(10) ** -20
            above, below = point.copy(), point.copy()
            above[i] += h
            below[i] -= h
            exact.append(float((cost(*above) - cost(*below)) / (2 * h)))
    np.testing.assert_allclose(grad, exact, rtol=0, atol=tolerance * max(1.0, np.abs(exact).max()))
