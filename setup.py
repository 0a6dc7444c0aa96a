"""What pyproject.toml cannot say: which extensions to build, computed from the machine and the environment.

BPCORE_PURE=1    builds no extension: the wheel is py3-none-any, and the pure-Python backend computes.
BPCORE_DEBUG=1   builds with Cython's checks (bounds, negative indices, uninitialised views, overflow) and assertions.
"""

import os
import sys

from setuptools import Extension, setup

SOURCES = "src/bpcore"
PURE = os.environ.get("BPCORE_PURE", "0") not in ("", "0")
DEBUG = os.environ.get("BPCORE_DEBUG", "0") not in ("", "0")

#: Cython's directives, for every module.
DIRECTIVES = {
    "language_level": "3",
    "binding": False,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "overflowcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": True,
    "embedsignature": True,
}


def instruction_sets():
    """The sets to build for this target, by name of the backend, with the compiler's flags for each."""
    return {"baseline": []}


def compiler_flags():
    """Flags for every module. None of them changes what a floating-point operation means to the rest of the process."""
    if sys.platform == "win32":
        return ["/O2"]
    # No errno from sqrt, no traps for comparisons: nobody reads them, and loops with either cannot be vectorised.
    return ["-O3", "-fno-math-errno", "-fno-trapping-math", "-g0"]


def extensions():
    from Cython.Build import cythonize

    modules = [
        Extension(
            f"bpcore._{name}",
            [f"{SOURCES}/_{name}.pyx"],
            extra_compile_args=compiler_flags() + flags,
        )
        for name, flags in instruction_sets().items()
    ]
    return cythonize(
        modules,
        include_path=[SOURCES],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        compiler_directives=DIRECTIVES,
    )


def build():
    if PURE:
        setup(ext_modules=[])
        return
    from setuptools.command.build_ext import build_ext

    class BuildExtensions(build_ext):
        """As setuptools', but a missing compiler is told in one line."""

        def build_extensions(self):
            from distutils.errors import CompileError  # setuptools' own, importable after setuptools

            try:
                super().build_extensions()
            except CompileError as error:
                cause = error.__cause__ or error.__context__ or error
                if "No such file" in str(error) or isinstance(cause, FileNotFoundError):
                    sys.exit(NO_COMPILER)
                raise

    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})


NO_COMPILER = "bpcore: there is no C compiler; install one, or build without: BPCORE_PURE=1 pip install ..."

build()
