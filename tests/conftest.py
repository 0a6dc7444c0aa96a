"""One fixture, ``backend``, runs a test on every backend that this machine can run."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sysconfig

import numpy as np
import pytest

import bpcore

backends = importlib.import_module("bpcore._dispatch")  # `bpcore.backend` is the name in use

#: Plain Python, as the only backend or demanded by name, has no functions for C, and says so (test_backend.py); a pure
#: build has no elementary ones of its own, either.
PURE = os.environ.get("BPCORE_TEST_PURE", "0") == "1"
collect_ignore = ["test_embedding.py"] if PURE or os.environ.get("BPCORE_BACKEND") == "python" else []
if PURE:
    collect_ignore += ["test_core.py", "test_elementary.py", "test_layout.py"]

#: How many times longer than on a usual machine things may take, as under emulation.
SLOWNESS = float(os.environ.get("BPCORE_TEST_SLOWNESS", "1"))

#: As slow as under emulation, where tests that want a size for its own sake take a smaller one.
EMULATED = SLOWNESS >= 50

#: There is no wheel of it for a Python without the GIL, and only there may it be missing.
needs_safetensors = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and importlib.util.find_spec("safetensors") is None,
    reason="safetensors has no wheel for a Python without the GIL; not every platform has it",
)
MODEL_SUFFIXES = (".npz", pytest.param(".safetensors", marks=needs_safetensors))

#: Largest difference between implementations, relative to the largest entry.
AGREEMENT = {"float64": 1e-12, "float32": 1e-5}


#: wheels/suite.py runs the suite once for each backend, with that one alone.
BACKENDS = [bpcore.backend] if os.environ.get("BPCORE_TEST_ALONE") else bpcore.available_backends()


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    """The name of a backend, which every network made in the test computes with."""
    monkeypatch.setattr(backends, "name", request.param)
    monkeypatch.setattr(backends, "core", backends.load(request.param))
    monkeypatch.setattr(bpcore, "backend", request.param)
    return request.param


@pytest.fixture(params=["float64", "float32"])
def dtype(request) -> str:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def assert_agree(found, expected, dtype: str, factor: float = 1.0) -> None:
    """Equal dtypes and shapes, NaN and infinities in the same places, and the rest within the agreed difference."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    size = np.max(np.abs(expected[finite]), initial=0.0)
    atol = factor * AGREEMENT[dtype] * max(size, 1e-300)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=atol)


def pytest_report_header() -> str:
    where = os.path.dirname(bpcore.__file__)
    return f"bpcore {bpcore.__version__} from {where}, backends {bpcore.available_backends()}"


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name for long texts: Windows has no room for them in PYTEST_CURRENT_TEST."""
    return f"{val[:20]}... {len(val)}" if isinstance(val, str) and len(val) > 1000 else None
