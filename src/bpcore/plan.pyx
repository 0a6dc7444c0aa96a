# A plan as an object of Python, with the workspaces of its calls.

cdef enum:
    KEPT = 8                        # workspaces, one a thread, that are kept for the next call


cdef inline target_t own_target(const floating *number) noexcept nogil:
    """The numbers that a layout depends on, of this module; ``number`` only says of which type."""
    cdef target_t target
    target.itemsize, target.lanes, target.mr = sizeof(floating), lanes(number), ROWS
    target.guard = GUARD_BYTES // <Py_ssize_t>sizeof(floating)
    return target


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
        cdef target_t target
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
            target = own_target(<const float *>NULL) if self.single else own_target(<const double *>NULL)
            if not fits_in_memory(n_layers, units, &target):
                raise ValueError(f"sizes must fit into memory with the rows of a tile, got {list(sizes)}")
            if not plan_init(&self.plan, self.plan.layers, n_layers, units, kinds, which, &target):
                raise AssertionError(f"the layout for sizes {list(sizes)} does not hold what is written in it: a bug")
        finally:
            free(units)
            free(kinds)
        self.slot, self.together = self.plan.slot, self.plan.together

    def __dealloc__(self):
        cdef int i
        for i in range(KEPT):
            self.discard(<char *>self.kept[i])
        free(self.plan.layers)

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
            if self.single:
                close_guards(&self.plan, <float *>aligned(workspace))
            else:
                close_guards(&self.plan, <double *>aligned(workspace))
        return workspace

    cdef void give(self, char *workspace) noexcept nogil:
        cdef int i
        for i in range(KEPT):
            if workspace != NULL:
                workspace = <char *>exchange(&self.kept[i], workspace)
        self.discard(workspace)

    cdef void discard(self, char *workspace) noexcept nogil:
        if workspace != NULL:
            if self.single:
                open_guards(&self.plan, <float *>aligned(workspace))
            else:
                open_guards(&self.plan, <double *>aligned(workspace))
            free(workspace)


cdef inline char *aligned(char *workspace) noexcept nogil:
    """The first whole line of the cache in it."""
    return workspace + 64 - (<size_t>workspace & 63)


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
