"""bpcore below Python: functions to be cimported by Cython code, the table that C and C++ take, and ctypes' view of it.

``from bpcore.capi cimport ...`` gives the functions that capi.pxd lists; ``bpcore.h``, in the folder that
:func:`bpcore.get_include` names, says what each does. They are those of the backend that bpcore chose at import.
"""

# Free functions over an opaque struct: a cdef class would have a table of methods, and their order would be part of
# the ABI. Each is one jump through the backend's table.

from cpython.pycapsule cimport PyCapsule_GetPointer

import re
from types import MappingProxyType

from . import get_include
from ._dispatch import core, name

include "bindings/api.pyx"

if not hasattr(core, "_C_API"):
    raise ImportError(f"bpcore computes by its backend {name!r}, which has no functions for C: there is no bpcore.capi")

_C_API = core._C_API
cdef const bpcore_api *c_table = <const bpcore_api *>PyCapsule_GetPointer(_C_API, "bpcore.capi._C_API")

#: The version of the table: raised when a function changes or goes.
ABI_VERSION = API_VERSION

if c_table.abi_version != API_VERSION:
    raise ImportError(f"bpcore.capi has version {API_VERSION} of the ABI, but its backend {c_table.abi_version}")


def functions():
    """The functions of the table, for ctypes and Numba.

    Returns
    -------
    functions : Mapping[str, ctypes function]
        By the names of ``bpcore.h``, with argument and result types. Pointers are integers: pass addresses, as in
        ``array.ctypes.data``, and 0 for NULL. ctypes releases the GIL during a call.
    """
    import ctypes
    import os

    kinds = {"double": ctypes.c_double, "int": ctypes.c_int, "ptrdiff_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t,
             "int64_t": ctypes.c_int64, "const char *": ctypes.c_char_p}
    with open(os.path.join(get_include(), "bpcore.h")) as file:
        header = file.read()
    fields = header[header.index("typedef struct bpcore_api {"):header.index("} bpcore_api;")]
    found = {}
    addresses = <size_t *>&c_table.error_message
    for i, (result, function, arguments) in enumerate(re.findall(r"([\w ]+[ *])\(\*(\w+)\)\(([^)]*)\);", fields)):
        types = [ctypes.c_size_t if "*" in one else kinds[one.split()[0]] for one in arguments.split(",")]
        found[function] = ctypes.CFUNCTYPE(kinds[result.strip()], *types)(addresses[i])
    return MappingProxyType(found)


cdef const char *error_message(int error) noexcept nogil:
    return c_table.error_message(error)


cdef size_t plan_bytes(Py_ssize_t n_layers) noexcept nogil:
    return c_table.plan_bytes(n_layers)


cdef int plan_init_f32(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                  int loss) noexcept nogil:
    return c_table.plan_init_f32(memory, size, n_layers, sizes, activations, loss)


cdef int plan_init_f64(void *memory, size_t size, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                  int loss) noexcept nogil:
    return c_table.plan_init_f64(memory, size, n_layers, sizes, activations, loss)


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


cdef int accumulate_f64(const bpcore_plan *plan, void *workspace, const double *params, const double *X,
                        Py_ssize_t m, const double *targets, const int64_t *labels, const double *sample_weight,
                        double *sums, double *loss) noexcept nogil:
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


cdef int adam_f32(Py_ssize_t n, float *params, const float *gradient, float *mean, float *square,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil:
    return c_table.adam_f32(n, params, gradient, mean, square, learning_rate, beta1, beta2, epsilon, step)


cdef int adam_f64(Py_ssize_t n, double *params, const double *gradient, double *mean, double *square,
                  double learning_rate, double beta1, double beta2, double epsilon, int64_t step) noexcept nogil:
    return c_table.adam_f64(n, params, gradient, mean, square, learning_rate, beta1, beta2, epsilon, step)


cdef int sgd_rows_f32(const bpcore_plan *plan, void *workspace, float *params, const float *X, Py_ssize_t m,
                          const float *targets, const int64_t *labels, const float *sample_weight,
                          double learning_rate, double *loss) noexcept nogil:
    return c_table.sgd_rows_f32(plan, workspace, params, X, m, targets, labels, sample_weight, learning_rate, loss)


cdef int sgd_rows_f64(const bpcore_plan *plan, void *workspace, double *params, const double *X, Py_ssize_t m,
                          const double *targets, const int64_t *labels, const double *sample_weight,
                          double learning_rate, double *loss) noexcept nogil:
    return c_table.sgd_rows_f64(plan, workspace, params, X, m, targets, labels, sample_weight, learning_rate, loss)
