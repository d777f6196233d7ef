"""Running the stages over one run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edgeft
from edgeft import artifact, recipe
from edgeft.data.formats import form_of
from edgeft.errors import OutputFolderError, RecipeError, UserError
from edgeft.files import make_folder, sweep, take_lock, write_atomically, write_json
from edgeft.pipeline import scrutiny
from edgeft.pipeline.preflight import preflight, stages_left_out, without_unfit_stages
from edgeft.pipeline.shipping import ship
from edgeft.pipeline.shipping.budget_check import BUDGET, check_budget
from edgeft.pipeline.shipping.report import report_trained_model
from edgeft.pipeline.stages import in_run, steps
from edgeft.pipeline.time_left import RunProgress
from edgeft.progress import part_of, say
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage_folder import RUN_MARKER, Inputs, StageResult, holds_nothing, read_result
from edgeft.train import identity_swaps

ARTIFACT = "artifact"
LOCK = "run.lock"


def run_pipeline(chosen: Recipe, run_dir: Path, until: str | None = None) -> dict[str, StageResult]:
    """Run every stage that is not complete, and write the artifact.

    Args:
        chosen: the recipe.
        run_dir: the run folder, new or of an earlier run.
        until: the last stage to run; None: all.

    Returns:
        The result of each stage, in order.

    Raises:
        UserError: an unusable recipe, file, model or folder; nothing is left half-written.
        GateError: a gate failed; there is no artifact.
    """
    resolved = recipe.resolve(chosen)
    feasible = without_unfit_stages(resolved)
    names = stages(feasible, run_dir, until)
    preflight(feasible, names)
    left = stages_left_out(resolved)
    if left and ARTIFACT in names:
        say(f"pipeline: {', '.join(left)}: nothing for {form_of(resolved).name} rows, left out")
    with run_folder(run_dir):
        write_atomically(run_dir / artifact.RECIPE, recipe.to_yaml(feasible).encode())
        return _run(feasible, run_dir, names)


def stages(resolved: Recipe, run_dir: Path, until: str | None) -> list[str]:
    """The stages to run, in order.

    Raises:
        RecipeError: `until` is no stage of this run.
    """
    names = [*(step.name for step in steps(resolved, in_run(run_dir))), ARTIFACT]
    if until is not None and until not in names:
        raise RecipeError(f"--until {until}: no such stage in this recipe; the stages are {', '.join(names)}")
    return names[: names.index(until) + 1] if until else names


def _run(resolved: Recipe, run_dir: Path, names: list[str]) -> dict[str, StageResult]:
    before = {name: read_result(run_dir / name) for name in names}
    progress = RunProgress(resolved, names, {name: done for name, done in before.items() if done is not None})
    with part_of(progress):
        for step in steps(resolved, in_run(run_dir)):
            if step.name in names:
                progress.begin(step.name)
                progress.end(step.name, step.run(run_dir / step.name))
        results = progress.results
        if ARTIFACT in names:
            progress.begin(ARTIFACT)
            check_budget(resolved, results, run_dir)
            results[ARTIFACT] = finish(resolved, results, run_dir)
    if ARTIFACT in names:
        (run_dir / artifact.REPORT).unlink(missing_ok=True)  # of an earlier run without an artifact
    else:
        write_atomically(run_dir / artifact.REPORT, report_trained_model(resolved, results, run_dir).encode())
    return results


def finish(resolved: Recipe, results: dict[str, StageResult], run_dir: Path) -> StageResult:
    """Write the artifact, as a stage like the others."""

    def fill(config: StageConfig, inputs: Inputs, out_dir: Path) -> dict[str, Any]:
        manifest = ship.write(resolved, results, run_dir, out_dir)
        size = {"bytes": artifact.total_bytes(manifest), "sha256": manifest.files[artifact.MODEL].sha256}
        return {**size, **scrutiny.of_metrics(manifest.metrics["artifact"])}

    config = StageConfig(seed=resolved.seed)
    inputs = {"recipe": run_dir / artifact.RECIPE, **{name: run_dir / name for name in results}}
    inputs |= identity_swaps.terms_file(resolved.finetune.identity_terms)
    if (run_dir / BUDGET).exists():
        inputs["budget"] = run_dir / BUDGET
    # The manifest contains the stages' keys, and figures that are in none of their files.
    facts = {name: result.key for name, result in results.items()}
    return dataclasses.replace(ship.SHIPPING, fill=fill, facts=facts)(config, inputs, run_dir / ARTIFACT)


def check_folder(run_dir: Path) -> bool:
    """Whether the run folder is new.

    Raises:
        OutputFolderError: it holds something that is not a run.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise OutputFolderError(f"{run_dir} is a file; give a folder as --run-dir")
    fresh = not (run_dir / RUN_MARKER).exists()
    if fresh and not holds_nothing(run_dir, RUN_MARKER, LOCK):
        raise OutputFolderError(f"{run_dir} is not empty and is not a run of edgeft; give another --run-dir")
    return fresh


@contextlib.contextmanager
def run_folder(run_dir: Path) -> Iterator[None]:
    """Create or continue the run folder; a new folder is removed if a user error ends the run before any stage.

    Raises:
        OutputFolderError: the folder holds something that is not a run, or another process runs in it.
    """
    fresh = check_folder(run_dir)
    make_folder(run_dir)
    with hold_lock(run_dir):
        sweep(run_dir, below=False)
        write_json(run_dir / RUN_MARKER, {"edgeft": edgeft.__version__})
        try:
            yield
        except UserError:
            if fresh and not any(path.is_dir() for path in run_dir.iterdir()):
                shutil.rmtree(run_dir, ignore_errors=os.name == "nt")  # Windows doesn't remove a locked file
            raise


@contextlib.contextmanager
def hold_lock(run_dir: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system releases however the process ends."""
    if (lock := take_lock(run_dir / LOCK)) is None:
        raise OutputFolderError(f"{run_dir}: another process is running there; wait for it or end it")
    with lock:
        yield


def plan(chosen: Recipe, run_dir: Path, until: str | None = None) -> list[tuple[str, str]]:
    """Each stage with its state, for `--dry-run`; nothing is written or computed."""
    resolved = without_unfit_stages(recipe.resolve(chosen))
    names = stages(resolved, run_dir, until)
    preflight(resolved, names, needs_hub=False)
    check_folder(run_dir)
    states: list[tuple[str, str]] = []
    for step in steps(resolved, in_run(run_dir)):
        if step.name not in names:
            continue
        sure = all(state == "complete" for _, state in states)
        complete = step.is_complete(run_dir / step.name)
        state_if_complete = "complete" if sure else "kept, if the stages before it come out as they were"
        states.append((step.name, state_if_complete if complete else "would run"))
    return states
