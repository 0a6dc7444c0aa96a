"""Arguments are checked here, once, for every backend: kind, shape and value, with errors that name the argument.

Nothing is converted without need: the memory of anything that has the buffer protocol, ``__array__`` or DLPack on the
CPU is used in place. Rows keep their dtype and layout until :func:`rows` converts a block of them, so that a memory
map, a Fortran-ordered array or a column of a table is never copied whole.
"""

from __future__ import annotations

import contextlib
import mmap
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .architecture import Architecture

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]

#: Losses whose targets are limited: the least, the largest, and both in words.
TARGET_RANGES = {
    "binary_cross_entropy": (0.0, 1.0, ">= 0 and <= 1"),
    "focal": (0.0, 1.0, ">= 0 and <= 1"),
    "hinge": (-1.0, 1.0, ">= -1 and <= 1"),
    "squared_hinge": (-1.0, 1.0, ">= -1 and <= 1"),
    "cross_entropy": (0.0, np.inf, ">= 0"),
    "poisson": (0.0, np.inf, ">= 0"),
    "tweedie": (0.0, np.inf, ">= 0"),
    "gamma": (5e-324, np.inf, "> 0"),
}

#: DLPack's kinds of device whose memory the CPU can address: its own, pinned for CUDA or ROCm, managed by CUDA.
CPU_DEVICES = (1, 3, 11, 13)

#: Bytes from which on a memory map's pages are given back once they were read.
MIN_DROP_BYTES = 1 << 26

#: Sample weights that are added up in one go, about: whole rows; as in accumulate.pyx.
WEIGHTS_SUMMED_AT_ONCE = 1 << 16
FLOAT64 = np.dtype(np.float64)
#: The smallest number of float64 that has all its digits.
LEAST_CLIP_NORM = float(np.finfo(np.float64).tiny)
INT64 = np.dtype(np.int64)


class Batch(NamedTuple):
    """Checked rows to learn from, in whatever dtype and layout they came.

    ``Y`` has shape ``(m, n_outputs)``, or ``(m,)`` for integer labels; ``sample_weight`` has shape ``(m,)`` or
    ``(m, n_outputs)``, or is None; ``clip_norm`` is 0 where gradients of rows are not clipped.
    """

    X: Array
    Y: Array
    sample_weight: Array | None
    clip_norm: float = 0.0

    @property
    def arrays(self) -> list[Array]:
        """All of them, without None."""
        return [array for array in self[:3] if array is not None]

    def block(self, start: int, stop: int, dtype: np.dtype[Any]) -> tuple[Floats, Array, Floats | None, float]:
        """Rows ``start`` to ``stop`` as the backends take them."""
        return (
            rows(self.X, start, stop, dtype),
            rows(self.Y, start, stop, dtype if self.Y.ndim == 2 else INT64),
            None if self.sample_weight is None else rows(self.sample_weight, start, stop, dtype),
            self.clip_norm,
        )

    def is_read_in_place(self, dtype: np.dtype[Any]) -> bool:
        """Whether :meth:`block` copies nothing, and no pages are dropped after it."""
        return all(is_read_in_place(array, of_core) for array, of_core in zip(self.arrays, self.dtypes(dtype)))

    def dtypes(self, dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
        """Those in which the backends take :attr:`arrays`."""
        return [dtype, dtype if self.Y.ndim == 2 else INT64, dtype]


def real_array(name: str, value: object) -> Array:
    """``value`` as an array of real numbers, not copied if it is one already or exposes its memory as one.

    Raises
    ------
    TypeError
        If it holds anything else: complex numbers, text, objects, dates, or masked entries.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill or drop the masked entries first")
    try:
        array = value if isinstance(value, np.ndarray) else _taken(value)
    except Exception as error:  # ragged lists, tensors that need grad, whatever an __array__ may raise
        raise TypeError(f"{name} must be an array of real numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def _taken(value: object) -> Array:
    """An array of the buffer, ``__array__`` or DLPack of ``value``, in this order, else of what is in it: a copy."""
    if hasattr(value, "__dlpack_device__"):
        try:
            device = int(value.__dlpack_device__()[0])
        except BufferError:  # JAX's arrays in many pieces, which __array__ puts together
            device = CPU_DEVICES[0]
        if device not in CPU_DEVICES:
            raise TypeError(f"its memory must be on the CPU, got DLPack's device kind {device}")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") and not _has_buffer(value):
        return np.from_dlpack(value)
    return np.asarray(value)


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def view(name: str, value: object) -> Array:
    """The memory of ``value`` as an array, to be written into: itself if it is one, never a copy.

    Raises
    ------
    TypeError
        If it does not expose its memory, or that is not on the CPU.
    """
    if isinstance(value, np.ndarray):
        return value
    kinds = "__array__", "__dlpack__"
    if isinstance(value, type) or not (any(hasattr(value, kind) for kind in kinds) or _has_buffer(value)):
        raise TypeError(f"{name} must be a NumPy array or expose its memory as one, got {type(value).__name__}")
    try:
        array = _taken(value)
        copied = array.size > 0 and not np.may_share_memory(array, _taken(value))
    except Exception as error:
        raise TypeError(f"{name} must expose its memory as an array: {error}") from error
    if copied:
        raise TypeError(f"{name} must expose its memory, got a {type(value).__name__} whose __array__ returns a copy")
    return array


def as_contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in ``dtype``, C-contiguous, aligned and native: itself if it is so already, else a copy."""
    array = np.ascontiguousarray(array, dtype=dtype)
    return array if array.flags.aligned else array.copy()


def rows(array: Array, start: int, stop: int, dtype: np.dtype[Any]) -> Array:
    """Rows ``start`` to ``stop`` as the backends take them; a copy of those rows only where one is needed."""
    return as_contiguous(array[start:stop], dtype)


def is_read_in_place(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether :func:`rows` copies nothing, and :func:`drop_pages` does nothing."""
    return is_native(array, dtype) and _large_map(array) is None


def is_native(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether the backends take the array as it is."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def is_large_map(array: Array) -> bool:
    """Whether it is in a memory map that may be larger than the memory."""
    return _large_map(array) is not None


def _large_map(array: Array) -> mmap.mmap | None:
    """The memory map of a file that a large array is in, if that is shared, and if the system can drop pages of it."""
    if array.nbytes < MIN_DROP_BYTES or not array.flags.c_contiguous or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    source: object = array
    shared = False
    while isinstance(source, np.ndarray):
        shared = shared or getattr(source, "mode", "") in ("r", "r+", "w+")
        source = source.base
    return source if shared and isinstance(source, mmap.mmap) else None


def drop_pages(array: Array, start: int, stop: int) -> None:
    """Give the pages of rows ``start`` to ``stop`` of a large memory map back to the system.

    They stay in the system's cache and are mapped again when they are touched: it changes no data, and keeps the
    resident size of a process that reads a map larger than its memory limit small. Only whole maps of files are
    touched, shared ones (a private, copy-on-write map would lose its changes), where the system can do it.
    """
    source = _large_map(array)
    if source is None:
        return
    begin = _address(array) - _address(np.frombuffer(source, np.uint8))
    first = -(-(begin + start * array.strides[0]) // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (begin + stop * array.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        with contextlib.suppress(OSError):  # it is only advice
            source.madvise(mmap.MADV_DONTNEED, first, last - first)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def aligned_zeros_like(array: Floats) -> Floats:
    """Zeros like a flat array, at the same offset in a cache line."""
    block = np.zeros(array.size + 64 // array.itemsize, array.dtype)
    first = (_address(array) - _address(block)) % 64 // array.itemsize
    return block[first : first + array.size]


def check_vector(name: str, value: object, size: int, dtype: np.dtype[Any]) -> Floats:
    """A flat vector of ``size`` parameters in ``dtype``; another real dtype or layout is copied.

    Raises
    ------
    TypeError, ValueError
        If it is not real, or not of shape ``(size,)``.
    """
    array = real_array(name, value)
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {array.shape}")
    return as_contiguous(array, dtype)


def check_matrix(name: str, value: object, columns: int, what: str = "inputs") -> Array:
    """A two-dimensional real array with that many columns, as it came.

    Raises
    ------
    TypeError, ValueError
        If it is not real, not two-dimensional, or has another number of columns.
    """
    array = real_array(name, value)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (rows, {columns}), got {array.shape}")
    _check_columns(name, array, columns, what)
    return array


def _check_columns(name: str, array: Array, columns: int, what: str) -> None:
    count = array.shape[-1]
    if count != columns:
        raise ValueError(f"{name} has {count} column{'' if count == 1 else 's'}, but the network has {columns} {what}")


def check_batch(
    net: Architecture,
    X: object,
    Y: object,
    sample_weight: object = None,
    signed: object = False,
    clip_norm: object = None,
) -> tuple[Batch, float]:
    """Rows to learn from, and what their sums are divided by: the one place where X, Y and sample weights are checked.

    That is the sum of the weights, of single outputs the mean over these, or the number of rows if they are ``signed``.

    Raises
    ------
    TypeError, ValueError
        If the kind, the shape or a value of one of them is wrong; it is named.
    """
    X = check_matrix("X", X, net.sizes[0])
    weights, total = _check_sample_weight(net, sample_weight, len(X), _check_signed(signed))
    norm = 0.0 if clip_norm is None else check_scalar("clip_norm", clip_norm, strict=True)
    if 0 < norm < LEAST_CLIP_NORM:
        raise ValueError(f"clip_norm must not be subnormal, which counts as 0, got {clip_norm!r}")
    return Batch(X, _check_targets(net, Y, len(X), weights), weights, norm), total


def check_rows(batch: Batch, total: float) -> None:
    """Raise unless there are rows, and the sum of their weights, ``total``, is positive."""
    if not batch.X.shape[-2]:
        raise ValueError("X must have at least one row, got 0")
    if not total > 0:
        raise ValueError("the sum of sample_weight must be > 0, got 0")


def check_population(params: Array, n_parameters: int) -> None:
    """Raise unless the rows of the matrix are parameters of networks."""
    if params.shape[1] != n_parameters:
        shapes = f"({n_parameters},) or (networks, {n_parameters})"
        raise ValueError(f"params must have shape {shapes}, got {params.shape}")


def check_inputs(value: object, n_networks: int, columns: int) -> Array:
    """Rows for all of so many networks, as :func:`check_matrix` returns them, or ``(n_networks, rows, columns)``.

    Raises
    ------
    TypeError, ValueError
        If they are not real, or of another shape.
    """
    X = real_array("X", value)
    if X.ndim not in (2, 3):
        raise ValueError(f"X must have shape (rows, {columns}) or ({n_networks}, rows, {columns}), got {X.shape}")
    _check_columns("X", X, columns, "inputs")
    if X.ndim == 3 and len(X) != n_networks:
        raise ValueError(f"X has rows for {len(X)} networks, but params has {n_networks}")
    return X


def check_population_batch(
    net: Architecture, n_networks: int, X: object, Y: object, sample_weight: object, signed: object
) -> tuple[Batch, float]:
    """:func:`check_batch` for several networks, where X, and Y too, may have a first axis of these."""
    X = check_inputs(X, n_networks, net.sizes[0])
    if X.ndim == 2:
        return check_batch(net, X, Y, sample_weight, signed)
    n_rows, n_outputs, loss = X.shape[1], net._n_targets, net.loss
    weights, total = _check_sample_weight(net, sample_weight, n_rows, _check_signed(signed))
    Y = real_array("Y", Y)
    labels = loss == "cross_entropy" and Y.ndim == 2 and Y.dtype.kind != "f"
    flat = n_outputs == 1 and loss != "cross_entropy" and Y.ndim == 2 and Y.shape != (n_rows, 1)
    if Y.ndim != 3 and not labels and not flat:
        return Batch(X, _check_targets(net, Y, n_rows, weights), weights), total
    if Y.shape != (n_networks, n_rows, n_outputs)[: Y.ndim]:
        also = f" or integer labels of shape ({n_networks}, {n_rows})" if loss == "cross_entropy" else ""
        shape = n_networks, n_rows, n_outputs
        raise ValueError(f"Y must have shape {shape}{also}, or be for all networks, got {Y.shape}")
    if Y.size and not _targets_in_range(net, Y, labels):
        for k in range(n_networks):
            _check_targets(net, Y[k], n_rows, weights, f"Y[{k}]")
    return Batch(X, Y[:, :, np.newaxis] if flat else Y, weights), total


def _check_signed(signed: object) -> bool:
    if not isinstance(signed, (bool, np.bool_)):
        raise TypeError(f"signed must be True or False, got {signed!r}")
    return bool(signed)


def _target_limits(net: Architecture, labels: bool) -> tuple[Any, Any]:
    """Between which targets must be: two numbers, or arrays of one for each target of a row."""
    if labels:
        return 0, net._n_targets - 1
    limits = [TARGET_RANGES.get(head.loss, (-np.inf, np.inf, "")) for head in net.heads]
    if len(limits) == 1:
        return limits[0][:2]
    counts = [head.n_targets for head in net.heads]
    return np.repeat([least for least, _, _ in limits], counts), np.repeat([most for _, most, _ in limits], counts)


def _targets_in_range(net: Architecture, Y: Array, labels: bool) -> bool:
    """Whether all are, and none is NaN, which is accepted, and hides what else is there."""
    least, limit = _target_limits(net, labels)
    if np.ndim(least) == 0:
        return (least, limit) == (-np.inf, np.inf) or bool(Y.min() >= least and Y.max() <= limit)
    rows = tuple(range(Y.ndim - 1))
    return bool((Y.min(axis=rows) >= least).all() and (Y.max(axis=rows) <= limit).all())


def _check_targets(net: Architecture, value: object, n_rows: int, weights: Array | None, name: str = "Y") -> Array:
    """Targets as an array of shape ``(rows, targets of a row)``, or integer labels of shape ``(rows,)``.

    Those of weight 0 may have any value.

    Raises
    ------
    TypeError, ValueError
        If the kind, the shape or a value does not fit the loss.
    """
    Y, loss, n_outputs = real_array("Y", value), net.loss, net._n_targets
    labels = loss == "cross_entropy" and Y.ndim == 1
    if Y.ndim == 1 and n_outputs == 1 and not labels:
        Y = Y[:, np.newaxis]
    if labels:
        if Y.dtype.kind == "f":
            raise TypeError(
                f"Y must hold integer labels of shape ({n_rows},) or probabilities of shape ({n_rows}, {n_outputs}) "
                f"for cross_entropy, got shape {Y.shape} and dtype {Y.dtype}"
            )
    elif Y.ndim != 2 or Y.shape[1] != n_outputs:
        also = f" or integer labels of shape ({n_rows},)" if loss == "cross_entropy" else ""
        if net.loss == "heads":
            also = ", the targets of all heads side by side, classes as probabilities"
        raise ValueError(f"Y must have shape ({n_rows}, {n_outputs}){also}, got {Y.shape}")
    if len(Y) != n_rows:
        raise ValueError(f"Y has {len(Y)} rows, but X has {n_rows}")
    if n_rows and not _targets_in_range(net, Y, labels):
        least, limit = _target_limits(net, labels)
        wrong = (Y < least) | (Y > limit)
        if weights is not None:
            used = np.asarray(weights != 0).reshape(n_rows, -1)  # a weight per row, or per row and output
            wrong &= used.any(axis=1) if labels else used
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            must = f"labels must be from 0 to {limit}"
            if not labels:
                losses = [head.loss for head in net.heads for _ in range(head.n_targets)]
                must = f"targets of {losses[where[1]]} must be {TARGET_RANGES[losses[where[1]]][2]}"
            raise ValueError(f"{must}, got {name}[{', '.join(map(str, where))}] = {Y[where]}")
    return Y


def _check_sample_weight(net: Architecture, value: object, n_rows: int, signed: bool) -> tuple[Array | None, float]:
    """Sample weights as they came, and what sums are divided by; see :func:`check_batch`.

    Raises
    ------
    TypeError, ValueError
        If they are not real, not of shape ``(rows,)`` or ``(rows, n_outputs)``, negative though not ``signed``, or not
        finite, or if the largest is beyond what the network's dtype can hold with all its digits.
    """
    if value is None:
        return None, float(n_rows)
    weights, n_outputs = real_array("sample_weight", value), net._n_targets
    if weights.ndim == 1 and len(weights) != n_rows:
        raise ValueError(f"sample_weight has {len(weights)} entries, but X has {n_rows} rows")
    if weights.shape not in ((n_rows,), (n_rows, n_outputs)):
        raise ValueError(f"sample_weight must have shape ({n_rows},) or ({n_rows}, {n_outputs}), got {weights.shape}")
    # In blocks of one layout: those of another are added in another order, and the last bits would tell.
    columns = n_outputs if weights.ndim == 2 else 1
    step = max(WEIGHTS_SUMMED_AT_ONCE // columns, 1)
    with np.errstate(over="ignore"):
        blocks = (rows(weights, i, i + step, FLOAT64).reshape(-1) for i in range(0, n_rows, step))
        total = sum(float(net._core.total_weight(block)) for block in blocks) / columns + 0.0
    if n_rows and (not np.isfinite(total) or (weights.min() < 0 and not signed)):
        wrong = ~np.isfinite(weights) | ((weights < 0) & (not signed))
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            must = "finite" if signed else "finite and >= 0"
            place = ", ".join(map(str, where))
            raise ValueError(f"sample_weight must be {must}, got sample_weight[{place}] = {weights[where]}")
        raise ValueError(f"the sum of sample_weight must be finite, got {total}")
    largest, limits = max(-float(weights.min(initial=0)), float(weights.max(initial=0))), np.finfo(net.dtype)
    lowest, highest = float(limits.tiny / limits.eps), float(limits.max)
    if largest > highest or 0 < largest < lowest:
        raise ValueError(f"the largest sample_weight must be in the range of {net.dtype}, got {largest:g}: scale them")
    return weights, float(n_rows) if signed else total


def check_out(value: object, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array | None) -> Floats:
    """The caller's ``out`` as an array of its memory, or a new array if it is None.

    Raises
    ------
    TypeError
        If ``out`` is neither an array nor an object that exposes its memory as one.
    ValueError
        If it has another dtype, shape or layout, is read-only, or shares memory with an input.
    """
    if value is None:
        return np.empty(shape, dtype)
    array = check_filled("out", value, shape, dtype)
    for other in inputs:
        if other is not None and overlap(array, other):
            raise ValueError("out must not share memory with an input")
    return array


def check_filled(name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
    """The caller's memory as an array that can be filled in place, of that shape and dtype; never a copy.

    Raises
    ------
    TypeError
        If it is neither an array nor an object that exposes its memory as one.
    ValueError
        If it has another dtype, shape or layout, or is read-only.
    """
    array = view(name, value)
    if array.dtype != dtype:
        raise ValueError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    check_writable(name, array)
    return array


def check_writable(name: str, array: Array) -> None:
    """Raise unless the array can be filled in place: not masked, C-contiguous, aligned, not read-only."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be C-contiguous and aligned")
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writable, got a read-only array")


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share memory; yes where that would be too hard to find out."""
    if not np.may_share_memory(a, b):
        return False
    try:
        most: Any = 10_000  # the stubs of NumPy 2.4 know -1 and 0 only
        return np.shares_memory(a, b, max_work=most)
    except np.exceptions.TooHardError:
        return True


def check_scalar(
    name: str, value: object, low: float = 0.0, high: float = np.inf, strict: bool = False, below: bool = False
) -> float:
    """A finite number from ``low`` to ``high``, more than ``low`` if ``strict``, less than ``high`` if ``below``.

    Raises
    ------
    TypeError, ValueError
        If it is not a real number, or out of range.
    """
    if isinstance(value, (str, bytes, bool, np.bool_, complex, np.complexfloating, list, tuple)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number: Any = value
    try:
        if np.ndim(number) != 0:
            raise TypeError
        result = float(number)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        result = np.inf
    if (
        not (low < result if strict else low <= result)
        or not result < np.inf
        or result > high
        or (below and result == high)
    ):
        must = f"{'>' if strict else '>='} {low:g}"
        must = f"{must} and {'<' if below else '<='} {high:g}" if high < np.inf else f"finite and {must}"
        raise ValueError(f"{name} must be {must}, got {value!r}")
    return result


def check_generator(seed: object) -> np.random.Generator:
    """NumPy's random generator of a seed.

    Raises
    ------
    TypeError, ValueError
        If ``numpy.random.default_rng`` does not accept the seed.
    """
    try:
        return np.random.default_rng(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed must be what numpy.random.default_rng takes, got {seed!r}: {error}") from None


def check_int(name: str, value: object, low: int) -> int:
    """A whole number of at least ``low``.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or less than ``low``.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        result = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if result < low:
        raise ValueError(f"{name} must be >= {low}, got {result}")
    return result
