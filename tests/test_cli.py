"""The command from end to end: what it prints, what it writes, and that every error is one line and status 2."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import EMULATED, MODEL_SUFFIXES

import bpcore
from bpcore import Model, load
from bpcore.cli import main, problem, train
from bpcore.data import load_digits


def words(arguments: tuple[object, ...]) -> list[str]:
    """The arguments of a command line; a single one is cut at its spaces."""
    return [str(word) for word in (arguments[0].split() if len(arguments) == 1 else arguments)]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """A function that runs the command in a folder of its own, and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        status = main(words(arguments))
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        assert out.isascii()
        return out

    return run


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path):
    """A function that runs the command, which must fail with one line that holds the message."""
    monkeypatch.chdir(tmp_path)

    def fails(message: str, *arguments: object) -> None:
        before = set(os.listdir())
        assert main(words(arguments)) == 2
        out, err = capsys.readouterr()
        assert err.startswith("bpcore: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert message in err
        assert "Traceback" not in out + err
        assert set(os.listdir()) == before

    return fails


def values(out: str) -> dict[str, str]:
    """The labelled lines of a report."""
    return {line[:14].strip(): line[15:] for line in out.splitlines() if not line.startswith(" ")}


def table(text: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV text."""
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], rows[1:]


@pytest.fixture
def flowers(tmp_path, rng):
    """A CSV file of three kinds of points with a header, and its numbers and labels."""
    kinds = np.array(["rose", "tulip", "lily, white"])
    label = rng.integers(0, 3, 150)
    X = rng.normal(size=(150, 2)) + 5 * np.array([[0, 0], [1, 0], [0, 1]])[label]
    X *= [1, 1000]
    with open(tmp_path / "flowers.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "kind", "width"])
        writer.writerows([repr(a), kinds[k], repr(b)] for (a, b), k in zip(X.tolist(), label))
    return X, kinds[label]


@pytest.fixture
def line(tmp_path, rng):
    """A CSV file without header whose last column is linear in the two others, far from zero."""
    X = rng.normal(size=(200, 2)) * [3, 0.01] + [50, 7]
    y = 1e4 + 20 * X[:, 0] - 3000 * X[:, 1]
    np.savetxt(tmp_path / "line.csv", np.column_stack([X, y]), delimiter=";", fmt="%.17g")
    return X, y


# -------------------------------------------------------------------------------------------------------------- digits


def test_digits_are_those_of_scikit_learn():
    """The numbers of optdigits: shape, counts of the classes, first image, and the hash of all of them."""
    X, y = load_digits()
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((1797, 64), np.uint8, (1797,), np.int64)
    assert np.bincount(y.astype(np.intp)).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (X.min(), X.max(), int(X.sum(dtype=np.int64))) == (0, 16, 561718)
    assert X[0, :16].tolist() == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    assert hashlib.sha256(X.tobytes() + y.astype(np.uint8).tobytes()).hexdigest() == DIGITS_SHA256


#: Of scikit-learn's ``load_digits()``: the bytes of ``data`` and of ``target``, both as uint8.
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@pytest.mark.parametrize("seed", [0] if EMULATED else [0, 1, 2])
def test_digits_are_learnt(run, backend, seed):
    out = run("train", "--seed", seed)
    found = values(out)
    assert float(found["test accuracy"].split()[0]) >= 97
    assert found["test accuracy"].endswith("of 359 rows)")
    assert found["backend"] == backend
    assert re.fullmatch(r"\d+\.\d\d s", found["time"])
    assert 5 <= len(re.findall(r"^ +\d+ +[\d.]+ +[\d.]+ % +[\d.]+ %$", out, re.MULTILINE)) <= 10


def test_the_reported_accuracy_is_that_of_the_saved_model(run, tmp_path):
    out = run("train", "--epochs", 2, "--hidden", 16, "--seed", 5, "--save", "m.npz")
    X, y = load_digits()
    # The model is as good on all rows as the table of the last epoch says of both parts.
    train, test = map(float, re.findall(r"^ +2 +\S+ +([\d.]+) % +([\d.]+) %$", out, re.MULTILINE)[0])
    right = np.mean(load(tmp_path / "m.npz").classify(X) == y)
    assert right == pytest.approx((train * 1438 + test * 359) / 1797 / 100, abs=1e-4)


def test_the_same_seed_gives_the_same_file(run, tmp_path):
    for name in ("a.npz", "b.npz"):
        run("train", "--epochs", 2, "--hidden", 8, "--seed", 3, "--save", name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    run("train", "--epochs", 2, "--hidden", 8, "--seed", 4, "--save", "b.npz")
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()


# ------------------------------------------------------------------------------------------------------- own data


@pytest.mark.parametrize("suffix", MODEL_SUFFIXES)
@pytest.mark.parametrize("loss", [None, "cross_entropy", "squared_error"])
def test_classification(run, fails, flowers, suffix, loss):
    X, kinds = flowers
    arguments = ["train", "flowers.csv", "--target", "kind", "--save", f"m{suffix}", "--hidden", "8"]
    if loss == "squared_error":
        message = f"(line 2), column 1 'kind': the target of squared_error must be numbers, got {str(kinds[0])!r}"
        fails(message, *arguments, "--loss", loss)
        return
    out = run(*arguments, *(["--loss", loss] if loss else []))
    assert float(values(out)["test accuracy"].split()[0]) > 90
    assert values(out)["loss"] == f"cross_entropy ({'as --loss says' if loss else 'the target is text'})"

    header, rows = table(run("predict", f"m{suffix}", "flowers.csv", "--probabilities"))
    names = ["lily, white", "rose", "tulip"]
    assert header == ["prediction", *(f"probability_{name}" for name in names)]
    found = np.array([row[1:] for row in rows], float)
    model = load(f"m{suffix}")
    assert model.feature_names == ("length", "width")
    assert model.class_names == tuple(names)
    scaled = ((X - model.feature_mean) / model.feature_scale).astype(np.float32)
    expected = model.network.forward(model.params, scaled)
    np.testing.assert_array_equal(found.astype(np.float32), expected)
    assert [row[0] for row in rows] == [names[i] for i in expected.argmax(axis=1)]
    assert np.mean([row[0] == kind for row, kind in zip(rows, kinds)]) > 0.9


def test_columns_are_taken_by_name_or_place(run, fails, flowers, tmp_path):
    X, _ = flowers
    run("train", "flowers.csv", "--target", "1", "--epochs", 3, "--save", "m.npz")
    expected = run("predict", "m.npz", "flowers.csv")
    lines = [f"{b!r},x,{a!r}" for a, b in X.tolist()]
    (tmp_path / "turned.csv").write_text("\n".join(["width,id,length", *lines]))
    assert run("predict", "m.npz", "turned.csv") == expected
    np.savetxt(tmp_path / "bare.csv", X, delimiter=",", fmt="%.17g")
    assert run("predict", "m.npz", "bare.csv") == expected
    np.save(tmp_path / "bare.npy", X)
    assert run("predict", "m.npz", "bare.npy") == expected
    np.savez(tmp_path / "bare.npz", X=X, y=np.zeros(len(X)))
    assert run("predict", "m.npz", "bare.npz") == expected
    np.save(tmp_path / "more.npy", np.insert(X, 0, np.nan, axis=1))
    assert run("predict", "m.npz", "more.npy", "--target", 0) == expected
    assert run("predict", "m.npz", "more.npy", "--drop", 0) == expected
    fails("more.npy has 3 feature columns, but the model takes 2", "predict", "m.npz", "more.npy")
    (tmp_path / "other.csv").write_text("length,height\n1,2\n")
    fails("no column 'width', which the model takes", "predict", "m.npz", "other.csv")
    assert run("predict", "m.npz", "flowers.csv", "--output", "out.csv") == ""
    assert (tmp_path / "out.csv").read_bytes().decode() == expected


@pytest.mark.parametrize("loss", [None, "squared_error", "huber", "absolute_error"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regression(run, line, loss, dtype):
    X, y = line
    arguments = ["train", "line.csv", "--target", "-1", "--save", "m.npz", "--dtype", dtype]
    out = run(*arguments, "--hidden", "none", "--l2", 0, *(["--loss", loss] if loss else []))
    found = values(out)
    assert float(found["test R^2"]) > 0.99
    assert found["network"] == f"2-1, identity, {dtype}; 3 parameters"
    header, rows = table(run("predict", "m.npz", "line.csv", "--target", 2))
    assert header == ["prediction"]
    predicted = np.array(rows, float)[:, 0]
    assert np.corrcoef(predicted, y)[0, 1] > 0.99
    assert abs(np.mean(predicted - y)) < np.std(y)  # in the units of y, which is far from zero
    model = load("m.npz")
    scaled = ((X - model.feature_mean) / model.feature_scale).astype(dtype)
    expected = model.network.forward(model.params, scaled) * model.target_scale + model.target_mean
    np.testing.assert_allclose(predicted, expected[:, 0], rtol=1e-8 if dtype == "float32" else 0)


def test_regression_errors_are_in_the_units_of_the_target(run, line):
    out = run("train line.csv --target 2 --epochs 5 --test-fraction 0 --save m.npz")
    found = values(out)
    predicted = np.array(table(run("predict", "m.npz", "line.csv", "--target", 2))[1], float)[:, 0]
    error = predicted - line[1]
    assert float(found["train RMSE"]) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert float(found["train MAE"]) == pytest.approx(np.mean(np.abs(error)), rel=1e-4)
    assert float(found["train R^2"]) == pytest.approx(1 - np.var(line[1]) ** -1 * np.mean(error**2), abs=1e-3)
    assert "test" not in out


def test_counts(run, rng, tmp_path):
    X = rng.normal(size=(400, 1))
    np.savez(tmp_path / "d.npz", X=X, y=rng.poisson(np.exp(1 + X[:, 0])))
    run("train d.npz --loss poisson --hidden none --l2 0 --learning-rate 0.01 --save m.npz")
    predicted = np.array(table(run("predict", "m.npz", "d.npz"))[1], float)
    np.testing.assert_allclose(predicted, np.exp(1 + X), rtol=0.4)


def test_several_targets(run, rng, tmp_path):
    X = rng.normal(size=(300, 2))
    Y = X @ [[1, 2, 0], [0, 1, -50]] + [0, 10, 1000]
    np.savez(tmp_path / "d.npz", X=X, y=Y)
    out = run("train", "d.npz", "--hidden", "none", "--learning-rate", 0.01, "--l2", 0, "--save", "m.npz")
    assert float(values(out)["test R^2"]) > 0.999
    header, rows = table(run("predict", "m.npz", "d.npz"))
    assert header == ["prediction_0", "prediction_1", "prediction_2"]
    np.testing.assert_allclose(np.array(rows, float), Y, atol=0.5)


@pytest.mark.parametrize("classes", [False, True])
def test_sample_weights_are_used(run, rng, tmp_path, classes):
    """Two kinds of rows contradict each other, and those that weigh more are learnt; scores count by weight, too."""
    x = rng.normal(size=400)
    liar = np.arange(400) % 2 == 0
    target = x > 0 if classes else 3 * x
    y = np.where(liar, ~target if classes else -target, target)
    w = np.where(liar, 0.0, 2.0)
    x = np.where(liar & (rng.random(400) < 0.05), 1e12, x)  # nor does a row of weight 0 change the scaling
    np.savez(tmp_path / "d.npz", X=x[:, None], y=y, sample_weight=w)
    out = run("train d.npz --hidden 8 --learning-rate 0.01 --patience 20 --save m.npz")
    assert "sample_weight from 0 to 2, in training and scores" in out
    found = values(out)
    if classes:
        assert float(found["test accuracy"].split()[0]) > 95
        assert found["test accuracy"].endswith(" of 80 rows, each with its weight)")
    else:
        assert float(found["test R^2"]) > 0.95
    model = load("m.npz")
    assert abs(model.feature_mean[0]) < 1
    assert model.feature_scale[0] < 2
    assert len(table(run("predict m.npz d.npz"))[1]) == 400


def test_a_weight_of_two_is_the_row_twice(rng):
    X, Y, w = rng.normal(size=(50, 3)) * 5 + 2, rng.normal(size=(50, 2)), rng.integers(0, 4, 50)
    copies = np.repeat(np.arange(50), w)
    for got, expected in (
        (train._mean_and_scale("feature", X, w.astype(float)), train._mean_and_scale("feature", X[copies])),
        (problem.regression_errors(X[:, :2], Y, w), problem.regression_errors(X[copies, :2], Y[copies])),
        ([problem.accuracy(X, w % 3, w)], [problem.accuracy(X[copies], (w % 3)[copies])]),
    ):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_weights_of_0_in_a_whole_part_are_refused(fails, tmp_path):
    np.savez(tmp_path / "d.npz", X=np.ones((20, 1)), y=np.arange(20.0) / 7, sample_weight=np.arange(20) == 0)
    fails("sample_weight must have a sum > 0 in the rows for ", "train d.npz")


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_one_hot_rows_are_classes(run, rng, tmp_path, dtype):
    X = rng.normal(size=(300, 3))
    kind = X.argmax(axis=1)
    np.savez(tmp_path / "d.npz", X=X, y=np.eye(4)[kind].astype(dtype))  # the last column has no 1
    out = run("train d.npz --hidden 16 --learning-rate 0.01 --epochs 60 --save m.npz")
    assert values(out)["loss"] == "cross_entropy (each row of the target has a single 1 in 4 columns)"
    assert values(out)["data"] == "d.npz: 300 rows, 3 features, 4 classes"
    assert float(values(out)["test accuracy"].split()[0]) > 90
    header, rows = table(run("predict m.npz d.npz --probabilities"))
    assert header == ["prediction", *(f"probability_{i}" for i in range(4))]
    assert np.mean([int(row[0]) == k for row, k in zip(rows, kind)]) > 0.9
    assert "squared_error (as --loss says)" in run("train d.npz --loss squared_error --epochs 1")


def test_columns_of_0_and_1_are_independent_labels(run, fails, rng, tmp_path):
    X = rng.normal(size=(300, 3))
    Y = X > [0, 0.5, -0.5]
    np.savez(tmp_path / "d.npz", X=X, y=Y.astype(int))
    out = run("train d.npz --hidden 16 --learning-rate 0.01 --epochs 60 --save m.npz")
    reason = "the target is 3 columns of 0 and 1, independent labels"
    assert values(out)["loss"] == f"binary_cross_entropy ({reason})"
    assert values(out)["data"] == "d.npz: 300 rows, 3 features, 3 labels"
    scores = r"^test accuracy +([\d.]+) % of the labels\n +([\d.]+) % of the rows with all labels right$"
    each = re.search(scores, out, re.MULTILINE)
    assert 95 < float(each[1]) <= 100
    assert 80 < float(each[2]) <= float(each[1])
    header, rows = table(run("predict m.npz d.npz"))
    assert header == ["prediction_0", "prediction_1", "prediction_2"]
    assert np.mean((np.array(rows, float) > 0.5) == Y) > 0.95
    row = int(np.argmax(Y.sum(axis=1) != 1))
    message = f"the target of cross_entropy must have a single 1 in each row, got {Y[row].sum()} in row {row + 1}"
    fails(message, "train d.npz --loss cross_entropy")
    np.savez(tmp_path / "e.npz", X=X, y=np.eye(3)[np.zeros(300, int)])
    fails("the target has one class only, '0'", "train e.npz")
    np.savez(tmp_path / "e.npz", X=X, y=X)
    fails("one class per row, or columns of 0 and 1", "train e.npz --loss binary_cross_entropy")


def test_two_classes_with_one_output(run, rng, tmp_path):
    X = rng.normal(size=(200, 2))
    np.savetxt(tmp_path / "d.csv", np.column_stack([X, np.where(X.sum(axis=1) > 0, 3, -1.5)]), "%.17g", ",")
    out = run("train d.csv --target 2 --loss binary_cross_entropy --hidden 8 --save m.npz")
    assert float(values(out)["test accuracy"].split()[0]) > 90
    header, rows = table(run("predict m.npz d.csv --target 2 --probabilities"))
    assert header == ["prediction", "probability_-1.5", "probability_3"]
    for label, low, high in rows:
        assert float(low) + float(high) == pytest.approx(1, abs=1e-6)
        assert label == ("3" if float(high) > float(low) else "-1.5")


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ([0, 1, 2, 1] * 6, "cross_entropy"),
        ([0, 1, 2, 1.5] * 6, "squared_error"),
        (range(20), "cross_entropy"),
        (range(21), "squared_error"),
        (["1", "2", "x"] * 6, "cross_entropy"),
    ],
)
def test_the_loss_is_chosen_by_the_target(run, tmp_path, target, loss):
    (tmp_path / "d.csv").write_text("\n".join(f"{i},{y}" for i, y in enumerate(target)))
    assert values(run("train", "d.csv", "--target", 1, "--epochs", 1))["loss"].startswith(loss)


@pytest.mark.parametrize(
    ("cell", "cure"), [("n.b.", "write a plain number"), ("-", "plain number"), ('"12,5"', "decimal point")]
)
def test_a_target_of_numbers_with_a_cell_that_is_none_is_refused(run, fails, tmp_path, cell, cure):
    rows = [f"{i},{100 + i % 50}.5" for i in range(200)]
    rows[7] = f"7,{cell}"
    (tmp_path / "d.csv").write_text("a,price\n" + "\n".join(rows))
    text = cell.strip('"')
    place = "d.csv, row 8 (line 9), column 1 'price': "
    rows_with = "(not a number in 1 of 200 rows)"
    message = f"{place}a target of numbers must have numbers only, got {text!r} {rows_with}; "
    fails(message, "train d.csv --target price")
    fails(cure, "train d.csv --target price")
    fails("; --loss cross_entropy if the 51 different values are classes", "train d.csv --target price")
    fails(f"{place}the target of huber must be numbers, got {text!r}", "train d.csv --target price --loss huber")
    assert "51 classes" in run("train d.csv --target price --loss cross_entropy --epochs 1")
    np.savez(tmp_path / "d.npz", X=np.ones((200, 1)), y=[row.partition(",")[2].strip('"') for row in rows])
    fails(f"d.npz: y[7]: a target of numbers must have numbers only, got {text!r}", "train d.npz")


@pytest.mark.parametrize("form", ["{},5", "${},250.00", "{} %", "-{}'000"])
def test_a_target_of_numbers_in_another_form_is_refused(fails, tmp_path, form):
    (tmp_path / "d.csv").write_text("a;y\n" + "".join(f"{i};{form.format(i % 40)}\n" for i in range(60)))
    message = f"row 1 (line 2), column 1 'y': a target of numbers must have numbers only, got {form.format(0)!r}"
    fails(message, "train d.csv --target y")


def test_text_of_many_values_with_some_numbers_is_classes(run, tmp_path):
    (tmp_path / "d.csv").write_text("a,y\n" + "".join(f"{i},{'n' * (i % 2)}{i % 30}\n" for i in range(120)))
    assert "cross_entropy (the target is text)" in run("train d.csv --target y --epochs 1")


def test_class_names_are_sorted_as_what_they_are():
    chosen = problem.choose_problem(np.array([10.0, 9, 0.5, 10]), "cross_entropy")
    assert chosen.class_names == ("0.5", "9", "10")
    assert chosen.targets.tolist() == [2, 1, 0, 2]
    chosen = problem.choose_problem(np.array([True, False]), "cross_entropy")
    assert chosen.class_names == ("0", "1")


@pytest.mark.parametrize(
    "labels",
    [
        ["9007199254740993", "9007199254740995", "9007199254740997"],
        ["18446744073709551614", "18446744073709551615"],
        ["9007199254740992", "9007199254740993", "9007199254740993.5"],
        ["01234", "02345", "11111"],
        ["1.0", "2.0", "10.0"],
        ["1e0", "20", "+3e1"],
        ["01234", "1234", "x"],  # not numbers, so not two spellings of one
    ],
)
def test_classes_are_what_is_written(run, tmp_path, labels):
    """Neither merged nor rewritten: 64-bit numbers, zip codes, fractions."""
    rows = [(i % len(labels), labels[i % len(labels)]) for i in range(30 * len(labels))]
    (tmp_path / "d.csv").write_text("a,y\n" + "".join(f"{i}, {label} \n" for i, label in rows))
    run("train d.csv --target y --loss cross_entropy --hidden 16 --learning-rate 0.01 --save m.npz")
    assert load("m.npz").class_names == tuple(labels)
    assert table(run("predict", "m.npz", "d.csv"))[1] == [[label] for _, label in rows]


@pytest.mark.parametrize("dtype", ["int64", "uint64", ">i8"])
@pytest.mark.parametrize("name", ["d.npy", "d.npz"])
def test_integers_of_an_array_are_exact_classes(run, tmp_path, dtype, name):
    y = np.array([2**53 + 1, 2**53 + 3, 2**63 - 1] * 20, dtype)
    X = np.repeat([[0, 1, 2]], 20, axis=0).reshape(-1, 1).astype(dtype)
    if name == "d.npz":
        np.savez(tmp_path / name, X=X, y=y)
    else:
        np.save(tmp_path / name, np.column_stack([X, y]))
    where = [] if name == "d.npz" else ["--target", 1]
    out = run("train", name, *where, "--hidden", 16, "--learning-rate", 0.01, "--save", "m.npz")
    assert values(out)["loss"] == "cross_entropy (the target has 3 different whole numbers)"
    assert [row[0] for row in table(run("predict", "m.npz", name, *where))[1]] == [str(i) for i in y]


@pytest.mark.parametrize("labels", [("1", "1.0"), ("01234", "1234"), ("+1", "1"), ("100", "1e2"), ("-0", "0")])
def test_two_spellings_of_one_number_are_refused_as_classes(fails, tmp_path, labels):
    (tmp_path / "d.csv").write_text("".join(f"{i},{label}\n" for i, label in enumerate([*labels, "7"] * 9)))
    message = f"the target has '{labels[0]}' and '{labels[1]}', two spellings of one number"
    fails(message, "train", "d.csv", "--target", 1)
    fails(message, "train", "d.csv", "--target", 1, "--loss", "cross_entropy")
    assert main(["train", "d.csv", "--target", "1", "--loss", "squared_error", "--epochs", "1"]) == 0


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("1,2,3", "first line taken as data): 11 rows, 2 features, 3 classes"),
        ("a,b,y", "first line taken as names): 10 rows, 2 features, 2 classes"),
    ],
)
def test_the_report_says_how_the_first_line_was_taken(run, tmp_path, first, said):
    (tmp_path / "d.csv").write_text(first + "\n" + "4,5,x\n6,7,y\n" * 5)
    assert values(run("train d.csv --target 2 --epochs 1"))["data"] == f"d.csv ({said}"


@pytest.mark.parametrize("cell", ["-", "n.b.", '"1,5"', "1_000"])
def test_a_first_row_of_data_is_not_taken_as_names(run, fails, tmp_path, cell):
    """Neither by train nor by predict, whether the model knows names or not: n rows give n predictions, or an error."""
    rows = "".join(f"{i},{i % 3}.5,{i % 2}\n" for i in range(20))
    (tmp_path / "bare.csv").write_text(rows)
    (tmp_path / "named.csv").write_text("a,b,y\n" + rows)
    (tmp_path / "first.csv").write_text(f"5.1,{cell},0\n" + rows)
    (tmp_path / "new.csv").write_text(f"5.1,{cell}\n7,8\n9,10\n")
    shown = repr(cell.strip('"'))
    message = f".csv, row 1 (line 1), column 1: {shown} is not a number; --header if that row holds names"
    fails("first" + message, "train first.csv --target 2")
    for data, target in (("bare.csv", "2"), ("named.csv", "y")):
        run("train", data, "--target", target, "--epochs", 1, "--save", "m.npz")
        fails("new" + message, "predict m.npz new.csv")
        if "," in cell:
            fails("; --decimal , reads decimal commas", "predict m.npz new.csv")
        (tmp_path / "ok.csv").write_text("5.1,6\n7,8\n9,10\n")
        assert len(table(run("predict m.npz ok.csv"))[1]) == 3


def test_predict_says_that_it_takes_a_first_line_as_names(run, capsys, tmp_path):
    """Where the model has no names that would show that it is a header."""
    (tmp_path / "bare.csv").write_text("".join(f"{i},{i % 3}.5,{i % 2}\n" for i in range(20)))
    run("train bare.csv --target 2 --epochs 1 --save m.npz")
    (tmp_path / "new.csv").write_text("a,b\n7,8\n9,10\n")
    note = "bpcore: first line of new.csv taken as names; --no-header if it is data\n"
    for option, said in ([], note), (["--header"], ""):
        assert main(["predict", "m.npz", "new.csv", *option]) == 0
        out, err = capsys.readouterr()
        assert err == said
        assert len(table(out)[1]) == 2


def test_options_of_the_file_go_to_train_and_predict(run, tmp_path):
    rows = "".join(f"{i}.5,{i % 3},{i % 2}\n" for i in range(20))
    (tmp_path / "d.csv").write_bytes(("% größe\ngröße,b,y\n% end\n" + rows).encode("latin-1"))
    options = ["--encoding", "latin-1", "--comment", "%"]
    out = run("train", "d.csv", "--target", "y", "--epochs", 1, "--save", "m.npz", *options)
    assert values(out)["data"] == "d.csv (first line taken as names): 20 rows, 2 features, 2 classes"
    assert len(table(run("predict", "m.npz", "d.csv", *options))[1]) == 20


def test_decimal_commas_are_read_by_train_and_predict(run, fails, tmp_path):
    (tmp_path / "d.csv").write_text("a;y\n" + "".join(f"{i},5;{i},25\n" for i in range(60)))
    fails("; --decimal , reads decimal commas", "train d.csv --target y")
    options = ["--decimal", ","]
    out = run("train", "d.csv", "--target", "y", "--epochs", 1, "--save", "m.npz", *options)
    assert values(out)["loss"] == "squared_error (the target is a quantity)"
    assert load("m.npz").feature_mean[0] == pytest.approx(30, abs=5)
    assert len(table(run("predict", "m.npz", "d.csv", *options))[1]) == 60


def test_a_header_that_counts_is_taken_as_names_and_said(run, fails, capsys, tmp_path):
    rows = "".join(f"{i}.5,{i % 3},{i % 2}\n" for i in range(20))
    (tmp_path / "d.csv").write_text("0,1,2\n" + rows)
    said = "first line taken as names: it counts 0, 1, 2, ...; --no-header if it is data"
    out = run("train d.csv --target 2 --epochs 1 --save m.npz")
    assert values(out)["data"] == f"d.csv ({said}): 20 rows, 2 features, 2 classes"
    out = run("train d.csv --target 2 --epochs 1 --no-header")
    assert values(out)["data"] == "d.csv (first line taken as data): 21 rows, 2 features, 3 classes"
    (tmp_path / "new.csv").write_text("0,1\n3.5,4\n5.5,6\n")
    assert main(["predict", "m.npz", "new.csv"]) == 0
    out, err = capsys.readouterr()
    assert len(table(out)[1]) == 2
    assert err == "bpcore: first line of new.csv taken as names; --no-header if it is data\n"
    (tmp_path / "named.csv").write_text("a,b,y\n" + rows)
    run("train named.csv --target y --epochs 1 --save m.npz")
    message = "no column 'a' and 1 more, which the model takes; its columns are '0', '1'; --no-header if"
    fails(message, "predict m.npz new.csv")
    (tmp_path / "years.csv").write_text("2019,2020,y\n" + rows)
    assert "years.csv (first line taken as names): 20 rows" in run("train years.csv --target y --epochs 1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--optimizer adam --learning-rate 0.01", "adam, learning rate 0.01, l2 0.0005, 1 epoch, batches of 32"),
        ("--optimizer sgd --batch-size 5000", "sgd, learning rate 0.1, l2 0.0005, 1 epoch, batches of 1438"),
        ("--optimizer momentum --l2 0", "momentum, learning rate 0.01, l2 0, 1 epoch, batches of 32"),
        ("--optimizer nesterov --momentum 0.5", "nesterov, learning rate 0.01, l2 0.0005, 1 epoch, batches of 32"),
    ],
)
def test_optimizers(run, arguments, line):
    out = run("train", "--epochs", 1, "--hidden", "8", "--threads", 1, *arguments.split())
    assert values(out)["training"] == line


def test_momentum_matters(run, tmp_path):
    contents = []
    for optimizer in ("sgd", "momentum", "nesterov"):
        run("train", "--epochs", 1, "--hidden", 4, "--optimizer", optimizer, "--learning-rate", 0.01, "--save", "m.npz")
        contents.append((tmp_path / "m.npz").read_bytes())
    run("train --epochs 1 --hidden 4 --optimizer sgd --momentum 0.9 --learning-rate 0.01 --save m.npz")
    assert contents[1] == (tmp_path / "m.npz").read_bytes()
    assert len(set(contents)) == 3


def test_network_arguments(run):
    out = run("train --epochs 1 --hidden 8,4 --activation tanh,silu --dtype float64")
    assert values(out)["network"] == "64-8-4-10, tanh, silu, softmax, float64; 606 parameters"
    out = run("train --epochs 1 --hidden 8,4 --activation gelu")
    assert values(out)["network"] == "64-8-4-10, gelu, softmax, float32; 606 parameters"


def test_patience(run):
    out = run("train --hidden none --learning-rate 0.1 --patience 2 --epochs 200")
    assert re.search(r"1294 for training, 144 to stop early, 359 held out", out)
    last, best = map(int, re.search(r"after epoch (\d+); epoch (\d+) is kept", out).groups())
    assert last == best + 2 < 200


def test_no_scale(run, tmp_path):
    run("train", "--no-scale", "--epochs", 1, "--hidden", 4, "--save", "m.npz")
    assert load(tmp_path / "m.npz").feature_mean is None


def test_constant_columns_are_not_blown_up(run, rng, tmp_path):
    X = np.column_stack([np.full(50, 0.1), rng.normal(size=50)])
    np.savez(tmp_path / "d.npz", X=X, y=X[:, 1])
    run("train", "d.npz", "--epochs", 1, "--save", "m.npz")
    model = load(tmp_path / "m.npz")
    assert model.feature_scale[0] == 1
    assert abs(model.feature_mean[0] - 0.1) < 1e-12


def test_columns_that_vary_by_rounding_only_are_not_blown_up(run, rng, tmp_path):
    """0.3 and 0.1 + 0.2, as after a change of units; another value of the column is not divided by the rounding."""
    X = np.column_stack([np.where(rng.random(400) < 0.5, 0.3, 0.1 + 0.2), rng.normal(size=400)])
    assert len(set(X[:, 0])) == 2
    np.savez(tmp_path / "d.npz", X=X, y=X[:, 1])
    run("train d.npz --hidden none --epochs 5 --save m.npz")
    assert load("m.npz").feature_scale[0] == 1
    np.save(tmp_path / "new.npy", [[0.31, 0.0]])
    assert abs(float(table(run("predict m.npz new.npy"))[1][0][0])) < 2


def test_the_scale_is_that_of_scikit_learn(rng):
    preprocessing = pytest.importorskip(
        "sklearn.preprocessing", reason="scikit-learn comes with the dev extra; not every platform has it"
    )
    base = 10.0 ** rng.integers(-5, 6, 60) * rng.normal(size=60)
    X = base + base * rng.normal(size=(100, 60)) * 10.0 ** rng.integers(-17, -10, 60)
    scale = train._mean_and_scale("feature", X)[1]
    expected = preprocessing.StandardScaler().fit(X).scale_
    assert 5 < np.sum(expected == 1) < 55
    np.testing.assert_array_equal(scale == 1, expected == 1)
    np.testing.assert_allclose(scale, expected, rtol=0.05)
    large = train._mean_and_scale("feature", np.array([[1e150], [2e150]]))[1]
    assert large[0] == pytest.approx(5e149)


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5])
def test_held_out_rows_keep_the_shares_of_the_classes(fraction):
    from bpcore.cli.train import _split

    labels = np.repeat([0, 1, 2], [10, 40, 150])
    rows = _split(problem.Problem("cross_entropy", labels, ("a", "b", "c"), 3, ""), fraction, True, seed=1)
    parts = [rows.train, rows.validation, rows.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert np.bincount(labels[rows.test], minlength=3).tolist() == [10 * fraction, 40 * fraction, 150 * fraction]


def test_interruption(capsys, monkeypatch, tmp_path):
    """Ctrl-C in training keeps what was learnt, says so, and tells the shell."""
    monkeypatch.chdir(tmp_path)
    line = train._Scores.line

    def interrupted(self, epoch, cost):
        if epoch == 4:
            raise KeyboardInterrupt
        return line(self, epoch, cost)

    monkeypatch.setattr(train._Scores, "line", interrupted)
    assert main(["train", "--hidden", "8", "--save", "m.npz"]) == 130
    out, err = capsys.readouterr()
    assert values(out)["stopped"] == "interrupted after 4 whole epochs"
    assert err == ""
    assert load("m.npz").network.sizes == (64, 8, 10)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("the following arguments are required: command", ""),
        ("invalid choice: 'learn'", "learn"),
        ("unrecognized arguments: --nix", "info --nix"),
        ("argument --epochs: must be an integer >= 1, got '0'", "train --epochs 0"),
        ("argument --epochs: must be an integer >= 1, got '1.5'", "train --epochs 1.5"),
        ("argument --batch-size: must be an integer >= 1, got '-3'", "train --batch-size -3"),
        ("argument --hidden: must be an integer >= 1, got '0'", "train --hidden 64,0"),
        ("argument --hidden: must be an integer >= 1, got ''", "train --hidden 64,,32"),
        ("argument --activation: must be one of identity, ", "train --activation step"),
        ("argument --activation: must be one of identity, ", "train --activation softmax"),
        ("--activation must name one for each of 1 hidden layers, got 2", "train --activation relu,tanh"),
        ("argument --loss: invalid choice: 'x'", "train --loss x"),
        ("argument --optimizer: invalid choice: 'x'", "train --optimizer x"),
        ("argument --learning-rate: must be a number above 0", "train --learning-rate 0"),
        ("argument --learning-rate: must be a number above 0, got 'nan'", "train --learning-rate nan"),
        ("argument --learning-rate: must be a number above 0, got 'inf'", "train --learning-rate inf"),
        ("argument --momentum: must be a number of at least 0 and below 1", "train --momentum 1"),
        ("--momentum does not go with --optimizer adam", "train --momentum 0.5"),
        ("argument --l2: must be a number of at least 0, got '-1'", "train --l2 -1"),
        ("argument --test-fraction: must be a number of at least 0 and below 1, got '1'", "train --test-fraction 1"),
        ("argument --seed: must be an integer >= 0, got '-1'", "train --seed -1"),
        ("argument --threads: must be an integer >= 1, got '0'", "train --threads 0"),
        ("--target needs a data file", "train --target 3"),
        ("--target says which column of flowers.csv is to be predicted; it has the columns 'le", "train flowers.csv"),
        ("--target says which column it is", "train X.npy"),
        ("nix.csv: No such file or directory", "train nix.csv"),
        ("nix.npy: No such file or directory", "train nix.npy"),
        ("folder: ", "train folder"),
        ("misnamed.csv is not UTF-8 text", "train misnamed.csv"),
        ("broken.npy is not a .npy file of plain arrays", "train broken.npy"),
        ("a number whose exponent is too large for a class", "train tiny.csv --target 1 --loss cross_entropy"),
        ("--target says which column it is", "train X.npz"),
        ("nix.csv: No such file or directory", "train nix.csv --target 1"),
        ("nix.npz: No such file or directory", "predict nix.npz flowers.csv"),
        ("flowers.csv has no column 'color'", "train flowers.csv --target color"),
        ("row 1 (line 2), column 1 'kind': 'lily, white' is not a number", "train flowers.csv --target length"),
        ("the target has one class only, '3'", "train one.csv --target 1"),
        (
            "the target of binary_cross_entropy must have two classes, got 3",
            "train flowers.csv --target kind --loss binary_cross_entropy",
        ),
        ("another value in each of its 30 rows", "train many.csv --target 1 --loss cross_entropy"),
        ("the target of poisson must be >= 0, got -3", "train many.csv --target 2 --loss poisson"),
        ("there is 1 row, too few to hold one out", "train row.csv --target 1 --loss squared_error"),
        ("feature 0 has values too large to be scaled", "train large.csv --target 1 --loss squared_error"),
        (
            "X must be finite as float32, got X[0, 0] = 1e",
            "train large.csv --target 1 --loss squared_error --no-scale",
        ),
        ("flowers.csv is not a valid model file: neither", "predict flowers.csv flowers.csv"),
        ("needs a model of classes, got line.npz, which predicts numbers", "predict line.npz line.csv --probabilities"),
        ("line.csv has 3 feature columns, but the model takes 2", "predict line.npz line.csv"),
        ("--output line.csv would overwrite what is read", "predict line.npz line.csv --target 2 --output line.csv"),
        ("--output line.npz would overwrite what is read", "predict line.npz line.csv --target 2 --output line.npz"),
        ("nix/out.csv: No such file or directory", "predict line.npz line.csv --target 2 --output nix/out.csv"),
        ("--save X.npz would overwrite the data", "train X.npz --target 0 --save X.npz"),
    ],
)
def test_errors_are_one_line(fails, run, flowers, line, tmp_path, message, arguments):
    np.savez(tmp_path / "X.npz", X=np.random.default_rng(0).normal(size=(9, 2)))
    (tmp_path / "one.csv").write_text("1,3\n2,3\n")
    np.save(tmp_path / "X.npy", np.ones((9, 2)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "misnamed.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "broken.npy").write_text("x")
    (tmp_path / "tiny.csv").write_text(f"1,1e-{10**20}\n2,1\n")
    (tmp_path / "row.csv").write_text("1,3\n")
    (tmp_path / "large.csv").write_text("1e308,1\n-1e308,2\n1e308,3\n")
    (tmp_path / "many.csv").write_text("".join(f"{i},{i},{i * 7 - 3}\n" for i in range(30)))
    if "line.npz" in arguments:
        run("train line.csv --target 2 --epochs 1 --save line.npz")
    fails(message, arguments)


@pytest.mark.parametrize("scaling", ["", ", or leaving --no-scale out,"])
def test_divergence_is_told_in_terms_of_the_command(capsys, monkeypatch, tmp_path, line, scaling):
    monkeypatch.chdir(tmp_path)
    arguments = "train line.csv --target 2 --learning-rate 1e20 --optimizer sgd --save m.npz"
    assert main(words((arguments + " --no-scale" * bool(scaling),))) == 2
    err = capsys.readouterr().err
    hint = re.escape(f"; a --learning-rate below 1e+20{scaling} may help\n")
    assert re.fullmatch(r"bpcore: error: the training diverged: the cost is \S+ at epoch \d+, step \d+" + hint, err)
    assert not os.path.exists("m.npz")


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
@pytest.mark.parametrize("scaled", [False, True])
def test_predictions_that_are_not_finite_are_refused(fails, tmp_path, suffix, scaled):
    net = bpcore.Network([2, 1], loss="squared_error", dtype="float32")
    scaling = {"target_mean": [0.0], "target_scale": [1e307]} if scaled else {}
    params = np.full(3, 3 if scaled else 3e38, np.float32)
    Model(net, params, **scaling).save(tmp_path / "m.npz")
    X = np.array([[0, 0], [-0.5, -0.5], [9, 9], [-9, -9]])
    if suffix == ".npy":
        np.save(tmp_path / "d.npy", X)
    else:
        np.savetxt(tmp_path / "d.csv", X, delimiter=",")
    fails(f"m.npz gives inf for row 3 of d{suffix}", "predict", "m.npz", f"d{suffix}")
    fails(f"m.npz gives inf for row 3 of d{suffix}", "predict", "m.npz", f"d{suffix}", "--output", "out.csv")


def test_probabilities_that_are_not_numbers_are_refused(fails, tmp_path):
    net = bpcore.Network([2, 2], loss="cross_entropy", dtype="float32")
    Model(net, np.full(6, 3e38, np.float32), class_names=("a", "b")).save(tmp_path / "m.npz")
    np.save(tmp_path / "d.npy", np.array([[-0.5, -0.5], [9, 9]]))
    fails("m.npz gives nan for row 2 of d.npy", "predict", "m.npz", "d.npy")


def test_columns_that_the_model_takes_are_not_left_out(run, fails, flowers):
    run("train", "flowers.csv", "--target", "kind", "--epochs", 1, "--save", "m.npz")
    for option in ("--drop", "--target"):
        message = "column 'width' must not be left out: the model takes 'width'"
        fails(message, "predict", "m.npz", "flowers.csv", option, "width")
    run("predict", "m.npz", "flowers.csv", "--drop", "kind")


@pytest.mark.parametrize("path", ["nix/m.npz", "m.pkl", "folder.npz", "m.npz/m.npz"])
def test_the_save_path_is_checked_before_the_work(fails, capsys, monkeypatch, tmp_path, path):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "m.npz").touch()
    monkeypatch.setattr("bpcore.cli.train.run_training", lambda *_, **__: pytest.fail("trained"))
    fails(path, "train", "--save", path)


def test_a_missing_package_is_one_line(fails, monkeypatch):
    monkeypatch.setattr("bpcore.model.importlib.util.find_spec", lambda name: None)
    fails("needs the package safetensors", "train", "--save", "m.safetensors")


def test_missing_values_are_refused_with_row_and_column(fails, tmp_path):
    (tmp_path / "d.csv").write_text("a,b,y\n1,2,x\n3,?,y\n")
    fails("d.csv, row 2 (line 3), column 1 'b': missing value", "train", "d.csv", "--target", "y")


def test_memory_that_is_not_there(fails, tmp_path):
    fails("", "train", "--hidden", 10**12, "--epochs", 1)
    with open(tmp_path / "d.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 44, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    fails("", "train", "d.npy", "--target", 0)


def test_control_characters_of_a_file_do_not_reach_the_terminal(fails, tmp_path):
    (tmp_path / "d.csv").write_text("a,\x1b[2J\n1,2\n", encoding="utf-8")
    fails("'\\x1b[2J'", "train", "d.csv", "--target", "y")
    fails("\\x1b[31m", "train", "\x1b[31m\n.csv", "--target", "y")


def test_control_characters_of_a_label_do_not_reach_the_terminal(run, monkeypatch, tmp_path):
    net = bpcore.Network([1, 2], loss="cross_entropy", dtype="float32")
    names = ("\x1b[31mred", "a\0b")
    Model(net, np.array([-1, 1, 0, 0], np.float32), class_names=names).save(tmp_path / "m.npz")
    np.save(tmp_path / "d.npy", np.array([[-9.0], [9.0]]))
    asked = ("predict", "m.npz", "d.npy", "--probabilities")
    as_it_is = run(*asked)
    assert as_it_is.startswith("prediction,probability_\x1b[31mred,probability_a\0b\n\x1b[31mred,")
    assert run(*asked, "--output", "out.csv") == ""
    assert (tmp_path / "out.csv").read_bytes() == as_it_is.encode()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*asked) == as_it_is.replace("\x1b", "\\x1b").replace("\0", "\\x00")


# ----------------------------------------------------------------------------------------------- info, and as a program


def test_info(run, backend):
    found = values(run("info"))
    assert found["bpcore"] == bpcore.__version__
    assert found["NumPy"] == np.__version__
    assert found["backend"].startswith(backend + " (")
    assert found["available"].split(", ") == bpcore.available_backends()
    assert int(found["threads"]) >= 1
    installed = {package.name: package.version for package in importlib.metadata.distributions()}
    assert found["safetensors"] == installed.get("safetensors", "not installed")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "bpcore" in capsys.readouterr().out


def test_help_says_when_the_target_is_required(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "required unless the data are a .npz file with an array y" in " ".join(capsys.readouterr().out.split())


def program(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "bpcore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_as_a_program(tmp_path):
    with program("train", "--epochs", "1", "--hidden", "4", "--save", "m.npz", cwd=tmp_path) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"test accuracy" in out
    with program("train", "nix.csv", cwd=tmp_path) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode().splitlines() == ["bpcore: error: nix.csv: No such file or directory"]


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    """As in ``bpcore predict MODEL DATA | head``."""
    with program("train", "--epochs", "1", "--hidden", "none", "--save", "m.npz", cwd=tmp_path) as process:
        process.communicate()
    np.save(tmp_path / "X.npy", np.tile(load_digits()[0], (20, 1)))
    with program("predict", "m.npz", "X.npy", "--probabilities", cwd=tmp_path) as process:
        assert process.stdout.readline().startswith(b"prediction,probability_0,")
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""
    assert process.returncode == 1
