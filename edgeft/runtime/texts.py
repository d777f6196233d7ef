"""Reading texts for prediction: one a line."""

from __future__ import annotations

import sys
from pathlib import Path

from edgeft.errors import UserError

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file, or of standard input for `-`; an empty line is an empty text.

    Raises:
        UserError: no such file, a table instead of lines, or bytes that are not UTF-8 (names the line).
    """
    if file.suffix.lower() in TABLES:
        raise UserError(f"{file}: a table; give its text column as a file with one text a line")
    if str(file) == "-":
        content = sys.stdin.buffer.read()
    elif file.is_file():
        content = file.read_bytes()
    else:
        raise UserError(f"{file}: no such file")
    found = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            found.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise UserError(f"{file}: line {number} is not UTF-8") from None
    return found
