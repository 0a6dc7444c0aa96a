"""What the compiled core refuses by itself; a build without one has none of these tests."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import dispatch

import bpcore

COMPILED = [name for name in bpcore.available_backends() if name != "python"]


@pytest.mark.parametrize("bad", [3, -1, 2**40, -(2**40)])
@pytest.mark.parametrize("name", COMPILED)
def test_a_label_out_of_range_in_the_core_is_nan(name, dtype, bad):
    """Labels may be changed by another thread after they were checked: NaN, and no crash."""
    core = dispatch.load(name)
    plan = core.Plan((2, 3), ("softmax",), "cross_entropy", np.dtype(dtype))
    for rows in (1, 7):
        labels, sums = np.zeros(rows, np.int64), np.zeros(9, dtype)
        labels[-1] = bad
        X, params = np.ones((rows, 2), dtype), np.zeros(9, dtype)
        assert np.isnan(core.loss(plan, params, (X, labels, None)))
        assert np.isnan(core.accumulate(plan, params, (X, labels, None), sums))
        assert np.isnan(sums).any()


@pytest.mark.parametrize("name", COMPILED)
def test_sizes_that_no_memory_holds_are_refused_by_the_core(name, dtype):
    """Network refuses them, too, but the core does not lean on it."""
    core = dispatch.load(name)
    for sizes in ((1 << 40, 1 << 40), (1, 1 << 58), (1 << 58, 1), (3, 1 << 30, 1 << 31, 2)):
        with pytest.raises(ValueError, match="sizes must fit into memory"):
            core.Plan(sizes, ("tanh",) * (len(sizes) - 1), "squared_error", np.dtype(dtype))
