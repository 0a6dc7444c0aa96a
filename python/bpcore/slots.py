"""Rows cut into slots, slots shared among threads, results put together in the order of the slots.

Where the cuts fall depends on the network and the number of rows alone, and so does the order of every addition:

- a slot is summed tile by tile, in order, by the backend;
- the sums of up to ``plan.together`` slots (more than one where the parameters are many) are added up in order, in the
  network's dtype: that is a *group*;
- the groups are added up in order, in float64.

A backend that is given several slots of a group adds their sums as it makes them, which costs nothing. Several threads
take groups where there are enough of them, else slots, whose sums are then added to those before them: the same
additions in the same order, so the result has the same bits for any number of threads.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from . import arrays
from .arrays import Array, Floats, integer, release
from .backend import core, default_threads

if TYPE_CHECKING:
    from .network import Network

Result = TypeVar("Result")

#: Multiplications of a forward pass below which a further thread brings little: making it and taking turns cost some
#: 0.2 ms. Twice this, shared by two threads of an EPYC, took 0.75 to 0.95 of one thread's time, less work no less time.
THREAD_WORK = 8_000_000
#: Groups for each thread, from which on it takes whole groups: the last ones are a small part of all.
GROUPS_PER_THREAD = 4


class Unit(NamedTuple):
    """Consecutive slots, which one thread does in one go: numbers of the first and of the one behind, and the rows."""

    begin: int
    end: int
    start: int
    stop: int


def count(net: Network, n_rows: int) -> int:
    """Into how many slots the rows are cut."""
    return -(-n_rows // net._plan.slot)


def units(net: Network, n_rows: int, size: int) -> list[Unit]:
    """All slots, ``size`` of them at a time; as even as can be: slot i begins with row ``i * n_rows // slots``."""
    n = count(net, n_rows)
    cuts = [(begin, min(begin + size, n)) for begin in range(0, n, size)]
    return [Unit(begin, end, begin * n_rows // n, end * n_rows // n) for begin, end in cuts]


def rows_of_one_thread(net: Network) -> int:
    """Up to how many rows the calling thread does by itself, where no number of threads is given."""
    return max(net._plan.slot, (2 * THREAD_WORK - 1) // net.n_parameters)


def n_threads(net: Network, n_rows: int, threads: int | None) -> int:
    """How many threads to use: as many as asked for, or as many as the work is worth, but no more than slots."""
    n_slots = count(net, n_rows)
    if threads is not None:
        return max(1, min(integer("threads", threads, 1), n_slots))
    if n_rows <= rows_of_one_thread(net):
        return 1
    return min(default_threads(), n_slots, n_rows * net.n_parameters // THREAD_WORK)


def in_order(
    work: Callable[[Unit, bytearray | None], Result],
    add: Callable[[Unit, Result], None],
    units: list[Unit],
    threads: int,
    *sources: Array | None,
) -> None:
    """``add(unit, work(unit, cancelled))`` for every unit: work shared among the threads, additions in order.

    The calling thread is one of them, the others are made for the call and gone after it: none is idle in between, and
    a fork finds none. Each holds one result, so memory does not grow with the number of units. ``sources`` are the
    arrays that the rows come from; where they are large memory maps, a unit's pages are let go after it.

    When a signal or an error ends the call early, ``cancelled[0]`` becomes 1, so that work in other threads can return
    at once. ``cancelled`` is None if the calling thread is the only one.
    """

    def do(unit: Unit, cancelled: bytearray | None) -> Result:
        result = work(unit, cancelled)
        for source in sources:
            if source is not None:
                release(source, unit.start, unit.stop)
        return result

    if threads == 1 or len(units) < 2:
        for unit in units:
            add(unit, do(unit, None))
        return
    left = iter(enumerate(units))
    changed = threading.Condition()
    cancelled = bytearray(1)
    turn = 0
    errors: list[BaseException] = []

    def end(error: BaseException) -> None:
        errors.append(error)
        core.cancel(cancelled)
        with changed:
            changed.notify_all()

    def share() -> None:
        nonlocal turn
        while True:
            with changed:
                i, unit = next(left, (-1, None))
            if unit is None or errors:
                return
            result = do(unit, cancelled)
            with changed:
                while turn != i and not errors:
                    changed.wait()
            if errors:
                return
            add(unit, result)
            with changed:
                turn += 1
                changed.notify_all()

    def help_out(busy: _thread.LockType) -> None:
        try:
            share()
        except BaseException as error:  # it is raised by the calling thread
            end(error)
        finally:
            busy.release()

    def wait() -> None:
        for busy in helpers:
            with busy:
                pass

    # threading.Thread.start would wait until the new thread runs, some 0.1 ms, before this one may begin.
    helpers: list[_thread.LockType] = []
    try:
        for _ in range(1, min(threads, len(units))):
            busy = _thread.allocate_lock()
            busy.acquire()
            try:
                _thread.start_new_thread(help_out, (busy,))
            except (RuntimeError, MemoryError):  # no more to be had: the others do all of it, with the same bits
                break
            helpers.append(busy)
        share()
        wait()
    except BaseException as error:
        end(error)
        wait()
        raise errors[0] from None
    if errors:
        raise errors[0]


def add_up(
    net: Network,
    params: Floats,
    X: Array,
    Y: Array,
    weights: Array | None,
    threads: int | None,
    into: Floats | None = None,
) -> tuple[float, Floats]:
    """The weighted losses of all rows, and their gradients, summed, of checked arguments.

    The gradients are float64, or, where all slots are one group, in the network's dtype and in ``into``, if that is
    given.
    """
    core, plan, n_rows = net._core, net._plan, len(X)
    threads = n_threads(net, n_rows, threads)
    n_slots = count(net, n_rows)
    groups = -(-n_slots // plan.together)
    total = np.zeros(net.n_parameters) if groups != 1 else None
    spare: list[Floats] = []  # room for sums, to be used again
    losses, group_losses = 0.0, 0.0
    group: Floats = np.empty(0)

    def work(unit: Unit, cancelled: bytearray | None) -> tuple[float, Floats]:
        rows = block(net, X, Y, weights, unit.start, unit.stop)
        if unit.begin == 0 and total is None and into is not None:
            sums = into
        else:
            sums = _taken(spare, net)
        return core.accumulate(plan, params, *rows, sums, cancelled, (n_rows, n_slots, unit.begin, unit.end)), sums

    def add(unit: Unit, result: tuple[float, Floats]) -> None:
        nonlocal losses, group_losses, group
        if unit.begin % plan.together == 0:
            group_losses, group = result
        else:
            with np.errstate(all="ignore"):
                group += result[1]
            group_losses += result[0]
            spare.append(result[1])
        if unit.end % plan.together == 0 or unit.end == n_slots:
            losses += group_losses
            if total is not None:
                total[...] += group
                spare.append(group)

    size = plan.together if threads == 1 or groups >= GROUPS_PER_THREAD * threads else 1
    in_order(work, add, units(net, n_rows, size), threads, X, Y, weights)
    return losses, group if total is None else total


def _taken(spare: list[Floats], net: Network) -> Floats:
    try:
        return spare.pop()
    except IndexError:
        return np.empty(net.n_parameters, net.dtype)


def block(
    net: Network, X: Array, Y: Array, weights: Array | None, start: int, stop: int
) -> tuple[Floats, Array, Floats | None]:
    """Rows ``start`` to ``stop`` of checked X, Y and sample weights, as the backends take them."""
    return (
        arrays.rows(X, start, stop, net.dtype),
        arrays.rows(Y, start, stop, net.dtype if Y.ndim == 2 else np.dtype(np.int64)),
        None if weights is None else arrays.rows(weights, start, stop, net.dtype),
    )
