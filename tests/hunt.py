"""A hunt for wrong results: random networks, numbers, layouts and routes, each compared with tests/oracle.py.

    python tests/hunt.py                                  # a minute, all backends, a new seed each time
    python tests/hunt.py --backend avx2 --seconds 600
    python tests/hunt.py --seed 7 --first 1200            # goes on where another one ended

Case i of seed s is the same on every machine. Each backend runs in a process of its own, for a fault may end it. What
is found is made smaller, and printed as a line that shows it: ``hunt.check(...)`` raises an AssertionError.

No shape is listed here. Widths and rows are drawn near the places where loops change (whole vectors, cache lines,
pages, tiles, chunks, groups of chunks), near one another, and from anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import math
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import oracle

import bpcore
from bpcore import _chunks, fallback
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT, FROM_LOGITS, OUTPUTS

# ------------------------------------------------------------------------------- all that is private of the package


def chunks_of(net) -> tuple[int, int]:
    """Rows of a chunk, and chunks of a group."""
    return net._plan.chunk_rows, net._plan.group_size


def sums_of_the_reference(net, params, X, Y, weights):
    """Losses and gradients, summed by plain Python in float64."""
    last = tuple((head.output, head.n_outputs) for head in net.heads) if net.loss == "heads" else net.output
    loss = net.heads if net.loss == "heads" else net.loss
    plan = fallback.Plan(net.sizes, (*net.hidden, last), loss, np.dtype(np.float64), net.loss_parameter)
    sums = np.empty(net.n_parameters)
    return fallback.accumulate(plan, params, (X, Y, weights, 0.0), sums), sums


#: plan.pyx makes tiles of about so many bytes and, within these limits, rows. It bears on where cases are drawn alone.
TILE_BYTES, TILE_ROWS, BLOCKS = 1 << 18, (84, 126), (6, 12, 14)

#: The table of C functions is that of the backend which was chosen when bpcore was imported.
STARTED_WITH = bpcore.backend

# ---------------------------------------------------------------------------------------------------------- constants

#: Times the estimated error. In 12,000 networks that were right, on all backends, nothing was beyond 0.54 of it.
FACTOR = 10
#: Multiplications of a case's forward pass, at most, are drawn from here to there; numbers of its activations, at most.
LEAST_WORK, MOST_WORK, MOST_NUMBERS = 2e5, 4e7, 1.5e6
#: Between implementations, relative to the largest entry; from what is right twice this, and more for many layers.
AGREEMENT = {"float64": 1e-12, "float32": 1e-5}
WIDEST = {"float32": 4200, "float64": 2100}
#: Derivatives below this are rounding of a complex step, or of a residual that is 0.
UNDERFLOW = 1e-30
SHRINK_SECONDS = 20.0
#: Seconds after which a case will never be done.
HANGS = 30.0
#: Seconds that must be left where a case may be slow.
SLOW = 15.0
THREADS = (2, 3, 7)
#: Of rows that are converted: so few that most cases have several blocks. But one where NumPy computes, which rounds a
#: product by its number of rows: the outputs of a row would not be those without a conversion, to the last bit.
BLOCK_BYTES, ONE_BLOCK = 1 << 14, 1 << 40
#: Of the optimizers that are tried.
RATE, MOMENTUM, BETA1, BETA2, EPSILON = 0.01, 0.75, 0.9, 0.999, 1e-2
#: Numbers of Jacobians or gradients of rows, at most: of some rows alone where all would be more. And multiplications
#: of the oracle's backward passes for the Jacobians of the inputs.
JACOBIAN_NUMBERS, JACOBIAN_WORK = 2e5, 1e6
#: The squares of smaller numbers are too small for float64, in which norms are added up.
SMALLEST_NORM = 1e-150
#: Numbers behind and before an array that is written, which must stay as they are.
MARGIN = 64
ROUTES = (
    "table", "gradient", "forward", "cost", "accumulator", "trace", "sgd_rows", "optimizers", "train", "backward",
    "jvp", "jacobians", "row_gradients", "weighted",
)  # fmt: skip
#: By which of them a fault is shown best.
SHOWN = (
    "gradient", "forward", "cost", "backward", "trace", "row_gradients", "jacobians", "jvp", "accumulator", "train",
    "weighted", "optimizers", "table", "sgd_rows",
)  # fmt: skip
LAYOUTS = (
    "Fortran", "strided", "reversed", "misaligned", "offset", "page end", "read-only", "memory map", "swapped", "wider",
    "narrower",
)  # fmt: skip
NUMBERS = ("usual", "exact", "large", "saturated", "zero rows", "nan rows")
DEFAULTS = {
    "hidden": [], "loss": "squared_error", "output": None, "dtype": "float64", "seed": 0, "numbers": "usual",
    "heads": None, "parameter": None, "labels": False, "weights": None, "l2": 0.0, "layouts": {}, "train": None,
    "independent": False, "jax": False, "routes": None,
}  # fmt: skip


class Unsuitable(Exception):
    """No rows of this case are safe from kinks, or its numbers are out of all bounds."""


# -------------------------------------------------------------------------------------------------------------- draws


def near(rng, middle: int, most: int = 2) -> int:
    return middle + int(rng.integers(-most, most + 1))


def log_uniform(rng, low: float, high: float) -> int:
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def draw_width(rng, before: list[int], itemsize: int, most: int) -> int:
    """Units of a layer: anything, or near a boundary, or a little off one of the layers before."""
    kind = rng.choice(["any", "boundary", "power", "like"], p=[0.2, 0.35, 0.1, 0.35])
    boundary = int(rng.choice([16, 32, 64, 512, 4096], p=[0.1, 0.15, 0.2, 0.45, 0.1])) // itemsize
    if kind == "like" and before:
        beside = int(rng.choice(before))
        width = near(rng, beside, int(rng.choice([1, 2, 64 // itemsize])))
        if rng.random() < 0.3:
            width = near(rng, -(-beside // boundary) * boundary, 1)
    elif kind == "boundary":
        width = near(rng, boundary * log_uniform(rng, 1, max(1, most // boundary)))
    elif kind == "power":
        width = near(rng, 1 << int(rng.integers(0, most.bit_length())))
    else:
        width = log_uniform(rng, 1, most)
    return min(max(width, 1), most)


def n_parameters(sizes) -> int:
    return sum((n_in + 1) * n_out for n_in, n_out in zip(sizes, sizes[1:]))


def draw_sizes(rng, dtype: str, work: float) -> list[int]:
    """Units of all layers, with room for some rows within the work."""
    itemsize = np.dtype(dtype).itemsize
    least_rows = 300 if rng.random() < 0.75 else log_uniform(rng, 1, 300)
    while True:
        most = log_uniform(rng, 64, WIDEST[dtype])
        sizes: list[int] = []
        for _ in range(1 + int(rng.choice([1, 2, 3, 4, 5, 7], p=[0.15, 0.35, 0.25, 0.15, 0.07, 0.03]))):
            sizes.append(draw_width(rng, sizes, itemsize, most))
        if rng.random() < 0.4:
            sizes[-1] = log_uniform(rng, 1, 16)
        if n_parameters(sizes) * least_rows <= work:
            return sizes


def draw_rows(rng, net, work: float) -> int:
    """Rows: few, near whole tiles and chunks, or anything, as far as the work allows."""
    most = max(1, min(int(work / net.n_parameters), int(MOST_NUMBERS / sum(net.sizes)), 20_000))
    chunk, together = chunks_of(net)
    tile = min(max(TILE_BYTES // (sum(net.sizes) * net.dtype.itemsize), TILE_ROWS[0]), TILE_ROWS[1])
    block = int(rng.choice(BLOCKS))
    tile = -(-(chunk if chunk <= 256 else tile) // block) * block
    for _ in range(20):
        kind = rng.choice(["few", "tile", "part", "chunk", "group", "any"], p=[0.08, 0.27, 0.3, 0.12, 0.05, 0.18])
        if kind == "few":
            rows = int(rng.integers(1, 8))
        elif kind == "tile":
            rows = near(rng, tile * log_uniform(rng, 1, 4), 1)
        elif kind == "part":
            rows = tile * log_uniform(rng, 1, 4)
            rows -= int(rng.integers(0, rows // 12))
        elif kind == "chunk":
            rows = near(rng, chunk * int(rng.integers(1, 6)), 1)
        elif kind == "group":
            rows = near(rng, chunk * together * int(rng.integers(1, 4)), 1)
        else:
            rows = log_uniform(rng, 1, most)
        if 1 <= rows <= most:
            return rows
    return most


def draw_training(rng, rows: int) -> dict:
    batch = None if rng.random() < 0.2 else max(1, min(rows, near(rng, -(-rows // int(rng.integers(1, 5))), 1)))
    return {
        "optimizer": str(rng.choice(["plain", "momentum", "nesterov", "adam"])),
        "batch": batch,
        "shuffle": bool(rng.random() < 0.5),
        "epochs": int(rng.integers(1, 3)),
    }


def draw(seed: int, index: int) -> dict:
    """Case ``index`` of a seed, in plain literals."""
    rng = np.random.default_rng([seed, index])
    dtype = str(rng.choice(["float32", "float64"]))
    work = float(np.exp(rng.uniform(np.log(LEAST_WORK), np.log(MOST_WORK))))
    large = rng.random() < 0.005  # many chunks of many parameters, by few calls
    sizes = draw_sizes(rng, dtype, 4 * MOST_WORK if large else work)
    numbers = str(rng.choice(NUMBERS, p=[0.6, 0.2, 0.05, 0.05, 0.05, 0.05]))
    loss = str(rng.choice(list(CANONICAL_OUTPUT)))
    output = CANONICAL_OUTPUT[loss] if loss in FROM_LOGITS or rng.random() < 0.3 else str(rng.choice(OUTPUTS))
    hidden = [str(rng.choice(ACTIVATIONS)) for _ in sizes[2:]]
    if numbers == "exact":
        loss = str(rng.choice(["squared_error", "huber", "absolute_error"]))
        output = str(rng.choice(["identity", "relu"]))
        hidden = [str(rng.choice(["identity", "relu"])) for _ in sizes[2:]]
    sizes[-1] += sizes[-1] % 2 if loss == "gaussian_nll" else 0
    rows = draw_rows(rng, bpcore.Network(sizes, hidden, loss, output, dtype), 4 * MOST_WORK if large else work)
    parameter = draw_parameter(rng, loss) if numbers != "exact" else None
    heads = draw_heads(rng, sizes[-1]) if rng.random() < 0.2 and numbers != "exact" else None
    if heads:
        loss, output, parameter = "heads", None, None
    case = {
        "sizes": sizes, "hidden": hidden, "loss": loss, "output": output, "dtype": dtype, "rows": rows,
        "seed": int(rng.integers(1 << 31)), "numbers": numbers,
        "labels": bool(loss == "cross_entropy" and rng.random() < 0.5), "parameter": parameter, "heads": heads,
        "weights": [None, None, "some", "wide", "one"][int(rng.integers(5))],
        "l2": [0.0, 0.0, 0.01, 1.0][int(rng.integers(4))],
        "layouts": {name: str(rng.choice(LAYOUTS)) for name in ("params", "X", "Y", "weights") if rng.random() < 0.3},
        "independent": bool(rng.random() < 1 / 3), "jax": bool(rng.random() < 0.005 and not heads),
        "train": draw_training(rng, rows) if rng.random() < 0.5 else None,
        "routes": ["table", "gradient", *(route for route in ROUTES[2:] if rng.random() < 0.5)],
    }  # fmt: skip
    if large:
        case.update(routes=["gradient"], independent=False, jax=False)
    return simplified(case)


def draw_parameter(rng, loss: str) -> float | None:
    """Of a loss that has one, or its usual one."""
    drawn = {
        "huber": float(np.exp(rng.uniform(-2, 2))), "quantile": float(rng.uniform(0.02, 0.98)),
        "tweedie": float(rng.uniform(1.05, 1.95)), "focal": float(rng.choice([0.0, 0.5, 1.0, 3.0])),
        "cross_entropy": float(rng.uniform(0, 0.5)),
    }.get(loss)  # fmt: skip
    return drawn if rng.random() < 0.5 else None


def draw_heads(rng, n_outputs: int) -> list | None:
    """One to five heads, or up to 40 narrow ones: the loss, outputs, activation, parameter and weight of each."""
    most = min(n_outputs, 5 if rng.random() < 0.8 else 40)
    ends = np.unique(rng.integers(1, n_outputs + 1, int(rng.integers(0, most))))
    heads = []
    for count in np.diff([0, *ends[ends < n_outputs], n_outputs]):
        loss = str(rng.choice([loss for loss in CANONICAL_OUTPUT if loss != "gaussian_nll" or count % 2 == 0]))
        output = CANONICAL_OUTPUT[loss] if loss in FROM_LOGITS or rng.random() < 0.5 else str(rng.choice(OUTPUTS))
        weight = 1.0 if rng.random() < 0.5 else float(2.0 ** rng.integers(-3, 3) * rng.choice([1.0, 0.7]))
        heads.append([loss, int(count), output, draw_parameter(rng, loss), weight])
    return heads if len(heads) > 1 or heads[0][-1] != 1 else None


def heads_of(heads: list) -> list:
    """As a network takes them."""
    found = []
    for loss, count, output, parameter, weight in heads:
        name = fallback.LOSS_PARAMETERS.get(loss, ("",))[0]
        found.append((loss, count, {"output": output, "weight": weight, **({name: parameter} if name else {})}))
    return found


def simplified(case: dict) -> dict:
    """Without what is the default anyway."""
    return {key: value for key, value in case.items() if key not in DEFAULTS or value != DEFAULTS[key]}


# ------------------------------------------------------------------------------------------------------------ numbers


def draw_params(rng, net, numbers: str):
    params = np.empty(net.n_parameters, net.dtype)
    layers = net.layers(params)
    for l, (W, b) in enumerate(layers):
        n_in = W.shape[1]
        if numbers == "exact":
            W[...] = rng.integers(-1, 2, W.shape) * (rng.random(W.shape) < min(1, 4 / n_in))
            b[...] = rng.integers(-1, 2, b.shape)
            continue
        W[...] = rng.normal(size=W.shape) * rng.uniform(0.5, 1.5) / math.sqrt(n_in)
        b[...] = rng.normal(scale=0.3, size=b.shape)
        if numbers == "large" and l == len(layers) - 1:
            W *= 10 ** rng.uniform(1, 2.5 if net.dtype == np.float32 else 4)
        if numbers == "saturated" and l < len(layers) - 1:
            b[rng.random(b.shape) < 0.5] = -1e3
    return params


def draw_targets(rng, net, rows: int, numbers: str, labels: bool):
    if labels:
        return rng.integers(0, net.sizes[-1], rows)
    parts = [draw_targets_of(rng, head.loss, (rows, head.n_targets), numbers) for head in net.heads]
    return np.hstack(parts).astype(net.dtype)


def draw_targets_of(rng, loss: str, shape, numbers: str):
    if loss in ("poisson", "tweedie"):
        return rng.poisson(2.0, shape)
    if loss == "gamma":
        return rng.gamma(2.0, size=shape) + 0.01
    if loss in ("hinge", "squared_hinge"):
        return rng.choice([-1.0, 1.0, 0.5], shape)
    if loss in FROM_LOGITS:
        return rng.uniform(size=shape) * (rng.random(shape) < 0.9)
    if numbers == "exact":
        return rng.integers(-2, 3, shape)
    return rng.normal(size=shape)


def draw_weights(rng, kind: str | None, rows: int, numbers: str):
    """Sample weights in float64, or None."""
    if numbers == "nan rows":
        kind = "some"
    if kind is None:
        return None
    if kind == "some":
        weights = rng.choice([0.0, 0.5, 1.0, 3.0] if numbers != "exact" else [0.0, 1.0, 2.0], rows)
    elif kind == "wide":
        weights = 10 ** rng.uniform(-6, 3, rows) if numbers != "exact" else 2.0 ** rng.integers(0, 3, rows)
    else:
        weights = np.zeros(rows)
    weights[int(rng.integers(rows))] = 1
    return weights


class Problem:
    """A network with numbers: as they are (``params``, ``X``, ``Y``, ``w``), and as laid out (``given``)."""

    def __init__(self, case: dict) -> None:
        case = {**DEFAULTS, **case}
        self.case = SimpleNamespace(**case)
        if case["loss"] == "gaussian_nll" and case["sizes"][-1] % 2:  # when a case is made smaller
            raise Unsuitable
        if case["heads"] is not None:
            if sum(head[1] for head in case["heads"]) != case["sizes"][-1]:
                raise Unsuitable
            case.update(loss=heads_of(case["heads"]), output=None)
        architecture = [case[name] for name in ("sizes", "hidden", "loss", "output", "dtype")]
        name = None if case["heads"] else fallback.LOSS_PARAMETERS.get(case["loss"], (None,))[0]
        self.net = net = bpcore.Network(*architecture, **({name: case["parameter"]} if name else {}))
        self.eps = float(np.finfo(net.dtype).eps)
        self.rows, self.l2 = case["rows"], case["l2"]
        rng = np.random.default_rng(case["seed"])
        numbers = case["numbers"]
        self.kinds = {head.output for head in net.heads}, {head.loss for head in net.heads}
        if numbers == "large" and ("exp" in self.kinds[0] or "gaussian_nll" in self.kinds[1]):
            numbers = "usual"
        layouts = case["layouts"]
        self.params = rounded(draw_params(rng, net, numbers), layouts.get("params"))
        shape = self.rows, net.sizes[0]
        self.X = (rng.integers(-1, 2, shape) if numbers == "exact" else rng.normal(size=shape)).astype(net.dtype)
        self.X = rounded(self.X, layouts.get("X"))
        if numbers == "zero rows":
            self.X[rng.random(self.rows) < 0.5] = 0
        self.Y = rounded(draw_targets(rng, net, self.rows, numbers, case["labels"]), layouts.get("Y"))
        self.dA = (rng.integers(-1, 2, (self.rows, net.sizes[-1])) if numbers == "exact" else
                   rng.normal(size=(self.rows, net.sizes[-1]))).astype(net.dtype)  # fmt: skip
        weights = draw_weights(rng, case["weights"], self.rows, numbers)
        self.w = None if weights is None else rounded(weights.astype(net.dtype), layouts.get("weights"))
        self.weights = np.ones(self.rows) if weights is None else self.w.astype(np.float64)
        self.total = float(self.weights.sum())
        self.rng = rng
        self._take_safe_rows(numbers)
        self._expect(numbers)
        self.clean, self.clean_Y = self.X, self.Y
        if numbers == "nan rows":  # what is in a row of no weight must not matter
            self.X = np.where(self.weights[:, np.newaxis] == 0, np.nan, self.X)
            none = self.weights == 0 if self.Y.ndim == 1 else self.weights[:, np.newaxis] == 0
            wrong = [np.nan, -1, 2] if self.Y.dtype.kind == "f" else [-1, net.sizes[-1]]
            self.Y = np.where(none, rng.choice(wrong), self.Y).astype(self.Y.dtype)
        self._lay_out(layouts)

    def _reference(self):
        net = self.net
        activations = *net.hidden, net.output
        given = net.sizes, activations, net.loss, self.params, self.X, self.eps, net.loss_parameter, net.heads
        return oracle.Reference(*given)

    def _targets(self):
        """Targets as the formulas have them: labels as rows with a single 1, and smoothed."""
        self.rough = oracle.one_hot(self.Y, self.net.sizes[-1])
        smoothed = self.rough.copy()
        for head, _, y in oracle.columns(self.net.heads):
            if head.loss == "cross_entropy" and head.parameter:
                smoothed[:, y] = (1 - head.parameter) * self.rough[:, y] + head.parameter / head.n_outputs
        return smoothed

    def _take_safe_rows(self, numbers: str) -> None:
        """Rows that rounding could put on the other side of a kink become copies of others."""
        self.reference = self._reference()
        targets = self._targets()
        if numbers != "exact":
            safe = self.reference.safe_rows(targets, 4 * FACTOR)
            if not safe.any():
                raise Unsuitable
            if not safe.all():
                taken = self.rng.choice(np.flatnonzero(safe), int((~safe).sum()))
                self.X[~safe], self.Y[~safe] = self.X[taken], self.Y[taken]
                self.reference = self._reference()
        self.targets = self._targets()

    def _expect(self, numbers: str) -> None:
        """Costs and gradients that are right, and how far off rounding may take them."""
        reference, net = self.reference, self.net
        self.losses, losses_error = reference.losses(self.targets)
        delta, error = reference.output_delta(self.targets)
        self.sums = reference.backward(delta, error, self.weights)
        last = len(net.sizes) - 1
        through = reference.through(last, self.dA.astype(np.float64), np.zeros(self.dA.shape))
        self.own = reference.backward(*through, np.ones(self.rows), inputs=True)
        self.loss = float(self.weights @ self.losses)
        self.loss_error = float(self.weights @ losses_error)
        # An exp output may be beyond the dtype, where the reference in float64 is not.
        sizes = [abs(self.loss), self.sums.error.max(), self.sums.largest, self.own.largest, np.abs(self.own.dX).max()]
        sizes += [float(np.abs(a).max()) for a in reference.a] + [float((self.losses * self.losses).max()) ** 0.5]
        if not max(sizes) < float(np.finfo(net.dtype).max) * 1e-8:
            raise Unsuitable
        if "exp" in self.kinds[0] and reference.z[-1].min() < -150:  # estimates of errors would underflow
            raise Unsuitable
        if self.kinds[1] & {"gamma", "tweedie", "gaussian_nll"} and np.abs(reference.z[-1]).max() > 60:
            raise Unsuitable  # their exponentials have no digits left
        self.exact = numbers == "exact" and self._sums_are_exact()
        penalty = np.zeros(net.n_parameters)
        for (P, _), (W, _) in zip(net.layers(penalty), reference.layers):
            P[...] = self.l2 * W
        squares = self.l2 / 2 * float(sum((W * W).sum() for W, _ in reference.layers))
        self.J = self.loss / self.total + squares
        added = net.n_parameters**0.5 * squares  # one after another, in float64
        self.J_error = self.loss_error / self.total + 2.0**-52 * (4 * abs(self.J) + added)
        self.gradient = self.sums.sums / self.total + penalty
        self.gradient_error = self.sums.error / self.total + self.eps * (np.abs(penalty) + np.abs(self.gradient))
        self.size = self.sums.size / self.total + np.abs(penalty)
        if self.exact:
            scaled = math.frexp(self.total)[0] != 0.5 or self.l2 != 0  # else a division by a power of two
            self.loss_error = 0.0
            self.J_error = 2.0**-52 * (4 * abs(self.J) + added)
            self.sums.error = self.own.error = np.zeros(net.n_parameters)
            self.own.dX_error = np.zeros(self.X.shape)
            self.gradient_error = scaled * self.eps * (np.abs(penalty) + np.abs(self.gradient)) / 4

    def _sums_are_exact(self) -> bool:
        names = {*self.net.hidden, self.net.output}
        if not names <= {"identity", "relu"} or self.net.loss in FROM_LOGITS:
            return False
        outputs = float(np.abs(self.reference.a[-1]).max()) + float(np.abs(self.targets).max())
        return self.is_exact(max(self.reference.largest_sum(), self.sums.largest, self.own.largest, outputs**2))

    def is_exact(self, largest: float) -> bool:
        """Whether sums of whole numbers that are no larger are exact."""
        return largest < 0.25 / self.eps

    def _lay_out(self, layouts: dict) -> None:
        Y = self.Y
        if self.net.sizes[-1] == 1 and self.net.loss != "cross_entropy" and self.case.seed % 2:
            Y = Y[:, 0]  # which one output may have
        plain = {"params": self.params, "X": self.X, "Y": Y, "weights": self.w}
        self.given = {
            name: array if array is None or name not in layouts else laid_out(array, layouts[name])
            for name, array in plain.items()
        }
        self.plain = plain
        self.before = [copy_of(arrays) for arrays in (self.given, self.plain)]

    def changed(self) -> list[str]:
        """Names of the inputs that are no longer what they were."""
        now = [copy_of(arrays) for arrays in (self.given, self.plain)]
        return [name for old, new in zip(self.before, now) for name in old if old[name] != new[name]]


def copy_of(arrays: dict) -> dict:
    return {name: None if array is None else bytes_of(array) for name, array in arrays.items()}


def bytes_of(array) -> bytes:
    """Of the numbers: a long double has bytes beside them, which nobody writes."""
    return (array.astype(np.float64) if array.dtype == np.longdouble else array).tobytes()


# ------------------------------------------------------------------------------------------------------------ layouts


def page_end(array):
    """A copy that ends where a page begins which must not be touched: to read one byte more ends the process."""
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    copy = whole[size - array.nbytes : size].view(array.dtype).reshape(array.shape)
    copy[...] = array
    with contextlib.suppress(AttributeError, TypeError, OSError):  # only where there is an mprotect
        mprotect = ctypes.CDLL(None).mprotect
        mprotect(ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0)
    return copy


def offset(array, begin: int):
    """A copy that begins that many bytes behind the begin of a page."""
    memory = np.frombuffer(mmap.mmap(-1, array.nbytes + 8192), np.uint8)
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def memory_map(array):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=array.dtype, mode="w+", shape=array.shape)
    mapped[...] = array
    return mapped


def strided(array):
    wide = np.zeros([3 * n for n in array.shape], array.dtype)
    part = wide[tuple(slice(1, None, 3) for _ in array.shape)]
    part[...] = array
    return part


def reversed_copy(array):
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def wider(array):
    """In another dtype that has room for the same numbers; for labels a narrower one."""
    return array.astype(np.longdouble if array.dtype.kind == "f" else np.int16)


def narrower(array):
    """In a dtype that has room for fewer digits; see :func:`rounded`."""
    return array.astype({"float64": np.float32, "float32": np.float16}.get(array.dtype.name, np.int16))


def rounded(array, layout: str | None):
    """Numbers that the layout has room for, if it has less room."""
    return narrower(array).astype(array.dtype) if layout == "narrower" else array


def laid_out(array, layout: str):
    """The same numbers in another place, order or dtype."""
    make = {
        "Fortran": np.asfortranarray, "strided": strided, "reversed": reversed_copy, "page end": page_end,
        "read-only": read_only, "memory map": memory_map, "wider": wider, "narrower": narrower,
        "misaligned": lambda a: offset(a, 1), "offset": lambda a: offset(a, 4096 - 2 * a.itemsize),
        "swapped": lambda a: a.astype(a.dtype.newbyteorder("S")),
    }  # fmt: skip
    return make[layout](array)


class Margined:
    """An array of NaN to be written, with margins that must stay as they are."""

    def __init__(self, shape, dtype) -> None:
        size = math.prod(shape)
        self.whole = np.full(size + 2 * MARGIN, np.nan, dtype)
        self.array = self.whole[MARGIN : MARGIN + size].reshape(shape)
        self.whole[:MARGIN], self.whole[MARGIN + size :] = 12345, 12345

    def intact(self) -> bool:
        return bool((self.whole[:MARGIN] == 12345).all() and (self.whole[-MARGIN:] == 12345).all())


# ------------------------------------------------------------------------------------------------------------- routes


class Checker:
    """One case through every route; the first thing that is wrong is raised as an AssertionError."""

    def __init__(self, case: dict) -> None:
        self.problem = Problem(case)
        self.net, self.calls = self.problem.net, 0
        self.floor = 0.0 if self.problem.exact else 1e4 * float(np.finfo(self.net.dtype).tiny)
        self.worst = 0.0

    def run(self) -> None:
        case = self.problem.case
        if case.independent:
            self.complex_step()
            self.complex_step_of_rows()
            self.reference()
        if case.jax:
            self.jax()
        for route in case.routes or ROUTES:
            getattr(self, route)()
            changed = self.problem.changed()
            self.true(not changed, route, f"it changes {', '.join(changed)}")

    # ----------------------------------------------------------------------------------------------------- comparisons

    def true(self, right, route: str, what: str) -> None:
        if not right:
            raise AssertionError(f"{route}: {what}")

    def call(self, function, *args, **kwargs):
        self.calls += 1
        return function(*args, **kwargs)

    def same(self, found, expected, route: str) -> None:
        """The same bits, or both NaN."""
        found, expected = np.asarray(found), np.asarray(expected)
        self.true(found.dtype == expected.dtype and found.shape == expected.shape, route, "another dtype or shape")
        if not np.array_equal(found, expected, equal_nan=True):
            differ = found != expected
            raise AssertionError(f"{route}: {differ.sum()} of {differ.size} numbers differ, and must be the same bits")

    def near(self, found, expected, error, route: str) -> None:
        """Equal up to the error estimated for it."""
        found = np.asarray(found, np.float64)
        tolerance = FACTOR * np.asarray(error) + self.floor
        difference = np.abs(found - expected)
        wrong = ~(difference <= tolerance)
        if wrong.any():
            excess = np.nan_to_num(difference / np.maximum(tolerance, 1e-300), nan=np.inf)
            k = np.unravel_index(np.argmax(np.where(wrong, excess, -1)), wrong.shape)
            place = list(map(int, k))
            raise AssertionError(
                f"{route}: {wrong.sum()} of {wrong.size} numbers are wrong, most at {place}: {found[k]!r}, but "
                f"{np.asarray(expected)[k]!r} is right up to {np.broadcast_to(tolerance, wrong.shape)[k]:.2g}"
            )
        if not self.problem.exact:
            self.worst = max(self.worst, float(np.max(difference / np.maximum(tolerance, 1e-300), initial=0)))

    def agrees(self, found, expected, route: str) -> None:
        """Within what README.md promises for usual numbers; a few rows may have next to no gradient."""
        weights = self.problem.weights
        if self.problem.case.numbers != "usual" or self.problem.total**2 < 8 * (weights @ weights):
            return
        depth = max(2, len(self.net.sizes) - 1)  # errors add up from layer to layer
        limit = depth * AGREEMENT[self.net.dtype.name] * float(np.max(np.abs(expected)))
        self.near(found, expected, np.full(np.shape(expected), limit / FACTOR), f"{route}, the agreement promised")

    def by_layer(self, error):
        """The largest error of each layer's weights and bias, in the place of each of them."""
        largest = np.empty_like(error)
        for parts, to in zip(oracle.layers(self.net.sizes, error), oracle.layers(self.net.sizes, largest)):
            for part, place in zip(parts, to):
                place[...] = part.max()
        return largest

    def gradient_near(self, found, route: str, expected=None, error=None) -> None:
        p = self.problem
        expected = p.gradient if expected is None else expected
        self.near(found, expected, self.by_layer(p.gradient_error if error is None else error), route)

    def outputs_near(self, found, route: str, l: int = -1) -> None:
        error = self.problem.reference.a_error[l].max(axis=1, keepdims=True)
        self.near(found, self.problem.reference.a[l], 0 * error if self.problem.exact else error, route)

    # --------------------------------------------------------------------------------------------- through the classes

    def arguments(self) -> tuple:
        given = self.problem.given
        return given["params"], given["X"], given["Y"], self.problem.l2, given["weights"]

    def gradient(self) -> None:
        p = self.problem
        J, gradient = self.call(self.net.cost_and_gradient, *self.arguments(), threads=1)
        self.near(J, p.J, p.J_error, "cost_and_gradient, cost")
        self.gradient_near(gradient, "cost_and_gradient")
        self.agrees(gradient, p.gradient, "cost_and_gradient")
        self.true(gradient.dtype == self.net.dtype, "cost_and_gradient", f"dtype {gradient.dtype}")
        plain = p.params, p.X, p.Y, p.l2, p.w
        again, found = self.call(self.net.cost_and_gradient, *plain, threads=1)
        self.same(found, gradient, "cost_and_gradient, without the layouts")
        self.same(again, J, "cost_and_gradient, cost, without the layouts")
        for threads in THREADS:
            out = Margined(gradient.shape, self.net.dtype)
            again, found = self.call(self.net.cost_and_gradient, *plain, out=out.array, threads=threads)
            self.true(found is out.array and out.intact(), "cost_and_gradient", "it writes beside out")
            self.same(found, gradient, f"cost_and_gradient, threads={threads}")
            self.same(again, J, f"cost_and_gradient, cost, threads={threads}")

    def weighted(self) -> None:
        """Weights of single outputs, signed weights of rows, and gradients of rows that are clipped."""
        p, net, rng = self.problem, self.net, np.random.default_rng(p_seed(self.problem))
        if np.isnan(p.X).any():
            return
        reference, ones = p.reference, np.ones(p.rows)
        W = rng.choice([0.0, 0.5, 1.0, 2.0], p.targets.shape).astype(net.dtype)
        W[0], W[-1] = 1, 0 if p.rows > 1 else 1
        of_labels = p.Y.ndim == 1 and not (net.loss == "cross_entropy" and net.loss_parameter)
        of_rows = (W[np.arange(p.rows), p.Y] if of_labels else W.max(axis=1)) != 0
        sums = reference.backward(*reference.output_delta(p.targets, W.astype(np.float64)), ones)
        total = float(W.sum(dtype=np.float64)) / p.targets.shape[1]
        Y = p.Y if p.Y.ndim == 1 else np.where(W == 0, np.nan, p.Y)
        X = np.where(of_rows[:, np.newaxis], p.X, np.nan)
        J, found = self.call(net.cost_and_gradient, p.params, X, Y, 0.0, W, threads=1)
        self.gradient_near(found, "weights of outputs", sums.sums / total, self.rounded_once_more(sums) / total)
        losses, errors = reference.losses(p.targets, W.astype(np.float64))
        self.near(J, losses.sum() / total, (errors.sum() + 2.0**-50 * abs(losses).sum()) / total, "weighted, J")
        for threads in THREADS:
            again, same = self.call(net.cost_and_gradient, p.params, X, Y, 0.0, W, threads=threads)
            self.same(same, found, f"weights of outputs, threads={threads}")
            self.same(again, J, f"weights of outputs, threads={threads}, J")
        self.same(self.call(net.cost, p.params, X, Y, 0.0, W), J, "weights of outputs, cost")
        self.signed_and_clipped(rng)

    def signed_and_clipped(self, rng) -> None:
        p, net, reference, ones = self.problem, self.net, self.problem.reference, np.ones(self.problem.rows)
        delta, error = reference.output_delta(p.targets)
        w = rng.normal(size=p.rows).astype(net.dtype)
        wide = w.astype(np.float64)[:, np.newaxis]
        sums = reference.backward(wide * delta, np.abs(wide) * error + p.eps * np.abs(wide * delta), ones)
        _, found = self.call(net.cost_and_gradient, p.params, p.X, p.Y, 0.0, w, threads=1, signed=True)
        self.gradient_near(found, "signed weights", sums.sums / p.rows, self.rounded_once_more(sums) / p.rows)
        norms, norms_error = reference.gradient_norms(delta, error)
        C = float(np.median(norms)) or 1.0
        factor = np.minimum(1, C / np.maximum(norms, 1e-300))[:, np.newaxis]
        off = (norms_error / np.maximum(norms, 1e-300) + 4 * p.eps)[:, np.newaxis]
        sums = reference.backward(factor * delta, factor * (error + off * np.abs(delta)), ones)
        _, found = self.call(net.cost_and_gradient, p.params, p.X, p.Y, threads=1, clip_norm=C)
        error = sums.error + 4 * p.eps * np.abs(sums.sums)
        self.gradient_near(found, "clipped gradients", sums.sums / p.rows, error / p.rows)
        for threads in THREADS:
            _, same = self.call(net.cost_and_gradient, p.params, p.X, p.Y, threads=threads, clip_norm=C)
            self.same(same, found, f"clipped gradients, threads={threads}")

    def forward(self) -> None:
        p = self.problem
        outputs = self.call(self.net.forward, p.given["params"], p.given["X"], threads=1)
        self.outputs_near(self.weighed(outputs), "forward")
        self.agrees(outputs, p.reference.a[-1], "forward")
        self.same(self.call(self.net.forward, p.params, p.X, threads=1), outputs, "forward, without the layouts")
        for threads in THREADS:
            out = Margined(outputs.shape, self.net.dtype)
            found = self.call(self.net.forward, p.params, p.X, out=out.array, threads=threads)
            self.true(found is out.array and out.intact(), "forward", "it writes beside out")
            self.same(found, outputs, f"forward, threads={threads}")

    def weighed(self, outputs):
        """Outputs, with those of rows of NaN as if they were right."""
        unknown = np.isnan(self.problem.X).any(axis=1)
        return np.where(unknown[:, np.newaxis], self.problem.reference.a[-1], outputs) if unknown.any() else outputs

    def cost(self) -> None:
        J = self.call(self.net.cost, *self.arguments(), threads=1)
        self.near(J, self.problem.J, self.problem.J_error, "cost")
        for threads in THREADS:
            self.same(self.call(self.net.cost, *self.arguments(), threads=threads), J, f"cost, threads={threads}")

    def accumulator(self) -> None:
        p, rng = self.problem, np.random.default_rng(p_seed(self.problem))
        given = p.given
        cuts = np.sort(rng.integers(0, p.rows + 1, int(rng.integers(0, 6))))
        both = self.net.accumulator(), self.net.accumulator()
        for i, (start, stop) in enumerate(zip([0, *cuts], [*cuts, p.rows])):
            w = None if given["weights"] is None else given["weights"][start:stop]
            threads = int(rng.integers(1, 4))
            self.call(both[i % 2].add, given["params"], given["X"][start:stop], given["Y"][start:stop], w, threads)
        self.call(both[0].merge, both[1])
        J, gradient = self.call(both[0].finish, given["params"], p.l2)
        self.near(J, p.J, p.J_error, "accumulator, cost")
        self.gradient_near(gradient, "accumulator")
        self.gradient_near(both[0].buffer[3:], "accumulator, buffer", p.sums.sums, p.sums.error)
        self.near(both[0].sample_weight_sum, p.total, 2.0**-50 * p.total, "accumulator, weight")
        self.true(both[0].rows == p.rows, "accumulator", "another number of rows")
        out = Margined(gradient.shape, self.net.dtype)
        again, found = self.call(both[0].finish, given["params"], p.l2, out=out.array)
        self.true(out.intact(), "accumulator", "finish writes beside out")
        self.same(found, gradient, "accumulator, finish again")
        self.same(again, J, "accumulator, finish again, cost")

    def output_gradient(self):
        """dLoss/da(L) of the case, laid out as the targets are."""
        return self.as_given(self.problem.dA, "Y")

    def as_given(self, array, like: str):
        """Laid out as an input is; what is narrower would be other numbers."""
        layout = self.problem.case.layouts.get(like)
        return array if layout in (None, "narrower") else laid_out(array, layout)

    def backward_near(self, found, expected, route: str) -> None:
        gradient, dX = found
        self.gradient_near(gradient, route, expected.sums, self.rounded_once_more(expected))
        self.near(dX, expected.dX, expected.dX_error.max(axis=1, keepdims=True), f"{route}, dX")

    def same_for_threads(self, backward, expected, route: str, *args) -> None:
        """A backward pass with any number of threads, which fills the same bits into ``out``."""
        for threads in THREADS:
            out = Margined(self.problem.params.shape, self.net.dtype)
            gradient, dX = self.call(backward, *args, input_gradient=True, out=out.array, threads=threads)
            self.true(gradient is out.array and out.intact(), route, "it writes beside out")
            self.same(gradient, expected[0], f"{route}, threads={threads}")
            self.same(dX, expected[1], f"{route}, dX, threads={threads}")

    def of_logits(self):
        """The gradients that are right where dA is dLoss/dz(L)."""
        p = self.problem
        sums = p.reference.backward(p.dA.astype(np.float64), np.zeros(p.dA.shape), np.ones(p.rows), inputs=True)
        if p.exact and p.is_exact(sums.largest):
            sums.error, sums.dX_error = 0 * sums.error, 0 * sums.dX_error
        return sums

    def trace(self) -> None:
        p, r = self.problem, self.problem.reference
        if np.isnan(p.X).any():
            return
        trace = self.call(self.net.trace, p.given["params"], p.given["X"], threads=1)
        for l in range(1, len(self.net.sizes)):
            self.outputs_near(trace.activations[l], f"trace, activations[{l}]", l)
        self.near(trace.logits, r.z[-1], self.of_rows(r.z_error[-1]), "trace, logits")
        found = self.call(trace.backward, self.output_gradient(), input_gradient=True, threads=1)
        self.backward_near(found, p.own, "trace.backward, input_gradient=True")
        self.same(self.call(trace.backward, p.dA), found[0], "trace.backward, input_gradient=False")
        self.same_for_threads(trace.backward, found, "trace.backward", p.dA)
        found = self.call(trace.deltas, self.output_gradient(), threads=1)
        for l, delta, error in r.deltas(*r.through(len(found), p.dA.astype(np.float64), np.zeros(p.dA.shape))):
            self.near(found[l], delta, self.of_rows(error), f"trace.deltas, [{l}]")
        parallel = self.call(self.net.trace, p.params, p.X, threads=3)
        for l, a in enumerate((*parallel.activations, parallel.logits)):
            self.same(a, (*trace.activations, trace.logits)[l], f"trace, threads=3, activations[{l}]")
        for delta, expected in zip(self.call(parallel.deltas, p.dA, threads=2), found):
            self.same(delta, expected, "trace.deltas, threads=2")
        if self.net.output in ("sigmoid", "tanh"):
            self.pole(trace.activations[-1], trace.backward, "trace.backward of a pole")

    def pole(self, a, backward, route: str) -> None:
        """The loss -log(1 - a), whose gradient is computed from rounded outputs."""
        p, r = self.problem, self.problem.reference
        inside = a < 1
        dA = np.divide(1, 1 - a, out=np.zeros_like(a), where=inside)
        delta = np.where(inside, r.a[-1] if self.net.output == "sigmoid" else 1 + r.a[-1], 0)
        expected = r.backward(delta, r.a_error[-1] + 8 * p.eps, np.ones(p.rows), inputs=True)
        self.backward_near(self.call(backward, dA, input_gradient=True), expected, route)

    def backward(self) -> None:
        p, net = self.problem, self.net
        if np.isnan(p.X).any():
            return
        given = p.given["params"], p.given["X"]
        found = self.call(net.backward, *given, self.output_gradient(), input_gradient=True, threads=1)
        self.backward_near(found, p.own, "backward")
        self.same(self.call(net.backward, p.params, p.X, p.dA, threads=1), found[0], "backward, without the layouts")
        self.same_for_threads(net.backward, found, "backward", p.params, p.X, p.dA)
        found = self.call(net.backward, *given, self.output_gradient(), input_gradient=True, logits=True)
        self.backward_near(found, self.of_logits(), "backward, logits=True")
        # The outputs must be those of backward to the last bit. NumPy rounds a product by its number of rows, which in
        # forward may be another one: there only a trace has them.
        if net.output in ("sigmoid", "tanh") and bpcore.backend != "python":
            a = self.call(net.forward, *given)
            self.pole(a, functools.partial(net.backward, p.params, p.X), "backward of a pole")

    def rounded_once_more(self, sums):
        """Errors of sums that are rounded to the dtype once more at their end."""
        return sums.error if self.problem.exact else sums.error + self.problem.eps * np.abs(sums.sums)

    # ---------------------------------------------------------------------------------------- derivatives row by row

    def of_rows(self, error):
        """The largest error of each row, in the place of all."""
        return 0.0 if self.problem.exact else error.max(axis=1, keepdims=True)

    def rows_near(self, found, expected, error, route: str, first: int = 0) -> None:
        """Rows from ``first`` on, but for those of NaN, up to an error for each row, of which the array may be any."""
        unknown = np.isnan(self.problem.X[first : first + len(expected)]).any(axis=1)
        error = error.reshape(-1, *[1] * (expected.ndim - 1))
        if unknown.any():
            found, expected, error = found[~unknown], expected[~unknown], error[~unknown]
        self.near(found, expected, 0 * error if self.problem.exact else error, route)

    def some_rows(self, most: float) -> slice:
        """At most so many neighbouring rows, anywhere."""
        p = self.problem
        count = min(int(most), p.rows)
        first = int(rng_of(p, 3).integers(p.rows - count + 1))
        return slice(first, first + count)

    def same_rows(self, function, found, route: str, *args) -> None:
        """With any number of threads the same bits."""
        for threads in THREADS:
            out = Margined(found.shape, self.net.dtype)
            again = self.call(function, *args, out=out.array, threads=threads)
            self.true(again is out.array and out.intact(), route, "it writes beside out")
            self.same(again, found, f"{route}, threads={threads}")

    def tangent_direction(self) -> tuple:
        """Of the parameters and of the inputs."""
        p, rng = self.problem, rng_of(self.problem, 2)
        shapes = p.params.shape, p.X.shape
        if p.case.numbers == "exact":
            return tuple((rng.integers(-1, 2, n) * (rng.random(n) < 0.5)).astype(self.net.dtype) for n in shapes)
        return tuple(rng.normal(size=n).astype(self.net.dtype) for n in shapes)

    def jvp(self) -> None:
        p, r = self.problem, self.problem.reference
        d_params, d_X = self.tangent_direction()
        given = self.as_given(d_params, "params"), self.as_given(d_X, "X")
        known = ~np.isnan(p.X).any(axis=1)
        along_params, along_X = r.tangents(d_params=d_params.astype(np.float64)), r.tangents(d_X=d_X.astype(np.float64))
        both = along_params[0] + along_X[0], along_params[1] + along_X[1], along_params[2] + along_X[2]
        for name, directions, (expected, error, largest) in (
            ("jvp along d_params", (given[0], None), along_params),
            ("jvp along d_X", (None, given[1]), along_X),
            ("jvp", given, both),
        ):
            A, dA = self.call(self.net.jvp, p.given["params"], p.given["X"], *directions, threads=1)
            self.outputs_near(self.weighed(A), f"{name}, outputs")
            error = 0 * error if p.exact and p.is_exact(largest) else error
            self.near(dA[known], expected[known], error.max(axis=1, keepdims=True)[known], name)
        for threads in THREADS:
            again = self.call(self.net.jvp, p.params, p.X, d_params, d_X, threads=threads)
            self.same(again[0], A, f"jvp, outputs, threads={threads}")
            self.same(again[1], dA, f"jvp, threads={threads}")

    def jacobians(self) -> None:
        p, net = self.problem, self.net
        n, numbers = net.sizes[-1], net.sizes[-1] * net.n_parameters
        rows = self.some_rows(JACOBIAN_WORK / numbers)
        if rows.start == rows.stop:
            return
        count = rows.stop - rows.start
        r = p.reference.rows(np.repeat(np.arange(rows.start, rows.stop), n))
        *deltas, (_, dX, dX_error) = r.deltas(*r.output_directions(count), inputs=True)
        found = self.call(net.input_jacobian, p.given["params"], p.given["X"][rows], threads=1)
        expected = dX.reshape(found.shape)
        self.rows_near(found, expected, dX_error.reshape(count, -1).max(axis=1), "input_jacobian", rows.start)
        self.same_rows(net.input_jacobian, found, "input_jacobian", p.params, p.X[rows])

        rows = slice(rows.start, rows.start + min(count, int(JACOBIAN_NUMBERS / numbers)))
        count = rows.stop - rows.start
        if count == 0:
            return
        found = self.call(net.jacobian, p.given["params"], p.given["X"][rows], threads=1)
        r = r.rows(np.arange(count * n))
        deltas = [(l, delta[: count * n], error[: count * n]) for l, delta, error in deltas]
        self.gradients_near(found.reshape(count * n, -1), r, deltas, "jacobian", rows.start, n)
        self.same_rows(net.jacobian, found, "jacobian", p.params, p.X[rows])

    def gradients_near(self, found, r, deltas, route: str, first: int, times: int = 1) -> None:
        """The gradients of rows, each there so many times, layer by layer."""
        ends = np.cumsum([(n_in + 1) * n_out for n_in, n_out in zip(self.net.sizes, self.net.sizes[1:])])
        m = len(found) // times
        for (l, delta, error), (_, weights, weights_error) in zip(deltas, r.row_gradients(deltas)):
            n_out, n_in = weights.shape[1:]
            middle, start = ends[l] - n_out, ends[l] - (n_in + 1) * n_out
            for part, expected, e in (
                (found[:, start:middle], weights, weights_error),
                (found[:, middle : ends[l]], delta, error.max(axis=1)),
            ):
                self.rows_near(
                    part.reshape(m, times, -1), expected.reshape(m, times, -1), e.reshape(m, times).max(axis=1),
                    f"{route}, layer {l}, {'bias' if expected is delta else 'weights'}", first,
                )  # fmt: skip

    def row_gradients(self) -> None:
        p, net = self.problem, self.net
        delta, error = p.reference.output_delta(p.targets)
        clean = p.case.numbers != "nan rows"  # whose targets are wrong, too
        given, Y = (p.given["Y"], p.plain["Y"]) if clean else (p.clean_Y, p.clean_Y)
        norms = self.call(net.gradient_norms, p.given["params"], p.given["X"], given, threads=1)
        expected, norms_error = p.reference.gradient_norms(delta, error)
        norms_error = p.eps * expected if p.exact else norms_error + SMALLEST_NORM
        known = ~np.isnan(p.X).any(axis=1)
        self.near(norms[known], expected[known], norms_error[known], "gradient_norms")
        for threads in THREADS:
            again = self.call(net.gradient_norms, p.params, p.X, Y, threads=threads)
            self.same(again, norms, f"gradient_norms, threads={threads}")

        rows = self.some_rows(JACOBIAN_NUMBERS / net.n_parameters)
        if rows.start == rows.stop:
            return
        found = self.call(net.per_row_gradients, p.given["params"], p.given["X"][rows], given[rows], threads=1)
        r = p.reference.rows(rows)
        deltas = list(r.deltas(delta[rows], error[rows]))
        self.gradients_near(found, r, deltas, "per_row_gradients", rows.start)
        self.same_rows(net.per_row_gradients, found, "per_row_gradients", p.params, p.X[rows], Y[rows])

    # -------------------------------------------------------------------------------------------------- other oracles

    def complex_step(self) -> None:
        """The reference itself against derivatives without backpropagation."""
        p, r = self.problem, self.problem.reference
        if self.net.n_parameters * p.rows > 3e6:
            return
        rng = np.random.default_rng(p.case.seed)
        small = 2.0**-52 / p.eps

        def J(params):
            return oracle.cost(r, params, r.X, p.targets, p.weights, p.l2)

        for direction in directions(rng, self.net):
            found = oracle.by_complex_step(J, r.params, direction)
            error = float(np.abs(direction) @ (small * p.sums.estimate / p.total + 1e-13 * p.size)) + UNDERFLOW
            self.near(p.gradient @ direction, found, error, "the reference against complex steps")

        def of_inputs(X):
            return (p.dA * oracle.outputs(r, r.params, X)[1]).sum()

        direction = rng.normal(size=r.X.shape)
        found = oracle.by_complex_step(of_inputs, r.X, direction)
        error = float((np.abs(direction) * (small * p.own.dX_estimate + 1e-13 * np.abs(p.own.dX).max())).sum())
        error += UNDERFLOW
        self.near((p.own.dX * direction).sum(), found, error, "the reference's dX against complex steps")

    def complex_step_of_rows(self) -> None:
        """What the reference computes of each row against outputs and losses along a direction."""
        p = self.problem
        numbers = self.net.sizes[-1] * self.net.n_parameters
        rows = self.some_rows(JACOBIAN_NUMBERS / numbers)
        count = rows.stop - rows.start
        if count == 0:
            return
        r, n, small = p.reference.rows(rows), self.net.sizes[-1], 2.0**-52 / p.eps
        d_params, d_X = (d.astype(np.float64) for d in self.tangent_direction())
        d_X = d_X[rows]

        def close(found, expected, error, size, route: str) -> None:
            error = small * error + 1e-13 * size + UNDERFLOW
            self.near(found, expected, error, f"the reference's {route} against complex steps")

        def outputs(t):
            return oracle.outputs(r, r.params + t * d_params, r.X + t * d_X)[1]

        expected = oracle.by_complex_step(outputs, 0.0, 1.0)
        found, error, largest = r.tangents(d_params, d_X)
        close(found, expected, error.max(axis=1, keepdims=True), largest, "tangents")

        each = r.rows(np.repeat(np.arange(count), n))
        *deltas, (_, dX, dX_error) = each.deltas(*each.output_directions(count), inputs=True)
        along, error, size = self.along(each, deltas, d_params)
        repeated = np.abs(np.repeat(d_X, n, axis=0))
        along += (dX * np.repeat(d_X, n, axis=0)).sum(axis=1)
        error, size = error + (dX_error * repeated).sum(axis=1), size + (np.abs(dX) * repeated).sum(axis=1)
        close(along.reshape(count, n), expected, error.reshape(count, n), size.reshape(count, n), "Jacobians")

        targets = p.targets[rows]

        def losses(t):
            z, a = oracle.outputs(r, r.params + t * d_params, r.X)
            return oracle.losses(r, z, a, targets)

        deltas = list(r.deltas(*r.output_delta(targets)))
        along, error, size = self.along(r, deltas, d_params)
        close(along, oracle.by_complex_step(losses, 0.0, 1.0), error, size, "gradients of rows")
        gradients = [*(weights for _, weights, _ in r.row_gradients(deltas)), *(delta for _, delta, _ in deltas)]
        norms = np.sqrt(sum((part * part).reshape(count, -1).sum(axis=1) for part in gradients))
        error = 1e-14 * norms + SMALLEST_NORM
        self.near(r.gradient_norms(*r.output_delta(targets))[0], norms, error, "the reference's norms")

    def along(self, r, deltas, direction) -> tuple:
        """The product of each row's gradient with a direction, its error, and a sum that it is no larger than."""
        total = np.zeros((3, len(r.X)))
        parts = oracle.layers(self.net.sizes, direction)
        for (l, delta, error), (_, weights, weights_error) in zip(deltas, r.row_gradients(deltas)):
            dW, db = parts[l]
            dW = dW.ravel()
            flat = weights.reshape(len(delta), -1)
            total[0] += flat @ dW + delta @ db
            total[1] += weights_error * np.abs(dW).sum() + error @ np.abs(db)
            total[2] += np.abs(flat) @ np.abs(dW) + np.abs(delta) @ np.abs(db)
        return tuple(total)

    def reference(self) -> None:
        """Plain Python in float64, on the same numbers."""
        p, r = self.problem, self.problem.reference
        Y = p.Y if p.Y.ndim == 1 else p.rough
        loss, sums = sums_of_the_reference(self.net, r.params, r.X, Y, p.weights)
        small = 2.0**-52 / p.eps
        self.near(loss, p.loss, small * p.loss_error + 1e-15 * abs(p.loss), "the reference in float64, loss")
        self.near(sums, p.sums.sums, self.by_layer(small * p.sums.estimate), "the reference in float64")

    def jax(self) -> None:
        p, r = self.problem, self.problem.reference
        if not r.safe_rows(p.targets, 1).all():
            return  # JAX has another derivative at a kink
        try:
            found = oracle.by_jax(r, r.params, r.X, p.targets, p.weights, p.l2)
        except ImportError:
            return
        self.near(found, p.gradient, self.by_layer(p.gradient_error + 1e-12 * p.size), "JAX against the reference")

    # ------------------------------------------------------------------------------------------------- training

    def train(self) -> None:
        p, plan = self.problem, self.problem.case.train
        kinked = bool({*self.net.hidden, *p.kinds[0]} & {*oracle.KINKED} or p.kinds[1] & {*oracle.KINKED_LOSSES})
        if plan is None or p.case.numbers not in ("usual", "zero rows", "exact", "nan rows"):
            return
        if kinked and (self.net.dtype == np.float32 or p.case.numbers == "exact"):
            return  # rounding may take a step to the other side of a kink
        optimizer, rule = optimizer_of(plan["optimizer"])
        right = self.trained(plan, rule)
        if not right.steepest < 1:  # it may diverge
            return
        params = Margined(p.params.shape, self.net.dtype)
        params.array[...] = p.params
        history = self.call(
            bpcore.train, self.net, params.array, p.given["X"], p.given["Y"], optimizer=optimizer, l2=p.l2,
            epochs=plan["epochs"], batch_size=plan["batch"], shuffle=plan["shuffle"], seed=p.case.seed,
            sample_weight=p.given["weights"], threads=1 + p.case.seed % 2,
        )  # fmt: skip
        self.true(params.intact(), "train", "it writes beside params")
        self.near(params.array, right.params, right.error, f"train, {plan['optimizer']}")
        self.near(history.cost, right.costs, right.cost_error, f"train, {plan['optimizer']}, history.cost")

    def trained(self, plan: dict, rule) -> SimpleNamespace:
        """A plain loop over batches in float64."""
        p, m = self.problem, self.problem.rows
        batch = plan["batch"] or m
        generator = np.random.default_rng(p.case.seed)
        params, state, error, size = p.params.astype(np.float64), {}, 0.0, 0.0
        costs: list[float] = []
        cost_error = steepest = 0.0
        for _ in range(plan["epochs"]):
            order = generator.permutation(m) if plan["shuffle"] and batch < m else np.arange(m)
            total = 0.0
            for first in range(0, m, batch):
                rows = order[first : first + batch]
                step = weighted_batch(p, params, rows)
                change, steepness = rule(state, step.gradient)
                params = params + change
                error += steepness * (step.error.max() + p.eps * np.abs(step.gradient).max() + 4 * error)
                size, steepest = max(size, np.abs(params).max()), np.maximum(steepest, np.abs(change).max())
                error += 2 * p.eps * (size + np.abs(change).max())
                total += len(rows) * step.J
                cost_error = max(cost_error, step.J_error + 4 * error * np.abs(step.gradient).sum())
            costs.append(total / m)
        return SimpleNamespace(params=params, error=error, costs=costs, cost_error=cost_error, steepest=steepest)

    def optimizers(self) -> None:
        """Single steps of each optimizer, several in a row, on random gradients of wide range."""
        p, n = self.problem, min(self.net.n_parameters, 5000)
        rng = np.random.default_rng(p_seed(p))
        for name in ("plain", "momentum", "nesterov", "adam"):
            optimizer, rule = optimizer_of(name)
            params = Margined((n,), self.net.dtype)
            params.array[...] = rng.normal(size=n)
            start = params.array.copy()
            right, state, gradients = start.astype(np.float64), {}, []
            size = np.abs(right)
            for _ in range(3):
                gradient = (rng.normal(size=n) * 10 ** rng.uniform(-3, 3, n)).astype(self.net.dtype)
                self.call(optimizer.step, params.array, gradient)
                change, steepness = rule(state, gradient.astype(np.float64))
                right = right + change
                steep = steepness * (np.abs(gradient) if name != "adam" else 1.0)
                size = np.maximum(size, np.abs(right)) + np.abs(change) + steep
                gradients.append(gradient)
            self.near(params.array, right, p.eps * size, f"{name}.step")
            self.true(params.intact(), f"{name}.step", "it writes beside params")
            if (c := c_functions()) is not None:
                found = self.stepped_by_table(c, name, start, gradients)
                self.near(found, right, p.eps * size, f"{name} of the table")

    def stepped_by_table(self, c, name: str, start, gradients):
        """The same steps by the C functions."""
        kind = f"_f{8 * start.itemsize}"
        params, *state = (Margined(start.shape, start.dtype) for _ in range(3))
        params.array[...] = start
        for array in state:
            array.array[...] = 0
        at, first, second = (array.array.ctypes.data for array in (params, *state))
        error = 0
        for step, gradient in enumerate(map(page_end, gradients), 1):
            place = start.size, at, gradient.ctypes.data
            if name == "adam":
                error |= self.call(c["adam" + kind], *place, first, second, RATE, BETA1, BETA2, EPSILON, step)
            else:
                momentum = 0.0 if name == "plain" else MOMENTUM
                velocity = 0 if name == "plain" else first
                nesterov = int(name == "nesterov")
                error |= self.call(c["gradient_descent" + kind], *place, velocity, RATE, momentum, nesterov)
        self.true(error == 0, f"{name} of the table", f"error {error}")
        self.true(all(a.intact() for a in (params, *state)), f"{name} of the table", "it writes beside its arrays")
        return params.array

    # -------------------------------------------------------------------------------------------------- the C functions

    def table(self) -> None:
        if (c := c_functions()) is None:
            return
        p, net = self.problem, self.net
        plan, kept = self.plan(c)
        begin = 1 + p.case.seed % 63
        size = c["workspace_bytes"](plan)
        # What is written behind the workspace is to be found here before it does harm elsewhere.
        behind = 4096 + size // 2
        workspace = np.full(begin + size + behind, 0xFF, np.uint8)  # NaN, as either type of number
        workspace[:begin] = workspace[begin + size :] = 0xA5
        at = workspace.ctypes.data + begin
        params, X = page_end(p.params), page_end(p.X)
        Y, w = page_end(p.Y if p.Y.ndim == 2 else p.Y.astype(np.int64)), None if p.w is None else page_end(p.w)
        targets, labels = (Y.ctypes.data, 0) if Y.ndim == 2 else (0, Y.ctypes.data)
        rows = params.ctypes.data, X.ctypes.data, p.rows
        learned = targets, labels, 0 if w is None else w.ctypes.data

        def do(name: str, *args) -> None:
            error = self.call(c[f"{name}_f{8 * net.dtype.itemsize}"], plan, *args)
            self.true(error == 0, f"{name} of the table", f"error {error}: {c['error_message'](error)}")
            intact = (workspace[:begin] == 0xA5).all() and (workspace[begin + size :] == 0xA5).all()
            self.true(intact, f"{name} of the table", "it writes beside the workspace")

        out = Margined((p.rows, net.sizes[-1]), net.dtype)
        do("forward", at, *rows, out.array.ctypes.data)
        self.outputs_near(self.weighed(out.array), "forward of the table")
        self.true(out.intact(), "forward of the table", "it writes beside out")

        sums, loss, only = Margined((net.n_parameters,), net.dtype), np.zeros(1), np.zeros(1)
        sums.array[...] = 0
        do("accumulate", at, *rows, *learned, sums.array.ctypes.data, loss.ctypes.data)
        do("accumulate", at, *rows, *learned, 0, only.ctypes.data)
        self.near(loss[0], p.loss, p.loss_error, "accumulate of the table, loss")
        self.near(only[0], p.loss, p.loss_error, "accumulate of the table without sums, loss")
        chunks = -(-p.rows // chunks_of(net)[0])  # each is added in the dtype
        self.gradient_near(sums.array, "accumulate of the table", p.sums.sums, self.added(p.sums, chunks))
        self.true(sums.intact(), "accumulate of the table", "it writes beside sums")

        found, J = Margined((net.n_parameters,), net.dtype), np.zeros(1)
        to = found.array.ctypes.data, J.ctypes.data
        do("finish", params.ctypes.data, sums.array.ctypes.data, float(loss[0]), p.total, p.l2, *to)
        self.near(J[0], p.J, p.J_error, "finish of the table, cost")
        error = p.gradient_error + (0 if p.exact else self.added(p.sums, chunks) / p.total)
        self.gradient_near(found.array, "finish of the table", error=error)
        self.true(found.intact(), "finish of the table", "it writes beside the gradient")

        if np.isnan(p.X).any():
            return
        dA, dX = page_end(p.dA), Margined(p.X.shape, net.dtype)
        for into in (0, dX.array.ctypes.data):
            sums.array[...] = 0
            do("backward", at, *rows, dA.ctypes.data, sums.array.ctypes.data, into)
            self.gradient_near(sums.array, "backward of the table", p.own.sums, self.added(p.own, chunks))
        self.near(dX.array, p.own.dX, p.own.dX_error.max(axis=1, keepdims=True), "backward of the table, dX")
        self.true(dX.intact() and sums.intact(), "backward of the table", "it writes beside dX or sums")
        for name, array, plain in (("params", params, p.params), ("X", X, p.X), ("Y", Y, p.Y), ("dA", dA, p.dA)):
            self.same(array, plain.astype(array.dtype), f"the table's functions, {name} afterwards")
        del kept

    def added(self, sums, chunks: int):
        """Errors of sums to which that many chunks are added in the dtype."""
        return sums.error if self.problem.exact else sums.error + chunks**0.5 * self.problem.eps * sums.size

    def plan(self, c) -> tuple[int, tuple]:
        """A plan's address, and what keeps it alive."""
        net = self.net
        sizes = np.array(net.sizes, np.intp)
        constants = constants_in_c()
        if net.loss == "heads":
            return self.plan_of_heads(c, sizes, constants)
        activations = np.array([constants[g] for g in (*net.hidden, net.output)], np.intc)
        memory = np.zeros(c["plan_bytes"](len(net.sizes) - 1) // 8 + 1, np.uint64)
        error = c[f"plan_init_f{8 * net.dtype.itemsize}"](
            memory.ctypes.data, memory.nbytes, len(activations), sizes.ctypes.data, activations.ctypes.data,
            constants[net.loss],
        )  # fmt: skip
        if error == 0 and net.loss_parameter is not None:
            error = c["plan_set_loss_parameter"](memory.ctypes.data, net.loss_parameter)
        self.true(error == 0, "plan of the table", f"error {error}: {c['error_message'](error)}")
        return memory.ctypes.data, (memory, sizes, activations)

    def plan_of_heads(self, c, sizes, constants) -> tuple[int, tuple]:
        net, n_layers = self.net, len(sizes) - 1
        hidden = np.array([constants[g] for g in net.hidden], np.intc)
        arrays = [
            np.array([head.n_outputs for head in net.heads], np.intp),
            np.array([constants[head.output] for head in net.heads], np.intc),
            np.array([constants[head.loss] for head in net.heads], np.intc),
            np.array([head.parameter or 0 for head in net.heads], np.float64),
            np.array([head.weight for head in net.heads], np.float64),
        ]
        memory = np.zeros(c["plan_bytes_heads"](n_layers, len(net.heads)) // 8 + 1, np.uint64)
        error = c[f"plan_init_heads_f{8 * net.dtype.itemsize}"](
            memory.ctypes.data, memory.nbytes, n_layers, sizes.ctypes.data, hidden.ctypes.data, len(net.heads),
            *(array.ctypes.data for array in arrays),
        )  # fmt: skip
        self.true(error == 0, "plan of the table", f"error {error}: {c['error_message'](error)}")
        return memory.ctypes.data, (memory, sizes, hidden, *arrays)

    def sgd_rows(self) -> None:
        """Row by row the same bits as accumulate and gradient_descent."""
        if (c := c_functions()) is None or np.isnan(self.problem.X).any():
            return
        p, net = self.problem, self.net
        m, kind = min(p.rows, 7), f"_f{8 * self.net.dtype.itemsize}"
        plan, kept = self.plan(c)
        workspace = np.full(c["workspace_bytes"](plan), 0xFF, np.uint8)
        X, Y = page_end(p.X[:m]), page_end(p.Y[:m] if p.Y.ndim == 2 else p.Y[:m].astype(np.int64))
        w = np.ones(m, net.dtype) if p.w is None else p.w[:m].copy()

        def rows(first: int) -> list[int]:
            targets = Y[first:].ctypes.data
            return [*((targets, 0) if Y.ndim == 2 else (0, targets)), w[first:].ctypes.data]

        params, expected, loss, expected_loss = Margined(p.params.shape, net.dtype), p.params.copy(), *np.zeros((2, 1))
        params.array[...] = p.params
        at, rate = workspace.ctypes.data, 2.0**-7
        place = plan, at, params.array.ctypes.data, X.ctypes.data, m
        error = self.call(c["sgd_rows" + kind], *place, *rows(0), rate, loss.ctypes.data)
        for i in range(m):
            sums = np.zeros_like(expected)
            place = plan, at, expected.ctypes.data, X[i:].ctypes.data, 1
            to = sums.ctypes.data, expected_loss.ctypes.data
            error |= self.call(c["accumulate" + kind], *place, *rows(i), *to)
            args = expected.size, expected.ctypes.data, sums.ctypes.data, 0, rate, 0.0, 0
            error |= self.call(c["gradient_descent" + kind], *args)
        self.true(error == 0 and params.intact(), "sgd_rows", f"error {error}, or it writes beside params")
        self.same(params.array, expected, "sgd_rows")
        self.same(loss, expected_loss, "sgd_rows, loss")
        del kept


@functools.cache
def constants_in_c() -> dict[str, int]:
    """The activations and losses of bpcore.h."""
    header = (Path(bpcore.get_include()) / "bpcore.h").read_text()
    enums = header[header.index("enum bpcore_activation") : header.index("enum bpcore_error")]
    return {name.lower(): int(number) for name, number in re.findall(r"BPCORE_(\w+) = (\d+)", enums)}


def c_functions():
    """The functions of bpcore.h, or None where plain Python computes."""
    return None if "python" in (bpcore.backend, STARTED_WITH) else table_of_functions()


@functools.cache
def table_of_functions():
    from bpcore import capi

    return capi.functions()


def p_seed(problem) -> list[int]:
    return [problem.case.seed, 1]


def rng_of(problem, purpose: int):
    return np.random.default_rng([problem.case.seed, purpose])


def directions(rng, net) -> list:
    """Dense ones, single coordinates, and one for each layer."""
    n = net.n_parameters
    found = [rng.normal(size=n) for _ in range(2)]
    found += [(np.arange(n) == rng.integers(n)) * 1.0 for _ in range(2)]
    for W, b in net.layers(np.arange(n)):
        direction = np.zeros(n)
        first, last = int(W.min()), int(b.max()) + 1
        direction[first:last] = rng.normal(size=last - first)
        found.append(direction)
    return found


def optimizer_of(name: str):
    """An optimizer of the package, and its rule: from a state and a gradient the change of the parameters.

    The rule's second result is how much an error of the gradient changes the step.
    """
    if name == "adam":

        def adam(state, g):
            state["t"] = t = state.get("t", 0) + 1
            state["m"] = BETA1 * state.get("m", 0.0) + (1 - BETA1) * g
            state["v"] = BETA2 * state.get("v", 0.0) + (1 - BETA2) * g * g
            mean, square = state["m"] / (1 - BETA1**t), state["v"] / (1 - BETA2**t)
            return -RATE * mean / (np.sqrt(square) + EPSILON), RATE / EPSILON

        return bpcore.Adam(RATE, BETA1, BETA2, EPSILON), adam
    if name == "plain":
        return bpcore.GradientDescent(RATE), lambda state, g: (-RATE * g, RATE)

    def with_momentum(state, g):
        state["v"] = MOMENTUM * state.get("v", 0.0) + g
        step = g + MOMENTUM * state["v"] if name == "nesterov" else state["v"]
        return -RATE * step, 4 * RATE  # an error goes on in the velocity

    return bpcore.GradientDescent(RATE, MOMENTUM, name == "nesterov"), with_momentum


def weighted_batch(p: Problem, params, rows) -> SimpleNamespace:
    """Cost and gradient of a batch in training: its sums by its number of rows times the mean weight of all rows."""
    weights = p.weights[rows]
    given = p.reference.sizes, p.reference.activations, p.net.loss, params, p.clean[rows], p.eps
    batch = oracle.Reference(*given, p.net.loss_parameter, p.net.heads)
    targets = p.targets[rows]
    sums = batch.backward(*batch.output_delta(targets), weights)
    losses, losses_error = batch.losses(targets)
    scale = len(rows) * p.weights.mean()
    penalty = np.zeros_like(params)
    for (P, _), (W, _) in zip(oracle.layers(p.net.sizes, penalty), batch.layers):
        P[...] = p.l2 * W
    squares = sum((W * W).sum() for W, _ in batch.layers)
    return SimpleNamespace(
        gradient=sums.sums / scale + penalty,
        error=sums.error / scale + p.eps * np.abs(penalty),
        J=float(weights @ losses) / scale + p.l2 / 2 * squares,
        J_error=float(weights @ losses_error) / scale + p.eps * p.l2 * squares,
    )


# ------------------------------------------------------------------------------------------------- one case, and fewer


def check(**case) -> SimpleNamespace:
    """Raise an AssertionError that says what is wrong with a case; else how many calls were made."""
    with (
        np.errstate(all="ignore"),
        mock.patch.object(_chunks, "THREAD_WORK", 1),  # no work is too small for threads
        mock.patch.object(_chunks._dispatch, "most_threads", return_value=64),  # and no machine
        mock.patch.object(_chunks, "BLOCK_BYTES", ONE_BLOCK if bpcore.backend == "python" else BLOCK_BYTES),
    ):
        try:
            checker = Checker(case)
        except Unsuitable:
            return SimpleNamespace(calls=0, worst=0.0)
        checker.run()
    return SimpleNamespace(calls=checker.calls, worst=checker.worst)


def simpler(case: dict):
    """Cases with something less, the most promising first."""
    full = {**DEFAULTS, **case}
    for key in ("train", "layouts", "weights", "parameter", "labels", "l2", "independent", "jax", "numbers"):
        if full[key] != DEFAULTS[key]:
            yield {**case, key: DEFAULTS[key]}
    routes = full["routes"] or list(ROUTES)
    if len(routes) > 1:
        yield from ({**case, "routes": [route]} for route in sorted(routes, key=SHOWN.index))
    sizes, rows = full["sizes"], full["rows"]
    for l in range(1, len(sizes) - 1):
        yield {**case, "sizes": sizes[:l] + sizes[l + 1 :], "hidden": full["hidden"][: l - 1] + full["hidden"][l:]}
    if (full["loss"], full["output"]) != ("squared_error", "identity"):
        plain = {"loss": "squared_error", "output": "identity", "labels": False, "parameter": None, "heads": None}
        yield {**case, **plain}
    heads = full["heads"] or []
    for i in range(len(heads)):
        left = heads[:i] + heads[i + 1 :]
        if left:
            yield {**case, "heads": left, "sizes": [*sizes[:-1], sum(head[1] for head in left)]}
        if heads[i][1:] != [1, CANONICAL_OUTPUT[heads[i][0]], None, 1.0]:
            less = [*heads[:i], [heads[i][0], 1, CANONICAL_OUTPUT[heads[i][0]], None, 1.0], *heads[i + 1 :]]
            yield {**case, "heads": less, "sizes": [*sizes[:-1], sum(head[1] for head in less)]}
    if set(full["hidden"]) - {"tanh"}:
        yield {**case, "hidden": ["tanh"] * (len(sizes) - 2)}
    for l, size in enumerate(sizes):
        for less in dict.fromkeys([1, 2, 10, size // 2, size * 3 // 4, size - 1]):
            if 0 < less < size:
                yield {**case, "sizes": [*sizes[:l], less, *sizes[l + 1 :]]}
    for less in dict.fromkeys([1, rows // 2, rows * 3 // 4, rows * 9 // 10, rows - 4, rows - 1]):
        if 0 < less < rows:
            yield {**case, "rows": less}


def shrink(case: dict, fails, seconds: float, note=lambda case: None) -> dict:
    """A smaller case that fails, too, as far as the time allows; ``note`` gets each one on the way."""
    end = time.monotonic() + seconds
    tried = set()
    found = True
    while found:
        found = False
        for smaller in map(simplified, simpler(case)):
            key = json.dumps(smaller, sort_keys=True)
            if key in tried:
                continue
            if time.monotonic() > end:
                return case
            tried.add(key)
            if fails(smaller):
                case, found = smaller, True
                note(case)
                break
    return case


def fault(case: dict) -> str | None:
    """What is wrong with a case, if anything; an exception of another kind is wrong, too."""
    try:
        check(**case)
    except Exception as error:
        return str(error) if type(error) is AssertionError else f"{type(error).__name__}: {error}"
    return None


def as_line(case: dict) -> str:
    """A line for Python that shows the fault."""
    arguments = ", ".join(f"{key}={value!r}" for key, value in case.items())
    return f'import sys; sys.path.insert(0, "tests"); import hunt; hunt.check({arguments})'


# ---------------------------------------------------------------------------------------------- a process per backend


def say(**message) -> None:
    print(json.dumps(message), flush=True)


def hunt(seed: int, first: int, step: int, cases: int | None, seconds: float) -> None:
    """In the process of a backend: case by case, each named before it begins, until something is found."""
    end = time.monotonic() + seconds
    index = first
    while time.monotonic() < end and (cases is None or index < first + cases * step):
        case = draw(seed, index)
        if slow(case) and end - time.monotonic() < SLOW:
            index += step
            continue
        say(begun=index)
        try:
            done = check(**case)
        except Exception as error:
            say(found=case, what=str(error) if type(error) is AssertionError else f"{type(error).__name__}: {error}")
            left = min(SHRINK_SECONDS, max(4.0, end - time.monotonic()))
            shrink(case, fault, left, lambda smaller: say(found=smaller, what=fault(smaller)))
            return
        index += step
        say(done=index, calls=done.calls, worst=done.worst)


def slow(case: dict) -> bool:
    """Whether it may take seconds: JAX does until it has started."""
    return case.get("jax", False) or n_parameters(case["sizes"]) * case["rows"] > MOST_WORK


class Hunter:
    """The process of a backend, seen from outside."""

    def __init__(self, backend: str, options, first: int, step: int, seconds: float) -> None:
        self.backend, self.options, self.next = backend, options, first
        self.networks = self.calls = 0
        self.worst = 0.0
        self.begun: int | None = None
        self.begun_at = 0.0
        self.found: dict | None = None
        self.what = ""
        self.since = time.monotonic()
        self.seconds = seconds
        self.process = self.start("--hunt", json.dumps([options.seed, first, step, options.cases, seconds]))

    def start(self, *arguments: str) -> subprocess.Popen:
        variables = {"BPCORE_BACKEND": self.backend, "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, __file__, *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )

    def watch(self) -> None:
        """Read what the process says until it ends; end it when its time is long over."""
        late = threading.Timer(self.seconds + 6, self.process.kill)
        late.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(self.process.stderr.read()))
        reader.start()
        with self.process:
            for line in self.process.stdout:
                self.hear(json.loads(line))
            reader.join()
        code = self.process.returncode
        timely = late.is_alive()
        late.cancel()
        if timely and code != 0 and self.found is None:
            self.crashed(code, errors[0])
        elif timely and code != 0:  # it has corrupted its memory while it was shrinking
            self.found = shrink(self.found, self.fails, self.seconds_to_shrink())
        elif self.found is None and self.begun is not None and time.monotonic() - self.begun_at > HANGS:
            self.found = draw(self.options.seed, self.begun)
            self.what = f"it was not done after {HANGS:.0f} s"

    def hear(self, message: dict) -> None:
        if "begun" in message:
            self.begun, self.begun_at = message["begun"], time.monotonic()
        elif "found" in message:
            self.found, self.what = message["found"], message["what"]
        else:
            self.next, self.begun = message["done"], None
            self.networks += message["calls"] > 0
            self.calls += message["calls"]
            self.worst = max(self.worst, message["worst"])

    def crashed(self, code: int, errors: str) -> None:
        """The process has ended in the middle of a case: find out which is enough."""
        self.what = f"the process ended with code {code}\n{errors.strip()[-2000:]}"
        if self.begun is None:
            return
        case = draw(self.options.seed, self.begun)
        if not self.crashes(case):
            self.what += (
                f"\n(case {self.begun}, which alone does not crash: an earlier one may have written where it must not; "
                f"go through them with --seed {self.options.seed} --backend {self.backend})"
            )
            self.found = case
            return
        self.found = shrink(case, self.crashes, self.seconds_to_shrink())

    def seconds_to_shrink(self) -> float:
        return min(SHRINK_SECONDS, max(4.0, self.since + self.seconds - time.monotonic()))

    def code(self, case: dict) -> int:
        """How a process ends that checks this case alone: 0 if it is right, 1 if it is wrong, else it crashes."""
        with self.start("--check", json.dumps(case)) as process:
            try:
                process.communicate(timeout=HANGS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        return process.returncode

    def crashes(self, case: dict) -> bool:
        return self.code(case) not in (0, 1)

    def fails(self, case: dict) -> bool:
        return self.code(case) != 0

    def report(self) -> None:
        seconds = time.monotonic() - self.since
        print(
            f"{self.backend}: {self.networks} networks and {self.calls} calls checked in {seconds:.0f} s, "
            f"largest difference {self.worst:.2g} of what is allowed; next --first {self.next}"
        )
        if self.networks == 0 and not self.what:
            self.what = "nothing was checked: there was no time"
        if self.what:
            print(f"FOUND with BPCORE_BACKEND={self.backend}: {self.what}")
        if self.found is not None:
            print(as_line(self.found))
        sys.stdout.flush()


def shares(options) -> list[list[tuple]]:
    """For each of the jobs that run side by side, the processes it runs in turn."""
    parts = max(1, options.jobs // len(options.backend))
    tasks = [(backend, options.first + part, parts) for part in range(parts) for backend in options.backend]
    jobs = [tasks[i :: options.jobs] for i in range(min(options.jobs, len(tasks)))]
    return jobs


def at_least(low: int):
    """A type of whole numbers for argparse."""

    def number(text: str) -> int:
        if int(text) < low:
            raise ValueError
        return int(text)

    number.__name__ = f"number of at least {low}"
    return number


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60, help="in all, shared among the backends")
    names = bpcore.available_backends()
    parser.add_argument("--backend", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--seed", type=at_least(0), default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--first", type=at_least(0), default=0, metavar="I", help="number of the first case")
    parser.add_argument(
        "--cases", type=at_least(1), metavar="N", help="cases for each backend; without it until time is up"
    )
    parser.add_argument("--jobs", type=at_least(1), default=1, metavar="K", help="processes side by side")
    parser.add_argument("--hunt", help=argparse.SUPPRESS)
    parser.add_argument("--check", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    options = arguments(argv)
    if options.hunt:
        hunt(*json.loads(options.hunt))
        return 0
    if options.check:
        return 1 if fault(json.loads(options.check)) else 0
    print(f"seed {options.seed}, backends {', '.join(options.backend)}", flush=True)
    end = time.monotonic() + options.seconds
    hunters: list[Hunter] = []

    def work(tasks: list[tuple]) -> None:
        for i, (backend, first, step) in enumerate(tasks):
            seconds = max(1.0, (end - time.monotonic()) / (len(tasks) - i))
            hunter = Hunter(backend, options, first, step, seconds - 0.5)
            hunter.watch()
            hunter.report()
            hunters.append(hunter)

    own, *others = shares(options)
    threads = [threading.Thread(target=work, args=[tasks]) for tasks in others]
    for thread in threads:
        thread.start()
    work(own)
    for thread in threads:
        thread.join()
    return int(any(hunter.what for hunter in hunters))


if __name__ == "__main__":
    sys.exit(main())
