"""`edgeft search`: many trainings over a space of options, the best one by the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from edgeft import recipe
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import OutputFolderError, RecipeError
from edgeft.models import model_folder
from edgeft.pipeline.preflight import preflight
from edgeft.progress import console, say
from edgeft.recipe import Recipe
from edgeft.report import terminal
from edgeft.search import results, search_report, trial
from edgeft.search import space as spaces
from edgeft.search import study as studies
from edgeft.search.folder import definition, search_folder
from edgeft.search.results import Found
from edgeft.search.trial import DATA, Job
from edgeft.search.workers import work_together
from edgeft.stage_folder import digest, read_result
from edgeft.train import methods

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
        try:
            if workers == 1:
                trial.work(job)
            else:
                work_together(job, workers, study)
        except KeyboardInterrupt:
            report_so_far(job, study)
            raise
        with studies.exclusive(folder):
            trial.tidy(job, study)
            return results.write(job, study)


def report_so_far(job: Job, study: optuna.Study) -> None:
    """The table, best recipe and page of a search that was stopped; nothing where no trial is complete."""
    if studies.best(study) is None:
        return
    with studies.exclusive(job.folder):
        trial.tidy(job, study)
        found = results.write(job, study)
    terminal.show_section(search_report.trials(found), console())
    say(f"search: the trials so far: {found.page}")


def _preflight(base: Recipe, space: spaces.Space) -> None:
    """Everything that can fail before the first row is read, with every model and method that the space names.

    Raises:
        UserError: the first thing that doesn't hold.
    """
    if base.finetune.processes > 1 or base.finetune.shard_frozen:
        raise RecipeError("finetune.processes, finetune.shard_frozen: a trial is one process; unset them for a search")
    if base.update.run is not None:
        raise RecipeError("update.run: a search is over a training of its own, not over an update; unset it")
    tried, sources_of_models = _choices(space, trial.METHOD), _choices(space, MODEL)
    starts = [trial.with_options(base, {trial.METHOD: method}) for method in tried] or [base]
    for start in starts:
        first = {MODEL: sources_of_models[0]} if sources_of_models else {}
        preflight(trial.with_options(start, first), {"data", "finetune"})
    idle = set.intersection(*(set(methods.idle_lora(start.finetune)) for start in starts))
    if unread := sorted(name for name in idle if f"finetune.{name}" in space):
        every = " and ".join(start.finetune.method for start in starts)
        raise RecipeError(f"finetune.{unread[0]}: does nothing for method {every}; take it out of the space")
    for source in sources_of_models[1:]:
        model_folder.facts(str(source))
        model_folder.load_tokenizer(str(source))


def _choices(space: spaces.Space, path: str) -> list[Any]:
    """The choices of an option; none where the space has it not."""
    named = space.get(path)
    return list(named.values) if isinstance(named, spaces.Choices) else []


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
