"""Readers of CSV and TSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from edgeft.data import checks
from edgeft.data.opening import fail_at_bad_bytes, open_text
from edgeft.data.table import Reading, Table
from edgeft.delimited import Record, csv_records, long_fields, tsv_records

RAGGED = "another number of fields than the header"


def _read_delimited(
    path: Path, name: str, reading: Reading, records: Callable[[TextIO, str], Iterator[Record]]
) -> Table:
    errors = "surrogateescape" if reading.skip_bad else "strict"
    try:
        with long_fields(), open_text(path, reading.encoding, errors) as file:
            return _delimited_table(records(file, name), name, reading)
    except UnicodeDecodeError:
        with long_fields(), open_text(path, reading.encoding, "surrogateescape") as file:
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
