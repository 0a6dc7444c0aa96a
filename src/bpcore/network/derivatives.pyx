# Derivatives row by row: Jacobians, gradients and their norms, deltas, tangents. Nothing here is summed over rows.
#
# All but the tangents come from deltas on their way down: `descend` propagates one delta for each row, or a few for
# each, those of different outputs, and `row_results` makes the results of them.

cdef enum Derivative:
    NORMS                           # of each row's gradient; (rows,)
    ROW_GRADIENTS                   # (rows, n_parameters)
    JACOBIAN                        # of the outputs by the parameters; (rows, n_outputs, n_parameters)
    INPUT_JACOBIAN                  # and by the inputs; (rows, n_outputs, n_inputs)
    DELTAS                          # of every layer; each (rows, n_out)
    TANGENTS                        # along a direction; (rows, n_outputs)

cdef struct wanted_t:
    # What is computed of each row, and where it goes.
    Derivative what
    void *out                       # TANGENTS: the outputs
    void **deltas                   # one pointer for each layer with weights
    Py_ssize_t first                # and which row of a forward pass that is kept is the first of these
    const void *d_params            # directions: (n_parameters,), or NULL
    const void *d_inputs            # (rows, n_inputs), or NULL
    void *d_out

cdef struct outputs_t:
    # Outputs whose deltas are side by side: those of all rows of a tile for the first, then for the next.
    Py_ssize_t first
    Py_ssize_t count

cdef enum:
    PIECES_OF_ROWS = 4              # for each thread: the last ones are a small part of all


# ------------------------------------------------------------------------------------------------ from deltas


cdef void add_norms(const context_t *context, const batch_t *tile, Py_ssize_t l, const floating *delta,
                    const floating[:, ::1] A) noexcept nogil:
    """To each row's norm, squared, that of its gradient for a layer: ``|delta|^2 (|a|^2 + 1)``. In float64.

    The gradient of the weights is an outer product, so that its norm is the product of the two norms.
    """
    cdef const layer_t *layer = &context.plan.layers[l]
    cdef double *norms = <double *>(workspace_of(context, delta) + context.plan.norms.start)
    cdef share_t share = row_share(tile.rows, 1, 1, context.size, context.rank)
    cdef Py_ssize_t i
    cdef double squares
    for i in range(share.row, share.row + share.rows):
        squares = sum_squares(delta + i * layer.stride, layer.n_out) * (1 + sum_squares(&A[i, 0], layer.n_in))
        norms[i] = squares if l == context.plan.n_layers - 1 else norms[i] + squares


cdef void write_gradients(const plan_t *plan, Py_ssize_t l, const floating[:, ::1] delta, const floating[:, ::1] A,
                          floating *out, Py_ssize_t stride) noexcept nogil:
    """The gradients of a layer for each row by itself, ``stride`` numbers apart: ``delta^T a``, and delta."""
    cdef const layer_t *layer = &plan.layers[l]
    cdef Py_ssize_t i
    for i in range(A.shape[0]):
        linear_backward_weights_unpacked(matrix(&delta[i, 0], 1, delta.shape[1]), matrix(&A[i, 0], 1, A.shape[1]),
                                         weights_of(layer, <const floating *>out + i * stride), True)
        memcpy(out + i * stride + layer.bias, &delta[i, 0], layer.n_out * sizeof(floating))


cdef void row_results(const context_t *context, const batch_t *tile, const wanted_t *wanted, const outputs_t *outputs,
                      Py_ssize_t l, const floating *delta, const floating[:, ::1] A) noexcept nogil:
    """The results that a layer's deltas give; ``A``: the inputs of that layer."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer = &plan.layers[l]
    cdef Py_ssize_t k, n = plan.n_outputs if wanted.what == JACOBIAN else 1, size = plan.n_parameters
    if wanted.what == NORMS:
        add_norms(context, tile, l, delta, A)
    elif wanted.what == DELTAS:
        copy_rows(delta, layer.stride, <floating *>wanted.deltas[l] + (tile.first - wanted.first) * layer.n_out,
                  layer.n_out, tile.rows, layer.n_out)
    elif wanted.what != INPUT_JACOBIAN:
        for k in range(outputs.count):
            write_gradients(plan, l, matrix(delta + k * tile.rows * layer.stride, tile.rows, layer.stride), A,
                            <floating *>wanted.out + (tile.first * n + outputs.first + k) * size, n * size)


cdef void write_input_jacobian(const plan_t *plan, const batch_t *tile, const wanted_t *wanted,
                               const outputs_t *outputs, const floating *D) noexcept nogil:
    """From ``delta(2) W(1)`` for some outputs."""
    cdef Py_ssize_t k, n = plan.n_outputs
    for k in range(outputs.count):
        copy_rows(D + k * tile.rows * plan.input_stride, plan.input_stride,
                  <floating *>wanted.out + (tile.first * n + outputs.first + k) * plan.n_inputs, n * plan.n_inputs,
                  tile.rows, plan.n_inputs)


cdef void descend(const context_t *context, const floating *params, const batch_t *tile, const wanted_t *wanted,
                  const outputs_t *outputs) noexcept nogil:
    """From delta(L), in the workspace, for one or more outputs, down to delta(2). More than one has no team.

    Returns early if the call is interrupted.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer
    cdef const layer_t *below
    cdef floating *work = workspace_of(context, params)
    cdef floating *delta = work + plan.delta.start
    cdef floating *scratch = work + plan.scratch.start
    cdef const floating *a
    cdef Py_ssize_t l, k, stride
    cdef share_t share
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        if should_stop(context.interrupt, layer.n_in * layer.n_out * outputs.count):
            return
        below = &plan.layers[l - 1] if l > 0 else NULL
        a, stride = <const floating *>tile.X, tile.x_stride
        if l > 0:
            a, stride = work + below.a.start, below.stride
        row_results(context, tile, wanted, outputs, l, delta, matrix(a, tile.rows, stride))
        if l == 0 and wanted.what != INPUT_JACOBIAN:
            return
        share = product_share(context, tile.rows * outputs.count, layer.n_in, False, params)
        backward_input(context, params, layer, &share, delta, scratch, stride if l > 0 else plan.input_stride)
        if l == 0:
            write_input_jacobian(plan, tile, wanted, outputs, scratch)
            return
        if outputs.count > 1:
            share = all_of(tile.rows, layer.n_in)
        for k in range(outputs.count):
            activation_share_backward(below, &share, a, work + below.derivative.start,
                                      scratch + k * tile.rows * stride)
        if not meet(context):
            return
        delta, scratch = scratch, delta


cdef inline outputs_t one_delta() noexcept nogil:
    cdef outputs_t outputs
    outputs.first, outputs.count = 0, 1
    return outputs


cdef void clip_tile(const context_t *context, const floating *params, const batch_t *tile) noexcept nogil:
    """Scale delta(L) of each row so that the norm of its gradient is at most ``clip_norm``.

    The deltas go down for the norms alone, and delta(L), which they overwrite, is made once more: that costs a third
    of a backward pass, and no memory.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, params)
    cdef const double *norms = <const double *>(work + plan.norms.start)
    cdef share_t share = row_share(tile.rows, 1, 1, context.size, context.rank)
    cdef outputs_t outputs = one_delta()
    cdef wanted_t wanted
    cdef floating *delta
    cdef floating factor
    cdef double norm
    cdef Py_ssize_t i, j
    wanted.what = NORMS
    descend(context, params, tile, &wanted, &outputs)
    if not meet(context) or should_stop(context.interrupt, 0):
        return
    output_losses(context, tile, True, params)
    for i in range(share.row, share.row + share.rows):
        norm = sqrt(norms[i])
        if not norm <= tile.clip_norm:  # or NaN, which stays one
            factor = <floating>(tile.clip_norm / norm)
            delta = work + plan.delta.start + i * last.stride
            for j in range(last.stride):
                delta[j] *= factor
    meet(context)


# ---------------------------------------------------------------------------------------------- along a direction


cdef void tangent_tile(const context_t *context, const floating *params, const batch_t *tile,
                       const wanted_t *wanted) noexcept nogil:
    """``dz = da W^T + a dW^T + db`` and ``da = g'(z) dz``, layer by layer: the derivative of the outputs.

    The Jacobian of a softmax is symmetric: what takes dLoss/da to dLoss/dz takes dz to da.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer = NULL
    cdef context_t loose = context[0]
    cdef floating *work = workspace_of(context, params)
    cdef floating *dz = work + plan.delta.start
    cdef floating *da = work + plan.scratch.start
    cdef const floating *a = <const floating *>tile.X
    cdef const floating *d = NULL
    cdef Py_ssize_t l, stride = tile.x_stride, d_stride = plan.n_inputs
    cdef share_t share
    loose.pack_whole = False  # what is packed for the call are the weights, not their direction
    if wanted.d_inputs != NULL:
        d = <const floating *>wanted.d_inputs + tile.first * plan.n_inputs
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        share = all_of(tile.rows, layer.n_out)
        memset(dz, 0, tile.rows * layer.stride * sizeof(floating))
        if wanted.d_params != NULL:
            forward_share(&loose, <const floating *>wanted.d_params, layer, &share, matrix(a, tile.rows, stride), dz,
                          False)
        if d != NULL:
            forward_share(context, params, layer, &share, matrix(d, tile.rows, d_stride), dz, True)
        if should_stop(context.interrupt, 0):
            return
        a, stride = work + layer.a.start, layer.stride
        if l == plan.n_layers - 1:
            outputs_backward(context, a, work + layer.derivative.start, tile.rows, False, dz)
        else:
            activation_backward(layer, a, <const floating *>work + layer.derivative.start, tile.rows, dz)
        d, d_stride = dz, layer.stride
        dz, da = da, dz
    copy_rows(a, stride, <floating *>wanted.out + tile.first * plan.n_outputs, plan.n_outputs, tile.rows,
              plan.n_outputs)
    copy_rows(d, d_stride, <floating *>wanted.d_out + tile.first * plan.n_outputs, plan.n_outputs, tile.rows,
              plan.n_outputs)


# ------------------------------------------------------------------------------------------------- all rows of a call


cdef void output_directions(const context_t *context, const batch_t *tile, const outputs_t *outputs,
                            const floating *tag) noexcept nogil:
    """delta(L) of every row for some outputs: the derivative of each of them by z(L)."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, tag)
    cdef floating *delta = work + plan.delta.start
    cdef Py_ssize_t k, i
    for k in range(outputs.count):
        memset(delta, 0, tile.rows * last.stride * sizeof(floating))
        for i in range(tile.rows):
            delta[i * last.stride + outputs.first + k] = 1
        outputs_backward(context, <const floating *>work + last.a.start, work + last.derivative.start, tile.rows, False,
                         delta)
        delta += tile.rows * last.stride


cdef void derive_tile(const context_t *context, const floating *params, const batch_t *tile,
                      const wanted_t *wanted) noexcept nogil:
    """The results of the rows of a tile."""
    cdef const plan_t *plan = context.plan
    cdef share_t share = all_of(tile.rows, plan.n_outputs)
    cdef outputs_t outputs = one_delta()
    cdef const double *norms
    cdef Py_ssize_t i
    if tile.kept != NULL:
        copy_kept(context, tile, &share, True, params)
    else:
        forward_tile(context, params, tile, takes_targets(wanted) and stops_at_logits(plan, tile), True)
    if should_stop(context.interrupt, 0):
        return
    if wanted.what == TANGENTS:
        tangent_tile(context, params, tile, wanted)
    elif takes_targets(wanted):
        output_losses(context, tile, True, params)
        descend(context, params, tile, wanted, &outputs)
    else:
        while outputs.first < plan.n_outputs:
            outputs.count = min(max(plan.tile // tile.rows, <Py_ssize_t>1), plan.n_outputs - outputs.first)
            output_directions(context, tile, &outputs, params)
            descend(context, params, tile, wanted, &outputs)
            if should_stop(context.interrupt, 0):
                return
            outputs.first += outputs.count
    if wanted.what == NORMS:
        norms = <const double *>(workspace_of(context, params) + plan.norms.start)
        for i in range(tile.rows):
            (<floating *>wanted.out)[tile.first + i] = <floating>sqrt(norms[i])


cdef inline bint takes_targets(const wanted_t *wanted) noexcept nogil:
    """Whether it is the derivative of a loss, or of what the caller gives the gradient of; else of the outputs."""
    return wanted.what == NORMS or wanted.what == ROW_GRADIENTS or wanted.what == DELTAS


cdef Py_ssize_t rows_at_a_time(const context_t *context, const wanted_t *wanted, Py_ssize_t rows) noexcept nogil:
    """At most a tile, and for Jacobians so many that the deltas of all outputs are one; pieces for all threads."""
    cdef Py_ssize_t most = context.plan.tile, pieces
    if wanted.what == JACOBIAN or wanted.what == INPUT_JACOBIAN:
        most = max(most // context.plan.n_outputs, <Py_ssize_t>1)
    pieces = (rows + most - 1) // most
    if context.size > 1:
        pieces = max(pieces, <Py_ssize_t>(PIECES_OF_ROWS * context.size))
    return (rows + pieces - 1) // pieces


cdef void derive_rows(const context_t *context, const floating *params, const batch_t *batch,
                      const wanted_t *wanted) noexcept nogil:
    """The results of all rows: each thread takes the next few, and computes them by itself."""
    cdef context_t own = alone(context)
    cdef Py_ssize_t size = rows_at_a_time(context, wanted, batch.rows), piece = 0
    cdef tile_t where
    cdef batch_t tile
    own.small_batch = batch.rows < PACK_MIN_ROWS
    own.pack_whole = batch.rows > size * context.size
    if not own.small_batch:
        if batch.kept == NULL:
            pack_forward(&own, params, takes_targets(wanted) and stops_at_logits(own.plan, batch))
        if wanted.what != TANGENTS:
            pack_backward(&own, params, wanted.what == INPUT_JACOBIAN)
    while not should_stop(own.interrupt, 0):
        where.first = size * (take_piece(&context.shared.team) if context.size > 1 else piece)
        if where.first >= batch.rows:
            return
        piece += 1
        where.rows = min(size, batch.rows - where.first)
        tile = weighted_tile(&own, batch, &where, params)
        derive_tile(&own, params, &tile, wanted)
        check_guards(own.plan, workspace_of(&own, params))
