"""Opening text files, plain or compressed, and naming the rows whose bytes are no text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NoReturn, TextIO

from edgeft.data import checks
from edgeft.data.table import where
from edgeft.delimited import place
from edgeft.errors import DataError, require

# What a damaged compressed file raises, by library.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError)


def _open_zstd(path: Path) -> IO[bytes]:
    stream = require("pyarrow", f"to read {path.suffix} files").input_stream(str(path), compression="zstd")
    return io.BufferedReader(stream)


COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _open_zstd,
}


# The first bytes of a compressed file.
MARKS = {b"\x1f\x8b\x08": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


def suffix(path: Path) -> str:
    """The suffix that tells the format, that of the compression left out."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def open_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> TextIO:
    """A text file for reading, line breaks as they stand, a byte order mark left out.

    Raises:
        DataError: compressed, but not named so; an unknown encoding.
    """
    opener = COMPRESSED.get(path.suffix.lower())
    stream = opener(path) if opener else _plain(path)
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        return io.TextIOWrapper(stream, encoding=encoding, newline="", errors=errors)
    except LookupError:
        raise DataError(f"data.encoding: {encoding!r} is no encoding; as in cp1252, latin-1, utf-16") from None


def _plain(path: Path) -> IO[bytes]:
    stream = path.open("rb")
    for mark, suffix in MARKS.items():
        if stream.peek(len(mark)).startswith(mark):
            stream.close()
            raise DataError(f"{path}: the file is compressed; name it {path.name}{suffix}")
    return stream


def fail_at_bad_bytes(name: str, records: Iterable[tuple[int, int, str]]) -> NoReturn:
    """Name the rows whose bytes are not UTF-8.

    Args:
        name: of the source.
        records: (row, line, content read with `surrogateescape`).
    """
    bad = [(row, line) for row, line, content in records if any("\udc80" <= mark <= "\udcff" for mark in content)]
    remedy = "save the file as UTF-8, or say what it is in (data.encoding, often cp1252)"
    if not bad:  # in the first bytes, taken for a byte order mark
        checks.fail(name, [f"the bytes are not UTF-8; {remedy}"])
    first = place(*bad[0]) if len(bad) == 1 or not bad[0][0] else where([row for row, _ in bad], bad[0][1])
    checks.fail(name, [f"the bytes are not UTF-8 in {first}; {remedy}"])
