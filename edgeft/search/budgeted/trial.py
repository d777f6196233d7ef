"""One trial: a student made, cut, trained, exported and measured, or ended as soon as it can't fit the budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft.data.formats import form_of
from edgeft.errors import GateError, ModelError, RecipeError, TrainingError
from edgeft.pipeline import gates
from edgeft.pipeline.shipping import budget_latency
from edgeft.pipeline.shipping.budget_check import measure_quantities
from edgeft.pipeline.stages import in_run
from edgeft.progress import about, say
from edgeft.report import facts
from edgeft.search import study as studies
from edgeft.search.budgeted import candidate, ranking, stages
from edgeft.search.budgeted.job import STAGES, Job
from edgeft.search.budgeted.ranking import CANDIDATE, FOLDERS, MEASURED, QUALITY, Row
from edgeft.search.trial import WHY, described, give_back_memory
from edgeft.stage_folder import read_result
from edgeft.train import tasks
from edgeft.train.loop.watch import Training, Watcher, watching

MARGIN_POINTS = 2.0  # what a training is given beyond its own course before it counts as hopeless


class Follower(Watcher):
    """Ends a training that won't come near enough to the teacher.

    Args:
        job: of the search; its budget limits the drop.
        lead: the task's leading metric.
        teacher: the teacher's, on validation.
    """

    def __init__(self, job: Job, lead: str, teacher: float) -> None:
        self.points, self.lead, self.teacher = tasks.class_of(form_of(job.base).name).points, lead, teacher
        self.drop = job.bound("drop")

    def start(self, training: Training) -> None:
        """Another training: its looks are its own."""
        self.training, self.looks = training, dict[int, float]()

    def looked(self, step: int, metrics: Mapping[str, float]) -> None:
        """End what is hopeless; by the last look the training is paid for."""
        if self.drop is None or self.lead not in metrics:
            return
        self.looks[step] = metrics[self.lead]
        reached = optimistic(self.looks, step, self.training.steps)
        if reached is not None and -self.points(self.teacher, reached) > self.drop + MARGIN_POINTS:
            now = facts.figure(self.lead, max(self.looks.values()))
            raise optuna.TrialPruned(
                f"{self.training.title}: {self.lead} {now} after {step} of {self.training.steps} steps, "
                f"the teacher's is {facts.figure(self.lead, self.teacher)}"
            )


def optimistic(looks: Mapping[int, float], step: int, steps: int) -> float | None:
    """What a training may still reach: as much more as it gained since half as many steps.

    Args:
        looks: step -> the lead metric, of the looks so far.
        step: of the last look.
        steps: of the whole training.

    Returns:
        The metric; None in the first half, at the end, and where no look is old enough.
    """
    early = [value for at, value in looks.items() if 2 * at <= step]
    if 2 * step < steps or step >= steps or not early:
        return None
    now = max(looks.values())
    return now + (now - max(early))


def run_trial(job: Job, study: optuna.Study, trial: Trial) -> None:
    """Make a trial's model and tell the study how good, fast and small it is."""
    try:
        values = _values(job, study, trial)
    except optuna.TrialPruned as ended:
        trial.set_user_attr(WHY, str(ended))
        told = study.tell(trial, state=TrialState.PRUNED)
    except (GateError, ModelError, RecipeError, TrainingError) as error:
        trial.set_user_attr(WHY, str(error))
        told = study.tell(trial, state=TrialState.FAIL)
    else:
        told = study.tell(trial, values)
    _say(job, study, told)
    give_back_memory()


def _left(job: Job, study: optuna.Study) -> str:
    """About how long the trials that are left take, as those before; nothing before one has ended."""
    trials = study.get_trials(deepcopy=False)
    seconds = [trial.duration.total_seconds() for trial in trials if trial.state.is_finished() and trial.duration]
    left = job.trials - sum(trial.state.is_finished() for trial in trials)
    return f", {about(left * sum(seconds) / len(seconds))} left" if seconds else ""


def _values(job: Job, study: optuna.Study, trial: Trial) -> list[float]:
    """Points above the teacher, latency in ms, bytes.

    Raises:
        TrialPruned: it is hopeless.
    """
    whole = job.recipe_of(trial.number, trial.params)
    say(f"compress: trial {trial.number} of {job.trials}{_left(job, study)}: {described(job.base, trial.params)}")
    if trial.number > 0 and (found := candidate.hopeless(job, whole)):
        trial.set_user_attr(CANDIDATE, found[1])
        constrain(job, trial, found[1])
        raise optuna.TrialPruned(found[0])
    followers = [follower(job)] if trial.number > 0 else []  # the recipe itself is what the others are compared with
    with watching(*followers):
        made = stages.made(job, whole)
    results = {name: result for name, (_, result) in made.items()}
    export, (lead, _) = results["export"].metrics, gates.measures(results)
    seen = budget_latency.settle(job.limits, results["bench"].metrics, made["package"][0], made["data"][0], whole.bench)
    shipped, measured = export[export["precision"]], {**measure_quantities(results), **budget_latency.medians(seen)}
    trial.set_user_attr(QUALITY, {split: shipped[split][lead] for split in ("validation", "test")})
    trial.set_user_attr(MEASURED, measured)
    constrain(job, trial, measured)
    trial.set_user_attr(FOLDERS, {name: place.name for name, (place, _) in made.items()})
    return [-measured["drop"], measured[job.latency], measured["size"]]


def follower(job: Job) -> Follower:
    """Who ends hopeless trainings of a search."""
    teacher = read_result(in_run(job.run)["finetune"])
    assert teacher is not None  # the search was refused otherwise
    lead, _ = gates.measures({"finetune": teacher})
    return Follower(job, lead, teacher.metrics["validation"][lead])


def constrain(job: Job, trial: Trial | FrozenTrial, figures: Mapping[str, float]) -> None:
    """Tell the sampler by which share a trial breaks each limit."""
    for limit, share in zip(job.limits, ranking.excesses(figures, job.limits), strict=True):
        trial.set_constraint(limit.text, share)


def rows_of(job: Job, study: optuna.Study) -> list[Row]:
    """All trials, by number."""
    return [ranking.row_of(trial, job.limits) for trial in study.get_trials(deepcopy=False)]


def folders(job: Job, study: optuna.Study, number: int) -> dict[str, Path]:
    """The folder of each stage of a completed trial; one that is named as the stage itself is the run's."""
    found = study.get_trials(deepcopy=False)[number].user_attrs[FOLDERS]
    return {name: (job.run if name == place else job.folder / STAGES) / place for name, place in found.items()}


def _say(job: Job, study: optuna.Study, told: FrozenTrial) -> None:
    rows = rows_of(job, study)
    row, best = rows[told.number], ranking.best(rows, job.latencies)
    shown = [f"compress: trial {row.number} of {job.trials}: {row.became}"]
    if row.measured:
        shown += [f"validation {row.quality['validation']:.4f}", facts.size(row.measured["size"])]
        shown += [f"{job.latency} {facts.milliseconds(row.measured[job.latency])}"]
        shown += ["fits" if row.fits else "breaks " + "; ".join(row.broken)]
    shown += [row.error] if row.error else []
    shown += [f"best trial {best.number}"] if best else []
    say(" · ".join(shown))


def work(job: Job, study: optuna.Study) -> None:
    """Run trials until there are enough; what no later one needs is taken away after each."""
    while (claim := studies.claim(study, job.folder, job.space, job.trials)) is not None:
        with claim.lock:
            run_trial(job, study, claim.trial)
        rows = rows_of(job, study)
        numbers = ranking.pareto(rows, job.latencies)
        stages.tidy(job, {place.name for number in numbers for place in folders(job, study, number).values()})
