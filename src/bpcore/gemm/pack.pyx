# Packing of B into panels. Ahead of its k rows a panel has one more, which the sums start from: the bias, or zeros.

cdef inline void transpose_squares(const floating *B, Py_ssize_t k, Py_ssize_t columns, Py_ssize_t cs_b,
                                   floating *panel, Py_ssize_t width) noexcept nogil:
    """``panel[i, j] = B[j, i]`` for whole squares.

    16 numbers of a column before the next columns: the lines of a wide B fall into few sets of the cache, and would be
    evicted before their end.
    """
    cdef Py_ssize_t piece, i, j, side = transpose_side(B)
    for piece in range(0, k, 16):
        j = 0
        while j < columns:
            i = piece
            while i < k and i < piece + 16:
                transpose(B + i + j * cs_b, cs_b, panel + i * width + j, width)
                i += side
            j += side


cdef inline void pack_panel(const matrix_t *B, Py_ssize_t first, Py_ssize_t n, floating *panel,
                            Py_ssize_t width) noexcept nogil:
    """Columns ``first`` to ``first + n`` of B, whose row or column stride is 1, in rows of ``width`` numbers."""
    cdef const floating *data = <const floating *>B.data + first * B.cs
    cdef Py_ssize_t i, j, side = transpose_side(data), whole = B.rows // side * side
    if B.cs == 1:
        for i in range(B.rows):
            for j in range(n):
                panel[i * width + j] = data[i * B.rs + j]
            for j in range(n, width):
                panel[i * width + j] = 0
    else:
        transpose_squares(data, whole, n // side * side, B.cs, panel, width)
        for j in range(n):
            for i in range(0 if j >= n // side * side else whole, B.rows):
                panel[i * width + j] = data[i * B.rs + j * B.cs]
        for j in range(n, width):
            for i in range(B.rows):
                panel[i * width + j] = 0


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
