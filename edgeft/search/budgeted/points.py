"""The run folders of the trials that are worth keeping, and the artifact of the best one."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import optuna

import edgeft
from edgeft import artifact, recipe
from edgeft.files import rename_synced, write_atomically, write_json
from edgeft.pipeline.run import ARTIFACT, finish
from edgeft.recipe import Recipe
from edgeft.search.budgeted import stages
from edgeft.search.budgeted.job import POINTS, Job
from edgeft.search.budgeted.trial import folders
from edgeft.stage_folder import RUN_MARKER, StageResult, read_result


def keep(job: Job, study: optuna.Study, numbers: Collection[int]) -> None:
    """Make the run folder of each of some trials, and take away those of others in which no artifact was made."""
    (job.folder / POINTS).mkdir(exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    wanted = {job.place(trials[number].params): number for number in numbers}
    for old in (job.folder / POINTS).iterdir():
        if old not in wanted and not (old / ARTIFACT).exists():
            shutil.rmtree(old)
    for place, number in wanted.items():
        if not place.exists():
            _make(place, job.recipe_of(number, trials[number].params), job, folders(job, study, number))


def _make(place: Path, whole: Recipe, job: Job, made: Mapping[str, Path]) -> None:
    """A folder as `edgeft pipeline` leaves it before the artifact; it has its name when it is whole.

    Args:
        place: the folder.
        whole: the trial's recipe.
        job: of the search.
        made: the trial's stages; where a search under another budget took one away, they are run again.
    """
    if not all(folder.is_dir() for folder in made.values()):
        made = {name: folder for name, (folder, _) in stages.made(job, whole).items()}
    part = place.with_suffix(".part")
    part.mkdir()
    write_json(part / RUN_MARKER, {"edgeft": edgeft.__version__})
    write_atomically(part / artifact.RECIPE, recipe.to_yaml(whole).encode())
    for name, folder in made.items():
        stages.linked(folder, part / name)
    rename_synced(part, place)


def ship(job: Job, study: optuna.Study, number: int) -> Path:
    """The artifact of a kept trial, with report and card, as the pipeline ships it."""
    options = study.get_trials(deepcopy=False)[number].params
    place = job.place(options)
    finish(job.recipe_of(number, options), results(place, folders(job, study, number)), place)
    target = job.folder / ARTIFACT
    shutil.rmtree(target, ignore_errors=True)
    stages.linked(place / ARTIFACT, target)
    return target


def results(place: Path, names: Mapping[str, Path]) -> dict[str, StageResult]:
    """The result of each stage in a run folder."""
    found = {name: read_result(place / name) for name in names}
    return {name: result for name, result in found.items() if result is not None}
