"""The objective of `edgeft compress`: the best small model of a teacher inside a budget."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft import artifact, recipe
from edgeft.compress.prune import goals, prune
from edgeft.data.formats import form_of
from edgeft.files import write_json
from edgeft.pipeline import gates
from edgeft.pipeline.preflight import without_unfit_stages
from edgeft.pipeline.shipping import budget_latency
from edgeft.pipeline.shipping.budget_check import measure_quantities
from edgeft.pipeline.stages import in_run
from edgeft.recipe import PruneConfig, Recipe
from edgeft.recipe.budget import Limit
from edgeft.report import facts, page
from edgeft.search import study as studies
from edgeft.search.budgeted import candidate, points, ranking, stages
from edgeft.search.budgeted.early_stop import TeacherComparison
from edgeft.search.budgeted.ranking import CANDIDATE, MEASURED, QUALITY, STAGE_FOLDERS, Row
from edgeft.search.budgeted.sampler import BudgetSampler, name_options
from edgeft.search.budgeted.stages import POINTS, STAGES
from edgeft.search.budgeted.summary import RESULTS, BudgetSummary
from edgeft.search.engine import Search
from edgeft.search.study import Direction, to_distribution
from edgeft.stage_folder import StageResult, read_result
from edgeft.train.loop.watch import watch_with

DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize", "minimize")  # points above the teacher, latency, size
DIGITS = 8  # of the digest that names a point
ANY_DROP = 1000.0  # points; no metric can lose so many


@dataclass(frozen=True, kw_only=True)
class BudgetSearch(Search[BudgetSummary]):
    """Students of one teacher, distilled, pruned and exported otherwise, compared by quality, latency and size.

    Attributes:
        run: the run folder whose teacher is compressed; it is read only.
        budget: as the user wrote it.
        limits: of the budget.
    """

    run: Path
    budget: str
    limits: tuple[Limit, ...]
    command = "compress"

    @property
    def latencies(self) -> list[str]:
        """The quantiles that are to be small: those that the budget limits, the highest first; of none, p99."""
        limited = {limit.quantity for limit in self.limits}
        return [name for name in ("p99", "p90", "p50") if name in limited] or ["p99"]

    @property
    def latency(self) -> str:
        """The quantile that the sampler makes small and that is shown: the highest."""
        return self.latencies[0]

    def prepare(self) -> optuna.Study:
        with studies.exclusive(self.folder):
            study = self.open_study()
        stages.prepare(self.run, self.folder)
        return study

    def open_study(self) -> optuna.Study:
        """The study of this budget, which takes over what was measured under earlier ones."""
        text = ",".join(sorted(limit.text for limit in self.limits))
        name = f"budget-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        sampler = BudgetSampler(self.base.seed, self.space)
        study = studies.open_study(self.folder, name, sampler, optuna.pruners.NopPruner(), DIRECTIONS)
        if not study.get_trials(deepcopy=False):
            self._take_over_earlier_trials(study)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(self.first_options())
        return study

    def _take_over_earlier_trials(self, study: optuna.Study) -> None:
        """Add the completed trials of earlier budgets, each once, the recipe itself first."""
        distributions = {path: to_distribution(options) for path, options in self.space.items()}
        storage, seen = study._storage, set[str]()
        for earlier in sorted(optuna.get_all_study_summaries(storage), key=lambda summary: summary._study_id):
            trials = storage.get_all_trials(earlier._study_id, deepcopy=False)
            if not trials or trials[0].state != TrialState.COMPLETE:
                continue
            complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
            for trial in (trial for trial in complete if name_options(trial.params) not in seen):
                seen.add(name_options(trial.params))
                measured = trial.user_attrs[MEASURED]
                copied = optuna.trial.create_trial(
                    params=trial.params,
                    distributions=distributions,
                    values=self._objective_values(measured),
                    user_attrs=trial.user_attrs,
                )
                self._set_constraints(copied, measured)
                study.add_trial(copied)

    def compute(self, study: optuna.Study, trial: Trial) -> list[float]:
        """Make a trial's model and measure it; ended as soon as it can't fit the budget.

        Returns:
            Points above the teacher, latency in ms, bytes.
        """
        config = self.recipe_of(trial.number, trial.params)
        is_first = trial.number == 0  # the recipe itself, with which the others are compared
        if not is_first and (misfit := candidate.find_misfit(config, self.run, self.limits)):
            trial.set_user_attr(CANDIDATE, misfit.figures)
            self._set_constraints(trial, misfit.figures)
            raise optuna.TrialPruned(misfit.reason)
        with watch_with(*([] if is_first else [self._compare_with_teacher()])):
            folders = stages.run_missing(config, self.run, self.folder)
        results = {name: result for name, (_, result) in folders.items()}
        export, (lead, _) = results["export"].metrics, gates.measures(results)
        latency = budget_latency.settle(
            self.limits, results["bench"].metrics, folders["package"][0], folders["data"][0], config.bench
        )
        shipped = export[export["precision"]]
        measured = {**measure_quantities(results), **budget_latency.medians(latency)}
        trial.set_user_attr(QUALITY, {split: shipped[split][lead] for split in ("validation", "test")})
        trial.set_user_attr(MEASURED, measured)
        self._set_constraints(trial, measured)
        trial.set_user_attr(STAGE_FOLDERS, {name: folder.name for name, (folder, _) in folders.items()})
        return self._objective_values(measured)

    def _objective_values(self, measured: Mapping[str, float]) -> list[float]:
        return [-measured["drop"], measured[self.latency], measured["size"]]

    def _set_constraints(self, trial: Trial | FrozenTrial, figures: Mapping[str, float]) -> None:
        """Tell the sampler by which share a trial breaks each limit."""
        for limit, share in zip(self.limits, ranking.compute_excesses(figures, self.limits), strict=True):
            trial.set_constraint(limit.text, share)

    def _compare_with_teacher(self) -> TeacherComparison:
        lead, teacher = self._teacher()
        return TeacherComparison(form_of(self.base).name, self.limits, lead, teacher.metrics["validation"][lead])

    def _teacher(self) -> tuple[str, StageResult]:
        """The leading metric, and the teacher's result."""
        teacher = read_result(in_run(self.run)["finetune"])
        assert teacher is not None  # the search was refused otherwise
        return gates.measures({"finetune": teacher})[0], teacher

    def describe_result(self, study: optuna.Study, trial: FrozenTrial) -> list[str]:
        rows = self.rows(study)
        row, best = rows[trial.number], ranking.find_best(rows, self.latencies)
        words = []
        if row.measured:
            words += [f"validation {row.quality['validation']:.4f}", facts.size(row.measured["size"])]
            words += [f"{self.latency} {facts.milliseconds(row.measured[self.latency])}"]
            words += ["fits" if row.fits else "breaks " + "; ".join(row.broken)]
        return words + ([f"best trial {best.number}"] if best else [])

    def tidy(self, study: optuna.Study) -> None:
        """Remove stages that no later trial can use."""
        pareto = ranking.find_pareto(self.rows(study), self.latencies)
        needed = {folder.name for number in pareto for folder in self.stage_folders(study, number).values()}
        stages.remove_unneeded(self.folder, needed)

    def has_results(self, study: optuna.Study) -> bool:
        return any(row.measured for row in self.rows(study))

    def summarize(self, study: optuna.Study, finished: bool = True) -> BudgetSummary:
        """Keep the run folders that are worth it, ship the best, and write results.json and the page.

        A search that was stopped ships nothing.
        """
        rows = self.rows(study)
        pareto = ranking.find_pareto(rows, self.latencies)
        points.keep(self, study, pareto)
        best = ranking.find_best(rows, self.latencies)
        if finished and best is not None:
            points.ship(self, study, best.number)
        lead, teacher = self._teacher()
        summary = BudgetSummary(
            run=self.run,
            folder=self.folder,
            budget=self.budget,
            limits=self.limits,
            metric=lead,
            teacher={split: teacher.metrics[split][lead] for split in ("validation", "test")},
            latencies=self.latencies,
            rows=rows,
            pareto=pareto,
            points={number: self.point_folder(rows[number].options) for number in pareto},
            commands={number: self.point_command(rows[number].options) for number in pareto},
            kept_bytes=stages.count_bytes(self.run, self.folder),
            finished=finished,
        )
        write_json(self.folder / RESULTS, summary.document())
        page.write(summary.page, summary.report())
        return summary

    def rows(self, study: optuna.Study) -> list[Row]:
        """All trials, by number."""
        return [ranking.to_row(trial, self.limits) for trial in study.get_trials(deepcopy=False)]

    def recipe_of(self, number: int, options: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: of the first the base itself; of the others pruning is judged by the budget alone.

        Raises:
            RecipeError: the options don't go together.
        """
        if number == 0:
            return self.base
        changed = recipe.from_tree(recipe.with_settings(msgspec.to_builtins(self.base), options))
        if any(path.startswith("prune.") for path in self.space):
            judged: dict[str, Any] = {"max_drop_points": ANY_DROP, "max_teacher_drop_points": None}
            cuts_units = changed.prune.head_ratio or changed.prune.channel_ratio or goals.has_goal(changed.prune)
            judged["across_layers"] = changed.prune.across_layers and bool(cuts_units)  # nothing competes otherwise
            pruning = dataclasses.replace(changed.prune, enabled=cuts_anything(changed.prune), **judged)
            changed = dataclasses.replace(changed, prune=pruning)
        if changed.prune.enabled:
            goals.check(changed.prune, form_of(changed).name)
        return without_unfit_stages(changed)

    def stage_folders(self, study: optuna.Study, number: int) -> dict[str, Path]:
        """The folder of each stage of a completed trial; one that is named as the stage itself is the run's."""
        names = study.get_trials(deepcopy=False)[number].user_attrs[STAGE_FOLDERS]
        return {stage: (self.run if stage == name else self.folder / STAGES) / name for stage, name in names.items()}

    def point_folder(self, options: Mapping[str, Any]) -> Path:
        """The run folder of a trial that is worth keeping; under another budget the same trial has the same one."""
        text = json.dumps(options, sort_keys=True)
        return self.folder / POINTS / hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def point_command(self, options: Mapping[str, Any]) -> str:
        """The command that remakes a trial that is worth keeping, or finds its stages complete where they are there."""
        folder = self.point_folder(options)
        return shlex.join(["edgeft", "pipeline", str(folder / artifact.RECIPE), "--run-dir", str(folder)])


def cuts_anything(config: PruneConfig) -> bool:
    """Whether pruning takes anything away."""
    shares = any(getattr(config, name) for name in prune.RATIOS)
    return shares or goals.has_goal(config) or config.vocabulary_size is not None or config.vocabulary_min_count > 0


def clear_unused_pruning(base: Recipe) -> Recipe:
    """The recipe, the shares of a pruning that is off written as the nothing that they are."""
    if base.prune.enabled:
        return base
    nothing: dict[str, Any] = {**dict.fromkeys(prune.RATIOS, 0.0), "vocabulary_size": None, "vocabulary_min_count": 0}
    return dataclasses.replace(base, prune=dataclasses.replace(base.prune, **nothing))
