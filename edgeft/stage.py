"""A stage: a plain function that reads folders and writes one folder, whose `stage.json` comes last.

The key of a stage is the hash of everything that decides its result (`keys.Ingredients`); a complete folder with the
same key is not computed again, an unfinished one with the same key is handed back to the stage, which resumes what it
can.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft import keys, ranks
from edgeft.errors import OutputFolderError, UserError
from edgeft.files import file_sha256, is_temporary, make_folder, sweep, sync_folder, sync_tree, write_json
from edgeft.keys import Ingredients
from edgeft.peak_memory import PeakMemory
from edgeft.progress import say
from edgeft.recipe import Recipe, StageConfig
from edgeft.signing import SIGNATURE

COMPLETE = "stage.json"
UNFINISHED = "stage.unfinished.json"
CHECKPOINTS = "checkpoints"
LOGS = "logs"  # what trackers write of a training; no part of its result
RUN_MARKER = "run.json"  # in the folder of a pipeline's run

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
        key: hash of all that decided it (`keys.Ingredients`).
        config: the stage's config as plain values.
        inputs: digest of each input folder.
        digest: digest of the files this stage wrote.
        versions: of edgeft, Python and the libraries that were there.
        seed: the random seed.
        metrics: what the stage measured.
        seconds: wall time of the run that finished it.
        peak_memory_bytes: largest resident size of the process in that run.
        code: hash of edgeft's sources; this and what follows is empty in folders of earlier releases.
        libraries: versions of those that decided it.
        kernels: hash of the C sources and of what was built of them, where it runs graphs.
        machine: that its timings rest on, where they decide.
        facts: what else decided it.
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


def digests_of(name: str, inputs: Inputs) -> dict[str, str]:
    """The digests of a stage's inputs.

    Raises:
        UserError: one of them is not there.
    """
    missing = [f"{label} {path}" for label, path in inputs.items() if not path.exists()]
    if missing:
        raise UserError(f"{name}: input not found: {', '.join(missing)}")
    return {label: digest(path) for label, path in sorted(inputs.items())}


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


Fill = Callable[[Any, Inputs, Path], Metrics]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage has to do, as far as a run knows before the stage begins.

    Attributes:
        recipe: resolved.
        train_rows: labelled rows to train on.
        unlabelled_rows: texts without labels to learn from.
        evaluated_rows: of the validation and test splits.
        epochs: passes of the fine-tuning.
        teacher_layers: of the model that is fine-tuned.
        student_layers: of what is distilled of it.
        layer_s: seconds for one row through one layer, forward; None where no training was timed yet.
        teacher_s: seconds for one text, asked alone.
        student_s: likewise of the graph that ships.
    """

    recipe: Recipe
    train_rows: float
    unlabelled_rows: float
    evaluated_rows: float
    epochs: float
    teacher_layers: int
    student_layers: int
    layer_s: float | None = None
    teacher_s: float = 0.0
    student_s: float = 0.0


def graph_answers_s(work: Work) -> float | None:
    """How long the graph that ships takes to answer every evaluated row, one at a time."""
    return None if work.layer_s is None else work.evaluated_rows * work.student_s


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """A line of the gate table: one form of the model.

    Attributes:
        name: of the form.
        metrics: figures by split, `bytes` and `latency_ms`.
        note: what to know of it; may be empty.
    """

    name: str
    metrics: Mapping[str, Any]
    note: str = ""


def _always(recipe: Recipe) -> bool:
    return True


def _names_no_files(recipe: Recipe) -> Inputs:
    return {}


def _checks_nothing(recipe: Recipe) -> None:
    return None


def _shows_nothing(results: Mapping[str, StageResult]) -> list[GateLine]:
    return []


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A function that fills a folder, run once for each set of what decides its result, and all that a run asks of it.

    A role is what a folder is to later stages, as in `teacher` or `rows`; the last stage before that gives it fills it.
    The name of a stage is a role of its folder, too.

    Attributes:
        name: of the stage, of its folder in a run, and of its part of the recipe.
        fill: fills a folder and returns its metrics.
        together: whether several processes (torchrun, accelerate) can do it together; the first one writes.
        libraries: whose versions decide what it writes.
        kernels: whether edgeft's kernels do, as it runs graphs.
        machine: gives what its timings rest on; None: none of them decides or is compared.
        facts: what else decides.
        reads: label of an input to its role; "role/file" is one file of the folder.
        reads_if_made: likewise, of roles that a run may lack.
        gives: the roles of its folder.
        config: its options, taken from a recipe; None: the part of its name.
        wanted: whether a recipe asks for it.
        named_files: the files and folders outside of the run that a recipe names as its inputs, by label.
        takes: whether it takes rows of a form; where it doesn't, a run leaves it out.
        check: raises what can fail before the first row is read.
        modules: what it imports late, each with its purpose.
        gate_lines: its lines of the gate table, given the results so far.
        is_shared: whether a search may share its folder between trials.
        layer_passes: of a training, how many rows go through one layer, a backward pass counted twice.
        fixed_s: seconds that don't depend on the rows.
        rows_s: seconds for the rows; None: nobody knows before it ran.
    """

    name: str
    fill: Fill
    together: bool = False
    libraries: tuple[str, ...] = ()
    kernels: bool = False
    machine: Callable[[], dict[str, Any]] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    reads_if_made: Mapping[str, str] = field(default_factory=dict)
    gives: tuple[str, ...] = ()
    config: Callable[[Recipe], StageConfig] | None = None
    wanted: Callable[[Recipe], bool] = _always
    named_files: Callable[[Recipe], Inputs] = _names_no_files
    takes: Callable[[str], bool] | None = None
    check: Callable[[Recipe], None] = _checks_nothing
    modules: Mapping[str, str] = field(default_factory=dict)
    gate_lines: Callable[[Mapping[str, StageResult]], list[GateLine]] = _shows_nothing
    is_shared: bool = False
    layer_passes: Callable[[Work], float] | None = None
    fixed_s: float = 0.0
    rows_s: Callable[[Work], float] | None = None

    def config_of(self, recipe: Recipe) -> StageConfig:
        """Its options, as a recipe has them."""
        config: StageConfig = self.config(recipe) if self.config else getattr(recipe, self.name)
        return config

    def ingredients(self, config: StageConfig, inputs: Inputs) -> Ingredients:
        """All that decides the result.

        Raises:
            UserError: an input is not there.
        """
        options = {option: value for option, value in msgspec.to_builtins(config).items() if option not in NOT_KEYED}
        return Ingredients(
            stage=self.name,
            options=options,
            inputs=digests_of(self.name, inputs),
            code=code_version(),
            libraries=keys.versions_of(self.libraries),
            kernels=keys.kernels_version() if self.kernels else "",
            machine=self.machine() if self.machine else {},
            facts=dict(self.facts),
        )

    def key(self, config: StageConfig, inputs: Inputs) -> str:
        """The hash of what decides the result."""
        return self.ingredients(config, inputs).key

    def is_complete(self, config: StageConfig, inputs: Inputs, out_dir: Path) -> bool:
        """Whether the folder holds the result for its inputs as they are now; not where one of them isn't there."""
        done = read_result(out_dir)
        try:
            return done is not None and done.key == self.key(config, inputs) and done.digest == digest(out_dir)
        except UserError:
            return False

    def __call__(self, config: Any, inputs: Inputs, out_dir: Path) -> StageResult:
        """Fill the folder; it is skipped where it is complete, and `stage.json` is its last file."""
        _check_processes(self.name, self.together, config)
        decides = self.ingredients(config, inputs)
        done = read_result(out_dir)
        changed = "its files were changed" if done and done.digest != digest(out_dir) else ""
        if done and done.key == decides.key and not changed:
            say(f"{self.name}: complete, kept ({out_dir})")
            if ranks.is_main():
                _tidy(out_dir)
            return done
        if done:
            say(f"{self.name}: {changed or keys.differences(done, decides, inputs)}; computed again")
        memory, start = PeakMemory(), time.perf_counter()
        metrics = self._filled(config, inputs, out_dir, decides.key)
        result = StageResult(
            stage=self.name,
            key=decides.key,
            config=msgspec.to_builtins(config),
            inputs=decides.inputs,
            digest=digest(out_dir) if ranks.is_main() else "",
            versions=keys.versions(),
            seed=config.seed or 0,
            metrics=metrics,
            seconds=time.perf_counter() - start,
            peak_memory_bytes=memory.bytes(),
            code=decides.code,
            libraries=decides.libraries,
            kernels=decides.kernels,
            machine=decides.machine,
            facts=decides.facts,
        )
        if ranks.is_main():
            write_json(out_dir / COMPLETE, result)
            _tidy(out_dir)
        return result

    def _filled(self, config: Any, inputs: Inputs, out_dir: Path, key: str) -> Metrics:
        """Fill the folder; a process that only helps the main one throws away what it writes."""
        if not ranks.is_main():
            with tempfile.TemporaryDirectory(prefix=f"edgeft-{self.name}-") as scratch:
                return self.fill(config, inputs, Path(scratch))
        _check_apart(self.name, inputs, out_dir)
        _prepare(out_dir, self.name, key)
        say(f"{self.name}: {out_dir}")
        with _nothing_left_behind(out_dir):
            metrics = self.fill(config, inputs, out_dir)
        sweep(out_dir)
        sync_tree(out_dir, (COMPLETE, UNFINISHED, CHECKPOINTS, LOGS))
        return metrics


def stage(name: str, **declared: Any) -> Callable[[Fill], Stage]:
    """Make a stage of a function that fills a folder and returns its metrics.

    Args:
        name: of the stage.
        declared: the attributes of `Stage`.
    """

    def wrap(fill: Fill) -> Stage:
        return Stage(name=name, fill=fill, **declared)

    return wrap
