"""Everything in the README and in docs/ that can be run is run."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typing_example

import bpcore
from bpcore import cli, fallback

pytestmark = pytest.mark.usefixtures("backend")

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(path: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


COMMANDS = [
    line for path in DOCUMENTS for language, block in blocks(path) if language == "sh" for line in block.splitlines()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks(path):
    """One after the other, in one namespace, as a reader would; what they assert holds."""
    if path.name == "scikit_learn.md":
        pytest.importorskip("sklearn", reason="scikit-learn comes with the dev extra; not every platform has it")
    names: dict[str, object] = {}
    for language, block in blocks(path):
        if language == "python":
            exec(compile(block, str(path), "exec"), names)


def test_the_script_with_processes(tmp_path, backend):
    """As a file: a process that is started anew imports what it computes from there."""
    (script,) = [block for language, block in blocks(ROOT / "docs" / "quickstart.md") if language == "py"]
    (tmp_path / "script.py").write_text(script + '    print("rows", whole.rows)\n')
    environment = {**os.environ, "BPCORE_BACKEND": backend}
    command = [sys.executable, "-W", "error", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "rows 1000\n"), done.stdout + done.stderr


def test_the_readme_trains():
    names: dict[str, object] = {}
    for language, block in blocks(ROOT / "README.md"):
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)
    assert names["accuracy"] > 0.95
    assert names["result"].success


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
    assert sorted(line.split()[0] for line in lines) == ["predict", "train", "train"]
    for line in sorted(lines, key=lambda line: line.startswith("predict")):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert cli.main(shlex.split(line)) == 0
    found = [line.split(",")[0] for line in output.getvalue().splitlines()[1:]]
    assert np.mean(np.array(found) == names) > 0.9


def test_the_readme_is_short_and_its_test_command_is_that_of_the_gate():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 130
    assert "\npip install -e '.[dev]' && python -m pytest\n" in readme
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_formulas_stand_beside_the_lines_that_compute_them():
    """Every piece of code in the columns of fallback.py is a part of it, every name of a compiled function exists."""
    source = Path(fallback.__file__).read_text(encoding="utf-8")
    columns, count = [], 0
    for line in (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = [i for i, cell in enumerate(cells) if "fallback.py" in cell]
        for code in (code for i in columns for code in re.findall("`(.*?)`", cells[i]) if code != "fallback.py"):
            assert code in source, code
            count += 1
    assert count > 25


def test_links_to_files_lead_somewhere():
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(((?!https?:|#)[^)#]+)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def examples() -> list[doctest.DocTest]:
    """The examples in the docstrings of all public names, and of the methods of public classes."""
    finder = doctest.DocTestFinder(recurse=False)
    names = {"bpcore": bpcore}
    modules = ["bpcore", "bpcore.sklearn"] if importlib.util.find_spec("sklearn") else ["bpcore"]
    for module in map(importlib.import_module, modules):
        for name in module.__all__:
            value = names[f"{module.__name__}.{name}"] = getattr(module, name)
            if isinstance(value, type):
                methods = [method for method in vars(value) if method[0] != "_"]
                names |= {f"{module.__name__}.{name}.{method}": getattr(value, method) for method in methods}
    globs = {"bpcore": bpcore, "np": np}
    found = [finder.find(value, name, globs=globs) for name, value in names.items() if hasattr(value, "__doc__")]
    return [test for tests in found for test in tests]


@pytest.mark.parametrize("example", [e for e in examples() if e.examples], ids=lambda example: example.name)
def test_examples_of_docstrings(example, capsys):
    runner = doctest.DocTestRunner()
    runner.run(example, clear_globs=False)
    assert runner.failures == 0, capsys.readouterr().out


def test_every_public_name_is_documented_with_an_example():
    docstrings = {test.name: test.docstring for test in examples()}
    reference = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    for name in bpcore.__all__:
        assert re.search(rf"\b{name}\n", reference), name
        if name not in ("backend", "ModelFileError"):  # a string, an exception
            assert re.search(">>>|Examples\n", docstrings[f"bpcore.{name}"]), name


def test_typing_example():
    assert np.isfinite(typing_example.main())


def test_the_name_of_the_backend_is_printed(capsys):
    test_python_blocks(ROOT / "docs" / "quickstart.md")
    assert bpcore.backend in capsys.readouterr().out
