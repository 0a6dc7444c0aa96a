/* Guards behind the regions of a workspace, so that a write or read past the end of one is seen although it stays inside
   the workspace. Under AddressSanitizer they are poisoned: the access itself is reported. In debug builds (BPCORE_GUARDS)
   they hold a pattern that is looked at after every tile. Elsewhere there are none. */
#ifndef BPCORE_GUARDS_H
#define BPCORE_GUARDS_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define BPCORE_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BPCORE_ASAN
#endif
#endif

#if defined(BPCORE_ASAN)

#include <sanitizer/asan_interface.h>
#define BPCORE_GUARD 128
#define bpcore_close_guard(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#define bpcore_open_guard(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#define bpcore_guard_is_intact(p, bytes) 1
#define bpcore_guard_failed(region, layer) ((void)(region), (void)(layer))

#elif defined(BPCORE_GUARDS)

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define BPCORE_GUARD 128
#define BPCORE_PATTERN 0xA5
static inline void bpcore_close_guard(void *p, size_t bytes) { memset(p, BPCORE_PATTERN, bytes); }
#define bpcore_open_guard(p, bytes) ((void)(p), (void)(bytes))
static inline int bpcore_guard_is_intact(const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)p)[i] != BPCORE_PATTERN) return 0;
    return 1;
}
static inline void bpcore_guard_failed(const char *region, ptrdiff_t layer) {
    fprintf(stderr, "bpcore: a loop wrote behind the region %s (layer %td) of its workspace\n", region, layer);
    abort();
}

#else

#define BPCORE_GUARD 0
#define bpcore_close_guard(p, bytes) ((void)(p), (void)(bytes))
#define bpcore_open_guard(p, bytes) ((void)(p), (void)(bytes))
#define bpcore_guard_is_intact(p, bytes) ((void)(p), (void)(bytes), 1)
#define bpcore_guard_failed(region, layer) ((void)(region), (void)(layer))

#endif
#endif
