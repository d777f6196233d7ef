"""Readers of JSONL and Parquet, whose values have types, and the choice of a reader by suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from edgeft.data.clean import checks
from edgeft.data.read.delimited import fail_at_bad_bytes, read_delimited
from edgeft.data.read.table import MAX_LISTED, Reading, Table, where
from edgeft.errors import DataError, require
from edgeft.inputs import json_text
from edgeft.inputs.limits import Limits
from edgeft.inputs.opening import COMPRESSED, DAMAGED, open_text, refuse_workbook, suffix

PARQUET_ROWS = 1_000  # rows decoded at a time
KEY_ROWS = 1_000  # rows of a JSONL file from which its keys are collected

# --------------------------------------------------------------------------------------------------------------- JSONL


def _json_lines(file: TextIO) -> Iterator[tuple[int, int, str]]:
    """(row, line, content) of every line that is not blank."""
    row = 0
    for line, content in enumerate(file, 1):
        if not content.isspace():
            row += 1
            yield row, line, content


def read_jsonl(path: Path, name: str, reading: Reading) -> Table:
    """Read the requested keys of a file with one JSON object a line; a missing key gives None."""
    errors = "surrogateescape" if reading.skip_bad else "strict"
    try:
        with open_text(path, name, reading.encoding, errors, reading.limits) as file:
            first = _keys(islice(_json_lines(file), KEY_ROWS), reading.limits)
        with open_text(path, name, reading.encoding, errors, reading.limits) as file:
            return _json_table(_json_lines(file), name, reading, reading.choose(first))
    except UnicodeDecodeError:
        with open_text(path, name, reading.encoding, "surrogateescape", reading.limits) as file:
            fail_at_bad_bytes(path, name, _json_lines(file), reading.limits)


def _decode(content: str, limits: Limits) -> tuple[dict[str, Any] | None, str]:
    """The object of a line, or None and the problem."""
    try:
        document = json_text.decode(content, limits)
    except json_text.BadJson as error:
        return None, str(error)
    except UnicodeEncodeError:
        return None, "is not UTF-8"
    return (document, "") if isinstance(document, dict) else (None, "is not a JSON object")


def _keys(lines: Iterator[tuple[int, int, str]], limits: Limits) -> list[str]:
    keys: dict[str, None] = {}
    for _, _, content in lines:
        keys.update(dict.fromkeys(_decode(content, limits)[0] or ()))
    return list(keys)


def _json_table(lines: Iterator[tuple[int, int, str]], name: str, reading: Reading, columns: Sequence[str]) -> Table:
    table = Table(name, {column: [] for column in columns}, [], [])
    keys: dict[str, None] = {}
    problems: list[str] = []
    for row, line, content in reading.count(lines, name):
        document, problem = _decode(content, reading.limits)
        if document is None:
            if len(problems) < MAX_LISTED:
                problems.append(f"{where([row], line)} {problem}")
            table.skipped.setdefault(f"a line that {problem.split(' (')[0]}", []).append(row)
            continue
        keys.update(dict.fromkeys(document))
        _append(table, row, line, document)
    if problems and not reading.skip_bad:
        more = sum(map(len, table.skipped.values())) - len(problems)
        checks.fail(name, [", ".join(problems) + (f" and {more:,} more" if more else "")])
    if not table.rows:
        checks.fail(name, ["the file is empty" if not problems else "no row can be read"])
    checks.check_columns(name, columns, list(keys), reading.hint(list(keys)))
    return table


def _append(table: Table, row: int, line: int, document: dict[str, Any]) -> None:
    for column, values in table.columns.items():
        values.append(document.get(column))
    table.rows.append(row)
    table.lines.append(line)


# ------------------------------------------------------------------------------------------------------------- Parquet


def read_parquet(path: Path, name: str, reading: Reading) -> Table:
    """Read the requested columns of a Parquet file."""
    parquet = require("pyarrow.parquet", "to read Parquet")
    arrow = require("pyarrow", "to read Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            columns = reading.choose(file.schema_arrow.names)
            checks.check_columns(name, columns, file.schema_arrow.names, reading.hint(file.schema_arrow.names))
            batches = list(_batches(file, list(columns), name, reading.limits))
            content = arrow.Table.from_batches(batches, _schema_of(file.schema_arrow, columns, arrow))
    except MemoryError:  # Arrow's own is also an ArrowException
        raise
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: not a Parquet file: {' '.join(str(error).split())}") from None
    values = {column: _arrow_values(name, content.column(column), reading.skip_bad) for column in columns}
    if reading.bar:
        reading.bar.advance(content.num_rows)
    return Table(name, values, list(range(1, content.num_rows + 1)))


def _schema_of(schema: Any, columns: Sequence[str], arrow: Any) -> Any:
    return arrow.schema([schema.field(column) for column in columns])


def _batches(file: Any, columns: list[str], name: str, limits: Limits) -> Iterator[Any]:
    """Yield the record batches as they are decoded, until they exceed the limits.

    A dictionary page can expand to any number of values, so the size is known only after decoding.
    """
    if file.metadata.num_rows > limits.max_file_rows:
        limits.refuse(name, f"has more than {limits.max_file_rows:,} rows", "max_file_rows", file.metadata.num_rows)
    total = 0
    for batch in file.iter_batches(PARQUET_ROWS, columns=columns):
        total += batch.nbytes
        if total > limits.max_file_bytes:
            limits.refuse(name, f"has more than {limits.max_file_bytes:,} bytes", "max_file_bytes")
        yield batch


def _arrow_values(name: str, column: Any, skip_bad: bool) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (UnicodeDecodeError, OverflowError, ValueError):
        if skip_bad:
            return [value.as_py() if _decodes(value) else "\udcff" for value in column]
        bad = [row for row, value in enumerate(column, 1) if not _decodes(value)]
        checks.fail(name, [f"the bytes are not UTF-8, or a time is beyond the year 9999, in {where(bad)}"])


def _decodes(value: Any) -> bool:
    try:
        value.as_py()
    except (UnicodeDecodeError, OverflowError, ValueError):
        return False
    return True


# ------------------------------------------------------------------------------------------------------ by the suffix

READERS: dict[str, Callable[[Path, str, Reading], Table]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def read_file(path: Path, name: str, reading: Reading) -> Table:
    """Read the requested columns of a file by its suffix; a text file may be compressed, as in `.csv.gz` or a .zip.

    Raises:
        DataError: an unknown suffix, an empty or damaged file, a limit or the memory exceeded, or a problem that
            the reader reports.
    """
    try:
        refuse_workbook(path, name)
        if not path.stat().st_size and suffix(path) in READERS:
            checks.fail(name, ["the file is empty"])
        return _reader_of(path, name)(path, name, reading)
    except DAMAGED as error:
        raise DataError(f"{name}: a damaged {path.suffix} file: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise DataError(f"{name}: can't be read: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"{name}: reading it takes more memory than there is; give fewer rows at a time") from None


def _reader_of(path: Path, name: str) -> Callable[[Path, str, Reading], Table]:
    ending = suffix(path)
    reader = READERS.get(ending)
    if reader is None or (reader is read_parquet and path.suffix.lower() in COMPRESSED):
        inside = f" ({ending or 'no suffix'} inside)" if path.suffix.lower() == ".zip" else ""
        what = f"suffix {path.suffix!r}{inside}" if path.suffix else "no suffix"
        can = f"{', '.join(READERS)}, each text format also with {', '.join(COMPRESSED)}"
        checks.fail(name, [f"{what}: can't tell the format; what can be read: {can}"])
    return reader
