"""Sums of gradients that can be fed piece by piece, sent between processes, and merged."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _chunks, _validation
from ._validation import Floats
from .architecture import Architecture


class Accumulator:
    """Running sums over rows: of losses, of weights, and of gradients (the textbooks' Delta).

    Sums are kept, never means, so pieces of any size merge into the gradient of the whole, and a penalty is counted
    once, in :meth:`finish`. A copy or a pickle has a buffer of its own.

    Parameters
    ----------
    network : Network
    buffer : ndarray of float64, shape (3 + n_parameters,), or an object that exposes its memory as one, optional
        Memory of the caller's to keep the sums in, such as memory that processes share: C-contiguous, aligned and
        writable. It is used in place and not cleared: what is in it counts as sums, so new memory must be zero, which
        :meth:`reset` makes it. Only one thread or process at a time may add to it. By default new memory of zeros.

    Attributes
    ----------
    network : Network
    buffer : ndarray of float64, shape (3 + n_parameters,)
        ``[sum of weighted losses, sum of weights, rows, sums of gradients...]``, contiguous. Buffers add up, so
        ``comm.Allreduce(MPI.IN_PLACE, accumulator.buffer)`` merges those of all processes.

    Raises
    ------
    TypeError, ValueError
        If ``network`` is no network, or ``buffer`` has another dtype, shape or layout, or is read-only.

    Examples
    --------
    >>> net = bpcore.Network([2, 1])
    >>> params, X, Y = np.zeros(3), np.ones((4, 2)), np.ones(4)
    >>> first, second = bpcore.Accumulator(net), bpcore.Accumulator(net)
    >>> first.add(params, X[:1], Y[:1])
    >>> second.add(params, X[1:], Y[1:])
    >>> first += second
    >>> first.rows, first.sample_weight_sum
    (4, 4.0)
    >>> first.finish(params)
    (0.5, array([-1., -1., -1.]))
    >>> first.reset()
    >>> first.rows
    0
    >>> memory = np.zeros(3 + net.n_parameters)
    >>> bpcore.Accumulator(net, buffer=memory).add(params, X, Y)
    >>> memory
    array([ 2.,  4.,  4., -4., -4., -4.])
    """

    __slots__ = ("_buffer", "_network")

    def __init__(self, network: Architecture, buffer: Any = None) -> None:
        if not isinstance(getattr(network, "n_parameters", None), int):
            raise TypeError(f"network must be a Network, got {network!r}")
        self._network = network
        shape = (3 + network.n_parameters,)
        if buffer is None:
            self._buffer: Floats = np.zeros(shape)
        else:
            self._buffer = _validation.check_filled("buffer", buffer, shape, _validation.FLOAT64)

    def __reduce__(self) -> tuple[object, ...]:
        # Also what copy.copy and copy.deepcopy call. As a plain array: a memory map would not know its file any more.
        return _restore, (type(self), self._network, np.asarray(self._buffer))

    @property
    def network(self) -> Architecture:
        """The network whose gradients are summed."""
        return self._network

    @property
    def buffer(self) -> Floats:
        """All sums, as one array: it may be written into, but not replaced."""
        return self._buffer

    @buffer.setter
    def buffer(self, value: Floats) -> None:
        if value is not self._buffer:  # accumulator.buffer += sums sets what it has changed in place
            raise AttributeError(
                "buffer must stay the array that it is: write into it, as in accumulator.buffer[...] = sums, got "
                f"{'another array' if isinstance(value, np.ndarray) else type(value).__name__}"
            )

    def __repr__(self) -> str:
        return f"<Accumulator of {self.buffer[2]:g} rows, weight {self.sample_weight_sum:g}, for {self.network}>"

    @property
    def rows(self) -> int:
        """How many rows were added."""
        return int(self.buffer[2])

    @property
    def sample_weight_sum(self) -> float:
        """The sum of their sample weights."""
        return float(self.buffer[1])

    def reset(self) -> None:
        """Set all sums to 0."""
        self.buffer[...] = 0

    def add(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        threads: int | None = None,
        signed: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        """Add the losses and gradients of some rows, at these parameters.

        Parameters
        ----------
        params, X, Y, sample_weight, threads, signed, clip_norm
            As in :meth:`Network.cost_and_gradient`; there may be no rows, or only rows of weight 0. Rows of signed
            weights count 1 each in the sum of weights.

        Raises
        ------
        TypeError, ValueError
            As in :meth:`Network.cost_and_gradient`; nothing is added then.
        """
        net = self.network
        params = _validation.check_vector("params", params, net.n_parameters, net.dtype)
        batch, weight = _validation.check_batch(net, X, Y, sample_weight, signed, clip_norm)
        losses, sums = _chunks.sum_gradients(net._core, net._plan, params, batch, threads)
        total = np.empty_like(self.buffer)
        total[:3] = losses, weight, len(batch.X)
        total[3:] = sums
        self._buffer += total  # at once, so that an interrupt leaves all or nothing of a call

    def merge(self, other: Accumulator) -> None:
        """Add the sums of another accumulator of the same network, which is not changed; ``+=`` does the same.

        Parameters
        ----------
        other : Accumulator

        Raises
        ------
        TypeError, ValueError
            If ``other`` is not an accumulator, is for another network, is this one or shares its memory.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"other must be an Accumulator, got {type(other).__name__}")
        if other.network != self.network:
            raise ValueError(f"other must be of {self.network}, got one of {other.network}")
        if other is self:
            raise ValueError("other must be another accumulator, got this one")
        if _validation.overlap(self._buffer, other._buffer):
            raise ValueError("other must not share memory with this accumulator")
        with np.errstate(all="ignore"):  # as all results, sums may be infinite
            self._buffer += other.buffer

    def __iadd__(self, other: Accumulator) -> Self:
        self.merge(other)
        return self

    def finish(self, params: npt.ArrayLike, l2: float = 0.0, out: Any = None) -> tuple[float, Floats]:
        """The cost and the gradient of all rows added: ``D = Delta / m + l2 * W``, ``Delta / m`` for biases.

        The sums stay as they are; more rows can be added afterwards.

        Parameters
        ----------
        params : array_like of shape (n_parameters,)
            The parameters at which the rows were added, for the penalty.
        l2, out
            As in :meth:`Network.cost_and_gradient`.

        Returns
        -------
        J : float
        grad : ndarray of shape (n_parameters,)

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or if no row of a weight above 0 was added.
        """
        net, core, plan = self.network, self.network._core, self.network._plan
        params = _validation.check_vector("params", params, net.n_parameters, net.dtype)
        l2 = _validation.check_scalar("l2", l2)
        losses, weight, rows = (float(x) for x in self.buffer[:3])
        if not 0 < weight < np.inf:
            what = (
                f"the sum of sample_weight must be finite and > 0, got {weight:g}"
                if rows
                else "rows must be added first, got none"
            )
            raise ValueError(what)
        filled = _validation.check_out(out, params.shape, net.dtype, params, self.buffer)
        core.finish(plan, params, self.buffer[3:], weight, l2, filled)
        return core.cost(plan, params, losses, weight, l2), filled if out is None else out


def _restore(kind: type[Accumulator], network: Architecture, sums: Floats) -> Accumulator:
    """A copy of an accumulator, with memory of its own: that of a pickle may be read-only."""
    made = kind(network)
    made.buffer[...] = sums
    return made
