# The losses: for one entry (or one row, where the softmax joins them) the loss and its derivative, then the loop over
# a tile. A loss gives dLoss/dz for its matching output activation, and dLoss/da for any other.
#
# Rows are often shorter than a vector. So the loops over a row run over whole vectors, what lies behind it included:
# of constant length they become one instruction for all of it.

cdef inline floating squared_error(floating a, floating y, floating *d) noexcept nogil:
    d[0] = a - y
    return <floating>0.5 * d[0] * d[0]

cdef inline floating huber(floating a, floating y, floating *d) noexcept nogil:
    cdef floating r = a - y, c
    c = select(r > 1, <floating>1, r)
    c = select(c < -1, <floating>-1, c)
    d[0] = c
    return c * (r - <floating>0.5 * c)

cdef inline floating absolute_error(floating a, floating y, floating *d) noexcept nogil:
    cdef floating r = a - y
    d[0] = select(r > 0, <floating>1, select(r < 0, <floating>-1, r))
    return abs_(r)

cdef inline floating binary_cross_entropy(floating z, floating y, floating *d) noexcept nogil:
    """``log(1 + e^z) - y z``, written so that nothing overflows or cancels; one exponential for it and the sigmoid."""
    cdef floating e = exp_(-abs_(z))
    d[0] = select(z < 0, e, <floating>1) / (<floating>1 + e) - y
    return log1p_(e) + select(z > 0, (<floating>1 - y) * z, -y * z)

cdef inline floating poisson(floating z, floating y, floating *d) noexcept nogil:
    cdef floating a = exp_(z)
    d[0] = a - y
    return a - y * z


cdef inline floating labelled(const floating *z, int64_t label, floating *delta, Py_ssize_t n, floating largest,
                              floating log_total) noexcept nogil:
    """A row's ``log sum e^z - z_label``; ``delta = a - (1 at the label)``, where it is a."""
    if label < 0 or label >= n:  # changed by another thread since it was checked: no crash, NaN
        delta[0] = INFINITY - INFINITY
        return delta[0]
    delta[label] -= 1
    return log_total - (z[label] - largest)


cdef inline floating distributed(const floating *z, const floating *y, floating *delta, Py_ssize_t n, floating largest,
                                 floating log_total) noexcept nogil:
    """A row's ``sum y (log sum e^z - z)``; ``delta = a sum(y) - y``, where it is a."""
    cdef Py_ssize_t j
    cdef floating weight = 0, loss = 0
    for j in range(n):
        weight += y[j]
        loss += y[j] * (log_total - (z[j] - largest))
    for j in range(n):
        delta[j] = delta[j] * weight - y[j]
    return loss


cdef double cross_entropy(const floating *z, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step, const floating *targets,
                          const int64_t *labels, const floating *weights, floating *delta) noexcept nogil:
    """The weighted losses of a tile, summed, and ``delta``, whose rows lie as those of z."""
    cdef floating largest[LANES_F32]
    cdef floating totals[LANES_F32]
    cdef double total = 0
    cdef floating loss
    cdef Py_ssize_t i, j, k, first = 0
    for k in range(lanes(z)):
        totals[k] = 1
    while first < rows:
        softmax_rows(z + first * step, delta + first * step, min(rows - first, lanes(z)), n, step, largest, totals)
        for k in range(lanes(z)):
            totals[k] = log_(totals[k])
        for k in range(min(rows - first, lanes(z))):
            i = first + k
            if labels != NULL:
                loss = labelled(z + i * step, labels[i], delta + i * step, n, largest[k], totals[k])
            else:
                loss = distributed(z + i * step, targets + i * n, delta + i * step, n, largest[k], totals[k])
            if weights != NULL:
                for j in range(n):
                    delta[i * step + j] *= weights[i]
                total += <double>loss * weights[i]
            else:
                total += loss
        first += lanes(z)
    return total


cdef inline void entry(Loss loss, floating a, floating y, floating *value, floating *d) noexcept nogil:
    if loss == SQUARED_ERROR:
        value[0] = squared_error(a, y, d)
    elif loss == HUBER:
        value[0] = huber(a, y, d)
    elif loss == ABSOLUTE_ERROR:
        value[0] = absolute_error(a, y, d)
    elif loss == BINARY_CROSS_ENTROPY:
        value[0] = binary_cross_entropy(a, y, d)
    else:
        value[0] = poisson(a, y, d)


cdef inline double entries(Loss loss, const floating[:, ::1] A, Py_ssize_t n, const floating *targets,
                           const floating *weights, floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of a tile, summed, for a loss that is a constant here, of each entry by itself."""
    cdef Py_ssize_t i, j, k, rows = A.shape[0]
    cdef const floating *y
    cdef floating rest[LANES_F32]
    cdef floating value[LANES_F32]
    cdef floating d[LANES_F32]
    cdef double sums[LANES_F32]
    cdef double total = 0
    cdef floating weight = 1
    memset(rest, 0, sizeof(rest))
    j = 0
    while j < n:
        memset(sums, 0, sizeof(sums))
        for i in range(rows):
            y = targets + i * n + j
            if i * n + j + lanes(targets) > rows * n:  # the last targets of all: nothing is read behind them
                memcpy(rest, y, (n - j if n - j < lanes(targets) else lanes(targets)) * sizeof(floating))
                y = rest
            if weights != NULL:
                weight = weights[i]
            for k in range(lanes(targets)):
                entry(loss, (&A[i, j])[k], y[k], &value[k], &d[k])
                d[k] = weight * d[k]
                value[k] = weight * value[k]
            memcpy(&delta[i, j], d, lanes(targets) * sizeof(floating))
            for k in range(lanes(targets)):
                sums[k] += value[k]
        for k in range(min(n - j, lanes(targets))):
            total += sums[k]
        j += lanes(targets)
    return total


cdef double loss_and_delta(const plan_t *plan, const floating[:, ::1] A, Py_ssize_t n, const floating *targets,
                           const int64_t *labels, const floating *weights, floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of a tile, summed, and its ``delta(L)``.

    A are the activations of the output layer, n of them in a padded row, or the logits, where the loss is of them.
    Either ``targets`` (rows x n) or ``labels`` (rows) is not NULL; ``weights`` (rows) may be NULL.
    """
    if plan.loss == SQUARED_ERROR:
        return entries(SQUARED_ERROR, A, n, targets, weights, delta)
    if plan.loss == HUBER:
        return entries(HUBER, A, n, targets, weights, delta)
    if plan.loss == ABSOLUTE_ERROR:
        return entries(ABSOLUTE_ERROR, A, n, targets, weights, delta)
    if plan.loss == BINARY_CROSS_ENTROPY:
        return entries(BINARY_CROSS_ENTROPY, A, n, targets, weights, delta)
    if plan.loss == POISSON:
        return entries(POISSON, A, n, targets, weights, delta)
    return cross_entropy(&A[0, 0], A.shape[0], n, A.shape[1], targets, labels, weights, &delta[0, 0])
