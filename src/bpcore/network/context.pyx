# What the loops of a call share: its rows, its workspaces, the threads that compute it, and how the rows are cut.

cdef struct kept_t:
    # A forward pass that is kept, one pointer for each layer with weights.
    void **a                        # activations
    void **derivatives              # what `pointwise` keeps, or NULL
    void *logits                    # z(L), or NULL

cdef struct batch_t:
    # Rows to compute, or to learn from: of a call, a chunk or a tile. The numbers are of the plan's type.
    const void *X
    Py_ssize_t x_stride             # from one row of X to the next
    const void *targets             # (rows, n_targets), or NULL
    const int64_t *labels           # (rows,), or NULL
    const void *sample_weight       # (rows,), or NULL
    const void *output_weight       # (rows, n_targets) in place of these, or NULL
    double clip_norm                # of a row's gradient, at most; 0: as it is
    const void *output_gradient     # in place of targets: dLoss/da(L), (rows, n_outputs), or NULL
    bint of_logits                  # it is dLoss/dz(L)
    void *input_gradient            # gets dLoss/dX, (rows, n_inputs), or is NULL
    const kept_t *kept              # their forward pass, if it is kept, or NULL
    Py_ssize_t first                # which row of what is kept is the first of these
    Py_ssize_t rows

cdef enum:
    LOSS_ROWS = 32                  # whose losses are added up by one thread
    ROW_UNIT = 4                    # rows whose dot products are computed side by side
    COST_PIECES = 64                # of the parameters, whose squares are added up by one thread
    # Vectors of columns per thread from which on a product is shared by columns: each thread then packs its own.
    MIN_COLUMN_VECTORS = 4

cdef struct tile_t:
    # Rows of a call that are computed at a time.
    Py_ssize_t first                # counted from the first row of the range
    Py_ssize_t rows
    bint begins_group               # the first of its group of chunks: its sums are not added to others
    bint ends_chunk
    bint ends_group
    bint first_group

cdef enum Unit:
    TILE
    CHUNK
    GROUP

cdef struct piece_t:
    # Tiles that a thread computes by itself, and the result but for the sums.
    Unit unit
    tile_t first
    tile_t last
    double loss
    bint empty                      # no row has a weight

cdef struct losses_t:
    double group                    # of the group of chunks that is being added up
    double total                    # of those before it
    bint finished                   # the sums have become the gradient

cdef struct shared_t:
    # What the threads of a call share.
    team_t team
    void *workspaces[MAX_TEAM]      # one for each; the first thread's holds the tile that all compute together
    void *sums[MAX_TEAM]            # and sums for each, where threads compute tiles of their own
    losses_t losses                 # there, of the thread whose turn it is
    piece_t pieces[MAX_TEAM]        # and what each computes
    bint finite[MAX_TEAM]           # whether a thread's share of the parameters is
    double parts[MAX_TEAM + COST_PIECES]  # losses of rows, or pieces of the penalty

cdef struct context_t:
    # A call as one thread sees it.
    const plan_t *plan
    void *workspace                 # of the tile; begins at a cache line
    void *own                       # where this thread packs
    shared_t *shared                # NULL if size is 1
    int rank                        # this thread's number
    int size                        # threads that compute a tile together
    interrupt_t *interrupt          # NULL if the call cannot be interrupted
    float_mode_t caller_mode
    bint pack_whole                 # the call has several tiles, so that weights are packed once for all of them
    bint small_batch                # so few rows in the chunk that the parameters are not packed


cdef inline isa_t own_isa(const floating *tag) noexcept nogil:
    """The instruction set of this module; ``tag`` only selects the type."""
    cdef isa_t isa
    isa.itemsize, isa.lanes, isa.mr = sizeof(floating), lanes(tag), MR
    isa.l2_bytes = L2_BYTES
    isa.guard = GUARD_BYTES // <Py_ssize_t>sizeof(floating)
    return isa


cdef inline context_t new_context(const plan_t *plan, void *memory, Py_ssize_t rows,
                                  interrupt_t *interrupt) noexcept nogil:
    """``memory``: a workspace at any address; ``rows``: of all tiles that are computed with the same parameters.

    From here to `end_context` the thread computes in the loops' mode.
    """
    cdef context_t context
    context.plan, context.workspace, context.interrupt = plan, aligned(<char *>memory), interrupt
    context.own, context.shared, context.rank, context.size = context.workspace, NULL, 0, 1
    context.pack_whole, context.small_batch = rows > plan.tile, False
    context.caller_mode = flush_subnormals()
    if interrupt != NULL:
        interrupt.caller_mode = context.caller_mode
    return context


cdef inline context_t team_context(const plan_t *plan, shared_t *shared, int rank, Py_ssize_t rows,
                                   interrupt_t *interrupt) noexcept nogil:
    """The same for a thread of a team."""
    cdef context_t context = new_context(plan, shared.workspaces[rank], rows, interrupt)
    if shared.team.size > 1:
        context.workspace = aligned(<char *>shared.workspaces[0])
        context.shared, context.rank, context.size = shared, rank, shared.team.size
    return context


cdef inline context_t alone(const context_t *context) noexcept nogil:
    """For tiles that a thread of a team computes by itself."""
    cdef context_t own = context[0]
    own.workspace, own.rank, own.size = own.own, 0, 1
    return own


cdef inline void end_context(const context_t *context) noexcept nogil:
    restore_float_mode(context.caller_mode)


cdef inline bint meet(const context_t *context) noexcept nogil:
    """Wait until all threads are here: what each has written, the others can read. Returns whether to go on."""
    if context.size == 1:
        return True
    if team_wait(&context.shared.team):
        return True
    context.interrupt.stopped = True
    return False


cdef inline floating *workspace_of(const context_t *context, const floating *tag) noexcept nogil:
    return <floating *>context.workspace


cdef inline floating *own_workspace(const context_t *context, const floating *tag) noexcept nogil:
    return <floating *>context.own


# --------------------------------------------------------------------------------------------- the share of a thread


cdef inline share_t product_share(const context_t *context, Py_ssize_t rows, Py_ssize_t columns, bint whole_rows,
                                  const floating *tag) noexcept nogil:
    """Of a tile's matrix with so many columns; ``whole_rows``: by rows, however many columns there are."""
    cdef Py_ssize_t vectors
    if context.size == 1:
        return all_of(rows, columns)
    vectors = padded(columns, tag) // lanes(tag)
    if whole_rows or vectors < MIN_COLUMN_VECTORS * context.size:
        return row_share(rows, columns, ROW_UNIT, context.size, context.rank)
    return column_share(rows, columns, lanes(tag), context.size, context.rank)


cdef inline share_t weights_share(const context_t *context, const layer_t *layer, const floating *tag) noexcept nogil:
    """Of a layer's Delta: by columns where there are many, else along the side of more vectors; or one thread's."""
    cdef Py_ssize_t lane = lanes(tag), n_in = layer.n_in, n_out = layer.n_out
    cdef Py_ssize_t vectors_in, vectors_out
    if context.size == 1:
        return all_of(n_out, n_in)
    vectors_in, vectors_out = padded(n_in, tag) // lane, padded(n_out, tag) // lane
    if vectors_in >= MIN_COLUMN_VECTORS * context.size or (vectors_in >= vectors_out and vectors_in >= context.size):
        return column_share(n_out, n_in, lane, context.size, context.rank)
    return row_share(n_out, n_in, lane, context.size, context.rank)


cdef inline share_t bias_share(const context_t *context, const layer_t *layer, const floating *tag) noexcept nogil:
    """Of a layer's biases, as columns."""
    return column_share(1, layer.n_out, lanes(tag), context.size, context.rank)


cdef struct segment_t:
    # Neighbours in the flat vector of parameters, and where the next ones are.
    Py_ssize_t begin
    Py_ssize_t end
    Py_ssize_t layer
    Py_ssize_t row


cdef inline segment_t no_segment() noexcept nogil:
    cdef segment_t segment
    segment.begin = segment.end = segment.layer = segment.row = 0
    return segment


cdef bint next_segment(const context_t *context, segment_t *segment, const floating *tag) noexcept nogil:
    """The next of the parameters whose sums this thread makes: it goes on with them, since they are in its cache."""
    cdef const plan_t *plan = context.plan
    cdef const layer_t *layer
    cdef share_t share
    if context.size == 1:
        segment.begin, segment.end = segment.end, plan.n_parameters
        return segment.begin < segment.end
    while segment.layer < plan.n_layers:
        layer = &plan.layers[segment.layer]
        share = weights_share(context, layer, tag)
        if segment.row < share.rows and share.columns > 0:
            segment.begin = layer.weights + (share.row + segment.row) * layer.n_in + share.column
            segment.end = segment.begin + share.columns
            segment.row += 1
            if share.columns == layer.n_in:  # they are all neighbours
                segment.end = layer.weights + (share.row + share.rows) * layer.n_in
                segment.row = share.rows
            return True
        share = bias_share(context, layer, tag)
        segment.begin = layer.bias + share.column
        segment.end = segment.begin + share.columns
        segment.layer, segment.row = segment.layer + 1, 0
        if share.columns > 0:
            return True
    return False


# ------------------------------------------------------------------------------------------------ the rows of a call

cdef struct chunk_range_t:
    # Chunks ``begin`` to ``end`` of the ``n_chunks`` that ``total_rows`` rows are cut into.
    Py_ssize_t total_rows
    Py_ssize_t n_chunks
    Py_ssize_t begin
    Py_ssize_t end

cdef struct cursor_t:
    # Where the next tile of a range begins.
    chunk_range_t chunks
    Py_ssize_t chunk
    Py_ssize_t row                  # within the chunk


cdef inline Py_ssize_t tile_rows(const plan_t *plan, Py_ssize_t m) noexcept nogil:
    """Rows of each tile but the last, for m rows in all: as few tiles as possible, as even as whole blocks allow."""
    cdef Py_ssize_t tiles = max((m + plan.tile - 1) // plan.tile, <Py_ssize_t>1)
    return (m + tiles * MR - 1) // (tiles * MR) * MR


cdef inline Py_ssize_t count_chunks(const plan_t *plan, Py_ssize_t m) noexcept nogil:
    """Into how many chunks m rows are cut, as evenly as possible."""
    return (m + plan.chunk_rows - 1) // plan.chunk_rows


cdef inline Py_ssize_t chunk_start(Py_ssize_t m, Py_ssize_t n_chunks, Py_ssize_t i) noexcept nogil:
    """The first row of chunk i."""
    return <Py_ssize_t>(<int64_t>i * m // n_chunks)


cdef inline chunk_range_t all_chunks(const plan_t *plan, Py_ssize_t rows) noexcept nogil:
    cdef chunk_range_t chunks
    chunks.total_rows, chunks.begin = rows, 0
    chunks.n_chunks = chunks.end = count_chunks(plan, rows)
    return chunks


cdef inline cursor_t new_cursor(const chunk_range_t *chunks) noexcept nogil:
    cdef cursor_t cursor
    cursor.chunks, cursor.chunk, cursor.row = chunks[0], chunks.begin, 0
    return cursor


cdef bint next_tile(const plan_t *plan, cursor_t *cursor, tile_t *tile) noexcept nogil:
    """The next tile, if there is one."""
    cdef const chunk_range_t *c = &cursor.chunks
    cdef Py_ssize_t start, rows, size, i = cursor.chunk
    if i >= c.end:
        return False
    start = chunk_start(c.total_rows, c.n_chunks, i)
    rows = chunk_start(c.total_rows, c.n_chunks, i + 1) - start
    size = tile_rows(plan, rows)
    tile.first = start + cursor.row - chunk_start(c.total_rows, c.n_chunks, c.begin)
    tile.rows = min(size, rows - cursor.row)
    tile.begins_group = cursor.row == 0 and (i % plan.group_size == 0 or i == c.begin)
    tile.first_group = i < plan.group_size
    cursor.row += size
    if cursor.row >= rows:
        cursor.chunk, cursor.row = i + 1, 0
    tile.ends_chunk = cursor.row == 0
    tile.ends_group = tile.ends_chunk and ((i + 1) % plan.group_size == 0 or i + 1 == c.n_chunks)
    return True


cdef Py_ssize_t count_tiles(const plan_t *plan, const cursor_t *cursor) noexcept nogil:
    """How many there are from here on."""
    cdef cursor_t ahead = cursor[0]
    cdef Py_ssize_t count = 0
    cdef tile_t tile
    while next_tile(plan, &ahead, &tile):
        count += 1
    return count


cdef inline batch_t batch_of(const plan_t *plan, const floating *X, Py_ssize_t rows) noexcept nogil:
    """Rows without targets."""
    cdef batch_t batch
    memset(&batch, 0, sizeof(batch_t))
    batch.X, batch.x_stride, batch.rows = X, plan.n_inputs, rows
    return batch


cdef inline batch_t batch_slice(const plan_t *plan, const batch_t *batch, Py_ssize_t first, Py_ssize_t rows,
                                const floating *tag) noexcept nogil:
    """So many rows of a batch, from row ``first`` on."""
    cdef batch_t part = batch[0]
    part.rows, part.first = rows, batch.first + first
    part.X = <const floating *>batch.X + first * batch.x_stride
    if batch.targets != NULL:
        part.targets = <const floating *>batch.targets + first * plan.n_targets
    if batch.labels != NULL:
        part.labels = batch.labels + first
    if batch.sample_weight != NULL:
        part.sample_weight = <const floating *>batch.sample_weight + first
    if batch.output_weight != NULL:
        part.output_weight = <const floating *>batch.output_weight + first * plan.n_targets
    if batch.output_gradient != NULL:
        part.output_gradient = <const floating *>batch.output_gradient + first * plan.n_outputs
    if batch.input_gradient != NULL:
        part.input_gradient = <floating *>batch.input_gradient + first * plan.n_inputs
    return part


cdef inline bint stops_at_logits(const plan_t *plan, const batch_t *batch) noexcept nogil:
    """Whether the output layer's delta is made of z(L), so that the forward pass leaves out a(L)."""
    return batch.of_logits if batch.output_gradient != NULL else plan.from_logits


cdef inline floating[:, ::1] weights_of(const layer_t *layer, const floating *params) noexcept nogil:
    return matrix(params + layer.weights, layer.n_out, layer.n_in)


cdef inline floating[::1] bias_of(const layer_t *layer, const floating *params) noexcept nogil:
    return vector(params + layer.bias, layer.n_out)


cdef inline void copy_rows(const floating *src, Py_ssize_t rs_src, floating *dst, Py_ssize_t rs_dst, Py_ssize_t rows,
                           Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        memcpy(dst + i * rs_dst, src + i * rs_src, columns * sizeof(floating))
