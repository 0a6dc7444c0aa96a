# Gradient descent over mini-batches, many steps in one call without Python: gather the rows, gradient, update.

cdef struct training_t:
    # A call of `train_batches`, in C.
    batch_t rows                    # all rows, of which batches are taken
    const int64_t *order            # in which rows are taken, or NULL
    Py_ssize_t first                # the place in that order where the next batch begins
    Py_ssize_t batch_size
    Py_ssize_t steps_left
    double seconds
    double mean_weight
    double l2
    hyperparameters_t hyperparameters
    void *params
    void *last_finite_params        # before the last step at which all were finite
    void *moments[2]
    void *grad                      # memory of the call: a gradient, and the rows of a batch in their order
    void *numbers
    int64_t *labels
    double cost                     # of the last batch
    double sum_of_costs             # weighted by rows


cdef bint all_finite(const floating *x, Py_ssize_t n) noexcept nogil:
    """Whether no number is infinite or NaN: times 0 those are NaN, and so is their sum."""
    cdef Py_ssize_t i, k
    cdef floating part[16]
    cdef floating total = 0
    memset(part, 0, sizeof(part))
    i = 0
    while i + 16 <= n:
        for k in range(16):
            part[k] += x[i + k] * <floating>0
        i += 16
    while i < n:
        total += x[i] * <floating>0
        i += 1
    for k in range(16):
        total += part[k]
    return total == 0


cdef void optimizer_share(const context_t *context, training_t *t, const floating *tag) noexcept nogil:
    """A step for this thread's share of the parameters."""
    cdef segment_t part = no_segment()
    cdef floating *moments[2]
    cdef int i
    correct_bias(&t.hyperparameters)
    while next_segment(context, &part, tag):
        for i in range(2):
            moments[i] = <floating *>t.moments[i] + part.begin if t.moments[i] != NULL else NULL
        optimizer_step(<floating *>t.params + part.begin, <const floating *>t.grad + part.begin, moments,
                       part.end - part.begin, &t.hyperparameters)


cdef void gather(const floating *rows, Py_ssize_t n, const int64_t *order, const share_t *share,
                 floating *out) noexcept nogil:
    """Copy a share of rows of n numbers, in that order."""
    cdef Py_ssize_t i
    for i in range(share.row, share.row + share.rows):
        memcpy(out + i * n, rows + order[i] * n, n * sizeof(floating))


cdef batch_t gather_batch(const context_t *context, const training_t *t, Py_ssize_t first, Py_ssize_t count,
                          const floating *tag) noexcept nogil:
    """``count`` rows: where they are, or, in an order, copied to the call's memory by all threads."""
    cdef const plan_t *plan = context.plan
    cdef const int64_t *order = t.order + first
    cdef floating *numbers = <floating *>t.numbers
    cdef floating *weights = numbers + count * plan.n_inputs
    cdef floating *targets = weights + count
    cdef floating *of_outputs = targets + count * plan.n_targets
    cdef share_t share = row_share(count, 1, ROW_UNIT, context.size, context.rank)
    cdef batch_t batch
    cdef Py_ssize_t i
    if t.order == NULL:
        return batch_slice(plan, &t.rows, first, count, tag)
    batch = batch_of(plan, <const floating *>numbers, count)
    batch.clip_norm = t.rows.clip_norm
    gather(<const floating *>t.rows.X, plan.n_inputs, order, &share, numbers)
    if t.rows.labels != NULL:
        for i in range(share.row, share.row + share.rows):
            t.labels[i] = t.rows.labels[order[i]]
        batch.labels = t.labels
    else:
        gather(<const floating *>t.rows.targets, plan.n_targets, order, &share, targets)
        batch.targets = targets
    if t.rows.sample_weight != NULL:
        gather(<const floating *>t.rows.sample_weight, 1, order, &share, weights)
        batch.sample_weight = weights
    if t.rows.output_weight != NULL:
        gather(<const floating *>t.rows.output_weight, plan.n_targets, order, &share, of_outputs)
        batch.output_weight = of_outputs
    meet(context)
    return batch


cdef bint all_threads_finite(const context_t *context, const floating *params) noexcept nogil:
    """Whether all parameters are finite."""
    cdef segment_t part = no_segment()
    cdef bint finite = True
    cdef int i
    while next_segment(context, &part, params):
        finite &= all_finite(params + part.begin, part.end - part.begin)
    if context.size > 1:
        context.shared.finite[context.rank] = finite
        meet(context)
        for i in range(context.size):
            finite &= context.shared.finite[i]
    return finite


cdef void keep_share(const context_t *context, const floating *params, floating *kept) noexcept nogil:
    """Copy this thread's share of the parameters."""
    cdef segment_t part = no_segment()
    while next_segment(context, &part, params):
        memcpy(kept + part.begin, params + part.begin, (part.end - part.begin) * sizeof(floating))


cdef bint time_is_left(const context_t *context, const training_t *t, double start) noexcept nogil:
    """By the clock of the first thread; all threads meet."""
    cdef double *left
    if context.size == 1:
        return now() - start <= t.seconds
    left = context.shared.parts + MAX_TEAM + COST_PIECES - 1
    if context.rank == 0:
        left[0] = now() - start <= t.seconds
    return meet(context) and left[0] != 0


cdef void run_batches(context_t *context, training_t *shared, const floating *tag) noexcept nogil:
    """Steps until the rows, the number of steps or the time are used up, or a cost is not finite.

    Every thread takes the same steps, each with a share of the parameters; it counts in a copy of its own, and the
    first thread's is the result.
    """
    cdef const plan_t *plan = context.plan
    cdef training_t t = shared[0]
    cdef floating *params = <floating *>t.params
    cdef floating *grad = <floating *>t.grad
    cdef double start = now()
    cdef Py_ssize_t count
    cdef bint more = True
    cdef chunk_range_t chunks
    cdef sums_t to = sums_in(grad, NULL, False)
    cdef batch_t batch
    to.l2 = t.l2
    while more and t.first < t.rows.rows and t.steps_left > 0:
        count = min(t.batch_size, t.rows.rows - t.first)
        batch = gather_batch(context, &t, t.first, count, tag)
        chunks, to.weight = all_chunks(plan, count), count * t.mean_weight
        context.pack_whole = count > plan.tile
        t.cost = cost_of_rows(context, <const floating *>params, &batch, &chunks, &to)
        if should_stop(context.interrupt, 0):
            break
        if not -INFINITY < t.cost < INFINITY:
            break
        if all_threads_finite(context, <const floating *>params):
            keep_share(context, <const floating *>params, <floating *>t.last_finite_params)
        t.hyperparameters.step += 1
        optimizer_share(context, &t, <const floating *>params)
        t.first += count
        t.steps_left -= 1
        t.sum_of_costs += pinned(count * t.cost)  # as Python rounds it
        more = time_is_left(context, &t, start)
    if context.rank == 0:
        shared[0] = t
