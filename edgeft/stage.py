"""A stage: a plain function that reads folders and writes one folder, and everything a run needs to know about it.

The key of a stage is the hash of everything that decides its result (`keys.Ingredients`); a complete folder with the
same key is not computed again, an unfinished one with the same key is handed back to the stage, which resumes what it
can.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft import keys, ranks
from edgeft.errors import UserError
from edgeft.files import file_sha256, sweep, sync_tree, write_json
from edgeft.keys import Ingredients
from edgeft.peak_memory import PeakMemory
from edgeft.progress import say
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage_folder import (
    CHECKPOINTS,
    COMPLETE,
    LOGS,
    UNFINISHED,
    Inputs,
    Metrics,
    StageResult,
    check_apart,
    digest,
    digests_of,
    nothing_left_behind,
    prepare,
    read_result,
    tidy,
)
from edgeft.tasks import RowForm

NOT_KEYED = ("report_to",)  # options that change nothing of what a stage writes


@functools.cache
def code_version() -> str:
    """Hash of edgeft's own sources, so that changed code never reuses an old result."""
    return digest_of_sources(Path(__file__).parent)


def digest_of_sources(package: Path) -> str:
    """Hash of the Python, YAML and HTML files of a package."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.suffix in (".py", ".yaml", ".html"):
            total.update(f"{file.relative_to(package).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def _check_processes(name: str, together: bool, config: Any) -> None:
    """Refuse a number of processes that the stage doesn't support or that differs from the config.

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
    """The work of a stage, as far as it is known before the stage begins.

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
    """Seconds that the shipped graph takes to answer every evaluated row, one at a time."""
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


def _reads_nothing(recipe: Recipe) -> Mapping[str, str]:
    return {}


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
        reads: gives label to role of each input from the run; "role/file" is one file of the folder.
        reads_if_there: stages whose folders are inputs, too, where a run has them.
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
    reads: Callable[[Recipe], Mapping[str, str]] = _reads_nothing
    reads_if_there: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    config: Callable[[Recipe], StageConfig] | None = None
    wanted: Callable[[Recipe], bool] = _always
    named_files: Callable[[Recipe], Inputs] = _names_no_files
    takes: Callable[[RowForm], bool] | None = None
    check: Callable[[Recipe], None] = _checks_nothing
    modules: Mapping[str, str] = field(default_factory=dict)
    gate_lines: Callable[[Mapping[str, StageResult]], list[GateLine]] = _shows_nothing
    is_shared: bool = False
    layer_passes: Callable[[Work], float] | None = None
    fixed_s: float = 0.0
    rows_s: Callable[[Work], float | None] | None = None

    def config_of(self, recipe: Recipe) -> StageConfig:
        """Its options, as a recipe has them."""
        config: StageConfig = self.config(recipe) if self.config else getattr(recipe, self.name)
        return config

    def ingredients(self, config: StageConfig, inputs: Inputs) -> Ingredients:
        """Everything that the result depends on.

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
        """The hash of everything that the result depends on."""
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
                tidy(out_dir)
            return done
        if done:
            say(f"{self.name}: {changed or keys.describe_differences(done, decides, inputs)}; computed again")
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
            tidy(out_dir)
        return result

    def _filled(self, config: Any, inputs: Inputs, out_dir: Path, key: str) -> Metrics:
        """Fill the folder; a process that only helps the main one throws away what it writes."""
        if not ranks.is_main():
            with tempfile.TemporaryDirectory(prefix=f"edgeft-{self.name}-") as scratch:
                return self.fill(config, inputs, Path(scratch))
        check_apart(self.name, inputs, out_dir)
        prepare(out_dir, self.name, key)
        say(f"{self.name}: {out_dir}")
        with nothing_left_behind(out_dir):
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
