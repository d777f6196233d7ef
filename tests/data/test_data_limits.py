"""Files that ask for more than an honest one: one line that names the option, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from edgeft.data.read import sources
from edgeft.errors import DataError, UserError
from edgeft.inputs import json_text
from edgeft.inputs.limits import Limits, command_flag
from edgeft.recipe import DataConfig
from edgeft.runtime.texts import Form, texts

HEADER = b"text,label\n"
MORE_BYTES = 300 * 2**20  # that the child may take beside what its imports take
CHILD = """
import resource, sys
from edgeft.data.read import sources
from edgeft.errors import EdgeftError
from edgeft.recipe import DataConfig
from edgeft.runtime.texts import texts
from pathlib import Path
import pyarrow.parquet
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    for read in (lambda: sources.read_rows(DataConfig(file=path)), lambda: sum(1 for _ in texts(Path(path)))):
        try:
            read()
            print("read")
        except EdgeftError as error:
            print(str(error))
"""


def zip_of(content: bytes, name: str = "rows.csv") -> Callable[[Path], None]:
    """What writes a .zip of one file."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return write


def gzip_of(part: bytes, times: int, head: bytes = HEADER) -> Callable[[Path], None]:
    """What writes a .gz whose members are a head and a part repeated."""
    return lambda path: _write(path, gzip.compress(head) + gzip.compress(part) * times)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def long_line(head: bytes) -> Callable[[Path], None]:
    """What writes one line of 2 GB after a head, as a file of holes."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(2**31)

    return write


def open_quote(path: Path) -> None:
    """A quote that is never closed, and what follows in short lines."""
    with path.open("wb") as file:
        file.write(HEADER + b'"')
        for _ in range(20):
            file.write((b"word " * 100 + b"\n") * 2_000)


MEBIBYTE = b"a" * 2**20
BOMBS = {
    "one line": ("a.csv.gz", gzip_of(MEBIBYTE, 1024), "max_compression_ratio"),
    "many rows": ("a.csv.gz", gzip_of(b"a,b\n" * 2**18, 1024), "max_compression_ratio"),
    "lines of JSON": ("a.jsonl.gz", gzip_of(b'{"text":"a","label":"b"}\n' * 2**16, 640, b""), "max_compression_ratio"),
    "blank lines": ("a.tsv.gz", gzip_of(b"\n" * 2**20, 1024, b""), "max_compression_ratio"),
    "zip": ("a.zip", zip_of(HEADER + b"a,b\n" * 2**24), "max_compression_ratio"),
    "2 GB line": ("a.csv", long_line(HEADER), "max_line_bytes"),
    "2 GB line of JSON": ("a.jsonl", long_line(b'{"text": "'), "max_line_bytes"),
    "open quote": ("a.csv", open_quote, "max_line_bytes"),
}


def many_for_one(path: Path) -> None:
    """Parquet whose dictionary stands for more than the memory."""
    count = 2_000_000
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int8()), ["a" * 20_000])
    table = pyarrow.table({"text": texts, "label": pyarrow.array(["b"] * count).dictionary_encode()})
    pyarrow.parquet.write_table(table, path, store_schema=False)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What training and a device say of each bomb, in one process that has little memory."""
    files = {}
    for name, (file, write, _) in BOMBS.items():
        files[name] = tmp_path_factory.mktemp("bomb") / file
        write(files[name])
    command = [sys.executable, "-c", CHILD, str(MORE_BYTES), *map(str, files.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(BOMBS)
    return {
        name: (data.replace(str(file), file.name), device.replace(str(file), file.name))
        for (name, file), data, device in zip(files.items(), lines[::2], lines[1::2], strict=True)
    }


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_in_bounded_memory(name: str, refusals: dict[str, tuple[str, str]]) -> None:
    file, _, option = BOMBS[name]
    data, device = refusals[name]
    flag = f"--{option.replace('_', '-')} N"
    assert data.startswith(f"{file}: ")
    assert f"--set data.{option}=N" in data
    assert device.startswith(f"{file}: ")
    assert flag in device


def test_a_dictionary_of_parquet_that_stands_for_more_than_the_memory(tmp_path: Path) -> None:
    many_for_one(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    command = [sys.executable, "-c", CHILD, str(MORE_BYTES), str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert re.match(r".*a\.parquet: reading it takes more memory than there is", done.stdout), done.stderr
    with pytest.raises(DataError, match="has more than 100,000,000 bytes"):
        sources.read_rows(DataConfig(file=str(tmp_path / "a.parquet"), max_file_bytes=10**8))


# --------------------------------------------------------------------------------------------------- limits of a recipe

PACK: dict[str, Callable[[bytes], bytes]]
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
ROWS = HEADER + b"".join(b"text number %d,%s\n" % (i, (b"x", b"y")[i % 2]) for i in range(50))
JSON = b"".join(b'{"text": "text number %d", "label": [[%d]]}\n' % (i, 10**i) for i in range(50))
LOW = {
    "max_file_bytes": ("a.csv", ROWS, 500, "has more than 500 bytes"),
    "max_line_bytes": ("a.csv", ROWS, 15, "line 12 has more than 15 bytes"),
    "max_file_rows": ("a.csv", ROWS, 49, "has more than 49 rows"),
    "max_nesting": ("a.jsonl", JSON, 2, "row 1 (line 1) is not JSON within limits (lists or objects nest more than 2"),
    "max_digits": ("a.jsonl", JSON, 30, "row 31 (line 31) is not JSON within limits (a number has more than 30 digits"),
}


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("option", LOW)
def test_each_limit_is_exact_and_can_be_raised(option: str, packed: str, raw: Callable[[str, bytes], str]) -> None:
    name, content, limit, said = LOW[option]
    path = raw(name + packed, PACK[packed](content))

    def options(number: int) -> dict[str, Any]:
        return {option: number}

    with pytest.raises(DataError) as caught:
        sources.read_rows(DataConfig(file=path, **options(limit)))
    assert f"{path}: {said}" in str(caught.value)
    assert f"--set data.{option}=N" in str(caught.value)
    if name == "a.csv":
        enough = {"max_file_bytes": len(content), "max_line_bytes": 16, "max_file_rows": 50}[option]
        assert len(sources.read_rows(DataConfig(file=path, **options(enough)))) == 50


def test_a_record_over_several_lines_is_as_long_as_they_are(raw: Callable[[str, bytes], str]) -> None:
    path = raw("a.csv", HEADER + b'"one\ntwo\nthree",x\nfour,y\n')
    with pytest.raises(
        DataError, match=r"row 1 \(line 2\) has more than 12 characters, as where a quote is never closed"
    ):
        sources.read_rows(DataConfig(file=path, max_line_bytes=12))
    assert len(sources.read_rows(DataConfig(file=path, max_line_bytes=17))) == 2


def test_parquet_has_limits_of_rows_and_bytes(tmp_path: Path) -> None:
    file = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a" * 100] * 50, "label": ["x", "y"] * 25}), file)
    with pytest.raises(DataError, match=r"more than 49 rows; .* --set data\.max_file_rows=50$"):
        sources.read_rows(DataConfig(file=file, max_file_rows=49))
    with pytest.raises(DataError, match=r"more than 4,000 bytes; .* --set data\.max_file_bytes=N$"):
        sources.read_rows(DataConfig(file=file, max_file_bytes=4_000))
    assert len(sources.read_rows(DataConfig(file=file, max_file_rows=50, max_file_bytes=10_000))) == 50


def test_a_device_names_its_own_flags(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": [[[1]]]}\n{"text": "b", "n": 12345}\n')
    low = Limits(max_nesting=3, flag=command_flag)
    with pytest.raises(UserError, match=r"line 1 is not JSON within limits \(.* more than 3 deep: --max-nesting N\)"):
        list(texts(tmp_path / "a.jsonl", form=Form(limits=low)))
    low = Limits(max_digits=4, flag=command_flag)
    with pytest.raises(UserError, match=r"line 2 is not JSON within limits \(.* more than 4 digits: --max-digits N\)"):
        list(texts(tmp_path / "a.jsonl", form=Form(limits=low)))


def test_brackets_and_digits_in_texts_are_no_nesting_and_no_numbers() -> None:
    text = "[{" * 5_000 + "7" * 5_000 + '\\"'
    assert json_text.decode(f'{{"text": "{text}", "label": 1}}')["text"].endswith('7"')
    with pytest.raises(json_text.BadJson, match="nest more than 32 deep"):
        json_text.decode(f'["{text}", {"[" * 33}{"]" * 33}]')
    with pytest.raises(json_text.BadJson, match="more than 400 digits"):
        json_text.decode(f'["{text}", {"7" * 401}]')
    assert json_text.depth("[[1], [2, [3]], []]", 32) == 3
    assert json_text.decode(f"[{'7' * 400}]") == [int("7" * 400)]
