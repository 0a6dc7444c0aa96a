# The activations: scalar mathematics first, then the loops over a tile.

from libc.math cimport isinf

cdef double LEAKY_SLOPE = 0.01
cdef double LARGE_OUTPUT_GRADIENT = 2.0  # as in fallback.py
cdef double ONE_BY_SQRT_2PI = 0.39894228040143267794


cdef inline floating sigmoid(floating z, floating *complement) noexcept nogil:
    """``1 / (1 + e^-z)``, and ``1 - sigmoid(z)``, which is sigmoid(-z), without cancellation."""
    cdef floating e = exp_(-abs_(z))  # never overflows
    cdef floating r = <floating>1 / (<floating>1 + e), s = e * r
    complement[0] = select(z < 0, r, s)
    return select(z < 0, s, r)

cdef inline floating softplus(floating z) noexcept nogil:
    return select(z <= 0, <floating>0, z) + log1p_(exp_(-abs_(z)))

cdef inline floating pointwise(Activation activation, floating z, floating *kept) noexcept nogil:
    """``g(z)``; and what some activations keep of it for their slope. The activation is a constant here.

    From ``a = g(z)`` alone these slopes would cancel (``1 - a`` where ``a`` is 1 but for its last digits), or do not
    follow. ``1 - a`` of sigmoid and ``1 - |a|`` of tanh are kept, and g'(z) of the others.
    """
    cdef floating s, x
    if activation == SIGMOID:
        return sigmoid(z, kept)
    if activation == TANH:
        return tanh_(z, kept)
    if activation == RELU:
        return select(z <= 0, <floating>0, z)
    if activation == LEAKY_RELU:
        return z * select(z > 0, <floating>1, <floating>LEAKY_SLOPE)
    if activation == ELU:
        s = expm1_(z, &x)
        kept[0] = select(z > 0, <floating>1, x)
        return select(z > 0, z, s)
    if activation == SOFTPLUS:
        return softplus(z)
    if activation == EXP:
        return exp_(z)
    x = select(isinf(z), <floating>0, z)
    if activation == SILU:
        s = sigmoid(z, kept)
        kept[0] = s + x * s * kept[0]
    else:  # GELU
        s = normal_tail(abs_(z), kept)
        s = select(z < 0, s, <floating>1 - s)
        kept[0] = s + x * (<floating>ONE_BY_SQRT_2PI * kept[0])
    return select(z == <floating>-INFINITY, <floating>0, z) * s


cdef inline void pointwise_loop(Activation activation, floating *a, Py_ssize_t count, floating *slopes) noexcept nogil:
    """``a = g(a)``, in place, and what is kept for slopes, unless that is NULL.

    Two loops, since one with a choice in it is not vectorized where there are no masked stores.

    In place, by one pointer: with two that might overlap, a loop is vectorized for the case that they do not, and they
    would.
    """
    cdef Py_ssize_t i
    cdef floating s = 0
    if slopes == NULL:
        for i in range(count):
            a[i] = pointwise(activation, a[i], &s)
    else:
        for i in range(count):
            a[i] = pointwise(activation, a[i], &s)
            slopes[i] = s


cdef void activate(Activation activation, floating *a, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step,
                   floating *slopes) noexcept nogil:
    """``a = g(a)`` for rows of n numbers, ``step`` apart.

    ``slopes``, if not NULL, gets what `pointwise` keeps. What lies between the rows is computed along.
    """
    cdef Py_ssize_t count = rows * step
    if activation == SOFTMAX:
        softmax(a, rows, n, step)
    elif activation == SIGMOID:
        pointwise_loop(SIGMOID, a, count, slopes)
    elif activation == TANH:
        pointwise_loop(TANH, a, count, slopes)
    elif activation == RELU:
        pointwise_loop(RELU, a, count, <floating *>NULL)
    elif activation == LEAKY_RELU:
        pointwise_loop(LEAKY_RELU, a, count, <floating *>NULL)
    elif activation == ELU:
        pointwise_loop(ELU, a, count, slopes)
    elif activation == SOFTPLUS:
        pointwise_loop(SOFTPLUS, a, count, <floating *>NULL)
    elif activation == EXP:
        pointwise_loop(EXP, a, count, <floating *>NULL)
    elif activation == SILU:
        pointwise_loop(SILU, a, count, slopes)
    elif activation == GELU:
        pointwise_loop(GELU, a, count, slopes)


cdef void softmax(floating *a, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """The first n numbers of each row become ``exp(z - max z)`` over its sum."""
    cdef Py_ssize_t i = 0
    cdef floating largest[LANES_F32]
    cdef floating totals[LANES_F32]
    while i < rows:
        softmax_rows(<const floating *>a + i * step, a + i * step, min(rows - i, lanes(a)), n, step, largest, totals)
        i += lanes(a)


cdef enum:
    NARROW = 16


cdef inline void softmax_rows(const floating *z, floating *a, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step,
                              floating *largest, floating *totals) noexcept nogil:
    """`softmax_row` of at most as many rows as a vector has numbers; ``a`` may be ``z``.

    Narrow rows side by side, a vector for each column: one by one, each would be a chain of dependent steps.
    """
    cdef floating columns[NARROW * LANES_F32]
    cdef floating row[NARROW + LANES_F32]
    cdef Py_ssize_t i, j, k, lane = lanes(z)
    if n > NARROW:
        for i in range(rows):
            totals[i] = softmax_row(z + i * step, a + i * step, n, &largest[i])
        return
    for j in range(n):
        for k in range(rows):
            columns[j * lane + k] = z[k * step + j]
        for k in range(rows, lane):
            columns[j * lane + k] = 0
    for k in range(lanes(z)):
        largest[k] = columns[k]
        totals[k] = 0
    for j in range(1, n):
        for k in range(lanes(z)):
            largest[k] = select((columns + j * lane)[k] > largest[k], (columns + j * lane)[k], largest[k])
    for j in range(n):
        for k in range(lanes(z)):
            (columns + j * lane)[k] = exp_((columns + j * lane)[k] - largest[k])
            totals[k] += (columns + j * lane)[k]
    for j in range(n):
        for k in range(lanes(z)):
            (columns + j * lane)[k] = (columns + j * lane)[k] / totals[k]
    memset(row, 0, sizeof(row))
    for k in range(rows):
        for j in range(n):
            row[j] = columns[j * lane + k]
        memcpy(a + k * step, row, padded(n, z) * sizeof(floating))


cdef inline floating softmax_row(const floating *z, floating *a, Py_ssize_t n, floating *largest) noexcept nogil:
    """``a = exp(z - max z)`` over the sum of these, which is returned, for a row that is padded to whole vectors.

    ``a`` may be ``z``. A NaN among them makes all of them NaN. By whole vectors: what lies behind n counts as
    -infinity, whose exponential is 0.
    """
    cdef floating part[LANES_F32]
    cdef floating top, total
    cdef Py_ssize_t j, k
    for k in range(lanes(z)):
        part[k] = -INFINITY
    j = 0
    while j < n:
        for k in range(lanes(z)):
            top = select(j + k < n, z[j + k], <floating>-INFINITY)
            part[k] = select(top > part[k], top, part[k])
        j += lanes(z)
    if floating is float:
        top = max_f32(part)
    else:
        top = max_f64(part)
    largest[0] = top
    for k in range(lanes(z)):
        part[k] = 0
    j = 0
    while j < n:
        for k in range(lanes(z)):
            total = exp_(z[j + k] - top)
            total = select(j + k < n, total, <floating>0)
            part[k] += total
            (a + j)[k] = total
        j += lanes(z)
    if floating is float:
        total = sum_f32(load_f32(part))
    else:
        total = sum_f64(load_f64(part))
    j = 0
    while j < n:
        for k in range(lanes(z)):
            (a + j)[k] = (a + j)[k] / total
        j += lanes(z)
    return total


cdef void through(Activation activation, const floating *a, const floating *slopes, Py_ssize_t rows, Py_ssize_t n,
                  Py_ssize_t step, floating *d) noexcept nogil:
    """From ``dLoss/da`` to ``dLoss/dz``, in place: ``d *= g'(z)``, or the softmax's Jacobian; arrays as in activate."""
    cdef Py_ssize_t i, count = rows * step
    cdef floating s
    if activation == SOFTMAX:
        through_softmax(matrix(a, rows, step), matrix(d, rows, step), n)
    elif activation == SIGMOID:
        for i in range(count):
            d[i] *= a[i] * slopes[i]
    elif activation == TANH:
        for i in range(count):
            d[i] *= slopes[i] * (<floating>2 - slopes[i])
    elif activation == RELU:
        for i in range(count):
            d[i] *= select(a[i] > 0, <floating>1, <floating>0)
    elif activation == LEAKY_RELU:
        for i in range(count):
            d[i] *= select(a[i] > 0, <floating>1, <floating>LEAKY_SLOPE)
    elif activation == SOFTPLUS:
        for i in range(count):
            d[i] *= -expm1_(-a[i], &s)
    elif activation == EXP:
        for i in range(count):
            d[i] *= a[i]
    elif activation != IDENTITY:
        for i in range(count):
            d[i] *= slopes[i]


cdef void through_outputs(Activation activation, const floating *a, floating *kept, Py_ssize_t rows, Py_ssize_t n,
                          Py_ssize_t step, floating *d) noexcept nogil:
    """`through`, from a ``dLoss/da(L)`` that the caller computed from the activations. ``kept`` may be changed.

    A loss with a pole where sigmoid or tanh ends, like ``1 / (1 - a)`` of a cross-entropy written by hand, gives a d
    with the rounding error of a, many times as large. With the slope of the same rounded a the two errors cancel; so
    this is taken for all d that a bounded loss would hardly give. For the others the slope is exact. The error of the
    product is at most a rounding error of d in both cases.
    """
    cdef Py_ssize_t i, count = rows * step
    cdef floating large = <floating>LARGE_OUTPUT_GRADIENT
    if activation == SIGMOID:
        for i in range(count):
            kept[i] = select(abs_(d[i]) > large, <floating>1 - a[i], kept[i])
    elif activation == TANH:
        for i in range(count):
            kept[i] = select(abs_(d[i]) > large, <floating>1 - abs_(a[i]), kept[i])
    through(activation, a, kept, rows, n, step, d)


cdef void through_softmax(const floating[:, ::1] A, floating[:, ::1] delta, Py_ssize_t n) noexcept nogil:
    """``delta = a * (dA - sum(dA * a))`` for each row, of n numbers.

    A row's deltas add up to 0: that of the largest a, where the formula cancels, is minus the sum of the others.
    """
    cdef Py_ssize_t i, j, top
    cdef floating mean, others
    for i in range(A.shape[0]):
        mean, top = 0, 0
        for j in range(n):
            mean += delta[i, j] * A[i, j]
            if A[i, j] > A[i, top]:
                top = j
        others = mean - mean  # 0, or NaN, which stays one even in a row of its own
        for j in range(n):
            delta[i, j] = A[i, j] * (delta[i, j] - mean)
            if j != top:
                others += delta[i, j]
        delta[i, top] = -others
