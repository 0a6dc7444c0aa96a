#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "bpcore.h"

static const bpcore_api *bp;

/* The buffer of contiguous doubles of an object; -1 and an error set if it has none. */
static int take(PyObject *object, Py_buffer *buffer, int writable) {
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, buffer, flags) < 0) return -1;
    if (buffer->format != NULL && strcmp(buffer->format, "d") == 0) return 0;
    PyBuffer_Release(buffer);
    PyErr_SetString(PyExc_TypeError, "params, X and Y must be contiguous arrays of float64");
    return -1;
}

/* train(params, X, Y, batch, steps, rate): float64 buffers; the cost of the last batch. */
static PyObject *train(PyObject *self, PyObject *args) {
    static const ptrdiff_t sizes[] = {4, 64, 64, 2};
    static const int activations[] = {BPCORE_RELU, BPCORE_RELU, BPCORE_IDENTITY};
    PyObject *given[3];
    Py_buffer buffers[3];
    Py_ssize_t batch, steps, first = 0;
    double rate, cost = 0, loss, *params, *sums = NULL;
    const double *X, *Y;
    void *workspace = NULL;
    int taken = 0, error;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOnnd", &given[0], &given[1], &given[2], &batch, &steps, &rate)) return NULL;
    size_t bytes = bp->plan_bytes(3);
    bpcore_plan *plan = malloc(bytes);
    error = bp->plan_init_f64(plan, bytes, 3, sizes, activations, BPCORE_SQUARED_ERROR);
    if (error != BPCORE_OK) goto end;
    for (; taken < 3; taken++)
        if (take(given[taken], &buffers[taken], taken == 0) < 0) goto end;
    params = buffers[0].buf, X = buffers[1].buf, Y = buffers[2].buf;
    ptrdiff_t n = bp->n_parameters(plan), m = buffers[1].len / (ptrdiff_t)(4 * sizeof(double));
    if (buffers[0].len != n * (ptrdiff_t)sizeof(double) || buffers[1].len != m * (ptrdiff_t)(4 * sizeof(double)) ||
        buffers[2].len != m * (ptrdiff_t)(2 * sizeof(double)) || batch < 1 || batch > m) {
        PyErr_SetString(PyExc_ValueError, "params, X, Y and batch do not fit");
        goto end;
    }
    workspace = malloc(bp->workspace_bytes(plan));
    sums = calloc(3 * (size_t)n, sizeof(double));
    if (workspace == NULL || sums == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t step = 1; step <= steps && error == BPCORE_OK; step++) {
        memset(sums, 0, (size_t)n * sizeof(double));
        loss = 0;
        error = bp->accumulate_f64(plan, workspace, params, X + 4 * first, batch, Y + 2 * first, NULL, NULL, sums,
                                   &loss);
        if (error == BPCORE_OK)
            error = bp->finish_f64(plan, params, sums, loss, (double)batch, 1e-3, sums, &cost);
        if (error == BPCORE_OK)
            error = bp->adam_f64(n, params, sums, sums + n, sums + 2 * n, rate, 0.9, 0.999, 1e-8, step);
        first = first + 2 * batch > m ? 0 : first + batch;
    }
    Py_END_ALLOW_THREADS
end:
    free(sums);
    free(workspace);
    free(plan);
    while (taken > 0) PyBuffer_Release(&buffers[--taken]);
    if (error != BPCORE_OK) PyErr_SetString(PyExc_ValueError, bp->error_message(error));
    return PyErr_Occurred() ? NULL : PyFloat_FromDouble(cost);
}

static PyMethodDef methods[] = {{"train", train, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "embedding_c", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_embedding_c(void) {
    PyObject *made;
    bp = bpcore_import();
    if (bp == NULL) return NULL;
    made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (made != NULL) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
