# The three products of backpropagation, over row-major matrices:
#
#     Z = A W^T + b        forward
#     D = delta W          backward
#     Delta += delta^T A   accumulate

cdef void affine(const floating[:, ::1] A, const floating[:, ::1] W, const floating[::1] b,
                 floating[:, ::1] Z) noexcept nogil:
    """``Z = A W^T + b`` for A of shape (rows, n_in), W of shape (n_out, n_in)."""
    cdef Py_ssize_t i, j, k
    cdef floating z
    for i in range(A.shape[0]):
        for j in range(W.shape[0]):
            z = b[j]
            for k in range(W.shape[1]):
                z += A[i, k] * W[j, k]
            Z[i, j] = z


cdef void times_weights(const floating[:, ::1] delta, const floating[:, ::1] W, floating[:, ::1] D) noexcept nogil:
    """``D = delta W`` for delta of shape (rows, n_out), W of shape (n_out, n_in)."""
    cdef Py_ssize_t i, j, k
    cdef floating d
    for i in range(delta.shape[0]):
        for k in range(W.shape[1]):
            D[i, k] = 0
        for j in range(W.shape[0]):
            d = delta[i, j]
            for k in range(W.shape[1]):
                D[i, k] += d * W[j, k]


cdef void add_outer(const floating[:, ::1] delta, const floating[:, ::1] A, floating[:, ::1] Delta) noexcept nogil:
    """``Delta += delta^T A`` for delta of shape (rows, n_out), A of shape (rows, n_in)."""
    cdef Py_ssize_t i, j, k
    cdef floating d
    for i in range(delta.shape[0]):
        for j in range(Delta.shape[0]):
            d = delta[i, j]
            for k in range(Delta.shape[1]):
                Delta[j, k] += d * A[i, k]


cdef void add_columns(const floating[:, ::1] delta, floating[::1] Delta) noexcept nogil:
    """``Delta += delta^T 1``: the bias, whose input is 1."""
    cdef Py_ssize_t i, j
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            Delta[j] += delta[i, j]
