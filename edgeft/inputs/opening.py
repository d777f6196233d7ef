"""Opening untrusted text files: plain, compressed or the only file in a .zip, within limits, in their encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

from edgeft.errors import DataError, require
from edgeft.inputs.limits import FREE_BYTES, LIMITS, Limits

# The errors of damaged compressed files, by library.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
CHUNK_BYTES = 2**16


def _open_zstd(file: IO[bytes], name: str) -> IO[bytes]:
    arrow = require("pyarrow", "to read .zst files")
    return io.BufferedReader(arrow.CompressedInputStream(arrow.PythonFile(file), "zstd"))


def _open_zip(file: IO[bytes], name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    try:
        return archive.open(_only_member(archive, name))
    except RuntimeError as error:  # a password
        raise DataError(f"{name}: can't be unpacked ({error}); unpack it, and give the file inside") from None


def _open_gzip(file: IO[bytes], name: str) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=file)


def _open_bz2(file: IO[bytes], name: str) -> IO[bytes]:
    return bz2.BZ2File(file)


def _open_xz(file: IO[bytes], name: str) -> IO[bytes]:
    return lzma.LZMAFile(file)


# Openers that take an open file, so that its position tells how much was unpacked.
COMPRESSED: dict[str, Callable[[IO[bytes], str], Any]] = {
    ".gz": _open_gzip,
    ".bz2": _open_bz2,
    ".xz": _open_xz,
    ".zst": _open_zstd,
    ".zip": _open_zip,
}
# The first bytes of a compressed file.
MARKS = {
    b"\x1f\x8b\x08": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
}
# Byte order marks other than that of UTF-8; that of UTF-32 begins with that of UTF-16.
WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_LE: "utf-16", codecs.BOM_BE: "utf-16"}
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")


# --------------------------------------------------------------------------------------------------------- what it is


def suffix(path: Path) -> str:
    """The suffix that determines the format: without that of a compression, and for a .zip that of the file inside.

    Raises:
        DataError: a .zip that doesn't contain exactly one file.
    """
    if path.suffix.lower() == ".zip" and path.is_file():
        return Path(zip_member(path)).suffix.lower()
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def refuse_workbook(path: Path, name: str) -> None:
    """Refuse a file of a spreadsheet program, by its name or its content.

    Raises:
        DataError: says how to save the sheet.
    """
    if path.suffix.lower() in WORKBOOKS or _has_sheets(path):
        how = "in Excel: Save As, CSV UTF-8; in LibreOffice: Save As, Text CSV"
        raise DataError(f"{name}: a workbook isn't read; save its sheet as CSV ({how}) and give that file")


def _has_sheets(path: Path) -> bool:
    """Whether a file is a workbook with another suffix."""
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK\x03\x04"):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in ("xl/workbook.xml", "xl/workbook.bin", "content.xml") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def zip_member(path: Path) -> str:
    """The only file in a .zip; folders, hidden files and what macOS adds don't count.

    Raises:
        DataError: none, or several.
        zipfile.BadZipFile: not a .zip.
    """
    with zipfile.ZipFile(path) as archive:
        return _only_member(archive, str(path))


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [member for member in archive.namelist() if not member.endswith("/") and not _is_hidden(member)]
    if len(members) != 1:
        inside = f"{len(members):,} files" if members else "no file"
        raise DataError(f"{name}: has {inside} inside; unpack it, and give the file with the rows")
    return members[0]


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".")


# -------------------------------------------------------------------------------------------------------------- bytes


class BoundedBytes(io.BufferedIOBase):
    """The bytes of a file, refused as soon as they exceed the limits; needs the memory of one chunk.

    Args:
        stream: to read.
        name: of the source, for messages.
        limits: of the file and of a line.
        packed: the compressed file that the stream reads; None: not compressed.
        closes: whether closing this closes the stream; not for standard input.
    """

    def __init__(
        self, stream: Any, name: str, limits: Limits, packed: IO[bytes] | None = None, closes: bool = True
    ) -> None:
        self._stream, self.name, self._limits = stream, name, limits
        self._packed, self._closes = packed, closes
        self._bytes = self._lines = self._of_line = 0

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; a size is required, as reading all at once would bypass the limits."""
        assert size is not None
        assert size >= 0
        return self.read1(size)

    def read1(self, size: int = -1) -> bytes:
        """The next bytes, at most one chunk.

        Raises:
            DataError: beyond a limit.
        """
        chunk: bytes = self._stream.read1(CHUNK_BYTES if size < 0 else size)
        self._bytes += len(chunk)
        self._check_size()
        self._check_lines(chunk)
        return chunk

    def close(self) -> None:
        """Close the file."""
        if self._closes:
            self._stream.close()
            if self._packed is not None:
                self._packed.close()
        super().close()

    def _check_size(self) -> None:
        limits = self._limits
        if self._bytes > limits.max_file_bytes:
            what = f"has more than {limits.max_file_bytes:,} bytes"
            limits.refuse(self.name, what, "max_file_bytes")
        if self._packed is None or self._bytes <= FREE_BYTES:
            return
        ratio, packed = limits.max_compression_ratio, self._packed.tell()
        if self._bytes > ratio * packed:
            limits.refuse(
                self.name,
                f"{packed:,} bytes of it unpack to more than {ratio:g} times as many",
                "max_compression_ratio",
            )

    def _check_lines(self, chunk: bytes) -> None:
        """Check the line that continues from the last chunk, and the longest line inside this one."""
        mark = b"\n" if b"\n" in chunk else b"\r"
        lines = chunk.split(mark) if len(chunk) > self._limits.max_line_bytes else self._ends(chunk, mark)
        first, others = lines[0], lines[1:]
        self._refuse_line(self._of_line + len(first), 0)
        for number, line in enumerate(others, 1):
            self._refuse_line(len(line), number)
        self._lines += chunk.count(mark)
        self._of_line = len(others[-1]) if others else self._of_line + len(first)

    @staticmethod
    def _ends(chunk: bytes, mark: bytes) -> list[bytes]:
        """The first and last line of a chunk that is no longer than the limit of a line."""
        first, ending, rest = chunk.partition(mark)
        return [first, rest.rpartition(mark)[2]] if ending else [first]

    def _refuse_line(self, length: int, number: int) -> None:
        if length > self._limits.max_line_bytes:
            what = f"line {self._lines + number + 1:,} has more than {self._limits.max_line_bytes:,} bytes"
            self._limits.refuse(self.name, what, "max_line_bytes")


def open_bytes(path: Path, name: str, limits: Limits = LIMITS) -> BoundedBytes:
    """Open the bytes of a plain or compressed file.

    Raises:
        DataError: compressed without a suffix that says so.
    """
    opener = COMPRESSED.get(path.suffix.lower())
    if opener is None:
        return BoundedBytes(_plain(path), name, limits)
    packed = path.open("rb")
    try:
        return BoundedBytes(opener(packed, name), name, limits, packed)
    except BaseException:
        packed.close()
        raise


def _plain(path: Path) -> IO[bytes]:
    stream = path.open("rb")
    for mark, ending in MARKS.items():
        if stream.peek(len(mark)).startswith(mark):
            stream.close()
            raise DataError(f"{path}: the file is compressed; name it {path.name}{ending}")
    return stream


# --------------------------------------------------------------------------------------------------------------- text


def open_text(
    path: Path,
    name: str,
    encoding: str = "utf-8",
    errors: str = "strict",
    limits: Limits = LIMITS,
    newline: str = "",
) -> TextIO:
    """Open a text file for reading, with its own line breaks and without a byte order mark.

    Args:
        path: plain or compressed.
        name: of the source, for messages.
        encoding: of the text; for UTF-8, a byte order mark of UTF-16 or UTF-32 takes precedence.
        errors: how to handle bytes that don't decode, as for `open`.
        limits: of its bytes and its lines.
        newline: what ends a line; empty: a line feed, a carriage return or both.

    Raises:
        DataError: compressed without a suffix that says so; an unknown encoding; a limit exceeded while reading.
    """
    actual = encoding_of(path, name, encoding)
    try:
        return io.TextIOWrapper(open_bytes(path, name, limits), encoding=actual, newline=newline, errors=errors)
    except LookupError:
        option = limits.flag("encoding", "cp1252")
        raise DataError(f"{name}: {encoding!r} is no encoding; as in cp1252, latin-1, utf-16: {option}") from None


def encoding_of(path: Path, name: str, encoding: str) -> str:
    """The encoding to open a file with."""
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return encoding
    with open_bytes(path, name) as file:
        first = file.read1(4)
    return next((wide for mark, wide in WIDE.items() if first.startswith(mark)), "utf-8-sig")


@dataclass(frozen=True)
class BadByte:
    """The first byte of a file that isn't UTF-8.

    Attributes:
        offset: bytes before it, after decompression.
        value: the byte.
        encoding: a likely one in which the whole file decodes; None: none is known.
    """

    offset: int
    value: int
    encoding: str | None

    def describe(self, limits: Limits) -> str:
        """The byte, and the option that reads the file; phrased to follow "the bytes are not UTF-8 in row 3"."""
        first = f"the first is 0x{self.value:02X} after {self.offset:,} bytes"
        if self.encoding:
            return f"{first}; the whole file decodes as {self.encoding}: {limits.flag('encoding', self.encoding)}"
        return f"{first}; save the file as UTF-8, or name its encoding: {limits.flag('encoding', 'NAME')}"


def bad_byte(path: Path, name: str, limits: Limits = LIMITS) -> BadByte:
    """Find the first bad byte of a file that isn't UTF-8, a chunk at a time.

    cp1252 is proposed only if no multi-byte character precedes the byte: else the file is UTF-8 with a damaged byte.
    """
    utf8, western = codecs.getincrementaldecoder("utf-8")(), codecs.getincrementaldecoder("cp1252")()
    offset, first, value, decodes, wide = 0, -1, 0, True, False
    with open_bytes(path, name, limits) as file:
        while chunk := file.read1(CHUNK_BYTES):
            if first < 0:
                pending = len(utf8.getstate()[0])
                try:
                    wide = wide or not utf8.decode(chunk).isascii()
                except UnicodeDecodeError as error:
                    first, value = offset - pending + error.start, error.object[error.start]
                    wide = wide or not error.object[: error.start].isascii()
            decodes = decodes and b"\0" not in chunk and _decodes(western, chunk)
            offset += len(chunk)
    if first < 0 and (half := utf8.getstate()[0]):  # the file ends in the middle of a character
        first, value = offset - len(half), half[0]
    return BadByte(max(first, 0), value, "cp1252" if decodes and not wide else None)


def is_utf8(path: Path, name: str, encoding: str, limits: Limits = LIMITS) -> bool:
    """Whether all bytes of a text file are UTF-8; True for a file in a set encoding and for an unreadable one."""
    try:
        if encoding_of(path, name, encoding) != "utf-8-sig":
            return True
        decoder = codecs.getincrementaldecoder("utf-8")()
        with open_bytes(path, name, limits) as file:
            while chunk := file.read1(CHUNK_BYTES):
                if not _decodes(decoder, chunk):
                    return False
        return not decoder.getstate()[0]
    except (*DAMAGED, OSError, DataError):
        return True  # the reader of the file reports what is wrong


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bool:
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError:
        return False
    return True
