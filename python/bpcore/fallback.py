"""The algorithm in NumPy: the reference implementation that every compiled backend is tested against.

Backpropagation as in the textbooks, with the examples in rows, and for a *tile* of rows at a time rather than for one
row or for all of them::

    a(1) = x                                              # forward
    z(l+1) = a(l) W(l)^T + b(l),   a(l+1) = g(z(l+1))
    delta(L) = a(L) - y                                   # or dLoss/da * g'(z) if the output is not the canonical one
    delta(l) = (delta(l+1) W(l)) * g'(z(l))               # backward
    Delta(l) += delta(l+1)^T a(l)                         # accumulate, for the bias with 1 in place of a(l)
    D(l) = Delta(l) / m + lambda W(l)                     # once, at the end; no lambda for the bias

Subnormal numbers count as 0, as in the compiled loops, for which they would cost a hundred times the usual time:
`flushed` makes them 0 where numbers enter, and in what each step computes. Within a step, NumPy keeps them.

This module is also the interface of a backend: a compiled one has the same functions with the same arguments. All of
them work on arrays that have been checked: C-contiguous, of the plan's dtype, labels as int64. ``batch`` is
``(X, Y, sample_weight, clip_norm)``: sample_weight is of shape (m,) or (m, n_outputs), or None, and clip_norm may be 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

#: The interface of a backend.
__all__ = [
    "Kept",
    "Plan",
    "accumulate",
    "adam_step",
    "backward",
    "cost",
    "deltas",
    "finish",
    "forward",
    "forward_population",
    "gradient_descent_step",
    "gradient_norms",
    "input_jacobian",
    "jacobian",
    "jvp",
    "loss",
    "population_costs",
    "row_gradients",
    "total_weight",
    "trace",
    "train_batches",
    "try_backward",
    "try_cost",
    "try_cost_and_gradient",
    "try_forward",
    "try_step",
    "try_trace",
]

#: Whether subnormal numbers count as 0: a compiled backend's processor may have no mode for it.
FLUSHES_SUBNORMALS = True

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]
Function = Callable[[Any], Any]
#: A name; or those of blocks of outputs, each with its number of outputs.
Activation: TypeAlias = str | tuple[tuple[str, int], ...]
#: X, Y, sample weights, and the largest norm of a row's gradient (0: as it is).
Block: TypeAlias = tuple[Floats, Array, Floats | None, float]

#: Numbers in the activations of a tile: as many as stay in the processor's cache.
TILE = 1 << 16
#: Multiplications of a forward pass that make a chunk, about a millisecond of compiled work: see _chunks.py.
CHUNK_WORK = 8_000_000
#: Its minimum of rows (with many parameters the second), so that reading the weights and adding up the sums does not
#: show, and its maximum, so that sums in float32 keep their digits.
CHUNK_ROWS = 128, 512, 2048
MANY_PARAMETERS = 2_000_000
#: A chunk of at most so many rows, or of many parameters, is one tile; the sums of so many of these are added up in the
#: plan's dtype.
MAX_ONE_TILE_CHUNK, GROUP_SIZE = 256, 8

#: Multiplications in the time that the rest of a unit takes: its activation, and moving it.
UNIT_WORK = 18

LEAKY_SLOPE = 0.01
SQRT2 = math.sqrt(2.0)

quietly = np.errstate(all="ignore")  # infinity and NaN are results here, not accidents


class Head(NamedTuple):
    """A block of outputs with a loss and an activation of its own; or all outputs of a network that has one loss.

    Attributes
    ----------
    loss : str
    n_outputs : int
    output : str
        The activation.
    parameter : float or None
        Of the loss, if it has one.
    weight : float
        Of the loss in that of the network.

    Examples
    --------
    >>> net = bpcore.Network([4, 8, 5], loss=[("cross_entropy", 3), ("huber", 2, {"weight": 0.5})])
    >>> net.heads[1]
    Head(loss='huber', n_outputs=2, output='identity', parameter=1.0, weight=0.5)
    """

    loss: str
    n_outputs: int
    output: str
    parameter: float | None = None
    weight: float = 1.0

    @property
    def n_targets(self) -> int:
        """How many targets a row has: gaussian_nll has two outputs for each."""
        return self.n_outputs // 2 if self.loss == "gaussian_nll" else self.n_outputs


class Plan(NamedTuple):
    """An architecture: units of each layer, activation of each but the first, loss, dtype.

    If it has several heads, these are its loss, and the last activation is what each of them has.
    """

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    loss: str | tuple[Head, ...]
    dtype: np.dtype[Any]
    loss_parameter: float | None = None

    @property
    def n_parameters(self) -> int:
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:]))

    @property
    def row_work(self) -> int:
        """What a row costs, in multiplications of float32: an activation is worth some ``UNIT_WORK`` of them."""
        return (self.n_parameters + UNIT_WORK * sum(self.sizes)) * self.dtype.itemsize // 4

    @property
    def chunk_rows(self) -> int:
        """Maximum rows of a chunk."""
        n_parameters = self.n_parameters
        low, low_of_many, high = CHUNK_ROWS
        low = low if n_parameters < MANY_PARAMETERS else low_of_many
        return max(low, min(high, CHUNK_WORK // n_parameters))

    @property
    def group_size(self) -> int:
        """Chunks whose sums are added up in the plan's dtype."""
        return GROUP_SIZE if self.chunks_are_tiles else 1

    @property
    def chunks_are_tiles(self) -> bool:
        """Whether each chunk is one tile, so that its sums are added to those of the chunk before it."""
        return self.chunk_rows <= MAX_ONE_TILE_CHUNK or self.n_parameters >= MANY_PARAMETERS

    def layers(self, flat: Floats) -> list[tuple[Floats, Floats]]:
        """Weights of shape (n_out, n_in) and bias of shape (n_out,) of each layer: views into the flat vector."""
        views, start = [], 0
        for n_in, n_out in zip(self.sizes, self.sizes[1:]):
            middle, end = start + n_out * n_in, start + n_out * n_in + n_out
            views.append((flat[start:middle].reshape(n_out, n_in), flat[middle:end]))
            start = end
        return views

    def tiles(self, start: int, stop: int) -> Iterator[slice]:
        """The rows of each tile."""
        rows = self.chunk_rows if self.chunks_are_tiles else max(16, TILE // sum(self.sizes))
        return (slice(first, min(first + rows, stop)) for first in range(start, stop, rows))


def flushed(x: Array) -> Array:
    """x, with 0 in place of subnormal numbers: below 1.2e-38 in float32 and 2.2e-308 in float64. Labels stay."""
    if x.dtype.kind != "f":
        return x
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


# ------------------------------------------------------------------------------------ activations and their derivatives


def sigmoid(z: Floats) -> Floats:
    e = np.exp(-np.abs(z))  # never overflows
    return np.where(z < 0, e, 1) / (1 + e)


def softplus(z: Floats) -> Floats:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: Floats) -> Floats:
    """Phi(z) = erfc(-z / sqrt 2) / 2. NumPy has no erfc; the standard library's takes one number at a time."""
    return (np.vectorize(math.erfc, otypes=[np.float64])(z.astype(np.float64) / -SQRT2) / 2).astype(z.dtype)


def normal_pdf(z: Floats) -> Floats:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def silu(z: Floats) -> Floats:
    return np.where(z == -np.inf, 0, z) * sigmoid(z)


def gelu(z: Floats) -> Floats:
    return np.where(z == -np.inf, 0, z) * normal_cdf(z)


#: g(z), and g'(z) from a = g(z).
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "identity": (lambda z: z, lambda a: np.ones_like(a)),
    "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, LEAKY_SLOPE * z),
        lambda a: np.where(a > 0, 1, LEAKY_SLOPE),
    ),
    "softplus": (softplus, lambda a: -np.expm1(-a)),
    "exp": (np.exp, lambda a: a),
}
#: g(z), and g'(z) from z, where a does not determine it, or only by a difference that cancels (1 - a where a is nearly
#: 1): these derivatives are kept from the forward pass.
ACTIVATIONS_WITH_DERIVATIVE: dict[str, tuple[Function, Function]] = {
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.exp(np.minimum(z, 0))),
    "silu": (silu, lambda z: sigmoid(z) + np.where(np.isinf(z), 0, z) * sigmoid(z) * sigmoid(-z)),
    "gelu": (gelu, lambda z: normal_cdf(z) + np.where(np.isinf(z), 0, z) * normal_pdf(z)),
}

#: From this dLoss/da on, a loss may have a pole at the end of the range of a: see `output_backward`.
LARGE_OUTPUT_GRADIENT = 2.0

#: g'(z) from a = g(z) all the same, for the activations with ends that a loss may have a pole at.
DERIVATIVES_OF_ROUNDED: dict[str, Function] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: (1 - a) * (1 + a),
}


def keeps_derivative(name: Activation) -> bool:
    return name in ACTIVATIONS_WITH_DERIVATIVE if isinstance(name, str) else any(keeps_derivative(g) for g, _ in name)


def blocks(names: tuple[tuple[str, int], ...]) -> Iterator[tuple[str, slice]]:
    """Each activation and its columns."""
    end = 0
    for name, count in names:
        end += count
        yield name, slice(end - count, end)


def activate(name: Activation, z: Floats) -> tuple[Floats, Floats | None]:
    """a = g(z), and g'(z) if it is to be kept. The softmax of a row depends on all of it, other g on single entries."""
    kept = None
    if not isinstance(name, str):
        parts = [activate(g, z[:, columns]) for g, columns in blocks(name)]
        if keeps_derivative(name):
            kept = np.hstack([np.zeros_like(a) if derivative is None else derivative for a, derivative in parts])
        return np.hstack([a for a, _ in parts]), kept
    if name == "softmax":
        a = softmax(z)
    elif name in ACTIVATIONS:
        a = ACTIVATIONS[name][0](z)
    else:
        g, derivative = ACTIVATIONS_WITH_DERIVATIVE[name]
        a, kept = g(z), derivative(z).astype(z.dtype, copy=False)
    return a.astype(z.dtype, copy=False), kept


def backward_by_blocks(
    backward: Callable[[str, Floats, Floats | None, Floats], Floats],
    names: tuple[tuple[str, int], ...],
    a: Floats,
    derivative: Floats | None,
    dA: Floats,
) -> Floats:
    """dLoss/dz from dLoss/da, for each block of outputs by itself."""
    parts = []
    for name, columns in blocks(names):
        of_block = derivative[:, columns] if derivative is not None and keeps_derivative(name) else None
        parts.append(backward(name, a[:, columns], of_block, dA[:, columns]))
    return np.hstack(parts)


def activation_backward(name: Activation, a: Floats, derivative: Floats | None, dA: Floats) -> Floats:
    """dLoss/dz from dLoss/da: ``dA * g'(z)``, and for the softmax the product with its Jacobian.

    The latter adds up to 0 in each row: at the largest a, where it would cancel, it is minus the sum of the others.
    """
    if not isinstance(name, str):
        return backward_by_blocks(activation_backward, name, a, derivative, dA)
    if name == "softmax":
        delta: Floats = a * (dA - np.sum(dA * a, axis=1, keepdims=True))
        row, top = np.arange(len(a)), np.argmax(a, axis=1)
        delta[row, top] *= 0  # a NaN stays one
        delta[row, top] = -np.sum(delta, axis=1)
        return delta
    if derivative is None:
        derivative = ACTIVATIONS[name][1](a).astype(dA.dtype, copy=False)
    return dA * derivative


def output_backward(name: Activation, a: Floats, derivative: Floats | None, dA: Floats) -> Floats:
    """The same, from a dLoss/da(L) that the caller computed from the activations.

    A loss with a pole where sigmoid or tanh ends, like ``1 / (1 - a)`` of a cross-entropy written by hand, gives a dA
    with the rounding error of a, many times as large. With the derivative of the same rounded a the two errors cancel;
    so it is used where dA is larger than bounded losses usually give. Elsewhere the derivative is exact. In both cases
    the error of the product is at most a rounding error of ``dA``.
    """
    if not isinstance(name, str):
        return backward_by_blocks(output_backward, name, a, derivative, dA)
    if derivative is not None and name in DERIVATIVES_OF_ROUNDED:
        derivative = np.where(np.abs(dA) > LARGE_OUTPUT_GRADIENT, DERIVATIVES_OF_ROUNDED[name](a), derivative)
    return activation_backward(name, a, derivative, dA)


# ---------------------------------------------------- losses: that of each output, and delta(L) = dLoss/dz or dLoss/da


def squared_error(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    return (a - y) ** 2 / 2, a - y


def huber(z: Floats, a: Floats, y: Floats, delta: float) -> tuple[Floats, Floats]:
    clipped = np.clip(a - y, -delta, delta)
    return clipped * (a - y - clipped / 2), clipped


def absolute_error(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    return np.abs(a - y), np.sign(a - y)


def quantile(z: Floats, a: Floats, y: Floats, q: float) -> tuple[Floats, Floats]:
    r = a - y
    rate = np.where(r > 0, 1 - q, np.where(r < 0, -q, r)).astype(r.dtype)
    return rate * r, rate


def gaussian_nll(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    """(s + (y - mu)^2 e^-s) / 2, for the mean mu and the logarithm s of the variance: the halves of the outputs."""
    mu, s = np.hsplit(a, 2)
    scaled = np.where(mu == y, 0, (mu - y) * np.exp(-s))
    square = (mu - y) * scaled
    return (s + square) / 2, np.hstack([scaled, (1 - square) / 2])


def gamma(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    return z + y * np.exp(-z), 1 - y * np.exp(-z)


def tweedie(z: Floats, a: Floats, y: Floats, p: float) -> tuple[Floats, Floats]:
    low = np.where(y == 0, 0, y * np.exp((1 - p) * z))
    return np.exp((2 - p) * z) / (2 - p) + low / (p - 1), np.exp((2 - p) * z) - low


def hinge(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    margin = 1 - y * a
    delta = np.where(np.isnan(margin), margin, -y)
    return np.where(margin <= 0, 0, margin), np.where(margin <= 0, 0, delta)


def squared_hinge(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    margin = np.where(1 - y * a <= 0, 0, 1 - y * a)
    return margin**2, -2 * y * margin


def focal(z: Floats, a: Floats, y: Floats, gamma: float) -> tuple[Floats, Floats]:
    """y F(z) + (1 - y) F(-z), for F(t) = sigmoid(-t)^gamma softplus(-t); F' = -q^gamma (gamma p softplus(-t) + q)."""

    def part(t: Floats) -> tuple[Floats, Floats]:
        p, q, loss = sigmoid(t), sigmoid(-t), softplus(-t)
        power = np.exp(-gamma * softplus(t)) if gamma else np.ones_like(t)
        return power * loss, -power * (gamma * np.where(p == 0, 0, p * loss) + q)

    (right, d_right), (wrong, d_wrong) = part(z), part(-z)
    yes, no = y == 0, y == 1
    losses = np.where(yes, 0, y * right) + np.where(no, 0, (1 - y) * wrong)
    return losses, np.where(yes, 0, y * d_right) - np.where(no, 0, (1 - y) * d_wrong)


def binary_cross_entropy(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    """-y log a - (1 - y) log(1 - a), from z: log(1 + e^z) - y z, and its derivative a - y, so that neither cancels."""
    wrong = np.where(z > 0, 1 - y, y)
    cost = np.log1p(np.exp(-np.abs(z))) + np.where(wrong == 0, 0, wrong * np.abs(z))
    return cost, (1 - y) * sigmoid(z) - y * sigmoid(-z)


def cross_entropy(z: Floats, a: Floats, y: Array, _: float) -> tuple[Floats, Floats]:
    """-y log a, from z: y (log sum e^z - z). A label stands for a row with a single 1, and has one loss.

    Its derivative is ``a sum(y) - y``, which is ``a (the other y) - y (the other a)``, and computed so for the label or
    the largest a, where the first form would cancel.
    """
    row, top = np.arange(len(z)), np.argmax(z, axis=1)
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    e[row, top] *= 0
    log_sum = np.log1p(np.sum(e, axis=1, keepdims=True))
    delta = a.copy()
    if y.ndim == 1:
        delta[row, y] *= 0  # a NaN stays one
        delta[row, y] = -np.sum(delta, axis=1)
        return log_sum - z[row, y][:, np.newaxis], delta
    other_a, other_y = a.copy(), y.copy()
    other_a[row, top] = other_y[row, top] = 0
    delta = a * np.sum(y, axis=1, keepdims=True) - y
    delta[row, top] = a[row, top] * np.sum(other_y, axis=1) - y[row, top] * np.sum(other_a, axis=1)
    return np.where(y == 0, 0, y * (log_sum - z)), delta


def poisson(z: Floats, a: Floats, y: Floats, _: float) -> tuple[Floats, Floats]:
    return a - y * z, a - y


#: Each loss with its canonical output activation.
LOSSES = {
    "squared_error": (squared_error, "identity"),
    "binary_cross_entropy": (binary_cross_entropy, "sigmoid"),
    "cross_entropy": (cross_entropy, "softmax"),
    "huber": (huber, "identity"),
    "absolute_error": (absolute_error, "identity"),
    "poisson": (poisson, "exp"),
    "quantile": (quantile, "identity"),
    "gaussian_nll": (gaussian_nll, "identity"),
    "gamma": (gamma, "exp"),
    "tweedie": (tweedie, "exp"),
    "focal": (focal, "sigmoid"),
    "hinge": (hinge, "identity"),
    "squared_hinge": (squared_hinge, "identity"),
}
#: The parameter that a loss has, and its value where none is given.
LOSS_PARAMETERS = {
    "huber": ("delta", 1.0),
    "quantile": ("quantile", 0.5),
    "tweedie": ("power", 1.5),
    "focal": ("gamma", 2.0),
    "cross_entropy": ("label_smoothing", 0.0),
}


def class_targets(plan: Plan, y: Array, weights: Floats | None, smoothing: float) -> tuple[Array, Floats | None]:
    """The targets of a cross-entropy, smoothed, and weights of rows: those of classes become part of the targets."""
    if weights is not None and weights.ndim == 2 and y.ndim == 1 and not smoothing:
        return y, weights[np.arange(len(y)), y]
    if smoothing:
        y = np.eye(plan.sizes[-1], dtype=plan.dtype)[y] if y.ndim == 1 else y
        y = ((1 - smoothing) * y + smoothing / plan.sizes[-1]).astype(plan.dtype)
    if weights is None or weights.ndim == 1:
        return y, weights
    return weigh(y, weights), None


def weigh(x: Floats, weights: Floats | None) -> Floats:
    """x, with weights of its rows or of its entries; 0 under a weight 0, whatever it is there."""
    if weights is None:
        return x
    weights = weights if weights.ndim == 2 else weights[:, np.newaxis]
    return flushed(np.where(weights == 0, 0, weights * x))


def loss_and_delta(
    plan: Plan, z: Floats, a: Floats, derivative: Floats | None, y: Array, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """The weighted loss of each row, and delta(L). A loss gives dLoss/dz for its canonical output, else dLoss/da."""
    if not isinstance(plan.loss, str):
        return losses_and_delta_of_heads(plan, z, a, derivative, y, weights)
    function, canonical = LOSSES[plan.loss]
    parameter = LOSS_PARAMETERS.get(plan.loss, ("", 0.0))[1] if plan.loss_parameter is None else plan.loss_parameter
    if plan.loss == "cross_entropy":
        y, weights = class_targets(plan, y, weights, parameter)
    losses, delta = function(z, a, flushed(y), parameter)
    of_delta = weights
    if weights is not None and weights.ndim == 2 and weights.shape != delta.shape:
        of_delta = np.tile(weights, 2)  # gaussian_nll has two outputs for each target
    losses, delta = weigh(losses, weights), weigh(delta, of_delta)
    output = plan.activations[-1]
    delta = delta if output == canonical else activation_backward(output, a, derivative, delta)
    return flushed(np.sum(flushed(losses), axis=1)), flushed(delta)


def losses_and_delta_of_heads(
    plan: Plan, z: Floats, a: Floats, derivative: Floats | None, Y: Floats, weights: Floats | None
) -> tuple[Floats, Floats]:
    """The same for several heads: the weighted sum of their losses, and the weighted delta(L) of each, side by side."""
    total, deltas, first, first_target = np.zeros(len(z), plan.dtype), [], 0, 0
    for head in plan.loss:
        assert isinstance(head, Head)
        outputs = slice(first, first + head.n_outputs)
        targets = slice(first_target, first_target + head.n_targets)
        own = Plan((head.n_outputs,), (head.output,), head.loss, plan.dtype, head.parameter)
        kept = derivative[:, outputs] if derivative is not None and keeps_derivative(head.output) else None
        of_head = weights[:, targets] if weights is not None and weights.ndim == 2 else weights
        losses, delta = loss_and_delta(own, z[:, outputs], a[:, outputs], kept, Y[:, targets], of_head)
        total += plan.dtype.type(head.weight) * losses
        deltas.append(plan.dtype.type(head.weight) * delta)
        first, first_target = outputs.stop, targets.stop
    return flushed(total), flushed(np.hstack(deltas))


# ------------------------------------------------------------------------------------------- forward and backward


def forward_tile(plan: Plan, params: Floats, X: Floats) -> tuple[Floats, list[Floats], list[Floats | None]]:
    """z(L), the activations ``[X, a(2), ..., a(L)]``, and the derivatives that are kept: ``[g'(z(2)), ...]``."""
    a, derivatives, z = [flushed(X)], [], X
    for (W, b), g in zip(plan.layers(params), plan.activations):
        z = flushed(a[-1] @ W.T + b)
        activation, derivative = activate(g, z)
        a.append(flushed(activation))
        derivatives.append(None if derivative is None else flushed(derivative))
    return z, a, derivatives


def backward_tile(
    plan: Plan,
    params: Floats,
    a: list[Floats],
    derivatives: list[Floats | None],
    delta: Floats,
    Delta: Floats,
) -> Floats:
    """From delta(L), add this tile's ``delta^T a`` to Delta, layer by layer from the last; return delta(2)."""
    layers, sums = plan.layers(params), plan.layers(Delta)
    for l in reversed(range(len(layers))):
        (W, _), (Delta_W, Delta_b) = layers[l], sums[l]
        Delta_W += flushed(delta.T @ a[l])
        Delta_b += flushed(delta.sum(axis=0))
        if l > 0:  # the inputs have no delta
            delta = flushed(activation_backward(plan.activations[l - 1], a[l], derivatives[l - 1], delta @ W))
    return delta


# ------------------------------------------------------------------------------------------ the interface of a backend


class Kept:
    """A forward pass that is kept.

    Attributes
    ----------
    activations : list of ndarray
        ``[X, a(2), ..., a(L)]``.
    derivatives : list of ndarray or None
        ``[g'(z(2)), ...]``, None for those that are computed from the activations.
    logits : ndarray
        ``z(L)``, of shape (m, n_outputs).
    """

    def __init__(self, plan: Plan, X: Floats) -> None:
        self.activations = [X, *(np.empty((len(X), n), plan.dtype) for n in plan.sizes[1:])]
        self.derivatives: list[Any] = [
            np.empty_like(a) if keeps_derivative(g) else None for g, a in zip(plan.activations, self.activations[1:])
        ]
        last = self.activations[-1]
        self.logits: Floats = last if plan.activations[-1] == "identity" else np.empty_like(last)


class Backward(NamedTuple):
    """What a backward pass begins with, and what it fills beside the gradient of the parameters."""

    X: Floats
    output_gradient: Floats  # (m, n_outputs)
    of_logits: bool  # it is dLoss/dz(L), not dLoss/da(L)
    input_gradient: Floats | None  # gets dLoss/dX
    kept: Any = None  # the forward pass, a Kept of the same backend, if it is not to be computed
    first: int = 0  # which of its rows is the first one of X


class Batches(NamedTuple):
    """The mini-batches of a call of :func:`train_batches`."""

    order: npt.NDArray[np.int64] | None  # in which rows are taken
    first: int  # the place in that order where the first batch begins
    batch_size: int
    max_steps: int
    max_seconds: float
    threads: int
    costs: float = 0.0  # of the rows of the epoch before these, to add to


class Update(NamedTuple):
    """What :func:`train_batches` does with a gradient."""

    optimizer: Any  # its ``steps`` are counted
    hyperparameters: tuple[Any, ...]  # (momentum, nesterov), or Adam's (beta1, beta2, epsilon)
    moments: tuple[Floats, ...]  # the optimizer's state
    learning_rate: float
    last_finite_params: Floats  # gets the parameters before each step at which all were finite


def weighted_rows(plan: Plan, tile: slice, batch: Block) -> tuple[Floats, Array, Floats | None]:
    """The rows of a tile whose weight is not 0: the others are left out, whatever they hold."""
    X, Y = batch[0][tile], batch[1][tile]
    if batch[2] is None:
        return X, Y, None
    weights = flushed(batch[2][tile])
    if weights.ndim == 2 and Y.ndim == 1 and not plan.loss_parameter:
        known = (Y >= 0) & (Y < weights.shape[1])  # another label has no weight at all
        used = known & (weights[np.arange(len(Y)), np.where(known, Y, 0)] != 0)
    else:
        used = weights != 0 if weights.ndim == 1 else weights.any(axis=1)
    kept = np.flatnonzero(used)
    if len(kept) == len(X):
        return X, Y, weights
    return X[kept], Y[kept], weights[kept]


def groups(plan: Plan, n_rows: int, chunk_range: tuple[int, int, int, int] | None) -> Iterator[list[slice]]:
    """The tiles of each group of chunks."""
    m, n_chunks, begin, end = chunk_range or (n_rows, 1, 0, 1)
    bounds = [i * m // n_chunks - begin * m // n_chunks for i in range(begin, end + 1)]
    if bounds[-1] != n_rows:
        raise ValueError("chunk_range does not fit X")
    for first in range(0, end - begin, plan.group_size):
        chunks = range(first, min(first + plan.group_size, end - begin))
        yield [tile for i in chunks for tile in plan.tiles(bounds[i], bounds[i + 1])]


@quietly
def forward(plan: Plan, params: Floats, X: Floats, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, of shape (m, n_outputs), with the activations of the output layer.

    ``threads``, here and below: the most that a compiled backend may use. NumPy's products use their own.
    """
    params = flushed(params)
    for tile in plan.tiles(0, len(X)):
        out[tile] = forward_tile(plan, params, X[tile])[1][-1]


@quietly
def trace(plan: Plan, params: Floats, X: Floats, threads: int = 1) -> Kept:
    """A forward pass whose activations, derivatives and logits are kept."""
    kept = Kept(plan, X)
    params = flushed(params)
    for tile in plan.tiles(0, len(X)):
        z, a, derivatives = forward_tile(plan, params, X[tile])
        kept.logits[tile] = z
        for l in range(len(plan.activations)):
            kept.activations[l + 1][tile] = a[l + 1]
            if (derivative := derivatives[l]) is not None:
                kept.derivatives[l][tile] = derivative
    return kept


def forward_to_backward(
    plan: Plan, params: Floats, given: Backward, tile: slice
) -> tuple[list[Floats], list[Floats | None], Floats]:
    """A tile's activations and derivatives, computed or as they were kept, and delta(L)."""
    if given.kept is None:
        _, a, derivatives = forward_tile(plan, params, given.X[tile])
    else:
        rows = slice(given.first + tile.start, given.first + tile.stop)
        a = [activation[rows] for activation in given.kept.activations]
        derivatives = [None if derivative is None else derivative[rows] for derivative in given.kept.derivatives]
    delta = flushed(given.output_gradient[tile])
    if not given.of_logits:
        delta = flushed(output_backward(plan.activations[-1], a[-1], derivatives[-1], delta))
    return a, derivatives, delta


@quietly
def backward(
    plan: Plan,
    params: Floats,
    given: Backward,
    sums: Floats,
    total: npt.NDArray[np.float64] | None = None,
    chunk_range: tuple[int, int, int, int] | None = None,
    threads: int = 1,
) -> None:
    """Fill ``sums`` with the gradient of all rows, from that of their outputs; see :func:`accumulate`."""
    sums[...] = 0
    params = flushed(params)
    W = plan.layers(params)[0][0]
    if total is None:
        total = np.zeros(1 + len(params))
    elif chunk_range is None or chunk_range[2] == 0:
        total[...] = 0
    for group in groups(plan, len(given.X), chunk_range):
        sums[...] = 0
        for tile in group:
            a, derivatives, delta = forward_to_backward(plan, params, given, tile)
            delta = backward_tile(plan, params, a, derivatives, delta, sums)
            if given.input_gradient is not None:
                given.input_gradient[tile] = flushed(delta @ W)
            sums[...] = flushed(sums)
        total[1:] = flushed(total[1:] + sums)


def descend(
    plan: Plan, params: Floats, a: list[Floats], derivatives: list[Floats | None], delta: Floats
) -> Iterator[tuple[int, Floats]]:
    """Each layer and its delta, from the last to the first."""
    layers = plan.layers(params)
    for l in reversed(range(len(layers))):
        yield l, delta
        if l > 0:
            dA = delta @ layers[l][0]
            delta = flushed(activation_backward(plan.activations[l - 1], a[l], derivatives[l - 1], dA))


@quietly
def deltas(plan: Plan, params: Floats, given: Backward, out: list[Floats], threads: int = 1) -> None:
    """Fill ``out`` with ``[delta(2), ..., delta(L)]``, each of shape (m, n_out)."""
    params = flushed(params)
    for tile in plan.tiles(0, len(given.X)):
        for l, delta in descend(plan, params, *forward_to_backward(plan, params, given, tile)):
            out[l][tile] = delta


def row_tiles(
    plan: Plan, params: Floats, batch: Block
) -> Iterator[tuple[slice, list[Floats], list[Floats | None], Floats]]:
    """The activations, derivatives and delta(L) of each tile of rows to learn from."""
    X, Y = batch[:2]
    for tile in plan.tiles(0, len(X)):
        z, a, derivatives = forward_tile(plan, params, X[tile])
        yield tile, a, derivatives, loss_and_delta(plan, z, a[-1], derivatives[-1], Y[tile])[1]


def row_norms(plan: Plan, params: Floats, a: list[Floats], derivatives: list[Floats | None], delta: Floats) -> Floats:
    """The norm of each row's gradient, in float64: ``|delta|^2 (|a|^2 + 1)`` for each layer, an outer product."""
    squares = np.zeros(len(delta))
    for l, d in descend(plan, params, a, derivatives, delta):
        of_delta, of_inputs = (np.sum(np.square(x, dtype=np.float64), axis=1) for x in (d, a[l]))
        squares += of_delta * (1 + of_inputs)
    norms: Floats = np.sqrt(squares)
    return norms


def clip(delta: Floats, norms: Floats, clip_norm: float) -> Floats:
    """delta(L) of each row, scaled so that its gradient, which is linear in it, has a norm of at most ``clip_norm``."""
    factors = np.where(norms <= clip_norm, 1, clip_norm / norms).astype(delta.dtype)
    return flushed(factors[:, np.newaxis] * delta)


@quietly
def gradient_norms(plan: Plan, params: Floats, batch: Block, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, (m,), with the norm of each row's own gradient."""
    params = flushed(params)
    for tile, a, derivatives, delta in row_tiles(plan, params, batch):
        out[tile] = row_norms(plan, params, a, derivatives, delta)


def write_gradients(
    plan: Plan, params: Floats, a: list[Floats], derivatives: list[Floats | None], delta: Floats, out: Floats
) -> None:
    """Each row's own gradient, ``delta^T a`` and delta for each layer, into ``out`` of shape (rows, n_parameters)."""
    ends = np.cumsum([(n_in + 1) * n_out for n_in, n_out in zip(plan.sizes, plan.sizes[1:])])
    for l, d in descend(plan, params, a, derivatives, delta):
        n_in, n_out = plan.sizes[l], plan.sizes[l + 1]
        start, middle = ends[l] - (n_in + 1) * n_out, ends[l] - n_out
        out[:, start:middle] = (d[:, :, np.newaxis] * a[l][:, np.newaxis, :]).reshape(len(d), -1)
        out[:, middle : ends[l]] = d
    out[...] = flushed(out)


@quietly
def row_gradients(plan: Plan, params: Floats, batch: Block, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, (m * n_parameters,), with each row's own gradient."""
    params, out = flushed(params), out.reshape(len(batch[0]), len(params))
    for tile, a, derivatives, delta in row_tiles(plan, params, batch):
        write_gradients(plan, params, a, derivatives, delta, out[tile])


def output_directions(
    plan: Plan, params: Floats, X: Floats
) -> Iterator[tuple[slice, int, list[Floats], list[Floats | None], Floats]]:
    """For each tile and each output, the derivative of that output by z(L) as delta(L)."""
    for tile in plan.tiles(0, len(X)):
        _, a, derivatives = forward_tile(plan, params, X[tile])
        for k in range(plan.sizes[-1]):
            d = np.zeros_like(a[-1])
            d[:, k] = 1
            yield tile, k, a, derivatives, activation_backward(plan.activations[-1], a[-1], derivatives[-1], d)


@quietly
def jacobian(plan: Plan, params: Floats, X: Floats, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, (m * n_outputs * n_parameters,), with the derivatives of the outputs by the parameters."""
    params, out = flushed(params), out.reshape(len(X), plan.sizes[-1], len(params))
    for tile, k, a, derivatives, delta in output_directions(plan, params, X):
        write_gradients(plan, params, a, derivatives, flushed(delta), out[tile, k])


@quietly
def input_jacobian(plan: Plan, params: Floats, X: Floats, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, (m * n_outputs * n_inputs,), with the derivatives of the outputs by the inputs."""
    params, out = flushed(params), out.reshape(len(X), plan.sizes[-1], plan.sizes[0])
    for tile, k, a, derivatives, delta in output_directions(plan, params, X):
        *_, (_, first) = descend(plan, params, a, derivatives, flushed(delta))
        out[tile, k] = flushed(first @ plan.layers(params)[0][0])


@quietly
def jvp(
    plan: Plan,
    params: Floats,
    X: Floats,
    directions: tuple[Floats | None, Floats | None],
    out: tuple[Floats, Floats],
    threads: int = 1,
) -> None:
    """Fill ``out``, of (A, dA), with the outputs and their derivative along ``directions``, of (d_params, d_X).

    ``dz = da W^T + a dW^T + db`` and ``da = g'(z) dz``. The Jacobian of a softmax is symmetric: what takes dLoss/da to
    dLoss/dz takes dz to da.
    """
    params = flushed(params)
    d_params, d_X = (None if direction is None else flushed(direction) for direction in directions)
    for tile in plan.tiles(0, len(X)):
        _, a, derivatives = forward_tile(plan, params, X[tile])
        d = None if d_X is None else d_X[tile]
        for l, (W, _) in enumerate(plan.layers(params)):
            dz = np.zeros_like(a[l + 1])
            if d_params is not None:
                dW, db = plan.layers(d_params)[l]
                dz = flushed(a[l] @ dW.T + db)
            if d is not None:
                dz = flushed(dz + d @ W.T)
            d = flushed(activation_backward(plan.activations[l], a[l + 1], derivatives[l], dz))
        out[0][tile], out[1][tile] = a[-1], d


@quietly
def accumulate(
    plan: Plan,
    params: Floats,
    batch: Block,
    sums: Floats,
    total: npt.NDArray[np.float64] | None = None,
    chunk_range: tuple[int, int, int, int] | None = None,
    threads: int = 1,
) -> float:
    """Fill ``sums`` with the weighted gradients of all rows, summed; return the sum of their weighted losses.

    Where these are not all rows, or more than a group: add the losses, and behind them the gradients, to ``total``,
    group by group, and return its losses. ``chunk_range``, of (m, n_chunks, begin, end): the rows are chunks ``begin``
    to ``end`` of those that m rows make; whole groups, and the first if ``begin`` is 0.
    """
    sums[...] = 0
    params = flushed(params)
    if total is None:
        total = np.zeros(1 + len(params))
    elif chunk_range is None or chunk_range[2] == 0:
        total[...] = 0
    for group in groups(plan, len(batch[0]), chunk_range):
        sums[...] = losses_of_group = 0.0
        for tile in group:
            x, y, w = weighted_rows(plan, tile, batch)
            z, a, derivatives = forward_tile(plan, params, x)
            losses_of_tile, delta = loss_and_delta(plan, z, a[-1], derivatives[-1], y, w)
            if batch[3]:
                delta = clip(delta, row_norms(plan, params, a, derivatives, delta), batch[3])
            backward_tile(plan, params, a, derivatives, delta, sums)
            sums[...] = flushed(sums)
            losses_of_group += float(np.sum(losses_of_tile, dtype=np.float64))
        total[0] += losses_of_group
        total[1:] = flushed(total[1:] + sums)
    return float(total[0])


@quietly
def loss(
    plan: Plan,
    params: Floats,
    batch: Block,
    before: float = 0.0,
    chunk_range: tuple[int, int, int, int] | None = None,
    threads: int = 1,
) -> float:
    """``before`` and the weighted losses of all rows, summed as by :func:`accumulate`."""
    params = flushed(params)
    total = before
    for group in groups(plan, len(batch[0]), chunk_range):
        losses_of_group = 0.0
        for tile in group:
            x, y, w = weighted_rows(plan, tile, batch)
            z, a, derivatives = forward_tile(plan, params, x)
            losses = loss_and_delta(plan, z, a[-1], derivatives[-1], y, w)[0]
            losses_of_group += float(np.sum(losses, dtype=np.float64))
        total += losses_of_group
    return total


@quietly
def finish(plan: Plan, params: Floats, sums: Floats, weight: float, l2: float, out: Floats) -> None:
    """Fill ``out`` with ``D = Delta / m + lambda W``, and ``Delta / m`` for the biases; ``out`` may be ``sums``."""
    out[...] = sums.astype(np.float64) / weight
    if l2:
        for (D_W, _), (W, _) in zip(plan.layers(out), plan.layers(flushed(params))):
            D_W += l2 * W
    out[...] = flushed(out)


@quietly
def cost(plan: Plan, params: Floats, losses: float, weight: float, l2: float) -> float:
    """``J = losses / m + lambda/2 * sum(W^2)``; the biases are not penalised."""
    J = losses / weight
    if l2:
        layers = plan.layers(flushed(params))
        J += l2 / 2 * sum(float(np.sum(np.square(W, dtype=np.float64))) for W, _ in layers)
    return float(flushed(np.array(J)))


def forward_population(plan: Plan, params: Floats, X: Floats, out: Floats, threads: int = 1) -> None:
    """Fill ``out``, (K, m, n_outputs), with the outputs of K networks, whose parameters are the rows of ``params``.

    X: of shape (m, n_inputs), or (K, m, n_inputs).
    """
    for k in range(len(params)):
        forward(plan, params[k], X[k] if X.ndim == 3 else X, out[k])


def population_costs(
    plan: Plan,
    params: Floats,
    batch: Block,
    weight: float,
    l2: float,
    out: npt.NDArray[np.float64],
    threads: int = 1,
) -> None:
    """Fill ``out``, (K,), with the costs of K networks; X, or X and Y, may have a first axis of these.

    ``weight``: what the losses of each network are divided by.
    """
    X, Y, sample_weight, _ = batch
    m = X.shape[-2]
    n_chunks = -(-m // plan.chunk_rows)
    stacked = Y.ndim == (2 if Y.dtype == np.int64 else 3)
    for k in range(len(params)):
        rows = X[k] if X.ndim == 3 else X, Y[k] if stacked else Y, sample_weight, 0.0
        losses = loss(plan, params[k], rows, 0.0, (m, n_chunks, 0, n_chunks))
        out[k] = cost(plan, params[k], losses, weight, l2)


def total_weight(weights: npt.NDArray[np.float64]) -> float:
    """The sum of contiguous weights, at most about ``WEIGHTS_SUMMED_AT_ONCE`` of them."""
    return float(np.sum(weights))


def try_cost_and_gradient(
    plan: Plan, params: object, batch: tuple[object, ...], l2: object, out: object, limits: tuple[int, int]
) -> tuple[float, Floats] | None:
    """The cost and gradient, from unchecked arrays; None, as always here: check them first.

    ``batch``: X, Y, sample_weight, clip_norm, and whether weights may be negative.
    """
    return None


def try_cost(
    plan: Plan, params: object, batch: tuple[object, ...], l2: object, limits: tuple[int, int]
) -> float | npt.NDArray[np.float64] | None:
    """The same for the cost; ``params`` may be of several networks, as for :func:`population_costs`."""
    return None


def try_backward(
    plan: Plan, params: object, given: tuple[object, ...], out: object, limits: tuple[int, int]
) -> Floats | tuple[Floats, Floats] | None:
    """What a backward pass returns, in the same way.

    ``given``: what makes a :class:`Backward`, with True or False for the gradient of the inputs.
    """
    return None


def try_trace(plan: Plan, params: object, X: object, limits: tuple[int, int]) -> tuple[Floats, Kept] | None:
    """A copy of the parameters, and :func:`trace` with it, in the same way."""
    return None


def try_forward(plan: Plan, params: object, X: object, out: object, limits: tuple[int, int]) -> Floats | None:
    """The same for the outputs; ``params`` may be of several networks, as for :func:`forward_population`."""
    return None


def try_step(
    params: object,
    grad: object,
    moments: tuple[object, ...],
    hyperparameters: tuple[Any, ...],
    learning_rate: object,
    step: int,
) -> bool:
    """Whether an optimizer's step was taken; it never is here."""
    return False


# ------------------------------------------------------------------------------------------------- gradient descent


def train_batches(
    plan: Plan, params: Floats, batch: Block, batches: Batches, mean_weight: float, l2: float, update: Update
) -> tuple[int, float, float]:
    """Steps of gradient descent, one for each batch, until rows, steps or time are used up.

    Each batch's sums are divided by its rows times ``mean_weight``, the mean over the rows of all batches. No step is
    taken at a cost that is not finite. Returns where the next batch begins, the last cost, and ``batches.costs`` with
    the sum of the costs over the rows.
    """
    X, Y, sample_weight, clip_norm = batch
    order, first, batch_size, max_steps, max_seconds, _, costs = batches
    J = 0.0
    grad, start = np.empty_like(params), time.monotonic()
    for _ in range(max_steps):
        if first >= len(X):
            break
        rows: Any = slice(first, first + batch_size) if order is None else order[first : first + batch_size]
        w = None if sample_weight is None else sample_weight[rows]
        rows_of_batch = X[rows], Y[rows], w, clip_norm
        m = len(rows_of_batch[0])
        n_chunks = -(-m // plan.chunk_rows)
        losses = accumulate(plan, params, rows_of_batch, grad, None, (m, n_chunks, 0, n_chunks))
        finish(plan, params, grad, m * mean_weight, l2, grad)
        J = cost(plan, params, losses, m * mean_weight, l2)
        if not math.isfinite(J):
            break
        if np.isfinite(params).all():
            update.last_finite_params[...] = params
        step(params, grad, update)
        update.optimizer.steps += 1
        first += m
        costs += m * J
        if time.monotonic() - start > max_seconds:
            break
    return first, J, costs


def step(params: Floats, grad: Floats, update: Update) -> None:
    """One step of the optimizer."""
    if len(update.hyperparameters) == 3:
        count = update.optimizer.steps + 1
        adam_step(params, grad, update.moments, update.hyperparameters, update.learning_rate, count)
    else:
        velocity = update.moments[0] if update.moments else None
        gradient_descent_step(params, grad, velocity, update.learning_rate, *update.hyperparameters)


@quietly
def gradient_descent_step(
    params: Floats, grad: Floats, velocity: Floats | None, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """``v = mu v + g; p -= lr v``; with Nesterov's momentum ``p -= lr (g + mu v)``. In place."""
    grad = flushed(grad)
    if velocity is None:
        params[...] = flushed(params - learning_rate * grad)
        return
    velocity[...] = flushed(momentum * velocity + grad)
    params[...] = flushed(params - learning_rate * (grad + momentum * velocity if nesterov else velocity))


@quietly
def adam_step(
    params: Floats,
    grad: Floats,
    moments: tuple[Floats, ...],
    hyperparameters: tuple[float, ...],
    learning_rate: float,
    step: int,
) -> None:
    """Step number ``step`` (from 1) of Adam, in place: D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1.

    ``moments``: the first and second; ``hyperparameters``: beta1, beta2 and epsilon.
    """
    first_moment, second_moment = moments
    beta1, beta2, epsilon = hyperparameters
    grad = flushed(grad)
    first_moment[...] = flushed(beta1 * first_moment + (1 - beta1) * grad)
    second_moment[...] = flushed(beta2 * second_moment + (1 - beta2) * grad * grad)
    rate = learning_rate / (1 - beta1**step)
    params[...] = flushed(params - rate * first_moment / (np.sqrt(second_moment / (1 - beta2**step)) + epsilon))
