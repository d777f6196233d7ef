"""The records of CSV and TSV files, as training and devices read them."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from typing import TextIO

from edgeft.errors import DataError

FIELD_LIMIT = 2**31 - 1  # characters in one CSV field

Record = tuple[int, int, list[str]]  # row (0: the header), line where it starts, fields


def place(row: int, line: int) -> str:
    """A row as words; row 0 is the header."""
    return f"row {row} (line {line})" if row else f"the header (line {line})"


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Fields of any length, which the csv module would refuse."""
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


def csv_records(file: TextIO, name: str, delimiter: str = ",") -> Iterator[Record]:
    """The records of a CSV file, blank lines left out.

    Raises:
        DataError: quotes that don't match, with row and line.
    """
    reader = csv.reader(file, strict=True, delimiter=delimiter)
    row, line = 0, 1
    try:
        for fields in reader:
            if fields:
                yield row, line, fields
                row += 1
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}: {place(row, line)}: {_quote_problem(error)}") from None


def tsv_records(file: TextIO, name: str) -> Iterator[Record]:
    """The records of a TSV file: a field holds no tab and no line break, and quotes are part of the text.

    A field quoted as a whole, as CSV writers leave it, is unquoted.
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
