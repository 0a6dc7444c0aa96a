# The core for x86-64 processors with AVX-512 F, DQ, BW and VL.
include "core.pyx"
