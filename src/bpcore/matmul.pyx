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
    # Rows of a panel used in one go. Such a part of a panel comes from the second-level cache, in order and soon
    # enough; fewer rows would be in the first-level one, but C would be read and written more often, which costs more.
    DEPTH = 512
    # Columns of delta used in one go: whole blocks of 6, 12 or 14 rows.
    GROUP = 84
    # Columns of delta from which on it pays to pack the rows of A that they meet; the second where these do not all
    # fall into the same sets of the cache.
    PACKED_FOR = 96
    PACKED_FOR_SPREAD_ROWS = 384


cdef inline void kernel(int rows, int vectors, bint add, Py_ssize_t depth, const void *A, Py_ssize_t row_step,
                        Py_ssize_t step, const void *B, Py_ssize_t b_step, const vec *start, void *C,
                        Py_ssize_t c_step) noexcept nogil:
    """A block of ``C = start + A B``, or ``C += A B`` if ``add``: ``rows`` by ``vectors`` vectors, constants here.

    ``A[r, k]`` lies ``r * row_step + k * step`` numbers from A, row k of B ``k * b_step`` numbers from B, row r of C
    ``r * c_step`` numbers from C. What is added to C is summed from 0 first: so the sums of several tiles have the
    same bits whether each is added where it is made, or made elsewhere and added later.
    """
    cdef vec c[ROWS][VECTORS]
    cdef vec b[VECTORS]
    cdef vec a
    cdef const void *high
    cdef int r, v, half = (rows + 1) // 2
    cdef Py_ssize_t lane = LANES_F32 if vec is f32v else LANES_F64, number = 4 if vec is f32v else 8
    for r in range(rows):
        for v in range(vectors):
            if not add:
                c[r][v] = start[v]
            elif vec is f32v:
                c[r][v] = zero_f32()
            else:
                c[r][v] = zero_f64()
            if add:  # C is needed in the end, and lies in a far cache where it is large
                prefetch(<char *>C + (r * c_step + v * lane) * number)
    # Two pointers into A, each for half of the rows: with one, the distances of all rows need more registers than
    # there are, and some are read from the stack for every k. And a loop that runs at least once: where it might not,
    # the sums go by the stack after it.
    high = <char *>A + half * row_step * number
    while True:
        for v in range(vectors):
            if vec is f32v:
                b[v] = load_f32(<float *>B + v * LANES_F32)
            else:
                b[v] = load_f64(<double *>B + v * LANES_F64)
        for r in range(rows):
            if vec is f32v:
                a = splat_f32(<float *>(A if r < half else high) + (r if r < half else r - half) * row_step)
            else:
                a = splat_f64(<double *>(A if r < half else high) + (r if r < half else r - half) * row_step)
            for v in range(vectors):
                c[r][v] = c[r][v] + a * b[v]
        A = <char *>A + step * number
        high = <char *>high + step * number
        B = <char *>B + b_step * number
        depth -= 1
        if depth <= 0:
            break
    for r in range(rows):
        for v in range(vectors):
            if vec is f32v:
                if add:
                    c[r][v] = load_f32(<float *>C + r * c_step + v * LANES_F32) + c[r][v]
                store_f32(<float *>C + r * c_step + v * LANES_F32, c[r][v])
            else:
                if add:
                    c[r][v] = load_f64(<double *>C + r * c_step + v * LANES_F64) + c[r][v]
                store_f64(<double *>C + r * c_step + v * LANES_F64, c[r][v])


cdef inline void block_of(int rows, int vectors, bint add, Py_ssize_t depth, const void *A, Py_ssize_t row_step,
                          Py_ssize_t step, const void *B, Py_ssize_t b_step, const vec *start, void *C,
                          Py_ssize_t c_step) noexcept nogil:
    """The kernel whose loops over rows are unrolled for their number; ``vectors`` and ``add`` are constants here."""
    if rows == 1:
        kernel[vec](1, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif rows == 2:
        kernel[vec](2, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif rows == 3:
        kernel[vec](3, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif rows == 4:
        kernel[vec](4, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif rows == 5:
        kernel[vec](5, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif rows == 6:
        kernel[vec](6, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 7 and rows == 7:
        kernel[vec](7, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 8 and rows == 8:
        kernel[vec](8, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 9 and rows == 9:
        kernel[vec](9, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 10 and rows == 10:
        kernel[vec](10, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 11 and rows == 11:
        kernel[vec](11, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 12 and rows == 12:
        kernel[vec](12, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 13 and rows == 13:
        kernel[vec](13, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif ROWS >= 14 and rows == 14:
        kernel[vec](14, vectors, add, depth, A, row_step, step, B, b_step, start, C, c_step)


cdef void block(int rows, int vectors, Py_ssize_t depth, const void *A, Py_ssize_t row_step, Py_ssize_t step,
                const void *B, Py_ssize_t b_step, const vec *start, void *C, Py_ssize_t c_step) noexcept nogil:
    """A block of ``C = start + A B``, or ``C += A B`` if ``start`` is NULL.

    A kernel for each case: one that asked in its loops would keep its sums in memory, before and after the product.
    """
    if start == NULL:
        if vectors == VECTORS:
            block_of[vec](rows, VECTORS, True, depth, A, row_step, step, B, b_step, start, C, c_step)
        else:
            block_of[vec](rows, 1, True, depth, A, row_step, step, B, b_step, start, C, c_step)
    elif vectors == VECTORS:
        block_of[vec](rows, VECTORS, False, depth, A, row_step, step, B, b_step, start, C, c_step)
    else:
        block_of[vec](rows, 1, False, depth, A, row_step, step, B, b_step, start, C, c_step)


cdef inline int block_rows(Py_ssize_t rows, Py_ssize_t *longer) noexcept nogil:
    """Cut rows into as few blocks as can be, evenly: so many rows each, and one more up to row ``longer``.

    With whole blocks first, those of the few rows that are left would wait for B, not for the multiplications.
    """
    cdef Py_ssize_t blocks = (rows + ROWS - 1) // ROWS, short = rows // blocks
    longer[0] = (rows - short * blocks) * (short + 1)
    return <int>short


cdef inline Py_ssize_t padded(Py_ssize_t columns, const floating *number) noexcept nogil:
    """The next whole number of vectors: what a row of so many columns takes in the workspace."""
    return round_up(columns, lanes(number))


cdef inline void transpose_squares(const floating *B, Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t step,
                                   floating *panel, Py_ssize_t width) noexcept nogil:
    """``panel[k, j] = B[j, k]`` for whole squares, whose rows and columns are both vectors.

    16 numbers of a column before the next columns, or the lines of a wide B, which lie in a few sets of the cache,
    would be gone before their end.
    """
    cdef Py_ssize_t piece, j, k, side = SQUARE_F32 if floating is float else 4
    for piece in range(0, depth, 16):
        j = 0
        while j < columns:
            k = piece
            while k < depth and k < piece + 16:
                if floating is float:
                    transpose_f32(B + k + j * step, step, panel + k * width + j, width)
                else:
                    transpose_f64(B + k + j * step, step, panel + k * width + j, width)
                k += side
            j += side


cdef void pack(const floating *B, Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t row_step, Py_ssize_t step,
               const floating *start, floating *panels, watch_t *watch) noexcept nogil:
    """Panels of B, ``B[k, j]`` being ``k * row_step + j * step`` numbers from B; ``start`` may be NULL for zeros.

    One of the two steps is 1.
    """
    cdef Py_ssize_t j, k, n, width, first = 0, lane = lanes(B), full = lane * VECTORS
    cdef Py_ssize_t side = SQUARE_F32 if floating is float else 4
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
            transpose_squares(B + first * step, depth // side * side, n // side * side, step, panel, width)
            for j in range(n):
                for k in range(0 if j >= n // side * side else depth // side * side, depth):
                    panel[k * width + j] = B[k * row_step + (first + j) * step]
            for j in range(n, width):
                for k in range(depth):
                    panel[k * width + j] = 0
        if stopped(watch, PER_MOVE * depth * n):
            return
        panel += depth * width
        first += n


cdef void multiply(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *A, Py_ssize_t row_step,
                   Py_ssize_t step, const floating *panels, floating *C, Py_ssize_t c_step,
                   watch_t *watch) noexcept nogil:
    """``C = start + A B``, for packed B; rows of C are padded to whole vectors.

    The inner dimension is cut outermost: the part of A that all panels meet then stays in the second-level cache.
    """
    cdef Py_ssize_t first, i, k = 0, n, d, lane = lanes(A), longer
    cdef int taken, vectors, short = block_rows(rows, &longer)
    cdef const floating *panel
    while k < depth:
        d = min(<Py_ssize_t>DEPTH, depth - k)
        first, panel = 0, panels
        while first < columns:
            vectors = 1 if columns - first <= lane else VECTORS
            n = vectors * lane
            i = 0
            while i < rows:
                taken = short + 1 if i < longer else short
                if floating is float:
                    block[f32v](taken, vectors, d, A + i * row_step + k * step, row_step, step,
                                panel + (1 + k) * n, n, <f32v *>panel if k == 0 else NULL,
                                C + i * c_step + first, c_step)
                else:
                    block[f64v](taken, vectors, d, A + i * row_step + k * step, row_step, step,
                                panel + (1 + k) * n, n, <f64v *>panel if k == 0 else NULL,
                                C + i * c_step + first, c_step)
                i += taken
            if stopped(watch, rows * d * n):
                return
            panel += (1 + depth) * n
            first += n
        k += d


cdef void multiply_add(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *A, Py_ssize_t row_step,
                       Py_ssize_t step, const floating *B, Py_ssize_t b_step, floating *C, Py_ssize_t c_step,
                       Py_ssize_t c_column, bint fresh, watch_t *watch) noexcept nogil:
    """``C += A B``, or ``C = A B`` if ``fresh``; ``C[i, j]`` lies ``i * c_step + j * c_column`` numbers from C.

    The rows of B lie ``b_step`` numbers apart and go on to whole vectors, or B is packed, and ``b_step`` 0. Where C
    does not take a panel as it is, that goes by a spare block.
    """
    cdef Py_ssize_t first = 0, i, j, r, n, row, left, lane = lanes(A), longer
    cdef int taken, vectors, short = block_rows(rows, &longer)
    cdef const floating *panel
    cdef const floating *start
    cdef floating *to
    cdef floating spare[BLOCK]
    cdef char memory[(1 + VECTORS) * 64]
    cdef const floating *zeros = <floating *>aligned(memory)
    cdef bint whole
    memset(memory, 0, sizeof(memory))
    while first < columns:
        vectors = 1 if columns - first <= lane else VECTORS
        n = vectors * lane
        row = b_step if b_step > 0 else n
        panel = B + first if b_step > 0 else B + first * (1 + depth) + n
        whole = c_column == 1 and first + n <= columns
        i = 0
        while i < rows:
            taken = short + 1 if i < longer else short
            to = C + i * c_step + first if whole else spare
            start = zeros if fresh or not whole else NULL
            if floating is float:
                block[f32v](taken, vectors, depth, A + i * row_step, row_step, step, panel, row, <f32v *>start, to,
                            c_step if whole else n)
            else:
                block[f64v](taken, vectors, depth, A + i * row_step, row_step, step, panel, row, <f64v *>start, to,
                            c_step if whole else n)
            if not whole:
                left = min(n, columns - first)
                if fresh:
                    for r in range(taken):
                        for j in range(left):
                            C[(i + r) * c_step + (first + j) * c_column] = spare[r * n + j]
                else:
                    for r in range(taken):
                        for j in range(left):
                            C[(i + r) * c_step + (first + j) * c_column] += spare[r * n + j]
            i += taken
        if stopped(watch, rows * depth * n):
            return
        first += n


# ------------------------------------------------------------------------------------------- the products, for a tile


cdef inline void affine(const floating[:, ::1] A, Py_ssize_t n_in, const floating *panels, floating[:, ::1] Z,
                        Py_ssize_t n_out, watch_t *watch) noexcept nogil:
    """``Z = A W^T + b`` for the first n_in columns of A; ``panels`` are those of ``W^T``, starting from b."""
    multiply[floating](A.shape[0], n_out, n_in, &A[0, 0], A.shape[1], 1, panels, &Z[0, 0], Z.shape[1],
                       watch)


cdef inline void times_weights(const floating[:, ::1] delta, Py_ssize_t n_out, const floating *panels,
                               floating[:, ::1] D, Py_ssize_t n_in, watch_t *watch) noexcept nogil:
    """``D = delta W``; ``panels`` are those of W, starting from 0."""
    multiply[floating](delta.shape[0], n_in, n_out, &delta[0, 0], delta.shape[1], 1, panels, &D[0, 0], D.shape[1],
                       watch)


cdef inline void add_outer(const floating[:, ::1] delta, const floating[:, ::1] A, floating[:, ::1] Delta,
                           floating *panels, bint fresh, watch_t *watch) noexcept nogil:
    """``Delta += delta^T A``, or ``=`` if ``fresh``; ``panels`` is room for the rows of A.

    The rows of delta are padded to whole vectors.
    Where few columns of A would fill but a part of a vector, the transpose is computed: ``A^T delta``, both in place.
    Else A is read in place where few columns of delta meet it, so that packing would not pay, and packed where many
    do: then a group of them at a time, so that those that all panels meet stay in the second-level cache.
    """
    cdef Py_ssize_t j = 0, count, groups, whole, rows = A.shape[0], n_out = Delta.shape[0], n_in = Delta.shape[1]
    if n_in * padded(n_out, &A[0, 0]) * 4 < n_out * padded(n_in, &A[0, 0]) * 3:
        multiply_add[floating](n_in, n_out, rows, &A[0, 0], 1, A.shape[1], &delta[0, 0], delta.shape[1],
                               &Delta[0, 0], 1, n_in, fresh, watch)
        return
    if n_out < PACKED_FOR or (n_out < PACKED_FOR_SPREAD_ROWS and A.shape[1] * sizeof(floating) % 512 != 0):
        whole = lanes(&A[0, 0]) * VECTORS
        whole = n_in if padded(n_in, &A[0, 0]) <= A.shape[1] else n_in // whole * whole
        multiply_add[floating](n_out, whole, rows, &delta[0, 0], 1, delta.shape[1], &A[0, 0], A.shape[1],
                               &Delta[0, 0], n_in, 1, fresh, watch)
        if whole < n_in:
            pack[floating](&A[0, whole], rows, n_in - whole, A.shape[1], 1, NULL, panels, watch)
            multiply_add[floating](n_out, n_in - whole, rows, &delta[0, 0], 1, delta.shape[1],
                                   panels, 0, &Delta[0, whole], n_in, 1, fresh, watch)
        return
    pack[floating](&A[0, 0], rows, n_in, A.shape[1], 1, NULL, panels, watch)
    groups = (n_out + GROUP - 1) // GROUP
    while j < n_out:
        count = (n_out - j + groups - 1) // groups
        groups -= 1
        multiply_add[floating](count, n_in, rows, &delta[0, j], 1, delta.shape[1], panels, 0, &Delta[j, 0],
                               n_in, 1, fresh, watch)
        if stopped(watch, 0):
            return
        j += count


cdef inline void column_sums(const void *rows, Py_ssize_t count, Py_ssize_t step, vec *total) noexcept nogil:
    """The sum of ``count`` rows of one vector, ``step`` numbers apart; four sums hide the latency of an addition."""
    cdef vec sums[4]
    cdef int r
    cdef Py_ssize_t i = 0
    for r in range(4):
        if vec is f32v:
            sums[r] = zero_f32()
        else:
            sums[r] = zero_f64()
    while i + 4 <= count:
        for r in range(4):
            if vec is f32v:
                sums[r] = sums[r] + load_f32(<float *>rows + (i + r) * step)
            else:
                sums[r] = sums[r] + load_f64(<double *>rows + (i + r) * step)
        i += 4
    while i < count:
        if vec is f32v:
            sums[0] = sums[0] + load_f32(<float *>rows + i * step)
        else:
            sums[0] = sums[0] + load_f64(<double *>rows + i * step)
        i += 1
    total[0] = (sums[0] + sums[1]) + (sums[2] + sums[3])


cdef inline void add_columns(const floating[:, ::1] delta, floating[::1] Delta, bint fresh) noexcept nogil:
    """``Delta += delta^T 1``, or ``=`` if ``fresh``: the bias, whose input is 1; rows as in `add_outer`."""
    cdef Py_ssize_t first = 0, j, n = Delta.shape[0], rows = delta.shape[0], step = delta.shape[1]
    cdef floating sums[LANES_F32]
    cdef f32v sum_of_f32
    cdef f64v sum_of_f64
    while first < n:
        if floating is float:
            column_sums[f32v](&delta[0, first], rows, step, &sum_of_f32)
            store_f32(sums, sum_of_f32)
        else:
            column_sums[f64v](&delta[0, first], rows, step, &sum_of_f64)
            store_f64(sums, sum_of_f64)
        for j in range(min(lanes(&Delta[0]), n - first)):
            Delta[first + j] = sums[j] if fresh else Delta[first + j] + sums[j]
        first += lanes(&Delta[0])


# ------------------------------------------------------------ the same for so few rows that packing W costs more

cdef enum:
    FEW = 6


cdef inline void lane_sums(int count, const void *a, const void *B, Py_ssize_t step, Py_ssize_t n,
                           vec *sums) noexcept nogil:
    """Lane by lane, the products of a with ``count`` rows of B, at most 4, summed; whole vectors of the n numbers."""
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
                c[j] = c[j] + x * load_f32(<float *>B + j * step + k)
            k += LANES_F32
    else:
        while k + <Py_ssize_t>LANES_F64 <= n:
            x = load_f64(<double *>a + k)
            for j in range(count):
                c[j] = c[j] + x * load_f64(<double *>B + j * step + k)
            k += LANES_F64
    for j in range(count):
        sums[j] = c[j]


cdef inline void dots(bint four, const floating *a, const floating *B, Py_ssize_t step, Py_ssize_t n,
                      floating *out) noexcept nogil:
    """The dot products of a with four rows of B or one, ``step`` numbers apart, each of n numbers; added to ``out``."""
    cdef Py_ssize_t k, whole = n // lanes(a) * lanes(a)
    cdef int j
    cdef floating totals[4]
    cdef f32v sums_f32[4]
    cdef f64v sums_f64[4]
    if whole > 0:
        if floating is float:
            if four:
                lane_sums[f32v](4, a, B, step, n, sums_f32)
                sum4_f32(sums_f32, totals)
            else:
                lane_sums[f32v](1, a, B, step, n, sums_f32)
                totals[0] = sum_f32(sums_f32[0])
        elif four:
            lane_sums[f64v](4, a, B, step, n, sums_f64)
            sum4_f64(sums_f64, totals)
        else:
            lane_sums[f64v](1, a, B, step, n, sums_f64)
            totals[0] = sum_f64(sums_f64[0])
        for j in range(4 if four else 1):
            out[j] += totals[j]
    for j in range(4 if four else 1):
        for k in range(whole, n):
            out[j] += a[k] * B[j * step + k]


cdef inline void affine_few(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                            floating[:, ::1] Z) noexcept nogil:
    """``Z = A W^T + b``, row by row: dot products with the rows of W, four at a time.

    Behind them a row of Z is set to 0, as in the next product: activations and losses run over whole vectors, and what
    happens to lie there may be subnormal, which costs the processor some hundred cycles each.
    """
    cdef Py_ssize_t i, j, r, n = W.shape[1]
    for i in range(A.shape[0]):
        for j in range(W.shape[0]):
            Z[i, j] = b[j]
        for j in range(W.shape[0], Z.shape[1]):
            Z[i, j] = 0
        j = 0
        while j + 4 <= W.shape[0]:
            dots(True, &A[i, 0], &W[j, 0], n, n, &Z[i, j])
            j += 4
        for r in range(j, W.shape[0]):
            dots(False, &A[i, 0], &W[r, 0], n, n, &Z[i, r])


cdef inline void affine_last(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                             floating[:, ::1] Z, Py_ssize_t first) noexcept nogil:
    """The same for the outputs from ``first`` on, at most a vector of them, the rest of which is set to 0.

    Dot products of a row of W with the rows of A, four at a time.
    """
    cdef Py_ssize_t i = 0, j, r, n = W.shape[1]
    cdef floating z[4]
    cdef bint four
    while i < A.shape[0]:
        four = i + 4 <= A.shape[0]
        for r in range(4 if four else 1):
            if floating is float:
                store_f32(&Z[i + r, first], zero_f32())
            else:
                store_f64(&Z[i + r, first], zero_f64())
        for j in range(first, W.shape[0]):
            for r in range(4):
                z[r] = b[j]
            dots(four, &W[j, 0], &A[i, 0], A.shape[1], n, z)
            for r in range(4 if four else 1):
                Z[i + r, j] = z[r]
        i += 4 if four else 1


cdef inline void times_weights_few(const floating[:, ::1] delta, const floating[:, ::1] W,
                                   floating[:, ::1] D) noexcept nogil:
    """``D = delta W``, row by row: a sum of the rows of W, four at a time."""
    cdef Py_ssize_t i, j, k, n_out = W.shape[0], n_in = W.shape[1]
    cdef floating d0, d1, d2, d3
    for i in range(delta.shape[0]):
        for k in range(D.shape[1]):
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
                               floating[:, ::1] Delta, bint fresh) noexcept nogil:
    """``Delta += delta^T A``, or ``=`` if ``fresh``, row by row."""
    cdef Py_ssize_t i, j, k, m = delta.shape[0]
    cdef floating d
    for j in range(Delta.shape[0]):
        if fresh:
            d = delta[0, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] = d * A[0, k]
        for i in range(1 if fresh else 0, m):
            d = delta[i, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] += d * A[i, k]


# --------------------------------------------------------------------------------------------- the processor's limit

cdef void sums_in_registers(Py_ssize_t repeats, vec *numbers) noexcept nogil:
    """``x = f x + x`` for as many vectors as the micro-kernel holds, ``repeats`` times, without touching memory."""
    cdef vec x[ROWS][VECTORS]
    cdef vec f = numbers[0]
    cdef int r, v
    cdef Py_ssize_t _
    for r in range(ROWS):
        for v in range(VECTORS):
            x[r][v] = numbers[1]
    for _ in range(repeats):
        for r in range(ROWS):
            for v in range(VECTORS):
                x[r][v] = x[r][v] * f + x[r][v]
    for r in range(ROWS):
        for v in range(VECTORS):
            numbers[1] = numbers[1] + x[r][v]


def fma_loop(Py_ssize_t repeats, bint single):
    """Multiply and add in registers, as fast as the processor can: ``repeats`` times 256 rounds of all sums of a block.

    Returns
    -------
    operations : float
        How many floating-point operations that took; their rate is the peak that products are measured against.
    """
    cdef char memory[5 * 64]
    cdef char *numbers = aligned(memory)
    memset(memory, repeats & 1, sizeof(memory))  # nothing that the compiler could compute with
    with nogil:
        if single:
            sums_in_registers[f32v](256 * repeats, <f32v *>numbers)
        else:
            sums_in_registers[f64v](256 * repeats, <f64v *>numbers)
    if (<double *>numbers)[LANES_F64] < 0:  # never; but so the loop has a result that is wanted
        raise ArithmeticError()
    return 2.0 * 256 * repeats * ROWS * VECTORS * (LANES_F32 if single else LANES_F64)
