"""Reading texts for prediction, one after the other: lines, or a column of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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
    return (row[0] for row in _rows(file, [column]))


def labelled(file: Path, column: str, label: str) -> Iterator[tuple[str, str]]:
    """The texts of a table or of objects, each with its label.

    Args:
        file: as of `texts`, but for lines.
        column: of the text.
        label: of the label.

    Raises:
        UserError: as of `texts`, or a file of lines.
    """
    if file.suffix.lower() not in (*OBJECTS, *RECORDS):
        raise UserError(f"{file}: texts with their labels are read from {', '.join((*OBJECTS, *RECORDS))}")
    return ((row[0], row[1]) for row in _rows(file, [column, label]))


def questions(file: Path, question: str = "question", context: str = "context") -> Iterator[dict[str, str]]:
    """The questions of a file with their contexts, in memory that doesn't grow with it.

    Args:
        file: as of `texts`, but for lines, which have one text each.
        question: column of the question.
        context: column of the text in which its answer may stand.

    Raises:
        UserError: as of `texts`, or a file of lines.
    """
    if file.suffix.lower() not in (*OBJECTS, *RECORDS):
        raise UserError(f"{file}: a question needs a context beside it; give {', '.join((*OBJECTS, *RECORDS))}")
    return ({"question": row[0], "context": row[1]} for row in _rows(file, [question, context]))


def _rows(file: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """The named columns of each row; of lines the whole line."""
    ending = file.suffix.lower()
    if str(file) == "-":
        yield from ([line] for line in _lines(sys.stdin.buffer, "standard input"))
        return
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if ending in NOT_LINES:
        can = ", ".join((*OBJECTS, *RECORDS))
        raise UserError(f"{file}: a {ending} file isn't read here; what can be: {can}, and one text a line")
    if ending in RECORDS:
        yield from _cells(file, columns)
        return
    with file.open("rb") as opened:
        found = _lines(opened, str(file))
        yield from _objects(found, file, columns) if ending in OBJECTS else ([line] for line in found)


def _lines(opened: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(opened, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{name}: line {number} {NOT_UTF8}") from None
        yield text.removesuffix("\n").removesuffix("\r")


def _objects(lines: Iterator[str], file: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UserError(f"{file}: line {number} is not JSON ({error})") from None
        if not isinstance(found, dict):
            raise UserError(f"{file}: line {number} is no JSON object, as in {{{columns[0]!r}: ...}}")
        for column in columns:
            if column not in found:
                raise UserError(f"{file}: line {number} has no {column!r}; it has {', '.join(map(str, found))}")
            if not isinstance(found[column], str):
                raise UserError(f"{file}: line {number}: {column!r} is {type(found[column]).__name__}, expected a text")
        yield [found[column] for column in columns]


def _cells(file: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    line = 1
    with long_fields(), file.open(encoding="utf-8-sig", newline="") as opened:
        records = RECORDS[file.suffix.lower()](opened, str(file))
        try:
            _, _, header = next(records, (0, 1, []))
            absent = next((column for column in columns if column not in header), None)
            if absent is not None:
                has = f"it has {', '.join(header)}" if header else "the file is empty"
                raise DataError(f"{file}: no column {absent!r}; {has}")
            picked = [header.index(column) for column in columns]
            for row, line, fields in records:
                if len(fields) != len(header):
                    counts = f"{len(fields)} fields, the header {len(header)}"
                    raise DataError(f"{file}: {place(row, line)} has {counts}")
                yield [fields[place] for place in picked]
        except UnicodeDecodeError:
            raise UserError(f"{file}: what follows line {line} {NOT_UTF8}") from None
