# The core for 64-bit ARM, where NEON is part of the architecture.
include "core.pyx"
