"""The optimizers: their formulas in exact arithmetic, their state, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import mpmath
import numpy as np
import pytest

import bpcore

pytestmark = pytest.mark.usefixtures("backend")

#: Each way to descend, as a function that makes a fresh optimizer.
KINDS = {
    "plain": lambda rate=0.05: bpcore.GradientDescent(rate),
    "momentum": lambda rate=0.05: bpcore.GradientDescent(rate, momentum=0.9),
    "nesterov": lambda rate=0.05: bpcore.GradientDescent(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate=0.05: bpcore.Adam(rate),
}


@pytest.fixture(params=KINDS)
def make(request):
    """What makes a fresh optimizer, given a learning rate."""
    return KINDS[request.param]


@pytest.fixture(params=["momentum", "nesterov", "adam"])
def make_with_state(request):
    """The same for those that remember a vector from step to step."""
    return KINDS[request.param]


def gradients(rng, n_steps: int, n: int, dtype: str) -> list[np.ndarray]:
    """Gradients of very different sizes, with some zeros."""
    grads = rng.normal(size=(n_steps, n)) * 10.0 ** rng.uniform(-6, 3, n)
    grads[rng.random((n_steps, n)) < 0.1] = 0
    return list(grads.astype(dtype))


def run(optimizer, params, grads) -> np.ndarray:
    """The parameters after these steps, as a new vector."""
    params = params.copy()
    for grad in grads:
        optimizer.step(params, grad)
    return params


def exact(number) -> mpmath.mpf:
    """A float as it is, without rounding."""
    return mpmath.mpf(float(number))


def exact_descent(p, grads, rates, momentum=0.0, nesterov=False):
    """One entry: v = mu v + g, p -= lr v, or with Nesterov p -= lr (g + mu v); and the way if nothing cancelled."""
    p, v, size, way, mu = exact(p), mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0), exact(momentum)
    for g, rate in zip(map(exact, grads), map(exact, rates), strict=True):
        v, size = mu * v + g, mu * size + abs(g)
        p -= rate * (g + mu * v if nesterov else v)
        way += rate * (abs(g) + mu * size if nesterov else size)
    return p, way


def exact_adam(p, grads, rates, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """One entry, by algorithm 1 of Kingma and Ba; and the way if nothing cancelled."""
    p, m, v, size, way = exact(p), mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0)
    b1, b2 = exact(beta1), exact(beta2)
    for t, (g, rate) in enumerate(zip(map(exact, grads), map(exact, rates), strict=True), 1):
        m, size = b1 * m + (1 - b1) * g, b1 * size + (1 - b1) * abs(g)
        v = b2 * v + (1 - b2) * g**2
        root = mpmath.sqrt(v / (1 - b2**t)) + exact(epsilon)
        p -= rate * (m / (1 - b1**t)) / root
        way += rate * (size / (1 - b1**t)) / root
    return p, way


def assert_exact(found, start, grads, rates, formula, **options):
    """Each entry is within a few roundings of the exact one: as many as there are steps, of the numbers summed."""
    eps = float(np.finfo(found.dtype).eps)
    with mpmath.workdps(50):
        for i in range(len(found)):
            expected, way = formula(start[i], [g[i] for g in grads], rates, **options)
            error = abs(exact(found[i]) - expected)
            allowed = 2 * len(grads) * eps * (abs(exact(start[i])) + way)
            assert error <= allowed, (i, found[i], mpmath.nstr(expected, 20))


# ----------------------------------------------------------------------------------------------------- the formulas


@pytest.mark.parametrize("n", [1, 19])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "nesterov": True},
        {"momentum": 0.99, "nesterov": True},
        {"momentum": 1.0},
    ],
)
def test_gradient_descent_is_its_formula(rng, dtype, options, n):
    start = rng.normal(size=n).astype(dtype)
    grads = gradients(rng, 20, n, dtype)
    found = run(bpcore.GradientDescent(0.03, **options), start, grads)
    assert found.dtype == dtype
    assert_exact(found, start, grads, [0.03] * 20, exact_descent, **options)


@pytest.mark.parametrize("n", [1, 19])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta1": 0.5, "beta2": 0.75, "epsilon": 0.125},
        {"beta1": 0.0, "beta2": 0.9},
        {"beta1": 0.9, "beta2": 0.0},
        {"epsilon": 1.0},
    ],
)
def test_adam_is_its_formula(rng, dtype, options, n):
    start = rng.normal(size=n).astype(dtype)
    grads = gradients(rng, 20, n, dtype)
    found = run(bpcore.Adam(0.01, **options), start, grads)
    assert found.dtype == dtype
    assert_exact(found, start, grads, [0.01] * 20, exact_adam, **options)


def test_adam_for_many_steps(rng):
    """The corrections for the start at 0 fade; 300 steps are enough to see a power taken wrongly."""
    start, grads = rng.normal(size=2), gradients(rng, 300, 2, "float64")
    found = run(bpcore.Adam(0.01), start, grads)
    assert_exact(found, start, grads, [0.01] * 300, exact_adam)


def test_defaults():
    """Adam's are those of the paper; gradient descent is plain."""
    adam, plain = bpcore.Adam(), bpcore.GradientDescent(0.1)
    assert (adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon) == (1e-3, 0.9, 0.999, 1e-8)
    assert (plain.learning_rate, plain.momentum, plain.nesterov) == (0.1, 0.0, False)


def test_arguments_in_order():
    """Without names, too, they are those of the signature."""
    descent, adam = bpcore.GradientDescent(0.1, 0.5, True), bpcore.Adam(0.1, 0.2, 0.3, 0.4)
    assert (descent.learning_rate, descent.momentum, descent.nesterov) == (0.1, 0.5, True)
    assert (adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon) == (0.1, 0.2, 0.3, 0.4)


def test_the_example_of_keras_with_momentum(dtype):
    """Keras documents SGD(0.1, momentum=0.9) on x^2/2 from x = 1: it moves by 0.1, then by 0.18."""
    x, optimizer = np.ones(1, dtype), bpcore.GradientDescent(0.1, momentum=0.9)
    optimizer.step(x, x.copy())
    assert x[0] == pytest.approx(0.9, rel=1e-6)
    optimizer.step(x, x.copy())
    assert x[0] == pytest.approx(0.72, rel=1e-6)


def test_the_example_of_keras_with_adam(dtype):
    """Keras documents Adam(0.1) on x^2/2 from x = 10: the first step leads to 9.9."""
    x = np.full(1, 10.0, dtype)
    bpcore.Adam(0.1).step(x, x.copy())
    assert x[0] == pytest.approx(9.9, rel=1e-6)


def test_plain_descent_on_a_parabola(dtype):
    """On c x^2/2 each step multiplies x by 1 - lr c; lr = 1/c is there at once, lr = 2/c goes to and fro."""
    c = np.array([1.0, 2.0, 0.5, 4.0], dtype)
    x, optimizer = np.ones(4, dtype), bpcore.GradientDescent(0.5)
    for _ in range(6):
        optimizer.step(x, c * x)
    np.testing.assert_array_equal(x, np.array([0.5**6, 0.0, 0.75**6, 1.0], dtype))


@pytest.mark.parametrize("nesterov", [False, True])
def test_terminal_velocity_of_momentum(dtype, nesterov):
    """A constant gradient is followed 1 / (1 - momentum) times as fast in the end."""
    x, optimizer = np.zeros(1, dtype), bpcore.GradientDescent(1.0, momentum=0.5, nesterov=nesterov)
    for _ in range(60):
        before = x.copy()
        optimizer.step(x, np.ones(1, dtype))
    assert before[0] - x[0] == pytest.approx(2.0, rel=1e-5)


def test_adam_does_not_see_the_scale_of_the_gradient(dtype):
    """With a constant gradient g each step is lr g / (|g| + epsilon): about lr, whatever g is."""
    g = np.array([1e-3, 1.0, -1e6, 0.0], dtype)
    found = run(bpcore.Adam(0.25), np.zeros(4, dtype), [g] * 8)
    np.testing.assert_allclose(found, [-2.0, -2.0, 2.0, 0.0], rtol=3e-5)


def test_epsilon_stands_outside_the_root(dtype):
    """A gradient of the size of epsilon is followed at half the rate; inside the root it would be far less."""
    g = np.array([1e-8, -1e-8], dtype)
    found = run(bpcore.Adam(1.0), np.zeros(2, dtype), [g])
    np.testing.assert_allclose(found, [-0.5, 0.5], rtol=1e-5)


def test_adam_without_epsilon_is_nan_where_there_is_no_gradient(dtype):
    """0 / 0 is NaN, as in NumPy, neither an error nor a warning; the other entries are right."""
    found = run(bpcore.Adam(0.5, epsilon=0.0), np.zeros(3, dtype), [np.array([0, 4, -4], dtype)])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [-0.5, 0.5], rtol=1e-6)


def test_no_rate_no_move(make, rng, dtype):
    start = rng.normal(size=5).astype(dtype)
    np.testing.assert_array_equal(run(make(0.0), start, gradients(rng, 3, 5, dtype)), start)


def test_empty_vector(make, dtype):
    """A vector without entries is a vector."""
    optimizer = make()
    optimizer.step(np.empty(0, dtype), np.empty(0, dtype))
    assert optimizer.steps == 1


def test_same_bits_again(make, rng, dtype):
    start, grads = rng.normal(size=9).astype(dtype), gradients(rng, 6, 9, dtype)
    assert run(make(), start, grads).tobytes() == run(make(), start, grads).tobytes()


# -------------------------------------------------------------------------------------------------- learning rates


def halving(step: int) -> float:
    """A schedule that pickle finds by name."""
    return 0.1 * 0.5**step


@pytest.mark.parametrize(
    ("kind", "formula", "options"),
    [
        ("plain", exact_descent, {}),
        ("momentum", exact_descent, {"momentum": 0.9}),
        ("nesterov", exact_descent, {"momentum": 0.9, "nesterov": True}),
        ("adam", exact_adam, {}),
    ],
)
def test_schedule(rng, dtype, kind, formula, options):
    """The rate of each step is the schedule's; the velocity is not scaled by it (PyTorch's convention)."""
    start, grads = rng.normal(size=4).astype(dtype), gradients(rng, 10, 4, dtype)
    found = run(KINDS[kind](halving), start, grads)
    assert_exact(found, start, grads, [halving(t) for t in range(10)], formula, **options)


def test_schedule_is_given_the_count_of_steps(make):
    seen = []

    def rate(step):
        seen.append(step)
        return 0.1

    optimizer, params = make(rate), np.zeros(2)
    assert seen == []
    for step in range(4):
        optimizer.step(params, np.ones(2))
        assert set(seen) == {step}
        assert all(type(s) is int for s in seen)
        seen.clear()


def test_current_learning_rate(make):
    """It is the rate of the step to come."""
    optimizer, params = make(halving), np.zeros(2)
    for step in range(3):
        assert optimizer.current_learning_rate == halving(step)
        optimizer.step(params, np.ones(2))
    optimizer.reset()
    assert optimizer.current_learning_rate == halving(0)
    assert make(0.25).current_learning_rate == 0.25


@pytest.mark.parametrize("rate", [np.float32(0.5), np.float64(0.5), np.array(0.5), np.longdouble(0.5)])
def test_rates_of_numpy_types(make, rate):
    """A number is a number, from a schedule too."""
    expected = run(make(0.5), np.ones(2), [np.ones(2)])
    np.testing.assert_array_equal(run(make(rate), np.ones(2), [np.ones(2)]), expected)
    np.testing.assert_array_equal(run(make(lambda step: rate), np.ones(2), [np.ones(2)]), expected)


def test_rate_may_be_changed_between_steps():
    params, optimizer = np.zeros(1), bpcore.GradientDescent(0.5)
    optimizer.step(params, np.ones(1))
    optimizer.learning_rate = 0.25
    optimizer.step(params, np.ones(1))
    assert params[0] == -0.75


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, "0.1", None, [0.1], 1j])
def test_schedule_of_a_bad_rate(make, rng, dtype, bad):
    """The error comes before anything is changed."""
    start, grads = rng.normal(size=3).astype(dtype), gradients(rng, 4, 3, dtype)
    expected = run(make(), start, grads)
    rates = {"now": 0.05}
    optimizer, params = make(lambda step: rates["now"]), start.copy()
    for grad in grads:
        before = params.tobytes()
        rates["now"] = bad
        with pytest.raises((TypeError, ValueError), match="learning_rate"):
            optimizer.step(params, grad)
        assert params.tobytes() == before
        rates["now"] = 0.05
        optimizer.step(params, grad)
    assert params.tobytes() == expected.tobytes()


def test_schedule_that_raises(make, rng):
    """Its own exception comes through, and nothing is changed."""

    class Trouble(Exception):
        pass

    def rate(step):
        if trouble:
            raise Trouble
        return 0.05

    start, grads = rng.normal(size=3), gradients(rng, 3, 3, "float64")
    optimizer, params = make(rate), start.copy()
    for grad in grads:
        trouble = True
        with pytest.raises(Trouble):
            optimizer.step(params, grad)
        trouble = False
        optimizer.step(params, grad)
    assert params.tobytes() == run(make(), start, grads).tobytes()


# ---------------------------------------------------------------------------------------------------------- state


def test_count_of_steps(make):
    optimizer, params = make(), np.zeros(2)
    assert optimizer.steps == 0
    for count in (1, 2, 3):
        optimizer.step(params, np.ones(2))
        assert optimizer.steps == count
    optimizer.reset()
    assert optimizer.steps == 0


def test_reset_forgets_all(make, rng, dtype):
    """After it the optimizer is as new, for vectors of another shape and dtype too."""
    start, grads = rng.normal(size=6).astype(dtype), gradients(rng, 5, 6, dtype)
    optimizer = make(halving)
    other = "float32" if dtype == "float64" else "float64"
    run(optimizer, np.ones(3, other), gradients(rng, 4, 3, other))
    optimizer.reset()
    assert run(optimizer, start, grads).tobytes() == run(make(halving), start, grads).tobytes()


def test_reset_before_the_first_step(make):
    optimizer = make()
    optimizer.reset()
    assert run(optimizer, np.ones(2), [np.ones(2)]).tobytes() == run(make(), np.ones(2), [np.ones(2)]).tobytes()


@pytest.mark.parametrize(
    "other", [np.ones(5), np.ones(3), np.ones(1), np.ones(4, "float32")], ids=["5", "3", "1", "float32"]
)
def test_state_belongs_to_a_shape_and_a_dtype(make_with_state, rng, other):
    """Another vector is refused, and the run goes on as if it had not been tried."""
    start, grads = rng.normal(size=4), gradients(rng, 6, 4, "float64")
    optimizer, params = make_with_state(halving), start.copy()
    for grad in grads[:3]:
        optimizer.step(params, grad)
    stranger = other.copy()
    with pytest.raises((TypeError, ValueError), match=r"params.*reset"):
        optimizer.step(stranger, np.ones_like(other))
    np.testing.assert_array_equal(stranger, other)
    assert optimizer.steps == 3
    for grad in grads[3:]:
        optimizer.step(params, grad)
    assert params.tobytes() == run(make_with_state(halving), start, grads).tobytes()


def test_state_is_not_bound_to_one_array(make, rng, dtype):
    """The vector may move in memory between steps."""
    start, grads = rng.normal(size=4).astype(dtype), gradients(rng, 5, 4, dtype)
    optimizer, params = make(), start.copy()
    for grad in grads:
        params = params.copy()
        optimizer.step(params, grad)
    assert params.tobytes() == run(make(), start, grads).tobytes()


def test_two_optimizers_share_nothing(make, rng):
    start, grads = rng.normal(size=4), gradients(rng, 5, 4, "float64")
    expected = run(make(), start, grads)
    first, second = make(), make()
    p, q = start.copy(), start.copy()
    for grad in grads:
        first.step(p, grad)
        second.step(q, grad)
    assert p.tobytes() == q.tobytes() == expected.tobytes()


@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])
def test_copies_go_on_where_the_original_was(make, rng, dtype, copied, after):
    """Copied in mid-run, both go on to the same bits, and neither disturbs the other."""
    start, grads = rng.normal(size=5).astype(dtype), gradients(rng, 9, 5, dtype)
    expected = run(make(halving), start, grads)
    optimizer = make(halving)
    middle = run(optimizer, start, grads[:after])
    other = copied(optimizer)
    assert type(other) is type(optimizer)
    assert other.steps == optimizer.steps == after
    assert repr(other) == repr(optimizer)
    assert run(other, middle, grads[after:]).tobytes() == expected.tobytes()
    assert run(optimizer, middle, grads[after:]).tobytes() == expected.tobytes()


def test_repr_makes_an_equal_one(make, rng):
    """It is Python, and says all that was asked for."""
    optimizer = make(0.125)
    again = eval(repr(optimizer), {"Adam": bpcore.Adam, "GradientDescent": bpcore.GradientDescent})
    assert repr(again) == repr(optimizer)
    start, grads = rng.normal(size=3), gradients(rng, 3, 3, "float64")
    assert run(again, start, grads).tobytes() == run(make(0.125), start, grads).tobytes()


# ------------------------------------------------------------------------------------------------- the two vectors


@pytest.mark.parametrize(
    "kind", ["float16", "float32", "float64", "longdouble", "int8", "uint16", "int64", ">f8", "bool"]
)
def test_gradients_of_other_dtypes(make, dtype, kind):
    """They are cast, and stay what they are."""
    numbers = [1, 0, 1, 0] if kind == "bool" else [1, 2, 0, 3]
    grad = np.array(numbers, kind)
    before = grad.copy()
    found = run(make(), np.ones(4, dtype), [grad] * 3)
    assert found.dtype == dtype
    assert found.tobytes() == run(make(), np.ones(4, dtype), [np.array(numbers, dtype)] * 3).tobytes()
    assert grad.dtype == kind
    assert grad.tobytes() == before.tobytes()


def test_gradients_of_other_layouts(make, rng, dtype):
    """Strided, reversed, unaligned, read-only, a subclass, a list: all the same."""
    start, grad = rng.normal(size=4).astype(dtype), gradients(rng, 1, 4, dtype)[0]
    expected = run(make(), start, [grad] * 2).tobytes()
    strided = np.zeros((4, 3), dtype)
    strided[:, 1] = grad
    raw = np.zeros(grad.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(dtype)
    unaligned[...] = grad
    fixed = grad.copy()
    fixed.flags.writeable = False
    others = [strided[:, 1], grad[::-1].copy()[::-1], unaligned, fixed, grad.view(np.recarray), grad.tolist()]
    for other in others:
        assert run(make(), start, [other] * 2).tobytes() == expected, type(other)
    np.testing.assert_array_equal(strided[:, 1], grad)
    np.testing.assert_array_equal(strided[:, [0, 2]], 0)


def test_the_gradient_is_never_changed(make, rng, dtype):
    start = rng.normal(size=6).astype(dtype)
    optimizer, params = make(), start.copy()
    for grad in gradients(rng, 5, 6, dtype):
        before = grad.tobytes()
        optimizer.step(params, grad)
        assert grad.tobytes() == before


def test_the_state_does_not_keep_the_gradient(make, rng, dtype):
    """One buffer may be filled anew for each step."""
    start, grads = rng.normal(size=6).astype(dtype), gradients(rng, 5, 6, dtype)
    optimizer, params, buffer = make(), start.copy(), np.empty(6, dtype)
    for grad in grads:
        buffer[...] = grad
        optimizer.step(params, buffer)
        buffer[...] = np.nan
    assert params.tobytes() == run(make(), start, grads).tobytes()


def test_params_are_changed_in_place(make, dtype):
    """A part of a larger vector is changed, and nothing around it; nothing is returned."""
    vector = np.ones(9, dtype)
    assert make().step(vector[3:6], np.ones(3, dtype)) is None
    np.testing.assert_array_equal(vector[[0, 1, 2, 6, 7, 8]], 1)
    assert np.all(vector[3:6] < 1)


def test_params_in_a_memory_map(make, rng, dtype, tmp_path):
    start, grads = rng.normal(size=6).astype(dtype), gradients(rng, 4, 6, dtype)
    mapped = np.memmap(tmp_path / "params", dtype, "w+", shape=6)
    mapped[...] = start
    optimizer = make()
    for grad in grads:
        optimizer.step(mapped, grad)
    assert mapped.tobytes() == run(make(), start, grads).tobytes()


def test_nan_and_infinity_propagate(make, rng, dtype):
    """They reach their own entry, at once, and no other; without a warning."""
    start, grads = rng.normal(size=5).astype(dtype), gradients(rng, 4, 5, dtype)
    expected = run(make(), start, grads)
    grads[1][1], grads[1][3] = np.nan, -np.inf
    optimizer, params = make(), start.copy()
    optimizer.step(params, grads[0])
    optimizer.step(params, grads[1])
    assert np.isnan(params[1])
    assert not np.isfinite(params[3])
    for grad in grads[2:]:
        optimizer.step(params, grad)
    assert np.isnan(params[1])
    assert not np.isfinite(params[3])
    np.testing.assert_array_equal(params[[0, 2, 4]], expected[[0, 2, 4]])


def test_overflow_is_infinity(dtype):
    """Too large a step leads to infinity, without a warning or an error."""
    big = np.finfo(dtype).max
    found = run(bpcore.GradientDescent(10.0), np.zeros(2, dtype), [np.array([big, -big], dtype)])
    np.testing.assert_array_equal(found, np.array([-np.inf, np.inf], dtype))


# ----------------------------------------------------------------------------------------------------------- errors


def read_only() -> np.ndarray:
    """A vector that must not be written."""
    params = np.ones(4)
    params.flags.writeable = False
    return params


def unaligned() -> np.ndarray:
    """A vector that starts between two addresses."""
    params = np.zeros(33, np.uint8)[1:].view("float64")
    params[...] = 1
    return params


BAD_VECTORS = {
    "params a list": (lambda: [1.0] * 4, lambda: np.ones(4), "params"),
    "params a tuple": (lambda: (1.0,) * 4, lambda: np.ones(4), "params"),
    "params None": (lambda: None, lambda: np.ones(4), "params"),
    "params a number": (lambda: 1.0, lambda: np.ones(4), "params"),
    "params of integers": (lambda: np.ones(4, int), lambda: np.ones(4), "params"),
    "params of float16": (lambda: np.ones(4, "float16"), lambda: np.ones(4), "params"),
    "params complex": (lambda: np.ones(4, complex), lambda: np.ones(4), "params"),
    "params of objects": (lambda: np.ones(4, object), lambda: np.ones(4), "params"),
    "params of the other byte order": (
        lambda: np.ones(4).astype(np.dtype("f8").newbyteorder()),
        lambda: np.ones(4),
        "params",
    ),
    "params a matrix": (lambda: np.ones((2, 2)), lambda: np.ones((2, 2)), "params"),
    "params a scalar array": (lambda: np.ones(()), lambda: np.ones(()), "params"),
    "params read-only": (read_only, lambda: np.ones(4), "params"),
    "params strided": (lambda: np.ones(8)[::2], lambda: np.ones(4), "params"),
    "params reversed": (lambda: np.ones(4)[::-1], lambda: np.ones(4), "params"),
    "params unaligned": (unaligned, lambda: np.ones(4), "params"),
    "grad too long": (lambda: np.ones(4), lambda: np.ones(5), "grad"),
    "grad too short": (lambda: np.ones(4), lambda: np.ones(3), "grad"),
    "grad of one entry": (lambda: np.ones(4), lambda: np.ones(1), "grad"),
    "grad a matrix": (lambda: np.ones(4), lambda: np.ones((4, 1)), "grad"),
    "grad a number": (lambda: np.ones(4), lambda: 1.0, "grad"),
    "grad None": (lambda: np.ones(4), lambda: None, "grad"),
    "grad complex": (lambda: np.ones(4), lambda: np.ones(4, complex), "grad"),
    "grad of text": (lambda: np.ones(4), lambda: ["a"] * 4, "grad"),
    "grad of objects": (lambda: np.ones(4), lambda: np.ones(4, object), "grad"),
    "grad of dates": (lambda: np.ones(4), lambda: np.zeros(4, "M8[s]"), "grad"),
    "grad ragged": (lambda: np.ones(4), lambda: [[1], [1, 2], [1], [1]], "grad"),
    "grad masked": (lambda: np.ones(4), lambda: np.ma.masked_array(np.ones(4), [0, 1, 0, 0]), "grad"),
}


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors(make, rng, case):
    """Each error names the argument; nothing is changed by it, before the first step or after some."""
    bad_params, bad_grad, name = BAD_VECTORS[case]
    start, grads = rng.normal(size=4), gradients(rng, 3, 4, "float64")
    optimizer, good = make(halving), start.copy()
    for step, grad in enumerate([*grads, None]):
        params, other = bad_params(), bad_grad()
        before = copy.deepcopy((params, other))
        with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
            optimizer.step(params, other)
        assert repr((params, other)) == repr(before)
        assert optimizer.steps == step
        if grad is not None:
            optimizer.step(good, grad)
    assert good.tobytes() == run(make(halving), start, grads).tobytes()


def test_a_wrong_kind_is_a_type_error(make):
    with pytest.raises(TypeError, match="params"):
        make().step([1.0], np.ones(1))
    with pytest.raises(TypeError, match="grad"):
        make().step(np.ones(1), np.ones(1, complex))


def test_a_wrong_shape_is_a_value_error_with_both_shapes(make):
    with pytest.raises(ValueError, match=r"grad must have the shape of params, \(4,\), got \(5,\)"):
        make().step(np.ones(4), np.ones(5))


@pytest.mark.parametrize("view", ["itself", "shifted", "reversed", "other dtype", "strided"])
def test_overlap_is_an_error(make, rng, dtype, view):
    """A gradient in the memory of the parameters would be changed by the step."""
    memory = rng.normal(size=12).astype(dtype)
    params = memory[4:8]
    other = "int64" if dtype == "float64" else "int32"
    grad = {
        "itself": params,
        "shifted": memory[6:10],
        "reversed": params[::-1],
        "other dtype": params.view(other),
        "strided": memory[1:9:2],
    }[view]
    before, optimizer = memory.tobytes(), make()
    with pytest.raises(ValueError, match="grad"):
        optimizer.step(params, grad)
    assert memory.tobytes() == before
    assert optimizer.steps == 0


def test_neighbours_do_not_overlap(make, rng, dtype):
    """Two halves of one buffer, and the odd and even places of another, are fine."""
    memory = rng.normal(size=8).astype(dtype)
    grad = memory[4:].copy()
    expected = run(make(), memory[:4], [grad]).tobytes()
    make().step(memory[:4], memory[4:])
    assert memory[:4].tobytes() == expected
    np.testing.assert_array_equal(memory[4:], grad)


BAD_NUMBERS = [-0.5, -1e-300, np.nan, np.inf, -np.inf, 10**400, "0.1", b"0.1", True, 1j, np.complex128(1), [0.1], {}]
RAGGED = [[1], [2, 3]]


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, np.array([0.1]), RAGGED], ids=repr)
def test_bad_learning_rate(bad):
    with pytest.raises((TypeError, ValueError), match="learning_rate"):
        bpcore.GradientDescent(bad)
    with pytest.raises((TypeError, ValueError), match="learning_rate"):
        bpcore.Adam(bad)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, 1.0000001, RAGGED], ids=repr)
def test_bad_momentum(bad):
    with pytest.raises((TypeError, ValueError), match="momentum"):
        bpcore.GradientDescent(0.1, momentum=bad)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, 1.0, 1, 2.0, RAGGED], ids=repr)
@pytest.mark.parametrize("name", ["beta1", "beta2"])
def test_bad_decay(name, bad):
    with pytest.raises((TypeError, ValueError), match=name):
        bpcore.Adam(**{name: bad})


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, RAGGED], ids=repr)
def test_bad_epsilon(bad):
    with pytest.raises((TypeError, ValueError), match="epsilon"):
        bpcore.Adam(epsilon=bad)


def test_kinds_of_errors():
    """Out of range is a ValueError, not a number a TypeError."""
    with pytest.raises(ValueError, match=r"learning_rate must be .*, got -1"):
        bpcore.GradientDescent(-1)
    with pytest.raises(TypeError, match=r"learning_rate must be a number, got '1'"):
        bpcore.GradientDescent("1")
    with pytest.raises(ValueError, match=r"beta1 must be .*, got 1"):
        bpcore.Adam(beta1=1)
    with pytest.raises(TypeError, match=r"epsilon must be a number, got None"):
        bpcore.Adam(epsilon=None)


def test_nesterov_needs_a_momentum():
    with pytest.raises(ValueError, match=r"momentum must be > 0 with nesterov"):
        bpcore.GradientDescent(0.1, nesterov=True)


def test_bounds_that_are_allowed(rng):
    """The ends of the ranges work, and give finite parameters."""
    below_one = np.nextafter(1.0, 0.0)
    grads = [rng.normal(size=3) for _ in range(3)]
    for optimizer in (
        bpcore.GradientDescent(0),
        bpcore.GradientDescent(0.1, momentum=1),
        bpcore.GradientDescent(0.1, momentum=1, nesterov=True),
        bpcore.Adam(0.1, beta1=0, beta2=0, epsilon=1e-8),
        bpcore.Adam(0.1, beta1=below_one, beta2=below_one),
    ):
        assert np.isfinite(run(optimizer, np.ones(3), grads)).all(), optimizer


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [(bpcore.GradientDescent(0.1, 0.9), n) for n in ("momentum", "nesterov")]
    + [(bpcore.Adam(), n) for n in ("beta1", "beta2", "epsilon")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_the_state_belongs_to_is_fixed(optimizer, name):
    """A value that could be set would have to be heard by step and by train; the learning rate is."""
    with pytest.raises(AttributeError):
        setattr(optimizer, name, getattr(optimizer, name))
