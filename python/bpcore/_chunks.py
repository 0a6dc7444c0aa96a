"""Rows cut into chunks, chunks shared among threads, results combined in the order of the chunks.

Where the cuts fall depends on the network and the number of rows alone, and so does the order of every addition:

- a chunk is summed tile by tile, in order, by the backend;
- the sums of up to ``plan.group_size`` chunks (more than one where the parameters are many) are added in order, in the
  network's dtype: that is a *group*;
- the groups are added in order, in float64.

A backend that gets several chunks of a group adds their sums as it makes them, which costs nothing. Several threads
take groups if there are enough of them, else chunks, whose sums are then added to those before them: the same additions
in the same order, so the result has the same bits for any number of threads.

This module knows plans and arrays, not networks.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from . import _dispatch
from ._validation import Array, Batch, Floats, check_int, drop_pages

if TYPE_CHECKING:
    from .fallback import Plan

Result = TypeVar("Result")

#: Minimum work per extra thread, in multiplications of a forward pass: starting it and taking turns cost some 0.2 ms.
#: Twice this, shared by two threads of an EPYC, took 0.75 to 0.95 of the time of one thread; less work was not faster.
THREAD_WORK = 8_000_000
#: Groups per thread from which on a thread takes whole groups: the last ones are a small part of all.
GROUPS_PER_THREAD = 4


class ChunkRange(NamedTuple):
    """Consecutive chunks that one thread computes in one call: the first and the end of them, and of their rows."""

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


def serial_rows(plan: Plan, n_parameters: int) -> int:
    """Maximum rows that the calling thread computes alone, if no number of threads is given."""
    return max(plan.chunk_rows, (2 * THREAD_WORK - 1) // n_parameters)


def n_threads(plan: Plan, n_parameters: int, n_rows: int, threads: int | None) -> int:
    """How many threads to use: as many as asked for, or as the work is worth, but no more than chunks."""
    n_chunks = count_chunks(plan, n_rows)
    if threads is not None:
        return max(1, min(check_int("threads", threads, 1), n_chunks))
    if n_rows <= serial_rows(plan, n_parameters):
        return 1
    return min(_dispatch.default_threads(), n_chunks, n_rows * n_parameters // THREAD_WORK)


def ordered_reduce(
    work: Callable[[ChunkRange, bytearray | None], Result],
    add: Callable[[ChunkRange, Result], None],
    ranges: list[ChunkRange],
    threads: int,
    *sources: Array | None,
) -> None:
    """Call ``add(r, work(r, cancelled))`` for every range: the work shared among threads, the additions in order.

    The calling thread is one of them; the others are started for the call and end with it: none is idle in between, and
    a fork finds none. Each holds one result, so memory does not grow with the number of ranges. ``sources`` are the
    arrays that the rows come from; if they are large memory maps, the pages of a range are dropped after it.

    When a signal or an error ends the call early, ``cancelled[0]`` becomes 1, so that work in other threads can return
    at once. ``cancelled`` is None if the calling thread is the only one.
    """

    def compute(r: ChunkRange, cancelled: bytearray | None) -> Result:
        result = work(r, cancelled)
        for source in sources:
            if source is not None:
                drop_pages(source, r.start, r.stop)
        return result

    if threads == 1 or len(ranges) < 2:
        for r in ranges:
            add(r, compute(r, None))
        return
    remaining = iter(enumerate(ranges))
    changed = threading.Condition()
    cancelled = bytearray(1)
    turn = 0
    errors: list[BaseException] = []

    def cancel(error: BaseException) -> None:
        errors.append(error)
        _dispatch.core.cancel(cancelled)
        with changed:
            changed.notify_all()

    def run_chunks() -> None:
        nonlocal turn
        while True:
            with changed:
                i, r = next(remaining, (-1, None))
            if r is None or errors:
                return
            result = compute(r, cancelled)
            with changed:
                while turn != i and not errors:
                    changed.wait()
            if errors:
                return
            add(r, result)
            with changed:
                turn += 1
                changed.notify_all()

    def worker(done: _thread.LockType) -> None:
        try:
            run_chunks()
        except BaseException as error:  # the calling thread raises it
            cancel(error)
        finally:
            done.release()

    def wait() -> None:
        for done in workers:
            with done:
                pass

    # threading.Thread.start would wait until the new thread runs, some 0.1 ms, before this one may begin.
    workers: list[_thread.LockType] = []
    try:
        for _ in range(1, min(threads, len(ranges))):
            done = _thread.allocate_lock()
            done.acquire()
            try:
                _thread.start_new_thread(worker, (done,))
            except (RuntimeError, MemoryError):  # the system has no more: the others compute all, with the same bits
                break
            workers.append(done)
        run_chunks()
        wait()
    except BaseException as error:
        cancel(error)
        wait()
        raise errors[0] from None
    if errors:
        raise errors[0]


def reduce_gradients(
    core: ModuleType,
    plan: Plan,
    params: Floats,
    batch: Batch,
    threads: int | None,
    out: Floats | None = None,
) -> tuple[float, Floats]:
    """The weighted losses of all rows, and their gradients, summed.

    The gradients are float64, or, if all chunks are one group, in the network's dtype and in ``out``, if that is given.
    """
    n_rows = len(batch.X)
    threads = n_threads(plan, params.size, n_rows, threads)
    n_chunks = count_chunks(plan, n_rows)
    groups = -(-n_chunks // plan.group_size)
    total = np.zeros(params.size) if groups != 1 else None
    unused: list[Floats] = []  # buffers for sums
    losses, group_losses = 0.0, 0.0
    group: Floats = np.empty(0)

    def work(r: ChunkRange, cancelled: bytearray | None) -> tuple[float, Floats]:
        if r.begin == 0 and total is None and out is not None:
            sums = out
        else:
            sums = _pop_buffer(unused, params)
        rows = batch.block(r.start, r.stop, params.dtype)
        return float(core.accumulate(plan, params, rows, sums, cancelled, (n_rows, n_chunks, r.begin, r.end))), sums

    def add(r: ChunkRange, result: tuple[float, Floats]) -> None:
        nonlocal losses, group_losses, group
        if r.begin % plan.group_size == 0:
            group_losses, group = result
        else:
            core.merge_sums(group, result[1])
            group_losses += result[0]
            unused.append(result[1])
        if r.end % plan.group_size == 0 or r.end == n_chunks:
            losses += group_losses
            if total is not None:
                core.merge_sums(total, group)
                unused.append(group)

    size = plan.group_size if threads == 1 or groups >= GROUPS_PER_THREAD * threads else 1
    ordered_reduce(work, add, chunk_ranges(plan, n_rows, size), threads, batch.X, batch.Y, batch.sample_weight)
    return losses, group if total is None else total


def _pop_buffer(unused: list[Floats], params: Floats) -> Floats:
    try:
        return unused.pop()
    except IndexError:
        return np.empty_like(params)
