# The blocked loop of the algorithm: for each tile of rows forward, delta, backward, Delta += delta^T a.

cdef double accumulate_rows(const plan_t *plan, const floating[::1] params, const floating[:, ::1] X,
                            const floating *targets, const int64_t *labels, const floating *weights,
                            floating *sums, floating *work, const floating **a, const floating **kept) noexcept nogil:
    """The weighted losses of all rows, summed; their gradients are added to ``sums``, unless that is NULL.

    ``a`` and ``kept`` have room for one pointer a layer.
    """
    cdef Py_ssize_t tile, l, first, rows, m = X.shape[0], last = plan.n_layers - 1
    cdef floating *delta = work + plan.delta
    cdef floating *spare = delta + plan.tile * plan.widest
    cdef floating[:, ::1] A, Z, D, block
    cdef double total = 0
    for l in range(plan.n_layers):
        a[l] = work + plan.layers[l].a
        kept[l] = work + plan.layers[l].slope
    for tile in range(n_tiles(plan, m)):
        first = tile * plan.tile
        rows = min(plan.tile, m - first)
        block = matrix(&X[first, 0], rows, plan.n_inputs)
        forward_tile[floating](plan, &params[0], block, work, spare, sums != NULL)
        A = matrix(a[last], rows, plan.n_outputs)
        Z = matrix(spare, rows, plan.n_outputs)
        D = matrix(delta, rows, plan.n_outputs)
        total += loss_and_delta[floating](
            plan, Z, A, targets + first * plan.n_outputs if targets != NULL else NULL,
            labels + first if labels != NULL else NULL, weights + first if weights != NULL else NULL, D)
        if sums != NULL:
            if plan.layers[last].activation != plan.matching:
                through[floating](plan.layers[last].activation, A, kept[last], D)
            backward_tile[floating](plan, &params[0], block, a, kept, delta, spare, sums, NULL)
    return total


cdef double accumulate_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, Y, sample_weight,
                             sums) except? -1:
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t m = X.shape[0]
    cdef const floating[:, ::1] targets
    cdef const int64_t[::1] labels
    cdef const floating[::1] weights
    cdef floating[::1] Delta
    cdef const floating *y = NULL
    cdef const int64_t *label = NULL
    cdef const floating *w = NULL
    cdef floating *total = NULL
    cdef double losses
    check_sizes(plan, params.shape[0], X.shape[1])
    if sums is not None:
        Delta = sums
        if Delta.shape[0] != p.n_parameters:
            raise ValueError("sums does not fit")
        total = &Delta[0]
        memset(total, 0, p.n_parameters * sizeof(floating))
    if m == 0:
        return 0
    if p.loss == CROSS_ENTROPY and Y.ndim == 1:
        labels = Y
        if labels.shape[0] != m:
            raise ValueError("Y does not fit")
        label = &labels[0]
    else:
        targets = Y
        if targets.shape[0] != m or targets.shape[1] != p.n_outputs:
            raise ValueError("Y does not fit")
        y = &targets[0, 0]
    if sample_weight is not None:
        weights = sample_weight
        if weights.shape[0] != m:
            raise ValueError("sample_weight does not fit")
        w = &weights[0]
    cdef const floating **layers = <const floating **>malloc(2 * p.n_layers * sizeof(void *))
    cdef floating *work = NULL
    try:
        if layers == NULL:
            raise MemoryError()
        work = <floating *>plan.new_workspace()
        with nogil:
            losses = accumulate_rows[floating](p, params, X, y, label, w, total, work, layers, layers + p.n_layers)
    finally:
        free(layers)
        free(work)
    return losses


def accumulate(Plan plan not None, params, X, Y, sample_weight, sums not None):
    """Fill ``sums`` with the weighted gradients of all rows, summed; return the sum of their weighted losses."""
    if plan.single:
        return accumulate_typed[float](plan, params, X, Y, sample_weight, sums)
    return accumulate_typed[double](plan, params, X, Y, sample_weight, sums)


def loss(Plan plan not None, params, X, Y, sample_weight):
    """The sum of the weighted losses of all rows."""
    if plan.single:
        return accumulate_typed[float](plan, params, X, Y, sample_weight, None)
    return accumulate_typed[double](plan, params, X, Y, sample_weight, None)


cdef object finish_typed(Plan plan, const floating[::1] params, const double[::1] sums, double weight, double l2,
                         floating[::1] out):
    cdef const plan_t *p = &plan.plan
    cdef const layer_t *layer
    cdef Py_ssize_t l, i
    check_sizes(plan, params.shape[0], p.n_inputs)
    if sums.shape[0] != p.n_parameters or out.shape[0] != p.n_parameters:
        raise ValueError("sums or out does not fit")
    with nogil:
        for i in range(p.n_parameters):
            out[i] = <floating>(sums[i] / weight)
        if l2 != 0:
            for l in range(p.n_layers):
                layer = &p.layers[l]
                for i in range(layer.weights, layer.bias):
                    out[i] += <floating>l2 * params[i]


def finish(Plan plan not None, params, sums, double weight, double l2, out):
    """Fill ``out`` with ``D = Delta / m + lambda W``, and ``Delta / m`` for the biases."""
    if plan.single:
        finish_typed[float](plan, params, sums, weight, l2, out)
    else:
        finish_typed[double](plan, params, sums, weight, l2, out)


cdef double penalty_typed(Plan plan, const floating[::1] params) except? -1:
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t l, i
    cdef double total = 0
    check_sizes(plan, params.shape[0], p.n_inputs)
    with nogil:
        for l in range(p.n_layers):
            for i in range(p.layers[l].weights, p.layers[l].bias):
                total += <double>params[i] * params[i]
    return total


def penalty(Plan plan not None, params):
    """The sum of the squares of all weights (not of the biases), in float64."""
    return penalty_typed[float](plan, params) if plan.single else penalty_typed[double](plan, params)
