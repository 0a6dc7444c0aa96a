# Matrices in raw memory, in two forms.
#
# A network has any number of layers; their matrices lie one after the other in flat memory (the caller's parameters,
# the workspace). Cython makes a memoryview of a pointer only through a Python object, with the GIL. But a memoryview
# passed around in C is a plain struct, and one whose owner is None is neither counted nor released: so it can be made
# here by a compound literal, costs nothing, and the loops over it keep what memoryviews are for: two indices, const,
# and bounds checks in a debug build. A matrix_t, with any strides and either type, is an operand of a product.

cdef extern from *:
    """
    #define BPCORE_MATRIX(data, rows, columns) ((__Pyx_memviewslice){ \
        (struct __pyx_memoryview_obj *)Py_None, (char *)(data), {(rows), (columns)}, \
        {(columns) * (Py_ssize_t)sizeof(*(data)), (Py_ssize_t)sizeof(*(data))}, {-1, -1}})
    #define BPCORE_VECTOR(data, size) ((__Pyx_memviewslice){ \
        (struct __pyx_memoryview_obj *)Py_None, (char *)(data), {(size)}, \
        {(Py_ssize_t)sizeof(*(data))}, {-1}})
    """
    float[:, ::1] matrix_f32 "BPCORE_MATRIX"(const float *data, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
    double[:, ::1] matrix_f64 "BPCORE_MATRIX"(const double *data, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
    float[::1] vector_f32 "BPCORE_VECTOR"(const float *data, Py_ssize_t size) noexcept nogil
    double[::1] vector_f64 "BPCORE_VECTOR"(const double *data, Py_ssize_t size) noexcept nogil

cdef struct matrix_t:
    const void *data
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t rs           # row stride, in numbers
    Py_ssize_t cs           # column stride


cdef inline floating[:, ::1] matrix(const floating *data, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """A view of ``rows x columns`` numbers at ``data``; it owns nothing."""
    if floating is float:
        return matrix_f32(data, rows, columns)
    else:
        return matrix_f64(data, rows, columns)


cdef inline floating[::1] vector(const floating *data, Py_ssize_t size) noexcept nogil:
    """A view of ``size`` numbers at ``data``; it owns nothing."""
    if floating is float:
        return vector_f32(data, size)
    else:
        return vector_f64(data, size)


cdef inline matrix_t strided(const void *data, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t rs,
                             Py_ssize_t cs) noexcept nogil:
    cdef matrix_t m
    m.data, m.rows, m.columns, m.rs, m.cs = data, rows, columns, rs, cs
    return m


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    """The next multiple of ``unit``."""
    return (n + unit - 1) // unit * unit


cdef inline char *aligned(char *memory) noexcept nogil:
    """The first cache line that begins in it, at most 64 bytes on."""
    return memory + 64 - (<size_t>memory & 63)
