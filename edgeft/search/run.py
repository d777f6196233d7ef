"""`edgeft search`: many trainings over a space of options, the best one by the validation split."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import torch

from edgeft import models, recipe
from edgeft.data import sources
from edgeft.data.prepare import run as prepare
from edgeft.errors import EdgeftError, OutputFolderError, TrainingError
from edgeft.pipeline.steps import preflight
from edgeft.progress import Bar, say
from edgeft.recipe import Recipe
from edgeft.search import results, trial
from edgeft.search import space as spaces
from edgeft.search import study as studies
from edgeft.search.folder import definition, search_folder
from edgeft.search.results import Found
from edgeft.search.trial import DATA, Job
from edgeft.stage import digest, read_result

WORKERS = "workers"
POLL_S = 0.5
MODEL = "finetune.model"


def search(
    chosen: Recipe,
    space_file: Path,
    folder: Path,
    trials: int,
    workers: int = 1,
    pruner: str = "median",
    keep_all: bool = False,
) -> Found:
    """Run trials until there are enough in the folder, and write the best recipe and the page.

    The same call goes on with a search that was killed; several may run on one folder at once.

    Args:
        chosen: the recipe; what is not in the space stays.
        space_file: YAML: option path -> choices or a range.
        folder: of the search; made, or one that this very search left.
        trials: how many there are to be, over all workers and calls.
        workers: processes that this call starts.
        pruner: `median`, `halving` or `none`.
        keep_all: keep the model of every completed trial, not only the best.

    Raises:
        UserError: a recipe, space, model or folder that can't be used.
        TrainingError: no trial was completed.
    """
    base = recipe.resolve(chosen)
    space = spaces.read(space_file, base)
    _preflight(base, space)
    with search_folder(folder, definition(base, space, pruner)):
        job = Job(base, space, folder, trials, pruner, keep_all)
        study = _ready(job)
        if workers == 1:
            trial.work(job)
        else:
            _work_together(job, workers, study)
        with studies.exclusive(folder):
            trial.tidy(job, study)
            return results.write(job, study)


def _preflight(base: Recipe, space: spaces.Space) -> None:
    """Everything that can fail before the first row is read, with every model that the space names.

    Raises:
        UserError: the first thing that doesn't hold.
    """
    named = space.get(MODEL)
    sources_of_models = list(named.values) if isinstance(named, spaces.Choices) else []
    start = trial.with_options(base, {MODEL: sources_of_models[0]}) if sources_of_models else base
    preflight(start)
    for source in sources_of_models[1:]:
        models.facts(str(source))
        models.load_tokenizer(str(source))


def _ready(job: Job) -> optuna.Study:
    """The rows, prepared once, and the study.

    Raises:
        OutputFolderError: the labelled file changed since the search began.
    """
    with studies.exclusive(job.folder):
        inputs = sources.local_files(job.base.data)
        done = read_result(job.folder / DATA)
        begun = (job.folder / studies.STORAGE).exists()
        if begun and done and done.inputs != {name: digest(path) for name, path in inputs.items()}:
            raise OutputFolderError(
                f"{job.base.data.file} changed since the search in {job.folder} began, and its trials would not "
                "compare; give another --run-dir"
            )
        prepare(job.base.data, inputs, job.folder / DATA)
        return job.opened()


# ------------------------------------------------------------------------------------------------------------- workers


def _work_together(job: Job, workers: int, study: optuna.Study) -> None:
    """Start workers on one study and wait for them.

    Raises:
        TrainingError: a worker ended in an error, and trials are missing.
    """
    (job.folder / WORKERS).mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    shared = dataclasses.replace(job, parent=os.getpid())
    cores = max(1, torch.get_num_threads() // workers)
    started = [context.Process(target=_worker, args=(shared, cores)) for _ in range(workers)]
    with _ended_with_us(started):
        _wait(started, job, study)
    failed = [process for process in started if process.exitcode]
    if failed and _finished(study) < job.trials:
        log = _log(job, failed[0].pid or 0)
        lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
        raise TrainingError(f"a worker ended: {lines[-1]} ({log}); the same command goes on")


@contextlib.contextmanager
def _ended_with_us(processes: Sequence[BaseProcess]) -> Iterator[None]:
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()


def _wait(processes: Sequence[BaseProcess], job: Job, study: optuna.Study) -> None:
    """A bar over the trials of all workers."""
    say(f"search: {len(processes)} workers, their lines in {job.folder / WORKERS}")
    with Bar("search", job.trials) as bar:
        alive = True
        while alive:
            alive = any(process.is_alive() for process in processes)
            bar.advance(_finished(study) - bar.done)
            if (best := studies.best(study)) is not None:
                bar.show(f"best {best.value:.4f} (trial {best.number})")
            time.sleep(POLL_S if alive else 0)


def _finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _log(job: Job, pid: int) -> Path:
    return job.folder / WORKERS / f"{pid}.log"


def _worker(job: Job, threads: int) -> None:
    """One worker process; its lines go to a file, where they don't mix with the others'."""
    torch.set_num_threads(threads)
    with _log(job, os.getpid()).open("w", encoding="utf-8", buffering=1) as log:
        sys.stderr = log
        try:
            trial.work(job)
        except EdgeftError as error:
            say(f"edgeft: {error}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            sys.stderr = sys.__stderr__
