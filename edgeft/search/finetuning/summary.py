"""What a search of fine-tuning options has come to: its trials, the best of them, and which options mattered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgeft.data.dataset import load as load_dataset
from edgeft.errors import TrainingError
from edgeft.report.blocks import Report
from edgeft.search import study as studies
from edgeft.search.engine import Summary, TrialRow, row_fields
from edgeft.search.space import Space
from edgeft.stage_folder import read_result
from edgeft.train.tasks import task_class

BEST = "best.yaml"
ENOUGH = 5  # completed trials, to say which options matter


@dataclass(frozen=True, kw_only=True)
class Row(TrialRow):
    """One training.

    Attributes:
        score: validation score; of a pruned trial its best look, None where there was none.
        looks: at the validation split.
    """

    score: float | None
    looks: int


@dataclass(frozen=True, kw_only=True)
class FinetuningSummary(Summary):
    """What a search of fine-tuning options has come to.

    The score of a trial is the metric; the lower loss decides between equals.

    Attributes:
        name: of the recipe.
        space: what was searched.
        rows: of all trials, by number.
        best: the best trial's row.
        importance: option -> its share of what changes the score, most important first; empty where it can't be said.
        validation: metrics of the best model.
        test: metrics of the best model, which decided nothing.
    """

    name: str
    space: Space
    rows: list[Row]
    best: Row
    importance: dict[str, float]
    validation: dict[str, Any]
    test: dict[str, Any]
    page_name = "search.html"

    @property
    def recipe(self) -> Path:
        """The best recipe."""
        return self.folder / BEST

    @property
    def model(self) -> Path:
        """The best trial's model folder."""
        return self.folder / "trials" / f"{self.best.number:04d}"

    def document(self) -> dict[str, Any]:
        return {
            "run_dir": str(self.folder),
            "recipe": str(self.recipe),
            "page": str(self.page),
            "model": str(self.model),
            "metric": self.metric,
            "best": asdict(self.best),
            "validation": self.validation,
            "test": self.test,
            "importance": self.importance,
            "trials": [asdict(row) for row in self.rows],
        }

    def report(self) -> Report:
        from edgeft.search.finetuning.search_report import report

        return report(self)


def summarize(study: optuna.Study, name: str, space: Space, folder: Path, data: Path) -> FinetuningSummary:
    """The trials of a study, and the figures of the best.

    Args:
        study: of the search.
        name: of the recipe.
        space: what was searched.
        folder: of the search.
        data: folder of the rows.

    Raises:
        TrainingError: no trial was completed; names the first reason.
    """
    best = studies.best_trial(study)
    rows = [to_row(trial) for trial in study.get_trials(deepcopy=False)]
    if best is None:
        reason = next((row.error for row in rows if row.error), "all of them are running elsewhere or were ended early")
        raise TrainingError(f"none of the {len(rows)} trials was completed: {reason}")
    result = read_result(folder / "trials" / f"{best.number:04d}")
    metrics = result.metrics if result else {}
    return FinetuningSummary(
        name=name,
        space=space,
        folder=folder,
        metric=ranking_metric(data),
        rows=rows,
        best=rows[best.number],
        importance=compute_importance(study),
        validation=dict(metrics.get("validation", {})),
        test=dict(metrics.get("test", {})),
    )


def ranking_metric(data: Path) -> str:
    """The metric by which trials on a data folder are ranked."""
    dataset = load_dataset(data)
    return task_class(dataset.kind).score_name(dataset.labels)


def to_row(trial: FrozenTrial) -> Row:
    """A trial of the study as a row."""
    return Row(**row_fields(trial), score=studies.score_of(trial), looks=len(trial.intermediate_values))


def compute_importance(study: optuna.Study) -> dict[str, float]:
    """The options' importances by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), which Optuna takes by default.

    Returns:
        option -> share, summing to 1; empty with fewer than five completed trials or where all are equal.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) < 2:
        return {}
    shares = optuna.importance.get_param_importances(study)
    return {path: float(share) for path, share in shares.items()} if sum(shares.values()) > 0 else {}
