# The functions of bpcore.h, over the loops of this backend. Arguments are checked as far as that is possible without
# Python: an error is a number, and comes before anything is written.

from cpython.pycapsule cimport PyCapsule_New
from libc.limits cimport LONG_MAX
from libc.math cimport isfinite
from libc.stdint cimport INT64_MAX, uint64_t

cdef extern from "bpcore.h" nogil:
    ctypedef struct bpcore_plan:
        pass
    enum:
        OK "BPCORE_OK"
        NULL_POINTER "BPCORE_NULL_POINTER"
        NOT_A_PLAN "BPCORE_NOT_A_PLAN"
        WRONG_SIZES "BPCORE_WRONG_SIZES"
        WRONG_ACTIVATION "BPCORE_WRONG_ACTIVATION"
        WRONG_LOSS "BPCORE_WRONG_LOSS"
        WRONG_OUTPUT "BPCORE_WRONG_OUTPUT"
        TOO_LARGE "BPCORE_TOO_LARGE"
        WRONG_COUNT "BPCORE_WRONG_COUNT"
        WRONG_TARGET "BPCORE_WRONG_TARGET"
        WRONG_WEIGHT "BPCORE_WRONG_WEIGHT"
        WRONG_NUMBER "BPCORE_WRONG_NUMBER"
        MISALIGNED "BPCORE_MISALIGNED"
        INTERNAL_ERROR "BPCORE_INTERNAL_ERROR"

include "api.pyx"

# What stands first in the caller's memory: which type the plan is for, and that it is one.
cdef struct described_t:
    uint64_t mark
    plan_t plan

cdef enum:
    MARK_F32 = 0x62703332
    MARK_F64 = 0x62703634


cdef inline uint64_t mark(const floating *number) noexcept nogil:
    if floating is float:
        return MARK_F32
    else:
        return MARK_F64


cdef const char *error_message(int error) noexcept nogil:
    if error == OK:
        return "no error"
    if error == NULL_POINTER:
        return "a pointer is NULL that must not be"
    if error == NOT_A_PLAN:
        return "this is no plan, or one for the other type of numbers, or one that was moved"
    if error == WRONG_SIZES:
        return "a layer has fewer than one unit, there is no layer, or the memory is too small for that many"
    if error == WRONG_ACTIVATION:
        return "an activation is unknown, or is for the output layer only"
    if error == WRONG_LOSS:
        return "the loss is unknown"
    if error == WRONG_OUTPUT:
        return "this loss is computed from logits: its output must be the activation that matches it"
    if error == TOO_LARGE:
        return "the network has more parameters than can be addressed"
    if error == WRONG_COUNT:
        return "a number of rows or of parameters is negative, or more than can be addressed"
    if error == WRONG_TARGET:
        return "a label is no class, or a target is out of the loss's range, or both or neither of them are given"
    if error == WRONG_WEIGHT:
        return "a sample weight is negative or not finite, or the sum of the weights is not above 0"
    if error == WRONG_NUMBER:
        return "l2, a learning rate, a momentum, a beta, epsilon or the step is out of range"
    if error == MISALIGNED:
        return "an array or the plan does not begin where one of its type can"
    if error == INTERNAL_ERROR:
        return "the layout of the workspace does not hold what is written in it: a bug in bpcore"
    return "an unknown error"


cdef size_t plan_bytes(Py_ssize_t n_layers) noexcept nogil:
    if n_layers < 1 or n_layers > MOST_LAYERS:
        return 0
    return sizeof(described_t) + n_layers * sizeof(layer_t)


cdef inline int make_plan(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes,
                          const int *activations, int loss, const floating *number) noexcept nogil:
    cdef described_t *described = <described_t *>memory
    cdef target_t target = own_target(number)
    cdef int error
    if memory == NULL or sizes == NULL or activations == NULL:
        return NULL_POINTER
    if plan_bytes(n_layers) == 0 or size < plan_bytes(n_layers):
        return WRONG_SIZES
    if <size_t>memory & (sizeof(void *) - 1):
        return MISALIGNED
    error = check_architecture(n_layers, sizes, activations, loss)
    if error != OK:
        return error
    if not fits_in_memory(n_layers, sizes, &target):
        return TOO_LARGE
    described.mark = 0
    if not plan_init(&described.plan, <layer_t *>(described + 1), n_layers, sizes, activations, loss, &target):
        return INTERNAL_ERROR
    described.mark = mark(number)
    return OK


cdef int plan_f32(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                  int loss) noexcept nogil:
    return make_plan(memory, size, n_layers, sizes, activations, loss, <const float *>NULL)


cdef int plan_f64(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                  int loss) noexcept nogil:
    return make_plan(memory, size, n_layers, sizes, activations, loss, <const double *>NULL)


cdef int check_architecture(Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                            int loss) noexcept nogil:
    cdef Py_ssize_t l
    cdef int output = activations[n_layers - 1]
    for l in range(n_layers + 1):
        if sizes[l] < 1:
            return WRONG_SIZES
    for l in range(n_layers):
        if activations[l] < 0 or activations[l] > (<int>EXP if l == n_layers - 1 else <int>GELU):
            return WRONG_ACTIVATION
    if loss < 0 or loss > <int>POISSON:
        return WRONG_LOSS
    if ((loss == BINARY_CROSS_ENTROPY and output != SIGMOID) or (loss == CROSS_ENTROPY and output != SOFTMAX)
            or (loss == POISSON and output != EXP)):
        return WRONG_OUTPUT
    return OK


cdef inline const plan_t *described_plan(const bpcore_plan *plan, const floating *number) noexcept nogil:
    """The plan, or NULL if it is none of this type, or does not lie where it was made: it has its layers' address."""
    cdef const described_t *described = <const described_t *>plan
    if plan == NULL or <size_t>plan & (sizeof(void *) - 1) or described.mark != mark(number):
        return NULL
    if <const void *>described.plan.layers != <const void *>(described + 1):
        return NULL
    return &described.plan


cdef inline const plan_t *any_plan(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *found = described_plan(plan, <const float *>NULL)
    return found if found != NULL else described_plan(plan, <const double *>NULL)


cdef Py_ssize_t n_parameters(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *p = any_plan(plan)
    return p.n_parameters if p != NULL else -1


cdef size_t workspace_bytes(const bpcore_plan *plan) noexcept nogil:
    cdef const plan_t *p = any_plan(plan)
    if p == NULL:
        return 0
    return 64 + p.workspace * (sizeof(double) if described_plan(plan, <const float *>NULL) == NULL else sizeof(float))


cdef inline bint too_many_rows(const plan_t *plan, Py_ssize_t m, const floating *number) noexcept nogil:
    """Whether that many rows are less than none, or their matrices or the cuts between slots out of all bounds."""
    cdef Py_ssize_t widest = max(plan.n_inputs, plan.n_outputs)
    if m < 0 or m > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating) // widest:
        return True
    return m > 1 << 30 and count_slots(plan, m) > INT64_MAX // m


cdef inline bint crooked(size_t addresses, const floating *number) noexcept nogil:
    """Whether any of the arrays whose addresses were or-ed is misaligned: vectorized loops may count on it.

    On 32-bit systems doubles need not lie on a multiple of their size.
    """
    return addresses & (min(sizeof(floating), sizeof(void *)) - 1) != 0


cdef int table_forward(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                       Py_ssize_t m, floating *out) noexcept nogil:
    cdef const plan_t *p = described_plan(plan, params)
    cdef floating *work
    if p == NULL:
        return NOT_A_PLAN
    if too_many_rows(p, m, params):
        return WRONG_COUNT
    if workspace == NULL or params == NULL or (m > 0 and (X == NULL or out == NULL)):
        return NULL_POINTER
    if crooked(<size_t>params | <size_t>X | <size_t>out, params):
        return MISALIGNED
    if m > 0:
        work = <floating *>aligned(<char *>workspace)
        close_guards(p, work)
        forward_rows(p, params, X, m, out, work, NULL)
        open_guards(p, work)
    return OK


cdef int check_rows(const plan_t *p, const void *workspace, const floating *params, const floating *X, Py_ssize_t m,
                    const floating *targets, const int64_t *labels, const floating *sample_weight,
                    const double *loss) noexcept nogil:
    """What is wrong with the plan, or with rows to learn from."""
    cdef Py_ssize_t i
    if p == NULL:
        return NOT_A_PLAN
    if too_many_rows(p, m, params):
        return WRONG_COUNT
    if workspace == NULL or params == NULL or loss == NULL or (m > 0 and X == NULL):
        return NULL_POINTER
    if (crooked(<size_t>params | <size_t>X | <size_t>targets | <size_t>sample_weight, params)
            or crooked(<size_t>labels | <size_t>loss, <const double *>NULL)):
        return MISALIGNED
    if m == 0:
        return OK
    if (targets == NULL) == (labels == NULL) or (labels != NULL and p.loss != CROSS_ENTROPY):
        return WRONG_TARGET
    if sample_weight != NULL:
        for i in range(m):
            if not 0 <= sample_weight[i] < INFINITY:
                return WRONG_WEIGHT
    if not targets_are_right(p, targets, labels, sample_weight, m):
        return WRONG_TARGET
    return OK


cdef int table_accumulate(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                          Py_ssize_t m, const floating *targets, const int64_t *labels,
                          const floating *sample_weight, floating *sums, double *loss) noexcept nogil:
    cdef const plan_t *p = described_plan(plan, params)
    cdef Py_ssize_t i, slots, first
    cdef floating *work
    cdef int error = check_rows(p, workspace, params, X, m, targets, labels, sample_weight, loss)
    if error != OK or m == 0:
        return error
    if crooked(<size_t>sums, params):
        return MISALIGNED
    work = <floating *>aligned(<char *>workspace)
    close_guards(p, work)
    slots = count_slots(p, m)
    for i in range(slots):
        first = slot_start(m, slots, i)
        loss[0] += accumulate_rows(
            p, params, X + first * p.n_inputs, slot_start(m, slots, i + 1) - first,
            targets + first * p.n_outputs if targets != NULL else NULL, labels + first if labels != NULL else NULL,
            sample_weight + first if sample_weight != NULL else NULL, sums, False, work, i > 0, NULL)
    open_guards(p, work)
    return OK


cdef int table_finish(const bpcore_plan *plan, const floating *params, const floating *sums, double loss,
                      double weight, double l2, floating *gradient, double *cost) noexcept nogil:
    cdef const plan_t *p = described_plan(plan, params)
    if p == NULL:
        return NOT_A_PLAN
    if params == NULL or sums == NULL or gradient == NULL or cost == NULL:
        return NULL_POINTER
    if (crooked(<size_t>params | <size_t>sums | <size_t>gradient, params)
            or crooked(<size_t>cost, <const double *>NULL)):
        return MISALIGNED
    if not 0 < weight < INFINITY:
        return WRONG_WEIGHT
    if not 0 <= l2 < INFINITY:
        return WRONG_NUMBER
    finish_rows(p, params, sums, weight, l2, gradient)
    cost[0] = mean_cost(p, params, loss, weight, l2)
    return OK


cdef int table_backward(const bpcore_plan *plan, void *workspace, const floating *params, const floating *X,
                        Py_ssize_t m, const floating *output_gradient, floating *sums,
                        floating *input_gradient) noexcept nogil:
    cdef const plan_t *p = described_plan(plan, params)
    cdef const layer_t *last
    cdef const floating *x
    cdef floating *work
    cdef Py_ssize_t size, first, rows, x_step = 0
    cdef bint few = m < FEW
    if p == NULL:
        return NOT_A_PLAN
    if too_many_rows(p, m, params):
        return WRONG_COUNT
    if workspace == NULL or params == NULL or sums == NULL or (m > 0 and (X == NULL or output_gradient == NULL)):
        return NULL_POINTER
    if crooked(<size_t>params | <size_t>X | <size_t>output_gradient | <size_t>sums | <size_t>input_gradient, params):
        return MISALIGNED
    work = <floating *>aligned(<char *>workspace)
    close_guards(p, work)
    last = &p.layers[p.n_layers - 1]
    if not few:
        pack_forward(p, params, work, NULL)
        pack_backward(p, params, work, input_gradient != NULL, NULL)
    size = tile_rows(p, m)
    first = 0
    while first < m:
        rows = min(size, m - first)
        x = tile_inputs(p, X + first * p.n_inputs, rows, few, work, &x_step)
        forward_tile(p, params, x, x_step, rows, few, work, False, True, NULL)
        copy_rows(output_gradient + first * p.n_outputs, p.n_outputs, work + p.delta.start, last.step, rows,
                  p.n_outputs)
        through_outputs(last.activation, <const floating *>(work + last.a.start), work + last.slope.start, rows,
                        last.n_out, last.step, work + p.delta.start)
        backward_tile(p, params, x, x_step, rows, few, work, sums, False,
                      input_gradient + first * p.n_inputs if input_gradient != NULL else NULL, NULL)
        check_guards(p, work)
        first += size
    open_guards(p, work)
    return OK


cdef int table_gradient_descent(Py_ssize_t n, floating *params, const floating *gradient, floating *velocity,
                                double learning_rate, double momentum, int nesterov) noexcept nogil:
    if n < 0 or n > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating):
        return WRONG_COUNT
    if n > 0 and (params == NULL or gradient == NULL or (velocity == NULL and momentum != 0)):
        return NULL_POINTER
    if crooked(<size_t>params | <size_t>gradient | <size_t>velocity, params):
        return MISALIGNED
    if not (isfinite(learning_rate) and 0 <= momentum < 1) or (nesterov and velocity == NULL):
        return WRONG_NUMBER
    descend(params, gradient, velocity, n, learning_rate, momentum, nesterov != 0)
    return OK


cdef int table_adam(Py_ssize_t n, floating *params, const floating *gradient, floating *mean, floating *square,
                    double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil:
    if n < 0 or n > PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(floating):
        return WRONG_COUNT
    if n > 0 and (params == NULL or gradient == NULL or mean == NULL or square == NULL):
        return NULL_POINTER
    if crooked(<size_t>params | <size_t>gradient | <size_t>mean | <size_t>square, params):
        return MISALIGNED
    if not (isfinite(learning_rate) and 0 <= beta1 < 1 and 0 <= beta2 < 1 and 0 < epsilon < INFINITY) or step < 1:
        return WRONG_NUMBER
    adam(params, gradient, mean, square, n, learning_rate, beta1, beta2, epsilon,
         <long>min(step, <int64_t>LONG_MAX))
    return OK


cdef void descend_row(const plan_t *plan, floating *params, const floating *x, floating *work,
                      floating rate) noexcept nogil:
    """From delta(L) of one row, in the workspace, ``params -= rate * gradient``, layer by layer on the way back.

    There is no gradient in memory, and each layer's weights are still near when they are changed. What is rounded is as
    in a gradient of its own that is taken off afterwards.
    """
    cdef Py_ssize_t l, j, k, step
    cdef const layer_t *layer
    cdef const floating *given
    cdef floating *delta = work + plan.delta.start
    cdef floating *spare = work + plan.scratch.start
    cdef floating *W
    cdef floating d, g
    cdef floating[:, ::1] D, before
    for l in range(plan.n_layers - 1, -1, -1):
        layer = &plan.layers[l]
        given = x
        if l > 0:  # delta(l) is of the weights as they were
            given, step = work + plan.layers[l - 1].a.start, plan.layers[l - 1].step
            D, before = matrix(<const floating *>delta, 1, layer.step), matrix(<const floating *>spare, 1, step)
            times_weights_few(D, weights_of(layer, <const floating *>params), before)
            through(plan.layers[l - 1].activation, given, <const floating *>(work + plan.layers[l - 1].slope.start),
                    1, layer.n_in, step, spare)
        W = params + layer.weights
        for j in range(layer.n_out):
            d = delta[j]
            for k in range(layer.n_in):
                g = d * given[k]
                W[k] -= rate * g
            W += layer.n_in
        for j in range(layer.n_out):
            W[j] -= rate * delta[j]
        delta, spare = spare, delta


cdef int table_descend_rows(const bpcore_plan *plan, void *workspace, floating *params, const floating *X,
                            Py_ssize_t m, const floating *targets, const int64_t *labels,
                            const floating *sample_weight, double learning_rate, double *loss) noexcept nogil:
    cdef const plan_t *p = described_plan(plan, <const floating *>params)
    cdef const layer_t *last
    cdef floating *work
    cdef floating[:, ::1] A, D
    cdef Py_ssize_t i
    cdef int error = check_rows(p, workspace, <const floating *>params, X, m, targets, labels, sample_weight, loss)
    if error != OK:
        return error
    if not isfinite(learning_rate):
        return WRONG_NUMBER
    work = <floating *>aligned(<char *>workspace)
    close_guards(p, work)
    last = &p.layers[p.n_layers - 1]
    A = matrix(<const floating *>(work + last.a.start), 1, last.step)
    D = matrix(<const floating *>(work + p.delta.start), 1, last.step)
    for i in range(m):
        if sample_weight != NULL and sample_weight[i] == 0:  # left out, whatever the row holds
            continue
        forward_tile(p, <const floating *>params, X + i * p.n_inputs, p.n_inputs, 1, True, work,
                     p.matching != IDENTITY, True, NULL)
        loss[0] += loss_and_delta[floating](
            p, A, p.n_outputs, targets + i * p.n_outputs if targets != NULL else NULL,
            labels + i if labels != NULL else NULL, sample_weight + i if sample_weight != NULL else NULL, D)
        if last.activation != p.matching:
            through(last.activation, <const floating *>(work + last.a.start),
                    <const floating *>(work + last.slope.start), 1, p.n_outputs, last.step, work + p.delta.start)
        descend_row(p, params, X + i * p.n_inputs, work, <floating>learning_rate)
        check_guards(p, work)
    open_guards(p, work)
    return OK


cdef bpcore_api table


cdef object make_table():
    """Fill the table, whose capsule bpcore.capi hands out."""
    global BACKEND
    table.abi_version = API_VERSION
    table.size = sizeof(bpcore_api)
    table.backend = BACKEND
    table.error_message = error_message
    table.plan_bytes = plan_bytes
    table.plan_f32, table.plan_f64 = plan_f32, plan_f64
    table.n_parameters, table.workspace_bytes = n_parameters, workspace_bytes
    table.forward_f32, table.forward_f64 = table_forward[float], table_forward[double]
    table.accumulate_f32, table.accumulate_f64 = table_accumulate[float], table_accumulate[double]
    table.finish_f32, table.finish_f64 = table_finish[float], table_finish[double]
    table.backward_f32, table.backward_f64 = table_backward[float], table_backward[double]
    table.gradient_descent_f32 = table_gradient_descent[float]
    table.gradient_descent_f64 = table_gradient_descent[double]
    table.adam_f32, table.adam_f64 = table_adam[float], table_adam[double]
    table.descend_rows_f32, table.descend_rows_f64 = table_descend_rows[float], table_descend_rows[double]
    return PyCapsule_New(&table, "bpcore.capi._C_API", NULL)


cdef bytes BACKEND = __name__.rpartition("_")[2].encode()

_C_API = make_table()
