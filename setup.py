"""What pyproject.toml cannot say: which extensions to build, computed from the machine and the environment.

BPCORE_PURE=1    builds no extension: the wheel is py3-none-any, and the pure-Python backend computes.
BPCORE_DEBUG=1   builds with Cython's checks (bounds, negative indices, uninitialised views, overflow), assertions, and
                 guards behind the regions of a workspace, which are checked after every tile.
BPCORE_COVERAGE=1   builds one backend, not optimised, so that coverage.py sees the lines of its .pyx files.
BPCORE_LIMITED_API=1   builds one abi3 wheel for all Pythons from 3.11 on; its small calls are slower.
CC=clang-cl      on Windows: setuptools would take MSVC whatever CC says (wheels/README.md has the reasons).
"""

import gzip
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

# setuptools' own distutils, importable after setuptools
from distutils.errors import CompileError, DistutilsPlatformError  # isort: skip
from distutils.util import get_platform  # isort: skip

SOURCES = "src/bpcore"
PURE = os.environ.get("BPCORE_PURE", "0") not in ("", "0")
DEBUG = os.environ.get("BPCORE_DEBUG", "0") not in ("", "0")
COVERAGE = os.environ.get("BPCORE_COVERAGE", "0") not in ("", "0")
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
    "linetrace": COVERAGE,
    "cdivision": True,
    "freethreading_compatible": True,
    "embedsignature": True,
}


def one_processor():
    """Have a Python of macOS for two processors build for its own, unless ARCHFLAGS says otherwise.

    Each of them has instruction sets of its own, so that no module could be for both. cibuildwheel sets the same.
    """
    python = sysconfig.get_platform()
    if python.endswith("-universal2") and "ARCHFLAGS" not in os.environ:
        machine = platform.machine()
        system = "macosx-11.0-" if machine == "arm64" else python.removesuffix("universal2")
        os.environ |= {"ARCHFLAGS": f"-arch {machine}", "_PYTHON_HOST_PLATFORM": f"{system}{machine}"}


def instruction_sets():
    """The sets to build for this target, by name of the backend, with the compiler's flags for each."""
    target = get_platform()  # when cross-building, too: by _PYTHON_HOST_PLATFORM or, on Windows, VSCMD_ARG_TGT_ARCH
    msvc = sys.platform == "win32" and not CLANG_CL
    if target.endswith(("x86_64", "amd64")):
        avx512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
        if COVERAGE:  # line by line they are the same
            return {"baseline": []}
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
        # It would compile for its own processor, which need not be Python's.
        machine = {"win-arm64": "aarch64", "win32": "i686"}.get(get_platform(), "x86_64")
        target = f"--target={machine}-pc-windows-msvc"
        return ["/O2", "/Brepro", target, "/clang:-O3", "/clang:-fno-math-errno", "/clang:-ffp-contract=fast"]
    if sys.platform == "win32":
        return ["/O2", "/Brepro"]
    # No errno from sqrt, no traps for comparisons: nobody reads them, and loops with either cannot be vectorised. A
    # product and a sum become one instruction where there is one. GCC warns of writes through the owner of memoryviews
    # that have none (views.pyx).
    return [
        "-O0" if COVERAGE else "-O3",
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
    if CLANG_CL:
        return True  # it does not take these options
    try:
        asked = subprocess.run([*command, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True)
    except OSError:
        return False
    return "#define __clang__ 1" in asked.stdout


def extensions():
    from Cython.Build import cythonize

    own = ("simd/simd.h", "simd/cpu.h", "network/guards.h", "team/team.h", "bindings/memory.h")
    headers = [f"{SOURCES}/{name}" for name in own]
    headers.append("python/bpcore/include/bpcore.h")
    options = {"define_macros": [("Py_LIMITED_API", "0x030B0000")], "py_limited_api": True} if LIMITED else {}
    if DEBUG:
        options["define_macros"] = [*options.get("define_macros", []), ("BPCORE_GUARDS", "1")]
    if COVERAGE:
        options["define_macros"] = [*options.get("define_macros", []), ("CYTHON_TRACE_NOGIL", "1")]
    if sys.platform == "win32":
        options["extra_link_args"] = ["/Brepro"]  # no time of the build in the module
    elif get_platform().startswith("linux"):
        options["extra_link_args"] = ["-pthread"]  # elsewhere the C library has the threads, or there are none
    modules = [
        Extension(
            f"bpcore._{name}",
            [f"{SOURCES}/_{name}.pyx"],
            include_dirs=[os.path.dirname(header) for header in headers],
            depends=headers,
            extra_compile_args=compiler_flags() + flags,
            **options,
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
            **options,
        )
    )
    return cythonize(
        modules,
        include_path=[SOURCES, "python"],
        build_dir="build/cython" + "-debug" * DEBUG + "-coverage" * COVERAGE,
        nthreads=os.cpu_count() if sys.platform == "linux" else 0,
        compiler_directives=DIRECTIVES,
    )


class BuildExtensions(build_ext):
    """setuptools' command; it reports a missing compiler in one line, respects CC on Windows and lets Clang unroll."""

    def build_extensions(self):
        try:
            if CLANG_CL:
                import shutil

                if not self.compiler.initialized:
                    self.compiler.initialize(self.plat_name)  # finds the linker, the headers and the libraries
                cc = os.environ["CC"]
                self.compiler.cc = shutil.which(cc) or sys.exit(f"bpcore: CC is {cc}, which is not there")
            if is_clang(getattr(self.compiler, "compiler_so", [])):
                for extension in self.extensions:
                    extension.extra_compile_args += UNROLL
            super().build_extensions()
        except DistutilsPlatformError as error:  # Windows without Microsoft's tools
            sys.exit(f"{NO_COMPILER} ({error})")
        except CompileError as error:
            cause = error.__cause__ or error.__context__ or error
            if "No such file" in str(error) or isinstance(cause, FileNotFoundError):
                sys.exit(NO_COMPILER)
            raise


class BuildWheel(bdist_wheel):
    """As setuptools', but the files' modes are those of everybody, not of the builder's umask: the same bytes."""

    def write_wheelfile(self, *args, **kwargs):
        super().write_wheelfile(*args, **kwargs)
        for path in Path(self.bdist_dir).rglob("*"):
            if path.is_file():
                path.chmod(0o755 if path.suffix == ".so" else 0o644)


class BuildSource(sdist):
    """As setuptools', but with SOURCE_DATE_EPOCH set two archives of one commit are the same bytes."""

    def make_archive(self, base_name, format, base_dir=None, **kwargs):
        if format != "gztar" or "SOURCE_DATE_EPOCH" not in os.environ:
            return super().make_archive(base_name, format, base_dir=base_dir, **kwargs)
        epoch = int(os.environ["SOURCE_DATE_EPOCH"])

        def anonymous(member):
            member.mtime = epoch
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            return member

        name = f"{base_name}.tar.gz"
        self.mkpath(os.path.dirname(name))
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            archive.add(base_dir, filter=anonymous)
        return name


def build():
    one_processor()
    # Modules with checks, or of the limited API, have a folder of their own: in a common one, the next build would
    # take these for its.
    options = {}
    if DEBUG or LIMITED:
        options["build"] = {"build_base": "build/debug" if DEBUG else "build/limited"}
    # The modules are compiled side by side; each is one large file, some 20 s of a compiler's time. Not on Windows,
    # where threads would share one compiler object that is set up when it is first used.
    if sys.platform != "win32":
        options["build_ext"] = {"parallel": os.cpu_count()}
    if LIMITED and not PURE:
        options["bdist_wheel"] = {"py_limited_api": "cp311"}
    commands = {"build_ext": BuildExtensions, "bdist_wheel": BuildWheel, "sdist": BuildSource}
    setup(ext_modules=[] if PURE else extensions(), cmdclass=commands, options=options)


NO_COMPILER = (
    "bpcore: there is no C compiler; install one, or take the package without compiled modules: "
    "BPCORE_PURE=1 pip install --no-cache-dir ..."
)

build()
