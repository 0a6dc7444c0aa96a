# Python arrays as pointers: their buffers are acquired and checked here, for all functions of the bindings.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)

cdef struct buffers_t:
    # The buffers of a call. The caller provides the memory for them, and releases them.
    Py_buffer *views
    Py_ssize_t count


cdef inline buffers_t new_buffers(Py_buffer *views) noexcept:
    cdef buffers_t buffers
    buffers.views, buffers.count = views, 0
    return buffers


cdef inline void release_buffers(buffers_t *buffers) noexcept:
    while buffers.count > 0:
        buffers.count -= 1
        PyBuffer_Release(&buffers.views[buffers.count])


cdef Py_buffer *acquire_buffer(buffers_t *buffers, object value, char kind, int ndim, bint writable) except? NULL:
    """The buffer of a C-contiguous array of native numbers; NULL, without an error, if it is something else.

    ``kind``: "f" for float32, "d" for float64, "l" for int64.
    """
    cdef Py_buffer *view = &buffers.views[buffers.count]
    cdef const char *format
    cdef bint valid
    try:
        PyObject_GetBuffer(value, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0))
    except (BufferError, TypeError, ValueError):
        return NULL
    format = view.format
    valid = view.ndim == ndim and format != NULL and format[1] == 0
    if valid and kind == c"l":
        valid = view.itemsize == 8 and (format[0] == c"l" or format[0] == c"q")
    elif valid:
        valid = format[0] == kind
    if not valid:
        PyBuffer_Release(view)
        return NULL
    buffers.count += 1
    return view


cdef void *acquire_vector(buffers_t *buffers, object value, char kind, Py_ssize_t size, bint writable) except? NULL:
    """The numbers of a vector of that size; NULL, without an error, if it is something else."""
    cdef Py_buffer *view = acquire_buffer(buffers, value, kind, 1, writable)
    return view.buf if view != NULL and view.shape[0] == size else NULL


cdef void *acquire_matrix(buffers_t *buffers, object value, char kind, Py_ssize_t rows, Py_ssize_t columns,
                          bint writable) except? NULL:
    """The numbers of a matrix of that shape; NULL, without an error, if it is something else."""
    cdef Py_buffer *view = acquire_buffer(buffers, value, kind, 2, writable)
    return view.buf if view != NULL and view.shape[0] == rows and view.shape[1] == columns else NULL


cdef bint acquire_inputs(buffers_t *buffers, Plan plan, X, batch_t *batch) except -1:
    """Whether X is a matrix of the plan's inputs; the batch is its rows."""
    cdef Py_buffer *view = acquire_buffer(buffers, X, plan.kind, 2, False)
    if view == NULL or view.shape[1] != plan.plan.n_inputs:
        return False
    memset(batch, 0, sizeof(batch_t))
    batch.X, batch.x_stride, batch.rows = view.buf, plan.plan.n_inputs, view.shape[0]
    return True


cdef bint acquire_batch(buffers_t *buffers, Plan plan, tuple given, batch_t *batch) except -1:
    """Whether these are rows to learn from: the one place where compiled code looks at X, Y and sample weights.

    ``given``: X, Y, sample_weight, clip_norm, and maybe more. Y: int64 labels for cross_entropy, or targets of shape
    (m, n_targets), or (m,) if there is one; sample_weight: (m,), (m, n_targets) or None.
    """
    cdef const plan_t *p = &plan.plan
    cdef Py_buffer *view = NULL
    if len(given) < 4:
        return False
    X, Y, sample_weight = given[0], given[1], given[2]
    if not acquire_inputs(buffers, plan, X, batch):
        return False
    if p.loss == CROSS_ENTROPY:
        view = acquire_buffer(buffers, Y, c"l", 1, False)
    if view != NULL:
        batch.labels = <const int64_t *>view.buf
    else:
        view = acquire_buffer(buffers, Y, plan.kind, 2, False)
        if view == NULL and p.n_targets == 1 and p.loss != CROSS_ENTROPY:
            view = acquire_buffer(buffers, Y, plan.kind, 1, False)
        if view == NULL or (view.ndim == 2 and view.shape[1] != p.n_targets):
            return False
        batch.targets = view.buf
    if view.shape[0] != batch.rows:
        return False
    batch.clip_norm = given[3]
    return sample_weight is None or acquire_sample_weight(buffers, plan, sample_weight, batch)


cdef bint acquire_sample_weight(buffers_t *buffers, Plan plan, sample_weight, batch_t *batch) except -1:
    """Whether these are weights of the rows, or of their outputs; those of one output are its row's."""
    cdef Py_ssize_t n = plan.plan.n_targets
    cdef Py_buffer *view = acquire_buffer(buffers, sample_weight, plan.kind, 1, False)
    if view == NULL:
        view = acquire_buffer(buffers, sample_weight, plan.kind, 2, False)
    if view == NULL or view.shape[0] != batch.rows or (view.ndim == 2 and view.shape[1] != n):
        return False
    if view.ndim == 1 or n == 1:
        batch.sample_weight = view.buf
    else:
        batch.output_weight = view.buf
    return True


cdef inline bint disjoint(const Py_buffer *a, const Py_buffer *b) noexcept:
    """Whether two contiguous buffers share no memory."""
    return <char *>a.buf + a.len <= <char *>b.buf or <char *>b.buf + b.len <= <char *>a.buf


cdef inline bint last_is_disjoint(const buffers_t *buffers) noexcept:
    """Whether the last buffer acquired shares no memory with the others."""
    cdef Py_ssize_t i
    for i in range(buffers.count - 1):
        if not disjoint(&buffers.views[i], &buffers.views[buffers.count - 1]):
            return False
    return True
