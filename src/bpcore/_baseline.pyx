# The core for every processor of the architecture: what its ABI promises, and nothing more.
include "core.pyx"
