"""bpcore below Python: the functions for Cython, C, C++, ctypes and Numba, and that their signatures stay."""

from __future__ import annotations

import ast
import contextlib
import copy
import ctypes
import doctest
import importlib.util
import json
import os
import pickle
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    COMBINATIONS,
    READS_FLOAT_MODE,
    dispatch,
    float_flags,
    float_mode,
    outputs_for,
    unusual_float_mode,
)

import bpcore
from bpcore import capi
from bpcore.architecture import CANONICAL_OUTPUT, OUTPUTS

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
        if importlib.util.find_spec(module) is None:  # not imported: pip and setuptools do not bear each other
            pytest.skip(f"{module} comes with the dev extra; not every platform has it")
    if os.name == "nt":  # setuptools finds the compiler by this program
        cc = Path(os.environ.get("PROGRAMFILES(X86)", ""), "Microsoft Visual Studio/Installer/vswhere.exe").exists()
    else:
        cc = shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler and not (cc and Path(sysconfig.get_path("include"), "Python.h").exists()):
        pytest.skip("a C compiler and Python's headers are needed; not every platform has it")


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


if platform.libc_ver()[0] == "glibc":  # whose malloc can be looked at from ahead of it

    def test_no_call_allocates_or_needs_the_gil(tmp_path):
        """From bare threads, which could not take it, on one plan."""
        needs()
        library = tmp_path / "alone.so"
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))[0]
        source = HERE / "embedding" / "alone.c"
        command = [
            compiler,
            "-O1",
            "-fno-builtin",
            "-shared",
            "-fPIC",
            "-pthread",
            f"-I{bpcore.get_include()}",
            source,
            "-o",
            library,
        ]
        subprocess.run(command, check=True)
        code = """
import ctypes, sys
from bpcore import capi
pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
table = pointer(capi._C_API, b"bpcore.capi._C_API")
library = ctypes.CDLL(sys.argv[1])
library.malloc.restype = ctypes.c_void_p
print(*(getattr(library, name)(ctypes.c_void_p(table)) for name in ("try_f32", "try_f64")))
"""
        for backend in COMPILED:
            assert run("-c", code, library, LD_PRELOAD=str(library), BPCORE_BACKEND=backend) == "0 0\n"


def test_the_code_of_the_documentation(tmp_path):
    needs("setuptools", "Cython", "numba")
    document = (HERE.parent / "docs" / "embedding.md").read_text()
    (code,) = re.findall(r"```cython\n(.*?)```", document, re.S)
    online, functions, numba = re.findall(r"```py\n(.*?)```", document, re.S)
    (tmp_path / "online.pyx").write_text(code)
    run("-m", "Cython.Build.Cythonize", "-i", "-3", "online.pyx", cwd=tmp_path)
    refused = """
for wrong in ((params[:-1], X, Y), (params, X, Y[:-1]), (params, X[:0], Y[:0]), (params, X[:, :0].copy(), Y)):
    try:
        online.learn(*wrong, 0.05)
    except ValueError:
        continue
    raise AssertionError([a.shape for a in wrong])
"""
    run("-c", online + refused, cwd=tmp_path)
    right = "assert error == 0 and abs(out - out[0]).max() == 0 and out[0, 0] > 0\n"
    run("-c", functions + right + "out[:] = 0\n" + numba + right, cwd=tmp_path)


GLUE = """
static PyObject *add(PyObject *self, PyObject *args) {
    Py_buffer b[4];
    double loss = 0;
    int error, i;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*", &b[0], &b[1], &b[2], &b[3])) return NULL;
    error = add_rows((float *)b[0].buf, (float *)b[1].buf, (float *)b[2].buf, b[1].len / 12, (float *)b[3].buf, &loss);
    for (i = 0; i < 4; i++) PyBuffer_Release(&b[i]);
    if (error != BPCORE_OK) return PyErr_Format(PyExc_ValueError, "%s", bp->error_message(error));
    return PyFloat_FromDouble(loss);
}
static PyMethodDef methods[] = {{"add", add, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "gradient", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_gradient(void) {
    bp = bpcore_import();
    return bp == NULL ? NULL : PyModule_Create(&module);
}
"""


@pytest.mark.parametrize("suffix", ["c", "cpp"])
def test_the_code_of_the_documentation_in_c(tmp_path, suffix):
    needs("setuptools")
    document = (HERE.parent / "docs" / "embedding.md").read_text()
    (code,) = re.findall(r"```c\n(.*?)```", document, re.S)
    (tmp_path / f"gradient.{suffix}").write_text("#define PY_SSIZE_T_CLEAN\n" + code + GLUE)
    extension = f"Extension('gradient', ['gradient.{suffix}'], include_dirs=[bpcore.get_include()])"
    (tmp_path / "setup.py").write_text(
        f"import bpcore\nfrom setuptools import Extension, setup\nsetup(name='gradient', ext_modules=[{extension}])\n"
    )
    run("setup.py", "-q", "build_ext", "--inplace", cwd=tmp_path)
    compare = """
import bpcore, gradient
import numpy as np
net = bpcore.Network([3, 32, 1], "tanh", dtype="float32")
rng = np.random.default_rng(0)
params, X = net.initialize(0), rng.normal(size=(500, 3)).astype("float32")
Y, sums = X[:, :1] * X[:, 1:2], np.zeros(net.n_parameters, "float32")
loss = gradient.add(params, X, Y, sums)
cost, grad = net.cost_and_gradient(params, X, Y)
np.testing.assert_allclose([loss / 500, *(sums / 500)], [cost, *grad], rtol=0, atol=1e-6)
"""
    run("-c", compare, cwd=tmp_path)


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


def test_another_signature_is_refused(tmp_path):
    """Cython compares each function that is cimported with what the installed package has."""
    needs("Cython", "setuptools")
    place = tmp_path / "bpcore"
    place.mkdir()
    (place / "__init__.pxd").touch()
    pxd = Path(bpcore.get_include()).parent.joinpath("capi.pxd").read_text()
    changed = pxd.replace("size_t plan_bytes(Py_ssize_t n_layers)", "size_t plan_bytes(int n_layers)")
    assert changed != pxd
    (place / "capi.pxd").write_text(changed)
    (tmp_path / "other.pyx").write_text("from bpcore.capi cimport plan_bytes\nprint(plan_bytes(1))\n")
    run("-m", "Cython.Build.Cythonize", "-i", "-3", "other.pyx", cwd=tmp_path)
    shutil.rmtree(place)
    code = "try:\n import other\nexcept (ImportError, TypeError) as error:\n print(error)"
    assert "plan_bytes has wrong signature" in run("-c", code, cwd=tmp_path)


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
        plan = CALL[f"plan_init_{self.suffix}"]
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
    n_targets = net.sizes[-1] // 2 if net.loss == "gaussian_nll" else net.sizes[-1]
    Y = rng.uniform(0.01, 1, size=(rows, n_targets)).astype(net.dtype)
    return rng.normal(size=net.n_parameters).astype(net.dtype) / 2, X, Y


@pytest.mark.parametrize("rows", [1, 5, 6, 300])
@pytest.mark.parametrize("loss", list(CANONICAL_OUTPUT))
def test_functions_forward_and_accumulate(dtype, loss, rows, rng):
    net = bpcore.Network([5, 33, 20, outputs_for(loss, 3)], ["gelu", "tanh"], loss, dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    out = np.empty((rows, net.sizes[-1]), net.dtype)
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


@pytest.mark.parametrize("rows", [1, 5, 6, 300])
def test_functions_derivatives(dtype, rows, rng):
    """Those of rows, Jacobians and tangents have the bits of the methods."""
    net = bpcore.Network([5, 13, 4, 3], ["gelu", "tanh"], "cross_entropy", dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    labels, n = rng.integers(0, 3, rows), net.n_parameters
    d_params, d_X = rng.normal(size=n).astype(dtype), rng.normal(size=X.shape).astype(dtype)
    place = c.plan, c.workspace, params, X, rows
    for name, expected in (("jacobian", net.jacobian(params, X)), ("input_jacobian", net.input_jacobian(params, X))):
        out = np.full_like(expected, np.nan)
        assert c(name, *place, out) == 0
        np.testing.assert_array_equal(out, expected)
    for name, method in (("row_gradients", net.per_row_gradients), ("gradient_norms", net.gradient_norms)):
        for given, targets in (((Y, None), Y), ((None, labels), labels)):
            expected = method(params, X, targets)
            out = np.full_like(expected, np.nan)
            assert c(name, *place, *given, out) == 0
            np.testing.assert_array_equal(out, expected)
        assert c(name, *place, None, None, out) == NUMBER["err_target"]
        assert c(name, *place, Y, None, None) == NUMBER["err_null"]
    for directions in ((d_params, d_X), (d_params, None), (None, d_X)):
        expected = net.jvp(params, X, *directions)
        found = [np.full_like(array, np.nan) for array in expected]
        assert c("jvp", *place, *directions, *found) == 0
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert c("jacobian", *place, None) == NUMBER["err_null"]
    assert c("jvp", *place, d_params, None, None, None) == NUMBER["err_null"]
    assert c("jacobian", c.plan, c.workspace, params, X, -1, out) == NUMBER["err_count"]


@pytest.mark.parametrize(("loss", "name", "right", "wrong"), [
    ("huber", "delta", 0.3, 0.0), ("quantile", "quantile", 0.9, 1.0), ("tweedie", "power", 1.2, 2.0),
    ("focal", "gamma", 0.5, -1.0), ("cross_entropy", "label_smoothing", 0.2, 1.0),
])  # fmt: skip
def test_the_parameter_of_a_loss(dtype, loss, name, right, wrong, rng):
    usual = bpcore.Network([5, 7, 3], "tanh", loss, dtype=dtype)
    net = bpcore.Network([5, 7, 3], "tanh", loss, dtype=dtype, **{name: right})
    c, (params, X, Y) = Embedded(usual), data(net, 40, rng)
    set_parameter = CALL["plan_set_loss_parameter"]
    for bad in (wrong, float("nan")):
        assert set_parameter(c.plan.ctypes.data, bad) == NUMBER["err_hyperparameter"]
    assert set_parameter(c.plan.ctypes.data, right) == 0
    sums, total = np.zeros_like(params), np.zeros(1)
    assert c("accumulate", c.plan, c.workspace, params, X, 40, Y, None, None, sums, total) == 0
    by_plan, again = capi.Plan(net), np.zeros_like(params)
    arguments = by_plan.address, by_plan.workspace, params.ctypes.data, X.ctypes.data, 40, Y.ctypes.data, 0, 0
    assert by_plan.functions["accumulate"](*arguments, again.ctypes.data, np.zeros(1).ctypes.data) == 0
    np.testing.assert_array_equal(again, sums)
    accumulator = net.accumulator()
    accumulator.add(params, X, Y)
    assert total[0] == accumulator.buffer[0]
    np.testing.assert_array_equal(sums.astype(np.float64), accumulator.buffer[3:])


HEADS = [("cross_entropy", 3, {"label_smoothing": 0.1}), ("huber", 2, {"output": "tanh", "weight": 0.7})]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 8)])
def test_functions_of_heads(dtype, hidden, rng):
    net = bpcore.Network([5, *hidden, 5], "tanh", HEADS, dtype=dtype)
    plan, (params, X, Y) = capi.Plan(net), data(net, 40, rng)
    Y = np.abs(Y)
    sums, total, out = np.zeros_like(params), np.zeros(1), np.empty((40, 5), dtype)
    place = plan.address, plan.workspace, params.ctypes.data, X.ctypes.data, 40
    assert plan.functions["accumulate"](*place, Y.ctypes.data, 0, 0, sums.ctypes.data, total.ctypes.data) == 0
    assert plan.functions["forward"](*place, out.ctypes.data) == 0
    accumulator = net.accumulator()
    accumulator.add(params, X, Y)
    assert total[0] == accumulator.buffer[0]
    np.testing.assert_array_equal(sums.astype(np.float64), accumulator.buffer[3:])
    np.testing.assert_array_equal(out, net.forward(params, X))
    labels = np.zeros(40, np.int64)
    found = plan.functions["accumulate"](*place, 0, labels.ctypes.data, 0, sums.ctypes.data, total.ctypes.data)
    assert found == NUMBER["err_target"]
    Y[7, 1] = -1
    found = plan.functions["accumulate"](*place, Y.ctypes.data, 0, 0, sums.ctypes.data, total.ctypes.data)
    assert found == NUMBER["err_target"]
    assert plan.functions["plan_set_loss_parameter"](plan.address, 0.0) == NUMBER["err_hyperparameter"]


def test_functions_refuse_what_is_no_head(dtype):
    suffix = "_f32" if dtype == "float32" else "_f64"
    make = CALL["plan_init_heads" + suffix]
    right = {
        "sizes": np.array([4, 6, 5], np.intp), "hidden": np.array([capi.Activation.TANH], np.intc),
        "n_outputs": np.array([3, 2], np.intp), "outputs": np.array([capi.Activation.SOFTMAX, 0], np.intc),
        "losses": np.array([capi.Loss.CROSS_ENTROPY, capi.Loss.HUBER], np.intc), "parameters": np.array([0, 1.0]),
        "weights": np.ones(2),
    }  # fmt: skip
    assert CALL["plan_bytes_heads"](2, 0) == CALL["plan_bytes_heads"](0, 2) == CALL["plan_bytes_heads"](2, -1) == 0
    memory = np.zeros(CALL["plan_bytes_heads"](2, 2) // 8, np.uint64)
    assert memory.nbytes > CALL["plan_bytes"](2)

    def error(bytes_short=0, n_heads=2, at=0, **changed):
        arrays = {**right, **{name: np.array(value, right[name].dtype) for name, value in changed.items()}}
        sizes, hidden, *heads = (array.ctypes.data for array in arrays.values())
        made = make(memory.ctypes.data + at, memory.nbytes - bytes_short, 2, sizes, hidden, n_heads, *heads)
        return {number: name for name, number in NUMBER.items() if name in ("ok", *ERRORS)}[made]

    assert error() == "ok"
    assert error(bytes_short=1) == error(n_heads=0) == error(n_heads=3) == "err_sizes"
    assert error(at=1) == "err_misaligned"
    assert error(n_outputs=[3, 1]) == error(n_outputs=[3, 3]) == error(n_outputs=[5, 0]) == "err_sizes"
    assert error(sizes=[4, 0, 5]) == "err_sizes"
    assert error(n_outputs=[2, 3], losses=[2, capi.Loss.GAUSSIAN_NLL]) == "err_sizes"
    assert (
        error(hidden=[capi.Activation.SOFTMAX]) == error(outputs=[9, 99]) == error(outputs=[-1, 0]) == "err_activation"
    )
    assert error(losses=[2, 13]) == error(losses=[-1, 0]) == "err_loss"
    assert error(outputs=[0, 0]) == "err_output"
    assert error(parameters=[1.0, 1.0]) == error(parameters=[0, 0]) == "err_hyperparameter"
    assert error(weights=[0, 1]) == error(weights=[1, np.inf]) == error(weights=[1, np.nan]) == "err_hyperparameter"
    limits = np.finfo(dtype)
    for wrong in (float(limits.tiny) / 4, float(limits.max) * 1.5 if dtype == "float32" else np.inf):
        assert error(weights=[1, wrong]) == error(parameters=[0, wrong]) == "err_hyperparameter"
    for i in range(7):
        addresses = [array.ctypes.data for array in right.values()]
        addresses[i] = 0
        found = make(memory.ctypes.data, memory.nbytes, 2, *addresses[:2], 2, *addresses[2:])
        assert found == NUMBER["err_null"]


@pytest.mark.parametrize("loss", ["huber", "cross_entropy"])
@pytest.mark.parametrize("sizes", [(5, 33, 20, 3), (150, 500, 150)], ids=["tiles", "chunks"])
def test_functions_accumulate_more_than_a_tile_or_a_chunk(dtype, loss, sizes, rng):
    """All rows in one call, no two of one weight, are what they are one by one."""
    net, rows = bpcore.Network(sizes, "tanh", loss, dtype=dtype), 300
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    weight = rng.choice([0, 0.5, 1, 3], rows).astype(dtype)
    for labels in [None, rng.integers(0, sizes[-1], rows)] if loss == "cross_entropy" else [None]:
        given = (Y, None) if labels is None else (None, labels)
        found, one = [(np.zeros_like(params), np.zeros(1)) for _ in range(2)]
        assert c("accumulate", c.plan, c.workspace, params, X, rows, *given, weight, *found) == 0
        expected, losses = np.zeros(net.n_parameters), 0.0
        for i in np.flatnonzero(weight):
            for array in one:
                array[...] = 0
            row = [None if array is None else array[i : i + 1] for array in given]
            assert c("accumulate", c.plan, c.workspace, params, X[i : i + 1], 1, *row, None, *one) == 0
            expected += float(weight[i]) * one[0]
            losses += float(weight[i]) * one[1][0]
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=tolerance * np.abs(expected).max())
        assert found[1][0] == pytest.approx(losses, rel=tolerance)


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


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_functions_of_a_plan_for_python(dtype, loss, output, rng):
    """The same plan as by hand, by the results, in the workspaces that it makes."""
    hidden = [name for name in OUTPUTS if name not in ("softmax", "exp")]
    net = bpcore.Network([5, *range(7, 7 + len(hidden)), outputs_for(loss, 3)], hidden, loss, output, dtype)
    plan, c, (params, X, Y) = capi.Plan(net), Embedded(net), data(net, 9, rng)
    assert (plan.network, plan.dtype, plan.n_parameters) == (net, net.dtype, net.n_parameters)
    assert plan.network is net
    assert repr(plan) == f"Plan({net!r})"
    workspace = plan.new_workspace()
    assert (workspace.dtype, workspace.shape) == (np.uint8, c.workspace.shape)
    assert CALL["workspace_bytes"](plan.address) == workspace.size
    places = plan.workspace, workspace.ctypes.data, plan.new_workspace().ctypes.data
    assert len(set(places)) == 3
    assert all(place % 64 == 0 for place in (plan.address, *places))
    expected, J = np.zeros_like(params), np.zeros(1)
    assert c("accumulate", c.plan, c.workspace, params, X, 9, Y, None, None, expected, J) == 0
    workspace[:] = 255
    for place in places[:2]:
        sums, total = np.zeros_like(params), np.zeros(1)
        assert plan.functions["accumulate"](
            plan.address, place, params.ctypes.data, X.ctypes.data, 9, Y.ctypes.data, 0, 0, sums.ctypes.data,
            total.ctypes.data,
        ) == 0  # fmt: skip
        np.testing.assert_array_equal(sums, expected)
        assert total == J


def test_functions_of_a_plan_by_name(dtype):
    plan = capi.Plan(bpcore.Network([5, 3], dtype=dtype))
    suffix = "_f32" if dtype == "float32" else "_f64"
    expected = {re.sub("_f(32|64)$", "", name): name for name in CALL if not name.endswith(("_f32", "_f64"))}
    expected |= {name.removesuffix(suffix): name for name in CALL if name.endswith(suffix)}
    assert set(plan.functions) == set(expected)
    address = ctypes.POINTER(ctypes.c_void_p)
    for short, name in expected.items():
        found, full = (ctypes.cast(ctypes.byref(f), address)[0] for f in (plan.functions[short], CALL[name]))
        assert found == full, short
        assert plan.functions[short].argtypes == CALL[name].argtypes
    with pytest.raises(TypeError):
        plan.functions["forward"] = None
    for attribute in ("network", "dtype", "n_parameters", "address", "workspace", "functions"):
        with pytest.raises(AttributeError):
            setattr(plan, attribute, getattr(plan, attribute))


def test_functions_of_a_copied_plan(rng):
    """A plan that was copied byte by byte would be invalid."""
    net = bpcore.Network([5, 8, 3])
    params, X, _ = data(net, 4, rng)
    plan = capi.Plan(net)
    for clone in (pickle.loads(pickle.dumps(plan)), copy.copy(plan), copy.deepcopy(plan)):
        assert clone.address != plan.address
        assert clone.workspace != plan.workspace
        out = np.zeros((4, 3))
        assert clone.functions["forward"](
            clone.address, clone.workspace, params.ctypes.data, X.ctypes.data, 4, out.ctypes.data
        ) == 0  # fmt: skip
        np.testing.assert_array_equal(out, net.forward(params, X))


@pytest.mark.parametrize("bad", [None, [5, 3], bpcore.Network, "network"])
def test_functions_of_a_plan_of_no_network(bad):
    with pytest.raises(TypeError, match="network must be a Network, got"):
        capi.Plan(bad)


def test_functions_have_examples():
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    globs = {"bpcore": bpcore, "np": np}
    for value in (capi.Plan, capi.Plan.new_workspace):
        (example,) = finder.find(value, value.__name__, module=False, globs=globs)
        assert example.examples
        assert runner.run(example).failed == 0


def test_the_stub_has_what_the_module_has():
    stub = ast.parse(Path(bpcore.get_include()).parent.joinpath("capi.pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    for name, enum in (("Activation", capi.Activation), ("Loss", capi.Loss)):
        numbers = {node.targets[0].id: node.value.value for node in classes[name].body}
        assert numbers == {member.name: member.value for member in enum}
        assert all(NUMBER[constant.lower()] == value for constant, value in numbers.items())
        assert issubclass(enum, int)
    declared = {node.name for node in classes["Plan"].body} - {"__init__"}
    assert declared == {name for name in dir(capi.Plan) if not name.startswith("_")}


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
        return c("plan_init", room, room.size if size is None else size, layers, sizes, activations, loss)

    assert plan([5, 4, 3], [3, 0], 0) == ok
    assert plan([5, 0, 3], [3, 0], 0) == NUMBER["err_sizes"]
    assert plan([5, 4, 3], [3, 0], 0, size=8) == NUMBER["err_sizes"]
    assert plan([5, 4, 3], [3, 0], 0, layers=0) == NUMBER["err_sizes"]
    assert plan([5, 4, 3], [9, 0], 0) == NUMBER["err_activation"]
    unknown = max(NUMBER[name] for name in OUTPUTS) + 1
    assert plan([5, 4, 3], [3, unknown], 0) == plan([5, 4, 3], [3, -1], 0) == NUMBER["err_activation"]
    assert plan([5, 4, 3], [3, 0], 13) == plan([5, 4, 3], [3, 0], -1) == NUMBER["err_loss"]
    assert plan([5, 4, 3], [3, 0], 2) == NUMBER["err_output"]
    assert plan([2**31 - 1] * 3, [3, 0], 0) == NUMBER["err_too_large"]
    assert CALL["plan_bytes"](0) == CALL["plan_bytes"](-1) == 0
    nothing = np.zeros(500, np.uint8)
    assert CALL["n_parameters"](nothing.ctypes.data) == CALL["n_parameters"](0) == -1
    assert CALL["workspace_bytes"](nothing.ctypes.data) == CALL["workspace_bytes"](0) == 0

    forward = [c.plan, c.workspace, params, X, 4, out]
    assert c("forward", *forward) == ok
    for wrong in (nothing, other.plan, None):
        assert c("forward", wrong, *forward[1:]) == NUMBER["err_plan"]
    for i in (1, 2, 3, 5):
        assert c("forward", *[None if j == i else a for j, a in enumerate(forward)]) == NUMBER["err_null"]
    assert c("forward", c.plan, c.workspace, params, X, -1, out) == NUMBER["err_count"]

    def accumulate(targets, labels, weights=None):
        return c("accumulate", c.plan, c.workspace, params, X, 4, targets, labels, weights, sums, total)

    assert accumulate(None, bad) == accumulate(-Y, None) == NUMBER["err_target"]
    assert accumulate(None, None) == accumulate(Y, labels) == NUMBER["err_target"]
    assert accumulate(Y, None, np.array([1, 1, -1, 1], dtype)) == NUMBER["err_sample_weight"]
    assert accumulate(Y, None, np.array([1, 1, np.nan, 1], dtype)) == NUMBER["err_sample_weight"]
    assert accumulate(Y, None, np.array([1, 1, np.inf, 1], dtype)) == NUMBER["err_sample_weight"]
    assert not sums.any()
    assert total == 0
    assert accumulate(None, labels) == ok
    cost = np.zeros(1)
    assert c("finish", c.plan, params, sums, 1.0, 0.0, 0.0, sums, cost) == NUMBER["err_sample_weight"]
    assert c("finish", c.plan, params, sums, 1.0, 4.0, -1.0, sums, cost) == NUMBER["err_hyperparameter"]
    assert c("adam", 3, params, sums, sums, sums, 0.1, 1.0, 0.9, 1e-8, 1) == NUMBER["err_hyperparameter"]
    assert c("adam", 3, params, sums, sums, sums, 0.1, 0.9, 0.9, 1e-8, 0) == NUMBER["err_hyperparameter"]
    assert c("gradient_descent", 3, params, sums, None, 0.1, 0.9, 0) == NUMBER["err_null"]
    assert c("adam", 3, params, sums, sums, None, 0.1, 0.9, 0.9, 1e-8, 1) == NUMBER["err_null"]
    assert c("adam", -3, params, sums, sums, sums, 0.1, 0.9, 0.9, 1e-8, 1) == NUMBER["err_count"]
    assert c("gradient_descent", sys.maxsize // 2 + 1, params, sums, None, 0.1, 0.0, 0) == NUMBER["err_count"]
    for rate in (-0.1, np.nan, np.inf):  # as Python's optimizers
        assert c("gradient_descent", 3, params, sums, None, rate, 0.0, 0) == NUMBER["err_hyperparameter"]
        assert c("adam", 3, params, sums, sums, sums, rate, 0.9, 0.9, 1e-8, 1) == NUMBER["err_hyperparameter"]
    three = [np.ones(3, dtype) for _ in range(4)]
    assert c("gradient_descent", 3, *three[:3], 0.1, 1.0, 0) == c("adam", 3, *three, 0.1, 0.9, 0.9, 0.0, 1) == ok
    messages = {CALL["error_message"](error) for name, error in NUMBER.items() if name in ERRORS}
    assert len(messages) == len(ERRORS)
    assert CALL["error_message"](99) == b"unknown error"


def test_functions_refuse_what_cannot_be(dtype, rng):
    """Counts beyond all bounds, arrays that begin anywhere, a plan that was moved or is a byte off."""
    net = bpcore.Network([5, 3], loss="cross_entropy", dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, 4, rng)
    sums, total, cost, out = np.zeros_like(params), np.zeros(1), np.zeros(1), np.zeros((4, 3), dtype)
    labels = np.array([0, 1, 2, 2], np.int64)
    calls = {
        "forward": [c.plan, c.workspace, params, X, 4, out],
        "accumulate": [c.plan, c.workspace, params, X, 4, Y, None, Y[:, 0].copy(), sums, total],
        "backward": [c.plan, c.workspace, params, X, 4, Y, sums, np.empty_like(X)],
        "sgd_rows": [c.plan, c.workspace, params, X, 4, None, labels, None, 0.0, total],
        "finish": [c.plan, params, sums, 1.0, 4.0, 0.0, sums, cost],
        "adam": [3, params, np.ones(3, dtype), np.zeros(3, dtype), np.zeros(3, dtype), 0.0, 0.9, 0.9, 1e-8, 2**62],
        "gradient_descent": [3, params, np.ones(3, dtype), np.zeros(3, dtype), 0.0, 0.9, 0],
    }
    moved = c.plan.copy()
    for name, arguments in calls.items():
        before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
        for i, argument in enumerate(arguments):
            if not isinstance(argument, np.ndarray) or argument is c.workspace:
                continue
            off = [a.ctypes.data + 1 if j == i else a for j, a in enumerate(arguments)]
            expected = "err_plan" if argument is c.plan else "err_misaligned"
            assert c(name, *off) == NUMBER[expected], (name, i)
        if arguments[0] is c.plan:
            assert c(name, moved, *arguments[1:]) == NUMBER["err_plan"]
            for count in (-1, -sys.maxsize - 1, sys.maxsize // 2 + 1, sys.maxsize) if name != "finish" else ():
                assert c(name, *arguments[:4], count, *arguments[5:]) == NUMBER["err_count"]
        for a, b in zip((a for a in arguments if isinstance(a, np.ndarray)), before):
            np.testing.assert_array_equal(a, b)
        assert c(name, *arguments) == NUMBER["ok"]
    assert (
        c("plan_init", c.plan.ctypes.data + 1, 1 << 20, 1, np.array([5, 3], np.intp), np.array([9], np.intc), 2)
        == (NUMBER["err_misaligned"])
    )
    for name in ("forward", "accumulate", "backward", "sgd_rows"):  # a workspace may begin anywhere
        shifted = np.zeros(c.workspace.size + 1, np.uint8)[1:]
        assert c(name, c.plan, shifted, *calls[name][2:]) == NUMBER["ok"]
    for name in ("forward", "accumulate", "backward", "sgd_rows"):  # no rows: nothing is read or written
        arguments = [None if i in (3, 5, 6, 7) else a for i, a in enumerate(calls[name])]
        arguments[4] = 0
        if name == "backward":
            arguments[6] = sums
        assert c(name, *arguments) == NUMBER["ok"]


@pytest.mark.parametrize("loss", list(CANONICAL_OUTPUT))
@pytest.mark.parametrize("output", [None, "tanh"])
def test_functions_sgd_rows(dtype, loss, output, rng):
    """The bits of a Python loop over single rows."""
    if output is not None and loss not in ("squared_error", "huber", "absolute_error"):
        output = CANONICAL_OUTPUT[loss]
    net = bpcore.Network([5, 33, 20, outputs_for(loss, 3)], ["gelu", "tanh"], loss, output, dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, 40, rng)
    weight = rng.uniform(size=40).astype(dtype)
    for labels in [None, rng.integers(0, 3, 40)] if loss == "cross_entropy" else [None]:
        expected, found, losses, total = params.copy(), params.copy(), 0.0, np.zeros(1)
        targets = Y if labels is None else labels
        descent = bpcore.GradientDescent(0.01)
        for i in range(40):
            cost, grad = net.cost_and_gradient(expected, X[i : i + 1], targets[i : i + 1])
            descent.step(expected, grad)
            losses += cost
        given = (None, labels) if labels is not None else (Y, None)
        assert c("sgd_rows", c.plan, c.workspace, found, X, 40, *given, None, 0.01, total) == 0
        np.testing.assert_array_equal(found, expected)
        assert total[0] == losses
        assert not np.array_equal(found, params)
        again, other = found.copy(), found.copy()
        assert c("sgd_rows", c.plan, c.workspace, again, X, 1, *given, weight, 0.01, total) == 0
        sums = np.zeros_like(params)
        assert c("accumulate", c.plan, c.workspace, other, X, 1, *given, weight, sums, total) == 0
        assert c("gradient_descent", other.size, other, sums, None, 0.01, 0.0, 0) == 0
        np.testing.assert_array_equal(again, other)
        expected, found = params.copy(), params.copy()
        for i in range(40):  # each row has its own weight
            row = [None if array is None else array[i : i + 1] for array in given]
            sums[...] = 0
            assert c("accumulate", c.plan, c.workspace, expected, X[i:], 1, *row, weight[i:], sums, total) == 0
            descent.step(expected, sums)
        assert c("sgd_rows", c.plan, c.workspace, found, X, 40, *given, weight, 0.01, total) == 0
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", [1, 5, 6, 300, 1000])
def test_functions_sum_as_a_call_from_python(dtype, rows, rng):
    """To the last bit, where the rows are one chunk: beyond it, Python's sums are of float64."""
    net = bpcore.Network([5, 33, 20, 3], "silu", "cross_entropy", dtype=dtype)
    assert rows <= net._plan.chunk_rows
    c, (params, X, Y) = Embedded(net), data(net, rows, rng)
    sums, total, cost = np.zeros_like(params), np.zeros(1), np.zeros(1)
    assert c("accumulate", c.plan, c.workspace, params, X, rows, Y, None, None, sums, total) == 0
    assert c("finish", c.plan, params, sums, total[0], float(rows), 0.25, sums, cost) == 0
    expected = net.cost_and_gradient(params, X, Y, 0.25)
    assert cost[0] == expected[0]
    np.testing.assert_array_equal(sums, expected[1])


def test_functions_share_a_plan_among_threads(dtype, rng):
    net = bpcore.Network([5, 33, 20, 3], "silu", "squared_error", dtype=dtype)
    c, (params, X, Y) = Embedded(net), data(net, 900, rng)
    results = []

    def work():
        workspace, sums, total = np.empty_like(c.workspace), np.zeros_like(params), np.zeros(1)
        for first in range(0, 900, 30):
            block = slice(first, first + 30)
            error = c("accumulate", c.plan, workspace, params, X[block], 30, Y[block], None, None, sums, total)
            assert error == 0
        results.append((total[0], sums))

    work()
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 17
    for total, sums in results:
        assert total == results[0][0]
        np.testing.assert_array_equal(sums, results[0][1])


# --------------------------------------------------------------------------------- subnormal numbers, and the mode


def test_functions_take_subnormal_numbers_for_zero(dtype):
    """Each times a number so large that it would count."""
    flushes = dispatch.core.FLUSHES_SUBNORMALS
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([3, 2], output="identity", loss="squared_error", dtype=dtype)
    c = Embedded(net)
    for rows in (1, 9):
        small, large = np.full((rows, 3), tiny / 4, dtype), np.full((rows, 3), 0.1 / (tiny / 4), dtype)
        params, zeros = np.full(8, 0.1 / (tiny / 4), dtype), np.zeros((rows, 2), dtype)
        params[6:] = 0
        out, sums, loss = np.empty((rows, 2), dtype), np.zeros(8, dtype), np.zeros(1)
        assert c("forward", c.plan, c.workspace, params, small, rows, out) == 0
        assert (out == 0).all() == flushes
        assert c("accumulate", c.plan, c.workspace, params, small, rows, zeros, None, None, sums, loss) == 0
        assert (loss[0] == 0) == flushes
        assert (sums == 0).all() == flushes
        sums[...], gradients = 0, np.full((rows, 2), tiny / 4, dtype)
        inputs = np.empty_like(large)
        assert c("backward", c.plan, c.workspace, params, large, rows, gradients, sums, inputs) == 0
        assert (sums == 0).all() == flushes
        assert (inputs == 0).all() == flushes
        changed, loss[0] = np.full(8, tiny / 4, dtype), 0
        changed[6:] = 0
        assert c("sgd_rows", c.plan, c.workspace, changed, large, rows, zeros, None, None, 0.0, loss) == 0
        assert (loss[0] == 0) == flushes


def test_functions_return_no_subnormal_number(dtype):
    flushes = dispatch.core.FLUSHES_SUBNORMALS
    tiny = np.finfo(dtype).tiny
    net = bpcore.Network([3, 2], output="identity", loss="squared_error", dtype=dtype)
    c, params, sums = Embedded(net), np.ones(8, dtype), np.full(8, tiny * 1.5, dtype)
    gradient, cost = np.ones(8, dtype), np.ones(1)
    assert c("finish", c.plan, params, sums, np.finfo(np.float64).tiny, 2.0, 0.0, gradient, cost) == 0
    assert (gradient == 0).all() == flushes
    assert (cost[0] == 0) == flushes
    for velocity in (None, np.zeros(8, dtype)):
        params[...] = tiny * 1.5
        full = np.full(8, tiny, dtype)
        assert c("gradient_descent", 8, params, full, velocity, 1.0, 0.0 if velocity is None else 0.5, 0) == 0
        assert (params == 0).all() == flushes
    moments = [np.full(8, tiny, dtype) for _ in range(2)]
    assert c("adam", 8, np.ones(8, dtype), np.zeros(8, dtype), *moments, 0.1, 0.5, 0.5, 1e-8, 1) == 0
    assert (np.array(moments) == 0).all() == flushes
    params[...], loss = tiny * 1.5, np.zeros(1)
    X, Y = np.full((1, 3), 1, dtype), np.full((1, 2), 5.5 * tiny, dtype)  # delta is tiny
    assert c("sgd_rows", c.plan, c.workspace, params, X, 1, Y, None, None, 1.0, loss) == 0
    assert ((params == 0) | (np.abs(params) >= tiny)).all() or not flushes


def test_functions_refuse_a_subnormal_weight(dtype):
    net = bpcore.Network([3, 2], output="identity", loss="squared_error", dtype=dtype)
    c, params, gradient, cost = Embedded(net), np.ones(8, dtype), np.ones(8, dtype), np.ones(1)
    tiny = float(np.finfo(np.float64).tiny)
    assert c("finish", c.plan, params, params, 1.0, tiny, 0.0, gradient, cost) == 0
    assert c("finish", c.plan, params, params, 1.0, tiny / 2, 0.0, gradient, cost) == NUMBER["err_sample_weight"]


if READS_FLOAT_MODE:

    def test_functions_leave_the_mode_alone(dtype, rng):
        """That of the caller rounds otherwise and traps; nothing in the loops does, and neither shows in the flags."""
        net = bpcore.Network([3, 20, 2], "tanh", "squared_error", dtype=dtype)
        c, rows = Embedded(net), 9
        params, X, Y = data(net, rows, rng)
        n, huge, far = params.size, *(np.full((rows, columns), np.finfo(dtype).max, dtype) for columns in (3, 2))
        out, zeros, sums, loss = np.empty((rows, 2), dtype), np.zeros((rows, 2), dtype), np.zeros(n, dtype), np.zeros(1)
        moments = np.zeros((2, n), dtype)
        plan, work, none = c.plan, c.workspace, None
        calls = {
            "forward": ("forward", plan, work, params, X, rows, out),
            "forward, overflow": ("forward", plan, work, params, huge, rows, out),
            "forward, an error": ("forward", plan, work, params, X, -1, out),
            "accumulate": ("accumulate", plan, work, params, X, rows, Y, none, none, sums, loss),
            "accumulate, overflow": ("accumulate", plan, work, params, X, rows, far, none, none, sums, loss),
            "accumulate, an error": ("accumulate", plan, work, params, X, rows, none, none, none, sums, loss),
            "finish": ("finish", plan, params, params, 1.0, 3.0, 0.1, sums, loss),
            "finish, an error": ("finish", plan, params, params, 1.0, 0.0, 0.1, sums, loss),
            "backward": ("backward", plan, work, params, X, rows, Y, sums, none),
            "gradient_descent": ("gradient_descent", n, params, sums, none, 0.1, 0.0, 0),
            "gradient_descent, an error": ("gradient_descent", n, params, sums, none, 0.1, 2.0, 0),
            "adam": ("adam", n, params, sums, *moments, 0.1, 0.9, 0.99, 1e-8, 1),
            "adam, an error": ("adam", n, params, sums, *moments, 0.1, 0.9, 1.0, 1e-8, 1),
            "sgd_rows": ("sgd_rows", plan, work, params, X, rows, zeros, none, none, 0.1, loss),
            "sgd_rows, an error": ("sgd_rows", plan, work, params, X, rows, zeros, none, none, -0.1, loss),
        }
        changed = (params, out, sums, loss, moments)
        start = [array.copy() for array in changed]
        for name, call in calls.items():
            found = []
            for unusual in (False, True):
                for array, numbers in zip(changed, start):
                    array[...] = numbers
                with unusual_float_mode(traps=True) if unusual else contextlib.nullcontext():
                    before = float_mode()
                    error = c(*call)
                    after = float_mode()
                assert after == before, name
                assert (error != 0) == name.endswith("an error"), name
                found.append([array.tobytes() for array in changed])
            assert found[0] == found[1], name

    if platform.machine() == "x86_64":

        def test_functions_leave_the_flags_alone(dtype):
            """The loops overflow, and so on; the caller's flags say nothing of it."""
            net = bpcore.Network([3, 20, 2], "tanh", "squared_error", dtype=dtype)
            c = Embedded(net)
            params, X = np.full(net.n_parameters, 0.1, dtype), np.full((9, 3), np.finfo(dtype).max, dtype)
            out, sums = np.empty((9, 2), dtype), np.zeros_like(params)
            where = [a.ctypes.data for a in (c.plan, c.workspace, params, X, out, sums)]
            forward, descent = (CALL[f"{name}_{c.suffix}"] for name in ("forward", "gradient_descent"))
            clear = ctypes.CDLL(None).feclearexcept
            clear(0x3D)
            forward(*where[:4], 9, where[4])
            descent(sums.size, where[2], where[5], 0, 0.1, 0.0, 0)
            assert float_flags() == 0
