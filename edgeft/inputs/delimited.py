"""The records of CSV and TSV files, as training and devices read them."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import TextIO

from edgeft.errors import DataError
from edgeft.inputs.limits import LIMITS, Limits

FIELD_LIMIT = 2**31 - 1  # characters in one CSV field; records are limited by the bytes of their lines
DELIMITERS = (",", ";", "\t", "|")
LINE_BREAK = 2  # characters at most, which don't count
SNIFFED = 20  # the first records, which tell the delimiter
SNIFFED_CHARACTERS = 2**20

Record = tuple[int, int, list[str]]  # row (0: the header), line where it starts, fields


def describe_place(row: int, line: int) -> str:
    """Row and line in words; row 0 is the header."""
    return f"row {row} (line {line})" if row else f"the header (line {line})"


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Allow fields of any length, which the csv module would refuse."""
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _quote_problem(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is opened and never closed"
    if "expected after" in str(error):
        return "text follows a closing quote: an earlier quote is not closed, or one inside a field is not doubled"
    return f"not CSV: {error}"


def csv_records(file: TextIO, name: str, delimiter: str = ",", limits: Limits = LIMITS) -> Iterator[Record]:
    """Yield the records of a CSV file, without blank lines and without a first line `sep=;` as Excel writes it.

    Raises:
        DataError: unbalanced quotes or a record that is too long, with row and line.
    """
    lines = _RecordLines(file, limits.max_line_bytes)
    reader = csv.reader(lines.read(), strict=True, delimiter=delimiter)
    row, line = 0, 1
    try:
        for fields in reader:
            lines.characters = 0
            if fields and not (line == 1 and delimiter.join(fields) == f"sep={delimiter}"):
                yield row, line, fields
                row += 1
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}: {describe_place(row, line)}: {_quote_problem(error)}") from None
    except _TooLong:
        limit = f"{limits.max_line_bytes:,} characters"
        what = f"{describe_place(row, line)} has more than {limit}, as where a quote is never closed"
        limits.refuse(name, what, "max_line_bytes")


class _TooLong(Exception):
    """A record has too many characters."""


class _RecordLines:
    """The lines of a CSV file, with a limit on the length of one record, as an unclosed quote would exceed it.

    Args:
        file: to read.
        limit: most characters of a record.
    """

    def __init__(self, file: TextIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self.characters = 0  # characters since the last record

    def read(self) -> Iterator[str]:
        """Yield every line.

        Raises:
            _TooLong: one record has too many characters.
        """
        for line in self._file:
            self.characters += len(line)
            if self.characters > self._limit + LINE_BREAK:
                raise _TooLong
            yield line


def tsv_records(file: TextIO, name: str) -> Iterator[Record]:
    """Yield the records of a TSV file: a field contains no tab and no line break, and quotes are part of the text.

    A fully quoted field, as CSV writers write it, is unquoted.
    """
    row = 0
    for line, content in enumerate(file, 1):
        content = content.rstrip("\r\n")
        if content:
            yield row, line, [_unquoted(field) for field in content.split("\t")]
            row += 1


def _unquoted(field: str) -> str:
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        return field
    inner = field[1:-1]
    return field if '"' in inner.replace('""', "") else inner.replace('""', '"')


# ------------------------------------------------------------------------------------------------------- the delimiter

Reader = Callable[[TextIO, str], Iterator[Record]]


def reader_of(ending: str, delimiter: str | None, limits: Limits = LIMITS) -> Reader:
    """The function that reads the records of a file.

    Args:
        ending: of its name, .csv or .tsv.
        delimiter: as set or detected; None: a comma, in .tsv a tab.
        limits: of a record.
    """
    if ending == ".tsv" and delimiter is None:
        return tsv_records
    return partial(csv_records, delimiter=delimiter or ",", limits=limits)


def sniff(file: TextIO, ending: str) -> str | None:
    """Detect a delimiter other than the one of the suffix; None if it is the same, or can't be detected.

    Another delimiter is detected if it divides the header and each of the first records into equally many fields, and
    the one of the suffix doesn't.

    Args:
        file: at its start.
        ending: of its name, .csv or .tsv.
    """
    usual = "\t" if ending == ".tsv" else ","
    sample = file.read(SNIFFED_CHARACTERS)
    lines = list(io.StringIO(sample, newline=""))
    complete_lines = lines[:-1] if len(sample) == SNIFFED_CHARACTERS and len(lines) > 1 else lines
    if (
        complete_lines
        and (named := complete_lines[0].rstrip("\r\n").removeprefix("sep=")) in DELIMITERS
        and len(complete_lines[0]) > 4
    ):
        return None if named == usual else named
    fields = {delimiter: _fields(complete_lines, delimiter) for delimiter in (usual, *DELIMITERS)}
    if fields[usual]:
        return None
    best = max(fields, key=lambda delimiter: fields[delimiter])
    return best if fields[best] else None


def _fields(lines: list[str], delimiter: str) -> int:
    """The number of fields that header and first records have in common; 0 if it differs or is one."""
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        with long_fields():
            counts = {len(fields) for fields in itertools.islice(filter(None, reader), SNIFFED)}
    except csv.Error:
        return 0
    return counts.pop() if len(counts) == 1 and 1 not in counts else 0
