# Gradient descent over mini-batches, called from Python.

cdef int check_training(buffers_t *buffers, Plan plan, training_t *t, order, moments) except -1:
    """The order of the rows and the optimizer's state as pointers."""
    cdef Py_ssize_t i, last = t.rows.rows
    if t.batch_size < 1 or t.first < 0 or t.rows.rows < 1 or len(moments) > 2:
        raise ValueError("batches or moments do not fit")
    if order is not None:
        t.order = <const int64_t *>acquire_vector(buffers, order, c"l", t.rows.rows, False)
        if t.order == NULL:
            raise ValueError("order does not fit X")
        # Of the steps of this call alone: with a schedule of learning rates each one is a call.
        if t.steps_left <= (last - t.first - 1) // t.batch_size:
            last = t.first + t.steps_left * t.batch_size
        for i in range(t.first, last):
            if t.order[i] < 0 or t.order[i] >= t.rows.rows:
                raise ValueError("order must be of rows of X")
    for i in range(len(moments)):
        t.moments[i] = acquire_vector(buffers, moments[i], plan.kind, plan.plan.n_parameters, True)
        if t.moments[i] == NULL:
            raise ValueError("moments do not fit params")
    if t.hyperparameters.adam and t.moments[1] == NULL:
        raise ValueError("Adam needs two moments")
    return 0


cdef object train_call(Plan plan, call_t *call, int threads):
    """`train_batches`, with memory for a gradient and a batch."""
    cdef const plan_t *p = &plan.plan
    cdef training_t *t = call.training
    cdef Py_ssize_t itemsize = sizeof(float) if plan.is_float32 else sizeof(double)
    cdef Py_ssize_t size = min(t.batch_size, t.rows.rows)
    cdef char *block = <char *>allocate((p.n_parameters + size * (p.n_inputs + 2 * p.n_outputs + 1)) * itemsize + 64)
    t.labels = <int64_t *>malloc(size * sizeof(int64_t))
    try:
        if block == NULL or t.labels == NULL:
            raise MemoryError()
        # At the same offset in a cache line as the parameters, as `adam_update` prefers it.
        t.grad = block + (((<size_t>t.params & 63) + 64 - (<size_t>block & 63)) & 63)
        t.numbers = <char *>t.grad + p.n_parameters * itemsize
        call.task, call.batch.rows, call.params = TRAIN, size, t.params
        call.sums.sums = t.grad
        run(plan, call, threads)
    finally:
        free(block)
        free(t.labels)
    return t.first, t.cost, t.sum_of_costs


def train_batches(Plan plan not None, params, batch not None, batches not None, double mean_weight,
                  double l2, update not None):
    """Steps of gradient descent, one for each batch, until rows, steps or time are used up.

    ``batches``: order, first, batch_size, max_steps, seconds, threads and costs; ``update``: optimizer,
    hyperparameters, moments, learning_rate and last_finite_params; :mod:`bpcore.fallback` says what these are.
    """
    cdef Py_buffer views[8]
    cdef buffers_t buffers = new_buffers(&views[0])
    cdef training_t t
    cdef call_t call
    cdef int threads
    memset(&t, 0, sizeof(t))
    call.training = &t
    order, t.first, t.batch_size, t.steps_left, t.seconds, threads, t.sum_of_costs = batches
    optimizer, hyperparameters, moments, t.hyperparameters.learning_rate, last_finite_params = update
    t.hyperparameters.step = optimizer.steps
    t.hyperparameters.adam = len(hyperparameters) == 3
    if t.hyperparameters.adam:
        t.hyperparameters.beta1, t.hyperparameters.beta2, t.hyperparameters.epsilon = hyperparameters
    else:
        t.hyperparameters.momentum, t.hyperparameters.nesterov = hyperparameters
    t.mean_weight, t.l2 = mean_weight, l2
    try:
        t.params = acquire_vector(&buffers, params, plan.kind, plan.plan.n_parameters, True)
        t.last_finite_params = acquire_vector(&buffers, last_finite_params, plan.kind, plan.plan.n_parameters, True)
        if t.params == NULL or t.last_finite_params == NULL:
            raise ValueError("params or last_finite_params does not fit the plan")
        if not acquire_batch(&buffers, plan, batch, &t.rows):
            raise ValueError("X, Y or sample_weight does not fit the plan")
        check_training(&buffers, plan, &t, order, moments)
        return train_call(plan, &call, threads)
    finally:
        optimizer.steps = t.hyperparameters.step  # here no signal can come between the parameters and their count
        release_buffers(&buffers)
