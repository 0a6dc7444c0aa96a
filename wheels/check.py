"""``python wheels/check.py DIST...``: what is in sdists and wheels, how they are tagged and linked, and how large.

Needs what requirements.txt lists. ``--reproducible SOURCE`` builds the wheel of that folder in another place and
compares its bytes with those of the wheel of the same name in DIST, or builds it twice if there is none (with the
SOURCE_DATE_EPOCH of pyproject.toml, unless another is set).
"""

from __future__ import annotations

import argparse
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

LIMIT = 1_500_000  # bytes of a compressed wheel
SDIST = [
    *("src/bpcore/core.pyx", "src/bpcore/simd.h", "python/bpcore/fallback.py", "python/bpcore/py.typed", "setup.py"),
    *("python/bpcore/_baseline.pyi", "python/bpcore/data/digits.npz", "tests/conftest.py", "wheels/suite.py"),
    *("LICENSE", "README.md", "CHANGELOG.md"),
]
WHEEL = [f"bpcore/{name}" for name in ("__init__.py", "py.typed", "data/digits.npz", "data/README.md", "fallback.py")]
#: A compiled module: that of a backend, or capi.
BINARY = re.compile(r"bpcore/(?:_(\w+?)|capi)\.[\w.-]*(so|pyd)")
#: The oldest glibc that a tag may promise, where that tag does not say it itself.
GLIBC = {"manylinux2014": (2, 17), "manylinux1": (2, 5), "manylinux2010": (2, 12)}
BACKENDS = {"x86_64": {"baseline", "avx2", "avx512"}, "amd64": {"baseline", "avx2", "avx512"}}
ARM = ("aarch64", "arm64", "arm64_v8a", "arm64_iphoneos", "arm64_iphonesimulator")


class Checks:
    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, right: object, what: str) -> None:
        if not right:
            self.failed += 1
            print(f"  WRONG: {what}")


def run(check: Checks, *command: str) -> None:
    plain = os.environ | {"NO_COLOR": "1", "TERM": "dumb"}
    result = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=plain)
    lines = (result.stdout + result.stderr).strip().splitlines()
    print(f"  {command[0]}: {lines[-1].strip() if lines else 'ok'}")
    check(result.returncode == 0, "\n".join([" ".join(command), *lines]))


def shipped(source: Path) -> list[str]:
    """Modules, stubs, and declarations for C and Cython that the sources have; wheels must have them, too."""
    files = (source / "python" / "bpcore").rglob("*")
    return [p.relative_to(source / "python").as_posix() for p in files if p.suffix in (".py", ".pyi", ".pxd", ".h")]


def sdist(check: Checks, path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in SDIST:
        check(name in names, f"lacks {name}")
    generated = [n for n in names if n.endswith((".c", ".so", ".pyd", ".o", ".pyc", ".html")) and "embedding" not in n]
    check(not generated, f"has {generated}")


def elf(check: Checks, name: str, data: bytes, tag: str) -> None:
    from elftools.elf.elffile import ELFFile

    file = ELFFile(BytesIO(data))
    check(not file.get_section_by_name(".symtab"), f"{name} is not stripped")
    check(not file.get_section_by_name(".debug_info"), f"{name} has debug information")
    for segment in file.iter_segments():
        if segment["p_type"] == "PT_GNU_STACK":
            check(not segment["p_flags"] & 1, f"{name} has an executable stack")
        check(segment["p_type"] != "PT_LOAD" or segment["p_flags"] & 3 != 3, f"{name} has a segment to write and run")
    dynamic = list(file.get_section_by_name(".dynamic").iter_tags())
    check(not [t for t in dynamic if t.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")], f"{name} has an rpath")
    check(not [t for t in dynamic if t.entry.d_tag == "DT_TEXTREL"], f"{name} has text relocations")
    needed = [t.needed for t in dynamic if t.entry.d_tag == "DT_NEEDED"]
    allowed = r"(libc|libm|libpthread)\.so\.6|libpthread\.so\.0|ld-linux.*|ld64\.so\..*|libc\.musl-.*|libc\.so"
    check(all(re.fullmatch(allowed, n) for n in needed), f"{name} needs {needed}")
    versions = file.get_section_by_name(".gnu.version_r")
    wanted = [aux.name for _, auxes in versions.iter_versions() for aux in auxes] if versions else []
    glibc = [tuple(map(int, v[6:].split("."))) for v in wanted if re.fullmatch(r"GLIBC_[\d.]+", v)]
    highest = max(glibc, default=(0, 0))
    print(f"  {name}: {len(data)} bytes, needs {', '.join(needed) or 'nothing'}, glibc {'.'.join(map(str, highest))}")
    promised = re.search(r"manylinux_(\d+)_(\d+)", tag)
    if promised or tag.startswith("manylinux"):
        oldest = tuple(map(int, promised.groups())) if promised else GLIBC[tag.partition("_")[0]]
        check(highest <= (*oldest, 99), f"{name} needs glibc {highest}, but the tag promises {oldest}")


def wheel(check: Checks, path: Path, source: Path) -> None:
    _, version, python, abi, tag = path.stem.split("-")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name in [*WHEEL, *shipped(source)]:
        check(name in files, f"lacks {name}")
    info = f"bpcore-{version}.dist-info"
    check(any(name.startswith(info) and name.endswith("/LICENSE") for name in files), "lacks the licence")
    told = email.message_from_bytes(files[f"{info}/WHEEL"])
    tags = {f"{p}-{a}-{t}" for p in python.split(".") for a in abi.split(".") for t in tag.split(".")}
    check(set(told.get_all("Tag", [])) == tags, f"is named {sorted(tags)}, but its tags are {told.get_all('Tag')}")
    check(told["Root-Is-Purelib"] == str(tag == "any").lower(), f"says Root-Is-Purelib: {told['Root-Is-Purelib']}")
    compiled = {m[1] or "capi" for name in files if (m := BINARY.fullmatch(name))}
    for name in files:
        wrong = name.endswith((".c", ".pyx", ".o", ".lib", ".a", ".pdb", ".pyc", ".dylib", ".dll"))
        stray = name.endswith((".so", ".pyd")) and not BINARY.fullmatch(name)
        check(not wrong and not stray, f"has {name}")
        check(name.startswith(("bpcore/", info)), f"has {name} at the top")
    check(path.stat().st_size <= LIMIT, f"has {path.stat().st_size} bytes, more than {LIMIT}")
    print(f"  {path.stat().st_size} bytes; compiled: {', '.join(sorted(compiled)) or 'none'}")
    if tag == "any":
        check(python == "py3" and abi == "none" and not compiled, "is no pure wheel")
    else:
        machine = next((m for m in (*BACKENDS, *ARM) if tag.endswith(m)), "")
        expected = {"neon"} if machine in ARM else BACKENDS.get(machine, {"baseline"})
        check(compiled == {*expected, "capi"}, f"has {sorted(compiled)}, but {sorted(expected)} and capi are wanted")
    for name, data in files.items():
        if data[:4] == b"\x7fELF":
            elf(check, name, data, tag)
    # W002: the compiled modules share one stub, word for word.
    run(check, "check_wheel_contents", "--ignore", "W002", str(path))
    if abi == "abi3":
        run(check, "abi3audit", "--strict", str(path))


def reproducible(check: Checks, source: Path, dist: list[Path]) -> None:
    environment = {"SOURCE_DATE_EPOCH": "1767225600"} | os.environ
    sums: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place in ("one", "another"):
            copy = Path(folder, place)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "dist", "*.so", ".git", "*.egg-info"))
            command = [
                sys.executable,
                "-m",
                "build",
                "--no-isolation",
                "--wheel",
                "--outdir",
                f"{copy}/dist",
                f"{copy}",
            ]
            subprocess.run(command, check=True, capture_output=True, env=environment)
            (path,) = (copy / "dist").glob("*.whl")
            for wheel in (path, *(given for given in dist if given.name == path.name)):
                sums[str(wheel)] = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if len(sums) > 1:
                break
    print("", *sums.values(), sep="\n  ")
    check(len(set(sums.values())) == 1, "two builds differ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", nargs="*", type=Path)
    parser.add_argument("--reproducible", type=Path, metavar="SOURCE")
    arguments = parser.parse_args()
    check = Checks()
    for path in arguments.dist:
        print(path.name)
        if path.name.endswith(".tar.gz"):
            sdist(check, path)
        else:
            wheel(check, path, Path(__file__).parents[1])
        run(check, "twine", "check", "--strict", str(path))
    if arguments.reproducible:
        print("two builds", end="")
        reproducible(check, arguments.reproducible, arguments.dist)
    print(f"check.py: {len(arguments.dist)} files, {check.failed} wrong")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
