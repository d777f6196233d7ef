"""The files that a manifest lists: which names may stand there, and whether each is the file that was written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from msgspec import Meta

from edgeft.files import open_regular

MAX_FILES = 256
# What one message of protocol buffers may have, so that no graph is larger.
MAX_FILE_BYTES = 2**31
MAX_TOTAL_BYTES = 2**32
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
# What Windows takes for a device, with any ending.
DEVICES = re.compile(r"(con|prn|aux|nul|conin|conout|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of the artifact."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


def describe_bad_list(files: dict[str, File]) -> str | None:
    """Why a folder can't hold these files, in a few words; None: it can."""
    if len(files) > MAX_FILES:
        return f"lists {len(files)} files, and at most {MAX_FILES} are read"
    for name in files:
        if not is_plain_name(name):
            return f"lists {name[:80]!a}, which is not the plain name of a file beside the manifest"
    if (total := sum(file.bytes for file in files.values())) > MAX_TOTAL_BYTES:
        return f"lists files of {total:,} bytes, and at most {MAX_TOTAL_BYTES:,} are read"
    return None


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in the same folder, on every system: no separators, no `..`, no devices."""
    return bool(NAME.fullmatch(name)) and not name.endswith(".") and not DEVICES.fullmatch(name)


def read_files(
    folder: Path, files: dict[str, File], contents_of: Collection[str]
) -> tuple[dict[str, bytes], list[str]]:
    """Read every file once, and compare it with the list.

    Args:
        folder: that holds the files.
        files: name to size and digest.
        contents_of: the names whose content is returned; of the others no more than a piece is held at once.

    Returns:
        Name to the bytes whose digest was compared, of the wanted files; and what is wrong with each file that isn't
        the listed one, in a few words.
    """
    contents: dict[str, bytes] = {}
    problems = []
    for name, file in files.items():
        try:
            if name in contents_of:
                contents[name] = read_listed(folder / name, file)
            else:
                _compare(folder / name, file)
        except (OSError, ValueError) as error:
            problems.append(f"{name} {describe_problem(error)}")
    return contents, problems


def describe_problem(error: OSError | ValueError) -> str:
    """Why a file can't be read or isn't the listed one, in a few words that follow its name."""
    match error:
        case FileNotFoundError():
            return "is missing"
        case IsADirectoryError():
            return "is missing: a folder has its name"
        case OSError(errno=errno.ELOOP | errno.EINVAL):
            return str(error.strerror)
        case OSError():
            return f"can't be read: {error.strerror or error}"
    return str(error)


def read_listed(path: Path, file: File) -> bytes:
    """The content of a file, whose digest is that of the list.

    Raises:
        OSError: it can't be read, or is not a regular file.
        ValueError: it is another one; the message says in a few words what differs.
    """
    with open_regular(path) as opened:
        _check_size(opened, file)
        content = opened.read(file.bytes)
    _check_digest(hashlib.sha256(content).hexdigest(), file)
    return content


def _compare(path: Path, file: File) -> None:
    """As `read_listed`, without holding the content."""
    digest, left = hashlib.sha256(), file.bytes
    with open_regular(path) as opened:
        _check_size(opened, file)
        while piece := opened.read(min(left, PIECE_BYTES)):  # no further where the file grows meanwhile
            digest.update(piece)
            left -= len(piece)
    _check_digest(digest.hexdigest(), file)


def _check_size(opened: IO[bytes], file: File) -> None:
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    if size != file.bytes:
        raise ValueError(f"has {size} bytes instead of {file.bytes}")


def _check_digest(digest: str, file: File) -> None:
    if digest != file.sha256:
        raise ValueError("was changed (its SHA-256 differs)")
