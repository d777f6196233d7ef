"""Reading texts for prediction, one after the other: lines, or a column of a table."""

from __future__ import annotations

import difflib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from edgeft.errors import DataError, UserError
from edgeft.inputs import json_text
from edgeft.inputs.delimited import Record, describe_place, long_fields, reader_of, sniff
from edgeft.inputs.limits import Limits, command_flag
from edgeft.inputs.opening import DAMAGED, BoundedBytes, bad_byte, open_text, refuse_workbook, suffix
from edgeft.terminal.printing import say

TABLES = (".csv", ".tsv")
OBJECTS = (".jsonl", ".ndjson")
# What lines would be made of by mistake.
NOT_LINES = (".json", ".parquet")


FLAGGED = Limits(flag=command_flag)
ESCAPED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` puts in place of bytes


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a file is written, and the limits on it.

    Attributes:
        delimiter: between the fields of a table; None: by a look at its first records.
        encoding: of the text.
        limits: of bytes, lines and JSON; a file of any number of rows is read.
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    limits: Limits = FLAGGED


FORM = Form()


def texts(file: Path, column: str = "text", form: Form = FORM) -> Iterator[str]:
    """The texts of a file, in memory that doesn't grow with it.

    Args:
        file: .jsonl and .ndjson: objects; .csv and .tsv: a table with a header, read as `edgeft data` reads it;
            anything else one text a line, an empty line being an empty text; each plain, compressed or alone in a
            .zip. `-`: the lines of standard input.
        column: that has the text, of a table or of objects.
        form: how it is written.

    Raises:
        UserError: no such file, a format that isn't read here, no such column, or a line that can't be read (named).
    """
    return (row[0] for row in _rows(file, [column], form))


def read_labelled(file: Path, column: str, label: str, form: Form = FORM) -> Iterator[tuple[str, str]]:
    """The texts of a table or of objects, each with its label.

    Args:
        file: as of `texts`, but for lines.
        column: of the text.
        label: of the label.
        form: how it is written.

    Raises:
        UserError: as of `texts`, or a file of lines.
    """
    if _ending(file) not in (*OBJECTS, *TABLES):
        raise UserError(f"{file}: texts with their labels are read from {', '.join((*OBJECTS, *TABLES))}")
    return ((row[0], row[1]) for row in _rows(file, [column, label], form))


def questions(
    file: Path, question: str = "question", context: str = "context", form: Form = FORM
) -> Iterator[dict[str, str]]:
    """The questions of a file with their contexts, in memory that doesn't grow with it.

    Args:
        file: as of `texts`, but for lines, which have one text each.
        question: column of the question.
        context: column of the text in which its answer may stand.
        form: how it is written.

    Raises:
        UserError: as of `texts`, or a file of lines.
    """
    if _ending(file) not in (*OBJECTS, *TABLES):
        raise UserError(f"{file}: a question needs a context beside it; give {', '.join((*OBJECTS, *TABLES))}")
    return ({"question": row[0], "context": row[1]} for row in _rows(file, [question, context], form))


def _ending(file: Path) -> str:
    """The suffix that tells the format.

    Raises:
        UserError: a .zip that can't be read, or that has several files inside.
    """
    try:
        return suffix(file)
    except DAMAGED as error:
        raise UserError(f"{file}: a damaged {file.suffix} file: {error}") from None


def _rows(file: Path, columns: Sequence[str], form: Form) -> Iterator[list[str]]:
    """The named columns of each row; of lines the whole line."""
    if str(file) == "-":
        yield from ([line] for line in _lines(_standard_input(form), "standard input", form))
        return
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    refuse_workbook(file, str(file))
    if _ending(file) in NOT_LINES:
        can = ", ".join((*OBJECTS, *TABLES))
        raise UserError(f"{file}: a {_ending(file)} file isn't read here; what can be: {can}, and one text a line")
    try:
        yield from _cells(file, columns, form) if _ending(file) in TABLES else _read_lines(file, columns, form)
    except DAMAGED as error:
        raise UserError(f"{file}: a damaged {file.suffix} file: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{file}: one row of it takes more memory than there is") from None


def _standard_input(form: Form) -> TextIO:
    opened = BoundedBytes(sys.stdin.buffer, "standard input", form.limits, closes=False)
    encoding = "utf-8-sig" if form.encoding == "utf-8" else form.encoding
    return io.TextIOWrapper(opened, encoding=encoding, newline="\n", errors="surrogateescape")


def _read_lines(file: Path, columns: Sequence[str], form: Form) -> Iterator[list[str]]:
    with open_text(file, str(file), form.encoding, "surrogateescape", form.limits, newline="\n") as opened:
        lines = _lines(opened, str(file), form, file)
        yield from _objects(lines, file, columns, form) if _ending(file) in OBJECTS else ([line] for line in lines)


def _lines(opened: TextIO, name: str, form: Form, file: Path | None = None) -> Iterator[str]:
    """Lines, which end at a line feed alone, so that any other line break stays in its text."""
    for number, line in enumerate(opened, start=1):
        if not line.isascii() and ESCAPED.search(line):
            raise UserError(f"{name}: {_not_utf8(f'line {number}', file, form)}")
        yield line.removesuffix("\n").removesuffix("\r")


def _not_utf8(where: str, file: Path | None, form: Form) -> str:
    if form.encoding.lower() not in ("utf-8", "utf8"):
        return f"{where} is not {form.encoding}; name the file's own encoding, as in --encoding utf-8"
    remedy = "save the file as UTF-8" if file is None else bad_byte(file, str(file), form.limits).describe(form.limits)
    return f"{where} is not UTF-8; {remedy}"


def _objects(lines: Iterator[str], file: Path, columns: Sequence[str], form: Form) -> Iterator[list[str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json_text.decode(line, form.limits)
        except json_text.BadJson as error:
            raise UserError(f"{file}: line {number} {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}: line {number} is no JSON object, as in {{{columns[0]!r}: ...}}")
        yield [_text_of(row, column, f"{file}: line {number}") for column in columns]


def _text_of(row: dict[str, Any], column: str, where: str) -> str:
    if column not in row:
        raise UserError(f"{where} has no {column!r}; it has {', '.join(row)}{_did_you_mean(column, list(row))}")
    if not isinstance(row[column], str):
        raise UserError(f"{where}: {column!r} is {type(row[column]).__name__}, expected a text")
    return str(row[column])


def _did_you_mean(column: str, present: Sequence[str]) -> str:
    close = difflib.get_close_matches(column, present, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _cells(file: Path, columns: Sequence[str], form: Form) -> Iterator[list[str]]:
    records = reader_of(_ending(file), form.delimiter or _look(file, form), form.limits)
    before = 1
    with long_fields(), open_text(file, str(file), form.encoding, limits=form.limits) as opened:
        try:
            for line, fields in _pick_columns(records(opened, str(file)), file, columns):
                yield fields
                before = line
        except UnicodeDecodeError:
            raise UserError(f"{file}: {_not_utf8(f'what follows line {before}', file, form)}") from None


def _look(file: Path, form: Form) -> str | None:
    """Detect the delimiter and report it if it differs from the one that the file's name suggests."""
    with open_text(file, str(file), form.encoding, "surrogateescape", form.limits) as opened:
        delimiter = sniff(opened, _ending(file))
    if delimiter:
        say(f"{file}: the fields are separated by {delimiter!r} (--delimiter names another character)")
    return delimiter


def _pick_columns(records: Iterator[Record], file: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The line of each row, and its named columns."""
    _, _, header = next(records, (0, 1, []))
    absent = next((column for column in columns if column not in header), None)
    if absent is not None:
        has = f"it has {', '.join(header)}" if header else "the file is empty"
        raise DataError(f"{file}: no column {absent!r}; {has}{_did_you_mean(absent, header)}")
    picked = [header.index(column) for column in columns]
    for row, line, fields in records:
        if len(fields) != len(header):
            counts = f"{len(fields)} fields, the header {len(header)}"
            raise DataError(f"{file}: {describe_place(row, line)} has {counts}")
        yield line, [fields[index] for index in picked]
