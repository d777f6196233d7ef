"""Files of texts: what is read of each format, and what is said of what can't be."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeft.data.read.records import read_file
from edgeft.data.read.table import Reading
from edgeft.errors import UserError
from edgeft.runtime.texts import Form, texts


def test_each_format_gives_the_same_texts(tmp_path: Path) -> None:
    objects = '{"text": "a film"}\n\n{"n": 1, "text": ""}\n{"text": "b\\u00e9, \\"c\\""}\n'
    contents = {
        "a.txt": 'a film\n\nb\u00e9, "c"\n',
        "a.log": '\ufeffa film\r\n\r\nb\u00e9, "c"',
        "a.jsonl": objects,
        "a.NDJSON": objects,
        "a.csv": '\ufeffn,text\n1,a film\n\n2,\n3,"b\u00e9, ""c"""\n',
        "a.tsv": 'text\tn\na film\t1\n\t2\nb\u00e9, "c"\t3\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content.encode())
        assert list(texts(tmp_path / name)) == ["a film", "", 'b\u00e9, "c"'], name


def test_a_table_is_read_as_the_data_room_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Great" film\tx\n"unclosed\ty\n"whole ""one"""\tx\n')
    read = Reading(choose=lambda present: ["text"])
    assert list(texts(tmp_path / "a.tsv")) == read_file(tmp_path / "a.tsv", "a.tsv", read).columns["text"]
    assert list(texts(tmp_path / "a.tsv")) == ['"Great" film', '"unclosed', 'whole "one"']


def test_a_column_and_a_cell_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,review\nx,"one\ntwo"\n')
    assert list(texts(tmp_path / "a.csv", "review")) == ["one\ntwo"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\r\n\xff")))
    read = texts(Path("-"))
    assert [next(read), next(read)] == ["a", "b"]
    with pytest.raises(UserError, match=r"^standard input: line 3 is not UTF-8"):
        next(read)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.txt", b"a\n\xff\n", "a.txt: line 2 is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "a.jsonl: line 2 is not JSON"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl: line 1 is not JSON"),
        ("a.jsonl", b'{"review": "a", "n": 1}\n', "line 1 has no 'text'; it has review, n"),
        ("a.jsonl", b"[1]\n", "line 1 is no JSON object, as in {'text': ...}"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: 'text' is int, expected a text"),
        ("a.csv", b"review,n\na,1\n", "no column 'text'; it has review, n"),
        ("a.csv", b"", "no column 'text'; the file is empty"),
        ("a.csv", b"n,text\n1,a\n2\n", "row 2 (line 3) has 1 fields, the header 2"),
        ("a.csv", b"text,n\na fine, long film,1\n", "row 1 (line 2) has 3 fields, the header 2"),
        ("a.csv", b'text,n\n"unclosed,1\nb,2\n', "row 1 (line 2): a quote is opened and never closed"),
        ("a.csv", b'text,n\n"Great" film,1\n', "row 1 (line 2): text follows a closing quote"),
        ("a.csv", b"n,text\n1,a\n2,\xff\n", "a.csv: what follows line 1 is not UTF-8"),
        ("a.parquet", b"PAR1", "a .parquet file isn't read here"),
        ("a.json", b"[]", "a .json file isn't read here"),
        ("a.parquet.gz", b"", "a .parquet file isn't read here"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: can't be read: Not a gzipped file"),
    ],
)
def test_what_cannot_be_read_is_one_line(name: str, content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(texts(tmp_path / name))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(texts(tmp_path / "none"))


def test_a_lone_carriage_return_is_part_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"one\rstill one\ntwo\r\n")
    assert list(texts(file)) == ["one\rstill one", "two"]


def test_a_wrong_encoding_is_named_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"ab\x81c\n")
    with pytest.raises(UserError, match=r"line 1 is not cp1252; name the file's own encoding, as in --encoding utf-8$"):
        list(texts(file, form=Form(encoding="cp1252")))
