# Backpropagation: delta(l) = (delta(l+1) W(l)) * g'(z(l)), and the sums Delta(l) += delta(l+1)^T a(l) on the way.

cdef void backward_tile(const plan_t *plan, const floating *params, const floating[:, ::1] X, const floating **a,
                        const floating **slopes, floating *delta, floating *spare, floating *sums,
                        floating *input_gradient) noexcept nogil:
    """From ``delta`` = delta(L) of the rows of X, add their gradients to ``sums``.

    ``a[l]`` and ``slopes[l]`` are the activations and the kept slopes of layer l, ``(rows, n_out)`` each; ``delta``
    and ``spare`` are buffers for (rows, widest layer), both overwritten. ``input_gradient``, if not NULL, gets
    ``delta(2) W(1)``: the inputs have no delta unless it is asked for.
    """
    cdef Py_ssize_t l, rows = X.shape[0]
    cdef const layer_t *layer
    cdef const floating *given
    cdef floating[:, ::1] D, before
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        D = matrix(delta, rows, layer.n_out)
        given = &X[0, 0] if l == 0 else a[l - 1]
        add_outer[floating](D, matrix(given, rows, layer.n_in), weights_of(layer, sums))
        add_columns[floating](D, bias_of(layer, sums))
        if l > 0:
            before = matrix(spare, rows, layer.n_in)
            times_weights[floating](D, weights_of(layer, params), before)
            through[floating](plan.layers[l - 1].activation, matrix(given, rows, layer.n_in), slopes[l - 1], before)
            delta, spare = spare, delta
        elif input_gradient != NULL:
            times_weights[floating](D, weights_of(layer, params), matrix(input_gradient, rows, layer.n_in))


cdef object backward_typed(Plan plan, const floating[::1] params, list activations, list slopes,
                           const floating[:, ::1] output_gradient, floating[::1] sums, input_gradient):
    cdef const plan_t *p = &plan.plan
    cdef Py_ssize_t tile, l, first, i, rows, m = output_gradient.shape[0]
    cdef const floating[:, ::1] X, view
    cdef floating[:, ::1] dX
    cdef floating *work
    cdef floating *delta
    cdef const floating **a
    cdef const floating **kept
    cdef const floating **tile_a
    cdef const floating **tile_kept
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
    memset(&sums[0], 0, sums.shape[0] * sizeof(floating))
    if m == 0:
        return None
    views = []  # keeps the buffers while their addresses are in use
    work = <floating *>plan.new_workspace()
    a = <const floating **>malloc(4 * p.n_layers * sizeof(void *))
    try:
        if a == NULL:
            raise MemoryError()
        kept, tile_a, tile_kept = a + p.n_layers, a + 2 * p.n_layers, a + 3 * p.n_layers
        for l in range(p.n_layers):
            view = activations[l + 1]
            if view.shape[0] != m or view.shape[1] != p.layers[l].n_out:
                raise ValueError("activations do not fit")
            a[l], kept[l] = &view[0, 0], NULL
            views.append(view)
            if p.layers[l].keeps_slope:
                view = slopes[l]
                if view.shape[0] != m or view.shape[1] != p.layers[l].n_out:
                    raise ValueError("slopes do not fit")
                kept[l] = &view[0, 0]
                views.append(view)
        with nogil:
            for tile in range(n_tiles(p, m)):
                first = tile * p.tile
                rows = min(p.tile, m - first)
                for l in range(p.n_layers):
                    tile_a[l] = a[l] + first * p.layers[l].n_out
                    tile_kept[l] = kept[l] + first * p.layers[l].n_out if kept[l] != NULL else NULL
                delta = work + p.delta
                for i in range(rows * p.n_outputs):
                    delta[i] = (&output_gradient[first, 0])[i]
                through[floating](p.layers[p.n_layers - 1].activation,
                                  matrix(tile_a[p.n_layers - 1], rows, p.n_outputs), tile_kept[p.n_layers - 1],
                                  matrix(delta, rows, p.n_outputs))
                backward_tile[floating](p, &params[0], matrix(&X[first, 0], rows, p.n_inputs), tile_a, tile_kept,
                                        delta, delta + p.tile * p.widest, &sums[0],
                                        NULL if input_gradient is None else &dX[first, 0])
    finally:
        free(a)
        free(work)


def backward(Plan plan not None, params, list activations not None, list slopes not None, output_gradient, sums,
             input_gradient):
    """Fill ``sums`` with the gradient, and ``input_gradient`` if there is one, from dLoss/da(L) of every row."""
    if plan.single:
        backward_typed[float](plan, params, activations, slopes, output_gradient, sums, input_gradient)
    else:
        backward_typed[double](plan, params, activations, slopes, output_gradient, sums, input_gradient)
