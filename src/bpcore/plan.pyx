# The architecture as the loops want it: numbers and offsets, made once.

cdef extern from "bpcore.h":
    ctypedef enum Activation "enum bpcore_activation":
        IDENTITY "BPCORE_IDENTITY"
        SIGMOID "BPCORE_SIGMOID"
        TANH "BPCORE_TANH"
        RELU "BPCORE_RELU"
        LEAKY_RELU "BPCORE_LEAKY_RELU"
        ELU "BPCORE_ELU"
        SOFTPLUS "BPCORE_SOFTPLUS"
        SILU "BPCORE_SILU"
        GELU "BPCORE_GELU"
        SOFTMAX "BPCORE_SOFTMAX"
        EXP "BPCORE_EXP"
    ctypedef enum Loss "enum bpcore_loss":
        SQUARED_ERROR "BPCORE_SQUARED_ERROR"
        BINARY_CROSS_ENTROPY "BPCORE_BINARY_CROSS_ENTROPY"
        CROSS_ENTROPY "BPCORE_CROSS_ENTROPY"
        HUBER "BPCORE_HUBER"
        ABSOLUTE_ERROR "BPCORE_ABSOLUTE_ERROR"
        POISSON "BPCORE_POISSON"

ACTIVATIONS = {
    "identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU,
    "softplus": SOFTPLUS, "silu": SILU, "gelu": GELU, "softmax": SOFTMAX, "exp": EXP,
}
LOSSES = {
    "squared_error": SQUARED_ERROR, "binary_cross_entropy": BINARY_CROSS_ENTROPY, "cross_entropy": CROSS_ENTROPY,
    "huber": HUBER, "absolute_error": ABSOLUTE_ERROR, "poisson": POISSON,
}

cdef struct layer_t:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Activation activation
    bint keeps_slope        # g'(z) cannot be told from g(z), and is kept from the forward pass
    Py_ssize_t dots         # the last outputs, if so few that dot products are faster than a vector of them
    Py_ssize_t weights      # where they begin in the flat vector: (n_out, n_in), row by row
    Py_ssize_t bias
    Py_ssize_t step         # n_out, padded: from one row of the tile to the next
    Py_ssize_t a            # where the tile's activations begin in the workspace: (tile, step)
    Py_ssize_t slope        # and its slopes
    Py_ssize_t forward      # and the panels of W^T
    Py_ssize_t backward     # and the panels of W

cdef struct plan_t:
    Py_ssize_t n_layers     # layers with weights
    Py_ssize_t n_parameters
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Loss loss
    Activation matching     # the output activation whose delta the loss gives at once
    Py_ssize_t slot         # rows of a slot, at most
    Py_ssize_t together     # slots whose sums are added up in the network's dtype
    Py_ssize_t tile         # rows of a tile, at most
    Py_ssize_t delta        # where the two buffers for deltas begin in the workspace: (tile, widest layer) each
    Py_ssize_t spare
    Py_ssize_t panels       # and room for the panels of a tile's activations
    Py_ssize_t workspace    # how many numbers the workspace has
    layer_t *layers

# Rows are cut into slots, and slots into tiles, by a rule that knows the shapes alone.
#
# A slot is what a thread takes: about a millisecond of work, but not so few rows that reading the weights and adding up
# the sums would show. Where the parameters are many, a slot is one tile: its sums are added to those of the slot before
# it while they are in registers, for several slots *together*; then on in float64. The same rule stands in fallback.py.
#
# Other tiles have as many rows as keep their activations in half of a second-level cache of 512 KB; but a tile's sums
# are read and written once a tile, which takes some rows to be worth its way.
cdef enum:
    SLOT_WORK = 8000000             # multiplications of a forward pass
    SLOT_ROWS_AT_LEAST = 128
    SLOT_ROWS_OF_WIDE_LAYERS = 256
    MANY_PARAMETERS = 2000000
    ONE_TILE = 256
    SLOT_ROWS_AT_MOST = 2048
    TOGETHER = 8
    TILE_BYTES = 262144
    TILE_ROWS_AT_LEAST = 126
    TILE_ROWS_AT_MOST = 266
    MOST_DOTS = 2
    MOST_LAYERS = 1000000
    KEPT = 8                        # workspaces, one a thread, that are kept for the next call

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

# So that no offset in bytes overflows.
cdef double MOST_PARAMETERS = PY_SSIZE_T_MAX // 4096


cdef class Plan:
    """An architecture in the form the compiled loops want.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, inputs first.
    activations : tuple of str
        Of each layer but the first.
    loss : str
    dtype : numpy.dtype
        float32 or float64.

    Attributes
    ----------
    slot : int
        Rows of a slot, at most.
    together : int
        Slots whose sums are added up in ``dtype``.
    """

    cdef plan_t plan
    cdef bint single
    cdef void *kept[KEPT]
    cdef object dtype
    cdef readonly Py_ssize_t slot
    cdef readonly Py_ssize_t together

    def __cinit__(self, tuple sizes, tuple activations, str loss, dtype):
        cdef Py_ssize_t n_layers = len(activations), l
        cdef Py_ssize_t *units
        cdef int *kinds
        cdef int which = LOSSES[loss]
        if n_layers < 1 or len(sizes) != n_layers + 1:
            raise ValueError("sizes and activations do not fit")
        self.single = dtype.itemsize == 4
        self.dtype = dtype
        self.plan.layers = <layer_t *>malloc(n_layers * sizeof(layer_t))
        units = <Py_ssize_t *>malloc((n_layers + 1) * sizeof(Py_ssize_t))
        kinds = <int *>malloc(n_layers * sizeof(int))
        try:
            if self.plan.layers == NULL or units == NULL or kinds == NULL:
                raise MemoryError()
            for l in range(n_layers):
                units[l], kinds[l] = sizes[l], ACTIVATIONS[activations[l]]
            units[n_layers] = sizes[n_layers]
            if self.single:
                lay_out(&self.plan, self.plan.layers, n_layers, units, kinds, which, <const float *>NULL)
            else:
                lay_out(&self.plan, self.plan.layers, n_layers, units, kinds, which, <const double *>NULL)
        finally:
            free(units)
            free(kinds)
        self.slot, self.together = self.plan.slot, self.plan.together

    def __dealloc__(self):
        cdef int i
        free(self.plan.layers)
        for i in range(KEPT):
            free(self.kept[i])

    cdef char *take_workspace(self) except NULL:
        """Memory for one tile and the packed parameters, on a whole line of the cache; give it back with `give`.

        Those given back are kept for the next calls, which then ask the system for nothing. Threads take and give them
        by an atomic exchange; one that finds none makes its own.
        """
        cdef char *workspace = NULL
        cdef int i
        for i in range(KEPT):
            if workspace == NULL:
                workspace = <char *>exchange(&self.kept[i], NULL)
        if workspace == NULL:
            workspace = <char *>malloc(self.plan.workspace * (sizeof(float) if self.single else sizeof(double)) + 64)
            if workspace == NULL:
                raise MemoryError()
        return workspace

    cdef void give(self, char *workspace) noexcept nogil:
        cdef int i
        for i in range(KEPT):
            if workspace != NULL:
                workspace = <char *>exchange(&self.kept[i], workspace)
        free(workspace)


cdef void lay_out(plan_t *plan, layer_t *layers, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                  int loss, const floating *number) noexcept nogil:
    """Fill a plan: choose the rows of a tile, and give everything its place in the workspace, on whole lines of the
    cache."""
    cdef Py_ssize_t l, offset = 0, units = 0, rows, widest = sizes[0]
    cdef layer_t *layer
    plan.layers = layers
    for l in range(n_layers):
        layer = &layers[l]
        layer.n_in, layer.n_out = sizes[l], sizes[l + 1]
        layer.activation = <Activation>activations[l]
        layer.keeps_slope = layer.activation == SILU or layer.activation == GELU
        layer.dots = layer.n_out % lanes(number)
        if layer.dots > MOST_DOTS or layer.n_in < 2 * lanes(number):
            layer.dots = 0
        layer.weights = offset
        layer.bias = offset + layer.n_out * layer.n_in
        offset = layer.bias + layer.n_out
        units += layer.n_out
    plan.n_layers = n_layers
    plan.n_parameters = offset
    plan.n_inputs, plan.n_outputs = sizes[0], sizes[n_layers]
    plan.loss = <Loss>loss
    if plan.loss == BINARY_CROSS_ENTROPY:
        plan.matching = SIGMOID
    elif plan.loss == CROSS_ENTROPY:
        plan.matching = SOFTMAX
    elif plan.loss == POISSON:
        plan.matching = EXP
    else:
        plan.matching = IDENTITY
    rows = SLOT_ROWS_AT_LEAST if plan.n_parameters < MANY_PARAMETERS else SLOT_ROWS_OF_WIDE_LAYERS
    plan.slot = min(max(rows, SLOT_WORK // plan.n_parameters), <Py_ssize_t>SLOT_ROWS_AT_MOST)
    plan.together = TOGETHER if plan.slot <= ONE_TILE else 1
    rows = TILE_BYTES // ((units + plan.n_inputs) * <Py_ssize_t>sizeof(floating))
    rows = min(max(rows, <Py_ssize_t>TILE_ROWS_AT_LEAST), <Py_ssize_t>TILE_ROWS_AT_MOST)
    if plan.slot <= ONE_TILE:
        rows = plan.slot
    plan.tile = (rows + ROWS - 1) // ROWS * ROWS
    offset = 0
    for l in range(n_layers):
        layer = &layers[l]
        layer.step = spread(layer.n_out, number)
        layer.a = take(&offset, plan.tile * layer.step)
        layer.slope = take(&offset, plan.tile * layer.step if layer.keeps_slope else 0)
        layer.forward = take(&offset, (1 + layer.n_in) * layer.step)
        layer.backward = take(&offset, (1 + layer.n_out) * padded(layer.n_in, number))
        widest = max(widest, layer.n_out)
    widest = spread(widest, number)
    plan.delta = take(&offset, plan.tile * widest)
    plan.spare = take(&offset, plan.tile * widest)
    plan.panels = take(&offset, (1 + plan.tile) * widest)
    plan.workspace = offset


cdef inline char *aligned(char *workspace) noexcept nogil:
    """The first whole line of the cache in it."""
    return workspace + 64 - (<size_t>workspace & 63)


cdef inline Py_ssize_t take(Py_ssize_t *offset, Py_ssize_t numbers) noexcept nogil:
    """Reserve that many numbers, rounded up to 64 bytes of float; where they begin."""
    cdef Py_ssize_t first = offset[0]
    offset[0] += (numbers + 15) // 16 * 16
    return first


cdef inline Py_ssize_t spread(Py_ssize_t columns, const floating *number) noexcept nogil:
    """From one row of a tile to the next: whole vectors, and a line of the cache more for multiples of 512 bytes.

    Delta += delta^T A walks down the columns of delta. At a distance of a power of two all of a column would fall into
    the same few sets of the first-level cache.
    """
    cdef Py_ssize_t step = padded(columns, number), line = 64 // <Py_ssize_t>sizeof(floating)
    return step + line if step % (8 * line) == 0 else step


cdef inline Py_ssize_t tile_rows(const plan_t *plan, Py_ssize_t m) noexcept nogil:
    """Rows of each tile but the last, for m rows in all: as few tiles as can be, as even as whole blocks can be."""
    cdef Py_ssize_t tiles = max((m + plan.tile - 1) // plan.tile, <Py_ssize_t>1)
    return (m + tiles * ROWS - 1) // (tiles * ROWS) * ROWS


cdef inline Py_ssize_t count_slots(const plan_t *plan, Py_ssize_t m) noexcept nogil:
    """Into how many slots m rows are cut, as evenly as can be."""
    return (m + plan.slot - 1) // plan.slot


cdef inline Py_ssize_t slot_start(Py_ssize_t m, Py_ssize_t slots, Py_ssize_t i) noexcept nogil:
    """The first row of slot i."""
    return <Py_ssize_t>(<int64_t>i * m // slots)


cdef inline floating[:, ::1] weights_of(const layer_t *layer, const floating *params) noexcept nogil:
    return matrix(params + layer.weights, layer.n_out, layer.n_in)


cdef inline floating[::1] bias_of(const layer_t *layer, const floating *params) noexcept nogil:
    return vector(params + layer.bias, layer.n_out)


cdef int check_sizes(Plan plan, Py_ssize_t n_params, Py_ssize_t n_columns) except -1:
    """The last guard before the loops, which do not look."""
    if n_params != plan.plan.n_parameters:
        raise ValueError(f"params has {n_params} entries, but the network takes {plan.plan.n_parameters}")
    if n_columns != plan.plan.n_inputs:
        raise ValueError(f"X has {n_columns} columns, but the network takes {plan.plan.n_inputs}")
    return 0
