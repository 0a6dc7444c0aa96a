# The compiled core. It is built once for each instruction set, from _avx2.pyx, _baseline.pyx and so on, which only
# include this file; bpcore._dispatch selects one.
#
# One translation unit per instruction set, not one module per file: the compiler then sees through every call down to
# the innermost loop, three extension modules are loaded or shipped where there would be twenty (each has some 150 KB of
# Cython's memoryview support in it), and nothing here has an ABI between modules to keep.
#
# Each folder uses those before it. The exception is `should_stop`, which the loops of gemm/ and network/ ask whether
# the call is interrupted.

from libc.float cimport DBL_MAX, DBL_MIN, FLT_MAX, FLT_MIN
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cython cimport floating

# Threads, and signals
include "team/team.pyx"
include "bindings/interrupt.pyx"

# Vectors, exp and the like
include "simd/simd.pyx"
include "simd/elementary.pyx"
include "simd/views.pyx"
include "simd/cpu.pyx"

# The products
include "gemm/microkernel.pyx"
include "gemm/pack.pyx"
include "gemm/gemm.pyx"
include "gemm/small.pyx"

# The algorithm: code without Python
include "network/enums.pyx"
include "network/plan.pyx"
include "network/guards.pyx"
include "network/context.pyx"
include "network/activations.pyx"
include "network/losses.pyx"
include "network/heads.pyx"
include "network/forward.pyx"
include "network/backward.pyx"
include "network/accumulate.pyx"
include "network/derivatives.pyx"
include "network/population.pyx"
include "network/optimizers.pyx"
include "network/training.pyx"

# Everything that knows Python
include "bindings/names.pyx"
include "bindings/plan.pyx"
include "bindings/buffers.pyx"
include "bindings/call.pyx"
include "bindings/python.pyx"
include "bindings/population.pyx"
include "bindings/training_loop.pyx"
include "bindings/c_api.pyx"
