"""Several files, patterns, compressed files, and files with bad rows that are left out."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from support_rows import Raw

from edgeft.data import dataset, prepare
from edgeft.data.formats.rows import Rows
from edgeft.data.read import sources
from edgeft.errors import DataError
from edgeft.recipe import DataConfig

CSV = b"text,label\n" + b"".join(b"text %d,%s\n" % (i, (b"a", b"b")[i % 2]) for i in range(60))


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


COMPRESS: dict[str, Callable[[bytes], bytes]]
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def read(spec: Any, **options: Any) -> Rows:
    return sources.read_rows(DataConfig(file=spec, **options))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_reads_like_a_plain_one(suffix: str, raw: Raw) -> None:
    plain, packed = read(raw("a.csv", CSV)), read(raw(f"b.csv{suffix}", COMPRESS[suffix](CSV)))
    assert packed.columns == plain.columns
    np.testing.assert_array_equal(packed.rows, plain.rows)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_compressed_file_is_one_line(suffix: str, raw: Raw) -> None:
    content = COMPRESS[suffix](CSV)
    for name, broken in {"half": content[: len(content) // 2], "other": b"not compressed"}.items():
        path = raw(f"{name}.csv{suffix}", broken)
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_compressed_jsonl_and_what_can_be_read(raw: Raw) -> None:
    assert len(read(raw("a.jsonl.gz", gzip.compress(b'{"text": "x", "label": 1}\n')))) == 1
    with pytest.raises(DataError, match=r"suffix '\.gz': can't tell the format"):
        read(raw("a.gz", gzip.compress(CSV)))
    with pytest.raises(DataError, match=r"suffix '\.gz': can't tell the format"):
        read(raw("a.parquet.gz", b"x"))


def test_several_files_are_one_and_rows_know_their_file(raw: Raw, tmp_path: Path) -> None:
    one, two = raw("one.csv", CSV), raw("two.jsonl", b'{"text": "new", "label": "a"}\n')
    found = read([one, two])
    assert (len(found), found.name) == (61, f"{one} and 1 more file")
    assert found.at(60) == (two, 1)
    prepare.run(DataConfig(file=[one, two]), {"file": Path(one), "file.1": Path(two)}, tmp_path / "out")
    data = dataset.load(tmp_path / "out")
    assert {name for split in dataset.SPLITS for name in data.split(split).files} == {"one.csv", "two.jsonl"}
    assert data.source == "one.csv and 1 more"


def test_a_pattern_names_files_in_order(raw: Raw, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        raw(name, b"text,label\n%s,x\n" % name.encode())
    raw("c.txt", b"something else")
    assert read(str(tmp_path / "*.csv")).columns["text"] == ["a.csv", "b.csv"]
    assert list(sources.local_files(DataConfig(file=str(tmp_path / "*.csv")))) == ["file", "file.1"]
    with pytest.raises(DataError, match="no file matches this pattern"):
        read(str(tmp_path / "*.tsv"))
    assert len(read([str(tmp_path / "*.csv"), str(tmp_path / "a.csv")])) == 2  # each file once


def test_a_bad_row_of_the_second_file_names_that_file(raw: Raw) -> None:
    one, two = raw("one.csv", CSV), raw("two.csv", b"text,label\nx,\n")
    with pytest.raises(DataError, match=r"two\.csv: no label in row 1 \(line 2\)"):
        read([one, two])


def test_files_of_different_forms(raw: Raw) -> None:
    one, two = raw("a.jsonl", b'{"text": "x"}\n'), raw("b.jsonl", b'{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: prompt-completion rows, but .*a\.jsonl has text rows"):
        read([one, two], task="text-generation")


BAD_ROWS = {
    "ragged": ("a.csv", CSV + b"x,a,b\n", {"another number of fields than the header": 1}),
    "empty": ("a.csv", CSV + b" ,a\nx,\n", {"an empty text": 1, "no label": 1}),
    "bytes": ("a.csv", CSV + b"caf\xe9,a\n", {"a text that is not valid Unicode": 1}),
    "JSON": ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": \n[1]\n', {"a line that is not JSON": 1}),
    "object": ("a.jsonl", b'{"text": "x", "label": 1}\n[1]\n', {"a line that is not a JSON object": 1}),
    "JSON bytes": (
        "a.jsonl",
        b'{"text": "x", "label": 1}\n{"text": "\xe9", "label": 1}\n',
        {"a line that is not UTF-8": 1},
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_left_out_and_counted(name: str, raw: Raw) -> None:
    file, content, expected = BAD_ROWS[name]
    found = read(raw(file, content), skip_bad_rows=True)
    counts = {problem: len(rows) for problem, rows in found.skipped.items()}
    assert expected.items() <= counts.items()
    with pytest.raises(DataError):
        read(raw(file, content))


def test_the_stage_says_what_was_left_out(raw: Raw, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DataConfig(file=raw("a.csv", CSV + b"x,a,b\n ,a\n"), skip_bad_rows=True)
    result = prepare.run(config, sources.local_files(config), tmp_path / "out")
    assert result.metrics["skipped"] == {"another number of fields than the header": 1, "an empty text": 1}
    assert sum(result.metrics["rows"].values()) == 60
    assert "data: 1 row left out: an empty text (row 62)" in capsys.readouterr().err


def test_a_file_of_bad_rows_alone(raw: Raw) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: no row can be read"):
        read(raw("a.jsonl", b"[1]\n"), skip_bad_rows=True)


# ------------------------------------------------------------------------------------------------ how files are written


def test_another_delimiter_and_another_encoding(raw: Raw) -> None:
    path = raw("a.csv", "text;label\ncafé, noir;a\n".encode("cp1252"))
    found = read(path, delimiter=";", encoding="cp1252")
    assert found.columns == {"text": ["café, noir"], "label": ["a"]}
    with pytest.raises(DataError) as caught:
        read(path, delimiter=";")
    assert str(caught.value) == (
        f"{path}: the bytes are not UTF-8 in row 1 (line 2); the first is 0xE9 after 14 bytes; the whole file decodes "
        "as cp1252: --set data.encoding=cp1252"
    )
    with pytest.raises(DataError, match="'klingon' is no encoding"):
        read(path, encoding="klingon")
    assert read(raw("a.tsv", b'text|label\n"x|y"|a\n'), delimiter="|").columns["text"] == ["x|y"]


def test_a_compressed_file_of_a_plain_name(raw: Raw) -> None:
    with pytest.raises(DataError, match=r"the file is compressed; name it a\.csv\.gz"):
        read(raw("a.csv", gzip.compress(CSV)))


def test_columns_of_another_task_get_a_hint(raw: Raw) -> None:
    path = raw("a.jsonl", b'{"tokens": ["a"], "tags": ["x"]}\n')
    with pytest.raises(DataError, match=r"those of token-classification: --set task=token-classification$"):
        read(path)
    with pytest.raises(DataError, match=r"data\.text_column and data\.label_column name your own"):
        read(raw("b.csv", b"message,queue\nx,a\n"))


@pytest.mark.parametrize("spec", ["", [], [""], " "])
def test_no_file_is_named(spec: Any) -> None:
    with pytest.raises(DataError, match=r"data\.file(: no file is named| is not set)"):
        sources.local_files(DataConfig(file=spec))


def test_a_folder_of_our_own_is_not_rows(raw: Raw, tmp_path: Path) -> None:
    config = DataConfig(file=raw("a.csv", CSV))
    prepare.run(config, sources.local_files(config), tmp_path / "out")
    with pytest.raises(DataError, match="a data folder of edgeft, not rows"):
        read(str(tmp_path / "out"))


def test_equal_files_in_other_folders_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        files = [tmp_path / folder / "a.csv", tmp_path / folder / "b.csv"]
        files[0].write_bytes(CSV)
        files[1].write_bytes(CSV.replace(b"text ", b"word "))
        config = DataConfig(file=list(map(str, files)))
        digests.append(prepare.run(config, sources.local_files(config), tmp_path / f"out-{folder}").digest)
        assert set(dataset.load(tmp_path / f"out-{folder}").train.files) == {"a.csv", "b.csv"}
    assert digests[0] == digests[1]


def test_short_names_tell_files_apart() -> None:
    assert prepare.short_names(["/x/one/a.csv", "/x/two/a.csv"]) == {
        "/x/one/a.csv": "one/a.csv",
        "/x/two/a.csv": "two/a.csv",
    }
    assert prepare.short_names(["demo:rotten-tomatoes"]) == {"demo:rotten-tomatoes": "demo:rotten-tomatoes"}


def test_groups_of_numbers_and_missing_groups(tmp_path: Path) -> None:
    columns = {"text": ["a", "b", "c"], "label": ["x", "y", "x"], "who": [1.0, float("nan"), 2.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no group in row 2"):
        read(str(tmp_path / "a.parquet"), group_column="who")
    assert read(str(tmp_path / "a.parquet"), group_column="who", skip_bad_rows=True).groups == ["1", "2"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_time_that_is_no_number(value: float, tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "label": ["x", "y"], "at": [1.0, value]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="a time that is neither a number nor ISO 8601 in row 2"):
        read(str(tmp_path / "a.parquet"), time_column="at")


def test_dates_and_numbers_are_not_compared(raw: Raw) -> None:
    path = raw("a.csv", b"text,label,at\na,x,2024-01-01\nb,y,17\n")
    with pytest.raises(DataError, match="1 times are dates and 1 are numbers; write them one way"):
        read(path, time_column="at")


def test_a_group_with_bad_bytes_is_a_bad_row(raw: Raw) -> None:
    path = raw("a.csv", b"text,label,who\na,x,m\xe9\nb,y,n\n")
    assert len(read(path, group_column="who", skip_bad_rows=True)) == 1
