"""Reading texts for prediction, one after the other: lines, or a column of a table."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from edgeft.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MAX_CELL = 1 << 30  # characters


def texts(file: Path, column: str = "text") -> Iterator[str]:
    """The texts of a file, in constant memory.

    Args:
        file: .jsonl: objects; .csv and .tsv: a table with a header; anything else one text a line, an empty line being
            an empty text. UTF-8. `-`: the lines of standard input.
        column: that has the text, of a table or of objects.

    Raises:
        UserError: no such file, a format that isn't read here, no such column, or a line that can't be read (named).
    """
    ending = file.suffix.lower()
    if str(file) == "-":
        yield from _lines(sys.stdin.buffer, file)
        return
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if ending == ".parquet":
        raise UserError(f"{file}: a device reads no Parquet; give .jsonl, .csv, .tsv or one text a line")
    if ending in DELIMITERS:
        yield from _cells(file, column)
        return
    with file.open("rb") as opened:
        found = _lines(opened, file)
        yield from _objects(found, file, column) if ending == ".jsonl" else found


def _lines(opened: IO[bytes], file: Path) -> Iterator[str]:
    for number, line in enumerate(opened, start=1):
        try:
            yield line.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{file}: line {number} is not UTF-8") from None


def _objects(lines: Iterator[str], file: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise UserError(f"{file}: line {number} is not JSON ({error})") from None
        if not isinstance(found, dict) or column not in found:
            keys = f"; it has {', '.join(map(str, found))}" if isinstance(found, dict) else ""
            raise UserError(f"{file}: line {number} has no {column!r}{keys}; name it with --text-column")
        if not isinstance(found[column], str):
            raise UserError(f"{file}: line {number}: {column!r} is {type(found[column]).__name__}, expected a text")
        yield found[column]


def _cells(file: Path, column: str) -> Iterator[str]:
    csv.field_size_limit(MAX_CELL)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = csv.reader(opened, delimiter=DELIMITERS[file.suffix.lower()])
        try:
            header = next(rows, [])
            if column not in header:
                raise UserError(f"{file}: no column {column!r}; it has {', '.join(header)}; name it with --text-column")
            place = header.index(column)
            for row in rows:
                if len(row) > place:
                    yield row[place]
                elif row:
                    raise UserError(f"{file}: line {rows.line_num} has {len(row)} cells, expected {len(header)}")
        except UnicodeDecodeError:
            raise UserError(f"{file}: not UTF-8, after line {rows.line_num}") from None
        except csv.Error as error:
            raise UserError(f"{file}: line {rows.line_num}: {error}") from None
