"""What several files of tests use: data, all results of a network, how results are compared."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator

import numpy as np
import pytest

from bpcore import _dispatch as dispatch
from bpcore.architecture import CANONICAL_OUTPUT, FROM_LOGITS, OUTPUTS

__all__ = ["dispatch"]

#: A build without a compiled core, which the environment must announce.
PURE = os.environ.get("BPCORE_TEST_PURE", "0") == "1"

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

#: Every loss with its canonical output, and those that take others with one that saturates and with one whose outputs
#: depend on one another; squared_error with all. The hunt draws from all there are.
COMBINATIONS = [
    (loss, output)
    for loss in CANONICAL_OUTPUT
    for output in OUTPUTS
    if output == CANONICAL_OUTPUT[loss]
    or (loss not in FROM_LOGITS and (loss == "squared_error" or output in ("softmax", "tanh")))
]

#: Losses that are finite for every finite logit: the others have an exponential that overflows.
FINITE = [loss for loss in CANONICAL_OUTPUT if loss not in ("poisson", "gamma", "tweedie", "gaussian_nll")]


def outputs_for(loss: str, n: int) -> int:
    """About n outputs, as many as the loss takes: those of gaussian_nll are in pairs."""
    return n + n % 2 if loss == "gaussian_nll" else n


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


def make_data(sizes, loss, dtype, rows, rng):
    """Inputs, targets that suit the loss, and sample weights with some zeros."""
    X = rng.normal(size=(rows, sizes[0])).astype(dtype)
    Y = rng.normal(size=(rows, sizes[-1])).astype(dtype)
    if loss == "gaussian_nll":
        Y = Y[:, ::2].copy()
    if loss in ("binary_cross_entropy", "cross_entropy", "focal"):
        Y = rng.uniform(size=Y.shape).astype(dtype)
    if loss in ("hinge", "squared_hinge"):
        Y = np.sign(Y)
    if loss in ("poisson", "tweedie"):
        Y = rng.poisson(2.0, size=Y.shape).astype(dtype)
    if loss == "gamma":
        Y = rng.gamma(2.0, size=Y.shape).astype(dtype)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], rows).astype(dtype)
    weights[0] = 1
    return X, Y, weights


def make_parameters(net, rng):
    """Initial weights, and biases that are not 0."""
    params = net.initialize(rng)
    for layer in net.layers(params):
        layer.bias[...] = rng.normal(scale=0.3, size=layer.bias.shape)
    return params


def all_results(net, params, X, Y, weights=None, l2=0.0, dA=None):
    """What all public computations return, in one list."""
    results = [net.forward(params, X), net.cost(params, X, Y, l2, weights)]
    results += net.cost_and_gradient(params, X, Y, l2, weights)
    accumulator = net.accumulator()
    accumulator.add(params, X, Y, weights)
    results += [accumulator.buffer.copy(), *accumulator.finish(params, l2)]
    trace = net.trace(params, X)
    results += trace.activations
    results += trace.backward(results[0] if dA is None else dA, input_gradient=True)
    return results


def array_variants(X, tmp_path):
    """The same numbers in every layout and dtype that may come."""
    file = tmp_path / str(len(list(tmp_path.iterdir())))  # a new one: Windows keeps mapped files from being overwritten
    mapped = np.memmap(file, dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[...] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((X.shape[0] * 2, X.shape[1] * 3), X.dtype)
    wide[::2, 1::3] = X
    unaligned = np.frombuffer(b"x" + X.tobytes(), X.dtype, offset=1).reshape(X.shape)
    return {
        "Fortran": np.asfortranarray(X),
        "strided": wide[::2, 1::3],
        "reversed": X[::-1, ::-1].copy()[::-1, ::-1],
        "read-only": read_only,
        "memory map": mapped,
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "unaligned": unaligned,
        "longdouble": X.astype(np.longdouble),
        "list": X.tolist(),
        "transposed": X.T.copy().T,
        "matrix": X.view(),
    }


# ---------------------------------------------------------------------------------- how the processor computes

#: Whether `float_mode` can read it: the place of the control register in what fegetenv stores is that of Linux.
READS_FLOAT_MODE = sys.platform == "linux" and sys.maxsize > 2**32 and platform.machine() in ("x86_64", "aarch64")
#: FE_UPWARD, and FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW, of <fenv.h> there.
UPWARD, ERRORS_THAT_TRAP = (0x800, 0x0D) if platform.machine() == "x86_64" else (0x400000, 0x07)


def float_environment() -> bytes:
    """What fegetenv stores of this thread."""
    stored = ctypes.create_string_buffer(64)
    assert ctypes.CDLL(None).fegetenv(stored) == 0
    return stored.raw


def float_mode() -> int:
    """How this thread computes: rounding, subnormal numbers, traps, by the bits of MXCSR or FPCR; not its flags."""
    if platform.machine() == "x86_64":
        return int.from_bytes(float_environment()[28:32], "little") & ~0x3F
    return int.from_bytes(float_environment()[:4], "little")


def float_flags() -> int:
    """The flags of MXCSR: what happened since feclearexcept cleared them, which leaves that of subnormal numbers."""
    return int.from_bytes(float_environment()[28:32], "little") & 0x3D


@contextlib.contextmanager
def unusual_float_mode(traps: bool = False) -> Iterator[None]:
    """Round upward; with ``traps``, where the C library has them, let errors trap: NumPy must not compute then."""
    c, before = ctypes.CDLL(None), float_environment()
    try:
        assert c.fesetround(UPWARD) == 0
        if traps and hasattr(c, "feenableexcept"):
            c.feenableexcept(ERRORS_THAT_TRAP)
        yield
    finally:
        c.fesetenv(before)
