# Forward propagation: a(1) = x, z(l+1) = W(l) a(l) + b(l), a(l+1) = g(z(l+1)).

cdef inline operand_t forward_operand(const context_t *context, const layer_t *layer,
                                      const floating *params) noexcept nogil:
    """A layer's ``W^T``, with its bias as init, for the outputs that are not computed by dot products."""
    cdef operand_t b
    cdef floating *work = workspace_of(context, params)
    b.B = strided(params + layer.weights, layer.n_in, layer.n_out - layer.dot_outputs, 1, layer.n_in)
    b.init, b.packed = params + layer.bias, context.pack_whole and layer.pack_whole
    b.panels = work + (layer.forward.start if b.packed else context.plan.panels.start)
    return b


cdef void pack_forward(const context_t *context, const floating *params) noexcept nogil:
    """Pack every layer's ``W^T`` that is packed once for all tiles of a call."""
    cdef operand_t b
    cdef Py_ssize_t l
    for l in range(context.plan.n_layers):
        b = forward_operand(context, &context.plan.layers[l], params)
        if b.packed:
            pack(&b.B, <const floating *>b.init, <floating *>b.panels, context.interrupt)


cdef inline batch_t tile_of(const context_t *context, const batch_t *batch, Py_ssize_t first, Py_ssize_t rows,
                            const floating *tag) noexcept nogil:
    """So many rows of a batch, from row ``first`` on; X is copied where its rows alias in the cache."""
    cdef const plan_t *plan = context.plan
    cdef floating *inputs = workspace_of(context, tag) + plan.inputs.start
    cdef batch_t tile = batch_slice(plan, batch, first, rows, tag)
    if plan.aliases and not context.small_batch:
        copy_rows(<const floating *>tile.X, tile.x_stride, inputs, plan.input_stride, rows, plan.n_inputs)
        tile.X, tile.x_stride = inputs, plan.input_stride
    return tile


cdef void forward_tile(const context_t *context, const floating *params, const batch_t *tile, bint keep_logits,
                       bint derivatives) noexcept nogil:
    """Fill the workspace with the activations of every layer, for at most a tile of rows.

    ``keep_logits``: the output layer's are z(L), not a(L). ``derivatives``: what `pointwise` keeps is kept. The
    parameters are packed unless the batch is small. It returns before its end if the call is interrupted.
    """
    cdef Py_ssize_t l, stride = tile.x_stride
    cdef const layer_t *layer
    cdef floating *work = workspace_of(context, params)
    cdef const floating *inputs = <const floating *>tile.X
    cdef floating[:, ::1] A, Z
    cdef operand_t b
    for l in range(context.plan.n_layers):
        layer = &context.plan.layers[l]
        A, Z = matrix(inputs, tile.rows, stride), matrix(work + layer.a.start, tile.rows, layer.stride)
        if should_stop(context.interrupt, layer.n_in * layer.n_out):
            return
        if context.small_batch:
            linear_forward_unpacked(A, weights_of(layer, params), bias_of(layer, params), Z)
        else:
            b = forward_operand(context, layer, params)
            linear_forward(A, layer.n_in, &b, Z, layer.n_out - layer.dot_outputs, context.interrupt)
            if layer.dot_outputs > 0:
                linear_forward_last(A, weights_of(layer, params), bias_of(layer, params), Z,
                                    layer.n_out - layer.dot_outputs)
        if keep_logits and l == context.plan.n_layers - 1:
            return
        activate(layer, work + layer.a.start, tile.rows,
                 work + layer.derivative.start if derivatives and layer.keeps_derivative else NULL)
        inputs, stride = work + layer.a.start, layer.stride


cdef void forward_rows(context_t *context, const floating *params, const batch_t *batch,
                       floating *out) noexcept nogil:
    """Tile by tile, the activations of the output layer."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, params)
    cdef Py_ssize_t size = tile_rows(plan, batch.rows), first = -size
    cdef batch_t tile
    context.small_batch = batch.rows < PACK_MIN_ROWS
    if not context.small_batch:
        pack_forward(context, params)
    while first + size < batch.rows:
        first += size
        tile = tile_of(context, batch, first, min(size, batch.rows - first), params)
        forward_tile(context, params, &tile, False, False)
        check_guards(plan, work)
        if should_stop(context.interrupt, 0):
            return
        copy_rows(<const floating *>work + last.a.start, last.stride, out + first * last.n_out, last.n_out, tile.rows,
                  last.n_out)


cdef inline void copy_rows(const floating *src, Py_ssize_t rs_src, floating *dst, Py_ssize_t rs_dst, Py_ssize_t rows,
                           Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        memcpy(dst + i * rs_dst, src + i * rs_src, columns * sizeof(floating))
