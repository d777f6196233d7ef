"""The recipe of an update: that of a finished run, with new rows and its teacher as the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft import artifact, recipe
from edgeft.errors import OutputFolderError, RecipeError, UserError
from edgeft.recipe import Recipe
from edgeft.stage_folder import RUN_MARKER, read_result
from edgeft.train import forgetting

MAX_OLD_DROP_POINTS = 1.0  # if the recipe sets none
NEEDED = ("data", "finetune")


def recipe_of(run: Path, rows: list[str], settings: Mapping[str, Any]) -> Recipe:
    """The recipe that trains a run further on new rows.

    Args:
        run: a run folder whose teacher is trained.
        rows: the files of the new rows.
        settings: dotted path -> value; override everything else.

    Raises:
        UserError: no such run.
        RecipeError: every problem, one line each.
    """
    check_run(run)
    update_settings = {
        "data.file": rows[0] if len(rows) == 1 else rows,
        "data.validation_file": None,
        "data.test_file": None,
        "data.validation_from": None,
        "data.test_from": None,
        "finetune.model": str(run / "finetune"),
        "update.run": str(run),
    }
    return fill_in_defaults(recipe.load(str(run / artifact.RECIPE), {**update_settings, **settings}))


def fill_in_defaults(chosen: Recipe) -> Recipe:
    """The recipe with the defaults of an update written out."""
    drop = chosen.update.max_old_drop_points
    update = dataclasses.replace(chosen.update, max_old_drop_points=MAX_OLD_DROP_POINTS if drop is None else drop)
    forgetting.check(chosen.finetune, update=True)
    return dataclasses.replace(chosen, update=update, finetune=forgetting.fill_defaults(chosen.finetune))


def check_run(run: Path) -> None:
    """Check that a folder is a run whose teacher can be trained further.

    Raises:
        UserError: it isn't; says what is missing.
        ArtifactError: it has an artifact that can't be read.
    """
    if not (run / RUN_MARKER).is_file():
        what = "not a run folder of edgeft (run.json is missing)" if run.exists() else "no such folder"
        raise UserError(f"{run}: {what}; an update needs the folder of an earlier `edgeft pipeline`")
    if not (run / artifact.RECIPE).is_file():
        raise UserError(f"{run}: {artifact.RECIPE} is missing, so nobody knows how its rows were read")
    # A teacher that forgot too much in an earlier update can't be updated: that update's gate must have passed.
    judged = ("update",) if earlier_of(run) else ()
    for name in (*NEEDED, *judged):
        if read_result(run / name) is None:
            raise UserError(f"{run}: its stage {name} is not complete; let `edgeft pipeline` finish it first")
    if has_artifact(run):
        artifact.read_manifest(run / "artifact")


def has_artifact(run: Path) -> bool:
    """Whether a run has written an artifact."""
    return read_result(run / "artifact") is not None


def first_model(chosen: Recipe) -> str:
    """The model that the first run of a chain of updates started from; this run's if that run is gone."""
    if chosen.update.run is None:
        return chosen.finetune.model or ""
    first = chain(Path(chosen.update.run))[-1] / artifact.RECIPE
    return (recipe.load(str(first)) if first.is_file() else chosen).finetune.model or ""


def earlier_of(run: Path) -> Path | None:
    """The run that a run updates, by its recipe; None if it is no update, or if its recipe is gone."""
    path = run / artifact.RECIPE
    before = recipe.load(str(path)).update.run if path.is_file() else None
    return None if before is None else Path(before)


def chain(run: Path) -> list[Path]:
    """A run, the run that it updates, and so on back to the first."""
    runs, seen = [run], {run.resolve()}
    while (before := earlier_of(runs[-1])) is not None and before.resolve() not in seen:
        runs.append(before)
        seen.add(before.resolve())
    return runs


def updates_artifact(chosen: Recipe) -> bool:
    """Whether this updates a run that has an artifact."""
    return chosen.update.run is not None and has_artifact(Path(chosen.update.run))


def check(chosen: Recipe) -> None:
    """Check what can fail in an update before the first row is read.

    Raises:
        UserError: the run can't be updated.
        RecipeError: an option needs an update.
    """
    if chosen.update.run is None:
        if chosen.update.max_old_drop_points is not None:
            raise RecipeError("update.max_old_drop_points: there is no update.run that could be forgotten")
        return
    check_run(Path(chosen.update.run))


def check_apart(run: Path, run_dir: Path) -> None:
    """Check that an update doesn't write into the run that it updates, or into earlier ones of the chain.

    Raises:
        OutputFolderError: it would.
    """
    for earlier in chain(run):
        if run_dir.resolve().is_relative_to(earlier.resolve()):
            raise OutputFolderError(
                f"{run_dir}: lies in {earlier}, which an update leaves as it is; give another --run-dir"
            )
