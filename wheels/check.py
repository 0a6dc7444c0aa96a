"""``python wheels/check.py DIST...``: what is in sdists and wheels, how they are tagged and linked, and how large.

Needs pyelftools, twine, check-wheel-contents and abi3audit. ``--reproducible SOURCE`` builds the wheel of that folder
twice, in two places, and compares the bytes (SOURCE_DATE_EPOCH is the commit's date unless it is set).
"""

from __future__ import annotations

import argparse
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
WHEEL = [f"bpcore/{name}" for name in ("__init__.py", "py.typed", "_baseline.pyi", "data/digits.npz", "fallback.py")]
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
    result = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    lines = (result.stdout + result.stderr).strip().splitlines()
    print(f"  {command[0]}: {lines[-1].strip() if lines else 'ok'}")
    check(result.returncode == 0, "\n".join([" ".join(command), *lines]))


def shipped(source: Path) -> list[str]:
    """Headers and declarations for C and Cython that the sources have; wheels must have them, too."""
    return [name for name in source_names(source) if name.endswith((".pxd", ".h")) and name.startswith("bpcore/")]


def source_names(source: Path) -> list[str]:
    return [p.relative_to(source / "python").as_posix() for p in (source / "python").rglob("*") if p.is_file()]


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
    binary = re.compile(r"bpcore/_(\w+?)\.[\w.-]*(so|pyd)")
    compiled = {m[1] for name in files if (m := binary.fullmatch(name))}
    for name in files:
        wrong = name.endswith((".c", ".pyx", ".o", ".lib", ".a", ".pdb", ".pyc", ".dylib", ".dll"))
        stray = name.endswith((".so", ".pyd")) and not binary.fullmatch(name)
        check(not wrong and not stray, f"has {name}")
        check(name.startswith(("bpcore/", info)), f"has {name} at the top")
    check(path.stat().st_size <= LIMIT, f"has {path.stat().st_size} bytes, more than {LIMIT}")
    print(f"  {path.stat().st_size} bytes; compiled: {', '.join(sorted(compiled)) or 'none'}")
    if tag == "any":
        check(python == "py3" and abi == "none" and not compiled, "is no pure wheel")
    else:
        machine = next((m for m in (*BACKENDS, *ARM) if tag.endswith(m)), "")
        expected = {"neon"} if machine in ARM else BACKENDS.get(machine, {"baseline"})
        check(expected <= compiled, f"has {sorted(compiled)}, but {sorted(expected)} are wanted")
    for name, data in files.items():
        if data[:4] == b"\x7fELF":
            elf(check, name, data, tag)
    # W002: the compiled modules share one stub, word for word.
    run(check, "check_wheel_contents", "--ignore", "W002", str(path))
    if abi == "abi3":
        run(check, "abi3audit", "--strict", str(path))


def reproducible(check: Checks, source: Path) -> None:
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or "1767225600"
    sums = []
    with tempfile.TemporaryDirectory() as folder:
        for place in ("one", "another"):
            copy = Path(folder, place)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.so", ".git", "*.egg-info"))
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
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": epoch})
            (path,) = (copy / "dist").glob("*.whl")
            sums.append(hashlib.sha256(path.read_bytes()).hexdigest())
    print("  " + "\n  ".join(sums))
    check(sums[0] == sums[1], "two builds differ")


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
        print("two builds")
        reproducible(check, arguments.reproducible)
    print(f"check.py: {len(arguments.dist)} files, {check.failed} wrong")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
