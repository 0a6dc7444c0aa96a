# cython: language_level=3, freethreading_compatible=True
"""Train networks of 4-64-64-2 in loops of our own: one plan, a thread and a workspace for each, and no GIL."""

from bpcore.capi cimport (
    IDENTITY, RELU, SQUARED_ERROR, accumulate_f32, accumulate_f64, adam_f32, adam_f64, bpcore_plan, sgd_rows_f32,
    sgd_rows_f64, error_message, finish_f32, finish_f64, gradient_descent_f32, gradient_descent_f64, n_parameters,
    plan_bytes, plan_init_f32, plan_init_f64, workspace_bytes,
)
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
    PyThread_start_new_thread, PyThread_type_lock, WAIT_LOCK,
)
from cython cimport floating
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

# What one thread does.
cdef struct job_t:
    const bpcore_plan *plan         # the same for all
    void *workspace
    void *params
    void *memory                    # zeroed room for the gradient and its two moments
    const void *X
    const void *Y
    Py_ssize_t m
    Py_ssize_t batch
    Py_ssize_t steps
    double rate
    bint single                     # float, not double
    double cost
    int error
    PyThread_type_lock busy


cdef void adam_loop(job_t *job, floating *params, const floating *X, const floating *Y) noexcept nogil:
    """Steps of Adam over batches of rows."""
    cdef Py_ssize_t n = n_parameters(job.plan), step, first = 0
    cdef floating *sums = <floating *>job.memory
    cdef double loss
    for step in range(1, job.steps + 1):
        memset(sums, 0, n * sizeof(floating))
        loss = 0
        if floating is float:
            job.error = accumulate_f32(job.plan, job.workspace, params, X + 4 * first, job.batch, Y + 2 * first, NULL,
                                       NULL, sums, &loss)
            if job.error == 0:
                job.error = finish_f32(job.plan, params, sums, loss, job.batch, 1e-3, sums, &job.cost)
            if job.error == 0:
                job.error = adam_f32(n, params, sums, sums + n, sums + 2 * n, job.rate, 0.9, 0.999, 1e-8, step)
        else:
            job.error = accumulate_f64(job.plan, job.workspace, params, X + 4 * first, job.batch, Y + 2 * first, NULL,
                                       NULL, sums, &loss)
            if job.error == 0:
                job.error = finish_f64(job.plan, params, sums, loss, job.batch, 1e-3, sums, &job.cost)
            if job.error == 0:
                job.error = adam_f64(n, params, sums, sums + n, sums + 2 * n, job.rate, 0.9, 0.999, 1e-8, step)
        if job.error != 0:
            return
        first += job.batch
        if first + job.batch > job.m:
            first = 0


cdef void do_job(void *argument) noexcept nogil:
    """The whole life of a thread that Python knows nothing of."""
    cdef job_t *job = <job_t *>argument
    if job.single:
        adam_loop[float](job, <float *>job.params, <const float *>job.X, <const float *>job.Y)
    else:
        adam_loop[double](job, <double *>job.params, <const double *>job.X, <const double *>job.Y)
    PyThread_release_lock(job.busy)


cdef bpcore_plan *make_plan(bint single) except NULL:
    """The architecture, to be freed."""
    cdef Py_ssize_t[4] sizes = [4, 64, 64, 2]
    cdef int[3] activations = [RELU, RELU, IDENTITY]
    cdef size_t size = plan_bytes(3)
    cdef bpcore_plan *plan = <bpcore_plan *>malloc(size)
    cdef int error
    if single:
        error = plan_init_f32(plan, size, 3, sizes, activations, SQUARED_ERROR)
    else:
        error = plan_init_f64(plan, size, 3, sizes, activations, SQUARED_ERROR)
    if error != 0:
        free(plan)
        raise ValueError(error_message(error).decode())
    return plan


def train_all(floating[:, ::1] params, const floating[:, ::1] X, const floating[:, ::1] Y, Py_ssize_t batch,
              Py_ssize_t steps, double rate):
    """Train several networks in place, each row of ``params`` one, all at once; the cost of the last batch of each."""
    cdef Py_ssize_t count = params.shape[0], n = params.shape[1], i, started = 0
    cdef bpcore_plan *plan = make_plan(floating is float)
    cdef job_t *jobs = <job_t *>calloc(count, sizeof(job_t))
    cdef job_t *job
    try:
        if n != n_parameters(plan) or X.shape[1] != 4 or Y.shape[1] != 2 or Y.shape[0] != X.shape[0]:
            raise ValueError("params, X and Y do not fit")
        if not 1 <= batch <= X.shape[0]:
            raise ValueError("batch is out of range")
        if jobs == NULL:
            raise MemoryError()
        for i in range(count):
            job = &jobs[i]
            job.plan, job.single, job.rate = plan, floating is float, rate
            job.m, job.batch, job.steps = X.shape[0], batch, steps
            job.params, job.X, job.Y = &params[i, 0], &X[0, 0], &Y[0, 0]
            job.workspace = malloc(workspace_bytes(plan))
            job.memory = calloc(3 * n, sizeof(floating))
            job.busy = PyThread_allocate_lock()
            if job.memory == NULL or job.busy == NULL:
                raise MemoryError()
            PyThread_acquire_lock(job.busy, WAIT_LOCK)
        for i in range(count):
            if PyThread_start_new_thread(do_job, &jobs[i]) == -1:
                raise RuntimeError("no thread can be started")
            started += 1
    finally:
        with nogil:
            for i in range(started):
                PyThread_acquire_lock(jobs[i].busy, WAIT_LOCK)  # until it is done
        costs, error = [], 0
        for i in range(count if jobs != NULL else 0):
            costs.append(jobs[i].cost)
            error = error or jobs[i].error
            if jobs[i].busy != NULL:
                PyThread_release_lock(jobs[i].busy)
                PyThread_free_lock(jobs[i].busy)
            free(jobs[i].memory)
            free(jobs[i].workspace)
        free(jobs)
        free(plan)
    if error:
        raise ValueError(error_message(error).decode())
    return costs


def train(params, X, Y, batch, steps, rate):
    """The same for one network."""
    return train_all(params[None], X, Y, batch, steps, rate)[0]


def learn(floating[::1] params, const floating[:, ::1] X, const floating[:, ::1] Y, Py_ssize_t steps, double rate,
          bint fused):
    """Gradient descent in this thread, a row a step, by one call a step or by two; the sum of the losses."""
    cdef Py_ssize_t n = params.shape[0], m = X.shape[0], step, i
    cdef bpcore_plan *plan = make_plan(floating is float)
    cdef void *workspace = malloc(workspace_bytes(plan))
    cdef floating *sums = <floating *>malloc(n * sizeof(floating))
    cdef double loss = 0
    cdef int error = 0
    try:
        if n != n_parameters(plan) or X.shape[1] != 4 or Y.shape[1] != 2 or Y.shape[0] != m or m == 0:
            raise ValueError("params, X and Y do not fit")
        if sums == NULL:
            raise MemoryError()
        with nogil:
            for step in range(steps):
                i = step % m
                if floating is float:
                    if fused:
                        error = sgd_rows_f32(plan, workspace, &params[0], &X[i, 0], 1, &Y[i, 0], NULL, NULL, rate,
                                                 &loss)
                    else:
                        memset(sums, 0, n * sizeof(floating))
                        error = accumulate_f32(plan, workspace, &params[0], &X[i, 0], 1, &Y[i, 0], NULL, NULL, sums,
                                               &loss)
                        if error == 0:
                            error = gradient_descent_f32(n, &params[0], sums, NULL, rate, 0, False)
                else:
                    if fused:
                        error = sgd_rows_f64(plan, workspace, &params[0], &X[i, 0], 1, &Y[i, 0], NULL, NULL, rate,
                                                 &loss)
                    else:
                        memset(sums, 0, n * sizeof(floating))
                        error = accumulate_f64(plan, workspace, &params[0], &X[i, 0], 1, &Y[i, 0], NULL, NULL, sums,
                                               &loss)
                        if error == 0:
                            error = gradient_descent_f64(n, &params[0], sums, NULL, rate, 0, False)
                if error != 0:
                    break
        if error != 0:
            raise ValueError(error_message(error).decode())
        return loss
    finally:
        free(sums)
        free(workspace)
        free(plan)
