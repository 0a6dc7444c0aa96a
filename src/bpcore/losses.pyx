# The losses: for one entry (or one row, where the softmax joins them) the loss and its derivative, then the loop over
# a tile. A loss gives dLoss/dz for its matching output activation, and dLoss/da for any other.

cdef inline floating squared_error(floating a, floating y, floating *d) noexcept nogil:
    d[0] = a - y
    return <floating>0.5 * d[0] * d[0]

cdef inline floating huber(floating a, floating y, floating *d) noexcept nogil:
    cdef floating r = a - y
    d[0] = r
    if r > 1:
        d[0] = 1
        return r - <floating>0.5
    if r < -1:
        d[0] = -1
        return -r - <floating>0.5
    return <floating>0.5 * r * r

cdef inline floating absolute_error(floating a, floating y, floating *d) noexcept nogil:
    cdef floating r = a - y
    d[0] = r
    if r > 0:
        d[0] = 1
    elif r < 0:
        d[0] = -1
    return abs_(r)

cdef inline floating binary_cross_entropy(floating z, floating a, floating y, floating *d) noexcept nogil:
    """``log(1 + e^z) - y z``, written so that nothing overflows or cancels."""
    d[0] = a - y
    return log1p_(exp_(-abs_(z))) + select(z > 0, (<floating>1 - y) * z, -y * z)

cdef inline floating poisson(floating z, floating a, floating y, floating *d) noexcept nogil:
    d[0] = a - y
    return a - y * z


cdef double cross_entropy_labels(const floating[:, ::1] Z, const int64_t *labels, floating[:, ::1] delta,
                                 Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Row i's ``log sum e^z - z_label``; ``delta = a - (1 at the label)``."""
    cdef Py_ssize_t j, label = labels[i]
    cdef floating largest = row_max(Z, i, n), total = 0, loss
    for j in range(n):
        delta[i, j] = exp_(Z[i, j] - largest)
    for j in range(n):
        total += delta[i, j]
    for j in range(n):
        delta[i, j] = delta[i, j] / total
    if label < 0 or label >= n:  # changed by another thread since it was checked: no crash, NaN
        delta[i, 0] = loss = INFINITY - INFINITY
        return loss
    delta[i, label] -= 1
    loss = log_(total) - (Z[i, label] - largest)
    return loss


cdef double cross_entropy_rows(const floating[:, ::1] Z, const floating[:, ::1] Y, floating[:, ::1] delta,
                               Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Row i's ``sum y (log sum e^z - z)``; ``delta = a sum(y) - y``."""
    cdef Py_ssize_t j
    cdef floating largest = row_max(Z, i, n), total = 0, weight = 0, log_total, loss = 0
    for j in range(n):
        delta[i, j] = exp_(Z[i, j] - largest)
        total += delta[i, j]
        weight += Y[i, j]
    log_total = log_(total)
    for j in range(n):
        loss += Y[i, j] * (log_total - (Z[i, j] - largest))
        delta[i, j] = delta[i, j] / total * weight - Y[i, j]
    return loss


cdef double loss_and_delta(const plan_t *plan, floating[:, ::1] Z, const floating[:, ::1] A, Py_ssize_t n,
                           const floating *targets, const int64_t *labels, const floating *weights,
                           floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of a tile, summed, and its ``delta(L)``.

    Z are the logits, which are overwritten, and A the activations of the output layer, n of them in a padded row.
    Either ``targets`` (rows x n) or ``labels`` (rows) is not NULL; ``weights`` (rows) may be NULL.
    """
    cdef Py_ssize_t i, j, rows = Z.shape[0]
    cdef floating[:, ::1] Y = matrix(targets, rows, n)
    cdef double total = 0, row
    for i in range(rows):
        row = 0
        # The losses take the place of the logits, and are added up after: a loop that adds is not vectorized.
        if plan.loss == CROSS_ENTROPY:
            if labels != NULL:
                row = cross_entropy_labels(Z, labels, delta, i, n)
            else:
                row = cross_entropy_rows(Z, Y, delta, i, n)
        elif plan.loss == SQUARED_ERROR:
            for j in range(n):
                Z[i, j] = squared_error(A[i, j], Y[i, j], &delta[i, j])
        elif plan.loss == HUBER:
            for j in range(n):
                Z[i, j] = huber(A[i, j], Y[i, j], &delta[i, j])
        elif plan.loss == ABSOLUTE_ERROR:
            for j in range(n):
                Z[i, j] = absolute_error(A[i, j], Y[i, j], &delta[i, j])
        elif plan.loss == BINARY_CROSS_ENTROPY:
            for j in range(n):
                Z[i, j] = binary_cross_entropy(Z[i, j], A[i, j], Y[i, j], &delta[i, j])
        else:
            for j in range(n):
                Z[i, j] = poisson(Z[i, j], A[i, j], Y[i, j], &delta[i, j])
        if plan.loss != CROSS_ENTROPY:
            for j in range(n):
                row += Z[i, j]
        if weights != NULL:
            row *= weights[i]
            for j in range(n):
                delta[i, j] *= weights[i]
        total += row
    return total
