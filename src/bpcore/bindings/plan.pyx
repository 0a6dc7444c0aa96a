# A plan as a Python object, with the workspaces of its calls; and its layout, computed without one.

cdef extern from "memory.h" nogil:
    void *allocate "bpcore_allocate"(size_t bytes)  # free it with `free`


#: Bytes of a vector (0: of one number) and rows of a block of the micro-kernel, as in simd.h. "scalar" is MSVC's build.
INSTRUCTION_SETS = {"baseline": (16, 6), "avx2": (32, 6), "avx512": (64, 14), "neon": (16, 12), "scalar": (0, 6)}

cdef enum:
    UNIT_WORK = 18                  # multiplications in the time that the rest of a unit takes; as in fallback.py
    POOL_SIZE = 8                   # workspaces, one per thread, that are kept for the next calls


cdef struct architecture_t:
    # A network as C has it; free it with `free_architecture`.
    Py_ssize_t n_layers
    Py_ssize_t *sizes
    int *activations
    int loss
    layer_t *layers
    Py_ssize_t n_heads              # 0 if there is one loss
    head_t *heads


cdef architecture_t new_architecture(tuple sizes, tuple activations, loss) except *:
    """From names to numbers, with room for the layers and the heads of a plan."""
    cdef architecture_t new
    cdef Py_ssize_t n = len(activations), l
    if n < 1 or len(sizes) != n + 1:
        raise ValueError(f"sizes must name one layer more than activations, got {len(sizes)} and {n}")
    new.n_layers, new.loss, new.heads = n, HEADS, NULL
    new.n_heads = len(loss) if isinstance(loss, tuple) else 0
    if new.n_heads == 0:
        new.loss = LOSSES[loss]
    new.layers = <layer_t *>malloc(n * sizeof(layer_t))
    new.sizes = <Py_ssize_t *>malloc((n + 1) * sizeof(Py_ssize_t))
    new.activations = <int *>malloc(n * sizeof(int))
    try:
        if new.layers == NULL or new.sizes == NULL or new.activations == NULL:
            raise MemoryError()
        for l in range(n):
            new.sizes[l] = sizes[l]
            new.activations[l] = HEADS if l == n - 1 and new.n_heads > 0 else ACTIVATIONS[activations[l]]
        new.sizes[n] = sizes[n]
        if new.n_heads > 0:
            new_heads(&new, loss)
    except BaseException:
        free_architecture(&new)
        raise
    return new


cdef int new_heads(architecture_t *new, tuple heads) except -1:
    """``heads``: the loss, n_outputs, output, parameter (or None) and weight of each."""
    cdef Py_ssize_t h, n_outputs = 0
    new.heads = <head_t *>malloc(new.n_heads * sizeof(head_t))
    if new.heads == NULL:
        raise MemoryError()
    for h, (loss, count, output, parameter, weight) in enumerate(heads):
        if not set_head(&new.heads[h], LOSSES[loss], ACTIVATIONS[output], count, 0 if parameter is None else parameter,
                        weight):
            raise ValueError(f"a head must have outputs, and activation and parameter of its loss, got {heads[h]}")
        n_outputs += new.heads[h].layer.n_out
    if n_outputs != new.sizes[new.n_layers]:
        raise ValueError(f"the heads must have {new.sizes[new.n_layers]} outputs, got {n_outputs}")
    return 0


cdef void free_architecture(architecture_t *architecture) noexcept:
    free(architecture.heads)
    free(architecture.layers)
    free(architecture.sizes)
    free(architecture.activations)


cdef class Plan:
    """An architecture in the form that the compiled loops take.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, inputs first.
    activations : tuple of str
        Of each layer but the first.
    loss : str, or tuple of tuple
        For several heads, whose activations count instead of the last one: the loss, the number of outputs, the
        activation, the parameter of the loss (or None) and the weight of each.
    dtype : numpy.dtype
        float32 or float64.
    loss_parameter : float, optional
        Of the losses that have one.

    Attributes
    ----------
    chunk_rows : int
        Maximum rows of a chunk.
    group_size : int
        Chunks whose sums are added up in ``dtype``.
    row_work : int
        What a row costs, in multiplications of float32.
    """

    cdef plan_t plan
    cdef bint is_float32
    cdef char kind                  # "f" or "d", as buffers name it
    cdef void *pool[POOL_SIZE]
    cdef object dtype
    cdef readonly Py_ssize_t chunk_rows
    cdef readonly Py_ssize_t group_size
    cdef readonly Py_ssize_t row_work

    def __cinit__(self, tuple sizes, tuple activations, loss, dtype, loss_parameter=None):
        cdef architecture_t given = new_architecture(sizes, activations, loss)
        cdef isa_t isa
        try:
            self.is_float32 = dtype.itemsize == 4
            self.kind = c"f" if self.is_float32 else c"d"
            self.dtype = dtype
            isa = own_isa(<const float *>NULL) if self.is_float32 else own_isa(<const double *>NULL)
            if not fits_in_memory(given.n_layers, given.sizes, &isa):
                raise ValueError(f"sizes must fit into memory with the rows of a tile, got {list(sizes)}")
            self.plan.n_heads, self.plan.heads = given.n_heads, given.heads
            holds = plan_init(&self.plan, given.layers, given.n_layers, given.sizes, given.activations, given.loss,
                              &isa)
            given.layers, given.heads = NULL, NULL  # they are the plan's now
            if not holds:
                raise AssertionError(f"the layout for sizes {list(sizes)} does not hold what is written in it: a bug")
            if loss_parameter is not None:
                if not parameter_valid(self.plan.loss, loss_parameter):
                    raise ValueError(f"loss_parameter must be one that {loss} takes, got {loss_parameter!r}")
                self.plan.head.parameter = loss_parameter
        finally:
            free_architecture(&given)
        self.chunk_rows, self.group_size = self.plan.chunk_rows, self.plan.group_size
        self.row_work = (self.plan.n_parameters + UNIT_WORK * <Py_ssize_t>sum(sizes)) * self.dtype.itemsize // 4

    def __dealloc__(self):
        cdef int i
        for i in range(POOL_SIZE):
            self.free_workspace(<char *>self.pool[i])
        free(self.plan.heads)
        free(self.plan.layers)

    cdef char *reserve(self) except NULL:
        """A workspace: memory for one tile and the packed parameters, and behind it for sums.

        Give it back with `release`.

        Those given back are kept for the next calls, which then ask the system for nothing. Threads take and give them
        by an atomic exchange; a thread that finds none allocates its own.
        """
        cdef char *workspace = NULL
        cdef int i
        for i in range(POOL_SIZE):
            if workspace == NULL:
                workspace = <char *>exchange(&self.pool[i], NULL)
        if workspace == NULL:
            workspace = <char *>allocate(self.plan.workspace * self.dtype.itemsize + own_sums_bytes(self) + 64)
            if workspace == NULL:
                raise MemoryError()
            if self.is_float32:
                close_guards(&self.plan, <float *>aligned(workspace))
            else:
                close_guards(&self.plan, <double *>aligned(workspace))
        return workspace

    cdef void release(self, char *workspace) noexcept nogil:
        cdef int i
        for i in range(POOL_SIZE):
            if workspace != NULL:
                workspace = <char *>exchange(&self.pool[i], workspace)
        self.free_workspace(workspace)

    cdef void free_workspace(self, char *workspace) noexcept nogil:
        if workspace != NULL:
            if self.is_float32:
                open_guards(&self.plan, <float *>aligned(workspace))
            else:
                open_guards(&self.plan, <double *>aligned(workspace))
            free(workspace)


# ------------------------------------------------------------------------------------- the layout, without computing


cdef isa_t isa_of(str instruction_set, dtype, Py_ssize_t guard, Py_ssize_t l2_bytes):
    """The numbers that a layout depends on, of any instruction set."""
    cdef isa_t isa
    width, isa.mr = INSTRUCTION_SETS[instruction_set]
    isa.itemsize, isa.guard, isa.l2_bytes = dtype.itemsize, guard, l2_bytes if l2_bytes > 0 else L2_BYTES
    isa.lanes = max(<Py_ssize_t>width // isa.itemsize, <Py_ssize_t>1)
    return isa


cdef tuple region(str name, Py_ssize_t layer, region_t where):
    return name, layer, where.start, where.size


def workspace_layout(tuple sizes, tuple activations, loss, dtype, str instruction_set, Py_ssize_t guard=0,
                     Py_ssize_t l2_bytes=0):
    """The layout of a workspace, computed for any instruction set without allocating it.

    Parameters
    ----------
    sizes, activations, loss, dtype
        As for :class:`Plan`.
    instruction_set : str
        A key of ``INSTRUCTION_SETS``.
    guard : int, default 0
        Minimum of numbers between two regions.
    l2_bytes : int, default 0
        The second-level cache; 0: as this machine's.

    Returns
    -------
    layout : dict
        ``tile``, ``mc``, ``input_stride``, ``workspace`` and ``strides`` (of each layer), in numbers; ``holds``,
        whether the layout passes the check that every plan must pass; ``regions``, a list of ``(name, layer, start,
        size)``, where ``layer`` is -1 for those that all layers share.
    """
    cdef architecture_t given = new_architecture(sizes, activations, loss)
    cdef isa_t isa = isa_of(instruction_set, dtype, guard, l2_bytes)
    cdef plan_t plan
    cdef layer_t *layer
    cdef Py_ssize_t l
    plan.n_heads, plan.heads = given.n_heads, given.heads
    try:
        holds = plan_init(&plan, given.layers, given.n_layers, given.sizes, given.activations, given.loss, &isa)
        regions = []
        for l in range(given.n_layers):
            layer = &given.layers[l]
            regions += [region("a", l, layer.a), region("derivative", l, layer.derivative),
                        region("forward", l, layer.forward), region("backward", l, layer.backward)]
        regions += [region("delta", -1, plan.delta), region("scratch", -1, plan.scratch),
                    region("panels", -1, plan.panels), region("columns", -1, plan.columns),
                    region("inputs", -1, plan.inputs), region("targets", -1, plan.targets),
                    region("output_weight", -1, plan.output_weight),
                    region("labels", -1, plan.labels), region("sample_weight", -1, plan.sample_weight),
                    region("norms", -1, plan.norms), region("heads_block", -1, plan.heads_block)]
        return {"tile": plan.tile, "mc": plan.mc, "input_stride": plan.input_stride, "workspace": plan.workspace,
                "holds": holds, "strides": [given.layers[l].stride for l in range(given.n_layers)], "regions": regions}
    finally:
        free_architecture(&given)


def check_layouts(first, second, third, dtype, str instruction_set, Py_ssize_t guard=0, Py_ssize_t l2_bytes=0):
    """Lay out the networks ``[i, j, k]`` of all widths i, j and k given (``[i, j]`` if ``third`` is empty).

    Parameters
    ----------
    first, second, third : ndarray of int64
    dtype, instruction_set, guard, l2_bytes
        As for :func:`workspace_layout`.

    Returns
    -------
    count : int
        How many were laid out, all of them correctly.

    Raises
    ------
    AssertionError
        Naming the first network whose layout does not hold.
    """
    cdef const int64_t[::1] i_widths = first, j_widths = second, k_widths = third if len(third) else second[:1]
    cdef isa_t isa = isa_of(instruction_set, dtype, guard, l2_bytes)
    cdef Py_ssize_t sizes[3]
    cdef Py_ssize_t i, j, k, n_layers = 2 if len(third) else 1, count = 0
    cdef bint holds = True
    with nogil:
        for i in range(i_widths.shape[0]):
            for j in range(j_widths.shape[0]):
                for k in range(k_widths.shape[0]):
                    sizes[0], sizes[1] = <Py_ssize_t>i_widths[i], <Py_ssize_t>j_widths[j]
                    sizes[2] = <Py_ssize_t>k_widths[k]
                    holds = layout_of_tanh_holds(n_layers, sizes, &isa)
                    if not holds:
                        break
                    count += 1
                if not holds:
                    break
            if not holds:
                break
    if not holds:
        raise AssertionError(f"the layout of {[sizes[i] for i in range(n_layers + 1)]} does not hold")
    return count


cdef bint layout_of_tanh_holds(Py_ssize_t n_layers, const Py_ssize_t *sizes, const isa_t *isa) noexcept nogil:
    """Whether the layout of a network of one or two layers does, every layer of which keeps its derivative."""
    cdef plan_t plan
    cdef layer_t layers[2]
    cdef int activations[2]
    activations[0] = activations[1] = TANH
    return plan_init(&plan, layers, n_layers, sizes, activations, SQUARED_ERROR, isa)
