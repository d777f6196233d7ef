"""What is recognised of a file without being told, and said: its delimiter, its encoding, its task."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import last_json

from edgeft.data import prepare
from edgeft.data.clean import checks
from edgeft.data.read import sources
from edgeft.errors import DataError, UserError
from edgeft.recipe import DataConfig
from edgeft.runtime.texts import Form, texts

ROWS = [(f"text {i}, of several words", "ab"[i % 2]) for i in range(60)]
Raw = Callable[[str, bytes], str]


def table(delimiter: str, head: str = "") -> str:
    """Rows without a quote but where one is needed."""
    rows = [("text", "label"), *ROWS]
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in rows]
    return head + "".join(delimiter.join(row) + "\n" for row in quoted)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(";").encode()),
        ("a.csv", table("\t").encode()),
        ("a.csv", table("|").encode()),
        ("a.csv", table(";", "sep=;\n").encode()),
        ("a.csv", table(";").encode("utf-16")),
        ("a.csv", table("\t").replace("\n", "\r\n").encode("utf-8-sig")),
        ("a.tsv", table(",").encode()),
        ("a.csv", table(",").encode("utf-32")),
    ],
)
def test_a_table_of_a_spreadsheet_is_read_as_the_plain_one(
    name: str, content: bytes, raw: Raw, capsys: pytest.CaptureFixture[str]
) -> None:
    path = raw(name, content)
    found = sources.read_rows(DataConfig(file=path))
    assert found.columns == {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    told = capsys.readouterr().err
    assert ("the fields are separated by" in told) == (content != table(",").encode("utf-32"))
    assert list(texts(Path(path))) == found.columns["text"]


def test_what_is_told_is_not_looked_for(raw: Raw) -> None:
    path = raw("a.csv", b"text;label,n\nx;y,1\nz;w,2\n")
    assert sources.read_rows(DataConfig(file=path, delimiter=",", text_column="text;label", label_column="n")).columns[
        "text"
    ] == ["x;y", "z;w"]
    assert sources.read_rows(DataConfig(file=path, text_column="text;label", label_column="n")).columns["label"] == [
        "1",
        "2",
    ]
    assert list(texts(Path(path), "label,n", Form(delimiter=";"))) == ["y,1", "w,2"]


def test_a_stray_byte_in_utf8_is_no_file_in_cp1252(raw: Raw) -> None:
    """Read as cp1252, each of its accents would become two other letters."""
    content = table(",").replace("text 7", "d\u00e9j\u00e0 7").encode() + b"caf\xe9,a\n"
    with pytest.raises(UserError) as caught:
        sources.read_rows(DataConfig(file=raw("a.csv", content)))
    assert "0xE9" in str(caught.value)
    assert "cp1252" not in str(caught.value)


def test_a_file_in_cp1252_names_the_flag_that_reads_it(raw: Raw) -> None:
    content = table(",").replace("text 7", "caf\u00e9 7").encode("cp1252")
    path = raw("a.csv", content)
    with pytest.raises(DataError) as caught:
        sources.read_rows(DataConfig(file=path))
    place = f"row 8 (line 9); the first is 0xE9 after {content.index(0xE9):,} bytes"
    assert place in str(caught.value)
    assert "decodes as cp1252: --set data.encoding=cp1252" in str(caught.value)
    assert sources.read_rows(DataConfig(file=path, encoding="cp1252")).columns["text"][7].startswith("caf\u00e9")
    with pytest.raises(UserError, match=r"decodes as cp1252: --encoding cp1252$"):
        list(texts(Path(path)))
    assert len(list(texts(Path(path), form=Form(encoding="cp1252")))) == 60
    with pytest.raises(DataError, match=r"0x81 after .*save the file as UTF-8, or name its encoding: --set data\.enc"):
        sources.read_rows(DataConfig(file=raw("b.csv", content.replace(b"\xe9", b"\x81"))))


def test_a_zip_with_one_table(raw: Raw, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/rows.csv", table(","))
        archive.writestr("__MACOSX/folder/._rows.csv", "x")
        archive.writestr("folder/", "")
    assert len(sources.read_rows(DataConfig(file=str(tmp_path / "a.zip")))) == 60
    assert len(list(texts(tmp_path / "a.zip"))) == 60
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("more.csv", "x")
    for read in (
        lambda: sources.read_rows(DataConfig(file=str(tmp_path / "a.zip"))),
        lambda: next(texts(tmp_path / "a.zip")),
    ):
        with pytest.raises(UserError, match=r"a\.zip: has 2 files inside; unpack it, and give the file with the rows"):
            read()
    with pytest.raises(DataError, match=r"a damaged \.zip file"):
        sources.read_rows(DataConfig(file=raw("b.zip", b"PK\x03\x04 and no more")))


@pytest.mark.parametrize("name", ["a.xlsx", "a.ods", "a.csv"])
def test_a_workbook_says_how_to_save_its_sheet(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    for read in (
        lambda: sources.read_rows(DataConfig(file=str(tmp_path / name))),
        lambda: next(texts(tmp_path / name)),
    ):
        with pytest.raises(
            UserError, match=r"a workbook isn't read; save its sheet as CSV \(in Excel: Save As, CSV UTF-8;"
        ):
            read()


def test_a_mistyped_column_is_answered_with_the_nearest_one(raw: Raw) -> None:
    path = raw("a.csv", table(",").encode())
    with pytest.raises(DataError) as caught:
        sources.read_rows(DataConfig(file=path, label_column="labl"))
    assert str(caught.value) == (
        f"{path}: column 'labl' is missing (did you mean 'label'?); the columns are 'text', 'label'; "
        "--set data.label_column=label"
    )
    with pytest.raises(DataError, match=r"data\.text_column and data\.label_column name your own"):
        sources.read_rows(DataConfig(file=path, label_column="quux"))
    with pytest.raises(UserError, match=r"no column 'txt'; it has text, label \(did you mean 'text'\?\)"):
        next(texts(Path(path), "txt"))


# ------------------------------------------------------------------------------------------------------------ the task

GIVEN_AWAY: dict[str, dict[str, Any]] = {
    "question-answering": {"question": "who?", "context": "Ada", "answers": {"text": ["Ada"], "answer_start": [0]}},
    "token-classification": {"tokens": ["a"], "tags": ["x"]},
    "text-generation": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "text2text-generation": {"source": "a", "target": "b"},
    "text-regression": {"text": "a", "target": 1.5},
}


@pytest.mark.parametrize("task", GIVEN_AWAY)
def test_a_task_that_the_columns_give_away_is_adopted_and_said(
    task: str, raw: Raw, capsys: pytest.CaptureFixture[str]
) -> None:
    path = raw("a.jsonl", json.dumps({**GIVEN_AWAY[task], "n": 1}).encode() + b"\n")
    assert sources.task_by_columns(DataConfig(file=path)) == task
    assert (
        f"data: the task is {task}, as the columns {', '.join(GIVEN_AWAY[task])} say; --task "
        in capsys.readouterr().err
    )
    assert sources.task_by_columns(DataConfig(file=path, task="text-generation")) is None
    assert sources.task_by_columns(DataConfig(file=path, label_column="n")) is None


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a", "label": "b", "target": 1},
        {"text": "a"},
        {"text": "a", "n": 1},
        {"x": 1},
        {"tokens": ["a"], "tags": ["b"], "source": "a", "target": "b"},
    ],
)
def test_columns_that_give_nothing_away(row: dict[str, Any], raw: Raw) -> None:
    assert sources.task_by_columns(DataConfig(file=raw("a.jsonl", json.dumps(row).encode() + b"\n"))) is None


def test_the_commands_adopt_it(run: Any, raw: Raw, tiny_model: Path, tmp_path: Path) -> None:
    rows = b"".join(json.dumps({"source": f"text {i}", "target": f"other {i}"}).encode() + b"\n" for i in range(60))
    path = raw("a.jsonl", rows)
    document = last_json(run("data", path, "--json")[1])
    assert (document["task"], document["command"].count("--task text2text-generation")) == ("text2text-generation", 1)
    code, _, err = run("pipeline", "--data", path, "--model", tiny_model, "--run-dir", tmp_path / "run", "--dry-run")
    assert "data: the task is text2text-generation" in err
    line = ("pipeline", "--data", path, "--model", tiny_model, "--run-dir", tmp_path / "other", "--dry-run")
    code, _, err = run(*line, "--task", "text-regression")
    assert (code, "the task is" in err) == (0, False)
    code, _, err = run("pipeline", "--data", path, "--task", "nonsense", "--dry-run")
    assert (code, "'nonsense' is not a task" in err) == (2, True)


# -------------------------------------------------------------------------------------------------- numbers as labels

FLAGS = "--task text-regression --target-column label"
SETTINGS = "--set task=text-regression --set data.target_column=label"  # outside of a command


def numbers(count: int, rows: int) -> bytes:
    """Rows whose labels are so many different numbers."""
    return b"text,label\n" + b"".join(b"text number %d,%d.25\n" % (i, i % count) for i in range(rows))


def test_many_numbers_are_answered_with_the_task_that_predicts_them(run: Any, raw: Raw, tmp_path: Path) -> None:
    path = raw("a.csv", numbers(220, 440))
    code, shown, _ = run("data", path, "--json")
    document = last_json(shown)
    assert (code, document["command"], "Next:" in shown) == (0, None, False)
    assert document["todo"][0]["why"] == (
        f"220 different labels in 440 rows: they are numbers; to predict them as numbers, {FLAGS}"
    )
    with pytest.raises(
        DataError, match="220 different labels in 440 rows: they are numbers; to predict them as numbers, --set task"
    ):
        prepare.run(DataConfig(file=path), sources.local_files(DataConfig(file=path)), tmp_path / "out")
    code, shown, err = run("data", path, "--task", "text-regression", "--target-column", "label", "--json")
    assert (code, last_json(shown)["task"], "Next:" in shown) == (0, "text-regression", True), err
    _, shown, _ = run("advise", path, "--json")
    assert (last_json(shown)["command"], "Next:" in shown) == (None, False)


def test_a_few_numbers_are_classes_and_that_is_said(
    run: Any, raw: Raw, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DataConfig(file=raw("a.csv", numbers(5, 100)))
    said = "5 numbers are taken as classes ('0.25', '1.25', '2.25', '3.25', '4.25'); to predict them as numbers, "
    document = last_json(run("data", config.file, "--json")[1])
    assert (said + FLAGS, True) in [(thing["why"], document["command"] is not None) for thing in document["todo"]]
    prepare.run(config, sources.local_files(config), tmp_path / "out")
    assert f"data: {said}{SETTINGS}" in capsys.readouterr().err


def test_what_is_no_scale_is_not_said(raw: Raw) -> None:
    for labels in (b"01", b"abc", b"12x"):
        rows = b"text,label\n" + b"".join(b"text %d,%c\n" % (i, labels[i % len(labels)]) for i in range(60))
        assert checks.numbers_as_classes(sources.read_rows(DataConfig(file=raw("a.csv", rows)))) is None
    once = raw("b.csv", b"text,label\n" + b"".join(b"text %d,%d\n" % (i, min(i, 9)) for i in range(60)))
    with pytest.raises(DataError, match=r"has one row .*labels are numbers: to predict them as numbers, --set task"):
        checks.check_label_counts(sources.read_rows(DataConfig(file=once)))
