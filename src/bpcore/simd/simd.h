/* Vectors, for the micro-kernel of gemm/microkernel.pyx: a type of one register for float and one for double, and what
   Cython cannot express about them. Activations, losses and optimizers are scalar code that the compiler vectorizes.

   BPCORE_BYTES is the width of a register, BPCORE_MR x BPCORE_NR_VECTORS the block of outputs that the kernel holds in
   registers: as many as there are, less those for the operands. */
#ifndef BPCORE_SIMD_H
#define BPCORE_SIMD_H

/* A product and a sum become one instruction. With -ffp-contract=fast, Clang decides at every inlined copy of a
   function which of two products is kept exact, so copies differed in their bits. Within an expression it decides once,
   and fuses no less. */
#if defined(__clang__)
#pragma clang fp contract(on)
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) /* 32 registers: 28 sums, 2 of B, 1 of A */
#define BPCORE_BYTES 64
#define BPCORE_MR 14
#elif defined(__AVX2__) /* 16 registers: 12 sums, 2 of B, 1 of A */
#define BPCORE_BYTES 32
#define BPCORE_MR 6
#elif defined(__aarch64__) /* 32 registers */
#define BPCORE_BYTES 16
#define BPCORE_MR 12
#else
#define BPCORE_BYTES 16
#define BPCORE_MR 6
#endif
#define BPCORE_NR_VECTORS 2

#if defined(__GNUC__) || defined(__clang__) /* clang-cl defines the latter only */
#define BPCORE_GNU
#endif

/* -DBPCORE_SCALAR: what MSVC compiles, for GCC and Clang to try. */
#if defined(BPCORE_GNU) && !defined(BPCORE_SCALAR)

typedef float bpcore_f32v __attribute__((vector_size(BPCORE_BYTES)));
typedef double bpcore_f64v __attribute__((vector_size(BPCORE_BYTES)));
/* The same vectors in memory that is aligned as its numbers are. */
typedef bpcore_f32v bpcore_f32u __attribute__((aligned(4), may_alias));
typedef bpcore_f64v bpcore_f64u __attribute__((aligned(8), may_alias));

/* Whether a product and a sum in one expression are one instruction, and rounded once. */
#if defined(__FMA__) || defined(__aarch64__)
#define BPCORE_HAS_FMA 1
#endif

/* "x - zero", not "zero + x": only the first is folded into a broadcasting load, since -0 + 0 is not -0. */
static inline bpcore_f32v bpcore_splat_f32(const float *p) { return *p - (bpcore_f32v){0}; }
static inline bpcore_f64v bpcore_splat_f64(const double *p) { return *p - (bpcore_f64v){0}; }

/* Cython's inline functions are called with constants that unroll their loops: not inlined, a block of sums would live
   in memory. */
#undef CYTHON_INLINE
#define CYTHON_INLINE inline __attribute__((always_inline))

#else /* no vector types: a vector is one number */

#undef BPCORE_BYTES
#define BPCORE_BYTES 0
typedef float bpcore_f32v, bpcore_f32u;
typedef double bpcore_f64v, bpcore_f64u;
static inline bpcore_f32v bpcore_splat_f32(const float *p) { return *p; }
static inline bpcore_f64v bpcore_splat_f64(const double *p) { return *p; }

#endif

static inline bpcore_f32v bpcore_zero_f32(void) { float zero = 0; return bpcore_splat_f32(&zero); }
static inline bpcore_f64v bpcore_zero_f64(void) { double zero = 0; return bpcore_splat_f64(&zero); }

/* Transpose a square of 4 by 4; rs: numbers from one row to the next. Eight shuffles, which no compiler finds. */
#if BPCORE_BYTES && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define BPCORE_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#endif
#endif
#if defined(BPCORE_SHUFFLE)
#define BPCORE_ROW(name, type)                                                                                        \
    typedef type name##_row __attribute__((vector_size(4 * sizeof(type))));                                           \
    typedef name##_row name##_memory __attribute__((aligned(sizeof(type)), may_alias));
BPCORE_ROW(bpcore_transpose_f32, float)
BPCORE_ROW(bpcore_transpose_f64, double)
#define BPCORE_TRANSPOSE(name, type)                                                                                  \
    static inline void name(const type *src, ptrdiff_t rs_src, type *dst, ptrdiff_t rs_dst) {                     \
        name##_row a = *(const name##_memory *)src, b = *(const name##_memory *)(src + rs_src);               \
        name##_row c = *(const name##_memory *)(src + 2 * rs_src);                                              \
        name##_row d = *(const name##_memory *)(src + 3 * rs_src);                                              \
        name##_row p = BPCORE_SHUFFLE(a, b, 0, 4, 1, 5), q = BPCORE_SHUFFLE(a, b, 2, 6, 3, 7);                        \
        name##_row r = BPCORE_SHUFFLE(c, d, 0, 4, 1, 5), s = BPCORE_SHUFFLE(c, d, 2, 6, 3, 7);                        \
        *(name##_memory *)dst = BPCORE_SHUFFLE(p, r, 0, 1, 4, 5);                                                     \
        *(name##_memory *)(dst + rs_dst) = BPCORE_SHUFFLE(p, r, 2, 3, 6, 7);                                            \
        *(name##_memory *)(dst + 2 * rs_dst) = BPCORE_SHUFFLE(q, s, 0, 1, 4, 5);                                        \
        *(name##_memory *)(dst + 3 * rs_dst) = BPCORE_SHUFFLE(q, s, 2, 3, 6, 7);                                        \
    }
#else
#define BPCORE_TRANSPOSE(name, type)                                                                                  \
    static inline void name(const type *src, ptrdiff_t rs_src, type *dst, ptrdiff_t rs_dst) {                     \
        for (int j = 0; j < 4; j++)                                                                                   \
            for (int i = 0; i < 4; i++) dst[j * rs_dst + i] = src[i * rs_src + j];                                \
    }
#endif
BPCORE_TRANSPOSE(bpcore_transpose_f64, double)

/* For float, where a register has eight of them, squares of 8 by 8: halves of pairs of rows, then of pairs of pairs. */
#if defined(BPCORE_SHUFFLE) && BPCORE_BYTES >= 32
#define BPCORE_TRANSPOSE_F32 8
typedef float bpcore_row8 __attribute__((vector_size(32)));
typedef bpcore_row8 bpcore_memory8 __attribute__((aligned(4), may_alias));
static inline void bpcore_transpose_f32(const float *src, ptrdiff_t rs_src, float *dst, ptrdiff_t rs_dst) {
    bpcore_row8 a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = *(const bpcore_memory8 *)(src + i * rs_src);
    for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = __builtin_shufflevector(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        *(bpcore_memory8 *)(dst + i * rs_dst) = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(bpcore_memory8 *)(dst + (i + 4) * rs_dst) =
            __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
#define BPCORE_TRANSPOSE_F32 4
BPCORE_TRANSPOSE(bpcore_transpose_f32, float)
#endif

/* Fetch the cache line of p while other work continues. */
#if defined(BPCORE_GNU)
#define bpcore_prefetch(p) __builtin_prefetch(p, 1)
#else
#define bpcore_prefetch(p) ((void)(p))
#endif

/* The same address, of which the compiler knows nothing: what is read through it is read here, not earlier. */
#if defined(BPCORE_GNU)
static inline const void *bpcore_opaque(const void *p) {
    __asm__("" : "+rm"(p));
    return p;
}
#else
#define bpcore_opaque(p) (p)
#endif

/* How the processor computes: bits of its control register. Numbers that are subnormal, below 1.2e-38 in float, cost
   most processors a hundred cycles each. So the loops run in a mode of their own: subnormal operands and results count
   as 0, rounding is to nearest, nothing traps. Before a call returns, the caller's mode is set again, and so are the
   flags in MXCSR (those of ARM are in another register). Where there is no such mode (x87, other architectures)
   subnormal numbers stay what they are.

   MXCSR: flush to zero (bit 15), all exceptions masked (7 to 12), denormals are zero (6). FPCR: flush to zero, of
   operands and results (24). */
#if defined(__SSE2_MATH__) || defined(_M_X64) /* __SSE2__ alone leaves single numbers to x87 */
#include <xmmintrin.h>
#define BPCORE_FLUSHES 1
typedef unsigned bpcore_float_mode;
static inline bpcore_float_mode bpcore_flush_subnormals(void) {
    unsigned caller = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    return caller;
}
static inline void bpcore_restore_float_mode(bpcore_float_mode caller) { _mm_setcsr(caller); }
#elif defined(__aarch64__) && defined(BPCORE_GNU)
#define BPCORE_FLUSHES 1
typedef uint64_t bpcore_float_mode;
static inline bpcore_float_mode bpcore_flush_subnormals(void) {
    uint64_t caller;
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(1) << 24) : "memory");
    return caller;
}
static inline void bpcore_restore_float_mode(bpcore_float_mode caller) {
    __asm__ volatile("msr fpcr, %0" : : "r"(caller) : "memory");
}
#else
#define BPCORE_FLUSHES 0
typedef unsigned bpcore_float_mode;
static inline bpcore_float_mode bpcore_flush_subnormals(void) { return 0; }
static inline void bpcore_restore_float_mode(bpcore_float_mode caller) { (void)caller; }
#endif

/* x, as it is here. Compilers move arithmetic across a change of the mode, which they do not take for an operand: what
   is computed from this comes after the change before it, and what this is computed from before the change after it. */
static inline double bpcore_pinned(double x) {
#if defined(BPCORE_GNU)
    __asm__ volatile("" : "+m"(x));
#endif
    return x;
}

/* Atomically replace a pointer by another; returns the old one. */
#if defined(BPCORE_GNU)
#define bpcore_exchange(place, value) __atomic_exchange_n(place, value, __ATOMIC_ACQ_REL)
#else
#include <intrin.h>
#define bpcore_exchange(place, value) _InterlockedExchangePointer(place, value)
#endif

#ifndef BPCORE_HAS_FMA
#define BPCORE_HAS_FMA 0
#endif

#define BPCORE_LANES_F32 (sizeof(bpcore_f32v) / sizeof(float))
#define BPCORE_LANES_F64 (sizeof(bpcore_f64v) / sizeof(double))
#define BPCORE_BLOCK (BPCORE_MR * BPCORE_NR_VECTORS * BPCORE_LANES_F32) /* numbers of a block of the kernel, at most */

static inline bpcore_f32v bpcore_load_f32(const float *p) { return *(const bpcore_f32u *)p; }
static inline bpcore_f64v bpcore_load_f64(const double *p) { return *(const bpcore_f64u *)p; }
static inline void bpcore_store_f32(float *p, bpcore_f32v v) { *(bpcore_f32u *)p = v; }
static inline void bpcore_store_f64(double *p, bpcore_f64v v) { *(bpcore_f64u *)p = v; }

/* The sum of a vector's numbers: halves are added until one number is left. */
static inline float bpcore_sum_f32(bpcore_f32v v) {
    float x[BPCORE_LANES_F32];
    memcpy(x, &v, sizeof v);
    for (size_t n = BPCORE_LANES_F32 / 2; n > 0; n /= 2)
        for (size_t i = 0; i < n; i++) x[i] += x[i + n];
    return x[0];
}
static inline double bpcore_sum_f64(bpcore_f64v v) {
    double x[BPCORE_LANES_F64];
    memcpy(x, &v, sizeof v);
    for (size_t n = BPCORE_LANES_F64 / 2; n > 0; n /= 2)
        for (size_t i = 0; i < n; i++) x[i] += x[i + n];
    return x[0];
}

/* The sums of four vectors' numbers. As rows of four, whose sums come out of three additions of shuffled ones; where a
   vector has fewer, one after the other. */
#define BPCORE_SUM4_ONE_BY_ONE(suffix, type)                                                                          \
    static inline void bpcore_sum4_##suffix(const bpcore_##suffix##v *v, type *out) {                                 \
        for (int j = 0; j < 4; j++) out[j] = bpcore_sum_##suffix(v[j]);                                               \
    }
#if defined(BPCORE_SHUFFLE)
#define BPCORE_SUM4(suffix, type)                                                                                     \
    static inline void bpcore_sum4_##suffix(const bpcore_##suffix##v *v, type *out) {                                 \
        typedef bpcore_transpose_##suffix##_row row;                                                                  \
        row q[4];                                                                                                     \
        for (int j = 0; j < 4; j++) {                                                                                 \
            row part[sizeof v[j] / sizeof q[j]];                                                                      \
            memcpy(part, &v[j], sizeof v[j]);                                                                         \
            for (size_t n = sizeof v[j] / sizeof q[j] / 2; n > 0; n /= 2)                                             \
                for (size_t i = 0; i < n; i++) part[i] += part[i + n];                                                \
            q[j] = part[0];                                                                                           \
        }                                                                                                             \
        row a = BPCORE_SHUFFLE(q[0], q[1], 0, 4, 1, 5) + BPCORE_SHUFFLE(q[0], q[1], 2, 6, 3, 7);                      \
        row b = BPCORE_SHUFFLE(q[2], q[3], 0, 4, 1, 5) + BPCORE_SHUFFLE(q[2], q[3], 2, 6, 3, 7);                      \
        row sums = BPCORE_SHUFFLE(a, b, 0, 1, 4, 5) + BPCORE_SHUFFLE(a, b, 2, 3, 6, 7);                               \
        memcpy(out, &sums, sizeof sums);                                                                              \
    }
BPCORE_SUM4(f32, float)
#if BPCORE_BYTES >= 32
BPCORE_SUM4(f64, double)
#else
BPCORE_SUM4_ONE_BY_ONE(f64, double)
#endif
#else
BPCORE_SUM4_ONE_BY_ONE(f32, float)
BPCORE_SUM4_ONE_BY_ONE(f64, double)
#endif

/* The largest of a vector's numbers, likewise; the array is overwritten. */
static inline float bpcore_max_f32(float *x) {
    for (size_t n = BPCORE_LANES_F32 / 2; n > 0; n /= 2)
        for (size_t i = 0; i < n; i++) x[i] = x[i + n] > x[i] ? x[i + n] : x[i];
    return x[0];
}
static inline double bpcore_max_f64(double *x) {
    for (size_t n = BPCORE_LANES_F64 / 2; n > 0; n /= 2)
        for (size_t i = 0; i < n; i++) x[i] = x[i + n] > x[i] ? x[i + n] : x[i];
    return x[0];
}

/* The bits of 1.5 * 2^52; Cython would make a Python integer of them. */
#define BPCORE_SHIFTED_F64 INT64_C(0x4338000000000000)

/* A number's bits, and back; loops over them are vectorized. */
static inline int32_t bpcore_bits_f32(float x) { int32_t i; memcpy(&i, &x, sizeof i); return i; }
static inline int64_t bpcore_bits_f64(double x) { int64_t i; memcpy(&i, &x, sizeof i); return i; }
static inline float bpcore_number_f32(int32_t i) { float x; memcpy(&x, &i, sizeof x); return x; }
static inline double bpcore_number_f64(int64_t i) { double x; memcpy(&x, &i, sizeof x); return x; }

/* 2^n, for n in the range of the exponent. Unsigned, since n may be negative. */
static inline float bpcore_power_f32(int32_t n) {
    return bpcore_number_f32((int32_t)(((uint32_t)n << 23) + UINT32_C(0x3F800000)));
}
static inline double bpcore_power_f64(int64_t n) {
    return bpcore_number_f64((int64_t)(((uint64_t)n << 52) + UINT64_C(0x3FF0000000000000)));
}

/* x = m 2^e for a normal x, sqrt(1/2) <= m < sqrt(2); e in 32 bits, whose conversion is vectorized everywhere. */
static inline float bpcore_split_f32(float x, float *e) {
    int32_t i = bpcore_bits_f32(x), n = (int32_t)((uint32_t)i - UINT32_C(0x3F3504F3)) >> 23;
    *e = (float)n;
    return bpcore_number_f32((int32_t)((uint32_t)i - ((uint32_t)n << 23)));
}
static inline double bpcore_split_f64(double x, double *e) {
    int64_t i = bpcore_bits_f64(x), n = (int64_t)((uint64_t)i - UINT64_C(0x3FE6A09E667F3BCD)) >> 52;
    *e = (double)(int32_t)n;
    return bpcore_number_f64((int64_t)((uint64_t)i - ((uint64_t)n << 52)));
}

/* A choice between two numbers that have both been computed. */
static inline float bpcore_select_f32(int condition, float a, float b) { return condition ? a : b; }
static inline double bpcore_select_f64(int condition, double a, double b) { return condition ? a : b; }

/* Seconds of a monotonic clock, precise enough for polling, not for timing. */
#if defined(_WIN32)
__declspec(dllimport) unsigned long long __stdcall GetTickCount64(void);
static inline double bpcore_now(void) { return 1e-3 * (double)GetTickCount64(); }
#else
#include <time.h>
static inline double bpcore_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

#endif
