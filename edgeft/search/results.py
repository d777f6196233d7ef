"""What a search found: the trials, the best recipe, which options mattered; test figures of the best alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgeft import recipe
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import TrainingError
from edgeft.files import write_atomically
from edgeft.report import facts, page
from edgeft.search import study as studies
from edgeft.search.space import Space
from edgeft.search.trial import DATA, WHY, Job, score_of, with_options
from edgeft.stage_folder import read_result
from edgeft.train.tasks import class_of

BEST = "best.yaml"
PAGE = "search.html"
ENOUGH = 5  # completed trials, to say which options matter


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: from 0; its folder is `trials/NNNN`.
        state: complete, pruned, failed, running or waiting.
        score: validation score; of a pruned trial its best look, None where there was none.
        looks: at the validation split.
        seconds: since it was last begun, None where it runs or waits.
        options: path -> value.
        error: what a failed trial said.
    """

    number: int
    state: str
    score: float | None
    looks: int
    seconds: float | None
    options: dict[str, Any]
    error: str | None


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        name: of the recipe.
        space: what was searched.
        folder: of the search.
        metric: which leads the task; the score is this one, the lower loss deciding between equals.
        rows: of all trials, by number.
        best: the best trial's row.
        importance: option -> its share of what changes the score, most important first; empty where it can't be said.
        validation: metrics of the best model.
        test: metrics of the best model, which decided nothing.
    """

    name: str
    space: Space
    folder: Path
    metric: str
    rows: list[Row]
    best: Row
    importance: dict[str, float]
    validation: dict[str, Any]
    test: dict[str, Any]

    @property
    def recipe(self) -> Path:
        """The best recipe."""
        return self.folder / BEST

    @property
    def page(self) -> Path:
        """The page with the plots."""
        return self.folder / PAGE

    @property
    def model(self) -> Path:
        """The best trial's model folder."""
        return self.folder / "trials" / f"{self.best.number:04d}"


def write(job: Job, study: optuna.Study) -> Found:
    """Write best.yaml and the page. Hold the folder's lock.

    Raises:
        TrainingError: no trial was completed; names the first reason.
    """
    from edgeft.search import search_report

    best = studies.best(study)
    rows = [row_of(trial) for trial in study.get_trials(deepcopy=False)]
    if best is None:
        said = next((row.error for row in rows if row.error), "all of them are running elsewhere or were ended early")
        raise TrainingError(f"none of the {len(rows)} trials was completed: {said}")
    whole = with_options(job.base, best.params)
    write_atomically(job.folder / BEST, recipe.to_yaml(whole).encode())
    result = read_result(job.place(best.number))
    metrics: Mapping[str, Any] = result.metrics if result else {}
    found = Found(
        name=job.base.name,
        space=job.space,
        folder=job.folder,
        metric=scored(job.folder / DATA),
        rows=rows,
        best=rows[best.number],
        importance=importance(study),
        validation=dict(metrics.get("validation", {})),
        test=dict(metrics.get("test", {})),
    )
    page.write(found.page, search_report.report(found))
    return found


def scored(folder: Path) -> str:
    """What the trials on a data folder are ranked by."""
    dataset = load_dataset(folder)
    return class_of(dataset.kind).scored(dataset.labels)


def row_of(trial: FrozenTrial) -> Row:
    """A trial as a row."""
    return Row(
        number=trial.number,
        state=studies.STATES[trial.state],
        score=score_of(trial),
        looks=len(trial.intermediate_values),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        options=dict(trial.params),
        error=trial.user_attrs.get(WHY),
    )


def importance(study: optuna.Study) -> dict[str, float]:
    """The options' importances by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), which Optuna takes by default.

    Returns:
        option -> share, summing to 1; empty with fewer than five completed trials or where all are equal.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < ENOUGH or len({trial.value for trial in done}) < 2:
        return {}
    found = optuna.importance.get_param_importances(study)
    return {path: float(share) for path, share in found.items()} if sum(found.values()) > 0 else {}


def document(found: Found) -> dict[str, Any]:
    """The search as plain values, for --json."""
    return {
        "run_dir": str(found.folder),
        "recipe": str(found.recipe),
        "page": str(found.page),
        "model": str(found.model),
        "metric": found.metric,
        "best": asdict(found.best),
        "validation": found.validation,
        "test": found.test,
        "importance": found.importance,
        "trials": [asdict(row) for row in found.rows],
    }


def short(path: str) -> str:
    """An option without its stage."""
    return path.split(".", 1)[1]


def cell(value: Any) -> str:
    """An option's value in a table."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return facts.MISSING if value is None else str(value)
