"""The gradient against central differences of the cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from . import arrays
from .network import Network

#: Entries smaller than this share of the largest are compared with that share: their differences are rounding.
FLOOR = 1e-4


def check_gradient(
    net: Network,
    params: npt.ArrayLike,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    l2: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    epsilon: float = 1e-5,
    indices: Iterable[int] | None = None,
) -> float:
    """Largest relative error of ``net.cost_and_gradient`` against central differences.

    For each parameter p the gradient is compared with ``(J(p + epsilon) - J(p - epsilon)) / (2 epsilon)``. The costs
    are computed in float64, whatever the network's dtype; the gradient is the network's own. About 1e-7 is right for
    float64 and 1e-3 for float32, 1e-2 and more is a mistake, except at a kink (relu at 0), where there is no gradient.

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
    error : float
        Largest ``|g - d| / max(|g|, |d|, 1e-4 max |d|)``; 0 where gradient and differences are both 0.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Network.cost_and_gradient`, and if epsilon is too small to change a parameter.
    IndexError
        If an index is out of range.
    """
    if not isinstance(net, Network):
        raise TypeError(f"net is a {type(net).__name__}, but a Network is wanted")
    epsilon = arrays.number("epsilon", epsilon, strict=True)
    _, grad = net.cost_and_gradient(params, X, Y, l2, sample_weight)
    exact = Network(net.sizes, net.hidden, net.loss, net.output, "float64")
    # The parameters as the network takes them: rounded to its dtype first.
    p = arrays.vector("params", params, net.n_parameters, net.dtype).astype(np.float64)
    X = arrays.real_array("X", X)
    X = X.astype(net.dtype, copy=False)
    if not np.isfinite(p).all():
        raise ValueError("params holds numbers that are not finite: there are no differences at infinity")
    chosen = np.arange(p.size) if indices is None else _chosen(indices, p.size)
    differences = np.empty(len(chosen))
    for i, index in enumerate(chosen):
        value = p[index]
        step = epsilon * max(1.0, abs(value))
        above, below = value + step, value - step
        if above == below:
            raise ValueError(f"epsilon is {epsilon}, too little to change a parameter of {value}")
        p[index] = above
        cost_above = exact.cost(p, X, Y, l2, sample_weight)
        p[index] = below
        cost_below = exact.cost(p, X, Y, l2, sample_weight)
        p[index] = value
        differences[i] = (cost_above - cost_below) / (above - below)
    if not len(chosen):
        return 0.0
    found = grad[chosen].astype(np.float64)
    size = np.maximum(np.abs(found), np.abs(differences))
    size = np.maximum(size, FLOOR * np.max(np.abs(differences)))
    errors = np.divide(np.abs(found - differences), size, out=np.zeros_like(size), where=size != 0)
    return float(np.max(errors))


def _chosen(indices: Iterable[int], size: int) -> npt.NDArray[np.intp]:
    """The indices as an array, counted from 0."""
    if not isinstance(indices, Iterable):
        raise TypeError(f"indices is {indices!r}, but integers are wanted")
    checked = [arrays.integer(f"indices[{i}]", index, -(1 << 62)) for i, index in enumerate(indices)]
    for index in checked:
        if not -size <= index < size:
            raise IndexError(f"indices has {index}, but there are {size} parameters")
    return np.array(checked, np.intp) % size
