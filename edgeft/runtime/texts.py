"""Reading texts for prediction, one after the other: lines, or a column of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from edgeft.delimited import csv_records, long_fields, place, tsv_records
from edgeft.errors import DataError, UserError

RECORDS = {".csv": csv_records, ".tsv": tsv_records}
OBJECTS = (".jsonl", ".ndjson")
# What lines would be made of by mistake.
NOT_LINES = (".json", ".parquet", ".xlsx", ".zip", ".gz", ".bz2", ".xz", ".zst")
NOT_UTF8 = "is not UTF-8; save the file as UTF-8"


def texts(file: Path, column: str = "text") -> Iterator[str]:
    """The texts of a file, in memory that doesn't grow with it.

    Args:
        file: UTF-8. .jsonl and .ndjson: objects; .csv and .tsv: a table with a header, read as `edgeft data` reads it;
            anything else one text a line, an empty line being an empty text. `-`: the lines of standard input.
        column: that has the text, of a table or of objects.

    Raises:
        UserError: no such file, a format that isn't read here, no such column, or a line that can't be read (named).
    """
    ending = file.suffix.lower()
    if str(file) == "-":
        yield from _lines(sys.stdin.buffer, "standard input")
        return
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if ending in NOT_LINES:
        can = ", ".join((*OBJECTS, *RECORDS))
        raise UserError(f"{file}: a {ending} file isn't read here; what can be: {can}, and one text a line")
    if ending in RECORDS:
        yield from _cells(file, column)
        return
    with file.open("rb") as opened:
        found = _lines(opened, str(file))
        yield from _objects(found, file, column) if ending in OBJECTS else found


def _lines(opened: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(opened, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{name}: line {number} {NOT_UTF8}") from None
        yield text.removesuffix("\n").removesuffix("\r")


def _objects(lines: Iterator[str], file: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UserError(f"{file}: line {number} is not JSON ({error})") from None
        if not isinstance(found, dict):
            raise UserError(f"{file}: line {number} is no JSON object, as in {{{column!r}: ...}}")
        if column not in found:
            raise UserError(f"{file}: line {number} has no {column!r}; it has {', '.join(map(str, found))}")
        if not isinstance(found[column], str):
            raise UserError(f"{file}: line {number}: {column!r} is {type(found[column]).__name__}, expected a text")
        yield found[column]


def _cells(file: Path, column: str) -> Iterator[str]:
    line = 1
    with long_fields(), file.open(encoding="utf-8-sig", newline="") as opened:
        records = RECORDS[file.suffix.lower()](opened, str(file))
        try:
            _, _, header = next(records, (0, 1, []))
            if column not in header:
                has = f"it has {', '.join(header)}" if header else "the file is empty"
                raise DataError(f"{file}: no column {column!r}; {has}")
            pick = header.index(column)
            for row, line, fields in records:
                if len(fields) != len(header):
                    counts = f"{len(fields)} fields, the header {len(header)}"
                    raise DataError(f"{file}: {place(row, line)} has {counts}")
                yield fields[pick]
        except UnicodeDecodeError:
            raise UserError(f"{file}: what follows line {line} {NOT_UTF8}") from None
