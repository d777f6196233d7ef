"""Files that outlast a kill and a power cut: written whole, synced before whatever names them; digests and locks.

A file is written under a temporary name, synced, renamed, and then its folder is synced. Temporary names can't be
guessed, are never opened through a link, and start alike, so that the next run sweeps up what a kill left.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import msgspec

from edgeft.errors import OutputFolderError

if TYPE_CHECKING:
    from filelock import FileLock

# The target's digest, the writer's host and process id, a random number; earlier versions wrote no host.
# `stage_folder.digest` skips whatever ends in .tmp.
TEMPORARY = re.compile(
    r"\.edgeft-(?P<target>[0-9a-f]{8})-(?:(?P<host>[0-9a-f]{8})-)?(?P<process>\d{1,20})-[0-9a-f]{16}\.tmp"
)
STALE_SECONDS = 24 * 3600.0  # since its last byte, after which nobody writes a file of another host any more
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FOREIGN_FILE = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
# Windows syncs a file only through a handle that may write.
SYNCED_FILE = os.O_RDWR | getattr(os, "O_BINARY", 0) if os.name == "nt" else os.O_RDONLY
# Of a folder: a file system that doesn't sync folders, or a folder that may be written but not read.
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
LOCK_POLL_SECONDS = 0.02
_WRITING: set[str] = set()  # the temporary names of this process


# ------------------------------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def written_whole(path: Path, synced: bool = True, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write bit by bit, which has its name once all of it is on the disk; an exception leaves nothing.

    Args:
        path: of the file; an older one, or a link, is replaced.
        synced: False where a power cut may leave an empty file, for what is written often and matters little.
        mode: who may read and write it, less what the process's umask takes away.
    """
    _sweep_target(path)
    temporary = path.with_name(_temporary_name(path))
    _WRITING.add(temporary.name)
    try:
        with os.fdopen(os.open(temporary, NEW_FILE, mode), "wb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _WRITING.discard(temporary.name)
    if synced:
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes, synced: bool = True, mode: int = 0o666) -> None:
    """Write a file so that a reader sees the old content or the new, whatever happens; `synced` and `mode` as above."""
    with written_whole(path, synced, mode) as file:
        file.write(content)


def write_json(path: Path, document: object) -> None:
    """Write a document as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing, so that a power cut doesn't take them away again."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def rename_synced(source: Path, target: Path) -> None:
    """Give a finished file or folder the name under which others look for it, after all of it is on the disk."""
    if source.is_dir():
        sync_tree(source)
    else:
        sync_file(source)
    source.replace(target)
    sync_folder(target.parent)


# ------------------------------------------------------------------------------------------------------------- syncing


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    _sync(path, SYNCED_FILE)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; nothing on Windows, where that can't be asked for."""
    if os.name == "nt":
        return
    try:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def sync_tree(folder: Path, leave_out: Collection[str] = ()) -> None:
    """Wait until a folder is on the disk: each file, each folder after what it holds.

    Args:
        folder: also what other libraries wrote into it.
        leave_out: names right in it that don't matter.
    """
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in leave_out]
            names = [name for name in names if name not in leave_out]
        for path in (Path(parent, name) for name in names):
            if path.is_file():
                sync_file(path)
        sync_folder(Path(parent))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------------------------------------- temporary names


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that only a write under way, or a kill, leaves."""
    return TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path, below: bool = True) -> None:
    """Remove what kills left in a folder that only this process writes, and `below` it."""
    for parent, folders, names in os.walk(folder):
        if not below:
            folders.clear()
        for name in filter(is_temporary, names):
            Path(parent, name).unlink(missing_ok=True)


def _temporary_name(path: Path) -> str:
    return f".edgeft-{_target(path)}-{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


@functools.cache
def _host() -> str:
    """Stands for the system whose process ids this process sees: the machine since its start, or a container on it."""
    seen = [socket.gethostname()]
    with contextlib.suppress(OSError):
        seen.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        seen.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - no file that a path could name
    return hashlib.sha256(" ".join(seen).encode()).hexdigest()[:8]


def _target(path: Path) -> str:
    """Stands for a file's name, which may be too long to be part of another one."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]


def _sweep_target(path: Path) -> None:
    """Remove what killed writers of this very file left; its folder may be anybody's."""
    start = f".edgeft-{_target(path)}-"
    with os.scandir(path.parent) as items:
        names = [item.name for item in items if item.name.startswith(start)]
    for name in names:
        if (match := TEMPORARY.fullmatch(name)) and not _is_written(path.with_name(name), match):
            path.with_name(name).unlink(missing_ok=True)


def _is_written(path: Path, match: re.Match[str]) -> bool:
    """Whether somebody still writes a temporary file.

    Of processes of this host the system tells; those of others, such as another container on the same volume, are
    known by their files' age alone. In containers a killed process often had our own number.
    """
    import psutil  # only where something was left

    if match["host"] != _host():
        return _is_young(path)
    process = int(match["process"])
    return path.name in _WRITING if process == os.getpid() else psutil.pid_exists(process)


def _is_young(path: Path) -> bool:
    """Whether a file was written to a short while ago; one that is gone is not."""
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False


# ----------------------------------------------------------------------------------------------------------- the locks


class Lock:
    """A lock that this process holds, until `close` or until it ends, however it ends."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def close(self) -> None:
        """Give it back."""
        self._lock.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def take_lock(path: Path, wait: bool = False) -> Lock | None:
    """Lock a file.

    Args:
        path: of a file that is there for this alone; it stays.
        wait: until another process gives it back.

    Returns:
        None where another process has it and `wait` is False.

    Raises:
        OutputFolderError: the file system has no locks that a kill gives back.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False, poll_interval=LOCK_POLL_SECONDS, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        raise OutputFolderError(
            f"{path.parent}: its file system has no file locks; give a folder on a local disk"
        ) from None
    return Lock(lock)


# -------------------------------------------------------------------------------------------------- reading and digests


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that somebody else wrote: never through a link, and without waiting for the other end of a pipe.

    Raises:
        OSError: there is none, or what is there is not a regular file; `strerror` says which in a few words.
    """
    if path.is_symlink():  # the flag below closes the gap after this look, where the system has it
        raise OSError(errno.ELOOP, "is a link, and links aren't followed", str(path))
    descriptor = os.open(path, FOREIGN_FILE)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
            raise OSError(number, "is not a regular file", str(path))
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        yield file


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
