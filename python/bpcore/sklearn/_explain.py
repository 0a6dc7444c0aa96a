"""Errors about data that say where: the row, the column and its name, and the cure."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


class Explained:
    """Adds to scikit-learn's errors about data the row and the column, and the cure."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X, self.y = X, y

    def __enter__(self) -> None:
        """Refuse dates, which NumPy takes for numbers of nanoseconds."""
        for column, dtype in zip(getattr(self.X, "columns", ()), getattr(self.X, "dtypes", ())):
            if getattr(dtype, "kind", "") in "mM" or str(dtype).startswith(("timestamp", "date", "Date", "Duration")):
                raise ValueError(
                    f"X, column {column!r} has dates or times ({dtype}); make numbers of them, such as days"
                )

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
        if "'<' not supported" in message:
            rows = [row for row, value in enumerate(np.asarray(self.y, dtype=object).ravel()) if value is None]
            return f"y has None in row {rows[0]}; leave out such rows." if rows else ""
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
            pandas = hasattr(data, "to_numpy") and hasattr(data, "iloc")  # it may have NA, which is no float
            array = data.to_numpy(dtype=float, na_value=np.nan) if pandas else np.asarray(data, dtype=float)
            row, *rest = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
            column = rest[0] if rest else -1
    except (TypeError, ValueError, IndexError):
        return ""
    names = _names(name, data)
    place = names[column] if names else f"{name}, column {column}" if column >= 0 else name
    if name == "y" or (not hasattr(data, "tocoo") and np.isinf(array).any()):
        cure = "leave out such rows"
    else:
        cure = "fill it, for example with sklearn.impute.SimpleImputer"
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
                place = names[column] if names else f"{name}, column {column}" if name == "X" else name
                cure = "encode it, for example with sklearn.preprocessing.OneHotEncoder"
                cure = cure if name == "X" else "a regressor takes numbers"
                return f"The first is in {place}, row {row}; {cure}."
    return ""


def checked_weights(sample_weight: Any, X: Any) -> Any:
    """Sample weights by scikit-learn's rules, without negative ones; errors name the parameter and the row."""
    try:
        weights = _check_sample_weight(sample_weight, X)
    except (TypeError, ValueError) as error:
        message = str(error)
        place = _not_finite("sample_weight", sample_weight) or _text("sample_weight", sample_weight)
        raise type(error)("\n".join(filter(None, (f"sample_weight: {message}", place)))) from None
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise ValueError(f"Negative values in data passed to `sample_weight`: {weights[row]} in row {row}")
    return weights
