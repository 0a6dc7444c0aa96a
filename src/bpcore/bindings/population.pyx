# Calls from Python for many networks of one architecture, whose parameters are the rows of a matrix.

cdef bint acquire_population(buffers_t *buffers, Plan plan, params, X, call_t *call) except -1:
    """Whether these are parameters of networks, (K, n_parameters), and rows for all of them or for each.

    X: (m, n_inputs) or (K, m, n_inputs). The rows of the batch are those of one network.
    """
    cdef Py_buffer *view = acquire_buffer(buffers, params, plan.kind, 2, False)
    if view == NULL or view.shape[1] != plan.plan.n_parameters:
        return False
    memset(&call.sums, 0, sizeof(sums_t))
    memset(&call.population, 0, sizeof(population_t))
    call.task, call.params, call.population.count = POPULATION, view.buf, view.shape[0]
    view = acquire_buffer(buffers, X, plan.kind, 3, False)
    if view == NULL:
        return acquire_inputs(buffers, plan, X, &call.batch)
    memset(&call.batch, 0, sizeof(batch_t))
    call.batch.X, call.batch.x_stride, call.batch.rows = view.buf, plan.plan.n_inputs, view.shape[1]
    call.population.own_inputs = True
    return view.shape[0] == call.population.count and view.shape[2] == plan.plan.n_inputs


cdef bint acquire_targets(buffers_t *buffers, Plan plan, Y, call_t *call) except -1:
    """Whether Y are targets for all networks or, if each has rows of its own, for each.

    int64 labels for cross_entropy, (m,) or (K, m); or targets, (m, n_outputs) or (K, m, n_outputs), where the last axis
    may be missing if there is one output.
    """
    cdef const plan_t *p = &plan.plan
    cdef population_t *all = &call.population
    cdef Py_ssize_t rows = call.batch.rows
    cdef bint flat = p.n_targets == 1 and p.loss != CROSS_ENTROPY
    cdef Py_buffer *view = NULL
    if p.loss == CROSS_ENTROPY:
        view = acquire_buffer(buffers, Y, c"l", 1, False)
        if view == NULL and all.own_inputs:
            view = acquire_buffer(buffers, Y, c"l", 2, False)
    if view != NULL:
        call.batch.labels, all.own_targets = <const int64_t *>view.buf, view.ndim == 2
        return view.shape[view.ndim - 1] == rows and (view.ndim == 1 or view.shape[0] == all.count)
    view = acquire_buffer(buffers, Y, plan.kind, 2, False)
    if view == NULL:
        view = acquire_buffer(buffers, Y, plan.kind, 3 if all.own_inputs else 1, False)
    if view == NULL and flat:
        view = acquire_buffer(buffers, Y, plan.kind, 1, False)
    if view == NULL:
        return False
    call.batch.targets = view.buf
    if view.ndim == 1:
        return flat and view.shape[0] == rows
    if view.ndim == 2 and view.shape[0] == rows and view.shape[1] == p.n_targets:
        return True
    all.own_targets = all.own_inputs
    return (all.own_inputs and view.shape[0] == all.count and view.shape[1] == rows
            and (flat if view.ndim == 2 else view.shape[2] == p.n_targets))


cdef bint acquire_population_batch(buffers_t *buffers, Plan plan, params, tuple batch, call_t *call) except -1:
    """Whether these are networks, and rows for their costs. ``batch``: X, Y, sample_weight and more."""
    if not acquire_population(buffers, plan, params, batch[0], call):
        return False
    if not acquire_targets(buffers, plan, batch[1], call):
        return False
    return batch[2] is None or acquire_sample_weight(buffers, plan, batch[2], &call.batch)


cdef bint acquire_outputs(buffers_t *buffers, Plan plan, out, call_t *call) except -1:
    """Whether ``out`` has the shape (K, m, n_outputs)."""
    cdef Py_buffer *view = acquire_buffer(buffers, out, plan.kind, 3, True)
    if view == NULL:
        return False
    call.out = view.buf
    return (view.shape[0] == call.population.count and view.shape[1] == call.batch.rows
            and view.shape[2] == plan.plan.n_outputs)


cdef int population_call(Plan plan, call_t *call, int threads) except -1:
    """Run a checked call for all networks."""
    if call.batch.rows > 0 and call.population.count > 0:
        run(plan, call, <int>min(<Py_ssize_t>threads, call.population.count))
    return 0


def forward_population(Plan plan not None, params, X, out, int threads=1):
    """Fill ``out``, (K, m, n_outputs), with the outputs of K networks; X is (m, n_inputs), or has K of these."""
    cdef Py_buffer views[3]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        if not acquire_population(&buffers, plan, params, X, &call) or not acquire_outputs(&buffers, plan, out, &call):
            raise ValueError("params, X or out does not fit the plan")
        population_call(plan, &call, threads)
    finally:
        release_buffers(&buffers)


def population_costs(Plan plan not None, params, tuple batch not None, double weight, double l2, out, int threads=1):
    """Fill ``out``, (K,) of float64, with the costs of K networks; X, or X and Y, may have rows for each."""
    cdef Py_buffer views[5]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    try:
        if not acquire_population_batch(&buffers, plan, params, batch, &call):
            raise ValueError("params, X, Y or sample_weight does not fit the plan")
        call.population.weight, call.population.l2 = weight, l2
        call.population.costs = <double *>acquire_vector(&buffers, out, c"d", call.population.count, True)
        if call.population.costs == NULL:
            raise ValueError("out does not fit params")
        population_call(plan, &call, threads)
    finally:
        release_buffers(&buffers)


cdef object try_forward_population(Plan plan, params, X, out, tuple limits):
    """:func:`try_forward` for several networks."""
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef Py_buffer views[3]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    max_rows, threads = limits
    try:
        if not acquire_population(&buffers, plan, params, X, &call):
            return None
        if not 0 < call.population.count * call.batch.rows <= max_rows:
            return None
        if out is None:
            out = empty((call.population.count, call.batch.rows, plan.plan.n_outputs), plan.dtype)
        if not acquire_outputs(&buffers, plan, out, &call) or not last_is_disjoint(&buffers):
            return None
        population_call(plan, &call, threads)
        return out
    finally:
        release_buffers(&buffers)


cdef double population_weight(const plan_t *plan, const call_t *call, bint negative,
                              const floating *tag) noexcept nogil:
    """What the losses of each network are divided by; 0 if a target or a weight is not valid."""
    cdef const population_t *all = &call.population
    cdef batch_t rows
    cdef Py_ssize_t k
    for k in range(all.count if all.own_targets else 1):
        rows = network_batch(plan, &call.batch, all, k, tag)
        if not targets_valid(plan, &rows, tag):
            return 0
    if not weights_valid(plan, &call.batch, negative, tag):
        return 0
    return <double>call.batch.rows if negative else sum_weights(plan, &call.batch, tag)


cdef object try_population_costs(Plan plan, params, tuple batch, double l2, tuple limits):
    """:func:`try_cost` for several networks."""
    cdef Py_ssize_t max_rows
    cdef int threads
    cdef Py_buffer views[5]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef call_t call
    cdef bint negative = batch[4] is True
    if not are_arrays(params, batch):
        return None
    max_rows, threads = limits
    try:
        if not acquire_population_batch(&buffers, plan, params, batch, &call):
            return None
        if not 0 < call.population.count * call.batch.rows <= max_rows:
            return None
        if plan.is_float32:
            call.population.weight = population_weight(&plan.plan, &call, negative, <const float *>NULL)
        else:
            call.population.weight = population_weight(&plan.plan, &call, negative, <const double *>NULL)
        if not 0 < call.population.weight < INFINITY:
            return None
        call.population.l2 = l2
        costs = empty(call.population.count)
        call.population.costs = <double *>acquire_vector(&buffers, costs, c"d", call.population.count, True)
        population_call(plan, &call, threads)
        return costs
    finally:
        release_buffers(&buffers)
