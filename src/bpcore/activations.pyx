# The activations: scalar mathematics first, then the loops over a tile.

from libc.math cimport INFINITY, erfc, erfcf, exp, expf, expm1, expm1f, fabs, fabsf, isinf, log1p, log1pf, log, logf
from libc.math cimport tanh, tanhf

cdef double LEAKY_SLOPE = 0.01
cdef double SQRT_HALF = 0.70710678118654752440
cdef double ONE_BY_SQRT_2PI = 0.39894228040143267794


cdef inline floating exp_(floating z) noexcept nogil:
    if floating is float:
        return expf(z)
    else:
        return exp(z)

cdef inline floating expm1_(floating z) noexcept nogil:
    if floating is float:
        return expm1f(z)
    else:
        return expm1(z)

cdef inline floating log_(floating z) noexcept nogil:
    if floating is float:
        return logf(z)
    else:
        return log(z)

cdef inline floating log1p_(floating z) noexcept nogil:
    if floating is float:
        return log1pf(z)
    else:
        return log1p(z)

cdef inline floating tanh_(floating z) noexcept nogil:
    if floating is float:
        return tanhf(z)
    else:
        return tanh(z)

cdef inline floating abs_(floating z) noexcept nogil:
    if floating is float:
        return fabsf(z)
    else:
        return fabs(z)

cdef inline floating sigmoid(floating z) noexcept nogil:
    cdef floating e = exp_(-abs_(z))  # never overflows
    return (e if z < 0 else <floating>1) / (1 + e)

cdef inline floating softplus(floating z) noexcept nogil:
    return (<floating>0 if z <= 0 else z) + log1p_(exp_(-abs_(z)))

cdef inline floating normal_cdf(floating z) noexcept nogil:
    if floating is float:
        return <float>0.5 * erfcf(-z * <float>SQRT_HALF)
    else:
        return 0.5 * erfc(-z * SQRT_HALF)

cdef inline floating normal_pdf(floating z) noexcept nogil:
    return <floating>ONE_BY_SQRT_2PI * exp_(-z * z / 2)


cdef void activate(Activation activation, floating[:, ::1] Z, floating[:, ::1] A, floating *slopes) noexcept nogil:
    """``A = g(Z)``, where A may be Z itself; ``slopes``, if not NULL, gets ``g'(Z)`` of silu and gelu."""
    cdef Py_ssize_t i, n = Z.shape[0] * Z.shape[1]
    cdef floating *z = &Z[0, 0]
    cdef floating *a = &A[0, 0]
    cdef floating x, s
    if activation == SOFTMAX:
        softmax(Z, A)
    elif activation == IDENTITY:
        if a != z:
            for i in range(n):
                a[i] = z[i]
    elif activation == SIGMOID:
        for i in range(n):
            a[i] = sigmoid(z[i])
    elif activation == TANH:
        for i in range(n):
            a[i] = tanh_(z[i])
    elif activation == RELU:
        for i in range(n):
            a[i] = <floating>0 if z[i] <= 0 else z[i]
    elif activation == LEAKY_RELU:
        for i in range(n):
            a[i] = z[i] if z[i] > 0 else <floating>LEAKY_SLOPE * z[i]
    elif activation == ELU:
        for i in range(n):
            a[i] = z[i] if z[i] > 0 else expm1_(z[i])
    elif activation == SOFTPLUS:
        for i in range(n):
            a[i] = softplus(z[i])
    elif activation == EXP:
        for i in range(n):
            a[i] = exp_(z[i])
    elif activation == SILU:
        for i in range(n):
            x = z[i]
            s = sigmoid(x)
            a[i] = (<floating>0 if x == -INFINITY else x) * s
            if slopes != NULL:
                slopes[i] = s + a[i] * sigmoid(-x)
    elif activation == GELU:
        for i in range(n):
            x = z[i]
            s = normal_cdf(x)
            a[i] = (<floating>0 if x == -INFINITY else x) * s
            if slopes != NULL:
                slopes[i] = s + (<floating>0 if isinf(x) else x) * normal_pdf(x)


cdef void softmax(floating[:, ::1] Z, floating[:, ::1] A) noexcept nogil:
    """Each row of A is ``exp(z - max z)`` over its sum."""
    cdef Py_ssize_t i, j
    cdef floating largest, total
    for i in range(Z.shape[0]):
        largest = row_max(Z, i)
        total = 0
        for j in range(Z.shape[1]):
            A[i, j] = exp_(Z[i, j] - largest)
            total += A[i, j]
        for j in range(Z.shape[1]):
            A[i, j] = A[i, j] / total


cdef inline floating row_max(const floating[:, ::1] Z, Py_ssize_t i) noexcept nogil:
    """The largest entry of row i, or NaN if there is one."""
    cdef Py_ssize_t j
    cdef floating largest = Z[i, 0]
    for j in range(1, Z.shape[1]):
        if not Z[i, j] <= largest:
            largest = Z[i, j]
            if largest != largest:
                break
    return largest


cdef void through(Activation activation, const floating[:, ::1] A, const floating *slopes,
                  floating[:, ::1] delta) noexcept nogil:
    """From ``dLoss/da`` to ``dLoss/dz``, in place: ``delta *= g'(z)``, and the softmax's Jacobian."""
    cdef Py_ssize_t i, n = A.shape[0] * A.shape[1]
    cdef const floating *a = &A[0, 0]
    cdef floating *d = &delta[0, 0]
    if activation == SOFTMAX:
        through_softmax(A, delta)
    elif activation == SIGMOID:
        for i in range(n):
            d[i] *= a[i] * (1 - a[i])
    elif activation == TANH:
        for i in range(n):
            d[i] *= (1 - a[i]) * (1 + a[i])
    elif activation == RELU:
        for i in range(n):
            d[i] *= <floating>1 if a[i] > 0 else <floating>0
    elif activation == LEAKY_RELU:
        for i in range(n):
            d[i] *= <floating>1 if a[i] > 0 else <floating>LEAKY_SLOPE
    elif activation == ELU:
        for i in range(n):
            d[i] *= <floating>1 if a[i] > 0 else a[i] + 1
    elif activation == SOFTPLUS:
        for i in range(n):
            d[i] *= -expm1_(-a[i])
    elif activation == EXP:
        for i in range(n):
            d[i] *= a[i]
    elif activation == SILU or activation == GELU:
        for i in range(n):
            d[i] *= slopes[i]


cdef void through_softmax(const floating[:, ::1] A, floating[:, ::1] delta) noexcept nogil:
    """``delta = a * (dA - sum(dA * a))`` for each row."""
    cdef Py_ssize_t i, j
    cdef floating mean
    for i in range(A.shape[0]):
        mean = 0
        for j in range(A.shape[1]):
            mean += delta[i, j] * A[i, j]
        for j in range(A.shape[1]):
            delta[i, j] = A[i, j] * (delta[i, j] - mean)
