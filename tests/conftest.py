"""One fixture, ``backend``, runs a test on every backend that this machine can run.

``--backend NAME`` runs it on one alone, ``--compiled`` on all but the pure-Python one.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

# bpcore selects its backend when it is imported: not before the options are known.

#: What needs a compiled core: Python as the only backend, or selected by name, has no functions for C, and says so
#: (test_backend.py); a pure build has no core to ask for its elementary functions and its layout, either.
NEED_C_API = ("test_embedding.py",)
NEED_CORE = ("test_core.py", "test_elementary.py", "test_layout.py")
#: What reads the sources, which are not beside the tests of an installed wheel.
NEED_SOURCES = ("test_sources.py",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", metavar="NAME", help="run the tests on this backend alone")
    parser.addoption("--compiled", action="store_true", help="run the tests on all backends but the pure-Python one")


def pytest_configure(config: pytest.Config) -> None:
    if name := config.getoption("--backend"):
        os.environ["BPCORE_BACKEND"], os.environ["BPCORE_TEST_ALONE"] = name, "1"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    from helpers import PURE

    ignored = not (collection_path.parents[1] / "src").is_dir() and collection_path.name in NEED_SOURCES
    ignored |= PURE and collection_path.name in NEED_CORE + NEED_C_API
    ignored |= os.environ.get("BPCORE_BACKEND") == "python" and collection_path.name in NEED_C_API
    return ignored or None  # None: others decide


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    import bpcore

    if "backend" in metafunc.fixturenames:
        # wheels/run_tests.py runs the suite once for each backend, with that one alone.
        alone = os.environ.get("BPCORE_TEST_ALONE")
        names = [bpcore.backend] if alone else bpcore.available_backends()
        if metafunc.config.getoption("--compiled"):
            names = [name for name in names if name != "python"]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request, monkeypatch) -> str:
    """The name of a backend, which every network made in the test computes with."""
    from helpers import dispatch

    import bpcore

    monkeypatch.setattr(dispatch, "name", request.param)
    monkeypatch.setattr(dispatch, "core", dispatch.load(request.param))
    monkeypatch.setattr(bpcore, "backend", request.param)
    return request.param


@pytest.fixture(autouse=True)
def as_many_threads_as_asked_for(monkeypatch) -> None:
    """On machines of few processors, too."""
    from helpers import dispatch

    monkeypatch.setattr(dispatch, "most_threads", lambda: 64)


@pytest.fixture(params=["float64", "float32"])
def dtype(request) -> str:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def pytest_report_header() -> str:
    import bpcore

    where = os.path.dirname(bpcore.__file__)
    return f"bpcore {bpcore.__version__} from {where}, backends {bpcore.available_backends()}, {bpcore.backend} in use"


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name for long texts: Windows has no room for them in PYTEST_CURRENT_TEST."""
    return f"{val[:20]}... {len(val)}" if isinstance(val, str) and len(val) > 1000 else None
