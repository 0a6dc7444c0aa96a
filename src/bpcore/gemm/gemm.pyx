# The three products of backpropagation, over row-major matrices, for a tile of rows:
#
#     Z = A W^T + b        linear_forward
#     D = delta W          linear_backward_input
#     Delta += delta^T A   linear_backward_weights
#
# All three are C (+)= A B around one micro-kernel.

cdef enum:
    # Rows of a panel used at a time. Such a part of a panel comes from the second-level cache, in order and soon
    # enough; fewer rows would be in the first-level one, but C would be read and written more often, which costs more.
    KC = 512
    # Columns of delta used at a time, about as many at least and at most: whole blocks of 6, 12 or 14 rows.
    MIN_MC = 48
    MAX_MC = 84
    # Columns of delta from which on it pays to pack the rows of A that they meet; the second where these do not all
    # fall into the same sets of the cache.
    PACK_MIN_COLUMNS = 96
    PACK_MIN_COLUMNS_PADDED_ROWS = 384


cdef inline int panel_vectors(Py_ssize_t columns, Py_ssize_t lane) noexcept nogil:
    """Vectors in a row of the next panel, if so many columns are left."""
    return 1 if columns <= lane else NR_VECTORS


cdef void gemm(const matrix_t *A, const operand_t *b, Py_ssize_t columns, floating *C, Py_ssize_t rs_c,
               interrupt_t *interrupt) noexcept nogil:
    """``C = init + A B``, or ``C += A B``, for B with as many ``columns``; rows of C are padded to whole vectors.

    The inner dimension is cut outermost: the part of A that all panels meet then stays in the second-level cache.
    """
    cdef Py_ssize_t first, i, k = 0, n, n_longer, lane = lanes(C)
    cdef int mr, n_vectors, m_block = split_rows(A.rows, &n_longer)
    cdef floating *panel
    cdef block_t x
    x.rs_a, x.cs_a, x.rs_c = A.rs, A.cs, rs_c
    while k < A.columns:
        x.k = min(<Py_ssize_t>KC, A.columns - k)
        first, panel = 0, <floating *>b.panels
        while first < columns:
            n_vectors = panel_vectors(columns - first, lane)
            n = n_vectors * lane
            x.rs_b = n
            if b.packed:
                x.B = panel + (1 + k) * n
            elif is_panel(b, x.k, first + n, C):
                pack_part(b, k, 0, first, n, panel)  # the row of its init alone
                x.B, x.rs_b = <const floating *>b.B.data + k * b.B.rs + first, b.B.rs
            else:
                pack_part(b, k, x.k, first, n, panel)
                x.B = panel + n
            x.init = panel if k == 0 and not b.add else NULL
            i = 0
            while i < A.rows:
                mr = m_block + 1 if i < n_longer else m_block
                x.A = <const floating *>A.data + i * A.rs + k * A.cs
                x.C = C + i * rs_c + first
                compute_block_of(mr, n_vectors, &x, C)
                i += mr
            if should_stop(interrupt, A.rows * x.k * n):
                return
            if b.packed:
                panel += (1 + A.columns) * n
            first += n
        k += x.k


cdef inline void copy_block(const floating *block, Py_ssize_t rows, Py_ssize_t width, const matrix_t *C,
                            Py_ssize_t row, Py_ssize_t column, bint overwrite) noexcept nogil:
    """Write or add the block to the part of C that begins at a row and a column, as far as C goes."""
    cdef floating *c = <floating *>C.data + row * C.rs + column * C.cs
    cdef Py_ssize_t r, j, columns = min(width, C.columns - column)
    if overwrite:
        for r in range(rows):
            for j in range(columns):
                c[r * C.rs + j * C.cs] = block[r * width + j]
    else:
        for r in range(rows):
            for j in range(columns):
                c[r * C.rs + j * C.cs] += block[r * width + j]


cdef void gemm_accumulate(const matrix_t *A, const floating *B, Py_ssize_t rs_b, const matrix_t *C, bint overwrite,
                          interrupt_t *interrupt) noexcept nogil:
    """``C += A B``, or ``C = A B`` if ``overwrite`` (BLAS's beta of 1 or 0).

    The rows of B are padded to whole vectors; ``rs_b`` is 0 if B is packed. Where C cannot be written in whole vectors,
    that goes through a block beside it.
    """
    cdef Py_ssize_t first = 0, i, n, n_longer, lane = lanes(B)
    cdef int mr, n_vectors, m_block = split_rows(C.rows, &n_longer)
    cdef floating beside[BLOCK_NUMBERS]
    cdef char memory[(1 + NR_VECTORS) * 64]
    cdef const void *zeros = aligned(memory)
    cdef bint direct
    cdef block_t x
    memset(memory, 0, sizeof(memory))
    x.k, x.rs_a, x.cs_a = A.columns, A.rs, A.cs
    while first < C.columns:
        n_vectors = panel_vectors(C.columns - first, lane)
        n = n_vectors * lane
        x.B = B + first if rs_b > 0 else B + first * (1 + A.columns) + n
        x.rs_b = rs_b if rs_b > 0 else n
        direct = C.cs == 1 and first + n <= C.columns
        x.init = zeros if overwrite or not direct else NULL
        x.rs_c = C.rs if direct else n
        i = 0
        while i < C.rows:
            mr = m_block + 1 if i < n_longer else m_block
            if A.cs == 0:  # packed by `pack_columns`
                x.A, x.cs_a = <const floating *>A.data + i * A.columns, mr
            else:
                x.A = <const floating *>A.data + i * A.rs
            x.C = <floating *>C.data + i * C.rs + first if direct else beside
            compute_block_of(mr, n_vectors, &x, B)
            if not direct:
                copy_block(<const floating *>beside, mr, n, C, i, first, overwrite)
            i += mr
        if should_stop(interrupt, C.rows * A.columns * n):
            return
        first += n


# ------------------------------------------------------------------------------------------- the products, for a tile


cdef inline void linear_forward(const floating[:, ::1] A, Py_ssize_t n_in, const operand_t *W, floating[:, ::1] Z,
                                Py_ssize_t first, Py_ssize_t count, interrupt_t *interrupt) noexcept nogil:
    """Columns ``first`` to ``first + count`` of ``Z = A W^T + b``, for the first n_in columns of A.

    ``W`` is these columns of the operand ``W^T``, with the bias as init.
    """
    cdef matrix_t a = strided(&A[0, 0], A.shape[0], n_in, A.shape[1], 1)
    gemm(&a, W, count, &Z[0, first], Z.shape[1], interrupt)


cdef inline void linear_backward_input(const floating[:, ::1] delta, Py_ssize_t n_out, const operand_t *W,
                                       floating[:, ::1] D, Py_ssize_t first, Py_ssize_t count,
                                       interrupt_t *interrupt) noexcept nogil:
    """Columns ``first`` to ``first + count`` of ``D = delta W``; ``W`` is these columns, with zeros as init."""
    cdef matrix_t d = strided(&delta[0, 0], delta.shape[0], n_out, delta.shape[1], 1)
    gemm(&d, W, count, &D[0, first], D.shape[1], interrupt)


cdef inline void linear_backward_weights(const floating[:, ::1] delta, const floating[:, ::1] A,
                                         floating[:, ::1] Delta, const share_t *share, const room_t *room,
                                         bint overwrite, interrupt_t *interrupt) noexcept nogil:
    """A share of ``Delta += delta^T A``, or ``=`` if ``overwrite``.

    The rows of delta are padded to whole vectors. Where few columns of A would fill only a part of a vector, the
    transpose is computed: ``A^T delta``, both in place. Else A is read in place where few columns of delta meet it, so
    that packing would not pay, and packed where many do.
    """
    cdef Py_ssize_t n_out = share.rows, n_in = share.columns, rs_c = Delta.shape[1]
    cdef Py_ssize_t readable = A.shape[1] - share.column  # of a row of A, from the share's first column on
    cdef floating *C = &Delta[share.row, share.column]
    cdef const floating *first_a = &A[0, share.column]
    cdef const floating *first_delta = &delta[0, share.row]
    cdef matrix_t a, d, c
    if n_in * padded(n_out, C) * 4 < n_out * padded(n_in, C) * 3:
        a = strided(first_a, n_in, A.shape[0], 1, A.shape[1])
        c = strided(C, n_in, n_out, 1, rs_c)
        gemm_accumulate(&a, first_delta, delta.shape[1], &c, overwrite, interrupt)
        return
    d = strided(first_delta, n_out, delta.shape[0], 1, delta.shape[1])
    a = strided(first_a, A.shape[0], n_in, A.shape[1], 1)
    c = strided(C, n_out, n_in, rs_c, 1)
    if n_out < PACK_MIN_COLUMNS or (n_out < PACK_MIN_COLUMNS_PADDED_ROWS
                                    and A.shape[1] * sizeof(floating) % 512 != 0):
        outer_in_place(&d, &a, &c, readable, <floating *>room.panels, overwrite, interrupt)
    else:
        outer_packed(&d, &a, &c, room, overwrite, interrupt, C)


cdef void outer_in_place(const matrix_t *d, const matrix_t *a, const matrix_t *c, Py_ssize_t readable,
                         floating *panels, bint overwrite, interrupt_t *interrupt) noexcept nogil:
    """`linear_backward_weights` with A where it is, as far as its rows are whole vectors; the rest is packed.

    ``readable``: numbers of a row of A that can be read.
    """
    cdef Py_ssize_t whole = lanes(panels) * NR_VECTORS, n_in = c.columns
    cdef matrix_t part_a, part_c
    whole = n_in if padded(n_in, panels) <= readable else n_in // whole * whole
    part_c = strided(c.data, c.rows, whole, c.rs, 1)
    gemm_accumulate(d, <const floating *>a.data, a.rs, &part_c, overwrite, interrupt)
    if whole < n_in:
        part_a = strided(<const floating *>a.data + whole, a.rows, n_in - whole, a.rs, 1)
        part_c = strided(<floating *>c.data + whole, c.rows, n_in - whole, c.rs, 1)
        pack(&part_a, <const floating *>NULL, panels, interrupt)
        gemm_accumulate(d, <const floating *>panels, 0, &part_c, overwrite, interrupt)


cdef void outer_packed(const matrix_t *d, const matrix_t *a, const matrix_t *c, const room_t *room, bint overwrite,
                       interrupt_t *interrupt, const floating *tag) noexcept nogil:
    """`linear_backward_weights` with both packed: a few columns of delta at a time stay in the second-level cache.

    In place, each step down a column of delta would go to another row, so that a block reads from more pages than the
    processor keeps translations for.
    """
    cdef floating *panels = <floating *>room.panels
    cdef floating *columns = <floating *>room.columns
    cdef Py_ssize_t j = 0, count, mc = room.at_a_time, groups = (c.rows + mc - 1) // mc
    cdef matrix_t part_d, part_c
    pack(a, <const floating *>NULL, panels, interrupt)
    while j < c.rows:
        count = (c.rows - j + groups - 1) // groups
        groups -= 1
        part_d = strided(<const floating *>d.data + j, count, d.columns, 1, d.cs)
        part_c = strided(<floating *>c.data + j * c.rs, count, c.columns, c.rs, 1)
        pack_columns(&part_d, columns)
        part_d.data, part_d.cs = columns, 0
        gemm_accumulate(&part_d, <const floating *>panels, 0, &part_c, overwrite, interrupt)
        if should_stop(interrupt, 0):
            return
        j += count


cdef void sum_columns(const char *rows, Py_ssize_t count, Py_ssize_t stride, void *total,
                      const vec *tag) noexcept nogil:
    """The sum of ``count`` rows of one vector, ``stride`` bytes apart; four sums hide the latency of an addition."""
    cdef vec sums[4]
    cdef vec x
    cdef int r
    cdef Py_ssize_t i = 0
    for r in range(4):
        set_zero(&sums[r])
    while i + 4 <= count:
        for r in range(4):
            load(rows + (i + r) * stride, &x)
            sums[r] = sums[r] + x
        i += 4
    while i < count:
        load(rows + i * stride, &x)
        sums[0] = sums[0] + x
        i += 1
    x = (sums[0] + sums[1]) + (sums[2] + sums[3])
    store(total, &x)


cdef inline void linear_backward_bias(const floating[:, ::1] delta, floating[::1] Delta, Py_ssize_t first,
                                      Py_ssize_t count, bint overwrite) noexcept nogil:
    """``count`` entries of ``Delta += delta^T 1``, or ``=`` if ``overwrite``, from one that begins a vector of delta.

    The bias is the weight of an input that is always 1.
    """
    cdef Py_ssize_t j, n = first + count, stride = delta.shape[1] * sizeof(floating)
    cdef floating sums[LANES_F32]
    while first < n:
        if floating is float:
            sum_columns[f32v](<const char *>&delta[0, first], delta.shape[0], stride, sums, NULL)
        else:
            sum_columns[f64v](<const char *>&delta[0, first], delta.shape[0], stride, sums, NULL)
        for j in range(min(lanes(&Delta[0]), n - first)):
            Delta[first + j] = sums[j] if overwrite else Delta[first + j] + sums[j]
        first += lanes(&Delta[0])
