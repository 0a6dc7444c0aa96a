"""``bpcore train``: train a network on a table or on the bundled digits, and judge it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT
from bpcore.data import load_digits
from bpcore.model import Model, check_save_path
from bpcore.network import Network
from bpcore.optimizers import Adam, GradientDescent
from bpcore.training import History
from bpcore.training import train as run_training

from . import arguments
from .problem import SCALED, Problem, accuracy, choose_problem, label_accuracy, regression_errors
from .table import Table, has_words, read_table

VALIDATION_FRACTION = 0.1
"""Part of the training rows that early stopping uses; the test rows must not decide when to stop."""

LEARNING_RATES = {"adam": 1e-3, "sgd": 0.1, "momentum": 0.01, "nesterov": 0.01}

#: Hidden sizes, epochs and l2 for the bundled digits, unless the command line sets them.
DIGITS_DEFAULTS = ([512], 30, 5e-4)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a network on a table, or on the bundled handwritten digits",
        description="Train a network on a CSV, .npy or .npz file; without one, on the bundled "
        "8 x 8 handwritten digits (UCI optdigits, CC BY 4.0).",
    )
    add = parser.add_argument
    add(
        "data",
        nargs="?",
        help="a CSV file, a .npy file, or a .npz file with arrays X, y and, optionally, sample_weight",
    )
    add(
        "--target",
        metavar="COLUMN",
        help="name or index of the column to predict (counted from 0; -1 is the last); required "
        "unless the data are a .npz file with an array y, or the bundled digits",
    )
    add("--save", metavar="FILE", help="where to save the model: .npz or .safetensors")
    add(
        "--seed",
        type=arguments.whole(0),
        default=0,
        help="random seed for split, initialization and shuffling; 0 by default",
    )
    arguments.add_threads(parser)
    arguments.add_table_arguments(parser)

    network = parser.add_argument_group("network")
    add = network.add_argument
    add(
        "--hidden",
        type=_sizes,
        metavar="SIZES",
        help="units of each hidden layer, such as 64,32; none for no hidden layer",
    )
    add(
        "--activation",
        type=_activations,
        default=["relu"],
        metavar="NAME",
        help=f"activation of the hidden layers, one for all or one for each: {', '.join(ACTIVATIONS)}",
    )
    add("--loss", choices=tuple(CANONICAL_OUTPUT), help="by default chosen by the target")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--no-scale", action="store_true", help="do not scale features and targets")

    training = parser.add_argument_group("training")
    add = training.add_argument
    add(
        "--epochs",
        type=arguments.whole(1),
        metavar="N",
        help="passes over the data; by default 20 to 300, more for less data",
    )
    add("--batch-size", type=arguments.whole(1), default=32, metavar="N", help="rows per step")
    add("--optimizer", choices=tuple(LEARNING_RATES), default="adam")
    add("--learning-rate", type=arguments.number(0, above=True), metavar="RATE")
    add(
        "--momentum",
        type=arguments.number(0, 1),
        help="momentum of sgd (0 by default), momentum and nesterov (0.9 by default)",
    )
    add(
        "--l2",
        type=arguments.number(0),
        metavar="LAMBDA",
        help="weight of the penalty l2/2 * sum(W^2) in the cost; 0.001 by default",
    )
    add("--test-fraction", type=arguments.number(0, 1), default=0.2, help="part of the rows that is held out")
    add(
        "--patience",
        type=arguments.whole(1),
        metavar="N",
        help="hold out a tenth of the training rows, and stop after N epochs without a lower cost on them",
    )
    parser.set_defaults(run=run)


def _sizes(text: str) -> list[int]:
    if text.strip().lower() == "none":
        return []
    return [arguments.whole(1)(size) for size in text.split(",")]


def _activations(text: str) -> list[str]:
    names = arguments.names(text)
    for name in names or [text]:
        if name not in ACTIVATIONS:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return names


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`bpcore.cli.main` for what it returns and how errors end."""
    # Mistakes in the arguments are found before any work.
    if args.save is not None:
        if args.data is not None and os.path.realpath(args.save) == os.path.realpath(args.data):
            raise ValueError(f"--save {args.save} would overwrite the data")
        check_save_path(args.save)
    rate = args.learning_rate
    rate = LEARNING_RATES[args.optimizer] if rate is None else rate
    optimizer = _optimizer(args, rate)
    hidden, epochs, l2 = args.hidden, args.epochs, args.l2
    if args.data is None:
        hidden, epochs, l2 = (
            default if given is None else given
            for given, default in zip((hidden, epochs, l2), DIGITS_DEFAULTS, strict=True)
        )
    hidden, l2 = [64] if hidden is None else hidden, 1e-3 if l2 is None else l2
    if len(args.activation) not in (1, len(hidden)):
        raise ValueError(
            f"--activation must name one for each of {len(hidden)} hidden layers, got {len(args.activation)}"
        )

    table, source = _read(args)
    if table.target is None:
        raise ValueError(f"{args.data} holds no target: --target says which column it is")
    problem = choose_problem(table.target, args.loss, table.labels, table.target_place)
    rows = _split(problem, args.test_fraction, args.patience is not None, args.seed)
    weights = table.sample_weight
    if weights is not None:
        rows.check_weights(weights)
    if epochs is None:  # few rows make few steps an epoch
        epochs = min(max(100_000 // len(rows.train), 20), 300)
    network = Network(
        [table.features.shape[1], *hidden, problem.n_outputs],
        args.activation[0] if len(args.activation) == 1 else args.activation,
        problem.loss,
        dtype=args.dtype,
    )
    model = _model(network, problem, table, rows.train, args)
    X = model.scale(table.features)
    Y = _scaled_targets(model, problem)

    classes = "" if problem.class_names is None else f", {len(problem.class_names)} classes"
    if problem.independent_labels:
        classes = f", {_count(problem.n_outputs, 'label')}"
    _describe("data", f"{source}: {len(X)} rows, {_count(X.shape[1], 'feature')}{classes}")
    _describe("", rows.describe(args))
    if weights is not None:
        _describe("", f"sample_weight from {np.min(weights):g} to {np.max(weights):g}, in training and scores")
    _describe("network", f"{_architecture(network)}; {_count(network.n_parameters, 'parameter')}")
    _describe("loss", f"{problem.loss} ({problem.reason})")
    _describe(
        "training",
        f"{args.optimizer}, learning rate {rate:g}, l2 {l2:g}, "
        f"{_count(epochs, 'epoch')}, batches of {min(args.batch_size, len(rows.train))}",
    )
    print(flush=True)

    scores = _Scores(model, problem, X, rows, weights)
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    print(scores.header, flush=True)
    try:
        history = run_training(
            network,
            model.params,
            X[rows.train],
            Y[rows.train],
            optimizer=optimizer,
            epochs=epochs,
            batch_size=args.batch_size,
            seed=args.seed,
            l2=l2,
            sample_weight=_rows_of(weights, rows.train),
            validation_data=_validation_data(X, Y, weights, rows.validation),
            patience=args.patience,
            callback=_reporter(scores, epochs, _printer(progress)),
            progress=progress,
            threads=args.threads,
        )
    except FloatingPointError as error:
        what = str(error).partition(";")[0]  # the rest is for callers of the function
        scaling = ", or leaving --no-scale out," if args.no_scale else ""
        raise FloatingPointError(
            f"the training diverged: {what}; a --learning-rate below {rate:g}{scaling} may help"
        ) from None
    _conclude(args, history, scores)
    return INTERRUPTED if history.stopped == "interrupted" else 0


def _rows_of(weights: NDArray[np.float64] | None, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
    return None if weights is None else weights[rows]


def _validation_data(
    X: NDArray[Any], Y: NDArray[Any], weights: NDArray[np.float64] | None, rows: NDArray[np.intp]
) -> tuple[NDArray[Any], ...] | None:
    if not len(rows):
        return None
    return (X[rows], Y[rows]) if weights is None else (X[rows], Y[rows], weights[rows])


def _conclude(args: argparse.Namespace, history: History, scores: _Scores) -> None:
    print()
    if history.stopped == "interrupted":
        _describe("stopped", f"interrupted after {_count(len(history.cost), 'whole epoch')}")
    elif history.best_epoch is not None:
        _describe("stopped", f"after epoch {len(history.cost)}; epoch {history.best_epoch} is kept")
    for label, value in scores.final():
        _describe(label, value)
    _describe("backend", str(bpcore.backend))
    _describe("time", f"{history.seconds:.2f} s")
    if args.save is not None:
        scores.model.save(args.save)
        _describe("saved", args.save)


def _optimizer(args: argparse.Namespace, rate: float) -> Adam | GradientDescent:
    if args.optimizer == "adam":
        if args.momentum is not None:
            raise ValueError("--momentum does not go with --optimizer adam")
        return Adam(rate)
    momentum = args.momentum
    if momentum is None:
        momentum = 0.0 if args.optimizer == "sgd" else 0.9
    return GradientDescent(rate, momentum, nesterov=args.optimizer == "nesterov")


def _read(args: argparse.Namespace) -> tuple[Table, str]:
    """The table, and what to call it."""
    if args.data is None:
        given = {"--target": args.target, "--drop": args.drop, "--delimiter": args.delimiter}
        for option, value in given.items():
            if value:
                raise ValueError(f"{option} needs a data file")
        digits, labels = load_digits()
        features = digits.astype(np.float64)
        return Table(features, None, labels.astype(np.float64), labels), "UCI optdigits (bundled)"
    table = read_table(
        args.data,
        target=args.target,
        drop=args.drop,
        **arguments.table_options(args),
    )
    if table.header is None:
        return table, args.data
    counts = args.header is None and not has_words((*(table.feature_names or ()), args.target, *args.drop))
    hint = ": it counts 0, 1, 2, ...; --no-header if it is data" if table.header and counts else ""
    return table, f"{args.data} (first line taken as {'names' if table.header else 'data'}{hint})"


@dataclass(frozen=True, eq=False)
class _Rows:
    """Indices of the rows for training, for early stopping, and for the test."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]

    def check_weights(self, weights: NDArray[np.float64]) -> None:
        parts = {"training": self.train, "early stopping": self.validation, "the test": self.test}
        for name, rows in parts.items():
            if len(rows) and not weights[rows].any():
                raise ValueError(f"sample_weight must have a sum > 0 in the rows for {name}, got 0; try another --seed")

    def describe(self, args: argparse.Namespace) -> str:
        validation = f", {len(self.validation)} to stop early" if len(self.validation) else ""
        test = f"{len(self.test)} held out" if len(self.test) else "none held out"
        return f"{len(self.train)} for training{validation}, {test} (seed {args.seed})"


def _split(problem: Problem, test_fraction: float, validation: bool, seed: int) -> _Rows:
    """Draw the rows that are held out; classes keep their shares in every part."""
    generator = np.random.default_rng(seed)
    order: NDArray[np.intp] = generator.permutation(len(problem.targets))
    if problem.class_names is not None:
        order = order[np.argsort(problem.targets[order], kind="stable")]

    def hold_out(rows: NDArray[np.intp], fraction: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows without, and the rows with, that fraction taken at even distances."""
        if fraction == 0:
            return rows, rows[:0]
        if len(rows) < 2:
            raise ValueError(f"there is {len(rows)} row, too few to hold one out")
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held = ((np.arange(count) + 0.5) * len(rows) / count).astype(np.intp)
        return np.delete(rows, held), rows[held]

    train, test = hold_out(order, test_fraction)
    train, stop = hold_out(train, VALIDATION_FRACTION if validation else 0.0)
    return _Rows(train, stop, test)


def _model(
    network: Network,
    problem: Problem,
    table: Table,
    train: NDArray[np.intp],
    args: argparse.Namespace,
) -> Model:
    """The model to be trained, with the scaling that its training rows give."""
    scaling: dict[str, NDArray[np.float64]] = {}
    if not args.no_scale:
        features, weights = table.features[train], _rows_of(table.sample_weight, train)
        if args.data is None:  # all pixels are of one kind, and some are nearly always 0
            features = features.reshape(-1, 1)
        mean, scale = _mean_and_scale("feature", features, weights)
        scaling["feature_mean"] = np.resize(mean, network.sizes[0])
        scaling["feature_scale"] = np.resize(scale, network.sizes[0])
        if problem.loss in SCALED:
            mean, scale = _mean_and_scale("target", problem.targets[train], weights)
            scaling["target_mean"], scaling["target_scale"] = mean, scale
    return Model(
        network,
        network.initialize(args.seed),
        **scaling,
        class_names=problem.class_names,
        feature_names=table.feature_names,
    )


def _mean_and_scale(
    what: str, values: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column, the latter 1 where the column varies by rounding only."""
    with np.errstate(over="ignore", invalid="ignore"):
        if weights is None:
            mean, scale = values.mean(axis=0), values.std(axis=0)
        else:
            counted = weights > 0
            values, shares = values[counted], weights[counted] / np.max(weights)
            mean = np.average(values, axis=0, weights=shares)
            scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=shares))
    # The rule of scikit-learn's StandardScaler, without squares that could overflow: a variance that is not above
    # n eps variance + (n mean eps)^2 is what rounding leaves of a constant column, and must not be blown up.
    rounding = len(values) * np.finfo(np.float64).eps
    scale[np.sqrt(1 - rounding) * scale <= rounding * np.abs(mean)] = 1.0
    wrong = ~(np.isfinite(mean) & np.isfinite(scale))
    if wrong.any():
        raise ValueError(f"{what} {int(np.argmax(wrong))} has values too large to be scaled")
    return mean, scale


def _scaled_targets(model: Model, problem: Problem) -> NDArray[Any]:
    if model.target_mean is None or model.target_scale is None:
        return problem.targets
    scaled: NDArray[Any] = (problem.targets - model.target_mean) / model.target_scale
    return scaled


class _Scores:
    """How good the model is, on the rows for training and on those held out."""

    def __init__(
        self,
        model: Model,
        problem: Problem,
        X: NDArray[Any],
        rows: _Rows,
        weights: NDArray[np.float64] | None,
    ) -> None:
        self.model = model
        self._targets = problem.targets
        self._labels = problem.independent_labels
        self._X = X
        self._weights = weights
        self._parts = {"train": rows.train} | ({"test": rows.test} if len(rows.test) else {})
        measure = "RMSE" if problem.class_names is None and not self._labels else "accuracy"
        columns = [f"{part + ' ' + measure:>15}" for part in self._parts]
        self.header = " ".join(["epoch", f"{'cost':>12}", *columns])

    def _predict(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        network = self.model.network
        return self.model.unscale(network.forward(self.model.params, self._X[rows]))

    def line(self, epoch: int, cost: float) -> str:
        """A line of the report on an epoch."""
        cells = [f"{epoch:5d}", f"{cost:12.6g}"]
        for rows in self._parts.values():
            outputs, targets, weights = self._predict(rows), self._targets[rows], _rows_of(self._weights, rows)
            if self._labels:
                cells.append(f"{100 * label_accuracy(outputs, targets, weights)[0]:13.2f} %")
            elif self.model.class_names is None:
                cells.append(f"{regression_errors(outputs, targets, weights)[0]:15.6g}")
            else:
                cells.append(f"{100 * accuracy(outputs, targets, weights):13.2f} %")
        return " ".join(cells)

    def final(self) -> list[tuple[str, str]]:
        """Names and values of the final scores, on the test rows if there are any."""
        part, rows = list(self._parts.items())[-1]
        outputs, targets, weights = self._predict(rows), self._targets[rows], _rows_of(self._weights, rows)
        if self.model.class_names is not None:
            right = f"{round(accuracy(outputs, targets) * len(rows))} of {_count(len(rows), 'row')}"
            if weights is not None:
                right += ", each with its weight"
            return [(f"{part} accuracy", f"{100 * accuracy(outputs, targets, weights):.2f} % ({right})")]
        if self._labels:
            each, all_right = label_accuracy(outputs, targets, weights)
            return [
                (f"{part} accuracy", f"{100 * each:.2f} % of the labels"),
                ("", f"{100 * all_right:.2f} % of the rows with all labels right"),
            ]
        rmse, mae, r2 = regression_errors(outputs, targets, weights)
        described = "undefined (the target does not vary)" if np.isnan(r2) else f"{r2:.4f}"
        values = (f"{rmse:.6g}", f"{mae:.6g}", described)
        return [(f"{part} {name}", value) for name, value in zip(("RMSE", "MAE", "R^2"), values, strict=True)]


def _reporter(scores: _Scores, epochs: int, show: Callable[[str], None]) -> Callable[[int, History], None]:
    """A callback that prints a line for the first epoch and about eight more."""
    shown = {1} | {-(-epochs * i // 8) for i in range(1, 9)}

    def report(epoch: int, history: History) -> None:
        if epoch in shown:
            show(scores.line(epoch, history.cost[-1]))

    return report


def _printer(progress: bool) -> Callable[[str], None]:
    """A function that prints a line, above the progress bar if there is one."""
    if progress:
        from tqdm import tqdm

        return lambda line: tqdm.write(line, file=sys.stdout)
    return lambda line: print(line, flush=True)


def _architecture(network: Network) -> str:
    sizes = "-".join(map(str, network.sizes))
    same = len(set(network.hidden)) == 1
    activations = network.hidden[:1] if same else network.hidden
    return f"{sizes}, {', '.join((*activations, network.output))}, {network.dtype.name}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _describe(label: str, value: str) -> None:
    print(f"{label:<14} {value}")
