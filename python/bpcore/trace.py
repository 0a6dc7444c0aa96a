"""A forward pass that is kept, and backpropagation from it."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from . import _chunks, _validation
from ._validation import Array, Floats
from .architecture import Architecture
from .fallback import Backward


class Trace:
    """A forward pass with the activations of every layer; made by :meth:`Network.trace`.

    Attributes
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        A read-only copy of the parameters of the pass.
    activations : list of ndarray
        ``[X, a(2), ..., a(L)]``, each of shape ``(m, units of the layer)``. All but ``X`` are read-only.
    logits : ndarray of shape (m, n_outputs)
        ``z(L)``, read-only.

    Examples
    --------
    >>> net = bpcore.Network([2, 1])
    >>> trace = bpcore.Trace(net, np.zeros(3), np.ones((4, 2)))
    >>> trace.activations[-1].shape
    (4, 1)
    """

    __slots__ = ("_kept", "network", "params")

    network: Architecture
    params: Floats
    _kept: Any  # of the backend

    def __init__(
        self, network: Architecture, params: npt.ArrayLike, X: npt.ArrayLike, threads: int | None = None
    ) -> None:
        if not isinstance(network, Architecture):
            raise TypeError(f"network must be a Network, got {network!r}")
        net = self.network = network
        direct = net._core.try_trace(net._plan, params, X, net._small) if threads is None else None
        if direct is not None:
            self.params, self._kept = direct
        else:
            self.params = _validation.check_vector("params", params, net.n_parameters, net.dtype).copy()
            X = _validation.as_contiguous(_validation.check_matrix("X", X, net.sizes[0]), net.dtype)
            used = _chunks.n_threads(net._plan, len(X), threads, 1)
            self._kept = net._core.trace(net._plan, self.params, X, used)
        self.params.flags.writeable = False
        for kept in (*self._kept.activations[1:], self._kept.logits):
            kept.flags.writeable = False

    def __reduce__(self) -> tuple[type[Trace], tuple[object, ...]]:
        return Trace, (self.network, self.params, self.activations[0])

    @property
    def activations(self) -> list[Floats]:
        """``[X, a(2), ..., a(L)]``."""
        return list(self._kept.activations)

    @property
    def logits(self) -> Floats:
        """``z(L)``, of which the output activations are made."""
        logits: Floats = self._kept.logits
        return logits

    @overload
    def backward(
        self,
        output_gradient: npt.ArrayLike,
        input_gradient: Literal[False] = False,
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats: ...
    @overload
    def backward(
        self,
        output_gradient: npt.ArrayLike,
        input_gradient: Literal[True],
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> tuple[Floats, Floats]: ...
    def backward(
        self,
        output_gradient: npt.ArrayLike,
        input_gradient: bool = False,
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats | tuple[Floats, Floats]:
        """Backpropagate a gradient with respect to the outputs; see :meth:`Network.backward`.

        Parameters
        ----------
        output_gradient, input_gradient, logits, out, threads
            As for :meth:`Network.backward`, which computes the forward pass by itself.

        Returns
        -------
        grad, dX
            As from :meth:`Network.backward`.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or shape; the message names it.

        Examples
        --------
        >>> trace = bpcore.Network([2, 1]).trace(np.array([3.0, 4.0, 0.0]), np.ones((2, 2)))
        >>> trace.backward(np.ones((2, 1)), input_gradient=True)
        (array([2., 2., 2.]), array([[3., 4.],
               [3., 4.]]))
        """
        given = self._kept.activations[0], output_gradient, logits, input_gradient, self._kept, 0
        direct = try_backward(self.network, self.params, given, out, threads)
        if direct is not None:
            return direct
        return backward(self.network, self.params, self._begin(output_gradient, logits), input_gradient, out, threads)

    def deltas(self, output_gradient: npt.ArrayLike, logits: bool = False, threads: int | None = None) -> list[Floats]:
        """``[delta(2), ..., delta(L)]``: the derivative of a loss by the z of every unit, for each row.

        Parameters
        ----------
        output_gradient, logits, threads
            As for :meth:`Network.backward`.

        Returns
        -------
        deltas : list of ndarray, each of shape (m, units of the layer)
            ``dLoss/dz``. The gradient of the weights of a layer is ``delta.T @ a``, with the activations below it.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or shape; the message names it.

        Examples
        --------
        >>> trace = bpcore.Network([2, 3, 1]).trace(np.ones(13), np.ones((5, 2)))
        >>> [delta.shape for delta in trace.deltas(np.ones((5, 1)))]
        [(5, 3), (5, 1)]
        """
        net = self.network
        given = self._begin(output_gradient, logits)
        found = [np.empty((len(given.X), n), net.dtype) for n in net.sizes[1:]]
        for r, rows in _chunks.backward_blocks(net._plan, given, net.dtype):
            used = _chunks.n_threads(net._plan, r.stop - r.start, threads, 2)
            net._core.deltas(net._plan, self.params, rows, [delta[r.start : r.stop] for delta in found], used)
        return found

    def _begin(self, output_gradient: npt.ArrayLike, logits: bool) -> Backward:
        return begin(self.network, self._kept.activations[0], output_gradient, logits, self._kept)


def begin(net: Architecture, X: Array, output_gradient: object, logits: object, kept: Any = None) -> Backward:
    """What a backward pass begins with, checked."""
    if not isinstance(logits, (bool, np.bool_)):
        raise TypeError(f"logits must be True or False, got {logits!r}")
    checked = _validation.check_matrix("output_gradient", output_gradient, net.sizes[-1], "gives")
    if len(checked) != len(X):
        raise ValueError(
            f"output_gradient has {len(checked)} rows, but {'X' if kept is None else 'the trace'} has {len(X)}"
        )
    return Backward(X, checked, bool(logits), None, kept)


def try_backward(
    net: Architecture, params: object, given: tuple[Any, ...], out: object, threads: int | None
) -> Floats | tuple[Floats, Floats] | None:
    """What :func:`backward` returns, from arguments that the backend takes as they are; or None."""
    if threads is not None and not (type(threads) is int and threads > 0):
        return None
    direct: Floats | tuple[Floats, Floats] | None
    direct = net._core.try_backward(net._plan, params, given, out, net._small)
    if direct is None and (large := net._large(3, threads, params, given[0], given[1])) is not None:
        direct = net._core.try_backward(net._plan, params, given, out, large)
    return direct


def backward(
    net: Architecture, params: Floats, given: Backward, input_gradient: object, out: Any, threads: int | None
) -> Floats | tuple[Floats, Floats]:
    """The gradient of all rows, and dLoss/dX if ``input_gradient``, for checked arguments but these."""
    if not isinstance(input_gradient, (bool, np.bool_)):
        raise TypeError(f"input_gradient must be True or False, got {input_gradient!r}")
    filled = _validation.check_out(out, params.shape, net.dtype, params, given.X, given.output_gradient)
    dX = np.empty(given.X.shape, net.dtype) if input_gradient else None
    given = given._replace(input_gradient=dX)
    sums = _chunks.sum_backward(net._core, net._plan, params, given, threads, filled)
    net._core.finish(net._plan, params, sums, 1.0, 0.0, filled)
    grad = filled if out is None else out
    return grad if dX is None else (grad, dX)
