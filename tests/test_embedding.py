"""bpcore below Python: the functions for Cython, C, C++, ctypes and Numba, and that their signatures stay."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import bpcore
from bpcore import capi
from bpcore.network import MATCHING_OUTPUT

HERE = Path(__file__).parent
COMPILED = [name for name in bpcore.available_backends() if name != "python"]
CALL = capi.functions()
HEADER = Path(bpcore.get_include(), "bpcore.h").read_text()
#: The numbers of bpcore.h.
ERRORS = [
    name.lower()
    for name in re.findall(r"BPCORE_(\w+) = \d+", HEADER[HEADER.index("enum bpcore_error") :].partition("}")[0])
]
NUMBER = {name.lower(): int(value) for name, value in re.findall(r"BPCORE_(\w+) = (\d+)", HEADER)}


def needs(*modules, compiler=True):
    """Skip a test where the platform lacks what the dev extra brings, or a C compiler with Python's headers."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} comes with the dev extra; not every platform has it")
    if os.name == "nt":  # setuptools finds the compiler by this program
        cc = Path(os.environ.get("PROGRAMFILES(X86)", ""), "Microsoft Visual Studio/Installer/vswhere.exe").exists()
    else:
        cc = shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler and not (cc and Path(sysconfig.get_path("include"), "Python.h").exists()):
        pytest.skip("a C compiler and Python's headers are wanted; not every platform has it")


def run(*command, cwd=None, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("consumer", ["cython", "c", "cpp", "numba"])
def test_a_package_of_its_own_reaches_the_same_parameters(consumer, tmp_path):
    if consumer == "numba":
        needs("numba", compiler=False)
    else:
        needs("pip", "setuptools", {"cython": "Cython", "cpp": "pybind11", "c": "setuptools"}[consumer])
    source = shutil.copytree(HERE / "embedding" / consumer, tmp_path / "source")
    place = tmp_path / "built"
    if consumer == "numba":
        place = source
    else:
        run("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target", place, source, cwd=tmp_path)
    shutil.copy(HERE / "embedding" / "compare.py", place)
    for backend in COMPILED:
        out = run(place / "compare.py", f"embedding_{consumer}", cwd=place, BPCORE_BACKEND=backend)
        assert out == f"{backend} embedding_{consumer} agrees to the last bit\n"


def test_the_code_of_the_readme(tmp_path):
    needs("setuptools", "Cython")
    readme = (HERE.parent / "README.md").read_text()
    (code,) = re.findall(r"```cython\n(.*?)```", readme, re.S)
    online, functions = re.findall(r"```py\n(.*?)```", readme, re.S)
    (tmp_path / "online.pyx").write_text(code)
    run("-m", "Cython.Build.Cythonize", "-i", "-3", "online.pyx", cwd=tmp_path)
    run("-c", online, cwd=tmp_path)
    run("-c", functions + "assert error == 0 and abs(out - out[0]).max() == 0 and out[0, 0] > 0", cwd=tmp_path)


def signatures():
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return {name: name_of(capsule).decode() for name, capsule in capi.__pyx_capi__.items()}


def table():
    fields = HEADER[HEADER.index("typedef struct bpcore_api {") : HEADER.index("} bpcore_api;")]
    fields = re.sub(r"/\*.*?\*/", "", fields, flags=re.S)
    return [" ".join(field.split()) for field in fields.partition("{")[2].split(";") if field.strip()]


def test_the_abi_only_grows():
    frozen = json.loads((HERE / "embedding" / "abi.json").read_text())
    assert frozen["version"] == capi.ABI_VERSION
    found = signatures()
    assert {name: found.get(name) for name in frozen["functions"]} == frozen["functions"]
    assert table()[: len(frozen["table"])] == frozen["table"]
    assert {name: NUMBER.get(name) for name in frozen["numbers"]} == frozen["numbers"]


def test_cython_and_c_have_the_same_functions():
    assert set(signatures()) == set(CALL)
    pxd = Path(bpcore.get_include()).parent.joinpath("capi.pxd").read_text()
    for name, value in re.findall(r"^    ([A-Z_]+) = (\d+)$", pxd, re.M):
        assert NUMBER[name.lower()] == int(value)


def test_another_version_is_refused(tmp_path):
    needs("pip", "setuptools")
    header = HEADER.replace("#define BPCORE_ABI_VERSION 1", "#define BPCORE_ABI_VERSION 7")
    assert header != HEADER
    source = shutil.copytree(HERE / "embedding" / "c", tmp_path / "source")
    (source / "bpcore.h").write_text(header)
    run("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target", tmp_path, source, cwd=tmp_path)
    code = "try:\n import embedding_c\nexcept ImportError as error:\n print(error)"
    assert "version 7 of bpcore's ABI" in run("-c", code, cwd=tmp_path)


def test_without_a_compiled_backend_it_is_an_import_error(tmp_path):
    code = "import bpcore\ntry:\n import bpcore.capi\nexcept ImportError as error:\n print(error)"
    assert "'python'" in run("-c", code, cwd=tmp_path, BPCORE_BACKEND="python")


@pytest.mark.parametrize("name", COMPILED)
def test_the_functions_of_every_backend(name):
    if name != bpcore.backend:  # capi serves the backend in use
        options = ("-q", "-p", "no:cacheprovider", "-k", "test_functions_")
        out = run("-m", "pytest", *options, __file__, BPCORE_BACKEND=name, PYTEST_ADDOPTS="")
        assert re.search(r"\d+ passed", out)
    assert CALL["plan_bytes"](1) > 0


# ------------------------------------------------------------------------------------ the functions themselves


class Embedded:
    """A plan and a workspace, by the functions for C."""

    def __init__(self, net):
        self.net, self.suffix = net, "f32" if net.dtype == np.float32 else "f64"
        sizes = np.array(net.sizes, np.intp)
        activations = np.array([NUMBER[name] for name in (*net.hidden, net.output)], np.intc)
        self.plan = np.zeros(CALL["plan_bytes"](len(activations)), np.uint8)
        plan = CALL[f"plan_{self.suffix}"]
        loss = NUMBER[net.loss]
        assert plan(self.plan.ctypes.data, self.plan.size, len(activations), sizes.ctypes.data,
                    activations.ctypes.data, loss) == 0  # fmt: skip
        assert CALL["n_parameters"](self.plan.ctypes.data) == net.n_parameters
        self.workspace = np.full(CALL["workspace_bytes"](self.plan.ctypes.data), 255, np.uint8)  # NaN all over

    def __call__(self, name, *arguments):
        """An array is passed by its address, None as NULL."""
        return CALL[f"{name}_{self.suffix}"](
            *(0 if a is None else a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments)
        )


def data(net, rows, rng):
    X = rng.normal(size=(rows, net.sizes[0])).astype(net.dtype)
    Y = rng.uniform(size=(rows, net.sizes[-1])).astype(net.dtype)
    return rng.normal(size=net.n_parameters).astype(net.dtype) / 2, X, Y


@pytest.mark.parametrize("rows", [1, 5, 6, 300])
@pytest.mark.parametrize("loss", list(MATCHING_OUTPUT))
def test_functions_forward_and_accumulate(dtype, loss, rows, rng):
    net = bpcore.Network([5, 33, 20, 3], ["gelu", "tanh"], loss, dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    out = np.empty((rows, 3), net.dtype)
    assert c("forward", c.plan, c.workspace, params, X, rows, out) == 0
    np.testing.assert_array_equal(out, net.forward(params, X))
    weight = rng.uniform(size=rows).astype(dtype)
    for labels in [None, rng.integers(0, 3, rows)] if loss == "cross_entropy" else [None]:
        sums, total = np.zeros_like(params), np.zeros(1)
        targets = Y if labels is None else None
        for start, stop in ((0, rows // 2), (rows // 2, rows)):  # streamed
            part = slice(start, stop)
            assert c("accumulate", c.plan, c.workspace, params, X[part], stop - start,
                     None if targets is None else targets[part], None if labels is None else labels[part],
                     weight[part], sums, total) == 0  # fmt: skip
        cost, grad = np.zeros(1), np.empty_like(params)
        assert c("finish", c.plan, params, sums, total[0], float(weight.astype(float).sum()), 0.1, grad, cost) == 0
        expected = net.cost_and_gradient(params, X, Y if labels is None else labels, 0.1, weight)
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(cost[0], expected[0], rtol=tolerance)
        np.testing.assert_allclose(grad, expected[1], rtol=0, atol=tolerance * np.abs(expected[1]).max())
        only = np.zeros(1)
        assert c("accumulate", c.plan, c.workspace, params, X, rows, targets, labels, weight, None, only) == 0
        np.testing.assert_allclose(only, total, rtol=tolerance)


@pytest.mark.parametrize("rows", [0, 1, 6, 300])
@pytest.mark.parametrize("output", ["identity", "softmax", "silu"])
def test_functions_backward(dtype, output, rows, rng):
    net = bpcore.Network([5, 33, 3], "silu", "squared_error", output, dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    sums, dX = np.ones_like(params), np.empty_like(X)
    assert c("backward", c.plan, c.workspace, params, X, rows, Y, sums, dX) == 0
    grad, expected = net.trace(params, X).backward(Y, input_gradient=True)
    np.testing.assert_allclose(sums - 1, grad, rtol=0, atol=(1e-4 if dtype == "float32" else 1e-11))
    np.testing.assert_array_equal(dX, expected)
    again = np.ones_like(params)
    assert c("backward", c.plan, c.workspace, params, X, rows, Y, again, None) == 0
    np.testing.assert_array_equal(again, sums)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_functions_optimizers(dtype, momentum, nesterov, rng):
    if nesterov and not momentum:
        nesterov = False
    net = bpcore.Network([3, 4], dtype=dtype)
    c, n = Embedded(net), 37
    params, grad = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    expected, found, velocity = params.copy(), params.copy(), np.zeros_like(params)
    descent = bpcore.GradientDescent(0.1, momentum, nesterov)
    for _ in range(3):
        descent.step(expected, grad)
        assert c("gradient_descent", n, found, grad, velocity if momentum else None, 0.1, momentum, nesterov) == 0
    np.testing.assert_array_equal(found, expected)
    adam, mean, square = bpcore.Adam(0.1), np.zeros_like(params), np.zeros_like(params)
    for step in (1, 2, 3):
        adam.step(expected, grad)
        assert c("adam", n, found, grad, mean, square, 0.1, 0.9, 0.999, 1e-8, step) == 0
    np.testing.assert_array_equal(found, expected)


def test_functions_errors(dtype, rng):
    net = bpcore.Network([5, 3], loss="cross_entropy", dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, 4, rng)
    other = Embedded(bpcore.Network([5, 3], dtype="float64" if dtype == "float32" else "float32"))
    sums, total, out = np.zeros_like(params), np.zeros(1), np.zeros((4, 3), dtype)
    labels, bad = np.array([[0, 1, 2, 2], [0, 1, 3, 0]], np.int64)
    ok = NUMBER["ok"]

    def plan(sizes, activations, loss, size=None, layers=None):
        sizes, activations = np.array(sizes, np.intp), np.array(activations, np.intc)
        room = np.zeros(CALL["plan_bytes"](3), np.uint8)
        layers = len(activations) if layers is None else layers
        return c("plan", room, room.size if size is None else size, layers, sizes, activations, loss)

    assert plan([5, 4, 3], [3, 0], 0) == ok
    assert plan([5, 0, 3], [3, 0], 0) == NUMBER["wrong_sizes"]
    assert plan([5, 4, 3], [3, 0], 0, size=8) == NUMBER["wrong_sizes"]
    assert plan([5, 4, 3], [3, 0], 0, layers=0) == NUMBER["wrong_sizes"]
    assert plan([5, 4, 3], [9, 0], 0) == NUMBER["wrong_activation"]
    assert plan([5, 4, 3], [3, 11], 0) == plan([5, 4, 3], [3, -1], 0) == NUMBER["wrong_activation"]
    assert plan([5, 4, 3], [3, 0], 6) == plan([5, 4, 3], [3, 0], -1) == NUMBER["wrong_loss"]
    assert plan([5, 4, 3], [3, 0], 2) == NUMBER["wrong_output"]
    assert plan([2**31 - 1] * 3, [3, 0], 0) == NUMBER["too_large"]
    assert CALL["plan_bytes"](0) == CALL["plan_bytes"](-1) == 0
    nothing = np.zeros(500, np.uint8)
    assert CALL["n_parameters"](nothing.ctypes.data) == CALL["n_parameters"](0) == -1
    assert CALL["workspace_bytes"](nothing.ctypes.data) == CALL["workspace_bytes"](0) == 0

    forward = [c.plan, c.workspace, params, X, 4, out]
    assert c("forward", *forward) == ok
    for wrong in (nothing, other.plan, None):
        assert c("forward", wrong, *forward[1:]) == NUMBER["not_a_plan"]
    for i in (1, 2, 3, 5):
        assert c("forward", *[None if j == i else a for j, a in enumerate(forward)]) == NUMBER["null_pointer"]
    assert c("forward", c.plan, c.workspace, params, X, -1, out) == NUMBER["wrong_count"]

    def accumulate(targets, labels, weights=None):
        return c("accumulate", c.plan, c.workspace, params, X, 4, targets, labels, weights, sums, total)

    assert accumulate(None, bad) == accumulate(-Y, None) == NUMBER["wrong_target"]
    assert accumulate(None, None) == accumulate(Y, labels) == NUMBER["wrong_target"]
    assert accumulate(Y, None, np.array([1, 1, -1, 1], dtype)) == NUMBER["wrong_weight"]
    assert accumulate(Y, None, np.array([1, 1, np.nan, 1], dtype)) == NUMBER["wrong_weight"]
    assert not sums.any()
    assert total == 0
    assert accumulate(None, labels) == ok
    cost = np.zeros(1)
    assert c("finish", c.plan, params, sums, 1.0, 0.0, 0.0, sums, cost) == NUMBER["wrong_weight"]
    assert c("finish", c.plan, params, sums, 1.0, 4.0, -1.0, sums, cost) == NUMBER["wrong_number"]
    assert c("adam", 3, params, sums, sums, sums, 0.1, 1.0, 0.9, 1e-8, 1) == NUMBER["wrong_number"]
    assert c("adam", 3, params, sums, sums, sums, 0.1, 0.9, 0.9, 1e-8, 0) == NUMBER["wrong_number"]
    assert c("gradient_descent", 3, params, sums, None, 0.1, 0.9, 0) == NUMBER["null_pointer"]
    messages = {CALL["error_message"](error) for name, error in NUMBER.items() if name in ERRORS}
    assert len(messages) == len(ERRORS)
    assert CALL["error_message"](99) == b"an unknown error"
