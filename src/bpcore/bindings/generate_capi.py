"""Write what repeats the declarations of bpcore.h: enums, names, table, functions and types, for Cython and Python.

    python src/bpcore/bindings/generate_capi.py [--check]

bpcore.h is the source. Run this after a change to its table or its enums; a test compares (``--check``).
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
HEADER = ROOT / "python/bpcore/include/bpcore.h"
NOTE = "# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.\n"
#: C's names for integers, as Cython spells them.
CYTHON = {"ptrdiff_t": "Py_ssize_t"}
#: The types of arguments for ctypes; pointers are integers.
CTYPES = {"double": "double", "int": "int", "ptrdiff_t": "ssize_t", "size_t": "size_t", "int64_t": "int64"}
#: The types of what capi.pyx defines, but for the enums.
STUB = """
ABI_VERSION: int
_C_API: object

def functions() -> Mapping[str, Callable[..., Any]]: ...

class Plan:
    @property
    def network(self) -> Architecture: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def workspace(self) -> int: ...
    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]: ...
    def __init__(self, network: Architecture) -> None: ...
    def new_workspace(self) -> npt.NDArray[np.uint8]: ...
"""
#: How many there are of each.
COUNTS = {"activation": "N_ACTIVATIONS", "loss": "N_LOSSES"}


class Function(NamedTuple):
    result: str
    name: str
    arguments: list[tuple[str, str]]  # type and name


def parse(header: str) -> tuple[list[Function], dict[str, list[tuple[str, int]]]]:
    """The functions of the table, and the constants of each enum."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    fields = header[header.index("typedef struct bpcore_api {") : header.index("} bpcore_api;")]
    functions = []
    for result, name, text in re.findall(r"([\w ]+[ *])\(\*(\w+)\)\(([^)]*)\);", fields):
        arguments = [re.fullmatch(r"\s*(.*?)(\w+)\s*", " ".join(one.split())) for one in text.split(",")]
        functions.append(Function(result.strip(), name, [(a[1].strip(), a[2]) for a in arguments if a]))
    enums = {
        name: [(constant, int(value)) for constant, value in re.findall(r"BPCORE_(\w+) = (\d+)", body)]
        for name, body in re.findall(r"enum bpcore_(\w+) \{(.*?)\};", header, re.S)
    }
    return functions, enums


def cython(kind: str) -> str:
    return re.sub(r"\bptrdiff_t\b", "Py_ssize_t", kind)


def joined(kind: str, name: str = "") -> str:
    return f"{cython(kind)}{'' if kind.endswith('*') else ' '}{name}".strip()


def wrapped(first: str, arguments: list[str], last: str) -> str:
    """A declaration in lines of at most 120 characters, aligned behind its parenthesis."""
    indent = " " * (len(first) - len(first.lstrip()))
    body = textwrap.fill(
        ", ".join(a.replace(" ", "\0") for a in arguments) + last.replace(" ", "\0"),
        width=119,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return body.replace("\0", " ") if body.startswith(first) else indent + body


def declaration(function: Function) -> str:
    arguments = [joined(*argument) for argument in function.arguments]
    return wrapped(f"cdef {joined(function.result, function.name)}(", arguments, ") noexcept nogil")


def api(functions: list[Function]) -> str:
    """The table, for the modules that fill it and the one that reads it."""
    lines = [
        NOTE,
        "# The table of bpcore.h: filled by c_api.pyx and read by capi.pyx, which both declare bpcore_plan.\n",
        "\nfrom libc.stdint cimport int64_t, uint32_t\n\n",
        'cdef extern from "bpcore.h" nogil:\n',
        '    enum:\n        API_VERSION "BPCORE_ABI_VERSION"\n',
        "    ctypedef struct bpcore_api:\n        uint32_t abi_version\n        uint32_t size\n",
        "        const char *backend\n",
    ]
    for function in functions:
        first = f"        {joined(function.result, f'(*{function.name})')}("
        lines.append(wrapped(first, [cython(kind) for kind, _ in function.arguments], ") noexcept nogil") + "\n")
    return "".join(lines)


def enum_declarations(enums: dict[str, list[tuple[str, int]]]) -> str:
    """The activations and losses, for the core."""
    lines = [NOTE, '\ncdef extern from "bpcore.h":\n']
    for name in ("activation", "loss"):
        lines.append(f'    ctypedef enum {name.capitalize()} "enum bpcore_{name}":\n')
        lines += [f'        {constant} "BPCORE_{constant}"\n' for constant, _ in enums[name]]
    lines.append("\ncdef enum:\n")
    lines += [f"    {count} = {len(enums[name])}\n" for name, count in COUNTS.items()]
    return "".join(lines)


def enum_names(enums: dict[str, list[tuple[str, int]]]) -> str:
    """The constants by the names that Python uses."""
    lines = [NOTE]
    for name, title in (("activation", "ACTIVATIONS"), ("loss", "LOSSES")):
        lines.append(f"\n{title} = {{\n")
        lines += [f'    "{constant.lower()}": {constant},\n' for constant, _ in enums[name]]
        lines.append("}\n")
    return "".join(lines)


def pxd(functions: list[Function], enums: dict[str, list[tuple[str, int]]]) -> str:
    """What other Cython code cimports."""
    lines = [
        NOTE,
        "# bpcore from Cython: cimport these from an installed wheel; bpcore.h documents functions and errors.\n#\n"
        "#     from bpcore.capi cimport bpcore_plan, plan_init_f32, accumulate_f32, RELU, IDENTITY, SQUARED_ERROR\n#\n"
        "# They are those of the backend that bpcore selected at import. None allocates or needs the GIL.\n",
        "\nfrom libc.stdint cimport int64_t\n\n",
        'cdef extern from *:\n    """\n    typedef struct bpcore_plan bpcore_plan;\n    """\n'
        "    ctypedef struct bpcore_plan:\n        pass\n",
    ]
    for name in ("activation", "loss"):
        lines.append(f"\ncpdef enum {name.capitalize()}:\n")
        lines += [f"    {constant} = {value}\n" for constant, value in enums[name]]
    lines.append("\n")
    lines += [declaration(function) + "\n" for function in functions]
    return "".join(lines)


def pyi(enums: dict[str, list[tuple[str, int]]]) -> str:
    """What type checkers and editors read."""
    lines = [
        NOTE,
        "\nfrom collections.abc import Callable, Mapping\nfrom enum import IntEnum\nfrom typing import Any\n\n",
        "import numpy as np\nimport numpy.typing as npt\n\nfrom .architecture import Architecture\n",
        STUB,
    ]
    for name in ("activation", "loss"):
        lines.append(f"\nclass {name.capitalize()}(IntEnum):\n")
        lines += [f"    {constant} = {value}\n" for constant, value in enums[name]]
    return "".join(lines)


def capi_functions(functions: list[Function]) -> str:
    """The functions that are cimported, each a jump through the table; and their signatures for ctypes."""
    lines = [NOTE, "\n#: Result and arguments of each function, in the order of the table; pointers are size_t.\n"]
    lines.append("SIGNATURES = {\n")
    for function in functions:
        kinds = ["size_t" if "*" in kind else CTYPES[kind] for kind, _ in function.arguments]
        result = "char_p" if "*" in function.result else CTYPES[function.result]
        first = f'    "{function.name}": ('
        lines.append(wrapped(first, [f'"{kind}"' for kind in (result, *kinds)], "),") + "\n")
    lines.append("}\n")
    for function in functions:
        names = ", ".join(name for _, name in function.arguments)
        call = f"    return c_table.{function.name}({names})"
        if len(call) > 120:
            call = wrapped(f"    return c_table.{function.name}(", [name for _, name in function.arguments], ")")
        lines.append(f"\n\n{declaration(function)}:\n{call}\n")
    return "".join(lines)


def generated() -> dict[Path, str]:
    functions, enums = parse(HEADER.read_text(encoding="utf-8"))
    here = Path(__file__).parent
    return {
        here.parent / "network/enums.pyx": enum_declarations(enums),
        here / "names.pyx": enum_names(enums),
        here / "api.pyx": api(functions),
        here / "capi_functions.pyx": capi_functions(functions),
        ROOT / "python/bpcore/capi.pxd": pxd(functions, enums),
        ROOT / "python/bpcore/capi.pyi": pyi(enums),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not as it would be")
    check = parser.parse_args().check
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path} must be what generate_capi.py writes from bpcore.h: run it", file=sys.stderr)
        else:
            path.write_text(generated()[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
