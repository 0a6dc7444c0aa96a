"""Rows cut into chunks, the number of threads for them, and the order in which sums are added.

Where the cuts fall depends on the network and the number of rows alone, and so does the order of every addition:

- a chunk is summed tile by tile, in order;
- the sums of up to ``plan.group_size`` chunks (more than one where the parameters are many) are added in order, in the
  network's dtype: that is a *group*;
- the groups are added in order, in float64.

The backend does all of it, in one call for rows that it reads in place, and whatever the number of its threads. Rows
that must be converted come in blocks of whole groups, whose sums it adds to those before them: the same additions in
the same order, so the result has the same bits.

This module knows plans and arrays, not networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _dispatch
from ._validation import Array, Batch, Floats, check_int, drop_pages, is_read_in_place, rows
from .fallback import Backward

if TYPE_CHECKING:
    from .fallback import Plan

#: Minimum work per thread, in multiplications of float32 for a forward pass and its way back, some 0.1 ms: a thread is
#: there after 10 to 50 microseconds, and what another one has computed is not in its cache.
THREAD_WORK = 2_500_000
#: Converted rows of a block, so that its copies stay small beside the processor's caches.
BLOCK_BYTES = 1 << 22


class ChunkRange(NamedTuple):
    """Consecutive chunks: the first and the end of them, and of their rows."""

    begin: int
    end: int
    start: int
    stop: int


def count_chunks(plan: Plan, n_rows: int) -> int:
    """Into how many chunks the rows are cut."""
    return -(-n_rows // plan.chunk_rows)


def chunk_ranges(plan: Plan, n_rows: int, size: int) -> list[ChunkRange]:
    """All chunks, ``size`` at a time, as even as possible: chunk i begins with row ``i * n_rows // n_chunks``."""
    n = count_chunks(plan, n_rows)
    cuts = [(begin, min(begin + size, n)) for begin in range(0, n, size)]
    return [ChunkRange(begin, end, begin * n_rows // n, end * n_rows // n) for begin, end in cuts]


def blocks(plan: Plan, n_rows: int, row_bytes: int, in_place: bool) -> list[ChunkRange]:
    """The rows of one call of the backend after the other, of so many bytes each when they are converted.

    All of them if they are read ``in_place``; else whole groups, so many that threads are worth starting.
    """
    if in_place:
        return chunk_ranges(plan, n_rows, max(count_chunks(plan, n_rows), 1))
    group = plan.chunk_rows * plan.group_size * row_bytes
    return chunk_ranges(plan, n_rows, max(BLOCK_BYTES // group, 1) * plan.group_size)


def n_threads(plan: Plan, n_rows: int, threads: int | None, passes: int = 3) -> int:
    """How many threads to use: as many as the work is worth, but at most those asked for, or by default all.

    Never more than there are processors: threads that take turns on one wait for each other. ``passes``: products of a
    layer; a forward pass has one, and the way back two.
    """
    most = max(n_rows * plan.row_work * passes // (3 * THREAD_WORK), 1)
    if threads is not None:
        most = min(check_int("threads", threads, 1), most)
        return 1 if most == 1 else min(most, _dispatch.most_threads())
    return 1 if most == 1 else min(_dispatch.default_threads(), most)


def serial_rows(plan: Plan) -> int:
    """Maximum rows for which :func:`n_threads` gives one thread."""
    return (2 * THREAD_WORK - 1) // plan.row_work


def sum_gradients(
    core: ModuleType, plan: Plan, params: Floats, batch: Batch, threads: int | None, out: Floats | None = None
) -> tuple[float, Floats]:
    """The weighted losses of all rows, and their gradients, summed.

    The gradients are float64, or, if all chunks are one group, in the network's dtype and in ``out``, if that is given.
    """
    n_rows = len(batch.X)
    n_chunks = count_chunks(plan, n_rows)
    sums = np.empty_like(params) if out is None else out
    total = np.empty(1 + params.size) if n_chunks > plan.group_size else None
    losses = 0.0
    if n_rows == 0:
        sums[...] = 0
    for r in batch_blocks(plan, batch, params.dtype):
        block = batch.block(r.start, r.stop, params.dtype)
        cut = n_rows, n_chunks, r.begin, r.end
        used = n_threads(plan, r.stop - r.start, threads)
        losses = float(core.accumulate(plan, params, block, sums, total, cut, used))
        drop_batch_pages(batch, r)
    return losses, sums if total is None else total[1:]


def sum_backward(
    core: ModuleType, plan: Plan, params: Floats, given: Backward, threads: int | None, out: Floats
) -> Floats:
    """The gradient of all rows from that of their outputs, summed, as :func:`sum_gradients` returns it."""
    n_rows = len(given.X)
    n_chunks = count_chunks(plan, n_rows)
    total = np.empty(1 + params.size) if n_chunks > plan.group_size else None
    if n_rows == 0:
        out[...] = 0
    for r, block in backward_blocks(plan, given, params.dtype):
        used = n_threads(plan, r.stop - r.start, threads)
        core.backward(plan, params, block, out, total, (n_rows, n_chunks, r.begin, r.end), used)
        drop_pages(given.X, r.start, r.stop)
        drop_pages(given.output_gradient, r.start, r.stop)
    return out if total is None else total[1:]


def backward_blocks(plan: Plan, given: Backward, dtype: np.dtype[Any]) -> Iterator[tuple[ChunkRange, Backward]]:
    """The rows of a backward pass block by block, as the backends take them."""
    X, output_gradient, of_logits, input_gradient, kept, first = given
    row_bytes = (X.shape[1] + output_gradient.shape[1]) * dtype.itemsize
    for r in blocks(plan, len(X), row_bytes, is_read_in_place(X, dtype) and is_read_in_place(output_gradient, dtype)):
        to = None if input_gradient is None else input_gradient[r.start : r.stop]
        x, dA = (rows(array, r.start, r.stop, dtype) for array in (X, output_gradient))
        yield r, Backward(x, dA, of_logits, to, kept, first + r.start)


def sum_losses(core: ModuleType, plan: Plan, params: Floats, batch: Batch, threads: int | None) -> float:
    """The weighted losses of all rows, summed as in :func:`sum_gradients`."""
    n_rows = len(batch.X)
    losses = 0.0
    for r in batch_blocks(plan, batch, params.dtype):
        block = batch.block(r.start, r.stop, params.dtype)
        cut = n_rows, count_chunks(plan, n_rows), r.begin, r.end
        losses = float(core.loss(plan, params, block, losses, cut, n_threads(plan, r.stop - r.start, threads, 1)))
        drop_batch_pages(batch, r)
    return losses


def row_blocks(plan: Plan, sources: list[Array], dtype: np.dtype[Any]) -> Iterator[tuple[ChunkRange, list[Floats]]]:
    """The rows of matrices, block by block, as the backends take them."""
    row_bytes = sum(source.shape[1] for source in sources) * dtype.itemsize
    in_place = all(is_read_in_place(source, dtype) for source in sources)
    for r in blocks(plan, len(sources[0]), row_bytes, in_place):
        yield r, [rows(source, r.start, r.stop, dtype) for source in sources]
        for source in sources:
            drop_pages(source, r.start, r.stop)


def batch_blocks(plan: Plan, batch: Batch, dtype: np.dtype[Any]) -> list[ChunkRange]:
    """The blocks of rows to learn from."""
    columns = 1 + sum(array.shape[1] if array.ndim == 2 else 1 for array in batch.arrays)
    return blocks(plan, len(batch.X), columns * dtype.itemsize, batch.is_read_in_place(dtype))


def drop_batch_pages(batch: Batch, r: ChunkRange) -> None:
    """Give the pages of rows that were read back to the system, where they are in large memory maps."""
    for source in batch.arrays:
        drop_pages(source, r.start, r.stop)
