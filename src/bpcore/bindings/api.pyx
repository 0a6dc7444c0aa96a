# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.
# The table of bpcore.h: filled by c_api.pyx and read by capi.pyx, which both declare bpcore_plan.

from libc.stdint cimport int64_t, uint32_t

cdef extern from "bpcore.h" nogil:
    enum:
        API_VERSION "BPCORE_ABI_VERSION"
    ctypedef struct bpcore_api:
        uint32_t abi_version
        uint32_t size
        const char *backend
        const char *(*error_message)(int) noexcept nogil
        size_t (*plan_bytes)(Py_ssize_t) noexcept nogil
        int (*plan_init_f32)(void *, size_t, Py_ssize_t, const Py_ssize_t *, const int *, int) noexcept nogil
        int (*plan_init_f64)(void *, size_t, Py_ssize_t, const Py_ssize_t *, const int *, int) noexcept nogil
        Py_ssize_t (*n_parameters)(const bpcore_plan *) noexcept nogil
        size_t (*workspace_bytes)(const bpcore_plan *) noexcept nogil
        int (*forward_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t,
                           float *) noexcept nogil
        int (*forward_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t,
                           double *) noexcept nogil
        int (*accumulate_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t, const float *,
                              const int64_t *, const float *, float *, double *) noexcept nogil
        int (*accumulate_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t, const double *,
                              const int64_t *, const double *, double *, double *) noexcept nogil
        int (*finish_f32)(const bpcore_plan *, const float *, const float *, double, double, double, float *,
                          double *) noexcept nogil
        int (*finish_f64)(const bpcore_plan *, const double *, const double *, double, double, double, double *,
                          double *) noexcept nogil
        int (*backward_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t, const float *,
                            float *, float *) noexcept nogil
        int (*backward_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t, const double *,
                            double *, double *) noexcept nogil
        int (*gradient_descent_f32)(Py_ssize_t, float *, const float *, float *, double, double, int) noexcept nogil
        int (*gradient_descent_f64)(Py_ssize_t, double *, const double *, double *, double, double, int) noexcept nogil
        int (*adam_f32)(Py_ssize_t, float *, const float *, float *, float *, double, double, double, double,
                        int64_t) noexcept nogil
        int (*adam_f64)(Py_ssize_t, double *, const double *, double *, double *, double, double, double, double,
                        int64_t) noexcept nogil
        int (*sgd_rows_f32)(const bpcore_plan *, void *, float *, const float *, Py_ssize_t, const float *,
                            const int64_t *, const float *, double, double *) noexcept nogil
        int (*sgd_rows_f64)(const bpcore_plan *, void *, double *, const double *, Py_ssize_t, const double *,
                            const int64_t *, const double *, double, double *) noexcept nogil
        int (*plan_set_loss_parameter)(bpcore_plan *, double) noexcept nogil
        int (*jacobian_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t,
                            float *) noexcept nogil
        int (*jacobian_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t,
                            double *) noexcept nogil
        int (*input_jacobian_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t,
                                  float *) noexcept nogil
        int (*input_jacobian_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t,
                                  double *) noexcept nogil
        int (*jvp_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t, const float *,
                       const float *, float *, float *) noexcept nogil
        int (*jvp_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t, const double *,
                       const double *, double *, double *) noexcept nogil
        int (*row_gradients_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t, const float *,
                                 const int64_t *, float *) noexcept nogil
        int (*row_gradients_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t,
                                 const double *, const int64_t *, double *) noexcept nogil
        int (*gradient_norms_f32)(const bpcore_plan *, void *, const float *, const float *, Py_ssize_t, const float *,
                                  const int64_t *, float *) noexcept nogil
        int (*gradient_norms_f64)(const bpcore_plan *, void *, const double *, const double *, Py_ssize_t,
                                  const double *, const int64_t *, double *) noexcept nogil
        size_t (*plan_bytes_heads)(Py_ssize_t, Py_ssize_t) noexcept nogil
        int (*plan_init_heads_f32)(void *, size_t, Py_ssize_t, const Py_ssize_t *, const int *, Py_ssize_t,
                                   const Py_ssize_t *, const int *, const int *, const double *,
                                   const double *) noexcept nogil
        int (*plan_init_heads_f64)(void *, size_t, Py_ssize_t, const Py_ssize_t *, const int *, Py_ssize_t,
                                   const Py_ssize_t *, const int *, const int *, const double *,
                                   const double *) noexcept nogil
