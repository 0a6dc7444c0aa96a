# The architecture as the loops need it, and the layout of a workspace: pure arithmetic, for any instruction set.
#
# Every region of the workspace is made by `reserve` from the largest number that one of its users needs, and
# `layout_holds` states those needs a second time, from the users' side. A stride is computed here and nowhere else.

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

cdef extern from "guards.h" nogil:
    enum:
        GUARD_BYTES "BPCORE_GUARD"      # between two regions; 0 but in debug builds
    void close_guard "bpcore_close_guard"(void *p, size_t bytes)
    void open_guard "bpcore_open_guard"(void *p, size_t bytes)
    bint guard_is_intact "bpcore_guard_is_intact"(const void *p, size_t bytes)
    void guard_failed "bpcore_guard_failed"(const char *region, Py_ssize_t layer)

ACTIVATIONS = {
    "identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU,
    "softplus": SOFTPLUS, "silu": SILU, "gelu": GELU, "softmax": SOFTMAX, "exp": EXP,
}
LOSSES = {
    "squared_error": SQUARED_ERROR, "binary_cross_entropy": BINARY_CROSS_ENTROPY, "cross_entropy": CROSS_ENTROPY,
    "huber": HUBER, "absolute_error": ABSOLUTE_ERROR, "poisson": POISSON,
}
#: Bytes of a vector (0: of one number) and rows of a block of the micro-kernel, as in simd.h. "scalar" is MSVC's build.
INSTRUCTION_SETS = {"baseline": (16, 6), "avx2": (32, 6), "avx512": (64, 14), "neon": (16, 12), "scalar": (0, 6)}

cdef struct target_t:
    # What a layout depends on besides the network.
    Py_ssize_t itemsize
    Py_ssize_t lanes        # numbers of a vector
    Py_ssize_t mr           # rows of a block of the micro-kernel
    Py_ssize_t guard        # numbers between two regions, at least

cdef struct region_t:
    # A part of the workspace, in numbers.
    Py_ssize_t start
    Py_ssize_t size

cdef struct layer_t:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Activation activation
    bint keeps_slope        # g'(z) cannot be computed exactly from g(z), and is kept from the forward pass
    Py_ssize_t dots         # the last outputs, if so few that dot products are faster than a vector of them
    Py_ssize_t weights      # where they begin in the flat vector: (n_out, n_in), row by row
    Py_ssize_t bias
    Py_ssize_t step         # n_out, padded: from one row of the tile to the next, in a, slope, delta and scratch
    region_t a              # the tile's activations: (tile, step)
    region_t slope          # and its slopes
    region_t forward        # the panels of W^T
    region_t backward       # the panels of W

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
    bint aliases            # rows of X push each other out of the first-level cache: the tile is copied
    Py_ssize_t input_step   # n_inputs, padded: from one row to the next of copied inputs, and of their gradient
    region_t delta          # two buffers for deltas, with the rows of whatever layer is in turn
    region_t scratch
    region_t panels         # the panels of a tile's activations
    region_t inputs         # copied rows of X: (tile, input_step)
    region_t targets        # and of their targets: (tile, n_outputs), labels (int64) and sample weights
    region_t labels
    region_t sample_weights
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
    # Row strides of X that are multiples of this alias in the first-level cache; copying the tile to a padded stride is
    # cheaper.
    ALIAS_STRIDE = 4096
    # Regions begin at whole cache lines of float, which are two of double.
    REGION_UNIT = 16

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    """The next multiple of ``unit``."""
    return (n + unit - 1) // unit * unit


cdef inline Py_ssize_t padded_stride(Py_ssize_t columns, const target_t *target) noexcept nogil:
    """From one row of a tile to the next: whole vectors, and a cache line more for multiples of 512 bytes.

    Delta += delta^T A walks down the columns of delta. At a distance of a power of two all of a column would fall into
    the same few sets of the first-level cache. It is not monotone: a wider layer may have the narrower stride.
    """
    cdef Py_ssize_t stride = round_up(columns, target.lanes), line = 64 // target.itemsize
    return stride + line if stride % (8 * line) == 0 else stride


cdef inline void reserve(region_t *region, Py_ssize_t size, Py_ssize_t *end, const target_t *target) noexcept nogil:
    """Give a region its place behind the others, and room for a guard behind it."""
    region.start, region.size = end[0], size
    end[0] += round_up(size + target.guard, REGION_UNIT)


cdef bint fits_in_memory(Py_ssize_t n_layers, const Py_ssize_t *sizes, const target_t *target) noexcept nogil:
    """Whether no offset in bytes overflows: more than half of what can be addressed is too large."""
    cdef Py_ssize_t l
    cdef double tile = TILE_ROWS_AT_MOST + 16, margin = 3 * REGION_UNIT + <double>target.guard, numbers
    numbers = 4 * tile * (sizes[0] + margin)
    for l in range(n_layers):  # once for a and slope, and at most once more for each of the four that rows share
        numbers += (6 * tile + <double>sizes[l]) * (sizes[l + 1] + margin)
        numbers += (<double>sizes[l + 1] + 1) * (sizes[l] + margin)
    return numbers * target.itemsize <= PY_SSIZE_T_MAX // 2


cdef bint plan_init(plan_t *plan, layer_t *layers, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                    int loss, const target_t *target) noexcept nogil:
    """Fill a plan for sizes that fit in memory: choose the rows of a tile, and give everything its place.

    Returns whether the layout holds what its users write, which it always does; without that no plan is used.
    """
    cdef Py_ssize_t l, end = 0, offset = 0, units = 0, rows, row, packed
    cdef layer_t *layer
    plan.layers = layers
    for l in range(n_layers):
        layer = &layers[l]
        layer.n_in, layer.n_out = sizes[l], sizes[l + 1]
        layer.activation = <Activation>activations[l]
        layer.keeps_slope = (layer.activation == SIGMOID or layer.activation == TANH or layer.activation == ELU
                             or layer.activation == SILU or layer.activation == GELU)
        layer.dots = layer.n_out % target.lanes
        if layer.dots > MOST_DOTS or layer.n_in < 2 * target.lanes:
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
    rows = TILE_BYTES // ((units + plan.n_inputs) * target.itemsize)
    rows = min(max(rows, <Py_ssize_t>TILE_ROWS_AT_LEAST), <Py_ssize_t>TILE_ROWS_AT_MOST)
    if plan.slot <= ONE_TILE:
        rows = plan.slot
    plan.tile = round_up(rows, target.mr)
    plan.aliases = plan.n_inputs * target.itemsize % ALIAS_STRIDE == 0
    plan.input_step = row = padded_stride(plan.n_inputs, target)
    packed = round_up(plan.n_inputs, target.lanes)
    for l in range(n_layers):
        layer = &layers[l]
        layer.step = padded_stride(layer.n_out, target)
        reserve(&layer.a, plan.tile * layer.step, &end, target)
        reserve(&layer.slope, plan.tile * layer.step if layer.keeps_slope else 0, &end, target)
        reserve(&layer.forward, (1 + layer.n_in) * round_up(layer.n_out, target.lanes), &end, target)
        reserve(&layer.backward, (1 + layer.n_out) * round_up(layer.n_in, target.lanes), &end, target)
        row = max(row, layer.step)
        packed = max(packed, round_up(layer.n_in, target.lanes))
    reserve(&plan.delta, plan.tile * row, &end, target)
    reserve(&plan.scratch, plan.tile * row, &end, target)
    reserve(&plan.panels, (1 + plan.tile) * packed, &end, target)
    reserve(&plan.inputs, plan.tile * plan.input_step, &end, target)
    reserve(&plan.targets, plan.tile * plan.n_outputs, &end, target)
    reserve(&plan.labels, plan.tile * (8 // target.itemsize), &end, target)
    reserve(&plan.sample_weights, plan.tile, &end, target)
    plan.workspace = end
    return layout_holds(plan, target)


cdef inline bint follows(const region_t *region, Py_ssize_t *end, const target_t *target) noexcept nogil:
    """Whether a region begins where the last one and its guard are over, on a cache line; ``end`` moves on."""
    cdef bint right = region.start >= end[0] and region.start * target.itemsize % 64 == 0 and region.size >= 0
    end[0] = region.start + region.size + target.guard
    return right


cdef bint layout_holds(const plan_t *plan, const target_t *target) noexcept nogil:
    """Whether every region has room for a full tile of what each of its users writes, and reads, in it.

    Strides and sizes are compared with the loops, not with `plan_init`: rows go on to whole vectors, panels have one
    row ahead of theirs, and delta and scratch take the rows of every layer at that layer's own stride.
    """
    cdef Py_ssize_t l, end = 0, tile = plan.tile, vectors, inputs
    cdef const layer_t *layer
    cdef bint right = plan.tile >= 1 and plan.tile % target.mr == 0
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        vectors = (layer.n_out + target.lanes - 1) // target.lanes * target.lanes
        inputs = (layer.n_in + target.lanes - 1) // target.lanes * target.lanes
        right &= layer.step >= vectors and layer.step % target.lanes == 0
        right &= layer.a.size >= tile * layer.step
        right &= not layer.keeps_slope or layer.slope.size >= tile * layer.step
        right &= layer.forward.size >= vectors + layer.n_in * vectors
        right &= layer.backward.size >= inputs + layer.n_out * inputs
        right &= plan.delta.size >= tile * layer.step and plan.scratch.size >= tile * layer.step
        right &= plan.panels.size >= inputs + tile * inputs
        right &= follows(&layer.a, &end, target) and follows(&layer.slope, &end, target)
        right &= follows(&layer.forward, &end, target) and follows(&layer.backward, &end, target)
    inputs = (plan.n_inputs + target.lanes - 1) // target.lanes * target.lanes
    right &= plan.input_step >= inputs and plan.input_step % target.lanes == 0
    right &= plan.delta.size >= tile * plan.input_step and plan.scratch.size >= tile * plan.input_step
    right &= plan.inputs.size >= tile * plan.input_step
    right &= plan.targets.size >= tile * plan.n_outputs
    right &= plan.labels.size * target.itemsize >= tile * 8
    right &= plan.sample_weights.size >= tile
    right &= follows(&plan.delta, &end, target) and follows(&plan.scratch, &end, target)
    right &= follows(&plan.panels, &end, target) and follows(&plan.inputs, &end, target)
    right &= follows(&plan.targets, &end, target) and follows(&plan.labels, &end, target)
    right &= follows(&plan.sample_weights, &end, target)
    return right and plan.workspace >= end


# ------------------------------------------------------------------------------------ the layout, without computing


cdef target_t target_of(str instruction_set, dtype, Py_ssize_t guard):
    """The numbers that a layout depends on, of any instruction set."""
    cdef target_t target
    width, target.mr = INSTRUCTION_SETS[instruction_set]
    target.itemsize, target.guard = dtype.itemsize, guard
    target.lanes = max(<Py_ssize_t>width // target.itemsize, <Py_ssize_t>1)
    return target


def workspace_layout(tuple sizes, tuple activations, str loss, dtype, str instruction_set, Py_ssize_t guard=0):
    """The layout of a workspace, computed for any instruction set; nothing is allocated.

    Parameters
    ----------
    sizes, activations, loss, dtype
        As for :class:`Plan`.
    instruction_set : str
        A key of ``INSTRUCTION_SETS``.
    guard : int, default 0
        Numbers between two regions, at least.

    Returns
    -------
    layout : dict
        ``tile``, ``input_step``, ``workspace`` and ``steps`` (of each layer), in numbers; ``holds``, whether the layout
        passes the check that every plan must pass; ``regions``, a list of ``(name, layer, start, size)``, of which
        ``layer`` is -1 for those that all layers share.
    """
    cdef Py_ssize_t n_layers = len(activations), l
    cdef plan_t plan
    cdef target_t target = target_of(instruction_set, dtype, guard)
    cdef layer_t *layers = <layer_t *>malloc(n_layers * sizeof(layer_t))
    cdef Py_ssize_t *units = <Py_ssize_t *>malloc((n_layers + 1) * sizeof(Py_ssize_t))
    cdef int *kinds = <int *>malloc(n_layers * sizeof(int))
    cdef bint holds
    try:
        if layers == NULL or units == NULL or kinds == NULL:
            raise MemoryError()
        for l in range(n_layers):
            units[l], kinds[l] = sizes[l], ACTIVATIONS[activations[l]]
        units[n_layers] = sizes[n_layers]
        holds = plan_init(&plan, layers, n_layers, units, kinds, LOSSES[loss], &target)
        regions = []
        for l in range(n_layers):
            regions += [("a", l, layers[l].a.start, layers[l].a.size),
                        ("slope", l, layers[l].slope.start, layers[l].slope.size),
                        ("forward", l, layers[l].forward.start, layers[l].forward.size),
                        ("backward", l, layers[l].backward.start, layers[l].backward.size)]
        regions += [("delta", -1, plan.delta.start, plan.delta.size),
                    ("scratch", -1, plan.scratch.start, plan.scratch.size),
                    ("panels", -1, plan.panels.start, plan.panels.size),
                    ("inputs", -1, plan.inputs.start, plan.inputs.size),
                    ("targets", -1, plan.targets.start, plan.targets.size),
                    ("labels", -1, plan.labels.start, plan.labels.size),
                    ("sample_weights", -1, plan.sample_weights.start, plan.sample_weights.size)]
        return {"tile": plan.tile, "input_step": plan.input_step, "workspace": plan.workspace, "holds": holds,
                "steps": [layers[l].step for l in range(n_layers)], "regions": regions}
    finally:
        free(layers)
        free(units)
        free(kinds)


def check_layouts(const int64_t[::1] first, const int64_t[::1] second, const int64_t[::1] third, dtype,
                  str instruction_set, Py_ssize_t guard=0):
    """Lay out the networks ``[i, j, k]`` of all widths i, j and k given (``[i, j]`` if ``third`` is empty).

    Returns
    -------
    count : int
        How many were laid out, all of them rightly.

    Raises
    ------
    AssertionError
        Naming the first network whose layout does not hold.
    """
    cdef target_t target = target_of(instruction_set, dtype, guard)
    cdef plan_t plan
    cdef layer_t layers[2]
    cdef Py_ssize_t sizes[3]
    cdef int kinds[2]
    cdef Py_ssize_t i, j, k, n_layers = 2 if third.shape[0] else 1, count = 0
    cdef bint holds = True
    kinds[0] = kinds[1] = TANH
    sizes[0] = sizes[1] = sizes[2] = 0
    with nogil:
        for i in range(first.shape[0]):
            for j in range(second.shape[0]):
                for k in range(max(third.shape[0], <Py_ssize_t>1)):
                    sizes[0], sizes[1] = <Py_ssize_t>first[i], <Py_ssize_t>second[j]
                    if n_layers == 2:
                        sizes[2] = <Py_ssize_t>third[k]
                    holds = plan_init(&plan, layers, n_layers, sizes, kinds, SQUARED_ERROR, &target)
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


# ------------------------------------------------------------------------------------------------------------ guards


cdef void visit_guards(const plan_t *plan, char *work, Py_ssize_t itemsize, int action) noexcept nogil:
    """Close (0), check (1) or open (2) the guards behind all regions; only in debug builds are there any."""
    cdef Py_ssize_t l, i = 0
    cdef const layer_t *layer
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        visit_guard(work, &layer.a, layer.slope.start, itemsize, action, "a", l)
        visit_guard(work, &layer.slope, layer.forward.start, itemsize, action, "slope", l)
        visit_guard(work, &layer.forward, layer.backward.start, itemsize, action, "forward", l)
        i = plan.layers[l + 1].a.start if l + 1 < plan.n_layers else plan.delta.start
        visit_guard(work, &layer.backward, i, itemsize, action, "backward", l)
    visit_guard(work, &plan.delta, plan.scratch.start, itemsize, action, "delta", -1)
    visit_guard(work, &plan.scratch, plan.panels.start, itemsize, action, "scratch", -1)
    visit_guard(work, &plan.panels, plan.inputs.start, itemsize, action, "panels", -1)
    visit_guard(work, &plan.inputs, plan.targets.start, itemsize, action, "inputs", -1)
    visit_guard(work, &plan.targets, plan.labels.start, itemsize, action, "targets", -1)
    visit_guard(work, &plan.labels, plan.sample_weights.start, itemsize, action, "labels", -1)
    visit_guard(work, &plan.sample_weights, plan.workspace, itemsize, action, "sample_weights", -1)


cdef inline void visit_guard(char *work, const region_t *region, Py_ssize_t next_start, Py_ssize_t itemsize, int action,
                             const char *name, Py_ssize_t layer) noexcept nogil:
    cdef char *guard = work + (region.start + region.size) * itemsize
    cdef size_t size = <size_t>(next_start - region.start - region.size) * <size_t>itemsize
    if action == 0:
        close_guard(guard, size)
    elif action == 2:
        open_guard(guard, size)
    elif not guard_is_intact(guard, size):
        guard_failed(name, layer)


cdef inline void close_guards(const plan_t *plan, floating *work) noexcept nogil:
    """Before a workspace is used for the first time."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 0)


cdef inline void check_guards(const plan_t *plan, floating *work) noexcept nogil:
    """After every tile: abort where a loop has written behind its region."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 1)


cdef inline void open_guards(const plan_t *plan, floating *work) noexcept nogil:
    """Before a workspace is given back to whoever owns its memory."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 2)
