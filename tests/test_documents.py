"""Everything in the README and in docs/ that can be run is run."""

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
    names: dict[str, object] = {}
    for language, block in blocks(path):
        if language == "python":
            exec(compile(block, str(path), "exec"), names)


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


def test_links_to_files_lead_somewhere():
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(((?!https?:|#)[^)#]+)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_typing_example():
    assert np.isfinite(typing_example.main())


def test_the_name_of_the_backend_is_printed(capsys):
    test_python_blocks(ROOT / "docs" / "quickstart.md")
    assert bpcore.backend in capsys.readouterr().out
