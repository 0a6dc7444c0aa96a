# The micro-kernel: MR rows by NR_VECTORS vectors of C in registers, while the inner dimension k runs.
#
# B comes in *panels*: as many columns of it as the block is wide, packed one panel after the other, row by row, padded
# with zeros; packed once and used for every block of rows. A is read in place, one number at a time, broadcast to a
# vector. It is BLIS's scheme without the packing of A, whose rows lie in a near cache here. The letters are BLIS's too:
# rs and cs are row and column strides, in numbers.

cdef struct block_t:
    # One block: C = init + A B, or C += A B.
    Py_ssize_t k
    const void *A
    Py_ssize_t rs_a
    Py_ssize_t cs_a
    const void *B           # rows of vectors
    Py_ssize_t rs_b
    const void *init        # a row of vectors that the sums start from: the bias or zeros; NULL: C += A B
    void *C
    Py_ssize_t rs_c


cdef inline void kernel(int mr, int n_vectors, bint add, const block_t *x, const vec *tag) noexcept nogil:
    """One block of ``mr`` rows by ``n_vectors`` vectors; ``mr``, ``n_vectors`` and ``add`` are constants here.

    What is added to C is summed from 0 first: so the sums of several tiles have the same bits whether each is added
    where it is made, or made elsewhere and added later. ``tag`` only selects the type.
    """
    cdef vec c[MR][NR_VECTORS]
    cdef vec b[NR_VECTORS]
    cdef vec a
    cdef int r, v, half = (mr + 1) // 2
    cdef Py_ssize_t number = number_size(tag), width = number * lanes_of(tag), k = x.k
    cdef Py_ssize_t rs_a = x.rs_a * number, cs_a = x.cs_a * number, rs_b = x.rs_b * number, rs_c = x.rs_c * number
    cdef const char *low = <const char *>x.A
    cdef const char *high = low + half * rs_a
    cdef const char *B = <const char *>x.B
    cdef char *C = <char *>x.C
    for r in range(mr):
        # C is needed in the end, and in a far cache where it is large: every line of it, also the last one, where a row
        # does not begin with a line. NumPy's large arrays do not: they begin 16 bytes behind one.
        for v in range((n_vectors * width + 63) // 64):
            prefetch(C + r * rs_c + v * 64)
        prefetch(C + r * rs_c + n_vectors * width - number)
        for v in range(n_vectors):
            if add:
                set_zero(&c[r][v])
            else:
                c[r][v] = (<const vec *>x.init)[v]
    # Two pointers into A, each for half of the rows: with one, the offsets of all rows need more registers than there
    # are, and some are read from the stack for every k. And a loop that runs at least once: where it might not, the
    # sums go through the stack after it.
    while True:
        for v in range(n_vectors):
            load(B + v * width, &b[v])
        for r in range(mr):
            splat((low + r * rs_a) if r < half else (high + (r - half) * rs_a), &a)
            for v in range(n_vectors):
                c[r][v] = c[r][v] + a * b[v]
        low += cs_a
        high += cs_a
        B += rs_b
        k -= 1
        if k <= 0:
            break
    # Read again, lest the addresses of all rows are kept through the loop.
    x = <const block_t *>opaque(x)
    C, rs_c = <char *>x.C, x.rs_c * number
    for r in range(mr):
        for v in range(n_vectors):
            if add:
                load(C + r * rs_c + v * width, &a)
                c[r][v] = a + c[r][v]
            store(C + r * rs_c + v * width, &c[r][v])


cdef inline void kernel_of_rows(int mr, int n_vectors, bint add, const block_t *x, const vec *tag) noexcept nogil:
    """The kernel whose loops over rows are unrolled for ``mr``; ``n_vectors`` and ``add`` are constants here."""
    if mr == 1:
        kernel(1, n_vectors, add, x, tag)
    elif mr == 2:
        kernel(2, n_vectors, add, x, tag)
    elif mr == 3:
        kernel(3, n_vectors, add, x, tag)
    elif mr == 4:
        kernel(4, n_vectors, add, x, tag)
    elif mr == 5:
        kernel(5, n_vectors, add, x, tag)
    elif mr == 6:
        kernel(6, n_vectors, add, x, tag)
    elif MR >= 7 and mr == 7:
        kernel(7, n_vectors, add, x, tag)
    elif MR >= 8 and mr == 8:
        kernel(8, n_vectors, add, x, tag)
    elif MR >= 9 and mr == 9:
        kernel(9, n_vectors, add, x, tag)
    elif MR >= 10 and mr == 10:
        kernel(10, n_vectors, add, x, tag)
    elif MR >= 11 and mr == 11:
        kernel(11, n_vectors, add, x, tag)
    elif MR >= 12 and mr == 12:
        kernel(12, n_vectors, add, x, tag)
    elif MR >= 13 and mr == 13:
        kernel(13, n_vectors, add, x, tag)
    elif MR >= 14 and mr == 14:
        kernel(14, n_vectors, add, x, tag)


cdef void compute_block(int mr, int n_vectors, const block_t *x, const vec *tag) noexcept nogil:
    """``C = init + A B``, or ``C += A B`` if ``init`` is NULL.

    A kernel for each case: one that chose in its loops would keep its sums in memory, before and after the product.
    """
    if x.init == NULL:
        if n_vectors == NR_VECTORS:
            kernel_of_rows(mr, NR_VECTORS, True, x, tag)
        else:
            kernel_of_rows(mr, 1, True, x, tag)
    elif n_vectors == NR_VECTORS:
        kernel_of_rows(mr, NR_VECTORS, False, x, tag)
    else:
        kernel_of_rows(mr, 1, False, x, tag)


cdef inline void compute_block_of(int mr, int n_vectors, const block_t *x, const floating *tag) noexcept nogil:
    """`compute_block` for numbers of a type."""
    if floating is float:
        compute_block[f32v](mr, n_vectors, x, NULL)
    else:
        compute_block[f64v](mr, n_vectors, x, NULL)


cdef inline int split_rows(Py_ssize_t rows, Py_ssize_t *n_longer) noexcept nogil:
    """Cut rows into as few blocks as possible, evenly: with full blocks first, a short last one would wait for B.

    Returns the rows of a block; blocks before row ``n_longer`` have one more.
    """
    cdef Py_ssize_t blocks = (rows + MR - 1) // MR, mr = rows // blocks
    n_longer[0] = (rows - mr * blocks) * (mr + 1)
    return <int>mr


cdef inline Py_ssize_t padded(Py_ssize_t columns, const floating *tag) noexcept nogil:
    """The next multiple of a vector: the stride in the workspace of rows with so many columns."""
    return round_up(columns, lanes(tag))


# ---------------------------------------------------------------------------------------- the peak of the processor

cdef void multiply_in_registers(Py_ssize_t repeats, vec *numbers) noexcept nogil:
    """``x = f x + x`` for as many vectors as the micro-kernel holds, ``repeats`` times, without touching memory."""
    cdef vec x[MR][NR_VECTORS]
    cdef vec f = numbers[0]
    cdef int r, v
    cdef Py_ssize_t _
    for r in range(MR):
        for v in range(NR_VECTORS):
            x[r][v] = numbers[1]
    for _ in range(repeats):
        for r in range(MR):
            for v in range(NR_VECTORS):
                x[r][v] = x[r][v] * f + x[r][v]
    for r in range(MR):
        for v in range(NR_VECTORS):
            numbers[1] = numbers[1] + x[r][v]
