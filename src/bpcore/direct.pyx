# The way of a small call from Python to the loops: arrays that fit are taken as they are, in compiled code; anything
# else is left to bpcore.arrays, which converts it or says what is wrong with it.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)

import numpy

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty


cdef struct array_t:
    Py_buffer buffer
    bint taken


cdef inline void drop(array_t *array) noexcept:
    if array.taken:
        PyBuffer_Release(&array.buffer)
        array.taken = False


cdef bint fits(object value, array_t *array, char kind, Py_ssize_t ndim, bint writable) except -1:
    """Take the buffer of a plain NumPy array of that kind ("f", "d", or "l" for int64) and number of dimensions."""
    cdef const char *format
    if type(value) is not ndarray:
        return False
    try:
        PyObject_GetBuffer(value, &array.buffer,
                           PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    except (BufferError, ValueError):
        return False
    array.taken = True
    format = array.buffer.format
    if array.buffer.ndim != ndim or format == NULL or format[1] != 0:
        return False
    if kind == c"l":
        return array.buffer.itemsize == 8 and (format[0] == c"l" or format[0] == c"q")
    return format[0] == kind


cdef inline bint apart(const Py_buffer *a, const Py_buffer *b) noexcept:
    """Whether two contiguous buffers share no memory."""
    return <char *>a.buf + a.len <= <char *>b.buf or <char *>b.buf + b.len <= <char *>a.buf


cdef bint targets_are_right(const plan_t *plan, const floating *y, const int64_t *labels, const floating *weights,
                            Py_ssize_t m) noexcept nogil:
    """Whether labels are classes, binary targets in [0, 1], probabilities and counts not negative; or NaN.

    Those of rows of weight 0 may have any value; ``weights`` may be NULL.
    """
    cdef Py_ssize_t i
    cdef bint wrong = False
    if weights != NULL:
        for i in range(m):
            if weights[i] != 0 and not targets_are_right(plan, y + i * plan.n_outputs if y != NULL else NULL,
                                                         labels + i if labels != NULL else NULL,
                                                         <const floating *>NULL, 1):
                return False
        return True
    if labels != NULL:
        for i in range(m):
            wrong |= (labels[i] < 0) | (labels[i] >= plan.n_outputs)
    elif plan.loss == BINARY_CROSS_ENTROPY:
        for i in range(m * plan.n_outputs):
            wrong |= (y[i] < 0) | (y[i] > 1)
    elif plan.loss == CROSS_ENTROPY or plan.loss == POISSON:
        for i in range(m * plan.n_outputs):
            wrong |= y[i] < 0
    return not wrong


cdef double direct_typed(Plan plan, array_t *params, array_t *X, array_t *Y, bint labelled, double l2,
                         floating *grad) except? -1:
    """The cost of all rows, their gradient in ``grad``.

    What is added up in which dtype and order is as in slots.py, for the same bits as from threads.
    """
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t m = X.buffer.shape[0], n = p.n_parameters, slots = count_slots(p, m), slot = 0, last, first
    cdef const floating *rows = <floating *>X.buffer.buf
    cdef const floating *theta = <floating *>params.buffer.buf
    cdef const floating *y = NULL if labelled else <floating *>Y.buffer.buf
    cdef const int64_t *labels = <int64_t *>Y.buffer.buf if labelled else NULL
    cdef double *total = NULL
    cdef double cost = 0
    cdef char *memory
    cdef watch_t watch = new_watch(None)
    if slots > p.together:
        total = <double *>malloc(n * sizeof(double))
        if total == NULL:
            raise MemoryError()
    try:
        memory = plan.take_workspace()
        with nogil:
            while slot < slots:
                last = min(slot + p.together, slots)
                first = slot_start(m, slots, slot)
                cost += accumulate_slots(
                    p, theta, rows + first * p.n_inputs, m, slots, slot, last,
                    y + first * p.n_outputs if y != NULL else NULL, labels + first if labels != NULL else NULL,
                    <const floating *>NULL, grad, <floating *>aligned(memory), slot > 0, &watch)
                if stopped(&watch, 0):
                    break
                if total != NULL:
                    add_sums(total, <const floating *>grad, n, slot == 0)
                slot = last
            if not watch.stopped:
                if total == NULL:
                    finish_rows(p, theta, <const floating *>grad, <double>m, l2, grad)
                else:
                    finish_rows(p, theta, <const double *>total, <double>m, l2, grad)
                cost = mean_cost(p, theta, cost, <double>m, l2)
            plan.give(memory)
        heed(&watch)
    finally:
        free(total)
    return cost


def cost_and_gradient(Plan plan not None, params, X, Y, l2, out, Py_ssize_t most):
    """``(J, grad)``, or None if an argument needs a closer look: see :meth:`bpcore.Network.cost_and_gradient`.

    Taken are native C-contiguous arrays of the plan's dtype (or int64 labels), at most ``most`` rows.
    """
    cdef array_t given[4]
    cdef const plan_t *p = &plan.plan
    cdef char kind = c"f" if plan.single else c"d"
    cdef Py_ssize_t m
    cdef double weight
    cdef bint labelled, right
    cdef int i
    if type(l2) is not float:
        return None
    weight = l2
    if not 0 <= weight < INFINITY:
        return None
    for i in range(4):
        given[i].taken = False
    try:
        if not (fits(params, &given[0], kind, 1, False) and fits(X, &given[1], kind, 2, False)):
            return None
        m = given[1].buffer.shape[0]
        if given[0].buffer.shape[0] != p.n_parameters or given[1].buffer.shape[1] != p.n_inputs or not 0 < m <= most:
            return None
        labelled = p.loss == CROSS_ENTROPY and fits(Y, &given[2], c"l", 1, False)
        if not labelled:
            drop(&given[2])
            if fits(Y, &given[2], kind, 2, False):
                right = given[2].buffer.shape[1] == p.n_outputs
            else:
                drop(&given[2])
                right = p.n_outputs == 1 and p.loss != CROSS_ENTROPY and fits(Y, &given[2], kind, 1, False)
            if not right:
                return None
        if given[2].buffer.shape[0] != m:
            return None
        if plan.single:
            right = targets_are_right[float](p, <float *>given[2].buffer.buf,
                                             <int64_t *>given[2].buffer.buf if labelled else NULL, NULL, m)
        else:
            right = targets_are_right[double](p, <double *>given[2].buffer.buf,
                                              <int64_t *>given[2].buffer.buf if labelled else NULL, NULL, m)
        if not right:
            return None
        if out is None:
            out = empty(p.n_parameters, plan.dtype)
            if not fits(out, &given[3], kind, 1, True):
                return None
        elif not (fits(out, &given[3], kind, 1, True) and given[3].buffer.shape[0] == p.n_parameters
                  and apart(&given[3].buffer, &given[0].buffer) and apart(&given[3].buffer, &given[1].buffer)
                  and apart(&given[3].buffer, &given[2].buffer)):
            return None
        if plan.single:
            return direct_typed[float](plan, &given[0], &given[1], &given[2], labelled, weight,
                                       <float *>given[3].buffer.buf), out
        return direct_typed[double](plan, &given[0], &given[1], &given[2], labelled, weight,
                                    <double *>given[3].buffer.buf), out
    finally:
        for i in range(4):
            drop(&given[i])


def forward_directly(Plan plan not None, params, X, out, Py_ssize_t most):
    """The output activations, or None if an argument needs a closer look: see :meth:`bpcore.Network.forward`."""
    cdef array_t given[3]
    cdef const plan_t *p = &plan.plan
    cdef char kind = c"f" if plan.single else c"d"
    cdef Py_ssize_t m
    cdef char *memory
    cdef int i
    cdef watch_t watch = new_watch(None)
    for i in range(3):
        given[i].taken = False
    try:
        if not (fits(params, &given[0], kind, 1, False) and fits(X, &given[1], kind, 2, False)):
            return None
        m = given[1].buffer.shape[0]
        if given[0].buffer.shape[0] != p.n_parameters or given[1].buffer.shape[1] != p.n_inputs or not 0 < m <= most:
            return None
        if out is None:
            out = empty((m, p.n_outputs), plan.dtype)
        if not (fits(out, &given[2], kind, 2, True) and given[2].buffer.shape[0] == m
                and given[2].buffer.shape[1] == p.n_outputs and apart(&given[2].buffer, &given[0].buffer)
                and apart(&given[2].buffer, &given[1].buffer)):
            return None
        memory = plan.take_workspace()
        with nogil:
            if plan.single:
                forward_rows(p, <float *>given[0].buffer.buf, <float *>given[1].buffer.buf, m,
                             <float *>given[2].buffer.buf, <float *>aligned(memory), &watch)
            else:
                forward_rows(p, <double *>given[0].buffer.buf, <double *>given[1].buffer.buf, m,
                             <double *>given[2].buffer.buf, <double *>aligned(memory), &watch)
            plan.give(memory)
        heed(&watch)
        return out
    finally:
        for i in range(3):
            drop(&given[i])
