"""Reading a table from CSV, ``.npy`` or ``.npz``: feature columns and, if asked for, a target.

Nothing is guessed about a value: what is missing, infinite or not a number is refused, with the
file, the row and the column named. Columns are counted from 0 (-1 is the last one), rows of data
from 1, as the lines of a file are.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import importlib
import itertools
import os
import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from .problem import DECIMAL_COMMA

__all__ = ["Table", "TableError", "has_words", "read_table"]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""Cells that stand for a missing value, in lower case."""

DELIMITERS = ",;\t"

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
"""Modules that open compressed files, by the end of the name."""

# What np.load raises for a file that is damaged or is something else altogether.
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, EOFError, RuntimeError, SyntaxError, OverflowError, OSError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


class TableError(ValueError):
    """A table that cannot be used; the message names the file, the row and the column."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers.

    Attributes
    ----------
    features : ndarray of float64, shape (m, n)
        The feature columns; every value is finite.
    feature_names : tuple of str, or None
        Their names, if the file has a header.
    target : ndarray or None
        float64 of shape (m,), or (m, k) from an ``.npz`` file; objects (str) of shape (m,) if any
        of the values is not a number. None if no target was asked for.
    labels : ndarray or None
        The same as it stands in the file, for use as classes, which float64 might merge: objects
        (str) for text, stripped; else of the dtype in the file.
    header : bool or None
        Whether the first line was taken as names; None if the file is not CSV.
    target_place : callable, or None
        The place of the target of a row (counted from 0) in words, for errors.
    sample_weight : ndarray of float64, shape (m,), or None
        The array of that name in an ``.npz`` file: finite, none negative, not all 0. Read with the target.
    """

    features: NDArray[np.float64]
    feature_names: tuple[str, ...] | None = None
    target: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    header: bool | None = None
    target_place: Callable[[int], str] | None = None
    sample_weight: NDArray[np.float64] | None = None


def read_table(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    read_target: bool = True,
    drop: Sequence[str] = (),
    expected: Sequence[str] | None = None,
    n_features: int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    comment: str | None = None,
    decimal: str = ".",
) -> Table:
    """Read a table from a ``.npy`` or ``.npz`` file, or as CSV from any other, also compressed (.gz, .bz2, .xz).

    Parameters
    ----------
    path : str or path-like
        The file. An ``.npz`` file holds arrays ``X`` and ``y``, or one two-dimensional array, and may hold
        ``sample_weight``.
    target : str, optional
        Name or index of the column that is not a feature; needed if the target is read and the
        file is CSV.
    read_target : bool
        Whether the target is read; if not, its column is left out unread.
    drop : sequence of str
        Names or indices of more columns to leave out.
    expected : sequence of str, optional
        Names of the feature columns, taken in this order if the file has a header that names
        them; `target` and `drop` then need not be there, and must not be among them.
    n_features : int, optional
        How many feature columns there must be.
    delimiter : str, optional
        One character; if None, that of a first line ``sep=;``, else comma, semicolon or tab,
        whichever cuts the first line into most cells.
    header : bool, optional
        Whether the first row holds names; if None, it does when it has the `expected` names, or no
        number and a word where the next row has a number, or counts 0, 1, 2, ...
    encoding : str
        Of CSV; a byte order mark is skipped.
    comment : str, optional
        Lines of CSV that begin with it are skipped.
    decimal : str
        The decimal mark of all numbers in CSV, ``.`` or ``,``.

    Raises
    ------
    TableError
        If the file is not such a table, or a value is missing or not a finite number.
    OSError
        If the file cannot be opened.
    """
    path = os.fspath(path)
    if path.lower().endswith((".npy", ".npz")):
        return _read_arrays(path, target, read_target, drop, n_features)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise TableError(f"the delimiter must be one character, got {delimiter!r}")
    if comment == "":
        raise TableError("the comment must be at least one character, got ''")
    try:
        with _open(path, encoding) as file:
            lines = iter(file) if comment is None else _without_comments(file, comment)
            # Read ahead without seek, so that a pipe is as good as a file.
            ahead = _first_lines(lines)
            if ahead and (separator := re.fullmatch(r'"?sep=([^"\r\n])"?\s*', ahead[-1], re.IGNORECASE)):
                delimiter = separator[1] if delimiter is None else delimiter
                ahead = [*ahead[:-1], "\n", *_first_lines(lines)]
            if delimiter is None:
                delimiter = _find_delimiter(ahead[-1] if ahead else "", decimal)
            reader = csv.reader(itertools.chain(ahead, lines), delimiter=delimiter, strict=True)
            try:
                return _read_csv(path, reader, target, read_target, drop, expected, n_features, header, decimal)
            except csv.Error as error:
                raise TableError(f"{path}, line {reader.line_num}: {error}") from None
    except UnicodeError as error:
        why = str(error)
        if isinstance(error, UnicodeDecodeError):
            why = f"byte 0x{error.object[error.start]:02x}: {error.reason}"
        name = "UTF-8" if encoding == "utf-8" else encoding
        raise TableError(f"{path} is not {name} text ({why}); --encoding says which encoding it has") from None


@contextlib.contextmanager
def _open(path: str, encoding: str) -> Iterator[TextIO]:
    """The text of a file, decompressed if its name says that it is compressed."""
    try:
        if codecs.lookup(encoding).name == "utf-8":
            encoding = "utf-8-sig"
    except LookupError:
        raise TableError(f"--encoding must be one that Python knows, got {encoding!r}") from None
    kind = os.path.splitext(path)[1].lower()
    if kind not in COMPRESSED:
        with open(path, encoding=encoding, newline="") as file:
            yield file
        return
    module: Any = importlib.import_module(COMPRESSED[kind])  # Python may have been built without it
    damaged = (EOFError, OSError, zlib.error, getattr(module, "LZMAError", EOFError))
    try:
        with module.open(path, "rt", encoding=encoding, newline="") as file:
            yield file
    except damaged as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise TableError(f"{path} is not a whole {kind} file: {error}") from None


def _without_comments(lines: Iterable[str], comment: str) -> Iterator[str]:
    """The lines, those that begin with the comment as blank ones; a quoted cell may go over several lines."""
    quoted = False
    for line in lines:
        if not quoted and line.lstrip().startswith(comment):
            yield "\n"
        else:
            quoted ^= line.count('"') % 2 == 1
            yield line


def _first_lines(lines: Iterable[str]) -> list[str]:
    """The lines up to the first one that is not blank; blank ones are empty."""
    found: list[str] = []
    for line in lines:
        if line.strip():
            return [*found, line]
        found.append("\n")
    return found


def _find_delimiter(line: str, decimal: str) -> str:
    """The delimiter that cuts the line into most cells; the comma if none does better, or is the decimal mark."""

    def count(delimiter: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=delimiter), []))
        except csv.Error:  # the whole of a long line is no cell
            return 0

    for delimiter in ";\t":  # numbers with decimal commas have more of these than they have delimiters
        cells = line.strip().split(delimiter)
        if len(cells) > 1 and all(_number(cell) is not None or DECIMAL_COMMA.fullmatch(cell.strip()) for cell in cells):
            return delimiter
    others = DELIMITERS.replace(decimal, "")
    return max(others if max(map(count, others)) > 1 else DELIMITERS, key=count)


#: To what float() reads; a point beside decimal commas is no decimal point, and becomes what is not a number here.
DECIMAL_COMMAS = {ord(","): ".", ord("."): "_"}


def _number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell, NaN if it is missing, None if it is text."""
    if decimal == ",":
        cell = cell.translate(DECIMAL_COMMAS)
    if cell.strip().lower() in MISSING:
        return float("nan")
    try:
        # float() takes 1_000, which is not a number here.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


@dataclass(frozen=True)
class _Columns:
    """Which columns are features, and which is the target."""

    features: tuple[int, ...]
    target: int | None


def _choose_columns(
    path: str,
    count: int,
    names: Sequence[str] | None,
    target: str | None,
    drop: Sequence[str],
    expected: Sequence[str] | None,
    n_features: int | None,
) -> _Columns:
    if names is not None and expected is not None:
        absent = [name for name in expected if name not in names]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            hint = _comment_hint(names[0]) if has_words(names) else "; --no-header if its first line is data"
            raise TableError(
                f"{path} has no column {absent[0]!r}{more}, which the model takes; "
                f"its columns are {_listed(names)}{hint}"
            )
        for spec in drop if target is None else [*drop, target]:
            position = _position(spec, count, names)
            if position is not None and names[position] in expected:
                raise TableError(f"column {spec!r} must not be left out: the model takes {names[position]!r}")
        return _Columns(tuple(names.index(name) for name in expected), None)
    left_out = {_find_column(path, spec, count, names) for spec in drop}
    chosen = None if target is None else _find_column(path, target, count, names)
    if chosen in left_out:
        raise TableError(f"column {target!r} is the target and dropped at the same time")
    features = tuple(i for i in range(count) if i != chosen and i not in left_out)
    if not features:
        raise TableError(f"{path} has no feature column beside the target and those left out")
    if n_features is not None and len(features) != n_features:
        extra = len(features) > n_features and target is None
        hint = "; --target or --drop leaves a column out" if extra else ""
        raise TableError(
            f"{path} has {len(features)} feature column{'' if len(features) == 1 else 's'}, "
            f"but the model takes {n_features}{hint}"
        )
    return _Columns(features, chosen)


def _position(spec: str, count: int, names: Sequence[str] | None) -> int | None:
    """Index of the column with that name, or else that index; None if there is no such column."""
    if names is not None and spec in names:
        return names.index(spec)
    index = _index(spec)
    return index % count if index is not None and -count <= index < count else None


def _find_column(path: str, spec: str, count: int, names: Sequence[str] | None) -> int:
    position = _position(spec, count, names)
    if position is not None:
        return position
    index = _index(spec)
    columns = f"{count} column{'' if count == 1 else 's'}"
    if names is not None:
        raise TableError(f"{path} has no column {spec!r}; its columns are {_listed(names)}{_comment_hint(names[0])}")
    if index is None:
        raise TableError(f"{path} has no header, so there is no column {spec!r}; give an index")
    raise TableError(f"{path} has {columns}, so there is no column {index} (counted from 0)")


def _index(spec: str) -> int | None:
    digits = spec.removeprefix("-")
    return int(spec) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _comment_hint(cell: str) -> str:
    return "; --comment skips lines that begin with a text" if cell.startswith(("#", "%", "//")) else ""


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown


def _read_csv(
    path: str,
    reader: Any,
    target: str | None,
    read_target: bool,
    drop: Sequence[str],
    expected: Sequence[str] | None,
    n_features: int | None,
    header: bool | None,
    decimal: str,
) -> Table:
    rows: Iterator[list[str]] = (row for row in reader if row)  # a blank line is no row
    first, second = next(rows, None), None
    if first is None:
        raise TableError(f"{path} is empty")
    first_line = reader.line_num
    if header is None:
        second = next(rows, None)
        header = _has_header(first, second, [*drop, *([target] if target else [])], expected, decimal)
    second_line = reader.line_num

    names = tuple(cell.strip() for cell in first) if header else None
    if names is not None and len(set(names)) < len(names):
        name = next(name for i, name in enumerate(names) if name in names[:i])
        raise TableError(f"{path}, line {first_line}: two columns are named {name!r}")
    columns = _choose_columns(path, len(first), names, target, drop, expected, n_features)
    label_column = columns.target if read_target else None
    if read_target and target is None:
        has = f"{len(first)} columns, counted from 0" if names is None else f"the columns {_listed(names)}"
        raise TableError(f"--target says which column of {path} is to be predicted; it has {has}")

    # The rows that were read to find the header come back in front of the others.
    ahead = [] if header else [(first_line, first)]
    ahead += [] if second is None else [(second_line, second)]
    numbered = itertools.chain(ahead, ((reader.line_num, row) for row in rows))

    features_of = _getter(columns.features)
    values, lines, texts = array("d"), array("q"), list[str]()

    def place(row: int, column: int) -> str:
        name = "" if names is None else f" {names[column]!r}"
        return f"{path}, row {row + 1} (line {lines[row]}), column {column}{name}"

    for line, row in numbered:
        if len(row) != len(first):
            if len(row) == 1 and not row[0].strip():
                continue  # a line of spaces
            raise TableError(
                f"{path}, row {len(lines) + 1} (line {line}): {len(row)} cells, "
                f"but line {first_line} has {len(first)}{_comment_hint(first[0])}"
            )
        lines.append(line)
        cells = features_of(row)
        if decimal == ",":
            cells = [cell.translate(DECIMAL_COMMAS) for cell in cells]
        try:
            if "_" in "".join(cells):  # float() takes 1_000, which is not a number here
                raise ValueError
            values.extend(map(float, cells))
        except ValueError:
            for column in columns.features:
                number = _number(row[column], decimal)
                if number is None:
                    where = place(len(lines) - 1, column)
                    hint = "" if header or len(lines) > 1 else "; --header if that row holds names"
                    if decimal == "." and re.fullmatch(DECIMAL_COMMA, row[column].strip()):
                        hint += "; --decimal , reads decimal commas"
                    raise TableError(f"{where}: {row[column]!r} is not a number{hint}") from None
                if np.isnan(number):
                    raise TableError(f"{place(len(lines) - 1, column)}: missing value") from None
        if label_column is not None:
            label = row[label_column].strip()
            if label.lower() in MISSING:
                raise TableError(f"{place(len(lines) - 1, label_column)}: missing value")
            if decimal == ",":
                if "." in label and _number(label) is not None:
                    raise TableError(
                        f"{place(len(lines) - 1, label_column)}: {label!r} is not a number with a decimal comma"
                    )
                label = label if _number(label, decimal) is None else label.replace(",", ".")
            texts.append(label)
    if not lines:
        raise TableError(f"{path} has no rows of data")

    features = np.frombuffer(values, np.float64).reshape(len(lines), len(columns.features))
    _require_finite(features, lambda row, column: place(row, columns.features[column]))
    feature_names = None if names is None else tuple(names[i] for i in columns.features)
    if label_column is None:
        return Table(features, feature_names, header=header)
    labels = np.array(texts, object)
    labels_or_numbers = _numbers_or_text(labels)
    if labels_or_numbers.dtype != object:
        _require_finite(labels_or_numbers[:, np.newaxis], lambda row, _: place(row, label_column))
    return Table(features, feature_names, labels_or_numbers, labels, header, lambda row: place(row, label_column))


def _getter(columns: tuple[int, ...]) -> Callable[[list[str]], Sequence[str]]:
    """A function that takes those cells out of a row, as a sequence even if it is one cell."""
    if len(columns) == 1:
        (only,) = columns
        return lambda row: (row[only],)
    return itemgetter(*columns)


def _has_header(
    first: list[str],
    second: list[str] | None,
    left_out: list[str],
    expected: Sequence[str] | None,
    decimal: str,
) -> bool:
    """Whether the first row holds names: no number, and words where the second row has a number or a gap.

    A row with numbers and text is data: the text is an error, which names the cell, and not a name that costs a row.
    """
    names = [cell.strip() for cell in first]
    specs = list(left_out)
    if expected is not None and set(expected) <= set(names):
        return True
    if any(_index(spec) is None for spec in specs):
        return True  # a column asked for by name; whether it is there is found out later
    if _counts(names, second):
        return True
    indices = {int(spec) % len(first) for spec in specs}
    columns = [i for i in range(len(first)) if i not in indices]
    if any(_is_number(first[i], decimal) for i in columns):
        return False
    # Neither a dash nor a number with a decimal comma is a word.
    words = [i for i in columns if any(c.isalpha() for c in first[i]) and _number(first[i], decimal) is None]
    below = [None if second is None or i >= len(second) else second[i].strip() for i in words]
    return any(cell is None or _number(cell, decimal) is not None or DECIMAL_COMMA.fullmatch(cell) for cell in below)


def _counts(names: list[str], second: list[str] | None) -> bool:
    """Whether the names are 0, 1, 2, ..., with or without an index column, as pandas writes columns without names.

    Where all is whole numbers, 0 and 1 alone are more probably data.
    """
    counted = names[1:] if names[0] == "" else names
    if len(counted) < 2 or counted != [str(i) for i in range(len(counted))]:
        return False
    return len(counted) > 2 or any(_index(cell.strip()) is None for cell in second or [])


def has_words(names: Sequence[str] | None) -> bool:
    """Whether a row with these names is no row of numbers."""
    return names is not None and any(c.isalpha() for name in names for c in name)


def _is_number(cell: str, decimal: str) -> bool:
    number = _number(cell, decimal)
    return number is not None and not np.isnan(number)


def _numbers_or_text(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as float64 if all are numbers, else as they are."""
    try:
        if not any("_" in label for label in labels):
            return np.array(list(map(float, labels)), np.float64)
    except ValueError:
        pass
    return labels


def _require_finite(values: NDArray[np.float64], place: Callable[[int, int], str]) -> None:
    """Raise TableError at the first value that is missing or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        value = values[row, column]
        what = "missing value" if np.isnan(value) else f"{value} is not a finite number"
        raise TableError(f"{place(row, column)}: {what}")


def _read_arrays(
    path: str,
    target: str | None,
    read_target: bool,
    drop: Sequence[str],
    n_features: int | None,
) -> Table:
    """Read a ``.npy`` or ``.npz`` file; see :func:`read_table`."""
    arrays = _load_arrays(path)
    name, y, weights = "X", None, None
    if path.lower().endswith(".npz"):
        weights = arrays.pop("sample_weight", None)
    if "X" in arrays:
        y = arrays.get("y")
    else:
        tables = [key for key, value in arrays.items() if value.ndim == 2]
        if len(tables) != 1:
            raise TableError(
                f"{path} has no array X, and {'more than one' if tables else 'no'} "
                f"two-dimensional array; it holds {_listed(list(arrays)) or 'nothing'}"
            )
        name = tables[0]
    X = _real(path, name, arrays[name])
    if X.ndim != 2 or not X.size:
        raise TableError(f"{path}: {name} must be a matrix of numbers, got shape {X.shape}")
    if y is not None and read_target and target is not None:
        raise TableError(f"{path} has an array y, which is the target; leave --target out")
    columns = _choose_columns(path, X.shape[1], None, target, drop, None, n_features)
    features = X if len(columns.features) == X.shape[1] else X[:, list(columns.features)]
    _require_finite(features, lambda row, column: f"{path}: {name}[{row}, {columns.features[column]}]")
    if not read_target:
        return Table(features)
    weights = None if weights is None else _weight_array(path, weights, len(features))
    if y is not None:
        return Table(
            features,
            None,
            *_target_array(path, y, len(features)),
            target_place=lambda row: f"{path}: y[{row}]",
            sample_weight=weights,
        )
    if columns.target is None:
        return Table(features)
    values = X[:, columns.target]
    _require_finite(values[:, np.newaxis], lambda row, _: f"{path}: {name}[{row}, {columns.target}]")
    return Table(features, None, values, arrays[name][:, columns.target], sample_weight=weights)


def _weight_array(path: str, values: NDArray[Any], n_rows: int) -> NDArray[np.float64]:
    """The array sample_weight of an ``.npz`` file, checked."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n_rows,):
        raise TableError(f"{path}: sample_weight must have shape ({n_rows},), got {values.shape}")
    weights = _real(path, "sample_weight", values)
    _require_finite(weights[:, np.newaxis], lambda row, _: f"{path}: sample_weight[{row}]")
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise TableError(f"{path}: sample_weight must be >= 0, got sample_weight[{row}] = {weights[row]:g}")
    if not weights.any():
        raise TableError(f"{path}: sample_weight must have a sum > 0, got 0")
    return weights


def _load_arrays(path: str) -> dict[str, NDArray[Any]]:
    """The arrays in the file by name; that in a ``.npy`` file is called X."""
    with open(path, "rb") as file:  # np.load leaves a damaged file open
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"X": loaded}
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
        except _UNREADABLE as error:
            kind = os.path.splitext(path)[1]
            raise TableError(f"{path} is not a {kind} file of plain arrays: {error}") from None
    # A member that is no array comes as bytes.
    return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}


def _real(path: str, name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiub":
        raise TableError(f"{path}: {name} must hold real numbers, got dtype {values.dtype}")
    return np.asarray(values, np.float64, order="C")


def _target_array(path: str, y: NDArray[Any], n_rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The array y of an ``.npz`` file as a target: finite numbers, or text; and as labels."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(y) != n_rows or not y.size:
        raise TableError(f"{path}: y has shape {y.shape}, but X has {n_rows} rows")
    labels = y
    if y.dtype.kind == "U" and y.ndim == 1:
        labels = np.array([str(label).strip() for label in y], object)
        for row, label in enumerate(labels):
            if label.lower() in MISSING:
                raise TableError(f"{path}: y[{row}]: missing value")
        y = _numbers_or_text(labels)
    if y.dtype != object:
        y = _real(path, "y", y)
        _require_finite(
            y.reshape(n_rows, -1),
            lambda row, column: f"{path}: y[{row}{f', {column}' if y.ndim == 2 else ''}]",
        )
    return y, labels
