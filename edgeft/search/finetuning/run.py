"""`edgeft search`: many trainings over a space of options, the best one by the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgeft import recipe
from edgeft.errors import RecipeError
from edgeft.models import model_facts, model_folder
from edgeft.pipeline.preflight import preflight
from edgeft.recipe import Recipe
from edgeft.search import space as spaces
from edgeft.search.engine import run_search
from edgeft.search.finetuning.objective import METHOD, FinetuningSearch, with_options
from edgeft.search.finetuning.summary import FinetuningSummary
from edgeft.search.folder import search_folder
from edgeft.search.space import Space
from edgeft.stage import NOT_KEYED
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
) -> FinetuningSummary:
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
    options_search = FinetuningSearch(
        base=base, space=space, folder=folder, trials=trials, pruner=pruner, keep_all=keep_all
    )
    with search_folder(folder, define(options_search)):
        return run_search(options_search, workers)


def define(search: FinetuningSearch) -> dict[str, Any]:
    """What must stay the same while trials are added: everything that decides a trial's score."""
    parts = {name: msgspec.to_builtins(getattr(search.base, name)) for name in ("task", "seed", "data", "finetune")}
    parts["finetune"] = {key: value for key, value in parts["finetune"].items() if key not in NOT_KEYED}
    return {**parts, "space": spaces.plain(search.space), "pruner": search.pruner}


def _preflight(base: Recipe, space: Space) -> None:
    """Everything that can fail before the first row is read, with every model and method that the space names.

    Raises:
        UserError: the first thing that doesn't hold.
    """
    if base.finetune.processes > 1 or base.finetune.shard_frozen:
        raise RecipeError("finetune.processes, finetune.shard_frozen: a trial is one process; unset them for a search")
    if base.update.run is not None:
        raise RecipeError("update.run: a search is over a training of its own, not over an update; unset it")
    tried_methods, models = _choices(space, METHOD), _choices(space, MODEL)
    starts = [with_options(base, {METHOD: method}) for method in tried_methods] or [base]
    for start in starts:
        first = {MODEL: models[0]} if models else {}
        preflight(with_options(start, first), {"data", "finetune"})
    idle = set.intersection(*(set(methods.unused_lora_options(start.finetune)) for start in starts))
    if unread := sorted(name for name in idle if f"finetune.{name}" in space):
        every = " and ".join(start.finetune.method for start in starts)
        raise RecipeError(f"finetune.{unread[0]}: does nothing for method {every}; take it out of the space")
    for model in models[1:]:
        model_facts.read_facts(str(model))
        model_folder.load_tokenizer(str(model))


def _choices(space: Space, path: str) -> list[Any]:
    """The choices of an option; none where the space has it not."""
    named = space.get(path)
    return list(named.values) if isinstance(named, spaces.Choices) else []
