"""Reading texts for prediction: one a line."""

from __future__ import annotations

import sys
from pathlib import Path

from edgeft.errors import UserError


def lines(file: Path) -> list[str]:
    """The non-empty lines of a UTF-8 file, or of standard input for `-`.

    Raises:
        UserError: no such file, or bytes that are not UTF-8 (names the line).
    """
    if str(file) == "-":
        content = sys.stdin.buffer.read()
    elif file.is_file():
        content = file.read_bytes()
    else:
        raise UserError(f"{file}: no such file")
    found = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{file}: line {number} is not UTF-8") from None
        if text.strip():
            found.append(text)
    return found
