"""Readers of CSV and TSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from edgeft.data.clean import checks
from edgeft.data.read.table import Reading, Table, where
from edgeft.errors import DataError, EncodingError
from edgeft.inputs.delimited import Record, describe_place, long_fields, reader_of, sniff
from edgeft.inputs.limits import Limits
from edgeft.inputs.opening import bad_byte, open_text, suffix
from edgeft.progress import say
from edgeft.recipe import name_option

RAGGED = "another number of fields than the header"


def read_delimited(path: Path, name: str, reading: Reading) -> Table:
    """The wanted columns of a CSV or TSV file with a header; where a delimiter is named, .tsv is read as CSV."""
    errors = "surrogateescape" if reading.skip_bad else "strict"
    records = reader_of(suffix(path), reading.delimiter or _look(path, name, reading), reading.limits)
    try:
        with long_fields(), open_text(path, name, reading.encoding, errors, reading.limits) as file:
            return _delimited_table(records(file, name), name, reading)
    except UnicodeDecodeError:
        with long_fields(), open_text(path, name, reading.encoding, "surrogateescape", reading.limits) as file:
            bad = ((row, line, "".join(fields)) for row, line, fields in records(file, name))
            fail_at_bad_bytes(path, name, bad, reading.limits)


def _look(path: Path, name: str, reading: Reading) -> str | None:
    """Detect a delimiter other than the one that the suffix implies, and print a line about it."""
    with open_text(path, name, reading.encoding, "surrogateescape", reading.limits) as file:
        delimiter = sniff(file, suffix(path))
    if delimiter and reading.tells:
        option = name_option("data.delimiter")
        say(f"data: {name}: the fields are separated by {delimiter!r} ({option} names another character)")
    return delimiter


def _delimited_table(records: Iterator[Record], name: str, reading: Reading) -> Table:
    _, _, header = next(records, (0, 0, None))
    if header is None:
        checks.fail(name, ["the file is empty"])
    columns = reading.choose(header)
    checks.check_columns(name, columns, header, reading.hint(header))
    picks = {column: header.index(column) for column in columns}
    table = Table(name, {column: [] for column in columns}, [], [])
    ragged: list[tuple[int, int, int]] = []
    for row, line, fields in reading.count(records, name):
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
        checks.check_field_counts(name, ragged, len(header))
    return table


def fail_at_bad_bytes(path: Path, name: str, records: Iterable[tuple[int, int, str]], limits: Limits) -> NoReturn:
    """Raise for bytes that aren't UTF-8: the rows, the first byte, and an encoding in which the file decodes.

    Args:
        path: of the file.
        name: of the source.
        records: (row, line, content read with `surrogateescape`).
        limits: of the file.

    Raises:
        EncodingError: the file decodes in another encoding.
        DataError: no known encoding decodes it.
    """
    bad = [(row, line) for row, line, content in records if any("\udc80" <= mark <= "\udcff" for mark in content)]
    byte = bad_byte(path, name, limits)
    position = ""
    if bad:  # otherwise in the first bytes, read as a byte order mark
        first = describe_place(*bad[0]) if len(bad) == 1 or not bad[0][0] else where([row for row, _ in bad], bad[0][1])
        position = f" in {first}"
    error = EncodingError if byte.encoding else DataError
    raise error(f"{name}: the bytes are not UTF-8{position}; {byte.describe(limits)}")
