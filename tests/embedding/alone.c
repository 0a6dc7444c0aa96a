/* Every function of the table, from threads that Python knows nothing of, with their allocations counted: loaded ahead
   of the C library (LD_PRELOAD), so that malloc is the one below. For glibc. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bpcore.h"

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
static __thread long allocated;

void *malloc(size_t bytes) { return allocated++, __libc_malloc(bytes); }
void *calloc(size_t n, size_t bytes) { return allocated++, __libc_calloc(n, bytes); }
void *realloc(void *old, size_t bytes) { return allocated++, __libc_realloc(old, bytes); }
void *memalign(size_t line, size_t bytes) { return allocated++, __libc_memalign(line, bytes); }
void *aligned_alloc(size_t line, size_t bytes) { return allocated++, __libc_memalign(line, bytes); }
int posix_memalign(void **to, size_t line, size_t bytes) {
    allocated++;
    *to = __libc_memalign(line, bytes);
    return *to == NULL;
}

enum { THREADS = 4, ROWS = 300, IN = 5, OUT = 3 };

#define FUNCTIONS(number, type)                                                                                       \
    typedef struct {                                                                                                  \
        const bpcore_api *bp;                                                                                         \
        const bpcore_plan *plan;                                                                                      \
        void *workspace;                                                                                              \
        number *p, *g, *mean, *square, X[ROWS * IN], Y[ROWS * OUT], out[ROWS * OUT], dX[ROWS * IN];                   \
        double sum;                                                                                                   \
        long errors, allocations;                                                                                     \
    } job_##type;                                                                                                     \
    static void *work_##type(void *argument) {                                                                        \
        static const ptrdiff_t counts[] = {0, 1, 5, 6, 7, 300};                                                       \
        job_##type *j = argument;                                                                                     \
        const bpcore_api *bp = j->bp;                                                                                 \
        ptrdiff_t n = bp->n_parameters(j->plan);                                                                      \
        long before = allocated;                                                                                      \
        for (int i = 0; i < 6; i++) {                                                                                 \
            ptrdiff_t m = counts[i];                                                                                  \
            double loss = 0, cost = 0;                                                                                \
            memset(j->g, 0, (size_t)n * sizeof(number));                                                              \
            j->errors += bp->forward_##type(j->plan, j->workspace, j->p, j->X, m, j->out);                            \
            j->errors += bp->accumulate_##type(j->plan, j->workspace, j->p, j->X, m, j->Y, 0, 0, j->g, &loss);        \
            j->errors += bp->accumulate_##type(j->plan, j->workspace, j->p, j->X, m, j->Y, 0, 0, 0, &loss);           \
            j->errors += bp->backward_##type(j->plan, j->workspace, j->p, j->X, m, j->out, j->g, j->dX);              \
            j->errors += bp->finish_##type(j->plan, j->p, j->g, loss, (double)m + 1, 0.1, j->g, &cost);               \
            j->errors += bp->gradient_descent_##type(n, j->p, j->g, j->mean, 1e-3, 0.5, 1);                           \
            j->errors += bp->adam_##type(n, j->p, j->g, j->mean, j->square, 1e-3, 0.9, 0.999, 1e-8, i + 1);           \
            j->errors += bp->sgd_rows_##type(j->plan, j->workspace, j->p, j->X, m, j->Y, 0, 0, 1e-3, &loss);      \
            j->errors += bp->error_message(i)[0] == 0;                                                                \
            j->sum += loss + cost + (double)j->dX[0];                                                                 \
        }                                                                                                             \
        for (ptrdiff_t k = 0; k < n; k++) j->sum += (double)j->p[k];                                                  \
        j->allocations = allocated - before;                                                                          \
        return NULL;                                                                                                  \
    }                                                                                                                 \
    /* 0 if all is well: else the number of the first thing that is not. */                                           \
    int try_##type(const bpcore_api *bp) {                                                                            \
        static const ptrdiff_t sizes[] = {IN, 33, 20, OUT};                                                           \
        static const int activations[] = {BPCORE_GELU, BPCORE_TANH, BPCORE_IDENTITY};                                 \
        static job_##type jobs[THREADS];                                                                              \
        pthread_t threads[THREADS];                                                                                   \
        size_t bytes = bp->plan_bytes(3);                                                                             \
        long start = allocated;                                                                                       \
        bpcore_plan *plan = malloc(bytes);                                                                            \
        if (allocated != start + 1) return 1;                                                                         \
        if (bp->plan_init_##type(plan, bytes, 3, sizes, activations, BPCORE_HUBER)) return 2;                              \
        if (allocated != start + 1) return 3;                                                                         \
        size_t n = (size_t)bp->n_parameters(plan);                                                                    \
        for (int i = 0; i < THREADS; i++) {                                                                           \
            job_##type *j = &jobs[i];                                                                                 \
            j->bp = bp, j->plan = plan, j->workspace = malloc(bp->workspace_bytes(plan));                             \
            j->p = calloc(4 * n, sizeof(number)), j->g = j->p + n, j->mean = j->g + n, j->square = j->mean + n;       \
            for (size_t k = 0; k < n; k++) j->p[k] = (number)((double)(k * 37 % 101) / 101 - 0.5);                    \
            for (int k = 0; k < ROWS * IN; k++) j->X[k] = (number)((double)(k * 53 % 97) / 97 - 0.5);                 \
            for (int k = 0; k < ROWS * OUT; k++) j->Y[k] = (number)((double)(k * 29 % 89) / 89);                      \
            if (pthread_create(&threads[i], NULL, work_##type, j)) return 4;                                          \
        }                                                                                                             \
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);                                             \
        for (int i = 0; i < THREADS; i++) {                                                                           \
            if (jobs[i].errors) return 5;                                                                             \
            if (jobs[i].allocations) return 6;                                                                        \
            if (!(jobs[i].sum == jobs[0].sum)) return 7;                                                              \
            free(jobs[i].p), free(jobs[i].workspace);                                                                 \
        }                                                                                                             \
        free(plan);                                                                                                   \
        return 0;                                                                                                     \
    }

FUNCTIONS(float, f32)
FUNCTIONS(double, f64)
