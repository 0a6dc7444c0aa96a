"""The sources keep to what CONTRIBUTING.md says of them; run from a checkout alone."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "bpcore").rglob("*.pyx"))
PACKAGE = ROOT / "python" / "bpcore"
MAX_LINES, MAX_ARGUMENTS = 70, 7
#: The functions of the table for C take plain pointers and numbers, as ctypes, Numba and Fortran pass them: a struct
#: would have to be declared anew in each of these languages.
FLAT = ("c_api.pyx", "capi_functions.pyx", "api.pyx")


def functions(text):
    """Name, number of lines and arguments of every function of a Cython source."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r" *(cdef|cpdef|def) [^=]*\(", line)]
    for start in starts:
        indent = len(lines[start]) - len(lines[start].lstrip())
        header, end = lines[start], start
        while header.count("(") > header.count(")"):
            end += 1
            header += " " + lines[end].strip()
        name, _, rest = header.partition("(")
        if not header.rstrip().endswith(":"):  # a declaration
            continue
        arguments, depth, count = rest[: rest.rindex(")")], 0, 0
        for character in arguments:
            depth += (character in "([{") - (character in ")]}")
            count += character == "," and depth == 0
        while end + 1 < len(lines) and (not lines[end + 1].strip() or lines[end + 1].startswith(" " * (indent + 1))):
            end += 1
        while not lines[end].strip():
            end -= 1
        yield name.split()[-1], end - start + 1, count + bool(arguments.strip())


def test_functions_are_found():
    found = {name: (lines, arguments) for source in SOURCES for name, lines, arguments in functions(source.read_text())}
    assert len(found) > 200
    assert found["gemm"][1] == 6
    assert found["round_up"] == (3, 2)
    assert found["poll"] == (17, 1)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_function_is_long_or_takes_many_arguments(source):
    long = [
        (name, lines, arguments)
        for name, lines, arguments in functions(source.read_text())
        if lines > MAX_LINES or (arguments > MAX_ARGUMENTS and source.name not in FLAT)
    ]
    assert not long


def imports(path):
    """The modules of the package that one needs when it is imported."""
    nodes = list(ast.parse(path.read_text()).body)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from names
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            nodes += node.body


def test_no_circle_among_modules():
    modules = {path.stem: path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    graph = {name: set(imports(path)) & set(modules) for name, path in modules.items()}
    assert "_chunks" in graph["network"]
    assert "network" not in graph["_chunks"] | graph["_validation"] | graph["_dispatch"] | graph["fallback"]
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_generated_files_are_those_of_the_header():
    generator = ROOT / "src" / "bpcore" / "bindings" / "generate_capi.py"
    done = subprocess.run([sys.executable, generator, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_functions_that_documents_name_exist():
    sources = (ROOT / "setup.py").read_text() + "\n".join(
        path.read_text() for path in [*SOURCES, *PACKAGE.glob("*.py"), *(ROOT / "tests").glob("*.py")]
    )
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    answers = contributing[contributing.index("| question") : contributing.index("## Profile")]
    rows = [line.split("|") for line in (ROOT / "docs" / "mathematics.md").read_text().splitlines()]
    named = [name for row in rows if len(row) == 6 for name in re.findall(r"`(\w+)`", row[4])]
    named += re.findall(r"`([a-z_]+)`", answers)
    assert len(named) > 20
    for name in named:
        assert re.search(rf"\b{name}\b( =|\(|:)", sources), name
