"""Time every backend of bpcore and every installed peer on the same work, side by side.

For each number of threads a process of its own is started on as many CPUs: XLA's pool takes every CPU it sees, and
OpenBLAS reads its variables when it is loaded. In it every result is compared with a float64 reference before anything
is timed; then the competitors take turns, and the best of their rounds counts. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers

import bpcore
from bpcore.cli import arguments
from bpcore.cli.bench import (
    AGREEMENT,
    Cell,
    Disagreement,
    check,
    computing_with,
    fma_peak,
    largest_error,
    limited_pools,
    machine,
    microseconds,
    our_call,
    rounds_of,
)
from bpcore.data import load_digits

#: Batches of the training that is compared with the reference, before a last one of half the size.
CHECKED_STEPS = 20

#: Seconds: OpenBLAS's threads go on spinning for some 0.03 s after a product.
PAUSE = 0.1

#: Least and aim of every cell with more than one thread.
MORE_THREADS = (1.0, 1.3)

#: They make OpenBLAS use other kernels than those that suit the machine.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Case(Cell):
    """A cell of the table.

    Attributes
    ----------
    least, aim : float or None
        The ratio to the best peer, with one thread, that is demanded, and the one that is aimed at.
    rival : str or None
        The peer that these are about, where it is not the best one.
    """

    least: float | None = None
    aim: float | None = None
    rival: str | None = None

    #: Calls are divided by this for the table.
    units = 1

    def target(self, threads: int) -> dict[str, Any]:
        """``least``, ``aim`` and ``rival`` for that number of threads."""
        if threads > 1:
            return dict(zip(("least", "aim", "rival"), (*MORE_THREADS, None)))
        return {"least": self.least, "aim": self.aim, "rival": self.rival}


@dataclass(frozen=True)
class Training(Case):
    """An epoch of Adam.

    Attributes
    ----------
    batch_size : int
    shuffle : bool
        Whether each epoch has an order of its own.
    digits : bool
        The data are the bundled digits; the table tells the time of an epoch, and else that of a step.
    """

    batch_size: int = 32
    shuffle: bool = False
    digits: bool = False

    @property
    def name(self) -> str:
        what = "digits, an epoch" if self.digits else "train, a step"
        return f"{what}: {self.network_name}, batch {self.batch_size}, Adam"

    @property
    def units(self) -> int:  # type: ignore[override]
        return 1 if self.digits else math.ceil(self.rows / self.batch_size)

    def data(self):
        params, X, Y = super().data()
        if self.digits:
            images, Y = load_digits()
            X = (images / 16).astype(self.dtype)
        return params, X, Y


@dataclass(frozen=True)
class Population(Case):
    """Cost and gradient of many networks of one shape, each on the same rows.

    Attributes
    ----------
    networks : int
        With a smooth activation: rows are drawn again for the kinks of one network, not for those of many.
    """

    networks: int = 1

    @property
    def name(self) -> str:
        return f"{self.networks} networks {super().name} each"

    @property
    def flops(self) -> float:
        return self.networks * super().flops

    def data(self):
        """As for one network, with parameters of shape (networks, n_params)."""
        _, X, Y = super().data()
        rng, net = np.random.default_rng(2), self.network()
        return np.array([self.parameters(net, rng, seed) for seed in range(self.networks)]), X, Y


@dataclass(frozen=True)
class Subnormal(Case):
    """Numbers below the smallest normal one, which many processors multiply far more slowly.

    A part of the results that depends on them is subnormal, too, or is lost beside the others: a library that takes
    them for 0 agrees with one that does not. Biases, last layer and targets are as usual.

    Attributes
    ----------
    where : str
        "inputs": all of them; or "weights": a part of those of the hidden layers, as gradient descent with weight decay
        leaves them where units are never active.
    """

    where: str = "inputs"

    @property
    def name(self) -> str:
        return f"{super().name}, {'subnormal inputs' if self.where == 'inputs' else 'weights partly subnormal'}"

    def parameters(self, net, rng, seed=0):
        params = super().parameters(net, rng, seed)
        if self.where == "weights":
            for layer in net.layers(params)[:-1]:
                chosen = np.random.default_rng(seed).random(layer.weights.shape) < 0.6
                layer.weights[chosen] = np.copysign(self.tiny, layer.weights[chosen])
        return params

    def data(self):
        params, X, Y = super().data()
        if self.where == "inputs":
            X *= 0.1 * self.tiny
        return params, X, Y

    @property
    def tiny(self):
        """A tenth of the smallest normal number, about 1e-39 in float32."""
        return np.finfo(self.dtype).tiny / 10


CASES = (
    Case((2, 8, 1), "tanh", "binary_cross_entropy", 1, least=5, aim=10),
    Case((4, 64, 64, 2), "relu", "squared_error", 1, least=5, aim=10),
    Case((4, 64, 64, 2), "relu", "squared_error", 32, least=3, aim=4),
    Case((4, 64, 64, 2), "relu", "squared_error", 256, least=1.5, aim=2),
    Case((4, 32, 16, 4), "tanh", "squared_error", 10_000, least=2.5, aim=4),
    Case((24, 8, 2), "tanh", "squared_error", 200, "float64", least=3, aim=6),
    Case((64, 128, 10), "relu", "cross_entropy", 64, least=2, aim=3),
    Case((784, 128, 10), "relu", "cross_entropy", 128, least=1.3, aim=1.5),
    Case((400, 25, 10), "sigmoid", "binary_cross_entropy", 5_000, "float64", least=1.8, aim=2.2),
    Case((64, 256, 256, 1), "relu", "squared_error", 20_000, least=1.3, aim=1.6),
    Case((784, 512, 256, 10), "relu", "cross_entropy", 256, least=1.0, aim=1.2),
    Case((1024, 1024, 1024, 1024), "relu", "squared_error", 512, least=1.0, aim=1.2),
    Case((2048, 2048, 2048), "relu", "squared_error", 256, least=1.0, aim=1.2),
    Case((500, 500, 500), "tanh", "squared_error", 1_000, "float64", least=1.0, aim=1.15),
    Subnormal((784, 128, 10), "relu", "cross_entropy", 128, where="inputs"),
    Subnormal((20, 256, 256, 1), "relu", "squared_error", 256, where="weights"),
    Training((4, 64, 64, 2), "relu", "squared_error", 32_000, least=1.5, aim=3, rival="JAX"),
    Training(
        (64, 128, 10),
        "relu",
        "cross_entropy",
        1797,
        least=5,
        aim=15,
        rival="scikit-learn",
        shuffle=True,
        digits=True,
    ),
    Population((4, 32, 32, 2), "tanh", "squared_error", 32, networks=64),
    Population((2, 8, 1), "tanh", "binary_cross_entropy", 32, networks=256),
)

#: With --shapes: odd widths, narrow and wide, deep, one output, float64.
SHAPES = (
    Case((37, 53, 29, 3), "relu", "squared_error", 1_000),
    Case((37, 53, 29, 3), "tanh", "squared_error", 1_000),
    Case((8, 512, 8), "relu", "squared_error", 256),
    Case((512, 8, 512), "relu", "squared_error", 256),
    Case((32,) * 9, "relu", "squared_error", 32),
    Case((32,) * 9, "tanh", "squared_error", 1_000),
    Case((100, 100, 1), "relu", "squared_error", 100),
    Case((100, 100, 1), "sigmoid", "binary_cross_entropy", 10_000),
    Case((10, 3), "relu", "cross_entropy", 1_000),
    Case((64, 256, 256, 1), "relu", "squared_error", 2_000, "float64"),
)

#: The network of the accuracy part.
ACCURACY = ((4, 32, 16, 4), "tanh", "squared_error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; 0, or 1 where results disagree, or 2 after another error."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(description="Time every backend of bpcore and every installed peer.")
    add = parser.add_argument
    add("--cells", type=pattern, default=re.compile(""), metavar="REGEX", help="only cells whose name matches")
    add("--shapes", action="store_true", help="further cells, of other shapes")
    add("--backends", type=arguments.names, metavar="NAMES", help="by default all that this machine can run")
    add("--peers", type=arguments.names, default=list(peers.PEERS), metavar="NAMES", help=",".join(peers.PEERS))
    add("--threads", type=arguments.names, default=["1", "2"], metavar="N,N", help="1,2 unless given")
    add("--rounds", type=arguments.whole(1), default=7, metavar="N", help="of which the best counts; 7 unless given")
    add(
        "--seconds",
        type=arguments.number(0),
        default=0.02,
        metavar="S",
        help="least time of a round; 0.02 unless given",
    )
    add(
        "--accuracy-rows",
        type=arguments.whole(0),
        default=1_000_000,
        metavar="N",
        help="rows of the float32 gradient that is compared with float64; 0 leaves it out",
    )
    add("--json", metavar="FILE", help="write every time of every round")
    add("--png", metavar="FILE", help="write a chart")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--part", type=int, help=argparse.SUPPRESS)  # what the process of one number of threads is given
    add("--result", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)

    args.cases = [case for case in (*CASES, *(SHAPES if args.shapes else ())) if args.cells.search(case.name)]
    args.backends = bpcore.available_backends() if args.backends is None else args.backends
    if not args.cases:
        parser.error(f"no cell matches {args.cells.pattern!r}")
    if unknown := set(args.backends) - set(bpcore.available_backends()):
        parser.error(f"this machine has no backend {', '.join(unknown)}")
    if not args.backends:
        parser.error("--backends is empty")
    if unknown := set(args.peers) - set(peers.PEERS):
        parser.error(f"there is no peer {', '.join(unknown)}, but {', '.join(peers.PEERS)}")
    if not args.threads or not all(text.isdecimal() and int(text) > 0 for text in args.threads):
        parser.error(f"--threads must be positive integers between commas, got {','.join(args.threads)!r}")

    if args.part is not None:
        try:
            result = run_part(args, args.part)
        except Disagreement as error:
            print(f"bench: nothing was timed: {error}", file=sys.stderr)
            return 1
        Path(args.result).write_text(json.dumps(result), encoding="utf-8")
        return 0

    report = {
        "machine": machine(),
        "command": shlex.join(["python", "tests/benchmarks/bench.py", *argv]),
        "versions": {
            "bpcore": bpcore.__version__,
            "Python": f"{platform.python_implementation()} {platform.python_version()}",
        },
        "unset": [name for name in UNSET if name in os.environ],
        "parts": [],
    }
    for i, threads in enumerate(map(int, args.threads)):
        try:
            part = start_part(argv, threads, accuracy=i == 0)
        except TooFewCpus as error:
            print(f"bench: {error}", file=sys.stderr)
            continue
        if part is None:
            return 1
        report["parts"].append(part)
    if not report["parts"]:
        return 2
    print("\n".join(report_lines(report, args.markdown)))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.png:
        draw(report, args.png)
    return 0


# ---------------------------------------------------------------------------------------- a process for each number


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression, as argparse wants it."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


class TooFewCpus(Exception):
    """This process may not use as many CPUs as are asked for."""


@contextlib.contextmanager
def pinned(n: int) -> Iterator[None]:
    """Pin this process, and those that it starts, to the last ``n`` of its CPUs, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    if n > len(before):
        raise TooFewCpus(f"{n} threads are left out: this process may use {len(before)} of the CPUs")
    os.sched_setaffinity(0, sorted(before)[-n:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_part(argv: Sequence[str], threads: int, accuracy: bool) -> dict[str, Any] | None:
    """Run the program for one number of threads, and read what it found; None after an error, which it has reported."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    environment["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder, pinned(threads):
        result = Path(folder) / "part.json"
        command = [sys.executable, __file__, *argv, "--part", str(threads), "--result", str(result)]
        command += [] if accuracy else ["--accuracy-rows", "0"]
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            return None
        return json.loads(result.read_text(encoding="utf-8"))


def run_part(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Check every cell, then time every cell.

    Raises
    ------
    Disagreement
        Before anything is timed.
    """
    found, missing = load_peers(args.peers, threads)
    with limited_pools(threads) as limited:
        work = []
        for i, case in enumerate(args.cases, 1):
            progress(threads, f"checking {i}/{len(args.cases)}: {case.name}")
            work.append(competitors(case, args.backends, found, threads))
        peaks = [{dtype: fma_peak(dtype, threads) for dtype in AGREEMENT}]
        cells = []
        for i, (case, (calls, inexact)) in enumerate(zip(args.cases, work), 1):
            progress(threads, f"timing {i}/{len(args.cases)}: {case.name}")
            times = rounds_of(calls, args.rounds, args.seconds, PAUSE if threads > 1 else 0.0)
            cells.append(
                {
                    "name": case.name,
                    "dtype": case.dtype,
                    "flops": case.flops / case.units,
                    **case.target(threads),
                    "inexact": inexact,
                    "seconds": {name: [t / case.units for t in rounds] for name, rounds in times.items()},
                }
            )
        peaks.append({dtype: fma_peak(dtype, threads) for dtype in AGREEMENT})
        errors = {}
        if args.accuracy_rows:
            progress(threads, "accuracy")
            errors = accuracy(args.accuracy_rows, args.backends, found, threads)
    return {
        "threads": threads,
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "blas": blas(limited),
        "backends": args.backends,
        "peers": {peer.name: peer.version for peer in found},
        "missing": missing,
        "peak": {dtype: max((p[dtype] for p in peaks if p[dtype]), default=None) for dtype in AGREEMENT},
        "cells": cells,
        "accuracy_rows": args.accuracy_rows,
        "accuracy": errors,
    }


def progress(threads: int, what: str) -> None:
    print(f"[{threads} {'thread' if threads == 1 else 'threads'}] {what}", file=sys.stderr, flush=True)


def load_peers(names: Sequence[str], threads: int) -> tuple[list[Any], dict[str, str]]:
    """The peers that are installed, and why the others are missing."""
    found, missing = [], {}
    for name in names:
        try:
            found.append(peers.PEERS[name](threads))
        except ImportError as error:
            missing[peers.PEERS[name].name] = str(error)
    return found, missing


def blas(limited: bool) -> list[str]:
    """The libraries that multiply for NumPy and others, each with its version, kernel and threads."""
    if not limited:
        return ["unknown kernel (threadpoolctl is not installed)"]
    from threadpoolctl import threadpool_info

    found = set()
    for info in threadpool_info():
        if info["user_api"] == "blas":
            folder = Path(info["filepath"]).parent  # numpy.libs, or numpy/.dylibs on macOS
            owner = (folder if folder.suffix == ".libs" else folder.parent).stem
            kernel, threads = info.get("architecture", "unknown"), info["num_threads"]
            whose = "" if info["internal_api"] == "mkl" else f" ({owner}), kernel {kernel}"  # MKL does not tell it
            found.add(f"{info['internal_api']} {info['version']}{whose}, threads {threads}")
    return sorted(found)


# ----------------------------------------------------------------------------------------------- what is compared


def competitors(
    case: Case, backends: Sequence[str], found: Sequence[Any], threads: int
) -> tuple[dict[str, Callable[[], object]], dict[str, tuple[str, float]]]:
    """One call for each backend and for each peer that has such a network, after a check of every result.

    Returns
    -------
    calls : dict of name to function
    inexact : dict of name to (str, float)
        For each peer that trades digits for time, and here too many: what differs most, and how much. It has no call.

    Raises
    ------
    Disagreement
        If any other result differs from that of NumPy in float64.
    """
    kind = {Training: _trainings, Population: _populations}.get(type(case), _gradients)
    calls: dict[str, Callable[[], object]] = {}
    inexact: dict[str, tuple[str, float]] = {}
    kind(case, *case.data(), backends, found, threads, calls, inexact)
    return calls, inexact


@contextlib.contextmanager
def may_be_inexact(peer: Any, inexact: dict[str, tuple[str, float]]) -> Iterator[None]:
    """Note a disagreement and go on behind the block, if the peer says that its results need not be exact."""
    try:
        yield
    except Disagreement as reason:
        if getattr(peer, "exact", True):
            raise
        inexact[peer.name] = reason.quantity, reason.error


def _gradients(case, params, X, Y, backends, found, threads, calls, inexact) -> None:
    """Fill ``calls`` and ``inexact`` for a cost and a gradient."""
    reference = peers.NumPy()
    exact_cost, exact = reference.cost_and_layers(reference.gradient(case, *_double(params, X, Y))())
    for name in backends:
        call = our_call(case, name, params, X, Y, threads)
        check(f"{case.name}, {name}", *call(), exact_cost, _flat(exact), AGREEMENT[case.dtype])
        calls[name] = call
    for peer in found:
        if (call := peer.gradient(case, params, X, Y)) is not None:
            with may_be_inexact(peer, inexact):
                cost, layers = peer.cost_and_layers(call())
                check(f"{case.name}, {peer.name}", cost, _flat(layers), exact_cost, _flat(exact), AGREEMENT[case.dtype])
                calls[peer.name] = call


def _populations(case, params, X, Y, backends, found, threads, calls, inexact) -> None:
    """The same for many networks, each of which must agree."""
    exact_costs, exact = peers.NumPy().population(case, *_double(params, X, Y))()

    def compare(name: str, costs, grads) -> None:
        if grads.shape != exact.shape or costs.shape != exact_costs.shape:
            raise Disagreement(f"{case.name}, {name}: the gradients must have shape {exact.shape}, got {grads.shape}")
        for i, one in enumerate(zip(costs, grads, exact_costs, exact)):
            check(f"{case.name}, {name}, network {i}", *one, AGREEMENT[case.dtype])

    for name in backends:
        call = our_population(case, name, params, X, Y, threads)
        compare(name, *call())
        calls[name] = call
    for peer in found:
        if hasattr(peer, "population") and (call := peer.population(case, params, X, Y)) is not None:
            with may_be_inexact(peer, inexact):
                compare(peer.name, *peer.costs_and_gradients(call()))
                calls[peer.name] = call


def _trainings(case, params, X, Y, backends, found, threads, calls, inexact) -> None:
    """The same for an epoch; what is compared is the parameters after some steps, in the order of the rows."""
    size = case.batch_size
    few = CHECKED_STEPS * size + size // 2  # the last batch is a small one
    reference, start = peers.NumPy(), (X[:few], Y[:few])
    exact = _flat(reference.layers(reference.training(case, *_double(params, *start), size, False)()))

    def compare(name: str, trained, tolerance: float = AGREEMENT[case.dtype]) -> None:
        error = largest_error(trained, exact)
        if not error <= tolerance:
            raise Disagreement(
                f"{case.name}, {name}: the parameters after {CHECKED_STEPS + 1} steps differ from the reference by "
                f"{error:.1e} of the largest, more than {tolerance:.0e}",
                "parameters",
                error,
            )

    for name in backends:
        compare(name, our_training(case, name, params, *start, False, threads)())
        calls[name] = our_training(case, name, params, X, Y, case.shuffle, threads)
    for peer in found:
        if (call := peer.training(case, params, *start, size, False)) is not None:
            with may_be_inexact(peer, inexact):
                compare(peer.name, _flat(peer.layers(call())), getattr(peer, "adam_agreement", AGREEMENT[case.dtype]))
                calls[peer.name] = peer.training(case, params, X, Y, size, case.shuffle)


def our_population(case: Population, backend: str, params, X, Y, threads: int) -> Callable[[], Any]:
    """One network after the other, each gradient into its row."""
    with computing_with(backend):
        net = case.network()
    costs, grads = np.empty(len(params)), np.empty_like(params)
    rows = list(zip(params, grads))

    def call():
        for i, (vector, grad) in enumerate(rows):
            costs[i], _ = net.cost_and_gradient(vector, X, Y, out=grad, threads=threads)
        return costs, grads

    return call


def our_training(case: Training, backend: str, params, X, Y, shuffle: bool, threads: int) -> Callable[[], Any]:
    """An epoch by ``bpcore.train``, from the same parameters each time."""
    with computing_with(backend):
        net = case.network()
    options = {"epochs": 1, "batch_size": case.batch_size, "shuffle": shuffle, "threads": threads}

    def call():
        trained = params.copy()
        with computing_with(backend):
            bpcore.train(net, trained, X, Y, optimizer=bpcore.Adam(), **options)
        return trained

    return call


def accuracy(rows: int, backends: Sequence[str], found: Sequence[Any], threads: int) -> dict[str, dict[str, float]]:
    """The error of a float32 gradient over many rows, relative to the float64 gradient's largest entry and norm."""
    cell = Cell(*ACCURACY, rows)
    params, X, Y = cell.data()
    reference = peers.NumPy()
    exact = np.zeros(params.size)
    for i, j in peers.batches(rows, 50_000):
        call = reference.gradient(cell, *_double(params, X[i:j], Y[i:j]))
        exact += _flat(reference.cost_and_layers(call())[1]) * ((j - i) / rows)
    grads = {name: our_call(cell, name, params, X, Y, threads)()[1] for name in backends}
    for peer in found:
        if (call := peer.gradient(cell, params, X, Y)) is not None:
            grads[peer.name] = _flat(peer.cost_and_layers(call())[1])
    return {
        name: {
            "largest": largest_error(grad, exact),
            "norm": float(np.linalg.norm(grad - exact) / np.linalg.norm(exact)),
        }
        for name, grad in grads.items()
    }


def _double(params, X, Y):
    """The same numbers in float64; labels stay as they are."""
    return params.astype(np.float64), X.astype(np.float64), Y if Y.ndim == 1 else Y.astype(np.float64)


def _flat(layers):
    """The layers as one flat vector, in the order that bpcore has."""
    return np.concatenate([part.ravel() for layer in layers for part in layer])


# --------------------------------------------------------------------------------------------------- the report


def report_lines(report: dict[str, Any], markdown: bool) -> list[str]:
    """The lines of the report."""
    first = report["parts"][0]
    versions = report["versions"] | first["peers"]
    facts = {
        "machine": report["machine"],
        "command": f"`{report['command']}`" if markdown else report["command"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "missing peers": "; ".join(_missing(first)) or "none",
    }
    if report["unset"]:
        facts["unset for the run"] = ", ".join(report["unset"])
    bullet = "- " if markdown else ""
    lines = [f"{bullet}{name}: {value}" for name, value in facts.items()]
    for part in report["parts"]:
        lines += ["", *_part_lines(part, markdown)]
    if first["accuracy"]:
        lines += ["", *_accuracy_lines(first, markdown)]
    return lines


def _missing(part: dict[str, Any]) -> list[str]:
    """The peers that were not timed, in some cells or in all, each with the reason."""
    found = [f"{name} ({why})" for name, why in part["missing"].items()]
    errors: dict[str, list[tuple[str, float]]] = {}
    for cell in part["cells"]:
        for name, error in cell["inexact"].items():
            errors.setdefault(name, []).append(error)
    for name, several in errors.items():
        quantity, error = max(several, key=lambda each: each[1])
        where = f"in {len(several)} of {len(part['cells'])} cells, which are not timed"
        found.append(f"{name} (the {quantity} is up to {error:.0e} off {where})")
    return found


def _part_lines(part: dict[str, Any], markdown: bool) -> list[str]:
    threads = part["threads"]
    count = "1 thread" if threads == 1 else f"{threads} threads"
    where = "not pinned" if part["cpus"] is None else f"pinned to CPU {', '.join(map(str, part['cpus']))}"
    peaks = ", ".join(f"{peak / 1e9:.1f} GFLOP/s {dtype}" for dtype, peak in part["peak"].items() if peak)
    head = [
        f"### {count}" if markdown else f"== {count} ==",
        "",
        f"{where[0].upper()}{where[1:]}. FMA peak: {peaks or 'not measured'}. BLAS: {'; '.join(part['blas'])}.",
        "Microseconds, the best of the rounds; ratio: the best peer's time by that of "
        f"{part['backends'][0]}, with its share of the peak. Target: at least / aim.",
        "",
    ]
    # "python", the reference implementation, is a peer of a compiled backend.
    timed = {name for cell in part["cells"] for name in cell["seconds"]}
    columns = [name for name in (*part["backends"], *part["peers"]) if name in timed]
    rows = [["cell", *columns, "ratio", "best peer", "target", "met", "of peak"]]
    for cell in part["cells"]:
        seconds = {name: min(times) for name, times in cell["seconds"].items()}
        ratio, peer = ratio_of(part, seconds)
        row = [cell["name"], *(microseconds(seconds[c]) if c in seconds else "-" for c in columns)]
        row += ["-" if ratio is None else f"{ratio:.2f}", peer or "-"]
        row += _target(cell, seconds, seconds[part["backends"][0]], ratio)
        peak = part["peak"][cell["dtype"]]
        rows.append([*row, f"{cell['flops'] / seconds[part['backends'][0]] / peak:.0%}" if peak else "-"])
    return head + _table(rows, markdown)


def ratio_of(part: dict[str, Any], seconds: dict[str, float]) -> tuple[float | None, str | None]:
    """The best peer's time by ours, and its name; Python is a peer, another compiled backend is not."""
    ours = part["backends"][0]
    rivals = [name for name in seconds if name != ours and (name in part["peers"] or name == "python")]
    if not rivals:
        return None, None
    best = min(rivals, key=lambda name: seconds[name])
    return seconds[best] / seconds[ours], best


def _target(cell: dict[str, Any], seconds: dict[str, float], ours: float, ratio: float | None) -> list[str]:
    """The target, and whether it is met; with the rival's own ratio where the target is about one peer."""
    least, aim, rival = cell["least"], cell["aim"], cell["rival"]
    if least is None:
        return ["-", "-"]
    target, found = f"{least:g} / {aim:g}", ""
    if rival is not None:
        ratio = seconds[rival] / ours if rival in seconds else None
        target = f"{rival} {target}"
        found = "" if ratio is None else f" ({ratio:.2f})"
    if ratio is None:
        return [target, "-"]
    return [target, ("aim" if ratio >= aim else "at least" if ratio >= least else "no") + found]


def _accuracy_lines(part: dict[str, Any], markdown: bool) -> list[str]:
    sizes, hidden, loss = ACCURACY
    name = Cell(sizes, hidden, loss, part["accuracy_rows"]).name
    rows = [["float32 against float64", "largest error", "error of the norm"]]
    rows += [[who, f"{e['largest']:.1e}", f"{e['norm']:.1e}"] for who, e in part["accuracy"].items()]
    head = [
        "### Accuracy" if markdown else "== accuracy ==",
        "",
        f"The gradient of {name}: largest difference by the largest entry, norm of the difference by the norm.",
        "",
    ]
    return head + _table(rows, markdown)


def _table(rows: list[list[str]], markdown: bool) -> list[str]:
    """Lines of a table whose first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        for row in rows
    ]
    rule = ["-" * width for width in widths]
    if not markdown:
        return ["  ".join(line).rstrip() for line in (lines[0], rule, *lines[1:])]
    aligned = [rule[0], *(f"{dashes[:-1]}:" for dashes in rule[1:])]
    return [f"| {' | '.join(line)} |" for line in (lines[0], aligned, *lines[1:])]


def draw(report: dict[str, Any], path: str) -> None:
    """Write a chart of how much longer than ours each peer takes, cell by cell."""
    try:
        import matplotlib
    except ImportError:
        print("bench: no chart is written: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = report["parts"]
    rows = max(len(part["cells"]) for part in parts)
    size = (2 + 7 * len(parts), 2 + 0.55 * rows)
    figure, panels = plt.subplots(1, len(parts), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, part in zip(panels[0], parts):
        ours, cells = part["backends"][0], part["cells"]
        timed = {name for cell in cells for name in cell["seconds"]}
        others = [name for name in (*part["backends"], *part["peers"]) if name != ours and name in timed]
        thickness = 0.8 / max(1, len(others))
        for i, name in enumerate(others):
            points = [
                (row + (i + 0.5) * thickness - 0.4, min(cell["seconds"][name]) / min(cell["seconds"][ours]))
                for row, cell in enumerate(cells)
                if name in cell["seconds"]
            ]
            # Bars from 1 on the logarithmic axis: to the left of it a competitor is faster.
            at, times = zip(*points) if points else ((), ())
            look = {"color": f"C{i % 10}", "hatch": "//" if i >= 10 else None}  # there are ten colors
            panel.barh(at, [t - 1 for t in times], thickness, left=1, label=name, **look)
        for kind, marker in (("least", "|"), ("aim", "d")):
            targets = [(cell[kind], row) for row, cell in enumerate(cells) if cell[kind] is not None]
            if targets:
                label = "target: at least" if kind == "least" else "target: aim"
                panel.scatter(*zip(*targets), marker=marker, s=60, color="black", zorder=3, label=label)
        panel.axvline(1, color="black", linewidth=1)
        panel.set_xscale("log")
        panel.set_xlabel(f"time by that of bpcore ({ours})")
        panel.set_title("1 thread" if part["threads"] == 1 else f"{part['threads']} threads")
        panel.set_yticks(range(len(cells)), [cell["name"] for cell in cells])
        panel.grid(axis="x", alpha=0.3)
    panels[0][0].set_ylim(rows - 0.4, -0.6)
    handles, labels = panels[0][0].get_legend_handles_labels()
    title = f"Cost and gradient: {report['machine']}"
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=4 * len(parts), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
