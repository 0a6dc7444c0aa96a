"""Numba over bpcore: ctypes' functions are called from compiled code, without Python in between."""

import numba
import numpy as np

from bpcore import capi

functions = capi.functions()
accumulate, finish, adam = functions["accumulate_f32"], functions["finish_f32"], functions["adam_f32"]


@numba.njit(nogil=True)
def loop(plan, workspace, params, X, Y, batch, steps, rate):
    n, m = params.size, X.shape[0]
    sums, mean, square = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
    loss, cost = np.zeros(1), np.zeros(1)
    first = error = 0
    for step in range(1, steps + 1):
        sums[:] = 0
        loss[0] = 0
        error = accumulate(
            plan.ctypes.data, workspace.ctypes.data, params.ctypes.data, X[first:].ctypes.data, batch,
            Y[first:].ctypes.data, 0, 0, sums.ctypes.data, loss.ctypes.data,
        )  # fmt: skip
        error |= finish(
            plan.ctypes.data, params.ctypes.data, sums.ctypes.data, loss[0], batch, 1e-3, sums.ctypes.data,
            cost.ctypes.data,
        )  # fmt: skip
        error |= adam(
            n, params.ctypes.data, sums.ctypes.data, mean.ctypes.data, square.ctypes.data, rate, 0.9, 0.999, 1e-8, step
        )
        if error:
            break
        first = 0 if first + 2 * batch > m else first + batch
    return error, cost[0]


def train(params, X, Y, batch, steps, rate):
    """Train 4-64-64-2 in place; the cost of the last batch."""
    for array in (params, X, Y):  # from here on they are addresses
        if array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.aligned):
            raise TypeError("params, X and Y must be contiguous arrays of float32")
    if not params.flags.writeable or params.size != 4610 or X.shape[1:] != (4,) or Y.shape != (len(X), 2):
        raise ValueError("params, X and Y do not fit")
    if not 1 <= batch <= len(X):
        raise ValueError("batch is out of range")
    sizes, activations = np.array([4, 64, 64, 2], np.intp), np.array([3, 3, 0], np.intc)
    plan = np.zeros(functions["plan_bytes"](3), np.uint8)
    error = functions["plan_init_f32"](plan.ctypes.data, plan.size, 3, sizes.ctypes.data, activations.ctypes.data, 0)
    if not error:
        workspace = np.empty(functions["workspace_bytes"](plan.ctypes.data), np.uint8)
        error, cost = loop(plan, workspace, params, X, Y, batch, steps, rate)
    if error:
        raise ValueError(functions["error_message"](error).decode())
    return cost
