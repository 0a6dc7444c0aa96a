# What this machine can run, asked of the module that any machine can run; and its caches.

cdef extern from "cpu.h" nogil:
    unsigned int bpcore_cpu_features()
    long bpcore_cache_bytes(unsigned int level)

FEATURES = ("avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl")

# Data caches of the first and the second level, within what makes sense for one thread: the second may be that of many
# processors, and what is not reported is taken for a usual one. They decide what is done at a time, and never in which
# order numbers are added: the same instruction set gives the same bits on every processor.
cdef Py_ssize_t L1_BYTES = within(bpcore_cache_bytes(1), 16384, 65536, 32768)
cdef Py_ssize_t L2_BYTES = within(bpcore_cache_bytes(2), 131072, 4194304, 1048576)


cdef Py_ssize_t within(Py_ssize_t bytes, Py_ssize_t least, Py_ssize_t most, Py_ssize_t usual) noexcept nogil:
    return usual if bytes <= 0 else min(max(bytes, least), most)


def cpu_features():
    """Names of the features that decide which backends can run, as far as processor and system have them."""
    cdef unsigned int found = bpcore_cpu_features()
    return [name for i, name in enumerate(FEATURES) if found >> i & 1]


def cache_bytes():
    """The first- and the second-level data cache for which the loops cut their work, and those reported (0: none)."""
    return (L1_BYTES, L2_BYTES), (bpcore_cache_bytes(1), bpcore_cache_bytes(2))
