# Gradient descent over mini-batches, many steps a call: gather the rows, gradient, update, without Python in between.

cdef struct rule_t:
    # What is done with a gradient; see optimizers.pyx. One of the two, by ``adam``.
    bint adam
    bint nesterov
    double momentum
    double beta1
    double beta2
    double epsilon
    long step               # steps taken


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


cdef object steps_typed(Plan plan, floating[::1] params, const floating[:, ::1] X, Y, sample_weight,
                        double mean_weight, order, Py_ssize_t first, Py_ssize_t batch_size, double l2, rule_t *rule,
                        state, double rate, floating[::1] finite, Py_ssize_t limit, double seconds):
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t m = X.shape[0], n = p.n_parameters, n_outputs = p.n_outputs, i, count, done = 0, slots
    cdef const floating[:, ::1] targets
    cdef const int64_t[::1] labels, ordered
    cdef const floating[::1] weights
    cdef floating[::1] state_view
    cdef const floating *y = NULL
    cdef const floating *w = NULL
    cdef const int64_t *label = NULL
    cdef const int64_t *o = NULL
    cdef floating *moments[2]
    check_sizes(plan, params.shape[0], X.shape[1])
    if finite.shape[0] != n or batch_size < 1 or first < 0 or m < 1:
        raise ValueError("finite, batch_size, first or X does not fit")
    if p.loss == CROSS_ENTROPY and Y.ndim == 1:
        labels = Y
        if labels.shape[0] != m:
            raise ValueError("Y does not fit")
        label = &labels[0]
    else:
        targets = Y
        if targets.shape[0] != m or targets.shape[1] != n_outputs:
            raise ValueError("Y does not fit")
        y = &targets[0, 0]
    if sample_weight is not None:
        weights = sample_weight
        if weights.shape[0] != m:
            raise ValueError("sample_weight does not fit")
        w = &weights[0]
    if order is not None:
        ordered = order
        if ordered.shape[0] != m:
            raise ValueError("order does not fit")
        for i in range(m):
            if ordered[i] < 0 or ordered[i] >= m:
                raise ValueError("order does not fit")
        o = &ordered[0]
    if len(state) > 2 or (rule.adam and len(state) != 2):
        raise ValueError("state does not fit")
    moments[0] = moments[1] = NULL
    for i in range(len(state)):
        state_view = state[i]  # the list keeps the buffer
        if state_view.shape[0] != n:
            raise ValueError("state does not fit")
        moments[i] = &state_view[0]
    batch_size = min(batch_size, m)
    # One block for the gradient and, where rows are gathered, for a batch.
    cdef char *block = <char *>malloc((n + batch_size * (p.n_inputs + n_outputs + 1)) * sizeof(floating) + 64)
    cdef int64_t *batch_label = <int64_t *>malloc(batch_size * sizeof(int64_t))
    # At the same place of a line of the cache as the parameters, as `adam` likes it.
    cdef floating *grad = <floating *>(block + (((<size_t>&params[0] & 63) + 64 - (<size_t>block & 63)) & 63))
    cdef floating *batch_x = grad + n
    cdef floating *batch_y = batch_x + batch_size * p.n_inputs
    cdef floating *batch_w = batch_y + batch_size * n_outputs
    cdef const floating *px
    cdef const floating *py = NULL
    cdef const floating *pw = NULL
    cdef const int64_t *pl = NULL
    cdef double cost = 0, costs = 0, start
    cdef char *memory
    cdef watch_t watch = new_watch(None)
    try:
        if block == NULL or batch_label == NULL:
            raise MemoryError()
        memory = plan.take_workspace()
        with nogil:
            start = now()
            while first < m and done < limit:
                count = min(batch_size, m - first)
                if o != NULL:
                    gather(&X[0, 0], p.n_inputs, o + first, count, batch_x)
                    px = batch_x
                    if label != NULL:
                        for i in range(count):
                            batch_label[i] = label[o[first + i]]
                        pl = batch_label
                    else:
                        gather(y, n_outputs, o + first, count, batch_y)
                        py = batch_y
                    if w != NULL:
                        gather(w, 1, o + first, count, batch_w)
                        pw = batch_w
                else:
                    px = &X[first, 0]
                    if label != NULL:
                        pl = label + first
                    else:
                        py = y + first * n_outputs
                    if w != NULL:
                        pw = w + first
                slots = count_slots(p, count)
                cost = accumulate_slots(p, <const floating *>&params[0], px, count, slots, 0, slots, py, pl,
                                        pw, grad, <floating *>aligned(memory), False, &watch)
                if stopped(&watch, 0):
                    break
                finish_rows(p, <const floating *>&params[0], <const floating *>grad, count * mean_weight, l2, grad)
                cost = mean_cost(p, <const floating *>&params[0], cost, count * mean_weight, l2)
                if not -INFINITY < cost < INFINITY:
                    break
                if all_finite(<const floating *>&params[0], n):
                    memcpy(&finite[0], &params[0], n * sizeof(floating))
                if rule.adam:
                    adam(&params[0], <const floating *>grad, moments[0], moments[1], n, rate, rule.beta1, rule.beta2,
                         rule.epsilon, rule.step + 1)
                else:
                    descend(&params[0], <const floating *>grad, moments[0], n, rate, rule.momentum, rule.nesterov)
                rule.step += 1
                first += count
                done += 1
                costs += count * cost
                if seconds < now() - start:
                    break
            plan.give(memory)
        heed(&watch)
    finally:
        free(block)
        free(batch_label)
    return first, cost, costs


def steps(Plan plan not None, params, X, Y, sample_weight, double mean_weight, order, Py_ssize_t first,
          Py_ssize_t batch_size, double l2, rule, state, optimizer, double rate, finite, Py_ssize_t limit,
          double seconds):
    """Steps of gradient descent, one for each batch of rows from ``first`` on, until rows, ``limit`` or time are up.

    Each batch's sums are divided by its rows times ``mean_weight``, the mean over the rows of all batches.
    """
    cdef rule_t r
    memset(&r, 0, sizeof(r))
    r.step = optimizer.steps
    r.adam = len(rule) == 3
    if r.adam:
        r.beta1, r.beta2, r.epsilon = rule
    else:
        r.momentum, r.nesterov = rule
    try:
        if plan.single:
            return steps_typed[float](plan, params, X, Y, sample_weight, mean_weight, order, first, batch_size, l2, &r,
                                      state, rate, finite, limit, seconds)
        return steps_typed[double](plan, params, X, Y, sample_weight, mean_weight, order, first, batch_size, l2, &r,
                                   state, rate, finite, limit, seconds)
    finally:
        optimizer.steps = r.step  # here, where no signal can come between the parameters and their count
