# The core for x86-64 processors with AVX2 and FMA (2013 and later).
include "core.pyx"
