"""The faults that mutants.py plants: a file, the test files to try first, and entries of a name, edits and a reason.

Edits are an old text and a new one, or several such pairs. A third part of an entry says why no test can find it.
"""

# The old texts are lines of the sources, some of them long.
# ruff: noqa: E501

from __future__ import annotations

LAYOUT = [
    (
        "panels a row too short",
        ("reserve(&plan.panels, (1 + plan.tile) * packed", "reserve(&plan.panels, plan.tile * packed"),
    ),
    (
        "panels a row too short, and the check with it",
        (
            ("reserve(&plan.panels, (1 + plan.tile) * packed", "reserve(&plan.panels, plan.tile * packed"),
            ("plan.panels.size >= inputs + tile * inputs", "plan.panels.size >= tile * inputs"),
        ),
    ),
    (
        "packed W^T without its row of biases, and the check with it",
        (
            ("reserve(&layer.forward, (1 + layer.n_in) *", "reserve(&layer.forward, layer.n_in *"),
            ("layer.forward.size >= vectors + layer.n_in * vectors", "layer.forward.size >= layer.n_in * vectors"),
        ),
    ),
    (
        "delta and scratch of the last layer's stride, and the check with it",
        (
            ("row = max(row, layer.step)", "row = layer.step"),
            ("right &= plan.delta.size >= tile * layer.step and plan.scratch.size >= tile * layer.step", "pass"),
            (
                "right &= plan.delta.size >= tile * plan.input_step and plan.scratch.size >= tile * plan.input_step",
                "pass",
            ),
        ),
    ),
    (
        "delta and scratch without room for the inputs' stride, and the check with it",
        (
            (
                "plan.input_step = row = padded_stride(plan.n_inputs, target)",
                "row = 0\n    plan.input_step = padded_stride(plan.n_inputs, target)",
            ),
            (
                "right &= plan.delta.size >= tile * plan.input_step and plan.scratch.size >= tile * plan.input_step",
                "pass",
            ),
        ),
    ),
    (
        "scratch a row too short, and the check with it",
        (
            ("reserve(&plan.scratch, plan.tile * row,", "reserve(&plan.scratch, (plan.tile - 1) * row,"),
            ("tile * layer.step and plan.scratch.size >= tile * layer.step", "tile * layer.step"),
            ("tile * plan.input_step and plan.scratch.size >= tile * plan.input_step", "tile * plan.input_step"),
        ),
    ),
    (
        "no room for labels of 8 bytes, and the check with it",
        (
            ("plan.tile * (8 // target.itemsize)", "plan.tile"),
            ("plan.labels.size * target.itemsize >= tile * 8", "plan.labels.size >= tile"),
        ),
    ),
    (
        "guards are not counted",
        ("end[0] += round_up(size + target.guard, REGION_UNIT)", "end[0] += round_up(size, REGION_UNIT)"),
    ),
    (
        "rows of a tile are no whole blocks, and the check with it",
        (
            ("plan.tile = round_up(rows, target.mr)", "plan.tile = rows"),
            ("plan.tile >= 1 and plan.tile % target.mr == 0", "plan.tile >= 1"),
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
        "the slope of tanh is not kept",
        ("layer.activation == SIGMOID or layer.activation == TANH or", "layer.activation == SIGMOID or"),
    ),
    (
        "the biases begin a row of weights early",
        ("layer.bias = offset + layer.n_out * layer.n_in", "layer.bias = offset + layer.n_out * layer.n_in - 1"),
    ),
    ("every network fits in memory", ("return numbers * target.itemsize <= PY_SSIZE_T_MAX // 2", "return True")),
]

PLAN = [
    (
        "a block of rows too many in a tile",
        ("return (m + tiles * ROWS - 1) // (tiles * ROWS) * ROWS", "return m // (tiles * ROWS) * ROWS + ROWS"),
    ),
    ("slots of equal rows, the rest forgotten", ("<int64_t>i * m // slots)", "i * (m // slots))")),
    (
        "a workspace is taken and not removed",
        ("workspace = <char *>exchange(&self.kept[i], NULL)", "workspace = <char *>self.kept[i]"),
    ),
]

FORWARD = [
    ("the stride of copied inputs is that of X", ("step[0] = plan.input_step", "step[0] = plan.n_inputs")),
    (
        "the stride of the first layer for all",
        ("given, step = work + layer.a.start, layer.step", "given, step = work + layer.a.start, plan.layers[0].step"),
    ),
    (
        "the bias is not packed",
        (
            "params + layer.bias,\n                       work + layer.forward.start",
            "NULL,\n                       work + layer.forward.start",
        ),
    ),
    (
        "X is not advanced from tile to tile",
        ("tile_inputs(plan, X + first * plan.n_inputs, rows, m < FEW", "tile_inputs(plan, X, rows, m < FEW"),
    ),
    ("traced slopes are not advanced", ("to[p.n_layers + l] + first * layer.n_out,", "to[p.n_layers + l],")),
]

BACKWARD = [
    ("the first layer's W is never packed", ("range(0 if inputs else 1, plan.n_layers)", "range(1, plan.n_layers)")),
    (
        "the stride of the layer above",
        ("step = plan.layers[l - 1].step if l > 0 else plan.input_step", "step = layer.step"),
    ),
    (
        "the slopes of the layer above",
        (
            "through(plan.layers[l - 1].activation, given, work + plan.layers[l - 1].slope.start,",
            "through(plan.layers[l - 1].activation, given, work + layer.slope.start,",
        ),
    ),
    (
        "the bias's sums are never fresh",
        ("add_columns(D, bias_of(layer, sums), fresh)", "add_columns(D, bias_of(layer, sums), False)"),
    ),
    (
        "the bias's sums are always fresh",
        ("add_columns(D, bias_of(layer, sums), fresh)", "add_columns(D, bias_of(layer, sums), True)"),
    ),
    (
        "the weights' sums are always fresh",
        ("work + plan.panels.start, fresh, watch)", "work + plan.panels.start, True, watch)"),
    ),
    ("every tile of a trace is fresh", ("work, &sums[0], first == 0,", "work, &sums[0], True,")),
    ("the input gradient is not advanced", ("into + first * p.n_inputs if into", "into if into")),
    ("no rows leave the sums as they are", ("memset(&sums[0], 0, sums.shape[0] * sizeof(floating))", "pass")),
]

ACCUMULATE = [
    (
        "labels are not advanced from tile to tile",
        ("labels + first if labels != NULL else NULL, weights + first", "labels, weights + first"),
    ),
    (
        "weights are not advanced from tile to tile",
        ("weights + first if weights != NULL else NULL, sums, fresh,", "weights, sums, fresh,"),
    ),
    ("labels are not advanced from slot to slot", ("labels + offset if labels != NULL else NULL,", "labels,")),
    ("weights are not advanced from slot to slot", ("weights + offset if weights != NULL else NULL,", "weights,")),
    ("targets are not advanced from slot to slot", ("targets + offset * n if targets != NULL else NULL,", "targets,")),
    ("every tile is fresh", ("        fresh = False\n    return total", "    return total")),
    (
        "every slot is fresh",
        ("sums, slot == begin, work, packed or slot > begin", "sums, True, work, packed or slot > begin"),
    ),
    (
        "a first tile of no weight leaves the sums as they are",
        (
            "            memset(sums, 0, plan.n_parameters * sizeof(floating))\n        total +=",
            "            pass\n        total +=",
        ),
    ),
    ("labels of kept rows are those of the first rows", ("kept_labels[k] = labels[i]", "kept_labels[k] = labels[k]")),
    (
        "weights of kept rows are those of the first rows",
        ("(work + plan.sample_weights.start)[k] = weights[i]", "(work + plan.sample_weights.start)[k] = weights[k]"),
    ),
    (
        "the penalty takes the first bias",
        ("for i in range(layer.weights, layer.bias):", "for i in range(layer.weights, layer.bias + 1):"),
    ),
    (
        "the cost's penalty takes the first bias",
        ("while i < plan.layers[l].bias:", "while i < plan.layers[l].bias + 1:"),
    ),
    ("the penalty without its half", ("l2 / 2 * squares(plan, params)", "l2 * squares(plan, params)")),
    (
        "sums of weight 1 are not copied",
        ("if not (short == 1 and <const void *>out == <const void *>sums):", "if not short == 1:"),
    ),
    ("groups overwrite the sums", ("total[i] += sums[i]", "total[i] = sums[i]")),
]

LOSSES = [
    (
        "a label of the number of classes is in range, for delta",
        ("if label < 0 or label >= n:", "if label < 0 or label > n:"),
    ),
    (
        "a label of the number of classes is in range, for the loss",
        ("elif 0 <= labels[i] < n:", "elif 0 <= labels[i] <= n:"),
    ),
    (
        "the loss reads four numbers behind Y",
        ("if i * n + j + lanes(targets) > rows * n:", "if i * n + j + lanes(targets) > rows * n + 4:"),
    ),
    (
        "padding counts as outputs",
        (
            "for k in range(min(n - j, lanes(targets))):\n            total",
            "for k in range(lanes(targets)):\n            total",
        ),
    ),
    ("huber without its half", ("return c * (r - <floating>0.5 * c)", "return c * (r - c)")),
    ("the kink of huber at -2", ("c = select(c < -1, <floating>-1, c)", "c = select(c < -2, <floating>-2, c)")),
    (
        "absolute_error has a slope at 0",
        ("d[0] = select(r > 0, <floating>1, select(", "d[0] = select(r >= 0, <floating>1, select("),
    ),
    ("a right infinite logit costs NaN", ("select(c == 0, <floating>0, c * abs_(z))", "c * abs_(z)")),
    (
        "an infinite logit of a target 0 costs NaN",
        ("if targets[i * n + j] != 0:  # of an infinite logit, too", "if True:"),
    ),
    ("the weight is forgotten in delta", ("d[k] = weight * d[k]", "d[k] = d[k]")),
    (
        "cross_entropy takes the weights of the first rows",
        ("delta[i * step + j] *= weights[i]", "delta[i * step + j] *= weights[k]"),
    ),
    (
        "cross_entropy takes the labels of the first rows",
        ("labelled_delta(labels[i], delta", "labelled_delta(labels[k], delta"),
    ),
    (
        "cross_entropy takes the targets of the first rows",
        ("distributed_delta(targets + i * n, delta", "distributed_delta(targets + k * n, delta"),
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

ACTIVATIONS = [
    ("the slope of a sigmoid at a pole is exact", ("<floating>1 - a[i], kept[i])", "kept[i], kept[i])")),
    ("the slope of a tanh at a pole is exact", ("<floating>1 - abs_(a[i]), kept[i])", "kept[i], kept[i])")),
    (
        "every slope of a sigmoid is that of the rounded output",
        (
            "kept[i] = select(abs_(d[i]) > large, <floating>1 - a[i], kept[i])",
            "kept[i] = <floating>1 - a[i]",
        ),
    ),
    ("the slopes of silu and gelu at infinity are NaN", ("x = select(isinf(z), <floating>0, z)", "x = z")),
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
        "relu has a slope at 0",
        ("d[i] *= select(a[i] > 0, <floating>1, <floating>0)", "d[i] *= select(a[i] >= 0, <floating>1, <floating>0)"),
    ),
    (
        "leaky_relu has the slope 1 at 0",
        (
            "d[i] *= select(a[i] > 0, <floating>1, <floating>LEAKY_SLOPE)",
            "d[i] *= select(a[i] >= 0, <floating>1, <floating>LEAKY_SLOPE)",
        ),
    ),
    (
        "elu's slope at 0 is of the other side",
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
            "(columns + j * lane)[k] = exp_((columns + j * lane)[k] - largest[k])",
            "(columns + j * lane)[k] = exp_((columns + j * lane)[k])",
        ),
    ),
]

ELEMENTARY = [
    ("tanh without its last correction", ("    q += ((t - <floating>2 * q) - q * t) * h\n", "")),
    (
        "the complement of a large tanh is not 0",
        ("complement[0] = select(size > high, <floating>0, h)", "complement[0] = h"),
    ),
    ("expm1 loses the sign of 0", ("return select(x == 0, x, c)  # keeps -0", "return c")),
    ("gelu far out is not cut off", ("z = select(z > <floating>40, <floating>40, z)", "pass")),
]

MATMUL = [
    ("the last tile of columns is whole", ("left = min(n, columns - first)", "left = n")),
    (
        "longer blocks are too few",
        ("longer[0] = (rows - short * blocks) * (short + 1)", "longer[0] = (rows - short * blocks) * short"),
    ),
    (
        "the first column of sums is left out of a remainder",
        (
            "    while i < count:\n        if vec is f32v:\n            sums[0]",
            "    while i < count - 1:\n        if vec is f32v:\n            sums[0]",
        ),
    ),
    ("every depth starts from the bias, in float32", ("<f32v *>panel if k == 0 else NULL", "<f32v *>panel")),
    (
        "A is read behind its last row",
        ("whole = n_in if padded(n_in, &A[0, 0]) <= A.shape[1] else n_in // whole * whole", "whole = n_in"),
    ),
    ("dot products without their last number", ("for k in range(whole, n):", "for k in range(whole, n - 1):")),
    ("few rows without their bias", ("            Z[i, j] = b[j]", "            Z[i, j] = 0")),
    (
        "the first group of a tile is not fresh",
        ("start = zeros if fresh or not whole else NULL", "start = zeros if not whole else NULL"),
    ),
    (
        "the last outputs of one row alone",
        (
            "for r in range(4 if four else 1):\n                Z[i + r, j] = z[r]",
            "for r in range(1):\n                Z[i + r, j] = z[r]",
        ),
    ),
    (
        "groups of columns overlap",
        (
            "            return\n        j += count",
            "            return\n        j += count - 1 if j == 0 and groups > 0 else count",
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
            "*(bpcore_memory8 *)(out + (i + 4) * step) =\n            __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15)",
            "*(bpcore_memory8 *)(out + (i + 4) * step) =\n            __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 7)",
        ),
    ),
    (
        "the largest number of a vector is of its half",
        (
            "static inline double bpcore_max_f64(double *x) {\n    for (size_t n = BPCORE_LANES_F64 / 2; n > 0; n /= 2)",
            "static inline double bpcore_max_f64(double *x) {\n    for (size_t n = BPCORE_LANES_F64 / 2; n > 1; n /= 2)",
        ),
    ),
]

DIRECT = [
    ("binary targets up to 2", ("wrong |= (y[i] < 0) | (y[i] > 1)", "wrong |= (y[i] < 0) | (y[i] > 2)")),
    ("counts and probabilities below 0", ("            wrong |= y[i] < 0\n", "            wrong |= y[i] < -1\n")),
    ("a label of the number of classes", ("(labels[i] >= plan.n_outputs)", "(labels[i] > plan.n_outputs)")),
    (
        "out may overlap params in forward",
        (
            "given[2].buffer.shape[1] == p.n_outputs and apart(&given[2].buffer, &given[0].buffer)\n",
            "given[2].buffer.shape[1] == p.n_outputs\n",
        ),
    ),
    ("out may overlap X in forward", ("\n                and apart(&given[2].buffer, &given[1].buffer)):", "):")),
    (
        "out may overlap params in cost_and_gradient",
        ("and apart(&given[3].buffer, &given[0].buffer) and apart", "and apart"),
    ),
    ("out may overlap X in cost_and_gradient", (" and apart(&given[3].buffer, &given[1].buffer)\n", "\n")),
    (
        "out may overlap Y in cost_and_gradient",
        ("\n                  and apart(&given[3].buffer, &given[2].buffer)):", "):"),
    ),
    ("targets are not advanced from group to group", ("y + first * p.n_outputs if y != NULL else NULL", "y")),
    (
        "labels are not advanced from group to group",
        (
            "labels + first if labels != NULL else NULL,\n                    <const",
            "labels,\n                    <const",
        ),
    ),
    (
        "every group is fresh",
        ("add_sums(total, <const floating *>grad, n, slot == 0)", "add_sums(total, <const floating *>grad, n, True)"),
    ),
]

STEPS = [
    ("all parameters are finite", ("    return total == 0\n", "    return True\n")),
    ("the last parameters are finite", ("    while i < n:\n        total += x[i] * <floating>0\n        i += 1\n", "")),
    ("rows are gathered in their own order", ("rows + order[i] * n, n * sizeof", "rows + i * n, n * sizeof")),
    ("the steps of Adam count from 0", ("rule.epsilon, rule.step + 1)", "rule.epsilon, rule.step)")),
    ("labels of the first batch for all", ("pl = label + first", "pl = label")),
    ("weights of the first batch for all", ("pw = w + first", "pw = w")),
    (
        "weights of the first batch for all, gathered",
        ("gather(w, 1, o + first, count, batch_w)", "gather(w, 1, o, count, batch_w)"),
    ),
    (
        "the mean weight is forgotten in the gradient",
        ("<const floating *>grad, count * mean_weight, l2, grad)", "<const floating *>grad, count, l2, grad)"),
    ),
    ("the cost of an epoch is not by rows", ("costs += count * cost", "costs += batch_size * cost")),
]

OPTIMIZERS = [
    ("Adam's mean is not corrected", ("<floating>(learning_rate / (1 - pow(beta1, step)))", "<floating>learning_rate")),
    (
        "Adam's square is corrected by the first step",
        ("<floating>(1 / sqrt(1 - pow(beta2, step)))", "<floating>(1 / sqrt(1 - beta2))"),
    ),
    (
        "Adam's epsilon within the root's scale",
        ("(sqrt_(square[i]) * scale + eps)", "((sqrt_(square[i]) + eps) * scale)"),
    ),
    ("Adam leaves out what lies before a line of the cache", ("first, last = last, n", "first, last = n, n")),
    (
        "Nesterov's momentum is the plain one",
        ("params[i] -= rate * (grad[i] + mu * velocity[i])", "params[i] -= rate * velocity[i]"),
    ),
]

SIGNALS = [
    ("a cancellation is ignored", ("if watch.cancelled != NULL and flag(watch.cancelled) != 0:", "if False:")),
    ("signals are ignored", ("elif time >= watch.next:", "elif False:")),
]

TABLE = [
    (
        "weights are not advanced from slot to slot, for C",
        ("sample_weight + first if sample_weight != NULL else NULL, sums", "sample_weight, sums"),
    ),
    ("labels are not advanced from slot to slot, for C", ("labels + first if labels != NULL else NULL,", "labels,")),
    (
        "X is not advanced from slot to slot, for C",
        ("p, params, X + first * p.n_inputs, slot_start", "p, params, X, slot_start"),
    ),
    (
        "every slot is fresh, for C",
        ("else NULL, sums, False, work, i > 0, NULL)", "else NULL, sums, True, work, i > 0, NULL)"),
    ),
    (
        "the input gradient is not advanced, for C",
        ("input_gradient + first * p.n_inputs if input_gradient", "input_gradient if input_gradient"),
    ),
    (
        "the output gradient is not advanced, for C",
        ("copy_rows(output_gradient + first * p.n_outputs,", "copy_rows(output_gradient,"),
    ),
    ("the bias is not descended", ("            W[j] -= rate * delta[j]", "            pass")),
    (
        "weights of the first row for all, for C",
        ("sample_weight + i if sample_weight != NULL else NULL, D)", "sample_weight, D)"),
    ),
    (
        "an infinite weight is accepted, for C",
        ("if not 0 <= sample_weight[i] < INFINITY:", "if not 0 <= sample_weight[i] <= INFINITY:"),
    ),
    (
        "targets are not checked, for C",
        ("if not targets_are_right(p, targets, labels, sample_weight, m):", "if False:"),
    ),
]

FALLBACK = [
    ("the bias is forgotten", ("z = a[-1] @ W.T + b", "z = a[-1] @ W.T")),
    (
        "the penalty takes the biases",
        (
            "            D_W += l2 * W\n",
            "            D_W += l2 * W\n            _ += l2 * plan.layers(params)[0][1][0]\n",
        ),
    ),
    ("the penalty without its half", ("losses / weight + l2 / 2 * sum(", "losses / weight + l2 * sum(")),
    (
        "the sums of the bias are of the first tile",
        ("Delta_b += delta.sum(axis=0)", "Delta_b[...] = delta.sum(axis=0)"),
    ),
    ("the sums of a trace are of the last tile", ("    sums[...] = 0\n    W = plan", "    W = plan")),
    ("the sums are added to what was there", ("    sums[...] = 0\n    total = 0.0", "    total = 0.0")),
    (
        "the weight is forgotten in delta",
        ("losses, delta = w * losses, w[:, np.newaxis] * delta", "losses = w * losses"),
    ),
    ("rows of no weight are kept", ("if sample_weight is None or np.all(sample_weight):", "if True:")),
    ("the slope of the layer above", ("a[l], slopes[l - 1], delta @ W)", "a[l], slopes[l], delta @ W)")),
    (
        "the slope of silu at infinity is NaN",
        (
            "sigmoid(z) + np.where(np.isinf(z), 0, z) * sigmoid(z) * sigmoid(-z)",
            "sigmoid(z) + z * sigmoid(z) * sigmoid(-z)",
        ),
    ),
    (
        "the slope of gelu at infinity is NaN",
        ("normal_cdf(z) + np.where(np.isinf(z), 0, z) * normal_pdf(z)", "normal_cdf(z) + z * normal_pdf(z)"),
    ),
    ("gelu of -infinity is NaN", ("return np.where(z == -np.inf, 0, z) * normal_cdf(z)", "return z * normal_cdf(z)")),
    (
        "the slope of sigmoid cancels",
        ("(sigmoid, lambda z: sigmoid(z) * sigmoid(-z))", "(sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z)))"),
    ),
    (
        "relu has a slope at 0",
        ("(lambda z: np.maximum(z, 0), lambda a: a > 0)", "(lambda z: np.maximum(z, 0), lambda a: a >= 0)"),
    ),
    (
        "leaky_relu has the slope 1 at 0",
        ("lambda a: np.where(a > 0, 1, LEAKY_SLOPE)", "lambda a: np.where(a >= 0, 1, LEAKY_SLOPE)"),
    ),
    ("the kink of huber at 2", ("np.where(r <= 1, r * r / 2, r - 0.5)", "np.where(r <= 2, r * r / 2, r - 0.5)")),
    (
        "the softmax's Jacobian cancels",
        (
            "        delta[row, top] = -np.sum(delta, axis=1)\n        return delta\n    if slope",
            "        return delta\n    if slope",
        ),
    ),
    (
        "the softmax's Jacobian hides NaN",
        ("        delta[row, top] *= 0  # a NaN stays one\n", "        delta[row, top] = 0\n"),
    ),
    ("cross_entropy hides NaN", ("        delta[row, y] *= 0  # a NaN stays one\n", "        delta[row, y] = 0\n")),
    (
        "an infinite logit of a target 0 costs NaN",
        ("np.sum(np.where(y == 0, 0, y * (log_sum - z)), axis=1), delta", "np.sum(y * (log_sum - z), axis=1), delta"),
    ),
    ("a right infinite logit costs NaN", ("np.where(wrong == 0, 0, wrong * np.abs(z))", "wrong * np.abs(z)")),
    ("the last parameters are finite", ("if np.isfinite(params).all():", "if True:")),
    ("a cancellation is ignored", ("if told is not None and told[0]:", "if False:")),
    ("the steps of Adam count from 0", ("*rule, optimizer.steps + 1)", "*rule, optimizer.steps)")),
    ("Adam's mean is not corrected", ("rate = learning_rate / (1 - beta1**step)", "rate = learning_rate")),
    ("Adam's square is corrected by the first step", ("square / (1 - beta2**step)", "square / (1 - beta2)")),
    (
        "Nesterov's momentum is the plain one",
        ("learning_rate * (grad + momentum * velocity if nesterov else velocity)", "learning_rate * velocity"),
    ),
    (
        "the mean weight is forgotten in the gradient",
        ("finish(plan, params, grad, len(x) * mean_weight, l2, grad)", "finish(plan, params, grad, len(x), l2, grad)"),
    ),
    ("slopes at a pole are exact", ("np.abs(dA) > LARGE_OUTPUT_GRADIENT", "np.isnan(slope)")),
    ("every slope of outputs is that of the rounded ones", ("np.abs(dA) > LARGE_OUTPUT_GRADIENT", "slope >= 0")),
    ("a cut of other rows is accepted", ("if bounds[-1] != len(X):", "if False:")),
    (
        "the input gradient of a tile is that of the last layer",
        ("input_gradient[tile] = delta @ W", "input_gradient[...] = (delta @ W)[:1]"),
    ),
]

NETWORK = [
    (
        "a trace returns the gradient of its last slot",
        ("            total += sums\n", "            total[...] = sums\n"),
    ),
    (
        "the input gradient of a trace is of its first slot",
        ("None if dX is None else dX[start:stop]", "None if dX is None else dX[: stop - start]"),
    ),
    ("the losses of the last slot alone", ("            losses += loss\n", "            losses = loss\n")),
    (
        "out may overlap X",
        ("(len(X), self.sizes[-1]), self.dtype, params, X)", "(len(X), self.sizes[-1]), self.dtype, params)"),
    ),
    (
        "biases come before weights",
        ("Layer(weights.reshape(n_out, n_in), bias)", "Layer(weights[::-1].reshape(n_out, n_in), bias)"),
    ),
]

SLOTS = [
    (
        "slots of equal rows, the rest forgotten",
        (
            "Unit(begin, end, begin * n_rows // n, end * n_rows // n)",
            "Unit(begin, end, begin * (n_rows // n), end * (n_rows // n))",
        ),
    ),
    ("results are added out of order", ("while turn != i and not errors:", "while False:")),
    ("the other threads do not hear of an error", ("        core.cancel(cancelled)\n", "")),
    ("a group is its last slot", ("                group += result[1]\n", "                group = result[1]\n")),
    ("the losses of a group are those of its last slot", ("group_losses += result[0]", "group_losses = result[0]")),
    ("the sums are those of the last group", ("total[...] += group", "total[...] = group")),
    (
        "rows for sums are used again too soon",
        (
            "            group_losses, group = result\n",
            "            group_losses, group = result\n            spare.append(group)\n",
        ),
    ),
    ("an error of a thread is lost", ("    if errors:\n        raise errors[0]\n", "")),
    (
        "the last slots are no group",
        ("if unit.end % plan.together == 0 or unit.end == n_slots:", "if unit.end % plan.together == 0:"),
    ),
    (
        "each thread takes groups where there are few",
        ("groups >= GROUPS_PER_THREAD * threads else 1", "groups > 0 else 1"),
        "threads that take whole groups make the same additions in the same order: the work is shared less evenly",
    ),
]

TRAINING = [
    ("the weight of a batch is its own", ("total = len(X) * self.mean_weight", "total = float(weights.sum())")),
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
    ("rows are never shuffled", ("if shuffle and batch_size < len(X) else None", "if False else None")),
    (
        "the validation cost takes the penalty",
        ("cost = net.cost(params, Xv, Yv, 0.0, wv, threads)", "cost = net.cost(params, Xv, Yv, l2, wv, threads)"),
    ),
    (
        "an optimizer with a step of its own goes to the core",
        ('            and "step" not in vars(self.optimizer)  # somebody\'s own, as for clipping\n', ""),
    ),
    (
        "parameters that are not finite after an epoch pass, in the core's loop",
        (
            "            costs += summed\n        if not np.isfinite(self.params).all():",
            "            costs += summed\n        if False:",
        ),
    ),
]

ACCUMULATOR = [
    ("a merge overwrites", ("self._buffer += other.buffer", "self._buffer[...] = other.buffer")),
    ("an addition overwrites", ("self._buffer += total  #", "self._buffer[...] = total  #")),
    ("rows and weight are exchanged", ("total[:3] = losses, weight, len(X)", "total[:3] = losses, len(X), weight")),
    ("out may overlap the buffer", ("net.dtype, params, self.buffer)", "net.dtype, params)")),
]

#: The others of the file build packages.
TABLE_TESTS = " ".join(
    f"embedding::test_functions_{name}"
    for name in (
        "accumulate_more_than_a_tile_or_a_slot",
        "backward",
        "descend_row_by_row",
        "errors",
        "forward_and_accumulate",
    )
)

MUTANTS = [
    ("network.py", "loops contract parity", NETWORK),
    ("slots.py", "slots loops", SLOTS),
    ("training.py", "training", TRAINING),
    ("accumulator.py", "accumulator contract", ACCUMULATOR),
    ("fallback.py", "gradients loops optimizers accumulator training found slots", FALLBACK),
    ("layout.pyx", "core layout::test_random_networks_against_what_the_loops_write loops layout", LAYOUT),
    ("plan.pyx", "loops slots parity", PLAN),
    ("forward.pyx", "loops parity", FORWARD),
    ("backward.pyx", "loops parity", BACKWARD),
    ("accumulate.pyx", "loops parity accumulator slots", ACCUMULATE),
    ("losses.pyx", "loops core gradients found", LOSSES),
    ("activations.pyx", "loops gradients found", ACTIVATIONS),
    ("elementary.pyx", "elementary loops gradients", ELEMENTARY),
    ("matmul.pyx", "loops parity", MATMUL),
    ("simd.h", "loops parity", SIMD),
    ("direct.pyx", "contract loops", DIRECT),
    ("steps.pyx", "training", STEPS),
    ("optimizers.pyx", "optimizers", OPTIMIZERS),
    ("signals.pyx", "slots embedding_python", SIGNALS),
    ("table.pyx", TABLE_TESTS, TABLE),
]
