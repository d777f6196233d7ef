"""Readers of CSV and TSV."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from edgeft.data import checks
from edgeft.data.opening import fail_at_bad_bytes, open_text, place
from edgeft.data.table import Reading, Table
from edgeft.errors import DataError

FIELD_LIMIT = 2**31 - 1  # characters in one CSV field; the csv module's own limit would refuse a long document

Record = tuple[int, int, list[str]]  # row (0: the header), line where it starts, fields


# ------------------------------------------------------------------------------------------------------------ CSV, TSV


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
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


RAGGED = "another number of fields than the header"


def _read_delimited(
    path: Path, name: str, reading: Reading, records: Callable[[TextIO, str], Iterator[Record]]
) -> Table:
    errors = "surrogateescape" if reading.skip_bad else "strict"
    try:
        with _long_fields(), open_text(path, reading.encoding, errors) as file:
            return _delimited_table(records(file, name), name, reading)
    except UnicodeDecodeError:
        with _long_fields(), open_text(path, reading.encoding, "surrogateescape") as file:
            fail_at_bad_bytes(name, ((row, line, "".join(fields)) for row, line, fields in records(file, name)))


def _delimited_table(records: Iterator[Record], name: str, reading: Reading) -> Table:
    _, _, header = next(records, (0, 0, None))
    if header is None:
        checks.fail(name, ["the file is empty"])
    columns = reading.choose(header)
    checks.columns_present(name, columns, header, reading.hint(header))
    picks = {column: header.index(column) for column in columns}
    table = Table(name, {column: [] for column in columns}, [], [])
    ragged: list[tuple[int, int, int]] = []
    for row, line, fields in reading.count(records):
        if len(fields) != len(header):
            ragged.append((row, line, len(fields)))
            continue
        for column, pick in picks.items():
            table.columns[column].append(fields[pick])
        table.rows.append(row)
        table.lines.append(line)
    if reading.skip_bad and ragged:
        table.skipped[RAGGED] = [row for row, _, _ in ragged]
    else:
        checks.ragged(name, ragged, len(header))
    return table


def read_csv(path: Path, name: str, reading: Reading) -> Table:
    """The wanted columns of a CSV file with a header."""
    return _read_delimited(path, name, reading, partial(csv_records, delimiter=reading.delimiter or ","))


def read_tsv(path: Path, name: str, reading: Reading) -> Table:
    """The wanted columns of a TSV file with a header; where a delimiter is named, it is read as CSV."""
    if reading.delimiter:
        return read_csv(path, name, reading)
    return _read_delimited(path, name, reading, tsv_records)
