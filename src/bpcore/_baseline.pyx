# The core for every processor of the architecture: only the instructions that its ABI guarantees.
include "core.pyx"
