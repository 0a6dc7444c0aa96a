# Forward propagation: a(1) = x, z(l+1) = W(l) a(l) + b(l), a(l+1) = g(z(l+1)).

cdef inline operand_t forward_operand(const context_t *context, const layer_t *layer, const share_t *share,
                                      const floating *params) noexcept nogil:
    """A share's columns of a layer's ``W^T``, with its bias as init, but for outputs computed by dot products."""
    cdef operand_t b
    cdef floating *own = own_workspace(context, params)
    cdef Py_ssize_t columns = min(share.columns, layer.n_out - layer.dot_outputs - share.column)
    b.B = strided(params + layer.weights + share.column * layer.n_in, layer.n_in, columns, 1, layer.n_in)
    b.init, b.packed = params + layer.bias + share.column, context.pack_whole and layer.pack_whole
    b.add = False
    b.panels = own + (layer.forward.start if b.packed else context.plan.panels.start)
    return b


cdef inline bint joins_outputs(const layer_t *layer) noexcept nogil:
    """Whether whole rows are needed: by the softmax, and by heads."""
    return layer.activation == SOFTMAX or <int>layer.activation == HEADS


cdef inline share_t activations_share(const context_t *context, const layer_t *layer, Py_ssize_t rows,
                                      bint keep_logits, const floating *tag) noexcept nogil:
    """Of a tile's activations of a layer."""
    return product_share(context, rows, layer.n_out, joins_outputs(layer) and not keep_logits, tag)


cdef void pack_forward(const context_t *context, const floating *params, bint keep_logits) noexcept nogil:
    """Pack this thread's share of every layer's ``W^T`` that is packed once for all tiles of a call."""
    cdef const layer_t *layer
    cdef operand_t b
    cdef share_t share
    cdef Py_ssize_t l, n = context.plan.n_layers
    for l in range(n if context.pack_whole else 0):
        layer = &context.plan.layers[l]
        share = activations_share(context, layer, 1, keep_logits and l == n - 1, params)
        b = forward_operand(context, layer, &share, params)
        if b.packed:
            pack(&b.B, <const floating *>b.init, <floating *>b.panels, context.interrupt)


cdef inline batch_t tile_of(const context_t *context, const batch_t *batch, Py_ssize_t first, Py_ssize_t rows,
                            const floating *tag) noexcept nogil:
    """So many rows of a batch, from row ``first`` on; X is copied where its rows alias in the cache."""
    cdef const plan_t *plan = context.plan
    cdef floating *inputs = workspace_of(context, tag) + plan.inputs.start
    cdef batch_t tile = batch_slice(plan, batch, first, rows, tag)
    cdef share_t share
    if plan.aliases and not context.small_batch:
        share = product_share(context, rows, 1, True, tag)
        copy_rows(<const floating *>tile.X + share.row * tile.x_stride, tile.x_stride,
                  inputs + share.row * plan.input_stride, plan.input_stride, share.rows, plan.n_inputs)
        tile.X, tile.x_stride = inputs, plan.input_stride
        meet(context)
    return tile


cdef inline layer_t columns_of(const layer_t *layer, Py_ssize_t columns) noexcept nogil:
    """A layer as the loops over activations see some columns of one row."""
    cdef layer_t part = layer[0]
    part.n_out = part.stride = columns
    return part


cdef void activate_share(const context_t *context, const layer_t *layer, const share_t *share, floating *a,
                         floating *kept) noexcept nogil:
    """`activate` for a share of a tile's activations."""
    cdef layer_t part
    cdef Py_ssize_t i, first
    if share.columns == layer.n_out:
        first = share.row * layer.stride
        activate_outputs(context, layer, a + first, share.rows, kept + first if kept != NULL else NULL)
        return
    part = columns_of(layer, round_up(share.columns, lanes(a)))
    for i in range(share.row, share.row + share.rows):
        first = i * layer.stride + share.column
        activate(&part, a + first, 1, kept + first if kept != NULL else NULL)


cdef void forward_share(const context_t *context, const floating *params, const layer_t *layer, const share_t *share,
                        const floating[:, ::1] A, floating *Z, bint add) noexcept nogil:
    """A share of a tile's ``Z = A W^T + b`` of a layer, or ``Z += A W^T`` if ``add``; a small batch is not shared."""
    cdef operand_t b
    cdef Py_ssize_t first_dot = max(layer.n_out - layer.dot_outputs, share.column)
    cdef floating[:, ::1] inputs, rows
    if share.rows == 0 or share.columns == 0:
        return
    inputs = matrix(&A[share.row, 0], share.rows, A.shape[1])
    rows = matrix(<const floating *>Z + share.row * layer.stride, share.rows, layer.stride)
    if context.small_batch:
        linear_forward_unpacked(inputs, weights_of(layer, params), bias_of(layer, params), rows, add)
        return
    b = forward_operand(context, layer, share, params)
    b.add = add
    if b.B.columns > 0:
        linear_forward(inputs, layer.n_in, &b, rows, share.column, b.B.columns, context.interrupt)
    if first_dot < share.column + share.columns:
        linear_forward_last(inputs, weights_of(layer, params), bias_of(layer, params), rows, first_dot, add)


cdef void forward_tile(const context_t *context, const floating *params, const batch_t *tile, bint keep_logits,
                       bint derivatives) noexcept nogil:
    """Fill the workspace with the activations of every layer, for at most a tile of rows.

    ``keep_logits``: the output layer's are z(L), not a(L). ``derivatives``: what `pointwise` keeps is kept. The
    parameters are packed unless the batch is small. It returns before its end if the call is interrupted; else all
    threads have met.
    """
    cdef Py_ssize_t l, stride = tile.x_stride
    cdef const layer_t *layer
    cdef floating *work = workspace_of(context, params)
    cdef const floating *inputs = <const floating *>tile.X
    cdef bint logits
    cdef share_t share
    for l in range(context.plan.n_layers):
        layer = &context.plan.layers[l]
        logits = keep_logits and l == context.plan.n_layers - 1
        if should_stop(context.interrupt, layer.n_in * layer.n_out):
            return
        share = activations_share(context, layer, tile.rows, logits, params)
        forward_share(context, params, layer, &share, matrix(inputs, tile.rows, stride), work + layer.a.start, False)
        if not logits:
            activate_share(context, layer, &share, work + layer.a.start,
                           work + layer.derivative.start if derivatives and layer.keeps_derivative else NULL)
        if not meet(context):
            return
        inputs, stride = work + layer.a.start, layer.stride


cdef void copy_kept(const context_t *context, const batch_t *tile, const share_t *share, bint load,
                    const floating *tag) noexcept nogil:
    """Copy some rows of a forward pass that is kept to the workspace if ``load``, else from there."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer
    cdef floating *work = workspace_of(context, tag)
    cdef Py_ssize_t l, first = tile.first + share.row
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        copy_layer(layer, <floating *>tile.kept.a[l], first, work + layer.a.start, share, load)
        if layer.keeps_derivative:
            copy_layer(layer, <floating *>tile.kept.derivatives[l], first, work + layer.derivative.start, share, load)


cdef void copy_layer(const layer_t *layer, floating *kept, Py_ssize_t first, floating *work, const share_t *share,
                     bint load) noexcept nogil:
    kept, work = kept + first * layer.n_out, work + share.row * layer.stride
    if load:
        copy_rows(<const floating *>kept, layer.n_out, work, layer.stride, share.rows, layer.n_out)
    else:
        copy_rows(<const floating *>work, layer.stride, kept, layer.n_out, share.rows, layer.n_out)


cdef void keep_tile(const context_t *context, const batch_t *tile, const share_t *share,
                    const floating *tag) noexcept nogil:
    """Keep some rows of a tile whose forward pass ended with z(L)."""
    cdef const layer_t *last = &context.plan.layers[context.plan.n_layers - 1]
    cdef floating *work = workspace_of(context, tag)
    if tile.kept.logits != NULL:
        copy_layer(last, <floating *>tile.kept.logits, tile.first + share.row, work + last.a.start, share, False)
    activate_share(context, last, share, work + last.a.start,
                   work + last.derivative.start if last.keeps_derivative else NULL)
    copy_kept(context, tile, share, False, tag)


cdef void forward_together(const context_t *context, const floating *params, const batch_t *batch, const tile_t *where,
                           floating *out) noexcept nogil:
    """A tile's activations of the output layer, or of all layers if they are kept, by all threads of the context."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, params)
    cdef batch_t tile = tile_of(context, batch, where.first, where.rows, params)
    cdef bint keep = batch.kept != NULL
    cdef share_t share
    forward_tile(context, params, &tile, keep, keep)
    if should_stop(context.interrupt, 0):
        return
    share = product_share(context, where.rows, last.n_out, True, params)
    if keep:
        keep_tile(context, &tile, &share, params)
    else:
        copy_rows(<const floating *>work + last.a.start + share.row * last.stride, last.stride,
                  out + (where.first + share.row) * last.n_out, last.n_out, share.rows, last.n_out)
    if meet(context) and context.rank == 0:
        check_guards(plan, work)


cdef void forward_rows(context_t *context, const floating *params, const batch_t *batch,
                       floating *out) noexcept nogil:
    """Tile by tile, the activations of the output layer; if the batch has a place for it, all of the pass is kept.

    Where there are tiles enough for all threads, each takes the next one and computes it by itself. All compute the
    last ones together, so that none waits.
    """
    cdef const plan_t *plan = context.plan
    cdef chunk_range_t rows
    cdef cursor_t cursor
    cdef tile_t tile
    cdef context_t own = alone(context)
    cdef Py_ssize_t apart = 0, taken = 0, piece
    rows.total_rows, rows.n_chunks, rows.begin, rows.end = batch.rows, 1, 0, 1
    cursor = new_cursor(&rows)
    context.small_batch = own.small_batch = batch.rows < PACK_MIN_ROWS
    if context.size > 1:
        apart = count_tiles(plan, &cursor)
        apart -= apart % context.size
    if apart > 0:
        own.pack_whole = batch.rows > context.size * plan.tile
        pack_forward(&own, params, batch.kept != NULL)
        piece = take_piece(&context.shared.team)
        while taken < apart and next_tile(plan, &cursor, &tile):
            if taken == piece and not should_stop(context.interrupt, 0):
                forward_together(&own, params, batch, &tile, out)
                piece = take_piece(&context.shared.team)
            taken += 1
        context.pack_whole = False  # for the few tiles that are left
        if not meet(context):  # they are computed where the first thread's own tile is
            return
    elif not context.small_batch:
        pack_forward(context, params, batch.kept != NULL)
    while not should_stop(context.interrupt, 0) and next_tile(plan, &cursor, &tile):
        forward_together(context, params, batch, &tile, out)
