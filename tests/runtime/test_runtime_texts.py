"""Files of texts: what is read of each format, and what is said of what can't be."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeft.errors import UserError
from edgeft.runtime.texts import texts


def test_each_format_gives_the_same_texts(tmp_path: Path) -> None:
    contents = {
        "a.txt": 'a film\n\nb\u00e9, "c"\n',
        "a.log": '\ufeffa film\r\n\r\nb\u00e9, "c"',
        "a.jsonl": '{"text": "a film"}\n\n{"n": 1, "text": ""}\n{"text": "b\\u00e9, \\"c\\""}\n',
        "a.csv": '\ufeffn,text\n1,a film\n\n2,\n3,"b\u00e9, ""c"""\n',
        "a.tsv": 'text\tn\na film\t1\n\t2\n"b\u00e9, ""c"""\t3\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content.encode())
        assert list(texts(tmp_path / name)) == ["a film", "", 'b\u00e9, "c"'], name


def test_a_column_and_a_cell_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,review\nx,"one\ntwo"\n')
    assert list(texts(tmp_path / "a.csv", "review")) == ["one\ntwo"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb")))
    assert list(texts(Path("-"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.txt", b"a\n\xff\n", "a.txt: line 2 is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "a.jsonl: line 2 is not JSON"),
        ("a.jsonl", b'{"review": "a", "n": 1}\n', "line 1 has no 'text'; it has review, n; name it with --text-column"),
        ("a.jsonl", b"[1]\n", "line 1 has no 'text'; name it"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: 'text' is int, expected a text"),
        ("a.csv", b"review,n\na,1\n", "no column 'text'; it has review, n; name it with --text-column"),
        ("a.csv", b"", "no column 'text'"),
        ("a.csv", b"n,text\n1,a\n2\n", "line 3 has 1 cells, expected 2"),
        ("a.csv", b"n,text\n1,a\n2,\xff\n", "a.csv: not UTF-8"),
        ("a.parquet", b"PAR1", "a device reads no Parquet"),
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
