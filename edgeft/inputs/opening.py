"""Opening text files from elsewhere: plain, compressed or the one file of a .zip, within limits, in their encoding."""

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

# What a damaged compressed file raises, by library.
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


# What opens a compressed file that is open already, so that its place tells how much was unpacked.
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
# Byte order marks that no UTF-8 file begins with; that of UTF-32 begins as that of UTF-16 does.
WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_LE: "utf-16", codecs.BOM_BE: "utf-16"}
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")


# --------------------------------------------------------------------------------------------------------- what it is


def suffix(path: Path) -> str:
    """The suffix that tells the format, that of the compression left out; of a .zip that of the file inside.

    Raises:
        DataError: a .zip that doesn't have one file of rows inside.
    """
    if path.suffix.lower() == ".zip" and path.is_file():
        return Path(zip_member(path)).suffix.lower()
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def refuse_workbook(path: Path, name: str) -> None:
    """Raise one line for a file of a spreadsheet program, by its name or by what is inside.

    Raises:
        DataError: says how to save the sheet.
    """
    if path.suffix.lower() in WORKBOOKS or _has_sheets(path):
        how = "in Excel: Save As, CSV UTF-8; in LibreOffice: Save As, Text CSV"
        raise DataError(f"{name}: a workbook isn't read; save its sheet as CSV ({how}) and give that file")


def _has_sheets(path: Path) -> bool:
    """Whether a file is a workbook under another name."""
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK\x03\x04"):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in ("xl/workbook.xml", "xl/workbook.bin", "content.xml") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def zip_member(path: Path) -> str:
    """The one file in a .zip; folders, hidden files and what macOS adds don't count.

    Raises:
        DataError: none, or several.
        zipfile.BadZipFile: no .zip.
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
    """Bytes of a file, refused once they are more than the limits allow; memory stays that of a chunk.

    Args:
        stream: to read.
        name: of the source, for messages.
        limits: of the whole and of a line.
        packed: the compressed file that the stream reads; None: not compressed.
        closes: whether the stream ends with this; standard input doesn't.
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
        """Up to so many bytes; all of them would be more than the limits can see, so a size is needed."""
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
        """Count the bytes since the last line break, and the longest line inside the chunk."""
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
        """The first and the last line of a chunk that is no longer than a line may be."""
        first, ending, rest = chunk.partition(mark)
        return [first, rest.rpartition(mark)[2]] if ending else [first]

    def _refuse_line(self, length: int, number: int) -> None:
        if length > self._limits.max_line_bytes:
            what = f"line {self._lines + number + 1:,} has more than {self._limits.max_line_bytes:,} bytes"
            self._limits.refuse(self.name, what, "max_line_bytes")


def open_bytes(path: Path, name: str, limits: Limits = LIMITS) -> BoundedBytes:
    """The bytes of a plain or compressed file.

    Raises:
        DataError: compressed, but not named so.
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
    """A text file for reading, line breaks as they stand, a byte order mark left out.

    Args:
        path: plain or compressed.
        name: of the source, for messages.
        encoding: of the text; a file that begins with the mark of UTF-16 or UTF-32 is read as such in place of UTF-8.
        errors: what is done with bytes that don't decode.
        limits: of its bytes and its lines.
        newline: what ends a line; empty: a line feed, a carriage return or both.

    Raises:
        DataError: compressed, but not named so; an unknown encoding; while reading, what is beyond a limit.
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
    """The first byte of a file that is not UTF-8.

    Attributes:
        offset: bytes before it, after decompression.
        value: the byte.
        encoding: another one in which the whole file decodes, and in which it may well be; None: none is known.
    """

    offset: int
    value: int
    encoding: str | None

    def describe(self, limits: Limits) -> str:
        """Which byte, and the option that reads the file; words that fit after "the bytes are not UTF-8 in row 3"."""
        first = f"the first is 0x{self.value:02X} after {self.offset:,} bytes"
        if self.encoding:
            return f"{first}; the whole file decodes as {self.encoding}: {limits.flag('encoding', self.encoding)}"
        return f"{first}; save the file as UTF-8, or name its encoding: {limits.flag('encoding', 'NAME')}"


def bad_byte(path: Path, name: str, limits: Limits = LIMITS) -> BadByte:
    """Look at a whole file that turned out not to be UTF-8, a chunk at a time.

    cp1252 is proposed only where no character of several bytes was read before: else the file is UTF-8 but for a byte.
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
    """Whether all bytes of a text file are UTF-8; true of one that is read in another encoding or can't be read."""
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
        return True  # whoever reads the file says what is wrong with it


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bool:
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError:
        return False
    return True
