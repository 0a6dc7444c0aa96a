"""``bpcore predict``: apply a saved model to a table."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from bpcore._files import write_atomically
from bpcore.model import Model, load

from . import arguments
from .table import has_words, read_table


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="apply a saved model to a table",
        description="Apply a saved model to a CSV, .npy or .npz file, and print a CSV table with "
        "one line for each row.",
    )
    add = parser.add_argument
    add("model", help="a file written by bpcore train --save")
    add(
        "data",
        help="as for train; where it has a header and the model knows the names of its features, "
        "the columns are taken by name and the others ignored",
    )
    add("--output", metavar="FILE", help="where to write; standard output by default")
    add("--probabilities", action="store_true", help="add the probability of each class to its line")
    add(
        "--target",
        metavar="COLUMN",
        help="name or index of a column to leave out, if the data still have the target",
    )
    arguments.add_threads(parser)
    arguments.add_table_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`bpcore.cli.main` for what it returns and how errors end."""
    if args.output is not None:
        for read in (args.model, args.data):
            if os.path.realpath(args.output) == os.path.realpath(read):
                raise ValueError(f"--output {args.output} would overwrite what is read")
    model = load(args.model)
    if args.probabilities and model.class_names is None:
        raise ValueError(f"--probabilities needs a model of classes, got {args.model}, which predicts numbers")
    table = read_table(
        args.data,
        target=args.target,
        read_target=False,
        drop=args.drop,
        expected=model.feature_names,
        n_features=model.network.sizes[0],
        **arguments.table_options(args),
    )
    if args.header is None and table.header and not has_words(model.feature_names):
        print(f"bpcore: first line of {args.data} taken as names; --no-header if it is data", file=sys.stderr)
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = model.predict(table.features, threads=args.threads)
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        value = outputs[row][~np.isfinite(outputs[row])][0]
        raise ValueError(f"{args.model} gives {value} for row {row + 1} of {args.data}")
    if args.output is None:
        _write(sys.stdout, model, outputs, args.probabilities)
        return 0
    with write_atomically(args.output) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        _write(text, model, outputs, args.probabilities)
        text.detach()  # flushes, and leaves the file open
    return 0


def _write(file: TextIO, model: Model, outputs: NDArray[Any], probabilities: bool) -> None:
    writer = csv.writer(file, lineterminator="\n")
    lines = itertools.chain([_header(model, probabilities)], _lines(model, outputs, probabilities))
    # What a label holds may steer a terminal, but belongs into a file.
    writer.writerows((map(_printable, line) for line in lines) if file.isatty() else lines)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _header(model: Model, probabilities: bool) -> list[str]:
    if model.class_names is not None:
        names = [f"probability_{name}" for name in model.class_names] if probabilities else []
        return ["prediction", *names]
    n = model.network.sizes[-1]
    return ["prediction"] if n == 1 else [f"prediction_{i}" for i in range(n)]


def _lines(model: Model, outputs: NDArray[Any], probabilities: bool) -> Iterator[list[str]]:
    # As many digits as tell two numbers of the network's dtype apart, and no noise beyond.
    digits = ".9g" if model.network.dtype == np.float32 else ".17g"
    if model.class_names is None:
        for row in outputs.tolist():
            yield [format(value, digits) for value in row]
        return
    for label, row in zip(np.argmax(outputs, axis=1).tolist(), outputs.tolist(), strict=True):
        values = [format(value, digits) for value in row] if probabilities else []
        yield [model.class_names[label], *values]
