"""Rows, slots and threads: the same bits for any number of threads, and memory that does not grow with the rows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import backends
from test_parity import parameters, problem

import bpcore
from bpcore import slots


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_same_bits_for_any_number_of_threads(backend, dtype, loss, rng):
    net = bpcore.Network([5, 40, 3], "tanh", loss, dtype=dtype)
    params = parameters(net, rng)
    rows = 5 * slots.rows_per_slot(net) + 17
    X, Y, weights = problem(net.sizes, loss, dtype, rows, rng)
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


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_few_slots_in_one_go_have_the_bits_of_the_accumulator(backend, dtype, loss, l2, rng):
    net = bpcore.Network([5, 40, 3], "tanh", loss, dtype=dtype)
    params = parameters(net, rng)
    size = slots.rows_per_slot(net)
    for rows in (size, size + 3, 3 * size, slots.TOGETHER * size, slots.TOGETHER * size + 1):
        X, Y, _ = problem(net.sizes, loss, dtype, rows, rng)
        accumulator = net.accumulator()
        accumulator.add(params, X, Y, threads=2)
        cost, grad = accumulator.finish(params, l2)
        for threads in (1, 2, None):
            found_cost, found = net.cost_and_gradient(params, X, Y, l2, threads=threads)
            assert found_cost == cost
            np.testing.assert_array_equal(found, grad)


def test_rows_are_cut_by_shape_alone():
    net = bpcore.Network([64, 128, 10])
    size = slots.rows_per_slot(net)
    cuts = slots.bounds(net, 3 * size + 1)
    assert cuts == [(0, size), (size, 2 * size), (2 * size, 3 * size), (3 * size, 3 * size + 1)]
    assert slots.bounds(net, 0) == []
    assert slots.rows_per_slot(bpcore.Network([1, 1])) == slots.SLOT_ROWS[1]
    assert slots.rows_per_slot(bpcore.Network([3000, 3000, 3000])) == slots.SLOT_ROWS[0]


def test_small_work_stays_on_the_calling_thread(backend, rng):
    net = bpcore.Network([4, 64, 64, 2])
    assert slots.n_threads(net, 1, None) == 1
    assert slots.n_threads(net, 256, None) == 1
    assert slots.n_threads(net, 10 * slots.rows_per_slot(net), 3) == 3
    assert slots.n_threads(net, 256, 3) == 1  # there is a single slot


def test_results_come_in_order_and_few_are_held_back():
    done, most, lock = [], 0, threading.Lock()

    def work(start, stop):
        with lock:
            done.append(start)
        return start

    taken = 0
    for taken, value in enumerate(slots.in_order(work, [(i, i + 1) for i in range(200)], 4), 1):
        assert value == taken - 1
        most = max(most, len(done) - taken)
    assert taken == 200
    assert most <= 5


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_slot_is_raised_and_no_thread_is_left(threads):
    def work(start, stop):
        if start == 20:
            raise ZeroDivisionError
        return start

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(slots.in_order(work, [(i, i + 1) for i in range(100)], threads))
    assert threading.active_count() == before


def test_many_threads_on_one_network_and_one_params(backend, dtype, rng):
    """16 threads, each with its own rows, get what they get one after the other."""
    net = bpcore.Network([4, 20, 20, 3], "gelu", "cross_entropy", dtype=dtype)
    params = parameters(net, rng)
    data = [problem(net.sizes, net.loss, dtype, 50 + i, rng) for i in range(16)]
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
X = np.memmap(path, np.float32, "r", shape=(2_000_000, 64))[:rows]
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
    path = tmp_path / "X"
    with open(path, "wb") as file:
        file.truncate(2_000_000 * 64 * 4)
    peak = {}
    for rows in (2_000, 2_000_000):
        command = [sys.executable, "-c", MEMORY, str(rows), str(path)]
        env = {**os.environ, "BPCORE_BACKEND": name}
        result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.sep)
        assert result.returncode == 0, result.stderr
        peak[rows] = int(result.stdout) / 1024
    assert peak[2_000_000] - peak[2_000] < 100, peak


def test_pages_of_a_private_map_are_kept(tmp_path, monkeypatch):
    """Letting go of a copy-on-write map would lose its changes."""
    from bpcore import arrays

    monkeypatch.setattr(arrays, "RELEASE_AT_LEAST", 1)
    path = tmp_path / "X"
    np.ones((4096, 8)).tofile(path)
    for mode in ("c", "r+"):
        X = np.memmap(path, np.float64, mode, shape=(4096, 8))
        X[100:200] = 5
        arrays.release(np.asarray(X), 0, 4096)
        assert (X[100:200] == 5).all()
        assert (X[200:] == 1).all()
    offset = np.memmap(path, np.float64, "r", offset=1000 * 64, shape=(2000, 8))
    arrays.release(np.asarray(offset)[3:], 5, 1900)
    assert (offset == 1).all()


def test_other_backends_are_not_disturbed(backend):
    assert backends.core is backends.load(backend)
