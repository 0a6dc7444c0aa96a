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
        for k in range(whole, n):
            out[j] += a[k] * B[j * rs_b + k]


cdef inline void linear_forward_unpacked(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                                         floating[:, ::1] Z) noexcept nogil:
    """``Z = A W^T + b``, row by row: dot products with the rows of W, four at a time.

    The padding of a row of Z is set to 0, as in the next product: activations and losses run over whole vectors, and
    subnormal numbers there would cost the processor some hundred cycles each.
    """
    cdef Py_ssize_t i, j, r, n = W.shape[1]
    for i in range(A.shape[0]):
        for j in range(W.shape[0]):
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
                                     floating[:, ::1] Z, Py_ssize_t first) noexcept nogil:
    """The same for the outputs from ``first`` on, at most a vector of them, whose padding is set to 0.

    Dot products of a row of W with the rows of A, four at a time.
    """
    cdef Py_ssize_t i = 0, j, r, n = W.shape[1]
    cdef floating z[4]
    cdef bint four
    while i < A.shape[0]:
        four = i + 4 <= A.shape[0]
        for r in range(4 if four else 1):
            memset(&Z[i + r, first], 0, lanes(&Z[0, 0]) * sizeof(floating))
        for j in range(first, W.shape[0]):
            for r in range(4):
                z[r] = b[j]
            dot_products(four, &W[j, 0], &A[i, 0], A.shape[1], n, z)
            for r in range(4 if four else 1):
                Z[i + r, j] = z[r]
        i += 4 if four else 1


cdef inline void linear_backward_input_unpacked(const floating[:, ::1] delta, const floating[:, ::1] W,
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


cdef inline void linear_backward_weights_unpacked(const floating[:, ::1] delta, const floating[:, ::1] A,
                                                  floating[:, ::1] Delta, bint overwrite) noexcept nogil:
    """``Delta += delta^T A``, or ``=`` if ``overwrite``, row by row."""
    cdef Py_ssize_t i, j, k, m = delta.shape[0]
    cdef floating d
    for j in range(Delta.shape[0]):
        if overwrite:
            d = delta[0, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] = d * A[0, k]
        for i in range(1 if overwrite else 0, m):
            d = delta[i, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] += d * A[i, k]
