# simd.h as Cython sees it. The vector types are declared as numbers, so that + and * work on them; the C compiler makes
# one instruction of a product and a sum where there is one (-ffp-contract).

cdef extern from "simd.h" nogil:
    ctypedef float f32v "bpcore_f32v"
    ctypedef double f64v "bpcore_f64v"
    f32v load_f32 "bpcore_load_f32"(const float *p)
    f64v load_f64 "bpcore_load_f64"(const double *p)
    f32v splat_f32 "bpcore_splat_f32"(const float *p)
    f64v splat_f64 "bpcore_splat_f64"(const double *p)
    void store_f32 "bpcore_store_f32"(float *p, f32v v)
    void store_f64 "bpcore_store_f64"(double *p, f64v v)
    void prefetch "bpcore_prefetch"(const void *p)
    f32v zero_f32 "bpcore_zero_f32"()
    f64v zero_f64 "bpcore_zero_f64"()
    float sum_f32 "bpcore_sum_f32"(f32v v)
    double sum_f64 "bpcore_sum_f64"(f64v v)
    void sum4_f32 "bpcore_sum4_f32"(const f32v *v, float *out)
    void sum4_f64 "bpcore_sum4_f64"(const f64v *v, double *out)
    float max_f32 "bpcore_max_f32"(float *numbers)
    double max_f64 "bpcore_max_f64"(double *numbers)
    void transpose_f32 "bpcore_transpose_f32"(const float *given, Py_ssize_t given_step, float *out, Py_ssize_t step)
    void transpose_f64 "bpcore_transpose_f64"(const double *given, Py_ssize_t given_step, double *out, Py_ssize_t step)
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
        ROWS "BPCORE_ROWS"
        VECTORS "BPCORE_VECTORS"
        LANES_F32 "BPCORE_LANES_F32"
        LANES_F64 "BPCORE_LANES_F64"
        BLOCK "BPCORE_BLOCK"
        SQUARE_F32 "BPCORE_SQUARE_F32"
        HAS_FMA "BPCORE_HAS_FMA"

ctypedef fused vec:
    f32v
    f64v


cdef inline Py_ssize_t lanes(const floating *p) noexcept nogil:
    """Numbers in a vector; ``p`` only says of which type."""
    if floating is float:
        return LANES_F32
    else:
        return LANES_F64
