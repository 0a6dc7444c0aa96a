"""Numba over bpcore: ctypes' functions are called from compiled code, without Python in between."""

import numba
import numpy as np

import bpcore
from bpcore import capi

net = bpcore.Network([4, 64, 64, 2], hidden="relu", dtype="float32")
plan = capi.Plan(net)  # which threads share
accumulate, finish, adam = (plan.functions[name] for name in ("accumulate", "finish", "adam"))


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
            plan, workspace.ctypes.data, params.ctypes.data, X[first:].ctypes.data, batch, Y[first:].ctypes.data,
            0, 0, sums.ctypes.data, loss.ctypes.data,
        )  # fmt: skip
        error |= finish(
            plan, params.ctypes.data, sums.ctypes.data, loss[0], batch, 1e-3, sums.ctypes.data, cost.ctypes.data
        )
        error |= adam(
            n, params.ctypes.data, sums.ctypes.data, mean.ctypes.data, square.ctypes.data, rate, 0.9, 0.999, 1e-8, step
        )
        if error:
            break
        first = 0 if first + 2 * batch > m else first + batch
    return error, cost[0]


def train(params, X, Y, batch, steps, rate):
    """Train in place; the cost of the last batch."""
    for array in (params, X, Y):  # from here on they are addresses
        if array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.aligned):
            raise TypeError("params, X and Y must be contiguous arrays of float32")
    if not params.flags.writeable or params.size != net.n_parameters or X.shape[1:] != (4,) or Y.shape != (len(X), 2):
        raise ValueError("params, X and Y do not fit")
    if not 1 <= batch <= len(X):
        raise ValueError("batch is out of range")
    error, cost = loop(plan.address, plan.new_workspace(), params, X, Y, batch, steps, rate)
    if error:
        raise ValueError(plan.functions["error_message"](error).decode())
    return cost
