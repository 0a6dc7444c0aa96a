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
FROM_LOGITS = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "poisson": "exp"}
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


#: The loss of each entry, from z, a and y.
LOSSES = {
    "squared_error": lambda z, a, y: (a - y) ** 2 / 2,
    "huber": lambda z, a, y: np.where(absolute(a - y).real <= 1, (a - y) ** 2 / 2, absolute(a - y) - 0.5),
    "absolute_error": lambda z, a, y: absolute(a - y),
    "binary_cross_entropy": lambda z, a, y: y * softplus(-z) + (1 - y) * softplus(z),
    "cross_entropy": lambda z, a, y: -y * log_softmax(z),
    "poisson": lambda z, a, y: np.exp(z) - y * z,
}


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


def outputs(net, params, X):
    """z(L) and a(L), real or complex."""
    a = z = X
    for (W, b), g in zip(layers(net.sizes, params), net.activations):
        z = a @ W.T + b
        a = ACTIVATIONS[g](z)
    return z, a


def cost(net, params, X, Y, weights, l2):
    """J, real or complex."""
    z, a = outputs(net, params, X)
    losses = (weights[:, np.newaxis] * LOSSES[net.loss](z, a, Y)).sum()
    penalty = sum((W * W).sum() for W, _ in layers(net.sizes, params))
    return losses / weights.sum() + l2 / 2 * penalty


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
        "huber": lambda z, a, y: jnp.where(abs(a - y) <= 1, (a - y) ** 2 / 2, abs(a - y) - 0.5),
        "absolute_error": lambda z, a, y: abs(a - y),
        "binary_cross_entropy": lambda z, a, y: -y * nn.log_sigmoid(z) - (1 - y) * nn.log_sigmoid(-z),
        "cross_entropy": lambda z, a, y: -y * nn.log_softmax(z),
        "poisson": lambda z, a, y: jnp.exp(z) - y * z,
    }

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
    """

    def __init__(self, sizes, activations, loss, params, X, eps) -> None:
        self.sizes, self.activations, self.loss, self.eps = tuple(sizes), tuple(activations), loss, eps
        self.params, self.X = params.astype(np.float64), X.astype(np.float64)
        self.layers = layers(self.sizes, self.params)
        self.z, self.z_error, self.derivatives = [], [], []
        self.a, self.a_error = [self.X], [np.zeros_like(self.X)]
        for (W, b), g in zip(self.layers, self.activations):
            self._forward(W, b, g)

    def _forward(self, W, b, g) -> None:
        z = self.a[-1] @ W.T + b
        error = _rounded_product(self.a[-1], self.a_error[-1], W, self.eps, b)
        a = ACTIVATIONS[g](z)
        if g == "softmax":
            derivative, a_error = None, a * (error + error.max(axis=1, keepdims=True) + 4 * self.eps)
        else:
            derivative = DERIVATIVES[g](z, a)
            a_error = np.abs(derivative) * (error + 4 * self.eps * np.abs(z)) + 4 * self.eps * np.abs(a)
        self.z.append(z)
        self.z_error.append(error)
        self.derivatives.append(derivative)
        self.a.append(a)
        self.a_error.append(np.zeros_like(a) if g == "identity" and not error.any() else a_error)

    # ------------------------------------------------------------------------------------------ what a loss makes of it

    def losses(self, Y):
        """Each row's loss and its error."""
        z, a = self.z[-1], self.a[-1]
        entries = LOSSES[self.loss](z, a, Y)
        if self.loss in FROM_LOGITS:
            d, _ = self.output_delta(Y)
            size = np.abs(entries) + np.abs(Y * z) + np.abs(d * z) + 1
            error = np.abs(d) * self.z_error[-1] + 4 * self.eps * size
            if self.loss == "cross_entropy":
                size = Y * (z.max(axis=1, keepdims=True) - z.min(axis=1, keepdims=True) + 1) + np.abs(entries)
                error = np.abs(d) * self.z_error[-1] + 4 * self.eps * size
        else:
            r = np.abs(a - Y)
            error = np.where(self.loss == "squared_error", r, np.minimum(r, 1) + (self.loss == "absolute_error"))
            error = error * (self.a_error[-1] + self.eps * (np.abs(a) + np.abs(Y))) + 4 * self.eps * np.abs(entries)
        return entries.sum(axis=1), error.sum(axis=1)

    def output_delta(self, Y):
        """``delta(L) = dLoss/dz(L)`` and its error."""
        a, a_error, eps = self.a[-1], self.a_error[-1], self.eps
        if self.loss == "cross_entropy":
            total = Y.sum(axis=1, keepdims=True)
            return a * total - Y, a_error * total + 2 * eps * (a * total + Y)
        error = a_error + 2 * eps * (np.abs(a) + np.abs(Y))
        if self.loss in FROM_LOGITS:
            return a - Y, error
        r = a - Y
        if self.loss == "squared_error":
            return self.through(len(self.layers), r, error)
        if self.loss == "huber":
            return self.through(len(self.layers), np.clip(r, -1, 1), np.where(np.abs(r) > 1 + 64 * error, 0, error))
        return self.through(len(self.layers), np.sign(r), np.zeros_like(r))

    def through(self, l, d, error):
        """From ``dLoss/da`` to ``dLoss/dz`` of layer l (from 1), and the error."""
        g, eps = self.activations[l - 1], self.eps
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
        for g, z, error in zip(self.activations, self.z, self.z_error):
            if g in KINKED:
                safe &= (np.abs(z) > factor * error).all(axis=1)
        if self.loss == "absolute_error":
            error = self.a_error[-1] + self.eps * np.abs(Y)
            safe &= (np.abs(self.a[-1] - Y) > factor * error).all(axis=1)
        return safe

    def largest_sum(self):
        """No partial sum of the forward pass is larger."""
        return max(float((np.abs(a) @ np.abs(W).T + np.abs(b)).max()) for (W, b), a in zip(self.layers, self.a))
