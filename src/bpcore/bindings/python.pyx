# What Python calls; bpcore.fallback has the same functions, and their documentation.

import numpy

#: Whether subnormal numbers count as 0: wherever the processor has a mode for it.
FLUSHES_SUBNORMALS = bool(FLUSHES)

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty


cdef void *check_params(buffers_t *buffers, Plan plan, params) except NULL:
    """The parameters, or an error."""
    cdef void *numbers = acquire_vector(buffers, params, plan.kind, plan.plan.n_parameters, False)
    if numbers == NULL:
        raise ValueError(f"params must be {plan.plan.n_parameters} contiguous numbers of the plan's dtype")
    return numbers


# ----------------------------------------------------------------------------------------------------------- forward


cdef object forward_call(Plan plan, call_t *call, int threads):
    """Run a checked call of :func:`forward`."""
    call.task = FORWARD
    if call.batch.rows > 0:
        run(plan, call, threads)


def forward(Plan plan not None, params, X, out, int threads=1):
    """Fill ``out`` with the activations of the output layer."""
    cdef Py_buffer views[3]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        call.params = check_params(&buffers, plan, params)
        if not acquire_inputs(&buffers, plan, X, &call.batch):
            raise ValueError(f"X must have {plan.plan.n_inputs} columns of the plan's dtype")
        call.out = acquire_matrix(&buffers, out, plan.kind, call.batch.rows, plan.plan.n_outputs, True)
        if call.out == NULL:
            raise ValueError("out does not fit X and the plan")
        forward_call(plan, &call, threads)
    finally:
        release_buffers(&buffers)


def try_forward(Plan plan not None, params, X, out, tuple limits not None):
    """The output activations of a call, or None if an argument needs a closer look.

    Accepted are native C-contiguous NumPy arrays of the plan's dtype. ``limits``: maximum rows, and threads. ``params``
    may be of several networks, as for :func:`forward_population`.
    """
    if type(params) is not ndarray or type(X) is not ndarray or (out is not None and type(out) is not ndarray):
        return None
    cdef Py_buffer views[3]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef call_t call
    max_rows, threads = limits
    try:
        call.params = acquire_vector(&buffers, params, plan.kind, plan.plan.n_parameters, False)
        if call.params == NULL:
            return try_forward_population(plan, params, X, out, limits)
        if not acquire_inputs(&buffers, plan, X, &call.batch) or not 0 < call.batch.rows <= max_rows:
            return None
        if out is None:
            out = empty((call.batch.rows, plan.plan.n_outputs), plan.dtype)
        call.out = acquire_matrix(&buffers, out, plan.kind, call.batch.rows, plan.plan.n_outputs, True)
        if call.out == NULL or not last_is_disjoint(&buffers):
            return None
        forward_call(plan, &call, threads)
        return out
    finally:
        release_buffers(&buffers)


# ------------------------------------------------------------------------------------ a forward pass that is kept


cdef class Kept:
    """The arrays of a forward pass that is kept, and their places in memory.

    Attributes
    ----------
    activations : list of ndarray
        ``[X, a(2), ..., a(L)]``.
    logits : ndarray
        ``z(L)``, of shape (m, n_outputs).
    """

    cdef readonly list activations
    cdef readonly object logits
    cdef list derivatives           # what `pointwise` keeps, of the layers where it does
    cdef buffers_t buffers
    cdef kept_t kept
    cdef batch_t batch

    def __cinit__(self, Plan plan not None, X):
        cdef Py_ssize_t l, n = plan.plan.n_layers
        self.buffers.views = <Py_buffer *>malloc((2 * n + 3) * sizeof(Py_buffer))
        self.kept.a = <void **>malloc(2 * n * sizeof(void *))
        if self.buffers.views == NULL or self.kept.a == NULL:
            raise MemoryError()
        self.kept.derivatives = self.kept.a + n
        if not acquire_inputs(&self.buffers, plan, X, &self.batch):
            raise ValueError(f"X must have {plan.plan.n_inputs} columns of the plan's dtype")
        self.batch.kept = &self.kept
        self.activations, self.derivatives = [X], []
        for l in range(n):
            self.kept.a[l] = self.new_matrix(plan, plan.plan.layers[l].n_out, self.activations)
            self.kept.derivatives[l] = NULL
            if plan.plan.layers[l].keeps_derivative:
                self.kept.derivatives[l] = self.new_matrix(plan, plan.plan.layers[l].n_out, self.derivatives)
        self.kept.logits, self.logits = NULL, self.activations[n]
        if plan.plan.layers[n - 1].activation != IDENTITY:
            logits = []
            self.kept.logits = self.new_matrix(plan, plan.plan.n_outputs, logits)
            self.logits = logits[0]

    def __dealloc__(self):
        release_buffers(&self.buffers)
        free(self.buffers.views)
        free(self.kept.a)

    cdef void *new_matrix(self, Plan plan, Py_ssize_t columns, list arrays) except NULL:
        cdef Py_ssize_t rows = self.batch.rows
        array = empty((rows, columns), plan.dtype)
        arrays.append(array)
        return acquire_matrix(&self.buffers, array, plan.kind, rows, columns, True)


def trace(Plan plan not None, params, X, int threads=1):
    """A forward pass whose activations, derivatives and logits are kept, as a :class:`Kept`."""
    cdef Kept kept = Kept(plan, X)
    cdef Py_buffer views[1]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        call.params, call.batch, call.out = check_params(&buffers, plan, params), kept.batch, NULL
        forward_call(plan, &call, threads)
    finally:
        release_buffers(&buffers)
    return kept


# ---------------------------------------------------------------------------------- backward from any output gradient


cdef bint acquire_backward(buffers_t *buffers, Plan plan, given, call_t *call) except -1:
    """Whether these are the rows of a backward pass; ``given`` is a :class:`bpcore.fallback.Backward`."""
    cdef Kept kept
    cdef Py_ssize_t rows
    cdef batch_t *batch = &call.batch
    X, output_gradient, of_logits, input_gradient, forward_pass, first = given
    if not acquire_inputs(buffers, plan, X, batch):
        return False
    rows = batch.rows
    batch.of_logits = of_logits
    batch.output_gradient = acquire_matrix(buffers, output_gradient, plan.kind, rows, plan.plan.n_outputs, False)
    if input_gradient is not None:
        batch.input_gradient = acquire_matrix(buffers, input_gradient, plan.kind, rows, plan.plan.n_inputs, True)
    if batch.output_gradient == NULL or (input_gradient is not None and batch.input_gradient == NULL):
        return False
    if forward_pass is not None:
        kept, batch.first = forward_pass, first
        if not 0 <= batch.first <= kept.batch.rows - rows or len(kept.activations) != plan.plan.n_layers + 1:
            return False
        batch.kept = &kept.kept
    return True


cdef int check_backward(buffers_t *buffers, Plan plan, given, call_t *call) except -1:
    if not acquire_backward(buffers, plan, given, call):
        raise ValueError("X, output_gradient, input_gradient or the forward pass does not fit the plan")
    return 0


def backward(Plan plan not None, params, given not None, sums, total=None, chunk_range=None, int threads=1):
    """Fill ``sums`` with the gradient of all rows, from that of their outputs; see :func:`accumulate`."""
    cdef Py_buffer views[6]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        memset(&call.sums, 0, sizeof(sums_t))
        call.params = check_params(&buffers, plan, params)
        check_backward(&buffers, plan, given, &call)
        accumulate_call(plan, &buffers, sums, total, chunk_range, &call, threads)
    finally:
        release_buffers(&buffers)


# ------------------------------------------------------------------------------------------ derivatives row by row


cdef int derive(Plan plan, call_t *call, Derivative what, int threads) except -1:
    call.task, call.wanted.what = DERIVE, what
    memset(&call.sums, 0, sizeof(sums_t))
    if call.batch.rows > 0:
        run(plan, call, threads)
    return 0


def deltas(Plan plan not None, params, given not None, list out not None, int threads=1):
    """Fill ``out`` with ``[delta(2), ..., delta(L)]``, each of shape (m, n_out)."""
    cdef Py_ssize_t l, n = plan.plan.n_layers
    cdef buffers_t buffers
    cdef call_t call
    if len(out) != n:
        raise ValueError(f"out must be {n} arrays, got {len(out)}")
    buffers.count, buffers.views = 0, <Py_buffer *>malloc((n + 4) * sizeof(Py_buffer))
    call.wanted.deltas = <void **>malloc(n * sizeof(void *))
    try:
        if buffers.views == NULL or call.wanted.deltas == NULL:
            raise MemoryError()
        call.params = check_params(&buffers, plan, params)
        check_backward(&buffers, plan, given, &call)
        call.wanted.first = call.batch.first
        for l in range(n):
            call.wanted.deltas[l] = acquire_matrix(&buffers, out[l], plan.kind, call.batch.rows,
                                                   plan.plan.layers[l].n_out, True)
            if call.wanted.deltas[l] == NULL:
                raise ValueError("out does not fit the plan")
        derive(plan, &call, DELTAS, threads)
    finally:
        release_buffers(&buffers)
        free(buffers.views)
        free(call.wanted.deltas)


cdef int derive_of_batch(Plan plan, params, tuple batch, out, Derivative what, int threads) except -1:
    """Norms and gradients of rows to learn from; and Jacobians, whose batch is X alone. ``out`` has any shape."""
    cdef Py_buffer views[5]
    cdef Py_buffer *view
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t size = plan.plan.n_inputs if what == INPUT_JACOBIAN else plan.plan.n_parameters
    cdef call_t call
    try:
        if what == NORMS or what == ROW_GRADIENTS:
            check_rows(&buffers, plan, params, batch, &call)
            size = size if what == ROW_GRADIENTS else 1
        else:
            call.params, size = check_params(&buffers, plan, params), size * plan.plan.n_outputs
            if not acquire_inputs(&buffers, plan, batch[0], &call.batch):
                raise ValueError(f"X must have {plan.plan.n_inputs} columns of the plan's dtype")
        view = acquire_buffer(&buffers, out, plan.kind, 1, True)
        if view == NULL or view.shape[0] != call.batch.rows * size:
            raise ValueError("out does not fit X and the plan")
        call.wanted.out = view.buf
        derive(plan, &call, what, threads)
    finally:
        release_buffers(&buffers)
    return 0


def gradient_norms(Plan plan not None, params, tuple batch not None, out, int threads=1):
    """Fill ``out``, (m,), with the norm of each row's own gradient."""
    derive_of_batch(plan, params, batch, out, NORMS, threads)


def row_gradients(Plan plan not None, params, tuple batch not None, out, int threads=1):
    """Fill ``out``, (m * n_parameters,), with each row's own gradient."""
    derive_of_batch(plan, params, batch, out, ROW_GRADIENTS, threads)


def jacobian(Plan plan not None, params, X, out, int threads=1):
    """Fill ``out``, (m * n_outputs * n_parameters,), with the derivatives of the outputs by the parameters."""
    derive_of_batch(plan, params, (X,), out, JACOBIAN, threads)


def input_jacobian(Plan plan not None, params, X, out, int threads=1):
    """Fill ``out``, (m * n_outputs * n_inputs,), with the derivatives of the outputs by the inputs."""
    derive_of_batch(plan, params, (X,), out, INPUT_JACOBIAN, threads)


def jvp(Plan plan not None, params, X, tuple directions not None, tuple out not None, int threads=1):
    """Fill ``out``, of (A, dA), with the outputs and their derivative along ``directions``, of (d_params, d_X)."""
    cdef Py_buffer views[6]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t rows
    cdef call_t call
    d_params, d_inputs = directions
    A, dA = out
    try:
        call.params = check_params(&buffers, plan, params)
        if not acquire_inputs(&buffers, plan, X, &call.batch):
            raise ValueError(f"X must have {plan.plan.n_inputs} columns of the plan's dtype")
        rows = call.batch.rows
        call.wanted.d_params = call.wanted.d_inputs = NULL
        if d_params is not None:
            call.wanted.d_params = check_params(&buffers, plan, d_params)
        if d_inputs is not None:
            call.wanted.d_inputs = acquire_matrix(&buffers, d_inputs, plan.kind, rows, plan.plan.n_inputs, False)
        call.wanted.out = acquire_matrix(&buffers, A, plan.kind, rows, plan.plan.n_outputs, True)
        call.wanted.d_out = acquire_matrix(&buffers, dA, plan.kind, rows, plan.plan.n_outputs, True)
        if (call.wanted.out == NULL or call.wanted.d_out == NULL
                or (d_inputs is not None and call.wanted.d_inputs == NULL)):
            raise ValueError("d_X or out does not fit X and the plan")
        derive(plan, &call, TANGENTS, threads)
    finally:
        release_buffers(&buffers)


# -------------------------------------------------------------------------------------------------------- accumulate


cdef int check_chunks(chunk_range, call_t *call) except -1:
    """The chunks that these rows are; one if None is given."""
    cdef chunk_range_t c
    cdef Py_ssize_t rows = call.batch.rows
    c.total_rows, c.n_chunks, c.begin, c.end = (rows, 1, 0, 1) if chunk_range is None else chunk_range
    if (not 0 <= c.begin < c.end <= c.n_chunks <= c.total_rows
            or chunk_start(c.total_rows, c.n_chunks, c.end) - chunk_start(c.total_rows, c.n_chunks, c.begin) != rows):
        raise ValueError("chunk_range does not fit X")
    call.chunks = c
    return 0


cdef int check_rows(buffers_t *buffers, Plan plan, params, tuple batch, call_t *call) except -1:
    """The parameters of a call, and the rows to learn from."""
    memset(&call.sums, 0, sizeof(sums_t))
    call.params = check_params(buffers, plan, params)
    if not acquire_batch(buffers, plan, batch, &call.batch):
        raise ValueError("X, Y or sample_weight does not fit the plan")
    return 0


def accumulate(Plan plan not None, params, tuple batch not None, sums not None, total=None, chunk_range=None,
               int threads=1):
    """Fill ``sums`` with the weighted gradients of all rows, summed; return the sum of their weighted losses.

    Where these are not all rows, or more than a group: add the losses, and behind them the gradients, to ``total``,
    whose losses are returned.
    """
    cdef Py_buffer views[6]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        check_rows(&buffers, plan, params, batch, &call)
        accumulate_call(plan, &buffers, sums, total, chunk_range, &call, threads)
        return call.losses
    finally:
        release_buffers(&buffers)


cdef int accumulate_call(Plan plan, buffers_t *buffers, sums, total, chunk_range, call_t *call, int threads) except -1:
    """Run :func:`accumulate` or :func:`backward` for checked rows."""
    cdef Py_ssize_t n = plan.plan.n_parameters
    cdef double *totals = NULL
    call.task, call.losses = ACCUMULATE, 0
    call.sums.sums = acquire_vector(buffers, sums, plan.kind, n, True)
    if call.sums.sums == NULL:
        raise ValueError("sums does not fit the plan")
    if total is not None:
        totals = <double *>acquire_vector(buffers, total, c"d", 1 + n, True)
        if totals == NULL:
            raise ValueError("total does not fit the plan")
        call.sums.total = totals + 1
    if call.batch.rows == 0:
        memset(call.sums.sums, 0, n * (sizeof(float) if plan.is_float32 else sizeof(double)))
        return 0
    check_chunks(chunk_range, call)
    if totals != NULL and call.chunks.begin > 0:
        call.losses = totals[0]
    run(plan, call, threads)
    if totals != NULL:
        totals[0] = call.losses
    return 0


def loss(Plan plan not None, params, tuple batch not None, double before=0.0, chunk_range=None, int threads=1):
    """``before`` and the weighted losses of all rows, summed."""
    cdef Py_buffer views[4]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        check_rows(&buffers, plan, params, batch, &call)
        call.task, call.losses = ACCUMULATE, before
        if call.batch.rows > 0:
            check_chunks(chunk_range, &call)
            run(plan, &call, threads)
        return call.losses
    finally:
        release_buffers(&buffers)


cdef object finish_typed(Plan plan, const floating[::1] params, const sum_t[::1] sums, double weight, double l2,
                         floating[::1] out):
    cdef const plan_t *p = &plan.plan
    cdef segment_t part = all_parameters(p)
    cdef float_mode_t mode
    if params.shape[0] != p.n_parameters or sums.shape[0] != p.n_parameters or out.shape[0] != p.n_parameters:
        raise ValueError(f"params, sums and out must have {p.n_parameters} entries")
    with nogil:
        mode = flush_subnormals()
        finish_gradient(p, &params[0], <const sum_t *>&sums[0], weight, l2, &part, &out[0])
        restore_float_mode(mode)


def finish(Plan plan not None, params, sums, double weight, double l2, out):
    """Fill ``out`` with ``D = Delta / m + lambda W``, and ``Delta / m`` for the biases; ``out`` may be ``sums``."""
    if not plan.is_float32:
        finish_typed[double, double](plan, params, sums, weight, l2, out)
    elif sums.itemsize == 4:
        finish_typed[float, float](plan, params, sums, weight, l2, out)
    else:
        finish_typed[float, double](plan, params, sums, weight, l2, out)


cdef double cost_typed(Plan plan, const floating[::1] params, double losses, double weight, double l2) except? -1:
    cdef double total
    cdef float_mode_t mode
    if params.shape[0] != plan.plan.n_parameters:
        raise ValueError(f"params must have {plan.plan.n_parameters} entries, got {params.shape[0]}")
    with nogil:
        mode = flush_subnormals()
        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)
        restore_float_mode(mode)
    return total


def cost(Plan plan not None, params, double losses, double weight, double l2):
    """``J = losses / m + lambda/2 * sum(W^2)``; the biases are not penalised."""
    if plan.is_float32:
        return cost_typed[float](plan, params, losses, weight, l2)
    return cost_typed[double](plan, params, losses, weight, l2)


# ------------------------------------------------------------------------------------- the cost and gradient at once


cdef int cost_and_gradient_call(Plan plan, call_t *call, double weight, int threads) except -1:
    """Run a checked call: the cost becomes ``call.losses``, and its gradient is in ``call.sums.sums``, if that is set.

    Sums are added in the dtypes and the order of _chunks.py, for the same bits as from several calls of `accumulate`.
    """
    cdef const plan_t *p = &plan.plan
    call.task = COST_AND_GRADIENT
    call.sums.weight, call.sums.l2 = weight, call.l2
    call.chunks = all_chunks(p, call.batch.rows)
    if call.chunks.n_chunks <= p.group_size or call.sums.sums == NULL:
        return run(plan, call, threads)
    call.sums.total = <double *>allocate(p.n_parameters * sizeof(double))
    if call.sums.total == NULL:
        raise MemoryError()
    try:
        return run(plan, call, threads)
    finally:
        free(call.sums.total)


cdef bint are_arrays(params, tuple batch) except -1:
    """Whether parameters, rows to learn from and their weights are NumPy arrays, and not masked ones or the like."""
    X, Y, sample_weight, _, signed = batch
    return (type(signed) is bool and type(params) is ndarray and type(X) is ndarray and type(Y) is ndarray
            and (sample_weight is None or type(sample_weight) is ndarray))


cdef bint try_rows(Plan plan, buffers_t *buffers, params, tuple batch, call_t *call) except -1:
    """Whether parameters and rows to learn from are what the loops take, without a look at anything else of them.

    ``batch``: as for `acquire_batch`, and whether weights may be negative. ``call.weight`` becomes what sums are
    divided by.
    """
    cdef bint valid, negative = batch[4] is True
    if not are_arrays(params, batch):
        return False
    memset(&call.sums, 0, sizeof(sums_t))
    call.params = acquire_vector(buffers, params, plan.kind, plan.plan.n_parameters, False)
    if call.params == NULL:
        return False
    if not acquire_batch(buffers, plan, batch, &call.batch) or call.batch.rows == 0:
        return False
    if plan.is_float32:
        valid = (targets_valid(&plan.plan, &call.batch, <const float *>NULL)
                 and weights_valid(&plan.plan, &call.batch, negative, <const float *>NULL))
        call.weight = sum_weights(&plan.plan, &call.batch, <const float *>NULL)
    else:
        valid = (targets_valid(&plan.plan, &call.batch, <const double *>NULL)
                 and weights_valid(&plan.plan, &call.batch, negative, <const double *>NULL))
        call.weight = sum_weights(&plan.plan, &call.batch, <const double *>NULL)
    if negative:
        call.weight = <double>call.batch.rows
    return valid and 0 < call.weight < INFINITY


def try_cost_and_gradient(Plan plan not None, params, tuple batch not None, l2, out, tuple limits not None):
    """``(J, grad)`` of a call, or None if an argument needs a closer look.

    Accepted are native C-contiguous NumPy arrays of the plan's dtype (or int64 labels). ``batch``: X, Y, sample_weight,
    clip_norm, and whether weights may be negative. ``limits``: maximum rows, and threads.
    """
    if type(l2) is not float or (out is not None and type(out) is not ndarray):
        return None
    cdef Py_buffer views[5]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef call_t call
    max_rows, threads = limits
    call.l2 = l2
    try:
        if not 0 <= call.l2 < INFINITY or not try_rows(plan, &buffers, params, batch, &call):
            return None
        if call.batch.rows > max_rows:
            return None
        if out is None:
            out = empty(plan.plan.n_parameters, plan.dtype)
        call.sums.sums = acquire_vector(&buffers, out, plan.kind, plan.plan.n_parameters, True)
        if call.sums.sums == NULL or not last_is_disjoint(&buffers):
            return None
        cost_and_gradient_call(plan, &call, call.weight, threads)
        return call.losses, out
    finally:
        release_buffers(&buffers)


def try_cost(Plan plan not None, params, tuple batch not None, l2, tuple limits not None):
    """The cost of a call, or None if an argument needs a closer look; as :func:`try_cost_and_gradient`.

    ``params`` may be of several networks, as for :func:`population_costs`.
    """
    if type(l2) is not float:
        return None
    cdef Py_buffer views[4]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef call_t call
    max_rows, threads = limits
    call.l2, call.params = l2, NULL
    try:
        if not 0 <= call.l2 < INFINITY:
            return None
        if not try_rows(plan, &buffers, params, batch, &call):
            if call.params == NULL:  # not those of one network
                return try_population_costs(plan, params, batch, call.l2, limits)
            return None
        if call.batch.rows > max_rows:
            return None
        cost_and_gradient_call(plan, &call, call.weight, threads)
        return call.losses
    finally:
        release_buffers(&buffers)


def try_backward(Plan plan not None, params, tuple given not None, out, tuple limits not None):
    """What a backward pass returns, or None if an argument needs a closer look.

    ``given``: what makes a :class:`bpcore.fallback.Backward`, with True or False for the gradient of the inputs.
    """
    cdef Py_buffer views[5]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef call_t call
    max_rows, threads = limits
    X, output_gradient, of_logits, with_inputs, kept, first = given
    if (type(params) is not ndarray or type(X) is not ndarray or type(output_gradient) is not ndarray
            or type(of_logits) is not bool or type(with_inputs) is not bool
            or (out is not None and type(out) is not ndarray)):
        return None
    call.l2 = 0
    try:
        memset(&call.sums, 0, sizeof(sums_t))
        dX = empty(X.shape, plan.dtype) if with_inputs else None
        call.params = acquire_vector(&buffers, params, plan.kind, plan.plan.n_parameters, False)
        if (call.params == NULL
                or not acquire_backward(&buffers, plan, (X, output_gradient, of_logits, dX, kept, first), &call)):
            return None
        if not 0 < call.batch.rows <= max_rows:
            return None
        if out is None:
            out = empty(plan.plan.n_parameters, plan.dtype)
        call.sums.sums = acquire_vector(&buffers, out, plan.kind, plan.plan.n_parameters, True)
        if call.sums.sums == NULL or not last_is_disjoint(&buffers):
            return None
        cost_and_gradient_call(plan, &call, 1, threads)
        return (out, dX) if with_inputs else out
    finally:
        release_buffers(&buffers)


def try_trace(Plan plan not None, params, X, tuple limits not None):
    """A copy of the parameters, and :func:`trace` with it; or None if an argument needs a closer look."""
    if type(params) is not ndarray or type(X) is not ndarray or params.ndim != 1 or X.ndim != 2:
        return None
    if params.dtype is not plan.dtype or X.dtype is not plan.dtype or X.shape[1] != plan.plan.n_inputs:
        return None
    flags = X.flags
    max_rows, threads = limits
    if (params.shape[0] != plan.plan.n_parameters or len(X) > max_rows or not flags.c_contiguous
            or not flags.aligned):
        return None
    params = params.copy()
    return params, trace(plan, params, X, threads)


def total_weight(weights not None):
    """The sum of contiguous weights of float64, at most about ``WEIGHTS_SUMMED_AT_ONCE`` of them."""
    cdef const double[::1] numbers = weights
    return sum_numbers(&numbers[0], numbers.shape[0]) if numbers.shape[0] > 0 else 0.0


# -------------------------------------------------------------------------------------------------------- optimizers


cdef object optimizer_step_typed(floating[::1] params, const floating[::1] grad, tuple moments,
                                 hyperparameters_t *given):
    cdef floating[::1] moment
    cdef floating *places[2]
    cdef Py_ssize_t i, n = params.shape[0]
    cdef float_mode_t mode
    if grad.shape[0] != n:
        raise ValueError(f"grad must have {n} entries, got {grad.shape[0]}")
    places[0] = places[1] = NULL
    for i in range(len(moments)):
        if moments[i] is not None:
            moment = moments[i]  # the tuple keeps the buffer
            if moment.shape[0] != n:
                raise ValueError(f"the optimizer's state must have {n} entries, got {moment.shape[0]}")
            if n > 0:
                places[i] = &moment[0]
    if n > 0:
        with nogil:
            mode = flush_subnormals()
            correct_bias(given)
            optimizer_step(&params[0], &grad[0], places, n, given)
            restore_float_mode(mode)


def gradient_descent_step(params, grad, velocity, double learning_rate, double momentum, bint nesterov):
    """``v = mu v + g; p -= lr v``; with Nesterov's momentum ``p -= lr (g + mu v)``. In place."""
    cdef hyperparameters_t given
    memset(&given, 0, sizeof(given))
    given.learning_rate, given.momentum, given.nesterov = learning_rate, momentum, nesterov
    if params.itemsize == 4:
        optimizer_step_typed[float](params, grad, (velocity,), &given)
    else:
        optimizer_step_typed[double](params, grad, (velocity,), &given)


def adam_step(params, grad, tuple moments not None, tuple hyperparameters not None, double learning_rate, long step):
    """Step number ``step`` (from 1) of Adam, in place: D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1.

    ``moments``: the first and second; ``hyperparameters``: beta1, beta2 and epsilon.
    """
    cdef hyperparameters_t given
    memset(&given, 0, sizeof(given))
    given.adam, given.learning_rate, given.step = True, learning_rate, step
    given.beta1, given.beta2, given.epsilon = hyperparameters
    if len(moments) != 2 or moments[0] is None or moments[1] is None:
        raise ValueError(f"moments must be two arrays, got {moments!r}")
    if params.itemsize == 4:
        optimizer_step_typed[float](params, grad, moments, &given)
    else:
        optimizer_step_typed[double](params, grad, moments, &given)


cdef bint acquire_step(buffers_t *buffers, params, grad, tuple moments, void **places) except -1:
    """Whether these are the vectors of a step of one type and size, and the parameters share no memory with another."""
    cdef char kind = c"d"
    cdef Py_buffer *view
    cdef Py_ssize_t i
    if type(params) is not ndarray or type(grad) is not ndarray:
        return False
    view = acquire_buffer(buffers, grad, kind, 1, False)
    if view == NULL:
        kind = c"f"
        view = acquire_buffer(buffers, grad, kind, 1, False)
    if view == NULL or view.shape[0] == 0:
        return False
    for i in range(len(moments)):
        places[1 + i] = acquire_vector(buffers, moments[i], kind, view.shape[0], True)
        if places[1 + i] == NULL:
            return False
    places[0] = acquire_vector(buffers, params, kind, view.shape[0], True)
    return places[0] != NULL and last_is_disjoint(buffers)


def try_step(params, grad, tuple moments not None, tuple hyperparameters not None, learning_rate, long step):
    """Whether a step of an optimizer was taken: it is not if an argument needs a closer look.

    ``hyperparameters``: momentum and nesterov, or Adam's beta1, beta2 and epsilon.
    """
    cdef Py_buffer views[4]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef hyperparameters_t given
    cdef void *places[3]
    cdef float *moments_f32[2]
    cdef double *moments_f64[2]
    cdef float_mode_t mode
    cdef Py_ssize_t n
    cdef bint is_float32
    if type(learning_rate) is not float or not 0 <= <double>learning_rate < INFINITY:
        return False
    memset(&given, 0, sizeof(given))
    places[1] = places[2] = NULL
    given.learning_rate, given.step = learning_rate, step
    given.adam = len(hyperparameters) == 3
    if given.adam:
        given.beta1, given.beta2, given.epsilon = hyperparameters
    else:
        given.momentum, given.nesterov = hyperparameters
    if len(moments) != (2 if given.adam else 1 if given.momentum != 0 else 0):  # before the first step
        return False
    try:
        if not acquire_step(&buffers, params, grad, moments, places):
            return False
        n, is_float32 = buffers.views[0].shape[0], buffers.views[0].itemsize == 4
        with nogil:
            mode = flush_subnormals()
            correct_bias(&given)
            if is_float32:
                moments_f32[0], moments_f32[1] = <float *>places[1], <float *>places[2]
                optimizer_step(<float *>places[0], <const float *>buffers.views[0].buf, moments_f32, n, &given)
            else:
                moments_f64[0], moments_f64[1] = <double *>places[1], <double *>places[2]
                optimizer_step(<double *>places[0], <const double *>buffers.views[0].buf, moments_f64, n, &given)
            restore_float_mode(mode)
        return True
    finally:
        release_buffers(&buffers)


# ------------------------------------------------------------------------------------------- for tests and benchmarks

cdef object elementary_typed(str name, const floating[::1] x, floating[::1] out):
    cdef Py_ssize_t i, n = x.shape[0]
    cdef floating rest
    if out.shape[0] != n:
        raise ValueError("out does not fit")
    if name == "exp":
        for i in range(n):
            out[i] = exp_(x[i])
    elif name == "expm1":
        for i in range(n):
            out[i] = expm1_(x[i], &rest)
    elif name == "log":
        for i in range(n):
            out[i] = log_(x[i])
    elif name == "log1p":
        for i in range(n):
            out[i] = log1p_(x[i])
    elif name == "tanh":
        for i in range(n):
            out[i] = tanh_(x[i], &rest)
    elif name == "normal_sf":
        for i in range(n):
            out[i] = normal_sf(x[i], &rest)
    else:
        raise ValueError(f"name must be exp, expm1, log, log1p, tanh or normal_sf, got {name!r}")


def elementary(str name not None, x, out):
    """Fill ``out`` with a function of x that activations are made of.

    exp, tanh; expm1 for x <= 0; log for normal x > 0; log1p for 0 <= x <= 1; normal_sf, ``Phi(-x)`` of the normal
    distribution, for x >= 0.
    """
    if x.itemsize == 4:
        elementary_typed[float](name, x, out)
    else:
        elementary_typed[double](name, x, out)


def fma_loop(Py_ssize_t repeats, bint is_float32):
    """Multiply and add in registers, as fast as the processor can: ``repeats`` times 256 rounds of all sums of a block.

    Returns
    -------
    operations : float
        Floating-point operations of the loop; their rate is the peak that products are measured against.
    """
    cdef char memory[5 * 64]
    cdef char *numbers = aligned(memory)
    memset(memory, repeats & 1, sizeof(memory))  # nothing that the compiler could compute with
    with nogil:
        if is_float32:
            multiply_in_registers[f32v](256 * repeats, <f32v *>numbers)
        else:
            multiply_in_registers[f64v](256 * repeats, <f64v *>numbers)
    if (<double *>numbers)[LANES_F64] < 0:  # never; but the compiler must keep the loop
        raise ArithmeticError()
    return 2.0 * 256 * repeats * MR * NR_VECTORS * (LANES_F32 if is_float32 else LANES_F64)
