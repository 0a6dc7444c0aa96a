"""Rows, chunks and threads: the same bits for any number of threads, and memory that does not grow with the rows."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import EMULATED, dispatch, make_data, make_parameters

import bpcore
from bpcore import _chunks, _validation, fallback, training
from bpcore.fallback import Batches, Update


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
@pytest.mark.parametrize(("loss", "l2"), [("squared_error", 0.1), ("cross_entropy", 0.0)])
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
    many = sum((n_in + 1) * n_out for n_in, n_out in zip(sizes, sizes[1:])) >= 2_000_000
    assert group_size == (8 if rows_of_chunk <= 256 or many else 1)
    assert rows_of_chunk == 512 or not many
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
            net._core.accumulate(net._plan, np.zeros(3), (X, Y, None, 0.0), sums, None, cut)


def test_threads_are_as_many_as_the_work_is_worth(backend, monkeypatch):
    """At most those asked for, or by default all; a forward pass is worth a third."""
    monkeypatch.setattr(_chunks._dispatch, "default_threads", lambda: 5)
    plan = bpcore.Network([40, 600, 300], dtype="float32")._plan
    rows = -(-_chunks.THREAD_WORK // plan.row_work)  # that are worth a thread
    for count, threads, expected in (
        *((1, None, 1), (2 * rows - 2, 7, 1), (2 * rows, 7, 2), (2 * rows, 1, 1)),
        *((7 * rows, 7, 7), (99 * rows, 7, 7), (99 * rows, None, 5)),
    ):
        assert _chunks.n_threads(plan, count, threads) == expected, (count, threads)
    monkeypatch.setattr(_chunks._dispatch, "most_threads", lambda: 3)
    assert [_chunks.n_threads(plan, 99 * rows, threads) for threads in (2, 3, 64)] == [2, 3, 3]
    monkeypatch.setattr(_chunks._dispatch, "most_threads", lambda: 64)
    assert _chunks.n_threads(plan, 2 * rows, 7, passes=1) == 1
    assert _chunks.n_threads(plan, 6 * rows, 7, passes=1) == 2
    assert _chunks.n_threads(plan, 0, 7) == 1
    serial = _chunks.serial_rows(plan)
    assert [_chunks.n_threads(plan, count, 7) for count in (serial, serial + 1)] == [1, 2]
    assert bpcore.Network([40, 600, 300], dtype="float64")._plan.row_work == 2 * plan.row_work
    assert plan.row_work == fallback.Plan((40, 600, 300), ("relu", "relu"), "huber", np.dtype("float32")).row_work


#: What the threads of a call share: a tile, by columns and rows; tiles; few tiles, and many; and what needs one thread.
SHARED = {
    "wide": ([300, 500, 700, 90], 150),
    "wide, packed panel by panel": ([1025, 700, 1100], 40),
    "X copied": ([1024, 64, 129], 300),
    "one output": ([90, 200, 1], 200),
    "one input": ([1, 300, 17], 133),
    "one layer": ([140, 150], 700),
    "narrow": ([4, 32, 16, 4], 5000),
    "narrow and few rows": ([4, 32, 16, 4], 100),
    "six rows": ([40, 200, 40], 6),
    "five rows": ([40, 200, 40], 5),
    "groups": ([150, 500, 150], 2500),
    "packed in shares": ([60, 90, 210], 160),
    "two tiles by one thread": ([12, 180], 150),
    "chunks, then tiles": ([4, 32, 16, 4], 10_000),
    "groups, then tiles": ([64, 256, 250, 3], 5000),
}


@pytest.mark.parametrize("shape", SHARED)
def test_a_call_has_the_same_bits_in_a_team(backend, dtype, shape, rng, monkeypatch):
    """However the threads of a call share its work; by default small calls have no threads."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    sizes, rows = SHARED[shape]
    weighted, hidden = len(sizes) % 2 == 0, "relu" if len(shape) % 2 else "gelu"
    rows = min(rows, 150) if backend == "python" else rows  # it has no threads of its own
    loss = "cross_entropy" if hidden == "gelu" else "huber"
    net = bpcore.Network(sizes, hidden, loss, dtype=dtype)
    params = make_parameters(net, rng)
    X, Y, weights = make_data(net.sizes, loss, dtype, rows, rng)
    weights = weights * (rng.random(rows) < 0.9).astype(dtype) if weighted else None
    if weighted:
        weights[0] = 1
    found = {
        threads: (
            *net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads),
            net.cost(params, X, Y, 0.1, weights, threads=threads),
            net.forward(params, X, threads=threads),
        )
        for threads in (1, 2, 3, 7)
    }
    assert found[1][0] == found[1][2]
    for threads in (2, 3, 7):
        for a, b in zip(found[threads], found[1]):
            np.testing.assert_array_equal(a, b)


def test_a_team_has_a_maximum(backend, rng, monkeypatch):
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net = bpcore.Network([40, 200, 40], "tanh")
    params, X = make_parameters(net, rng), rng.normal(size=(20, 40))
    np.testing.assert_array_equal(net.forward(params, X, threads=1000), net.forward(params, X, threads=1))


def test_large_sums_of_threads_have_the_same_bits(backend, rng, monkeypatch):
    """Sums too large for a place behind a workspace; few rows have a weight, so that it takes little time."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net = bpcore.Network([620, 640], "tanh")
    size = net._plan.chunk_rows
    assert size == 128
    rows = 64 * size
    X, Y, weights = np.zeros((rows, 620)), np.zeros((rows, 640)), np.zeros(rows)
    X[::size], Y[::size] = rng.normal(size=(64, 620)), rng.normal(size=(64, 640))
    weights[::size] = 1
    params = make_parameters(net, rng)
    cost, grad = net.cost_and_gradient(params, X, Y, 0.1, weights, threads=1)
    few_cost, few = net.cost_and_gradient(params, X[::size], Y[::size], 0.1, threads=2)
    assert abs(cost - few_cost) < 1e-12 * cost
    np.testing.assert_allclose(grad, few, rtol=0, atol=1e-12 * np.abs(few).max())
    for threads in (2,) if backend != "python" else ():  # it has no threads of its own
        found_cost, found = net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads)
        assert found_cost == cost
        np.testing.assert_array_equal(found, grad)


@pytest.mark.parametrize("sizes", [(5, 40, 3), (150, 200, 10)], ids=["chunks of many tiles", "chunks of one tile"])
def test_converted_rows_have_the_bits_of_those_in_place(backend, dtype, sizes, rng, monkeypatch):
    """Block by block, each of them whole groups of the chunks that all rows are cut into."""
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 1)
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net = bpcore.Network(sizes, "tanh", "cross_entropy", dtype=dtype)
    params, plan = make_parameters(net, rng), net._plan
    rows = 2 * plan.group_size * plan.chunk_rows + 17
    X, Y, weights = make_data(net.sizes, net.loss, "float32", rows, rng)
    assert len(_chunks.blocks(plan, rows, 1, False)) == 3
    other = np.float32 if dtype == "float64" else np.float64
    data = [array.astype(dtype) for array in (X, Y, weights)]
    copied = [array.astype(other) for array in (X, Y, weights)]
    expected = None
    for (X, Y, weights), threads in ((data, 1), (data, 3), (copied, 3), ((data[0], copied[1], data[2]), 2)):
        found = [
            *net.cost_and_gradient(params, X, Y, 0.1, weights, threads=threads),
            net.cost(params, X, Y, 0.1, weights, threads=threads),
        ]
        if backend != "python":  # NumPy's products of other rows may round otherwise
            found.append(net.forward(params, X, threads=threads))
        expected = expected or found
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)


def test_blocks_are_cut_as_all_rows_are(monkeypatch):
    """Each call of the backend hears which chunks of all rows it gets, and the losses of those before it."""
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 1)
    plan = bpcore.Network([3, 2])._plan
    rows, cuts = 3 * plan.chunk_rows - 5, []

    class Recorder:
        def accumulate(self, plan, params, rows, sums, total, cut, threads):
            cuts.append((len(rows[0]), *cut))
            return float(len(cuts))

        def loss(self, plan, params, rows, before, cut, threads):
            assert before == len(cuts)
            return self.accumulate(plan, params, rows, None, None, cut, threads)

    batch = _validation.Batch(np.zeros((rows, 3), "float32"), np.zeros((rows, 2)), None)
    ends = [0, rows // 3, 2 * rows // 3, rows]
    for function in (_chunks.sum_gradients, _chunks.sum_losses):
        cuts.clear()
        function(Recorder(), plan, np.zeros(8), batch, 2)
        assert cuts == [(ends[i + 1] - ends[i], rows, 3, i, i + 1) for i in range(3)]


def test_the_penalty_of_many_parameters(backend, dtype):
    """Every square counts once, though their sum is made of pieces: whole numbers, which must come out exactly."""
    net = bpcore.Network([300, 500, 20], "relu", dtype=dtype)
    params = np.ones(net.n_parameters, dtype)
    for layer in net.layers(params):
        layer.bias[...] = 0
    X, Y = np.zeros((8, 300), dtype), np.zeros((8, 20), dtype)
    for threads in (1, 2):
        assert net.cost_and_gradient(params, X, Y, 2.0, threads=threads)[0] == 300 * 500 + 500 * 20
    assert net.cost(params, X, Y, 2.0) == 300 * 500 + 500 * 20


def test_no_rows_have_no_gradient(backend, dtype):
    net = bpcore.Network([3, 4, 2], dtype=dtype)
    params, batch = net.initialize(0), _validation.Batch(np.empty((0, 3), dtype), np.empty((0, 2), dtype), None)
    losses, sums = _chunks.sum_gradients(net._core, net._plan, params, batch, 2, np.full_like(params, 7))
    assert losses == 0
    assert not sums.any()


def test_what_is_read_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(_validation, "MIN_DROP_BYTES", 100)
    X = np.zeros((6, 4))
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", np.float64, "r", shape=(6, 4))
    Y, labels, weights = np.zeros((6, 2)), np.zeros(6, np.int64), np.zeros(6)
    unaligned = np.frombuffer(b"x" + X.tobytes(), X.dtype, offset=1).reshape(X.shape)
    dtype = np.dtype("float64")
    for batch in ((X, Y, None), (X, labels, weights)):
        assert _validation.Batch(*batch).is_read_in_place(dtype)
    for batch in (
        *((X[:, ::2], Y, None), (X.astype("float32"), Y, None), (X.astype(">f8"), Y, None), (unaligned, Y, None)),
        *((X, Y[::-1], None), (X, Y.astype("float32"), None), (X, labels.astype(np.int32), weights)),
        *((X, weights, None), (X, Y, weights[::-1]), (X, Y, weights.astype("float32"))),
    ):
        assert not _validation.Batch(*batch).is_read_in_place(dtype)
    if hasattr(mmap, "MADV_DONTNEED"):  # its pages are dropped, block by block
        assert not _validation.Batch(mapped, Y, None).is_read_in_place(dtype)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("sizes", [(9, 150, 40, 3), (90, 500, 90)], ids=["few parameters", "many parameters"])
@pytest.mark.parametrize("batch_size", [32, 300])
def test_training_has_the_same_bits_in_a_team(backend, dtype, batch_size, sizes, optimizer, rng, monkeypatch):
    """The last batch is of three rows, which one thread computes."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net = bpcore.Network(sizes, "tanh", "cross_entropy", dtype=dtype)
    X, Y, weights = make_data(net.sizes, net.loss, dtype, 2 * batch_size + 3, rng)
    found = []
    for threads in (1, 2, 3):
        params = net.initialize(0)
        step = bpcore.Adam(0.01) if optimizer == "adam" else bpcore.GradientDescent(0.01, momentum=0.9)
        history = bpcore.train(
            net, params, X, Y, epochs=3, batch_size=batch_size, optimizer=step, sample_weight=weights, l2=1e-3,
            threads=threads,
        )  # fmt: skip
        found.append((params, history.cost))
    for params, costs in found[1:]:
        if backend == "python":  # NumPy's products may differ from one time to the next
            np.testing.assert_allclose(params, found[0][0], rtol=1e-3, atol=1e-4)
        else:
            np.testing.assert_array_equal(params, found[0][0])
            assert costs == found[0][1]


@pytest.mark.parametrize("which", [0, 99, -1])
def test_divergence_in_a_team_leaves_what_one_thread_leaves(backend, which, monkeypatch):
    """In the first step one weight becomes infinite, of some thread's share, and the others finite ones."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net = bpcore.Network([1, 200, 1], "tanh")
    start = np.zeros(net.n_parameters)
    net.layers(start)[1].weights[...] = np.linspace(1e-3, 2e-3, 200)
    net.layers(start)[1].weights[0, which] = 1e4
    X = np.resize([1.0, -1.0], (40, 1))
    for threads in (1, 2, 3):
        params = start.copy()
        with pytest.raises(FloatingPointError, match="the parameters are not finite after epoch 1"):
            bpcore.train(
                net, params, X, X, optimizer=bpcore.GradientDescent(1e305), epochs=3, batch_size=20, shuffle=False,
                threads=threads,
            )  # fmt: skip
        np.testing.assert_array_equal(params, start)


def short_steps(rows: int, rng: np.random.Generator):
    """A network and rows for training whose steps take some microseconds."""
    net = bpcore.Network([4, 16, 1], "tanh")
    X = rng.normal(size=(rows, 4))
    return net, net.initialize(0), X, X[:, :1].copy()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_step_is_taken_when_the_time_is_up(backend, threads, rng):
    net, params, X, Y = short_steps(800, rng)
    optimizer = bpcore.GradientDescent(0.01)
    optimizer._start(params)
    for first in (0, 8, 16):
        batches = Batches(None, first, 8, 100, -1.0, threads)
        update = Update(optimizer, optimizer._hyperparameters, optimizer._state, 0.01, params.copy())
        done, _, _ = net._core.train_batches(net._plan, params, (X, Y, None, 0.0), batches, 1.0, 0.0, update)
        assert (done, optimizer.steps) == (first + 8, first // 8 + 1)


def test_a_team_agrees_when_the_time_is_up(backend, rng, monkeypatch):
    """Threads that do not would wait for each other for good."""
    monkeypatch.setattr(_chunks, "THREAD_WORK", 1)
    net, start, X, Y = short_steps(16_000, rng)
    found = []
    for seconds, threads in ((0.1, 1), (3e-4, 2), (2e-4, 3)):
        monkeypatch.setattr(training, "SECONDS_UNINTERRUPTED", seconds)
        params = start.copy()
        bpcore.train(net, params, X, Y, epochs=2, batch_size=16, threads=threads, seed=0)
        found.append(params.tobytes())
    assert found[0] == found[1] == found[2]


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
if rows < 2_000_000 or bpcore.backend != "python":
    assert np.isfinite(net.cost(params, X, Y))
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
