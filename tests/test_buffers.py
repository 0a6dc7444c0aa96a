"""Arrays of other libraries: memory that is used where it is, for inputs, for ``out`` and for what a step changes."""

from __future__ import annotations

import array
import importlib.util

import numpy as np
import pytest
from helpers import make_parameters

import bpcore
from bpcore import _validation

pytestmark = pytest.mark.usefixtures("backend")


class Dlpack:
    """A tensor of another library, which exposes its memory by DLPack alone."""

    def __init__(self, memory, device=(1, 0)):
        self.memory, self.device = memory, device

    def __dlpack__(self, **options):
        return self.memory.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device


class ByArray:
    """One that exposes its memory by ``__array__``."""

    def __init__(self, memory):
        self.memory = memory

    def __array__(self, dtype=None, copy=None):
        return self.memory if dtype is None else self.memory.astype(dtype)


class Copies(ByArray):
    """One whose ``__array__`` makes a copy each time."""

    def __array__(self, dtype=None, copy=None):
        return self.memory.copy()


class NeedsGrad(Dlpack):
    """As a PyTorch tensor that requires grad."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("can't call numpy() on a tensor that requires grad")

    def __dlpack__(self, **options):
        raise BufferError("can't export a tensor that requires grad")


class OnDevice(ByArray):
    """A tensor in the memory of a GPU, whose ``__array__`` would copy it from there."""

    def __dlpack__(self, **options):
        raise BufferError("not in the CPU's memory")

    def __dlpack_device__(self):
        return 2, 0


class OfPieces(ByArray):
    """As JAX's arrays on several devices: there is no one device, but an ``__array__``."""

    def __dlpack__(self, **options):
        raise BufferError("in pieces")

    def __dlpack_device__(self):
        raise BufferError("in pieces")


#: Each makes an object of another kind from a NumPy array, whose memory it shares.
KINDS = {
    "memoryview": memoryview,
    "__array__": ByArray,
    "DLPack": Dlpack,
    "a subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
}
# The libraries themselves, where they are; those above behave as they do.
if importlib.util.find_spec("torch"):
    KINDS["PyTorch"] = importlib.import_module("torch").from_numpy
if importlib.util.find_spec("pyarrow"):
    KINDS["Arrow"] = importlib.import_module("pyarrow").Tensor.from_numpy


#: Those that can be filled: an older NumPy's arrays of DLPack are read-only.
IN_PLACE = [kind for kind in KINDS if kind != "DLPack" or np.from_dlpack(Dlpack(np.zeros(1))).flags.writeable]


def numbers(dtype):
    return array.array("f" if dtype == "float32" else "d")


@pytest.fixture
def net(dtype):
    return bpcore.Network([4, 5, 3], "tanh", dtype=dtype)


@pytest.fixture
def data(net, rng):
    shapes = {"X": (10, 4), "Y": (10, 3)}
    return {"params": make_parameters(net, rng)} | {k: rng.normal(size=s).astype(net.dtype) for k, s in shapes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_other_kinds(net, data, kind, rng):
    weights = rng.uniform(size=10).astype(net.dtype)
    expected = net.cost_and_gradient(**data, sample_weight=weights)
    other = {name: KINDS[kind](value) for name, value in data.items()}
    cost, grad = net.cost_and_gradient(**other, sample_weight=KINDS[kind](weights))
    assert cost == expected[0]
    np.testing.assert_array_equal(grad, expected[1])
    assert type(grad) is np.ndarray
    assert net.cost(**other) == net.cost(**data)
    np.testing.assert_array_equal(net.forward(other["params"], other["X"]), net.forward(data["params"], data["X"]))
    trace = net.trace(other["params"], other["X"])
    np.testing.assert_array_equal(trace.backward(other["Y"]), net.trace(data["params"], data["X"]).backward(data["Y"]))
    accumulator = net.accumulator()
    accumulator.add(**other)
    np.testing.assert_array_equal(
        accumulator.finish(other["params"])[1], accumulator.finish(data["params"])[1], strict=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_fits_is_not_copied(net, data, kind):
    for name, value in data.items():
        assert np.shares_memory(_validation.real_array(name, KINDS[kind](value)), value)
        assert np.shares_memory(_validation.view(name, KINDS[kind](value)), value)
    flat = numbers(net.dtype)
    flat.extend(data["params"])
    assert np.shares_memory(
        _validation.check_vector("params", flat, len(flat), net.dtype), np.frombuffer(flat, net.dtype)
    )


@pytest.mark.parametrize("kind", IN_PLACE)
def test_out_of_other_kinds(net, data, kind):
    cost, expected = net.cost_and_gradient(**data, l2=0.1)
    accumulator = net.accumulator()
    accumulator.add(**data)
    for call in (
        lambda out: net.cost_and_gradient(**data, l2=0.1, out=out),
        lambda out: accumulator.finish(data["params"], 0.1, out=out),
    ):
        memory = np.full(net.n_parameters, np.nan, net.dtype)
        out = KINDS[kind](memory)
        found_cost, found = call(out)
        assert found is out
        assert found_cost == cost
        np.testing.assert_array_equal(memory, expected)
    memory = np.full((10, 3), np.nan, net.dtype)
    out = KINDS[kind](memory)
    assert net.forward(data["params"], data["X"], out=out) is out
    np.testing.assert_array_equal(memory, net.forward(data["params"], data["X"]))


def test_the_standard_library_s_array(net, data):
    cost, expected = net.cost_and_gradient(**data)
    out, params = numbers(net.dtype), numbers(net.dtype)
    out.extend([7.0] * net.n_parameters)
    params.extend(data["params"])
    assert net.cost_and_gradient(params, data["X"], data["Y"], out=out) == (cost, out)
    np.testing.assert_array_equal(out, expected)
    labels = array.array("q", [0, 1, 2, 1])
    classes = bpcore.Network([4, 3], loss="cross_entropy", dtype=net.dtype)
    theta = classes.initialize(0)
    assert classes.cost(theta, data["X"][:4], labels) == classes.cost(theta, data["X"][:4], list(labels))


@pytest.mark.parametrize("kind", [*IN_PLACE, "array.array"])
@pytest.mark.parametrize("make", [lambda: bpcore.GradientDescent(0.1, momentum=0.9), bpcore.Adam])
def test_steps_change_parameters_in_place(net, data, kind, make, rng):
    grad = rng.normal(size=net.n_parameters).astype(net.dtype)
    expected, one, other = data["params"].copy(), make(), make()
    if kind == "array.array":
        given, gradient = numbers(net.dtype), numbers(net.dtype)
        given.extend(data["params"])
        gradient.extend(grad)
        memory = np.frombuffer(given, net.dtype)
    else:
        memory = data["params"].copy()
        given, gradient = KINDS[kind](memory), KINDS[kind](grad)
    for _ in range(3):
        one.step(expected, grad)
        other.step(given, gradient)
    np.testing.assert_array_equal(memory, expected)
    assert not np.array_equal(memory, data["params"])


@pytest.mark.parametrize("kind", IN_PLACE)
def test_training_changes_parameters_in_place(net, data, kind):
    expected, memory = data["params"].copy(), data["params"].copy()
    options = {"epochs": 3, "batch_size": 4}
    bpcore.train(net, expected, data["X"], data["Y"], **options)
    history = bpcore.train(net, *(KINDS[kind](a) for a in (memory, data["X"], data["Y"])), **options)
    assert history.epochs == 3
    np.testing.assert_array_equal(memory, expected)
    assert not np.array_equal(memory, data["params"])


def test_layers_of_other_kinds_are_views(net, data):
    for kind in IN_PLACE:
        memory = data["params"].copy()
        net.layers(KINDS[kind](memory))[0].weights[...] = 0
        assert not memory[:20].any()


@pytest.mark.parametrize("kind", [NeedsGrad, OnDevice, lambda a: Dlpack(a, (2, 0))])
@pytest.mark.parametrize("name", ["params", "X", "Y", "sample_weight", "out"])
def test_memory_that_is_not_to_be_had(net, data, name, kind):
    arguments = {**data, "sample_weight": np.ones(10, net.dtype), "out": np.zeros_like(data["params"])}
    arguments[name] = kind(arguments[name])
    with pytest.raises(TypeError, match=rf"^{name} .*(requires grad|must be on the CPU)"):
        net.cost_and_gradient(**arguments)
    assert not getattr(arguments["out"], "memory", arguments["out"]).any()


@pytest.mark.parametrize("kind", [NeedsGrad, OnDevice, Copies])
def test_parameters_that_cannot_be_changed(net, data, kind):
    before = data["params"].copy()
    grad = np.ones_like(before)
    for call in (
        lambda params: bpcore.Adam().step(params, grad),
        lambda params: bpcore.train(net, params, data["X"], data["Y"], epochs=1),
        net.layers,
    ):
        with pytest.raises(TypeError, match="^params .*(requires grad|must be on the CPU|a copy)"):
            call(kind(data["params"]))
    with pytest.raises(TypeError, match="^grad "):
        bpcore.Adam().step(data["params"], NeedsGrad(grad))
    np.testing.assert_array_equal(data["params"], before)


def test_out_that_cannot_be_filled(net, data):
    good = np.zeros(net.n_parameters, net.dtype)
    frozen = good.copy()
    frozen.flags.writeable = False
    for bad, error, message in (
        (memoryview(frozen), ValueError, "out must be writable, got a read-only array"),
        (ByArray(frozen), ValueError, "out must be writable, got a read-only array"),
        (memoryview(good).toreadonly(), ValueError, "out must be writable, got a read-only array"),
        (bytes(good.nbytes), (TypeError, ValueError), "^out "),
        (bytearray(good.nbytes), ValueError, "out must have dtype float(32|64), got uint8"),
        (Copies(good), TypeError, "out must expose its memory, got a Copies whose __array__ returns a copy"),
        (memoryview(np.zeros(2 * len(good), net.dtype)[::2]), ValueError, "out must be C-contiguous"),
        (Dlpack(good[:-1]), ValueError, "out must have shape"),
        (ByArray(good.astype(good.dtype.newbyteorder())), ValueError, "out must have dtype float(32|64), got [<>]f"),
        (ByArray, TypeError, "out must be a NumPy array.*, got type"),
        (good.tolist(), TypeError, "out must be a NumPy array.*, got list"),
        (memoryview(data["params"]), ValueError, "out must not share memory with an input"),
        (ByArray(data["params"]), ValueError, "out must not share memory with an input"),
    ):
        with pytest.raises(error, match=message):
            net.cost_and_gradient(**data, out=bad)
        with pytest.raises((TypeError, ValueError)):
            net.forward(data["params"], data["X"], out=bad)
    assert not good.any()
    with pytest.raises(ValueError, match="grad must not share memory with params"):
        bpcore.Adam().step(data["params"], memoryview(data["params"]))


def test_arrays_in_pieces_are_put_together(net, data):
    np.testing.assert_array_equal(
        net.forward(OfPieces(data["params"]), OfPieces(data["X"])), net.forward(data["params"], data["X"])
    )
