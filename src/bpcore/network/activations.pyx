# The activations: scalar mathematics first, then the loops over a tile.

from libc.math cimport isinf

cdef double LEAKY_SLOPE = 0.01
cdef double LARGE_OUTPUT_GRADIENT = 2.0  # as in fallback.py
cdef double ONE_BY_SQRT_2PI = 0.39894228040143267794


cdef inline floating sigmoid(floating z, floating *complement) noexcept nogil:
    """``1 / (1 + e^-z)``, and ``1 - sigmoid(z)``, which is sigmoid(-z), without cancellation."""
    cdef floating e = exp_nonpositive(-abs_(z))
    cdef floating r = <floating>1 / (<floating>1 + e), s = e * r
    complement[0] = select(z < 0, r, s)
    return select(z < 0, s, r)

cdef inline floating softplus(floating z) noexcept nogil:
    return select(z <= 0, <floating>0, z) + log1p_(exp_nonpositive(-abs_(z)))

cdef inline floating pointwise(Activation activation, floating z, floating *kept) noexcept nogil:
    """``g(z)``; and what some activations keep for their derivative. ``activation`` is a constant here.

    From ``a = g(z)`` alone these derivatives would cancel (``1 - a`` where ``a`` is 1 but for its last digits), or are
    not determined. ``1 - a`` of sigmoid and ``1 - |a|`` of tanh are kept, and g'(z) of the others.
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
        s = normal_sf(abs_(z), kept)
        s = select(z < 0, s, <floating>1 - s)
        kept[0] = s + x * (<floating>ONE_BY_SQRT_2PI * kept[0])
    return select(z == <floating>-INFINITY, <floating>0, z) * s


cdef inline void pointwise_loop(Activation activation, floating *a, Py_ssize_t count, floating *kept) noexcept nogil:
    """``a = g(a)``, in place, and what is kept for the derivative, unless that is NULL.

    Two loops, since one with a choice in it is not vectorized where there are no masked stores. In place, by one
    pointer: with two that might overlap, a loop is vectorized for the case that they do not, and they would.
    """
    cdef Py_ssize_t i
    cdef floating s = 0
    if kept == NULL:
        for i in range(count):
            a[i] = pointwise(activation, a[i], &s)
    else:
        for i in range(count):
            a[i] = pointwise(activation, a[i], &s)
            kept[i] = s


cdef void activate(const layer_t *layer, floating *a, Py_ssize_t rows, floating *kept) noexcept nogil:
    """``a = g(a)`` for the rows of a layer, padding included; ``kept``, if not NULL, gets what `pointwise` keeps.

    ``kept`` is NULL for an activation that keeps nothing.
    """
    cdef Py_ssize_t count = rows * layer.stride
    cdef Activation activation = layer.activation
    if activation == SOFTMAX:
        softmax(matrix(a, rows, layer.stride), layer.n_out)
    elif activation == SIGMOID:
        pointwise_loop(SIGMOID, a, count, kept)
    elif activation == TANH:
        pointwise_loop(TANH, a, count, kept)
    elif activation == RELU:
        pointwise_loop(RELU, a, count, kept)
    elif activation == LEAKY_RELU:
        pointwise_loop(LEAKY_RELU, a, count, kept)
    elif activation == ELU:
        pointwise_loop(ELU, a, count, kept)
    elif activation == SOFTPLUS:
        pointwise_loop(SOFTPLUS, a, count, kept)
    elif activation == EXP:
        pointwise_loop(EXP, a, count, kept)
    elif activation == SILU:
        pointwise_loop(SILU, a, count, kept)
    elif activation == GELU:
        pointwise_loop(GELU, a, count, kept)


cdef void softmax(floating[:, ::1] A, Py_ssize_t n) noexcept nogil:
    """The first n numbers of each row become ``exp(z - max z)`` over its sum."""
    cdef Py_ssize_t i = 0
    cdef floating largest[LANES_F32]
    cdef floating totals[LANES_F32]
    cdef floating[:, ::1] rows
    while i < A.shape[0]:
        rows = matrix(<const floating *>&A[i, 0], min(A.shape[0] - i, lanes(&A[0, 0])), A.shape[1])
        softmax_rows(rows, rows, n, largest, totals)
        i += lanes(&A[0, 0])


cdef enum:
    MAX_NARROW_OUTPUTS = 16


cdef inline void softmax_rows(const floating[:, ::1] Z, floating[:, ::1] A, Py_ssize_t n, floating *largest,
                              floating *totals) noexcept nogil:
    """`softmax_row` of at most as many rows as a vector has numbers; ``A`` may be ``Z``.

    Narrow rows side by side, a vector for each column: one by one, each would be a chain of dependent steps.
    """
    cdef floating columns[MAX_NARROW_OUTPUTS * LANES_F32]
    cdef floating row[MAX_NARROW_OUTPUTS + LANES_F32]
    cdef const floating *z = &Z[0, 0]
    cdef Py_ssize_t i, j, k, lane = lanes(z), rows = Z.shape[0]
    if n > MAX_NARROW_OUTPUTS:
        for i in range(rows):
            totals[i] = softmax_row(&Z[i, 0], &A[i, 0], n, &largest[i])
        return
    for j in range(n):
        for k in range(rows):
            columns[j * lane + k] = Z[k, j]
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
            (columns + j * lane)[k] = exp_nonpositive((columns + j * lane)[k] - largest[k])
            totals[k] += (columns + j * lane)[k]
    for j in range(n):
        for k in range(lanes(z)):
            (columns + j * lane)[k] = (columns + j * lane)[k] / totals[k]
    memset(row, 0, sizeof(row))
    for k in range(rows):
        for j in range(n):
            row[j] = columns[j * lane + k]
        memcpy(&A[k, 0], row, padded(n, z) * sizeof(floating))


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
    top = lane_max(part)
    largest[0] = top
    for k in range(lanes(z)):
        part[k] = 0
    j = 0
    while j < n:
        for k in range(lanes(z)):
            total = exp_nonpositive(z[j + k] - top)  # behind n it may be anything
            total = select(j + k < n, total, <floating>0)
            part[k] += total
            (a + j)[k] = total
        j += lanes(z)
    total = lane_sum(<const floating *>part)
    j = 0
    while j < n:
        for k in range(lanes(z)):
            (a + j)[k] = (a + j)[k] / total
        j += lanes(z)
    return total


cdef void activation_backward(const layer_t *layer, const floating *a, const floating *kept, Py_ssize_t rows,
                              floating *d) noexcept nogil:
    """From dLoss/da to dLoss/dz, in place: ``d *= g'(z)``, or the product with the softmax's Jacobian.

    ``a`` and ``kept`` are what `activate` made.
    """
    cdef Py_ssize_t i, count = rows * layer.stride
    cdef Activation activation = layer.activation
    cdef floating s
    if activation == SOFTMAX:
        softmax_backward(matrix(a, rows, layer.stride), matrix(d, rows, layer.stride), layer.n_out)
    elif activation == SIGMOID:
        for i in range(count):
            d[i] *= a[i] * kept[i]
    elif activation == TANH:
        for i in range(count):
            d[i] *= kept[i] * (<floating>2 - kept[i])
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
            d[i] *= kept[i]


cdef void output_backward(const layer_t *layer, const floating *a, floating *kept, Py_ssize_t rows,
                          floating *d) noexcept nogil:
    """`activation_backward` of the output layer, for a ``dLoss/da(L)`` that the caller computed from the outputs.

    A loss with a pole where sigmoid or tanh ends, like ``1 / (1 - a)`` of a cross-entropy written by hand, gives a d
    with the rounding error of a, many times as large. With the derivative of the same rounded a the two errors cancel;
    so it is used where d is larger than bounded losses usually give. Elsewhere the derivative is exact. In both cases
    the error of the product is at most a rounding error of d. ``kept`` may be changed.
    """
    cdef Py_ssize_t i, count = rows * layer.stride
    cdef floating large = <floating>LARGE_OUTPUT_GRADIENT
    if layer.activation == SIGMOID:
        for i in range(count):
            kept[i] = select(abs_(d[i]) > large, <floating>1 - a[i], kept[i])
    elif layer.activation == TANH:
        for i in range(count):
            kept[i] = select(abs_(d[i]) > large, <floating>1 - abs_(a[i]), kept[i])
    activation_backward(layer, a, kept, rows, d)


cdef void softmax_backward(const floating[:, ::1] A, floating[:, ::1] delta, Py_ssize_t n) noexcept nogil:
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
