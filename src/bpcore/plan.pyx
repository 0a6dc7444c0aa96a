# The architecture as the loops want it: numbers and offsets, made once.

cdef enum Activation:
    IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS, SILU, GELU, SOFTMAX, EXP

cdef enum Loss:
    SQUARED_ERROR, BINARY_CROSS_ENTROPY, CROSS_ENTROPY, HUBER, ABSOLUTE_ERROR, POISSON

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
    Py_ssize_t weights      # where they begin in the flat vector: (n_out, n_in), row by row
    Py_ssize_t bias
    Py_ssize_t a            # where the tile's activations begin in the workspace: (tile, n_out)
    Py_ssize_t slope        # and its slopes

cdef struct plan_t:
    Py_ssize_t n_layers     # layers with weights
    Py_ssize_t n_parameters
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Loss loss
    Activation matching     # the output activation whose delta the loss gives at once
    Py_ssize_t tile         # rows of a tile
    Py_ssize_t delta        # where the two buffers for deltas begin in the workspace: (tile, widest layer) each
    Py_ssize_t widest
    Py_ssize_t workspace    # how many numbers the workspace has
    layer_t *layers

# Numbers that the activations of a tile hold together: as many as keep them in the second-level cache, in float64.
cdef Py_ssize_t TILE_NUMBERS = 1 << 14
cdef Py_ssize_t TILE_ROWS_AT_LEAST = 8
cdef Py_ssize_t TILE_ROWS_AT_MOST = 128


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
    """

    cdef plan_t plan
    cdef bint single

    def __cinit__(self, tuple sizes, tuple activations, str loss, dtype):
        cdef Py_ssize_t n_layers = len(activations), l, offset = 0, units = 0
        cdef layer_t *layer
        if n_layers < 1 or len(sizes) != n_layers + 1:
            raise ValueError("sizes and activations do not fit")
        self.single = dtype.itemsize == 4
        self.plan.layers = <layer_t *>malloc(n_layers * sizeof(layer_t))
        if self.plan.layers == NULL:
            raise MemoryError()
        for l in range(n_layers):
            layer = &self.plan.layers[l]
            layer.n_in, layer.n_out = sizes[l], sizes[l + 1]
            layer.activation = ACTIVATIONS[activations[l]]
            layer.keeps_slope = layer.activation == SILU or layer.activation == GELU
            layer.weights = offset
            layer.bias = offset + layer.n_out * layer.n_in
            offset = layer.bias + layer.n_out
            units += layer.n_out
        self.plan.n_layers = n_layers
        self.plan.n_parameters = offset
        self.plan.n_inputs, self.plan.n_outputs = sizes[0], sizes[n_layers]
        self.plan.loss = LOSSES[loss]
        if self.plan.loss == BINARY_CROSS_ENTROPY:
            self.plan.matching = SIGMOID
        elif self.plan.loss == CROSS_ENTROPY:
            self.plan.matching = SOFTMAX
        elif self.plan.loss == POISSON:
            self.plan.matching = EXP
        else:
            self.plan.matching = IDENTITY
        self.plan.tile = min(max(TILE_NUMBERS // units, TILE_ROWS_AT_LEAST), TILE_ROWS_AT_MOST)
        self.lay_out()

    cdef void lay_out(self) noexcept:
        """Give each layer's tile its place in the workspace."""
        cdef Py_ssize_t l, offset = 0
        cdef layer_t *layer
        self.plan.widest = 0
        for l in range(self.plan.n_layers):
            layer = &self.plan.layers[l]
            layer.a = offset
            offset += self.plan.tile * layer.n_out
            layer.slope = offset
            if layer.keeps_slope:
                offset += self.plan.tile * layer.n_out
            self.plan.widest = max(self.plan.widest, layer.n_out)
        self.plan.delta = offset
        self.plan.workspace = offset + 2 * self.plan.tile * self.plan.widest

    def __dealloc__(self):
        free(self.plan.layers)

    cdef void *new_workspace(self) except NULL:
        """Memory for one tile, to be freed by the caller."""
        cdef void *workspace = malloc(self.plan.workspace * (sizeof(float) if self.single else sizeof(double)))
        if workspace == NULL:
            raise MemoryError()
        return workspace


cdef inline Py_ssize_t n_tiles(const plan_t *plan, Py_ssize_t m) noexcept nogil:
    return (m + plan.tile - 1) // plan.tile


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
