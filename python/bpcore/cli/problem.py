"""What a target asks for, classes or numbers, and how well a network answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DECIMAL_COMMA", "Problem", "accuracy", "choose_problem", "label_accuracy", "regression_errors"]

MAX_GUESSED_CLASSES = 20
"""Whole numbers are taken as classes if they have at most so many different values."""

ALMOST_NUMBER = re.compile(r"[+-]?\s*[$€£¥]?\s*\d[\d.,' ]*\s*[%$€£¥]?", re.ASCII)
"""Such as 12,5 and $1,250.00 and 30 %."""

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)

CLASSIFICATION = ("cross_entropy", "binary_cross_entropy")
SCALED = ("squared_error", "huber", "absolute_error")
"""Losses whose targets may be shifted and scaled; that of poisson counts events."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A target in the form that its loss takes.

    Attributes
    ----------
    loss : str
    targets : ndarray
        Class indices, int64 of shape (m,), if there are class names; else float64 of shape (m, n_outputs), which are 0
        and 1 for independent labels.
    class_names : tuple of str, or None
        In the order of the labels.
    n_outputs : int
    reason : str
        Why this loss, in words.
    """

    loss: str
    targets: NDArray[Any]
    class_names: tuple[str, ...] | None
    n_outputs: int
    reason: str

    @property
    def independent_labels(self) -> bool:
        """Whether each output is the probability of a label of its own."""
        return self.loss == "binary_cross_entropy" and self.class_names is None


def choose_problem(
    target: NDArray[Any],
    loss: str | None,
    labels: NDArray[Any] | None = None,
    place: Callable[[int], str] | None = None,
) -> Problem:
    """Turn a target column into a problem.

    Parameters
    ----------
    target : ndarray
        Text (objects) of shape (m,), or float64 of shape (m,) or (m, k), finite.
    loss : str, optional
        If None: cross_entropy for text, for whole numbers of few different values and for one-hot rows,
        binary_cross_entropy for other columns of 0 and 1, squared_error for other numbers.
    labels : ndarray, optional
        The target as it stands in the file, text (objects) or numbers of any dtype, from which the
        classes are taken; by default `target`.
    place : callable, optional
        The place of a row's target in words, for errors.

    Raises
    ------
    ValueError
        If the loss does not fit the target, a class is written in two ways, or the target is of numbers
        but for some cells and no loss is given.
    """
    labels = target if labels is None else labels
    text = target.dtype == object
    reason = "as --loss says"
    if target.ndim == 2 and loss in (None, *CLASSIFICATION) and ((target == 0) | (target == 1)).all():
        return _indicators(target, loss, reason)
    if loss is None:
        if text:
            _refuse_spoilt_numbers(target, place)
            loss, reason = "cross_entropy", "the target is text"
        elif (
            target.ndim == 1
            and (target % 1 == 0).all()  # on riscv64 floor() warns of large numbers
            and (n := len(set(labels.tolist()))) <= MAX_GUESSED_CLASSES
        ):
            loss, reason = "cross_entropy", f"the target has {n} different whole numbers"
        else:
            loss, reason = "squared_error", "the target is a quantity"
    if loss in CLASSIFICATION:
        return _classification(labels, not text, loss, reason)
    if text:
        row = next(row for row, label in enumerate(target) if not _is_number(label))
        where = "" if place is None else f"{place(row)}: "
        raise ValueError(f"{where}the target of {loss} must be numbers, got {target[row]!r}{_cure(target[row])}")
    if loss == "poisson" and (target < 0).any():
        raise ValueError(f"the target of poisson must be >= 0, got {target[target < 0][0]:g}")
    targets = target if target.ndim == 2 else target[:, np.newaxis]
    return Problem(loss, targets, None, targets.shape[1], reason)


def _indicators(target: NDArray[Any], loss: str | None, reason: str) -> Problem:
    """The problem of several columns of 0 and 1: classes if each row has one 1, else independent labels."""
    n = target.shape[1]
    counts = target.sum(axis=1)
    one_hot = bool((counts == 1).all())
    if loss is None and one_hot:
        loss, reason = "cross_entropy", f"each row of the target has a single 1 in {n} columns"
    elif loss is None:
        loss, reason = "binary_cross_entropy", f"the target is {n} columns of 0 and 1, independent labels"
    if loss == "binary_cross_entropy":
        return Problem(loss, target, None, n, reason)
    if not one_hot:
        row = int(np.argmax(counts != 1))
        raise ValueError(f"the target of {loss} must have a single 1 in each row, got {counts[row]:g} in row {row + 1}")
    classes = target.argmax(axis=1).astype(np.int64)
    if (classes == classes[0]).all():
        raise ValueError(f"the target has one class only, '{classes[0]}'")
    return Problem(loss, classes, tuple(map(str, range(n))), n, reason)


def _refuse_spoilt_numbers(target: NDArray[Any], place: Callable[[int], str] | None) -> None:
    """Raise ValueError for text of many values, most of them numbers: it is a quantity with other cells."""
    n = len(set(target.tolist()))
    spoilt = [row for row, label in enumerate(target) if not _is_number(label)]
    nearly = sum(ALMOST_NUMBER.fullmatch(target[row]) is not None for row in spoilt)
    if n <= MAX_GUESSED_CLASSES or 2 * (len(target) - len(spoilt) + nearly) <= len(target):
        return
    row = spoilt[0]
    where = "" if place is None else f"{place(row)}: "
    raise ValueError(
        f"{where}a target of numbers must have numbers only, got {target[row]!r} (not a number in {len(spoilt)} of "
        f"{len(target)} rows){_cure(target[row])}; --loss cross_entropy if the {n} different values are classes"
    )


def _cure(cell: str) -> str:
    if DECIMAL_COMMA.fullmatch(cell):
        return "; write a decimal point, or --decimal , for a CSV file"
    return "; write a plain number, or leave the row out"


def _classification(labels: NDArray[Any], numbers: bool, loss: str, reason: str) -> Problem:
    if labels.ndim == 2:
        raise ValueError(
            f"the target of {loss} must be one class per row, or columns of 0 and 1, got shape {labels.shape}"
        )
    values = _numbers_in_order(labels) if numbers and labels.dtype == object else sorted(set(labels.tolist()))
    n = len(values)
    if n < 2:
        raise ValueError(f"the target has one class only, {_class_name(values[0])!r}")
    if loss == "binary_cross_entropy" and n != 2:
        raise ValueError(f"the target of binary_cross_entropy must have two classes, got {n}")
    if n == len(labels) > MAX_GUESSED_CLASSES:
        raise ValueError(f"the target has another value in each of its {n} rows: no classes")
    index = {value: i for i, value in enumerate(values)}
    indices = np.fromiter((index[value] for value in labels.tolist()), np.int64, len(labels))
    n_outputs = 1 if loss == "binary_cross_entropy" else n
    return Problem(loss, indices, tuple(map(_class_name, values)), n_outputs, reason)


def _numbers_in_order(labels: NDArray[Any]) -> list[str]:
    """The different texts, all of them numbers, from the least number to the greatest."""
    try:
        exact = sorted((Decimal(label), label) for label in set(labels.tolist()))
    except InvalidOperation:  # float() takes 1e-9999999999999999999
        raise ValueError("the target has a number whose exponent is too large for a class") from None
    for (number, label), (next_number, next_label) in pairwise(exact):
        if number == next_number:
            raise ValueError(
                f"the target has {label!r} and {next_label!r}, two spellings of one number: "
                f"spell a class in one way, and put a letter into classes that are not numbers"
            )
    return [label for _, label in exact]


def _class_name(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return str(int(value) if value == int(value) else value)


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return "_" not in label


def accuracy(
    probabilities: NDArray[Any], labels: NDArray[np.int64], sample_weight: NDArray[np.float64] | None = None
) -> float:
    """The fraction of rows, by their weights, whose most probable class is the right one."""
    return float(np.average(np.argmax(probabilities, axis=1) == labels, weights=sample_weight))


def label_accuracy(
    probabilities: NDArray[Any], labels: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """The fraction of independent labels that are right, and that of rows with all of them right, by weight."""
    right = (probabilities > 0.5) == (labels == 1)
    each = np.average(right.mean(axis=1), weights=sample_weight)
    return float(each), float(np.average(right.all(axis=1), weights=sample_weight))


def regression_errors(
    predictions: NDArray[Any], targets: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None
) -> tuple[float, float, float]:
    """Root mean squared error, mean absolute error, and the coefficient of determination R^2.

    R^2 is averaged over the outputs, and NaN where a target does not vary.
    """

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        averages: NDArray[np.float64] = np.average(values, axis=0, weights=sample_weight)
        return averages

    residuals = predictions - targets
    squares = mean(residuals**2)
    total = mean((targets - mean(targets)) ** 2)
    r2 = np.mean(1 - squares / total) if (total > 0).all() else np.nan
    return float(np.sqrt(np.mean(squares))), float(np.mean(mean(np.abs(residuals)))), float(r2)
