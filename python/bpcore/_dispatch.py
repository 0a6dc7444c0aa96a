"""Select the implementation that computes, once, when bpcore is imported.

A backend is a module with the functions of :mod:`bpcore.fallback`, which is their interface. The compiled ones are the
same sources built for different instruction sets. ``BPCORE_BACKEND`` names one; otherwise the best that this machine
can run is selected. Pure Python is selected only if no compiled module is installed: a compiled module that is
installed but cannot be loaded is an error, never a slower program.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

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

#: More threads than any machine has.
_UNLIMITED = 1 << 30


def available_backends() -> list[str]:
    """Names of the backends that this machine can run, best first, ``"python"`` last.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> bpcore.available_backends()[-1]
    'python'
    """
    features = set(cpu_features())
    names = [name for name in MODULES if _installed(name) and NEEDS.get(name, frozenset()) <= features]
    return [*names, "python"]


def load(name: str) -> ModuleType:
    """The backend of that name, to call it side by side with others; ``bpcore.backend`` stays as it is.

    Raises
    ------
    ImportError
        If this machine cannot run it (the message lists those it can), or if its compiled module is broken.
    """
    if name not in available_backends():
        raise ImportError(
            f"the backend must be one that this machine can run ({', '.join(available_backends())}), got {name!r}; "
            f"BPCORE_BACKEND may name one"
        )
    return importlib.import_module(f".{MODULES.get(name, 'fallback')}", __package__)


def cpu_features() -> list[str]:
    """Names of the CPU features that decide which backends can run, as far as they are present."""
    if not _installed("baseline"):
        return []
    found: list[str] = importlib.import_module(f".{MODULES['baseline']}", __package__).cpu_features()
    return found


def default_threads() -> int:
    """How many threads ``threads=None`` may use: the least of several limits.

    They are ``BPCORE_NUM_THREADS``; ``OMP_NUM_THREADS``, by which joblib and batch systems share a machine among
    processes; the CPUs of the process's affinity mask; and its control group's quota.
    """
    requested = os.environ.get("BPCORE_NUM_THREADS", "")
    own = _positive(requested) if requested else _UNLIMITED
    if own is None:
        raise ValueError(f"BPCORE_NUM_THREADS must be a positive integer, got {requested!r}")
    # Of a list the first, and as OpenMP has it: what is no number has no effect.
    openmp = _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]) or _UNLIMITED
    return max(1, min(own, openmp, _processors(), _quota()))


def most_threads() -> int:
    """How many threads a call may have, whatever is asked for: more than there are processors wait for each other."""
    return _processors()


def _processors() -> int:
    """The CPUs of the process's affinity mask; where the system has none, all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def _positive(text: str) -> int | None:
    """A positive integer, at most `_UNLIMITED`; None if the text is none."""
    digits = text.strip().lstrip("0")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    return int(digits) if len(digits) < 10 else _UNLIMITED


def _quota() -> int:
    """CPUs that the control group grants (version 2, then 1), rounded up; very many where there is no limit."""
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
            return _UNLIMITED
    try:
        return -(-int(quota) // int(period)) if int(quota) > 0 else _UNLIMITED
    except (ValueError, ZeroDivisionError):  # "max"
        return _UNLIMITED


def _installed(name: str) -> bool:
    return importlib.util.find_spec(f".{MODULES[name]}", __package__) is not None


def _choose() -> tuple[str, str]:
    """The name of the backend to use, and the reason in words."""
    requested = os.environ.get("BPCORE_BACKEND", "")
    if requested:
        return requested, "BPCORE_BACKEND names it"
    best = available_backends()[0]
    if best == "python":
        return best, "no compiled module is installed"
    return best, "the best of those that this machine can run"


#: The name of the backend in use, and why it was chosen.
name, reason = _choose()
if TYPE_CHECKING:  # every backend has this interface
    from . import fallback
    from .fallback import Plan as Plan

    core = fallback
else:
    #: The module that computes.
    core = load(name)
