"""Errors about data that say where: the row, the column and its name, and the cure."""

from __future__ import annotations

from typing import Any

import numpy as np


class Explained:
    """Adds to scikit-learn's errors about data the row and the column, and the cure."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X, self.y = X, y

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, (ValueError, TypeError)):
            return
        place = self._place(str(error))
        if place:
            raise type(error)(f"{error}\n{place}") from error

    def _place(self, message: str) -> str:
        if message.startswith("Input X contains"):
            return _not_finite("X", self.X)
        if message.startswith("Input y contains"):
            return _not_finite("y", self.y)
        if "could not convert string to float" in message or "invalid literal" in message:
            return _text("X", self.X) or _text("y", self.y)
        return ""


def _names(name: str, data: Any) -> Any:
    columns = getattr(data, "columns", None)
    return [f"{name}, column {column!r}" for column in columns] if columns is not None else None


def _not_finite(name: str, data: Any) -> str:
    """Where the first number that is missing or infinite is."""
    try:
        if hasattr(data, "tocoo"):
            entries = data.tocoo()
            bad = int(np.flatnonzero(~np.isfinite(entries.data))[0])
            row, column = int(entries.row[bad]), int(entries.col[bad])
        else:
            array = np.asarray(data, dtype=float)
            row, *rest = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
            column = rest[0] if rest else -1
    except (TypeError, ValueError, IndexError):
        return ""
    names = _names(name, data)
    place = names[column] if names else f"{name}, column {column}" if column >= 0 else name
    cure = "fill or leave out such rows, for example with sklearn.impute.SimpleImputer"
    return f"The first is in {place}, row {row}; {cure}."


def _text(name: str, data: Any) -> str:
    """The first column that is not of numbers."""
    array = np.asarray(data, dtype=object)
    array = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    for column in range(array.shape[1]):
        for row, value in enumerate(array[:, column]):
            try:
                float(value)
            except (TypeError, ValueError):
                names = _names(name, data)
                place = names[column] if names else f"{name}, column {column}"
                cure = "encode it, for example with sklearn.preprocessing.OneHotEncoder"
                return f"The first is in {place}, row {row}; {cure}."
    return ""
