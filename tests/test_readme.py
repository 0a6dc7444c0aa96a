"""Everything in the README that can be run is run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typing_example

import bpcore
from bpcore import cli

pytestmark = pytest.mark.usefixtures("backend")

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


def test_python_blocks(capsys):
    """One after the other, in one namespace, as a reader would."""
    names: dict[str, object] = {}
    blocks = [block for language, block in BLOCKS if language == "python"]
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
        if "accuracy" in names and "result" not in names:
            assert names["accuracy"] > 0.95
    assert names["result"].success
    expected = names["net"].cost_and_gradient(names["params"], names["X"], names["Y"], l2=1e-4)
    assert names["cost"] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(names["grad"], expected[1], rtol=1e-9, atol=1e-12)
    assert bpcore.backend in capsys.readouterr().out


def test_command_lines(tmp_path, monkeypatch):
    """Those of bpcore; what installs and tests is run by the gate."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    names = np.where(X[:, 0] > 0, "yes", "no")
    with open("DATA.csv", "w") as file:
        file.write("a,b,c,NAME\n")
        file.writelines(f"{a},{b},{c},{name}\n" for (a, b, c), name in zip(X, names))
    with open("NEW.csv", "w") as file:
        file.write("a,b,c\n")
        file.writelines(f"{a},{b},{c}\n" for a, b, c in X)
    lines = [re.sub(r"^.*&& ", "", line) for line in COMMANDS]
    lines = [line.removeprefix("python -m bpcore ") for line in lines if line.startswith("python -m bpcore ")]
    assert [line.split()[0] for line in lines] == ["train", "train", "predict"]
    for line in lines:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert cli.main(shlex.split(line)) == 0
    found = [line.split(",")[0] for line in output.getvalue().splitlines()[1:]]
    assert np.mean(np.array(found) == names) > 0.9


def test_the_gate_runs_the_test_command():
    gate = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert COMMANDS[1] == "pip install -e '.[dev]' && python -m pytest"
    assert "README.md" in gate


def test_typing_example():
    assert np.isfinite(typing_example.main())
