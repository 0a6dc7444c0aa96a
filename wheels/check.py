"""``python wheels/check.py DIST...``: what is in sdists and wheels, how they are tagged and linked, and how large.

Every file of an sdist, and of a wheel but its compiled modules, has to be one of the sources that this program stands
in, byte for byte, and none may be missing. Needs what requirements.txt lists. ``--reproducible SOURCE`` builds that
folder's sdist, wheel and pure wheel in another place and compares the bytes with those of the file of the same name
in DIST, or, where there is none, with a second build (SOURCE_DATE_EPOCH is that of pyproject.toml, unless set).

The compiled wheel of a Python that is not the system's fits only if it is linked as cibuildwheel does it:
``LDFLAGS=-Wl,--strip-all LDSHARED="gcc -shared" python -m build``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path

TOP = Path(__file__).parents[1]
LIMIT = 1_500_000  # bytes of a compressed wheel
#: What setuptools adds to an sdist, and to the folder dist-info of a wheel, to which auditwheel may add, too.
ADDED = re.compile(r"PKG-INFO|setup\.cfg|python/bpcore\.egg-info/\w[\w.-]*")
INFO = re.compile(r"METADATA|WHEEL|RECORD|top_level\.txt|entry_points\.txt|licenses/LICENSE|sboms/[\w.-]+")
#: What may lie about in a folder of sources that is no checkout of git.
GENERATED = re.compile(r"(^|/)(build|dist|\.\w+|\w+\.egg-info|__pycache__)/|\.(so|pyd|o|pyc)$|^src/.*\.c$")
#: A compiled module: that of a backend, or capi, and what says for which Python it is.
BINARY = re.compile(r"bpcore/(_\w+|capi)(\.[\w.-]*(?:so|pyd))")
#: The oldest glibc that a tag may promise, where that tag does not say it itself.
GLIBC = {"manylinux2014": (2, 17), "manylinux1": (2, 5), "manylinux2010": (2, 12)}
#: Versions of glibc's symbols that are no numbers, and the release that brought them.
NAMED = {"GLIBC_ABI_DT_RELR": (2, 36)}
X86, ARM, OTHER = {"baseline", "avx2", "avx512"}, {"neon"}, {"baseline"}
#: By the end of the platform's tag: the backends, and the processor as ELF, PE and Mach-O name it.
MACHINES: dict[str, tuple[set[str], str | None, int | None, int | None]] = {
    "x86_64": (X86, "EM_X86_64", None, 0x01000007),
    "amd64": (X86, None, 0x8664, None),
    "aarch64": (ARM, "EM_AARCH64", None, None),
    "arm64": (ARM, None, 0xAA64, 0x0100000C),
    "arm64_v8a": (ARM, "EM_AARCH64", None, None),
    "arm64_iphoneos": (ARM, None, None, 0x0100000C),
    "arm64_iphonesimulator": (ARM, None, None, 0x0100000C),
    "i686": (OTHER, "EM_386", None, None),
    "armv7l": (OTHER, "EM_ARM", None, None),
    "ppc64le": (OTHER, "EM_PPC64", None, None),
    "s390x": (OTHER, "EM_S390", None, None),
    "riscv64": (OTHER, "EM_RISCV", None, None),
    "wasm32": (OTHER, None, None, None),
}


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


def sources() -> set[str]:
    """The files that make up the project: git's, or all that are not generated."""
    if (TOP / ".git").exists():
        listed = subprocess.run(["git", "-C", TOP, "ls-files", "-z"], check=True, capture_output=True, text=True)
        return {name for name in listed.stdout.split("\0") if name}
    files = (path.relative_to(TOP).as_posix() for path in TOP.rglob("*") if path.is_file())
    return {name for name in files if name == ".ci/run" or not GENERATED.search(name)}


def compare(check: Checks, files: dict[str, bytes], expected: dict[str, str], also: re.Pattern[str]) -> None:
    """Files of an archive against those of the sources, by the names that both have there."""
    for name, source in sorted(expected.items()):
        if name not in files:
            check(False, f"lacks {name}")
        else:
            check(files[name] == (TOP / source).read_bytes(), f"has another {name} than {TOP}")
    for name in sorted(files.keys() - expected.keys()):
        check(also.fullmatch(name), f"has {name}")


def version() -> str:
    text = (TOP / "python/bpcore/__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]  # type: ignore[index]


def metadata(check: Checks, data: bytes) -> None:
    told = email.message_from_bytes(data)
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    expected = {"Name": project["name"], "Version": version(), "Requires-Python": project["requires-python"]}
    for field, value in (expected | {"License-Expression": project["license"]}).items():
        check(told[field] == value, f"says {field}: {told[field]}, not {value}")
    required = [r for r in told.get_all("Requires-Dist", []) if "extra ==" not in r]
    check(required == project["dependencies"], f"requires {required}, not {project['dependencies']}")


def sdist(check: Checks, path: Path) -> None:
    with tarfile.open(path) as archive:
        files = {m.name.partition("/")[2]: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    # Of the hidden files the suite reads one.
    compare(check, files, {n: n for n in sources() if n[0] != "." or n == ".ci/run"}, ADDED)
    check("PKG-INFO" in files, "lacks PKG-INFO")
    metadata(check, files.get("PKG-INFO", b""))


def elf(check: Checks, name: str, data: bytes, tags: list[str], machine: str | None) -> None:
    from elftools.elf.elffile import ELFFile

    file = ELFFile(BytesIO(data))
    check(file["e_machine"] == machine, f"{name} is for {file['e_machine']}, not {machine}")
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
    if any(t.entry.d_tag == "DT_RELR" for t in dynamic):
        wanted.append("GLIBC_ABI_DT_RELR")
    unknown = [v for v in wanted if v.startswith("GLIBC_") and not re.fullmatch(r"GLIBC_[\d.]+", v) and v not in NAMED]
    check(not unknown, f"{name} needs {unknown}, of unknown age")
    glibc = [tuple(map(int, v[6:].split("."))) for v in wanted if re.fullmatch(r"GLIBC_[\d.]+", v)]
    highest = max([*glibc, *(NAMED[v] for v in wanted if v in NAMED)], default=(0, 0))
    print(f"  {name}: {len(data)} bytes, needs {', '.join(needed) or 'nothing'}, glibc {'.'.join(map(str, highest))}")
    for tag in tags:
        promised = re.match(r"manylinux_(\d+)_(\d+)", tag)
        if promised or tag.startswith("manylinux"):
            oldest = tuple(map(int, promised.groups())) if promised else GLIBC[tag.partition("_")[0]]
            check(highest <= (*oldest, 99), f"{name} needs glibc {highest}, but the tag promises {oldest}")
        check(not glibc or not tag.startswith("musl"), f"{name} needs glibc, but the tag promises musl")


def module(check: Checks, name: str, data: bytes, abi: str, tags: list[str]) -> None:
    """A compiled module: of that Python, system and processor, and stripped."""
    stem, suffix = BINARY.fullmatch(name).groups()  # type: ignore[union-attr]
    ours = (".abi3.so", ".pyd") if abi == "abi3" else (f".cpython-{abi[2:]}-", f".{abi}-")
    check(suffix.startswith(ours), f"{name} is for another Python than {abi}")
    check(f"PyInit_{stem}\0".encode() in data or tags[0].endswith("wasm32"), f"{name} has no PyInit_{stem}")
    machine = processor(tags[0])
    _, in_elf, in_pe, in_mach = MACHINES.get(machine, (OTHER, None, None, None))
    number = int.from_bytes(data[4:8], "little")
    if tags[0].startswith("win"):
        header = int.from_bytes(data[0x3C:0x40], "little")
        number = int.from_bytes(data[header + 4 : header + 6], "little")
        check(data[:2] == b"MZ" and number == in_pe, f"{name} is no module for {tags[0]}")
    elif tags[0].startswith(("macosx", "ios")):
        check(data[:4] == b"\xcf\xfa\xed\xfe" and number == in_mach, f"{name} is no module for {tags[0]}")
    elif machine == "wasm32":
        check(data[:4] == b"\0asm", f"{name} is no module for {tags[0]}")
    elif data[:4] != b"\x7fELF":
        check(False, f"{name} is no module for {tags[0]}")
    else:
        elf(check, name, data, tags, in_elf)


def processor(tag: str) -> str:
    return max((machine for machine in MACHINES if tag.endswith(f"_{machine}")), key=len, default="")


def wheel(check: Checks, path: Path) -> None:
    named = re.fullmatch(r"bpcore-([^-]+)-([^-]+)-([^-]+)-([^-]+)\.whl", path.name)
    if not named:
        return check(False, "is named otherwise than bpcore-VERSION-PYTHON-ABI-PLATFORM.whl")
    number, python, abi, platforms = named.groups()
    tags = platforms.split(".")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    info = f"bpcore-{number}.dist-info"
    inner = [name for name in sources() if name.startswith("python/bpcore/")]
    expected = {name.removeprefix("python/"): name for name in inner} | {f"{info}/licenses/LICENSE": "LICENSE"}
    compare(check, files, expected, re.compile(rf"{re.escape(info)}/({INFO.pattern})|{BINARY.pattern}"))
    missing = [name for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt") if f"{info}/{name}" not in files]
    if missing:
        return check(False, f"lacks {missing} in {info}")
    metadata(check, files[f"{info}/METADATA"])
    recorded = {row[0]: row[1] for row in csv.reader(files[f"{info}/RECORD"].decode().splitlines())}
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        check(name.endswith("/RECORD") or recorded.get(name) == f"sha256={digest}", f"RECORD is wrong about {name}")
    check(recorded.keys() == files.keys(), f"RECORD has {sorted(recorded.keys() - files.keys())}")
    told = email.message_from_bytes(files[f"{info}/WHEEL"])
    full = {f"{p}-{a}-{t}" for p in python.split(".") for a in abi.split(".") for t in tags}
    check(set(told.get_all("Tag", [])) == full, f"is named {sorted(full)}, but its tags are {told.get_all('Tag')}")
    pure = str(tags == ["any"]).lower()
    check(told["Root-Is-Purelib"] == pure, f"says Root-Is-Purelib: {told['Root-Is-Purelib']}")
    compiled = [m[1].removeprefix("_") for name in files if (m := BINARY.fullmatch(name))]
    check(path.stat().st_size <= LIMIT, f"has {path.stat().st_size} bytes, more than {LIMIT}")
    print(f"  {path.stat().st_size} bytes; compiled: {', '.join(sorted(compiled)) or 'none'}")
    if tags == ["any"]:
        check(python == "py3" and abi == "none" and not compiled, "is no pure wheel")
    else:
        check(all(processor(tag) for tag in tags), f"is for an unknown processor: {tags}")
        wanted = sorted({*MACHINES.get(processor(tags[0]), (OTHER,))[0], "capi"})
        check(sorted(compiled) == wanted, f"has the modules {sorted(compiled)}, but {wanted} are wanted")
    for name, data in files.items():
        if BINARY.fullmatch(name):
            module(check, name, data, abi, tags)
    # W002: the compiled modules share one stub, word for word.
    run(check, "check_wheel_contents", "--ignore", "W002", str(path))
    if abi == "abi3":
        run(check, "abi3audit", "--strict", str(path))
    return None


def build(check: Checks, source: Path, place: Path) -> dict[str, Path]:
    """Of a copy of the sources the sdist, a wheel from that, and the pure wheel, by their names."""
    skip = shutil.ignore_patterns("build", "dist", "*.so", ".git", "*.egg-info", "__pycache__")
    shutil.copytree(source, place, ignore=skip)
    out = place / "dist"
    environment = {"SOURCE_DATE_EPOCH": "1767225600"} | os.environ
    commands = [
        (["build", "--no-isolation", f"--outdir={out}", str(place)], {}),
        (["build", "--no-isolation", "--wheel", f"--outdir={out}", str(place)], {"BPCORE_PURE": "1"}),
    ]
    for command, more in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=environment | more,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            print(done.stdout)
            check(False, f"{source} cannot be built")
    return {path.name: path for path in out.glob("*")} if out.exists() else {}


def reproducible(check: Checks, source: Path, dist: list[Path]) -> None:
    given = {path.name: path for path in dist}
    with tempfile.TemporaryDirectory() as folder:
        built = build(check, source, Path(folder, "one"))
        again = given if built.keys() <= given.keys() else build(check, source, Path(folder, "another")) | given
        for name, path in sorted(built.items()):
            same = path.read_bytes() == again[name].read_bytes()
            kind = "the given one and a build" if name in given else "two builds"
            print(f"  {name}: {kind}, {hashlib.sha256(path.read_bytes()).hexdigest()}")
            check(same, f"{kind} differ")
        others = {name for name in given if name.split("-")[1].removesuffix(".tar.gz") != version()}
        check(not others, f"{sorted(others)} are of another version than {source}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", nargs="+", type=Path)
    parser.add_argument("--reproducible", type=Path, metavar="SOURCE")
    arguments = parser.parse_args()
    check = Checks()
    for path in arguments.dist:
        if not path.is_file():
            parser.error(f"there is no file {path}")
        print(path.name)
        if path.name.endswith(".tar.gz"):
            sdist(check, path)
        else:
            wheel(check, path)
        run(check, "twine", "check", "--strict", str(path))
    if arguments.reproducible:
        print("built again")
        reproducible(check, arguments.reproducible, arguments.dist)
    print(f"check.py: {len(arguments.dist)} files, {check.failed} wrong")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
