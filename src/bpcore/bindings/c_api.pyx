# The functions of bpcore.h, over the loops of this backend. Arguments are checked as far as that is possible without
# Python: an error is a number, and comes before anything is written.

from cpython.pycapsule cimport PyCapsule_New
from libc.limits cimport LONG_MAX
from libc.stdint cimport INT64_MAX, uint64_t

cdef extern from "bpcore.h" nogil:
    ctypedef struct bpcore_plan:
        pass
    enum:
        OK "BPCORE_OK"
        ERR_NULL "BPCORE_ERR_NULL"
        ERR_PLAN "BPCORE_ERR_PLAN"
        ERR_SIZES "BPCORE_ERR_SIZES"
        ERR_ACTIVATION "BPCORE_ERR_ACTIVATION"
        ERR_LOSS "BPCORE_ERR_LOSS"
        ERR_OUTPUT "BPCORE_ERR_OUTPUT"
        ERR_TOO_LARGE "BPCORE_ERR_TOO_LARGE"
        ERR_COUNT "BPCORE_ERR_COUNT"
        ERR_TARGET "BPCORE_ERR_TARGET"
        ERR_SAMPLE_WEIGHT "BPCORE_ERR_SAMPLE_WEIGHT"
        ERR_HYPERPARAMETER "BPCORE_ERR_HYPERPARAMETER"
        ERR_MISALIGNED "BPCORE_ERR_MISALIGNED"
        ERR_INTERNAL "BPCORE_ERR_INTERNAL"

include "bindings/api.pyx"

cdef struct plan_header_t:
    # A plan in the caller's memory, followed by its layers.
    uint64_t magic                  # which type the plan is for, and that it is one
    plan_t plan

cdef enum:
    MAGIC_F32 = 0x62703332
    MAGIC_F64 = 0x62703634


cdef inline uint64_t magic(const floating *tag) noexcept nogil:
    if floating is float:
        return MAGIC_F32
    else:
        return MAGIC_F64


cdef const char *error_message(int error) noexcept nogil:
    """The text of every error code."""
    if error == OK:
        return "no error"
    if error == ERR_NULL:
        return "a required pointer is NULL"
    if error == ERR_PLAN:
        return "the plan must be one of this number type, at the address where it was initialized"
    if error == ERR_SIZES:
        return ("there must be a layer, with a unit in each (outputs in pairs for gaussian_nll; heads for all), "
                "and room for the plan")
    if error == ERR_ACTIVATION:
        return "every activation must be known; softmax and exp are for the output layer only"
    if error == ERR_LOSS:
        return "the loss must be known"
    if error == ERR_OUTPUT:
        return "this loss is computed from logits: the output activation must be its canonical one"
    if error == ERR_TOO_LARGE:
        return "the network must not have more parameters than can be addressed"
    if error == ERR_COUNT:
        return "a number of rows or parameters must be >= 0, and what can be addressed"
    if error == ERR_TARGET:
        return "either targets or labels must be given, labels must be classes, and targets in the range of the loss"
    if error == ERR_SAMPLE_WEIGHT:
        return "sample weights must be finite and >= 0, and their sum > 0"
    if error == ERR_HYPERPARAMETER:
        return "l2, learning rate, momentum, betas, epsilon, step and parameter and weight of a loss must be in range"
    if error == ERR_MISALIGNED:
        return "arrays and the plan must be aligned for their type"
    if error == ERR_INTERNAL:
        return "the layout of the workspace does not hold what is written in it: a bug in bpcore"
    return "unknown error"


cdef size_t plan_bytes(Py_ssize_t n_layers) noexcept nogil:
    if n_layers < 1 or n_layers > MAX_LAYERS:
        return 0
    return sizeof(plan_header_t) + n_layers * sizeof(layer_t)


cdef size_t plan_bytes_heads(Py_ssize_t n_layers, Py_ssize_t n_heads) noexcept nogil:
    if plan_bytes(n_layers) == 0 or n_heads < 1 or n_heads > MAX_LAYERS:
        return 0
    # The heads, and the activations of all layers, of which the caller gives those of the hidden ones.
    return plan_bytes(n_layers) + n_heads * sizeof(head_t) + n_layers * sizeof(int)


cdef int check_hidden(Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations) noexcept nogil:
    """What is wrong with units, or with activations of hidden layers."""
    cdef Py_ssize_t l
    for l in range(n_layers + 1):
        if sizes[l] < 1:
            return ERR_SIZES
    for l in range(n_layers - 1):
        if not 0 <= activations[l] < N_ACTIVATIONS or activations[l] == SOFTMAX or activations[l] == EXP:
            return ERR_ACTIVATION
    return OK


cdef int check_architecture(Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                            int loss) noexcept nogil:
    cdef int output = activations[n_layers - 1], error = check_hidden(n_layers, sizes, activations)
    if error != OK:
        return error
    if not 0 <= output < N_ACTIVATIONS:
        return ERR_ACTIVATION
    if not 0 <= loss < N_LOSSES:
        return ERR_LOSS
    if loss == GAUSSIAN_NLL and sizes[n_layers] % 2 != 0:
        return ERR_SIZES
    if not takes_output(loss, output):
        return ERR_OUTPUT
    return OK


cdef inline int init_plan(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                          const int *activations, int loss, const floating *tag) noexcept nogil:
    cdef plan_header_t *header = <plan_header_t *>memory
    cdef isa_t isa = own_isa(tag)
    cdef int error
    if memory == NULL or sizes == NULL or activations == NULL:
        return ERR_NULL
    if plan_bytes(n_layers) == 0 or size < plan_bytes(n_layers):
        return ERR_SIZES
    if <size_t>memory & (sizeof(void *) - 1):
        return ERR_MISALIGNED
    error = check_architecture(n_layers, sizes, activations, loss)
    if error != OK:
        return error
    if not fits_in_memory(n_layers, sizes, &isa):
        return ERR_TOO_LARGE
    header.magic = 0
    if not plan_init(&header.plan, <layer_t *>(header + 1), n_layers, sizes, activations, loss, &isa):
        return ERR_INTERNAL
    header.magic = magic(tag)
    return OK


cdef int plan_init_f32(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil:
    return init_plan(memory, size, n_layers, sizes, activations, loss, <const float *>NULL)


cdef int plan_init_f64(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                       const int *activations, int loss) noexcept nogil:
    return init_plan(memory, size, n_layers, sizes, activations, loss, <const double *>NULL)


cdef inline bint in_range(double x, const floating *tag) noexcept nogil:
    """Whether a positive number has all its digits in the plan's type."""
    if floating is float:
        return FLT_MIN <= x <= FLT_MAX
    else:
        return DBL_MIN <= x <= DBL_MAX


cdef int check_heads(Py_ssize_t n_heads, const Py_ssize_t *n_outputs, const int *outputs, const int *losses,
                     const double *parameters, const double *weights, head_t *heads, Py_ssize_t total,
                     const floating *tag) noexcept nogil:
    """What is wrong with heads that are to have ``total`` outputs; those that are right are filled in."""
    cdef Py_ssize_t h
    for h in range(n_heads):
        if n_outputs[h] < 1 or n_outputs[h] > total or (losses[h] == GAUSSIAN_NLL and n_outputs[h] % 2 != 0):
            return ERR_SIZES
        if not 0 <= outputs[h] < N_ACTIVATIONS:
            return ERR_ACTIVATION
        if not 0 <= losses[h] < N_LOSSES:
            return ERR_LOSS
        if not takes_output(losses[h], outputs[h]):
            return ERR_OUTPUT
        if not (in_range(weights[h], tag) and (parameters[h] == 0 or in_range(parameters[h], tag))):
            return ERR_HYPERPARAMETER
        if not set_head(&heads[h], losses[h], outputs[h], n_outputs[h], parameters[h], weights[h]):
            return ERR_HYPERPARAMETER
        total -= n_outputs[h]
    return OK if total == 0 else ERR_SIZES


cdef inline int init_plan_heads(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                                const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                                const int *outputs, const int *losses, const double *parameters,
                                const double *weights, const floating *tag) noexcept nogil:
    cdef plan_header_t *header = <plan_header_t *>memory
    cdef isa_t isa = own_isa(tag)
    cdef int *kinds
    cdef int error
    cdef Py_ssize_t l
    if (memory == NULL or sizes == NULL or n_outputs == NULL or outputs == NULL or losses == NULL
            or parameters == NULL or weights == NULL or (activations == NULL and n_layers > 1)):
        return ERR_NULL
    if plan_bytes_heads(n_layers, n_heads) == 0 or size < plan_bytes_heads(n_layers, n_heads):
        return ERR_SIZES
    if <size_t>memory & (sizeof(void *) - 1):
        return ERR_MISALIGNED
    error = check_hidden(n_layers, sizes, activations)
    if error != OK:
        return error
    if not fits_in_memory(n_layers, sizes, &isa):
        return ERR_TOO_LARGE
    header.magic = 0
    header.plan.n_heads, header.plan.heads = n_heads, <head_t *>(<layer_t *>(header + 1) + n_layers)
    error = check_heads(n_heads, n_outputs, outputs, losses, parameters, weights, header.plan.heads, sizes[n_layers],
                        tag)
    if error != OK:
        return error
    kinds = <int *>(header.plan.heads + n_heads)
    for l in range(n_layers - 1):
        kinds[l] = activations[l]
    kinds[n_layers - 1] = HEADS
    if not plan_init(&header.plan, <layer_t *>(header + 1), n_layers, sizes, kinds, HEADS, &isa):
        return ERR_INTERNAL
    header.magic = magic(tag)
    return OK


cdef int plan_init_heads_f32(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil:
    return init_plan_heads(memory, size, n_layers, sizes, activations, n_heads, n_outputs, outputs, losses, parameters,
                           weights, <const float *>NULL)


cdef int plan_init_heads_f64(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                             const int *activations, Py_ssize_t n_heads, const Py_ssize_t *n_outputs,
                             const int *outputs, const int *losses, const double *parameters,
                             const double *weights) noexcept nogil:
    return init_plan_heads(memory, size, n_layers, sizes, activations, n_heads, n_outputs, outputs, losses, parameters,
                           weights, <const double *>NULL)


cdef int plan_set_loss_parameter(bpcore_plan *plan, double parameter) noexcept nogil:
    cdef plan_t *p = <plan_t *>plan_of_any(plan)
    if p == NULL:
        return ERR_PLAN
    if <int>p.loss == HEADS or not parameter_valid(p.loss, parameter):
        return ERR_HYPERPARAMETER
    p.head.parameter = parameter
    return OK


cdef inline const plan_t *plan_of(const bpcore_plan *plan, const floating *tag) noexcept nogil:
    """The plan, or NULL if it is none of this type, or was moved: it holds the address of its layers."""
    cdef const plan_header_t *header = <const plan_header_t *>plan
    if plan == NULL or <size_t>plan & (sizeof(void *) - 1) or header.magic != magic(tag):
        return NULL
    if <const void *>header.plan.layers != <const void *>(header + 1):
        return NULL
    return &header.plan


cdef inline const plan_t *plan_of_any(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *found = plan_of(plan, <const float *>NULL)
    return found if found != NULL else plan_of(plan, <const double *>NULL)


cdef Py_ssize_t n_parameters(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *p = plan_of_any(plan)
    return p.n_parameters if p != NULL else -1


cdef size_t workspace_bytes(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *p = plan_of_any(plan)
    if p == NULL:
        return 0
    return 64 + p.workspace * (sizeof(double) if plan_of(plan, <const float *>NULL) == NULL else sizeof(float))


cdef inline bint too_many_rows(const plan_t *plan, Py_ssize_t m, const floating *tag) noexcept nogil:
    """Whether the number of rows is negative, or their matrices or the bounds of chunks cannot be addressed."""
    cdef Py_ssize_t widest = max(plan.n_inputs, plan.n_outputs)
    if m < 0 or m > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating) // widest:
        return True
    return m > 1 << 30 and count_chunks(plan, m) > INT64_MAX // m


cdef inline bint misaligned(size_t addresses, const floating *tag) noexcept nogil:
    """Whether any of the arrays whose addresses were or-ed is misaligned: vectorized loops may count on it.

    On 32-bit systems doubles need not lie on a multiple of their size.
    """
    return addresses & (min(sizeof(floating), sizeof(void *)) - 1) != 0


cdef inline int check_call(const plan_t *p, const void *workspace, const floating *params, const floating *X,
                           Py_ssize_t m) noexcept nogil:
    """What every call with rows is checked for, alignment apart."""
    if p == NULL:
        return ERR_PLAN
    if too_many_rows(p, m, params):
        return ERR_COUNT
    if workspace == NULL or params == NULL or (m > 0 and X == NULL):
        return ERR_NULL
    return OK


cdef int check_batch(const plan_t *p, const batch_t *batch, const double *loss, const floating *params) noexcept nogil:
    """What is wrong with rows to learn from."""
    cdef const floating *weights = <const floating *>batch.sample_weight
    cdef Py_ssize_t i
    if loss == NULL:
        return ERR_NULL
    if (misaligned(<size_t>params | <size_t>batch.X | <size_t>batch.targets | <size_t>weights, params)
            or misaligned(<size_t>batch.labels | <size_t>loss, <const double *>NULL)):
        return ERR_MISALIGNED
    if batch.rows == 0:
        return OK
    if (batch.targets == NULL) == (batch.labels == NULL) or (batch.labels != NULL and p.loss != CROSS_ENTROPY):
        return ERR_TARGET
    if weights != NULL:
        for i in range(batch.rows):
            if not 0 <= weights[i] < INFINITY:
                return ERR_SAMPLE_WEIGHT
    return OK if targets_valid(p, batch, params) else ERR_TARGET


cdef inline batch_t rows_to_learn(const plan_t *p, const floating *X, Py_ssize_t m, const floating *targets,
                                  const int64_t *labels, const floating *sample_weight) noexcept nogil:
    cdef batch_t batch = batch_of(p, X, m)
    batch.targets, batch.labels, batch.sample_weight = targets, labels, sample_weight
    return batch


# ------------------------------------------------------------------------------------------- the functions of the table
#
# Their arguments are flat, since callers reach them through ctypes and Numba, too, where a struct is hard to make.


cdef int capi_forward(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                      Py_ssize_t m, floating *out) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef context_t context
    cdef batch_t batch
    if error != OK or (m > 0 and out == NULL):
        return error if error != OK else ERR_NULL
    if misaligned(<size_t>params | <size_t>X | <size_t>out, params):
        return ERR_MISALIGNED
    if m > 0:
        context, batch = new_context(p, workspace, m, NULL), batch_of(p, X, m)
        close_guards(p, workspace_of(&context, params))
        forward_rows(&context, params, &batch, out)
        open_guards(p, workspace_of(&context, params))
        end_context(&context)
    return OK


cdef int capi_accumulate(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                         Py_ssize_t m, const floating *targets, const int64_t *labels,
                         const floating *sample_weight, floating *sums, double *loss) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef context_t context
    cdef chunk_range_t chunks
    cdef sums_t to = sums_in(sums, NULL, True)
    cdef batch_t batch
    if error != OK:
        return error
    batch = rows_to_learn(p, X, m, targets, labels, sample_weight)
    error = check_batch(p, &batch, loss, params)
    if error != OK or m == 0:
        return error
    if misaligned(<size_t>sums, params):
        return ERR_MISALIGNED
    context = new_context(p, workspace, m, NULL)
    close_guards(p, workspace_of(&context, params))
    chunks = all_chunks(p, m)
    loss[0] += accumulate_rows(&context, params, &batch, &chunks, &to, 0)
    open_guards(p, workspace_of(&context, params))
    end_context(&context)
    return OK


cdef int capi_finish(const bpcore_plan *plan, const floating *params, const floating *sums, double loss,
                     double weight, double l2, floating *gradient, double *cost) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef segment_t part
    cdef float_mode_t mode
    if p == NULL:
        return ERR_PLAN
    if params == NULL or sums == NULL or gradient == NULL or cost == NULL:
        return ERR_NULL
    if (misaligned(<size_t>params | <size_t>sums | <size_t>gradient, params)
            or misaligned(<size_t>cost, <const double *>NULL)):
        return ERR_MISALIGNED
    if not DBL_MIN <= weight < INFINITY:
        return ERR_SAMPLE_WEIGHT
    if not 0 <= l2 < INFINITY:
        return ERR_HYPERPARAMETER
    mode = flush_subnormals()
    part = all_parameters(p)
    finish_gradient(p, params, sums, weight, l2, &part, gradient)
    cost[0] = mean_cost(p, params, loss, weight, l2)
    restore_float_mode(mode)
    return OK


cdef int capi_backward(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                       Py_ssize_t m, const floating *output_gradient, floating *sums,
                       floating *input_gradient) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef context_t context
    cdef chunk_range_t chunks
    cdef sums_t to = sums_in(sums, NULL, True)
    cdef batch_t batch
    if error != OK:
        return error
    if sums == NULL or (m > 0 and output_gradient == NULL):
        return ERR_NULL
    if misaligned(<size_t>params | <size_t>X | <size_t>output_gradient | <size_t>sums | <size_t>input_gradient, params):
        return ERR_MISALIGNED
    if m > 0:
        context, batch = new_context(p, workspace, m, NULL), batch_of(p, X, m)
        batch.output_gradient, batch.input_gradient = output_gradient, input_gradient
        close_guards(p, workspace_of(&context, params))
        chunks = all_chunks(p, m)
        accumulate_rows(&context, params, &batch, &chunks, &to, 0)
        open_guards(p, workspace_of(&context, params))
        end_context(&context)
    return OK


cdef int capi_gradient_descent(Py_ssize_t n, floating *params, const floating *gradient, floating *velocity,
                               double learning_rate, double momentum, int nesterov) noexcept nogil:
    cdef hyperparameters_t given
    cdef float_mode_t mode
    if n < 0 or n > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating):
        return ERR_COUNT
    if n > 0 and (params == NULL or gradient == NULL or (velocity == NULL and momentum != 0)):
        return ERR_NULL
    if misaligned(<size_t>params | <size_t>gradient | <size_t>velocity, params):
        return ERR_MISALIGNED
    if not (0 <= learning_rate < INFINITY and 0 <= momentum <= 1) or (nesterov and velocity == NULL):
        return ERR_HYPERPARAMETER
    memset(&given, 0, sizeof(given))
    given.learning_rate, given.momentum, given.nesterov = learning_rate, momentum, nesterov != 0
    mode = flush_subnormals()
    sgd_step(params, gradient, velocity, n, &given)
    restore_float_mode(mode)
    return OK


cdef int capi_adam(Py_ssize_t n, floating *params, const floating *gradient, floating *first_moment,
                   floating *second_moment, double learning_rate, double beta1, double beta2, double epsilon,
                   int64_t step) noexcept nogil:
    cdef hyperparameters_t given
    cdef float_mode_t mode
    if n < 0 or n > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating):
        return ERR_COUNT
    if n > 0 and (params == NULL or gradient == NULL or first_moment == NULL or second_moment == NULL):
        return ERR_NULL
    if misaligned(<size_t>params | <size_t>gradient | <size_t>first_moment | <size_t>second_moment, params):
        return ERR_MISALIGNED
    if not (0 <= learning_rate < INFINITY and 0 <= epsilon < INFINITY and 0 <= beta1 < 1 and 0 <= beta2 < 1
            and step >= 1):
        return ERR_HYPERPARAMETER
    memset(&given, 0, sizeof(given))
    given.adam, given.learning_rate, given.step = True, learning_rate, <long>min(step, <int64_t>LONG_MAX)
    given.beta1, given.beta2, given.epsilon = beta1, beta2, epsilon
    mode = flush_subnormals()
    correct_bias(&given)
    adam_update(params, gradient, first_moment, second_moment, n, &given)
    restore_float_mode(mode)
    return OK


cdef int capi_sgd_rows(const bpcore_plan *plan, void *workspace, floating *params, const floating *X, Py_ssize_t m,
                       const floating *targets, const int64_t *labels, const floating *sample_weight,
                       double learning_rate, double *loss) noexcept nogil:
    cdef const floating *theta = params
    cdef const plan_t *p = plan_of(plan, theta)
    cdef int error = check_call(p, workspace, theta, X, m)
    cdef context_t context
    cdef batch_t batch
    if error != OK:
        return error
    batch = rows_to_learn(p, X, m, targets, labels, sample_weight)
    error = check_batch(p, &batch, loss, theta)
    if error != OK:
        return error
    if not 0 <= learning_rate < INFINITY:
        return ERR_HYPERPARAMETER
    context = new_context(p, workspace, m, NULL)
    close_guards(p, workspace_of(&context, theta))
    sgd_rows(&context, params, &batch, <floating>learning_rate, loss)
    open_guards(p, workspace_of(&context, theta))
    end_context(&context)
    return OK


cdef void derive_alone(const plan_t *p, void *workspace, const floating *params, const batch_t *batch,
                       const wanted_t *wanted) noexcept nogil:
    cdef context_t context = new_context(p, workspace, batch.rows, NULL)
    close_guards(p, workspace_of(&context, params))
    derive_rows(&context, params, batch, wanted)
    open_guards(p, workspace_of(&context, params))
    end_context(&context)


cdef int capi_jacobian_of(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                          Py_ssize_t m, Derivative what, floating *out) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef wanted_t wanted
    cdef batch_t batch
    cdef Py_ssize_t size
    if error != OK or m == 0:
        return error
    size = p.n_outputs * (p.n_parameters if what == JACOBIAN else p.n_inputs)
    if m > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating) // size:
        return ERR_COUNT
    if out == NULL:
        return ERR_NULL
    if misaligned(<size_t>params | <size_t>X | <size_t>out, params):
        return ERR_MISALIGNED
    wanted.what, wanted.out, batch = what, out, batch_of(p, X, m)
    derive_alone(p, workspace, params, &batch, &wanted)
    return OK


cdef int capi_jacobian(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                       Py_ssize_t m, floating *out) noexcept nogil:
    return capi_jacobian_of(plan, workspace, params, X, m, JACOBIAN, out)


cdef int capi_input_jacobian(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                             Py_ssize_t m, floating *out) noexcept nogil:
    return capi_jacobian_of(plan, workspace, params, X, m, INPUT_JACOBIAN, out)


cdef int capi_jvp(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X, Py_ssize_t m,
                  const floating *d_params, const floating *d_inputs, floating *out,
                  floating *d_out) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef wanted_t wanted
    cdef batch_t batch
    if error != OK or m == 0:
        return error
    if out == NULL or d_out == NULL:
        return ERR_NULL
    if (misaligned(<size_t>params | <size_t>X | <size_t>d_params | <size_t>d_inputs, params)
            or misaligned(<size_t>out | <size_t>d_out, params)):
        return ERR_MISALIGNED
    wanted.what, wanted.out, wanted.d_out, batch = TANGENTS, out, d_out, batch_of(p, X, m)
    wanted.d_params, wanted.d_inputs = d_params, d_inputs
    derive_alone(p, workspace, params, &batch, &wanted)
    return OK


cdef int capi_of_rows(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X, Py_ssize_t m,
                      const floating *targets, const int64_t *labels, Derivative what, floating *out) noexcept nogil:
    cdef const plan_t *p = plan_of(plan, params)
    cdef int error = check_call(p, workspace, params, X, m)
    cdef double loss
    cdef wanted_t wanted
    cdef batch_t batch
    if error != OK:
        return error
    batch = rows_to_learn(p, X, m, targets, labels, <const floating *>NULL)
    error = check_batch(p, &batch, &loss, params)
    if error != OK or m == 0:
        return error
    if what == ROW_GRADIENTS and m > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating) // p.n_parameters:
        return ERR_COUNT
    if out == NULL:
        return ERR_NULL
    if misaligned(<size_t>out, params):
        return ERR_MISALIGNED
    wanted.what, wanted.out = what, out
    derive_alone(p, workspace, params, &batch, &wanted)
    return OK


cdef int capi_row_gradients(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                            Py_ssize_t m, const floating *targets, const int64_t *labels,
                            floating *out) noexcept nogil:
    return capi_of_rows(plan, workspace, params, X, m, targets, labels, ROW_GRADIENTS, out)


cdef int capi_gradient_norms(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                             Py_ssize_t m, const floating *targets, const int64_t *labels,
                             floating *out) noexcept nogil:
    return capi_of_rows(plan, workspace, params, X, m, targets, labels, NORMS, out)


cdef bpcore_api c_table


cdef object make_c_table():
    """Fill the table, whose capsule bpcore.capi hands out."""
    global BACKEND
    c_table.abi_version = API_VERSION
    c_table.size = sizeof(bpcore_api)
    c_table.backend = BACKEND
    c_table.error_message = error_message
    c_table.plan_bytes = plan_bytes
    c_table.plan_init_f32, c_table.plan_init_f64 = plan_init_f32, plan_init_f64
    c_table.plan_set_loss_parameter = plan_set_loss_parameter
    c_table.plan_bytes_heads = plan_bytes_heads
    c_table.plan_init_heads_f32, c_table.plan_init_heads_f64 = plan_init_heads_f32, plan_init_heads_f64
    c_table.n_parameters, c_table.workspace_bytes = n_parameters, workspace_bytes
    c_table.forward_f32, c_table.forward_f64 = capi_forward[float], capi_forward[double]
    c_table.accumulate_f32, c_table.accumulate_f64 = capi_accumulate[float], capi_accumulate[double]
    c_table.finish_f32, c_table.finish_f64 = capi_finish[float], capi_finish[double]
    c_table.backward_f32, c_table.backward_f64 = capi_backward[float], capi_backward[double]
    c_table.gradient_descent_f32 = capi_gradient_descent[float]
    c_table.gradient_descent_f64 = capi_gradient_descent[double]
    c_table.adam_f32, c_table.adam_f64 = capi_adam[float], capi_adam[double]
    c_table.sgd_rows_f32, c_table.sgd_rows_f64 = capi_sgd_rows[float], capi_sgd_rows[double]
    c_table.jacobian_f32, c_table.jacobian_f64 = capi_jacobian[float], capi_jacobian[double]
    c_table.input_jacobian_f32 = capi_input_jacobian[float]
    c_table.input_jacobian_f64 = capi_input_jacobian[double]
    c_table.jvp_f32, c_table.jvp_f64 = capi_jvp[float], capi_jvp[double]
    c_table.row_gradients_f32, c_table.row_gradients_f64 = capi_row_gradients[float], capi_row_gradients[double]
    c_table.gradient_norms_f32 = capi_gradient_norms[float]
    c_table.gradient_norms_f64 = capi_gradient_norms[double]
    return PyCapsule_New(&c_table, "bpcore.capi._C_API", NULL)


cdef bytes BACKEND = __name__.rpartition("_")[2].encode()

_C_API = make_c_table()
