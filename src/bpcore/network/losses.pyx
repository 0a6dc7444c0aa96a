# The losses: for one entry (or one row, where the softmax joins them) the loss and its derivative, then the loop over
# a tile. A loss gives dLoss/dz for its matching output activation, and dLoss/da for any other.
#
# Rows are often shorter than a vector. So the loops over a row run over whole vectors, what lies behind it included:
# of constant length they become one instruction for all of it.

cdef enum:
    # Rows of so many outputs are taken so few at a time: each is in pages of its own.
    WIDE_OUTPUTS = 128
    WIDE_ROWS = 4

cdef inline floating squared_error(floating a, floating y, floating *d) noexcept nogil:
    d[0] = a - y
    return <floating>0.5 * d[0] * d[0]

cdef inline floating huber(floating a, floating y, floating threshold, floating *d) noexcept nogil:
    cdef floating r = a - y, c
    c = select(r > threshold, threshold, r)
    c = select(c < -threshold, -threshold, c)
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
    cdef floating e, c = select(z > 0, <floating>1 - y, y)
    if HAS_FMA:
        e = exp_nonpositive(-abs_(z))
    else:  # GCC does not vectorize the other one in this place
        e = exp_(-abs_(z))
    d[0] = (select(z < 0, e, <floating>1) * (<floating>1 - y) - y * select(z < 0, <floating>1, e)) / (<floating>1 + e)
    return log1p_(e) + select(c == 0, <floating>0, c * abs_(z))  # an infinite z that is right costs nothing

cdef inline floating quantile(floating a, floating y, double q, floating *d) noexcept nogil:
    """The pinball loss: q for each unit that a is too small, 1 - q for each that it is too large."""
    cdef floating r = a - y, rate
    rate = select(r > 0, <floating>(1 - q), select(r < 0, <floating>-q, r))
    d[0] = rate
    return rate * r

cdef inline floating focal(floating z, floating y, floating gamma, floating *d) noexcept nogil:
    """``y F(z) + (1 - y) F(-z)`` for ``F(t) = q^gamma softplus(-t)`` with ``q = sigmoid(-t)``, for gamma > 0.

    ``F' = -q^gamma (gamma p softplus(-t) + q)``. ``q^gamma`` is ``exp(-gamma softplus(t))``; one exponential and one
    logarithm serve both signs of z.
    """
    cdef floating e = exp_(-abs_(z)), low, high, below, above, p, q, power, value, no = <floating>1 - y
    low = log1p_(e)                                 # softplus of -|z|
    high = abs_(z) + low                            # and of |z|
    above, below = <floating>1 / (<floating>1 + e), e / (<floating>1 + e)
    p, q = select(z < 0, below, above), select(z < 0, above, below)
    # y = 1: t is z
    power = exp_(-gamma * select(z < 0, low, high))
    value = select(z < 0, high, low)
    d[0] = select(y == 0, <floating>0, -y * power * (gamma * select(p == 0, <floating>0, p * value) + q))
    value = select(y == 0, <floating>0, y * power * value)
    # y = 0: t is -z
    power = exp_(-gamma * select(z < 0, high, low))
    low = select(z < 0, low, high)
    d[0] += select(no == 0, <floating>0, no * power * (gamma * select(q == 0, <floating>0, q * low) + p))
    return value + select(no == 0, <floating>0, no * power * low)

cdef inline floating hinge(floating a, floating y, floating *d) noexcept nogil:
    cdef floating margin = <floating>1 - y * a
    d[0] = select(margin <= 0, <floating>0, select(margin == margin, -y, margin))
    return select(margin <= 0, <floating>0, margin)

cdef inline floating squared_hinge(floating a, floating y, floating *d) noexcept nogil:
    cdef floating margin = <floating>1 - y * a
    margin = select(margin <= 0, <floating>0, margin)
    d[0] = <floating>-2 * y * margin
    return margin * margin

cdef inline floating gamma_deviance(floating z, floating y, floating *d) noexcept nogil:
    """Half of it, but for terms of y alone: ``z + y e^-z``."""
    cdef floating r = y * exp_(-z)
    d[0] = <floating>1 - r
    return z + r

cdef inline floating tweedie(floating z, floating y, double power, floating *d) noexcept nogil:
    """Half of its deviance, but for terms of y alone, for a power between 1 and 2."""
    cdef floating one = <floating>(power - 1), two = <floating>(2 - power)
    cdef floating low = select(y == 0, <floating>0, y * exp_(-one * z)), high = exp_(two * z)
    d[0] = high - low
    return high / two + low / one

cdef inline floating poisson(floating z, floating y, floating *d) noexcept nogil:
    cdef floating a = exp_(z)
    d[0] = a - y
    return a - y * z


cdef inline floating sparse_cross_entropy_row(int64_t label, floating *delta, Py_ssize_t n) noexcept nogil:
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


cdef inline floating soft_cross_entropy_row(const floating *y, floating *delta, Py_ssize_t n) noexcept nogil:
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


cdef double cross_entropy(const floating[:, ::1] Z, Py_ssize_t n, const batch_t *batch,
                          floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of a tile, summed, and its ``delta``.

    A row's loss is ``log sum e^z - z_label``, or ``sum y (log sum e^z - z)``. With the largest z subtracted, the sum is
    1 and the exponentials of the others, and its logarithm log1p of these: it does not vanish where they are small.
    """
    cdef floating largest[LANES_F32]
    cdef floating totals[LANES_F32]
    cdef floating others[LANES_F32]
    cdef const floating *targets = <const floating *>batch.targets
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef double total = 0
    cdef floating loss, x
    cdef Py_ssize_t i, j, k, count, first = 0, lane = lanes(&Z[0, 0])
    for k in range(lanes(&Z[0, 0])):
        totals[k] = others[k] = 1
    while first < Z.shape[0]:
        count = min(Z.shape[0] - first, lane)
        softmax_rows(matrix(&Z[first, 0], count, Z.shape[1]),
                     matrix(<const floating *>&delta[first, 0], count, Z.shape[1]), n, largest, totals)
        for k in range(count):
            i = first + k
            if batch.labels == NULL:
                others[k] = soft_cross_entropy_row(targets + i * n, &delta[i, 0], n)
            else:  # more than 1/2 if the label's is not the largest
                others[k] = sparse_cross_entropy_row(batch.labels[i], &delta[i, 0], n)
        for k in range(lanes(&Z[0, 0])):
            x = others[k] * totals[k]
            totals[k] = select(others[k] <= <floating>0.5, log1p_(x), log_(totals[k]))
        for k in range(count):
            i = first + k
            loss = 0
            if batch.labels == NULL:
                for j in range(n):
                    if targets[i * n + j] != 0:  # 0 times an infinite logit is 0 here
                        loss += targets[i * n + j] * (totals[k] - (Z[i, j] - largest[k]))
            elif 0 <= batch.labels[i] < n:
                loss = totals[k] - (Z[i, batch.labels[i]] - largest[k])
            else:
                loss = INFINITY - INFINITY
            if weights != NULL:
                for j in range(n):
                    delta[i, j] *= weights[i]
                total += <double>loss * weights[i]
            else:
                total += loss
        first += lane
    return total


cdef inline floating pointwise_loss(Loss loss, double parameter, floating a, floating y, floating *d) noexcept nogil:
    """The loss of one entry, and its derivative; ``loss`` is a constant here."""
    if loss == SQUARED_ERROR:
        return squared_error(a, y, d)
    if loss == HUBER:
        return huber(a, y, <floating>parameter, d)
    if loss == ABSOLUTE_ERROR:
        return absolute_error(a, y, d)
    if loss == BINARY_CROSS_ENTROPY:
        return binary_cross_entropy(a, y, d)
    if loss == QUANTILE:
        return quantile(a, y, parameter, d)
    if loss == FOCAL:
        return focal(a, y, <floating>parameter, d)
    if loss == HINGE:
        return hinge(a, y, d)
    if loss == SQUARED_HINGE:
        return squared_hinge(a, y, d)
    if loss == GAMMA:
        return gamma_deviance(a, y, d)
    if loss == TWEEDIE:
        return tweedie(a, y, parameter, d)
    return poisson(a, y, d)


cdef inline double one_output_loss_rows(Loss loss, double parameter, const floating[:, ::1] A, const batch_t *batch,
                                        floating[:, ::1] delta, Py_ssize_t *done) noexcept nogil:
    """`pointwise_loss_rows` for one output, as many rows at a time as a vector has numbers: the first ``done`` rows."""
    cdef const floating *y = <const floating *>batch.targets
    cdef const floating *weight = <const floating *>batch.sample_weight
    cdef floating z[LANES_F32]
    cdef floating d[LANES_F32]
    cdef floating ones[LANES_F32]
    cdef double sums[LANES_F32]
    cdef double total = 0
    cdef Py_ssize_t i = 0, k, lane = lanes(y)
    for k in range(lanes(y)):
        sums[k], ones[k] = 0, 1
    while i + lane <= A.shape[0]:
        for k in range(lanes(y)):
            z[k] = A[i + k, 0]
        if batch.sample_weight == NULL:
            weight = ones
        for k in range(lanes(y)):
            z[k] = weight[k] * pointwise_loss(loss, parameter, z[k], y[k], &d[k])
            d[k] = weight[k] * d[k]
            sums[k] += z[k]
        for k in range(lanes(y)):
            memset(&delta[i + k, 0], 0, lanes(y) * sizeof(floating))
            delta[i + k, 0] = d[k]
        i, y, weight = i + lane, y + lane, weight + lane
    for k in range(lanes(y)):
        total += sums[k]
    done[0] = i
    return total


cdef inline double pointwise_loss_rows(Loss loss, const head_t *head, const floating[:, ::1] A, const batch_t *batch,
                                       floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of the first rows of a batch, summed, and their ``delta``; ``loss`` is a constant here."""
    cdef Py_ssize_t i, j, k, n = head.layer.n_out, rows = A.shape[0], done = 0
    cdef double parameter = head.parameter
    cdef const floating *targets = <const floating *>batch.targets
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef const floating *y
    cdef const floating *of_outputs = <const floating *>batch.output_weight
    cdef floating rest[LANES_F32]
    cdef floating w[LANES_F32]
    cdef floating value[LANES_F32]
    cdef floating d[LANES_F32]
    cdef double sums[LANES_F32]
    cdef double total = 0
    cdef Py_ssize_t count, end
    cdef floating weight = 1
    if n == 1 and of_outputs == NULL and rows >= lanes(targets):
        total = one_output_loss_rows(loss, parameter, A, batch, delta, &done)
    memset(rest, 0, sizeof(rest))
    while done < rows:
        end = rows if n < WIDE_OUTPUTS else min(done + WIDE_ROWS, rows)
        j = 0
        while j < n:
            memset(sums, 0, sizeof(sums))
            for i in range(done, end):
                y = targets + i * n + j
                count = n - j if n - j < lanes(targets) else lanes(targets)
                if i * n + j + lanes(targets) > batch.rows * n:  # the last targets of all: nothing is read behind them
                    memcpy(rest, y, count * sizeof(floating))
                    y = rest
                if weights != NULL:
                    weight = weights[i]
                for k in range(lanes(targets)):
                    value[k] = pointwise_loss(loss, parameter, (&A[i, j])[k], y[k], &d[k])
                    d[k] = weight * d[k]
                    value[k] = weight * value[k]
                if of_outputs != NULL:
                    memset(w, 0, sizeof(w))
                    memcpy(w, of_outputs + i * n + j, count * sizeof(floating))
                    for k in range(lanes(targets)):  # under a weight 0 a target may be anything
                        d[k] = select(w[k] == 0, <floating>0, w[k] * d[k])
                        value[k] = select(w[k] == 0, <floating>0, w[k] * value[k])
                memcpy(&delta[i, j], d, lanes(targets) * sizeof(floating))
                for k in range(lanes(targets)):
                    sums[k] += value[k]
            for k in range(min(n - j, lanes(targets))):
                total += sums[k]
            j += lanes(targets)
        done = end
    return total


cdef double gaussian_nll_rows(const head_t *head, const floating[:, ::1] A, const batch_t *batch,
                              floating[:, ::1] delta) noexcept nogil:
    """``(s + (y - a)^2 e^-s) / 2``, weighted and summed: the first half of the outputs are a, the second s."""
    cdef Py_ssize_t i, j, n = head.n_targets
    cdef const floating *y = <const floating *>batch.targets
    cdef const floating *of_rows = <const floating *>batch.sample_weight
    cdef const floating *of_outputs = <const floating *>batch.output_weight
    cdef floating weight = 1, r, s, scaled
    cdef double total = 0
    for i in range(A.shape[0]):
        memset(&delta[i, 0], 0, delta.shape[1] * sizeof(floating))
        if of_rows != NULL:
            weight = of_rows[i]
        for j in range(n):
            if of_outputs != NULL:
                weight = of_outputs[i * n + j]
            if weight != 0:  # a target of weight 0 may be anything
                r, s = A[i, j] - y[i * n + j], A[i, n + j]
                scaled = r * exp_(-s) if r != 0 else <floating>0
                total += <double>(weight * (<floating>0.5 * (s + r * scaled)))
                delta[i, j] = weight * scaled
                delta[i, n + j] = weight * (<floating>0.5 * (<floating>1 - r * scaled))
    return total


cdef double loss_and_delta(const head_t *head, const floating[:, ::1] A, const batch_t *batch,
                           floating[:, ::1] delta) noexcept nogil:
    """The weighted losses of rows, summed, and dLoss/dz(L), or dLoss/da(L) if the output is not the canonical one.

    A: the activations of the head, or its logits if the loss is computed from these, for the first rows of the batch.
    This is where the output layer's delta is made.
    """
    if head.loss == SQUARED_ERROR:
        return pointwise_loss_rows(SQUARED_ERROR, head, A, batch, delta)
    if head.loss == HUBER:
        return pointwise_loss_rows(HUBER, head, A, batch, delta)
    if head.loss == ABSOLUTE_ERROR:
        return pointwise_loss_rows(ABSOLUTE_ERROR, head, A, batch, delta)
    if head.loss == BINARY_CROSS_ENTROPY:
        return pointwise_loss_rows(BINARY_CROSS_ENTROPY, head, A, batch, delta)
    if head.loss == POISSON:
        return pointwise_loss_rows(POISSON, head, A, batch, delta)
    if head.loss == QUANTILE:
        return pointwise_loss_rows(QUANTILE, head, A, batch, delta)
    if head.loss == HINGE:
        return pointwise_loss_rows(HINGE, head, A, batch, delta)
    if head.loss == SQUARED_HINGE:
        return pointwise_loss_rows(SQUARED_HINGE, head, A, batch, delta)
    if head.loss == GAMMA:
        return pointwise_loss_rows(GAMMA, head, A, batch, delta)
    if head.loss == TWEEDIE:
        return pointwise_loss_rows(TWEEDIE, head, A, batch, delta)
    if head.loss == FOCAL and head.parameter == 0:
        return pointwise_loss_rows(BINARY_CROSS_ENTROPY, head, A, batch, delta)
    if head.loss == FOCAL:
        return pointwise_loss_rows(FOCAL, head, A, batch, delta)
    if head.loss == GAUSSIAN_NLL:
        return gaussian_nll_rows(head, A, batch, delta)
    return cross_entropy(A, head.layer.n_out, batch, delta)


cdef inline bint target_valid(Loss loss, floating y) noexcept nogil:
    """Whether a target is in the range of the loss; or NaN."""
    if loss == BINARY_CROSS_ENTROPY or loss == FOCAL:
        return not ((y < 0) | (y > 1))
    if loss == HINGE or loss == SQUARED_HINGE:
        return not ((y < -1) | (y > 1))
    if loss == CROSS_ENTROPY or loss == POISSON or loss == TWEEDIE:
        return not y < 0
    if loss == GAMMA:
        return not y <= 0
    return True


cdef bint heads_valid(const plan_t *plan, const batch_t *batch, Py_ssize_t begin, Py_ssize_t end,
                      const floating *tag) noexcept nogil:
    """`targets_valid` of some rows for several heads, or for one loss where single outputs have weights."""
    cdef const floating *weights = <const floating *>batch.output_weight
    cdef const floating *y = <const floating *>batch.targets
    cdef const head_t *head
    cdef Py_ssize_t h, i, j, first
    cdef bint valid = True
    for h in range(max(plan.n_heads, <Py_ssize_t>1)):
        head = &plan.heads[h] if plan.n_heads > 0 else &plan.head
        if target_valid(head.loss, <floating>-2):  # any number is
            continue
        for i in range(begin, end):
            first = i * plan.n_targets + head.first_target
            for j in range(first, first + head.n_targets):
                valid &= (weights != NULL and weights[j] == 0) or target_valid(head.loss, y[j])
    return valid


cdef bint targets_valid(const plan_t *plan, const batch_t *batch, const floating *tag) noexcept nogil:
    """Whether labels are classes, and targets in the range of the loss. Those of weight 0 may have any value."""
    cdef Py_ssize_t i
    cdef bint valid = True
    if batch.sample_weight == NULL and batch.output_weight == NULL:
        return rows_valid(plan, batch, 0, batch.rows, tag)
    if batch.output_weight != NULL and batch.targets != NULL:
        return heads_valid(plan, batch, 0, batch.rows, tag)
    for i in range(batch.rows):
        if has_weight(plan, batch, i, tag):
            valid &= rows_valid(plan, batch, i, i + 1, tag)
    return valid


cdef inline bint rows_valid(const plan_t *plan, const batch_t *batch, Py_ssize_t begin, Py_ssize_t end,
                            const floating *tag) noexcept nogil:
    """The same for some rows, whatever their weight."""
    cdef const floating *y = <const floating *>batch.targets
    cdef Py_ssize_t i, n = plan.n_targets
    cdef bint wrong = False
    if batch.labels != NULL:
        for i in range(begin, end):
            wrong |= (batch.labels[i] < 0) | (batch.labels[i] >= plan.n_outputs)
    elif plan.n_heads > 0:
        return heads_valid(plan, batch, begin, end, tag)
    elif plan.loss == BINARY_CROSS_ENTROPY:  # the usual ones by loops that are vectorized
        for i in range(begin * n, end * n):
            wrong |= not target_valid(BINARY_CROSS_ENTROPY, y[i])
    elif plan.loss == CROSS_ENTROPY or plan.loss == POISSON:
        for i in range(begin * n, end * n):
            wrong |= not target_valid(POISSON, y[i])
    elif target_valid(plan.loss, <floating>-2) == 0:
        for i in range(begin * n, end * n):
            wrong |= not target_valid(plan.loss, y[i])
    return not wrong
