"""Every bad input is one line with exit code 2, and leaves nothing that looks complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support_rows import Raw

from edgeft.data import prepare
from edgeft.data.clean import checks
from edgeft.data.formats.classification import SingleLabel
from edgeft.data.formats.rows import check
from edgeft.data.read import sources
from edgeft.data.read.table import Table, some, where
from edgeft.errors import DataError
from edgeft.recipe import DataConfig

GOOD = b"".join(b"text %d,%s\n" % (i, (b"a", b"b")[i % 2]) for i in range(40))
TWENTY_BAD = b"".join(b"text %d,%s\n" % (i, (b"", b"b")[i % 2]) for i in range(40))

BAD_FILES = {
    "empty": ("a.csv", b"", "a.csv: the file is empty"),
    "only blank lines": ("a.csv", b"\n\n", "a.csv: the file is empty"),
    "empty JSONL": ("a.jsonl", b"\n", "a.jsonl: the file is empty"),
    "header only": ("a.csv", b"text,label\n", "a.csv: no rows"),
    "column": (
        "a.csv",
        b"Text,label\n" + GOOD,
        "column 'text' is missing (did you mean 'Text'?); the columns are 'Text', 'label'",
    ),
    "both columns": (
        "a.csv",
        b"x,y\n" + GOOD,
        "column 'text' is missing; column 'label' is missing; the columns are 'x', 'y'",
    ),
    "delimiter": ("a.csv", b"text^label\na^b\n", "column 'text' is missing (did you mean 'text^label'?)"),
    "no one delimiter": (
        "a.csv",
        b"text;label\na;b\nc;d;e\n",
        "(the header is a single column; is data.delimiter another one?)",
    ),
    "twice": ("a.csv", b"text,label,text\n", "column 'text' stands in the header more than once"),
    "JSONL key": ("a.jsonl", b'{"texts": "x", "label": 1}\n', "column 'text' is missing (did you mean 'texts'?)"),
    "one label": ("a.csv", b"text,label\nx,a\ny,a\n", "all 2 rows have the label 'a'; a classifier needs two or more"),
    "label once": (
        "a.csv",
        b"text,label\n" + GOOD + b"x,c\n",
        "label 'c' has one row (row 41); each needs two or more",
    ),
    "empty text": ("a.csv", b"text,label\n" + GOOD + b" ,a\n", "an empty text in row 41 (line 42)"),
    "no label": (
        "a.csv",
        b"text,label\n" + TWENTY_BAD,
        "no label in rows 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 10 more (the first at line 2)",
    ),
    "several": (
        "a.csv",
        b"text,label\n,a\nx,\n,b\n",
        "an empty text in rows 1, 3 (the first at line 2); no label in row 2 (line 3)",
    ),
    "null": ("a.jsonl", b'{"text": null, "label": null}\n', "no text in row 1 (line 1); no label in row 1 (line 1)"),
    "types": (
        "a.jsonl",
        b'{"text": 3, "label": [1]}\n',
        "a text of type int instead of a string in row 1 (line 1); a label of type list",
    ),
    "not JSON": ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": \n[1]\n', "row 2 (line 2) is not JSON ("),
    "not an object": ("a.jsonl", b"\n[1]\n", "row 1 (line 2) is not a JSON object"),
    "Latin-1": ("a.csv", b"text,label\n" + GOOD + b"caf\xe9,a\n", "the bytes are not UTF-8 in row 41 (line 42)"),
    "Latin-1 rows": (
        "a.csv",
        b"text,label\n\xe9,a\nb,b\n\xe9,a\n",
        "the bytes are not UTF-8 in rows 1, 3 (the first at line 2)",
    ),
    "Latin-1 header": ("a.csv", b"text,caf\xe9\nx,a\n", "the bytes are not UTF-8 in the header (line 1)"),
    "UTF-16": ("a.csv", "text,label\nx,a\n".encode("utf-16"), "all 1 rows have the label 'a'"),
    "Latin-1 TSV": ("a.tsv", b"text\tlabel\ncaf\xe9\ta\n", "the bytes are not UTF-8 in row 1 (line 2)"),
    "Latin-1 JSONL": ("a.jsonl", b'{"text": "caf\xe9", "label": 1}\n', "the bytes are not UTF-8 in row 1 (line 1)"),
    "ragged": (
        "a.csv",
        b"text,label\n" + GOOD + b"x,a,b\ny\n",
        "the header has 2 columns, but row 41 (line 42) has 3, row 42 (line 43) has 1",
    ),
    "ragged TSV": ("a.tsv", b"text\tlabel\nx\ty\tz\n", "the header has 2 columns, but row 1 (line 2) has 3"),
    "open quote": ("a.csv", b'text,label\nx,a\n"y,b\nz,a\n', "row 2 (line 3): a quote is opened and never closed"),
    "open quote, then quotes": (
        "a.csv",
        b'text,label\nx,a\n"y,b\n"z",a\n',
        "row 2 (line 3): text follows a closing quote",
    ),
    "open quote in header": ("a.csv", b'"text,label\nx,a\n', "the header (line 1): a quote is opened and never closed"),
    "workbook": ("a.xlsx", b"x", "a workbook isn't read; save its sheet as CSV (in Excel: Save As, CSV UTF-8;"),
    "suffix": ("a.doc", b"x", "suffix '.doc': can't tell the format; what can be read: .csv, .tsv, .jsonl"),
    "no suffix": ("a", b"x", "no suffix: can't tell the format"),
    "not Parquet": ("a.parquet", b"text,label", "not a Parquet file"),
    "too few": (
        "a.csv",
        b"text,label\nw,a\nx,b\ny,a\nz,b\n",
        "split is empty after splitting 4 rows; add rows, or set ",
    ),
}


def fails(config: DataConfig, out: Path) -> str:
    """The message of the failed stage, once all that every failure has in common is checked."""
    with pytest.raises(DataError) as caught:
        prepare.run(config, sources.local_files(config), out)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not out.exists() or [item.name for item in out.iterdir()] == ["stage.unfinished.json"]
    return str(caught.value)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(name: str, raw: Raw, tmp_path: Path) -> None:
    file, content, expected = BAD_FILES[name]
    path = raw(file, content)
    message = fails(DataConfig(file=path), tmp_path / "out")
    assert message.startswith(path)
    assert expected in message


def test_a_json_row_with_half_a_surrogate_pair(raw: Raw, tmp_path: Path) -> None:
    path = raw("a.jsonl", b'{"text": "x", "label": 1}\n{"text": "\\ud800 and more", "label": 1}\n')
    assert "row 2 (line 2)" in fails(DataConfig(file=path), tmp_path / "out")


def test_a_text_that_is_not_unicode_is_named() -> None:
    table = Table("a", {"text": ["fine", "\ud800"], "label": ["x", "\ud800"]}, [1, 2])
    with pytest.raises(DataError, match="a text that is not valid Unicode in row 2; a label that is not valid"):
        check(table, SingleLabel(DataConfig()), DataConfig())


def test_a_bad_file_leaves_an_older_complete_folder_incomplete(raw: Raw, tmp_path: Path) -> None:
    good = raw("good.csv", b"text,label\n" + GOOD)
    prepare.run(DataConfig(file=good), {"file": Path(good)}, tmp_path / "out")
    bad = raw("bad.csv", b"text,label\nx,a\n")
    fails(DataConfig(file=bad), tmp_path / "out")


def test_one_column_for_both(raw: Raw, tmp_path: Path) -> None:
    config = DataConfig(file=raw("a.csv", b"text,label\n" + GOOD), label_column="text")
    assert "are both 'text'; name two columns" in fails(config, tmp_path / "out")


@pytest.mark.parametrize("field", ["validation_file", "test_file"])
def test_a_label_that_training_does_not_know(field: str, raw: Raw, tmp_path: Path) -> None:
    own = raw("own.csv", b"text,label\nx,a\ny,new\nz,new\n")
    files: dict[str, Any] = {"file": raw("a.csv", b"text,label\n" + GOOD), field: own}
    config = DataConfig(**files)
    message = fails(config, tmp_path / "out")
    assert message == f"{own}: not among the training labels: label 'new' (rows 2, 3); those are a, b"


def test_a_test_file_that_is_missing(raw: Raw, tmp_path: Path) -> None:
    config = DataConfig(file=raw("a.csv", b"text,label\n" + GOOD), test_file=str(tmp_path / "b.csv"))
    assert "b.csv: no such file (did you mean" in fails(config, tmp_path / "out")


def test_a_test_file_that_holds_all_of_training(raw: Raw, tmp_path: Path) -> None:
    path = raw("a.csv", b"text,label\n" + GOOD)
    copy = raw("copy.csv", b"text,label\n" + GOOD)
    message = fails(DataConfig(file=path, test_file=copy), tmp_path / "out")
    assert "the training split is empty after splitting 40 rows and taking out 40 that" in message


def test_a_label_without_training_row(raw: Raw, tmp_path: Path) -> None:
    own = raw("own.csv", b"text,label\nrare 1,c\nrare 2,c\ncommon,a\n")
    config = DataConfig(file=raw("a.csv", b"text,label\n" + GOOD + b"rare 1,c\nrare 2,c\n"), test_file=own)
    assert "no training row left for label 'c' (2 rows)" in fails(config, tmp_path / "out")


def test_fewer_rows_than_labels(raw: Raw, tmp_path: Path) -> None:
    path = raw("a.csv", b"text,label\n" + b"".join(b"text %d,%d\n" % (i, i % 5) for i in range(200)))
    message = fails(DataConfig(file=path, max_train_rows=3), tmp_path / "out")
    assert message == "data.max_train_rows 3 is less than the 5 labels; every label needs a row"


def test_label_order() -> None:
    assert checks.sort_labels(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert checks.sort_labels(["10", "9", "x"]) == ["10", "9", "x"]
    assert checks.sort_labels(["nan", "inf", "1"]) == ["1", "inf", "nan"]
    assert checks.sort_labels({"positive", "negative"}) == ["negative", "positive"]


def test_words_for_rows() -> None:
    assert where([7]) == "row 7"
    assert where([7], 9) == "row 7 (line 9)"
    assert where(range(1, 11)) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    assert where(range(1, 12)) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1 more"
    assert some(["a"]) == "a"
