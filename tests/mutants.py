"""Faults planted one at a time, to see that the suite finds each: tests/README.md has the last table.

    python tests/mutants.py [--only TEXT ...] [--first I] [--folder F] [--quick]

The tree is copied; each mutant changes one place of the copy, builds one backend where that place is compiled, and runs
the tests on it, file by file, until one fails: first the files that are most likely to. mutants_list.py has the faults.
With ``--folder`` the copy stays, and so do its build and the results: a mutant that was killed is not tried again.

The table goes to standard output. The exit status is 1 if a mutant survives and does not say why it must.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutants_list import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
#: The order of the test files: those that find most faults in the least time come first.
ORDER = (
    *("loops", "gradients", "parity", "contract", "accumulator", "optimizers", "chunks", "found", "layout", "training"),
    "derivatives",
    *("subnormal", "buffers", "elementary", "hunt", "gradient_check", "published", "scipy", "embedding_python"),
    "embedding",
)
#: What does not compute: no fault of the core is found there alone.
LEFT_OUT = ("table", "cli", "bench", "documents", "model", "backend", "sources")
#: What needs a compiled core: left out where Python computes, where part of it cannot even be imported.
COMPILED_ALONE = ("core", "elementary", "layout", "embedding")
#: Seconds after which a file of tests counts as hanging.
LIMIT = 400.0
#: pytest's exit status where a file has no test for the backend.
NO_TESTS = 5


@dataclass(frozen=True)
class Mutant:
    """A fault: texts that occur once in a file, and what stands in their place."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]  # what is tried first: names of test files, or file::test
    why: str  # why no test can find it, if so

    @property
    def key(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def path(self) -> str:
        return f"{'python' if self.in_python else 'src'}/bpcore/{self.file}"

    @property
    def in_python(self) -> bool:
        return self.file.endswith(".py")


def mutants() -> Iterator[Mutant]:
    for file, tests, entries in MUTANTS:
        for name, edits, *why in entries:
            if isinstance(edits[0], str):
                edits = (edits,)
            yield Mutant(name, file, edits, tuple(tests.split()), why[0] if why else "")


# ------------------------------------------------------------------------------------------------------ the copy


def copy_tree(folder: Path, backend: str) -> Path:
    """A copy of the tree whose setup.py builds that backend alone, and fast; one that is there is made to be the same.

    Files that have not changed keep their time, so that they are not compiled again.
    """
    tree = folder / "tree"
    is_new = not tree.exists()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        copy = tree / name
        contents = (ROOT / name).read_bytes()
        if name == "setup.py":
            contents = fast_setup(contents.decode()).encode()
        if not copy.exists() or copy.read_bytes() != contents:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(contents)
    if is_new:
        build(tree, f"baseline {backend}")  # the former says what this processor can do, and is not mutated
    return tree


def fast_setup(text: str) -> str:
    """setup.py without optimisation that takes long, for the modules that the environment names."""
    wanted = 'in instruction_sets().items() if name in os.environ["BPCORE_MODULES"].split()\n'
    return replaced("setup.py", text, (('"-O3"', '"-O1"'), ("in instruction_sets().items()\n", wanted)))


def replaced(name: str, text: str, edits: tuple[tuple[str, str], ...]) -> str:
    """The text with its edits, each of which must fit in one place."""
    for old, new in edits:
        if text.count(old) != 1:
            raise SystemExit(f"mutants.py: {name} holds this {text.count(old)} times, not once: {old!r}")
        text = text.replace(old, new)
    return text


def build(tree: Path, modules: str) -> None:
    """Build these backends in place: Cython and the compiler run for what has changed alone."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    settings = os.environ | {"BPCORE_MODULES": modules}
    done = subprocess.run(command, cwd=tree, env=settings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mutants.py: the build failed\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


# ---------------------------------------------------------------------------------------------------- the suite


def test_files(tree: Path, backend: str, first: tuple[str, ...], quick: bool) -> list[str]:
    """The files of tests that compute (or ``file::test``), those named first, or alone."""
    there = {path.stem.removeprefix("test_"): path for path in sorted((tree / "tests").glob("test_*.py"))}
    for name in (*LEFT_OUT, *COMPILED_ALONE) if backend == "python" else LEFT_OUT:
        del there[name]
    names = first if quick else (*first, *ORDER, *there)
    files = [name.partition("::") for name in dict.fromkeys(names)]
    return [f"tests/test_{file}.py{colons}{test}" for file, colons, test in files if file in there]


def run_suite(tree: Path, backend: str, first: tuple[str, ...], options: argparse.Namespace) -> str:
    """The first test that fails; "" if none does. File by file: what kills is mostly in the first."""
    for file in test_files(tree, backend, first, options.quick):
        if killer := run_file(tree, backend, file, options.limit):
            return killer
    return ""


def run_file(tree: Path, backend: str, file: str, limit: float) -> str:
    """The first test of a file that fails; "" if none does."""
    log = tree.parent / "pytest.log"
    command = [sys.executable, "-m", "pytest", "-x", "-v", "-p", "no:cacheprovider", "-p", "no:xdist", file]
    settings = {"BPCORE_BACKEND": backend, "BPCORE_TEST_ALONE": "1", "PYTHONPATH": str(tree / "python")}
    settings |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        open(log, "w") as output,
        subprocess.Popen(
            command, cwd=tree, env=os.environ | settings, stdout=output, stderr=output, start_new_session=True
        ) as pytest,
    ):
        try:
            pytest.wait(limit)
            hangs = False
        except subprocess.TimeoutExpired:
            os.killpg(pytest.pid, signal.SIGKILL)
            hangs = True
    text = log.read_text(errors="replace")
    if "\nERROR: not found: " in text:
        raise SystemExit(f"mutants.py: there is no {file}")
    if hangs:
        return f"hangs: {last_test(text)}"
    if pytest.returncode in (0, NO_TESTS):
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", text, re.M)
    return failed[1] if failed else f"crash: {last_test(text)}"


def last_test(text: str) -> str:
    """The test that ran when the log of pytest ended."""
    started = re.findall(r"^tests/(test_\w+\.py::\S+)", text, re.M)
    return started[-1] if started else "before any test"


def try_out(mutant: Mutant, tree: Path, options: argparse.Namespace) -> str:
    """Plant a fault in the copy, run the suite, and take the fault out again."""
    path = tree / mutant.path
    before = path.read_text()
    path.write_text(replaced(mutant.file, before, mutant.edits))
    try:
        if mutant.in_python:
            return run_suite(tree, "python", mutant.tests, options)
        build(tree, options.backend)
        return run_suite(tree, options.backend, mutant.tests, options)
    finally:
        path.write_text(before)


# ---------------------------------------------------------------------------------------------------- the table


def verdict(mutant: Mutant, killer: str) -> str:
    if killer:
        return f"`{killer.partition('[')[0]}`"
    return f"equivalent: {mutant.why}" if mutant.why else "**SURVIVED**"


def table(results: dict[str, str]) -> str:
    lines = ["| Mutant | File | Killed by |", "| --- | --- | --- |"]
    tried = [mutant for mutant in mutants() if mutant.key in results or mutant.why]
    lines += [f"| {m.name} | `{m.file}` | {verdict(m, results.get(m.key, ''))} |" for m in tried]
    files = Counter(m.file for m in tried)
    killed = Counter(m.file for m in tried if results.get(m.key))
    lines += ["", "| File | Mutants | Killed |", "| --- | --- | --- |"]
    lines += [f"| `{file}` | {count} | {killed[file]} |" for file, count in files.items()]
    lines.append(f"| all | {files.total()} | {killed.total()} |")
    if untried := sum(1 for _ in mutants()) - len(tried):
        lines += ["", f"{untried} of the list were not tried."]
    return "\n".join(lines)


def chosen(options: argparse.Namespace) -> list[Mutant]:
    every = list(mutants())
    if double := [key for key, count in Counter(mutant.key for mutant in every).items() if count > 1]:
        raise SystemExit(f"mutants.py: names are not unique: {double}")
    if options.only:
        return [mutant for mutant in every if any(text in mutant.key for text in options.only)]
    return every[options.first : options.last]


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The killer of each mutant by its key, "" for those that survive."""
    kept = folder / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    left = [
        mutant
        for mutant in chosen(options)
        if (options.again or not results.get(mutant.key)) and (options.equivalent or not mutant.why)
    ]
    tree = copy_tree(folder, options.backend) if left else folder
    for mutant in left:
        start = time.monotonic()
        results[mutant.key] = try_out(mutant, tree, options)
        kept.write_text(json.dumps(results, indent=1))
        seconds = time.monotonic() - start
        print(f"{mutant.key}: {results[mutant.key] or 'SURVIVED'} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="those whose `file: name` holds it")
    parser.add_argument("--again", action="store_true", help="try also those that were killed")
    parser.add_argument("--equivalent", action="store_true", help="try also those that no test can find")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="begin with this one, from 0")
    parser.add_argument("--last", type=int, default=None, metavar="J", help="end before this one")
    parser.add_argument("--folder", type=Path, help="keep the copy, its build and the results here")
    parser.add_argument("--backend", default="avx2", help="what is built for the compiled files")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds until a file of tests counts as hanging")
    parser.add_argument(
        "--quick", action="store_true", help="only the test files that mutants_list.py names: a first look"
    )
    parser.add_argument("--list", action="store_true", help="check that every fault fits in one place, and list them")
    options = parser.parse_args()
    if options.list:
        for i, mutant in enumerate(chosen(options)):
            text = (ROOT / mutant.path).read_text()
            counts = [text.count(old) for old, _ in mutant.edits]
            print(i, mutant.key, "" if set(counts) == {1} else f"does not fit: {counts}")
        return 0
    with tempfile.TemporaryDirectory(prefix="bpcore-mutants-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results = run_all(options, folder)
    print(table(results))
    return int(any(not results[m.key] and not m.why for m in mutants() if m.key in results))


if __name__ == "__main__":
    sys.exit(main())
