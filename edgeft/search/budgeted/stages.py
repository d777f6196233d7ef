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
from edgeft.stage_folder import RUN_MARKER, StageResult, digest, read_result

STAGES, POINTS = "stages", "points"  # folders of a search
READ = ("data", "baseline", "finetune", "augment")  # stages of the run, which no trial runs again
CACHE = ".cache"
KEY = 16  # characters of a key that name a folder
Results = dict[str, tuple[Path, StageResult]]


def prepare(run: Path, folder: Path) -> None:
    """The folder of all stages: to them it is that of a run, and it has what the run's teacher has said."""
    stages = folder / STAGES
    stages.mkdir(exist_ok=True)
    write_json(stages / RUN_MARKER, {"edgeft": edgeft.__version__})
    if (run / CACHE).is_dir() and not (stages / CACHE).exists():
        link_folder(run / CACHE, stages / CACHE)


def run_missing(config: Recipe, run: Path, folder: Path) -> Results:
    """Run the stages of a recipe that are not there yet.

    Args:
        config: the trial's recipe.
        run: the run folder whose teacher is compressed.
        folder: of the search.

    Returns:
        Each stage's folder and result, in order; a stage of `READ` that the run hasn't got is left out.
    """
    folders = {name: run / name for name in READ}
    results: Results = {}
    for step in steps(config, folders):
        if step.name in READ:
            if (result := read_result(folders[step.name])) is not None:
                results[step.name] = folders[step.name], result
            continue
        folders[step.name] = find_folder(step, run, folder)
        results[step.name] = folders[step.name], step.run(folders[step.name])
    return results


def find_folder(step: Step, run: Path, folder: Path) -> Path:
    """The folder of a stage: the run's own where that is complete with the same key, else one of the search's."""
    key = step.key()
    in_run = run / step.name
    result = None if step.stage.kernels else read_result(in_run)  # what was timed earlier compares with nothing
    if result is not None and result.key == key and result.digest == digest(in_run):
        return in_run
    return folder / STAGES / f"{step.name}-{key[:KEY]}"


def remove_unneeded(folder: Path, needed: Collection[str]) -> None:
    """Remove what no later trial can use: unfinished stages, and graphs of trials that are not worth keeping.

    Args:
        folder: of the search; no stage is running.
        needed: names of folders that stay in any case.
    """
    for stage in (folder / STAGES).iterdir():
        if not stage.is_dir() or stage.name == CACHE or stage.name in needed:
            continue
        if read_result(stage) is None or not stage_of(stage.name.rpartition("-")[0]).is_shared:
            shutil.rmtree(stage)


def count_bytes(run: Path, folder: Path) -> int:
    """What the stages take on the disk, the run's own files not counted."""
    inodes = {path.stat().st_ino for path in list_files(run / CACHE)}
    sizes = {path.stat().st_ino: path.stat().st_size for path in list_files(folder / STAGES)}
    return sum(size for inode, size in sizes.items() if inode not in inodes)


def list_files(folder: Path) -> Iterator[Path]:
    """All files under a folder."""
    return (path for path in folder.rglob("*") if path.is_file())


def link_folder(source: Path, target: Path) -> None:
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
