# The architecture as the loops need it, and the layout of a workspace: pure arithmetic, for any instruction set.
#
# Every region of the workspace is made by `reserve` from the largest number that one of its users needs, and
# `layout_holds` states those needs a second time, from the users' side. A stride is computed here and nowhere else.

cdef struct isa_t:
    # What a layout depends on besides the network: an instruction set, a dtype and a cache.
    Py_ssize_t itemsize
    Py_ssize_t lanes                # numbers of a vector
    Py_ssize_t mr                   # rows of a block of the micro-kernel
    Py_ssize_t l2_bytes             # the second-level cache
    Py_ssize_t guard                # minimum of numbers between two regions

cdef struct region_t:
    # A part of the workspace, in numbers.
    Py_ssize_t start
    Py_ssize_t size

cdef struct layer_t:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Activation activation
    bint keeps_derivative           # g'(z) cannot be computed exactly from g(z), and is kept from the forward pass
    Py_ssize_t dot_outputs          # the last outputs, if so few that dot products are faster than a vector of them
    Py_ssize_t weights              # offset in the flat vector: (n_out, n_in), row by row
    Py_ssize_t bias
    Py_ssize_t stride               # row stride of a tile's activations, derivatives and deltas: n_out, padded
    region_t a                      # the tile's activations: (tile, stride)
    region_t derivative             # what is kept for g'(z): (tile, stride)
    bint pack_whole                 # its W is small enough to be kept packed; else it is packed panel by panel
    region_t forward                # the panels of W^T, if that is so
    region_t backward               # the panels of W

cdef struct head_t:
    # A block of outputs with an activation and a loss of its own; or all of them.
    layer_t layer                   # as the loops over activations see it: activation, n_out and stride
    Py_ssize_t first                # its first output
    Py_ssize_t first_target
    Py_ssize_t n_targets            # of a row: one for each output, but for gaussian_nll, whose outputs are in pairs
    Loss loss
    double parameter                # what there is of quantile, delta, power, gamma or label_smoothing
    double weight                   # of its loss in that of the network
    Activation canonical            # the output activation for which the loss gives dLoss/dz; dLoss/da for any other

cdef enum:
    # The activation of an output layer that has several heads, and their loss.
    HEADS = 1000

cdef struct plan_t:
    Py_ssize_t n_layers             # layers with weights
    Py_ssize_t n_parameters
    Py_ssize_t n_inputs
    Py_ssize_t n_outputs
    Py_ssize_t n_targets            # of a row
    Loss loss
    head_t head                     # all outputs, with that loss, unless there are several
    Py_ssize_t n_heads              # then; else 0
    head_t *heads
    bint from_logits                # the losses take z(L), not a(L)
    Py_ssize_t chunk_rows           # maximum rows of a chunk
    Py_ssize_t group_size           # chunks whose sums are added up in the network's dtype
    Py_ssize_t tile                 # maximum rows of a tile
    bint aliases                    # rows of X evict each other from the first-level cache: the tile is copied
    Py_ssize_t input_stride         # row stride of copied inputs, and of their gradient: n_inputs, padded
    region_t delta                  # two buffers for deltas, each used by one layer after the other
    region_t scratch
    region_t panels                 # the panels of a tile's activations
    region_t columns                # columns of delta, packed, ``mc`` at a time
    Py_ssize_t mc
    region_t inputs                 # copied rows of X: (tile, input_stride)
    region_t targets                # and of their targets: (tile, n_outputs), labels (int64) and sample weights
    region_t output_weight          # and of weights of single outputs: (tile, n_outputs)
    region_t labels
    region_t sample_weight
    region_t norms                  # of the gradient of each row, squared (double)
    region_t heads_block            # of one head and LOSS_ROWS rows: see `head_block`
    Py_ssize_t workspace            # numbers of the workspace
    layer_t *layers

# Rows are cut into chunks, and chunks into tiles, by a rule that depends on the shapes alone.
#
# A chunk is what a thread takes at a time: about a millisecond of work, but not so few rows that reading the weights
# and adding up the sums would show. Where the parameters are many, a chunk is one tile: its sums are added to those of
# the chunk before it while they are in registers, for a *group* of chunks; the groups are added in float64. The same
# rule is in fallback.py.
#
# Other tiles have as many rows as keep their activations in half of a second-level cache of 512 KB; but a tile's sums
# are read and written once per tile, which takes some rows to pay. And not more than pay: what narrow layers keep for
# so few rows is in the first-level cache, or nearly so.
cdef enum:
    CHUNK_WORK = 8000000            # multiplications of a forward pass
    MIN_CHUNK_ROWS = 128
    MIN_CHUNK_ROWS_WIDE = 512
    MANY_PARAMETERS = 2000000
    MAX_ONE_TILE_CHUNK = 256
    MAX_CHUNK_ROWS = 2048
    GROUP_SIZE = 8
    TILE_BYTES = 262144
    MIN_TILE_ROWS = 84
    MAX_TILE_ROWS = 126
    MAX_DOT_OUTPUTS = 2
    # Weights of so many bytes, or as many as a larger second-level cache holds, are packed once for all tiles of a
    # call; wider ones panel by panel, just before their use, which costs a few percent of a tile's products, but no way
    # to a far cache and back.
    PACK_WHOLE_BYTES = 2097152
    MAX_LAYERS = 1000000
    # Row strides of X that are multiples of this alias in the first-level cache; copying the tile to a padded stride is
    # cheaper.
    ALIAS_STRIDE = 4096
    # Regions begin at whole cache lines of float, which are two of double.
    REGION_UNIT = 16

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX


cdef inline Py_ssize_t padded_stride(Py_ssize_t columns, const isa_t *isa) noexcept nogil:
    """From one row of a tile to the next: whole vectors, and a cache line more for multiples of 512 bytes.

    Delta += delta^T A walks down the columns of delta. At a distance of a power of two all of a column would fall into
    the same few sets of the first-level cache. It is not monotone: a wider layer may have the narrower stride.
    """
    cdef Py_ssize_t stride = round_up(columns, isa.lanes), line = 64 // isa.itemsize
    return stride + line if stride % (8 * line) == 0 else stride


cdef inline void reserve(region_t *region, Py_ssize_t size, Py_ssize_t *end, const isa_t *isa) noexcept nogil:
    """Give a region its place behind the others, and room for a guard behind it."""
    region.start, region.size = end[0], size
    end[0] += round_up(size + isa.guard, REGION_UNIT)


cdef bint fits_in_memory(Py_ssize_t n_layers, const Py_ssize_t *sizes, const isa_t *isa) noexcept nogil:
    """Whether no offset in bytes overflows: more than half of what can be addressed is too large."""
    cdef Py_ssize_t l
    cdef double tile = MIN_CHUNK_ROWS_WIDE + 16, margin = 3 * REGION_UNIT + <double>isa.guard, numbers
    numbers = 4 * tile * (sizes[0] + margin) + <double>HEAD_BLOCKS * LOSS_ROWS * (sizes[n_layers] + margin)
    for l in range(n_layers):  # once for a and derivative, and at most once more for each of the four that rows share
        numbers += (6 * tile + <double>sizes[l]) * (sizes[l + 1] + margin)
        numbers += (<double>sizes[l + 1] + 1) * (sizes[l] + margin)
    return numbers * isa.itemsize <= <double>(PY_SSIZE_T_MAX // 2)


cdef void finish_head(head_t *head, const isa_t *isa) noexcept nogil:
    """What follows from a head's outputs, activation and loss."""
    head.layer.stride = padded_stride(head.layer.n_out, isa)
    head.layer.keeps_derivative = keeps_derivative(head.layer.activation)
    head.canonical = canonical_output(head.loss)
    head.n_targets = head.layer.n_out // 2 if head.loss == GAUSSIAN_NLL else head.layer.n_out


cdef inline bint set_head(head_t *head, int loss, int activation, Py_ssize_t n_outputs, double parameter,
                          double weight) noexcept nogil:
    """What is given of a head. Returns whether it can be one; loss and activation are known."""
    head.loss, head.layer.activation = <Loss>loss, <Activation>activation
    head.layer.n_in, head.layer.n_out = 0, n_outputs
    head.parameter, head.weight = parameter, weight
    if n_outputs < 1 or (loss == GAUSSIAN_NLL and n_outputs % 2 != 0) or not 0 < weight < INFINITY:
        return False
    return takes_output(loss, activation) and parameter_valid(head.loss, parameter)


cdef void plan_heads(plan_t *plan, const isa_t *isa) noexcept nogil:
    """Several heads, whose outputs, activation, loss, parameter and weight are given: the rest of them."""
    cdef layer_t *last = &plan.layers[plan.n_layers - 1]
    cdef head_t *head
    cdef Py_ssize_t h, first = 0
    plan.n_targets, plan.from_logits = 0, True  # each head activates its outputs by itself
    last.keeps_derivative = False
    for h in range(plan.n_heads):
        head = &plan.heads[h]
        finish_head(head, isa)
        head.first, head.first_target = first, plan.n_targets
        first += head.layer.n_out
        plan.n_targets += head.n_targets
        last.keeps_derivative |= head.layer.keeps_derivative


cdef bint plan_init(plan_t *plan, layer_t *layers, Py_ssize_t n_layers, const Py_ssize_t *sizes, const int *activations,
                    int loss, const isa_t *isa) noexcept nogil:
    """Fill a plan for sizes that fit in memory: choose the rows of a tile, and give everything its place.

    If ``loss`` is HEADS, ``plan.heads`` are given, as far as `plan_heads` needs them, and have all outputs.
    Returns whether the layout holds what its users write. It always does; a plan for which it did not is not used.
    """
    cdef Py_ssize_t l, offset = 0
    cdef layer_t *layer
    plan.layers, plan.n_layers = layers, n_layers
    for l in range(n_layers):
        layer = &layers[l]
        layer.n_in, layer.n_out = sizes[l], sizes[l + 1]
        layer.activation = <Activation>activations[l]
        layer.keeps_derivative = keeps_derivative(layer.activation)
        layer.dot_outputs = layer.n_out % isa.lanes
        if layer.dot_outputs > MAX_DOT_OUTPUTS or layer.n_in < 2 * isa.lanes:
            layer.dot_outputs = 0
        layer.stride = padded_stride(layer.n_out, isa)
        layer.weights = offset
        layer.bias = offset + layer.n_out * layer.n_in
        offset = layer.bias + layer.n_out
    plan.n_parameters = offset
    plan.n_inputs, plan.n_outputs = sizes[0], sizes[n_layers]
    plan.loss = <Loss>loss
    if loss == HEADS:
        plan_heads(plan, isa)
    else:
        plan.n_heads, plan.head.layer = 0, layers[n_layers - 1]
        plan.head.first = plan.head.first_target = 0
        plan.head.loss, plan.head.parameter, plan.head.weight = plan.loss, default_parameter(plan.loss), 1
        finish_head(&plan.head, isa)
        plan.n_targets, plan.from_logits = plan.head.n_targets, plan.head.canonical != IDENTITY
    plan_rows(plan, isa)
    plan_layout(plan, isa)
    return layout_holds(plan, isa)


cdef inline bint keeps_derivative(Activation activation) noexcept nogil:
    """Whether g'(z) cannot be computed from g(z), or only by a difference that cancels; see `activation_backward`."""
    return not (activation == IDENTITY or activation == RELU or activation == LEAKY_RELU or activation == SOFTPLUS
                or activation == SOFTMAX or activation == EXP or <int>activation == HEADS)


cdef inline Activation canonical_output(Loss loss) noexcept nogil:
    """The output activation for which dLoss/dz is as simple as ``a - y``; as in generalised linear models."""
    if loss == BINARY_CROSS_ENTROPY or loss == FOCAL:
        return SIGMOID
    if loss == CROSS_ENTROPY:
        return SOFTMAX
    if loss == POISSON or loss == GAMMA or loss == TWEEDIE:
        return EXP
    return IDENTITY


cdef inline bint takes_output(int loss, int activation) noexcept nogil:
    """Whether outputs may have this activation: a loss that is computed from logits takes its canonical one alone."""
    cdef Activation canonical = canonical_output(<Loss>loss)
    return canonical == IDENTITY or <int>canonical == activation


cdef inline double default_parameter(Loss loss) noexcept nogil:
    if loss == HUBER:
        return 1
    if loss == QUANTILE:
        return 0.5
    if loss == TWEEDIE:
        return 1.5
    if loss == FOCAL:
        return 2
    return 0


cdef inline bint parameter_valid(Loss loss, double parameter) noexcept nogil:
    """Whether a loss takes this parameter; 0 for those that have none."""
    if loss == HUBER:
        return 0 < parameter < INFINITY
    if loss == QUANTILE:
        return 0 < parameter < 1
    if loss == TWEEDIE:
        return 1 < parameter < 2
    if loss == FOCAL:
        return 0 <= parameter < INFINITY
    if loss == CROSS_ENTROPY:
        return 0 <= parameter < 1
    return parameter == 0


cdef void plan_rows(plan_t *plan, const isa_t *isa) noexcept nogil:
    """Choose the rows of a chunk and of a tile."""
    cdef Py_ssize_t l, units = plan.n_inputs, rows
    cdef bint one_tile
    for l in range(plan.n_layers):
        units += plan.layers[l].n_out
    rows = MIN_CHUNK_ROWS if plan.n_parameters < MANY_PARAMETERS else MIN_CHUNK_ROWS_WIDE
    plan.chunk_rows = min(max(rows, CHUNK_WORK // plan.n_parameters), <Py_ssize_t>MAX_CHUNK_ROWS)
    one_tile = plan.chunk_rows <= MAX_ONE_TILE_CHUNK or plan.n_parameters >= MANY_PARAMETERS
    plan.group_size = GROUP_SIZE if one_tile else 1
    rows = TILE_BYTES // (units * isa.itemsize)
    rows = min(max(rows, <Py_ssize_t>MIN_TILE_ROWS), <Py_ssize_t>MAX_TILE_ROWS)
    if one_tile:
        rows = plan.chunk_rows
    plan.tile = round_up(rows, isa.mr)


cdef void plan_layout(plan_t *plan, const isa_t *isa) noexcept nogil:
    """Give every region of the workspace its place.

    The columns of delta that are packed at a time take half of the second-level cache.
    """
    cdef Py_ssize_t l, end = 0, stride, packed, size
    cdef layer_t *layer
    plan.aliases = plan.n_inputs * isa.itemsize % ALIAS_STRIDE == 0
    plan.input_stride = stride = padded_stride(plan.n_inputs, isa)
    packed = round_up(plan.n_inputs, isa.lanes)
    plan.mc = isa.l2_bytes // 2 // (plan.tile * isa.itemsize)
    plan.mc = min(max(plan.mc, <Py_ssize_t>MIN_MC), <Py_ssize_t>MAX_MC) // isa.mr * isa.mr
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        reserve(&layer.a, plan.tile * layer.stride, &end, isa)
        reserve(&layer.derivative, plan.tile * layer.stride if layer.keeps_derivative else 0, &end, isa)
        layer.pack_whole = layer.n_in * layer.n_out * isa.itemsize <= max(isa.l2_bytes, <Py_ssize_t>PACK_WHOLE_BYTES)
        size = (1 + layer.n_in) * round_up(layer.n_out, isa.lanes)
        reserve(&layer.forward, size if layer.pack_whole else 0, &end, isa)
        size = (1 + layer.n_out) * round_up(layer.n_in, isa.lanes)
        reserve(&layer.backward, size if layer.pack_whole else 0, &end, isa)
        stride = max(stride, layer.stride)
        packed = max(packed, round_up(layer.n_in, isa.lanes))
    reserve(&plan.delta, plan.tile * stride, &end, isa)
    reserve(&plan.scratch, plan.tile * stride, &end, isa)
    size = (1 + KC) * NR_VECTORS * isa.lanes
    reserve(&plan.panels, max(size, (1 + plan.tile) * packed), &end, isa)
    reserve(&plan.columns, plan.tile * plan.mc, &end, isa)
    reserve(&plan.inputs, plan.tile * plan.input_stride, &end, isa)
    reserve(&plan.targets, plan.tile * plan.n_outputs, &end, isa)
    reserve(&plan.output_weight, plan.tile * plan.n_outputs, &end, isa)
    reserve(&plan.labels, plan.tile * (8 // isa.itemsize), &end, isa)
    reserve(&plan.sample_weight, plan.tile, &end, isa)
    reserve(&plan.norms, plan.tile * (8 // isa.itemsize), &end, isa)
    stride = 0
    for l in range(plan.n_heads):
        stride = max(stride, plan.heads[l].layer.stride)
    size = HEAD_BLOCKS * (LOSS_ROWS * stride + 5 * REGION_UNIT)
    reserve(&plan.heads_block, size if plan.n_heads > 0 else 0, &end, isa)
    plan.workspace = end


cdef inline bint follows(const region_t *region, Py_ssize_t *end, const isa_t *isa) noexcept nogil:
    """Whether a region begins where the last one and its guard are over, on a cache line; ``end`` moves on."""
    cdef bint right = region.start >= end[0] and region.start * isa.itemsize % 64 == 0 and region.size >= 0
    end[0] = region.start + region.size + isa.guard
    return right


cdef bint layout_holds(const plan_t *plan, const isa_t *isa) noexcept nogil:
    """Whether every region has room for a full tile of what each of its users writes, and reads, in it.

    Strides and sizes are compared with the loops, not with `plan_init`: rows go on to whole vectors, panels have one
    row ahead of theirs, and delta and scratch take the rows of every layer at that layer's own stride.
    """
    cdef Py_ssize_t l, end = 0, tile = plan.tile, vectors, inputs
    cdef const layer_t *layer
    cdef bint right = plan.tile >= 1 and plan.tile % isa.mr == 0
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        vectors = (layer.n_out + isa.lanes - 1) // isa.lanes * isa.lanes
        inputs = (layer.n_in + isa.lanes - 1) // isa.lanes * isa.lanes
        right &= layer.stride >= vectors and layer.stride % isa.lanes == 0
        right &= layer.a.size >= tile * layer.stride
        right &= not layer.keeps_derivative or layer.derivative.size >= tile * layer.stride
        right &= not layer.pack_whole or layer.forward.size >= vectors + layer.n_in * vectors
        right &= not layer.pack_whole or layer.backward.size >= inputs + layer.n_out * inputs
        right &= plan.delta.size >= tile * layer.stride and plan.scratch.size >= tile * layer.stride
        right &= plan.panels.size >= inputs + tile * inputs
        right &= plan.panels.size >= (1 + min(layer.n_in, KC)) * min(vectors, NR_VECTORS * isa.lanes)
        right &= plan.panels.size >= (1 + min(layer.n_out, KC)) * min(inputs, NR_VECTORS * isa.lanes)
        right &= plan.columns.size >= tile * min(layer.n_out, plan.mc)
        right &= follows(&layer.a, &end, isa) and follows(&layer.derivative, &end, isa)
        right &= follows(&layer.forward, &end, isa) and follows(&layer.backward, &end, isa)
    inputs = (plan.n_inputs + isa.lanes - 1) // isa.lanes * isa.lanes
    right &= plan.input_stride >= inputs and plan.input_stride % isa.lanes == 0
    right &= plan.delta.size >= tile * plan.input_stride and plan.scratch.size >= tile * plan.input_stride
    right &= plan.inputs.size >= tile * plan.input_stride
    right &= plan.targets.size >= tile * plan.n_outputs and plan.output_weight.size >= tile * plan.n_outputs
    right &= plan.labels.size * isa.itemsize >= tile * 8
    right &= plan.sample_weight.size >= tile
    right &= plan.norms.size * isa.itemsize >= tile * 8
    right &= follows(&plan.delta, &end, isa) and follows(&plan.scratch, &end, isa)
    right &= follows(&plan.panels, &end, isa) and follows(&plan.columns, &end, isa)
    right &= follows(&plan.inputs, &end, isa) and follows(&plan.targets, &end, isa)
    right &= follows(&plan.output_weight, &end, isa) and follows(&plan.labels, &end, isa)
    for l in range(plan.n_heads):
        right &= plan.heads[l].layer.stride >= plan.heads[l].layer.n_out and plan.heads[l].layer.stride % isa.lanes == 0
        right &= plan.heads_block.size // 5 >= LOSS_ROWS * plan.heads[l].layer.stride
        right &= plan.heads_block.size // 5 * isa.itemsize % 64 == 0
    right &= follows(&plan.sample_weight, &end, isa) and follows(&plan.norms, &end, isa)
    right &= follows(&plan.heads_block, &end, isa)
    return right and plan.workspace >= end
