"""What a file from elsewhere may ask of memory and time, and the option that raises each limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from edgeft.errors import DataError

FREE_BYTES = 2**22  # so much comes out of any compressed file before its ratio is looked at

Flag = Callable[[str, object], str]


def command_flag(option: str, value: object) -> str:
    """An option as a flag of the command that runs."""
    return f"--{option.replace('_', '-')} {value}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one file may ask for; no honest file comes near the defaults.

    Attributes:
        max_file_bytes: of a file, after decompression.
        max_compression_ratio: bytes after decompression for each compressed byte, looked at from 4 MiB on.
        max_line_bytes: of one line, or of one CSV record over several lines.
        max_file_rows: rows of a file.
        max_nesting: JSON lists and objects inside each other.
        max_digits: digits of one JSON number.
        flag: how a refusal writes an option and its value.
    """

    max_file_bytes: int = 2**34
    max_compression_ratio: float = 200.0
    max_line_bytes: int = 2**24
    max_file_rows: int = 20_000_000
    max_nesting: int = 32
    max_digits: int = 400
    flag: Flag = command_flag

    def refuse(self, name: str, what: str, option: str, value: object = "N") -> NoReturn:
        """Raise one line: what is beyond a limit, and how to raise it.

        Args:
            name: of the source.
            what: as in "line 3 has more than 16,777,216 bytes".
            option: the field to raise.
            value: that would do; N where it isn't known.

        Raises:
            DataError: always.
        """
        raise DataError(f"{name}: {what}; if the file is meant to be so, {self.flag(option, value)}")


LIMITS = Limits()
