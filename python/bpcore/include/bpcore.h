/* bpcore from C and C++: a table of the functions of the backend that bpcore selected at import.

       #include <Python.h>
       #include "bpcore.h"                          // in the folder bpcore.get_include()

       const bpcore_api *bp = bpcore_import();      // once, with the GIL; NULL and an ImportError on failure

   No function allocates memory, needs the GIL, prints, or keeps a pointer. Any number of threads may share a plan; each
   needs its own workspace. Functions come in pairs, _f32 for float and _f64 for double, and a plan is made for one of
   the two. Functions that return int return BPCORE_OK or an error code; after an error nothing was written.

   The length of an array cannot be checked here: a call reads and writes exactly what is documented below. Arrays that
   are written to must not overlap others, except where stated. A workspace may have any address and any contents.

   Matrices are C-contiguous, one example per row: X is (m, n_inputs), targets and outputs are (m, n_outputs)
   (targets of gaussian_nll: half of that).
   Parameters, gradients and sums are one vector each: for each layer the weights, (n_out, n_in), then the bias,
   (n_out).

   Subnormal numbers, below 1.2e-38 in float and 2.3e-308 in double, count as 0, whether they are given, computed on the
   way or returned, on x86 with SSE and on 64-bit ARM; elsewhere they are computed with. A function sets the thread's
   control register (MXCSR, FPCR) for this, and for rounding to nearest and no traps, and sets it back before it
   returns. */
#ifndef BPCORE_H
#define BPCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Increased when a function changes or is removed. A new function is appended to the table, which then is larger. */
#define BPCORE_ABI_VERSION 1

typedef struct bpcore_plan bpcore_plan; /* an architecture, opaque */

enum bpcore_activation {
    BPCORE_IDENTITY = 0,
    BPCORE_SIGMOID = 1,
    BPCORE_TANH = 2,
    BPCORE_RELU = 3,
    BPCORE_LEAKY_RELU = 4,
    BPCORE_ELU = 5,
    BPCORE_SOFTPLUS = 6,
    BPCORE_SILU = 7,
    BPCORE_GELU = 8,
    BPCORE_SOFTMAX = 9, /* of the output layer only */
    BPCORE_EXP = 10     /* of the output layer only */
};

enum bpcore_loss {
    BPCORE_SQUARED_ERROR = 0,
    BPCORE_BINARY_CROSS_ENTROPY = 1, /* with a sigmoid output */
    BPCORE_CROSS_ENTROPY = 2,        /* with a softmax output */
    BPCORE_HUBER = 3,
    BPCORE_ABSOLUTE_ERROR = 4,
    BPCORE_POISSON = 5,        /* with an exp output */
    BPCORE_QUANTILE = 6,
    BPCORE_GAUSSIAN_NLL = 7,   /* two outputs for each target: all means, then all logarithms of variances */
    BPCORE_GAMMA = 8,          /* with an exp output */
    BPCORE_TWEEDIE = 9,        /* with an exp output */
    BPCORE_FOCAL = 10,         /* with a sigmoid output */
    BPCORE_HINGE = 11,         /* targets from -1 to 1 */
    BPCORE_SQUARED_HINGE = 12
};

enum bpcore_error {
    BPCORE_OK = 0,
    BPCORE_ERR_NULL = 1,
    BPCORE_ERR_PLAN = 2, /* not a plan, or one of the other type */
    BPCORE_ERR_SIZES = 3,
    BPCORE_ERR_ACTIVATION = 4,
    BPCORE_ERR_LOSS = 5,
    BPCORE_ERR_OUTPUT = 6,
    BPCORE_ERR_TOO_LARGE = 7,
    BPCORE_ERR_COUNT = 8,
    BPCORE_ERR_TARGET = 9,
    BPCORE_ERR_SAMPLE_WEIGHT = 10,
    BPCORE_ERR_HYPERPARAMETER = 11,
    BPCORE_ERR_MISALIGNED = 12,
    BPCORE_ERR_INTERNAL = 13 /* a bug in bpcore */
};

typedef struct bpcore_api {
    uint32_t abi_version;
    uint32_t size;       /* bytes of the table */
    const char *backend; /* "avx2", say */

    /* The text of an error code; never NULL. */
    const char *(*error_message)(int error);

    /* Bytes of a plan with n_layers layers of weights; 0 if that is out of range. */
    size_t (*plan_bytes)(ptrdiff_t n_layers);
    /* Initialize a plan in the caller's memory of `bytes` bytes, aligned as by malloc, from n_layers + 1 sizes, inputs
       first, an activation for each layer of weights, and a loss. It owns nothing that must be freed. A plan that was
       moved or copied is invalid. */
    int (*plan_init_f32)(void *memory, size_t bytes, ptrdiff_t n_layers, const ptrdiff_t *sizes, const int *activations,
                         int loss);
    int (*plan_init_f64)(void *memory, size_t bytes, ptrdiff_t n_layers, const ptrdiff_t *sizes, const int *activations,
                         int loss);
    ptrdiff_t (*n_parameters)(const bpcore_plan *plan); /* -1 if `plan` is invalid */
    size_t (*workspace_bytes)(const bpcore_plan *plan); /* 0 if `plan` is invalid; for any number of rows */

    /* The activations of the output layer for m rows: out = a(L). */
    int (*forward_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X, ptrdiff_t m,
                       float *out);
    int (*forward_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X, ptrdiff_t m,
                       double *out);
    /* Add the gradients of m rows to `sums` (NULL: losses only) and their losses to `loss`, so that blocks of rows can
       be streamed, split and merged. Sums of very many rows in float lose digits: for each few thousand rows, add them
       to sums in double, as bpcore's Python functions do. Either `targets` or, for cross_entropy, `labels` (m classes,
       counted from 0) must be given, the other NULL; `sample_weight` (m) may be NULL. Rows of weight 0 are left out,
       even if they contain NaN. */
    int (*accumulate_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X, ptrdiff_t m,
                          const float *targets, const int64_t *labels, const float *sample_weight, float *sums,
                          double *loss);
    int (*accumulate_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X, ptrdiff_t m,
                          const double *targets, const int64_t *labels, const double *sample_weight, double *sums,
                          double *loss);
    /* gradient = sums / weight + l2 W (biases: no penalty), cost = loss / weight + l2/2 sum(W^2); weight is the number
       of rows, or the sum of their weights, which must not be subnormal. `gradient` may be `sums`. */
    int (*finish_f32)(const bpcore_plan *plan, const float *params, const float *sums, double loss, double weight,
                      double l2, float *gradient, double *cost);
    int (*finish_f64)(const bpcore_plan *plan, const double *params, const double *sums, double loss, double weight,
                      double l2, double *gradient, double *cost);
    /* From the gradient of any loss with respect to the outputs, dLoss/da(L) of m rows: add the gradient for the
       parameters to `sums`, and write the gradient for X to `input_gradient`, (m, n_inputs), unless that is NULL. The
       forward pass is computed again, so none has to be kept. */
    int (*backward_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X, ptrdiff_t m,
                        const float *output_gradient, float *sums, float *input_gradient);
    int (*backward_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X, ptrdiff_t m,
                        const double *output_gradient, double *sums, double *input_gradient);
    /* v = momentum v + g; p -= learning_rate v (nesterov: g + momentum v). `velocity` may be NULL for momentum 0.
       Finite learning_rate >= 0, momentum from 0 to 1. */
    int (*gradient_descent_f32)(ptrdiff_t n, float *params, const float *gradient, float *velocity,
                                double learning_rate, double momentum, int nesterov);
    int (*gradient_descent_f64)(ptrdiff_t n, double *params, const double *gradient, double *velocity,
                                double learning_rate, double momentum, int nesterov);
    /* Step number `step` of Adam, counted from 1; the moments are zeros before the first. Finite learning_rate and
       epsilon >= 0, betas from 0 to less than 1. */
    int (*adam_f32)(ptrdiff_t n, float *params, const float *gradient, float *first_moment,
                    float *second_moment, double learning_rate, double beta1, double beta2, double epsilon,
                    int64_t step);
    int (*adam_f64)(ptrdiff_t n, double *params, const double *gradient, double *first_moment,
                    double *second_moment, double learning_rate, double beta1, double beta2, double epsilon,
                    int64_t step);

    /* Online gradient descent: for each of m rows in turn, add its loss to `loss`, then
       params -= learning_rate * (gradient of that loss). The result has the same bits as accumulate and
       gradient_descent row by row, but no gradient is written to memory. The rows are given as for accumulate. */
    int (*sgd_rows_f32)(const bpcore_plan *plan, void *workspace, float *params, const float *X, ptrdiff_t m,
                        const float *targets, const int64_t *labels, const float *sample_weight,
                        double learning_rate, double *loss);
    int (*sgd_rows_f64)(const bpcore_plan *plan, void *workspace, double *params, const double *X, ptrdiff_t m,
                        const double *targets, const int64_t *labels, const double *sample_weight,
                        double learning_rate, double *loss);

    /* Change the parameter of the loss of a plan that no other thread is using: huber's delta (> 0, else 1), the
       quantile (between 0 and 1, else 0.5), tweedie's power (between 1 and 2, else 1.5), focal's gamma (>= 0, else 2),
       cross_entropy's label smoothing (from 0 to less than 1, else 0). */
    int (*plan_set_loss_parameter)(bpcore_plan *plan, double parameter);

    /* The derivatives of the outputs by the parameters, (m, n_outputs, n_parameters), or by the inputs, (m, n_outputs,
       n_inputs). */
    int (*jacobian_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X, ptrdiff_t m,
                        float *out);
    int (*jacobian_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X, ptrdiff_t m,
                        double *out);
    int (*input_jacobian_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                              ptrdiff_t m, float *out);
    int (*input_jacobian_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                              ptrdiff_t m, double *out);
    /* The outputs, (m, n_outputs), and in `d_out` their derivative along a direction of the parameters, (n_parameters),
       and of the inputs, (m, n_inputs), either of which may be NULL for none. */
    int (*jvp_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X, ptrdiff_t m,
                   const float *d_params, const float *d_inputs, float *out, float *d_out);
    int (*jvp_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X, ptrdiff_t m,
                   const double *d_params, const double *d_inputs, double *out, double *d_out);
    /* The gradient of the loss of each row by itself, (m, n_parameters), or its Euclidean norm, (m), without making it.
       Targets or labels as for accumulate. */
    int (*row_gradients_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                             ptrdiff_t m, const float *targets, const int64_t *labels, float *out);
    int (*row_gradients_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                             ptrdiff_t m, const double *targets, const int64_t *labels, double *out);
    int (*gradient_norms_f32)(const bpcore_plan *plan, void *workspace, const float *params, const float *X,
                              ptrdiff_t m, const float *targets, const int64_t *labels, float *out);
    int (*gradient_norms_f64)(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                              ptrdiff_t m, const double *targets, const int64_t *labels, double *out);

    /* Several heads: blocks of outputs, each with an activation and a loss of its own. `activations` are those of the
       hidden layers, n_layers - 1; then for each head its outputs, activation, loss, the parameter of the loss (0 for
       those that have none) and the weight of the loss, > 0. The loss of a row is the sum over the heads. Targets are
       those of the first head, then those of the next: for each cross_entropy a probability of each class, not a label.
       The plan needs plan_bytes_heads. */
    size_t (*plan_bytes_heads)(ptrdiff_t n_layers, ptrdiff_t n_heads); /* 0 if that is out of range */
    int (*plan_init_heads_f32)(void *memory, size_t bytes, ptrdiff_t n_layers, const ptrdiff_t *sizes,
                               const int *activations, ptrdiff_t n_heads, const ptrdiff_t *n_outputs,
                               const int *outputs, const int *losses, const double *parameters,
                               const double *weights);
    int (*plan_init_heads_f64)(void *memory, size_t bytes, ptrdiff_t n_layers, const ptrdiff_t *sizes,
                               const int *activations, ptrdiff_t n_heads, const ptrdiff_t *n_outputs,
                               const int *outputs, const int *losses, const double *parameters,
                               const double *weights);
} bpcore_api;

#ifdef Py_PYTHON_H
/* The table, valid until the interpreter ends; or NULL, with an ImportError set. Needs the GIL. */
static inline const bpcore_api *bpcore_import(void) {
    const bpcore_api *api;
    PyObject *module = PyImport_ImportModule("bpcore.capi"), *capsule;
    if (module == NULL) return NULL;
    capsule = PyObject_GetAttrString(module, "_C_API");
    Py_DECREF(module);
    if (capsule == NULL) return NULL;
    api = (const bpcore_api *)PyCapsule_GetPointer(capsule, "bpcore.capi._C_API");
    Py_DECREF(capsule); /* the module keeps it */
    if (api != NULL && (api->abi_version != BPCORE_ABI_VERSION || api->size < sizeof(bpcore_api))) {
        PyErr_Format(PyExc_ImportError,
                     "this extension was built for version %d of bpcore's ABI with a table of %d bytes, but the "
                     "installed bpcore has version %d with %d: build it again, or install a later bpcore",
                     BPCORE_ABI_VERSION, (int)sizeof(bpcore_api), (int)api->abi_version, (int)api->size);
        return NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
