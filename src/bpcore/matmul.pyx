# The three products of backpropagation, over row-major matrices:
#
#     Z = A W^T + b        forward
#     D = delta W          backward
#     Delta += delta^T A   accumulate
#
# All three are C (+)= A B round one micro-kernel: a block of C, ROWS by VECTORS vectors, is held in registers while the
# inner dimension runs. B comes in *panels*, as many columns of it as the block is wide, packed one panel after the
# other, row by row, padded with zeros: packed once and used for every block of rows. A is read in place, one number at
# a time, broadcast to a vector. It is BLIS's scheme without the packing of A, whose rows lie in a near cache here.
#
# Ahead of its rows a panel has one more, what the sums start from: the bias, or zeros.

cdef enum:
    # Rows of a panel used in one go: with VECTORS vectors each they take half of a first-level cache of 32 KB.
    DEPTH = 256
    # Columns of delta used in one go: whole blocks of 6, 12 or 14 rows.
    GROUP = 84


cdef inline void kernel(int rows, int vectors, Py_ssize_t depth, const void *A, Py_ssize_t row_step, Py_ssize_t step,
                        const vec *panel, const vec *start, void *C, Py_ssize_t c_step) noexcept nogil:
    """A block of ``C = start + A B``, or ``C += A B`` if ``start`` is NULL: ``rows`` by ``vectors`` vectors.

    ``A[r, k]`` lies ``r * row_step + k * step`` numbers from A, row r of C ``r * c_step`` numbers from C.
    """
    cdef vec c[ROWS][VECTORS]
    cdef vec b[VECTORS]
    cdef vec a
    cdef int r, v
    cdef Py_ssize_t k
    for r in range(rows):
        for v in range(vectors):
            if start != NULL:
                c[r][v] = start[v]
            elif vec is f32v:
                c[r][v] = load_f32(<float *>C + r * c_step + v * LANES_F32)
            else:
                c[r][v] = load_f64(<double *>C + r * c_step + v * LANES_F64)
    for k in range(depth):
        for v in range(vectors):
            b[v] = panel[k * vectors + v]
        for r in range(rows):
            if vec is f32v:
                a = splat_f32(<float *>A + r * row_step + k * step)
            else:
                a = splat_f64(<double *>A + r * row_step + k * step)
            for v in range(vectors):
                c[r][v] = c[r][v] + a * b[v]
    for r in range(rows):
        for v in range(vectors):
            if vec is f32v:
                store_f32(<float *>C + r * c_step + v * LANES_F32, c[r][v])
            else:
                store_f64(<double *>C + r * c_step + v * LANES_F64, c[r][v])


cdef inline int block_rows(Py_ssize_t left) noexcept nogil:
    """How many of the rows that are left the next block takes: there is a kernel for each of these numbers."""
    if left >= ROWS:
        return ROWS
    if ROWS > 8 and left >= 8:
        return 8
    return 4 if left >= 4 else 2 if left >= 2 else 1


cdef void block(int rows, int vectors, Py_ssize_t depth, const void *A, Py_ssize_t row_step, Py_ssize_t step,
                const vec *panel, const vec *start, void *C, Py_ssize_t c_step) noexcept nogil:
    """The kernel whose loops over rows and vectors are unrolled for these numbers."""
    if vectors == VECTORS:
        if rows == ROWS:
            kernel[vec](ROWS, VECTORS, depth, A, row_step, step, panel, start, C, c_step)
        elif ROWS > 8 and rows == 8:
            kernel[vec](8 if ROWS > 8 else 1, VECTORS, depth, A, row_step, step, panel, start, C, c_step)
        elif rows == 4:
            kernel[vec](4, VECTORS, depth, A, row_step, step, panel, start, C, c_step)
        elif rows == 2:
            kernel[vec](2, VECTORS, depth, A, row_step, step, panel, start, C, c_step)
        else:
            kernel[vec](1, VECTORS, depth, A, row_step, step, panel, start, C, c_step)
    else:
        if rows == ROWS:
            kernel[vec](ROWS, 1, depth, A, row_step, step, panel, start, C, c_step)
        elif ROWS > 8 and rows == 8:
            kernel[vec](8 if ROWS > 8 else 1, 1, depth, A, row_step, step, panel, start, C, c_step)
        elif rows == 4:
            kernel[vec](4, 1, depth, A, row_step, step, panel, start, C, c_step)
        elif rows == 2:
            kernel[vec](2, 1, depth, A, row_step, step, panel, start, C, c_step)
        else:
            kernel[vec](1, 1, depth, A, row_step, step, panel, start, C, c_step)


cdef inline Py_ssize_t padded(Py_ssize_t columns, const floating *number) noexcept nogil:
    """The next whole number of vectors: what a row of so many columns takes in the workspace."""
    return (columns + lanes(number) - 1) // lanes(number) * lanes(number)


cdef void pack(const floating *B, Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t row_step, Py_ssize_t step,
               const floating *start, floating *panels) noexcept nogil:
    """Panels of B, ``B[k, j]`` being ``k * row_step + j * step`` numbers from B; ``start`` may be NULL for zeros.

    One of the two steps is 1.
    """
    cdef Py_ssize_t j, k, n, width, first = 0, lane = lanes(B), full = lane * VECTORS
    cdef floating *panel = panels
    while first < columns:
        n = min(full, columns - first)
        width = lane if n <= lane else full
        for j in range(width):
            panel[j] = start[first + j] if start != NULL and j < n else 0
        panel += width
        if step == 1:
            for k in range(depth):
                for j in range(n):
                    panel[k * width + j] = B[k * row_step + first + j]
                for j in range(n, width):
                    panel[k * width + j] = 0
        else:
            for k in range(0, depth // 4 * 4, 4):  # in squares of 4 by 4, whose rows and columns are both vectors
                for j in range(0, n // 4 * 4, 4):
                    if floating is float:
                        transpose_f32(B + k * row_step + (first + j) * step, step, panel + k * width + j, width)
                    else:
                        transpose_f64(B + k * row_step + (first + j) * step, step, panel + k * width + j, width)
            for j in range(n):
                for k in range(0 if j >= n // 4 * 4 else depth // 4 * 4, depth):
                    panel[k * width + j] = B[k * row_step + (first + j) * step]
            for j in range(n, width):
                for k in range(depth):
                    panel[k * width + j] = 0
        panel += depth * width
        first += n


cdef void multiply(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *A, Py_ssize_t row_step,
                   Py_ssize_t step, const floating *panels, floating *C, Py_ssize_t c_step) noexcept nogil:
    """``C = start + A B``, for packed B; rows of C are padded to whole vectors.

    The inner dimension is cut outermost: the part of A that all panels meet then stays in the second-level cache.
    """
    cdef Py_ssize_t first, i, k = 0, n, d, lane = lanes(A)
    cdef int taken, vectors
    cdef const floating *panel
    while k < depth:
        d = min(<Py_ssize_t>DEPTH, depth - k)
        first, panel = 0, panels
        while first < columns:
            vectors = 1 if columns - first <= lane else VECTORS
            n = vectors * lane
            i = 0
            while i < rows:
                taken = block_rows(rows - i)
                if floating is float:
                    block[f32v](taken, vectors, d, A + i * row_step + k * step, row_step, step,
                                <f32v *>(panel + (1 + k) * n), <f32v *>panel if k == 0 else NULL,
                                C + i * c_step + first, c_step)
                else:
                    block[f64v](taken, vectors, d, A + i * row_step + k * step, row_step, step,
                                <f64v *>(panel + (1 + k) * n), <f64v *>panel if k == 0 else NULL,
                                C + i * c_step + first, c_step)
                i += taken
            panel += (1 + depth) * n
            first += n
        k += d


cdef void multiply_add(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *A, Py_ssize_t row_step,
                       Py_ssize_t step, const floating *panels, floating *C) noexcept nogil:
    """``C += A B`` for packed B and C of exactly ``rows x columns``; a panel that is not full goes by a spare block."""
    cdef Py_ssize_t first = 0, i, j, r, n, lane = lanes(A)
    cdef int taken, vectors
    cdef const floating *panel = panels
    cdef floating spare[BLOCK]
    while first < columns:
        vectors = 1 if columns - first <= lane else VECTORS
        n = vectors * lane
        i = 0
        while i < rows:
            taken = block_rows(rows - i)
            if first + n <= columns:
                if floating is float:
                    block[f32v](taken, vectors, depth, A + i * row_step, row_step, step, <f32v *>(panel + n), NULL,
                                C + i * columns + first, columns)
                else:
                    block[f64v](taken, vectors, depth, A + i * row_step, row_step, step, <f64v *>(panel + n), NULL,
                                C + i * columns + first, columns)
            else:
                if floating is float:
                    block[f32v](taken, vectors, depth, A + i * row_step, row_step, step, <f32v *>(panel + n),
                                <f32v *>panel, spare, n)
                else:
                    block[f64v](taken, vectors, depth, A + i * row_step, row_step, step, <f64v *>(panel + n),
                                <f64v *>panel, spare, n)
                for r in range(taken):
                    for j in range(columns - first):
                        C[(i + r) * columns + first + j] += spare[r * n + j]
            i += taken
        panel += (1 + depth) * n
        first += n


# ------------------------------------------------------------------------------------------- the products, for a tile


cdef inline void affine(const floating[:, ::1] A, Py_ssize_t n_in, const floating *panels, floating[:, ::1] Z,
                        Py_ssize_t n_out) noexcept nogil:
    """``Z = A W^T + b`` for the first n_in columns of A; ``panels`` are those of ``W^T``, starting from b."""
    multiply[floating](A.shape[0], n_out, n_in, &A[0, 0], A.shape[1], 1, panels, &Z[0, 0], Z.shape[1])


cdef inline void times_weights(const floating[:, ::1] delta, Py_ssize_t n_out, const floating *panels,
                               floating[:, ::1] D, Py_ssize_t n_in) noexcept nogil:
    """``D = delta W``; ``panels`` are those of W, starting from 0."""
    multiply[floating](delta.shape[0], n_in, n_out, &delta[0, 0], delta.shape[1], 1, panels, &D[0, 0], D.shape[1])


cdef inline void add_outer(const floating[:, ::1] delta, const floating[:, ::1] A, floating[:, ::1] Delta,
                           floating *panels) noexcept nogil:
    """``Delta += delta^T A``; ``panels`` is room for the rows of A.

    A group of columns of delta at a time: those that all panels meet then stay in the second-level cache.
    """
    cdef Py_ssize_t j = 0, count
    pack[floating](&A[0, 0], A.shape[0], Delta.shape[1], A.shape[1], 1, NULL, panels)
    while j < Delta.shape[0]:
        count = min(<Py_ssize_t>GROUP, Delta.shape[0] - j)
        multiply_add[floating](count, Delta.shape[1], A.shape[0], &delta[0, j], 1, delta.shape[1], panels, &Delta[j, 0])
        j += count


cdef inline void add_columns(const floating[:, ::1] delta, floating[::1] Delta) noexcept nogil:
    """``Delta += delta^T 1``: the bias, whose input is 1."""
    cdef Py_ssize_t i, j
    for i in range(delta.shape[0]):
        for j in range(Delta.shape[0]):
            Delta[j] += delta[i, j]


# ------------------------------------------------------------ the same for so few rows that packing W costs more

cdef enum:
    FEW = 6


cdef inline void dots(int count, const void *a, const void *W, Py_ssize_t n, vec *sums) noexcept nogil:
    """Lane by lane, the products of a with ``count`` rows of W, at most 4, summed; whole vectors of the n numbers."""
    cdef vec c[4]
    cdef vec x
    cdef int j
    cdef Py_ssize_t k = 0
    for j in range(count):
        if vec is f32v:
            c[j] = zero_f32()
        else:
            c[j] = zero_f64()
    if vec is f32v:
        while k + <Py_ssize_t>LANES_F32 <= n:
            x = load_f32(<float *>a + k)
            for j in range(count):
                c[j] = c[j] + x * load_f32(<float *>W + j * n + k)
            k += LANES_F32
    else:
        while k + <Py_ssize_t>LANES_F64 <= n:
            x = load_f64(<double *>a + k)
            for j in range(count):
                c[j] = c[j] + x * load_f64(<double *>W + j * n + k)
            k += LANES_F64
    for j in range(count):
        sums[j] = c[j]


cdef inline void affine_few(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                            floating[:, ::1] Z) noexcept nogil:
    """``Z = A W^T + b``, row by row: dot products with the rows of W, four at a time."""
    cdef Py_ssize_t i, j, r, k, n = W.shape[1], whole = n // lanes(&W[0, 0]) * lanes(&W[0, 0])
    cdef int count
    cdef floating z
    cdef f32v sums_f32[4]
    cdef f64v sums_f64[4]
    for i in range(A.shape[0]):
        j = 0
        while j < W.shape[0]:
            count = 4 if W.shape[0] - j >= 4 else 1
            if whole > 0:
                if floating is float:
                    if count == 4:
                        dots[f32v](4, &A[i, 0], &W[j, 0], n, sums_f32)
                    else:
                        dots[f32v](1, &A[i, 0], &W[j, 0], n, sums_f32)
                else:
                    if count == 4:
                        dots[f64v](4, &A[i, 0], &W[j, 0], n, sums_f64)
                    else:
                        dots[f64v](1, &A[i, 0], &W[j, 0], n, sums_f64)
            for r in range(count):
                z = b[j + r]
                if whole > 0:
                    if floating is float:
                        z += sum_f32(sums_f32[r])
                    else:
                        z += sum_f64(sums_f64[r])
                for k in range(whole, n):
                    z += A[i, k] * W[j + r, k]
                Z[i, j + r] = z
            j += count


cdef inline void times_weights_few(const floating[:, ::1] delta, const floating[:, ::1] W,
                                   floating[:, ::1] D) noexcept nogil:
    """``D = delta W``, row by row: a sum of the rows of W, four at a time."""
    cdef Py_ssize_t i, j, k, n_out = W.shape[0], n_in = W.shape[1]
    cdef floating d0, d1, d2, d3
    for i in range(delta.shape[0]):
        for k in range(n_in):
            D[i, k] = 0
        j = 0
        while j + 4 <= n_out:
            d0, d1, d2, d3 = delta[i, j], delta[i, j + 1], delta[i, j + 2], delta[i, j + 3]
            for k in range(n_in):
                D[i, k] += (d0 * W[j, k] + d1 * W[j + 1, k]) + (d2 * W[j + 2, k] + d3 * W[j + 3, k])
            j += 4
        while j < n_out:
            d0 = delta[i, j]
            for k in range(n_in):
                D[i, k] += d0 * W[j, k]
            j += 1


cdef inline void add_outer_few(const floating[:, ::1] delta, const floating[:, ::1] A,
                               floating[:, ::1] Delta) noexcept nogil:
    """``Delta += delta^T A``, row by row."""
    cdef Py_ssize_t i, j, k
    cdef floating d
    for i in range(delta.shape[0]):
        for j in range(Delta.shape[0]):
            d = delta[i, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] += d * A[i, k]


# --------------------------------------------------------------------------------------------- the processor's limit

cdef void kernel_again_and_again(Py_ssize_t repeats, const vec *panel, const void *A, Py_ssize_t row_step, void *C,
                                 Py_ssize_t c_step) noexcept nogil:
    cdef Py_ssize_t _
    for _ in range(repeats):
        kernel[vec](ROWS, VECTORS, DEPTH, A, row_step, 1, panel, NULL, C, c_step)


def fma_loop(Py_ssize_t repeats, bint single):
    """Multiply and add in registers as fast as the micro-kernel can, ``repeats`` times.

    Returns
    -------
    operations : float
        How many floating-point operations that took; their rate is the peak that products are measured against.
    """
    cdef Py_ssize_t size = (DEPTH * VECTORS + ROWS * VECTORS + 1) * sizeof(f32v) + 64
    cdef char *memory = <char *>malloc(size)
    cdef char *panel = memory + 64 - (<size_t>memory & 63)
    cdef char *C = panel + DEPTH * VECTORS * sizeof(f32v)
    if memory == NULL:
        raise MemoryError()
    memset(memory, 0, size)
    with nogil:
        if single:
            kernel_again_and_again[f32v](repeats, <f32v *>panel, panel, 1, C, VECTORS * LANES_F32)
        else:
            kernel_again_and_again[f64v](repeats, <f64v *>panel, panel, 1, C, VECTORS * LANES_F64)
    free(memory)
    return 2.0 * repeats * DEPTH * ROWS * VECTORS * (LANES_F32 if single else LANES_F64)
