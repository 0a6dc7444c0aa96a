"""Training: the same as a plain loop, and what a run needs besides."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from helpers import SLOWNESS, dispatch

import bpcore

pytestmark = pytest.mark.usefixtures("backend")

OPTIMIZERS = {
    "plain": lambda: bpcore.GradientDescent(0.1),
    "momentum": lambda: bpcore.GradientDescent(0.05, momentum=0.9),
    "nesterov": lambda: bpcore.GradientDescent(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: bpcore.Adam(0.01),
    "schedule": lambda: bpcore.GradientDescent(lambda step: 0.2 / (1 + step)),
}


def problem(dtype="float64", rows=43, seed=1):
    """A small regression: network, parameters, inputs, targets."""
    rng = np.random.default_rng(seed)
    net = bpcore.Network([3, 6, 2], hidden="tanh", dtype=dtype)
    X = rng.normal(size=(rows, 3)).astype(dtype)
    Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]]).astype(dtype)
    return net, net.initialize(seed), X, Y


def plain_loop(net, params, X, Y, optimizer, epochs, batch_size=32, seed=0, shuffle=True, l2=0.0, weights=None):
    """Gradient descent over batches as anybody would write it; the parameters after it, and the cost of each epoch."""
    params, generator, costs = params.copy(), np.random.default_rng(seed), []
    for _ in range(epochs):
        order = generator.permutation(len(X)) if shuffle else np.arange(len(X))
        total = 0.0
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            if weights is None:
                cost, grad = net.cost_and_gradient(params, X[rows], Y[rows], l2=l2)
            else:  # the mean over the batch's rows of what each contributes to the weighted cost of all
                sums = net.accumulator()
                sums.add(params, X[rows], Y[rows], weights[rows])
                sums.buffer[1] = len(rows) * (weights.sum() / len(X))
                cost, grad = sums.finish(params, l2=l2)
            optimizer.step(params, grad)
            total += len(rows) * cost
        costs.append(total / len(X))
    return params, costs


class Script:
    """An optimizer that sets a network of one weight to a script: no weight, and a bias for each step."""

    def __init__(self, *costs):
        self.script = iter(costs)

    def step(self, params, grad):
        """With X = 0 and Y = 0 the cost is b^2 / 2, so this makes it the next of the script."""
        params[:] = 0, math.sqrt(2 * next(self.script))

    def reset(self):
        """There is nothing to forget."""


ZERO = np.zeros((1, 1))


def scripted(*costs, **options):
    """A training whose validation costs are those given; its history, and the cost of the parameters left."""
    net = bpcore.Network([1, 1])
    params = np.zeros(2)
    options = {"validation_data": (ZERO, ZERO), "epochs": len(costs)} | options
    history = bpcore.train(net, params, ZERO, ZERO, optimizer=Script(*costs), **options)
    np.testing.assert_allclose(history.validation_cost, costs[: history.epochs], rtol=1e-14)
    return history, params[1] ** 2 / 2


# ------------------------------------------------------------------------------------------------ the loop itself


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_it_reduces_the_cost(dtype, kind):
    net, params, X, Y = problem(dtype)
    before = net.cost(params, X, Y)
    history = bpcore.train(net, params, X, Y, optimizer=OPTIMIZERS[kind](), epochs=30, batch_size=8)
    assert net.cost(params, X, Y) < 0.9 * before
    assert history.cost[-1] < history.cost[0]


def test_it_learns_to_tell_classes_apart(dtype):
    """Three clouds of points, classified without a mistake, and the outputs are probabilities of them."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    X = rng.normal(size=(90, 2)) * 0.2 + np.array([[0, 2], [2, 0], [-2, -2]])[labels]
    net = bpcore.Network([2, 8, 3], hidden="relu", loss="cross_entropy", dtype=dtype)
    params = net.initialize(0)
    bpcore.train(net, params, X, labels, optimizer=bpcore.Adam(0.02), epochs=30)
    np.testing.assert_array_equal(np.argmax(net.forward(params, X), axis=1), labels)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8, 43, 100])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_it_is_a_plain_loop(dtype, kind, batch_size, shuffle):
    """To the last bit, with a last batch that is smaller, with the rows of each epoch in the order of the seed.

    A single batch of all rows may be taken in any order: its gradient is the same but for rounding.
    """
    net, start, X, Y = problem(dtype)
    expected, costs = plain_loop(net, start, X, Y, OPTIMIZERS[kind](), 4, batch_size, 7, shuffle, l2=0.01)
    params = start.copy()
    options = {"epochs": 4, "batch_size": batch_size, "seed": 7, "shuffle": shuffle, "l2": 0.01}
    history = bpcore.train(net, params, X, Y, optimizer=OPTIMIZERS[kind](), **options)
    if shuffle and batch_size >= len(X):
        rtol = 1e-9 if dtype == "float64" else 1e-3
        np.testing.assert_allclose(params, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
        np.testing.assert_allclose(history.cost, costs, rtol=rtol)
    else:
        assert params.tobytes() == expected.tobytes()
        np.testing.assert_allclose(history.cost, costs, rtol=1e-13)
    assert params.tobytes() != start.tobytes()


@pytest.mark.parametrize("shuffle", [True, False])
def test_it_is_a_plain_loop_with_weights(dtype, shuffle):
    """To the last bit, in compiled code and, with an optimizer of one's own, outside it; six batches have no weight."""
    net, start, X, Y = problem(dtype)
    weights = np.random.default_rng(3).uniform(0.5, 2, 43).astype(dtype).astype(float)
    weights[8:32] = 0  # six whole batches in the order as it is
    options = {"epochs": 3, "batch_size": 4, "shuffle": shuffle, "seed": 5, "l2": 0.01}
    counting, optimizer = bpcore.Adam(0.01), bpcore.Adam(0.01)
    expected, costs = plain_loop(net, start, X, Y, counting, weights=weights, **options)
    params = start.copy()
    history = bpcore.train(net, params, X, Y, optimizer=optimizer, sample_weight=weights, **options)
    assert params.tobytes() == expected.tobytes()
    np.testing.assert_allclose(history.cost, costs, rtol=1e-13)
    assert optimizer.steps == counting.steps == 3 * 11
    own = bpcore.Adam(0.01)
    own.step = lambda params, grad, step=own.step: step(params, grad)  # such as for clipping
    params = start.copy()
    bpcore.train(net, params, X, Y, optimizer=own, sample_weight=weights, **options)
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("batch_size", "rows", "rare"), [
    (1, 200, 10), (10, 2000, 100), (32, 2000, 100), (100, 2000, 100), (None, 2000, 100),
])  # fmt: skip
def test_weights_are_those_of_the_whole_data_at_every_batch_size(batch_size, rows, rare):
    """The optimum of the weighted cost in closed form: two classes of equal weight, so P = 1/2 and J = ln 2.

    Means within each batch would ignore the weights at batch size 1, and be biased at others.
    """
    X, Y = np.zeros((rows, 1)), (np.arange(rows) % rare == 0).astype(int)
    weights = np.where(Y == 1, 1.0, 1 / (rare - 1))
    net, params = bpcore.Network([1, 1], None, "binary_cross_entropy"), np.array([0.0, 1.0])
    optimizer = bpcore.GradientDescent(2.0 if batch_size is None else lambda step: 0.5 / (1 + step / (rows / 10)))
    epochs = 300 if batch_size is None else 40
    bpcore.train(net, params, X, Y, sample_weight=weights, batch_size=batch_size, epochs=epochs, optimizer=optimizer)
    assert net.forward(params, X[:1])[0, 0] == pytest.approx(0.5, abs=0.01)
    assert net.cost(params, X, Y, sample_weight=weights) == pytest.approx(np.log(2), abs=1e-3)


def test_rows_without_weight_do_not_matter(dtype):
    """Whatever stands in them, in order and all at once."""
    net, start, X, Y = problem(dtype)
    weights = np.where(np.arange(43) < 20, 1, 0)
    params, other = start.copy(), start.copy()
    options = {"epochs": 3, "batch_size": None, "shuffle": False}
    bpcore.train(net, params, X, Y, sample_weight=weights, **options)
    bpcore.train(net, other, X[:20], Y[:20], **options)
    np.testing.assert_allclose(params, other, rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)


def test_weights_are_repetitions():
    """A row of weight 3 is three rows."""
    net, params, X, Y = problem(rows=6)
    weights, other = np.array([1, 2, 3, 1, 0, 2]), params.copy()
    bpcore.train(net, params, X, Y, sample_weight=weights, epochs=5, batch_size=None)
    bpcore.train(net, other, np.repeat(X, weights, axis=0), np.repeat(Y, weights, axis=0), epochs=5, batch_size=None)
    np.testing.assert_allclose(params, other, rtol=1e-9)


@pytest.mark.parametrize("batch_size", [None, 43, 1000, np.int64(43)])
def test_full_batch(batch_size):
    """One step for each epoch, over all rows."""
    net, start, X, Y = problem()
    expected, costs = plain_loop(net, start, X, Y, bpcore.GradientDescent(0.1), 5, 43, shuffle=False)
    params, optimizer = start.copy(), bpcore.GradientDescent(0.1)
    history = bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=5, batch_size=batch_size, shuffle=False)
    assert optimizer.steps == 5
    assert params.tobytes() == expected.tobytes()
    np.testing.assert_allclose(history.cost, costs, rtol=1e-13)


def test_defaults():
    """Adam(), 100 epochs, batches of 32, shuffled with seed 0, without penalty."""
    net, start, X, Y = problem()
    params = start.copy()
    history = bpcore.train(net, params, X, Y)
    assert history.epochs == 100
    assert params.tobytes() == plain_loop(net, start, X, Y, bpcore.Adam(), 100)[0].tobytes()


def test_same_seed_same_bits(dtype):
    """Another seed gives other bits; a generator goes on from where it is."""
    net, start, X, Y = problem(dtype)

    def run(seed):
        params = start.copy()
        bpcore.train(net, params, X, Y, epochs=3, batch_size=8, seed=seed)
        return params.tobytes()

    assert run(3) == run(3) == run(np.random.default_rng(3))
    assert run(3) != run(4)
    generator = np.random.default_rng(3)
    assert run(generator) == run(3)
    assert run(generator) != run(3)
    assert run(None) != run(None)


def test_threads_do_not_change_the_bits(dtype):
    net, start, X, Y = problem(dtype, rows=20_000)
    results = set()
    for threads in (None, 1, 2, 3):
        params = start.copy()
        history = bpcore.train(net, params, X, Y, epochs=2, batch_size=15_000, threads=threads)
        results.add((params.tobytes(), *history.cost))
    assert len(results) == 1


def test_backends_agree(monkeypatch):
    """A short run ends at the same parameters on every backend, but for rounding."""
    found = []
    for name in (bpcore.backend, "python"):
        monkeypatch.setattr(dispatch, "core", dispatch.load(name))
        net, params, X, Y = problem()
        history = bpcore.train(net, params, X, Y, epochs=5, batch_size=8, l2=0.01, validation_data=(X, Y))
        found.append(np.concatenate([params, history.cost, history.validation_cost]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-9 * np.abs(found[1]).max())


def test_it_goes_on(dtype):
    """Two runs with one optimizer and one generator are one run, the schedule and the momentum included."""
    net, start, X, Y = problem(dtype)
    whole, halves = start.copy(), start.copy()

    def fresh():
        return bpcore.GradientDescent(lambda step: 0.1 / (1 + step), momentum=0.9)

    bpcore.train(net, whole, X, Y, optimizer=fresh(), epochs=5, batch_size=8, seed=1)
    optimizer, generator = fresh(), np.random.default_rng(1)
    for epochs in (2, 3):
        bpcore.train(net, halves, X, Y, optimizer=optimizer, epochs=epochs, batch_size=8, seed=generator)
    assert halves.tobytes() == whole.tobytes()


def test_an_optimizer_of_ones_own(dtype):
    """It needs no more than step and reset; its gradients are those of the batches."""
    net, start, X, Y = problem(dtype)

    class Signs:
        """Steps of one size, against the sign of the gradient."""

        def __init__(self):
            self.seen = []

        def step(self, params, grad):
            assert params is mine
            assert grad.dtype == dtype
            assert grad.shape == params.shape
            self.seen.append(grad.copy())
            params -= np.float32(0.001) * np.sign(grad)

        def reset(self):
            self.seen.clear()

    mine, optimizer, other = start.copy(), Signs(), start.copy()
    history = bpcore.train(net, mine, X, Y, optimizer=optimizer, epochs=2, batch_size=20, shuffle=False)
    seen = iter(optimizer.seen)
    for _ in range(2):
        for first in (0, 20, 40):
            _, grad = net.cost_and_gradient(other, X[first : first + 20], Y[first : first + 20])
            assert next(seen).tobytes() == grad.tobytes()
            other -= np.float32(0.001) * np.sign(grad)
    assert mine.tobytes() == other.tobytes()
    assert next(seen, None) is None
    assert history.learning_rate == []


# -------------------------------------------------------------------------------------------------------- the data


def trained(net, start, X, Y, **options):
    """The bits of the parameters after a short run."""
    params = start.copy()
    bpcore.train(net, params, X, Y, **({"epochs": 2, "batch_size": 8} | options))
    return params.tobytes()


def test_layouts_and_dtypes_of_the_data(dtype):
    """Fortran order, columns of a table, lists, the other byte order, another real dtype: the same bits."""
    net, start, X, Y = problem(dtype)
    X, Y = X.astype("float32"), Y.astype("float32")
    expected = trained(net, start, X.astype(dtype), Y.astype(dtype))
    table = np.zeros((43, 8), "float32")
    table[:, 1:7:2], table[:, [0, 7]] = X, Y
    assert trained(net, start, np.asfortranarray(X), np.asfortranarray(Y)) == expected
    assert trained(net, start, table[:, 1:7:2], table[:, ::7]) == expected
    assert trained(net, start, X.astype("float64"), Y.astype("float64")) == expected
    assert trained(net, start, X.astype(">f4"), Y.astype(">f8")) == expected
    assert trained(net, start, X.tolist(), Y.tolist()) == expected
    assert trained(net, start, X[::-1].copy()[::-1], Y) == expected


def test_memory_mapped_data(dtype, tmp_path):
    net, start, X, Y = problem(dtype)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "Y.npy")]
    for options in ({}, {"shuffle": False}, {"batch_size": None}):
        assert trained(net, start, *mapped, **options) == trained(net, start, X, Y, **options)


def test_the_data_are_not_changed_and_may_be_read_only(dtype):
    net, start, X, Y = problem(dtype)
    weights = np.linspace(0, 1, 43).astype(dtype)
    before = [array.tobytes() for array in (X, Y, weights)]
    for array in (X, Y, weights):
        array.flags.writeable = False
    options = {"sample_weight": weights, "validation_data": (X, Y, weights), "patience": 1}
    assert trained(net, start, X, Y, **options) != start.tobytes()
    assert [array.tobytes() for array in (X, Y, weights)] == before


@pytest.mark.parametrize("shuffle", [True, False])
def test_it_is_a_plain_loop_with_labels(dtype, shuffle):
    """To the last bit: each batch has the labels of its own rows."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(43, 4)).astype(dtype), rng.integers(0, 3, 43)
    net = bpcore.Network([4, 5, 3], "tanh", "cross_entropy", dtype=dtype)
    start = net.initialize(0)
    expected, _ = plain_loop(net, start, X, labels, bpcore.Adam(0.01), 3, 8, 7, shuffle)
    params = start.copy()
    bpcore.train(net, params, X, labels, optimizer=bpcore.Adam(0.01), epochs=3, batch_size=8, seed=7, shuffle=shuffle)
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integer_labels(dtype, kind):
    """They do as rows with a single 1 do."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    net = bpcore.Network([4, 5, 3], loss="cross_entropy", dtype=dtype)
    start = net.initialize(0)
    found = trained(net, start, X, labels.astype(kind))
    assert found == trained(net, start, X, labels.tolist())
    rows = np.frombuffer(trained(net, start, X, np.eye(3)[labels]), dtype)
    np.testing.assert_allclose(np.frombuffer(found, dtype), rows, atol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "poisson"])
def test_a_flat_target_for_one_output(dtype, loss):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)
    net = bpcore.Network([4, 5, 1], loss=loss, dtype=dtype)
    start = net.initialize(0)
    assert trained(net, start, X, y) == trained(net, start, X, y[:, np.newaxis])


def test_params_may_be_a_part_of_a_larger_vector(dtype):
    """Nothing around them is changed."""
    net, start, X, Y = problem(dtype)
    vector = np.full(start.size + 10, 7, dtype)
    vector[5:-5] = start
    bpcore.train(net, vector[5:-5], X, Y, epochs=2, batch_size=8)
    assert vector[5:-5].tobytes() == trained(net, start, X, Y)
    np.testing.assert_array_equal(vector[[*range(5), *range(-5, 0)]], 7)


@pytest.mark.parametrize("batch_size", [None, 512])
@pytest.mark.parametrize("shuffle", [True, False])
def test_memory_does_not_grow_with_the_data(batch_size, shuffle):
    """The rows are never copied all at once: they may be a memory map larger than the memory."""
    X = np.ones((60_000, 32))
    Y = np.ones((60_000, 1))
    net = bpcore.Network([32, 1])
    params = np.zeros(33)
    tracemalloc.start()
    try:
        options = {"epochs": 1, "batch_size": batch_size, "shuffle": shuffle, "threads": 1}
        bpcore.train(net, params, X, Y, optimizer=bpcore.GradientDescent(1e-3), **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 2


# ----------------------------------------------------------------------------------------------------- the history


def test_history():
    """A cost for each epoch, a rate for each epoch, and how it ended."""
    net, params, X, Y = problem()
    history = bpcore.train(net, params, X, Y, epochs=4)
    assert isinstance(history, bpcore.History)
    assert history.epochs == len(history.cost) == 4
    assert all(type(cost) is float for cost in history.cost)
    assert history.validation_cost == []
    assert history.learning_rate == [1e-3] * 4
    assert history.best_epoch is None
    assert history.stopped == "epochs"
    assert type(history.seconds) is float
    assert history.seconds > 0
    assert pickle.loads(pickle.dumps(history)) == history


def test_a_fresh_history_is_empty():
    history = bpcore.History()
    assert (history.cost, history.validation_cost, history.learning_rate) == ([], [], [])
    assert (history.epochs, history.best_epoch, history.stopped) == (0, None, "epochs")


def test_the_cost_of_an_epoch_is_taken_before_its_steps():
    net, params, X, Y = problem()
    before = net.cost(params, X, Y, l2=0.1)
    history = bpcore.train(net, params, X, Y, epochs=1, batch_size=None, l2=0.1)
    assert history.cost == [pytest.approx(before, rel=1e-13)]
    assert net.cost(params, X, Y, l2=0.1) != pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_learning_rates_of_a_schedule(batch_size):
    """For each epoch the rate of its last step, not of the step after it."""
    net, params, X, Y = problem()
    optimizer = bpcore.GradientDescent(lambda step: 0.1 / (1 + step))
    history = bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=4, batch_size=batch_size)
    per_epoch = 1 if batch_size is None else 3
    assert history.learning_rate == [0.1 / ((epoch + 1) * per_epoch) for epoch in range(4)]


def test_a_schedule_is_asked_for_the_steps_taken_only():
    """A list of rates as long as there are steps is long enough."""
    net, start, X, Y = problem()
    rates = [0.1, 0.05, 0.02]
    params = start.copy()
    optimizer = bpcore.GradientDescent(rates.__getitem__)
    history = bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=3, batch_size=None, shuffle=False)
    assert history.learning_rate == rates
    other = start.copy()
    for rate in rates:
        bpcore.GradientDescent(rate).step(other, net.cost_and_gradient(other, X, Y)[1])
    assert params.tobytes() == other.tobytes()


# --------------------------------------------------------------------------------------------- validation, stopping


@pytest.mark.parametrize("weighted", [False, True, None])
def test_validation_cost(dtype, weighted):
    """It is the cost after each epoch, without penalty; the validation data change nothing else."""
    net, start, X, Y = problem(dtype)
    _, _, Xv, Yv = problem(dtype, rows=11, seed=9)
    weights = np.linspace(0, 1, 11) if weighted else None
    data = (Xv, Yv) if weighted is False else (Xv, Yv, weights)
    expected, params, other = [], start.copy(), start.copy()

    def after(epoch, history):
        expected.append(net.cost(params, Xv, Yv, sample_weight=weights))

    options = {"epochs": 4, "batch_size": 8, "l2": 0.1}
    history = bpcore.train(net, params, X, Y, validation_data=data, callback=after, **options)
    assert history.validation_cost == expected
    bpcore.train(net, other, X, Y, **options)
    assert params.tobytes() == other.tobytes()


def test_validation_data_may_be_a_list():
    net, start, X, Y = problem()
    found = [bpcore.train(net, start.copy(), X, Y, epochs=2, validation_data=data) for data in ((X, Y), [X, Y])]
    assert found[0].validation_cost == found[1].validation_cost


@pytest.mark.parametrize("batch_size", [None, 4])
def test_early_stopping_restores_the_best(dtype, batch_size):
    """A network too large for a few noisy rows learns them by heart; it is stopped, and put back."""
    rng = np.random.default_rng(4)
    net = bpcore.Network([2, 40, 1], hidden="tanh", dtype=dtype)
    params = net.initialize(0)
    X, Xv = rng.normal(size=(12, 2)), rng.normal(size=(40, 2))
    Y, Yv = X[:, :1] + rng.normal(size=(12, 1)), Xv[:, :1] + rng.normal(size=(40, 1))
    options = {"epochs": 3000, "batch_size": batch_size, "validation_data": (Xv, Yv), "patience": 5}
    history = bpcore.train(net, params, X, Y, optimizer=bpcore.Adam(0.02), **options)
    assert history.stopped == "patience"
    assert history.epochs == history.best_epoch + 5
    assert history.best_epoch == int(np.argmin(history.validation_cost)) + 1
    assert net.cost(params, Xv, Yv) == min(history.validation_cost)
    assert net.cost(params, Xv, Yv) < history.validation_cost[-1]


def test_the_best_is_restored_when_the_epochs_run_out():
    history, left = scripted(4.0, 2.0, 1.0, 3.0, 2.0, patience=10)
    assert (history.stopped, history.epochs, history.best_epoch) == ("epochs", 5, 3)
    assert left == pytest.approx(1.0)


def test_the_best_is_restored_when_the_callback_stops():
    stop = {"callback": lambda epoch, history: epoch == 4}
    history, left = scripted(4.0, 2.0, 1.0, 3.0, 2.0, patience=10, **stop)
    assert (history.stopped, history.epochs, history.best_epoch) == ("callback", 4, 3)
    assert left == pytest.approx(1.0)


def test_without_patience_the_last_are_left():
    history, left = scripted(4.0, 2.0, 1.0, 3.0, 2.0)
    assert (history.stopped, history.epochs, history.best_epoch) == ("epochs", 5, None)
    assert left == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("patience", "tolerance", "epochs", "best", "stopped"),
    [
        (1, 0.0, 4, 3, "patience"),  # 1.2 after 0.9 is worse
        (2, 0.0, 5, 3, "patience"),  # 0.9 again is not better
        (3, 0.0, 8, 8, "epochs"),  # 0.8 comes in time
        (2, 0.125, 3, 1, "patience"),  # 1.0, 0.95 and 0.9 are the same
        (5, 0.125, 8, 8, "epochs"),  # 0.8 is better than 1.0 by more than that, 0.5 than 0.8 too
        (7, 0.6, 8, 1, "patience"),  # nothing is better by more than that
        (8, 0.6, 8, 1, "epochs"),
    ],
)
def test_patience_and_tolerance(patience, tolerance, epochs, best, stopped):
    """A cost counts as better where it is less than the best by more than the tolerance."""
    costs = (1.0, 0.95, 0.9, 1.2, 0.9, 0.8, 0.75, 0.5)
    history, left = scripted(*costs, patience=patience, tolerance=tolerance)
    assert (history.epochs, history.best_epoch, history.stopped) == (epochs, best, stopped)
    assert left == pytest.approx(costs[best - 1])


def test_patience_without_validation_data():
    """The cost of the epochs decides then; the parameters restored are those after the best epoch."""
    net, params, seen = bpcore.Network([1, 1]), np.zeros(2), []
    params[1] = math.sqrt(2 * 5.0)
    options = {
        "optimizer": Script(4.0, 2.0, 3.0, 3.5, 1.0),
        "epochs": 5,
        "patience": 2,
        "callback": lambda epoch, history: seen.append(params.copy()),
    }
    history = bpcore.train(net, params, ZERO, ZERO, **options)
    np.testing.assert_allclose(history.cost, [5.0, 4.0, 2.0, 3.0, 3.5], rtol=1e-14)
    assert (history.stopped, history.best_epoch, history.validation_cost) == ("patience", 3, [])
    np.testing.assert_array_equal(params, seen[2])


def test_callback():
    """It is called once after each epoch, with the epoch from 1 and the history so far."""
    net, params, X, Y = problem()
    calls = []

    def note(*arguments):
        epoch, history = arguments
        calls.append((epoch, history, history.epochs, len(history.validation_cost), params.tobytes()))

    history = bpcore.train(net, params, X, Y, epochs=5, validation_data=(X, Y), callback=note)
    assert [call[0] for call in calls] == [1, 2, 3, 4, 5]
    assert all(call[1] is history for call in calls)
    assert [call[2] for call in calls] == [call[3] for call in calls] == [1, 2, 3, 4, 5]
    assert len({call[4] for call in calls}) == 5
    assert calls[-1][4] == params.tobytes()
    assert history.stopped == "epochs"


@pytest.mark.parametrize("true", [True, 1, "stop", np.True_])
def test_a_true_result_of_the_callback_ends_the_run(true):
    net, params, X, Y = problem()
    history = bpcore.train(net, params, X, Y, epochs=50, callback=lambda epoch, history: true if epoch == 3 else None)
    assert (history.stopped, history.epochs) == ("callback", 3)


def test_the_callback_is_called_in_the_epoch_that_patience_ends():
    seen = []
    history, _ = scripted(1.0, 2.0, 3.0, 4.0, patience=2, callback=lambda epoch, history: seen.append(epoch))
    assert seen == [1, 2, 3]
    assert history.stopped == "patience"


def test_an_error_of_the_callback_comes_through():
    """The parameters are those of the epochs so far."""
    net, start, X, Y = problem()
    params = start.copy()

    def fail(epoch, history):
        if epoch == 2:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bpcore.train(net, params, X, Y, epochs=5, batch_size=8, callback=fail)
    assert params.tobytes() == trained(net, start, X, Y)


# ---------------------------------------------------------------------------------------------------- progress bar


def test_progress_bar(capsys):
    """It goes to standard error, and says how far it is; standard output stays empty."""
    net, start, X, Y = problem()
    params = start.copy()
    bpcore.train(net, params, X, Y, epochs=3, batch_size=8, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "cost" in err
    assert params.tobytes() == trained(net, start, X, Y, epochs=3)


def test_the_bar_is_closed_after_an_error(capsys):
    """Its line is ended, so that the traceback stands on a line of its own."""
    net, params, X, Y = problem()

    def fail(epoch, history):
        raise LookupError

    with pytest.raises(LookupError) as held:  # the frames, and the bar in them, are alive as long as this is
        bpcore.train(net, params, X, Y, epochs=3, callback=fail, progress=True)
    assert capsys.readouterr().err.endswith("\n")
    del held


def test_nothing_is_printed_without_it(capsys):
    net, params, X, Y = problem()
    bpcore.train(net, params, X, Y, epochs=3)
    assert capsys.readouterr() == ("", "")


def test_progress_without_tqdm(monkeypatch):
    """A clear error before anything is changed; without a bar tqdm is not needed."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    net, params, X, Y = problem()
    before, optimizer = params.tobytes(), bpcore.Adam()
    with pytest.raises(ImportError, match="tqdm"):
        bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=3, progress=True)
    assert params.tobytes() == before
    assert optimizer.steps == 0
    bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=3)


# ---------------------------------------------------------------------------------------------------------- Ctrl-C


def interrupt(*arguments):
    """What Ctrl-C does, at this place."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"patience": 3}, {"progress": True}], ids=["plain", "patience", "progress"])
def test_interrupt_in_the_callback(options):
    """The run ends there with the history so far, and the parameters of the last step, not the best ones."""
    net, start, X, Y = problem()
    params = start.copy()

    def callback(epoch, history):
        if epoch == 3:
            interrupt()

    options = {"batch_size": 8, "validation_data": (X, Y)} | options
    history = bpcore.train(net, params, X, Y, epochs=9, callback=callback, **options)
    assert (history.stopped, history.epochs, len(history.validation_cost)) == ("interrupted", 3, 3)
    assert params.tobytes() == trained(net, start, X, Y, epochs=3)


def test_interrupt_leaves_the_last_parameters_not_the_best():
    stop = {"callback": lambda epoch, history: interrupt() if epoch == 4 else None}
    history, left = scripted(4.0, 2.0, 1.0, 3.0, 2.0, patience=10, **stop)
    assert history.stopped == "interrupted"
    assert left == pytest.approx(3.0)


def test_interrupt_in_the_first_epoch():
    net, params, X, Y = problem()
    before = params.tobytes()

    class Interrupted(bpcore.Adam):
        step = interrupt

    history = bpcore.train(net, params, X, Y, optimizer=Interrupted(), epochs=9)
    assert (history.stopped, history.epochs, history.cost, history.validation_cost) == ("interrupted", 0, [], [])
    assert params.tobytes() == before


@pytest.mark.parametrize("when", ["before", "amid", "after"])
@pytest.mark.parametrize("steps", [0, 1, 8])
def test_interrupt_in_an_optimizer(dtype, when, steps):
    """The parameters are those of the last whole step, even if the interrupt came in the middle of one."""
    net, start, X, Y = problem(dtype)

    class Slow:
        """Plain descent, an interrupt in one of its steps."""

        count = 0

        def step(self, params, grad):
            interrupted = self.count == steps
            if interrupted and when == "before":
                interrupt()
            params[:10] -= np.float32(0.125) * grad[:10]
            if interrupted and when == "amid":
                params[10] = np.nan
                interrupt()
            params[10:] -= np.float32(0.125) * grad[10:]
            self.count += 1
            if interrupted:
                interrupt()

        def reset(self):
            self.count = 0

    class Finite(Slow):
        """The same, never interrupted, for so many steps."""

        def step(self, params, grad):
            if self.count < whole:
                params -= np.float32(0.125) * grad
                self.count += 1

    params, other = start.copy(), start.copy()
    whole = steps + 1 if when == "after" else steps
    history = bpcore.train(net, params, X, Y, optimizer=Slow(), epochs=9, batch_size=8)
    assert history.stopped == "interrupted"
    assert history.epochs == steps // 6
    bpcore.train(net, other, X, Y, optimizer=Finite(), epochs=9, batch_size=8)
    candidates = [other.tobytes()]
    if when == "after":  # it came within the call, so the step may count as whole or not
        whole, other = steps, start.copy()
        bpcore.train(net, other, X, Y, optimizer=Finite(), epochs=9, batch_size=8)
        candidates.append(other.tobytes())
    assert np.isfinite(params).all()
    assert params.tobytes() in candidates


SIGINT = """
import signal, sys, threading
import numpy as np
import bpcore

signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
rows, batch_size, threads = map(int, sys.argv[1:4])
make = {"adam": bpcore.Adam, "nesterov": lambda: bpcore.GradientDescent(1e-3, 0.9, nesterov=True)}[sys.argv[4]]
rng = np.random.default_rng(0)
net = bpcore.Network([4, 16, 1], hidden="tanh")
start = net.initialize(0)
X = rng.normal(size=(rows, 4))
Y = X[:, :1]

def signal_soon(epoch, history):
    if epoch == 1:
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()

params, optimizer = start.copy(), make()
options = {"batch_size": batch_size, "shuffle": False, "threads": threads}
history = bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=10**9, callback=signal_soon, **options)
steps = optimizer.steps

# The same steps again: the signal may have come between a step and its being counted.
other, again, states = start.copy(), make(), [start.tobytes()]
batches = [(X[i : i + batch_size], Y[i : i + batch_size]) for i in range(0, rows, batch_size)]
for step in range(steps + 1):
    again.step(other, net.cost_and_gradient(other, *batches[step % len(batches)])[1])
    states = [*states[-2:], other.tobytes()]
whole = params.tobytes() in states
print(history.stopped, np.isfinite(params).all(), whole, history.epochs >= 1, steps // len(batches) - history.epochs)
"""


@pytest.mark.parametrize("size", [("64", "16", "1"), ("40000", "20000", "2")], ids=["small", "threads"])
def test_a_real_interrupt(backend, size):
    """A signal in a long training ends it: whole steps, a history, no traceback.

    Each backend has Adam in one size and Nesterov's momentum in the other.
    """
    kind = ("adam", "nesterov")[(sorted(bpcore.available_backends()).index(backend) + int(size[2])) % 2]
    command = [sys.executable, "-c", SIGINT, *size, kind]
    env = os.environ | {"BPCORE_BACKEND": backend}
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=os.sep, timeout=120 * SLOWNESS)
    assert (result.returncode, result.stderr) == (0, "")
    *words, ahead = result.stdout.split()
    assert words == ["interrupted", "True", "True", "True"]
    assert ahead in ("-1", "0", "1")


# ------------------------------------------------------------------------------------------------------ divergence


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda: bpcore.GradientDescent(1e6),
        lambda: bpcore.GradientDescent(1e250),
        lambda: bpcore.GradientDescent(1e4, momentum=0.9, nesterov=True),
        lambda: bpcore.Adam(1e200),
        lambda: bpcore.GradientDescent(lambda step: 0.01 if step < 10 else 1e100),
    ],
    ids=["1e6", "1e250", "nesterov", "adam", "schedule"],
)
def test_divergence(dtype, make, batch_size):
    """Too large a rate is an error, and the parameters left are finite and have a finite cost."""
    rng = np.random.default_rng(0)
    net = bpcore.Network([3, 5, 2], hidden="relu", dtype=dtype)
    params = net.initialize(0)
    X, Y = rng.normal(size=(43, 3)), rng.normal(size=(43, 2))
    with pytest.raises(FloatingPointError, match=r"epoch \d+"):
        bpcore.train(net, params, X, Y, optimizer=make(), epochs=1000, batch_size=batch_size, shuffle=False)
    assert np.isfinite(params).all()
    size = batch_size or len(X)
    costs = [net.cost(params, X[i : i + size], Y[i : i + size]) for i in range(0, len(X), size)]
    assert np.isfinite(costs).any()  # that of the batch they were used for


def test_divergence_leaves_the_last_finite_parameters():
    """Step by step: the cost of the third is not finite, so those of the second are left."""
    net, start, X, Y = problem()

    class Broken(bpcore.GradientDescent):
        def step(self, params, grad):
            super().step(params, grad)
            if self.steps == 3:
                params[-1] = np.nan

    params = start.copy()
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 4"):
        bpcore.train(net, params, X, Y, optimizer=Broken(0.1), epochs=5, batch_size=8, shuffle=False)
    other, plain = start.copy(), bpcore.GradientDescent(0.1)
    for first in (0, 8):
        plain.step(other, net.cost_and_gradient(other, X[first : first + 8], Y[first : first + 8])[1])
    assert params.tobytes() == other.tobytes()


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_divergence_that_no_cost_shows(bad):
    """A tanh hides an infinite weight from the cost; the parameters left are finite all the same."""
    net, params, X, Y = problem()

    class Broken(bpcore.GradientDescent):
        def step(self, params, grad):
            super().step(params, grad)
            params[0] = bad

    with pytest.raises(FloatingPointError, match="epoch 1"):
        bpcore.train(net, params, X, Y, optimizer=Broken(0.1), epochs=5, batch_size=8)
    assert np.isfinite(params).all()


def test_divergence_in_the_very_last_step():
    """There is no cost after it to show it, but the parameters are not finite."""
    net, params, X, Y = problem()
    before = params.tobytes()

    class Broken(bpcore.GradientDescent):
        def step(self, params, grad):
            params[0] = np.nan

    with pytest.raises(FloatingPointError, match="epoch 1"):
        bpcore.train(net, params, X, Y, optimizer=Broken(0.1), epochs=1, batch_size=None)
    assert params.tobytes() == before


@pytest.mark.parametrize("units", [1, 8, 20])
@pytest.mark.parametrize("which", [0, -1])
def test_divergence_in_the_loop_of_the_core_that_no_cost_shows(dtype, units, which):
    """One weight becomes infinite in the first step of an epoch; the cost of the second is finite, by a tanh.

    Rows and targets are +-1, and all but one weight of the output is 0: the other gradients are 0, and only the input
    weight of that unit moves, from 0 to infinity.
    """
    net = bpcore.Network([1, units, 1], "tanh", dtype=dtype)
    start = np.zeros(net.n_parameters, dtype)
    net.layers(start)[1].weights[0, which] = 1e4
    X = np.resize(np.array([1, -1], dtype), (4, 1))
    params = start.copy()
    rate = 1e305 if dtype == "float64" else 1e35
    with pytest.raises(FloatingPointError, match="the parameters are not finite after epoch 1"):
        bpcore.train(net, params, X, X, optimizer=bpcore.GradientDescent(rate), epochs=3, batch_size=2, shuffle=False)
    assert params.tobytes() == start.tobytes()


@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu", "leaky_relu", "softplus"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["X", "Y"])
def test_numbers_that_are_not_finite_in_the_data(dtype, hidden, bad, which):
    """They are an error at the first step, and the parameters are as they were."""
    net = bpcore.Network([3, 5, 2], hidden=hidden, output="identity", dtype=dtype)
    params, rng = net.initialize(0), np.random.default_rng(0)
    data = {"X": rng.normal(size=(20, 3)), "Y": rng.normal(size=(20, 2))}
    if which == "X" and np.isinf(bad):
        bad = np.array([np.inf, -np.inf, np.inf])  # any sums of weights with these are infinite or NaN
    data[which][11] = bad
    before, optimizer = params.tobytes(), bpcore.Adam()
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1"):
        bpcore.train(net, params, data["X"], data["Y"], optimizer=optimizer, epochs=3, batch_size=None)
    assert params.tobytes() == before
    assert optimizer.steps == 0


@pytest.mark.parametrize("options", [{}, {"patience": 2}], ids=["plain", "patience"])
def test_a_validation_cost_that_is_not_finite(options):
    """It is a cost, so the run stops there with a clear error, and finite parameters."""
    net, params, X, Y = problem()
    Xv = X.copy()
    Xv[0] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 1"):
        bpcore.train(net, params, X, Y, epochs=4, validation_data=(Xv, Y), **options)
    assert np.isfinite(params).all()


# ------------------------------------------------------------------------------------------------------- arguments


def frozen(array):
    """The array, read-only."""
    array.flags.writeable = False
    return array


NET, START, X0, Y0 = problem(rows=8)
N = START.size
RAGGED = [[1], [2, 3]]

#: Name of the argument, values that it may not have, each made afresh.
BAD = {
    "net": [lambda: None, lambda: "net", lambda: [3, 6, 2], lambda: bpcore.Network],
    "params": [
        lambda: START.tolist(),
        lambda: None,
        lambda: START[:-1].copy(),
        lambda: np.append(START, 0),
        lambda: START.reshape(1, -1).copy(),
        lambda: START.astype("float32"),
        lambda: START.astype(int),
        lambda: START.astype(complex),
        lambda: START.astype(np.dtype("f8").newbyteorder()),
        lambda: frozen(START.copy()),
        lambda: np.repeat(START, 2)[::2],
    ],
    "X": [
        lambda: None,
        lambda: "X",
        lambda: X0[:, :2],
        lambda: X0[:, 0],
        lambda: X0[np.newaxis],
        lambda: X0.astype(complex),
        lambda: X0.astype(object),
        lambda: X0.astype(str),
        lambda: np.ma.masked_array(X0, X0 > 0),
        lambda: RAGGED,
        lambda: X0[:0],
    ],
    "Y": [
        lambda: None,
        lambda: Y0[:7],
        lambda: Y0[:, :1],
        lambda: Y0[:, 0],
        lambda: Y0.astype(complex),
        lambda: Y0.astype(object),
        lambda: RAGGED,
    ],
    "optimizer": [lambda: "adam", lambda: 0.1, lambda: bpcore.Adam, lambda: bpcore.GradientDescent, lambda: object()],
    "epochs": [lambda: 0, lambda: -1, lambda: 1.5, lambda: 2.0, lambda: "2", lambda: None, lambda: True],
    "batch_size": [lambda: 0, lambda: -8, lambda: 8.0, lambda: "all", lambda: True, lambda: [8]],
    "seed": [lambda: -1, lambda: 1.5, lambda: "zero", lambda: object()],
    "l2": [
        lambda: -1,
        lambda: np.nan,
        lambda: np.inf,
        lambda: "0",
        lambda: None,
        lambda: 1j,
        lambda: [0.1],
        lambda: RAGGED,
    ],
    "sample_weight": [
        lambda: -np.ones(8),
        lambda: np.zeros(8),
        lambda: np.ones(7),
        lambda: np.ones((8, 1)),
        lambda: 1.0,
        lambda: np.full(8, np.nan),
        lambda: np.full(8, np.inf),
        lambda: np.full(8, 1e308),
        lambda: np.ones(8, complex),
        lambda: "balanced",
    ],
    "validation_data": [
        lambda: 0.2,
        lambda: X0,
        lambda: (X0,),
        lambda: (X0, Y0, None, None),
        lambda: (X0[:, :2], Y0),
        lambda: (X0, Y0[:7]),
        lambda: (X0[:0], Y0[:0]),
        lambda: (X0, Y0, np.zeros(8)),
        lambda: (X0, Y0, -np.ones(8)),
        lambda: (X0, None),
        lambda: {"X": X0, "Y": Y0},
    ],
    "patience": [lambda: 0, lambda: -1, lambda: 1.5, lambda: "5", lambda: True],
    "tolerance": [lambda: -1e-9, lambda: np.nan, lambda: np.inf, lambda: "0", lambda: None, lambda: [0]],
    "callback": [lambda: "print", lambda: 3, lambda: [print]],
    "threads": [lambda: 0, lambda: -1, lambda: 1.5, lambda: "2", lambda: True],
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, values in BAD.items() for i in range(len(values))])
def test_bad_arguments(name, number):
    """Each error names the argument; nothing of the caller's is changed by it."""
    net, params, X, Y = problem(rows=8)
    weights, optimizer = np.ones(8), bpcore.Adam()
    generator = np.random.default_rng(0)
    arguments = {"net": net, "params": params, "X": X, "Y": Y, "optimizer": optimizer, "epochs": 2}
    arguments |= {"sample_weight": weights, "seed": generator, "validation_data": (X, Y), "patience": 1}
    arguments[name] = BAD[name][number]()
    bad = arguments["params"]
    before = [pickle.dumps(item) for item in (params, X, Y, weights, optimizer, generator, bad)]
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        bpcore.train(**arguments)
    assert [pickle.dumps(item) for item in (params, X, Y, weights, optimizer, generator, bad)] == before


@pytest.mark.parametrize(
    ("labels", "error"),
    [([0, 1, 3], ValueError), ([0, -1, 1], ValueError), ([0.0, 1.0, 2.0], TypeError), ([0, 1], ValueError)],
    ids=str,
)
def test_bad_labels(labels, error):
    net = bpcore.Network([2, 3], loss="cross_entropy")
    params = net.initialize(0)
    before = params.tobytes()
    with pytest.raises(error, match=r"\bY\b"):
        bpcore.train(net, params, np.ones((3, 2)), labels)
    assert params.tobytes() == before


def test_an_optimizer_of_another_network_is_refused():
    """Its state has another shape; reset() makes it fit."""
    net, params, X, Y = problem()
    before = params.tobytes()
    optimizer = bpcore.Adam()
    optimizer.step(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="reset"):
        bpcore.train(net, params, X, Y, optimizer=optimizer)
    assert params.tobytes() == before
    assert optimizer.steps == 1
    optimizer.reset()
    bpcore.train(net, params, X, Y, optimizer=optimizer, epochs=1)


@pytest.mark.parametrize("name", ["X", "Y", "sample_weight"])
def test_params_that_share_memory_with_the_data(name):
    """The data would change while they are used."""
    net = bpcore.Network([3, 1])
    memory = np.linspace(0.1, 1, 24)
    data = {"X": np.ones((8, 3)), "Y": np.ones((8, 1)), "sample_weight": np.ones(8)}
    data[name] = memory.reshape(8, 3) if name == "X" else memory[:8].reshape(data[name].shape)
    before = memory.tobytes()
    with pytest.raises(ValueError, match=rf"params.*\b{name}\b"):
        bpcore.train(net, memory[4:8], **data)
    assert memory.tobytes() == before


def test_params_beside_the_data_in_one_buffer():
    """Sharing a buffer is fine where no number is shared."""
    net = bpcore.Network([3, 1])
    memory = np.linspace(0.1, 1, 28)
    before = memory[4:].tobytes()
    bpcore.train(net, memory[:4], memory[4:].reshape(8, 3), np.ones(8), epochs=2)
    assert memory[4:].tobytes() == before


def test_options_are_given_by_name():
    net, params, X, Y = problem()
    with pytest.raises(TypeError):
        bpcore.train(net, params, X, Y, bpcore.Adam())


def test_a_step_of_ones_own_on_an_optimizer_is_taken(backend):
    """As for clipping: what a gradient is made into beforehand."""
    net = bpcore.Network([3, 4, 2])
    rng = np.random.default_rng(0)
    X, Y, params = rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), net.initialize(seed=0)
    before, adam = params.copy(), bpcore.Adam()
    step = adam.step
    adam.step = lambda p, g: step(p, 0 * g)
    bpcore.train(net, params, X, Y, optimizer=adam, epochs=2, batch_size=4)
    np.testing.assert_array_equal(params, before)
    assert adam.steps == 4


def test_a_schedule_may_end_itself(backend):
    net = bpcore.Network([3, 4, 2])
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(64, 3)), rng.normal(size=(64, 2))

    def descent():
        optimizer = bpcore.GradientDescent(0.0)

        def schedule(steps):
            if steps == 1:
                optimizer.learning_rate = 0.5
            return 0.01

        optimizer.learning_rate = schedule
        return optimizer

    params, expected = net.initialize(seed=0), net.initialize(seed=0)
    bpcore.train(net, params, X, Y, optimizer=descent(), epochs=1, batch_size=16, shuffle=False)
    optimizer = descent()
    for first in range(0, 64, 16):
        optimizer.step(expected, net.cost_and_gradient(expected, X[first : first + 16], Y[first : first + 16])[1])
    np.testing.assert_array_equal(params, expected)
