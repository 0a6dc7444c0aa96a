# Backpropagation: delta(l) = (delta(l+1) W(l)) * g'(z(l)), and the sums Delta(l) += delta(l+1)^T a(l) on the way.

cdef inline operand_t backward_operand(const context_t *context, const layer_t *layer, const share_t *share,
                                       const floating *params) noexcept nogil:
    """A share's columns of a layer's W."""
    cdef operand_t b
    cdef floating *own = own_workspace(context, params)
    b.B = strided(params + layer.weights + share.column, layer.n_out, share.columns, layer.n_in, 1)
    b.init, b.packed = NULL, context.pack_whole and layer.pack_whole
    b.panels = own + (layer.backward.start if b.packed else context.plan.panels.start)
    return b


cdef void pack_backward(const context_t *context, const floating *params, bint input_gradient) noexcept nogil:
    """Pack this thread's share of every layer's W that is packed once for a call.

    That of the first layer only if it has an ``input_gradient``.
    """
    cdef const layer_t *layer
    cdef operand_t b
    cdef share_t share
    cdef Py_ssize_t l, n = context.plan.n_layers
    for l in range(0 if input_gradient else 1, n if context.pack_whole else 0):
        layer = &context.plan.layers[l]
        share = product_share(context, 1, layer.n_in, False, params)
        b = backward_operand(context, layer, &share, params)
        if b.packed:
            pack(&b.B, <const floating *>NULL, <floating *>b.panels, context.interrupt)


cdef void backward_tile(const context_t *context, const floating *params, const batch_t *tile, floating *sums,
                        bint overwrite, floating *input_gradient) noexcept nogil:
    """From delta(L), in the workspace like everything of a tile, add the gradients of its rows to ``sums``.

    ``overwrite``: replace what is in ``sums``. ``input_gradient``, if not NULL, gets ``delta(2) W(1)``: the inputs have
    no delta otherwise. Returns early if the call is interrupted; else all threads have met at the end.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer
    cdef const layer_t *below
    cdef floating *work = workspace_of(context, params)
    cdef floating *delta = work + plan.delta.start
    cdef floating *scratch = work + plan.scratch.start
    cdef const floating *a
    cdef Py_ssize_t l, stride
    cdef share_t share
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        if should_stop(context.interrupt, layer.n_in * layer.n_out):
            return
        if l > 0:
            below = &plan.layers[l - 1]
            a, stride = work + below.a.start, below.stride
        else:
            a, stride = <const floating *>tile.X, tile.x_stride
        backward_weights(context, layer, matrix(<const floating *>delta, tile.rows, layer.stride),
                         matrix(a, tile.rows, stride), sums, overwrite)
        share = product_share(context, tile.rows, layer.n_in, False, params)
        if l > 0:
            backward_input(context, params, layer, &share, delta, scratch, stride)
            activation_share_backward(below, &share, a, work + below.derivative.start, scratch)
        elif input_gradient != NULL:
            backward_input(context, params, layer, &share, delta, scratch, plan.input_stride)
            copy_rows(<const floating *>scratch + share.row * plan.input_stride + share.column, plan.input_stride,
                      input_gradient + share.row * layer.n_in + share.column, layer.n_in, share.rows, share.columns)
        if not meet(context):
            return
        delta, scratch = scratch, delta


cdef inline void backward_weights(const context_t *context, const layer_t *layer, const floating[:, ::1] delta,
                                  const floating[:, ::1] A, floating *sums, bint overwrite) noexcept nogil:
    """This thread's share of the sums of a layer: ``Delta += delta^T A`` for weights, ``delta^T 1`` for the bias."""
    cdef floating *own = own_workspace(context, sums)
    cdef share_t share = weights_share(context, layer, sums)
    cdef room_t room
    cdef share_t bias = bias_share(context, layer, sums)
    room.panels, room.columns = own + context.plan.panels.start, own + context.plan.columns.start
    linear_backward_bias(delta, bias_of(layer, <const floating *>sums), bias.column, bias.columns, overwrite)
    if context.small_batch:
        linear_backward_weights_unpacked(delta, A, weights_of(layer, <const floating *>sums), overwrite)
    elif share.rows > 0 and share.columns > 0:
        linear_backward_weights(delta, A, weights_of(layer, <const floating *>sums), &share,
                                &room, overwrite, context.interrupt)


cdef inline void backward_input(const context_t *context, const floating *params, const layer_t *layer,
                                const share_t *share, const floating *delta, floating *D,
                                Py_ssize_t stride) noexcept nogil:
    """A share of the gradient of a layer's inputs: ``D = delta W``; ``stride``: from one row of D to the next."""
    cdef operand_t b
    if context.small_batch:
        linear_backward_input_unpacked(matrix(delta, share.rows, layer.stride), weights_of(layer, params),
                                       matrix(<const floating *>D, share.rows, stride))
    elif share.rows > 0 and share.columns > 0:
        b = backward_operand(context, layer, share, params)
        linear_backward_input(matrix(delta + share.row * layer.stride, share.rows, layer.stride), layer.n_out, &b,
                              matrix(<const floating *>D + share.row * stride, share.rows, stride), share.column,
                              share.columns, context.interrupt)


cdef void activation_share_backward(const layer_t *layer, const share_t *share, const floating *a,
                                    const floating *kept, floating *d) noexcept nogil:
    """`activation_backward` for a share of a tile's deltas; no softmax, which is in output layers only."""
    cdef layer_t part
    cdef Py_ssize_t i, first
    if share.columns == layer.n_out:
        first = share.row * layer.stride
        activation_backward(layer, a + first, kept + first, share.rows, d + first)
        return
    part = columns_of(layer, round_up(share.columns, lanes(a)))
    for i in range(share.row, share.row + share.rows):
        first = i * layer.stride + share.column
        activation_backward(&part, a + first, kept + first, 1, d + first)


cdef void output_delta(const context_t *context, const floating *output_gradient, Py_ssize_t rows) noexcept nogil:
    """delta(L) of a tile, in the workspace, from dLoss/da(L) as the caller gave it."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, output_gradient)
    copy_rows(output_gradient, plan.n_outputs, work + plan.delta.start, last.stride, rows, plan.n_outputs)
    output_backward(last, <const floating *>work + last.a.start, work + last.derivative.start, rows,
                    work + plan.delta.start)


cdef void backward_rows(context_t *context, const floating *params, const batch_t *batch,
                        const floating *output_gradient, floating *sums, floating *input_gradient) noexcept nogil:
    """Forward and back, tile by tile: add the gradients of all rows to ``sums``."""
    cdef const plan_t *plan = context.plan
    cdef Py_ssize_t size = tile_rows(plan, batch.rows), first = 0
    cdef batch_t tile
    context.small_batch = batch.rows < PACK_MIN_ROWS
    if not context.small_batch:
        pack_forward(context, params, False)
        pack_backward(context, params, input_gradient != NULL)
    while first < batch.rows:
        tile = tile_of(context, batch, first, min(size, batch.rows - first), params)
        forward_tile(context, params, &tile, False, True)
        output_delta(context, output_gradient + first * plan.n_outputs, tile.rows)
        backward_tile(context, params, &tile, sums, False,
                      input_gradient + first * plan.n_inputs if input_gradient != NULL else NULL)
        check_guards(plan, workspace_of(context, params))
        first += size


# ------------------------------------------------------------------------------------ a forward pass that is kept

cdef struct kept_t:
    # The arrays of a trace, one pointer for each layer with weights: activations, and NULL or what `pointwise` keeps.
    void **a
    void **derivatives

cdef struct backward_t:
    # What a backward pass takes and fills.
    const void *output_gradient
    void *sums
    void *input_gradient            # or NULL


cdef void copy_kept(const context_t *context, const kept_t *kept, Py_ssize_t first, Py_ssize_t rows, bint load,
                    const floating *tag) noexcept nogil:
    """Copy a tile's rows from a trace to the workspace if ``load``, else from the workspace to the trace."""
    cdef const layer_t *layer
    cdef floating *work = workspace_of(context, tag)
    cdef floating *a
    cdef floating *d
    cdef Py_ssize_t l
    for l in range(context.plan.n_layers):
        layer = &context.plan.layers[l]
        a = <floating *>kept.a[l] + first * layer.n_out
        d = <floating *>kept.derivatives[l] + (first * layer.n_out if layer.keeps_derivative else 0)
        if load:
            copy_rows(<const floating *>a, layer.n_out, work + layer.a.start, layer.stride, rows, layer.n_out)
        else:
            copy_rows(<const floating *>work + layer.a.start, layer.stride, a, layer.n_out, rows, layer.n_out)
        if layer.keeps_derivative and load:
            copy_rows(<const floating *>d, layer.n_out, work + layer.derivative.start, layer.stride, rows, layer.n_out)
        elif layer.keeps_derivative:
            copy_rows(<const floating *>work + layer.derivative.start, layer.stride, d, layer.n_out, rows, layer.n_out)


cdef void trace_rows(context_t *context, const floating *params, const batch_t *batch, const kept_t *kept,
                     const backward_t *back) noexcept nogil:
    """Tile by tile, a forward pass whose activations are kept, or, if ``back`` is not NULL, one back from these."""
    cdef const plan_t *plan = context.plan
    cdef Py_ssize_t size = tile_rows(plan, batch.rows), first = -size
    cdef floating *dX
    cdef batch_t tile
    context.small_batch = batch.rows < PACK_MIN_ROWS
    if back == NULL and not context.small_batch:
        pack_forward(context, params, False)
    elif not context.small_batch:
        pack_backward(context, params, back.input_gradient != NULL)
    while first + size < batch.rows:
        first += size
        tile = batch_slice(plan, batch, first, min(size, batch.rows - first), params)
        if back == NULL:
            tile = tile_of(context, batch, first, tile.rows, params)
            forward_tile(context, params, &tile, False, True)
        else:
            copy_kept(context, kept, first, tile.rows, True, params)
            output_delta(context, <const floating *>back.output_gradient + first * plan.n_outputs, tile.rows)
            dX = <floating *>back.input_gradient
            backward_tile(context, params, &tile, <floating *>back.sums, first == 0,
                          dX + first * plan.n_inputs if dX != NULL else NULL)
        check_guards(plan, workspace_of(context, params))
        if should_stop(context.interrupt, 0):
            return
        if back == NULL:
            copy_kept(context, kept, first, tile.rows, False, params)
