"""Rows cut into slots, slots shared among threads, results put together in the order of the slots.

Where the cuts fall depends on the network and the number of rows alone. Each slot is summed in order and the sums of
the slots are added in order, so the result has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from .arrays import Array, integer, release
from .backend import default_threads

if TYPE_CHECKING:
    from .network import Network

Result = TypeVar("Result")

#: Multiplications in a slot's forward pass, about: some 10 ms of work, so that a signal is seen soon and what a slot
#: costs besides (adding its sums to the total) stays small.
SLOT_WORK = 100_000_000
#: A slot never has fewer rows than this (its sums would cost as much as the work), nor more (float32 sums of more
#: rows would lose digits; the total of the slots is kept in float64).
SLOT_ROWS = (256, 8192)
#: Slots that a backend may do in one go, keeping the sums of each; more of them are added up as they come.
TOGETHER = 4
#: Multiplications below which a further thread costs more than it brings.
THREAD_WORK = 20_000_000


def rows_per_slot(net: Network) -> int:
    """How many rows make a slot of that network."""
    low, high = SLOT_ROWS
    return max(low, min(high, SLOT_WORK // net.n_parameters))


def rows_of_one_thread(net: Network) -> int:
    """Up to how many rows a backend may do in one go, on the calling thread, where no number of threads is given."""
    slot = rows_per_slot(net)
    return max(slot, min(TOGETHER * slot, (2 * THREAD_WORK - 1) // net.n_parameters))


def bounds(net: Network, n_rows: int) -> list[tuple[int, int]]:
    """First row and last row (excluded) of each slot."""
    size = rows_per_slot(net)
    return [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def n_threads(net: Network, n_rows: int, threads: int | None) -> int:
    """How many threads to use: as many as asked for, or as many as the work is worth, but no more than slots."""
    n_slots = -(-n_rows // rows_per_slot(net))
    if threads is not None:
        return max(1, min(integer("threads", threads, 1), n_slots))
    if n_slots < 2 or n_rows * net.n_parameters < 2 * THREAD_WORK:
        return 1
    return min(default_threads(), n_slots, n_rows * net.n_parameters // THREAD_WORK)


def new_flag(threads: int) -> bytearray | None:
    """What :func:`in_order` tells the threads by; None for the calling thread alone, which sees signals itself."""
    return bytearray(1) if threads > 1 else None


def in_order(
    work: Callable[[int, int], Result],
    slots: list[tuple[int, int]],
    threads: int,
    *sources: Array | None,
    told: bytearray | None = None,
) -> Iterator[Result]:
    """``work(start, stop)`` of every slot, in the order of the slots, done by that many threads.

    No more than ``threads + 1`` results are held back at a time, so memory does not grow with the number of slots.
    The threads are made for the call and gone after it: none is idle in between, and a fork finds none. ``sources``
    are the arrays that the rows come from; where they are large memory maps, a slot's pages are let go after it.

    If all is over before the last result, by a signal or an error, ``told[0]`` becomes 1: threads whose work looks at
    it need not be waited for until the end of their slots.
    """

    def do(start: int, stop: int) -> Result:
        result = work(start, stop)
        for source in sources:
            if source is not None:
                release(source, start, stop)
        return result

    if threads == 1 or len(slots) == 1:
        for start, stop in slots:
            yield do(start, stop)
        return
    from collections import deque  # these two cost more to import than a small call takes
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads, "bpcore")
    try:
        pending: deque[Future[Result]] = deque()
        for start, stop in slots:
            pending.append(pool.submit(do, start, stop))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if told is not None:
            told[0] = 1
        pool.shutdown(cancel_futures=True)
