# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.
# bpcore from Cython: cimport these from an installed wheel; bpcore.h documents functions and errors.
#
#     from bpcore.capi cimport bpcore_plan, plan_init_f32, accumulate_f32, RELU, IDENTITY, SQUARED_ERROR
#
# They are those of the backend that bpcore selected at import. None allocates or needs the GIL.

from libc.stdint cimport int64_t

cdef extern from *:
    """
    typedef struct bpcore_plan bpcore_plan;
    """
    ctypedef struct bpcore_plan:
        pass

cpdef enum Activation:
    IDENTITY = 0
    SIGMOID = 1
    TANH = 2
    RELU = 3
    LEAKY_RELU = 4
    ELU = 5
    SOFTPLUS = 6
    SILU = 7
    GELU = 8
    SOFTMAX = 9
    EXP = 10

cpdef enum Loss:
    SQUARED_ERROR = 0
    BINARY_CROSS_ENTROPY = 1
    CROSS_ENTROPY = 2
    HUBER = 3
    ABSOLUTE_ERROR = 4
    POISSON = 5
    QUANTILE = 6
    GAUSSIAN_NLL = 7
    GAMMA = 8
    TWEEDIE = 9
    FOCAL = 10
    HINGE = 11
    SQUARED_HINGE = 12

cdef const char *error_message(int error) noexcept nogil
cdef size_t plan_bytes(Py_ssize_t n_layers) noexcept nogil
cdef int plan_init_f32(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil
cdef int plan_init_f64(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil
cdef Py_ssize_t n_parameters(const bpcore_plan *plan) noexcept nogil
cdef size_t workspace_bytes(const bpcore_plan *plan) noexcept nogil
cdef int forward_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                     float *out) noexcept nogil
cdef int forward_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                     double *out) noexcept nogil
cdef int accumulate_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                        const float *targets, const int64_t *labels, const float *sample_weight, float *sums,
                        double *loss) noexcept nogil
cdef int accumulate_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                        const double *targets, const int64_t *labels, const double *sample_weight, double *sums,
                        double *loss) noexcept nogil
cdef int finish_f32(const bpcore_plan *plan, const float *params, const float *sums, double loss, double weight,
                    double l2, float *gradient, double *cost) noexcept nogil
cdef int finish_f64(const bpcore_plan *plan, const double *params, const double *sums, double loss, double weight,
                    double l2, double *gradient, double *cost) noexcept nogil
cdef int backward_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                      const float *output_gradient, float *sums, float *input_gradient) noexcept nogil
cdef int backward_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                      const double *output_gradient, double *sums, double *input_gradient) noexcept nogil
cdef int gradient_descent_f32(Py_ssize_t n, float *params, const float *gradient, float *velocity,
                              double learning_rate, double momentum, int nesterov) noexcept nogil
cdef int gradient_descent_f64(Py_ssize_t n, double *params, const double *gradient, double *velocity,
                              double learning_rate, double momentum, int nesterov) noexcept nogil
cdef int adam_f32(Py_ssize_t n, float *params, const float *gradient, float *first_moment, float *second_moment,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil
cdef int adam_f64(Py_ssize_t n, double *params, const double *gradient, double *first_moment, double *second_moment,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil
cdef int sgd_rows_f32(const bpcore_plan *plan, void *workspace, float *params, const float *X, Py_ssize_t m,
                      const float *targets, const int64_t *labels, const float *sample_weight, double learning_rate,
                      double *loss) noexcept nogil
cdef int sgd_rows_f64(const bpcore_plan *plan, void *workspace, double *params, const double *X, Py_ssize_t m,
                      const double *targets, const int64_t *labels, const double *sample_weight, double learning_rate,
                      double *loss) noexcept nogil
cdef int plan_set_loss_parameter(bpcore_plan *plan, double parameter) noexcept nogil
cdef int jacobian_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                      float *out) noexcept nogil
cdef int jacobian_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                      double *out) noexcept nogil
cdef int input_jacobian_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                            Py_ssize_t m, float *out) noexcept nogil
cdef int input_jacobian_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                            Py_ssize_t m, double *out) noexcept nogil
cdef int jvp_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                 const float *d_params, const float *d_inputs, float *out, float *d_out) noexcept nogil
cdef int jvp_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                 const double *d_params, const double *d_inputs, double *out, double *d_out) noexcept nogil
cdef int row_gradients_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                           const float *targets, const int64_t *labels, float *out) noexcept nogil
cdef int row_gradients_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                           Py_ssize_t m, const double *targets, const int64_t *labels, double *out) noexcept nogil
cdef int gradient_norms_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                            Py_ssize_t m, const float *targets, const int64_t *labels, float *out) noexcept nogil
cdef int gradient_norms_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                            Py_ssize_t m, const double *targets, const int64_t *labels, double *out) noexcept nogil
cdef size_t plan_bytes_heads(Py_ssize_t n_layers, Py_ssize_t n_heads) noexcept nogil
cdef int plan_init_heads_f32(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil
cdef int plan_init_heads_f64(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil
