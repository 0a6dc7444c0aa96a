# Accumulation: the sums over rows of losses and gradients, and the cost and gradient made of them.

ctypedef fused sum_t:
    float
    double

cdef struct sums_t:
    # Where gradients are added up.
    void *sums                      # of a group, in the network's dtype; NULL: the losses alone
    double *total                   # of all groups, or NULL if there is one group
    bint keep                       # add to what is in ``sums``, instead of replacing it
    double weight                   # of all rows: ``sums`` become the gradient of the cost in the end; 0: they stay
    double l2                       # lambda of that cost

cdef enum:
    # Sums of at most so many bytes are added when it is a thread's turn, tile by tile; larger ones less often.
    MAX_OWN_SUMS = 3145728
    # Multiplications of a forward pass from which on it pays to share a tile.
    MIN_SHARED_WORK = 200000
    # Numbers of several threads' sums that are added at a time, so that their total stays in the first-level cache.
    SUMS_AT_A_TIME = 1024
    # Groups or chunks for each thread from which on it computes whole ones.
    MIN_LARGE_PIECES = 2

cdef struct pieces_t:
    # What threads compute each by itself: large pieces, then tiles, so that none waits long in the end.
    Py_ssize_t count
    Py_ssize_t large                # the first ones
    Unit unit                       # of those


cdef inline sums_t sums_in(void *sums, double *total, bint keep) noexcept nogil:
    """Sums that stay sums."""
    cdef sums_t to
    to.sums, to.total, to.keep, to.weight, to.l2 = sums, total, keep, 0, 0
    return to


cdef inline bint large_sums(const plan_t *plan, const floating *tag) noexcept nogil:
    return plan.n_parameters * <Py_ssize_t>sizeof(floating) > MAX_OWN_SUMS


cdef inline bint threads_have_sums(const plan_t *plan, Py_ssize_t n_chunks, int threads,
                                   const floating *tag) noexcept nogil:
    """Whether each thread has a place for sums of its own."""
    return not large_sums(plan, tag) or n_chunks >= 2 * MIN_LARGE_PIECES * threads * plan.group_size


cdef inline bint has_weight(const plan_t *plan, const batch_t *batch, Py_ssize_t i, const floating *tag) noexcept nogil:
    """Whether a row has a weight other than 0: that of its label, or any of those of its outputs."""
    cdef const floating *weights = <const floating *>batch.output_weight
    cdef Py_ssize_t j
    if batch.output_weight == NULL:
        return batch.sample_weight == NULL or (<const floating *>batch.sample_weight)[i] != 0
    if batch.labels != NULL and plan.head.parameter == 0 and 0 <= batch.labels[i] < plan.n_outputs:
        return weights[i * plan.n_outputs + batch.labels[i]] != 0
    for j in range(i * plan.n_targets, (i + 1) * plan.n_targets):
        if weights[j] != 0:
            return True
    return False


cdef enum:
    WEIGHTS_SUMMED_AT_ONCE = 65536  # about so many, whole rows; as in _validation.py


cdef double sum_numbers(const floating *x, Py_ssize_t n) noexcept nogil:
    """In float64; in eight sums, which are a vector or two of them."""
    cdef Py_ssize_t i = 0, k
    cdef double part[8]
    cdef double total = 0
    memset(part, 0, sizeof(part))
    while i + 8 <= n:
        for k in range(8):
            part[k] += <double>x[i + k]
        i += 8
    while i < n:
        total += <double>x[i]
        i += 1
    return total + (((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7])))


cdef bint weights_valid(const plan_t *plan, const batch_t *batch, bint negative, const floating *tag) noexcept nogil:
    """Whether weights are finite, not below 0 unless they may be ``negative``, and the largest has all its digits."""
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef Py_ssize_t i, n = batch.rows
    cdef floating w, largest = 0
    cdef bint valid = True
    if batch.output_weight != NULL:
        weights, n = <const floating *>batch.output_weight, batch.rows * plan.n_targets
    if weights == NULL:
        return True
    for i in range(n):
        w = abs_(weights[i])
        valid &= (w < <floating>INFINITY) & (negative | (weights[i] >= 0))
        largest = select(w > largest, w, largest)
    return valid and (largest == 0 or largest >= smallest_weight(tag))


cdef inline floating smallest_weight(const floating *tag) noexcept nogil:
    """Which has all its digits, if others are smaller: the smallest normal number by the spacing of those at 1."""
    if floating is float:
        return <floating>(FLT_MIN * 8388608.0)
    else:
        return <floating>(DBL_MIN * 4503599627370496.0)


cdef double sum_weights(const plan_t *plan, const batch_t *batch, const floating *tag) noexcept nogil:
    """What the sums are divided by: the weights, added up; of single outputs the mean over these; or the rows."""
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef Py_ssize_t i = 0, columns = 1, step, n
    cdef double total = 0
    if batch.output_weight != NULL:
        weights, columns = <const floating *>batch.output_weight, plan.n_targets
    if weights == NULL:
        return <double>batch.rows
    step = max(WEIGHTS_SUMMED_AT_ONCE // columns, <Py_ssize_t>1) * columns
    n = batch.rows * columns
    while i < n:
        total += sum_numbers(weights + i, min(step, n - i))
        i += step
    return total / columns


cdef Py_ssize_t count_weighted(const plan_t *plan, const batch_t *batch, const floating *tag) noexcept nogil:
    """How many of the rows have a weight other than 0."""
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef Py_ssize_t i, count = 0
    if batch.output_weight != NULL:
        for i in range(batch.rows):
            count += has_weight(plan, batch, i, tag)
        return count
    if weights == NULL:
        return batch.rows
    for i in range(batch.rows):
        count += weights[i] != 0
    return count


cdef void class_targets(const head_t *head, const batch_t *batch, Py_ssize_t i, floating *out) noexcept nogil:
    """A row's class probabilities as its cross-entropy takes them: smoothed, times the weights of the classes.

    0 under a weight 0, whatever the target is.
    """
    cdef const floating *y = <const floating *>batch.targets
    cdef const floating *weights = <const floating *>batch.output_weight
    cdef Py_ssize_t j, n = head.layer.n_out
    cdef floating smoothing = <floating>head.parameter, share = smoothing / <floating>n
    for j in range(n):
        out[j] = y[i * n + j] if y != NULL else <floating>(batch.labels[i] == j)
        out[j] = (<floating>1 - smoothing) * out[j] + share
        if weights != NULL:
            out[j] = select(weights[i * n + j] == 0, <floating>0, weights[i * n + j] * out[j])
    if y == NULL and not 0 <= batch.labels[i] < n:  # changed since it was checked
        out[0] = INFINITY - INFINITY


cdef void copy_weighted(const context_t *context, const batch_t *tile, const floating *tag) noexcept nogil:
    """Copy the rows of a weight other than 0 to the workspace."""
    cdef const plan_t *plan = context.plan
    cdef floating *work = workspace_of(context, tag)
    cdef floating *weights = work + plan.sample_weight.start
    cdef const floating *targets = <const floating *>tile.targets
    cdef const floating *of_outputs = <const floating *>tile.output_weight
    cdef int64_t *labels = <int64_t *>(work + plan.labels.start)
    cdef Py_ssize_t i, k = 0, n = plan.n_targets
    for i in range(tile.rows):
        if not has_weight(plan, tile, i, tag):
            continue
        memcpy(work + plan.inputs.start + k * plan.input_stride, <const floating *>tile.X + i * tile.x_stride,
               plan.n_inputs * sizeof(floating))
        if plan.loss == CROSS_ENTROPY and (plan.head.parameter != 0 or (of_outputs != NULL and targets != NULL)):
            class_targets(&plan.head, tile, i, work + plan.targets.start + k * n)
        elif targets == NULL:
            labels[k] = tile.labels[i]
        else:
            memcpy(work + plan.targets.start + k * n, targets + i * n, n * sizeof(floating))
        if tile.sample_weight != NULL:
            weights[k] = (<const floating *>tile.sample_weight)[i]
        elif of_outputs == NULL:
            weights[k] = 1
        elif targets == NULL:  # a label that was changed since it was checked is an error of the loss
            weights[k] = of_outputs[i * n + tile.labels[i]] if 0 <= tile.labels[i] < n else <floating>1
        else:
            memcpy(work + plan.output_weight.start + k * n, of_outputs + i * n, n * sizeof(floating))
        k += 1


cdef batch_t weighted_tile(const context_t *context, const batch_t *batch, const tile_t *where,
                           const floating *tag) noexcept nogil:
    """A tile without the rows of weight 0, which may be none.

    For a cross-entropy, weights of classes become weights of rows, or part of the targets, as smoothing does.
    """
    cdef const plan_t *plan = context.plan
    cdef floating *work = workspace_of(context, tag)
    cdef batch_t tile = batch_slice(plan, batch, where.first, where.rows, tag)
    cdef Py_ssize_t count = count_weighted(plan, &tile, tag)
    cdef bint learns = batch.targets != NULL or batch.labels != NULL
    cdef bint smoothed = learns and plan.loss == CROSS_ENTROPY and plan.head.parameter != 0
    cdef bint of_classes = smoothed or (tile.output_weight != NULL and plan.loss == CROSS_ENTROPY)
    if count == where.rows and not of_classes:
        return tile_of(context, batch, where.first, where.rows, tag)
    if count > 0:
        if context.rank == 0:
            copy_weighted(context, &tile, tag)
        meet(context)
    tile.X, tile.x_stride, tile.rows = work + plan.inputs.start, plan.input_stride, count
    if tile.sample_weight != NULL or (tile.output_weight != NULL and tile.targets == NULL and not smoothed):
        tile.sample_weight, tile.output_weight = work + plan.sample_weight.start, NULL
    elif of_classes:
        tile.output_weight = NULL
    elif tile.output_weight != NULL:
        tile.output_weight = work + plan.output_weight.start
    if tile.targets != NULL or smoothed:
        tile.targets, tile.labels = work + plan.targets.start, NULL
    else:
        tile.labels = <const int64_t *>(work + plan.labels.start)
    return tile


cdef double tile_losses(const context_t *context, const batch_t *tile, bint gradient,
                        const floating *tag) noexcept nogil:
    """The losses of a tile after its forward pass, summed, and delta(L) in the workspace if there is a ``gradient``.

    In each thread for its rows, a few at a time, whose losses are then added in order.
    """
    cdef const plan_t *plan = context.plan
    cdef const layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef floating *work = workspace_of(context, tag)
    cdef floating *delta
    cdef Py_ssize_t i, rows, first, n = (tile.rows + LOSS_ROWS - 1) // LOSS_ROWS
    cdef share_t share = row_share(n, 1, 1, context.size, context.rank)
    cdef double loss, total = 0
    cdef batch_t part
    for i in range(share.row, share.row + share.rows):
        first = i * LOSS_ROWS
        rows = min(tile.rows - first, <Py_ssize_t>LOSS_ROWS)
        part = batch_slice(plan, tile, first, tile.rows - first, tag)
        delta = work + plan.delta.start + first * last.stride
        first *= last.stride
        if plan.n_heads > 0:
            loss = losses_of_heads(context, &part, work + last.a.start + first, rows, gradient, delta)
        else:
            loss = loss_and_delta(&plan.head, matrix(<const floating *>work + last.a.start + first, rows, last.stride),
                                  &part, matrix(<const floating *>delta, rows, last.stride))
            if gradient and last.activation != plan.head.canonical:
                activation_backward(last, <const floating *>work + last.a.start + first,
                                    <const floating *>work + last.derivative.start + first, rows, delta)
        if context.size > 1:
            context.shared.parts[i] = loss
        total += loss
    if context.size > 1 and meet(context):
        total = 0
        for i in range(n):
            total += context.shared.parts[i]
    return total


cdef inline double output_losses(const context_t *context, const batch_t *tile, bint gradient,
                                 const floating *tag) noexcept nogil:
    """The losses of a tile, and delta(L); or delta(L) alone where its rows have their gradient from the caller."""
    if tile.output_gradient == NULL:
        return tile_losses(context, tile, gradient, tag)
    output_delta(context, tile, tag)
    return 0


cdef double accumulate_tile(const context_t *context, const floating *params, const batch_t *tile, floating *sums,
                            bint overwrite) noexcept nogil:
    """The weighted losses of a tile, summed; its gradients are added to ``sums``, unless that is NULL.

    ``overwrite``: replace what is in ``sums``. If the call is interrupted, the result is meaningless; else all threads
    have met at the end.
    """
    cdef const plan_t *plan = context.plan
    cdef double total
    cdef share_t share
    if tile.rows == 0:
        if overwrite and sums != NULL and context.rank == 0:
            memset(sums, 0, plan.n_parameters * sizeof(floating))
        meet(context)
        return 0
    if tile.kept == NULL:
        forward_tile(context, params, tile, stops_at_logits(plan, tile), sums != NULL)
    else:
        share = product_share(context, tile.rows, plan.n_outputs, True, params)
        copy_kept(context, tile, &share, True, params)
        meet(context)
    if should_stop(context.interrupt, 0):  # the parts of what follows that are not products would go on
        return 0
    total = output_losses(context, tile, sums != NULL, params)
    if sums != NULL and tile.clip_norm > 0:
        clip_tile(context, params, tile)
    if sums != NULL:
        backward_tile(context, params, tile, sums, overwrite)
    if context.rank == 0:
        check_guards(plan, workspace_of(context, params))
    return total


cdef inline void add_sums(sum_t *total, const floating *sums, const segment_t *part, bint overwrite) noexcept nogil:
    """Some parameters of ``total += sums``, or ``=`` if ``overwrite``."""
    cdef Py_ssize_t i
    if overwrite:
        for i in range(part.begin, part.end):
            total[i] = sums[i]
    else:
        for i in range(part.begin, part.end):
            total[i] += sums[i]


cdef void end_group(const context_t *context, const sums_t *to, const tile_t *where, losses_t *losses,
                    const floating *sums) noexcept nogil:
    """After the last tile of a group: add its losses, and this thread's share of its sums, to those of the others."""
    cdef segment_t part = no_segment()
    losses.total += losses.group
    losses.group = 0
    if to.total != NULL:
        while next_segment(context, &part, sums):
            add_sums(to.total, sums, &part, where.first_group)


cdef void add_piece(const sums_t *to, const piece_t *piece, const floating *sums,
                    const segment_t *part) noexcept nogil:
    """Add some sums of a piece to those of the pieces before it."""
    cdef floating *group = <floating *>to.sums
    cdef bint direct = piece.first.begins_group and piece.last.ends_group and to.total != NULL
    if not direct and (piece.first.begins_group or not piece.empty):
        add_sums(group, sums, part, piece.first.begins_group)
    if piece.last.ends_group and to.total != NULL:
        add_sums(to.total, sums if direct else <const floating *>group, part, piece.last.first_group)


cdef void add_pieces(const context_t *context, const sums_t *to, const piece_t *pieces, void *const *sums,
                     Py_ssize_t n, losses_t *losses, const floating *params) noexcept nogil:
    """Add the losses of n pieces that follow each other, and this thread's share of their ``sums``, to those before.

    All pieces for some parameters, then for the next ones: so their total comes from memory once, not once for each
    piece. If there are no tiles behind these pieces, ``losses.finished`` is set: the sums become the gradient at once.
    """
    cdef segment_t part = no_segment(), some
    cdef Py_ssize_t i
    for i in range(n):
        losses.group += pieces[i].loss
        if pieces[i].last.ends_group:
            losses.total += losses.group
            losses.group = 0
    while to.sums != NULL and next_segment(context, &part, params):
        some = part
        while some.begin < part.end:
            some.end = min(some.begin + SUMS_AT_A_TIME, part.end)
            for i in range(n):
                add_piece(to, &pieces[i], <const floating *>sums[i], &some)
            if losses.finished:
                finish_sums(context.plan, params, to, &some)
            some.begin = some.end


cdef void compute_piece(const context_t *own, const floating *params, const batch_t *batch, piece_t *piece,
                        cursor_t *cursor, floating *sums) noexcept nogil:
    """The losses and sums of a piece, of which the first tile is given; the cursor moves on to its end."""
    cdef batch_t rows
    cdef tile_t tile = piece.first
    piece.loss, piece.empty = 0, True
    while True:
        rows = weighted_tile(own, batch, &tile, params)
        piece.loss += accumulate_tile(own, params, &rows, sums, tile.first == piece.first.first)
        piece.empty &= rows.rows == 0
        piece.last = tile
        if ends_piece(&tile, piece.unit) or should_stop(own.interrupt, 0):
            return
        next_tile(own.plan, cursor, &tile)


cdef inline bint ends_piece(const tile_t *tile, Unit unit) noexcept nogil:
    return unit == TILE or (tile.ends_chunk if unit == CHUNK else tile.ends_group)


cdef void skip_piece(const plan_t *plan, piece_t *piece, cursor_t *cursor) noexcept nogil:
    """Move the cursor on to the end of a piece that another thread computes."""
    cdef tile_t tile = piece.first
    while not ends_piece(&tile, piece.unit):
        next_tile(plan, cursor, &tile)


cdef inline void pack_for(const context_t *context, const floating *params, const batch_t *batch,
                          bint gradient) noexcept nogil:
    """Pack what the tiles of a batch need of the weights."""
    if batch.kept == NULL:
        pack_forward(context, params, stops_at_logits(context.plan, batch))
    if gradient:
        pack_backward(context, params, batch.input_gradient != NULL)


cdef void accumulate_apart(const context_t *context, const floating *params, const batch_t *batch, cursor_t *cursor,
                           const pieces_t *pieces, const sums_t *to, losses_t *losses) noexcept nogil:
    """Pieces. Each thread takes the next one, computes it, and adds its sums when it is its turn.

    The last ones are one for each thread; then all of them are complete, and all threads add them, each a share.
    """
    cdef shared_t *shared = context.shared
    cdef context_t own = alone(context)
    cdef floating *sums = <floating *>shared.sums[context.rank] if to.sums != NULL else NULL
    cdef Py_ssize_t i, last = max(pieces.count - context.size, <Py_ssize_t>0), taken = take_piece(&shared.team)
    cdef piece_t piece
    cdef cursor_t end
    own.pack_whole = batch.rows > context.size * own.plan.tile
    pack_for(&own, params, batch, sums != NULL)
    for i in range(pieces.count):
        if not next_tile(own.plan, cursor, &piece.first):
            break
        piece.unit = pieces.unit if i < pieces.large else TILE
        if i != (taken if i < last else last + context.rank):
            skip_piece(own.plan, &piece, cursor)
            continue
        compute_piece(&own, params, batch, &piece, cursor, sums)
        if should_stop(context.interrupt, 0):
            break
        if i >= last:
            shared.pieces[context.rank] = piece
            continue
        if not await_turn(&shared.team, <int>taken):
            break
        if taken == 0:
            shared.losses = losses[0]
        add_pieces(&own, to, &piece, &shared.sums[context.rank], 1, &shared.losses, params)
        pass_turn(&shared.team)
        taken = take_piece(&shared.team)
    if not meet(context):
        return
    if last > 0:
        losses[0] = shared.losses
    end = cursor[0]
    losses.finished = to.weight != 0 and not next_tile(own.plan, &end, &piece.first)
    add_pieces(context, to, shared.pieces, shared.sums, min(pieces.count, <Py_ssize_t>context.size), losses, params)
    if meet(context) and context.rank == 0:
        reset_turns(&shared.team)


cdef double accumulate_by_one(const context_t *context, const floating *params, const batch_t *batch,
                              const tile_t *where, const sums_t *to) noexcept nogil:
    """A tile of so little work that the first thread computes it; the losses, in all threads."""
    cdef context_t own = alone(context)
    cdef batch_t tile
    cdef double *loss = context.shared.parts + MAX_TEAM  # the others may still read the first ones
    own.pack_whole = False  # it has packed a share at most
    if context.rank == 0:
        tile = weighted_tile(&own, batch, where, params)
        loss[0] = accumulate_tile(&own, params, &tile, <floating *>to.sums, where.begins_group and not to.keep)
    meet(context)
    return loss[0]


cdef pieces_t plan_pieces(const context_t *context, const cursor_t *cursor, const floating *tag) noexcept nogil:
    """The pieces that the threads compute each by itself: whole groups or chunks, the rest by tiles.

    The fewer pieces, the less is added up; the smaller the last ones, the less a thread waits for the others. A thread
    needs a place for sums of its own. What is left of tiles after those that each thread gets, all compute together,
    unless that is so little that it does not pay.
    """
    cdef const plan_t *plan = context.plan
    cdef const chunk_range_t *c = &cursor.chunks
    cdef Py_ssize_t n_chunks = c.end - c.begin, groups = (n_chunks + plan.group_size - 1) // plan.group_size
    cdef Py_ssize_t size = context.size, tiles, _
    cdef cursor_t ahead = cursor[0]
    cdef pieces_t pieces
    cdef piece_t piece
    pieces.count, pieces.large, pieces.unit = 0, 0, TILE
    if size == 1 or context.small_batch or not threads_have_sums(plan, n_chunks, context.size, tag):
        return pieces
    if groups >= MIN_LARGE_PIECES * size:
        pieces.large, pieces.unit = groups, GROUP
    elif n_chunks >= MIN_LARGE_PIECES * size:
        pieces.large, pieces.unit = n_chunks, CHUNK
    if pieces.large % size > 0:
        pieces.large -= pieces.large % size
    elif pieces.large >= 2 * MIN_LARGE_PIECES * size:
        pieces.large -= size
    pieces.count = pieces.large
    if large_sums(plan, tag):  # tile by tile it would take longer to add them up than to compute them together
        return pieces
    piece.unit = pieces.unit
    for _ in range(pieces.large):
        next_tile(plan, &ahead, &piece.first)
        skip_piece(plan, &piece, &ahead)
    tiles = count_tiles(plan, &ahead)
    if plan.n_parameters * plan.tile >= MIN_SHARED_WORK:
        tiles -= tiles % size
    pieces.count += tiles
    return pieces


cdef losses_t accumulate_chunks(context_t *context, const floating *params, const batch_t *batch,
                                const chunk_range_t *chunks, const sums_t *to, double before) noexcept nogil:
    """``before`` and the weighted losses of the rows of chunks, summed; the sums of their gradients in ``to``.

    Rows of weight 0 are left out, whatever they hold. If the call is interrupted, the result is meaningless.
    """
    cdef const plan_t *plan = context.plan
    cdef cursor_t cursor = new_cursor(chunks)
    cdef pieces_t pieces
    cdef losses_t losses
    cdef batch_t rows
    cdef tile_t tile
    losses.group, losses.total, losses.finished = 0, before, False
    context.small_batch = batch.rows < PACK_MIN_ROWS
    pieces = plan_pieces(context, &cursor, params)
    if pieces.count > 0:
        accumulate_apart(context, params, batch, &cursor, &pieces, to, &losses)
        context.pack_whole = False  # for the few tiles that are left
    elif not context.small_batch:
        pack_for(context, params, batch, to.sums != NULL)
    while not should_stop(context.interrupt, 0) and next_tile(plan, &cursor, &tile):
        if context.size > 1 and (context.small_batch or plan.n_parameters * tile.rows < MIN_SHARED_WORK):
            losses.group += accumulate_by_one(context, params, batch, &tile, to)
        else:
            rows = weighted_tile(context, batch, &tile, params)
            losses.group += accumulate_tile(context, params, &rows, <floating *>to.sums,
                                            tile.begins_group and not to.keep)
        if tile.ends_group:
            end_group(context, to, &tile, &losses, <const floating *>to.sums)
        meet(context)  # what the threads read of each other here, the next tile overwrites
    return losses


cdef inline double accumulate_rows(context_t *context, const floating *params, const batch_t *batch,
                                   const chunk_range_t *chunks, const sums_t *to, double before) noexcept nogil:
    """`accumulate_chunks` without a cost in the end: the losses."""
    cdef losses_t losses = accumulate_chunks(context, params, batch, chunks, to, before)
    return losses.total


cdef double cost_of_rows(context_t *context, const floating *params, const batch_t *batch, const chunk_range_t *chunks,
                         const sums_t *to) noexcept nogil:
    """The cost of rows, and, if ``to`` has a place for it, its gradient. Meaningless if the call is interrupted."""
    cdef losses_t losses = accumulate_chunks(context, params, batch, chunks, to, 0)
    return 0 if should_stop(context.interrupt, 0) else finish_share(context, params, to, &losses)


# ----------------------------------------------------------------------------- from sums to the cost and its gradient


cdef void finish_gradient(const plan_t *plan, const floating *params, const sum_t *sums, double weight, double l2,
                          const segment_t *part, floating *out) noexcept nogil:
    """Some parameters of ``D = Delta / m + lambda W``; ``out`` may be ``sums``.

    In float64: sums of either type give the same bits.
    """
    cdef Py_ssize_t i
    cdef double inverse = 1 / weight
    cdef floating rounded = <floating>inverse
    if inverse < DBL_MIN:  # it is subnormal
        for i in range(part.begin, part.end):
            out[i] = <floating>(sums[i] / weight)
    elif sum_t is floating and rounded == inverse and rounded >= FLT_MIN:  # a power of two: without float64
        if not (rounded == 1 and <const void *>out == <const void *>sums):
            for i in range(part.begin, part.end):
                out[i] = rounded * sums[i]
    else:
        for i in range(part.begin, part.end):
            out[i] = <floating>(inverse * sums[i])
    if l2 != 0:
        add_penalty(plan, params, l2, part, out)


cdef void add_penalty(const plan_t *plan, const floating *params, double l2, const segment_t *part,
                      floating *out) noexcept nogil:
    """Some parameters of ``D += lambda W``."""
    cdef const layer_t *layer
    cdef Py_ssize_t l, i
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        for i in range(max(layer.weights, part.begin), min(layer.bias, part.end)):
            out[i] += <floating>l2 * params[i]


cdef inline segment_t all_parameters(const plan_t *plan) noexcept nogil:
    cdef segment_t part = no_segment()
    part.end = plan.n_parameters
    return part


cdef double sum_squares(const floating *x, Py_ssize_t n) noexcept nogil:
    """In float64; in eight sums, which are a vector or two of them."""
    cdef Py_ssize_t i = 0, k
    cdef double part[8]
    cdef double total = 0
    memset(part, 0, sizeof(part))
    while i + 8 <= n:
        for k in range(8):
            part[k] += <double>x[i + k] * x[i + k]
        i += 8
    while i < n:
        total += <double>x[i] * x[i]
        i += 1
    return total + (((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7])))


cdef inline Py_ssize_t cost_pieces(const plan_t *plan) noexcept nogil:
    """Into how many pieces the parameters are cut for the sum of their squares: one, if they are few."""
    return min(1 + plan.n_parameters // 65536, <Py_ssize_t>COST_PIECES)


cdef double sum_squared_piece(const plan_t *plan, const floating *params, Py_ssize_t i) noexcept nogil:
    """The squares of the weights in piece i of the parameters, summed."""
    cdef Py_ssize_t l, n = cost_pieces(plan)
    cdef Py_ssize_t begin = chunk_start(plan.n_parameters, n, i), end = chunk_start(plan.n_parameters, n, i + 1), first
    cdef double total = 0
    for l in range(plan.n_layers):
        first = max(plan.layers[l].weights, begin)
        if first < min(plan.layers[l].bias, end):
            total += sum_squares(params + first, min(plan.layers[l].bias, end) - first)
    return total


cdef double mean_cost(const plan_t *plan, const floating *params, double losses, double weight,
                      double l2) noexcept nogil:
    """``J = losses / m + lambda/2 * sum(W^2)``."""
    cdef Py_ssize_t i
    cdef double squares = 0
    if l2 != 0:
        for i in range(cost_pieces(plan)):
            squares += sum_squared_piece(plan, params, i)
    return cost_of(losses, weight, l2, squares)


cdef inline double cost_of(double losses, double weight, double l2, double squares) noexcept nogil:
    """In one place, so that all callers round alike."""
    losses = pinned(losses)
    return pinned(losses / weight + l2 / 2 * squares if l2 != 0 else losses / weight)


cdef inline void finish_sums(const plan_t *plan, const floating *params, const sums_t *to,
                             const segment_t *part) noexcept nogil:
    """Some entries of the gradient, in ``to.sums``, from sums that are complete."""
    cdef floating *grad = <floating *>to.sums
    if to.total == NULL:
        finish_gradient(plan, params, <const floating *>grad, to.weight, to.l2, part, grad)
    else:
        finish_gradient(plan, params, <const double *>to.total, to.weight, to.l2, part, grad)


cdef double finish_share(const context_t *context, const floating *params, const sums_t *to,
                         const losses_t *losses) noexcept nogil:
    """The cost; and, from sums that are complete, this thread's share of the gradient, in ``to.sums``."""
    cdef const plan_t *plan = context.plan
    cdef segment_t part = no_segment()
    cdef share_t pieces = row_share(cost_pieces(plan), 1, 1, context.size, context.rank)
    cdef Py_ssize_t i
    cdef double squares = 0
    cdef double *parts
    while to.sums != NULL and not losses.finished and next_segment(context, &part, params):
        finish_sums(plan, params, to, &part)
    if to.l2 == 0 or context.size == 1:
        return mean_cost(plan, params, losses.total, to.weight, to.l2)
    parts = context.shared.parts + MAX_TEAM  # the others may still read the first ones
    for i in range(pieces.row, pieces.row + pieces.rows):
        parts[i] = sum_squared_piece(plan, params, i)
    meet(context)
    for i in range(cost_pieces(plan)):
        squares += parts[i]
    return cost_of(losses.total, to.weight, to.l2, squares)
