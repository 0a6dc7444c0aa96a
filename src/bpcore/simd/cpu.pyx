# What this machine can run; asked of the module that any machine can run.

cdef extern from "simd.h" nogil:
    unsigned int bpcore_cpu_features()

FEATURES = ("avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl")


def cpu_features():
    """Names of the features that decide which backends can run, as far as processor and system have them."""
    cdef unsigned int found = bpcore_cpu_features()
    return [name for i, name in enumerate(FEATURES) if found >> i & 1]
