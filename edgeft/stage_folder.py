"""The folder that a stage writes: its files, `stage.json`, which comes last, and what a kill leaves of them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import OutputFolderError, UserError
from edgeft.files import file_sha256, is_temporary, make_folder, sweep, sync_folder, write_json
from edgeft.signing import SIGNATURE

COMPLETE = "stage.json"
UNFINISHED = "stage.unfinished.json"
CHECKPOINTS = "checkpoints"
LOGS = "logs"  # written by experiment trackers; not part of the result
RUN_MARKER = "run.json"  # in the folder of a pipeline's run

# Allowed in a stage's folder but not written by the stage: bookkeeping, and an artifact's signature.
NOT_DIGESTED = (COMPLETE, UNFINISHED, CHECKPOINTS, LOGS, SIGNATURE)

Inputs = Mapping[str, Path]
Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The content of `stage.json`.

    Attributes:
        stage: the stage's name.
        key: hash of everything the result depends on (`keys.Ingredients`).
        config: the stage's config as plain values.
        inputs: digest of each input folder.
        digest: digest of the files this stage wrote.
        versions: of edgeft, Python and the installed libraries.
        seed: the random seed.
        metrics: what the stage measured.
        seconds: wall time of the run that finished it.
        peak_memory_bytes: largest resident size of the process in that run.
        code: hash of edgeft's sources; this and what follows is empty in folders of earlier releases.
        libraries: versions of those that the result depends on.
        kernels: hash of the C sources and built libraries, if the stage runs graphs.
        machine: the hardware that timings depend on, if they affect the result.
        facts: further dependencies.
    """

    stage: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    digest: str
    versions: dict[str, str]
    seed: int
    metrics: Metrics = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    code: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    kernels: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def digest(path: Path) -> str:
    """SHA-256 over the names and contents of a folder's files (or one file's), without the bookkeeping of stages."""
    if path.is_file():
        return file_sha256(path)
    total = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        name = file.relative_to(path)
        if name.parts[0] in NOT_DIGESTED or name.suffix == ".tmp":
            continue
        total.update(f"{name.as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def read_result(folder: Path) -> StageResult | None:
    """The result of a complete stage folder, None where it is not complete."""
    try:
        return msgspec.json.decode((folder / COMPLETE).read_bytes(), type=StageResult)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def digests_of(name: str, inputs: Inputs) -> dict[str, str]:
    """The digests of a stage's inputs.

    Raises:
        UserError: one of them is not there.
    """
    missing = [f"{label} {path}" for label, path in inputs.items() if not path.exists()]
    if missing:
        raise UserError(f"{name}: input not found: {', '.join(missing)}")
    return {label: digest(path) for label, path in sorted(inputs.items())}


def prepare(out_dir: Path, name: str, key: str) -> None:
    """Make the folder ready: emptied of what an earlier run left, but for the checkpoints and logs of this very run.

    Raises:
        OutputFolderError: it holds something that no stage wrote.
    """
    marker = out_dir / UNFINISHED
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputFolderError(f"{out_dir} is a file; give a folder")
    ours = marker.exists() or (out_dir / COMPLETE).exists()
    if not ours and not holds_nothing(out_dir, UNFINISHED):
        raise OutputFolderError(
            f"{out_dir} is not empty and was not written by edgeft; give another folder, or empty it yourself"
        )
    make_folder(out_dir)
    same = marker.exists() and _unfinished_key(marker) == key
    if not same:
        # A marker without key goes first: at no moment does our folder look like somebody else's or complete, and only
        # when it is empty does it belong to this key, so that nobody resumes from another run's checkpoint.
        write_json(marker, {"stage": name, "key": None})
    (out_dir / COMPLETE).unlink(missing_ok=True)
    sync_folder(out_dir)  # no power cut brings it back beside half of what it tells of
    for item in out_dir.iterdir():
        if item != marker and not (same and item.name in (CHECKPOINTS, LOGS)):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    sync_folder(out_dir)  # nor the checkpoint of another key beside this one
    write_json(marker, {"stage": name, "key": key})


def holds_nothing(folder: Path, *markers: str) -> bool:
    """Whether a folder is not there, empty, or has only what a kill leaves while the first marker is written.

    Args:
        folder: that a marker says is ours.
        markers: the file that says so, and what is written before it.
    """
    if not folder.exists():
        return True
    first, *before = markers
    return all(is_temporary(item.name) or item.name in (f"{first}.tmp", *before) for item in folder.iterdir())


def tidy(out_dir: Path) -> None:
    """Take away what a complete stage needs no more; a kill may have come before."""
    if (out_dir / CHECKPOINTS).exists():
        shutil.rmtree(out_dir / CHECKPOINTS, ignore_errors=True)
    (out_dir / UNFINISHED).unlink(missing_ok=True)
    sweep(out_dir)
    sync_folder(out_dir)


def check_apart(name: str, inputs: Inputs, out_dir: Path) -> None:
    """Refuse to empty a folder that an input lies in."""
    for label, path in inputs.items():
        if path.resolve().is_relative_to(out_dir.resolve()):
            raise OutputFolderError(
                f"{name}: its input {label} {path} lies in its output {out_dir}; give another folder"
            )


def _unfinished_key(marker: Path) -> str | None:
    try:
        document = msgspec.json.decode(marker.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return document.get("key") if isinstance(document, dict) else None


@contextlib.contextmanager
def nothing_left_behind(out_dir: Path) -> Iterator[None]:
    """A user error before anything was written leaves no folder."""
    try:
        yield
    except UserError:
        if [item.name for item in out_dir.iterdir()] == [UNFINISHED]:
            shutil.rmtree(out_dir)
        raise
