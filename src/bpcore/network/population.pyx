# Many networks of one architecture: the outputs of each, or its cost. A thread computes a network by itself, as a call
# for that network alone would in one thread, so that the bits are the same.

cdef struct population_t:
    # Networks whose parameters follow one another, and what is computed of them.
    Py_ssize_t count
    bint own_inputs                 # X is (count, rows, n_inputs): each network has rows of its own
    bint own_targets                # and so it has targets
    double weight                   # what the losses of a network are divided by
    double l2
    double *costs                   # (count,); NULL: the outputs

cdef enum:
    PIECES_OF_NETWORKS = 16         # for each thread: the last ones are a small part of all


cdef inline batch_t network_batch(const plan_t *plan, const batch_t *batch, const population_t *population,
                                  Py_ssize_t k, const floating *tag) noexcept nogil:
    """The rows of network k."""
    cdef batch_t rows = batch[0]
    cdef Py_ssize_t first = k * batch.rows
    if population.own_inputs:
        rows.X = <const floating *>batch.X + first * plan.n_inputs
    if population.own_targets and batch.labels != NULL:
        rows.labels = batch.labels + first
    elif population.own_targets:
        rows.targets = <const floating *>batch.targets + first * plan.n_targets
    return rows


cdef inline double network_cost(context_t *context, const floating *params, const batch_t *batch,
                                const population_t *population) noexcept nogil:
    cdef chunk_range_t chunks = all_chunks(context.plan, batch.rows)
    cdef sums_t to = sums_in(NULL, NULL, False)
    to.weight, to.l2 = population.weight, population.l2
    return cost_of_rows(context, params, batch, &chunks, &to)


cdef inline Py_ssize_t networks_at_a_time(const context_t *context, Py_ssize_t count, Py_ssize_t rows) noexcept nogil:
    """So many that taking them costs little beside computing them, and so few that a signal is seen soon."""
    cdef Py_ssize_t most = max(POLL_WORK // (context.plan.n_parameters * rows), <Py_ssize_t>1)
    return min(max(count // (PIECES_OF_NETWORKS * context.size), <Py_ssize_t>1), most)


cdef void compute_population(const context_t *context, const floating *params, const batch_t *batch,
                             const population_t *population, floating *out) noexcept nogil:
    """The outputs or costs of all networks: each thread takes the next few, and computes them by itself."""
    cdef const plan_t *plan = context.plan
    cdef context_t own = alone(context)
    cdef Py_ssize_t size = networks_at_a_time(context, population.count, batch.rows), first, k, piece = 0
    cdef batch_t rows
    while not should_stop(own.interrupt, 0):
        first = size * (take_piece(&context.shared.team) if context.size > 1 else piece)
        if first >= population.count:
            return
        piece += 1
        for k in range(first, min(first + size, population.count)):
            rows = network_batch(plan, batch, population, k, params)
            if population.costs != NULL:
                population.costs[k] = network_cost(&own, params + k * plan.n_parameters, &rows, population)
            else:
                forward_rows(&own, params + k * plan.n_parameters, &rows, out + k * rows.rows * plan.n_outputs)
            if own.interrupt.stopped:
                return
