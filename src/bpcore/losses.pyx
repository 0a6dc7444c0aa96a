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
    """``log(1 + e^z) - y z`` and ``sigmoid(z) - y = (1 - y) sigmoid(z) - y sigmoid(-z)``.

    Written so that nothing overflows or cancels, for y = 1 as for y = 0; one exponential for all of it.
    """
    cdef floating e = exp_(-abs_(z)), c = select(z > 0, <floating>1 - y, y)
    d[0] = (select(z < 0, e, <floating>1) * (<floating>1 - y) - y * select(z < 0, <floating>1, e)) / (<floating>1 + e)
    return log1p_(e) + select(c == 0, <floating>0, c * abs_(z))  # an infinite z that is right costs nothing

cdef inline floating poisson(floating z, floating y, floating *d) noexcept nogil:
    cdef floating a = exp_(z)
    d[0] = a - y
    return a - y * z


cdef inline floating labelled_delta(int64_t label, floating *delta, Py_ssize_t n) noexcept nogil:
    """``delta = a - (1 at the label)``, where it is a: minus the sum of the others at the label. Returns that sum.

    ``a - 1`` would cancel for every row that is classified well.
    """
    cdef Py_ssize_t j
    cdef floating others
    if label < 0 or label >= n:  # changed by another thread since it was checked: no crash, NaN
        delta[0] = INFINITY - INFINITY
        return delta[0]
    others = delta[label] - delta[label]  # 0, or NaN, which stays one even in a row of its own
    delta[label] = 0
    for j in range(n):
        others += delta[j]
    delta[label] = -others
    return others


cdef inline floating distributed_delta(const floating *y, floating *delta, Py_ssize_t n) noexcept nogil:
    """``delta = a sum(y) - y``, where it is a; the sum of all a but one above 1/2, or 1 if there is none.

    For that one it is ``a (the other y) - y (the other a)``, which does not cancel.
    """
    cdef Py_ssize_t j
    cdef floating weight = 0, others = 0, other_weight = 0, half = 0.5
    cdef bint found = False
    for j in range(n):
        weight += y[j]
        others += select(delta[j] > half, <floating>0, delta[j])
        other_weight += select(delta[j] > half, <floating>0, y[j])
        found |= delta[j] > half
    for j in range(n):
        delta[j] = (delta[j] * select(delta[j] > half, other_weight, weight)
                    - y[j] * select(delta[j] > half, others, <floating>1))
    return others if found else <floating>1


cdef double cross_entropy(const floating *z, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step, const floating *targets,
                          const int64_t *labels, const floating *weights, floating *delta) noexcept nogil:
    """The weighted losses of a tile, summed, and ``delta``, whose rows lie as those of z.

    A row's loss is ``log sum e^z - z_label``, or ``sum y (log sum e^z - z)``. With the largest z taken off, the sum is
    1 and the exponentials of the others, and its logarithm log1p of these: it does not vanish where they are small.
    """
    cdef floating largest[LANES_F32]
    cdef floating totals[LANES_F32]
    cdef floating others[LANES_F32]
    cdef double total = 0
    cdef floating loss, x
    cdef Py_ssize_t i, j, k, first = 0
    for k in range(lanes(z)):
        totals[k] = others[k] = 1
    while first < rows:
        softmax_rows(z + first * step, delta + first * step, min(rows - first, lanes(z)), n, step, largest, totals)
        for k in range(min(rows - first, lanes(z))):
            i = first + k
            if labels == NULL:
                others[k] = distributed_delta(targets + i * n, delta + i * step, n)
            else:
                others[k] = labelled_delta(labels[i], delta + i * step, n)  # more than 1/2 if it is not the largest
        for k in range(lanes(z)):
            x = others[k] * totals[k]
            totals[k] = select(others[k] <= <floating>0.5, log1p_(x), log_(totals[k]))
        for k in range(min(rows - first, lanes(z))):
            i = first + k
            loss = 0
            if labels == NULL:
                for j in range(n):
                    if targets[i * n + j] != 0:  # of an infinite logit, too
                        loss += targets[i * n + j] * (totals[k] - (z[i * step + j] - largest[k]))
            elif 0 <= labels[i] < n:
                loss = totals[k] - (z[i * step + labels[i]] - largest[k])
            else:
                loss = INFINITY - INFINITY
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
