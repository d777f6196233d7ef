"""`edgeft compress`: the best small model of a finished run inside a budget."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import TrialState

from edgeft import artifact, recipe
from edgeft.errors import GateError, RecipeError, UserError
from edgeft.files import write_json
from edgeft.pipeline import gates
from edgeft.pipeline.preflight import check_ships, feasible
from edgeft.pipeline.run import alone
from edgeft.pipeline.stages import in_run
from edgeft.progress import console, say
from edgeft.recipe import Recipe, budget
from edgeft.report import page, terminal
from edgeft.runtime.machine import host
from edgeft.search import space as spaces
from edgeft.search import study as studies
from edgeft.search.budgeted import compress_report, points, ranking, results, stages
from edgeft.search.budgeted.job import SCOPE, Job, default_space, with_own, without_idle
from edgeft.search.budgeted.ranking import MEASURED
from edgeft.search.budgeted.results import Found
from edgeft.search.budgeted.sampler import BudgetSampler, combinations, named
from edgeft.search.budgeted.trial import constrain, rows_of, work
from edgeft.search.folder import MACHINE, search_folder
from edgeft.search.space import Space
from edgeft.search.study import Direction, distribution
from edgeft.stage import NOT_KEYED
from edgeft.stage_folder import RUN_MARKER, digest, read_result

DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize", "minimize")  # points above the teacher, latency, size
SEARCHED = ("distill", "prune", "export", "calibrate", "bench")  # stages that a trial runs
OURS = (*SEARCHED, "report")  # what --set may change: the teacher is there


def compress(
    run: Path,
    limits: str,
    folder: Path | None = None,
    trials: int = 20,
    space: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Found:
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
    base = base_of(run, settings or {})
    searched = space_of(space, base, run)
    most = combinations(searched)
    job = Job(run, folder or run / "compress", base, parsed, searched, trials if most is None else min(trials, most))
    if job.trials < trials:
        say(f"compress: the space has {most} combinations, so there are no more trials than that")
    with search_folder(job.folder, definition(job), "--out"), alone(job.folder):
        study = opened(job)
        stages.prepare(job)
        try:
            work(job, study)
        except KeyboardInterrupt:
            report_so_far(job, study, limits)
            raise
        return written(job, study, limits)


def report_so_far(job: Job, study: optuna.Study, limits: str) -> None:
    """The table and the page of a search that was stopped; nothing ships, and no trial says nothing."""
    if any(row.measured for row in rows_of(job, study)):
        found = summed_up(job, study, limits, finished=False)
        terminal.show_section(compress_report.trials(found), console())
        say(f"compress: the trials so far: {found.page}")


def base_of(run: Path, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of a run, to start the search from.

    Raises:
        UserError: it is no run with a trained teacher whose rows can become an artifact.
    """
    if not (run / RUN_MARKER).is_file() or not (run / artifact.RECIPE).is_file():
        what = "not a run folder of edgeft (run.json or recipe.yaml is missing)" if run.exists() else "no such folder"
        raise UserError(f"{run}: {what}; compress needs the folder of an `edgeft pipeline`")
    for path in settings:
        if path.partition(".")[0] not in OURS:
            raise RecipeError(f"--set {path}: the teacher of {run} is there; only {', '.join(OURS)} can be set")
    base = recipe.resolve(recipe.load(str(run / artifact.RECIPE), {"budget": None, **settings}))
    if base.update.run is not None:
        raise RecipeError(f"{run}: is an update of {base.update.run}, which compress doesn't take as yet")
    check_ships(base, {"artifact"})
    for name in ("data", "finetune", *(["augment"] if base.augment.enabled else [])):
        if read_result(in_run(run)[name]) is None:
            raise UserError(f"{run}: its stage {name} is not complete; let `edgeft pipeline` finish it first")
    return without_idle(feasible(base))


def space_of(given: str | None, base: Recipe, run: Path) -> Space:
    """The user's space, of a file or as text, or the default one.

    Raises:
        RecipeError: every problem, one line each.
    """
    if given is None:
        return default_space(base, in_run(run)["finetune"])
    if ":" in given and not Path(given).is_file():
        return with_own(base, spaces.parse(given, "--space", base, SCOPE))
    return with_own(base, spaces.read(Path(given), base, SCOPE))


def definition(job: Job) -> dict[str, Any]:
    """What must stay the same while trials are added; the budget may change."""
    parts = {name: msgspec.to_builtins(getattr(job.base, name)) for name in SEARCHED}
    kept = {name: {key: one for key, one in part.items() if key not in NOT_KEYED} for name, part in parts.items()}
    read = {name: digest(in_run(job.run)[name]) for name in ("data", "finetune")}
    return {"kind": "compress", MACHINE: host.identity(), **read, **kept, "space": spaces.plain(job.space)}


# ----------------------------------------------------------------------------------------------------------- the study


def opened(job: Job) -> optuna.Study:
    """The study of this budget, which takes over what was measured under earlier ones."""
    text = ",".join(sorted(limit.text for limit in job.limits))
    name = f"budget-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with studies.exclusive(job.folder):
        sampler = BudgetSampler(job.base.seed, job.space)
        study = studies.created(job.folder, name, sampler, optuna.pruners.NopPruner(), DIRECTIONS)
        if not study.get_trials(deepcopy=False):
            _take_over(job, study)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(job.first())
    return study


def _take_over(job: Job, study: optuna.Study) -> None:
    """The completed trials of earlier budgets, each once, the recipe itself first."""
    there = {path: distribution(options) for path, options in job.space.items()}
    storage, seen = study._storage, set[str]()
    for other in sorted(optuna.get_all_study_summaries(storage), key=lambda one: one._study_id):
        trials = storage.get_all_trials(other._study_id, deepcopy=False)
        if not trials or trials[0].state != TrialState.COMPLETE:
            continue
        for trial in (one for one in trials if one.state == TrialState.COMPLETE and named(one.params) not in seen):
            seen.add(named(trial.params))
            measured = trial.user_attrs[MEASURED]
            taken = optuna.trial.create_trial(
                params=trial.params,
                distributions=there,
                values=[-measured["drop"], measured[job.latency], measured["size"]],
                user_attrs=trial.user_attrs,
            )
            constrain(job, taken, measured)
            study.add_trial(taken)


# --------------------------------------------------------------------------------------------------------- what it says


def written(job: Job, study: optuna.Study, limits: str) -> Found:
    """Keep what is worth keeping, ship the best, and write results.json and the page."""
    rows = rows_of(job, study)
    points.keep(job, study, ranking.pareto(rows, job.latencies))  # what ships is one of them
    if (best := ranking.best(rows, job.latencies)) is not None:
        points.ship(job, study, best.number)
    return summed_up(job, study, limits)


def summed_up(job: Job, study: optuna.Study, limits: str, finished: bool = True) -> Found:
    """Write results.json and the page of the trials as they are."""
    rows = rows_of(job, study)
    numbers = ranking.pareto(rows, job.latencies)
    points.keep(job, study, numbers)
    teacher = read_result(in_run(job.run)["finetune"])
    assert teacher is not None  # `base_of` has seen it
    lead, _ = gates.measures({"finetune": teacher})
    found = Found(
        run=job.run,
        folder=job.folder,
        budget=limits,
        limits=job.limits,
        metric=lead,
        teacher={split: teacher.metrics[split][lead] for split in ("validation", "test")},
        latencies=job.latencies,
        rows=rows,
        pareto=numbers,
        points={number: job.place(rows[number].options) for number in numbers},
        commands={number: job.command(rows[number].options) for number in numbers},
        kept_bytes=stages.kept_bytes(job),
        finished=finished,
    )
    write_json(job.folder / results.RESULTS, results.document(found))
    page.write(found.page, compress_report.report(found))
    return found


def check(found: Found) -> None:
    """Refuse to be content with a search in which nothing fits.

    Raises:
        GateError: which limits are broken by how much, and which one to relax.
    """
    if found.best is None:
        raise GateError(f"compress: {results.nothing_fits(found)}")
