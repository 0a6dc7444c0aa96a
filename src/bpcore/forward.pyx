# Forward propagation: a(1) = x, z(l+1) = W(l) a(l) + b(l), a(l+1) = g(z(l+1)).

cdef void pack_forward(const plan_t *plan, const floating *params, floating *work, watch_t *watch) noexcept nogil:
    """Pack every layer's ``W^T``, starting from its bias, for all tiles of a call."""
    cdef Py_ssize_t l
    cdef const layer_t *layer
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        pack[floating](params + layer.weights, layer.n_in, layer.n_out - layer.dots, 1, layer.n_in, params + layer.bias,
                       work + layer.forward.start, watch)


cdef inline const floating *tile_inputs(const plan_t *plan, const floating *X, Py_ssize_t rows, bint few,
                                        floating *work, Py_ssize_t *step) noexcept nogil:
    """The rows of X as the products take them, ``step`` numbers apart: copied where they alias in the cache."""
    step[0] = plan.n_inputs
    if few or not plan.aliases:
        return X
    step[0] = plan.input_step
    copy_rows(X, plan.n_inputs, work + plan.inputs.start, plan.input_step, rows, plan.n_inputs)
    return work + plan.inputs.start


cdef void forward_tile(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t x_step,
                       Py_ssize_t rows, bint few, floating *work, bint raw, bint slopes,
                       watch_t *watch) noexcept nogil:
    """Fill the workspace with the activations of every layer for ``rows`` rows of X, at most a tile.

    ``x_step``: numbers from one row of X to the next. ``few``: whether the parameters are not packed. ``raw``: whether
    z(L) is wanted in the place of a(L). ``slopes``: whether g'(z) is to be kept, too. Where ``watch`` says so, it
    returns before it is done.
    """
    cdef Py_ssize_t l, step = x_step
    cdef const layer_t *layer
    cdef const floating *given = X
    cdef floating[:, ::1] A, Z
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        A, Z = matrix(given, rows, step), matrix(work + layer.a.start, rows, layer.step)
        if stopped(watch, layer.n_in * layer.n_out):
            return
        if few:
            affine_few(A, weights_of(layer, params), bias_of(layer, params), Z)
        else:
            affine(A, layer.n_in, work + layer.forward.start, Z, layer.n_out - layer.dots, watch)
            if layer.dots > 0:
                affine_last(A, weights_of(layer, params), bias_of(layer, params), Z, layer.n_out - layer.dots)
        if raw and l == plan.n_layers - 1:
            return
        activate(layer.activation, work + layer.a.start, rows, layer.n_out, layer.step,
                 work + layer.slope.start if slopes and layer.keeps_slope else NULL)
        given, step = work + layer.a.start, layer.step


cdef void forward_rows(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t m, floating *out,
                       floating *work, watch_t *watch) noexcept nogil:
    """Tile by tile, the activations of the output layer."""
    cdef Py_ssize_t size, first, rows, x_step = 0
    cdef const floating *x
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    if m >= FEW:
        pack_forward(plan, params, work, watch)
    size = tile_rows(plan, m)
    first = -size
    while first + size < m:
        first += size
        rows = min(size, m - first)
        x = tile_inputs(plan, X + first * plan.n_inputs, rows, m < FEW, work, &x_step)
        forward_tile(plan, params, x, x_step, rows, m < FEW, work, False, False, watch)
        check_guards(plan, work)
        if stopped(watch, 0):
            return
        copy_rows(work + last.a.start, last.step, out + first * last.n_out, last.n_out, rows, last.n_out)


cdef inline void copy_rows(const floating *given, Py_ssize_t given_step, floating *out, Py_ssize_t out_step,
                           Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Copy rows of n numbers between places where they lie so many numbers apart."""
    cdef Py_ssize_t i
    for i in range(rows):
        memcpy(out + i * out_step, given + i * given_step, n * sizeof(floating))


cdef object forward_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, floating[:, ::1] out,
                          const unsigned char[::1] told):
    cdef char *work
    cdef watch_t watch = new_watch(told)
    check_sizes(plan, params.shape[0], X.shape[1])
    if out.shape[0] != X.shape[0] or out.shape[1] != plan.plan.n_outputs:
        raise ValueError("out does not fit")
    if X.shape[0] == 0:
        return
    work = plan.take_workspace()
    with nogil:
        forward_rows(&plan.plan, &params[0], &X[0, 0], X.shape[0], &out[0, 0], <floating *>aligned(work), &watch)
        plan.give(work)
    heed(&watch)


def forward(Plan plan not None, params, X, out, told=None):
    """Fill ``out``, of shape (m, n_outputs), with the activations of the output layer."""
    if plan.single:
        forward_typed[float](plan, params, X, out, told)
    else:
        forward_typed[double](plan, params, X, out, told)


cdef object trace_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, list activations,
                        list slopes):
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t size, first, rows, l, x_step = 0, m = X.shape[0]
    cdef const layer_t *layer
    cdef const floating *x
    cdef floating[:, ::1] view
    cdef floating **to
    cdef char *memory
    cdef floating *work
    cdef watch_t watch = new_watch(None)
    check_sizes(plan, params.shape[0], X.shape[1])
    if len(activations) != p.n_layers or len(slopes) != p.n_layers:
        raise ValueError("activations and slopes do not fit")
    if m == 0:
        return
    views = []  # keeps the buffers while their addresses are in use
    to = <floating **>malloc(2 * p.n_layers * sizeof(void *))
    if to == NULL:
        raise MemoryError()
    try:
        for l in range(2 * p.n_layers):
            to[l] = NULL
            if l < p.n_layers or p.layers[l - p.n_layers].keeps_slope:
                view = activations[l] if l < p.n_layers else slopes[l - p.n_layers]
                if view.shape[0] != m or view.shape[1] != p.layers[l % p.n_layers].n_out:
                    raise ValueError("activations or slopes do not fit")
                to[l] = &view[0, 0]
                views.append(view)
        memory = plan.take_workspace()
        work = <floating *>aligned(memory)
        with nogil:
            if m >= FEW:
                pack_forward(p, &params[0], work, &watch)
            size = tile_rows(p, m)
            first = -size
            while first + size < m:
                first += size
                rows = min(size, m - first)
                x = tile_inputs(p, &X[first, 0], rows, m < FEW, work, &x_step)
                forward_tile(p, &params[0], x, x_step, rows, m < FEW, work, False, True, &watch)
                check_guards(p, work)
                if stopped(&watch, 0):
                    break
                for l in range(p.n_layers):
                    layer = &p.layers[l]
                    copy_rows(work + layer.a.start, layer.step, to[l] + first * layer.n_out, layer.n_out, rows,
                              layer.n_out)
                    if layer.keeps_slope:
                        copy_rows(work + layer.slope.start, layer.step, to[p.n_layers + l] + first * layer.n_out,
                                  layer.n_out, rows, layer.n_out)
            plan.give(memory)
        heed(&watch)
    finally:
        free(to)


def trace(Plan plan not None, params, X, list activations not None, list slopes not None):
    """Fill the activations of every layer but the first, and the slopes of those layers that have an array for them."""
    if plan.single:
        trace_typed[float](plan, params, X, activations, slopes)
    else:
        trace_typed[double](plan, params, X, activations, slopes)
