"""The benchmark runs, in its quickest form, and times nothing when a gradient is wrong. No time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bpcore
from bpcore.cli import bench as quick
from bpcore.cli import main

FOLDER = Path(__file__).parent / "benchmarks"
QUICKEST = ["--rounds", "1", "--seconds", "0"]


@pytest.fixture
def program(monkeypatch):
    """The benchmark as a module, to be called in this process."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("bench")
    for name in ("bench", "peers"):
        del sys.modules[name]


def wrong(call):
    """The call, with one entry of its gradient a little off."""

    def result():
        cost, grad = call()
        grad = grad.copy()
        grad[-1] += 1e-3 * np.max(np.abs(grad))
        return cost, grad

    return result


def test_quick_form(capsys, monkeypatch):
    monkeypatch.setattr(quick, "CELLS", quick.CELLS[:2])
    assert main(["bench", *QUICKEST]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.isascii()
    for cell in quick.CELLS:
        assert cell.name in out
    for name in bpcore.available_backends():
        assert out.count(f" {name} ") >= 2
    assert main(["bench", "--backends", "abacus"]) == 2
    assert "the backend must be one that this machine can run" in capsys.readouterr().err


def test_quick_form_times_nothing_when_a_gradient_is_wrong(capsys, monkeypatch):
    right = quick.our_call
    monkeypatch.setattr(quick, "our_call", lambda *args: wrong(right(*args)))
    monkeypatch.setattr(quick, "rounds_of", lambda *args: pytest.fail("timed"))
    assert main(["bench", *QUICKEST]) == 2
    assert "the gradient differs from the reference" in capsys.readouterr().err


def test_program(tmp_path):
    command = [sys.executable, str(FOLDER / "bench.py"), *QUICKEST, "--accuracy-rows", "1000"]
    command += ["--cells", "2-8-1|digits", "--peers", "numpy", "--threads", "1", "--markdown", "--json", "times.json"]
    where = os.path.dirname(os.path.dirname(bpcore.__file__))
    environment = os.environ | {"PYTHONPATH": where, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    assert "### 1 thread" in ran.stdout
    assert "### Accuracy" in ran.stdout
    assert not hasattr(os, "sched_getaffinity") or f"Pinned to CPU {max(os.sched_getaffinity(0))}" in ran.stdout
    (part,) = json.loads((tmp_path / "times.json").read_text())["parts"]
    assert len(part["cells"]) == 3  # a gradient, an epoch, a population
    for cell in part["cells"]:
        assert set(cell["seconds"]) == {*bpcore.available_backends(), "NumPy"}
    assert all(error["largest"] < 1e-4 for error in part["accuracy"].values())


def arguments(program, *peers):
    """The arguments of a part, as ``main`` makes them."""
    return program.argparse.Namespace(
        cases=[program.CASES[0], program.CASES[2]],
        backends=bpcore.available_backends(),
        peers=list(peers),
        rounds=1,
        seconds=0,
        accuracy_rows=0,
    )


@pytest.mark.parametrize("culprit", ["ours", "a peer"])
def test_program_times_nothing_when_a_gradient_is_wrong(program, monkeypatch, culprit):
    monkeypatch.setattr(program, "rounds_of", lambda *args: pytest.fail("timed"))
    if culprit == "ours":
        right = program.our_call
        monkeypatch.setattr(program, "our_call", lambda *args: wrong(right(*args)))
    else:

        class Wrong(program.peers.NumPy):
            def cost_and_layers(self, result):
                cost, layers = super().cost_and_layers(result)
                return cost, [(W, 1.001 * b) for W, b in layers]

        monkeypatch.setitem(program.peers.PEERS, "wrong", Wrong)
    with pytest.raises(program.Disagreement, match="the gradient differs from the reference"):
        program.run_part(arguments(program, "wrong" if culprit == "a peer" else "numpy"), 1)


@pytest.mark.parametrize("culprit", ["ours", "a peer"])
def test_program_times_no_population_when_one_gradient_is_wrong(program, monkeypatch, culprit):
    monkeypatch.setattr(program, "rounds_of", lambda *args: pytest.fail("timed"))
    if culprit == "ours":
        right = program.our_population
        monkeypatch.setattr(program, "our_population", lambda *args: wrong(right(*args)))
    else:

        class Wrong(program.peers.NumPy):
            def costs_and_gradients(self, result):
                return wrong(lambda: result)()

        monkeypatch.setitem(program.peers.PEERS, "wrong", Wrong)
    args = arguments(program, "wrong" if culprit == "a peer" else "numpy")
    args.cases = [program.Population((2, 3, 1), "tanh", "squared_error", 4, networks=5)]
    with pytest.raises(program.Disagreement, match="network 4: the gradient differs from the reference"):
        program.run_part(args, 1)


def test_population_is_that_many_networks(program):
    case = program.Population((2, 3, 1), "tanh", "squared_error", 4, networks=5)
    params, X, Y = case.data()
    assert params.shape == (5, 13)
    assert len(np.unique(params, axis=0)) == 5
    calls, inexact = program.competitors(case, bpcore.available_backends(), [program.peers.NumPy()], 1)
    assert inexact == {}
    assert list(calls) == [*bpcore.available_backends(), "NumPy"]
    for call in calls.values():
        costs, grads = call()
        for vector, cost, grad in zip(params, costs, grads):
            exact_cost, exact = case.network().cost_and_gradient(vector, X, Y)
            assert cost == pytest.approx(exact_cost, rel=1e-5)
            np.testing.assert_allclose(grad, exact, rtol=1e-4, atol=1e-6)


def test_peer_that_is_not_exact_is_reported_and_not_timed(program, monkeypatch):
    class Rough(program.peers.NumPy):
        """Not exact for more than one row."""

        name = "Rough"
        exact = False

        def gradient(self, cell, *args):
            self.factor = 1 if cell.rows == 1 else 1.01
            return super().gradient(cell, *args)

        def cost_and_layers(self, result):
            cost, layers = super().cost_and_layers(result)
            return cost, [(self.factor * W, self.factor * b) for W, b in layers]

    monkeypatch.setitem(program.peers.PEERS, "rough", Rough)
    part = program.run_part(arguments(program, "numpy", "rough"), 1)
    one, several = part["cells"]
    assert {"NumPy", "Rough"} <= set(one["seconds"])
    assert one["inexact"] == {}
    assert "Rough" not in several["seconds"]
    quantity, error = several["inexact"]["Rough"]
    assert quantity == "gradient"
    assert error == pytest.approx(0.01, rel=0.01)
    report = {"machine": "m", "command": "c", "versions": {}, "unset": [], "parts": [part]}
    lines = program.report_lines(json.loads(json.dumps(report)), markdown=False)
    assert "missing peers: Rough (the gradient is up to 1e-02 off in 1 of 2 cells, which are not timed)" in lines


def test_targets_with_one_thread_and_with_two(program):
    """One thread has the cell's, two have one for all; a table has both columns."""
    args = arguments(program, "numpy")
    args.cases = [program.Case((2, 3, 1), "tanh", "squared_error", 4, least=5, aim=10, rival="NumPy")]
    for threads, target in ((1, "NumPy 5 / 10"), (2, "1 / 1.3")):
        part = program.run_part(args, threads)
        report = {"machine": "m", "command": "c", "versions": {}, "unset": [], "parts": [part]}
        header, _, row = program.report_lines(report, markdown=True)[-3:]
        cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (header, row))))
        assert cells["target"] == target
        assert cells["met"] != "-"


def test_subnormal_cells_are_subnormal_and_are_checked(program):
    inputs, weights = (case for case in program.CASES if isinstance(case, program.Subnormal))
    tiny = np.finfo(np.float32).tiny
    params, X, _ = inputs.data()
    assert 0 < np.max(np.abs(X)) < tiny
    assert np.min(np.abs(params[params != 0])) > tiny
    params, _, _ = weights.data()
    *hidden, last = weights.network().layers(params)
    for layer in hidden:
        small = np.abs(layer.weights) < tiny
        assert 0.55 < small.mean() < 0.65
        assert np.all(layer.weights != 0)
    assert np.min(np.abs(last.weights)) > tiny
    for case in (inputs, weights):
        calls, _ = program.competitors(case, bpcore.available_backends()[:1], [program.peers.NumPy()], 1)
        assert len(calls) == 2


def test_missing_peer_is_named(program, monkeypatch):
    class Missing:
        name = "Abacus"

        def __init__(self, threads):
            raise ImportError("No module named 'abacus'")

    monkeypatch.setitem(program.peers.PEERS, "abacus", Missing)
    part = program.run_part(arguments(program, "numpy", "abacus"), 1)
    assert part["missing"] == {"Abacus": "No module named 'abacus'"}
    report = {"machine": "m", "command": "c", "versions": {}, "unset": [], "parts": [part]}
    assert "missing peers: Abacus (No module named 'abacus')" in program.report_lines(report, markdown=False)
