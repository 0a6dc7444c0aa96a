"""The hunt finds nothing in a few fixed cases and finds planted faults, and its oracle is right."""

from __future__ import annotations

import ast
import subprocess
import sys
from types import SimpleNamespace

import hunt
import numpy as np
import oracle
import pytest
from helpers import COMBINATIONS, dispatch, outputs_for

import bpcore
from bpcore import fallback
from bpcore.architecture import ACTIVATIONS

SEED = 20


def quick_cases(count: int):
    """The first cases of little work."""
    found = (case for i in range(1000) if work(case := hunt.draw(SEED, i)) < 3e5 and not case.get("jax"))
    return [next(found) for _ in range(count)]


def work(case) -> int:
    return hunt.n_parameters(case["sizes"]) * case["rows"]


# ------------------------------------------------------------------------------------------- nothing where all is right


def test_a_few_cases_are_right(backend):
    assert sum(hunt.check(**case).calls for case in quick_cases(12)) > 100


def test_as_a_program(tmp_path):
    """In a process for each backend, with its own table of C functions."""
    command = [sys.executable, hunt.__file__, "--seed", str(SEED), "--cases", "3", "--seconds", "100"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in bpcore.available_backends():
        assert f"\n{name}: " in result.stdout
    assert result.stdout.count("next --first 3\n") == len(bpcore.available_backends())


def test_a_case_is_the_same_each_time():
    case = hunt.draw(1, 2)
    assert case == hunt.draw(1, 2) != hunt.draw(1, 3)
    assert ast.literal_eval(repr(case)) == case
    first, second = hunt.Problem(case), hunt.Problem(case)
    np.testing.assert_array_equal(first.params, second.params)
    np.testing.assert_array_equal(first.X, second.X)


def test_every_name_is_drawn():
    cases = [hunt.draw(3, i) for i in range(2500)]
    drawn = {(case.get("loss", "squared_error"), case.get("output")) for case in cases}
    assert drawn >= set(COMBINATIONS)
    heads = [head for case in cases for head in case.get("heads", [])]
    assert {loss for loss, *_ in heads} == {loss for loss, _ in COMBINATIONS}
    assert {output for _, _, output, *_ in heads} == {output for _, output in COMBINATIONS}
    assert {g for case in cases for g in case.get("hidden", [])} == set(ACTIVATIONS)
    assert {layout for case in cases for layout in case.get("layouts", {}).values()} == set(hunt.LAYOUTS)
    assert {case.get("numbers", "usual") for case in cases} == set(hunt.NUMBERS)
    assert {route for case in cases for route in case["routes"]} == set(hunt.ROUTES)
    assert {case["rows"] for case in cases} >= set(range(1, 8))


# --------------------------------------------------------------------------- faults in the reference implementation


def drop_the_last_row_of_a_tile(monkeypatch):
    tiles = fallback.Plan.tiles

    def fewer(plan, start, stop):
        return (slice(t.start, t.stop - (t.stop - t.start > 1)) for t in tiles(plan, start, stop))

    monkeypatch.setattr(fallback.Plan, "tiles", fewer)


def forget_the_bias(monkeypatch):
    forward_tile = fallback.forward_tile

    def without(plan, params, X):
        params = params.copy()
        plan.layers(params)[-1][1][...] = 0
        return forward_tile(plan, params, X)

    monkeypatch.setattr(fallback, "forward_tile", without)


def a_derivative_a_little_off(monkeypatch):
    g, derivative = fallback.ACTIVATIONS_WITH_DERIVATIVE["tanh"]
    monkeypatch.setitem(fallback.ACTIVATIONS_WITH_DERIVATIVE, "tanh", (g, lambda z: derivative(z) * (1 + 1e-4)))


def a_penalty_on_the_bias(monkeypatch):
    finish = fallback.finish

    def penalised(plan, params, sums, weight, l2, out):
        finish(plan, params, sums, weight, l2, out)
        plan.layers(out)[0][1][...] += l2 * plan.layers(params)[0][1]

    monkeypatch.setattr(fallback, "finish", penalised)


def momentum_forgotten(monkeypatch):
    step = fallback.gradient_descent_step

    def plain(params, grad, velocity, learning_rate, momentum, nesterov):
        step(params, grad, velocity, learning_rate, momentum * 0.99, nesterov)

    monkeypatch.setattr(fallback, "gradient_descent_step", plain)


def an_input_changed(monkeypatch):
    forward = fallback.forward

    def scribble(plan, params, X, out, *rest):
        forward(plan, params, X, out, *rest)
        if X.flags.writeable:
            X[-1, -1] += 1

    monkeypatch.setattr(fallback, "forward", scribble)


def a_direction_without_its_bias(monkeypatch):
    jvp = fallback.jvp

    def without(plan, params, X, directions, *rest):
        d_params, d_X = directions
        if d_params is not None:
            d_params = d_params.copy()
            plan.layers(d_params)[0][1][...] = 0
        jvp(plan, params, X, (d_params, d_X), *rest)

    monkeypatch.setattr(fallback, "jvp", without)


def a_norm_without_biases(monkeypatch):
    norms = fallback.row_norms

    def without(plan, params, a, derivatives, delta):
        return np.sqrt(norms(plan, params, a, derivatives, delta) ** 2 - np.sum(np.square(delta), axis=1))

    monkeypatch.setattr(fallback, "row_norms", without)


def outputs_in_reverse(monkeypatch):
    jacobian = fallback.jacobian

    def reverse(plan, params, X, out, *rest):
        jacobian(plan, params, X, out, *rest)
        rows = out.reshape(len(X), plan.sizes[-1], -1)
        rows[...] = rows[:, ::-1].copy()

    monkeypatch.setattr(fallback, "jacobian", reverse)


def an_entry_of_another_row(monkeypatch):
    input_jacobian = fallback.input_jacobian

    def shifted(plan, params, X, out, *rest):
        input_jacobian(plan, params, X, out, *rest)
        out[-1:] = out[:1]

    monkeypatch.setattr(fallback, "input_jacobian", shifted)


def deltas_of_the_first_rows(monkeypatch):
    deltas = fallback.deltas

    def first(plan, params, given, out, *rest):
        deltas(plan, params, given, out, *rest)
        for delta in out:
            delta[-1:] = delta[:1]

    monkeypatch.setattr(fallback, "deltas", first)


def logits_forgotten(monkeypatch):
    backward = fallback.backward
    monkeypatch.setattr(
        fallback,
        "backward",
        lambda plan, params, given, *rest: backward(plan, params, given._replace(of_logits=False), *rest),
    )


FAULTS = [
    drop_the_last_row_of_a_tile,
    forget_the_bias,
    a_derivative_a_little_off,
    a_penalty_on_the_bias,
    momentum_forgotten,
    an_input_changed,
    a_direction_without_its_bias,
    a_norm_without_biases,
    outputs_in_reverse,
    an_entry_of_another_row,
    deltas_of_the_first_rows,
    logits_forgotten,
]


@pytest.fixture
def reference(monkeypatch):
    """Plain Python computes."""
    monkeypatch.setattr(dispatch, "core", dispatch.load("python"))
    monkeypatch.setattr(bpcore, "backend", "python")


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("put_in", FAULTS)
def test_a_fault_is_found_and_made_small(put_in, monkeypatch):
    put_in(monkeypatch)
    case = next(case for case in quick_cases(40) if hunt.fault(case))
    with pytest.raises(AssertionError):
        hunt.check(**case)
    smaller = hunt.shrink(case, hunt.fault, 2.0)
    assert hunt.fault(smaller)
    assert work(smaller) < work(case) or work(case) <= 4
    assert len(smaller.get("routes", hunt.ROUTES)) <= len(case["routes"])
    line = hunt.as_line(smaller)
    assert "\n" not in line
    with pytest.raises(AssertionError):
        exec(line)


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row_of_many_is_missed(dtype, monkeypatch):
    """The tolerance is for rounding alone."""
    drop_the_last_row_of_a_tile(monkeypatch)
    for loss, output in (("squared_error", "identity"), ("cross_entropy", "softmax"), ("huber", "gelu")):
        fault = hunt.fault(
            {"sizes": [7, 30, 20, 3], "hidden": ["tanh", "silu"], "loss": loss, "output": output, "rows": 2000,
             "dtype": dtype, "routes": ["gradient"]}
        )  # fmt: skip
        assert fault is not None
        assert fault.startswith("cost_and_gradient")


@pytest.mark.usefixtures("reference")
def test_threads_that_differ_are_found(monkeypatch):
    accumulate = fallback.accumulate

    def by_the_way(plan, params, batch, sums, total=None, chunk_range=None, threads=1):
        losses = accumulate(plan, params, batch, sums, total, chunk_range, threads)
        if threads == 3:
            for numbers in (sums, total):
                if numbers is not None:
                    numbers *= 1 + 2 * np.finfo(sums.dtype).eps
        return losses

    monkeypatch.setattr(fallback, "accumulate", by_the_way)
    fault = hunt.fault({"sizes": [3, 2], "rows": 5000, "routes": ["gradient"]})
    assert fault is not None
    assert "same bits" in fault


# --------------------------------------------------------------------------------------- processes that do not end well


def with_children_that_run(code: str, monkeypatch) -> None:
    def start(hunter, *arguments):
        return subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True)

    monkeypatch.setattr(hunt.Hunter, "start", start)
    monkeypatch.setattr(hunt, "SHRINK_SECONDS", 1.0)


def test_a_crash_is_reported_with_its_case(monkeypatch, capsys):
    with_children_that_run("import os; print('{\"begun\": 5}', flush=True); os._exit(77)", monkeypatch)
    assert hunt.main(["--backend", "python", "--seconds", "5", "--seed", "1"]) == 1
    printed = capsys.readouterr().out
    assert "ended with code 77" in printed
    assert "hunt.check(sizes=[" in printed
    assert "next --first 0" in printed


def test_a_backend_that_cannot_start_is_reported(monkeypatch, capsys):
    with_children_that_run("raise SystemExit('no such backend')", monkeypatch)
    assert hunt.main(["--backend", "python", "--seconds", "5"]) == 1
    assert "no such backend" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("name", [name for name in oracle.ACTIVATIONS if name != "softmax"])
def test_activations_are_those_of_mpmath(name, monkeypatch):
    mp = pytest.importorskip("mpmath")
    formulas = {
        "identity": lambda z: z,
        "sigmoid": lambda z: 1 / (1 + mp.exp(-z)),
        "tanh": mp.tanh,
        "relu": lambda z: max(z, 0),
        "leaky_relu": lambda z: z if z > 0 else mp.mpf(oracle.LEAKY_SLOPE) * z,
        "elu": lambda z: z if z > 0 else mp.expm1(z),
        "softplus": lambda z: mp.log1p(mp.exp(z)),
        "silu": lambda z: z / (1 + mp.exp(-z)),
        "gelu": lambda z: z * mp.ncdf(z),
        "exp": mp.exp,
    }
    z = np.array([-30.5, -5.25, -1.0, -0.125, 0.0625, 0.75, 3.5, 20.0])
    a = oracle.ACTIVATIONS[name](z)
    with mp.workdps(50):
        values = [float(formulas[name](mp.mpf(x))) for x in z]
        derivatives = [float(mp.diff(formulas[name], mp.mpf(x))) for x in z]
    np.testing.assert_allclose(a, values, rtol=1e-14)
    np.testing.assert_allclose(oracle.DERIVATIVES[name](z, a), derivatives, rtol=1e-12)
    for special in (oracle.special, None):  # with SciPy, if it is there, and without
        monkeypatch.setattr(oracle, "special", special)
        np.testing.assert_allclose(oracle.by_complex_step(oracle.ACTIVATIONS[name], z, 1.0), derivatives, rtol=1e-12)


def test_one_linear_layer_in_closed_form(rng):
    net = SimpleNamespace(sizes=(3, 2), activations=("identity",), loss="squared_error")
    params, X, Y = rng.normal(size=8), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    reference = oracle.Reference(net.sizes, net.activations, net.loss, params, X, 1e-16)
    W, b = params[:6].reshape(2, 3), params[6:]
    r = X @ W.T + b - Y
    found = reference.backward(*reference.output_delta(Y), np.ones(5))
    np.testing.assert_allclose(found.sums, np.concatenate([(r.T @ X).ravel(), r.sum(axis=0)]), rtol=1e-13)
    np.testing.assert_allclose(reference.losses(Y)[0], (r**2).sum(axis=1) / 2, rtol=1e-13)
    np.testing.assert_allclose(oracle.cost(net, params, X, Y, np.ones(5), 0.0), (r**2).sum() / 10, rtol=1e-13)
    [(_, weights, _)] = reference.row_gradients(reference.deltas(*reference.output_delta(Y)))
    np.testing.assert_allclose(weights, np.einsum("mk,mi->mki", r, X), rtol=1e-13)
    norms = np.sqrt((r**2).sum(axis=1) * ((X**2).sum(axis=1) + 1))
    np.testing.assert_allclose(reference.gradient_norms(*reference.output_delta(Y))[0], norms, rtol=1e-13)
    d_params, d_X = rng.normal(size=8), rng.normal(size=(5, 3))
    tangents = d_X @ W.T + X @ d_params[:6].reshape(2, 3).T + d_params[6:]
    np.testing.assert_allclose(reference.tangents(d_params, d_X)[0], tangents, rtol=1e-13)


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_the_reference_is_what_complex_steps_give(loss, output):
    sizes = [4, 6, 5, outputs_for(loss, 3)]
    case = {"sizes": sizes, "hidden": ["elu", "softplus"], "loss": loss, "output": output, "rows": 9, "l2": 0.1}
    checker = hunt.Checker({**case, "weights": "some", "seed": 3})
    checker.complex_step()
    checker.complex_step_of_rows()
    checker.reference()


def test_the_reference_is_what_jax_gives():
    """One network of all activations, for JAX compiles every operation anew."""
    pytest.importorskip("jax", reason="jax comes with the dev extra; not every platform has it")
    sizes = [4, *(5 for _ in ACTIVATIONS), 3]
    hunt.Checker(
        {"sizes": sizes, "hidden": list(ACTIVATIONS), "loss": "cross_entropy", "output": "softmax", "rows": 9,
         "l2": 0.1, "weights": "some", "seed": 3}
    ).jax()  # fmt: skip
