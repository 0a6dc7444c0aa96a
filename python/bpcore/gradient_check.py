"""The gradient against central differences of the cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _validation
from ._validation import Array, Floats
from .network import Network

#: Entries smaller than this share of the largest are compared with that share: their differences are rounding.
FLOOR = 1e-4

#: From this relative error on an entry may be at a kink, and is compared with smaller steps.
SUSPICIOUS = 1e-6
SMALLER_STEPS = 1 / 16, 1 / 256

#: An entry on a kink may differ so much from the derivative beside it, relative to the larger of that and the largest.
ON_KINK = 1e-2

#: Their derivatives jump at 0; those of elu and huber do not.
KINKED = ("relu", "leaky_relu")
KINKED_LOSSES = ("absolute_error", "quantile", "hinge")

#: Rows whose activations are held at a time.
BLOCK = 4096


class GradientCheck(float):
    """The largest relative error, a float, and the entries that were compared.

    Attributes
    ----------
    checked : int
        Number of entries that were compared.
    nonzero : int
        Number of those whose gradient is not 0. The gradient of a dead network is 0 everywhere: look at this number if
        the error is 0.
    kinks : ndarray of intp
        Indices of entries at a kink of the cost (a relu or leaky_relu at exactly 0, a loss at its own), where it
        has no derivative. They were within 1 % of the derivative beside the kink, where the unit is off (or between
        those on both sides of an absolute error); otherwise they count as compared, and as an error.
    """

    checked: int
    nonzero: int
    kinks: npt.NDArray[np.intp]

    def __new__(cls, error: float, checked: int, nonzero: int, kinks: npt.NDArray[np.intp]) -> GradientCheck:
        self = super().__new__(cls, error)
        self.checked, self.nonzero, self.kinks = checked, nonzero, kinks
        return self

    def __getnewargs__(self) -> tuple[float, int, int, npt.NDArray[np.intp]]:  # type: ignore[override]
        return float(self), self.checked, self.nonzero, self.kinks

    def __repr__(self) -> str:
        kinks = f", {len(self.kinks)} more on a kink" if len(self.kinks) else ""
        return f"{float(self)!r} ({self.checked} entries compared, {self.nonzero} not zero{kinks})"


def check_gradient(
    net: Network,
    params: npt.ArrayLike,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    l2: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    epsilon: float = 1e-5,
    indices: Iterable[int] | None = None,
) -> GradientCheck:
    """Largest relative error of ``net.cost_and_gradient`` against central differences.

    For each parameter p the gradient is compared with ``(J(p + epsilon) - J(p - epsilon)) / (2 epsilon)``. The costs
    are computed in float64, whatever the network's dtype; the gradient is the network's own. About 1e-7 is right for
    float64 (some 1e-5 where elu or huber changes sides within the step) and 1e-3 for float32; 1e-2 and more is a
    mistake. Where a relu, a leaky_relu or a loss with a kink changes sides within the step, smaller steps are tried; an
    entry on the kink itself is compared with the derivative beside it, and listed in ``kinks``. Entries below the
    rounding of the costs, ``1e-11 J`` at the default step, cannot be distinguished from 0.

    Parameters
    ----------
    net : Network
    params, X, Y, l2, sample_weight
        As in :meth:`Network.cost_and_gradient`.
    epsilon : float, default 1e-5
        Relative to the size of a parameter where that is more than 1.
    indices : iterable of int, optional
        The parameters to check; all by default, at two costs each.

    Returns
    -------
    error : GradientCheck
        A float: the largest ``|g - d| / max(|g|, |d|, 1e-4 max |d|, |change of J| / (2 epsilon))``; 0 where gradient
        and differences are both 0.
        Its attributes ``checked``, ``nonzero`` and ``kinks`` say which entries were compared.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Network.cost_and_gradient`, and if epsilon is too small to change a parameter.
    IndexError
        If an index is out of range.

    Examples
    --------
    >>> net = bpcore.Network([2, 3, 1], hidden="tanh")
    >>> error = bpcore.check_gradient(net, net.initialize(seed=0), [[1.0, 2.0], [3.0, -1.0]], [0.5, 1.0])
    >>> error < 1e-7, error.checked, error.nonzero, len(error.kinks)
    (True, 13, 13, 0)
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    epsilon = _validation.check_scalar("epsilon", epsilon, strict=True)
    _, grad = net.cost_and_gradient(params, X, Y, l2, sample_weight)
    exact = net._resized(net.sizes, "float64")
    # The parameters as the network takes them: rounded to its dtype first.
    p = _validation.check_vector("params", params, net.n_parameters, net.dtype).astype(np.float64)
    X = _validation.real_array("X", X)
    X = X.astype(net.dtype, copy=False)
    if not np.isfinite(p).all():
        raise ValueError("params must be finite: there are no differences at infinity")
    chosen = np.arange(p.size) if indices is None else _chosen(indices, p.size)
    if not len(chosen):
        return GradientCheck(0.0, 0, 0, np.empty(0, np.intp))

    def difference(index: int, share: float, function: Callable[[Floats], Any]) -> tuple[Any, Any, float]:
        """``function`` of the parameters a step above and a step below, and the distance between the two."""
        value = p[index]
        step = share * epsilon * max(1.0, abs(value))
        above, below = value + step, value - step
        if above == below:
            raise ValueError(f"epsilon must be enough to change a parameter of {value}, got {epsilon}")
        try:
            p[index] = above
            first = function(p)
            p[index] = below
            return first, function(p), above - below
        finally:
            p[index] = value

    def cost(p: Floats) -> float:
        return float(exact.cost(p, X, Y, l2, sample_weight))

    def central_difference(index: int, share: float = 1.0) -> tuple[float, float]:
        """The central difference, and how large it must be to mean anything: see `_errors`."""
        above, below, distance = difference(index, share, cost)
        noise = 16 * float(np.finfo(np.float64).eps) * abs(J)
        return (above - below) / distance, (max(abs(above - J), abs(below - J)) + noise) / distance

    J = cost(p)
    found = grad[chosen].astype(np.float64)
    differences, floors = np.array([central_difference(index) for index in chosen]).T
    on_kink = np.zeros(len(chosen), bool)
    kinked_loss = any(head.loss in KINKED_LOSSES for head in exact.heads)
    if kinked_loss or any(name in KINKED for name in (*exact.hidden, *(head.output for head in exact.heads))):
        sides = _sides(exact, X, Y, sample_weight)
        for i in np.flatnonzero(_errors(found, differences, floors) > SUSPICIOUS):
            above, below, _ = difference(chosen[i], 1.0, sides)
            if above == below:
                continue
            on_kink[i] = True
            for share in SMALLER_STEPS:
                above, below, _ = difference(chosen[i], share, sides)
                if above == below:
                    (differences[i], floors[i]), on_kink[i] = central_difference(chosen[i], share), False
                    break
    if on_kink.any():
        beside = _beside_kinks(exact, p, X, sample_weight, epsilon)
        for i in np.flatnonzero(on_kink):
            low, high = _one_sided(beside, chosen[i], epsilon / 100, cost)
            if kinked_loss:  # which the step aside may have moved off its own kink
                here = _one_sided(p, chosen[i], epsilon / 100, cost)
                low, high = min(low, *here), max(high, *here)
            nearest = float(np.clip(found[i], low, high))
            if not abs(found[i] - nearest) <= ON_KINK * max(abs(nearest), np.abs(differences).max()):
                differences[i], on_kink[i] = nearest, False
    found, differences, floors = found[~on_kink], differences[~on_kink], floors[~on_kink]
    error = float(np.max(_errors(found, differences, floors), initial=0.0))
    return GradientCheck(error, len(found), int(np.count_nonzero(found)), chosen[on_kink])


def _errors(found: Floats, differences: Floats, floors: Floats) -> Floats:
    """The relative error of each entry.

    ``floors``: how much the cost changes on either side of the parameters, with its rounding: where it changes alike on
    both, as at a minimum, the difference of the two is small beside what they leave out.
    """
    size = np.maximum(np.abs(found), np.abs(differences))
    size = np.maximum(size, FLOOR * np.max(np.abs(differences), initial=0.0))
    size = np.maximum(size, floors)
    with np.errstate(invalid="ignore"):
        errors: Floats = np.abs(found - differences) / np.where(size == 0, 1, size)
    return errors


def _beside_kinks(
    net: Network, params: Floats, X: Array, sample_weight: npt.ArrayLike | None, epsilon: float
) -> Floats:
    """Parameters with biases that are less by so little that units are off instead of on their kink.

    On its kink a unit has by convention the derivative of where it is off, so the gradient is nearly the same.
    """
    beside = params.copy()
    rows = _rows_of_weight(len(X), sample_weight)
    for l, (layer, kinked) in enumerate(zip(net.layers(beside), _kinked_units(net))):
        if kinked.any():
            near = np.zeros(len(layer.bias), bool)
            for first in range(0, len(rows), BLOCK):
                a = net.trace(beside, X[rows[first : first + BLOCK]]).activations[l]
                near |= (np.abs(a @ layer.weights.T + layer.bias) <= epsilon).any(axis=0)
            layer.bias[near & kinked] -= 2 * epsilon
    return beside


def _kinked_units(net: Network) -> list[npt.NDArray[np.bool_]]:
    """Which units of each layer but the first have an activation with a kink."""
    units = [np.full(size, name in KINKED) for size, name in zip(net.sizes[1:], net.hidden)]
    return [*units, np.repeat([head.output in KINKED for head in net.heads], [head.n_outputs for head in net.heads])]


def _one_sided(params: Floats, index: int, step: float, cost: Callable[[Floats], float]) -> tuple[float, float]:
    """The smaller and the larger of the two one-sided differences, which differ where an absolute error is 0."""
    value, step = params[index], step * max(1.0, abs(params[index]))
    costs = []
    for moved in (value - step, value, value + step):
        params[index] = moved
        costs.append(cost(params))
    params[index] = value
    left, right = np.diff(costs) / step
    return min(left, right), max(left, right)


def _rows_of_weight(n_rows: int, sample_weight: npt.ArrayLike | None) -> npt.NDArray[np.intp]:
    if sample_weight is None:
        return np.arange(n_rows)
    weights = np.asarray(sample_weight)
    return np.flatnonzero(weights.any(axis=1) if weights.ndim == 2 else weights)


def _sides(net: Network, X: Array, Y: npt.ArrayLike, sample_weight: npt.ArrayLike | None) -> Callable[[Floats], bytes]:
    """A function of the parameters: on which side of its kink each unit of each row is."""
    weights = None if sample_weight is None else np.asarray(sample_weight)
    targets = _validation.check_batch(net, X, Y, weights)[0].Y
    rows, units = _rows_of_weight(len(X), sample_weight), _kinked_units(net)

    def sides(p: Floats) -> bytes:
        digest = hashlib.blake2b()
        for first in range(0, len(rows), BLOCK):
            block = rows[first : first + BLOCK]
            activations = net.trace(p, X[block]).activations[1:]
            for kinked, a in zip(units, activations):
                if kinked.any():
                    digest.update(np.packbits(a[:, kinked] > 0).tobytes())
            outputs, y = activations[-1], targets[block]
            for head in net.heads:
                a, outputs = np.hsplit(outputs, [head.n_outputs])
                if head.loss in KINKED_LOSSES:
                    of_head = y[:, : head.n_targets]
                    side = a * of_head < 1 if head.loss == "hinge" else a > of_head
                    digest.update(np.packbits(side).tobytes())
                y = y[:, head.n_targets :] if y.ndim == 2 else y
        return digest.digest()

    return sides


def _chosen(indices: Iterable[int], size: int) -> npt.NDArray[np.intp]:
    """The indices as an array, counted from 0."""
    if not isinstance(indices, Iterable):
        raise TypeError(f"indices must be an iterable of integers, got {indices!r}")
    checked = [_validation.check_int(f"indices[{i}]", index, -(1 << 62)) for i, index in enumerate(indices)]
    for index in checked:
        if not -size <= index < size:
            raise IndexError(f"indices must be from {-size} to {size - 1}, got {index}")
    return np.array(checked, np.intp) % size
