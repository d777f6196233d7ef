"""The run folders of the trials that are worth keeping, and the artifact of the best one."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

import edgeft
from edgeft import artifact, recipe
from edgeft.files import rename_synced, write_atomically, write_json
from edgeft.pipeline.run import ARTIFACT, finish
from edgeft.recipe import Recipe
from edgeft.search.budgeted import stages
from edgeft.search.budgeted.stages import POINTS
from edgeft.stage_folder import RUN_MARKER, StageResult, read_result

if TYPE_CHECKING:
    from edgeft.search.budgeted.objective import BudgetSearch


def keep(search: BudgetSearch, study: optuna.Study, numbers: Collection[int]) -> None:
    """Make the run folder of each of some trials, and remove those of others in which no artifact was made."""
    (search.folder / POINTS).mkdir(exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    numbers_by_folder = {search.point_folder(trials[number].params): number for number in numbers}
    for folder in (search.folder / POINTS).iterdir():
        if folder not in numbers_by_folder and not (folder / ARTIFACT).exists():
            shutil.rmtree(folder)
    for folder, number in numbers_by_folder.items():
        if not folder.exists():
            config = search.recipe_of(number, trials[number].params)
            stage_folders = search.stage_folders(study, number)
            if not all(stage_folder.is_dir() for stage_folder in stage_folders.values()):
                # A search under another budget removed some.
                again = stages.run_missing(config, search.run, search.folder)
                stage_folders = {name: stage_folder for name, (stage_folder, _) in again.items()}
            _make_run_folder(folder, config, stage_folders)


def _make_run_folder(folder: Path, config: Recipe, stage_folders: Mapping[str, Path]) -> None:
    """A folder as `edgeft pipeline` leaves it before the artifact; it has its name when it is whole.

    Args:
        folder: to be made.
        config: the trial's recipe.
        stage_folders: of the trial, by stage.
    """
    part = folder.with_suffix(".part")
    part.mkdir()
    write_json(part / RUN_MARKER, {"edgeft": edgeft.__version__})
    write_atomically(part / artifact.RECIPE, recipe.to_yaml(config).encode())
    for name, stage_folder in stage_folders.items():
        stages.link_folder(stage_folder, part / name)
    rename_synced(part, folder)


def ship(search: BudgetSearch, study: optuna.Study, number: int) -> Path:
    """The artifact of a kept trial, with report and card, as the pipeline ships it."""
    options = study.get_trials(deepcopy=False)[number].params
    folder = search.point_folder(options)
    finish(search.recipe_of(number, options), read_results(folder, search.stage_folders(study, number)), folder)
    target = search.folder / ARTIFACT
    shutil.rmtree(target, ignore_errors=True)
    stages.link_folder(folder / ARTIFACT, target)
    return target


def read_results(folder: Path, names: Collection[str]) -> dict[str, StageResult]:
    """The result of each stage in a run folder."""
    results = {name: read_result(folder / name) for name in names}
    return {name: result for name, result in results.items() if result is not None}
