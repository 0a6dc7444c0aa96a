#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "bpcore.h"

static const bpcore_api *bp;

/* train(params, X, Y, batch, steps, rate): float64 buffers; the cost of the last batch. */
static PyObject *train(PyObject *self, PyObject *args) {
    static const ptrdiff_t sizes[] = {4, 64, 64, 2};
    static const int activations[] = {BPCORE_RELU, BPCORE_RELU, BPCORE_IDENTITY};
    Py_buffer params, X, Y;
    Py_ssize_t batch, steps, first = 0;
    double rate, cost = 0, loss;
    int error;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*y*nnd", &params, &X, &Y, &batch, &steps, &rate)) return NULL;
    ptrdiff_t m = X.len / (ptrdiff_t)(4 * sizeof(double));
    size_t bytes = bp->plan_bytes(3);
    bpcore_plan *plan = malloc(bytes);
    error = bp->plan_f64(plan, bytes, 3, sizes, activations, BPCORE_SQUARED_ERROR);
    if (error == BPCORE_OK) {
        ptrdiff_t n = bp->n_parameters(plan);
        void *workspace = malloc(bp->workspace_bytes(plan));
        double *sums = calloc(3 * (size_t)n, sizeof(double));
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t step = 1; step <= steps && error == BPCORE_OK; step++) {
            memset(sums, 0, (size_t)n * sizeof(double));
            loss = 0;
            error = bp->accumulate_f64(plan, workspace, params.buf, (double *)X.buf + 4 * first, batch,
                                       (double *)Y.buf + 2 * first, NULL, NULL, sums, &loss);
            if (error == BPCORE_OK)
                error = bp->finish_f64(plan, params.buf, sums, loss, (double)batch, 1e-3, sums, &cost);
            if (error == BPCORE_OK)
                error = bp->adam_f64(n, params.buf, sums, sums + n, sums + 2 * n, rate, 0.9, 0.999, 1e-8, step);
            first = first + 2 * batch > m ? 0 : first + batch;
        }
        Py_END_ALLOW_THREADS
        free(sums);
        free(workspace);
    }
    free(plan);
    PyBuffer_Release(&params);
    PyBuffer_Release(&X);
    PyBuffer_Release(&Y);
    if (error != BPCORE_OK) return PyErr_Format(PyExc_ValueError, "%s", bp->error_message(error));
    return PyFloat_FromDouble(cost);
}

static PyMethodDef methods[] = {{"train", train, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "embedding_c", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_embedding_c(void) {
    bp = bpcore_import();
    return bp == NULL ? NULL : PyModule_Create(&module);
}
