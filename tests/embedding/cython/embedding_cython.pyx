# cython: language_level=3, freethreading_compatible=True
from bpcore.capi cimport (
    IDENTITY, RELU, SQUARED_ERROR, accumulate_f32, accumulate_f64, adam_f32, adam_f64, bpcore_plan, error_message,
    finish_f32, finish_f64, n_parameters, plan_bytes, plan_f32, plan_f64, workspace_bytes,
)
from cython cimport floating
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset


cdef int loop(const bpcore_plan *plan, void *workspace, floating *params, const floating *X, const floating *Y,
              Py_ssize_t m, Py_ssize_t batch, Py_ssize_t steps, double rate, floating *memory, double *cost) noexcept nogil:
    """Steps of Adam over batches of rows; ``memory`` is zeroed room for the gradient and the two moments."""
    cdef Py_ssize_t n = n_parameters(plan), step, first = 0
    cdef floating *sums = memory
    cdef double loss
    cdef int error
    for step in range(1, steps + 1):
        memset(sums, 0, n * sizeof(floating))
        loss = 0
        if floating is float:
            error = accumulate_f32(plan, workspace, params, X + 4 * first, batch, Y + 2 * first, NULL, NULL, sums, &loss)
            if error == 0:
                error = finish_f32(plan, params, sums, loss, batch, 1e-3, sums, cost)
            if error == 0:
                error = adam_f32(n, params, sums, memory + n, memory + 2 * n, rate, 0.9, 0.999, 1e-8, step)
        else:
            error = accumulate_f64(plan, workspace, params, X + 4 * first, batch, Y + 2 * first, NULL, NULL, sums, &loss)
            if error == 0:
                error = finish_f64(plan, params, sums, loss, batch, 1e-3, sums, cost)
            if error == 0:
                error = adam_f64(n, params, sums, memory + n, memory + 2 * n, rate, 0.9, 0.999, 1e-8, step)
        if error != 0:
            return error
        first += batch
        if first + batch > m:
            first = 0
    return 0


def train(floating[::1] params, const floating[:, ::1] X, const floating[:, ::1] Y, Py_ssize_t batch, Py_ssize_t steps,
          double rate):
    """Train 4-64-64-2 in place, without the GIL; the cost of the last batch."""
    cdef Py_ssize_t[4] sizes = [4, 64, 64, 2]
    cdef int[3] activations = [RELU, RELU, IDENTITY]
    cdef size_t size = plan_bytes(3)
    cdef void *plan = malloc(size)
    cdef void *workspace = NULL
    cdef floating *memory = NULL
    cdef double cost = 0
    cdef int error
    try:
        if floating is float:
            error = plan_f32(plan, size, 3, sizes, activations, SQUARED_ERROR)
        else:
            error = plan_f64(plan, size, 3, sizes, activations, SQUARED_ERROR)
        if error == 0:
            workspace = malloc(workspace_bytes(<bpcore_plan *>plan))
            memory = <floating *>calloc(3 * n_parameters(<bpcore_plan *>plan), sizeof(floating))
            with nogil:
                error = loop(<const bpcore_plan *>plan, workspace, &params[0], &X[0, 0], &Y[0, 0], X.shape[0], batch,
                             steps, rate, memory, &cost)
        if error != 0:
            raise ValueError(error_message(error).decode())
        return cost
    finally:
        free(memory)
        free(workspace)
        free(plan)
