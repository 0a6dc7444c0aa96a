"""How far the compiled exp, expm1, log, log1p and tanh are from the right value, in units in the last place (ulp).

    python tests/ulp.py [--backend NAME] [--step N]

float32: over all 2^32 numbers there are (``--step 1``, the default: some minutes a function), against float64.
float64: over 2,000,000 numbers spread over the whole range, and densely where the formulas change, against mpmath.
A unit is the distance of the float next to the right value. Infinities, NaN, signed zeros and subnormals are among
them. It ends with exit status 1 if any error is above 2.
"""

from __future__ import annotations

import argparse
import sys

import mpmath
import numpy as np

import bpcore
from bpcore._dispatch import load

#: Where each function is used, and what it is.
DOMAIN = {
    "exp": (-np.inf, np.inf),
    "expm1": (-np.inf, 0.0),
    "log": (0.0, np.inf),
    "log1p": (0.0, 1.0),
    "tanh": (-np.inf, np.inf),
}


def in_domain(name: str, x: np.ndarray) -> np.ndarray:
    low, high = DOMAIN[name]
    if name == "log":  # of a sum of exponentials, the largest of which is 1
        low = float(np.finfo(x.dtype).tiny)
    return x[((x >= low) & (x <= high)) | np.isnan(x)]


def ulps(found: np.ndarray, right: np.ndarray) -> np.ndarray:
    """|found - right| in units in the last place of the right value; 0 for equal infinities and for two NaN."""
    with np.errstate(all="ignore"):
        rounded = right.astype(found.dtype)
        error = np.abs(found.astype(right.dtype) - right) / np.spacing(np.abs(rounded)).astype(right.dtype)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    return np.where(same & ~np.isfinite(rounded), 0.0, np.where(np.isfinite(error), error, np.inf))


def single(core, name: str, step: int, chunk: int = 1 << 24) -> tuple[float, float]:
    """Largest error over every ``step``-th float32, and where."""
    worst, where = 0.0, 0.0
    for start in range(0, 1 << 32, chunk * step):
        bits = np.arange(start, min(start + chunk * step, 1 << 32), step, dtype=np.uint64).astype(np.uint32)
        x = in_domain(name, bits.view(np.float32))
        if not len(x):
            continue
        found = np.empty_like(x)
        core.elementary(name, x, found)
        with np.errstate(all="ignore"):
            right = getattr(np, name)(x.astype(np.float64))
        error = ulps(found, right)
        i = int(np.argmax(error))
        if error[i] > worst:
            worst, where = float(error[i]), float(x[i])
    return worst, where


def double_sample(rng: np.random.Generator, count: int) -> np.ndarray:
    """Numbers of every exponent, numbers of the usual size, and the ends."""
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.2250738585072014e-308, -745.2, -746, 709.8, 710]
    logarithmic = rng.choice([-1, 1], count // 4) * 10.0 ** rng.uniform(-320, 308, count // 4)
    usual = np.concatenate([rng.normal(scale=s, size=count // 8) for s in (0.1, 0.5, 1, 5, 50, 300)])
    return np.concatenate([ends, logarithmic, usual, np.nextafter(0.55, [0, 1])])


def double(core, name: str, count: int) -> tuple[float, float]:
    """Largest error over a sample of float64, and where: the worst 200 by long double, checked by mpmath."""
    x = in_domain(name, double_sample(np.random.default_rng(0), count))
    if name == "log1p":
        x = np.concatenate([x, np.random.default_rng(1).uniform(0, 1, count)])
    found = np.empty_like(x)
    core.elementary(name, x, found)
    with np.errstate(all="ignore"):
        error = ulps(found, getattr(np, name)(x.astype(np.longdouble)))
    worst, where = 0.0, 0.0
    for i in np.argsort(error)[-200:]:
        if np.isfinite(x[i]):
            with mpmath.workdps(60):
                right = getattr(mpmath, name)(mpmath.mpf(float(x[i])))
                unit = mpmath.mpf(float(np.spacing(abs(np.float64(right)))))
                exact = float(abs(mpmath.mpf(float(found[i])) - right) / unit) if np.isfinite(found[i]) else error[i]
        else:
            exact = float(error[i])
        if exact > worst:
            worst, where = exact, float(x[i])
    return worst, where


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=bpcore.available_backends()[0])
    parser.add_argument("--step", type=int, default=1, help="take every N-th float32 (default: all)")
    parser.add_argument("--count", type=int, default=2_000_000, help="numbers of float64")
    arguments = parser.parse_args()
    core, worst = load(arguments.backend), 0.0
    for name in DOMAIN:
        for kind, (error, where) in (
            ("float32", single(core, name, arguments.step)),
            ("float64", double(core, name, arguments.count)),
        ):
            print(f"{arguments.backend} {name:6} {kind} {error:.3f} ulp at {where!r}", flush=True)
            worst = max(worst, error)
    return int(worst > 2)


if __name__ == "__main__":
    sys.exit(main())
