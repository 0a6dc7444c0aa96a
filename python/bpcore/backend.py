"""Which implementation computes, and why: chosen once, when bpcore is imported.

A backend is a module with the functions of :mod:`bpcore.fallback`. The compiled ones are the same sources built for
different instruction sets. ``BPCORE_BACKEND`` names one; otherwise the best that this machine can run is taken.
Pure Python is taken only where no compiled module is installed: a compiled module that is there but cannot be loaded
is an error, never a slower program.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np

from .arrays import Array, Floats

#: Compiled backends, best first, and the module of each.
MODULES: Mapping[str, str] = MappingProxyType(
    {"avx512": "_avx512", "avx2": "_avx2", "neon": "_neon", "baseline": "_baseline"}
)

#: What each needs of the processor and the operating system.
NEEDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "avx512": frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "fma"}),
        "avx2": frozenset({"avx2", "fma"}),
    }
)


class Plan(Protocol):
    """An architecture in the form a backend wants it."""

    @property
    def slot(self) -> int: ...  # rows of a slot, at most: see slots.py
    @property
    def together(self) -> int: ...  # slots whose sums are added up in the network's dtype


class Backend(Protocol):
    """The functions that every backend has; :mod:`bpcore.fallback` says what each does.

    All arrays are C-contiguous, aligned and of the plan's dtype; labels are ``int64``.
    """

    def Plan(self, sizes: tuple[int, ...], activations: tuple[str, ...], loss: str, dtype: np.dtype[Any]) -> Plan: ...
    def cancel(self, cancelled: bytearray) -> None: ...
    def forward(self, plan: Any, params: Floats, X: Floats, out: Floats, told: bytearray | None = None) -> None: ...
    def trace(
        self,
        plan: Any,
        params: Floats,
        X: Floats,
        activations: list[Floats],
        slopes: list[Floats | None],
    ) -> None: ...
    def backward(
        self,
        plan: Any,
        params: Floats,
        activations: list[Floats],
        slopes: list[Floats | None],
        output_gradient: Floats,
        sums: Floats,
        input_gradient: Floats | None,
    ) -> None: ...
    def accumulate(
        self,
        plan: Any,
        params: Floats,
        X: Floats,
        Y: Array,
        sample_weight: Floats | None,
        sums: Floats,
        told: bytearray | None = None,
        cut: tuple[int, int, int, int] | None = None,
    ) -> float: ...
    def loss(
        self,
        plan: Any,
        params: Floats,
        X: Floats,
        Y: Array,
        sample_weight: Floats | None,
        told: bytearray | None = None,
    ) -> float: ...
    def finish(self, plan: Any, params: Floats, sums: Floats, weight: float, l2: float, out: Floats) -> None: ...
    def cost(self, plan: Any, params: Floats, losses: float, weight: float, l2: float) -> float: ...
    def cost_and_gradient(
        self, plan: Any, params: object, X: object, Y: object, l2: object, out: object, most: int
    ) -> tuple[float, Floats] | None: ...
    def forward_directly(self, plan: Any, params: object, X: object, out: object, most: int) -> Floats | None: ...
    def steps(
        self,
        plan: Any,
        params: Floats,
        X: Floats,
        Y: Array,
        sample_weight: Floats | None,
        mean_weight: float,
        order: Array | None,
        first: int,
        batch_size: int,
        l2: float,
        rule: tuple[Any, ...],
        state: Sequence[Floats],
        optimizer: Any,
        rate: float,
        finite: Floats,
        limit: int,
        seconds: float,
    ) -> tuple[int, float, float]: ...
    def gradient_descent_step(
        self,
        params: Floats,
        grad: Floats,
        velocity: Floats | None,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
    ) -> None: ...
    def adam_step(
        self,
        params: Floats,
        grad: Floats,
        mean: Floats,
        square: Floats,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        step: int,
    ) -> None: ...


def available_backends() -> list[str]:
    """Names of the backends that this machine can run, best first, ``"python"`` last."""
    features = set(cpu_features())
    names = [name for name in MODULES if _installed(name) and NEEDS.get(name, frozenset()) <= features]
    return [*names, "python"]


def load(name: str) -> Backend:
    """The backend of that name, to call it side by side with others; ``bpcore.backend`` stays as it is.

    Raises
    ------
    ImportError
        If this machine cannot run it (the message lists those it can), or if its compiled module is broken.
    """
    if name not in available_backends():
        raise ImportError(
            f"there is no backend {name!r} here (BPCORE_BACKEND may name one); "
            f"this machine can run {', '.join(available_backends())}"
        )
    module = importlib.import_module(f".{MODULES.get(name, 'fallback')}", __package__)
    return cast(Backend, module)


def cpu_features() -> list[str]:
    """Names of the CPU features that decide which backends can run, as far as they are present."""
    if not _installed("baseline"):
        return []
    found: list[str] = importlib.import_module(f".{MODULES['baseline']}", __package__).cpu_features()
    return found


def default_threads() -> int:
    """How many threads ``threads=None`` may use: ``BPCORE_NUM_THREADS``, or the CPUs that this process is allowed.

    The CPUs allowed are those of its affinity mask, and no more than its control group's quota.
    """
    wanted = os.environ.get("BPCORE_NUM_THREADS", "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"BPCORE_NUM_THREADS is {wanted!r}, but a positive integer is wanted")
        return int(wanted)
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, _quota()))


def _quota() -> int:
    """CPUs that the control group grants (version 2, then 1), rounded up; very many where there is no limit."""
    unlimited = 1 << 30
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return unlimited
    try:
        return -(-int(quota) // int(period)) if int(quota) > 0 else unlimited
    except (ValueError, ZeroDivisionError):  # "max"
        return unlimited


def _installed(name: str) -> bool:
    return importlib.util.find_spec(f".{MODULES[name]}", __package__) is not None


def _choose() -> tuple[str, str]:
    """The name of the backend to use, and the reason in words."""
    wanted = os.environ.get("BPCORE_BACKEND", "")
    if wanted:
        return wanted, "BPCORE_BACKEND names it"
    best = available_backends()[0]
    if best == "python":
        return best, "no compiled module is installed"
    return best, "the best of those that this machine can run"


#: The name of the backend in use, and why it was chosen.
name, reason = _choose()
#: The module that computes.
core: Backend = load(name)
