"""Readers of JSONL and Parquet, whose values have types, and the choice of a reader by suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import msgspec

from edgeft.data import checks
from edgeft.data.delimited import read_csv, read_tsv
from edgeft.data.opening import COMPRESSED, DAMAGED, fail_at_bad_bytes, open_text, suffix
from edgeft.data.table import Reading, Table, some, where
from edgeft.errors import DataError, require

KEY_ROWS = 1_000  # the first rows of a JSONL file that say what keys it has

# --------------------------------------------------------------------------------------------------------------- JSONL


def _json_lines(file: TextIO) -> Iterator[tuple[int, int, str]]:
    """(row, line, content) of every line that is not blank."""
    row = 0
    for line, content in enumerate(file, 1):
        if not content.isspace():
            row += 1
            yield row, line, content


def read_jsonl(path: Path, name: str, reading: Reading) -> Table:
    """The wanted keys of a file with one JSON object a line; a key that a row lacks gives None there."""
    errors = "surrogateescape" if reading.skip_bad else "strict"
    try:
        with open_text(path, reading.encoding, errors) as file:
            first = _keys(islice(_json_lines(file), KEY_ROWS))
        with open_text(path, reading.encoding, errors) as file:
            return _json_table(_json_lines(file), name, reading, reading.choose(first))
    except UnicodeDecodeError:
        with open_text(path, reading.encoding, "surrogateescape") as file:
            fail_at_bad_bytes(name, _json_lines(file))


def _decode(content: str) -> tuple[dict[str, Any] | None, str]:
    """The object of a line, or None and what is wrong with it."""
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        return None, f"is not JSON ({error})"
    except UnicodeEncodeError:
        return None, "is not UTF-8"
    return (document, "") if isinstance(document, dict) else (None, "is not a JSON object")


def _keys(lines: Iterator[tuple[int, int, str]]) -> list[str]:
    keys: dict[str, None] = {}
    for _, _, content in lines:
        keys.update(dict.fromkeys(_decode(content)[0] or ()))
    return list(keys)


def _json_table(lines: Iterator[tuple[int, int, str]], name: str, reading: Reading, columns: Sequence[str]) -> Table:
    table = Table(name, {column: [] for column in columns}, [], [])
    keys: dict[str, None] = {}
    problems: list[str] = []
    for row, line, content in reading.count(lines):
        document, problem = _decode(content)
        if document is None:
            problems.append(f"{where([row], line)} {problem}")
            table.skipped.setdefault(f"a line that {problem.split(' (')[0]}", []).append(row)
            continue
        keys.update(dict.fromkeys(document))
        _append(table, row, line, document)
    if problems and not reading.skip_bad:
        checks.fail(name, [some(problems)])
    if not table.rows:
        checks.fail(name, ["the file is empty" if not problems else "no row can be read"])
    checks.columns_present(name, columns, list(keys), reading.hint(list(keys)))
    return table


def _append(table: Table, row: int, line: int, document: dict[str, Any]) -> None:
    for column, values in table.columns.items():
        values.append(document.get(column))
    table.rows.append(row)
    table.lines.append(line)


# ------------------------------------------------------------------------------------------------------------- Parquet


def read_parquet(path: Path, name: str, reading: Reading) -> Table:
    """The wanted columns of a Parquet file."""
    parquet = require("pyarrow.parquet", "to read Parquet")
    arrow = require("pyarrow", "to read Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            columns = reading.choose(file.schema_arrow.names)
            checks.columns_present(name, columns, file.schema_arrow.names, reading.hint(file.schema_arrow.names))
            content = file.read(columns=list(columns))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a Parquet file: {' '.join(str(error).split())}") from None
    values = {column: _arrow_values(name, content.column(column), reading.skip_bad) for column in columns}
    if reading.bar:
        reading.bar.advance(content.num_rows)
    return Table(name, values, list(range(1, content.num_rows + 1)))


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
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def read_file(path: Path, name: str, reading: Reading) -> Table:
    """The wanted columns of a file, by its suffix; a text file may be compressed, as in `.csv.gz`.

    Raises:
        DataError: a suffix that no reader takes, an empty or damaged file, or what the reader found.
    """
    reader = READERS.get(suffix(path))
    if reader is None or (reader is read_parquet and path.suffix.lower() in COMPRESSED):
        what = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        can = f"{', '.join(READERS)}, each text format also with {', '.join(COMPRESSED)}"
        checks.fail(name, [f"{what}: can't tell the format; what can be read: {can}"])
    try:
        if not path.stat().st_size:
            checks.fail(name, ["the file is empty"])
        return reader(path, name, reading)
    except DAMAGED as error:
        raise DataError(f"{name}: a damaged {path.suffix} file: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise DataError(f"{name}: can't be read: {error.strerror or error}") from None
