# Several heads: blocks of outputs, each with an activation and a loss of its own. Their layer is one like all others:
# its products, and what is below it, know nothing of them.
#
# The loops over activations and losses take whole layers. So a head's columns of a few rows are copied to a place of
# their own, in each thread's workspace, and what they become is copied back.

cdef enum HeadBlock:
    # Places for LOSS_ROWS rows of a head. What is written lies before what is read meanwhile, and a few cache lines off
    # a multiple of 4096 bytes: a load waits for a store before it that has the same last 12 bits of its address.
    DELTAS_OF_HEAD
    KEPT_OF_HEAD
    ACTIVATIONS_OF_HEAD
    TARGETS_OF_HEAD
    WEIGHTS_OF_HEAD
    HEAD_BLOCKS


cdef inline floating *head_block(const context_t *context, HeadBlock which, const floating *tag) noexcept nogil:
    return (own_workspace(context, tag) + context.plan.heads_block.start
            + <int>which * (context.plan.heads_block.size // HEAD_BLOCKS))


cdef inline floating *gather_head(const context_t *context, const head_t *head, HeadBlock which, const floating *rows,
                                  Py_ssize_t count) noexcept nogil:
    """Copy a head's columns of some rows of the output layer, which may be NULL, to such a place; 0 behind them."""
    cdef floating *block = head_block(context, which, rows)
    cdef const layer_t *last = &context.plan.layers[context.plan.n_layers - 1]
    memset(block, 0, count * head.layer.stride * sizeof(floating))
    if rows != NULL:
        copy_rows(rows + head.first, last.stride, block, head.layer.stride, count, head.layer.n_out)
    return block


cdef inline void scatter_head(const context_t *context, const head_t *head, const floating *block, floating *rows,
                              Py_ssize_t count) noexcept nogil:
    """Copy them back."""
    cdef const layer_t *last = &context.plan.layers[context.plan.n_layers - 1]
    copy_rows(block, head.layer.stride, rows + head.first, last.stride, count, head.layer.n_out)


cdef void activate_outputs(const context_t *context, const layer_t *layer, floating *a, Py_ssize_t rows,
                           floating *kept) noexcept nogil:
    """`activate` for rows of any layer, one with heads included."""
    cdef const head_t *head
    cdef floating *of_head
    cdef floating *kept_of_head
    cdef Py_ssize_t h, first = 0, count
    if <int>layer.activation != HEADS:
        activate(layer, a, rows, kept)
        return
    while first < rows:
        count = min(rows - first, <Py_ssize_t>LOSS_ROWS)
        for h in range(context.plan.n_heads):
            head = &context.plan.heads[h]
            of_head = gather_head(context, head, ACTIVATIONS_OF_HEAD, <const floating *>a + first * layer.stride, count)
            kept_of_head = head_block(context, KEPT_OF_HEAD, <const floating *>a)
            if not head.layer.keeps_derivative or kept == NULL:
                kept_of_head = NULL
            activate(&head.layer, of_head, count, kept_of_head)
            scatter_head(context, head, <const floating *>of_head, a + first * layer.stride, count)
            if kept_of_head != NULL:
                scatter_head(context, head, <const floating *>kept_of_head, kept + first * layer.stride, count)
        first += count


cdef void outputs_backward(const context_t *context, const floating *a, floating *kept, Py_ssize_t rows,
                           bint of_caller, floating *d) noexcept nogil:
    """From dLoss/da(L) to dLoss/dz(L), in place, for rows of the output layer.

    ``of_caller``: the former was computed by the caller, from the outputs; see `output_backward`.
    """
    cdef const layer_t *last = &context.plan.layers[context.plan.n_layers - 1]
    cdef const head_t *head
    cdef const floating *a_of_head
    cdef floating *kept_of_head
    cdef floating *d_of_head
    cdef Py_ssize_t h, first = 0, count, offset
    if context.plan.n_heads == 0:
        head_backward(last, a, kept, rows, of_caller, d)
        return
    while first < rows:
        count = min(rows - first, <Py_ssize_t>LOSS_ROWS)
        offset = first * last.stride
        for h in range(context.plan.n_heads):
            head = &context.plan.heads[h]
            a_of_head = gather_head(context, head, ACTIVATIONS_OF_HEAD, a + offset, count)
            d_of_head = gather_head(context, head, DELTAS_OF_HEAD, <const floating *>d + offset, count)
            kept_of_head = NULL
            if head.layer.keeps_derivative:
                kept_of_head = gather_head(context, head, KEPT_OF_HEAD, <const floating *>kept + offset, count)
            head_backward(&head.layer, a_of_head, kept_of_head, count, of_caller, d_of_head)
            scatter_head(context, head, <const floating *>d_of_head, d + offset, count)
        first += count


cdef inline void head_backward(const layer_t *layer, const floating *a, floating *kept, Py_ssize_t rows,
                               bint of_caller, floating *d) noexcept nogil:
    if of_caller:
        output_backward(layer, a, kept, rows, d)
    else:
        activation_backward(layer, a, <const floating *>kept, rows, d)


cdef batch_t targets_of_head(const context_t *context, const head_t *head, const batch_t *part, Py_ssize_t rows,
                             const floating *tag) noexcept nogil:
    """Some rows with a head's own targets, and weights of its outputs, side by side in memory."""
    cdef Py_ssize_t i, n = head.n_targets, stride = context.plan.n_targets
    cdef floating *targets = head_block(context, TARGETS_OF_HEAD, tag)
    cdef floating *weights = head_block(context, WEIGHTS_OF_HEAD, tag)
    cdef batch_t own = part[0]
    own.rows = rows
    copy_rows(<const floating *>part.targets + head.first_target, stride, targets, n, rows, n)
    own.targets = targets
    if part.output_weight != NULL:
        copy_rows(<const floating *>part.output_weight + head.first_target, stride, weights, n, rows, n)
        own.output_weight = weights
    if head.loss == CROSS_ENTROPY and (head.parameter != 0 or part.output_weight != NULL):
        for i in range(rows):
            class_targets(head, &own, i, targets + i * n)
    return own


cdef double losses_of_heads(const context_t *context, const batch_t *part, const floating *z, Py_ssize_t rows,
                            bint gradient, floating *delta) noexcept nogil:
    """The weighted losses of at most LOSS_ROWS rows, summed, from their logits; with a ``gradient`` their dLoss/dz(L).

    Each head activates its outputs for itself, where its loss is not computed from the logits.
    """
    cdef const layer_t *last = &context.plan.layers[context.plan.n_layers - 1]
    cdef const head_t *head
    cdef floating *a
    cdef floating *kept
    cdef floating *d
    cdef floating weight
    cdef double loss, total = 0
    cdef Py_ssize_t h, i
    cdef batch_t own
    if gradient:
        memset(delta, 0, rows * last.stride * sizeof(floating))
    for h in range(context.plan.n_heads):
        head = &context.plan.heads[h]
        own = targets_of_head(context, head, part, rows, z)
        a, d = gather_head(context, head, ACTIVATIONS_OF_HEAD, z, rows), head_block(context, DELTAS_OF_HEAD, z)
        kept = head_block(context, KEPT_OF_HEAD, z) if gradient and head.layer.keeps_derivative else NULL
        if head.canonical == IDENTITY:
            activate(&head.layer, a, rows, kept)
        loss = loss_and_delta(head, matrix(<const floating *>a, rows, head.layer.stride), &own,
                              matrix(<const floating *>d, rows, head.layer.stride))
        total += head.weight * loss
        if not gradient:
            continue
        if head.layer.activation != head.canonical:
            activation_backward(&head.layer, <const floating *>a, <const floating *>kept, rows, d)
        if head.weight != 1:
            weight = <floating>head.weight
            for i in range(rows * head.layer.stride):
                d[i] *= weight
        scatter_head(context, head, <const floating *>d, delta, rows)
    return total
