# Forward propagation: a(1) = x, z(l+1) = W(l) a(l) + b(l), a(l+1) = g(z(l+1)).

cdef void forward_tile(const plan_t *plan, const floating *params, const floating[:, ::1] X, floating *work,
                       floating *logits, bint slopes) noexcept nogil:
    """Fill the workspace with the activations of every layer for the rows of X, at most a tile.

    ``logits``, if not NULL, gets z(L), of shape (rows, n_outputs). ``slopes``: whether g'(z) is to be kept, too.
    """
    cdef Py_ssize_t l, rows = X.shape[0]
    cdef const layer_t *layer
    cdef const floating *given = &X[0, 0]
    cdef floating[:, ::1] A, Z
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        A = matrix(work + layer.a, rows, layer.n_out)
        Z = A
        if logits != NULL and l == plan.n_layers - 1:
            Z = matrix(logits, rows, layer.n_out)
        affine[floating](matrix(given, rows, layer.n_in), weights_of(layer, params), bias_of(layer, params), Z)
        activate[floating](layer.activation, Z, A, work + layer.slope if slopes and layer.keeps_slope else NULL)
        given = work + layer.a


cdef void forward_rows(const plan_t *plan, const floating[::1] params, const floating[:, ::1] X,
                       floating[:, ::1] out, floating *work) noexcept nogil:
    """Tile by tile, the activations of the output layer."""
    cdef Py_ssize_t tile, first, i, j, rows, m = X.shape[0]
    cdef floating[:, ::1] A
    for tile in range(n_tiles(plan, m)):
        first = tile * plan.tile
        rows = min(plan.tile, m - first)
        forward_tile[floating](plan, &params[0], matrix(&X[first, 0], rows, plan.n_inputs), work, NULL, False)
        A = matrix(work + plan.layers[plan.n_layers - 1].a, rows, plan.n_outputs)
        for i in range(rows):
            for j in range(plan.n_outputs):
                out[first + i, j] = A[i, j]


cdef object forward_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, floating[:, ::1] out):
    check_sizes(plan, params.shape[0], X.shape[1])
    if out.shape[0] != X.shape[0] or out.shape[1] != plan.plan.n_outputs:
        raise ValueError("out does not fit")
    cdef floating *work = <floating *>plan.new_workspace()
    with nogil:
        forward_rows[floating](&plan.plan, params, X, out, work)
    free(work)


def forward(Plan plan not None, params, X, out):
    """Fill ``out``, of shape (m, n_outputs), with the activations of the output layer."""
    if plan.single:
        forward_typed[float](plan, params, X, out)
    else:
        forward_typed[double](plan, params, X, out)


cdef object trace_typed(Plan plan, const floating[::1] params, const floating[:, ::1] X, list activations,
                        list slopes, floating unused):
    cdef Py_ssize_t l, m = X.shape[0]
    cdef const layer_t *layer
    cdef floating[:, ::1] a
    check_sizes(plan, params.shape[0], X.shape[1])
    if len(activations) != plan.plan.n_layers or len(slopes) != plan.plan.n_layers:
        raise ValueError("activations and slopes do not fit")
    for l in range(plan.plan.n_layers):  # a layer at a time: the GIL is let go for each
        layer = &plan.plan.layers[l]
        a = activations[l]
        if a.shape[0] != m or a.shape[1] != layer.n_out:
            raise ValueError("activations do not fit")
        trace_layer[floating](layer, params, X if l == 0 else activations[l - 1], a, slopes[l])
    return None


cdef object trace_layer(const layer_t *layer, const floating[::1] params, const floating[:, ::1] given,
                        floating[:, ::1] a, slope):
    cdef floating[:, ::1] kept
    cdef floating *slopes = NULL
    if a.shape[0] == 0:
        return None
    if layer.keeps_slope:
        kept = slope
        if kept.shape[0] != a.shape[0] or kept.shape[1] != a.shape[1]:
            raise ValueError("slopes do not fit")
        slopes = &kept[0, 0]
    with nogil:
        affine[floating](given, weights_of(layer, &params[0]), bias_of(layer, &params[0]), a)
        activate[floating](layer.activation, a, a, slopes)


def trace(Plan plan not None, params, X, list activations not None, list slopes not None):
    """Fill the activations of every layer but the first, and the slopes of those layers that have an array for them."""
    if plan.single:
        trace_typed[float](plan, params, X, activations, slopes, 0)
    else:
        trace_typed[double](plan, params, X, activations, slopes, 0)
