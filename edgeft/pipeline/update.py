"""The recipe of an update: a finished run's own, for new rows and with its teacher as the model to start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft import artifact, recipe
from edgeft.errors import OutputFolderError, RecipeError, UserError
from edgeft.recipe import Recipe
from edgeft.stage import RUN_MARKER, read_result
from edgeft.train import forgetting

MAX_OLD_DROP_POINTS = 1.0  # where the recipe names none
NEEDED = ("data", "finetune")


def recipe_of(run: Path, rows: list[str], settings: Mapping[str, Any]) -> Recipe:
    """The recipe that trains a run further on new rows.

    Args:
        run: a run folder whose teacher is trained.
        rows: the files of the new rows.
        settings: dotted paths to values, laid over everything.

    Raises:
        UserError: no such run.
        RecipeError: every problem, one line each.
    """
    check_run(run)
    own = {
        "data.file": rows[0] if len(rows) == 1 else rows,
        "data.validation_file": None,
        "data.test_file": None,
        "finetune.model": str(run / "finetune"),
        "update.run": str(run),
    }
    return filled(recipe.load(str(run / artifact.RECIPE), {**own, **settings}))


def filled(chosen: Recipe) -> Recipe:
    """The recipe with what an update leaves open written out."""
    drop = chosen.update.max_old_drop_points
    update = dataclasses.replace(chosen.update, max_old_drop_points=MAX_OLD_DROP_POINTS if drop is None else drop)
    forgetting.check(chosen.finetune, update=True)
    return dataclasses.replace(chosen, update=update, finetune=forgetting.filled(chosen.finetune))


def check_run(run: Path) -> None:
    """Whether a folder is a run whose teacher can learn more.

    Raises:
        UserError: it is not; says what is missing.
        ArtifactError: its artifact is there and can't be read.
    """
    if not (run / RUN_MARKER).is_file():
        what = "not a run folder of edgeft (run.json is missing)" if run.exists() else "no such folder"
        raise UserError(f"{run}: {what}; an update needs the folder of an earlier `edgeft pipeline`")
    for name in NEEDED:
        if read_result(run / name) is None:
            raise UserError(f"{run}: its stage {name} is not complete; let `edgeft pipeline` finish it first")
    if not (run / artifact.RECIPE).is_file():
        raise UserError(f"{run}: {artifact.RECIPE} is missing, so nobody knows how its rows were read")
    if has_artifact(run):
        artifact.read_manifest(run / "artifact")


def has_artifact(run: Path) -> bool:
    """Whether a run got as far as an artifact."""
    return read_result(run / "artifact") is not None


def origin(chosen: Recipe) -> str:
    """The model that the first of a chain of runs started from; where a run of it is gone, this one's."""
    own = chosen.finetune.model or ""
    while chosen.update.run is not None:
        path = Path(chosen.update.run) / artifact.RECIPE
        if not path.is_file():
            return own
        chosen = recipe.load(str(path))
    return chosen.finetune.model or ""


def shipped(chosen: Recipe) -> bool:
    """Whether this is the update of a run that has an artifact."""
    return chosen.update.run is not None and has_artifact(Path(chosen.update.run))


def check(chosen: Recipe) -> None:
    """What can fail of an update before the first row is read.

    Raises:
        UserError: the run can't be updated.
        RecipeError: an option is for updates only.
    """
    if chosen.update.run is None:
        if chosen.update.max_old_drop_points is not None:
            raise RecipeError("update.max_old_drop_points: there is no update.run that could be forgotten")
        return
    check_run(Path(chosen.update.run))


def check_apart(run: Path, run_dir: Path) -> None:
    """An update never changes the run that it starts from.

    Raises:
        OutputFolderError: it would.
    """
    if run_dir.resolve() == run.resolve() or run_dir.resolve().is_relative_to(run.resolve()):
        raise OutputFolderError(f"{run_dir}: lies in {run}, which an update leaves as it is; give another --run-dir")
