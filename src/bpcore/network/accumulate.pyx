# Accumulation: the sums over rows of losses and gradients, and the cost and gradient made of them.

ctypedef fused sum_t:
    float
    double

cdef struct chunk_range_t:
    # Chunks ``begin`` to ``end`` of the ``n_chunks`` that ``total_rows`` rows are cut into.
    Py_ssize_t total_rows
    Py_ssize_t n_chunks
    Py_ssize_t begin
    Py_ssize_t end


cdef Py_ssize_t count_weighted(const batch_t *batch, const floating *tag) noexcept nogil:
    """How many of the rows have a weight other than 0."""
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef Py_ssize_t i, count = 0
    if weights == NULL:
        return batch.rows
    for i in range(batch.rows):
        count += weights[i] != 0
    return count


cdef void copy_weighted(const context_t *context, batch_t *tile, Py_ssize_t count, const floating *tag) noexcept nogil:
    """Copy the ``count`` rows of a weight other than 0 to the workspace, and have the tile be these."""
    cdef const plan_t *plan = context.plan
    cdef floating *work = workspace_of(context, tag)
    cdef const floating *targets = <const floating *>tile.targets
    cdef const floating *weights = <const floating *>tile.sample_weight
    cdef int64_t *labels = <int64_t *>(work + plan.labels.start)
    cdef Py_ssize_t i, k = 0
    for i in range(tile.rows):
        if weights[i] != 0:
            memcpy(work + plan.inputs.start + k * plan.input_stride, <const floating *>tile.X + i * tile.x_stride,
                   plan.n_inputs * sizeof(floating))
            if targets != NULL:
                memcpy(work + plan.targets.start + k * plan.n_outputs, targets + i * plan.n_outputs,
                       plan.n_outputs * sizeof(floating))
            else:
                labels[k] = tile.labels[i]
            (work + plan.sample_weight.start)[k] = weights[i]
            k += 1
    tile.X, tile.x_stride, tile.rows = work + plan.inputs.start, plan.input_stride, count
    tile.sample_weight = work + plan.sample_weight.start
    if targets != NULL:
        tile.targets = work + plan.targets.start
    else:
        tile.labels = labels


cdef double accumulate_tile(const context_t *context, const floating *params, batch_t *tile, floating *sums,
                            bint overwrite) noexcept nogil:
    """`accumulate_chunk` for one tile."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, params)
    cdef double total
    forward_tile(context, params, tile, plan.canonical != IDENTITY, sums != NULL)
    if should_stop(context.interrupt, 0):  # the parts of what follows that are not products would go on
        return 0
    total = loss_and_delta(plan, matrix(<const floating *>work + last.a.start, tile.rows, last.stride), tile,
                           matrix(<const floating *>work + plan.delta.start, tile.rows, last.stride))
    if sums != NULL:
        if last.activation != plan.canonical:
            activation_backward(last, <const floating *>work + last.a.start,
                                <const floating *>work + last.derivative.start, tile.rows, work + plan.delta.start)
        backward_tile(context, params, tile, sums, overwrite, <floating *>NULL)
    check_guards(plan, work)
    return total


cdef double accumulate_chunk(context_t *context, const floating *params, const batch_t *batch, floating *sums,
                             bint overwrite, bint packed) noexcept nogil:
    """The weighted losses of the rows of a chunk, summed; their gradients are added to ``sums``, unless that is NULL.

    Rows of weight 0 are left out, whatever they hold. ``overwrite``: replace what is in ``sums``. ``packed``: an
    earlier call has packed these parameters in the workspace. If the call is interrupted, the result is meaningless.
    """
    cdef const plan_t *plan = context.plan
    cdef Py_ssize_t size = tile_rows(plan, batch.rows), first, rows, count
    cdef double total = 0
    cdef batch_t tile
    context.small_batch = batch.rows < PACK_MIN_ROWS
    if not context.small_batch and not packed:
        pack_forward(context, params)
        if sums != NULL:
            pack_backward(context, params, False)
    first = -size
    while first + size < batch.rows:
        first += size
        rows = min(size, batch.rows - first)
        tile = batch_slice(plan, batch, first, rows, params)
        count = count_weighted(&tile, params)
        if count == rows:
            tile = tile_of(context, batch, first, rows, params)
        elif count > 0:
            copy_weighted(context, &tile, count, params)
        elif overwrite and sums != NULL:
            memset(sums, 0, plan.n_parameters * sizeof(floating))
        if count > 0:
            total += accumulate_tile(context, params, &tile, sums, overwrite)
        if should_stop(context.interrupt, 0):
            return total
        overwrite = False
    return total


cdef double accumulate_chunks(context_t *context, const floating *params, const batch_t *batch,
                              const chunk_range_t *chunks, floating *sums, bint packed) noexcept nogil:
    """The same for several chunks, whose first row is that of the batch; ``sums`` is overwritten."""
    cdef const plan_t *plan = context.plan
    cdef Py_ssize_t i, start, stop, first = chunk_start(chunks.total_rows, chunks.n_chunks, chunks.begin)
    cdef double total = 0
    cdef batch_t chunk
    for i in range(chunks.begin, chunks.end):
        start = chunk_start(chunks.total_rows, chunks.n_chunks, i) - first
        stop = chunk_start(chunks.total_rows, chunks.n_chunks, i + 1) - first
        chunk = batch_slice(plan, batch, start, stop - start, params)
        total += accumulate_chunk(context, params, &chunk, sums, i == chunks.begin, packed or i > chunks.begin)
        if should_stop(context.interrupt, 0):
            break
    return total


cdef void add_sums(double *total, const floating *sums, Py_ssize_t n, bint overwrite) noexcept nogil:
    """``total += sums``, or ``=`` if ``overwrite``."""
    cdef Py_ssize_t i
    if overwrite:
        for i in range(n):
            total[i] = sums[i]
    else:
        for i in range(n):
            total[i] += sums[i]


cdef double accumulate_groups(context_t *context, const floating *params, const batch_t *batch, floating *sums,
                              double *total) noexcept nogil:
    """The losses of all rows; their gradients in ``sums`` if ``total`` is NULL, else in ``total``, group by group."""
    cdef const plan_t *plan = context.plan
    cdef double losses = 0
    cdef chunk_range_t chunks
    cdef batch_t group
    cdef Py_ssize_t start, stop
    chunks.total_rows, chunks.n_chunks, chunks.end = batch.rows, count_chunks(plan, batch.rows), 0
    while chunks.end < chunks.n_chunks:
        chunks.begin, chunks.end = chunks.end, min(chunks.end + plan.group_size, chunks.n_chunks)
        start = chunk_start(chunks.total_rows, chunks.n_chunks, chunks.begin)
        stop = chunk_start(chunks.total_rows, chunks.n_chunks, chunks.end)
        group = batch_slice(plan, batch, start, stop - start, params)
        losses += accumulate_chunks(context, params, &group, &chunks, sums, chunks.begin > 0)
        if should_stop(context.interrupt, 0):
            break
        if total != NULL:
            add_sums(total, <const floating *>sums, plan.n_parameters, chunks.begin == 0)
    return losses


# ----------------------------------------------------------------------------- from sums to the cost and its gradient


cdef void finish_gradient(const plan_t *plan, const floating *params, const sum_t *sums, double weight, double l2,
                          floating *out) noexcept nogil:
    """``D = Delta / m + lambda W``; ``out`` may be ``sums``. In float64: sums of either type give the same bits."""
    cdef Py_ssize_t i
    cdef double inverse = 1 / weight
    cdef floating rounded = <floating>inverse
    if inverse < DBL_MIN:  # it is subnormal
        for i in range(plan.n_parameters):
            out[i] = <floating>(sums[i] / weight)
    elif sum_t is floating and rounded == inverse and rounded >= FLT_MIN:  # a power of two: without float64
        if not (rounded == 1 and <const void *>out == <const void *>sums):
            for i in range(plan.n_parameters):
                out[i] = rounded * sums[i]
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


cdef double sum_squared_weights(const plan_t *plan, const floating *params) noexcept nogil:
    """In float64; in eight sums, which are a vector or two of them."""
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
    """``J = losses / m + lambda/2 * sum(W^2)``; in one place, so that all callers round alike."""
    losses = pinned(losses)
    return pinned(losses / weight + l2 / 2 * sum_squared_weights(plan, params) if l2 != 0 else losses / weight)
