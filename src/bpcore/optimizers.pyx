# The steps of gradient descent, in place, one pass over the parameters.

from libc.math cimport pow, sqrt, sqrtf


cdef inline floating sqrt_(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef void descend(floating *params, const floating *grad, floating *velocity, Py_ssize_t n, double learning_rate,
                  double momentum, bint nesterov) noexcept nogil:
    cdef Py_ssize_t i
    cdef floating rate = <floating>learning_rate, mu = <floating>momentum
    if velocity == NULL:
        for i in range(n):
            params[i] -= rate * grad[i]
    elif nesterov:
        for i in range(n):
            velocity[i] = mu * velocity[i] + grad[i]
            params[i] -= rate * (grad[i] + mu * velocity[i])
    else:
        for i in range(n):
            velocity[i] = mu * velocity[i] + grad[i]
            params[i] -= rate * velocity[i]


cdef inline Py_ssize_t before_line(const floating *numbers, Py_ssize_t n) noexcept nogil:
    """How many of the n numbers lie before the first whole line of the cache."""
    return min(<Py_ssize_t>((64 - (<size_t>numbers & 63)) & 63) // <Py_ssize_t>sizeof(floating), n)


cdef void adam(floating *params, const floating *grad, floating *mean, floating *square, Py_ssize_t n,
               double learning_rate, double beta1, double beta2, double epsilon, long step) noexcept nogil:
    cdef Py_ssize_t i, first = 0, last = before_line(params, n)
    # The corrections for the start at 0 are the same for all entries; in float64, whatever the parameters are.
    cdef floating rate = <floating>(learning_rate / (1 - pow(beta1, step)))
    cdef floating scale = <floating>(1 / sqrt(1 - pow(beta2, step)))
    cdef floating b1 = <floating>beta1, b2 = <floating>beta2, c1 = <floating>(1 - beta1), c2 = <floating>(1 - beta2)
    cdef floating eps = <floating>epsilon
    # From a whole line of the cache on, where the other arrays have one too if their maker saw to it: vectors as long
    # as a line that lie across two take twice the time.
    while first < n:
        for i in range(first, last):
            mean[i] = b1 * mean[i] + c1 * grad[i]
            square[i] = b2 * square[i] + c2 * grad[i] * grad[i]
            params[i] -= rate * mean[i] / (sqrt_(square[i]) * scale + eps)
        first, last = last, n


cdef object gradient_descent_typed(floating[::1] params, const floating[::1] grad, velocity, double learning_rate,
                                   double momentum, bint nesterov):
    cdef floating[::1] v
    cdef floating *into = NULL
    if grad.shape[0] != params.shape[0]:
        raise ValueError("grad does not fit")
    if params.shape[0] == 0:
        return
    if velocity is not None:
        v = velocity
        if v.shape[0] != params.shape[0]:
            raise ValueError("velocity does not fit")
        into = &v[0]
    with nogil:
        descend(&params[0], &grad[0], into, params.shape[0], learning_rate, momentum, nesterov)


def gradient_descent_step(params, grad, velocity, double learning_rate, double momentum, bint nesterov):
    """``v = mu v + g; p -= lr v``; with Nesterov's momentum ``p -= lr (g + mu v)``. In place."""
    if params.itemsize == 4:
        gradient_descent_typed[float](params, grad, velocity, learning_rate, momentum, nesterov)
    else:
        gradient_descent_typed[double](params, grad, velocity, learning_rate, momentum, nesterov)


cdef object adam_typed(floating[::1] params, const floating[::1] grad, floating[::1] mean, floating[::1] square,
                       double learning_rate, double beta1, double beta2, double epsilon, long step):
    cdef Py_ssize_t n = params.shape[0]
    if grad.shape[0] != n or mean.shape[0] != n or square.shape[0] != n:
        raise ValueError("grad, mean or square does not fit")
    if n == 0:
        return
    with nogil:
        adam(&params[0], &grad[0], &mean[0], &square[0], n, learning_rate, beta1, beta2, epsilon, step)


def adam_step(params, grad, mean, square, double learning_rate, double beta1, double beta2, double epsilon, long step):
    """Step number ``step`` (from 1) of Adam, in place: D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1."""
    if params.itemsize == 4:
        adam_typed[float](params, grad, mean, square, learning_rate, beta1, beta2, epsilon, step)
    else:
        adam_typed[double](params, grad, mean, square, learning_rate, beta1, beta2, epsilon, step)
