# The same products for so few rows, or outputs, that packing W costs more than it gains.

cdef enum:
    PACK_MIN_ROWS = 6


cdef inline void lane_products(int count, const void *a, const void *B, Py_ssize_t rs_b, Py_ssize_t n,
                               vec *sums) noexcept nogil:
    """Lane by lane, the products of a with ``count`` rows of B, at most 4, summed; whole vectors of the n numbers."""
    cdef vec c[4]
    cdef vec x, y
    cdef int j
    cdef Py_ssize_t k = 0, number = number_size(sums), lane = lanes_of(sums)
    for j in range(count):
        set_zero(&c[j])
    while k + lane <= n:
        load(<const char *>a + k * number, &x)
        for j in range(count):
            load(<const char *>B + (j * rs_b + k) * number, &y)
            c[j] = c[j] + x * y
        k += lane
    for j in range(count):
        sums[j] = c[j]


cdef inline void dot_products(bint four, const floating *a, const floating *B, Py_ssize_t rs_b, Py_ssize_t n,
                              floating *out) noexcept nogil:
    """The dot products of a with four rows of B or one, each of n numbers; added to ``out``."""
    cdef Py_ssize_t k, whole = n // lanes(a) * lanes(a)
    cdef int j
    cdef floating totals[4]
    cdef f32v sums_f32[4]
    cdef f64v sums_f64[4]
    if whole > 0:
        if floating is float:
            if four:
                lane_products(4, a, B, rs_b, n, sums_f32)
                sum4_f32(sums_f32, totals)
            else:
                lane_products(1, a, B, rs_b, n, sums_f32)
                totals[0] = sum_f32(sums_f32[0])
        elif four:
            lane_products(4, a, B, rs_b, n, sums_f64)
            sum4_f64(sums_f64, totals)
        else:
            lane_products(1, a, B, rs_b, n, sums_f64)
            totals[0] = sum_f64(sums_f64[0])
        for j in range(4 if four else 1):
            out[j] += totals[j]
    for j in range(4 if four else 1):
        totals[j] = out[j]
    for k in range(whole, n):
        for j in range(4 if four else 1):
            totals[j] += a[k] * B[j * rs_b + k]
    for j in range(4 if four else 1):
        out[j] = totals[j]


cdef inline void linear_forward_unpacked(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                                         floating[:, ::1] Z, bint add) noexcept nogil:
    """``Z = A W^T + b``, or ``Z += A W^T`` if ``add``, row by row: dot products with the rows of W, four at a time.

    The padding of a row of Z is set to 0, as in the next product: activations and losses run over whole vectors, and
    subnormal numbers there would cost the processor some hundred cycles each.
    """
    cdef Py_ssize_t i, j, r, n = W.shape[1]
    for i in range(A.shape[0]):
        for j in range(W.shape[0] if not add else 0):
            Z[i, j] = b[j]
        for j in range(W.shape[0], Z.shape[1]):
            Z[i, j] = 0
        j = 0
        while j + 4 <= W.shape[0]:
            dot_products(True, &A[i, 0], &W[j, 0], n, n, &Z[i, j])
            j += 4
        for r in range(j, W.shape[0]):
            dot_products(False, &A[i, 0], &W[r, 0], n, n, &Z[i, r])


cdef inline void linear_forward_last(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                                     floating[:, ::1] Z, Py_ssize_t first, bint add) noexcept nogil:
    """The same for the outputs from ``first`` on, at most a vector of them, whose padding is set to 0.

    Dot products of a row of W with the rows of A, four at a time.
    """
    cdef Py_ssize_t i = 0, j, r, n = W.shape[1]
    cdef floating z[4]
    cdef bint four
    while i < A.shape[0]:
        four = i + 4 <= A.shape[0]
        for r in range(0 if add else 4 if four else 1):
            memset(&Z[i + r, first], 0, lanes(&Z[0, 0]) * sizeof(floating))
        for j in range(first, W.shape[0]):
            for r in range(4):
                z[r] = b[j] if not add else Z[i + r if four else i, j]
            dot_products(four, &W[j, 0], &A[i, 0], A.shape[1], n, z)
            for r in range(4 if four else 1):
                Z[i + r, j] = z[r]
        i += 4 if four else 1


cdef inline void combine_vectors(int count, const char *d, Py_ssize_t n_out, const char *W, Py_ssize_t rs_w, char *D,
                                 const vec *tag) noexcept nogil:
    """``count`` vectors, at most 4, of the sum of the rows of W, each times its number of d.

    Two sums, of every other row, hide the latency of an addition.
    """
    cdef vec even[4]
    cdef vec odd[4]
    cdef vec x, y, w
    cdef int v
    cdef Py_ssize_t j = 0, number = number_size(tag), width = number * lanes_of(tag)
    for v in range(count):
        set_zero(&even[v])
        set_zero(&odd[v])
    while j + 2 <= n_out:
        splat(d + j * number, &x)
        splat(d + (j + 1) * number, &y)
        for v in range(count):
            load(W + v * width, &w)
            even[v] = even[v] + x * w
            load(W + rs_w + v * width, &w)
            odd[v] = odd[v] + y * w
        W += 2 * rs_w
        j += 2
    if j < n_out:
        splat(d + j * number, &x)
        for v in range(count):
            load(W + v * width, &w)
            even[v] = even[v] + x * w
    for v in range(count):
        even[v] = even[v] + odd[v]
        store(D + v * width, &even[v])


cdef void combine_rows(const char *d, Py_ssize_t n_out, const char *W, Py_ssize_t n_in, char *D,
                       const vec *tag) noexcept nogil:
    """The sum of the rows of W, each times its number of d, for rows of at least a vector.

    The last vector ends with the row: what it shares with the one before is computed, and comes out, twice alike.
    """
    cdef Py_ssize_t k = 0, lane = lanes_of(tag), number = number_size(tag), rs_w = n_in * number
    while k + 4 * lane <= n_in:
        combine_vectors(4, d, n_out, W + k * number, rs_w, D + k * number, tag)
        k += 4 * lane
    while k + lane <= n_in:
        combine_vectors(1, d, n_out, W + k * number, rs_w, D + k * number, tag)
        k += lane
    if k < n_in:
        k = n_in - lane
        combine_vectors(1, d, n_out, W + k * number, rs_w, D + k * number, tag)


cdef inline void linear_backward_input_unpacked(const floating[:, ::1] delta, const floating[:, ::1] W,
                                                floating[:, ::1] D) noexcept nogil:
    """``D = delta W``, row by row: a sum of the rows of W."""
    cdef Py_ssize_t i, j, k, n_out = W.shape[0], n_in = W.shape[1]
    cdef floating d
    for i in range(delta.shape[0]):
        memset(&D[i, 0], 0, D.shape[1] * sizeof(floating))
        if n_in >= lanes(&D[0, 0]):
            if floating is float:
                combine_rows[f32v](<const char *>&delta[i, 0], n_out, <const char *>&W[0, 0], n_in, <char *>&D[i, 0],
                                   NULL)
            else:
                combine_rows[f64v](<const char *>&delta[i, 0], n_out, <const char *>&W[0, 0], n_in, <char *>&D[i, 0],
                                   NULL)
        else:
            for j in range(n_out):
                d = delta[i, j]
                for k in range(n_in):
                    D[i, k] += d * W[j, k]


cdef inline void outer_vector(int m, const vec *x, const char *A, Py_ssize_t rs_a, const char *C, bint overwrite,
                              vec *sums) noexcept nogil:
    """One vector of a sum of ``m`` rows of A, each times its x, and of C unless that is overwritten."""
    cdef vec a
    cdef int i
    load(A, &a)
    sums[0] = x[0] * a
    for i in range(1, m):
        load(A + i * rs_a, &a)
        sums[0] = sums[0] + x[i] * a
    if not overwrite:
        load(C, &a)
        sums[0] = a + sums[0]


cdef inline void outer_row(int m, const char *d, Py_ssize_t rs_d, const matrix_t *A, char *C, bint overwrite,
                           const vec *tag) noexcept nogil:
    """A row of ``C += d^T A``, or ``=``, for ``m`` rows, a constant here, of at least a vector.

    The last vector ends with the row. It is computed first, from a C that is still whole, and stored last.
    """
    cdef vec x[PACK_MIN_ROWS]
    cdef vec last, sums
    cdef int i
    cdef Py_ssize_t number = number_size(tag), lane = lanes_of(tag), k = A.columns - lane
    cdef const char *a = <const char *>A.data
    for i in range(m):
        splat(d + i * rs_d * number, &x[i])
    outer_vector(m, x, a + k * number, A.rs * number, C + k * number, overwrite, &last)
    k = 0
    while k + lane < A.columns:
        outer_vector(m, x, a + k * number, A.rs * number, C + k * number, overwrite, &sums)
        store(C + k * number, &sums)
        k += lane
    store(C + (A.columns - lane) * number, &last)


cdef void outer_rows(const matrix_t *d, const matrix_t *A, char *C, Py_ssize_t rs_c, bint overwrite,
                     const vec *tag) noexcept nogil:
    """``C += d^T A``, or ``=``, for fewer than PACK_MIN_ROWS rows."""
    cdef const char *column = <const char *>d.data
    cdef Py_ssize_t _
    for _ in range(d.columns):
        if A.rows == 1:
            outer_row(1, column, d.rs, A, C, overwrite, tag)
        elif A.rows == 2:
            outer_row(2, column, d.rs, A, C, overwrite, tag)
        elif A.rows == 3:
            outer_row(3, column, d.rs, A, C, overwrite, tag)
        elif A.rows == 4:
            outer_row(4, column, d.rs, A, C, overwrite, tag)
        else:
            outer_row(5, column, d.rs, A, C, overwrite, tag)
        column += number_size(tag)
        C += rs_c * number_size(tag)


cdef inline void outer_rows_of(const matrix_t *d, const matrix_t *A, floating *C, Py_ssize_t rs_c,
                               bint overwrite) noexcept nogil:
    """`outer_rows` for numbers of a type."""
    if floating is float:
        outer_rows[f32v](d, A, <char *>C, rs_c, overwrite, NULL)
    else:
        outer_rows[f64v](d, A, <char *>C, rs_c, overwrite, NULL)


cdef inline Py_ssize_t outer_narrow(const matrix_t *d, const matrix_t *A, floating *C) noexcept nogil:
    """``C = d^T A``, where a row of A is shorter than a vector: a vector for each row, and the next one overwrites what
    lies behind it. Returns how many rows of C are made; behind the others there is no room for a vector.
    """
    cdef floating whole[(PACK_MIN_ROWS - 1) * LANES_F32]
    cdef Py_ssize_t i, n = A.columns, lane = lanes(C), behind = (lane + n - 1) // n
    cdef matrix_t part = d[0], vectors = strided(whole, A.rows, lane, lane, 1)
    if d.columns < 2 * behind:  # too few to pay
        return 0
    memset(whole, 0, sizeof(whole))
    for i in range(A.rows):
        memcpy(whole + i * lane, <const floating *>A.data + i * A.rs, n * sizeof(floating))
    part.columns = d.columns - behind + 1
    outer_rows_of(&part, &vectors, C, n, True)
    return part.columns


cdef inline void linear_backward_weights_unpacked(const floating[:, ::1] delta, const floating[:, ::1] A,
                                                  floating[:, ::1] Delta, bint overwrite) noexcept nogil:
    """``Delta += delta^T A``, or ``=`` if ``overwrite``, row by row."""
    cdef Py_ssize_t i, j, k, n_out = Delta.shape[0], n_in = Delta.shape[1]
    cdef matrix_t d = strided(&delta[0, 0], delta.shape[0], n_out, delta.shape[1], 1)
    cdef matrix_t a = strided(&A[0, 0], delta.shape[0], n_in, A.shape[1], 1)
    cdef floating sum
    if n_in >= lanes(&A[0, 0]):
        outer_rows_of(&d, &a, &Delta[0, 0], n_in, overwrite)
        return
    for j in range(outer_narrow(&d, &a, &Delta[0, 0]) if overwrite else 0, n_out):
        for k in range(n_in):
            sum = delta[0, j] * A[0, k]
            for i in range(1, delta.shape[0]):
                sum += delta[i, j] * A[i, k]
            Delta[j, k] = sum if overwrite else Delta[j, k] + sum
