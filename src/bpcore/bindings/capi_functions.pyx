# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.

#: Result and arguments of each function, in the order of the table; pointers are size_t.
SIGNATURES = {
    "error_message": ("char_p", "int"),
    "plan_bytes": ("size_t", "ssize_t"),
    "plan_init_f32": ("int", "size_t", "size_t", "ssize_t", "size_t", "size_t", "int"),
    "plan_init_f64": ("int", "size_t", "size_t", "ssize_t", "size_t", "size_t", "int"),
    "n_parameters": ("ssize_t", "size_t"),
    "workspace_bytes": ("size_t", "size_t"),
    "forward_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "forward_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "accumulate_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t",
                       "size_t", "size_t"),
    "accumulate_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t",
                       "size_t", "size_t"),
    "finish_f32": ("int", "size_t", "size_t", "size_t", "double", "double", "double", "size_t", "size_t"),
    "finish_f64": ("int", "size_t", "size_t", "size_t", "double", "double", "double", "size_t", "size_t"),
    "backward_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "backward_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "gradient_descent_f32": ("int", "ssize_t", "size_t", "size_t", "size_t", "double", "double", "int"),
    "gradient_descent_f64": ("int", "ssize_t", "size_t", "size_t", "size_t", "double", "double", "int"),
    "adam_f32": ("int", "ssize_t", "size_t", "size_t", "size_t", "size_t", "double", "double", "double", "double",
                 "int64"),
    "adam_f64": ("int", "ssize_t", "size_t", "size_t", "size_t", "size_t", "double", "double", "double", "double",
                 "int64"),
    "sgd_rows_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t", "double",
                     "size_t"),
    "sgd_rows_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t", "double",
                     "size_t"),
    "plan_set_loss_parameter": ("int", "size_t", "double"),
    "jacobian_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "jacobian_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "input_jacobian_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "input_jacobian_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t"),
    "jvp_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t", "size_t"),
    "jvp_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t", "size_t"),
    "row_gradients_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "row_gradients_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "gradient_norms_f32": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "gradient_norms_f64": ("int", "size_t", "size_t", "size_t", "size_t", "ssize_t", "size_t", "size_t", "size_t"),
    "plan_bytes_heads": ("size_t", "ssize_t", "ssize_t"),
    "plan_init_heads_f32": ("int", "size_t", "size_t", "ssize_t", "size_t", "size_t", "ssize_t", "size_t", "size_t",
                            "size_t", "size_t", "size_t"),
    "plan_init_heads_f64": ("int", "size_t", "size_t", "ssize_t", "size_t", "size_t", "ssize_t", "size_t", "size_t",
                            "size_t", "size_t", "size_t"),
}


cdef const char *error_message(int error) noexcept nogil:
    return c_table.error_message(error)


cdef size_t plan_bytes(Py_ssize_t n_layers) noexcept nogil:
    return c_table.plan_bytes(n_layers)


cdef int plan_init_f32(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil:
    return c_table.plan_init_f32(memory, bytes, n_layers, sizes, activations, loss)


cdef int plan_init_f64(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil:
    return c_table.plan_init_f64(memory, bytes, n_layers, sizes, activations, loss)


cdef Py_ssize_t n_parameters(const bpcore_plan *plan) noexcept nogil:
    return c_table.n_parameters(plan)


cdef size_t workspace_bytes(const bpcore_plan *plan) noexcept nogil:
    return c_table.workspace_bytes(plan)


cdef int forward_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                     float *out) noexcept nogil:
    return c_table.forward_f32(plan, workspace, params, X, m, out)


cdef int forward_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                     double *out) noexcept nogil:
    return c_table.forward_f64(plan, workspace, params, X, m, out)


cdef int accumulate_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                        const float *targets, const int64_t *labels, const float *sample_weight, float *sums,
                        double *loss) noexcept nogil:
    return c_table.accumulate_f32(plan, workspace, params, X, m, targets, labels, sample_weight, sums, loss)


cdef int accumulate_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                        const double *targets, const int64_t *labels, const double *sample_weight, double *sums,
                        double *loss) noexcept nogil:
    return c_table.accumulate_f64(plan, workspace, params, X, m, targets, labels, sample_weight, sums, loss)


cdef int finish_f32(const bpcore_plan *plan, const float *params, const float *sums, double loss, double weight,
                    double l2, float *gradient, double *cost) noexcept nogil:
    return c_table.finish_f32(plan, params, sums, loss, weight, l2, gradient, cost)


cdef int finish_f64(const bpcore_plan *plan, const double *params, const double *sums, double loss, double weight,
                    double l2, double *gradient, double *cost) noexcept nogil:
    return c_table.finish_f64(plan, params, sums, loss, weight, l2, gradient, cost)


cdef int backward_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                      const float *output_gradient, float *sums, float *input_gradient) noexcept nogil:
    return c_table.backward_f32(plan, workspace, params, X, m, output_gradient, sums, input_gradient)


cdef int backward_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                      const double *output_gradient, double *sums, double *input_gradient) noexcept nogil:
    return c_table.backward_f64(plan, workspace, params, X, m, output_gradient, sums, input_gradient)


cdef int gradient_descent_f32(Py_ssize_t n, float *params, const float *gradient, float *velocity,
                              double learning_rate, double momentum, int nesterov) noexcept nogil:
    return c_table.gradient_descent_f32(n, params, gradient, velocity, learning_rate, momentum, nesterov)


cdef int gradient_descent_f64(Py_ssize_t n, double *params, const double *gradient, double *velocity,
                              double learning_rate, double momentum, int nesterov) noexcept nogil:
    return c_table.gradient_descent_f64(n, params, gradient, velocity, learning_rate, momentum, nesterov)


cdef int adam_f32(Py_ssize_t n, float *params, const float *gradient, float *first_moment, float *second_moment,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil:
    return c_table.adam_f32(n, params, gradient, first_moment, second_moment, learning_rate, beta1, beta2, epsilon,
                            step)


cdef int adam_f64(Py_ssize_t n, double *params, const double *gradient, double *first_moment, double *second_moment,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil:
    return c_table.adam_f64(n, params, gradient, first_moment, second_moment, learning_rate, beta1, beta2, epsilon,
                            step)


cdef int sgd_rows_f32(const bpcore_plan *plan, void *workspace, float *params, const float *X, Py_ssize_t m,
                      const float *targets, const int64_t *labels, const float *sample_weight, double learning_rate,
                      double *loss) noexcept nogil:
    return c_table.sgd_rows_f32(plan, workspace, params, X, m, targets, labels, sample_weight, learning_rate, loss)


cdef int sgd_rows_f64(const bpcore_plan *plan, void *workspace, double *params, const double *X, Py_ssize_t m,
                      const double *targets, const int64_t *labels, const double *sample_weight, double learning_rate,
                      double *loss) noexcept nogil:
    return c_table.sgd_rows_f64(plan, workspace, params, X, m, targets, labels, sample_weight, learning_rate, loss)


cdef int plan_set_loss_parameter(bpcore_plan *plan, double parameter) noexcept nogil:
    return c_table.plan_set_loss_parameter(plan, parameter)


cdef int jacobian_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                      float *out) noexcept nogil:
    return c_table.jacobian_f32(plan, workspace, params, X, m, out)


cdef int jacobian_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                      double *out) noexcept nogil:
    return c_table.jacobian_f64(plan, workspace, params, X, m, out)


cdef int input_jacobian_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                            Py_ssize_t m, float *out) noexcept nogil:
    return c_table.input_jacobian_f32(plan, workspace, params, X, m, out)


cdef int input_jacobian_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                            Py_ssize_t m, double *out) noexcept nogil:
    return c_table.input_jacobian_f64(plan, workspace, params, X, m, out)


cdef int jvp_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                 const float *d_params, const float *d_inputs, float *out, float *d_out) noexcept nogil:
    return c_table.jvp_f32(plan, workspace, params, X, m, d_params, d_inputs, out, d_out)


cdef int jvp_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X, Py_ssize_t m,
                 const double *d_params, const double *d_inputs, double *out, double *d_out) noexcept nogil:
    return c_table.jvp_f64(plan, workspace, params, X, m, d_params, d_inputs, out, d_out)


cdef int row_gradients_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X, Py_ssize_t m,
                           const float *targets, const int64_t *labels, float *out) noexcept nogil:
    return c_table.row_gradients_f32(plan, workspace, params, X, m, targets, labels, out)


cdef int row_gradients_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                           Py_ssize_t m, const double *targets, const int64_t *labels, double *out) noexcept nogil:
    return c_table.row_gradients_f64(plan, workspace, params, X, m, targets, labels, out)


cdef int gradient_norms_f32(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                            Py_ssize_t m, const float *targets, const int64_t *labels, float *out) noexcept nogil:
    return c_table.gradient_norms_f32(plan, workspace, params, X, m, targets, labels, out)


cdef int gradient_norms_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                            Py_ssize_t m, const double *targets, const int64_t *labels, double *out) noexcept nogil:
    return c_table.gradient_norms_f64(plan, workspace, params, X, m, targets, labels, out)


cdef size_t plan_bytes_heads(Py_ssize_t n_layers, Py_ssize_t n_heads) noexcept nogil:
    return c_table.plan_bytes_heads(n_layers, n_heads)


cdef int plan_init_heads_f32(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil:
    return c_table.plan_init_heads_f32(memory, bytes, n_layers, sizes, activations, n_heads, n_outputs, outputs,
                                       losses, parameters, weights)


cdef int plan_init_heads_f64(void *memory, size_t bytes, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil:
    return c_table.plan_init_heads_f64(memory, bytes, n_layers, sizes, activations, n_heads, n_outputs, outputs,
                                       losses, parameters, weights)
