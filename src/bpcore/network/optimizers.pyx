# The steps of gradient descent, in place, one pass over the parameters.

from libc.math cimport pow, sqrt, sqrtf

cdef struct hyperparameters_t:
    # Of gradient descent or Adam.
    bint adam
    double learning_rate
    double momentum
    bint nesterov
    double beta1
    double beta2
    double epsilon
    long step                       # number of the next step, from 1
    double corrected_rate           # Adam's, by the bias corrections of that step
    double correction


cdef inline floating sqrt_(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef void sgd_step(floating *params, const floating *grad, floating *velocity, Py_ssize_t n,
                   const hyperparameters_t *given) noexcept nogil:
    """``v = mu v + g; p -= lr v``; with Nesterov's momentum ``p -= lr (g + mu v)``. ``velocity`` may be NULL."""
    cdef Py_ssize_t i
    cdef floating rate = <floating>given.learning_rate, mu = <floating>given.momentum
    if velocity == NULL:
        for i in range(n):
            params[i] -= rate * grad[i]
    elif given.nesterov:
        for i in range(n):
            velocity[i] = mu * velocity[i] + grad[i]
            params[i] -= rate * (grad[i] + mu * velocity[i])
    else:
        for i in range(n):
            velocity[i] = mu * velocity[i] + grad[i]
            params[i] -= rate * velocity[i]


cdef inline Py_ssize_t before_line(const floating *numbers, Py_ssize_t n) noexcept nogil:
    """How many of the n numbers lie before the first whole cache line."""
    return min(<Py_ssize_t>((64 - (<size_t>numbers & 63)) & 63) // <Py_ssize_t>sizeof(floating), n)


cdef void adam_update(floating *params, const floating *grad, floating *first_moment, floating *second_moment,
                      Py_ssize_t n, const hyperparameters_t *given) noexcept nogil:
    """A step of Adam: D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1."""
    cdef Py_ssize_t i, first = 0, last = before_line(params, n)
    cdef floating rate = <floating>given.corrected_rate, scale = <floating>given.correction
    cdef floating b1 = <floating>given.beta1, b2 = <floating>given.beta2
    cdef floating c1 = <floating>(1 - given.beta1), c2 = <floating>(1 - given.beta2)
    cdef floating epsilon = <floating>given.epsilon
    # From a whole cache line on, where the other arrays have one too if they were allocated so: vectors as long as a
    # line that lie across two take twice the time.
    while first < n:
        for i in range(first, last):
            first_moment[i] = b1 * first_moment[i] + c1 * grad[i]
            second_moment[i] = b2 * second_moment[i] + c2 * grad[i] * grad[i]
            params[i] -= rate * first_moment[i] / (sqrt_(second_moment[i]) * scale + epsilon)
        first, last = last, n


cdef inline void correct_bias(hyperparameters_t *given) noexcept nogil:
    """Before a step of Adam: corrections that are the same for all entries, and float64 for float32 parameters, too."""
    if given.adam:
        given.corrected_rate = given.learning_rate / (1 - pow(given.beta1, given.step))
        given.correction = 1 / sqrt(1 - pow(given.beta2, given.step))


cdef inline void optimizer_step(floating *params, const floating *grad, floating **moments, Py_ssize_t n,
                                const hyperparameters_t *given) noexcept nogil:
    """A step of n parameters, after `correct_bias`."""
    if given.adam:
        adam_update(params, grad, moments[0], moments[1], n, given)
    else:
        sgd_step(params, grad, moments[0], n, given)


cdef void sgd_step_by_layers(const context_t *context, floating *params, const floating *x,
                             floating rate) noexcept nogil:
    """From delta(L) of one row, in the workspace, ``params -= rate * gradient``, layer by layer on the way back.

    No gradient is written to memory, and each layer's weights are still in a near cache when they are changed. The
    rounding is that of a gradient that is subtracted afterwards.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer
    cdef const layer_t *below
    cdef floating *work = workspace_of(context, x)
    cdef floating *delta = work + plan.delta.start
    cdef floating *scratch = work + plan.scratch.start
    cdef const floating *a
    cdef floating *W
    cdef floating d, g
    cdef Py_ssize_t l, j, k
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        a = x
        if l > 0:  # delta(l) is of the weights as they were
            below = &plan.layers[l - 1]
            a = work + below.a.start
            linear_backward_input_unpacked(matrix(<const floating *>delta, 1, layer.stride),
                                           weights_of(layer, <const floating *>params),
                                           matrix(<const floating *>scratch, 1, below.stride))
            activation_backward(below, a, work + below.derivative.start, 1, scratch)
        W = params + layer.weights
        for j in range(layer.n_out):
            d = delta[j]
            for k in range(layer.n_in):
                g = d * a[k]
                W[k] -= rate * g
            W += layer.n_in
        for j in range(layer.n_out):
            W[j] -= rate * delta[j]
        delta, scratch = scratch, delta


cdef void sgd_rows(context_t *context, floating *params, const batch_t *batch, floating rate,
                   double *loss) noexcept nogil:
    """Online gradient descent, a step for each row in turn; the loss of each, before its step, is added to ``loss``."""
    cdef const plan_t *plan = context.plan
    cdef const floating *theta = params
    cdef floating *work = workspace_of(context, theta)
    cdef tile_t where
    cdef batch_t row
    cdef Py_ssize_t i
    context.small_batch = True
    where.rows = 1
    for i in range(batch.rows):
        where.first = i
        row = weighted_tile(context, batch, &where, theta)
        if row.rows == 0:  # left out, whatever the row holds
            continue
        forward_tile(context, <const floating *>params, &row, plan.from_logits, True)
        loss[0] += tile_losses(context, &row, True, theta)
        sgd_step_by_layers(context, params, <const floating *>row.X, rate)
        check_guards(plan, work)
