"""Training on data of every kind: the same bits, and the steps in the backend."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import bpcore
from bpcore import _chunks, _validation, training

pytestmark = pytest.mark.usefixtures("backend")

OPTIMIZERS = {
    "descent": (bpcore.GradientDescent, {"learning_rate": 0.05}),
    "momentum": (bpcore.GradientDescent, {"learning_rate": 0.05, "momentum": 0.9}),
    "Nesterov": (bpcore.GradientDescent, {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    "schedule": (bpcore.GradientDescent, {"learning_rate": lambda step: 0.1 / (1 + step)}),
    "Adam": (bpcore.Adam, {"learning_rate": 0.01}),
}
WEIGHTED = ["", "rows", "outputs"]
#: Where the steps are taken: in the backend, from arrays that were converted once, or some batches at a time (two, or
#: one); or outside.
ROUTES = {"once": {}, "blocks": {"bytes": 700}, "single batches": {"bytes": 1}, "outside": {}}


def trained(net, X, Y, kind, route, monkeypatch, **options):
    """The bits of the parameters and of the costs after a short run, which must have taken that route."""
    params, (cls, arguments), used = net.initialize(0), OPTIMIZERS[kind], []
    optimizer = type("Own", (cls,), {})(**arguments) if route == "outside" else cls(**arguments)
    blocks, outside = training._Trainer._blocks, training._Trainer._cost_and_gradient

    def count_blocks(self, *arguments):
        for block, order in blocks(self, *arguments):
            used.append(len(block.X))
            yield block, order

    def count_outside(self, batch):
        used.append("outside")
        return outside(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "_blocks", count_blocks)
        patch.setattr(training._Trainer, "_cost_and_gradient", count_outside)
        if "bytes" in ROUTES[route]:
            patch.setattr(training, "MAX_CONVERTED_BYTES", -1)
            patch.setattr(_chunks, "BLOCK_BYTES", ROUTES[route]["bytes"])
        options = {"epochs": 2, "batch_size": 8, "l2": 0.01} | options
        history = bpcore.train(net, params, X, Y, optimizer=optimizer, **options)
    if route == "outside":
        assert set(used) == {"outside"}
    elif route == "once":
        assert used == [len(X)] * 2
    elif route == "single batches" and not all_native(net, X, Y, options.get("sample_weight")):
        assert set(used) == {8, 43 % 8}
    return params.tobytes(), history.cost, history.learning_rate


def all_native(net, X, Y, weights):
    batch, _ = _validation.check_batch(net, X, Y, weights)
    return training._is_native(batch, net.dtype)


def kinds_of_data(X, Y, weights, tmp_path):
    """The same numbers, which float32 holds, in other dtypes and layouts."""
    yield X.astype("float32"), Y.astype("float32"), weights.astype("float32")
    yield X.astype("float64"), Y.astype("float64"), weights.astype("float64")
    yield np.asfortranarray(X), np.asfortranarray(Y), np.repeat(weights, 2, axis=0)[::2]
    yield X.tolist(), Y.tolist(), weights.tolist()
    yield X.astype(">f4"), Y[::-1].copy()[::-1], weights.astype(">f8")
    np.save(tmp_path / "X.npy", X.astype("float32"))
    np.save(tmp_path / "Y.npy", Y.astype("float64"))
    yield *(np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "Y.npy")), weights
    yield X, Y.astype("float32"), weights


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_same_bits_for_every_kind_of_data(dtype, kind, weighted, route, tmp_path, monkeypatch, rng):
    """Half of the cases are shuffled: both with every two of the other parameters."""
    shuffle = ([*OPTIMIZERS].index(kind) + WEIGHTED.index(weighted) + [*ROUTES].index(route)) % 2 == 0
    net = bpcore.Network([4, 5, 3], "tanh", dtype=dtype)
    X, Y = (rng.normal(size=(43, n)).astype("float32").astype(dtype) for n in (4, 3))
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], (43, 3) if weighted == "outputs" else 43).astype(dtype)

    def run(x, y, w, route):
        options = {"sample_weight": w} if weighted else {}
        return trained(net, x, y, kind, route, monkeypatch, shuffle=shuffle, **options)

    expected = run(X, Y, weights, "once")
    for data in kinds_of_data(X, Y, weights, tmp_path):
        assert run(*data, route) == expected


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_for_every_kind_of_labels(dtype, weighted, shuffle, route, monkeypatch, rng):
    net = bpcore.Network([4, 5, 3], "relu", "cross_entropy", dtype=dtype)
    X, labels = rng.normal(size=(43, 4)).astype(dtype), rng.integers(0, 3, 43)
    options = {"sample_weight": np.linspace(0.5, 1.5, 43).astype(dtype)} if weighted else {}
    expected = trained(net, X, labels, "Adam", "once", monkeypatch, shuffle=shuffle, **options)
    kinds = [labels.astype(kind) for kind in ("int32", "uint8", "uint64", ">i8")]
    for other in (*kinds, labels.tolist(), np.repeat(labels, 2)[::2]):
        assert trained(net, X, other, "Adam", route, monkeypatch, shuffle=shuffle, **options) == expected
    ones = np.eye(3, dtype=dtype)[labels]
    expected = trained(net, X, ones, "Adam", "once", monkeypatch, shuffle=shuffle, **options)
    for other in (ones.astype("int32"), ones.astype(bool), np.asfortranarray(ones)):
        assert trained(net, X, other, "Adam", route, monkeypatch, shuffle=shuffle, **options) == expected


def test_a_large_memory_map_is_not_copied(dtype, tmp_path, monkeypatch, rng):
    monkeypatch.setattr(_validation, "MIN_DROP_BYTES", 1)
    other = np.dtype("float32" if dtype == "float64" else "float64")
    net = bpcore.Network([4, 5, 3], dtype=dtype)
    X, Y = (rng.normal(size=(43, n)).astype("float32") for n in (4, 3))
    np.save(tmp_path / "X.npy", X.astype(other))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    batch = _validation.Batch(mapped, Y.astype(dtype), None)
    copied = training._converted(batch, net.dtype).X is not mapped
    assert copied == (not _validation.is_large_map(mapped))  # where the system cannot drop pages it is as others are
    expected = trained(net, X.astype(dtype), Y.astype(dtype), "Adam", "once", monkeypatch)
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 700)
    params = net.initialize(0)
    history = bpcore.train(net, params, mapped, Y, optimizer=bpcore.Adam(0.01), epochs=2, batch_size=8, l2=0.01)
    assert (params.tobytes(), history.cost) == expected[:2]


def test_copies_are_made_up_to_a_size(monkeypatch):
    """Of all arrays together, counting those that are copied alone."""
    X, Y, weights = np.ones((10, 4), "float32"), np.ones((10, 2)), np.ones(10, "float32")
    batch = _validation.Batch(X, Y, weights)
    for size, converted in ((400, True), (399, False)):
        monkeypatch.setattr(training, "MAX_CONVERTED_BYTES", size)
        found = training._converted(batch, np.dtype("float64"))
        assert (found.X.dtype == "float64") == (found.sample_weight.dtype == "float64") == converted
        assert np.shares_memory(found.Y, Y)
        assert (found is batch) != converted


@pytest.mark.parametrize("shuffle", [True, False])
def test_memory_beyond_that_is_a_block(shuffle, monkeypatch):
    monkeypatch.setattr(training, "MAX_CONVERTED_BYTES", 1 << 20)
    X, Y = np.ones((200_000, 16), "float32"), np.ones((200_000, 1), "float32")
    net = bpcore.Network([16, 1])
    options = {"epochs": 1, "batch_size": 512, "shuffle": shuffle, "threads": 1}
    tracemalloc.start()
    try:
        bpcore.train(net, np.zeros(17), X, Y, optimizer=bpcore.GradientDescent(1e-3), **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * _chunks.BLOCK_BYTES < 2 * X.nbytes


@pytest.mark.parametrize("size", [1 << 28, -1])
@pytest.mark.parametrize("bad", [3, 20, 41])
def test_divergence_names_the_step(bad, size, monkeypatch):
    """Counted from the first row of the epoch, in whatever block it is."""
    monkeypatch.setattr(training, "MAX_CONVERTED_BYTES", size)
    monkeypatch.setattr(_chunks, "BLOCK_BYTES", 700)
    X, Y = np.ones((43, 4), "float32"), np.ones((43, 3))
    X[bad] = np.nan
    net = bpcore.Network([4, 3])
    params = net.initialize(0)
    with pytest.raises(FloatingPointError, match=f"the cost is nan at epoch 1, step {bad // 8 + 1};"):
        bpcore.train(net, params, X, Y, batch_size=8, shuffle=False)
    assert np.isfinite(params).all()


def test_the_data_are_those_of_the_beginning():
    """If they are converted; arrays that are read in place may be changed by a callback, for the next epoch."""
    net, Y = bpcore.Network([2, 1]), np.ones((10, 1))
    for X, changed in ((np.ones((10, 2), "float32"), False), (np.ones((10, 2)), True)):
        options = {"epochs": 2, "optimizer": bpcore.GradientDescent(1e-9)}
        history = bpcore.train(net, np.zeros(3), X, Y, callback=lambda *_, X=X: X.fill(1e10), **options)
        assert (history.cost[1] > 1) == changed


def test_params_that_share_memory_with_weights():
    memory = np.ones(20)
    for weights in (memory[2:7], memory[:10:2]):
        with pytest.raises(ValueError, match="params must not share memory with sample_weight"):
            bpcore.train(bpcore.Network([2, 1]), memory[:3], np.ones((5, 2)), np.ones(5), sample_weight=weights)
