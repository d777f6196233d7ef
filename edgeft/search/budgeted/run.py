"""`edgeft compress`: the best small model of a finished run inside a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgeft import artifact, recipe
from edgeft.errors import GateError, RecipeError, UserError
from edgeft.pipeline.preflight import check_ships, without_unfit_stages
from edgeft.pipeline.run import hold_lock
from edgeft.pipeline.stages import in_run
from edgeft.progress import say
from edgeft.recipe import Recipe, budget
from edgeft.runtime.machine import host
from edgeft.search import space as spaces
from edgeft.search.budgeted.default_space import read_space
from edgeft.search.budgeted.objective import BudgetSearch, clear_unused_pruning
from edgeft.search.budgeted.sampler import count_combinations
from edgeft.search.budgeted.summary import BudgetSummary, explain_misfits
from edgeft.search.engine import run_search
from edgeft.search.folder import MACHINE, search_folder
from edgeft.stage import NOT_KEYED
from edgeft.stage_folder import RUN_MARKER, digest, read_result

SEARCHED = ("distill", "prune", "export", "calibrate", "bench")  # stages that a trial runs
OURS = (*SEARCHED, "report")  # what --set may change: the teacher is there


def compress(
    run: Path,
    limits: str,
    folder: Path | None = None,
    trials: int = 20,
    space: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> BudgetSummary:
    """Run trials until there are enough in the folder, and ship the best one inside the budget.

    The same call goes on with a search that was killed; with another budget the trials that are there count on.

    Args:
        run: a run folder of `edgeft pipeline` with a trained teacher; it is read only.
        limits: the budget, as in `p99<=2ms,size<=8MB,drop<=1pt`.
        folder: of the search; None: `compress` in the run folder.
        trials: how many there are to be, over all calls.
        space: YAML or a file of it, option path -> choices or a range; None: layers, heads, channels, vocabulary and
            bits.
        settings: dotted paths to values of the recipe that the search starts from.

    Raises:
        UserError: a run, budget, space or folder that can't be used.
    """
    parsed = budget.parse(limits)
    if not parsed:
        raise RecipeError('--budget: no limit in it; limits look like "p99<=2ms,size<=8MB,drop<=1pt"')
    base = read_base(run, settings or {})
    searched = read_space(space, base, run)
    combinations = count_combinations(searched)
    search = BudgetSearch(
        run=run,
        folder=folder or run / "compress",
        base=base,
        budget=limits,
        limits=parsed,
        space=searched,
        trials=trials if combinations is None else min(trials, combinations),
    )
    if search.trials < trials:
        say(f"compress: the space has {combinations} combinations, so there are no more trials than that")
    with search_folder(search.folder, define(search), "--out"), hold_lock(search.folder):
        return run_search(search)


def read_base(run: Path, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of a run, to start the search from.

    Raises:
        UserError: it is no run with a trained teacher whose rows can become an artifact.
    """
    if not (run / RUN_MARKER).is_file() or not (run / artifact.RECIPE).is_file():
        what = "not a run folder of edgeft (run.json or recipe.yaml is missing)" if run.exists() else "no such folder"
        raise UserError(f"{run}: {what}; compress needs the folder of an `edgeft pipeline`")
    for path in settings:
        if path.partition(".")[0] not in OURS:
            raise RecipeError(
                f"--set {path}: the teacher of {run} is already trained; --set takes only options of {', '.join(OURS)}"
            )
    base = recipe.resolve(recipe.load(str(run / artifact.RECIPE), {"budget": None, **settings}))
    if base.update.run is not None:
        raise RecipeError(f"{run}: is an update of {base.update.run}, which compress doesn't take as yet")
    check_ships(base, {"artifact"})
    for name in ("data", "finetune", *(["augment"] if base.augment.enabled else [])):
        if read_result(in_run(run)[name]) is None:
            raise UserError(f"{run}: its stage {name} is not complete; let `edgeft pipeline` finish it first")
    return clear_unused_pruning(without_unfit_stages(base))


def define(search: BudgetSearch) -> dict[str, Any]:
    """What must stay the same while trials are added; the budget may change."""
    parts = {name: msgspec.to_builtins(getattr(search.base, name)) for name in SEARCHED}
    keyed = {name: {key: value for key, value in part.items() if key not in NOT_KEYED} for name, part in parts.items()}
    inputs = {name: digest(in_run(search.run)[name]) for name in ("data", "finetune")}
    return {"kind": "compress", MACHINE: host.identity(), **inputs, **keyed, "space": spaces.plain(search.space)}


def check(summary: BudgetSummary) -> None:
    """Refuse to be content with a search in which nothing fits.

    Raises:
        GateError: which limits are broken by how much, and which one to relax.
    """
    if summary.best is None:
        raise GateError(f"compress: {explain_misfits(summary)}")
