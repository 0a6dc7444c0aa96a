"""The functions that activations and losses are made of, on a sample: tests/ulp.py measures them over all float32."""

from __future__ import annotations

import numpy as np
import pytest
import ulp
from helpers import dispatch

import bpcore

COMPILED = [name for name in bpcore.available_backends() if name != "python"]
#: What goes in, and what comes out.
ENDS = {
    "exp": ([-np.inf, np.inf, 0, 1e4, -1e4, np.nan], [0, np.inf, 1, np.inf, 0, np.nan]),
    "expm1": ([-np.inf, 0.0, -0.0, np.nan], [-1, 0.0, -0.0, np.nan]),
    "log": ([1, np.inf, np.nan], [0, np.inf, np.nan]),
    "log1p": ([0, np.nan], [0, np.nan]),
    "tanh": ([-np.inf, np.inf, 0.0, -0.0, 50, -50, np.nan], [-1, 1, 0.0, -0.0, 1, -1, np.nan]),
}


@pytest.mark.parametrize("name", ulp.DOMAIN)
@pytest.mark.parametrize("backend_name", COMPILED)
def test_within_two_units_in_the_last_place(backend_name, name):
    core = dispatch.load(backend_name)
    assert ulp.single(core, name, 40_009, 1 << 20)[0] <= 2
    assert ulp.double(core, name, 8_000)[0] <= 2


@pytest.mark.parametrize("name", ulp.DOMAIN)
@pytest.mark.parametrize("backend_name", COMPILED)
def test_at_the_ends(backend_name, name, dtype):
    core = dispatch.load(backend_name)
    x, expected = (np.tile(np.array(numbers, dtype), 9) for numbers in ENDS[name])  # also behind the last whole vector
    found = np.empty_like(x)
    core.elementary(name, x, found)
    np.testing.assert_array_equal(found, expected)
    zeros = expected == 0
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(expected[zeros]))


def test_an_unknown_function_is_refused():
    with pytest.raises(ValueError, match="'sin'"):
        dispatch.load(COMPILED[0]).elementary("sin", np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="out"):
        dispatch.load(COMPILED[0]).elementary("exp", np.zeros(2), np.zeros(1))
