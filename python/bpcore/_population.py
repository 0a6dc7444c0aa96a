"""Outputs and costs of many networks of one architecture, whose parameters are the rows of a matrix.

The backend computes all of them in one call, in which each thread takes the next networks. Arrays of another dtype or
layout are converted some networks at a time. Where the rows of a single network are more than a block, or enough for
all threads, the networks are computed one after the other. The results have the same bits in all cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _chunks, _validation
from ._validation import INT64, Array, Floats

if TYPE_CHECKING:
    from .fallback import Plan
    from .network import Network

#: Networks for each thread from which on all threads are busy nearly to the end, if each computes whole networks.
NETWORKS_PER_THREAD = 4
#: A thread computes a network of up to so many times the rows that need no second one by itself, about 10 ms: no signal
#: is seen while the last ones are computed.
MAX_SERIAL = 32


class Source(NamedTuple):
    """An argument, the dtype in which the backends take it, and whether its first axis is that of the networks."""

    array: Array
    dtype: np.dtype[Any]
    stacked: bool

    @property
    def is_read_in_place(self) -> bool:
        return _validation.is_read_in_place(self.array, self.dtype)

    def bytes(self, count: int) -> int:
        """Of what is converted, at most, for one of ``count`` networks."""
        return self.array.size * self.dtype.itemsize // (max(count, 1) if self.stacked else 1)


def forward(net: Network, params: Array, X: object, out: Any, threads: int | None) -> Floats:
    """The outputs of networks, ``(K, m, n_outputs)``; ``params`` is a matrix of real numbers, the rest is unchecked."""
    _validation.check_population(params, net.n_parameters)
    X = _validation.check_inputs(X, len(params), net.sizes[0])
    shape = len(params), X.shape[-2], net.sizes[-1]
    filled = _validation.check_out(out, shape, net.dtype, params, X)
    sources = [Source(params, net.dtype, True), Source(X, net.dtype, X.ndim == 3)]
    if not _in_one_call(net._plan, sources, shape[1], threads):
        for k in range(len(params)):
            net.forward(params[k], X[k] if X.ndim == 3 else X, filled[k], threads)
        return filled if out is None else out
    for start, stop, (p, x) in _blocks(sources, len(params)):
        used = _chunks.n_threads(net._plan, (stop - start) * shape[1], threads, 1)
        net._core.forward_population(net._plan, p, x, filled[start:stop], used)
    return filled if out is None else out


def costs(
    net: Network, params: Array, given: tuple[Any, Any, Any, Any], l2: object, threads: int | None
) -> npt.NDArray[np.float64]:
    """The costs of networks, ``(K,)``; ``given``: X, Y, sample_weight and signed, all of them unchecked."""
    _validation.check_population(params, net.n_parameters)
    penalty = _validation.check_scalar("l2", l2)
    batch, total = _validation.check_population_batch(net, len(params), *given)
    _validation.check_rows(batch, total)
    X, Y, weights, _ = batch
    labels = Y.dtype.kind != "f" and net.loss == "cross_entropy" and Y.ndim < X.ndim
    n_rows, stacked = X.shape[-2], Y.ndim == (2 if labels else 3)
    sources = [Source(params, net.dtype, True), Source(X, net.dtype, X.ndim == 3)]
    sources.append(Source(Y, INT64 if labels else net.dtype, stacked))
    if weights is not None:
        sources.append(Source(weights, net.dtype, False))
    out = np.empty(len(params))
    if not _in_one_call(net._plan, sources, n_rows, threads):
        for k in range(len(params)):
            x, y = X[k] if X.ndim == 3 else X, Y[k] if stacked else Y
            out[k] = net.cost(params[k], x, y, penalty, weights, threads, given[3])
        return out
    for start, stop, (p, x, y, *w) in _blocks(sources, len(params)):
        used = _chunks.n_threads(net._plan, (stop - start) * n_rows, threads, 1)
        block = x, y, w[0] if w else None, 0.0
        net._core.population_costs(net._plan, p, block, total, penalty, out[start:stop], used)
    return out


def _in_one_call(plan: Plan, sources: list[Source], n_rows: int, threads: int | None) -> bool:
    """Whether threads compute networks each by itself; else all threads compute one network after the other."""
    count = len(sources[0].array)
    converted = sum(source.bytes(count) for source in sources[1:] if not source.is_read_in_place)
    used = _chunks.n_threads(plan, count * n_rows, threads, 1)
    serial = 3 * _chunks.serial_rows(plan)  # for one pass in place of three
    enough = n_rows <= serial or (count >= NETWORKS_PER_THREAD * used and n_rows <= MAX_SERIAL * serial)
    return (used == 1 or enough) and converted <= _chunks.BLOCK_BYTES


def _blocks(sources: list[Source], count: int) -> Iterator[tuple[int, int, list[Array]]]:
    """The first and the end of some networks, and their arrays as the backends take them."""
    shared = [None if s.stacked else _validation.as_contiguous(s.array, s.dtype) for s in sources]
    stacked = [source for source in sources if source.stacked]
    step = max(count, 1)
    if not all(source.is_read_in_place for source in stacked):
        size = sum(source.bytes(count) for source in stacked)
        step = max(_chunks.BLOCK_BYTES // max(size, 1), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        arrays = [
            _validation.rows(source.array, start, stop, source.dtype) if array is None else array
            for source, array in zip(sources, shared)
        ]
        yield start, stop, arrays
        for source in stacked:
            _validation.drop_pages(source.array, start, stop)
