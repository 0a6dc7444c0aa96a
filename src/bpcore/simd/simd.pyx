# simd.h as Cython sees it. The vector types are declared as scalars, so that + and * work on them; the C compiler fuses
# a product and a sum into one instruction where there is one (-ffp-contract).

cdef extern from "simd.h" nogil:
    ctypedef float f32v "bpcore_f32v"
    ctypedef double f64v "bpcore_f64v"
    f32v load_f32 "bpcore_load_f32"(const float *p)
    f64v load_f64 "bpcore_load_f64"(const double *p)
    f32v splat_f32 "bpcore_splat_f32"(const float *p)
    f64v splat_f64 "bpcore_splat_f64"(const double *p)
    void store_f32 "bpcore_store_f32"(float *p, f32v v)
    void store_f64 "bpcore_store_f64"(double *p, f64v v)
    f32v zero_f32 "bpcore_zero_f32"()
    f64v zero_f64 "bpcore_zero_f64"()
    float sum_f32 "bpcore_sum_f32"(f32v v)
    double sum_f64 "bpcore_sum_f64"(f64v v)
    void sum4_f32 "bpcore_sum4_f32"(const f32v *v, float *out)
    void sum4_f64 "bpcore_sum4_f64"(const f64v *v, double *out)
    float max_f32 "bpcore_max_f32"(float *numbers)
    double max_f64 "bpcore_max_f64"(double *numbers)
    void transpose_f32 "bpcore_transpose_f32"(const float *src, Py_ssize_t rs_src, float *dst, Py_ssize_t rs_dst)
    void transpose_f64 "bpcore_transpose_f64"(const double *src, Py_ssize_t rs_src, double *dst, Py_ssize_t rs_dst)
    void prefetch "bpcore_prefetch"(const void *p)
    const void *opaque "bpcore_opaque"(const void *p)
    void *exchange "bpcore_exchange"(void **place, void *value)
    int32_t bits_f32 "bpcore_bits_f32"(float x)
    int64_t bits_f64 "bpcore_bits_f64"(double x)
    float select_f32 "bpcore_select_f32"(bint condition, float a, float b)
    double select_f64 "bpcore_select_f64"(bint condition, double a, double b)
    float power_f32 "bpcore_power_f32"(int32_t n)
    double power_f64 "bpcore_power_f64"(int64_t n)
    float number_f32 "bpcore_number_f32"(int32_t i)
    double number_f64 "bpcore_number_f64"(int64_t i)
    float split_f32 "bpcore_split_f32"(float x, float *e)
    double split_f64 "bpcore_split_f64"(double x, double *e)
    int64_t SHIFTED_F64 "BPCORE_SHIFTED_F64"
    enum:
        MR "BPCORE_MR"                          # rows of C that the micro-kernel keeps in registers
        NR_VECTORS "BPCORE_NR_VECTORS"          # and vectors of each
        LANES_F32 "BPCORE_LANES_F32"
        LANES_F64 "BPCORE_LANES_F64"
        BLOCK_NUMBERS "BPCORE_BLOCK"
        HAS_FMA "BPCORE_HAS_FMA"
        TRANSPOSE_F32 "BPCORE_TRANSPOSE_F32"    # rows and columns that transpose_f32 takes; 4 for transpose_f64

ctypedef fused vec:
    f32v
    f64v


cdef inline Py_ssize_t lanes(const floating *p) noexcept nogil:
    """Numbers in a vector; ``p`` only selects the type."""
    if floating is float:
        return LANES_F32
    else:
        return LANES_F64


cdef inline Py_ssize_t transpose_side(const floating *p) noexcept nogil:
    """Rows and columns of the square that `transpose` takes; ``p`` only selects the type."""
    if floating is float:
        return TRANSPOSE_F32
    else:
        return 4


cdef inline void transpose(const floating *src, Py_ssize_t rs_src, floating *dst, Py_ssize_t rs_dst) noexcept nogil:
    """Transpose one square; ``rs``: numbers from one row to the next."""
    if floating is float:
        transpose_f32(src, rs_src, dst, rs_dst)
    else:
        transpose_f64(src, rs_src, dst, rs_dst)


cdef inline floating lane_max(floating *numbers) noexcept nogil:
    """The largest number of a vector in memory, which is overwritten."""
    if floating is float:
        return max_f32(numbers)
    else:
        return max_f64(numbers)


cdef inline floating lane_sum(const floating *numbers) noexcept nogil:
    """The sum of the numbers of a vector in memory."""
    if floating is float:
        return sum_f32(load_f32(numbers))
    else:
        return sum_f64(load_f64(numbers))


# The same operations for code that is generic over vectors. Numbers are addressed by bytes there, since Cython cannot
# name "the number of which vec is a vector".

cdef inline Py_ssize_t lanes_of(const vec *v) noexcept nogil:
    """Numbers in a vector; ``v`` only selects the type."""
    return LANES_F32 if vec is f32v else LANES_F64


cdef inline Py_ssize_t number_size(const vec *v) noexcept nogil:
    """Bytes of a number; ``v`` only selects the type."""
    return sizeof(float) if vec is f32v else sizeof(double)


cdef inline void load(const void *p, vec *v) noexcept nogil:
    if vec is f32v:
        v[0] = load_f32(<const float *>p)
    else:
        v[0] = load_f64(<const double *>p)


cdef inline void splat(const void *p, vec *v) noexcept nogil:
    """All lanes become the number at p."""
    if vec is f32v:
        v[0] = splat_f32(<const float *>p)
    else:
        v[0] = splat_f64(<const double *>p)


cdef inline void store(void *p, vec *v) noexcept nogil:
    if vec is f32v:
        store_f32(<float *>p, v[0])
    else:
        store_f64(<double *>p, v[0])


cdef inline void set_zero(vec *v) noexcept nogil:
    if vec is f32v:
        v[0] = zero_f32()
    else:
        v[0] = zero_f64()
