"""A stage: a plain function that reads folders and writes one folder, whose `stage.json` comes last.

The key of a stage is the hash of its config, its inputs' digests and the code; a complete folder with the same key is
not computed again, an unfinished one with the same key is handed back to the stage, which resumes what it can.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edgeft import ranks
from edgeft.errors import OutputFolderError, UserError
from edgeft.files import file_sha256, is_temporary, make_folder, sweep, sync_folder, sync_tree, write_json
from edgeft.peak_memory import PeakMemory
from edgeft.progress import say
from edgeft.recipe import StageConfig
from edgeft.signing import SIGNATURE
from edgeft.version import __version__

COMPLETE = "stage.json"
UNFINISHED = "stage.unfinished.json"
CHECKPOINTS = "checkpoints"
LOGS = "logs"  # what trackers write of a training; no part of its result
RUN_MARKER = "run.json"  # in the folder of a pipeline's run
VERSIONED = (
    *("torch", "transformers", "peft", "bitsandbytes", "onnx", "onnxruntime", "numpy", "tokenizers", "pyarrow"),
    *("scikit-learn", "rensa", "ftfy", "phonenumberslite", "phonenumbers", "presidio-analyzer", "spacy"),
)

# Right in a stage's folder and not written by it: bookkeeping, and what the owner of an artifact puts beside it later.
NOT_DIGESTED = (COMPLETE, UNFINISHED, CHECKPOINTS, LOGS, SIGNATURE)
NOT_KEYED = ("report_to",)  # options that change nothing of what a stage writes

Inputs = Mapping[str, Path]
Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What `stage.json` holds.

    Attributes:
        stage: the stage's name.
        key: hash of config, inputs and code.
        config: the stage's config as plain values.
        inputs: digest of each input folder.
        digest: digest of the files this stage wrote.
        versions: of edgeft, Python and the libraries that were there.
        seed: the random seed.
        metrics: what the stage measured.
        seconds: wall time of the run that finished it.
        peak_memory_bytes: largest resident size of the process in that run.
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


class Run(Protocol):
    """The signature of every stage."""

    def __call__(self, config: Any, inputs: Inputs, out_dir: Path) -> StageResult: ...


# --------------------------------------------------------------------------------------------------- files and digests


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


@functools.cache
def code_version() -> str:
    """Hash of edgeft's own sources: a changed program never passes off an old result as its own."""
    return digest_of_sources(Path(__file__).parent)


def digest_of_sources(package: Path) -> str:
    """Hash of the Python, YAML and HTML files of a package."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.suffix in (".py", ".yaml", ".html"):
            total.update(f"{file.relative_to(package).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


# ----------------------------------------------------------------------------------------------------------- the folder


def read_result(folder: Path) -> StageResult | None:
    """The result of a complete stage folder, None where it is not complete."""
    try:
        return msgspec.json.decode((folder / COMPLETE).read_bytes(), type=StageResult)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def stage_key(name: str, config: StageConfig, inputs: Inputs) -> tuple[str, dict[str, str]]:
    """The key of a stage, and the digests of its inputs that went into it."""
    missing = [f"{label} {path}" for label, path in inputs.items() if not path.exists()]
    if missing:
        raise UserError(f"{name}: input not found: {', '.join(missing)}")
    digests = {label: digest(path) for label, path in sorted(inputs.items())}
    options = {option: value for option, value in msgspec.to_builtins(config).items() if option not in NOT_KEYED}
    parts = [name, options, digests, code_version()]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest(), digests


def _prepare(out_dir: Path, name: str, key: str) -> None:
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


def _tidy(out_dir: Path) -> None:
    """Take away what a complete stage needs no more; a kill may have come before."""
    if (out_dir / CHECKPOINTS).exists():
        shutil.rmtree(out_dir / CHECKPOINTS, ignore_errors=True)
    (out_dir / UNFINISHED).unlink(missing_ok=True)
    sweep(out_dir)
    sync_folder(out_dir)


def _check_apart(name: str, inputs: Inputs, out_dir: Path) -> None:
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


def versions() -> dict[str, str]:
    """Versions of edgeft, Python and the installed libraries that decide a result."""
    found = {"edgeft": __version__, "python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextlib.contextmanager
def _nothing_left_behind(out_dir: Path) -> Iterator[None]:
    """A user error before anything was written leaves no folder."""
    try:
        yield
    except UserError:
        if [item.name for item in out_dir.iterdir()] == [UNFINISHED]:
            shutil.rmtree(out_dir)
        raise


def _check_processes(name: str, together: bool, config: Any) -> None:
    """Refuse processes that a stage can't take, or that the config counts otherwise.

    Raises:
        UserError: says how to start it.
    """
    started, wanted = ranks.world(), getattr(config, "processes", 1)
    if started > 1 and not together:
        raise UserError(f"{name}: runs in one process, and {started} were started; start it without torchrun")
    if started > 1 and wanted not in (1, started):
        raise UserError(f"{name}.processes: {wanted} processes are asked for, and {started} were started")


def _beside(name: str, fill: Callable[[Any, Inputs, Path], Metrics], config: Any, inputs: Inputs) -> Metrics:
    """A stage in a process that only helps the main one: what it writes is thrown away."""
    with tempfile.TemporaryDirectory(prefix=f"edgeft-{name}-") as scratch:
        return fill(config, inputs, Path(scratch))


def stage(name: str, together: bool = False) -> Callable[[Callable[[Any, Inputs, Path], Metrics]], Run]:
    """Make a stage of a function that fills a folder and returns its metrics.

    The stage is skipped where `out_dir` is complete with the same key, and leaves `stage.json` as its last act.

    Args:
        name: of the stage.
        together: whether several processes (torchrun, accelerate) can do it together; the first one writes.
    """

    def wrap(fill: Callable[[Any, Inputs, Path], Metrics]) -> Run:
        @functools.wraps(fill)
        def run(config: Any, inputs: Inputs, out_dir: Path) -> StageResult:
            _check_processes(name, together, config)
            key, digests = stage_key(name, config, inputs)
            done = read_result(out_dir)
            if done and done.key == key and done.digest == digest(out_dir):
                say(f"{name}: complete, kept ({out_dir})")
                if ranks.is_main():
                    _tidy(out_dir)
                return done
            memory, start = PeakMemory(), time.perf_counter()
            if ranks.is_main():
                _check_apart(name, inputs, out_dir)
                _prepare(out_dir, name, key)
                say(f"{name}: {out_dir}")
                with _nothing_left_behind(out_dir):
                    metrics = fill(config, inputs, out_dir)
                sweep(out_dir)
                sync_tree(out_dir, (COMPLETE, UNFINISHED, CHECKPOINTS, LOGS))
            else:
                metrics = _beside(name, fill, config, inputs)
            result = StageResult(
                stage=name,
                key=key,
                config=msgspec.to_builtins(config),
                inputs=digests,
                digest=digest(out_dir) if ranks.is_main() else "",
                versions=versions(),
                seed=config.seed or 0,
                metrics=metrics,
                seconds=time.perf_counter() - start,
                peak_memory_bytes=memory.bytes(),
            )
            if ranks.is_main():
                write_json(out_dir / COMPLETE, result)
                _tidy(out_dir)
            return result

        return run

    return wrap
