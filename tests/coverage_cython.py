"""A plugin of coverage.py for .pyx files that a module includes; tests/coverage.ini names it.

Cython's own plugin finds the C file of a module beside its .pyx file, and knows the included files only once it has
read that. Here every .pyx file is looked up in all C files of a build with ``BPCORE_COVERAGE=1``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from Cython.Coverage import Plugin

#: Where setup.py lets Cython write C files.
BUILD = Path(__file__).resolve().parent.parent / "build"
#: Lines that are not traced as lines of their file: the header of a function is a call, and what is outside of
#: functions runs as lines of the module that includes the file.
NOT_TRACED = re.compile(r"\S| *(cdef|cpdef|def)\b[^=(]*\(")


class IncludedFiles(Plugin):  # type: ignore[misc]
    def _find_source_files(self, filename: str) -> tuple[str | None, None]:
        if filename.endswith((".pyx", ".so")):
            for c_file in map(str, BUILD.glob("*-coverage/src/bpcore/*.c")):
                self._read_source_lines(c_file, filename)
                if filename in self._c_files_map:
                    return c_file, None
        return None, None

    def _parse_cfile_lines(self, c_file: str) -> dict[str, dict[int, str]]:
        files: dict[str, dict[int, str]] = super()._parse_cfile_lines(c_file)
        return {
            name: {number: code for number, code in lines.items() if not NOT_TRACED.match(code)}
            for name, lines in files.items()
        }


def coverage_init(registry: Any, options: dict[str, str]) -> None:
    plugin = IncludedFiles()
    registry.add_configurer(plugin)
    registry.add_file_tracer(plugin)
