/* Memory of a call. Linux gives large pages to those that ask for them (transparent_hugepage/enabled: madvise): with
   those of 4 KB, a product of wide layers spends up to 6 % of its time on address translation. Free it with free().

   A hint: where the system refuses, the pages are small. And only whole large pages are asked for, so that a block takes
   no more memory than its bytes. */
#ifndef BPCORE_MEMORY_H
#define BPCORE_MEMORY_H

#include <stdlib.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(MADV_HUGEPAGE)

#define BPCORE_LARGE_PAGE ((size_t)2 << 20)

static inline void *bpcore_allocate(size_t bytes) {
    void *memory;
    if (bytes < 2 * BPCORE_LARGE_PAGE) return malloc(bytes);
    if (posix_memalign(&memory, BPCORE_LARGE_PAGE, bytes) != 0) return NULL;
    (void)madvise(memory, bytes / BPCORE_LARGE_PAGE * BPCORE_LARGE_PAGE, MADV_HUGEPAGE);
    return memory;
}

#else

static inline void *bpcore_allocate(size_t bytes) { return malloc(bytes); }

#endif
#endif
