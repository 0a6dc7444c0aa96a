# The compiled core. It is built once for each instruction set, from _avx2.pyx, _baseline.pyx and so on, which only
# include this file; bpcore.backend picks one.
#
# One translation unit per instruction set, not one module per file: the compiler then sees through every call down to
# the innermost loop, three extension modules are loaded or shipped where there would be twenty (each has some 150 KB of
# Cython's memoryview support in it), and nothing here has an ABI between modules to keep.

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cython cimport floating

include "cpu.pyx"
include "simd.pyx"
include "views.pyx"
include "signals.pyx"
include "layout.pyx"
include "matmul.pyx"
include "plan.pyx"
include "elementary.pyx"
include "activations.pyx"
include "losses.pyx"
include "forward.pyx"
include "backward.pyx"
include "accumulate.pyx"
include "direct.pyx"
include "optimizers.pyx"
include "steps.pyx"
include "table.pyx"
