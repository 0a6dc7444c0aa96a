"""Types of command-line arguments, and the arguments that several commands have."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

__all__ = ["add_table_arguments", "add_threads", "delimiter", "names", "number", "table_options", "whole"]


def whole(low: int) -> Callable[[str], int]:
    """A parser of integers >= `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"must be an integer >= {low}, got {text!r}")
        return value

    return parse


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A number from `low` (or just above it) up to, but not including, `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value < high or (above and value == low):
            least = f"above {low:g}" if above else f"of at least {low:g}"
            most = "" if math.isinf(high) else f" and below {high:g}"
            raise argparse.ArgumentTypeError(f"must be a number {least}{most}, got {text!r}")
        return value

    return parse


def names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say how a table is to be read."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--drop",
        type=names,
        default=[],
        metavar="COLUMNS",
        help="more columns to leave out, names or indices between commas",
    )
    group.add_argument(
        "--delimiter", help="delimiter of a CSV file ('\\t' for tab); by default found from its first line"
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row of a CSV file has names; by default found out",
    )
    group.add_argument(
        "--decimal", choices=(".", ","), default=".", help="decimal mark of the numbers in a CSV file; . by default"
    )
    group.add_argument("--encoding", default="utf-8", help="encoding of a CSV file, such as latin-1; utf-8 by default")
    group.add_argument("--comment", metavar="TEXT", help="skip lines of a CSV file that begin with it, such as '#'")


def table_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those that say how a CSV file is written, as :func:`bpcore.cli.table.read_table` takes them."""
    return {
        "delimiter": delimiter(args.delimiter),
        "header": args.header,
        "encoding": args.encoding,
        "comment": args.comment,
        "decimal": args.decimal,
    }


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The argument ``--threads``."""
    parser.add_argument(
        "--threads",
        type=whole(1),
        metavar="N",
        help="maximum number of threads; by default as many as the machine has and the work needs",
    )


def delimiter(text: str | None) -> str | None:
    """The delimiter, as given on the command line."""
    return "\t" if text in ("\\t", "tab") else text
