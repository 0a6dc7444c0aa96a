# The compiled core. It is built once for each instruction set, from _baseline.pyx and its like, which only include
# this file; bpcore.backend picks one.
#
# One translation unit per instruction set, not one module per file: the compiler then sees through every call down to
# the innermost loop, three extension modules are loaded or shipped where there would be twenty (each has some 150 KB of
# Cython's memoryview support in it), and nothing here has an ABI between modules to keep.

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from cython cimport floating

include "views.pyx"
include "plan.pyx"
include "matmul.pyx"
include "activations.pyx"
include "losses.pyx"
include "forward.pyx"
include "backward.pyx"
include "accumulate.pyx"
include "optimizers.pyx"
