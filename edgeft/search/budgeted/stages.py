"""The stages of trials: each in a folder named by its key, so that trials that share a stage share its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import edgeft
from edgeft.files import rename_synced, write_json
from edgeft.pipeline.stages import Step, stage_of, steps
from edgeft.recipe import Recipe
from edgeft.search.budgeted.job import STAGES, Job
from edgeft.stage_folder import RUN_MARKER, StageResult, digest, read_result

READ = ("data", "baseline", "finetune", "augment")  # stages of the run, which no trial runs again
CACHE = ".cache"
KEY = 16  # characters of a key that name a folder
Made = dict[str, tuple[Path, StageResult]]


def prepare(job: Job) -> None:
    """The folder of all stages: to them it is that of a run, and it has what the run's teacher has said."""
    place = job.folder / STAGES
    place.mkdir(exist_ok=True)
    write_json(place / RUN_MARKER, {"edgeft": edgeft.__version__})
    if (job.run / CACHE).is_dir() and not (place / CACHE).exists():
        linked(job.run / CACHE, place / CACHE)


def made(job: Job, whole: Recipe) -> Made:
    """Run the stages of a recipe that are not there yet.

    Returns:
        Each stage's folder and result, in order; a stage of `READ` that the run hasn't got is left out.
    """
    places = {name: job.run / name for name in READ}
    found: Made = {}
    for step in steps(whole, places):
        if step.name in READ:
            if (done := read_result(places[step.name])) is not None:
                found[step.name] = places[step.name], done
            continue
        places[step.name] = place_of(job, step)
        found[step.name] = places[step.name], step.run(places[step.name])
    return found


def place_of(job: Job, step: Step) -> Path:
    """The folder of a stage: the run's own where that is complete with the same key, else one of the search's."""
    key = step.key()
    own = job.run / step.name
    done = None if step.stage.kernels else read_result(own)  # what was timed earlier compares with nothing
    if done is not None and done.key == key and done.digest == digest(own):
        return own
    return job.folder / STAGES / f"{step.name}-{key[:KEY]}"


def tidy(job: Job, needed: Collection[str]) -> None:
    """Take away what no later trial can use: unfinished stages, and graphs of trials that are not worth keeping.

    Args:
        job: of the search; no stage is running.
        needed: names of folders that stay in any case.
    """
    for place in (job.folder / STAGES).iterdir():
        if not place.is_dir() or place.name == CACHE or place.name in needed:
            continue
        if read_result(place) is None or not stage_of(place.name.rpartition("-")[0]).is_shared:
            shutil.rmtree(place)


def kept_bytes(job: Job) -> int:
    """What the stages take on the disk, the run's own files not counted."""
    run = {path.stat().st_ino for path in files(job.run / CACHE)}
    sizes = {path.stat().st_ino: path.stat().st_size for path in files(job.folder / STAGES)}
    return sum(size for inode, size in sizes.items() if inode not in run)


def files(folder: Path) -> Iterator[Path]:
    """All files under a folder."""
    return (path for path in folder.rglob("*") if path.is_file())


def linked(source: Path, target: Path) -> None:
    """A copy of a folder that takes no room: stages never change a file in place, they write it anew."""
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, copy_function=_link)
    rename_synced(part, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
