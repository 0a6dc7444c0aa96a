"""What a network computes, from the formulas alone: no code here is the package's.

- :class:`Reference`: forward and backward pass in float64, sums over rows and what is of each row by itself, and beside
  each number an estimate of what rounding to the dtype under test does to it. Errors of the units of a layer are taken
  as independent, those of the rows as not.
- :func:`by_complex_step`: the derivative of the same formulas along a direction, ``Im f(x + ihd) / h``, exact to the
  last digits and without any backpropagation.
- :func:`by_jax`: JAX's automatic differentiation, where JAX is installed.
"""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np

try:
    from scipy import special
except ImportError:  # then there is no gelu of complex numbers
    special = None

LEAKY_SLOPE = 0.01
STEP = 1e-30
#: The real part of a complex product is off by about STEP squared, so that this much is no more than 0.
NOTHING = 1e-45
#: The loss is computed from the logits of this output, and its derivative is with respect to these.
FROM_LOGITS = {
    "binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "poisson": "exp", "gamma": "exp", "tweedie": "exp",
    "focal": "sigmoid",
}  # fmt: skip
#: The parameters of losses that have one, where none is given; label smoothing is part of the targets here.
PARAMETERS = {"huber": 1.0, "quantile": 0.5, "tweedie": 1.5, "focal": 2.0}
#: Losses with a kink.
KINKED_LOSSES = ("absolute_error", "quantile", "hinge")
#: Rows, at most, whose gradients are added one after another. If they are equal all sums are rounded the same way, and
#: the error grows with their number.
ONE_AFTER_ANOTHER = 2048
#: Activations with a kink at 0, where the dtype may decide which side a row falls on.
KINKED = ("relu", "leaky_relu")
#: Activations made of straight pieces.
STRAIGHT = ("identity", *KINKED)


# ----------------------------------------------------------------- activations and losses, of real and complex numbers


def sigmoid(z):
    positive = z.real > 0
    e = np.exp(np.where(positive, -z, z))
    return np.where(positive, 1, e) / (1 + e)


def softplus(z):
    positive = z.real > 0
    return np.where(positive, z, 0) + np.log1p(np.exp(np.where(positive, -z, z)))


def normal_cdf(z):
    if special is not None:
        return special.erfc(-z / math.sqrt(2)) / 2
    real = np.vectorize(math.erfc, otypes=[float])(-z.real / math.sqrt(2)) / 2
    if not np.iscomplexobj(z):
        return real
    # Of a complex step, so small that its square is nothing: the first term of Taylor's series is all of it.
    return real + 1j * z.imag * np.exp(-z.real * z.real / 2) / math.sqrt(2 * math.pi)


def softmax(z):
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def elu(z):
    return np.where(z.real > 0, z, np.expm1(np.where(z.real > 0, 0, z)))


ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z.real > NOTHING, z, 0),
    "leaky_relu": lambda z: np.where(z.real > NOTHING, z, LEAKY_SLOPE * z),
    "elu": elu,
    "softplus": softplus,
    "silu": lambda z: z * sigmoid(z),
    "gelu": lambda z: z * normal_cdf(z),
    "softmax": softmax,
    "exp": np.exp,
}

#: g'(z) of real numbers, from z and a; the softmax has a Jacobian instead.
DERIVATIVES = {
    "identity": lambda z, a: np.ones_like(z),
    "sigmoid": lambda z, a: sigmoid(z) * sigmoid(-z),
    "tanh": lambda z, a: 1 / np.cosh(np.clip(z, -350, 350)) ** 2,
    "relu": lambda z, a: (z > 0) * 1.0,
    "leaky_relu": lambda z, a: np.where(z > 0, 1, LEAKY_SLOPE),
    "elu": lambda z, a: np.exp(np.minimum(z, 0)),
    "softplus": lambda z, a: sigmoid(z),
    "silu": lambda z, a: sigmoid(z) * (1 + z * sigmoid(-z)),
    "gelu": lambda z, a: normal_cdf(z) + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
    "exp": lambda z, a: a,
}


def absolute(r):
    return np.where(r.real < -NOTHING, -r, np.where(r.real > NOTHING, r, 0))


def log_softmax(z):
    z = z - z.real.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def hinge(margin):
    return np.where(margin.real > NOTHING, margin, 0)


def gaussian(a, y):
    mean, logarithm = np.hsplit(a, 2)
    return (logarithm + (y - mean) ** 2 * np.exp(-logarithm)) / 2


def focal(z, y, gamma):
    right, wrong = sigmoid(-z) ** gamma * softplus(-z), sigmoid(z) ** gamma * softplus(z)
    return y * right + (1 - y) * wrong


#: The loss of each entry, from z, a, y and the parameter of the loss.
LOSSES = {
    "squared_error": lambda z, a, y, p: (a - y) ** 2 / 2,
    "huber": lambda z, a, y, p: np.where(absolute(a - y).real <= p, (a - y) ** 2 / 2, p * (absolute(a - y) - p / 2)),
    "absolute_error": lambda z, a, y, p: absolute(a - y),
    "binary_cross_entropy": lambda z, a, y, p: y * softplus(-z) + (1 - y) * softplus(z),
    "cross_entropy": lambda z, a, y, p: -y * log_softmax(z),
    "poisson": lambda z, a, y, p: np.exp(z) - y * z,
    "quantile": lambda z, a, y, p: np.where((a - y).real > 0, (1 - p) * (a - y), p * (y - a)),
    "gaussian_nll": lambda z, a, y, p: gaussian(a, y),
    "gamma": lambda z, a, y, p: z + y * np.exp(-z),
    "tweedie": lambda z, a, y, p: np.exp((2 - p) * z) / (2 - p) - y * np.exp((1 - p) * z) / (1 - p),
    "focal": lambda z, a, y, p: focal(z, y, p),
    "hinge": lambda z, a, y, p: hinge(1 - y * a),
    "squared_hinge": lambda z, a, y, p: hinge(1 - y * a) ** 2,
}


def parameter_of(net):
    """The parameter of a network's loss; 0 if it has none."""
    given = getattr(net, "parameter", None)
    return PARAMETERS.get(net.loss, 0.0) if given is None else given


def layers(sizes, flat):
    """Views of weights and bias of each layer."""
    found, start = [], 0
    for n_in, n_out in zip(sizes, sizes[1:]):
        middle, end = start + n_in * n_out, start + n_in * n_out + n_out
        found.append((flat[start:middle].reshape(n_out, n_in), flat[middle:end]))
        start = end
    return found


def one_hot(Y, n_outputs):
    """Labels as rows with a single 1; rows as they are."""
    return np.eye(n_outputs)[Y.astype(int)] if Y.ndim == 1 else Y.astype(np.float64)


def columns(heads):
    """Each head with the columns of its outputs and of its targets."""
    first = first_target = 0
    for head in heads:
        last, last_target = first + head.n_outputs, first_target + targets_of(head.loss, head.n_outputs)
        yield head, slice(first, last), slice(first_target, last_target)
        first, first_target = last, last_target


def targets_of(loss, n_outputs):
    """How many targets a row has."""
    return n_outputs // 2 if loss == "gaussian_nll" else n_outputs


def outputs(net, params, X):
    """z(L) and a(L), real or complex."""
    a = z = X
    for (W, b), g in zip(layers(net.sizes, params), net.activations):
        z = a @ W.T + b
        if g == "heads":
            a = np.hstack([ACTIVATIONS[head.output](z[:, of]) for head, of, _ in columns(net.heads)])
        else:
            a = ACTIVATIONS[g](z)
    return z, a


def losses(net, z, a, Y):
    """The loss of each row, real or complex."""
    if net.loss == "heads":
        total = 0.0
        for head, of, y in columns(net.heads):
            own = SimpleNamespace(loss=head.loss, parameter=head.parameter)
            total = total + head.weight * losses(own, z[:, of], a[:, of], Y[:, y])
        return total
    return LOSSES[net.loss](z, a, Y, parameter_of(net)).sum(axis=1)


def cost(net, params, X, Y, weights, l2):
    """J, real or complex."""
    z, a = outputs(net, params, X)
    total = (weights * losses(net, z, a, Y)).sum()
    penalty = sum((W * W).sum() for W, _ in layers(net.sizes, params))
    return total / weights.sum() + l2 / 2 * penalty


def by_complex_step(function, x, direction):
    """The derivative of a real function along a direction."""
    return (function(x + 1j * STEP * direction)).imag / STEP


def by_jax(net, params, X, Y, weights, l2):
    """J's gradient with respect to params, by JAX, in float64."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp, nn = jax.numpy, jax.nn
    g = {
        "identity": lambda z: z, "sigmoid": nn.sigmoid, "tanh": jnp.tanh, "relu": nn.relu, "elu": nn.elu,
        "leaky_relu": lambda z: jnp.where(z > 0, z, LEAKY_SLOPE * z), "softplus": nn.softplus, "silu": nn.silu,
        "gelu": lambda z: nn.gelu(z, approximate=False), "softmax": nn.softmax, "exp": jnp.exp,
    }  # fmt: skip
    loss = {
        "squared_error": lambda z, a, y: (a - y) ** 2 / 2,
        "huber": lambda z, a, y: jnp.where(abs(a - y) <= q, (a - y) ** 2 / 2, q * (abs(a - y) - q / 2)),
        "absolute_error": lambda z, a, y: abs(a - y),
        "binary_cross_entropy": lambda z, a, y: -y * nn.log_sigmoid(z) - (1 - y) * nn.log_sigmoid(-z),
        "cross_entropy": lambda z, a, y: -y * nn.log_softmax(z),
        "poisson": lambda z, a, y: jnp.exp(z) - y * z,
        "quantile": lambda z, a, y: jnp.maximum(q * (y - a), (q - 1) * (y - a)),
        "gaussian_nll": lambda z, a, y: (a[:, k:] + (y - a[:, :k]) ** 2 / jnp.exp(a[:, k:])) / 2,
        "gamma": lambda z, a, y: z + y / jnp.exp(z),
        "tweedie": lambda z, a, y: a ** (2 - q) / (2 - q) - y * a ** (1 - q) / (1 - q),
        "focal": lambda z, a, y: (
            -y * nn.sigmoid(-z) ** q * nn.log_sigmoid(z) - (1 - y) * nn.sigmoid(z) ** q * nn.log_sigmoid(-z)
        ),
        "hinge": lambda z, a, y: nn.relu(1 - y * a),
        "squared_hinge": lambda z, a, y: nn.relu(1 - y * a) ** 2,
    }
    q, k = parameter_of(net), net.sizes[-1] // 2

    def J(p):
        a = z = X
        penalty = 0.0
        for (W, b), name in zip(layers(net.sizes, p), net.activations):
            z = a @ W.T + b
            a = g[name](z)
            penalty += (W * W).sum()
        return (weights[:, None] * loss[net.loss](z, a, Y)).sum() / weights.sum() + l2 / 2 * penalty

    return np.array(jax.grad(J)(jnp.asarray(params)))


# --------------------------------------------------------------------------------- the whole, with what rounding does


def _rounded_product(a, a_error, W, eps, bias=0.0):
    """Estimated error of ``a W^T + bias`` for a sum of so many terms, each unit's by itself."""
    n = W.shape[1] + 1
    return np.sqrt((n * (eps * a) ** 2 + a_error**2) @ (W * W).T + n * (eps * bias) ** 2)


class Reference:
    """A forward pass in float64 of all rows, and from it costs and gradients, each with its error.

    Parameters
    ----------
    sizes, activations, loss : the network
    params, X : ndarray
        As the package gets them; taken to float64 without a change.
    eps : float
        Of the dtype that the package computes in.
    parameter : float, optional
        Of the loss, but for label smoothing.
    heads : sequence, optional
        If the loss and the last activation are "heads": ``loss, n_outputs, output, parameter, weight`` of each.
    """

    def __init__(self, sizes, activations, loss, params, X, eps, parameter=None, heads=()) -> None:
        self.sizes, self.activations, self.loss, self.eps = tuple(sizes), tuple(activations), loss, eps
        self.parameter, self.heads = parameter, tuple(heads)
        self.params, self.X = params.astype(np.float64), X.astype(np.float64)
        self.layers = layers(self.sizes, self.params)
        self.z, self.z_error, self.derivatives = [], [], []
        self.a, self.a_error = [self.X], [np.zeros_like(self.X)]
        for (W, b), g in zip(self.layers, self.activations):
            self._forward(W, b, g)

    def _forward(self, W, b, g) -> None:
        z = self.a[-1] @ W.T + b
        error = _rounded_product(self.a[-1], self.a_error[-1], W, self.eps, b)
        if g == "heads":
            parts = [self._activated(head.output, z[:, of], error[:, of]) for head, of, _ in columns(self.heads)]
            derivative = None  # that of each head is its own
            self.of_heads = parts
            a, a_error = (np.hstack([part[i] for part in parts]) for i in (0, 1))
        else:
            a, a_error, derivative = self._activated(g, z, error)
        self.z.append(z)
        self.z_error.append(error)
        self.derivatives.append(derivative)
        self.a.append(a)
        self.a_error.append(a_error)

    def _activated(self, g, z, error):
        """a, its error, and g'(z)."""
        a = ACTIVATIONS[g](z)
        if g == "softmax":
            derivative, a_error = None, a * (error + error.max(axis=1, keepdims=True) + 4 * self.eps)
        else:
            derivative = DERIVATIVES[g](z, a)
            a_error = np.abs(derivative) * (error + 4 * self.eps * np.abs(z)) + 4 * self.eps * np.abs(a)
        return a, np.zeros_like(a) if g == "identity" and not error.any() else a_error, derivative

    def parts(self):
        """For each head: its columns of outputs and targets, its weight, and a reference that ends with it alone."""
        for (head, of, y), (a, a_error, derivative) in zip(columns(self.heads), self.of_heads):
            part = copy.copy(self)
            part.sizes, part.activations = (*self.sizes[:-1], head.n_outputs), (*self.activations[:-1], head.output)
            part.loss, part.parameter, part.heads = head.loss, head.parameter, ()
            part.z, part.z_error = [*self.z[:-1], self.z[-1][:, of]], [*self.z_error[:-1], self.z_error[-1][:, of]]
            part.a, part.a_error = [*self.a[:-1], a], [*self.a_error[:-1], a_error]
            part.derivatives = [*self.derivatives[:-1], derivative]
            yield of, y, head.weight, part

    # ------------------------------------------------------------------------------------------ what a loss makes of it

    def losses(self, Y, weights=1.0):
        """Each row's loss and its error; with ``weights`` of its entries."""
        if self.loss == "heads":
            total = errors = 0.0
            for _, y, weight, part in self.parts():
                loss, error = part.losses(Y[:, y], weights if np.ndim(weights) == 0 else weights[:, y])
                total, errors = total + weight * loss, errors + weight * error + 2 * self.eps * np.abs(weight * loss)
            return total, errors
        z, a, eps = self.z[-1], self.a[-1], self.eps
        entries = LOSSES[self.loss](z, a, Y, parameter_of(self))
        if self.loss == "gaussian_nll":
            d, (mean_error, other_error) = self._of_outputs(Y)[0], np.hsplit(self.a_error[-1], 2)
            (d_mean, d_other), (mean, other) = np.hsplit(np.abs(d), 2), np.hsplit(a, 2)
            error = d_mean * (mean_error + eps * (np.abs(mean) + np.abs(Y))) + d_other * other_error
            error += 8 * eps * (np.abs(other) + (1 + np.abs(other)) * (Y - mean) ** 2 * np.exp(-other))
        elif self.loss == "cross_entropy":
            d, _ = self.output_delta(Y)
            size = Y * (z.max(axis=1, keepdims=True) - z.min(axis=1, keepdims=True) + 1) + np.abs(entries)
            error = np.abs(d) * self.z_error[-1] + 4 * eps * size
        elif self.loss in FROM_LOGITS:
            d, d_error = self.output_delta(Y)
            size = np.abs(entries) + np.abs(Y * z) + np.abs(d * z) + 1
            if self.loss in ("gamma", "tweedie"):
                size = np.abs(z) + (self._exponentials(Y) * (1 + np.abs(z))).sum(axis=0)
            error = np.abs(d) * self.z_error[-1] + 4 * eps * size
            error += d_error * self.z_error[-1]  # the derivative changes within the error of z
        else:
            r = np.abs(a - Y)
            steep = {"squared_error": r, "huber": np.minimum(r, parameter_of(self)), "absolute_error": 1 + r * 0}
            hinged = np.abs(Y) * (2 * (1 + np.abs(Y * a)) if self.loss == "squared_hinge" else 1)
            error = steep.get(self.loss, hinged if "hinge" in self.loss else 1.0)
            error = error * (self.a_error[-1] + eps * (np.abs(a) + np.abs(Y))) + 4 * eps * np.abs(entries)
            if "hinge" in self.loss:
                error += 4 * eps * (1 + np.abs(Y * a)) * (1 + entries**0.5)
        return (weights * entries).sum(axis=1), (weights * error).sum(axis=1)

    def _exponentials(self, Y):
        """The terms of gamma's or tweedie's loss."""
        z, p = self.z[-1], parameter_of(self)
        if self.loss == "gamma":
            return np.stack([Y * np.exp(-z)])
        return np.stack([np.exp((2 - p) * z) / (2 - p), Y * np.exp((1 - p) * z) / (p - 1)])

    def output_delta(self, Y, weights=None):
        """``delta(L) = dLoss/dz(L)`` and its error; with ``weights`` of the entries of the loss."""
        if self.loss == "heads":
            found = []
            for _, y, weight, part in self.parts():
                d, error = part.output_delta(Y[:, y], None if weights is None else weights[:, y])
                found.append((weight * d, weight * error + self.eps * np.abs(weight * d)))
            return tuple(np.hstack(arrays) for arrays in zip(*found))
        if self.loss == "cross_entropy":
            Y = Y if weights is None else weights * Y
            a, a_error, total = self.a[-1], self.a_error[-1], Y.sum(axis=1, keepdims=True)
            return a * total - Y, a_error * total + 2 * self.eps * (a * total + Y)
        d, error = self._of_logits(Y) if self.loss in FROM_LOGITS else self._of_outputs(Y)
        if weights is not None:
            weights = np.tile(weights, 2) if self.loss == "gaussian_nll" else weights
            d, error = weights * d, weights * error
        return (d, error) if self.loss in FROM_LOGITS else self.through(len(self.layers), d, error)

    def _of_logits(self, Y):
        """``dLoss/dz(L)`` of a loss that is computed from its logits, and its error."""
        a, z, p, eps = self.a[-1], self.z[-1], parameter_of(self), self.eps
        rounded = self.z_error[-1] + 4 * eps * (np.abs(z) + 2)  # what an exponential makes of it, relatively
        if self.loss == "gamma":
            return 1 - Y * np.exp(-z), Y * np.exp(-z) * rounded + 2 * eps
        if self.loss == "tweedie":
            high, low = np.exp((2 - p) * z), Y * np.exp((1 - p) * z)
            return high - low, (high + low) * rounded
        if self.loss == "focal":
            q, right = sigmoid(-z), sigmoid(z)
            d = -Y * q**p * (p * right * softplus(-z) + q) + (1 - Y) * right**p * (p * q * softplus(z) + right)
            return d, (1 + p) ** 2 * self.z_error[-1] + 16 * eps * (1 + p) * (1 + (np.abs(z) + 1) * np.abs(d))
        return a - Y, self.a_error[-1] + 2 * eps * (np.abs(a) + np.abs(Y))

    def _of_outputs(self, Y):
        """``dLoss/da(L)`` of the other losses, and its error."""
        a, p, eps = self.a[-1], parameter_of(self), self.eps
        if self.loss == "gaussian_nll":
            (mean, other), (mean_error, other_error) = np.hsplit(a, 2), np.hsplit(self.a_error[-1], 2)
            r, precision = mean - Y, np.exp(-other)
            rounded = other_error + 4 * eps * (np.abs(other) + 2)
            r_error = mean_error + 2 * eps * (np.abs(mean) + np.abs(Y))
            d = np.hstack([r * precision, (1 - r * r * precision) / 2])
            errors = r_error + np.abs(r) * rounded, np.abs(r) * r_error + r * r * rounded
            return d, np.hstack([errors[0] * precision, errors[1] * precision + 2 * eps])
        error = self.a_error[-1] + 2 * eps * (np.abs(a) + np.abs(Y))
        r = a - Y
        if self.loss == "squared_error":
            return r, error
        if self.loss == "huber":
            return np.clip(r, -p, p), np.where(np.abs(r) > p * (1 + 4 * eps) + 64 * error, 4 * eps * p, error)
        if self.loss == "quantile":
            return np.where(r > 0, 1 - p, -p), np.full(r.shape, 2 * eps)
        if self.loss == "hinge":
            return np.where(1 - Y * a > 0, -Y, 0.0), np.zeros_like(r)
        if self.loss == "squared_hinge":
            rounded = np.abs(Y) * self.a_error[-1] + 4 * eps * (1 + np.abs(Y * a))
            return -2 * Y * np.maximum(1 - Y * a, 0), 2 * np.abs(Y) * rounded
        return np.sign(r), np.zeros_like(r)

    def through(self, l, d, error):
        """From ``dLoss/da`` to ``dLoss/dz`` of layer l (from 1), and the error."""
        g, eps = self.activations[l - 1], self.eps
        if g == "heads":
            found = [part.through(l, d[:, of], error[:, of]) for of, _, _, part in self.parts()]
            return tuple(np.hstack(arrays) for arrays in zip(*found))
        if g == "identity":
            return d, error
        if g == "softmax":
            a, a_error = self.a[l], self.a_error[l]
            rest = d - (a * d).sum(axis=1, keepdims=True)
            # Of the mean, which all entries have in common: where one is computed as the sum of the others, it adds up.
            spread = (a_error * np.abs(d) + a * (error + 4 * eps * np.abs(d))).sum(axis=1, keepdims=True)
            added = (a == a.max(axis=1, keepdims=True)) * (1 - a) * spread
            return a * rest, a * (error + spread + 4 * eps * np.abs(d)) + a_error * np.abs(rest) + added
        derivative = self.derivatives[l - 1]
        if g in KINKED:
            return d * derivative, (error + 2 * eps * np.abs(d)) * derivative
        if g == "exp":
            derivative_error = np.abs(derivative) * (self.z_error[l - 1] + 4 * eps * (np.abs(self.z[l - 1]) + 2))
        else:  # no second derivative is larger than 1
            derivative_error = self.z_error[l - 1] + 4 * eps * (np.abs(derivative) + 1)
        return d * derivative, error * np.abs(derivative) + np.abs(d) * derivative_error

    # ------------------------------------------------------------------------------------------------ backpropagation

    def deltas(self, delta, error, inputs=False):
        """Each layer, its delta and the error of that, from the last to the first; if ``inputs``, -1 and dLoss/dX."""
        for l in reversed(range(len(self.layers))):
            yield l, delta, error
            if l > 0 or inputs:
                W = self.layers[l][0]
                error, delta = _rounded_product(delta, error, W.T, self.eps), delta @ W
                if l > 0:
                    delta, error = self.through(l, delta, error)
        if inputs:
            yield -1, delta, error

    def backward(self, delta, error, weights, inputs=False):
        """Sums of gradients and their errors as flat vectors, and ``dLoss/dX`` with its, all weighted."""
        w = weights[:, np.newaxis]
        sums, sums_error, dX, dX_error = np.empty_like(self.params), np.empty_like(self.params), None, None
        size, largest = np.empty_like(self.params), 0.0
        summed = (4 + min(len(delta), ONE_AFTER_ANOTHER) / 24) * self.eps
        parts = list(zip(layers(self.sizes, sums), layers(self.sizes, sums_error), layers(self.sizes, size)))
        deltas = self.deltas(w * delta, w * error, inputs)
        for l, delta, error in deltas:
            if l < 0:
                dX, dX_error = delta, error
                break
            (S, s), (E, e), (A, c) = parts[l]
            a, a_error = self.a[l], self.a_error[l]
            S[...], s[...] = delta.T @ a, delta.sum(axis=0)
            A[...], c[...] = np.abs(delta).T @ np.abs(a), np.abs(delta).sum(axis=0)
            E[...] = error.T @ np.abs(a) + summed * A
            if l > 0:
                E += np.abs(delta).T @ a_error
            e[...] = error.sum(axis=0) + summed * c
            if l > 0 or inputs:
                largest = max(largest, float((np.abs(delta) @ np.abs(self.layers[l][0])).max()))
        largest = max(largest, float(size.max()))
        return SimpleNamespace(
            sums=sums, error=sums_error, estimate=sums_error, size=size, largest=largest,
            dX=dX, dX_error=dX_error, dX_estimate=dX_error,
        )  # fmt: skip

    # ---------------------------------------------------------------------------------------------- each row by itself

    def rows(self, index):
        """The same for some of the rows, each as often as it is named."""
        part = copy.copy(self)
        part.X = self.X[index]
        part.z, part.z_error, part.derivatives, part.a, part.a_error = (
            [None if array is None else array[index] for array in arrays]
            for arrays in (self.z, self.z_error, self.derivatives, self.a, self.a_error)
        )
        if self.loss == "heads":
            part.of_heads = [tuple(None if array is None else array[index] for array in of) for of in self.of_heads]
        return part

    def row_gradients(self, deltas):
        """Of each layer and its deltas: the gradient of its weights for each row, and the largest error of a row's.

        The gradient of the bias is delta itself.
        """
        for l, delta, error in deltas:
            a, a_error = self.a[l], self.a_error[l]
            d, e, inputs, inputs_error = (np.abs(part).max(axis=1) for part in (delta, error, a, a_error))
            yield l, delta[:, :, np.newaxis] * a[:, np.newaxis, :], e * inputs + d * (inputs_error + self.eps * inputs)

    def gradient_norms(self, delta, error):
        """The norm of each row's gradient, and its error, which is at most the norm of the gradient's error."""
        squares = errors = 0.0
        for l, d, e in self.deltas(delta, error):
            d, e, a, a_error = ((part * part).sum(axis=1) for part in (d, e, self.a[l], self.a_error[l]))
            squares, errors = squares + d * (a + 1), errors + e * (a + 1) + d * a_error
        norms = np.sqrt(squares)
        return norms, np.sqrt(errors) + 2 * self.eps * norms

    def output_directions(self, count):
        """For rows that are each there once for every output: delta(L) of that output, and the error."""
        n = self.sizes[-1]
        directions = np.tile(np.eye(n), (count, 1))
        return self.through(len(self.layers), directions, np.zeros_like(directions))

    def tangents(self, d_params=None, d_X=None):
        """The outputs' derivative along a direction, its error, and what no partial sum is larger than."""
        d, error, largest = d_X, np.zeros_like(self.X), 0.0
        along = [None] * len(self.layers) if d_params is None else layers(self.sizes, d_params)
        for l, ((W, b), direction) in enumerate(zip(self.layers, along)):
            dz, squares, size = (np.zeros((len(self.X), len(b))) for _ in range(3))
            if direction is not None:
                dW, db = direction
                dz += self.a[l] @ dW.T + db
                squares += _rounded_product(self.a[l], self.a_error[l], dW, self.eps, db) ** 2
                size += np.abs(self.a[l]) @ np.abs(dW).T + np.abs(db)
            if d is not None:
                dz += d @ W.T
                squares += _rounded_product(d, error, W, self.eps) ** 2
                size += np.abs(d) @ np.abs(W).T
            largest = max(largest, float(size.max()))
            d, error = self.through(l + 1, dz, np.sqrt(squares))
        return d, error, largest

    # ---------------------------------------------------------------------------------------------- which rows are safe

    def safe_rows(self, Y, factor):
        """Whether no kink lies so near, in estimated errors, that rounding might put a row on its other side."""
        safe = np.ones(len(self.X), bool)
        if self.loss == "heads":
            for _, y, _, part in self.parts():
                safe &= part.safe_rows(Y[:, y], factor)
            return safe
        for g, z, error in zip(self.activations, self.z, self.z_error):
            if g in KINKED:
                safe &= (np.abs(z) > factor * error).all(axis=1)
        if self.loss == "hinge":
            Ya = Y * self.a[-1]
            error = np.abs(Y) * self.a_error[-1] + self.eps * (1 + np.abs(Ya))
            safe &= (np.abs(1 - Ya) > factor * error).all(axis=1)
        elif self.loss in KINKED_LOSSES:
            error = self.a_error[-1] + self.eps * np.abs(Y)
            safe &= (np.abs(self.a[-1] - Y) > factor * error).all(axis=1)
        return safe

    def largest_sum(self):
        """No partial sum of the forward pass is larger."""
        return max(float((np.abs(a) @ np.abs(W).T + np.abs(b)).max()) for (W, b), a in zip(self.layers, self.a))
