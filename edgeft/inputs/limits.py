"""Limits on the memory and time that an untrusted file may cost, and the option that raises each limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from edgeft.errors import DataError

FREE_BYTES = 2**22  # bytes that any compressed file may unpack to before its ratio is checked

Flag = Callable[[str, object], str]


def command_flag(option: str, value: object) -> str:
    """An option as a flag of the command that runs."""
    return f"--{option.replace('_', '-')} {value}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one file; ordinary files stay far below the defaults.

    Attributes:
        max_file_bytes: of a file, after decompression.
        max_compression_ratio: bytes after decompression for each compressed byte, checked from 4 MiB on.
        max_line_bytes: of one line, or of one CSV record over several lines.
        max_file_rows: rows of a file.
        max_nesting: depth of nested JSON lists and objects.
        max_digits: digits of one JSON number.
        flag: spells an option and its value in an error.
    """

    max_file_bytes: int = 2**34
    max_compression_ratio: float = 200.0
    max_line_bytes: int = 2**24
    max_file_rows: int = 20_000_000
    max_nesting: int = 32
    max_digits: int = 400
    flag: Flag = command_flag

    def refuse(self, name: str, what: str, option: str, value: object = "N") -> NoReturn:
        """Raise one line: what exceeds a limit, and how to raise the limit.

        Args:
            name: of the source.
            what: as in "line 3 has more than 16,777,216 bytes".
            option: the field to raise.
            value: that would be enough; N if unknown.

        Raises:
            DataError: always.
        """
        raise DataError(f"{name}: {what}; if the file is meant to be so, {self.flag(option, value)}")


LIMITS = Limits()
