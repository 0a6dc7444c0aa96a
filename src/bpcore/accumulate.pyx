# The blocked loop of the algorithm: for each tile of rows forward, delta, backward, Delta += delta^T a.

ctypedef fused sum_t:
    float
    double


cdef Py_ssize_t rows_of_weight(const floating *weights, Py_ssize_t rows) noexcept nogil:
    """How many of the rows have a weight other than 0."""
    cdef Py_ssize_t i, count = 0
    for i in range(rows):
        count += weights[i] != 0
    return count


cdef void copy_rows_of_weight(const plan_t *plan, const floating *X, const floating *targets, const int64_t *labels,
                              const floating *weights, Py_ssize_t rows, floating *work) noexcept nogil:
    """Copy the rows of a weight other than 0 to the workspace: inputs, targets or labels, and sample weights."""
    cdef Py_ssize_t i, k = 0
    cdef int64_t *kept_labels = <int64_t *>(work + plan.labels.start)
    for i in range(rows):
        if weights[i] != 0:
            memcpy(work + plan.inputs.start + k * plan.input_step, X + i * plan.n_inputs,
                   plan.n_inputs * sizeof(floating))
            if targets != NULL:
                memcpy(work + plan.targets.start + k * plan.n_outputs, targets + i * plan.n_outputs,
                       plan.n_outputs * sizeof(floating))
            else:
                kept_labels[k] = labels[i]
            (work + plan.sample_weights.start)[k] = weights[i]
            k += 1


cdef double accumulate_tile(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t rows,
                            const floating *targets, const int64_t *labels, const floating *weights, floating *sums,
                            bint fresh, floating *work, bint few, watch_t *watch) noexcept nogil:
    """The same as `accumulate_rows` for a tile, whose parameters are packed unless its slot has ``few`` rows."""
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef bint raw = plan.matching != IDENTITY  # the loss takes z(L), and the activation is computed along with it
    cdef const floating *x = X
    cdef Py_ssize_t x_step = plan.n_inputs, count = rows
    cdef double total
    if weights != NULL:
        count = rows_of_weight(weights, rows)
    if count < rows:
        copy_rows_of_weight(plan, X, targets, labels, weights, rows, work)
        x, x_step = work + plan.inputs.start, plan.input_step
        weights = work + plan.sample_weights.start
        if targets != NULL:
            targets = work + plan.targets.start
        else:
            labels = <const int64_t *>(work + plan.labels.start)
        if count == 0:
            return 0
    else:
        x = tile_inputs(plan, X, rows, few, work, &x_step)
    forward_tile(plan, params, x, x_step, count, few, work, raw, sums != NULL, watch)
    if stopped(watch, 0):  # the parts of what follows that are not products would go on
        return 0
    total = loss_and_delta[floating](plan, matrix(work + last.a.start, count, last.step), plan.n_outputs, targets,
                                     labels, weights, matrix(work + plan.delta.start, count, last.step))
    if sums != NULL:
        if last.activation != plan.matching:
            through(last.activation, <const floating *>(work + last.a.start),
                    <const floating *>(work + last.slope.start), count, plan.n_outputs, last.step,
                    work + plan.delta.start)
        backward_tile(plan, params, x, x_step, count, few, work, sums, fresh, <floating *>NULL, watch)
    check_guards(plan, work)
    return total


cdef double accumulate_rows(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t m,
                            const floating *targets, const int64_t *labels, const floating *weights,
                            floating *sums, bint fresh, floating *work, bint packed, watch_t *watch) noexcept nogil:
    """The weighted losses of the rows of a slot, summed; their gradients are added to ``sums``, unless that is NULL.

    Rows of weight 0 are left out, whatever they hold. ``fresh``: whether these rows are the first, and what is in
    ``sums`` does not count. ``packed``: whether an earlier call has left these parameters packed in ``work``.
    ``watch``: how a call from Python sees that it is to stop, and what it returns is of no use then; NULL without
    Python.
    """
    cdef Py_ssize_t size, first, rows, n = plan.n_outputs
    cdef double total = 0
    cdef bint few = m < FEW
    if not few and not packed:
        pack_forward(plan, params, work, watch)
        if sums != NULL:
            pack_backward(plan, params, work, False, watch)
    size = tile_rows(plan, m)
    first = -size
    while first + size < m:
        first += size
        rows = min(size, m - first)
        if weights != NULL and sums != NULL and fresh and rows_of_weight(weights + first, rows) == 0:
            memset(sums, 0, plan.n_parameters * sizeof(floating))
        total += accumulate_tile(
            plan, params, X + first * plan.n_inputs, rows, targets + first * n if targets != NULL else NULL,
            labels + first if labels != NULL else NULL, weights + first if weights != NULL else NULL, sums, fresh,
            work, few, watch)
        if stopped(watch, 0):
            return total
        fresh = False
    return total


cdef double accumulate_slots(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t m,
                             Py_ssize_t slots, Py_ssize_t begin, Py_ssize_t end, const floating *targets,
                             const int64_t *labels, const floating *weights, floating *sums, floating *work,
                             bint packed, watch_t *watch) noexcept nogil:
    """The same for slots ``begin`` to ``end`` of the ``slots`` that m rows are cut into; ``sums`` is overwritten.

    ``X``, ``targets``, ``labels`` and ``weights`` begin with the rows of slot ``begin``.
    """
    cdef Py_ssize_t slot, offset, first = slot_start(m, slots, begin), n = plan.n_outputs
    cdef double total = 0
    for slot in range(begin, end):
        offset = slot_start(m, slots, slot) - first
        total += accumulate_rows(
            plan, params, X + offset * plan.n_inputs, slot_start(m, slots, slot + 1) - first - offset,
            targets + offset * n if targets != NULL else NULL, labels + offset if labels != NULL else NULL,
            weights + offset if weights != NULL else NULL, sums, slot == begin, work, packed or slot > begin, watch)
        if stopped(watch, 0):
            break
    return total


cdef double accumulate_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, Y, sample_weight,
                             sums, const unsigned char[::1] told, cut) except? -1:
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t m = X.shape[0], total_rows, slots, begin, end
    cdef const floating[:, ::1] targets
    cdef const int64_t[::1] labels
    cdef const floating[::1] weights
    cdef floating[::1] Delta
    cdef const floating *y = NULL
    cdef const int64_t *label = NULL
    cdef const floating *w = NULL
    cdef floating *total = NULL
    cdef double losses
    cdef char *memory
    cdef watch_t watch = new_watch(told)
    check_sizes(plan, params.shape[0], X.shape[1])
    if sums is not None:
        Delta = sums
        if Delta.shape[0] != p.n_parameters:
            raise ValueError("sums does not fit")
        total = &Delta[0]
    if m == 0:
        if total != NULL:
            memset(total, 0, p.n_parameters * sizeof(floating))
        return 0
    total_rows, slots, begin, end = cut if cut is not None else (m, 1, 0, 1)
    if (not 0 <= begin < end <= slots <= total_rows
            or slot_start(total_rows, slots, end) - slot_start(total_rows, slots, begin) != m):
        raise ValueError("cut does not fit")
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
    memory = plan.take_workspace()
    with nogil:
        losses = accumulate_slots(p, &params[0], &X[0, 0], total_rows, slots, begin, end, y, label, w, total,
                                  <floating *>aligned(memory), False, &watch)
        plan.give(memory)
    heed(&watch)
    return losses


def accumulate(Plan plan not None, params, X, Y, sample_weight, sums not None, told=None, cut=None):
    """Fill ``sums`` with the weighted gradients of all rows, summed; return the sum of their weighted losses.

    ``cut``, of (m, slots, begin, end), says that these are slots ``begin`` to ``end`` of those that m rows make.
    """
    if plan.single:
        return accumulate_typed[float](plan, params, X, Y, sample_weight, sums, told, cut)
    return accumulate_typed[double](plan, params, X, Y, sample_weight, sums, told, cut)


def loss(Plan plan not None, params, X, Y, sample_weight, told=None):
    """The sum of the weighted losses of all rows."""
    if plan.single:
        return accumulate_typed[float](plan, params, X, Y, sample_weight, None, told, None)
    return accumulate_typed[double](plan, params, X, Y, sample_weight, None, told, None)


cdef void add_sums(double *total, const floating *sums, Py_ssize_t n, bint fresh) noexcept nogil:
    """``total += sums``, or ``=`` if ``fresh``."""
    cdef Py_ssize_t i
    if fresh:
        for i in range(n):
            total[i] = sums[i]
    else:
        for i in range(n):
            total[i] += sums[i]


cdef void finish_rows(const plan_t *plan, const floating *params, const sum_t *sums, double weight, double l2,
                      floating *out) noexcept nogil:
    """``D = Delta / m + lambda W``; ``out`` may be ``sums``. In float64: sums of either type give the same bits."""
    cdef Py_ssize_t i
    cdef double inverse = 1 / weight
    cdef floating short = <floating>inverse
    if sum_t is floating and short == inverse:  # a power of two: no need to go by float64 for the same bits
        if not (short == 1 and <const void *>out == <const void *>sums):
            for i in range(plan.n_parameters):
                out[i] = short * sums[i]
    else:
        for i in range(plan.n_parameters):
            out[i] = <floating>(inverse * sums[i])
    add_penalty(plan, params, l2, out)


cdef inline void add_penalty(const plan_t *plan, const floating *params, double l2, floating *out) noexcept nogil:
    """``D += lambda W``."""
    cdef const layer_t *layer
    cdef Py_ssize_t l, i
    if l2 != 0:
        for l in range(plan.n_layers):
            layer = &plan.layers[l]
            for i in range(layer.weights, layer.bias):
                out[i] += <floating>l2 * params[i]


cdef object finish_typed(Plan plan, const floating[::1] params, const sum_t[::1] sums, double weight, double l2,
                         floating[::1] out):
    cdef const plan_t *p = &plan.plan
    check_sizes(plan, params.shape[0], p.n_inputs)
    if sums.shape[0] != p.n_parameters or out.shape[0] != p.n_parameters:
        raise ValueError("sums or out does not fit")
    with nogil:
        finish_rows(p, &params[0], <const sum_t *>&sums[0], weight, l2, &out[0])


def finish(Plan plan not None, params, sums, double weight, double l2, out):
    """Fill ``out`` with ``D = Delta / m + lambda W``, and ``Delta / m`` for the biases; ``out`` may be ``sums``."""
    if not plan.single:
        finish_typed[double, double](plan, params, sums, weight, l2, out)
    elif sums.itemsize == 4:
        finish_typed[float, float](plan, params, sums, weight, l2, out)
    else:
        finish_typed[float, double](plan, params, sums, weight, l2, out)


cdef double squares(const plan_t *plan, const floating *params) noexcept nogil:
    """The sum of the squares of all weights, in float64; in eight sums, which are a vector or two of them."""
    cdef Py_ssize_t l, i, k
    cdef double part[8]
    cdef double total = 0
    memset(part, 0, sizeof(part))
    for l in range(plan.n_layers):
        i = plan.layers[l].weights
        while i + 8 <= plan.layers[l].bias:
            for k in range(8):
                part[k] += <double>params[i + k] * params[i + k]
            i += 8
        while i < plan.layers[l].bias:
            total += <double>params[i] * params[i]
            i += 1
    return total + (((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7])))


cdef double mean_cost(const plan_t *plan, const floating *params, double losses, double weight,
                      double l2) noexcept nogil:
    """``J = losses / m + lambda/2 * sum(W^2)``; one place for all ways to it, so that all round alike."""
    return losses / weight + l2 / 2 * squares(plan, params) if l2 != 0 else losses / weight


cdef double cost_typed(Plan plan, const floating[::1] params, double losses, double weight, double l2) except? -1:
    cdef double total
    check_sizes(plan, params.shape[0], plan.plan.n_inputs)
    with nogil:
        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)
    return total


def cost(Plan plan not None, params, double losses, double weight, double l2):
    """``J = losses / m + lambda/2 * sum(W^2)``; the biases are not penalised."""
    if plan.single:
        return cost_typed[float](plan, params, losses, weight, l2)
    return cost_typed[double](plan, params, losses, weight, l2)
