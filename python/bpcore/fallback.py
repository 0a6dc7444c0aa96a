"""The algorithm in plain Python and NumPy: the readable statement that every compiled backend is tested against.

Backpropagation as the textbooks give it, with the examples in rows, and for a *tile* of rows at a time rather than
for one row or for all of them::

    a(1) = x                                              # forward
    z(l+1) = a(l) W(l)^T + b(l),   a(l+1) = g(z(l+1))
    delta(L) = a(L) - y                                   # or dLoss/da * g'(z) for a loss that does not match
    delta(l) = (delta(l+1) W(l)) * g'(z(l))               # backward
    Delta(l) += delta(l+1)^T a(l)                         # accumulate, for the bias with 1 in place of a(l)
    D(l) = Delta(l) / m + lambda W(l)                     # once, at the end; no lambda for the bias

Every function takes arrays that have been checked: C-contiguous, of the plan's dtype, labels as int64.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]
Function = Callable[[Any], Any]

#: Numbers that the activations of a tile hold together: as many as keep them in the processor's cache.
TILE = 1 << 16
#: Multiplications of a forward pass that make a slot, about a millisecond of compiled work: see slots.py.
SLOT_WORK = 8_000_000
#: It has no fewer rows than this (with many parameters the second), so that reading the weights and adding up the sums
#: does not show; and no more, so that sums in float32 keep their digits.
SLOT_ROWS = 128, 256, 2048
MANY_PARAMETERS = 2_000_000
#: A slot of no more rows than this is one tile; the sums of so many of these are added up in the plan's dtype.
ONE_TILE, TOGETHER = 256, 8

LEAKY_SLOPE = 0.01
SQRT2 = math.sqrt(2.0)

quietly = np.errstate(all="ignore")  # infinity and NaN are results here, not accidents


class Plan(NamedTuple):
    """An architecture: units of each layer, activation of each but the first, loss, dtype."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    dtype: np.dtype[Any]

    @property
    def slot(self) -> int:
        """Rows of a slot, at most."""
        n_parameters = sum((n_in + 1) * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:]))
        low, low_of_many, high = SLOT_ROWS
        low = low if n_parameters < MANY_PARAMETERS else low_of_many
        return max(low, min(high, SLOT_WORK // n_parameters))

    @property
    def together(self) -> int:
        """Slots whose sums are added up in the plan's dtype."""
        return TOGETHER if self.slot <= ONE_TILE else 1

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
        rows = self.slot if self.slot <= ONE_TILE else max(16, TILE // sum(self.sizes))
        return (slice(first, min(first + rows, stop)) for first in range(start, stop, rows))


# ----------------------------------------------------------------------------------------- activations and their slopes


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
#: 1): these slopes are kept from the forward pass.
ACTIVATIONS_WITH_SLOPE: dict[str, tuple[Function, Function]] = {
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.exp(np.minimum(z, 0))),
    "silu": (silu, lambda z: sigmoid(z) + np.where(np.isinf(z), 0, z) * sigmoid(z) * sigmoid(-z)),
    "gelu": (gelu, lambda z: normal_cdf(z) + np.where(np.isinf(z), 0, z) * normal_pdf(z)),
}

#: From this dLoss/da on, a loss may have a pole at the end of the range of a: see `through_outputs`.
LARGE_OUTPUT_GRADIENT = 2.0

#: g'(z) from a = g(z) all the same, for the activations with ends that a loss may have a pole at.
SLOPES_OF_ROUNDED: dict[str, Function] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: (1 - a) * (1 + a),
}


def activate(name: str, z: Floats) -> tuple[Floats, Floats | None]:
    """a = g(z), and g'(z) if it is to be kept. The softmax of a row depends on all of it, other g on single entries."""
    slope = None
    if name == "softmax":
        a = softmax(z)
    elif name in ACTIVATIONS:
        a = ACTIVATIONS[name][0](z)
    else:
        g, derivative = ACTIVATIONS_WITH_SLOPE[name]
        a, slope = g(z), derivative(z).astype(z.dtype, copy=False)
    return a.astype(z.dtype, copy=False), slope


def through(name: str, a: Floats, slope: Floats | None, dA: Floats) -> Floats:
    """dLoss/dz from dLoss/da: ``dA * g'(z)``, and for the softmax the product with its Jacobian.

    The latter adds up to 0 in each row: at the largest a, where it would cancel, it is minus the sum of the others.
    """
    if name == "softmax":
        delta: Floats = a * (dA - np.sum(dA * a, axis=1, keepdims=True))
        row, top = np.arange(len(a)), np.argmax(a, axis=1)
        delta[row, top] *= 0  # a NaN stays one
        delta[row, top] = -np.sum(delta, axis=1)
        return delta
    if slope is None:
        slope = ACTIVATIONS[name][1](a).astype(dA.dtype, copy=False)
    return dA * slope


def through_outputs(name: str, a: Floats, slope: Floats | None, dA: Floats) -> Floats:
    """The same, from a dLoss/da(L) that the caller computed from the activations.

    A loss with a pole where sigmoid or tanh ends, like ``1 / (1 - a)`` of a cross-entropy written by hand, gives a dA
    with the rounding error of a, many times as large. With the slope of the same rounded a the two errors cancel; so
    this is taken for all dA that a bounded loss would hardly give. For the others the slope is exact. The error of the
    product is at most a rounding error of ``dA`` in both cases.
    """
    if slope is not None and name in SLOPES_OF_ROUNDED:
        slope = np.where(np.abs(dA) > LARGE_OUTPUT_GRADIENT, SLOPES_OF_ROUNDED[name](a), slope)
    return through(name, a, slope, dA)


# ------------------------------------------------------------- losses: each row's loss, and delta(L) = dLoss/dz


def squared_error(z: Floats, a: Floats, y: Floats) -> tuple[Floats, Floats]:
    return np.sum((a - y) ** 2, axis=1) / 2, a - y


def huber(z: Floats, a: Floats, y: Floats) -> tuple[Floats, Floats]:
    r = np.abs(a - y)
    return np.sum(np.where(r <= 1, r * r / 2, r - 0.5), axis=1), np.clip(a - y, -1, 1)


def absolute_error(z: Floats, a: Floats, y: Floats) -> tuple[Floats, Floats]:
    return np.sum(np.abs(a - y), axis=1), np.sign(a - y)


def binary_cross_entropy(z: Floats, a: Floats, y: Floats) -> tuple[Floats, Floats]:
    """-y log a - (1 - y) log(1 - a), from z: log(1 + e^z) - y z, and its slope a - y, so that neither cancels."""
    wrong = np.where(z > 0, 1 - y, y)
    cost = np.log1p(np.exp(-np.abs(z))) + np.where(wrong == 0, 0, wrong * np.abs(z))
    return np.sum(cost, axis=1), (1 - y) * sigmoid(z) - y * sigmoid(-z)


def cross_entropy(z: Floats, a: Floats, y: Array) -> tuple[Floats, Floats]:
    """-y log a, from z: y (log sum e^z - z). A label stands for a row with a single 1.

    Its slope is ``a sum(y) - y``, which is ``a (the other y) - y (the other a)``, and computed so for the label or the
    largest a, where the first form would cancel.
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
        return log_sum[:, 0] - z[row, y], delta
    other_a, other_y = a.copy(), y.copy()
    other_a[row, top] = other_y[row, top] = 0
    delta = a * np.sum(y, axis=1, keepdims=True) - y
    delta[row, top] = a[row, top] * np.sum(other_y, axis=1) - y[row, top] * np.sum(other_a, axis=1)
    return np.sum(np.where(y == 0, 0, y * (log_sum - z)), axis=1), delta


def poisson(z: Floats, a: Floats, y: Floats) -> tuple[Floats, Floats]:
    return np.sum(a - y * z, axis=1), a - y


LOSSES = {
    "squared_error": (squared_error, "identity"),
    "huber": (huber, "identity"),
    "absolute_error": (absolute_error, "identity"),
    "binary_cross_entropy": (binary_cross_entropy, "sigmoid"),
    "cross_entropy": (cross_entropy, "softmax"),
    "poisson": (poisson, "exp"),
}


def loss_and_delta(plan: Plan, z: Floats, a: Floats, slope: Floats | None, y: Array) -> tuple[Floats, Floats]:
    """The loss of each row, and delta(L). A loss gives dLoss/dz for its matching output, else dLoss/da."""
    function, matching = LOSSES[plan.loss]
    losses, delta = function(z, a, y)
    output = plan.activations[-1]
    return losses, delta if output == matching else through(output, a, slope, delta)


# ------------------------------------------------------------------------------------------- forward and backward


def forward_tile(plan: Plan, params: Floats, X: Floats) -> tuple[Floats, list[Floats], list[Floats | None]]:
    """z(L), the activations ``[X, a(2), ..., a(L)]``, and the slopes that are kept: ``[g'(z(2)), ..., g'(z(L))]``."""
    a, slopes, z = [X], [], X
    for (W, b), g in zip(plan.layers(params), plan.activations):
        z = a[-1] @ W.T + b
        activation, slope = activate(g, z)
        a.append(activation)
        slopes.append(slope)
    return z, a, slopes


def backward_tile(
    plan: Plan,
    params: Floats,
    a: list[Floats],
    slopes: list[Floats | None],
    delta: Floats,
    Delta: Floats,
) -> Floats:
    """From delta(L), add this tile's ``delta^T a`` to Delta, layer by layer from the last; return delta(2)."""
    layers, sums = plan.layers(params), plan.layers(Delta)
    for l in reversed(range(len(layers))):
        (W, _), (Delta_W, Delta_b) = layers[l], sums[l]
        Delta_W += delta.T @ a[l]
        Delta_b += delta.sum(axis=0)
        if l > 0:  # the inputs have no delta
            delta = through(plan.activations[l - 1], a[l], slopes[l - 1], delta @ W)
    return delta


# --------------------------------------------------------------------------------------------- what a backend offers


def heed(told: bytearray | None) -> None:
    """Raise if another thread says that all is over."""
    if told is not None and told[0]:
        raise InterruptedError("another thread has ended the call")


def cancel(cancelled: bytearray) -> None:
    """Have calls that were given ``cancelled`` end soon."""
    cancelled[0] = 1


def rows_of_weight(X: Floats, Y: Array, sample_weight: Floats | None) -> tuple[Floats, Array, Floats | None]:
    """The rows whose weight is not 0: the others are left out, whatever they hold."""
    if sample_weight is None or np.all(sample_weight):
        return X, Y, sample_weight
    kept = sample_weight != 0
    return X[kept], Y[kept], sample_weight[kept]


@quietly
def forward(plan: Plan, params: Floats, X: Floats, out: Floats, told: bytearray | None = None) -> None:
    """Fill ``out``, of shape (m, n_outputs), with the activations of the output layer.

    Here and below: when ``told[0]`` is no longer 0, the result is not wanted any more, and it raises.
    """
    for tile in plan.tiles(0, len(X)):
        heed(told)
        out[tile] = forward_tile(plan, params, X[tile])[1][-1]


@quietly
def trace(
    plan: Plan,
    params: Floats,
    X: Floats,
    activations: list[Floats],
    slopes: list[Floats | None],
) -> None:
    """Fill the activations of every layer but the first, and the slopes of those layers that have an array for them."""
    for tile in plan.tiles(0, len(X)):
        _, a, kept = forward_tile(plan, params, X[tile])
        for l in range(len(activations)):
            activations[l][tile] = a[l + 1]
            if (slope := slopes[l]) is not None:
                slope[tile] = kept[l]


@quietly
def backward(
    plan: Plan,
    params: Floats,
    activations: list[Floats],
    slopes: list[Floats | None],
    output_gradient: Floats,
    sums: Floats,
    input_gradient: Floats | None,
) -> None:
    """Fill ``sums`` with the gradient, and ``input_gradient`` if there is one, from dLoss/da(L) of every row."""
    sums[...] = 0
    W = plan.layers(params)[0][0]
    for tile in plan.tiles(0, len(output_gradient)):
        a = [activation[tile] for activation in activations]
        kept = [None if slope is None else slope[tile] for slope in slopes]
        delta = through_outputs(plan.activations[-1], a[-1], kept[-1], output_gradient[tile])
        delta = backward_tile(plan, params, a, kept, delta, sums)
        if input_gradient is not None:
            input_gradient[tile] = delta @ W


@quietly
def accumulate(
    plan: Plan,
    params: Floats,
    X: Floats,
    Y: Array,
    sample_weight: Floats | None,
    sums: Floats,
    told: bytearray | None = None,
    cut: tuple[int, int, int, int] | None = None,
) -> float:
    """Fill ``sums`` with the weighted gradients of all rows, summed; return the sum of their weighted losses.

    ``cut``, of (m, slots, begin, end), says that these are slots ``begin`` to ``end`` of those that m rows make.
    """
    sums[...] = 0
    total = 0.0
    m, slots, begin, end = cut or (len(X), 1, 0, 1)
    bounds = [slot * m // slots - begin * m // slots for slot in range(begin, end + 1)]
    if bounds[-1] != len(X):
        raise ValueError("cut does not fit")
    for start, stop in zip(bounds, bounds[1:]):
        losses_of_slot = 0.0
        for tile in plan.tiles(start, stop):
            heed(told)
            x, y, w = rows_of_weight(X[tile], Y[tile], None if sample_weight is None else sample_weight[tile])
            z, a, slopes = forward_tile(plan, params, x)
            losses, delta = loss_and_delta(plan, z, a[-1], slopes[-1], y)
            if w is not None:
                losses, delta = w * losses, w[:, np.newaxis] * delta
            backward_tile(plan, params, a, slopes, delta, sums)
            losses_of_slot += float(np.sum(losses, dtype=np.float64))
        total += losses_of_slot
    return total


@quietly
def loss(
    plan: Plan,
    params: Floats,
    X: Floats,
    Y: Array,
    sample_weight: Floats | None,
    told: bytearray | None = None,
) -> float:
    """The sum of the weighted losses of all rows."""
    total = 0.0
    for tile in plan.tiles(0, len(X)):
        heed(told)
        x, y, w = rows_of_weight(X[tile], Y[tile], None if sample_weight is None else sample_weight[tile])
        z, a, _ = forward_tile(plan, params, x)
        losses, _ = LOSSES[plan.loss][0](z, a[-1], y)
        if w is not None:
            losses = w * losses
        total += float(np.sum(losses, dtype=np.float64))
    return total


@quietly
def finish(plan: Plan, params: Floats, sums: Floats, weight: float, l2: float, out: Floats) -> None:
    """Fill ``out`` with ``D = Delta / m + lambda W``, and ``Delta / m`` for the biases."""
    out[...] = sums.astype(np.float64) / weight
    if l2:
        for (D_W, _), (W, _) in zip(plan.layers(out), plan.layers(params)):
            D_W += l2 * W


@quietly
def cost(plan: Plan, params: Floats, losses: float, weight: float, l2: float) -> float:
    """``J = losses / m + lambda/2 * sum(W^2)``; the biases are not penalised."""
    if not l2:
        return losses / weight
    return losses / weight + l2 / 2 * sum(float(np.sum(np.square(W, dtype=np.float64))) for W, _ in plan.layers(params))


def cost_and_gradient(
    plan: Plan, params: object, X: object, Y: object, l2: object, out: object, most: int
) -> tuple[float, Floats] | None:
    """A compiled backend answers a small call here, from unchecked arrays; None leaves it to the caller."""
    return None


def forward_directly(plan: Plan, params: object, X: object, out: object, most: int) -> Floats | None:
    """The same for the outputs."""
    return None


# ------------------------------------------------------------------------------------------------- gradient descent


def steps(
    plan: Plan,
    params: Floats,
    X: Floats,
    Y: Array,
    sample_weight: Floats | None,
    mean_weight: float,
    order: npt.NDArray[np.int64] | None,
    first: int,
    batch_size: int,
    l2: float,
    rule: tuple[Any, ...],
    state: Sequence[Floats],
    optimizer: Any,
    rate: float,
    finite: Floats,
    limit: int,
    seconds: float,
) -> tuple[int, float, float]:
    """Steps of gradient descent, one for each batch of rows from ``first`` on, until rows, ``limit`` or time are up.

    Each batch's sums are divided by its rows times ``mean_weight``, the mean over the rows of all batches.
    ``finite`` gets the parameters before each step whose cost is finite, and which are so themselves; at a cost that is
    not, no step is taken. Returns the first row that is left, the last cost, and the sum of the costs over the rows.
    """
    J = costs = 0.0
    grad, start = np.empty_like(params), time.monotonic()
    for _ in range(limit):
        if first >= len(X):
            break
        rows: Any = slice(first, first + batch_size) if order is None else order[first : first + batch_size]
        x, y, w = X[rows], Y[rows], None if sample_weight is None else sample_weight[rows]
        n_slots = -(-len(x) // plan.slot)
        losses = accumulate(plan, params, x, y, w, grad, None, (len(x), n_slots, 0, n_slots))
        finish(plan, params, grad, len(x) * mean_weight, l2, grad)
        J = cost(plan, params, losses, len(x) * mean_weight, l2)
        if not math.isfinite(J):
            break
        if np.isfinite(params).all():
            finite[...] = params
        if len(rule) == 3:
            mean, square = state
            adam_step(params, grad, mean, square, rate, *rule, optimizer.steps + 1)
        else:
            gradient_descent_step(params, grad, state[0] if state else None, rate, *rule)
        optimizer.steps += 1
        first += len(x)
        costs += len(x) * J
        if time.monotonic() - start > seconds:
            break
    return first, J, costs


@quietly
def gradient_descent_step(
    params: Floats,
    grad: Floats,
    velocity: Floats | None,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
) -> None:
    """``v = mu v + g; p -= lr v``; with Nesterov's momentum ``p -= lr (g + mu v)``. In place."""
    if velocity is None:
        params -= learning_rate * grad
        return
    velocity *= momentum
    velocity += grad
    params -= learning_rate * (grad + momentum * velocity if nesterov else velocity)


@quietly
def adam_step(
    params: Floats,
    grad: Floats,
    mean: Floats,
    square: Floats,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
) -> None:
    """Step number ``step`` (from 1) of Adam, in place: D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1."""
    mean *= beta1
    mean += (1 - beta1) * grad
    square *= beta2
    square += (1 - beta2) * grad * grad
    rate = learning_rate / (1 - beta1**step)
    params -= rate * mean / (np.sqrt(square / (1 - beta2**step)) + epsilon)
