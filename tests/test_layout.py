"""The layout of a workspace: every region holds what the loops write in it, for every shape and instruction set.

The needs are stated here a second time, from the loops and not from the code that lays out. It is arithmetic: the sets
that this machine cannot run are tried, too.
"""

from __future__ import annotations

import itertools
import os
import random

import numpy as np
import pytest
from helpers import EMULATED, dispatch

import bpcore
from bpcore.architecture import ACTIVATIONS
from bpcore.fallback import Head

#: The layout is arithmetic, and the same function in every module: the first one answers for all sets.
COMPILED = [name for name in bpcore.available_backends() if name != "python"][:1]
SETS = ["baseline", "avx2", "avx512", "neon", "scalar"]
#: Widths up to here: a little beyond the first multiples of 4096 bytes in float64 and float32.
WIDEST = 600 if EMULATED else 4200
#: As in gemm.pyx and plan.pyx: the rows of a part of a panel, and the largest weights that are packed once for all
#: tiles, unless the second-level cache holds more.
KC, PACK_WHOLE_BYTES = 512, 2097152
#: Second-level caches of this machine, and from 128 KB to 4 MB.
L2_BYTES = [0, 131072, 524288, 1048576, 4194304]


@pytest.fixture(params=COMPILED)
def core(request):
    return dispatch.load(request.param)


def around(multiples, item, widest=WIDEST):
    """The widths at, one below and one above every multiple of that many bytes."""
    unit = max(multiples // item, 1)
    near = {width + off for width in range(0, widest + 1, unit) for off in (-1, 0, 1)}
    return np.array(sorted(width for width in near if 0 < width <= widest), np.int64)


def lanes_of(core, name, item):
    return max(core.INSTRUCTION_SETS[name][0] // item, 1)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("guard", "l2_bytes"), [(0, 0), (32, 131072), (0, 4194304)])
def test_all_pairs_of_widths(core, dtype, name, guard, l2_bytes):
    """Around every multiple of a vector, and so of 64, 512 and 4096 bytes."""
    item = np.dtype(dtype).itemsize
    widths = around(lanes_of(core, name, item) * item, item)
    none = np.empty(0, np.int64)
    assert core.check_layouts(widths, widths, none, np.dtype(dtype), name, guard, l2_bytes) == len(widths) ** 2


@pytest.mark.parametrize("name", SETS)
def test_triples_of_widths(core, dtype, name):
    """All around multiples of 512 and 4096 bytes, and any one of a vector or 64 bytes between, before or behind two.

    A region's size depends on two neighbouring layers, or is a maximum over all; so triples tell of maxima alone.
    """
    item = np.dtype(dtype).itemsize
    coarse, page = around(512, item), around(4096, item)
    fine = np.unique(np.concatenate([around(64, item), around(lanes_of(core, name, item) * item, item)]))
    count = core.check_layouts(coarse, coarse, coarse, np.dtype(dtype), name)
    assert count == len(coarse) ** 3
    for three in [(fine, page, coarse), (page, fine, coarse), (coarse, page, fine)]:
        assert core.check_layouts(*three, np.dtype(dtype), name) == np.prod([len(widths) for widths in three])


def needs(core, sizes, activations, item, name, layout, l2_bytes, heads):
    """What each region must hold, in numbers: from what the loops of forward, backward and accumulate write."""
    width = lanes_of(core, name, item)
    tile, steps, stride = layout["tile"], layout["strides"], layout["input_stride"]

    def vectors(columns):
        return -(-columns // width) * width

    kept = ("sigmoid", "tanh", "elu", "silu", "gelu")
    largest = max(PACK_WHOLE_BYTES, l2_bytes or core.cache_bytes()[0][1])  # a wider layer is packed panel by panel
    needed, pairs = {}, [*zip(sizes, sizes[1:]), *zip(sizes[1:], sizes)]
    for l, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
        assert steps[l] >= vectors(n_out)
        assert steps[l] % width == 0
        assert steps[l] * item % 512 != 0, "the columns of delta would share a few cache sets"
        needed["a", l] = tile * steps[l]
        needed["derivative", l] = tile * steps[l] if activations[l] in kept else 0
        whole = n_in * n_out * item <= largest
        needed["forward", l] = vectors(n_out) * (1 + n_in) if whole else 0  # a row of biases ahead of the panel
        needed["backward", l] = vectors(n_in) * (1 + n_out) if whole else 0
    assert stride >= vectors(sizes[0])
    rows = max([stride, *steps])  # backward walks through all layers in these two, at each one's own stride
    needed["delta", -1] = needed["scratch", -1] = tile * rows
    part = max((1 + min(n, KC)) * min(vectors(n_other), 2 * width) for n, n_other in pairs)
    needed["panels", -1] = max(part, (1 + tile) * max(vectors(n_in) for n_in in sizes[:-1]))
    needed["columns", -1] = tile * min(max(sizes[1:]), layout["mc"])
    needed["inputs", -1] = tile * stride
    needed["targets", -1] = needed["output_weight", -1] = tile * sizes[-1]
    needed["labels", -1] = tile * 8 // item
    needed["sample_weight", -1] = tile
    needed["norms", -1] = tile * 8 // item
    # 32 rows of activations, kept derivatives, deltas, targets and weights of a head
    needed["heads_block", -1] = 5 * 32 * max((vectors(n) for n in heads), default=0)
    return needed


def check(core, sizes, activations, dtype, name, guard=0, l2_bytes=0, heads=()):
    """``heads``: their numbers of outputs, if there are several."""
    item = np.dtype(dtype).itemsize
    loss = tuple(Head("huber", n, "tanh", 1.0, 1.0) for n in heads) or "squared_error"
    network = tuple(sizes), tuple(activations), loss, np.dtype(dtype)
    layout = core.workspace_layout(*network, name, guard, l2_bytes)
    needed = needs(core, sizes, activations, item, name, layout, l2_bytes, heads)
    assert layout["holds"]
    rows = core.INSTRUCTION_SETS[name][1]
    assert layout["tile"] % rows == 0
    assert layout["mc"] % rows == 0
    assert 42 <= layout["mc"] <= 84
    half = (l2_bytes or core.cache_bytes()[0][1]) // 2
    assert layout["mc"] == 48 // rows * rows or layout["mc"] * layout["tile"] * item <= half
    assert layout["mc"] == 84 or (layout["mc"] + rows) * layout["tile"] * item > half
    end = 0
    for region, layer, start, size in layout["regions"]:
        assert size >= needed.pop((region, layer)), (region, layer, sizes)
        assert start >= end, f"{region} overlaps the region before it"
        assert start * item % 64 == 0
        end = start + size + guard
    assert layout["workspace"] >= end
    assert not needed


@pytest.mark.parametrize("name", SETS)
def test_random_networks_against_what_the_loops_write(core, dtype, name):
    """A new seed each time: it is shown by the failing sizes themselves."""
    draw = random.Random()
    item = np.dtype(dtype).itemsize
    for _ in range(600):
        sizes = []
        for _ in range(draw.randint(2, 6)):
            unit = draw.choice([1, lanes_of(core, name, item), 64 // item, 512 // item, 4096 // item])
            most = max(1, draw.choice([64, 600, WIDEST]) // unit)
            near = sizes[-1] if sizes and draw.random() < 0.4 else unit * draw.randint(1, most)
            sizes.append(max(1, near + draw.choice([-2, -1, 0, 0, 1, 2])))
        activations, heads = draw.choices(ACTIVATIONS, k=len(sizes) - 1), []
        if draw.random() < 0.3:
            ends = sorted({0, sizes[-1], *(draw.randint(1, sizes[-1]) for _ in range(draw.randint(0, 4)))})
            heads, activations[-1] = [j - i for i, j in itertools.pairwise(ends)], "tanh"
        check(core, sizes, activations, dtype, name, draw.choice([0, 16, 32]), draw.choice(L2_BYTES), heads)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        ("float64", [66, 64, 10]),
        ("float64", [65, 64, 1]),
        ("float64", [65, 62, 1]),
        ("float64", [66, 64, 64, 10]),
        ("float64", [65, 64]),
        ("float64", [512, 513]),
        ("float32", [130, 128, 10]),
        ("float32", [129, 128, 1]),
        ("float32", [8, 258, 256, 16, 1]),
        ("float32", [1024, 1025]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SETS)
def test_networks_whose_regions_once_were_too_small(core, dtype, sizes, name):
    check(core, sizes, ["tanh"] * (len(sizes) - 1), dtype, name)


def test_a_stride_need_not_grow_with_the_width(core):
    """Why each region takes the maximum of strides and not the stride of the maximum."""
    layouts = [core.workspace_layout((1, n), ("tanh",), "squared_error", np.dtype("float64"), "avx2") for n in (64, 66)]
    assert [layout["strides"] for layout in layouts] == [[72], [68]]


def test_this_machine_uses_the_layout_that_is_checked(core, dtype):
    """The workspace that C callers are asked for is that of the layout, with the guards of a debug build or without."""
    if bpcore.backend == "python":
        return  # it has no functions for C
    from bpcore import capi

    if core is not capi.core:
        return  # the table is that of one backend
    name = bpcore.backend if core.INSTRUCTION_SETS.get(bpcore.backend) else "baseline"
    functions = capi.functions()
    sizes, kinds = np.array([66, 64, 10], np.intp), np.array([2, 0], np.intc)
    plan = np.zeros(functions["plan_bytes"](2), np.uint8)
    make = functions["plan_init_f64" if dtype == "float64" else "plan_init_f32"]
    assert make(plan.ctypes.data, plan.size, 2, sizes.ctypes.data, kinds.ctypes.data, 0) == 0
    found = functions["workspace_bytes"](plan.ctypes.data)
    network = (66, 64, 10), ("tanh", "identity"), "squared_error", np.dtype(dtype)
    item = network[-1].itemsize
    expected = {
        64 + item * core.workspace_layout(*network, instruction_set, guard)["workspace"]
        for instruction_set in (name, "scalar")
        for guard in (0, 128 // item)
    }
    assert found in expected


@pytest.mark.parametrize("sizes", [[1 << 57, 1], [1, 1 << 57], [3, 1 << 30, 1 << 30, 2]], ids=str)
def test_sizes_beyond_what_can_be_addressed_are_refused(backend, sizes):
    with pytest.raises(ValueError, match="sizes"):
        bpcore.Network(sizes)


def test_the_caches_are_those_that_the_system_reports(core):
    """Linux reads them from the same place; other systems only have to stay within what makes sense."""
    used, reported = core.cache_bytes()
    assert 16384 <= used[0] <= 65536
    assert 131072 <= used[1] <= 4194304
    for level, name in enumerate(("SC_LEVEL1_DCACHE_SIZE", "SC_LEVEL2_CACHE_SIZE")):
        if name in getattr(os, "sysconf_names", {}) and reported[level]:
            assert reported[level] == os.sysconf(name)


@pytest.mark.parametrize("name", SETS)
def test_the_rows_of_a_tile_do_not_depend_on_the_caches(core, dtype, name):
    """The order in which numbers are added does, and the bits with it."""
    for sizes in [(64, 256, 10), (1024, 1024, 1024), (3000, 1000)]:
        network = sizes, ("tanh",) * (len(sizes) - 1), "squared_error", np.dtype(dtype)
        assert len({core.workspace_layout(*network, name, 0, l2_bytes)["tile"] for l2_bytes in L2_BYTES}) == 1
