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


cdef void gather(const floating *rows, Py_ssize_t n, const int64_t *order, Py_ssize_t count,
                 floating *out) noexcept nogil:
    """Copy ``count`` rows of n numbers, in that order."""
    cdef Py_ssize_t i
    for i in range(count):
        memcpy(out + i * n, rows + order[i] * n, n * sizeof(floating))


cdef void gather_batch(const plan_t *plan, const training_t *t, Py_ssize_t count, batch_t *batch, floating *numbers,
                       int64_t *labels) noexcept nogil:
    """The next ``count`` rows: where they are, or, in an order, copied to ``numbers`` and ``labels``."""
    cdef const int64_t *order = t.order + t.first
    cdef floating *weights = numbers + count * plan.n_inputs
    cdef floating *targets = weights + count
    cdef Py_ssize_t i
    if t.order == NULL:
        batch[0] = batch_slice(plan, &t.rows, t.first, count, <const floating *>numbers)
        return
    batch[0] = batch_of(plan, <const floating *>numbers, count)
    gather(<const floating *>t.rows.X, plan.n_inputs, order, count, numbers)
    if t.rows.labels != NULL:
        for i in range(count):
            labels[i] = t.rows.labels[order[i]]
        batch.labels = labels
    else:
        gather(<const floating *>t.rows.targets, plan.n_outputs, order, count, targets)
        batch.targets = targets
    if t.rows.sample_weight != NULL:
        gather(<const floating *>t.rows.sample_weight, 1, order, count, weights)
        batch.sample_weight = weights


cdef void run_batches(context_t *context, training_t *t, floating *grad, floating *numbers,
                      int64_t *labels) noexcept nogil:
    """Steps until the rows, the number of steps or the time are used up, or a cost is not finite."""
    cdef const plan_t *plan = context.plan
    cdef floating *params = <floating *>t.params
    cdef double start = now(), weight
    cdef Py_ssize_t count
    cdef chunk_range_t chunks
    cdef batch_t batch
    while t.first < t.rows.rows and t.steps_left > 0:
        count = min(t.batch_size, t.rows.rows - t.first)
        gather_batch(plan, t, count, &batch, numbers, labels)
        chunks.total_rows, chunks.begin = count, 0
        chunks.n_chunks = chunks.end = count_chunks(plan, count)
        t.cost = accumulate_chunks(context, <const floating *>params, &batch, &chunks, grad, False)
        if should_stop(context.interrupt, 0):
            break
        weight = count * t.mean_weight
        finish_gradient(plan, <const floating *>params, <const floating *>grad, weight, t.l2, grad)
        t.cost = mean_cost(plan, <const floating *>params, t.cost, weight, t.l2)
        if not -INFINITY < t.cost < INFINITY:
            break
        if all_finite(<const floating *>params, plan.n_parameters):
            memcpy(t.last_finite_params, params, plan.n_parameters * sizeof(floating))
        t.hyperparameters.step += 1
        optimizer_step(params, <const floating *>grad, <floating **>t.moments, plan.n_parameters, &t.hyperparameters)
        t.first += count
        t.steps_left -= 1
        t.sum_of_costs += count * t.cost
        if t.seconds < now() - start:
            break


cdef int check_training(buffers_t *buffers, Plan plan, training_t *t, order, moments) except -1:
    """The order of the rows and the optimizer's state as pointers."""
    cdef Py_ssize_t i
    if t.batch_size < 1 or t.first < 0 or t.rows.rows < 1 or len(moments) > 2:
        raise ValueError("batches or moments do not fit")
    if order is not None:
        t.order = <const int64_t *>acquire_vector(buffers, order, c"l", t.rows.rows, False)
        if t.order == NULL:
            raise ValueError("order does not fit X")
        for i in range(t.rows.rows):
            if t.order[i] < 0 or t.order[i] >= t.rows.rows:
                raise ValueError("order must be of rows of X")
    for i in range(len(moments)):
        t.moments[i] = acquire_vector(buffers, moments[i], plan.kind, plan.plan.n_parameters, True)
        if t.moments[i] == NULL:
            raise ValueError("moments do not fit params")
    if t.hyperparameters.adam and t.moments[1] == NULL:
        raise ValueError("Adam needs two moments")
    return 0


cdef object train_typed(Plan plan, training_t *t, const floating *tag):
    """`train_batches`, with memory for a gradient and a batch."""
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t size = min(t.batch_size, t.rows.rows)
    cdef char *block = <char *>malloc((p.n_parameters + size * (p.n_inputs + p.n_outputs + 1)) * sizeof(floating) + 64)
    cdef int64_t *labels = <int64_t *>malloc(size * sizeof(int64_t))
    # At the same offset in a cache line as the parameters, as `adam_update` prefers it.
    cdef floating *grad = <floating *>(block + (((<size_t>t.params & 63) + 64 - (<size_t>block & 63)) & 63))
    cdef interrupt_t interrupt = new_interrupt(None)
    cdef context_t context
    cdef char *memory
    try:
        if block == NULL or labels == NULL:
            raise MemoryError()
        memory = plan.reserve()
        with nogil:
            context = new_context(p, memory, size, &interrupt)
            run_batches(&context, t, grad, grad + p.n_parameters, labels)
            end_context(&context)
            plan.release(memory)
        raise_if_cancelled(&interrupt)
    finally:
        free(block)
        free(labels)
    return t.first, t.cost, t.sum_of_costs


def train_batches(Plan plan not None, params, batch not None, batches not None, double mean_weight,
                  double l2, update not None):
    """Steps of gradient descent, one for each batch, until rows, steps or time are used up.

    ``batches``: order, first, batch_size, max_steps and seconds; ``update``: optimizer, hyperparameters, moments,
    learning_rate and last_finite_params; :mod:`bpcore.fallback` says what these are.
    """
    cdef Py_buffer views[8]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef training_t t
    memset(&t, 0, sizeof(t))
    order, t.first, t.batch_size, t.steps_left, t.seconds = batches
    optimizer, hyperparameters, moments, t.hyperparameters.learning_rate, last_finite_params = update
    t.hyperparameters.step = optimizer.steps
    t.hyperparameters.adam = len(hyperparameters) == 3
    if t.hyperparameters.adam:
        t.hyperparameters.beta1, t.hyperparameters.beta2, t.hyperparameters.epsilon = hyperparameters
    else:
        t.hyperparameters.momentum, t.hyperparameters.nesterov = hyperparameters
    t.mean_weight, t.l2 = mean_weight, l2
    X, Y, sample_weight = batch
    try:
        t.params = acquire_vector(&buffers, params, plan.kind, plan.plan.n_parameters, True)
        t.last_finite_params = acquire_vector(&buffers, last_finite_params, plan.kind, plan.plan.n_parameters, True)
        if t.params == NULL or t.last_finite_params == NULL:
            raise ValueError("params or last_finite_params does not fit the plan")
        if not acquire_batch(&buffers, plan, X, Y, sample_weight, &t.rows):
            raise ValueError("X, Y or sample_weight does not fit the plan")
        check_training(&buffers, plan, &t, order, moments)
        if plan.is_float32:
            return train_typed(plan, &t, <const float *>NULL)
        return train_typed(plan, &t, <const double *>NULL)
    finally:
        optimizer.steps = t.hyperparameters.step  # here no signal can come between the parameters and their count
        release_buffers(&buffers)
