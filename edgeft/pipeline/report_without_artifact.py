"""The report of a run that ends before an artifact: it is about the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.pipeline import gates, scrutiny
from edgeft.pipeline.ship import Results, curves, softmax, taught_yaml, updates
from edgeft.recipe import Recipe
from edgeft.report.run_report import ReportInputs, render
from edgeft.train.evaluate import read_predictions

MODELS = {"baseline": "baseline", "teacher": "finetune"}  # name in the report to stage


def report(chosen: Recipe, results: Results, run_dir: Path) -> str:
    """The report as HTML.

    Args:
        chosen: the resolved recipe.
        results: of the stages that ran.
        run_dir: the run folder.
    """
    dataset = load_dataset(run_dir / "data")
    lead, second = gates.measures(results)
    tested = {name: results[stage].metrics["test"] for name, stage in MODELS.items() if stage in results}
    teacher = results["finetune"].metrics if "finetune" in results else {}
    return render(
        ReportInputs(
            title=f"{chosen.name}: {chosen.task}",
            task=chosen.task,
            labels=dataset.labels,
            recipe_yaml=taught_yaml(chosen, results),
            gates=gates.rows(results),
            lead_metric=lead,
            second_metric=second,
            test_rows=[int(row) for row in dataset.test.rows],
            curves=curves(results, run_dir),
            versions=gates.versions(results),
            data=results["data"].metrics,
            metrics=tested,
            mistakes=chosen.report.mistakes,
            scrutiny={"teacher": scrutiny.of_metrics(teacher)},
            flips=scrutiny.examples(teacher, dataset.test, chosen.finetune) if chosen.report.texts else (),
            shipped=False,
            update=updates(results),
            **_answers(dataset, run_dir / "finetune" if teacher else None, chosen.report.texts),
        )
    )


def _answers(dataset: Dataset, teacher: Path | None, texts: bool) -> dict[str, Any]:
    """What the teacher says of the test rows, where each has one label; `texts` is whether they may be quoted."""
    if not dataset.form.has_one_label or teacher is None:
        return {}
    return {
        "test_texts": dataset.test.texts if texts else [],
        "test_labels": dataset.test.labels,
        "probabilities": softmax(read_predictions(teacher, "test").astype(np.float64)),
    }
