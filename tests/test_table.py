"""Tables are read as NumPy and the csv module read them, and errors name the place."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re

import numpy as np
import pytest

from bpcore.cli.table import TableError, read_table


@pytest.fixture
def write(tmp_path):
    """A function that writes a CSV file."""

    def write(text: str | bytes, name: str = "data.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


# ------------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_numbers_are_those_that_numpy_reads(write, rng, delimiter, header, newline):
    values = rng.normal(size=(50, 4)) * 10.0 ** rng.integers(-30, 30, (50, 4))
    lines = [delimiter.join(map(repr, row)) for row in values.tolist()]
    path = write(newline.join([delimiter.join("abcd")] * header + lines) + newline)
    table = read_table(path, target="-2")
    expected = np.loadtxt(path, delimiter=delimiter, skiprows=int(header))
    np.testing.assert_array_equal(table.features, expected[:, [0, 1, 3]])
    np.testing.assert_array_equal(table.target, expected[:, 2])
    assert table.features.dtype == table.target.dtype == np.float64
    assert table.feature_names == (("a", "b", "d") if header else None)


def test_text_labels_are_those_that_csv_reads(write):
    path = write('a,b,kind\n1,2,"x, y"\n3,4, plain \n5,6,"say ""so"""\n')
    with open(path, newline="") as file:
        expected = [row[2].strip() for row in csv.reader(file)][1:]
    assert read_table(path, target="kind").target.tolist() == expected == ["x, y", "plain", 'say "so"']


def test_labels_are_numbers_only_if_all_are(write):
    assert read_table(write("1,2\n3,4.5\n"), target="1").target.tolist() == [2.0, 4.5]
    assert read_table(write("1,2\n3,x\n"), target="1").target.tolist() == ["2", "x"]
    assert read_table(write("1,1_0\n3,2_0\n"), target="1").target.tolist() == ["1_0", "2_0"]


def test_labels_are_kept_as_they_stand_in_the_file(write, tmp_path):
    table = read_table(write("1, 01234\n2,9007199254740993 \n3,2.50\n"), target="1")
    assert table.labels.tolist() == ["01234", "9007199254740993", "2.50"]
    assert table.target.tolist() == [1234, 9007199254740992, 2.5]
    ids = np.array([2**63 - 1, 2**63 - 2])
    np.savez(tmp_path / "d.npz", X=np.ones((2, 1)), y=ids)
    assert read_table(tmp_path / "d.npz").labels.tolist() == ids.tolist()
    np.save(tmp_path / "d.npy", np.column_stack([ids, [1, 2]]))
    assert read_table(tmp_path / "d.npy", target="0").labels.tolist() == ids.tolist()
    np.savez(tmp_path / "d.npz", X=np.ones((2, 1)), y=["007", " 08 "])
    assert read_table(tmp_path / "d.npz").labels.tolist() == ["007", "08"]


@pytest.mark.parametrize(("text", "header"), [("a,y\n1,2\n", True), ("1,2\n3,4\n", False)])
def test_the_table_says_how_its_first_line_was_taken(write, tmp_path, text, header):
    for read_target in (False, True):
        assert read_table(write(text), target="1", read_target=read_target).header is header
    np.save(tmp_path / "X.npy", np.ones((2, 2)))
    assert read_table(tmp_path / "X.npy", target="1").header is None


def test_byte_order_mark_blank_lines_and_quotes(write):
    path = write('\ufeff\n"a","b"\n\n"1","2"\n\n3,4\n\n')
    table = read_table(path, target="b")
    assert table.feature_names == ("a",)
    np.testing.assert_array_equal(table.features, [[1], [3]])
    np.testing.assert_array_equal(table.target, [2, 4])


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b,c\n1,2,x\n", True),
        ("1,2,x\n3,4,y\n", False),  # the text is in the target alone
        ("1,b,c\n1,2,x\n", False),  # a number beside text: an error, and no row lost
        ("5.1,-,0\n1,2,0\n", False),
        ('5.1,"1,5",0\n1,2,0\n', False),
        ("-,n.b.,0\n1,2,0\n", True),
        ("-,/,0\n1,2,0\n", False),  # no word
        ('"1,5","2,5",0\n1,2,0\n', False),
        ("größe,幅,c\n1,2,x\n", True),
        ("a,b,c\n,2,x\n", True),  # a gap below a name
        (",b,c\n0,2,x\n", True),  # the index column of a data frame
        ("red,1,x\nblue,2,y\n", False),
        ("0,1,2\n1,2,x\n", True),  # a data frame without names
        (",0,1\n0,1.5,x\n", True),
        (",0,1,2\n0,1,2,3\n", True),
        ("0,1,3\n1,2,x\n", False),
        ("1,2,3\n1,2,x\n", False),
        ("1,2,3\n4,5,6\n", False),
    ],
)
def test_header_is_found_out(write, text, header):
    """One row fewer, and names, where there is one; rows with something else amiss are refused in the right place."""
    path = write(text)
    try:
        table = read_table(path, target="2")
    except TableError as error:
        assert f"row 1 (line {1 + header})" in str(error)
    else:
        assert len(table.features) == text.count("\n") - header
        assert (table.feature_names is not None) == header


@pytest.mark.parametrize(("text", "rows"), [("0,1\n1.5,2\n", 1), ("0,1\n1,x\n", 1), ("0,1\n1,2\n", 2), ("0,1\n", 1)])
def test_0_and_1_are_names_above_what_is_no_whole_number(write, text, rows):
    assert len(read_table(write(text), target="1").features) == rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_first_line_may_be_longer_than_a_cell(write, delimiter):
    names = [f"gene_{i:06d}" for i in range(12_000)]
    assert len(delimiter.join(names)) > csv.field_size_limit()
    lines = [delimiter.join(row) for row in (names, ["1"] * 12_000, ["2"] * 12_000)]
    table = read_table(write("\n".join(lines)), target=names[-1])
    assert table.features.shape == (2, 11_999)
    assert len(read_table(write("\n".join(lines[1:])), target="0").features) == 2
    bare = delimiter.join(f"0.{i:012d}" for i in range(12_000))
    assert len(bare) > csv.field_size_limit()
    assert read_table(write(bare + "\n" + bare), target="0").features.shape == (2, 11_999)


def test_header_as_given(write):
    path = write("1,2\n3,4\n")
    assert read_table(path, target="2", header=True).feature_names == ("1",)
    assert len(read_table(path, target="1", header=False).features) == 2
    with pytest.raises(TableError, match="row 1 .line 1., column 0: 'a' is not a number; --header"):
        read_table(write("a,b\n1,2\n"), target="1", header=False)


def test_columns_are_dropped_and_left_out(write):
    path = write("id,a,b,y\nk1,1,2,0\nk2,3,4,1\n")
    for drop in (["id"], ["0"], ["-4"]):
        table = read_table(path, target="y", drop=drop)
        assert table.feature_names == ("a", "b")
        np.testing.assert_array_equal(table.features, [[1, 2], [3, 4]])
    table = read_table(path, target="y", drop=["id"], read_target=False)
    assert table.target is None


def test_columns_are_taken_by_name(write):
    path = write("y,b,id,a\nno,2,k1,1\n?,4,k2,3\n")
    table = read_table(path, expected=("a", "b"), n_features=2, read_target=False)
    np.testing.assert_array_equal(table.features, [[1, 2], [3, 4]])
    with pytest.raises(TableError, match="has no column 'c', which the model takes; its columns are 'y', 'b'"):
        read_table(path, expected=("a", "c"))


@pytest.mark.parametrize("column", ["a", "3", "-1"])
def test_a_column_that_the_model_takes_is_not_left_out(write, column):
    path = write("y,b,id,a\nno,2,k1,1\n")
    for left_out in ({"drop": ["id", column]}, {"target": column}):
        with pytest.raises(TableError, match=f"column '{column}' must not be left out: the model takes 'a'"):
            read_table(path, expected=("a", "b"), read_target=False, **left_out)
    table = read_table(path, expected=("a", "b"), read_target=False, drop=["id", "nix", "9"], target="y")
    np.testing.assert_array_equal(table.features, [[1, 2]])


def test_columns_are_taken_by_place_without_a_header(write):
    path = write("1,2,x\n3,4,y\n")
    table = read_table(path, expected=("a", "b"), n_features=2, target="2", read_target=False)
    np.testing.assert_array_equal(table.features, [[1, 2], [3, 4]])
    with pytest.raises(TableError, match="has 3 feature columns, but the model takes 2; --target"):
        read_table(path, expected=("a", "b"), n_features=2)
    with pytest.raises(TableError, match="has 1 feature column, but the model takes 2"):
        read_table(write("1\n2\n"), n_features=2)


@pytest.mark.parametrize("save", [np.save, lambda path, X: np.savez(path, table=X)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "bool", ">i4"])
def test_numpy_files(tmp_path, rng, save, dtype):
    X = np.asfortranarray(rng.integers(0, 2, (9, 4)).astype(dtype))
    path = tmp_path / ("X.npy" if save is np.save else "X.npz")
    save(path, X)
    table = read_table(path, target="1", drop=["-1"])
    np.testing.assert_array_equal(table.features, X[:, [0, 2]].astype(float))
    np.testing.assert_array_equal(table.target, X[:, 1].astype(float))


def test_npz_with_x_and_y(tmp_path, rng):
    X = rng.normal(size=(5, 3))
    path = tmp_path / "data.npz"
    for y in (np.arange(5), np.array(list("abcab")), rng.normal(size=(5, 2)), np.arange(5.0)[:, None]):
        np.savez(path, X=X, y=y)
        table = read_table(path)
        np.testing.assert_array_equal(table.features, X)
        np.testing.assert_array_equal(table.target, y[:, 0] if y.shape == (5, 1) else y)
    assert read_table(path, read_target=False).target is None
    with pytest.raises(TableError, match="has an array y, which is the target"):
        read_table(path, target="0")


def test_npz_with_sample_weight(tmp_path, rng):
    X, w = rng.normal(size=(5, 3)), np.array([1, 0, 2, 3, 1], np.int8)
    np.savez(tmp_path / "d.npz", X=X, y=np.arange(5), sample_weight=w)
    assert read_table(tmp_path / "d.npz").sample_weight.tolist() == w.tolist()
    np.savez(tmp_path / "d.npz", table=X, sample_weight=w[:, None])
    table = read_table(tmp_path / "d.npz", target="0")
    np.testing.assert_array_equal(table.features, X[:, 1:])
    assert table.sample_weight.tolist() == w.tolist()


@pytest.mark.parametrize(("name", "module"), [("d.csv.gz", gzip), ("d.csv.bz2", bz2), ("D.XZ", lzma)])
def test_compressed_files(write, name, module):
    data = module.compress(b"a,y\n" + b"1,2\n3,4\n" * 1000)
    np.testing.assert_array_equal(read_table(write(data, name), target="y").features[:2], [[1], [3]])
    for damaged in (data[:-9], b"a,y\n1,2\n", data[:30] + b"\xff\xff" + data[32:]):
        with pytest.raises(TableError, match=f"is not a whole .{name.lower().rpartition('.')[2]} file"):
            read_table(write(damaged, name), target="y")
    with pytest.raises(FileNotFoundError):
        read_table("nix" + name)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "UTF8", "utf-8-sig"])
def test_encodings(write, encoding):
    path = write("größe,y\n1,2\n".encode(encoding))
    assert read_table(path, target="y", encoding=encoding).feature_names == ("größe",)
    if encoding == "latin-1":
        with pytest.raises(TableError, match="is not utf-16 text .*; --encoding says which"):
            read_table(path, target="y", encoding="utf-16")
    with pytest.raises(TableError, match="--encoding must be one that Python knows, got 'nix'"):
        read_table(path, target="y", encoding="nix")


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;", " \n\t\nsep=;\n  "])
def test_a_first_line_may_say_the_delimiter(write, first):
    table = read_table(write(first + "\r\nx,1;x,2;y\r\n1;2;3\r\n"), target="y")
    assert table.feature_names == ("x,1", "x,2")
    with pytest.raises(TableError, match=r"row 1 .line \d.: 1 cells, but line \d has 3"):
        read_table(write(first + "\nx,1;x,2;y\n1;2;3\n"), target="2", delimiter=",", header=True)


def test_comments_are_skipped(write):
    text = '# by hand\n#\nx,z,y\n1,2,"a\n# b"\n  # 3,4,5\n6,7,c\n#\n'
    table = read_table(write(text), target="y", comment="#")
    np.testing.assert_array_equal(table.features, [[1, 2], [6, 7]])
    assert table.target.tolist() == ["a\n# b", "c"]
    with pytest.raises(TableError, match=r"row 2 .line 7., column 1 'z': 'x' is not"):
        read_table(write(text.replace("6,7", "6,x")), target="y", comment="#")
    for options in ({"target": "y"}, {"expected": ("x", "z"), "header": True}):
        with pytest.raises(TableError, match="--comment skips lines"):
            read_table(write("# by hand, 1\n" + text), **options)
    with pytest.raises(TableError, match="the comment must be at least one character"):
        read_table(write(text), target="y", comment="")


def test_lines_of_spaces_are_no_rows(write):
    text = "\n  \n\t\nx,y\n1,2\n  \n3,4\n \t \n"
    np.testing.assert_array_equal(read_table(write(text), target="y").features, [[1], [3]])
    with pytest.raises(TableError, match=r"row 2 .line 2., column 0: missing value"):
        read_table(write("1\n \n3\n"), read_target=False)  # of a single column it is a row


@pytest.mark.parametrize(("delimiter", "quote"), [(";", ""), ("\t", ""), (",", '"')])
@pytest.mark.parametrize("header", [False, True])
def test_decimal_commas(write, rng, delimiter, quote, header):
    values = rng.normal(size=(20, 3)) * 10.0 ** rng.integers(-9, 9, (20, 3))
    rows = [delimiter.join(quote + repr(x).replace(".", ",") + quote for x in row) for row in values.tolist()]
    path = write("\n".join([delimiter.join("abc")] * header + rows))
    table = read_table(path, target="1", decimal=",")
    np.testing.assert_array_equal(table.features, values[:, [0, 2]])
    np.testing.assert_array_equal(table.target, values[:, 1])
    assert table.header is header
    with pytest.raises(TableError, match="column 0.*is not a number.*; --decimal , reads decimal commas"):
        read_table(path, target="1")


def test_points_beside_decimal_commas_are_refused(write):
    for row, column in (("1.234;5", 0), ("1.234,5;5", 0), ("5;1.234", 1)):
        with pytest.raises(TableError, match=f"row 2 .line 3., column {column} .*: '1.234.*' is not a number"):
            read_table(write(f"a;y\n1,5;2,5\n{row}\n"), target="y", decimal=",")
    table = read_table(write("a;y\n1,5;x\n2;2,5\n3;x, y\n"), target="y", decimal=",")
    assert table.labels.tolist() == ["x", "2.5", "x, y"]


def test_a_pipe_is_as_good_as_a_file(monkeypatch):
    """Such as ``<(zcat data.csv.gz)`` in a shell: it can be read once, from the start."""
    reading, writing = os.pipe()
    os.write(writing, b"a;y\n1;2\n3;4\n")
    os.close(writing)
    monkeypatch.setattr("bpcore.cli.table.open", lambda _, **how: os.fdopen(reading, **how), raising=False)
    table = read_table("/dev/fd/63", target="y")
    np.testing.assert_array_equal(table.features, [[1], [3]])


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("cell", ["", " ", "NA", "na", "NaN", "nan", "null", "NULL", "?", "N/A", '""'])
@pytest.mark.parametrize("column", [0, 2, 3])
def test_missing_values_are_refused_with_their_place(write, cell, column):
    rows = [["1", "2", "3", "x"] for _ in range(5)]
    rows[3][column] = cell
    text = "\n".join(",".join(row) for row in [["a", "b", "c", "y"], *rows]) + "\n"
    place = f"data.csv, row 4 (line 5), column {column} '{'abcy'[column]}': missing value"
    with pytest.raises(TableError, match=re.escape(place)):
        read_table(write(text), target="y")
    place = f"data.csv, row 4 (line 4), column {column}: missing value"
    with pytest.raises(TableError, match=re.escape(place)):
        read_table(write(text.split("\n", 1)[1]), target="3")


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "abc", "1_000", "0x10", "1,5", "1 2"])
def test_what_is_not_a_finite_number_is_refused_with_its_place(write, cell):
    path = write(f"a;b;y\n1;2;3\n\n4;{cell};6\n")
    with pytest.raises(TableError, match=r"data.csv, row 2 \(line 4\), column 1 'b': .* is not a "):
        read_table(path, target="y")


def test_infinite_targets_are_refused(write, tmp_path):
    with pytest.raises(TableError, match=r"row 2 \(line 3\), column 1 'y': inf is not a finite number"):
        read_table(write("a,y\n1,2\n3,inf\n"), target="y")
    np.savez(tmp_path / "d.npz", X=np.ones((2, 1)), y=["1", "inf"])
    with pytest.raises(TableError, match=re.escape("y[1]: inf is not")):
        read_table(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "data.csv is empty"),
        ("\n\n", {}, "data.csv is empty"),
        ("a,b,y\n", {}, "has no rows of data"),
        ("a,b,y\n1,2,3\n4,5\n", {}, "row 2 (line 3): 2 cells, but line 1 has 3"),
        ("a,b,y\n1,2,3\n4,5,6,7\n", {}, "row 2 (line 3): 4 cells, but line 1 has 3"),
        ("a,a,y\n1,2,3\n", {}, "two columns are named 'a'"),
        ("a,b,z\n1,2,3\n", {}, "has no column 'y'; its columns are 'a', 'b', 'z'"),
        ("1,2,3\n4,5,6\n", {"target": "3"}, "has 3 columns, so there is no column 3 (counted from 0)"),
        ("1,2,3\n4,5,6\n", {"target": "-4"}, "so there is no column -4"),
        ("1,2,3\n4,5,6\n", {"header": False}, "has no header, so there is no column 'y'"),
        ("y\n1\n", {}, "has no feature column"),
        ("a,y\n1,2\n", {"drop": ["y"]}, "is the target and dropped at the same time"),
        ("a,y\n1,2\n", {"drop": ["z"]}, "has no column 'z'"),
        ("a,y\n1,2\n", {"target": None}, "is to be predicted; it has the columns 'a', 'y'"),
        ("1,2\n1,2\n", {"target": None}, "is to be predicted; it has 2 columns, counted from 0"),
        ("a,y\n1,2\n", {"delimiter": ",,"}, "the delimiter must be one character, got ',,'"),
        ("a,y\n1,2\n", {"delimiter": ""}, "the delimiter must be one character, got ''"),
        ("a,y\n1,2\n", {"delimiter": '"'}, "the delimiter must be one character"),
        ('a,y\n1,"2\n', {}, "data.csv, line 2: unexpected end of data"),
        (b"a,y\n1,\xff\xfe\n", {}, "is not UTF-8 text (byte 0xff"),
        ("a,y\n1,2\n".encode("utf-16"), {}, "is not UTF-8 text"),
        ("a,y\n1," + 200_000 * "x" + "\n", {}, "field larger than field limit"),
        ("a,y" + 200_000 * "x" + "\n1,2\n", {}, "data.csv, line 1: field larger than field limit"),
    ],
)
def test_bad_csv_is_refused(write, text, options, message):
    with pytest.raises(TableError, match=re.escape(message)):
        read_table(write(text), **({"target": "y"} | options))


WEIGHTED = {"X": np.ones((2, 2)), "y": np.arange(2)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array X, and no two-dimensional array; it holds nothing"),
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, "more than one two-dimensional array; it holds 'a', 'b'"),
        ({"X": np.ones(3)}, "X must be a matrix of numbers, got shape (3,)"),
        ({"X": np.ones((0, 3))}, "X must be a matrix of numbers, got shape (0, 3)"),
        ({"X": np.ones((3, 0))}, "X must be a matrix of numbers, got shape (3, 0)"),
        ({"X": np.array(5.0)}, "X must be a matrix of numbers, got shape ()"),
        ({"X": np.ones((3, 2), complex)}, "X must hold real numbers, got dtype complex128"),
        ({"X": np.full((3, 2), "a")}, f"X must hold real numbers, got dtype {np.dtype('U1')}"),
        ({"X": np.array([[1, 2], [3, np.nan]])}, "X[1, 1]: missing value"),
        ({"X": np.array([[1, 2], [np.inf, 3]])}, "X[1, 0]: inf is not a finite number"),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, "y has shape (3,), but X has 2 rows"),
        ({"X": np.ones((2, 2)), "y": np.ones((2, 1, 1))}, "y has shape (2, 1, 1)"),
        ({"X": np.ones((2, 2)), "y": np.ones((2, 0))}, "y has shape (2, 0)"),
        ({"X": np.ones((2, 2)), "y": np.array([0, np.nan])}, "y[1]: missing value"),
        ({"X": np.ones((2, 2)), "y": np.array([[0, 0], [0, np.nan]])}, "y[1, 1]: missing value"),
        ({"X": np.ones((2, 2)), "y": np.array(["a", ""])}, "y[1]: missing value"),
        ({"X": np.ones((2, 2)), "y": np.ones(2, complex)}, "y must hold real numbers, got dtype complex128"),
        (WEIGHTED | {"sample_weight": np.ones(3)}, "sample_weight must have shape (2,), got (3,)"),
        (WEIGHTED | {"sample_weight": np.array([1, -2])}, "sample_weight must be >= 0, got sample_weight[1] = -2"),
        (WEIGHTED | {"sample_weight": np.array([1, np.nan])}, "sample_weight[1]: missing value"),
        (WEIGHTED | {"sample_weight": np.zeros(2)}, "sample_weight must have a sum > 0, got 0"),
        (WEIGHTED | {"sample_weight": np.array(["a", "b"])}, "sample_weight must hold real numbers"),
        ({"X": np.array([[1, None]])}, "is not a .npz file of plain arrays"),
    ],
)
def test_bad_npz_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(TableError, match=re.escape(message)):
        read_table(tmp_path / "data.npz")


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
@pytest.mark.parametrize("contents", [b"", b"a,b\n1,2\n", b"\x80\x04K\x01.", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_what_is_no_numpy_file_is_refused(write, name, contents):
    with pytest.raises(TableError, match=f"is not a {name[4:]} file of plain arrays"):
        read_table(write(contents, name))


def test_damaged_numpy_files_are_refused_or_read(tmp_path, rng):
    """Never anything but a TableError; a flipped bit in a .npy file's numbers cannot be noticed."""
    path = tmp_path / "data.npz"
    np.savez_compressed(path, X=rng.normal(size=(4, 3)), y=np.arange(4))
    sound = path.read_bytes()
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            table = read_table(path)
        except TableError:
            continue
        assert table.features.shape[0] == 4


def test_missing_file_is_an_os_error(tmp_path):
    for name in ("nix.csv", "nix.npy", "nix.npz"):
        with pytest.raises(FileNotFoundError):
            read_table(tmp_path / name)
