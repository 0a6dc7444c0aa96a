"""What pyproject.toml cannot say: which extensions to build, computed from the machine and the environment.

BPCORE_PURE=1    builds no extension: the wheel is py3-none-any, and the pure-Python backend computes.
BPCORE_DEBUG=1   builds with Cython's checks (bounds, negative indices, uninitialised views, overflow) and assertions.
BPCORE_LIMITED_API=1   builds one abi3 wheel for all Pythons from 3.11 on; its small calls are slower.
CC=clang-cl      on Windows: setuptools would take MSVC whatever CC says (wheels/README.md has the reasons).
"""

import os
import subprocess
import sys
import sysconfig

from setuptools import Extension, setup

SOURCES = "src/bpcore"
PURE = os.environ.get("BPCORE_PURE", "0") not in ("", "0")
DEBUG = os.environ.get("BPCORE_DEBUG", "0") not in ("", "0")
LIMITED = os.environ.get("BPCORE_LIMITED_API", "0") not in ("", "0")
CLANG_CL = sys.platform == "win32" and "clang-cl" in os.environ.get("CC", "")

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
    target = sysconfig.get_platform()  # of the interpreter that is built for, when cross-building, too
    msvc = sys.platform == "win32" and not CLANG_CL
    if target.endswith(("x86_64", "amd64")):
        avx512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
        return {
            "baseline": [],
            "avx2": ["/arch:AVX2"] if msvc else ["-mavx2", "-mfma"],
            "avx512": ["/arch:AVX512"] if msvc else avx512,
        }
    if "arm64" in target or "aarch64" in target:  # Android's and iOS's say more after it
        return {"neon": []}  # part of the architecture
    return {"baseline": []}


def compiler_flags():
    """Flags for every module. None of them changes what a floating-point operation means to the rest of the process."""
    if CLANG_CL:
        return ["/O2", "/clang:-O3", "/clang:-fno-math-errno", "/clang:-ffp-contract=fast"]
    if sys.platform == "win32":
        return ["/O2"]
    # No errno from sqrt, no traps for comparisons: nobody reads them, and loops with either cannot be vectorised. A
    # product and a sum become one instruction where there is one. GCC warns of writes through the owner of memoryviews
    # that have none (views.pyx).
    return [
        "-O3",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=fast",
        "-g0",
        "-Wno-discarded-qualifiers",
        "-Wno-incompatible-pointer-types-discards-qualifiers",  # Clang's name for it
        "-Wno-stringop-overflow",
    ]


#: The micro-kernel has up to 28 sums in registers, which needs its loops unrolled: more than Clang does of its own
#: accord. Without it AVX-512 has half of the speed.
UNROLL = ["-mllvm", "-unroll-threshold=1500"]


def is_clang(command):
    """Whether the compiler is Clang, by the macros that it defines."""
    if not command:
        return False
    try:
        asked = subprocess.run([command[0], "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True)
    except OSError:
        return False
    return "#define __clang__ 1" in asked.stdout


def extensions():
    from Cython.Build import cythonize

    headers = ["python/bpcore/include/bpcore.h", f"{SOURCES}/simd.h"]
    limited = {"define_macros": [("Py_LIMITED_API", "0x030B0000")], "py_limited_api": True} if LIMITED else {}
    modules = [
        Extension(
            f"bpcore._{name}",
            [f"{SOURCES}/_{name}.pyx"],
            include_dirs=[SOURCES, "python/bpcore/include"],
            depends=headers,
            extra_compile_args=compiler_flags() + flags,
            **limited,
        )
        for name, flags in instruction_sets().items()
    ]
    modules.append(
        Extension(
            "bpcore.capi",
            [f"{SOURCES}/capi.pyx"],
            include_dirs=["python/bpcore/include"],
            depends=headers,
            extra_compile_args=compiler_flags(),
            **limited,
        )
    )
    return cythonize(
        modules,
        include_path=[SOURCES, "python"],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        nthreads=os.cpu_count() if sys.platform == "linux" else 0,
        compiler_directives=DIRECTIVES,
    )


def build():
    if PURE:
        setup(ext_modules=[])
        return
    from setuptools.command.build_ext import build_ext

    class BuildExtensions(build_ext):
        """As setuptools', but tells of a missing compiler in one line, hears CC on Windows, and has Clang unroll."""

        def build_extensions(self):
            from distutils.errors import CompileError  # setuptools' own, importable after setuptools

            if CLANG_CL:
                import shutil

                self.compiler.initialize()  # finds the linker, the headers and the libraries
                cc = os.environ["CC"]
                self.compiler.cc = shutil.which(cc) or sys.exit(f"bpcore: CC is {cc}, which is not there")
            command = [self.compiler.cc] if CLANG_CL else getattr(self.compiler, "compiler_so", [])
            if is_clang(command):
                for extension in self.extensions:
                    extension.extra_compile_args += UNROLL
            try:
                super().build_extensions()
            except CompileError as error:
                cause = error.__cause__ or error.__context__ or error
                if "No such file" in str(error) or isinstance(cause, FileNotFoundError):
                    sys.exit(NO_COMPILER)
                raise

    # Objects with checks have a folder of their own: in a common one, a build without them would take these for its.
    options = {"build": {"build_base": "build/debug"}} if DEBUG else {}
    # The modules are compiled side by side; each is one large file, some 20 s of a compiler's time. Not on Windows,
    # where threads would share one compiler object that is set up when it is first used.
    if sys.platform != "win32":
        options["build_ext"] = {"parallel": os.cpu_count()}
    if LIMITED:
        options["bdist_wheel"] = {"py_limited_api": "cp311"}
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions}, options=options)


NO_COMPILER = "bpcore: there is no C compiler; install one, or build without: BPCORE_PURE=1 pip install ..."

build()
