"""The run folders of the trials that are worth keeping, and the artifact of the best one."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import optuna

import edgeft
from edgeft import artifact, recipe
from edgeft.pipeline.run import ARTIFACT, finish
from edgeft.search.budgeted.job import POINTS, Job
from edgeft.search.budgeted.stages import linked
from edgeft.search.budgeted.trial import folders
from edgeft.stage import RUN_MARKER, StageResult, read_result, write_atomically, write_json


def keep(job: Job, study: optuna.Study, numbers: Collection[int]) -> None:
    """Make the run folder of each of some trials, and take away those of others."""
    place = job.folder / POINTS
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        if old.name not in {job.place(number).name for number in numbers}:
            shutil.rmtree(old)
    for number in numbers:
        if not job.place(number).exists():
            _make(job, number, study)


def _make(job: Job, number: int, study: optuna.Study) -> None:
    """A folder as `edgeft pipeline` leaves it before the artifact; it has its name when it is whole."""
    part = job.place(number).with_suffix(".part")
    part.mkdir()
    write_json(part / RUN_MARKER, {"edgeft": edgeft.__version__})
    whole = job.recipe_of(number, study.get_trials(deepcopy=False)[number].params)
    write_atomically(part / artifact.RECIPE, recipe.to_yaml(whole).encode())
    for name, folder in folders(job, study, number).items():
        linked(folder, part / name)
    part.rename(job.place(number))


def ship(job: Job, study: optuna.Study, number: int) -> Path:
    """The artifact of a kept trial, with report and card, as the pipeline ships it."""
    place = job.place(number)
    whole = job.recipe_of(number, study.get_trials(deepcopy=False)[number].params)
    finish(whole, results(place, folders(job, study, number)), place)
    target = job.folder / ARTIFACT
    shutil.rmtree(target, ignore_errors=True)
    linked(place / ARTIFACT, target)
    return target


def results(place: Path, names: Mapping[str, Path]) -> dict[str, StageResult]:
    """The result of each stage in a run folder."""
    found = {name: read_result(place / name) for name in names}
    return {name: result for name, result in found.items() if result is not None}
