/* What the processor is: its instruction sets and its caches. */
#ifndef BPCORE_CPU_H
#define BPCORE_CPU_H

#include "simd.h"

/* What the processor supports and the operating system allows (it must save the registers, as XCR0 says): bits in the
   order of FEATURES in cpu.pyx. */
#if defined(__x86_64__) || defined(_M_X64)
#if defined(BPCORE_GNU)
#if defined(_MSC_VER) /* clang-cl: a macro of cpuid.h has the name of a function of intrin.h, which must come first */
#include <intrin.h>
#endif
#include <cpuid.h>
static inline void bpcore_cpuid(unsigned leaf, unsigned index, unsigned r[4]) {
    if (!__get_cpuid_count(leaf, index, &r[0], &r[1], &r[2], &r[3])) r[0] = r[1] = r[2] = r[3] = 0;
}
static inline unsigned bpcore_xcr0(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#else
static inline void bpcore_cpuid(unsigned leaf, unsigned index, unsigned r[4]) {
    __cpuidex((int *)r, (int)(leaf & 0x80000000u), 0);
    if (r[0] < leaf) r[0] = r[1] = r[2] = r[3] = 0; /* it has no such leaf */
    else __cpuidex((int *)r, (int)leaf, (int)index);
}
static inline unsigned bpcore_xcr0(void) { return (unsigned)_xgetbv(0); }
#endif
static inline unsigned bpcore_cpu_features(void) {
    unsigned one[4], seven[4], saved;
    bpcore_cpuid(1, 0, one);
    bpcore_cpuid(7, 0, seven);
    saved = one[2] >> 27 & 1 ? bpcore_xcr0() : 0;
    unsigned ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
    return (ymm & seven[1] >> 5) | (ymm & one[2] >> 12) << 1 | (zmm & seven[1] >> 16) << 2 |
           (zmm & seven[1] >> 17) << 3 | (zmm & seven[1] >> 30) << 4 | (zmm & seven[1] >> 31) << 5;
}

/* Bytes of the data cache of a level, as the processor reports it: leaf 4, where AMD has 0x8000001D. */
static inline long bpcore_cache_bytes(unsigned level) {
    static const unsigned leaves[2] = {4, 0x8000001Du};
    unsigned r[4];
    for (int leaf = 0; leaf < 2; leaf++)
        for (unsigned index = 0; index < 16; index++) {
            bpcore_cpuid(leaves[leaf], index, r);
            unsigned type = r[0] & 31; /* 0: there are no more; 1 data, 2 instructions, 3 both */
            if (type == 0) break;
            if (type != 2 && (r[0] >> 5 & 7) == level)
                return (long)((r[1] >> 22) + 1) * ((r[1] >> 12 & 1023) + 1) * ((r[1] & 4095) + 1) * ((long)r[2] + 1);
        }
    return 0;
}
#else
static inline unsigned bpcore_cpu_features(void) { return 0; }

/* The same as the system reports it; 0 where it does not. */
#if defined(__APPLE__)
#include <sys/sysctl.h>
static inline long bpcore_cache_bytes(unsigned level) {
    int64_t bytes = 0;
    size_t size = sizeof bytes;
    const char *name = level == 1 ? "hw.perflevel0.l1dcachesize" : "hw.perflevel0.l2cachesize";
    return sysctlbyname(name, &bytes, &size, NULL, 0) == 0 ? (long)bytes : 0;
}
#elif defined(__linux__)
#include <stdio.h>
static inline long bpcore_cache_bytes(unsigned level) {
    char path[80], type[16];
    for (int index = 0; index < 16; index++) {
        unsigned of_level = 0;
        long kilobytes = 0;
        const char *const formats[3] = {"level", "type", "size"};
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, formats[i]);
            FILE *file = fopen(path, "r");
            if (file == NULL) return 0;
            int found = i == 0 ? fscanf(file, "%u", &of_level) : i == 1 ? fscanf(file, "%15s", type)
                                                                        : fscanf(file, "%ldK", &kilobytes);
            fclose(file);
            if (found != 1) return 0;
        }
        if (of_level == level && type[0] != 'I') return kilobytes * 1024;
    }
    return 0;
}
#else
static inline long bpcore_cache_bytes(unsigned level) { return (void)level, 0L; }
#endif
#endif

#endif
