# What threads add outside of the loops.

cdef object merge_sums_typed(floating[::1] sums, const sum_t[::1] others):
    cdef Py_ssize_t n = sums.shape[0]
    cdef float_mode_t mode
    if others.shape[0] != n:
        raise ValueError(f"others must have {n} entries, got {others.shape[0]}")
    if n > 0:
        with nogil:
            mode = flush_subnormals()
            add_in_place(&sums[0], &others[0], n)
            restore_float_mode(mode)


cdef void add_in_place(floating *sums, const sum_t *others, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] += <floating>others[i]


def merge_sums(sums, others):
    """``sums += others``, with the bits of what one call adds for all rows: NumPy would keep subnormal numbers."""
    if sums.itemsize == 4:
        merge_sums_typed[float, float](sums, others)
    elif others.itemsize == 4:
        merge_sums_typed[double, float](sums, others)
    else:
        merge_sums_typed[double, double](sums, others)
