"""Beside other code: threads, forks, other interpreters, signals, and libraries with settings of their own."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import SLOWNESS
from test_parity import parameters, problem

import bpcore


def run(code: str, *arguments: str, backend: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    env = {**os.environ, "BPCORE_BACKEND": backend, **environment}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.sep, timeout=60 * SLOWNESS)


def test_sixteen_threads_share_a_network_and_parameters(backend, dtype, rng):
    """All of them on the same arrays, some in slots and threads of their own: the bits of one call after the other."""
    net = bpcore.Network([6, 30, 3], "silu", "cross_entropy", dtype=dtype)
    params = parameters(net, rng)
    X, Y, weights = problem(net.sizes, net.loss, dtype, net._plan.slot + 50, rng)

    def calls():
        accumulator = net.accumulator()
        accumulator.add(params, X[:300], Y[:300], weights[:300])
        trace = net.trace(params, X[:40])
        return [
            *net.cost_and_gradient(params, X, Y, 0.1, weights, threads=2),
            *net.cost_and_gradient(params, X[:7], Y[:7], 0.1),
            net.cost(params, X[:100], Y[:100]),
            net.forward(params, X[:500]),
            accumulator.buffer,
            trace.backward(Y[:40]),
        ]

    expected = calls()
    found = [None] * 16
    start = threading.Barrier(16)

    def work(i):
        start.wait()
        found[i] = calls()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for results in found:
        assert len(results) == len(expected)
        for a, b in zip(results, expected):
            np.testing.assert_array_equal(a, b)


# --------------------------------------------------------------------------------------------------- other processes

PROCESSES = """
import multiprocessing, sys
import numpy as np
import bpcore

net = bpcore.Network([8, 40, 2], dtype="float32")
rows = 3 * net._plan.slot
X = np.random.default_rng(0).normal(size=(rows, 8)).astype("float32")
params = net.initialize(seed=0)

def compute(net):
    return net.cost_and_gradient(params, X, X[:, :2].copy(), threads=2)

def send(net, pipe):
    pipe.send((bpcore.backend, *compute(net)))

if __name__ == "__main__":
    cost, grad = compute(net)
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    children = [context.Process(target=send, args=(net, theirs)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        backend, found_cost, found = ours.recv()
        assert (backend, found_cost) == (bpcore.backend, cost)
        assert (found == grad).all()
    for child in children:
        child.join()
        assert child.exitcode == 0
    print("done")
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_after_use(backend, method, tmp_path):
    """A child, forked after threads were used or new, computes the same bits with threads of its own."""
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    env = {**os.environ, "BPCORE_BACKEND": backend}
    command = [sys.executable, "-W", "error", str(script), method]
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60 * SLOWNESS)
    assert (result.stdout.strip(), result.returncode) == ("done", 0), result.stderr


INTERPRETERS = """
import sys
if sys.version_info >= (3, 14):
    from concurrent import interpreters
    def run(code):
        interpreters.create().exec(code)
elif sys.version_info >= (3, 13):
    import _interpreters
    def run(code):
        failed = _interpreters.run_string(_interpreters.create(), code)
        if failed is not None:
            raise RuntimeError(failed.formatted)
else:
    import _xxsubinterpreters
    def run(code):
        _xxsubinterpreters.run_string(_xxsubinterpreters.create(), code)

if sys.argv[1] == "used":
    import bpcore
    bpcore.Network([2, 2]).initialize(0)
try:
    run('''
import warnings
warnings.simplefilter("ignore")  # NumPy's own, where it does not refuse
try:
    import bpcore
except ImportError as error:
    assert str(error), "an error without words"
else:
    net = bpcore.Network([2, 3, 1])
    cost, grad = net.cost_and_gradient(net.initialize(0), [[1.0, 2.0]], [[1.0]])
    assert cost == cost and len(grad) == net.n_parameters
''')
finally:
    try:
        import bpcore
    except ImportError as error:  # some NumPy can be loaded by one interpreter alone, and that was the other one
        assert sys.argv[1] == "new" and str(error)
    else:
        net = bpcore.Network([2, 3, 1])
        net.cost_and_gradient(net.initialize(0), [[1.0, 2.0]], [[1.0]])
print("done")
"""


#: An older NumPy crashes, or does not load in the outer interpreter, where one inside is the first to load it.
BEFORE = ["used", "new"] if np.lib.NumpyVersion(np.__version__) >= "2.2.0" else ["used"]


@pytest.mark.parametrize("before", BEFORE)
def test_an_interpreter_inside(backend, before):
    """It works, or the import says that it cannot; an interpreter that has computed before still can."""
    result = run(INTERPRETERS, before, backend=backend)
    assert (result.stdout.strip(), result.returncode) == ("done", 0), result.stderr


# ----------------------------------------------------------------------------------------------------------- signals

#: Each call takes seconds, on every backend. The wide network has a single slot of rows.
LONG = """
import signal, sys, time
import numpy as np
import bpcore

call, shape, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGINT, signal.default_int_handler)
if shape == "wide":
    net = bpcore.Network([4096, 4096, 4096, 4096], dtype="float32")
    rows = 256
else:
    net = bpcore.Network([64, 256, 256, 4], "gelu", dtype="float64")
    rows = 400_000
X = np.ones((rows, net.sizes[0]), net.dtype)
Y = np.zeros((rows, net.sizes[-1]), net.dtype)
params = np.full(net.n_parameters, 1e-3, net.dtype)
accumulator = net.accumulator()
calls = {
    "cost_and_gradient": lambda: net.cost_and_gradient(params, X, Y, threads=threads),
    "forward": lambda: net.forward(params, X, threads=threads),
    "cost": lambda: net.cost(params, X, Y, threads=threads),
    "add": lambda: accumulator.add(params, X, Y, threads=threads),
}
print("ready", flush=True)
try:
    while True:
        calls[call]()
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
assert call == "add" or not accumulator.buffer.any()
print("left", flush=True)
"""


def interrupted_after(backend: str, *arguments: str) -> float:
    """Seconds from SIGINT in the middle of a call until the KeyboardInterrupt is there."""
    env = {**os.environ, "BPCORE_BACKEND": backend, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LONG, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=os.sep) as process:
        timer = threading.Timer(60 * SLOWNESS, process.kill)
        timer.start()
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.4)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            seen = float(process.stdout.readline())
            assert process.stdout.readline() == "left\n"
            assert process.wait() == 0
        finally:
            timer.cancel()
            process.kill()
    return seen - sent


if os.name != "nt":  # there is no SIGINT for a single process there

    @pytest.mark.parametrize("threads", ["1", "2"])
    @pytest.mark.parametrize("call", ["cost_and_gradient", "forward", "cost", "add"])
    def test_a_signal_is_seen_in_a_long_call(backend, call, threads):
        """Within 0.2 s on an idle machine; a second is allowed to a busy one."""
        seconds = interrupted_after(backend, call, "long", threads)
        print(f"{backend}, {call}, {threads} threads: {seconds:.3f} s")
        assert seconds < SLOWNESS

    @pytest.mark.parametrize("call", ["cost_and_gradient", "forward"])
    def test_a_signal_is_seen_within_a_wide_slot(backend, call):
        """One slot of this network takes a second and more."""
        seconds = interrupted_after(backend, call, "wide", "1")
        print(f"{backend}, {call}, wide: {seconds:.3f} s")
        assert seconds < SLOWNESS


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_end_with_the_call(backend, threads):
    """A thread in the middle of its slot stops when the call is over, and the flag is what tells it."""
    net = bpcore.Network([512, 512, 512], dtype="float64")
    X, params = np.ones((20_000, 512)), np.zeros(net.n_parameters)
    flag = bytearray(1)
    sums = np.empty(net.n_parameters)
    stopper = threading.Timer(0.05 * threads, flag.__setitem__, (0, 1))
    stopper.start()
    with pytest.raises(InterruptedError):  # noqa: PT012 (a call may be over before the flag is set)
        while True:
            net._core.accumulate(net._plan, params, X, X, None, sums, flag)
    stopper.join()
    assert flag[0] == 1


# ---------------------------------------------------------------------------------------------------- other libraries

SETTINGS = """
import os, sys, threading
import numpy as np
import scipy.linalg
{other}

def settings():
    found = [np.geterr(), threading.active_count(), threading.stack_size(), sys.getswitchinterval()]
    found += [dict(os.environ), os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None]
    found += [np.float64(1e-310) / 2 > 0]
    return found

before = settings()
import bpcore
net = bpcore.Network([32, 64, 8], dtype="float32")
X = np.ones((3 * net._plan.slot, 32), "float32")
for threads in (1, 2):
    cost, grad = net.cost_and_gradient(net.initialize(0), X, X[:, :8].copy(), threads=threads)
scipy.linalg.lu_factor(np.eye(200) + 1)
changed = [i for i, (a, b) in enumerate(zip(before, settings())) if a != b]
assert not changed, changed
print("done")
"""


def test_no_setting_of_the_process_is_changed(backend):
    """Neither by the import nor by a call: error states, denormal numbers, affinity, threads that stay."""
    other = "import jax; jax.numpy.ones(3).sum().block_until_ready()" if importlib.util.find_spec("jax") else ""
    result = run(SETTINGS.replace("{other}", other), backend=backend, OPENBLAS_NUM_THREADS="1")
    assert (result.stdout.strip(), result.returncode) == ("done", 0), result.stderr
