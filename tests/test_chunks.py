"""Rows, chunks and threads: the same bits for any number of threads, and memory that does not grow with the rows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import EMULATED, dispatch, make_data, make_parameters

import bpcore
from bpcore import _chunks


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_same_bits_for_any_number_of_threads(backend, dtype, loss, rng):
    net = bpcore.Network([5, 40, 3], "tanh", loss, dtype=dtype)
    params = make_parameters(net, rng)
    rows = 5 * net._plan.chunk_rows + 17
    X, Y, weights = make_data(net.sizes, loss, dtype, rows, rng)
    expected = None
    for threads in (1, 2, 3, 7, 100, None):
        accumulator = net.accumulator()
        accumulator.add(params, X, Y, weights, threads=threads)
        found = [
            *net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads),
            net.cost(params, X, Y, 0.1, weights, threads=threads),
            net.forward(params, X, threads=threads),
            accumulator.buffer,
        ]
        expected = expected or found
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sizes", [(5, 40, 3), (150, 500, 150)], ids=["chunks of many tiles", "chunks of one tile"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_few_chunks_in_one_go_have_the_bits_of_the_accumulator(backend, dtype, sizes, loss, l2, rng):
    """Groups or single chunks, by one thread or by many, added in the backend or in Python."""
    net = bpcore.Network(sizes, "tanh", loss, dtype=dtype)
    params = make_parameters(net, rng)
    size, group_size = net._plan.chunk_rows, net._plan.group_size
    assert (group_size > 1) == (sizes[0] == 150)
    few = (size + 3, group_size * size + 1)
    for rows in few if EMULATED else (size, *few, 3 * size, group_size * size):
        X, Y, _ = make_data(net.sizes, loss, dtype, rows, rng)
        accumulator = net.accumulator()
        accumulator.add(params, X, Y, threads=2)
        cost, grad = accumulator.finish(params, l2)
        for threads in (1, 3) if EMULATED else (1, 2, 3, None):
            found_cost, found = net.cost_and_gradient(params, X, Y, l2, threads=threads)
            assert found_cost == cost
            np.testing.assert_array_equal(found, grad)


@pytest.mark.parametrize("sizes", [(1, 1), (64, 128, 10), (400, 25, 10), (300, 300, 300), (1500, 1500)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_cut_by_shape_alone(sizes, dtype):
    """The same cuts on every backend, all rows once and in order, as even as can be."""
    nets = []
    for name in bpcore.available_backends():
        core = dispatch.load(name)
        nets.append(core.Plan(sizes, ("tanh",) * (len(sizes) - 1), "squared_error", np.dtype(dtype)))
    rows_of_chunk, group_size = nets[0].chunk_rows, nets[0].group_size
    assert {(plan.chunk_rows, plan.group_size) for plan in nets} == {(rows_of_chunk, group_size)}
    assert group_size == (8 if rows_of_chunk <= 256 else 1)
    for rows in (0, 1, rows_of_chunk, rows_of_chunk + 1, 10 * rows_of_chunk + 7):
        cuts = _chunks.chunk_ranges(nets[0], rows, 1)
        assert len(cuts) == _chunks.count_chunks(nets[0], rows) == -(-rows // rows_of_chunk)
        assert [r.begin for r in cuts] == list(range(len(cuts)))
        assert [r.start for r in cuts] == [0, *(r.stop for r in cuts)][:-1] if cuts else rows == 0
        sizes_found = {r.stop - r.start for r in cuts}
        assert max(sizes_found, default=0) - min(sizes_found, default=0) <= 1
        assert sum(r.stop - r.start for r in cuts) == rows
        groups = _chunks.chunk_ranges(nets[0], rows, 3)
        assert [(g.start, g.stop) for g in groups] == [(cuts[g.begin].start, cuts[g.end - 1].stop) for g in groups]


def test_a_cut_that_does_not_fit_is_refused(backend):
    net = bpcore.Network([2, 1])
    X, Y, sums = np.zeros((4, 2)), np.zeros((4, 1)), np.empty(3)
    for cut in ((4, 1, 0, 2), (4, 1, 1, 1), (10, 2, 0, 1), (3, 1, 0, 1), (4, 1, -1, 1)):
        with pytest.raises(ValueError, match="chunk_range"):
            net._core.accumulate(net._plan, np.zeros(3), (X, Y, None), sums, None, cut)


def test_small_work_stays_on_the_calling_thread(backend, rng):
    net = bpcore.Network([4, 64, 64, 2])
    assert _chunks.n_threads(net._plan, net.n_parameters, 1, None) == 1
    assert _chunks.n_threads(net._plan, net.n_parameters, 256, None) == 1
    assert _chunks.n_threads(net._plan, net.n_parameters, 10 * net._plan.chunk_rows, 3) == 3
    assert _chunks.n_threads(net._plan, net.n_parameters, 256, 3) == 1  # there is a single chunk


def test_a_call_that_is_over_before_it_begins_ends_at_once(backend, dtype):
    """What another thread says is looked at within a call: it ends, and does not go on to its last row."""
    net = bpcore.Network([256, 256, 256], "relu", dtype=dtype)
    X, params, sums = np.ones((3000, 256), dtype), np.zeros(net.n_parameters, dtype), np.empty(net.n_parameters, dtype)
    core, plan, over = net._core, net._plan, bytearray(b"\1")
    for call in (
        lambda: core.accumulate(plan, params, (X, X, None), sums, over),
        lambda: core.loss(plan, params, (X, X, None), over),
        lambda: core.forward(plan, params, X, np.empty_like(X), over),
    ):
        with pytest.raises(InterruptedError, match="the call was cancelled by another thread"):
            call()
    assert core.loss(plan, params, (X[:9], X[:9], None), bytearray(1)) == 9 * 128


def ranges(n):
    return [_chunks.ChunkRange(i, i + 1, i, i + 1) for i in range(n)]


@pytest.mark.parametrize("threads", [1, 2, 4, 300])
def test_results_are_added_in_order_and_few_are_held_back(threads):
    done, added, most, lock = [], [], 0, threading.Lock()

    def work(r, cancelled):
        with lock:
            done.append(r)
        return r.begin

    def add(r, result):
        nonlocal most
        assert r.begin == result == len(added)
        most = max(most, len(done) - len(added))
        added.append(r)

    _chunks.ordered_reduce(work, add, ranges(200), threads)
    assert added == ranges(200)
    assert most <= threads


@pytest.mark.parametrize("place", ["work", "add"])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_chunk_is_raised_and_no_thread_is_left(threads, place):
    def work(r, cancelled):
        if r.begin == 20 and place == "work":
            raise ZeroDivisionError
        while place == "work" and r.begin > 20 and not cancelled[0]:  # cancelled that all is over
            time.sleep(0.001)

    def add(r, result):
        if r.begin == 20:
            raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        _chunks.ordered_reduce(work, add, ranges(100), threads)
    assert threading.active_count() == before


def test_a_thread_in_the_middle_of_its_chunk_is_cancelled_by_the_error_of_another():
    """The first r fails when the second has begun; that one continues until it is cancelled."""
    begun, heard = threading.Event(), []

    def work(r, cancelled):
        if r.begin == 0:
            assert begun.wait(20)
            raise ZeroDivisionError
        begun.set()
        end = time.monotonic() + 20
        while not cancelled[0] and time.monotonic() < end:
            time.sleep(0.001)
        heard.append(cancelled[0])

    with pytest.raises(ZeroDivisionError):
        _chunks.ordered_reduce(work, lambda r, result: None, ranges(2), 2)
    assert heard == [1]


@pytest.mark.parametrize("place", ["work", "add"])
def test_an_error_of_another_thread_is_raised_by_the_caller(place):
    """The calling thread makes no error itself, and waits in its r until another has begun one."""
    caller, begun = threading.get_ident(), threading.Event()

    def fail(where):
        if threading.get_ident() != caller:
            begun.set()
            if where == place:
                raise ZeroDivisionError

    def work(r, cancelled):
        fail("work")
        assert begun.wait(20)

    with pytest.raises(ZeroDivisionError):
        _chunks.ordered_reduce(work, lambda r, result: fail("add"), ranges(50), 2)


def test_many_threads_on_one_network_and_one_params(backend, dtype, rng):
    """16 threads, each with its own rows, get what they get one after the other."""
    net = bpcore.Network([4, 20, 20, 3], "gelu", "cross_entropy", dtype=dtype)
    params = make_parameters(net, rng)
    data = [make_data(net.sizes, net.loss, dtype, 50 + i, rng) for i in range(16)]
    expected = [net.cost_and_gradient(params, X, Y, 0.1, w) for X, Y, w in data]
    found = [[] for _ in data]
    start = threading.Barrier(16)

    def run(i):
        X, Y, w = data[i]
        start.wait()
        for _ in range(20):
            found[i].append(net.cost_and_gradient(params, X, Y, 0.1, w))

    workers = [threading.Thread(target=run, args=(i,)) for i in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, results in enumerate(found):
        assert len(results) == 20
        for J, grad in results:
            assert J == expected[i][0]
            np.testing.assert_array_equal(grad, expected[i][1])


MEMORY = """
import sys
import numpy as np
import bpcore
rows, path = int(sys.argv[1]), sys.argv[2]
X = np.memmap(path, np.float32, "r", shape=(rows, 64))
Y = np.zeros(rows, np.int8)
net = bpcore.Network([64, 16, 10], loss="cross_entropy", dtype="float32")
params = net.initialize(seed=0)
J, grad = net.cost_and_gradient(params, X, Y)
assert np.isfinite(J) and np.isfinite(grad).all()
if sys.platform == "linux":
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
else:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""


@pytest.mark.skipif(os.name == "nt", reason="the system does not tell a process's peak memory to its own code")
@pytest.mark.parametrize("name", bpcore.available_backends())
def test_memory_does_not_grow_with_the_rows(name, tmp_path):
    """Peak resident memory for 2,000,000 rows of a memory map, 512 MB, against 2,000 rows of it."""
    many = 600_000 if EMULATED else 2_000_000  # 154 MB are too much, too
    path = tmp_path / "X"
    with open(path, "wb") as file:
        file.truncate(many * 64 * 4)
    peak = {}
    for rows in (2_000, many):
        command = [sys.executable, "-c", MEMORY, str(rows), str(path)]
        env = {**os.environ, "BPCORE_BACKEND": name}
        result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.sep)
        assert result.returncode == 0, result.stderr
        peak[rows] = int(result.stdout) / 1024
    assert peak[many] - peak[2_000] < 100, peak


def test_pages_of_a_private_map_are_kept(tmp_path, monkeypatch):
    """Letting go of a copy-on-write map would lose its changes."""
    from bpcore import _validation

    monkeypatch.setattr(_validation, "MIN_DROP_BYTES", 1)
    path = tmp_path / "X"
    np.ones((4096, 8)).tofile(path)
    for mode in ("c", "r+"):
        X = np.memmap(path, np.float64, mode, shape=(4096, 8))
        X[100:200] = 5
        _validation.drop_pages(np.asarray(X), 0, 4096)
        assert (X[100:200] == 5).all()
        assert (X[200:] == 1).all()
    offset = np.memmap(path, np.float64, "r", offset=1000 * 64, shape=(2000, 8))
    _validation.drop_pages(np.asarray(offset)[3:], 5, 1900)
    assert (offset == 1).all()


def test_other_backends_are_not_disturbed(backend):
    assert dispatch.core is dispatch.load(backend)
