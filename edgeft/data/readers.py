"""Readers of local files: CSV, TSV, JSONL, Parquet. Each gives the wanted columns and the number of every row."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec

from edgeft.data import checks
from edgeft.data.table import Table, some, where
from edgeft.errors import DataError, require

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


def csv_records(file: TextIO, name: str) -> Iterator[Record]:
    """The records of a CSV file, blank lines left out.

    Raises:
        DataError: quotes that don't match, with row and line.
    """
    reader = csv.reader(file, strict=True)
    row, line = 0, 1
    try:
        for fields in reader:
            if fields:
                yield row, line, fields
                row += 1
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}: {_place(row, line)}: {_quote_problem(error)}") from None


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


def _place(row: int, line: int) -> str:
    return where([row], line) if row else f"the header (line {line})"


def _read_delimited(
    path: Path, name: str, columns: Sequence[str], records: Callable[[TextIO, str], Iterator[Record]]
) -> Table:
    try:
        with _long_fields(), path.open(encoding="utf-8-sig", newline="") as file:
            return _delimited_table(records(file, name), name, columns)
    except UnicodeDecodeError:
        with _long_fields(), path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            _fail_at_bad_bytes(name, ((row, line, "".join(fields)) for row, line, fields in records(file, name)))


def _delimited_table(records: Iterator[Record], name: str, columns: Sequence[str]) -> Table:
    _, _, header = next(records, (0, 0, None))
    if header is None:
        checks.fail(name, ["the file is empty"])
    checks.columns_present(name, columns, header)
    picks = {column: header.index(column) for column in columns}
    table = Table(name, {column: [] for column in columns}, [], [])
    ragged: list[tuple[int, int, int]] = []
    for row, line, fields in records:
        if len(fields) != len(header):
            ragged.append((row, line, len(fields)))
            continue
        for column, pick in picks.items():
            table.columns[column].append(fields[pick])
        table.rows.append(row)
        table.lines.append(line)
    checks.ragged(name, ragged, len(header))
    return table


def _fail_at_bad_bytes(name: str, records: Iterator[tuple[int, int, str]]) -> NoReturn:
    """Name the rows whose bytes are not UTF-8.

    Args:
        records: (row, line, content read with `surrogateescape`).
    """
    bad = [(row, line) for row, line, content in records if any("\udc80" <= mark <= "\udcff" for mark in content)]
    if not bad:  # in the first bytes, taken for a byte order mark
        checks.fail(name, ["the bytes are not UTF-8; save the file as UTF-8"])
    first = _place(*bad[0]) if len(bad) == 1 or not bad[0][0] else where([row for row, _ in bad], bad[0][1])
    checks.fail(name, [f"the bytes are not UTF-8 in {first}; save the file as UTF-8"])


def read_csv(path: Path, name: str, columns: Sequence[str]) -> Table:
    """The wanted columns of a CSV file with a header."""
    return _read_delimited(path, name, columns, csv_records)


def read_tsv(path: Path, name: str, columns: Sequence[str]) -> Table:
    """The wanted columns of a TSV file with a header."""
    return _read_delimited(path, name, columns, tsv_records)


# --------------------------------------------------------------------------------------------------------------- JSONL


def _json_lines(file: TextIO) -> Iterator[tuple[int, int, str]]:
    """(row, line, content) of every line that is not blank."""
    row = 0
    for line, content in enumerate(file, 1):
        if not content.isspace():
            row += 1
            yield row, line, content


def read_jsonl(path: Path, name: str, columns: Sequence[str]) -> Table:
    """The wanted keys of a file with one JSON object a line; a key that a row lacks gives None there."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return _json_table(_json_lines(file), name, columns)
    except UnicodeDecodeError:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            _fail_at_bad_bytes(name, _json_lines(file))


def _json_table(lines: Iterator[tuple[int, int, str]], name: str, columns: Sequence[str]) -> Table:
    decode = msgspec.json.Decoder().decode
    table = Table(name, {column: [] for column in columns}, [], [])
    keys: dict[str, None] = {}
    problems: list[str] = []
    for row, line, content in lines:
        try:
            document = decode(content)
        except msgspec.DecodeError as error:
            problems.append(f"{where([row], line)} is not JSON ({error})")
            continue
        if not isinstance(document, dict):
            problems.append(f"{where([row], line)} is not a JSON object")
            continue
        keys.update(dict.fromkeys(document))
        _append(table, row, line, document)
    if problems:
        checks.fail(name, [some(problems)])
    if not table.rows:
        checks.fail(name, ["the file is empty"])
    checks.columns_present(name, columns, list(keys))
    return table


def _append(table: Table, row: int, line: int, document: dict[str, Any]) -> None:
    for column, values in table.columns.items():
        values.append(document.get(column))
    table.rows.append(row)
    table.lines.append(line)


# ------------------------------------------------------------------------------------------------------------- Parquet


def read_parquet(path: Path, name: str, columns: Sequence[str]) -> Table:
    """The wanted columns of a Parquet file."""
    parquet = require("pyarrow.parquet", "to read Parquet")
    arrow = require("pyarrow", "to read Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            checks.columns_present(name, columns, file.schema_arrow.names)
            content = file.read(columns=list(columns))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a Parquet file: {' '.join(str(error).split())}") from None
    values = {column: _arrow_values(name, content.column(column)) for column in columns}
    return Table(name, values, list(range(1, content.num_rows + 1)))


def _arrow_values(name: str, column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        bad = [row for row, value in enumerate(column, 1) if not _decodes(value)]
        checks.fail(name, [f"the bytes are not UTF-8 in {where(bad)}"])


def _decodes(value: Any) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


READERS: dict[str, Callable[[Path, str, Sequence[str]], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def read_file(path: Path, name: str, columns: Sequence[str]) -> Table:
    """The wanted columns of a file, by its suffix.

    Raises:
        DataError: a suffix that no reader takes, an empty file, or what the reader found.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        what = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        checks.fail(name, [f"{what}: can't tell the format; what can be read: {', '.join(READERS)}"])
    try:
        if not path.stat().st_size:
            checks.fail(name, ["the file is empty"])
        return reader(path, name, columns)
    except OSError as error:
        raise DataError(f"{name}: can't be read: {error.strerror or error}") from None
