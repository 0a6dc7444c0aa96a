# Backpropagation: delta(l) = (delta(l+1) W(l)) * g'(z(l)), and the sums Delta(l) += delta(l+1)^T a(l) on the way.

cdef void pack_backward(const plan_t *plan, const floating *params, floating *work, bint inputs,
                        watch_t *watch) noexcept nogil:
    """Pack every layer's W, for all tiles of a call; that of the first only if the inputs' gradient is asked for."""
    cdef Py_ssize_t l
    cdef const layer_t *layer
    for l in range(0 if inputs else 1, plan.n_layers):
        layer = &plan.layers[l]
        pack[floating](params + layer.weights, layer.n_out, layer.n_in, layer.n_in, 1, NULL,
                       work + layer.backward.start, watch)


cdef void backward_tile(const plan_t *plan, const floating *params, const floating *X, Py_ssize_t x_step,
                        Py_ssize_t rows, bint few, floating *work, floating *sums, bint fresh,
                        floating *input_gradient, watch_t *watch) noexcept nogil:
    """From delta(L), in the workspace like all else of a tile, add the gradients of its rows to ``sums``.

    ``x_step``: numbers from one row of X to the next. ``fresh``: whether what is in ``sums`` does not count, and is
    overwritten.
    ``input_gradient``, if not NULL, gets ``delta(2) W(1)``: the inputs have no delta unless it is asked for. Where
    ``watch`` says so, it returns before it is done.
    """
    cdef Py_ssize_t l, step
    cdef const layer_t *layer
    cdef const floating *given
    cdef floating *delta = work + plan.delta.start
    cdef floating *spare = work + plan.scratch.start
    cdef floating[:, ::1] D, A, before
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        if stopped(watch, layer.n_in * layer.n_out):
            return
        D = matrix(delta, rows, layer.step)
        given = work + plan.layers[l - 1].a.start if l > 0 else X
        step = plan.layers[l - 1].step if l > 0 else x_step
        A = matrix(given, rows, step)
        add_columns(D, bias_of(layer, sums), fresh)
        if few:
            add_outer_few(D, A, weights_of(layer, sums), fresh)
        else:
            add_outer(D, A, weights_of(layer, sums), work + plan.panels.start, fresh, watch)
        if l > 0 or input_gradient != NULL:
            step = plan.layers[l - 1].step if l > 0 else plan.input_step
            before = matrix(spare, rows, step)
            if few:
                times_weights_few(D, weights_of(layer, params), before)
            else:
                times_weights(D, layer.n_out, work + layer.backward.start, before, layer.n_in, watch)
            if l > 0:
                through(plan.layers[l - 1].activation, given, work + plan.layers[l - 1].slope.start, rows, layer.n_in,
                        step, spare)
            else:
                copy_rows(spare, step, input_gradient, layer.n_in, rows, layer.n_in)
            delta, spare = spare, delta


cdef object backward_typed(Plan plan, const floating[::1] params, list activations, list slopes,
                           const floating[:, ::1] output_gradient, floating[::1] sums, input_gradient):
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t size, l, first, rows, m = output_gradient.shape[0]
    cdef const layer_t *layer
    cdef const layer_t *last = &p.layers[p.n_layers - 1]
    cdef const floating[:, ::1] X, view
    cdef floating[:, ::1] dX
    cdef floating *work
    cdef floating *into = NULL
    cdef char *memory
    cdef const floating **given
    cdef watch_t watch = new_watch(None)
    if len(activations) != p.n_layers + 1 or len(slopes) != p.n_layers:
        raise ValueError("activations and slopes do not fit")
    X = activations[0]
    check_sizes(plan, params.shape[0], X.shape[1])
    if sums.shape[0] != p.n_parameters or output_gradient.shape[1] != p.n_outputs or X.shape[0] != m:
        raise ValueError("sums or output_gradient do not fit")
    if input_gradient is not None:
        dX = input_gradient
        if dX.shape[0] != m or dX.shape[1] != p.n_inputs:
            raise ValueError("input_gradient does not fit")
    if m == 0:
        memset(&sums[0], 0, sums.shape[0] * sizeof(floating))
        return
    if input_gradient is not None:
        into = &dX[0, 0]
    views = []  # keeps the buffers while their addresses are in use
    given = <const floating **>malloc(2 * p.n_layers * sizeof(void *))
    if given == NULL:
        raise MemoryError()
    try:
        for l in range(2 * p.n_layers):
            given[l] = NULL
            if l < p.n_layers or p.layers[l - p.n_layers].keeps_slope:
                view = activations[l + 1] if l < p.n_layers else slopes[l - p.n_layers]
                if view.shape[0] != m or view.shape[1] != p.layers[l % p.n_layers].n_out:
                    raise ValueError("activations or slopes do not fit")
                given[l] = &view[0, 0]
                views.append(view)
        memory = plan.take_workspace()
        work = <floating *>aligned(memory)
        with nogil:
            if m >= FEW:
                pack_backward(p, &params[0], work, into != NULL, &watch)
            size = tile_rows(p, m)
            first = -size
            while first + size < m:
                first += size
                rows = min(size, m - first)
                for l in range(p.n_layers):
                    layer = &p.layers[l]
                    copy_rows(given[l] + first * layer.n_out, layer.n_out, work + layer.a.start, layer.step, rows,
                              layer.n_out)
                    if layer.keeps_slope:
                        copy_rows(given[p.n_layers + l] + first * layer.n_out, layer.n_out, work + layer.slope.start,
                                  layer.step, rows, layer.n_out)
                copy_rows(&output_gradient[first, 0], p.n_outputs, work + p.delta.start, last.step, rows, p.n_outputs)
                through_outputs(last.activation, <const floating *>(work + last.a.start), work + last.slope.start, rows,
                                last.n_out, last.step, work + p.delta.start)
                backward_tile(p, &params[0], &X[first, 0], p.n_inputs, rows, m < FEW, work, &sums[0], first == 0,
                              into + first * p.n_inputs if into != NULL else NULL, &watch)
                check_guards(p, work)
                if stopped(&watch, 0):
                    break
            plan.give(memory)
        heed(&watch)
    finally:
        free(given)


def backward(Plan plan not None, params, list activations not None, list slopes not None, output_gradient, sums,
             input_gradient):
    """Fill ``sums`` with the gradient, and ``input_gradient`` if there is one, from dLoss/da(L) of every row."""
    if plan.single:
        backward_typed[float](plan, params, activations, slopes, output_gradient, sums, input_gradient)
    else:
        backward_typed[double](plan, params, activations, slopes, output_gradient, sums, input_gradient)
