"""The run folders of the trials that are worth keeping, and the artifact of the best one."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import optuna

import edgeft
from edgeft import artifact, recipe
from edgeft.pipeline.run import ARTIFACT, finish
from edgeft.search.budgeted import stages
from edgeft.search.budgeted.job import POINTS, Job
from edgeft.search.budgeted.trial import folders
from edgeft.stage import RUN_MARKER, StageResult, read_result, write_atomically, write_json

OPTIONS = "trial.json"  # of a point: whose it is


def keep(job: Job, study: optuna.Study, numbers: Collection[int]) -> None:
    """Make the run folder of each of some trials, and take away those of others."""
    place = job.folder / POINTS
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        if old.name not in {job.place(number).name for number in numbers}:
            shutil.rmtree(old)
    for number in numbers:
        point, options = job.place(number), study.get_trials(deepcopy=False)[number].params
        if not (point / OPTIONS).is_file() or msgspec.json.decode((point / OPTIONS).read_bytes()) != options:
            shutil.rmtree(point, ignore_errors=True)  # under another budget this number was another trial's
            _make(job, number, options, folders(job, study, number))


def _make(job: Job, number: int, options: Mapping[str, Any], places: Mapping[str, Path]) -> None:
    """A folder as `edgeft pipeline` leaves it before the artifact; it has its name when it is whole.

    Args:
        job: of the search.
        number: of the trial.
        options: of the trial.
        places: of its stages; those that were taken away under another budget are run again.
    """
    part, whole = job.place(number).with_suffix(".part"), job.recipe_of(number, options)
    if not all(place.is_dir() for place in places.values()):
        places = {name: place for name, (place, _) in stages.made(job, whole).items()}
    part.mkdir()
    write_json(part / RUN_MARKER, {"edgeft": edgeft.__version__})
    write_json(part / OPTIONS, options)
    write_atomically(part / artifact.RECIPE, recipe.to_yaml(whole).encode())
    for name, folder in places.items():
        stages.linked(folder, part / name)
    part.rename(job.place(number))


def ship(job: Job, study: optuna.Study, number: int) -> Path:
    """The artifact of a kept trial, with report and card, as the pipeline ships it."""
    place = job.place(number)
    whole = job.recipe_of(number, study.get_trials(deepcopy=False)[number].params)
    finish(whole, results(place, folders(job, study, number)), place)
    target = job.folder / ARTIFACT
    shutil.rmtree(target, ignore_errors=True)
    stages.linked(place / ARTIFACT, target)
    return target


def results(place: Path, names: Mapping[str, Path]) -> dict[str, StageResult]:
    """The result of each stage in a run folder."""
    found = {name: read_result(place / name) for name in names}
    return {name: result for name, result in found.items() if result is not None}
