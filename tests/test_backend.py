"""Which backend is taken, and why."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import dispatch

import bpcore
from bpcore import fallback


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, in a neutral directory."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BPCORE_")} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=os.sep)


def test_the_compiled_backend_is_there():
    """A missing extension fails here; a pure wheel says that it is one by BPCORE_TEST_PURE=1."""
    pure = os.environ.get("BPCORE_TEST_PURE", "0") == "1"
    assert (bpcore.available_backends() == ["python"]) == pure


def test_python_is_last_and_always_there():
    assert bpcore.available_backends()[-1] == "python"


def test_default_is_the_best():
    result = run("import bpcore; print(bpcore.backend, *bpcore.available_backends())")
    name, best, *_ = result.stdout.split()
    assert name == best


@pytest.mark.parametrize("name", bpcore.available_backends())
def test_environment_forces_one(name):
    code = "import bpcore; from bpcore._dispatch import core, reason; print(bpcore.backend, core.__name__, reason)"
    result = run(code, BPCORE_BACKEND=name)
    found, module, reason = result.stdout.split(maxsplit=2)
    assert found == name
    assert module == f"bpcore.{dispatch.MODULES.get(name, 'fallback')}"
    assert "BPCORE_BACKEND" in reason


@pytest.mark.parametrize("name", ["fortran", "Python", "_baseline", "baseline,python"])
def test_unknown_name_is_an_error_that_lists_those_that_run(name):
    result = run("import bpcore", BPCORE_BACKEND=name)
    assert result.returncode != 0
    can_run = ", ".join(bpcore.available_backends())
    assert f"the backend must be one that this machine can run ({can_run}), got {name!r}" in result.stderr


def test_a_broken_compiled_module_raises(tmp_path):
    """It must not be taken for one that is not installed."""
    broken = tmp_path / f"x{importlib.machinery.EXTENSION_SUFFIXES[-1]}"
    broken.write_bytes(b"no program")
    code = f"""
import importlib.util, sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "bpcore._baseline":
            return importlib.util.spec_from_file_location(name, {str(broken)!r})
sys.meta_path.insert(0, Broken())
import bpcore
"""
    result = run(code, BPCORE_BACKEND="baseline")
    assert result.returncode != 0
    assert "ImportError" in result.stderr


def test_python_is_taken_where_nothing_is_installed():
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("bpcore._"):
            raise ModuleNotFoundError(name)
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.startswith("._") else find(name, package)
import bpcore
from bpcore._dispatch import reason
print(bpcore.backend, "|", reason)
"""
    assert run(code).stdout.strip() == "python | no compiled module is installed"


def test_every_backend_has_the_same_functions():
    """fallback.py is the interface; the stub of the compiled ones re-exports it."""
    for name in bpcore.available_backends():
        module = dispatch.load(name)
        for function in fallback.__all__:
            assert callable(getattr(module, function)), (name, function)
    stub = Path(fallback.__file__).with_name("_baseline.pyi").read_text()
    assert sorted(fallback.__all__) == re.findall(r"from .fallback import \w+ as (\w+)", stub)


def test_import_changes_no_state_and_starts_no_thread():
    code = """
import numpy as np, threading, os
before = dict(os.environ), np.geterr(), threading.active_count()
import bpcore
assert before == (dict(os.environ), np.geterr(), threading.active_count())
"""
    assert run(code).returncode == 0


def test_number_of_threads_from_the_environment():
    """The least of both variables, the CPUs and the quota; other programs' variable is no error."""
    code = """
import os
from bpcore import _dispatch
_dispatch._quota = lambda: 6
_dispatch.os.sched_getaffinity = lambda _: range(8)
print(_dispatch.default_threads())
"""
    for own, openmp, expected in (
        *(("3", "", 3), ("", "", 6), ("9", "", 6), ("", "2", 2), ("3", "2", 2), ("2", "3", 2)),
        *(("", "4,2", 4), ("", " 4 ", 4), ("", "0", 6), ("", "many", 6), ("", "12", 6)),
        *(("9" * 5000, "9" * 5000, 6), (" 3 ", "", 3), ("", "-2", 6)),
    ):
        assert run(code, BPCORE_NUM_THREADS=own, OMP_NUM_THREADS=openmp).stdout.strip() == str(expected), (own, openmp)
    for bad in ("0", "-1", "many", "1.5", "\u0661"):
        result = run(code, BPCORE_NUM_THREADS=bad)
        assert f"ValueError: BPCORE_NUM_THREADS must be a positive integer, got {bad!r}" in result.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_affinity_is_respected():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from bpcore._dispatch import default_threads
print(default_threads())
"""
    assert run(code).stdout.strip() == "1"


def test_the_reference_is_importable_by_name_beside_any_backend(backend):
    net = bpcore.Network([3, 4, 2])
    params = net.initialize(0)
    X = np.linspace(-1, 1, 15).reshape(5, 3)
    out = np.empty((5, 2))
    fallback.forward(fallback.Plan(net.sizes, ("relu", "identity"), net.loss, net.dtype), params, X, out)
    np.testing.assert_allclose(net.forward(params, X), out, rtol=1e-12)
    assert importlib.import_module("bpcore.fallback") is fallback


def test_plain_python_has_no_functions_for_c():
    code = "import bpcore\ntry:\n import bpcore.capi\nexcept ImportError:\n print('refused')"
    environment = {**os.environ, "BPCORE_BACKEND": "python"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
