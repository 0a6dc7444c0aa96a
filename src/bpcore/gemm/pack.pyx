# Packing of B into panels. Ahead of its k rows a panel has one more, which the sums start from: the bias, or zeros.

cdef struct operand_t:
    # The matrix B of a product, and where its panels are.
    matrix_t B
    const void *init        # a row that the sums start from, of as many numbers as B has columns; NULL: zeros
    void *panels            # all panels, or room for a part of one
    bint packed             # all panels are packed; else each is packed just before its use
    bint add                # to what is in C, instead of to init

cdef struct room_t:
    # Memory for the operands of an outer product.
    void *panels            # the rows of A
    void *columns           # of delta, packed, so many at a time
    Py_ssize_t at_a_time


cdef inline void transpose_squares(const floating *B, Py_ssize_t k, Py_ssize_t columns, Py_ssize_t cs_b,
                                   floating *panel, Py_ssize_t width) noexcept nogil:
    """``panel[i, j] = B[j, i]``, for at least a square; where they do not fit in evenly, the last ones overlap.

    16 numbers of a column before the next columns: the lines of a wide B fall into few sets of the cache, and would be
    evicted before their end.
    """
    cdef Py_ssize_t piece, i, j, row, column, side = transpose_side(B)
    for piece in range(0, k, 16):
        j = 0
        while j < columns:
            column = min(j, columns - side)
            i = piece
            while i < k and i < piece + 16:
                row = min(i, k - side)
                transpose(B + row + column * cs_b, cs_b, panel + row * width + column, width)
                i += side
            j += side


cdef inline void pack_panel(const matrix_t *B, Py_ssize_t first, Py_ssize_t n, floating *panel,
                            Py_ssize_t width) noexcept nogil:
    """Columns ``first`` to ``first + n`` of B, whose row or column stride is 1, in rows of ``width`` numbers."""
    cdef const floating *data = <const floating *>B.data + first * B.cs
    cdef Py_ssize_t i, j, side = transpose_side(data)
    cdef floating *last = panel + width - lanes(panel)
    if n < width:  # by whole vectors, before the numbers
        for i in range(B.rows):
            for j in range(lanes(panel)):
                last[i * width + j] = 0
    if B.cs == 1:
        for i in range(B.rows):
            for j in range(n):
                panel[i * width + j] = data[i * B.rs + j]
    elif B.rows >= side and n >= side:
        transpose_squares(data, B.rows, n, B.cs, panel, width)
    else:
        for i in range(B.rows):
            for j in range(n):
                panel[i * width + j] = data[i * B.rs + j * B.cs]


cdef void pack(const matrix_t *B, const floating *init, floating *panels, interrupt_t *interrupt) noexcept nogil:
    """Panels of B; ``init``, of as many numbers as B has columns, may be NULL for zeros."""
    cdef Py_ssize_t j, n, width, first = 0, lane = lanes(panels), full = lane * NR_VECTORS
    cdef floating *panel = panels
    while first < B.columns:
        n = min(full, B.columns - first)
        width = lane if n <= lane else full
        for j in range(width):
            panel[j] = init[first + j] if init != NULL and j < n else 0
        pack_panel(B, first, n, panel + width, width)
        if should_stop(interrupt, WORK_PER_COPIED_NUMBER * B.rows * n):
            return
        panel += (1 + B.rows) * width
        first += n


cdef void pack_part(const operand_t *b, Py_ssize_t k, Py_ssize_t count, Py_ssize_t first, Py_ssize_t width,
                    floating *panel) noexcept nogil:
    """Rows ``k`` to ``k + count`` of the panel that begins with column ``first``, behind the row of its init."""
    cdef matrix_t part
    cdef Py_ssize_t j, n = min(width, b.B.columns - first)
    for j in range(width):
        panel[j] = (<const floating *>b.init)[first + j] if b.init != NULL and j < n else 0
    part = strided(<const floating *>b.B.data + k * b.B.rs, count, b.B.columns, b.B.rs, b.B.cs)
    pack_panel(&part, first, n, panel + width, width)


cdef inline bint is_panel(const operand_t *b, Py_ssize_t k, Py_ssize_t end, const floating *tag) noexcept nogil:
    """Whether k rows of B, of which a panel goes up to the column ``end``, serve as they are.

    They are whole vectors then, and so few that all of them stay in the first-level cache, wherever they fall in it.
    """
    return b.B.cs == 1 and end <= b.B.columns and k * b.B.rs * <Py_ssize_t>sizeof(floating) <= L1_BYTES // 4 * 3


cdef void pack_columns(const matrix_t *A, floating *packed) noexcept nogil:
    """The rows of A, which lie side by side in memory, block by block of `split_rows`, each ``[k][mr]``.

    All blocks at once, step by step of k, so that memory is read in its order. Whole vectors are copied: what lies
    behind the numbers of a step, the next one overwrites. The last step has none behind it, and the last but one must
    not reach beyond it, where another block begins: mr is at least half of ``whole``, since `outer_packed` has at least
    31 rows of A.
    """
    cdef const floating *data = <const floating *>A.data
    cdef floating *block
    cdef Py_ssize_t i, k, n_longer, whole = round_up(MR, lanes(packed)) * sizeof(floating)
    cdef int mr, m_block = split_rows(A.rows, &n_longer)
    for k in range(A.columns):
        i = 0
        while i < A.rows:
            mr = m_block + 1 if i < n_longer else m_block
            block = packed + i * A.columns + k * mr
            if k + 1 < A.columns:
                memcpy(block, data + i, whole)  # of constant size
            else:
                memcpy(block, data + i, mr * <Py_ssize_t>sizeof(floating))
            i += mr
        data += A.cs
