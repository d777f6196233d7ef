"""Files: written whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, whatever happens."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write bit by bit, which is there when all of it is; an exception leaves nothing behind."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, document: object) -> None:
    """Write a document as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
