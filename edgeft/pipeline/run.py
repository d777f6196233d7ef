"""Running the stages over one run folder."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edgeft
from edgeft import artifact, recipe
from edgeft.errors import OutputFolderError, RecipeError, UserError
from edgeft.pipeline import ship
from edgeft.pipeline.steps import Step, preflight, steps, with_budget
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage import (
    RUN_MARKER,
    Inputs,
    StageResult,
    digest,
    read_result,
    stage,
    stage_key,
    write_atomically,
    write_json,
)

ARTIFACT = "artifact"


def run_pipeline(chosen: Recipe, run_dir: Path, until: str | None = None) -> dict[str, StageResult]:
    """Run every stage that is not complete, and write the artifact.

    Args:
        chosen: the recipe.
        run_dir: the run folder; made, or one that an earlier run left.
        until: the last stage to run; None: all.

    Returns:
        The result of each stage, in order.

    Raises:
        UserError: a recipe, file, model or folder that can't be used; nothing is left half-written.
        GateError: a gate failed; there is no artifact.
    """
    whole = with_budget(recipe.resolve(chosen))
    names = [*(step.name for step in steps(whole, run_dir)), ARTIFACT]
    if until is not None and until not in names:
        raise RecipeError(f"--until {until}: no such stage in this recipe; the stages are {', '.join(names)}")
    preflight(whole)
    with run_folder(run_dir):
        write_atomically(run_dir / artifact.RECIPE, recipe.to_yaml(whole).encode())
        return _run(whole, run_dir, names[: names.index(until) + 1] if until else names)


def _run(whole: Recipe, run_dir: Path, names: list[str]) -> dict[str, StageResult]:
    results: dict[str, StageResult] = {}
    for step in steps(whole, run_dir):
        if step.name in names:
            results[step.name] = step.run(run_dir / step.name)
    if ARTIFACT in names:
        ship.check_budget(whole, results)
        results[ARTIFACT] = finish(whole, results, run_dir)
    return results


def finish(whole: Recipe, results: dict[str, StageResult], run_dir: Path) -> StageResult:
    """The artifact, as a stage like the others."""

    def fill(config: StageConfig, inputs: Inputs, out_dir: Path) -> dict[str, Any]:
        manifest = ship.write(whole, results, run_dir, out_dir)
        return {"bytes": artifact.total_bytes(manifest), "sha256": manifest.files[artifact.MODEL].sha256}

    config = StageConfig(seed=whole.seed)
    inputs = {"recipe": run_dir / artifact.RECIPE, **{name: run_dir / name for name in results}}
    return stage(ARTIFACT)(fill)(config, inputs, run_dir / ARTIFACT)


@contextlib.contextmanager
def run_folder(run_dir: Path) -> Iterator[None]:
    """Make or take up the run folder; a new one that holds nothing when a user error ends the run is removed.

    Raises:
        OutputFolderError: the folder holds something that is not a run.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise OutputFolderError(f"{run_dir} is a file; give a folder as --run-dir")
    fresh = not (run_dir / RUN_MARKER).exists()
    # A kill while the very first marker was written leaves its temporary file alone.
    if fresh and run_dir.exists() and any(item.name != f"{RUN_MARKER}.tmp" for item in run_dir.iterdir()):
        raise OutputFolderError(f"{run_dir} is not empty and is not a run of edgeft; give another --run-dir")
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / RUN_MARKER, {"edgeft": edgeft.__version__})
    try:
        yield
    except UserError:
        if fresh and not any(path.is_dir() for path in run_dir.iterdir()):
            shutil.rmtree(run_dir)
        raise


def plan(chosen: Recipe, run_dir: Path) -> list[tuple[str, str]]:
    """Each stage with its state, for `--dry-run`: nothing is written or computed."""
    whole = with_budget(recipe.resolve(chosen))
    preflight(whole)
    return [(step.name, _state(step, run_dir / step.name)) for step in steps(whole, run_dir)]


def _state(step: Step, folder: Path) -> str:
    done = read_result(folder)
    try:
        key, _ = stage_key(step.name, step.config, step.inputs())
    except UserError:
        return "runs after the stages before it"
    if done and done.key == key and done.digest == digest(folder):
        return "complete"
    return "resumes or runs" if folder.exists() else "runs"
