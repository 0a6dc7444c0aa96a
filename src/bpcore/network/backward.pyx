# Backpropagation: delta(l) = (delta(l+1) W(l)) * g'(z(l)), and the sums Delta(l) += delta(l+1)^T a(l) on the way.

cdef inline operand_t backward_operand(const context_t *context, const layer_t *layer, const share_t *share,
                                       const floating *params) noexcept nogil:
    """A share's columns of a layer's W."""
    cdef operand_t b
    cdef floating *own = own_workspace(context, params)
    b.B = strided(params + layer.weights + share.column, layer.n_out, share.columns, layer.n_in, 1)
    b.init, b.packed, b.add = NULL, context.pack_whole and layer.pack_whole, False
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
                        bint overwrite) noexcept nogil:
    """From delta(L), in the workspace like everything of a tile, add the gradients of its rows to ``sums``.

    ``overwrite``: replace what is in ``sums``. The tile's input gradient, if it has a place for one, is
    ``delta(2) W(1)``: the inputs have no delta otherwise. Returns early if the call is interrupted; else all threads
    have met at the end.
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
        elif tile.input_gradient != NULL:
            backward_input(context, params, layer, &share, delta, scratch, plan.input_stride)
            copy_rows(<const floating *>scratch + share.row * plan.input_stride + share.column, plan.input_stride,
                      <floating *>tile.input_gradient + share.row * layer.n_in + share.column, layer.n_in, share.rows,
                      share.columns)
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
    room.at_a_time = context.plan.mc
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


cdef void output_delta(const context_t *context, const batch_t *tile, const floating *tag) noexcept nogil:
    """delta(L) of a tile, in the workspace, from dLoss/da(L) or dLoss/dz(L) as the caller gave it."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, tag)
    cdef share_t share = product_share(context, tile.rows, last.n_out, True, tag)
    cdef Py_ssize_t first = share.row * last.stride
    cdef floating *delta = work + plan.delta.start + first
    copy_rows(<const floating *>tile.output_gradient + share.row * last.n_out, last.n_out, delta, last.stride,
              share.rows, last.n_out)
    if not tile.of_logits:
        outputs_backward(context, <const floating *>work + last.a.start + first, work + last.derivative.start + first,
                         share.rows, True, delta)
    meet(context)
