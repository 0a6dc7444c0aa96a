# A call from Python in C, and the threads that compute it.

cdef enum Task:
    FORWARD
    ACCUMULATE                      # losses and sums
    COST_AND_GRADIENT
    TRAIN
    DERIVE
    POPULATION

cdef struct call_t:
    # The arguments of a call, checked; not all tasks use all.
    shared_t shared
    Task task
    const plan_t *plan
    bint is_float32
    const void *params
    batch_t batch
    void *out                       # (rows, n_outputs)
    chunk_range_t chunks
    sums_t sums
    double losses                   # those before the call, then with its own; or the cost
    double weight                   # of all rows
    double l2
    training_t *training
    wanted_t wanted
    population_t population
    void *sums_memory               # of large sums, or NULL
    interrupt_t interrupt           # of the first thread


cdef inline void compute(call_t *call, int rank, const floating *tag) noexcept nogil:
    """What one thread does in a call."""
    cdef interrupt_t others = new_interrupt(&call.shared.team, False)
    cdef interrupt_t *interrupt = &call.interrupt if rank == 0 else &others
    cdef context_t context = team_context(call.plan, &call.shared, rank, call.batch.rows, interrupt)
    cdef const floating *params = <const floating *>call.params
    cdef double cost
    if call.task == FORWARD:
        forward_rows(&context, params, &call.batch, <floating *>call.out)
    elif call.task == TRAIN:
        run_batches(&context, call.training, params)
    elif call.task == DERIVE:
        derive_rows(&context, params, &call.batch, &call.wanted)
    elif call.task == POPULATION:
        compute_population(&context, params, &call.batch, &call.population, <floating *>call.out)
    else:
        if call.task == COST_AND_GRADIENT:
            cost = cost_of_rows(&context, params, &call.batch, &call.chunks, &call.sums)
        else:
            cost = accumulate_rows(&context, params, &call.batch, &call.chunks, &call.sums, call.losses)
        if rank == 0:
            call.losses = cost
    end_context(&context)


cdef void compute_rank(void *call, int rank) noexcept nogil:
    if (<call_t *>call).is_float32:
        compute(<call_t *>call, rank, <const float *>NULL)
    else:
        compute(<call_t *>call, rank, <const double *>NULL)


cdef inline Py_ssize_t own_sums_bytes(Plan plan) noexcept nogil:
    """Of a thread's sums, if they are so small that they have a place behind its workspace; else 0."""
    cdef Py_ssize_t itemsize = sizeof(float) if plan.is_float32 else sizeof(double)
    return plan.plan.n_parameters * itemsize if plan.plan.n_parameters * itemsize <= MAX_OWN_SUMS else 0


cdef int reserve_all(Plan plan, call_t *call, int threads) except -1:
    """A workspace for each thread; and sums for each, if it computes tiles of its own."""
    cdef int i, size = 1
    cdef Py_ssize_t itemsize = sizeof(float) if plan.is_float32 else sizeof(double), n = plan.plan.n_parameters
    call.sums_memory = NULL
    call.shared.workspaces[0] = plan.reserve()
    try:
        while size < threads:
            call.shared.workspaces[size] = plan.reserve()
            size += 1
        if threads > 1 and call.task != FORWARD and own_sums_bytes(plan) == 0 and call.sums.sums != NULL:
            call.sums_memory = allocate(threads * n * itemsize)
            if call.sums_memory == NULL:
                raise MemoryError()
        for i in range(threads):
            call.shared.sums[i] = <char *>call.sums_memory + i * n * itemsize
            if call.sums_memory == NULL:
                call.shared.sums[i] = aligned(<char *>call.shared.workspaces[i]) + plan.plan.workspace * itemsize
    except BaseException:
        release_all(plan, call, size)
        raise
    return 0


cdef void release_all(Plan plan, call_t *call, int threads) noexcept nogil:
    cdef int i
    free(call.sums_memory)
    for i in range(threads):
        plan.release(<char *>call.shared.workspaces[i])


cdef int run(Plan plan, call_t *call, int threads) except -1:
    """Compute a call in so many threads, at most; it raises what a signal's handler raised."""
    threads = max(1, min(threads, <int>MAX_TEAM))
    if call.task != POPULATION and call.batch.rows < PACK_MIN_ROWS:
        threads = 1
    call.plan, call.is_float32 = &plan.plan, plan.is_float32
    call.interrupt = new_interrupt(&call.shared.team, True)
    reserve_all(plan, call, threads)
    with nogil:
        team_run(&call.shared.team, threads, compute_rank, call)
        release_all(plan, call, threads)
    return raise_if_interrupted(&call.interrupt)
