"""``bpcore bench``: how fast each backend computes a cost and its gradient here.

The program in ``tests/benchmarks`` does the same beside other packages, and takes its tools from this module.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpcore import Network, __version__
from bpcore._dispatch import available_backends, load
from bpcore._validation import Array, Floats
from bpcore.architecture import CANONICAL_OUTPUT

from . import arguments

#: Largest difference of a gradient from that of the reference, relative to the reference's largest entry.
AGREEMENT = {"float32": 1e-4, "float64": 1e-10}

Call = Callable[[], object]

_loaded = functools.cache(load)  # to find a module takes longer than a small call


class Disagreement(ValueError):
    """Two implementations gave different results for the same work, so that there is nothing to time.

    Attributes
    ----------
    quantity : str
        What differs most.
    error : float
        How much it differs, relative to its size.
    """

    def __init__(self, message: str, quantity: str = "shape", error: float = math.inf) -> None:
        super().__init__(message)
        self.quantity, self.error = quantity, error


@dataclass(frozen=True)
class Cell:
    """A piece of work: the cost and the gradient of one network over some rows.

    Attributes
    ----------
    sizes, hidden, loss, dtype
        As :class:`bpcore.Network` takes them.
    rows : int
    """

    sizes: tuple[int, ...]
    hidden: str
    loss: str
    rows: int
    dtype: str = "float32"

    @property
    def network_name(self) -> str:
        """Sizes, activations and dtype, as in ``64-128-10 relu softmax``."""
        words = ["-".join(map(str, self.sizes)), self.hidden if len(self.sizes) > 2 else ""]
        words += [CANONICAL_OUTPUT[self.loss], self.dtype]
        return " ".join(word for word in words if word not in ("", "identity", "float32"))

    @property
    def name(self) -> str:
        """The network and the number of rows."""
        return f"{self.network_name}, {self.rows} {'row' if self.rows == 1 else 'rows'}"

    @property
    def flops(self) -> float:
        """Floating-point operations of the products: forward 2 P m, backward without the inputs, accumulate 2 P m."""
        products = [n_in * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:])]
        return 2.0 * self.rows * (3 * sum(products) - products[0])

    def network(self, dtype: str | None = None) -> Network:
        """The network, which computes with the backend in use at this moment."""
        return Network(self.sizes, self.hidden, self.loss, dtype=dtype or self.dtype)

    def data(self) -> tuple[Floats, Floats, Array]:
        """Parameters, inputs and targets: random, and the same every time.

        Rows that bring a rectifier's input so near to 0 that rounding decides its sign are drawn again: float32 could
        not agree with float64 on them.
        """
        net = self.network()
        rng = np.random.default_rng(1)
        params = self.parameters(net, rng)
        X = rng.standard_normal((self.rows, self.sizes[0]), net.dtype)
        while self.hidden == "relu" and (near := _near_a_kink(net, params, X)).any():
            X[near] = rng.standard_normal((int(near.sum()), self.sizes[0]), net.dtype)
        Y: Array
        if self.loss == "cross_entropy":
            Y = rng.integers(0, self.sizes[-1], self.rows)
        elif self.loss == "binary_cross_entropy":
            Y = rng.integers(0, 2, (self.rows, self.sizes[-1])).astype(net.dtype)
        else:
            Y = rng.standard_normal((self.rows, self.sizes[-1]), net.dtype)
        return params, X, Y

    def parameters(self, net: Network, rng: np.random.Generator, seed: int = 0) -> Floats:
        """Weights as a network begins with, and biases near 0."""
        params = net.initialize(seed=seed)
        for layer in net.layers(params):
            layer.bias[...] = rng.normal(0, 0.1, layer.bias.shape)
        return params


def _near_a_kink(net: Network, params: Floats, X: Floats) -> Array:
    """Which rows have a hidden unit whose pre-activation is less than about a hundred float32 roundings from 0."""
    near, a = np.zeros(len(X), bool), X.astype(np.float64)
    for layer in net.layers(params)[:-1]:
        z = a @ layer.weights.T + layer.bias
        near |= (np.abs(z) < 1e-5 * np.sqrt(np.mean(z * z))).any(axis=1)
        a = np.maximum(z, 0)
    return near


#: What the command times: small and large networks, few rows and many.
CELLS = (
    Cell((2, 8, 1), "tanh", "binary_cross_entropy", 1),
    Cell((4, 64, 64, 2), "relu", "squared_error", 32),
    Cell((64, 128, 10), "relu", "cross_entropy", 64),
    Cell((400, 25, 10), "sigmoid", "binary_cross_entropy", 500, "float64"),
    Cell((784, 128, 10), "relu", "cross_entropy", 128),
    Cell((64, 256, 256, 1), "relu", "squared_error", 1000),
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="time every backend on this machine",
        description="Time the cost and gradient of a few networks on every backend that this machine can run, after "
        "a check that their gradients agree. Each time is the best of several rounds.",
    )
    add = parser.add_argument
    add("--backends", type=arguments.names, metavar="NAMES", help="names between commas; by default all there are")
    add("--threads", type=arguments.whole(1), default=1, metavar="N", help="threads of each call; 1 by default")
    add(
        "--rounds",
        type=arguments.whole(1),
        default=3,
        metavar="N",
        help="rounds, of which the best counts; 3 by default",
    )
    add(
        "--seconds",
        type=arguments.number(0),
        default=0.01,
        metavar="S",
        help="minimum time of a round of calls; 0.01 by default",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`bpcore.cli.main` for what it returns and how errors end."""
    names = available_backends() if args.backends is None else args.backends
    for name in names:
        load(name)  # an unknown one is an error before any work
    with limited_pools(args.threads) as limited:
        if "python" in names and not limited:
            print("NumPy's own threads are not limited, which slows small products: threadpoolctl is not installed")
        _print_times(names, args)
    return 0


def _print_times(names: list[str], args: argparse.Namespace) -> None:
    work = [(cell, backend_calls(cell, names, args.threads)) for cell in CELLS]
    peaks = {dtype: fma_peak(dtype, args.threads) for dtype in ("float32", "float64")}
    rates = [f"{peak / 1e9:.1f} GFLOP/s in {dtype}" for dtype, peak in peaks.items() if peak is not None]
    print(f"bpcore {__version__}, NumPy {np.__version__}, {machine()}")
    print(f"threads: {args.threads}; peak of multiply-adds: {', '.join(rates) or 'no compiled backend to measure it'}")
    print()
    print(f"{'cost and gradient of':<43} {'backend':<10} {'us':>10} {'GFLOP/s':>8} {'of peak':>8}")
    for cell, calls in work:
        label = cell.name
        for name, times in rounds_of(calls, args.rounds, args.seconds).items():
            rate, peak = cell.flops / min(times), peaks[cell.dtype]
            share = "-" if peak is None else f"{rate / peak:.0%}"
            print(f"{label:<43} {name:<10} {microseconds(min(times)):>10} {rate / 1e9:>8.2f} {share:>8}")
            label = ""


def backend_calls(cell: Cell, names: list[str], threads: int) -> dict[str, Call]:
    """One call for each backend, after a check of its gradient against the pure-Python one in float64.

    Raises
    ------
    Disagreement
        If a backend's result differs.
    """
    params, X, Y = cell.data()
    with computing_with("python"):
        exact = cell.network("float64")
    targets = Y if Y.ndim == 1 else Y.astype(np.float64)
    cost, grad = exact.cost_and_gradient(params.astype(np.float64), X.astype(np.float64), targets, threads=1)
    calls: dict[str, Call] = {}
    for name in names:
        call = calls[name] = our_call(cell, name, params, X, Y, threads)
        found_cost, found_grad = call()
        check(f"{cell.name}, {name}", found_cost, found_grad, cost, grad, AGREEMENT[cell.dtype])
    return calls


def our_call(
    cell: Cell, backend: str, params: Floats, X: Floats, Y: Array, threads: int
) -> Callable[[], tuple[float, Floats]]:
    """What is timed: the cost and gradient of the cell, by that backend, into the same array each time."""
    with computing_with(backend):
        net = cell.network()
    grad = np.empty_like(params)  # a new one each time costs a few percent where it has many pages
    return lambda: net.cost_and_gradient(params, X, Y, out=grad, threads=threads)


def check(what: str, cost: float, grad: Array, exact_cost: float, exact_grad: Array, tolerance: float) -> None:
    """Compare a cost and a gradient with the reference's.

    Raises
    ------
    Disagreement
        If one differs by more than ``tolerance``, relative to the reference's cost or largest gradient entry; also
        if it is NaN, or the gradient has another shape.
    """
    if grad.shape != exact_grad.shape:
        raise Disagreement(f"{what}: the gradient must have shape {exact_grad.shape}, got {grad.shape}")
    errors = {"cost": abs(cost - exact_cost) / abs(exact_cost), "gradient": largest_error(grad, exact_grad)}
    wrong = [name for name, error in errors.items() if not error <= tolerance]  # NaN is wrong, too
    if wrong:
        name = max(wrong, key=lambda name: errors[name])
        size = f"{errors[name]:.1e} of its size, more than {tolerance:.0e}"
        raise Disagreement(f"{what}: the {name} differs from the reference by {size}", name, errors[name])


def largest_error(found: Array, exact: Array) -> float:
    """Largest difference, relative to the largest entry of ``exact``."""
    return float(np.max(np.abs(found - exact)) / np.max(np.abs(exact)))


@contextlib.contextmanager
def computing_with(name: str) -> Iterator[None]:
    """Let the networks and optimizers made inside the block compute with that backend."""
    module: Any = importlib.import_module("bpcore._dispatch")
    before = module.name, module.core
    module.name, module.core = name, _loaded(name)
    try:
        yield
    finally:
        module.name, module.core = before


@contextlib.contextmanager
def limited_pools(threads: int) -> Iterator[bool]:
    """Limit the threads of NumPy's products, and of other pools that are loaded; False without threadpoolctl."""
    try:
        limits: Any = importlib.import_module("threadpoolctl").threadpool_limits
    except ImportError:
        yield False
        return
    with limits(threads):
        yield True


# ---------------------------------------------------------------------------------------------------------- times


def rounds_of(calls: Mapping[str, Call], rounds: int, seconds: float, pause: float = 0.0) -> dict[str, list[float]]:
    """Time calls round robin: A B C, A B C, and so on, so that what disturbs the machine disturbs all alike.

    Parameters
    ----------
    calls : mapping of name to function
    rounds : int
    seconds : float
        Each is called so often in a round that this takes at least so long.
    pause : float
        Seconds of rest before each turn, for the threads of the turn before: some libraries' go on spinning.

    Returns
    -------
    times : dict of name to list of float
        Seconds of one call, for each round.
    """
    counts = {name: _calibrate(call, seconds) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if pause:
                time.sleep(pause)
                call()
            times[name].append(_batch(call, counts[name]) / counts[name])
    return times


def _calibrate(call: Call, seconds: float) -> int:
    """How many calls take that long; it warms up, too."""
    call()
    count = 1
    while (taken := _batch(call, count)) < seconds or (count > 1 and (taken := _batch(call, count)) < seconds):
        # A pause may have made the batch seem long; the second look is for that.
        count = max(2 * count, math.ceil(count * min(10.0, 1.1 * seconds / max(taken, 1e-9))))
    return count


def _batch(call: Call, count: int) -> float:
    """Seconds of that many calls, without the garbage collector."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def fma_peak(dtype: str, threads: int = 1, seconds: float = 0.01, rounds: int = 5) -> float | None:
    """Floating-point operations a second that multiply-adds in registers reach, with the best compiled backend.

    Returns
    -------
    peak : float or None
        None where no compiled backend can run.
    """
    names = [name for name in available_backends() if hasattr(load(name), "fma_loop")]
    if not names:
        return None
    loop: Callable[[int, bool], float] = getattr(load(names[0]), "fma_loop")  # noqa: B009, no part of the protocol
    single = dtype == "float32"
    repeats, taken = 64, 0.0
    while taken < seconds:
        repeats *= 2
        start = time.perf_counter()
        loop(repeats, single)
        taken = time.perf_counter() - start
    return max(_fma_rate(loop, repeats, single, threads) for _ in range(rounds))


def _fma_rate(loop: Callable[[int, bool], float], repeats: int, single: bool, threads: int) -> float:
    """Operations a second of that many threads, which start together."""
    barrier = threading.Barrier(threads + 1)
    done: list[float] = []

    def work() -> None:
        barrier.wait()
        done.append(loop(repeats, single))
        barrier.wait()

    if threads == 1:
        start = time.perf_counter()
        return loop(repeats, single) / (time.perf_counter() - start)
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    taken = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return sum(done) / taken


# ----------------------------------------------------------------------------------------------------------- words


def microseconds(seconds: float) -> str:
    """Three digits or more, as in ``0.813``, ``24.1`` and ``10,350``."""
    value = 1e6 * seconds
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def machine() -> str:
    """The processor's name, how many of it there are, and the system."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or "unknown processor"
    if "cpu family" in fields and "model" in fields:  # a virtual machine's name may not tell one model from another
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    cpus = os.cpu_count() or 1
    return f"{name}, {cpus} {'CPU' if cpus == 1 else 'CPUs'}, {platform.system()} {platform.machine()}"
