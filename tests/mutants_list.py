"""The faults that mutants.py plants: a file, the test files to try first, and entries of a name, edits and a reason.

Edits are an old text and a new one, or several such pairs. A third part of an entry says why no test can find it.
"""

from __future__ import annotations

LAYOUT = [
    ("columns of delta that no cache bounds", ("plan.mc = min(max(plan.mc,", "plan.mc = max(max(plan.mc,")),
    ("columns of delta for all of the cache", ("plan.mc = isa.l2_bytes // 2 //", "plan.mc = isa.l2_bytes //")),
    ("rows of a tile that follow the cache", ("rows = TILE_BYTES // (units", "rows = isa.l2_bytes // 4 // (units")),
    (
        "large weights are packed as a whole, and the check with it",
        (
            ("layer.pack_whole = layer.n_in", "layer.pack_whole = 0 * layer.n_in"),
            ("        size = (1 + layer.n_in) * round_up(layer.n_out, isa.lanes)", "        size = 0"),
            ("right &= not layer.pack_whole or layer.forward.size", "right &= True or layer.forward.size"),
        ),
    ),
    (
        "panels a row too short",
        ("max(size, (1 + plan.tile) * packed)", "max(size, plan.tile * packed)"),
    ),
    (
        "panels a row too short, and the check with it",
        (
            ("max(size, (1 + plan.tile) * packed)", "max(size, plan.tile * packed)"),
            ("plan.panels.size >= inputs + tile * inputs", "plan.panels.size >= tile * inputs"),
        ),
    ),
    (
        "packed W^T without its row of biases, and the check with it",
        (
            ("size = (1 + layer.n_in) * round_up", "size = layer.n_in * round_up"),
            ("layer.forward.size >= vectors + layer.n_in * vectors", "layer.forward.size >= layer.n_in * vectors"),
        ),
    ),
    (
        "delta and scratch of the last layer's stride, and the check with it",
        (
            ("stride = max(stride, layer.stride)", "stride = layer.stride"),
            ("right &= plan.delta.size >= tile * layer.stride and plan.scratch.size >= tile * layer.stride", "pass"),
            (
                "right &= plan.delta.size >= tile * plan.input_stride and plan.scratch.size >= tile * "
                "plan.input_stride",
                "pass",
            ),
        ),
    ),
    (
        "delta and scratch without room for the inputs' stride, and the check with it",
        (
            (
                "plan.input_stride = stride = padded_stride(plan.n_inputs, isa)",
                "stride = 0\n    plan.input_stride = padded_stride(plan.n_inputs, isa)",
            ),
            (
                "right &= plan.delta.size >= tile * plan.input_stride and plan.scratch.size >= tile * "
                "plan.input_stride",
                "pass",
            ),
        ),
    ),
    (
        "scratch a row too short, and the check with it",
        (
            ("reserve(&plan.scratch, plan.tile * stride,", "reserve(&plan.scratch, (plan.tile - 1) * stride,"),
            ("tile * layer.stride and plan.scratch.size >= tile * layer.stride", "tile * layer.stride"),
            ("tile * plan.input_stride and plan.scratch.size >= tile * plan.input_stride", "tile * plan.input_stride"),
        ),
    ),
    (
        "no room for labels of 8 bytes, and the check with it",
        (
            ("reserve(&plan.labels, plan.tile * (8 // isa.itemsize)", "reserve(&plan.labels, plan.tile"),
            ("plan.labels.size * isa.itemsize >= tile * 8", "plan.labels.size >= tile"),
        ),
    ),
    (
        "no room for norms of 8 bytes, and the check with it",
        (
            ("reserve(&plan.norms, plan.tile * (8 // isa.itemsize)", "reserve(&plan.norms, plan.tile"),
            ("plan.norms.size * isa.itemsize >= tile * 8", "plan.norms.size >= tile"),
        ),
    ),
    (
        "guards are not counted",
        ("end[0] += round_up(size + isa.guard, REGION_UNIT)", "end[0] += round_up(size, REGION_UNIT)"),
    ),
    (
        "rows of a tile are no whole blocks, and the check with it",
        (
            ("plan.tile = round_up(rows, isa.mr)", "plan.tile = rows"),
            ("plan.tile >= 1 and plan.tile % isa.mr == 0", "plan.tile >= 1"),
        ),
    ),
    (
        "strides of a multiple of 512 bytes stay",
        ("if stride % (8 * line) == 0 else stride", "if stride % (64 * line) == 0 else stride"),
    ),
    (
        "the check of a layout always says yes",
        ("return right and plan.workspace >= end", "return True"),
        "every layout that plan_init makes is right, so the check never says no; with both faults in place "
        "test_layout.py states the needs once more (the mutants above)",
    ),
    (
        "the derivative of tanh is not kept",
        ("not (activation == IDENTITY or", "not (activation == IDENTITY or activation == TANH or"),
    ),
    (
        "the biases begin a row of weights early",
        ("layer.bias = offset + layer.n_out * layer.n_in", "layer.bias = offset + layer.n_out * layer.n_in - 1"),
    ),
    ("every network fits in memory", ("return numbers * isa.itemsize <= <double>(PY_SSIZE_T_MAX // 2)", "return True")),
]

#: The threads of a team.
TEAM = [
    (
        "who meets does not wait",
        ("        bpcore_team_await(team, &team->meeting, next);\n", ""),
    ),
    ("those at the next meeting are not counted anew", ("        bpcore_set(&team->arrived, 0);\n", "")),
    (
        "who sleeps before a meeting is not woken",
        ("next);\n        bpcore_team_wake(team);\n", "next);\n"),
    ),
    ("who sleeps is not counted", ("    (void)bpcore_add(&team->sleeping, 1);\n", "")),
    (
        "a turn passed wakes nobody",
        ("(void)bpcore_add(&team->turn, 1);\n    bpcore_team_wake(team);\n", "(void)bpcore_add(&team->turn, 1);\n"),
    ),
    (
        "every piece is taken twice",
        ("return (int)bpcore_add(&team->next, 1) - 1;", "return (int)(bpcore_add(&team->next, 1) - 1) / 2;"),
    ),
    ("pieces begin where they ended", ("    bpcore_set(&team->next, 0);\n", "")),
    ("turns begin where they ended", ("    bpcore_set(&team->turn, 0);\n", "")),
    ("a team is not stopped", ("    bpcore_set(&team->stopped, 1);\n", "")),
    (
        "those who sleep do not see that the team is stopped",
        (
            "while (!bpcore_reached(bpcore_get(counter), value) && !bpcore_get(&team->stopped)) {",
            "while (!bpcore_reached(bpcore_get(counter), value)) {",
        ),
    ),
    (
        "who sleeps is not woken where the team is stopped",
        ("bpcore_set(&team->stopped, 1);\n    bpcore_team_wake(team);\n", "bpcore_set(&team->stopped, 1);\n"),
    ),
    (
        "threads stay on the processors where they are started",
        ("    if (team->places) sched_setaffinity(0, sizeof team->cpus, &team->cpus);", "    ;"),
    ),
    ("threads begin before the size of the team is known", ("    bpcore_team_await(team, &team->meeting, 1);\n", "")),
    ("the calling thread takes no signals afterwards", ("    pthread_sigmask(SIG_SETMASK, &before, NULL);\n", "")),
    ("the threads of a team take signals", ("    sigfillset(&all);\n", "    sigemptyset(&all);\n")),
    (
        "threads are not joined",
        ("    for (rank = 1; rank < team->size; rank++) bpcore_member_join(&members[rank]);\n", ""),
    ),
    (
        "the last thread is not joined",
        ("rank < team->size; rank++) bpcore_member_join", "rank < team->size - 1; rank++) bpcore_member_join"),
    ),
    (
        "threads that cannot be started count",
        ("team->size = bpcore_start_all(members, size);", "bpcore_start_all(members, size), team->size = size;"),
    ),
]

#: What a thread computes of a matrix.
SHARES = [
    (
        "what is left of a share's units is nobody's",
        (
            "return min((n + unit - 1) // unit * rank // size * unit, n)",
            "return min(n // unit * rank // size * unit, n)",
        ),
    ),
    (
        "the last share of rows ends early",
        (
            "share.rows = share_start(rows, unit, size, rank + 1) - share.row",
            "share.rows = share_start(rows - (size > 1), unit, size, rank + 1) - share.row",
        ),
    ),
    (
        "shares of rows overlap",
        (
            "share.rows = share_start(rows, unit, size, rank + 1) - share.row",
            "share.rows = min(share_start(rows, unit, size, rank + 1) + (unit if size > 1 else 0), rows) - share.row",
        ),
    ),
    (
        "shares of rows leave out a unit between them",
        (
            "share.row, share.column, share.columns = share_start(rows, unit, size, rank), 0, columns",
            "share.row, share.column, share.columns = min(share_start(rows, unit, size, rank) + (unit "
            "if rank > 0 else 0), share_start(rows, unit, size, rank + 1)), 0, columns",
        ),
    ),
    (
        "the last share of columns ends early",
        (
            "share.columns = share_start(columns, unit, size, rank + 1) - share.column",
            "share.columns = share_start(columns - (size > 1), unit, size, rank + 1) - share.column",
        ),
    ),
    (
        "shares of columns overlap",
        (
            "share.columns = share_start(columns, unit, size, rank + 1) - share.column",
            "share.columns = min(share_start(columns, unit, size, rank + 1) + (unit if size > 1 else "
            "0), columns) - share.column",
        ),
    ),
    (
        "every thread begins with the first column",
        (
            "share.column, share.row, share.rows = share_start(columns, unit, size, rank), 0, rows",
            "share.column, share.row, share.rows = 0, 0, rows",
        ),
    ),
]

#: How threads share a tile, and how rows are cut.
CONTEXT = [
    (
        "a block of rows too many in a tile",
        ("return (m + tiles * MR - 1) // (tiles * MR) * MR", "return m // (tiles * MR) * MR + MR"),
    ),
    ("chunks of equal rows, the rest forgotten", ("<int64_t>i * m // n_chunks)", "i * (m // n_chunks))")),
    (
        "inputs of a part of a batch are those of its first rows",
        ("<const floating *>batch.X + first * batch.x_stride", "batch.X"),
    ),
    (
        "targets of a part of a batch are those of its first rows",
        ("<const floating *>batch.targets + first * plan.n_targets", "batch.targets"),
    ),
    (
        "weights of outputs of a part of a batch are those of its first rows",
        ("<const floating *>batch.output_weight + first * plan.n_targets", "batch.output_weight"),
    ),
    ("labels of a part of a batch are those of its first rows", ("batch.labels + first", "batch.labels")),
    (
        "weights of a part of a batch are those of its first rows",
        ("<const floating *>batch.sample_weight + first", "batch.sample_weight"),
    ),
    (
        "tiles count from the first row of all chunks",
        (
            "tile.first = start + cursor.row - chunk_start(c.total_rows, c.n_chunks, c.begin)",
            "tile.first = start + cursor.row",
        ),
    ),
    (
        "every chunk begins a group",
        ("cursor.row == 0 and (i % plan.group_size == 0 or i == c.begin)", "cursor.row == 0"),
    ),
    ("every tile begins a group", ("tile.begins_group = cursor.row == 0 and", "tile.begins_group = True or")),
    ("every group is the first", ("tile.first_group = i < plan.group_size", "tile.first_group = True")),
    ("no group is the first", ("tile.first_group = i < plan.group_size", "tile.first_group = False")),
    (
        "the last chunks end no group",
        ("((i + 1) % plan.group_size == 0 or i + 1 == c.n_chunks)", "(i + 1) % plan.group_size == 0"),
    ),
    ("every tile ends a chunk", ("tile.ends_chunk = cursor.row == 0", "tile.ends_chunk = True")),
    (
        "a softmax is shared by columns",
        (
            "if whole_rows or vectors < MIN_COLUMN_VECTORS * context.size:",
            "if vectors < MIN_COLUMN_VECTORS * context.size:",
        ),
    ),
    (
        "a share of weights by columns covers too little",
        ("return column_share(n_out, n_in, lane,", "return column_share(n_out, n_in - 1, lane,"),
    ),
    (
        "a share of weights by rows covers too little",
        ("return row_share(n_out, n_in, lane,", "return row_share(n_out - 1, n_in, lane,"),
    ),
    (
        "every thread has the first share of the biases",
        (
            "column_share(1, layer.n_out, lanes(tag), context.size, context.rank)",
            "column_share(1, layer.n_out, lanes(tag), context.size, 0)",
        ),
    ),
    (
        "every thread has all biases",
        (
            "column_share(1, layer.n_out, lanes(tag), context.size, context.rank)",
            "column_share(1, layer.n_out, lanes(tag), 1, 0)",
        ),
    ),
    (
        "a thread goes on with the first row of its share alone",
        ("            segment.row += 1\n", "            segment.row = share.rows\n"),
    ),
    (
        "a thread goes on with the first rows, not its own",
        ("(share.row + segment.row) * layer.n_in + share.column", "segment.row * layer.n_in + share.column"),
    ),
    (
        "a thread goes on with the first columns, not its own",
        ("(share.row + segment.row) * layer.n_in + share.column", "(share.row + segment.row) * layer.n_in"),
    ),
    (
        "a thread goes on with whole rows",
        ("            if share.columns == layer.n_in:  #", "            if True:  #"),
    ),
    (
        "a thread goes on with the first biases, not its own",
        ("segment.begin = layer.bias + share.column", "segment.begin = layer.bias"),
    ),
    (
        "a thread goes on without the biases",
        ("        if share.columns > 0:\n            return True\n    return False", "    return False"),
    ),
    (
        "each thread computes a tile in a workspace of its own",
        ("        context.workspace = aligned(<char *>shared.workspaces[0])\n", ""),
    ),
    (
        "tiles apart are all in the first workspace",
        ("own.workspace, own.rank, own.size = own.own, 0, 1", "own.rank, own.size = 0, 1"),
    ),
    (
        "no thread waits for the others",
        (
            "    if team_wait(&context.shared.team):\n        return True\n",
            "    if not context.interrupt.stopped:\n        return True\n",
        ),
    ),
    (
        "after a signal the threads go on",
        ("    context.interrupt.stopped = True\n    return False", "    return False"),
        "the others hear of it at their next look at the team, a few milliseconds later, and none waits for another",
    ),
]

#: A call and the memory of its threads.
CALL = [
    (
        "the sums of threads overlap behind a workspace",
        ("aligned(<char *>call.shared.workspaces[i]) + plan", "aligned(<char *>call.shared.workspaces[0]) + plan"),
    ),
    (
        "the sums of threads lie in their workspaces",
        ("workspaces[i]) + plan.plan.workspace * itemsize", "workspaces[i])"),
    ),
    (
        "large sums of threads overlap",
        ("<char *>call.sums_memory + i * n * itemsize", "<char *>call.sums_memory + i * itemsize"),
    ),
    ("few rows are computed by a team", ("call.batch.rows < PACK_MIN_ROWS:", "False:")),
    ("more threads than a team has", ("max(1, min(threads, <int>MAX_TEAM))", "max(1, threads)")),
    (
        "the first thread does not look for signals",
        ("interrupt = &call.interrupt if rank == 0 else &others", "interrupt = &others"),
    ),
    (
        "the losses are those of the last thread",
        (
            "        if rank == 0:\n            call.losses",
            "        if rank == call.shared.team.size - 1:\n            call.losses",
        ),
        "every thread has the losses of all, to know whether it goes on",
    ),
    (
        "the cost is the sum of losses",
        ("if call.task == COST_AND_GRADIENT:", "if False:"),
    ),
]

#: Of the workspaces.
PLACE_OF_SUMS = [
    (
        "no place for sums behind a workspace",
        ("self.dtype.itemsize + own_sums_bytes(self) + 64", "self.dtype.itemsize + 64"),
    ),
]


POOL = [
    (
        "a workspace is taken and not removed",
        ("workspace = <char *>exchange(&self.pool[i], NULL)", "workspace = <char *>self.pool[i]"),
    ),
]

FORWARD = [
    (
        "the stride of copied inputs is that of X",
        ("tile.X, tile.x_stride = inputs, plan.input_stride", "tile.X, tile.x_stride = inputs, plan.n_inputs"),
    ),
    (
        "the stride of the first layer for all",
        (
            "inputs, stride = work + layer.a.start, layer.stride",
            "inputs, stride = work + layer.a.start, context.plan.layers[0].stride",
        ),
    ),
    ("the bias is not packed", ("b.init, b.packed = params + layer.bias + share.column,", "b.init, b.packed = NULL,")),
    (
        "X is not advanced from tile to tile",
        (
            "tile_of(context, batch, where.first, where.rows, params)\n",
            "tile_of(context, batch, 0, where.rows, params)\n",
        ),
    ),
    (
        "no meeting after a layer",
        (
            "        if not meet(context):\n            return\n        inputs, stride = work",
            "        inputs, stride = work",
        ),
    ),
    (
        "no meeting after X is copied",
        (
            "tile.X, tile.x_stride = inputs, plan.input_stride\n        meet(context)\n",
            "tile.X, tile.x_stride = inputs, plan.input_stride\n",
        ),
    ),
    (
        "the first rows of X are copied by all",
        ("inputs + share.row * plan.input_stride, plan.input_stride,", "inputs, plan.input_stride,"),
    ),
    (
        "no meeting after a tile's outputs",
        (
            "    if meet(context) and context.rank == 0:\n        check_guards",
            "    if context.rank == 0:\n        check_guards",
        ),
    ),
    (
        "outputs of a share are those of the first rows",
        ("out + (where.first + share.row) * last.n_out", "out + where.first * last.n_out"),
    ),
    (
        "no meeting after tiles apart",
        (
            "        if not meet(context):  # they are computed where the first thread's own tile is\n"
            "            return\n",
            "",
        ),
    ),
    (
        "each thread takes one tile",
        ("                piece = take_piece(&context.shared.team)\n            taken", "            taken"),
    ),
    ("tiles apart are not packed for", ("        pack_forward(&own, params, batch.kept != NULL)\n", "")),
    (
        "after tiles apart the parameters count as packed",
        ("        context.pack_whole = False  # for the few tiles that are left\n", ""),
    ),
    (
        "the weights of a share are those of the first columns",
        ("params + layer.weights + share.column * layer.n_in", "params + layer.weights"),
    ),
    (
        "the biases of a share are those of the first columns",
        ("params + layer.bias + share.column,", "params + layer.bias,"),
    ),
    (
        "logits are packed as a softmax is shared",
        (
            "activations_share(context, layer, 1, keep_logits and l == n - 1, params)",
            "activations_share(context, layer, 1, False, params)",
        ),
    ),
    (
        "the first rows of a tile are activated by all",
        (
            "        first = share.row * layer.stride\n        activate_outputs(context, layer,",
            "        first = 0\n        activate_outputs(context, layer,",
        ),
    ),
    (
        "the first columns of a tile are activated by all",
        (
            "        first = i * layer.stride + share.column\n        activate(&part,",
            "        first = i * layer.stride\n        activate(&part,",
        ),
    ),
    (
        "every thread computes the last outputs",
        ("    if first_dot < share.column + share.columns:\n", "    if True:\n"),
    ),
    (
        "every share begins with the last outputs",
        (
            "first_dot = max(layer.n_out - layer.dot_outputs, share.column)",
            "first_dot = layer.n_out - layer.dot_outputs",
        ),
        "columns are shared in whole vectors, so the last outputs, a part of one, are those of one thread",
    ),
]

BACKWARD = [
    ("the first layer's W is never packed", ("range(0 if input_gradient else 1, n if", "range(1, n if")),
    (
        "the stride of the layer above",
        (
            (
                "backward_input(context, params, layer, &share, delta, scratch, stride)",
                "backward_input(context, params, layer, &share, delta, scratch, layer.stride)",
            ),
            (
                "backward_input(context, params, layer, &share, delta, scratch, plan.input_stride)",
                "backward_input(context, params, layer, &share, delta, scratch, layer.stride)",
            ),
            (
                "scratch + share.row * plan.input_stride + share.column, plan.input_stride,",
                "scratch + share.row * layer.stride + share.column, layer.stride,",
            ),
        ),
    ),
    (
        "the derivatives of the layer above",
        (
            "activation_share_backward(below, &share, a, work + below.derivative.start, scratch)",
            "activation_share_backward(below, &share, a, work + layer.derivative.start, scratch)",
        ),
    ),
    ("the bias's sums are never fresh", ("bias.column, bias.columns, overwrite)", "bias.column, bias.columns, False)")),
    ("the bias's sums are always fresh", ("bias.column, bias.columns, overwrite)", "bias.column, bias.columns, True)")),
    (
        "the weights' sums are always fresh",
        ("&room, overwrite, context.interrupt)\n", "&room, True, context.interrupt)\n"),
    ),
    (
        "no meeting after a layer, on the way back",
        ("        if not meet(context):\n            return\n        delta, scratch", "        delta, scratch"),
    ),
    (
        "W of a share is that of the first columns",
        ("strided(params + layer.weights + share.column, layer.n_out", "strided(params + layer.weights, layer.n_out"),
    ),
    (
        "the derivatives of the first rows are taken by all",
        (
            "        first = share.row * layer.stride\n        activation_backward(layer,",
            "        first = 0\n        activation_backward(layer,",
        ),
    ),
    (
        "the derivatives of the first columns are taken by all",
        (
            "        first = i * layer.stride + share.column\n        activation_backward(&part,",
            "        first = i * layer.stride\n        activation_backward(&part,",
        ),
    ),
    (
        "the deltas of the first rows are taken by all",
        (
            "linear_backward_input(matrix(delta + share.row * layer.stride, share.rows",
            "linear_backward_input(matrix(delta, share.rows",
        ),
    ),
]

#: Of output gradients, and of products that are added to.
OUTPUT_DELTA = [
    (
        "the output gradient of the first rows is taken by all",
        (
            "<const floating *>tile.output_gradient + share.row * last.n_out, last.n_out",
            "<const floating *>tile.output_gradient, last.n_out",
        ),
    ),
    (
        "the deltas of outputs all lie in the first rows",
        (
            "cdef floating *delta = work + plan.delta.start + first\n",
            "cdef floating *delta = work + plan.delta.start\n",
        ),
    ),
    ("a gradient of the logits is one of the outputs", ("    if not tile.of_logits:\n", "    if True:\n")),
    ("a gradient of the outputs is one of the logits", ("    if not tile.of_logits:\n", "    if False:\n")),
    (
        "no meeting after the deltas of outputs",
        ("share.rows, True, delta)\n    meet(context)", "share.rows, True, delta)"),
    ),
    (
        "the input gradient of the first rows is that of all",
        (
            "<floating *>tile.input_gradient + share.row * layer.n_in + share.column",
            "<floating *>tile.input_gradient + share.column",
        ),
    ),
]

#: Of a forward pass that is kept.
KEPT = [
    (
        "kept activations are not advanced",
        (
            "copy_layer(layer, <floating *>tile.kept.a[l], first,",
            "copy_layer(layer, <floating *>tile.kept.a[l], share.row if not load else first,",
        ),
    ),
    (
        "kept activations are not advanced on the way back",
        (
            "copy_layer(layer, <floating *>tile.kept.a[l], first,",
            "copy_layer(layer, <floating *>tile.kept.a[l], share.row if load else first,",
        ),
    ),
    (
        "kept derivatives are not advanced",
        (
            "copy_layer(layer, <floating *>tile.kept.derivatives[l], first,",
            "copy_layer(layer, <floating *>tile.kept.derivatives[l], share.row if not load else first,",
        ),
    ),
    (
        "kept derivatives are not advanced on the way back",
        (
            "copy_layer(layer, <floating *>tile.kept.derivatives[l], first,",
            "copy_layer(layer, <floating *>tile.kept.derivatives[l], share.row if load else first,",
        ),
    ),
    (
        "the rows of a share are kept as the first of a tile",
        ("cdef Py_ssize_t l, first = tile.first + share.row\n", "cdef Py_ssize_t l, first = tile.first\n"),
    ),
    (
        "the rows kept of a share are the first of a tile",
        ("kept + first * layer.n_out, work + share.row * layer.stride", "kept + first * layer.n_out, work"),
    ),
    (
        "kept logits are not advanced",
        ("<floating *>tile.kept.logits, tile.first + share.row,", "<floating *>tile.kept.logits, share.row,"),
    ),
    (
        "derivatives are not kept",
        ("forward_tile(context, params, &tile, keep, keep)", "forward_tile(context, params, &tile, keep, False)"),
    ),
    (
        "the outputs that are kept are logits",
        (
            "    activate_share(context, last, share, work + last.a.start,\n"
            "                   work + last.derivative.start if last.keeps_derivative else NULL)\n"
            "    copy_kept",
            "    copy_kept",
        ),
    ),
    ("a product overwrites what it is added to", ("    b.add = add\n", "")),
    (
        "the last outputs of a product overwrite what they are added to",
        ("bias_of(layer, params), rows, first_dot, add)", "bias_of(layer, params), rows, first_dot, False)"),
    ),
    (
        "a product of few rows overwrites what it is added to",
        ("bias_of(layer, params), rows, add)", "bias_of(layer, params), rows, False)"),
    ),
]

DERIVATIVES = [
    ("norms without the bias", ("(1 + sum_squares(&A[i, 0], layer.n_in))", "sum_squares(&A[i, 0], layer.n_in)")),
    (
        "norms of the first delta",
        ("sum_squares(delta + i * layer.stride, layer.n_out)", "sum_squares(delta, layer.n_out)"),
    ),
    ("norms of the first row's inputs", ("sum_squares(&A[i, 0], layer.n_in)", "sum_squares(&A[0, 0], layer.n_in)")),
    ("norms of the first layer alone", ("else norms[i] + squares", "else squares")),
    (
        "norms are added to those of the tile before",
        ("norms[i] = squares if l == context.plan.n_layers - 1 else norms[i] + squares", "norms[i] += squares"),
    ),
    ("norms are squared", ("<floating>sqrt(norms[i])", "<floating>norms[i]")),
    (
        "norms are not advanced from tile to tile",
        ("(<floating *>wanted.out)[tile.first + i]", "(<floating *>wanted.out)[i]"),
    ),
    (
        "gradients of rows overwrite the first",
        (
            "weights_of(layer, <const floating *>out + i * stride), True)",
            "weights_of(layer, <const floating *>out), True)",
        ),
    ),
    ("gradients of rows are added", ("out + i * stride), True)", "out + i * stride), False)")),
    (
        "the biases of all rows are those of the first",
        ("out + i * stride + layer.bias, &delta[i, 0]", "out + i * stride + layer.bias, &delta[0, 0]"),
    ),
    ("the biases of rows lie in the first row", ("memcpy(out + i * stride + layer.bias,", "memcpy(out + layer.bias,")),
    ("deltas are not advanced from tile to tile", ("+ (tile.first - wanted.first) * layer.n_out,", "+ 0,")),
    (
        "deltas are as far away as what is kept",
        ("(tile.first - wanted.first) * layer.n_out", "tile.first * layer.n_out"),
    ),
    (
        "the deltas of all outputs are those of the first",
        ("matrix(delta + k * tile.rows * layer.stride, tile.rows", "matrix(delta, tile.rows"),
    ),
    (
        "Jacobians are not advanced from tile to tile",
        ("(tile.first * n + outputs.first + k) * size, n * size)", "(outputs.first + k) * size, n * size)"),
    ),
    (
        "Jacobians of many outputs overwrite the first of them",
        ("(tile.first * n + outputs.first + k) * size, n * size)", "(tile.first * n + k) * size, n * size)"),
    ),
    (
        "the Jacobians of rows overlap",
        (
            "(tile.first * n + outputs.first + k) * size, n * size)",
            "(tile.first * n + outputs.first + k) * size, size)",
        ),
    ),
    (
        "the input Jacobians of all outputs are those of the first",
        ("copy_rows(D + k * tile.rows * plan.input_stride,", "copy_rows(D,"),
    ),
    (
        "input Jacobians are not advanced from tile to tile",
        ("(tile.first * n + outputs.first + k) * plan.n_inputs,", "(outputs.first + k) * plan.n_inputs,"),
    ),
    (
        "input Jacobians of many outputs overwrite the first of them",
        ("(tile.first * n + outputs.first + k) * plan.n_inputs,", "(tile.first * n + k) * plan.n_inputs,"),
    ),
    (
        "the input Jacobians of rows overlap",
        (
            "outputs.first + k) * plan.n_inputs, n * plan.n_inputs,",
            "outputs.first + k) * plan.n_inputs, plan.n_inputs,",
        ),
    ),
    (
        "gradients of rows with the outputs of a layer",
        ("a, stride = work + below.a.start, below.stride", "a, stride = work + layer.a.start, below.stride"),
    ),
    (
        "the deltas of the first output alone go down",
        ("product_share(context, tile.rows * outputs.count,", "product_share(context, tile.rows,"),
    ),
    (
        "input Jacobians are as far apart as the rows of X",
        ("stride if l > 0 else plan.input_stride)", "stride)"),
    ),
    (
        "the derivatives of the layer above, for rows",
        ("work + below.derivative.start,\n", "work + layer.derivative.start,\n"),
    ),
    (
        "the derivatives are those of the first output",
        ("scratch + k * tile.rows * stride)", "scratch)"),
    ),
    (
        "deltas do not go down",
        ("        if not meet(context):\n            return\n        delta, scratch = scratch, delta\n", ""),
    ),
    ("the direction is taken as packed", ("    loose.pack_whole = False  #", "    pass  #")),
    (
        "directions of inputs are not advanced",
        ("<const floating *>wanted.d_inputs + tile.first * plan.n_inputs", "<const floating *>wanted.d_inputs"),
    ),
    (
        "a tangent begins with what was there",
        ("        memset(dz, 0, tile.rows * layer.stride * sizeof(floating))\n        if wanted", "        if wanted"),
    ),
    (
        "the bias of a direction is forgotten",
        ("dz,\n                          False)", "dz,\n                          True)"),
    ),
    (
        "the direction of the inputs takes in the bias",
        ("matrix(d, tile.rows, d_stride), dz, True)", "matrix(d, tile.rows, d_stride), dz, False)"),
    ),
    (
        "the tangents of the first layer go on",
        ("d, d_stride = dz, layer.stride", "d, d_stride = (dz if l == 0 else d), layer.stride"),
    ),
    (
        "a tangent's derivatives are those of the first layer",
        (
            "<const floating *>work + layer.derivative.start, tile.rows, dz)",
            "<const floating *>work + plan.layers[0].derivative.start, tile.rows, dz)",
        ),
    ),
    ("tangents overwrite one another", ("        dz, da = da, dz\n", "")),
    (
        "the outputs of tangents are not advanced",
        ("<floating *>wanted.out + tile.first * plan.n_outputs,", "<floating *>wanted.out,"),
    ),
    (
        "tangents are not advanced",
        ("<floating *>wanted.d_out + tile.first * plan.n_outputs,", "<floating *>wanted.d_out,"),
    ),
    (
        "the first outputs in place of later ones",
        ("delta[i * last.stride + outputs.first + k] = 1", "delta[i * last.stride + k] = 1"),
    ),
    ("Jacobians have the other sign", ("outputs.first + k] = 1", "outputs.first + k] = -1")),
    (
        "the deltas of outputs begin with what was there",
        ("        memset(delta, 0, tile.rows * last.stride * sizeof(floating))\n        for i", "        for i"),
    ),
    ("the deltas of outputs lie in one place", ("        delta += tile.rows * last.stride\n", "")),
    (
        "Jacobians are those of the logits",
        (
            "        outputs_backward(context, <const floating *>work + last.a.start, work + "
            "last.derivative.start, tile.rows, False,\n"
            "                         delta)\n"
            "        delta +=",
            "        delta +=",
        ),
    ),
    (
        "derivatives are those of the tile before",
        (
            "takes_targets(wanted) and stops_at_logits(plan, tile), True)\n",
            "takes_targets(wanted) and stops_at_logits(plan, tile), False)\n",
        ),
    ),
    (
        "the outputs of a Jacobian are logits",
        (
            "forward_tile(context, params, tile, takes_targets(wanted) and stops_at_logits(plan, tile), True)",
            "forward_tile(context, params, tile, stops_at_logits(plan, tile), True)",
        ),
    ),
    ("deltas are those of the outputs alone", (" or wanted.what == DELTAS\n", "\n")),
    (
        "rows are not packed for",
        (
            "            pack_forward(&own, params, takes_targets(wanted) and stops_at_logits(own.plan, batch))\n",
            "            pass\n",
        ),
    ),
    (
        "rows are not packed for, on the way back",
        ("            pack_backward(&own, params, wanted.what == INPUT_JACOBIAN)\n", "            pass\n"),
    ),
    (
        "input Jacobians are not packed for",
        ("pack_backward(&own, params, wanted.what == INPUT_JACOBIAN)", "pack_backward(&own, params, False)"),
    ),
    (
        "rows are cut as if all tiles were full",
        ("where.rows = min(size, batch.rows - where.first)", "where.rows = size"),
    ),
]

ACCUMULATE = [
    (
        "labels are not advanced from tile to tile",
        (
            (
                "count = count_weighted(plan, &tile, tag)\n",
                "count = count_weighted(plan, &tile, tag)\n    tile.labels = batch.labels\n",
            ),
            (
                "        return tile_of(context, batch, where.first, where.rows, tag)\n",
                "        tile = tile_of(context, batch, where.first, where.rows, tag)\n"
                "        tile.labels = batch.labels\n"
                "        return tile\n",
            ),
        ),
    ),
    (
        "weights are not advanced from tile to tile",
        (
            (
                "count = count_weighted(plan, &tile, tag)\n",
                "count = count_weighted(plan, &tile, tag)\n    tile.sample_weight = batch.sample_weight\n",
            ),
            (
                "        return tile_of(context, batch, where.first, where.rows, tag)\n",
                "        tile = tile_of(context, batch, where.first, where.rows, tag)\n"
                "        tile.sample_weight = batch.sample_weight\n"
                "        return tile\n",
            ),
        ),
    ),
    ("every tile is fresh", ("tile.begins_group and not to.keep)", "not to.keep)")),
    ("every tile of a piece is fresh", ("sums, tile.first == piece.first.first)", "sums, True)")),
    (
        "a first tile of no weight leaves the sums as they are",
        ("            memset(sums, 0, plan.n_parameters * sizeof(floating))\n", "            pass\n"),
    ),
    (
        "labels of kept rows are those of the first rows",
        ("labels[k] = tile.labels[i]", "labels[k] = tile.labels[k]"),
    ),
    (
        "weights of kept rows are those of the first rows",
        ("(<const floating *>tile.sample_weight)[i]\n", "(<const floating *>tile.sample_weight)[k]\n"),
    ),
    ("the penalty takes the first bias", ("min(layer.bias, part.end)", "min(layer.bias + 1, part.end)")),
    (
        "the cost's penalty takes the first bias",
        (
            "total += sum_squares(params + first, min(plan.layers[l].bias, end) - first)",
            "total += sum_squares(params + first, min(plan.layers[l].bias + 1, end) - first)",
        ),
    ),
    ("the penalty without its half", ("l2 / 2 * squares", "l2 * squares")),
    (
        "sums of weight 1 are not copied",
        ("if not (rounded == 1 and <const void *>out == <const void *>sums):", "if not rounded == 1:"),
    ),
    ("groups overwrite the sums", ("total[i] += sums[i]", "total[i] = sums[i]")),
    (
        "every group is fresh",
        ("add_sums(to.total, sums, &part, where.first_group)", "add_sums(to.total, sums, &part, True)"),
    ),
    (
        "no meeting after the rows of a weight are copied",
        (
            "            copy_weighted(context, &tile, tag)\n        meet(context)\n",
            "            copy_weighted(context, &tile, tag)\n",
        ),
    ),
    (
        "a tile's losses are those of the first thread's rows",
        (
            "        for i in range(n):\n            total += context.shared.parts[i]\n",
            "        for i in range(share.row, share.row + share.rows):\n"
            "            total += context.shared.parts[i]\n",
        ),
    ),
    (
        "the losses of bands are added up thread by thread",
        (
            (
                "            context.shared.parts[i] = loss\n        total += loss\n",
                "            context.shared.parts[MAX_TEAM + context.rank] = total + loss\n        total += loss\n",
            ),
            (
                "        for i in range(n):\n            total += context.shared.parts[i]\n",
                "        for i in range(min(<Py_ssize_t>context.size, n)):\n"
                "            total += context.shared.parts[MAX_TEAM + context.size - 1 - i]\n",
            ),
        ),
    ),
    (
        "no meeting after the losses of a tile",
        (
            "    if context.size > 1 and meet(context):\n        total = 0",
            "    if context.size > 1:\n        total = 0",
        ),
    ),
    (
        "the deltas of all bands lie in the first",
        ("delta = work + plan.delta.start + first * last.stride", "delta = work + plan.delta.start"),
    ),
    (
        "losses of a group count in the next one, too",
        ("    losses.total += losses.group\n    losses.group = 0\n", "    losses.total += losses.group\n"),
    ),
    (
        "the losses before a call do not count",
        ("losses.finished = 0, before, False", "losses.finished = 0, 0, False"),
    ),
    ("a piece's losses are those of the group", ("losses.group += pieces[i].loss", "losses.group = pieces[i].loss")),
    (
        "a piece at the beginning of a group is the whole of it",
        (
            "piece.first.begins_group and piece.last.ends_group and to.total != NULL",
            "piece.first.begins_group and to.total != NULL",
        ),
    ),
    (
        "a piece at the end of a group is the whole of it",
        (
            "piece.first.begins_group and piece.last.ends_group and to.total != NULL",
            "piece.last.ends_group and to.total != NULL",
        ),
    ),
    (
        "a group that is all rows is not copied",
        (
            "piece.first.begins_group and piece.last.ends_group and to.total != NULL",
            "piece.first.begins_group and piece.last.ends_group",
        ),
    ),
    (
        "the group's sums are added, not the piece's",
        (
            "add_sums(to.total, sums if direct else <const floating *>group,",
            "add_sums(to.total, <const floating *>group,",
        ),
    ),
    (
        "the first piece of a group is added to what was there",
        ("add_sums(group, sums, part, piece.first.begins_group)", "add_sums(group, sums, part, False)"),
    ),
    (
        "every piece overwrites the group",
        ("add_sums(group, sums, part, piece.first.begins_group)", "add_sums(group, sums, part, True)"),
    ),
    ("every group of pieces is fresh", ("part, piece.last.first_group)", "part, True)")),
    ("one of the numbers at a time is left out", ("some.begin = some.end\n", "some.begin = some.end + 1\n")),
    (
        "sums become the gradient before the last tiles",
        ("to.weight != 0 and not next_tile(own.plan, &end, &piece.first)", "to.weight != 0"),
    ),
    (
        "sums of a part of the rows become a gradient",
        ("losses.finished = to.weight != 0 and not next_tile", "losses.finished = not next_tile"),
    ),
    (
        "sums become the gradient twice",
        ("to.sums != NULL and not losses.finished and next_segment", "to.sums != NULL and next_segment"),
    ),
    ("tiles behind large pieces are as large", ("pieces.unit if i < pieces.large else TILE", "pieces.unit")),
    (
        "a piece's losses are those of its last tile",
        ("piece.loss += accumulate_tile(own,", "piece.loss = accumulate_tile(own,"),
    ),
    (
        "a piece is as empty as its last tile",
        ("piece.empty &= rows.rows == 0", "piece.empty = rows.rows == 0"),
        "a piece of several tiles begins a group, and its sums are copied; only those of one tile are added",
    ),
    ("pieces of others are skipped a tile at a time", ("            skip_piece(own.plan, &piece, cursor)\n", "")),
    ("turns are not awaited", ("if not await_turn(&shared.team, <int>taken):", "if False:")),
    (
        "the losses before the first piece do not count",
        (
            "        if taken == 0:\n            shared.losses = losses[0]\n",
            "        if taken == 0:\n            shared.losses.group = shared.losses.total = 0\n",
        ),
    ),
    (
        "the losses before a piece do not count",
        ("        if taken == 0:\n            shared.losses", "        if True:\n            shared.losses"),
    ),
    ("each thread takes one piece", ("        taken = take_piece(&shared.team)\n    if not meet", "    if not meet")),
    (
        "no meeting after the last piece",
        ("    if not meet(context):\n        return\n    if last > 0:\n", "    if last > 0:\n"),
    ),
    ("turns are not reset", ("        reset_turns(&shared.team)\n", "        pass\n")),
    ("pieces are not packed for", ("    pack_for(&own, params, batch, sums != NULL)\n", "")),
    (
        "pieces are not packed for, on the way back",
        ("pack_for(&own, params, batch, sums != NULL)", "pack_for(&own, params, batch, False)"),
    ),
    (
        "after pieces the parameters count as packed",
        ("        context.pack_whole = False  # for the few tiles that are left\n", ""),
    ),
    ("a tile by one thread counts as packed", ("    own.pack_whole = False  # it has packed a share at most\n", "")),
    ("every tile by one thread is fresh", ("where.begins_group and not to.keep)", "not to.keep)")),
    (
        "a tile by one thread is computed by all",
        (
            "    if context.rank == 0:\n        tile = weighted_tile(&own,",
            "    if True:\n        tile = weighted_tile(&own,",
        ),
    ),
    (
        "few rows of many parameters are computed by all",
        (
            "if context.size > 1 and (context.small_batch or plan.n_parameters",
            "if context.size > 1 and (plan.n_parameters",
        ),
    ),
    (
        "no meeting after a tile",
        (
            "losses, <const floating *>to.sums)\n        meet(context)  # what",
            "losses, <const floating *>to.sums)\n        pass  # what",
        ),
        "for a wrong loss a thread would have to read it later than the first one computes another "
        "tile, and only that of "
        "the first one is used",
    ),
    (
        "the penalty of all parameters before it, in a share",
        ("range(max(layer.weights, part.begin),", "range(layer.weights,"),
    ),
    (
        "the penalty of all parameters behind it, in a share",
        ("min(layer.bias, part.end)):\n            out[i]", "layer.bias):\n            out[i]"),
    ),
    (
        "the squares of all threads are those of the first piece",
        ("parts[i] = sum_squared_piece(plan, params, i)", "parts[i] = sum_squared_piece(plan, params, 0)"),
    ),
    (
        "no meeting after the squares",
        (
            "        parts[i] = sum_squared_piece(plan, params, i)\n    meet(context)\n",
            "        parts[i] = sum_squared_piece(plan, params, i)\n",
        ),
    ),
    (
        "pieces of squares overlap",
        (
            "end = chunk_start(plan.n_parameters, n, i + 1), first",
            "end = chunk_start(plan.n_parameters, n, i + 1) + 1, first",
        ),
    ),
]

LOSSES = [
    (
        "a label of the number of classes is in range, for delta",
        ("if label < 0 or label >= n:", "if label < 0 or label > n:"),
    ),
    (
        "a label of the number of classes is in range, for the loss",
        ("elif 0 <= batch.labels[i] < n:", "elif 0 <= batch.labels[i] <= n:"),
    ),
    (
        "the loss reads four numbers behind Y",
        ("if i * n + j + lanes(targets) > batch.rows * n:", "if i * n + j + lanes(targets) > batch.rows * n + 4:"),
    ),
    (
        "padding counts as outputs",
        (
            "for k in range(min(n - j, lanes(targets))):\n                total",
            "for k in range(lanes(targets)):\n                total",
        ),
    ),
    ("rows of wide outputs count twice", ("for i in range(done, end):", "for i in range(done, rows):")),
    ("huber without its half", ("return c * (r - <floating>0.5 * c)", "return c * (r - c)")),
    (
        "the lower kink of huber at twice its delta",
        (
            "c = select(c < -threshold, -threshold, c)",
            "c = select(c < <floating>-2 * threshold, <floating>-2 * threshold, c)",
        ),
    ),
    (
        "absolute_error has a derivative at 0",
        ("d[0] = select(r > 0, <floating>1, select(", "d[0] = select(r >= 0, <floating>1, select("),
    ),
    ("a right infinite logit costs NaN", ("select(c == 0, <floating>0, c * abs_(z))", "c * abs_(z)")),
    (
        "an infinite logit of a target 0 costs NaN",
        ("if targets[i * n + j] != 0:  # 0 times an infinite logit is 0 here", "if True:"),
    ),
    ("the weight is forgotten in delta", ("d[k] = weight * d[k]", "d[k] = d[k]")),
    (
        "cross_entropy takes the weights of the first rows",
        ("delta[i, j] *= weights[i]", "delta[i, j] *= weights[k]"),
    ),
    (
        "cross_entropy takes the labels of the first rows",
        ("sparse_cross_entropy_row(batch.labels[i],", "sparse_cross_entropy_row(batch.labels[k],"),
    ),
    (
        "cross_entropy takes the targets of the first rows",
        ("soft_cross_entropy_row(targets + i * n,", "soft_cross_entropy_row(targets + k * n,"),
    ),
    (
        "the delta at the label cancels",
        ("    delta[label] = -others\n", "    delta[label] = (<floating>1 - others) - <floating>1\n"),
    ),
    (
        "the loss of a row that is right cancels",
        ("select(others[k] <= <floating>0.5, log1p_(x), log_(totals[k]))", "log_(totals[k])"),
    ),
]

#: Of the losses but those of every textbook.
LOSSES_WITH_MORE = [
    (
        "quantile takes the rates of each other's side",
        (
            "rate = select(r > 0, <floating>(1 - q), select(r < 0, <floating>-q, r))",
            "rate = select(r > 0, <floating>q, select(r < 0, <floating>(q - 1), r))",
        ),
    ),
    (
        "focal without its factor gamma",
        ("(gamma * select(p == 0, <floating>0, p * value) + q)", "(select(p == 0, <floating>0, p * value) + q)"),
    ),
    ("the other target of focal has the other sign", ("d[0] += select(no == 0,", "d[0] -= select(no == 0,")),
    (
        "a right margin of hinge has the other sign",
        ("select(margin == margin, -y, margin))", "select(margin == margin, y, margin))"),
    ),
    ("squared_hinge without its factor 2", ("d[0] = <floating>-2 * y * margin", "d[0] = -y * margin")),
    ("gamma has the other sign", ("d[0] = <floating>1 - r\n", "d[0] = r - <floating>1\n")),
    ("tweedie without the divisor of its first term", ("return high / two + low / one", "return high + low / one")),
    (
        "the powers of tweedie are exchanged",
        (
            "one = <floating>(power - 1), two = <floating>(2 - power)",
            "one = <floating>(2 - power), two = <floating>(power - 1)",
        ),
    ),
    ("gaussian_nll without its half", ("(<floating>0.5 * (s + r * scaled))", "(s + r * scaled)")),
    ("the variance of gaussian_nll has the other sign", ("(<floating>1 - r * scaled))", "(r * scaled - <floating>1))")),
    (
        "gaussian_nll takes the weights of outputs of the first row",
        ("weight = of_outputs[i * n + j]", "weight = of_outputs[j]"),
    ),
    (
        "the weight of an output is forgotten in delta",
        ("d[k] = select(w[k] == 0, <floating>0, w[k] * d[k])", "d[k] = select(w[k] == 0, <floating>0, d[k])"),
    ),
    (
        "a target of weight 0 counts if it is NaN",
        ("value[k] = select(w[k] == 0, <floating>0, w[k] * value[k])", "value[k] = w[k] * value[k]"),
    ),
    (
        "no target under a weight is out of range",
        ("return heads_valid(plan, batch, 0, batch.rows, tag)", "return True"),
    ),
]

#: Of weights of single outputs, smoothed labels and signed weights.
WEIGHTS = [
    (
        "smoothing only makes targets smaller",
        ("(<floating>1 - smoothing) * out[j] + share", "(<floating>1 - smoothing) * out[j]"),
    ),
    ("each class has the share of all", ("share = smoothing / <floating>n", "share = smoothing")),
    (
        "weights of classes are those of the first row",
        (
            "out[j] = select(weights[i * n + j] == 0, <floating>0, weights[i * n + j] * out[j])",
            "out[j] = select(weights[j] == 0, <floating>0, weights[j] * out[j])",
        ),
    ),
    (
        "a row has the weights of outputs but the last",
        (
            "for j in range(i * plan.n_targets, (i + 1) * plan.n_targets):",
            "for j in range(i * plan.n_targets, (i + 1) * plan.n_targets - 1):",
        ),
    ),
    (
        "a label has the weight of the first class",
        ("weights[k] = of_outputs[i * n + tile.labels[i]] if", "weights[k] = of_outputs[i * n] if"),
    ),
    (
        "weights of outputs of kept rows are those of the first rows",
        ("of_outputs + i * n, n * sizeof(floating))", "of_outputs + k * n, n * sizeof(floating))"),
    ),
    (
        "weights of classes are left out where all rows have one",
        ("if count == where.rows and not of_classes:", "if count == where.rows:"),
    ),
    ("sums are divided by the weights of all outputs", ("return total / columns", "return total")),
    (
        "the sum of the weights is of the last ones",
        ("total += sum_numbers(weights + i,", "total = sum_numbers(weights + i,"),
    ),
    (
        "weights that are not finite are accepted if they are signed",
        ("(w < <floating>INFINITY) & (negative | (weights[i] >= 0))", "(negative | (weights[i] >= 0))"),
    ),
    ("gradients of rows are never clipped", ("if sums != NULL and tile.clip_norm > 0:", "if False:")),
]

#: Of gradients of rows that are clipped.
CLIP = [
    (
        "rows are clipped by the square of their norm",
        ("norm = sqrt(norms[i])\n        if not", "norm = norms[i]\n        if not"),
    ),
    ("rows are divided by their norm", ("factor = <floating>(tile.clip_norm / norm)", "factor = <floating>(1 / norm)")),
    (
        "the first row is clipped for all",
        ("delta = work + plan.delta.start + i * last.stride", "delta = work + plan.delta.start"),
    ),
    (
        "delta(L) is not made once more after the norms",
        ("    output_losses(context, tile, True, params)\n    for i in", "    for i in"),
    ),
    (
        "no meeting after rows are clipped",
        ("                delta[j] *= factor\n    meet(context)\n", "                delta[j] *= factor\n"),
    ),
]

#: Of calls that are tried before their arguments are looked at.
TRIED_CALLS = [
    (
        "a penalty below 0 is tried, for the cost",
        ("        if not 0 <= call.l2 < INFINITY:\n            return None\n", ""),
    ),
    (
        "targets and weights are tried unchecked",
        ("return valid and 0 < call.weight < INFINITY", "return 0 < call.weight < INFINITY"),
    ),
    (
        "sums of signed weights are divided by the weights",
        ("    if negative:\n        call.weight = <double>call.batch.rows\n", ""),
    ),
    ("masked rows are tried", ("type(params) is ndarray and type(X) is ndarray and", "type(params) is ndarray and")),
    (
        "out may overlap the output gradient in backward",
        (
            "not last_is_disjoint(&buffers):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, 1, threads)\n",
            "not (disjoint(&views[0], &views[3]) and disjoint(&views[1], &views[3])):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, 1, threads)\n",
        ),
    ),
    (
        "the gradient of few rows is their mean",
        (
            "cost_and_gradient_call(plan, &call, 1, threads)",
            "cost_and_gradient_call(plan, &call, call.batch.rows, threads)",
        ),
    ),
    (
        "a trace of few rows takes what its parameters become",
        ("    params = params.copy()\n    return params, trace", "    return params, trace"),
    ),
]

#: Of an optimizer's step that is tried.
TRIED_STEPS = [
    (
        "a step that is tried is not Nesterov's",
        ("        given.momentum, given.nesterov = hyperparameters\n", "        given.momentum, _ = hyperparameters\n"),
    ),
    (
        "the parameters may overlap the gradient",
        ("return places[0] != NULL and last_is_disjoint(buffers)", "return places[0] != NULL"),
    ),
]

#: Of derivatives, for C.
DERIVATIVES_OF_C = [
    ("every parameter of a loss is accepted, for C", ("HEADS or not parameter_valid(p.loss, parameter):", "HEADS:")),
    ("the parameter of a loss stays as it was, for C", ("    p.head.parameter = parameter\n", "")),
    (
        "the last row has no Jacobian, for C",
        (
            "wanted.what, wanted.out, batch = what, out, batch_of(p, X, m)",
            "wanted.what, wanted.out, batch = what, out, batch_of(p, X, max(m - 1, <Py_ssize_t>1))",
        ),
    ),
    (
        "the direction of the inputs is left out, for C",
        ("wanted.d_params, wanted.d_inputs = d_params, d_inputs", "wanted.d_params, wanted.d_inputs = d_params, NULL"),
    ),
    (
        "tangents and outputs are exchanged, for C",
        (
            "wanted.what, wanted.out, wanted.d_out, batch = TANGENTS, out, d_out,",
            "wanted.what, wanted.out, wanted.d_out, batch = TANGENTS, d_out, out,",
        ),
    ),
    (
        "gradients of rows are their norms, for C",
        ("targets, labels, ROW_GRADIENTS, out)", "targets, labels, NORMS, out)"),
    ),
    ("norms have no labels, for C", ("targets, labels, NORMS, out)", "targets, NULL, NORMS, out)")),
    (
        "rows of which derivatives are made are not checked, for C",
        ("error = check_batch(p, &batch, &loss, params)", "error = OK"),
    ),
]

#: Losses, weights and clipped rows in Python.
FALLBACK_LOSSES = [
    (
        "quantile takes the rates of each other's side",
        ("np.where(r > 0, 1 - q, np.where(r < 0, -q, r))", "np.where(r > 0, q, np.where(r < 0, q - 1, r))"),
    ),
    ("gaussian_nll without its half", ("return (s + square) / 2, np.hstack", "return s + square, np.hstack")),
    ("gamma has the other sign", ("z + y * np.exp(-z), 1 - y * np.exp(-z)", "z + y * np.exp(-z), y * np.exp(-z) - 1")),
    (
        "tweedie without the divisor of its first term",
        ("np.exp((2 - p) * z) / (2 - p) + low", "np.exp((2 - p) * z) + low"),
    ),
    ("squared_hinge without its factor 2", ("return margin**2, -2 * y * margin", "return margin**2, -y * margin")),
    ("focal without its factor gamma", ("-power * (gamma * np.where(p == 0", "-power * (np.where(p == 0")),
    (
        "smoothing only makes targets smaller",
        ("(1 - smoothing) * y + smoothing / plan.sizes[-1])", "(1 - smoothing) * y)"),
    ),
    ("weights of classes are forgotten", ("return weigh(y, weights), None", "return y, None")),
    (
        "a label has the weight of the first class",
        ("return y, weights[np.arange(len(y)), y]", "return y, weights[:, 0]"),
    ),
    ("gaussian_nll takes the weights of neighbours", ("np.tile(weights, 2)", "np.repeat(weights, 2, axis=1)")),
    ("a row of one weight 0 is left out", ("else weights.any(axis=1)", "else weights.all(axis=1)")),
    ("a target of weight 0 counts if it is NaN", ("np.where(weights == 0, 0, weights * x)", "weights * x")),
    ("all rows are clipped", ("np.where(norms <= clip_norm, 1, clip_norm / norms)", "(clip_norm / norms)")),
]

TARGETS = [
    ("binary targets up to 2", ("return not ((y < 0) | (y > 1))", "return not ((y < 0) | (y > 2))")),
    ("counts and probabilities below 0", ("return not y < 0\n", "return not y < -1\n")),
    ("a label of the number of classes", ("(batch.labels[i] >= plan.n_outputs)", "(batch.labels[i] > plan.n_outputs)")),
]

ACTIVATIONS = [
    ("the derivative of a sigmoid at a pole is exact", ("<floating>1 - a[i], kept[i])", "kept[i], kept[i])")),
    ("the derivative of a tanh at a pole is exact", ("<floating>1 - abs_(a[i]), kept[i])", "kept[i], kept[i])")),
    (
        "every derivative of a sigmoid is that of the rounded output",
        (
            "kept[i] = select(abs_(d[i]) > large, <floating>1 - a[i], kept[i])",
            "kept[i] = <floating>1 - a[i]",
        ),
    ),
    ("the derivatives of silu and gelu at infinity are NaN", ("x = select(isinf(z), <floating>0, z)", "x = z")),
    (
        "silu and gelu of -infinity are NaN",
        ("return select(z == <floating>-INFINITY, <floating>0, z) * s", "return z * s"),
    ),
    (
        "the largest of a row of softmax takes in padding",
        ("top = select(j + k < n, z[j + k], <floating>-INFINITY)", "top = z[j + k]"),
    ),
    ("the sum of a row of softmax takes in padding", ("total = select(j + k < n, total, <floating>0)", "pass")),
    (
        "relu has a derivative at 0",
        ("d[i] *= select(a[i] > 0, <floating>1, <floating>0)", "d[i] *= select(a[i] >= 0, <floating>1, <floating>0)"),
    ),
    (
        "leaky_relu has the derivative 1 at 0",
        (
            "d[i] *= select(a[i] > 0, <floating>1, <floating>LEAKY_SLOPE)",
            "d[i] *= select(a[i] >= 0, <floating>1, <floating>LEAKY_SLOPE)",
        ),
    ),
    (
        "elu's derivative at 0 is of the other side",
        ("kept[0] = select(z > 0, <floating>1, x)", "kept[0] = select(z > -1e-3, <floating>1, x)"),
    ),
    (
        "the complement of sigmoid cancels",
        ("complement[0] = select(z < 0, r, s)", "complement[0] = <floating>1 - select(z < 0, s, r)"),
    ),
    (
        "the softmax's Jacobian takes the smallest for the largest",
        ("if A[i, j] > A[i, top]:", "if A[i, j] < A[i, top]:"),
    ),
    ("the softmax's Jacobian hides NaN", ("others = mean - mean  #", "others = 0  #")),
    (
        "narrow rows of softmax without their maximum",
        (
            "(columns + j * lane)[k] = exp_nonpositive((columns + j * lane)[k] - largest[k])",
            "(columns + j * lane)[k] = exp_nonpositive((columns + j * lane)[k])",
        ),
    ),
]

ELEMENTARY = [
    ("tanh without its last correction", ("    q += ((t - 2 * q) - q * t) * h\n", "")),
    (
        "tanh of a small number by the formula of large ones",
        ("select(size > <float>0.55, <float>1 - h, q)", "<float>1 - h"),
    ),
    ("the complement of a large tanh is not 0", ("complement[0] = select(size > high, 0.0, h)", "complement[0] = h")),
    ("an exponential of few steps for all numbers", ("exp_in_range(select(x < low, low, x))", "exp_in_range(x)")),
    ("expm1 loses the sign of 0", ("return select(x == 0, x, c)  # keeps -0", "return c")),
    ("gelu far out is not cut off", ("z = select(z > <floating>40, <floating>40, z)", "pass")),
]

GEMM = [
    ("the last tile of columns is whole", ("columns = min(width, C.columns - column)", "columns = width")),
    (
        "the first column of sums is left out of a remainder",
        (
            "    while i < count:\n        load(rows + i * stride, &x)",
            "    while i < count - 1:\n        load(rows + i * stride, &x)",
        ),
    ),
    (
        "every depth starts from the bias, in float32",
        (
            "x.init = panel if k == 0 and not b.add else NULL",
            "x.init = panel if (k == 0 or sizeof(floating) == 4) and not b.add else NULL",
        ),
    ),
    (
        "A is read behind its last row",
        ("whole = n_in if padded(n_in, panels) <= readable else n_in // whole * whole", "whole = n_in"),
    ),
    (
        "the first group of a tile is not fresh",
        ("x.init = zeros if overwrite or not direct else NULL", "x.init = zeros if not direct else NULL"),
    ),
    (
        "groups of columns overlap",
        (
            "            return\n        j += count",
            "            return\n        j += count - 1 if j == 0 and groups > 0 else count",
        ),
    ),
    (
        "a share of A is as wide as A",
        ("readable = A.shape[1] - share.column  #", "readable = A.shape[1]  #"),
    ),
    ("a share's columns of A are the first", ("first_a = &A[0, share.column]", "first_a = &A[0, 0]")),
    ("a share's columns of delta are the first", ("first_delta = &delta[0, share.row]", "first_delta = &delta[0, 0]")),
]

MICROKERNEL = [
    (
        "longer blocks are too few",
        ("n_longer[0] = (rows - mr * blocks) * (mr + 1)", "n_longer[0] = (rows - mr * blocks) * mr"),
    ),
]

SMALL = [
    ("dot products without their last number", ("for k in range(whole, n):", "for k in range(whole, n - 1):")),
    ("few rows without their bias", ("            Z[i, j] = b[j]", "            Z[i, j] = 0")),
    (
        "the last outputs of one row alone",
        (
            "for r in range(4 if four else 1):\n                Z[i + r, j] = z[r]",
            "for r in range(1):\n                Z[i + r, j] = z[r]",
        ),
    ),
    (
        "padding of few rows is not set to 0",
        (
            "for j in range(W.shape[0], Z.shape[1]):\n            Z[i, j] = 0",
            "for j in range(W.shape[0], W.shape[0]):\n            Z[i, j] = 0",
        ),
        "no result depends on what lies behind a row; it may be subnormal, which costs time alone",
    ),
]

SIMD = [
    (
        "a square of eight is transposed but for its halves",
        (
            "*(bpcore_memory8 *)(dst + (i + 4) * rs_dst) =\n"
            "            __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15)",
            "*(bpcore_memory8 *)(dst + (i + 4) * rs_dst) =\n"
            "            __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 7)",
        ),
    ),
    (
        "the largest number of a vector is of its half",
        (
            "static inline double bpcore_max_f64(double *x) {\n"
            "    for (size_t n = BPCORE_LANES_F64 / 2; n > 0; n /= 2)",
            "static inline double bpcore_max_f64(double *x) {\n"
            "    for (size_t n = BPCORE_LANES_F64 / 2; n > 1; n /= 2)",
        ),
    ),
]

BUFFERS = [
    (
        "arrays of another dtype are taken as they are",
        ("        valid = format[0] == kind\n", "        valid = True\n"),
    ),
    ("a vector of more numbers is taken", ("view.shape[0] == size else NULL", "view.shape[0] >= size else NULL")),
    (
        "X of any width is taken",
        ("if view == NULL or view.shape[1] != plan.plan.n_inputs:", "if view == NULL:"),
    ),
    (
        "targets of any width are taken",
        ("if view == NULL or (view.ndim == 2 and view.shape[1] != p.n_targets):", "if view == NULL:"),
    ),
    (
        "targets of one dimension are taken for many outputs",
        (
            "if view == NULL and p.n_targets == 1 and p.loss != CROSS_ENTROPY:",
            "if view == NULL and p.loss != CROSS_ENTROPY:",
        ),
    ),
    (
        "targets of one dimension are taken for cross_entropy",
        ("if view == NULL and p.n_targets == 1 and p.loss != CROSS_ENTROPY:", "if view == NULL and p.n_targets == 1:"),
    ),
    ("integers are labels, whatever the loss", ("if p.loss == CROSS_ENTROPY:", "if True:")),
    ("fewer targets than rows are taken", ("if view.shape[0] != batch.rows:", "if view.shape[0] > batch.rows:")),
    ("more targets than rows are taken", ("if view.shape[0] != batch.rows:", "if view.shape[0] < batch.rows:")),
    (
        "sample weights are left out",
        ("return sample_weight is None or acquire_sample_weight(buffers, plan, sample_weight, batch)", "return True"),
    ),
    (
        "sample weights that do not fit are left out",
        ("view.shape[1] != n):\n        return False\n", "view.shape[1] != n):\n        return True\n"),
    ),
    (
        "weights of any number of outputs are taken",
        ("view.shape[0] != batch.rows or (view.ndim == 2 and view.shape[1] != n):", "view.shape[0] != batch.rows:"),
    ),
    (
        "out may overlap the input before it",
        ("for i in range(buffers.count - 1):", "for i in range(buffers.count - 2):"),
    ),
]

SMALL_CALLS = [
    (
        "no rows leave the sums as they are",
        ("memset(call.sums.sums, 0, n * (sizeof(float) if plan.is_float32 else sizeof(double)))", "pass"),
    ),
    (
        "out may overlap params in forward",
        (
            "if call.out == NULL or not last_is_disjoint(&buffers):",
            "if call.out == NULL or not disjoint(&views[1], &views[2]):",
        ),
    ),
    (
        "out may overlap X in forward",
        (
            "if call.out == NULL or not last_is_disjoint(&buffers):",
            "if call.out == NULL or not disjoint(&views[0], &views[2]):",
        ),
    ),
    (
        "out may overlap params in cost_and_gradient",
        (
            "not last_is_disjoint(&buffers):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
            "not (disjoint(&views[1], &views[3]) and disjoint(&views[2], &views[3])):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
        ),
    ),
    (
        "out may overlap X in cost_and_gradient",
        (
            "not last_is_disjoint(&buffers):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
            "not (disjoint(&views[0], &views[3]) and disjoint(&views[2], &views[3])):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
        ),
    ),
    (
        "out may overlap Y in cost_and_gradient",
        (
            "not last_is_disjoint(&buffers):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
            "not (disjoint(&views[0], &views[3]) and disjoint(&views[1], &views[3])):\n"
            "            return None\n        cost_and_gradient_call(plan, &call, call.weight, threads)\n"
            "        return call.losses, out\n",
        ),
    ),
]

#: Of products that are added to: those of tangents.
ADDED_PRODUCTS = [
    (
        "what is added to is the bias",
        ("x.init = panel if k == 0 and not b.add else NULL", "x.init = panel if k == 0 else NULL"),
    ),
]

ADDED_SMALL_PRODUCTS = [
    ("few rows are not added to", ("range(W.shape[0] if not add else 0)", "range(W.shape[0])")),
    (
        "the last outputs are 0 before they are added to",
        ("range(0 if add else 4 if four else 1)", "range(4 if four else 1)"),
    ),
    (
        "the last outputs of four rows are added to those of the first",
        ("z[r] = b[j] if not add else Z[i + r if four else i, j]", "z[r] = b[j] if not add else Z[i, j]"),
    ),
]

#: Of rows with a gradient from the caller, or a forward pass that is kept.
PARTS = [
    (
        "output gradients of a part of a batch are those of its first rows",
        ("<const floating *>batch.output_gradient + first * plan.n_outputs", "batch.output_gradient"),
    ),
    (
        "input gradients of a part of a batch are those of its first rows",
        ("<floating *>batch.input_gradient + first * plan.n_inputs", "batch.input_gradient"),
    ),
    (
        "kept rows are not advanced",
        ("part.rows, part.first = rows, batch.first + first", "part.rows, part.first = rows, batch.first"),
    ),
    (
        "kept rows begin with the first of all",
        ("part.rows, part.first = rows, batch.first + first", "part.rows, part.first = rows, first"),
    ),
    (
        "the forward pass stops at the logits whatever the output gradient is",
        (
            "return batch.of_logits if batch.output_gradient != NULL else plan.from_logits",
            "return plan.from_logits",
        ),
    ),
]

ACCUMULATE_BACKWARD = [
    (
        "no meeting after kept rows are copied",
        (
            "        copy_kept(context, tile, &share, True, params)\n        meet(context)\n",
            "        copy_kept(context, tile, &share, True, params)\n",
        ),
        "each thread copies the rows whose deltas of outputs it then makes, and all meet after these",
    ),
    (
        "the first layer is not packed for the input gradient",
        ("pack_backward(context, params, batch.input_gradient != NULL)", "pack_backward(context, params, False)"),
    ),
    (
        "kept rows are computed once more",
        ("    if tile.kept == NULL:\n        forward_tile", "    if True:\n        forward_tile"),
        "they come out the same",
    ),
    ("rows have no gradient from the caller", ("    if tile.output_gradient == NULL:\n", "    if True:\n")),
]

#: Of what derivatives are computed from.
DERIVE = [
    (
        "the logits of a trace are its outputs",
        ("    if plan.plan.layers[n - 1].activation != IDENTITY:\n", "    if False:\n"),
    ),
    (
        "every output gradient is one of the outputs",
        ("    batch.of_logits = of_logits\n", "    batch.of_logits = False\n"),
    ),
    (
        "the rows kept are those of the first block",
        ("kept, batch.first = forward_pass, first", "kept, batch.first = forward_pass, 0"),
    ),
    ("deltas are as far away as the rows kept", ("call.wanted.first = call.batch.first", "call.wanted.first = 0")),
    ("the direction of the inputs is left out", ("        if d_inputs is not None:\n", "        if False:\n")),
    ("more rows than are kept are taken", ("0 <= batch.first <= kept.batch.rows - rows or", "0 <= batch.first or")),
]

TRAINING_LOOP = [
    ("all parameters are finite", ("    return total == 0\n", "    return True\n")),
    ("the last parameters are finite", ("    while i < n:\n        total += x[i] * <floating>0\n        i += 1\n", "")),
    ("rows are gathered in their own order", ("rows + order[i] * n, n * sizeof", "rows + i * n, n * sizeof")),
    (
        "the steps of Adam count from 0",
        (
            ("        t.hyperparameters.step += 1\n", ""),
            ("        t.first += count\n", "        t.hyperparameters.step += 1\n        t.first += count\n"),
        ),
    ),
    (
        "labels of the first batch for all",
        (
            "batch = gather_batch(context, &t, t.first, count, tag)\n",
            "batch = gather_batch(context, &t, t.first, count, tag)\n        batch.labels = t.rows.labels\n",
        ),
    ),
    (
        "weights of the first batch for all",
        (
            "batch = gather_batch(context, &t, t.first, count, tag)\n",
            "batch = gather_batch(context, &t, t.first, count, tag)\n"
            "        batch.sample_weight = t.rows.sample_weight\n",
        ),
    ),
    (
        "weights of the first batch for all, gathered",
        ("t.rows.sample_weight, 1, order, &share, weights)", "t.rows.sample_weight, 1, t.order, &share, weights)"),
    ),
    ("gathered targets lie where the weights do", ("targets = weights + count", "targets = weights")),
    (
        "the mean weight is forgotten",
        ("all_chunks(plan, count), count * t.mean_weight", "all_chunks(plan, count), count"),
    ),
    ("the cost of an epoch is not by rows", ("pinned(count * t.cost)", "pinned(t.batch_size * t.cost)")),
    (
        "no meeting after the rows of a batch are gathered",
        ("        batch.output_weight = of_outputs\n    meet(context)\n", "        batch.output_weight = of_outputs\n"),
    ),
    (
        "the first rows of a batch are gathered by all",
        (
            "    for i in range(share.row, share.row + share.rows):\n        memcpy",
            "    for i in range(share.rows):\n        memcpy",
        ),
    ),
    ("moments of a share are the first", ("<floating *>t.moments[i] + part.begin if", "<floating *>t.moments[i] if")),
    (
        "the gradient of a share is the first part",
        ("<const floating *>t.grad + part.begin", "<const floating *>t.grad"),
    ),
    (
        "each thread keeps its share if that alone is finite",
        ("            finite &= context.shared.finite[i]\n", "            pass\n"),
    ),
    (
        "no meeting after a look whether parameters are finite",
        (
            "        context.shared.finite[context.rank] = finite\n        meet(context)\n",
            "        context.shared.finite[context.rank] = finite\n",
        ),
    ),
    (
        "the parameters kept are those of the first share",
        ("memcpy(kept + part.begin, params + part.begin,", "memcpy(kept + part.begin, params,"),
    ),
    (
        "the parameters kept are all in the first share",
        ("memcpy(kept + part.begin, params + part.begin,", "memcpy(kept, params + part.begin,"),
    ),
    (
        "each thread looks at the clock",
        ("    if context.size == 1:\n        return now()", "    if True:\n        return now()"),
    ),
    ("no meeting after a look at the clock", ("    return meet(context) and left[0] != 0", "    return left[0] != 0")),
    ("time is always left", ("        left[0] = now() - start <= t.seconds\n", "        left[0] = 1\n")),
]

OPTIMIZERS = [
    (
        "Adam's mean is not corrected",
        (
            "given.corrected_rate = given.learning_rate / (1 - pow(given.beta1, given.step))",
            "given.corrected_rate = given.learning_rate",
        ),
    ),
    (
        "Adam's square is corrected by the first step",
        ("1 / sqrt(1 - pow(given.beta2, given.step))", "1 / sqrt(1 - given.beta2)"),
    ),
    (
        "Adam's epsilon within the root's scale",
        ("(sqrt_(second_moment[i]) * scale + epsilon)", "((sqrt_(second_moment[i]) + epsilon) * scale)"),
    ),
    ("Adam leaves out what lies before a line of the cache", ("first, last = last, n", "first, last = n, n")),
    (
        "Nesterov's momentum is the plain one",
        ("params[i] -= rate * (grad[i] + mu * velocity[i])", "params[i] -= rate * velocity[i]"),
    ),
]

#: Of the steps row by row, which C alone calls.
SGD_ROWS = [
    ("the bias is not descended", ("            W[j] -= rate * delta[j]", "            pass")),
    (
        "weights of the first row for all, for C",
        (
            "row = weighted_tile(context, batch, &where, theta)\n",
            "row = weighted_tile(context, batch, &where, theta)\n        row.sample_weight = batch.sample_weight\n",
        ),
    ),
]

INTERRUPT = [
    ("the other threads do not hear of a signal", ("            team_stop(interrupt.team)\n", "            pass\n")),
    ("signals are ignored", ("elif time >= interrupt.next_poll:", "elif False:")),
]

#: What sets the mode in which the loops compute, and sets that of the caller again.
MODE = [
    ("subnormal operands are computed with", ("_mm_setcsr(0x9fc0)", "_mm_setcsr(0x9f80)")),
    ("subnormal results are computed", ("_mm_setcsr(0x9fc0)", "_mm_setcsr(0x1fc0)")),
    ("the loops round and trap as the caller does", ("_mm_setcsr(0x9fc0)", "_mm_setcsr(caller | 0x8040)")),
    ("the caller computes in the loops' mode afterwards", ("{ _mm_setcsr(caller); }", "{ (void)caller; }")),
    (
        "the caller's mode is the usual one afterwards",
        ("{ _mm_setcsr(caller); }", "{ (void)caller; _mm_setcsr(0x1f80); }"),
    ),
    (
        "the caller's flags are those of the loops",
        ("{ _mm_setcsr(caller); }", "{ _mm_setcsr((caller & ~63u) | (_mm_getcsr() & 63)); }"),
    ),
]

MODE_OF_HANDLERS = [
    (
        "signal handlers compute in the loops' mode",
        ("            restore_float_mode(interrupt.caller_mode)\n            interrupt", "            interrupt"),
    ),
    (
        "the loops go on in the caller's mode after a signal",
        ("check_signals() != 0\n            flush_subnormals()\n", "check_signals() != 0\n"),
    ),
]

MODE_OF_CALLS = [
    ("a call does not end its mode", ("    restore_float_mode(context.caller_mode)\n", "    pass\n")),
    (
        "a call computes in the mode of its caller",
        (
            "    context.caller_mode = flush_subnormals()\n",
            "    context.caller_mode = flush_subnormals()\n    restore_float_mode(context.caller_mode)\n",
        ),
    ),
    (
        "signal handlers compute in the usual mode",
        ("        interrupt.caller_mode = context.caller_mode\n", "        interrupt.caller_mode = 0x1f80\n"),
    ),
]

MODE_OF_PYTHON_CALLS = [
    (
        "the mode stays after a call",
        ("            call.losses = cost\n    end_context(&context)\n", "            call.losses = cost\n"),
    ),
]


MODE_OF_PYTHON = [
    (
        "the mode stays after finish",
        (
            "        finish_gradient(p, &params[0], <const sum_t *>&sums[0], weight, l2, &part, &out[0])\n"
            "        restore_float_mode(mode)\n",
            "        finish_gradient(p, &params[0], <const sum_t *>&sums[0], weight, l2, &part, &out[0])\n",
        ),
    ),
    (
        "finish computes in the mode of its caller",
        (
            "        mode = flush_subnormals()\n"
            "        finish_gradient(p, &params[0], <const sum_t *>&sums[0], weight, l2, &part, &out[0])\n",
            "        mode = flush_subnormals()\n"
            "        restore_float_mode(mode)\n"
            "        finish_gradient(p, &params[0], <const sum_t *>&sums[0], weight, l2, &part, &out[0])\n",
        ),
    ),
    (
        "the mode stays after cost",
        (
            "        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)\n        restore_float_mode(mode)\n",
            "        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)\n",
        ),
    ),
    (
        "cost computes in the mode of its caller",
        (
            "        mode = flush_subnormals()\n"
            "        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)\n",
            "        mode = flush_subnormals()\n"
            "        restore_float_mode(mode)\n"
            "        total = mean_cost(&plan.plan, &params[0], losses, weight, l2)\n",
        ),
    ),
    (
        "the mode stays after an optimizer",
        (
            "            optimizer_step(&params[0], &grad[0], places, n, given)\n"
            "            restore_float_mode(mode)\n",
            "            optimizer_step(&params[0], &grad[0], places, n, given)\n",
        ),
    ),
    (
        "an optimizer computes in the mode of its caller",
        (
            "            mode = flush_subnormals()\n            correct_bias(given)\n",
            "            mode = flush_subnormals()\n"
            "            restore_float_mode(mode)\n"
            "            correct_bias(given)\n",
        ),
    ),
]

LARGE_WEIGHT = [("the inverse of a very large weight is 0", ("    if inverse < DBL_MIN:", "    if False:"))]

MODE_OF_C = [
    (
        "the mode stays after forward, for C",
        (
            "        forward_rows(&context, params, &batch, out)\n"
            "        open_guards(p, workspace_of(&context, params))\n"
            "        end_context(&context)\n",
            "        forward_rows(&context, params, &batch, out)\n"
            "        open_guards(p, workspace_of(&context, params))\n",
        ),
    ),
    (
        "the mode stays after backward, for C",
        (
            "        accumulate_rows(&context, params, &batch, &chunks, &to, 0)\n"
            "        open_guards(p, workspace_of(&context, params))\n"
            "        end_context(&context)\n",
            "        accumulate_rows(&context, params, &batch, &chunks, &to, 0)\n"
            "        open_guards(p, workspace_of(&context, params))\n",
        ),
    ),
    (
        "the mode stays after accumulate, for C",
        (
            "    loss[0] += accumulate_rows(&context, params, &batch, &chunks, &to, 0)\n"
            "    open_guards(p, workspace_of(&context, params))\n"
            "    end_context(&context)\n",
            "    loss[0] += accumulate_rows(&context, params, &batch, &chunks, &to, 0)\n"
            "    open_guards(p, workspace_of(&context, params))\n",
        ),
    ),
    (
        "the mode stays after sgd_rows, for C",
        (
            "    sgd_rows(&context, params, &batch, <floating>learning_rate, loss)\n"
            "    open_guards(p, workspace_of(&context, theta))\n"
            "    end_context(&context)\n",
            "    sgd_rows(&context, params, &batch, <floating>learning_rate, loss)\n"
            "    open_guards(p, workspace_of(&context, theta))\n",
        ),
    ),
    (
        "the mode stays after finish, for C",
        (
            "    cost[0] = mean_cost(p, params, loss, weight, l2)\n    restore_float_mode(mode)\n",
            "    cost[0] = mean_cost(p, params, loss, weight, l2)\n",
        ),
    ),
    (
        "finish computes in the mode of its caller, for C",
        (
            "    mode = flush_subnormals()\n    part = all_parameters(p)\n",
            "    mode = flush_subnormals()\n    restore_float_mode(mode)\n    part = all_parameters(p)\n",
        ),
    ),
    (
        "the mode stays after gradient_descent, for C",
        (
            "    sgd_step(params, gradient, velocity, n, &given)\n    restore_float_mode(mode)\n",
            "    sgd_step(params, gradient, velocity, n, &given)\n",
        ),
    ),
    (
        "gradient_descent computes in the mode of its caller, for C",
        (
            "    mode = flush_subnormals()\n    sgd_step(params, gradient, velocity, n, &given)\n",
            "    mode = flush_subnormals()\n"
            "    restore_float_mode(mode)\n"
            "    sgd_step(params, gradient, velocity, n, &given)\n",
        ),
    ),
    (
        "the mode stays after adam, for C",
        (
            "    adam_update(params, gradient, first_moment, second_moment, n, &given)\n    restore_float_mode(mode)\n",
            "    adam_update(params, gradient, first_moment, second_moment, n, &given)\n",
        ),
    ),
    (
        "adam computes in the mode of its caller, for C",
        (
            "    mode = flush_subnormals()\n    correct_bias(&given)\n",
            "    mode = flush_subnormals()\n    restore_float_mode(mode)\n    correct_bias(&given)\n",
        ),
    ),
    (
        "a subnormal weight is accepted, for C",
        ("if not DBL_MIN <= weight < INFINITY:", "if not 0 < weight < INFINITY:"),
    ),
]

FLUSHED = [
    (
        "subnormal inputs are computed with",
        ("a, derivatives, z = [flushed(X)], [], X", "a, derivatives, z = [X], [], X"),
    ),
    ("subnormal outputs of a layer are computed", ("a.append(flushed(activation))", "a.append(activation)")),
    ("subnormal weights of rows count", ("weights = flushed(batch[2][tile])", "weights = batch[2][tile]")),
    (
        "subnormal sums of groups are kept",
        (
            "losses_of_group\n        total[1:] = flushed(total[1:] + sums)",
            "losses_of_group\n        total[1:] += sums",
        ),
    ),
    (
        "subnormal sums of tiles are kept",
        ("            sums[...] = flushed(sums)\n            losses_of_group", "            losses_of_group"),
    ),
    (
        "subnormal entries of a gradient are kept",
        ("        D_W += l2 * W\n    out[...] = flushed(out)\n", "        D_W += l2 * W\n"),
    ),
    ("a subnormal cost is kept", ("return float(flushed(np.array(J)))", "return J")),
    ("subnormal gradients are a step", ("    grad = flushed(grad)\n    if velocity", "    if velocity")),
    (
        "subnormal velocity is kept",
        ("velocity[...] = flushed(momentum * velocity + grad)", "velocity[...] = momentum * velocity + grad"),
    ),
    ("a subnormal first moment is kept", ("first_moment[...] = flushed(", "first_moment[...] = (")),
    ("a subnormal second moment is kept", ("second_moment[...] = flushed(", "second_moment[...] = (")),
    ("subnormal gradients of a trace count", ("flushed(given.output_gradient[tile])", "given.output_gradient[tile]")),
    (
        "subnormal gradients of inputs are kept",
        ("input_gradient[tile] = flushed(delta @ W)", "input_gradient[tile] = delta @ W"),
    ),
]

C_API = [
    (
        "what was in the sums is lost, for C",
        (
            "NULL, True)\n    cdef batch_t batch\n    if error != OK:\n        return error\n    batch",
            "NULL, False)\n    cdef batch_t batch\n    if error != OK:\n        return error\n    batch",
        ),
    ),
    (
        "what was in the sums is lost, for C, on the way back",
        (
            "NULL, True)\n    cdef batch_t batch\n    if error != OK:\n        return error\n    if",
            "NULL, False)\n    cdef batch_t batch\n    if error != OK:\n        return error\n    if",
        ),
    ),
    (
        "there is no input gradient, for C",
        ("batch.input_gradient = output_gradient, input_gradient", "batch.input_gradient = output_gradient, NULL"),
    ),
    (
        "an infinite weight is accepted, for C",
        ("if not 0 <= weights[i] < INFINITY:", "if not 0 <= weights[i] <= INFINITY:"),
    ),
    (
        "targets are not checked, for C",
        ("return OK if targets_valid(p, batch, params) else ERR_TARGET", "return OK"),
    ),
]

FALLBACK = [
    ("the bias is forgotten", ("z = flushed(a[-1] @ W.T + b)", "z = flushed(a[-1] @ W.T)")),
    (
        "the penalty takes the biases",
        (
            "for (D_W, _), (W, _) in zip(plan.layers(out), plan.layers(flushed(params))):\n            D_W += l2 * W\n",
            "for (D_W, D_b), (W, b) in zip(plan.layers(out), plan.layers(flushed(params))):\n"
            "            D_W += l2 * W\n            D_b += l2 * b\n",
        ),
    ),
    ("the penalty without its half", ("J += l2 / 2 * sum(", "J += l2 * sum(")),
    (
        "the sums of the bias are of the first tile",
        ("Delta_b += flushed(delta.sum(axis=0))", "Delta_b[...] = flushed(delta.sum(axis=0))"),
    ),
    (
        "the sums of a trace are of the last tile",
        ("    sums[...] = 0\n    params = flushed(params)\n    W =", "    params = flushed(params)\n    W ="),
    ),
    (
        "the sums of a group are added to those before",
        ("        sums[...] = losses_of_group = 0.0\n", "        losses_of_group = 0.0\n"),
    ),
    (
        "the weight is forgotten in delta",
        (
            "losses, delta = weigh(losses, weights), weigh(delta, of_delta)",
            "losses = weigh(losses, weights)",
        ),
    ),
    ("rows of no weight are kept", ("if len(kept) == len(X):", "if True:")),
    ("the derivative of the layer above", ("a[l], derivatives[l - 1], delta @ W)", "a[l], derivatives[l], delta @ W)")),
    (
        "the derivative of silu at infinity is NaN",
        (
            "sigmoid(z) + np.where(np.isinf(z), 0, z) * sigmoid(z) * sigmoid(-z)",
            "sigmoid(z) + z * sigmoid(z) * sigmoid(-z)",
        ),
    ),
    (
        "the derivative of gelu at infinity is NaN",
        ("normal_cdf(z) + np.where(np.isinf(z), 0, z) * normal_pdf(z)", "normal_cdf(z) + z * normal_pdf(z)"),
    ),
    ("gelu of -infinity is NaN", ("return np.where(z == -np.inf, 0, z) * normal_cdf(z)", "return z * normal_cdf(z)")),
    (
        "the derivative of sigmoid cancels",
        ("(sigmoid, lambda z: sigmoid(z) * sigmoid(-z))", "(sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z)))"),
    ),
    (
        "relu has a derivative at 0",
        ("(lambda z: np.maximum(z, 0), lambda a: a > 0)", "(lambda z: np.maximum(z, 0), lambda a: a >= 0)"),
    ),
    (
        "leaky_relu has the derivative 1 at 0",
        ("lambda a: np.where(a > 0, 1, LEAKY_SLOPE)", "lambda a: np.where(a >= 0, 1, LEAKY_SLOPE)"),
    ),
    (
        "the kink of huber at twice its delta",
        ("np.clip(a - y, -delta, delta)", "np.clip(a - y, -2 * delta, 2 * delta)"),
    ),
    (
        "the softmax's Jacobian cancels",
        (
            "        delta[row, top] = -np.sum(delta, axis=1)\n        return delta\n    if derivative",
            "        return delta\n    if derivative",
        ),
    ),
    (
        "the softmax's Jacobian hides NaN",
        ("        delta[row, top] *= 0  # a NaN stays one\n", "        delta[row, top] = 0\n"),
    ),
    ("cross_entropy hides NaN", ("        delta[row, y] *= 0  # a NaN stays one\n", "        delta[row, y] = 0\n")),
    (
        "an infinite logit of a target 0 costs NaN",
        ("return np.where(y == 0, 0, y * (log_sum - z)), delta", "return y * (log_sum - z), delta"),
    ),
    ("a right infinite logit costs NaN", ("np.where(wrong == 0, 0, wrong * np.abs(z))", "wrong * np.abs(z)")),
    ("the last parameters are finite", ("if np.isfinite(params).all():", "if True:")),
    (
        "what was in the total counts",
        (
            "        total[...] = 0\n    for group in groups(plan, len(batch[0])",
            "        pass\n    for group in groups(plan, len(batch[0])",
        ),
    ),
    ("the steps of Adam count from 0", ("count = update.optimizer.steps + 1", "count = update.optimizer.steps")),
    ("Adam's mean is not corrected", ("rate = learning_rate / (1 - beta1**step)", "rate = learning_rate")),
    (
        "Adam's square is corrected by the first step",
        ("second_moment / (1 - beta2**step)", "second_moment / (1 - beta2)"),
    ),
    (
        "Nesterov's momentum is the plain one",
        ("learning_rate * (grad + momentum * velocity if nesterov else velocity)", "learning_rate * velocity"),
    ),
    (
        "the mean weight is forgotten in the gradient",
        ("finish(plan, params, grad, m * mean_weight, l2, grad)", "finish(plan, params, grad, m, l2, grad)"),
    ),
    ("derivatives at a pole are exact", ("np.abs(dA) > LARGE_OUTPUT_GRADIENT", "np.isnan(derivative)")),
    (
        "every derivative of outputs is that of the rounded ones",
        ("np.abs(dA) > LARGE_OUTPUT_GRADIENT", "derivative >= 0"),
    ),
    ("a cut of other rows is accepted", ("if bounds[-1] != n_rows:", "if False:")),
    (
        "the input gradient of a tile is that of the last layer",
        ("input_gradient[tile] = flushed(delta @ W)", "input_gradient[...] = flushed(delta @ W)[:1]"),
    ),
    (
        "the total is that of the last group",
        (
            "losses_of_group\n        total[1:] = flushed(total[1:] + sums)",
            "losses_of_group\n        total[1:] = flushed(sums)",
        ),
    ),
    ("the losses are those of the last group", ("total[0] += losses_of_group", "total[0] = losses_of_group")),
    (
        "a group is its last chunk",
        (
            "chunks = range(first, min(first + plan.group_size, end - begin))",
            "chunks = range(min(first + plan.group_size, end - begin) - 1, min(first + plan.group_size, end - begin))",
        ),
    ),
    ("groups count from the range's rows", ("- begin * m // n_chunks for i", "for i")),
    ("the losses before do not count", ("    total = before\n", "    total = 0.0\n")),
]

#: Derivatives row by row, and backward passes from any output gradient.
FALLBACK_DERIVATIVES = [
    (
        "what was in the total counts, on the way back",
        (
            "        total[...] = 0\n    for group in groups(plan, len(given.X)",
            "        pass\n    for group in groups(plan, len(given.X)",
        ),
    ),
    (
        "the total is that of the last group, on the way back",
        (
            "            sums[...] = flushed(sums)\n        total[1:] = flushed(total[1:] + sums)",
            "            sums[...] = flushed(sums)\n        total[1:] = flushed(sums)",
        ),
    ),
    (
        "the rows kept are those of the first block",
        ("slice(given.first + tile.start, given.first + tile.stop)", "tile"),
    ),
    ("every output gradient is one of the outputs", ("    if not given.of_logits:\n", "    if True:\n")),
    (
        "the sums of a group are added to those before, on the way back",
        ("        sums[...] = 0\n        for tile in group:", "        for tile in group:"),
    ),
    ("the derivative of the layer above, for rows", ("a[l], derivatives[l - 1], dA)", "a[l], derivatives[l], dA)")),
    (
        "deltas of the first rows alone",
        ("            out[l][tile] = delta\n", "            out[l][: len(delta)] = delta\n"),
    ),
    ("norms without the bias", ("of_delta * (1 + of_inputs)", "of_delta * of_inputs")),
    ("norms of the first layer alone", ("        squares += of_delta", "        squares = of_delta")),
    ("norms are squared", ("norms: Floats = np.sqrt(squares)", "norms: Floats = squares")),
    (
        "gradients of rows without the biases",
        ("        out[:, middle : ends[l]] = d\n", "        out[:, middle : ends[l]] = 0\n"),
    ),
    (
        "weights of rows are transposed",
        ("(d[:, :, np.newaxis] * a[l][:, np.newaxis, :])", "(d[:, np.newaxis, :] * a[l][:, :, np.newaxis])"),
    ),
    ("outputs in reverse", ("            d[:, k] = 1\n", "            d[:, -1 - k] = 1\n")),
    ("Jacobians have the other sign", ("            d[:, k] = 1\n", "            d[:, k] = -1\n")),
    (
        "Jacobians are those of the logits",
        ("derivatives, activation_backward(plan.activations[-1], a[-1], derivatives[-1], d)", "derivatives, d"),
    ),
    ("the bias of a direction is forgotten", ("dz = flushed(a[l] @ dW.T + db)", "dz = flushed(a[l] @ dW.T)")),
    ("the direction of the parameters is overwritten", ("dz = flushed(dz + d @ W.T)", "dz = flushed(d @ W.T)")),
    (
        "directions of the first rows alone",
        ("d = None if d_X is None else d_X[tile]", "d = None if d_X is None else d_X[: tile.stop - tile.start]"),
    ),
    (
        "a tangent's derivatives are those of the last layer",
        (
            "activation_backward(plan.activations[l], a[l + 1], derivatives[l], dz)",
            "activation_backward(plan.activations[l], a[l + 1], derivatives[-1], dz)",
        ),
    ),
    ("subnormal directions count", ("None if direction is None else flushed(direction)", "direction")),
    ("subnormal tangents are kept", ("dz = flushed(dz + d @ W.T)", "dz = dz + d @ W.T")),
    (
        "subnormal gradients of rows are kept",
        (
            "        out[:, middle : ends[l]] = d\n    out[...] = flushed(out)\n",
            "        out[:, middle : ends[l]] = d\n",
        ),
    ),
    (
        "subnormal weights count in Jacobians",
        (
            "params, out = flushed(params), out.reshape(len(X), plan.sizes[-1], plan.sizes[0])",
            "out = out.reshape(len(X), plan.sizes[-1], plan.sizes[0])",
        ),
    ),
]

VALIDATION = [
    ("X of the first rows for all", ("rows(self.X, start, stop, dtype)", "rows(self.X, 0, stop - start, dtype)")),
    ("targets of the first rows for all", ("rows(self.Y, start, stop, dtype", "rows(self.Y, 0, stop - start, dtype")),
    (
        "weights of the first rows for all",
        ("rows(self.sample_weight, start, stop, dtype)", "rows(self.sample_weight, 0, stop - start, dtype)"),
    ),
    ("sample weights are left out", ("len(X), weights), weights, norm)", "len(X), weights), None, norm)")),
    (
        "targets of rows of no weight are checked",
        ("len(X), weights), weights, norm)", "len(X), None), weights, norm)"),
    ),
    ("X of any width is taken", ("if count != columns:", "if False:")),
    ("targets of any width are taken", ("elif Y.ndim != 2 or Y.shape[1] != n_outputs:", "elif Y.ndim != 2:")),
    ("fewer targets than rows are taken", ("if len(Y) != n_rows:", "if len(Y) > n_rows:")),
    ("more targets than rows are taken", ("if len(Y) != n_rows:", "if len(Y) < n_rows:")),
    ("a label of the number of classes", ("return 0, net._n_targets - 1\n", "return 0, net._n_targets\n")),
    ("a label below 0", ("bool(Y.min() >= least and Y.max() <= limit)", "bool(Y.max() <= limit)")),
    (
        "NaN hides a target out of range",
        ("bool(Y.min() >= least and Y.max() <= limit)", "not bool(Y.min() < least or Y.max() > limit)"),
    ),
    (
        "a negative weight is accepted",
        ("(not np.isfinite(total) or (weights.min() < 0 and not signed))", "not np.isfinite(total)"),
    ),
    (
        "the sum of the weights is of the first ones",
        (
            "for i in range(0, n_rows, step))",
            "for i in range(0, min(n_rows, step), step))",
        ),
    ),
    ("the sum of no weights is 1", ("return None, float(n_rows)", "return None, 1.0")),
    ("weights of any number are taken", ("if weights.ndim == 1 and len(weights) != n_rows:", "if False:")),
]

CHECKED_WEIGHTS = [
    (
        "sums of signed weights are divided by the weights",
        ("return weights, float(n_rows) if signed else total", "return weights, total"),
    ),
    ("sums are divided by the weights of all outputs", (" / columns + 0.0", " + 0.0")),
]

IN_PLACE = [
    (
        "targets and weights need not be read in place",
        ("in zip(self.arrays, self.dtypes", "in zip(self.arrays[:1], self.dtypes"),
    ),
    (
        "sample weights need not be read in place",
        ("in zip(self.arrays, self.dtypes", "in zip(self.arrays[:2], self.dtypes"),
    ),
    (
        "X need not be read in place",
        ("zip(self.arrays, self.dtypes(dtype))", "zip(self.arrays[1:], self.dtypes(dtype)[1:])"),
    ),
    ("another dtype is read in place", ("array.dtype == dtype and flags.c_contiguous", "flags.c_contiguous")),
    ("rows apart are read in place", ("dtype and flags.c_contiguous and flags", "dtype and flags")),
    ("misaligned rows are read in place", ("flags.c_contiguous and flags.aligned\n", "flags.c_contiguous\n")),
    ("large maps are read in place", (" and _large_map(array) is None", "")),
]


NETWORK = [
    (
        "out may overlap X",
        ("(len(X), self.sizes[-1]), self.dtype, params, X)", "(len(X), self.sizes[-1]), self.dtype, params)"),
    ),
    (
        "out may overlap X, for Jacobians",
        ("n_outputs, columns), self.dtype, params, X)", "n_outputs, columns), self.dtype, params)"),
    ),
    (
        "out may overlap rows to learn from",
        ("check_out(out, shape, self.dtype, params, *batch.arrays)", "check_out(out, shape, self.dtype, params)"),
    ),
    (
        "out may overlap rows to learn from, for the gradient of all",
        ("params.shape, self.dtype, params, *batch.arrays)", "params.shape, self.dtype, params)"),
    ),
    (
        "tangents of the first block alone",
        ("out = A[r.start : r.stop], dA[r.start : r.stop]", "out = A[r.start : r.stop], dA[: r.stop - r.start]"),
    ),
    (
        "the outputs of tangents of the first block alone",
        ("out = A[r.start : r.stop], dA[r.start : r.stop]", "out = A[: r.stop - r.start], dA[r.start : r.stop]"),
    ),
    ("directions of any number of rows are taken", ("if len(sources[1]) != len(X):", "if False:")),
    (
        "the direction of the parameters is left out",
        ("directions = d_params, d[0] if d else None", "directions = None, d[0] if d else None"),
    ),
    (
        "Jacobians of the first block alone",
        (
            "params, x, filled[r.start : r.stop].reshape(-1), used)",
            "params, x, filled[: r.stop - r.start].reshape(-1), used)",
        ),
    ),
    (
        "gradients of rows of the first block alone",
        (
            "params, block, filled[r.start : r.stop].reshape(-1), used)",
            "params, block, filled[: r.stop - r.start].reshape(-1), used)",
        ),
    ),
    (
        "rows to learn from are those of the first block",
        ("block = batch.block(r.start, r.stop, self.dtype)", "block = batch.block(0, r.stop - r.start, self.dtype)"),
    ),
]

TRACE = [
    (
        "a trace takes what its parameters become",
        ("net.n_parameters, net.dtype).copy()", "net.n_parameters, net.dtype)[:]"),
    ),
    (
        "the logits of a trace can be written",
        ("(*self._kept.activations[1:], self._kept.logits)", "self._kept.activations[1:]"),
    ),
    (
        "deltas of the first block alone",
        ("[delta[r.start : r.stop] for delta in found]", "[delta[: r.stop - r.start] for delta in found]"),
    ),
    (
        "out may overlap X",
        ("net.dtype, params, given.X, given.output_gradient)", "net.dtype, params, given.output_gradient)"),
    ),
    ("out may overlap the output gradient", ("params, given.X, given.output_gradient)", "params, given.X)")),
    (
        "out may overlap the parameters",
        ("net.dtype, params, given.X, given.output_gradient)", "net.dtype, given.X, given.output_gradient)"),
    ),
    ("output gradients of other rows are taken", ("    if len(checked) != len(X):", "    if False:")),
    (
        "every output gradient is one of the outputs",
        ("Backward(X, checked, bool(logits), None, kept)", "Backward(X, checked, False, None, kept)"),
    ),
    ("a trace computes the forward pass again", ("output_gradient, logits, self._kept)", "output_gradient, logits)")),
    (
        "the gradient is a mean over rows",
        ("params, sums, 1.0, 0.0, filled)", "params, sums, float(len(given.X)), 0.0, filled)"),
    ),
]

ARCHITECTURE = [
    (
        "biases come before weights",
        ("Layer(weights.reshape(n_out, n_in), bias)", "Layer(weights[::-1].reshape(n_out, n_in), bias)"),
    ),
]

CHUNKS = [
    (
        "chunks of equal rows, the rest forgotten",
        (
            "ChunkRange(begin, end, begin * n_rows // n, end * n_rows // n)",
            "ChunkRange(begin, end, begin * (n_rows // n), end * (n_rows // n))",
        ),
    ),
    (
        "a block's losses are not added to those before it",
        ("core.loss(plan, params, block, losses, cut,", "core.loss(plan, params, block, 0.0, cut,"),
    ),
    (
        "each block is cut as if it were all rows, for the sums",
        ("cut = n_rows, n_chunks, r.begin, r.end", "cut = r.stop - r.start, r.end - r.begin, 0, r.end - r.begin"),
    ),
    (
        "each block is cut as if it were all rows, for the losses",
        (
            "cut = n_rows, count_chunks(plan, n_rows), r.begin, r.end",
            "cut = r.stop - r.start, r.end - r.begin, 0, r.end - r.begin",
        ),
    ),
    (
        "two groups have no total",
        (
            "if n_chunks > plan.group_size else None\n    losses",
            "if n_chunks > 2 * plan.group_size else None\n    losses",
        ),
    ),
    (
        "two groups have no total, on the way back",
        (
            "if n_chunks > plan.group_size else None\n    if",
            "if n_chunks > 2 * plan.group_size else None\n    if",
        ),
    ),
    (
        "each block is cut as if it were all rows, on the way back",
        ("(n_rows, n_chunks, r.begin, r.end), used)", "(r.stop - r.start, r.end - r.begin, 0, r.end - r.begin), used)"),
    ),
    ("no rows leave what was in out", ("    if n_rows == 0:\n        out[...] = 0\n", "")),
    (
        "the input gradient is that of the first block",
        ("input_gradient[r.start : r.stop]", "input_gradient[: r.stop - r.start]"),
    ),
    (
        "what is kept is that of the first block",
        ("of_logits, to, kept, first + r.start)", "of_logits, to, kept, first)"),
    ),
    (
        "the output gradient is that of the first block",
        (
            "rows(array, r.start, r.stop, dtype) for array in (X, output_gradient)",
            "rows(array, 0, r.stop - r.start, dtype) for array in (X, output_gradient)",
        ),
    ),
    (
        "rows of matrices are those of the first block",
        (
            "rows(source, r.start, r.stop, dtype) for source in sources",
            "rows(source, 0, r.stop - r.start, dtype) for source in sources",
        ),
    ),
    (
        "matrices of another dtype are read in place",
        ("all(is_read_in_place(source, dtype) for source in sources)", "True"),
    ),
    ("no rows leave what was in the sums", ("    if n_rows == 0:\n        sums[...] = 0\n", "")),
    (
        "the sums take in the losses",
        ("return losses, sums if total is None else total[1:]", "return losses, sums if total is None else total[:-1]"),
    ),
    (
        "the sums take in the losses, on the way back",
        ("return out if total is None else total[1:]", "return out if total is None else total[:-1]"),
    ),
    (
        "blocks are no whole groups",
        ("max(BLOCK_BYTES // group, 1) * plan.group_size", "max(BLOCK_BYTES // group, 1)"),
    ),
    ("rows that are converted are one block", ("    if in_place:\n", "    if True:\n")),
    (
        "the pages of learnt rows are kept",
        ("cut, used))\n        drop_batch_pages(batch, r)\n", "cut, used))\n"),
    ),
    (
        "the pages of rows are kept after their losses",
        ("threads, 1)))\n        drop_batch_pages(batch, r)\n", "threads, 1)))\n"),
    ),
    ("a forward pass is worth as many threads", ("plan.row_work * passes //", "plan.row_work * 3 //")),
    (
        "as many threads as are asked for",
        ('most = min(check_int("threads", threads, 1), most)', 'most = check_int("threads", threads, 1)'),
    ),
    ("more threads than processors", ("else min(most, _dispatch.most_threads())", "else most")),
    (
        "by default all threads for little work",
        ("return 1 if most == 1 else min(_dispatch.default_threads(), most)", "return _dispatch.default_threads()"),
    ),
    ("by default as many threads as the work is worth", ("min(_dispatch.default_threads(), most)", "most")),
    ("fewer threads than the work is worth", ("// (3 * THREAD_WORK), 1)", "// (6 * THREAD_WORK), 1)")),
    ("one thread for too many rows", ("(2 * THREAD_WORK - 1)", "(3 * THREAD_WORK - 1)")),
]

TRAINING = [
    (
        "the weight of a batch is its own",
        ("total = len(batch.X) * self.mean_weight", "total = float(batch.sample_weight.sum())"),
    ),
    (
        "parameters that are not finite are kept as the last finite ones",
        ("if np.isfinite(self.before).all():", "if True:"),
    ),
    ("the cost of an epoch is not by rows", ("costs += (last - first) * cost", "costs += batch_size * cost")),
    ("tolerance counts the other way", ("if cost < best_cost - tolerance or", "if cost < best_cost + tolerance or")),
    (
        "patience ends an epoch late",
        ("elif epoch - history.best_epoch >= patience:", "elif epoch - history.best_epoch > patience:"),
    ),
    ("the best parameters are not kept", ("                    best_params[...] = params\n", "")),
    ("half a step stays after an interrupt", ("        if self.stepping:\n", "        if False:\n")),
    ("rows are never shuffled", ("if shuffle and batch_size < m else None", "if False else None")),
    (
        "the validation cost takes the penalty",
        ("cost = net.cost(params, Xv, Yv, 0.0, wv, threads)", "cost = net.cost(params, Xv, Yv, l2, wv, threads)"),
    ),
    (
        "an optimizer with a step of its own goes to the core",
        (
            '            and "step" not in vars(self.optimizer)  # replaced by the caller, to clip '
            "gradients for example\n",
            "",
        ),
    ),
    (
        "parameters that are not finite after an epoch pass, in the core's loop",
        (
            "            done += first\n        if not np.isfinite(self.params).all():",
            "            done += first\n        if False:",
        ),
    ),
]

TRAINING_DATA = [
    ("data of any size are copied", ("if size > MAX_CONVERTED_BYTES or any", "if any")),
    ("large maps are copied", (" or any(_validation.is_large_map(array) for array, _ in others)", "")),
    ("nothing is converted before the first epoch", ("    batch = _converted(batch, net.dtype)\n", "")),
    (
        "all that is native counts as copied",
        ("for array, of_core in others)", "for array, of_core in zip(batch.arrays, batch.dtypes(dtype)))"),
    ),
    ("the costs of a block are those of the epoch", ("threads, costs)", "threads, 0.0)")),
    ("a step is counted from its block", ("(done + first) // batch_size", "first // batch_size")),
    (
        "blocks cut batches",
        (
            "max(_chunks.BLOCK_BYTES // row_bytes // batch_size, 1) * batch_size",
            "max(_chunks.BLOCK_BYTES // row_bytes, 1)",
        ),
    ),
    (
        "blocks are in the order of the data",
        ("slice(first, first + size) if order is None else", "slice(first, first + size) if True else"),
    ),
]

POPULATION = [
    ("blocks of networks have one", ("step = max(count, 1)", "step = 1"), "it costs time alone"),
    ("one thread too many for few networks", ("count >= NETWORKS_PER_THREAD * used", "True")),
    ("large networks are computed by one thread", ("and n_rows <= MAX_SERIAL * serial", "")),
    ("rows of any size are converted at once", (" and converted <= _chunks.BLOCK_BYTES", "")),
    ("all networks are converted at once", ("step = max(_chunks.BLOCK_BYTES // max(size, 1), 1)", "pass")),
    ("labels of each network are for all", ("(2 if labels else 3)", "3")),
]

HEADS_LOOP = [
    (
        "all heads read the columns of the first",
        ("copy_rows(rows + head.first, last.stride", "copy_rows(rows, last.stride"),
    ),
    ("all heads write the columns of the first", ("head.layer.stride, rows + head.first,", "head.layer.stride, rows,")),
    ("places of a head overlap", ("size // HEAD_BLOCKS))", "size // HEAD_BLOCKS // 2))")),
    (
        "only the first rows of a tile are activated",
        ("        first += count\n\n\ncdef void outputs", "        return\n\n\ncdef void outputs"),
    ),
    (
        "the derivatives of a head are not kept",
        ("if not head.layer.keeps_derivative or kept == NULL:", "if head.layer.keeps_derivative or kept == NULL:"),
    ),
    (
        "only the first rows of a tile get dLoss/dz",
        ("        first += count\n\n\ncdef inline void head", "        return\n\n\ncdef inline void head"),
    ),
    ("a gradient by the caller is like the loss's own", ("    if of_caller:\n", "    if False:\n")),
    ("all heads have the targets of the first", ("part.targets + head.first_target", "part.targets")),
    ("all heads have the weights of the first", ("part.output_weight + head.first_target", "part.output_weight")),
    (
        "weights of classes are weights of what they are no part of",
        ("head.parameter != 0 or part.output_weight != NULL", "head.parameter != 0"),
    ),
    ("the targets of heads are not smoothed", ("head.parameter != 0 or part.output_weight", "part.output_weight")),
    ("a loss of outputs gets logits", ("        if head.canonical == IDENTITY:\n", "        if False:\n")),
    ("dLoss/da of a head is its dLoss/dz", ("if head.layer.activation != head.canonical:", "if False:")),
    ("the weight of a loss is not in its gradient", ("                d[i] *= weight", "                d[i] *= 1")),
    ("the weight of a loss is not in the cost", ("total += head.weight * loss", "total += loss")),
    ("the loss of rows is that of all that follow", ("    own.rows = rows\n", "    pass\n")),
]

HEADS_PLAN = [
    ("all heads begin with the first output", ("        first += head.layer.n_out\n", "        pass\n")),
    ("heads have a target for each output", ("plan.n_targets += head.n_targets", "plan.n_targets += head.layer.n_out")),
    (
        "what is kept is what the last head keeps",
        ("last.keeps_derivative |= head.layer", "last.keeps_derivative = head.layer"),
    ),
    (
        "the losses of heads take outputs",
        ("plan.n_targets, plan.from_logits = 0, True", "plan.n_targets, plan.from_logits = 0, False"),
    ),
    ("a head without a weight", ("or not 0 < weight < INFINITY:", "or not 0 <= weight < INFINITY:")),
    ("a head with any activation", ("return takes_output(loss, activation) and parameter", "return parameter")),
]

HEADS_TARGETS = [
    (
        "single outputs have no weights of their own",
        ("if n == 1 and of_outputs == NULL and rows >=", "if n == 1 and rows >="),
    ),
    (
        "targets are in the range of the head before",
        ("first = i * plan.n_targets + head.first_target", "first = i * plan.n_targets"),
    ),
    (
        "the targets of heads have no range",
        ("        return heads_valid(plan, batch, begin, end, tag)\n", "        return True\n"),
    ),
]

HEADS_TILES = [
    ("threads activate parts of rows of heads", (" or <int>layer.activation == HEADS", "")),
]

HEADS_C = [
    ("heads with more outputs than there are", ("return OK if total == 0 else ERR_SIZES", "return OK")),
    (
        "heads without the activations of hidden layers",
        ("        kinds[l] = activations[l]\n", "        kinds[l] = 0\n"),
    ),
    (
        "a plan with less memory than its heads",
        ("size < plan_bytes_heads(n_layers, n_heads):", "size < plan_bytes(n_layers):"),
    ),
    ("one parameter for the losses of heads", ("<int>p.loss == HEADS or not", "not")),
]

HEADS_NAMES = [
    ("heads may leave outputs out", ("    if total != n_outputs:", "    if total > n_outputs:")),
    (
        "equal but for their heads",
        ("return self.sizes, self.hidden, self.heads,", "return self.sizes, self.hidden, len(self.heads),"),
    ),
    ("a weight is lost in a pickle", ("    if head.weight != 1:\n", "    if False:\n")),
    (
        "an activation is lost in a pickle",
        ("    if head.output != CANONICAL_OUTPUT.get(head.loss):\n", "    if False:\n"),
    ),
    ("a single weighted head is a plain network", ("len(heads) > 1 or heads[0].weight != 1", "len(heads) > 1")),
    (
        "all heads are initialized with the rows of the first",
        ("            first += head.n_outputs\n        for weights", "        for weights"),
    ),
    ("grown outputs are of no head", ("count + sizes[-1] - self.sizes[-1]", "count")),
    (
        "options for no head in particular are ignored",
        (
            '        if value is not None:\n            raise ValueError(f"{name} must be given',
            '        if False:\n            raise ValueError(f"{name} must be given',
        ),
    ),
]

HEADS_PYTHON = [
    (
        "all heads have the outputs of the first",
        ("first, first_target = outputs.stop, targets.stop", "first_target = targets.stop"),
    ),
    (
        "all heads have the targets of the first",
        ("first, first_target = outputs.stop, targets.stop", "first = outputs.stop"),
    ),
    (
        "weights of outputs are those of the first head",
        ("weights[:, targets] if weights is not None and", "weights[:, : head.n_targets] if weights is not None and"),
    ),
    ("the weight of a loss is not in the cost", ("total += plan.dtype.type(head.weight) * losses", "total += losses")),
    (
        "the weight of a loss is not in its gradient",
        ("deltas.append(plan.dtype.type(head.weight) * delta)", "deltas.append(delta)"),
    ),
    ("blocks of activations overlap", ("yield name, slice(end - count, end)", "yield name, slice(0, count)")),
    (
        "a gradient by the caller is like the loss's own",
        ("return backward_by_blocks(output_backward,", "return backward_by_blocks(activation_backward,"),
    ),
]

HEADS_CHECKED = [
    ("targets of heads have the range of the first", ("    if len(limits) == 1:\n", "    if True:\n")),
]

POPULATION_LOOP = [
    (
        "all networks have the rows of the first",
        ("        rows.X = <const floating *>batch.X + first * plan.n_inputs\n", "        pass\n"),
    ),
    ("all networks have the labels of the first", ("rows.labels = batch.labels + first", "pass")),
    ("all networks have the targets of the first", ("+ first * plan.n_targets\n    return", "\n    return")),
    (
        "a thread's last networks are left out",
        ("min(first + size, population.count)", "min(first + size - 1, population.count)"),
    ),
    ("networks have no penalty", ("to.l2 = population.weight, population.l2", "to.l2 = population.weight, 0")),
    (
        "threads take the same networks",
        ("take_piece(&context.shared.team) if context.size > 1 else piece", "piece"),
        "each then computes all, with the same bits",
    ),
]

ACCUMULATOR = [
    ("a merge overwrites", ("self._buffer += other.buffer", "self._buffer[...] = other.buffer")),
    ("an addition overwrites", ("self._buffer += total  #", "self._buffer[...] = total  #")),
    (
        "rows and weight are exchanged",
        ("total[:3] = losses, weight, len(batch.X)", "total[:3] = losses, len(batch.X), weight"),
    ),
    ("out may overlap the buffer", ("net.dtype, params, self.buffer)", "net.dtype, params)")),
    ("the caller's memory is copied", ("shape, _validation.FLOAT64)", "shape, _validation.FLOAT64).copy()")),
    ("a copy shares the buffer", ("made.buffer[...] = sums", "made._buffer = sums")),
    ("a buffer can be replaced", ("if value is not self._buffer:", "if False:")),
    ("memory may be merged with itself", ("if _validation.overlap(self._buffer, other._buffer):", "if False:")),
]

GROWN = [
    ("an optimizer's state is lost", ("self._copy_into(larger, state, zeros)", "zeros")),
    (
        "a seed draws the weights of old outputs",
        ("weights[n_out:, :n_in] = drawn[n_out:, :n_in]", "weights[:, :n_in] = drawn[:, :n_in]"),
    ),
    (
        "a seed draws the weights of new inputs",
        ("weights[n_out:, :n_in] = drawn[n_out:, :n_in]", "weights[n_out:] = drawn[n_out:]"),
    ),
]

GROWN_VECTORS = [
    ("new inputs come first", ("new.weights[:n_out, :n_in]", "new.weights[:n_out, -n_in:]")),
    ("the biases of new outputs come first", ("new.bias[:n_out] =", "new.bias[-n_out:] =")),
]

#: The others of the file build packages.
TABLE_TESTS = " ".join(
    f"embedding::test_functions_{name}"
    for name in (
        "accumulate_more_than_a_tile_or_a_chunk",
        "backward",
        "errors",
        "forward_and_accumulate",
        "sgd_rows",
    )
)

MODE_TESTS = " ".join(
    f"embedding::test_functions_{name}"
    for name in (
        "leave_the_mode_alone",
        "refuse_a_subnormal_weight",
        "return_no_subnormal_number",
        "take_subnormal_numbers_for_zero",
    )
)

DERIVATIVE_TESTS = "embedding::test_functions_derivatives embedding::test_the_parameter_of_a_loss"

LAYOUT_TESTS = " ".join(
    f"layout::test_{name}"
    for name in ("random_networks_against_what_the_loops_write", "the_rows_of_a_tile_do_not_depend_on_the_caches")
)

#: Other tests give a loss its usual parameter, with which rates and powers may be equal.
PARAMETER_TEST = "found::test_the_parameter_of_a_loss_against_complex_steps"

TEAM_TESTS = " ".join(
    f"embedding_python::test_threads_{name}" for name in ("end_with_the_call", "of_a_team", "that_cannot_be_started")
)

SKLEARN_EPOCHS = (
    ("epsilon beside the corrected mean", ("epsilon / math.sqrt(1 - beta2 ** (self.steps + 1))", "epsilon")),
    ("epsilon of the step before", ("beta2 ** (self.steps + 1)", "beta2 ** max(self.steps, 1)")),
    ("the velocity keeps no rates", ("                velocity *= ratio", "                velocity *= 1")),
    (
        "alpha by the rows of a whole batch",
        ("self.penalties.alpha / (n * mean_weight)\n", "self.penalties.alpha / (self.batch_size * mean_weight)\n"),
    ),
    ("alpha by the rows, not their weights", ("l2 = penalties.alpha / total", "l2 = penalties.alpha / n")),
    ("one call over the short batch", ("min((m - first) // self.batch_size or 1, self.max_steps)", "self.max_steps")),
    (
        "the mean weight of all rows",
        ("mean_weight = float(weights.mean())", "mean_weight = float(self.rows.sample_weight.mean())"),
    ),
    ("batches count alike", ("costs = total + n * loss", "costs = total + loss")),
    (
        "the penalty of biases, too",
        ("        weights = self.params * self.weights_mask\n", "        weights = self.params\n"),
    ),
    ("L1 shrinks biases", ("by * self.weights_mask, 0)", "by, 0)")),
    (
        "L1 overshoots 0",
        (
            "np.maximum(np.abs(self.params) - by * self.weights_mask, 0)",
            "(np.abs(self.params) - by * self.weights_mask)",
        ),
    ),
    ("L1 not by the rows", ("current_learning_rate * penalties.l1 / total)", "current_learning_rate * penalties.l1)")),
    (
        "decay of biases",
        (
            "penalties.weight_decay * self.weights_mask",
            "penalties.weight_decay",
        ),
    ),
    (
        "decay without the rate",
        ("params *= 1 - optimizer.current_learning_rate * penalties", "params *= 1 - penalties"),
    ),
    ("gradients are not clipped", ("grad *= penalties.clip_norm / norm", "grad *= 1")),
    (
        "short gradients are stretched",
        (":= float(np.linalg.norm(grad))) > penalties.clip_norm", ":= float(np.linalg.norm(grad))) > 0"),
    ),
    ("cosine of half the way", ("math.cos(math.pi * done)) / 2,", "math.cos(math.pi * done / 2)) / 2,")),
    ("one cycle without its rise", ("_between(1 / 25, 1.0, done / 0.3)", "_between(1.0, 1.0, done / 0.3)")),
    ("a step less", ("0.1 ** min(int(3 * done), 2)", "0.1 ** min(int(2 * done), 2)")),
)
SKLEARN_BASE = (
    (
        "weights drawn transposed",
        (
            "self._random_state.uniform(-bound, bound, (n_in, n_out))",
            "self._random_state.uniform(-bound, bound, (n_out, n_in)).T",
        ),
    ),
    ("one bound for all activations", ("2.0 if name in", "6.0 if name in")),
    (
        "the order is drawn from the start",
        ("self._random_state.shuffle(order)", "order = self._random_state.permutation(m)"),
    ),
    ("the best weights are not restored", ("            self._flat[...] = self._best\n", "            pass\n")),
    ("the best score is any better one", ("if score > self.best_validation_score_:", "if better:")),
    ("an epoch is as good as the best", ("self.loss_ > self.best_loss_ - self.tol", "self.loss_ > self.best_loss_")),
    (
        "one epoch of patience less",
        (
            "ends = self._no_improvement_count > self.n_iter_no_change",
            "ends = self._no_improvement_count >= self.n_iter_no_change",
        ),
    ),
    (
        "the rate falls to a half",
        ("self._optimizer.set_learning_rate(rate / 5.0)", "self._optimizer.set_learning_rate(rate / 2.0)"),
    ),
    ("rows of the epoch, not of all", ("(self.t_ + 1) ** self.power_t", "(self.n_iter_ * m + 1) ** self.power_t")),
    ("pickles keep a second copy", ('if name not in ("_flat", "_views")', 'if name not in ("_views",)')),
    ("replaced weights are not seen", ("all(a is b for a, b in zip(arrays, views))", "True")),
    ("members are all alike", ("random_state=int(seed)", "random_state=int(seeds[0])")),
    (
        "weights of the held-out rows are lost",
        (
            "part, (rows.X[held], y[held], None if weights is None else weights[held])",
            "part, (rows.X[held], y[held], None)",
        ),
    ),
)
SKLEARN_LEAST_SQUARES = (
    ("weights, not their roots", ("self.root = np.sqrt(weights)[:, None]", "self.root = weights[:, None]")),
    ("the gradient without the penalty", ("gradient, matrix = self.decay * x,", "gradient, matrix = 0 * x,")),
    ("the last rows twice", ("block = slice(first, first + size)", "block = slice(max(first - 1, 0), first + size)")),
    ("steps that gain nothing are taken", ("if step is None or not gain > 0:", "if step is None:")),
)
SKLEARN_LOSSES = (
    ("the sum over outputs", ("scale = 1 / n_outputs if", "scale = 1.0 if")),
    ("poisson without its constant", ("constant=lambda y, _: xlogy(y, y) - y", "constant=lambda y, _: 0 * y")),
    ("gamma without its constant", ("constant=lambda y, _: -np.log(y) - 1", "constant=lambda y, _: 0 * y")),
    ("outputs begin at another quantile", ("return _quantile(y, weights, 0.5)", "return _quantile(y, weights, 0.4)")),
    ("the start heeds no weights", ("mean = np.average(y, axis=0, weights=weights)", "mean = np.average(y, axis=0)")),
    ("exp of outputs begins at the mean", ("np.log(np.where(mean > 0, mean, 1))", "mean")),
)
SKLEARN_ESTIMATORS = (
    ("class weights alone", ("by_class if weights is None else by_class * weights", "by_class")),
    (
        "the first class by subtraction",
        ("expit(np.concatenate([-z, z], axis=1))", "np.concatenate([1 - expit(z), expit(z)], axis=1)"),
    ),
    (
        "the spread of all",
        (
            "return each.mean(axis=0), each.std(axis=0)\n        return self._predict(X)",
            "return each.mean(axis=0), each.std()\n        return self._predict(X)",
        ),
    ),
    (
        "logarithms of means of logits",
        ("return logsumexp(each, axis=0) - math.log(len(each))", "return each.mean(axis=0)"),
    ),
)

MUTANTS = [
    ("_validation.py", "contract loops chunks training", VALIDATION),
    ("network.py", "derivatives loops contract parity", NETWORK),
    ("trace.py", "derivatives contract", TRACE),
    ("architecture.py", "loops contract parity", ARCHITECTURE),
    ("_chunks.py", "chunks derivatives loops", CHUNKS),
    ("_validation.py", "weights contract", CHECKED_WEIGHTS),
    ("_validation.py", "chunks contract", IN_PLACE),
    ("training.py", "training", TRAINING),
    ("training.py", "training_data", TRAINING_DATA),
    ("_population.py", "population", POPULATION),
    ("sklearn/_epochs.py", "sklearn", SKLEARN_EPOCHS),
    ("sklearn/_base.py", "sklearn", SKLEARN_BASE),
    ("sklearn/_least_squares.py", "sklearn", SKLEARN_LEAST_SQUARES),
    ("sklearn/_losses.py", "sklearn", SKLEARN_LOSSES),
    ("sklearn/_estimators.py", "sklearn", SKLEARN_ESTIMATORS),
    ("network/population.pyx", "population", POPULATION_LOOP),
    ("network/heads.pyx", "heads autodiff hunt", HEADS_LOOP),
    ("network/plan.pyx", "heads embedding::test_functions_refuse_what_is_no_head", HEADS_PLAN),
    ("network/losses.pyx", "heads hunt", HEADS_TARGETS),
    ("network/forward.pyx", "heads hunt", HEADS_TILES),
    ("bindings/c_api.pyx", "embedding::test_functions", HEADS_C),
    ("architecture.py", "heads", HEADS_NAMES),
    ("fallback.py", "heads", HEADS_PYTHON),
    ("_validation.py", "heads", HEADS_CHECKED),
    ("accumulator.py", "accumulator contract", ACCUMULATOR),
    ("network.py", "grow", GROWN),
    ("architecture.py", "grow", GROWN_VECTORS),
    ("fallback.py", "gradients loops optimizers accumulator training found chunks", FALLBACK),
    ("fallback.py", "subnormal", FLUSHED),
    ("fallback.py", "derivatives chunks", FALLBACK_DERIVATIVES),
    ("fallback.py", f"weights gradients {PARAMETER_TEST} hunt", FALLBACK_LOSSES),
    ("simd/simd.h", "loops parity", SIMD),
    ("simd/elementary.pyx", "elementary loops gradients", ELEMENTARY),
    ("simd/simd.h", "subnormal embedding::test_functions_leave_the_flags_alone", MODE),
    ("gemm/microkernel.pyx", "loops parity", MICROKERNEL),
    ("gemm/gemm.pyx", "loops chunks parity", GEMM),
    ("gemm/small.pyx", "loops parity", SMALL),
    ("gemm/gemm.pyx", "derivatives", ADDED_PRODUCTS),
    ("gemm/small.pyx", "derivatives", ADDED_SMALL_PRODUCTS),
    ("network/plan.pyx", f"core {LAYOUT_TESTS} loops layout", LAYOUT),
    ("team/team.h", f"{TEAM_TESTS} chunks", TEAM),
    ("team/team.pyx", "chunks loops parity", SHARES),
    ("network/context.pyx", "chunks loops parity", CONTEXT),
    ("network/context.pyx", "derivatives loops", PARTS),
    ("network/activations.pyx", "loops gradients found", ACTIVATIONS),
    ("network/losses.pyx", "loops core gradients found", LOSSES),
    ("network/losses.pyx", "contract loops", TARGETS),
    ("network/losses.pyx", f"gradients weights {PARAMETER_TEST} hunt", LOSSES_WITH_MORE),
    ("network/forward.pyx", "chunks loops parity", FORWARD),
    ("network/forward.pyx", "derivatives loops", KEPT),
    ("network/backward.pyx", "chunks loops parity", BACKWARD),
    ("network/backward.pyx", "derivatives loops", OUTPUT_DELTA),
    ("network/derivatives.pyx", "derivatives", DERIVATIVES),
    ("network/derivatives.pyx", "weights hunt", CLIP),
    ("network/accumulate.pyx", "chunks loops parity accumulator", ACCUMULATE),
    ("network/accumulate.pyx", "derivatives loops", ACCUMULATE_BACKWARD),
    ("network/accumulate.pyx", "weights contract found hunt", WEIGHTS),
    ("network/optimizers.pyx", "optimizers", OPTIMIZERS),
    ("network/optimizers.pyx", TABLE_TESTS, SGD_ROWS),
    ("bindings/interrupt.pyx", "embedding_python::test_threads_end_with_the_call embedding_python", INTERRUPT),
    ("bindings/interrupt.pyx", "subnormal", MODE_OF_HANDLERS),
    ("network/context.pyx", "subnormal", MODE_OF_CALLS),
    ("network/accumulate.pyx", "subnormal", LARGE_WEIGHT),
    ("bindings/plan.pyx", "loops chunks parity", POOL),
    ("bindings/plan.pyx", "chunks loops", PLACE_OF_SUMS),
    ("bindings/call.pyx", "chunks embedding_python::test_a_signal_is_seen_in_a_long_call", CALL),
    ("bindings/call.pyx", "subnormal", MODE_OF_PYTHON_CALLS),
    ("bindings/buffers.pyx", "contract core loops parity training", BUFFERS),
    ("bindings/python.pyx", "contract loops", SMALL_CALLS),
    ("bindings/python.pyx", "derivatives core", DERIVE),
    ("bindings/python.pyx", "contract weights derivatives", TRIED_CALLS),
    ("bindings/python.pyx", "optimizers", TRIED_STEPS),
    ("bindings/python.pyx", "subnormal", MODE_OF_PYTHON),
    ("network/training.pyx", "training chunks", TRAINING_LOOP),
    ("bindings/c_api.pyx", TABLE_TESTS, C_API),
    ("bindings/c_api.pyx", MODE_TESTS, MODE_OF_C),
    ("bindings/c_api.pyx", f"{DERIVATIVE_TESTS} embedding hunt", DERIVATIVES_OF_C),
]
