"""The report of a run: about the artifact, or about the trained model where the run ends before an artifact."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgeft
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.pipeline import gates, scrutiny
from edgeft.pipeline.bench_stage import shipped
from edgeft.pipeline.shipping.budget_check import budget_lines, read_budget
from edgeft.pipeline.shipping.decided_recipe import decided_yaml, finetuned_yaml
from edgeft.recipe import Recipe
from edgeft.report import plots
from edgeft.report.run_report import ReportInputs, render
from edgeft.stage_folder import StageResult
from edgeft.train import tasks as train_tasks
from edgeft.train.evaluate import read_predictions

Results = Mapping[str, StageResult]


@dataclasses.dataclass(frozen=True, eq=False)
class ModelAnswers:
    """What the model of the report answers to the test rows.

    Attributes:
        dataset: the rows.
        probabilities: as the artifact ships, else of the trained model, (n, labels); None without a model or where a
            row can have several labels.
        closer_look: intervals, slices and counterfactual swaps of the artifact; None where no artifact ships.
    """

    dataset: Dataset
    probabilities: NDArray[np.floating] | None
    closer_look: dict[str, Any] | None


def ask_package(chosen: Recipe, run_dir: Path) -> ModelAnswers:
    """Ask the package for its answers to the test rows, one text at a time as on a device."""
    dataset, package = load_dataset(run_dir / "data"), edgeft.load(run_dir / "package")
    task = train_tasks.create_artifact_task(dataset, package.manifest, chosen.finetune)
    predictions = task.predict_artifact(package, dataset.test)
    one_label = dataset.form.has_one_label
    return ModelAnswers(
        dataset=dataset,
        probabilities=package.probabilities(dataset.test.texts, batch_size=1) if one_label else None,
        closer_look=scrutiny.of_artifact(package, task, predictions, chosen.finetune),
    )


def read_teacher_answers(results: Results, run_dir: Path) -> ModelAnswers:
    """The answers that fine-tuning stored, of a run that ends before an artifact."""
    dataset = load_dataset(run_dir / "data")
    has_probabilities = dataset.form.has_one_label and "finetune" in results
    probabilities = _stored_probabilities(run_dir / "finetune") if has_probabilities else None
    return ModelAnswers(dataset=dataset, probabilities=probabilities, closer_look=None)


def report_artifact(chosen: Recipe, results: Results, run_dir: Path, answers: ModelAnswers) -> str:
    """The report about the artifact, as HTML; `answers` are those of its package."""
    return render(fill_report(chosen, results, run_dir, answers))


def report_trained_model(chosen: Recipe, results: Results, run_dir: Path) -> str:
    """The report of a run that ends before an artifact, as HTML; `results` are of the stages that ran."""
    return render(fill_report(chosen, results, run_dir, read_teacher_answers(results, run_dir)))


def fill_report(chosen: Recipe, results: Results, run_dir: Path, answers: ModelAnswers) -> ReportInputs:
    """What the report shows.

    Args:
        chosen: the resolved recipe.
        results: of the stages that ran; of every stage where an artifact ships.
        run_dir: the run folder.
        answers: of the artifact, with its closer look, or of the trained model.
    """
    test, texts = answers.dataset.test, chosen.report.texts
    lead, second = gates.measures(results)
    teacher = results["finetune"].metrics if "finetune" in results else {}
    closer_look = teacher if answers.closer_look is None else answers.closer_look
    shown = ReportInputs(
        title=f"{chosen.name}: {chosen.task}",
        task=chosen.task,
        labels=answers.dataset.labels,
        recipe_yaml=finetuned_yaml(chosen, results),
        gates=gates.rows(results),
        lead_metric=lead,
        second_metric=second,
        test_texts=test.texts if texts and answers.probabilities is not None else [],
        test_rows=[int(row) for row in test.rows],
        test_labels=None if answers.probabilities is None else test.labels,
        curves=read_curves(results, run_dir),
        versions=gates.versions(results),
        data=results["data"].metrics,
        metrics=metrics_before_artifact(results),
        mistakes=chosen.report.mistakes,
        probabilities=answers.probabilities,
        scrutiny={"teacher": scrutiny.of_metrics(teacher)},
        flips=scrutiny.examples(closer_look, test, chosen.finetune) if texts else (),
        shipped=False,
        update=update_metrics(results),
    )
    return shown if answers.closer_look is None else _add_artifact(shown, chosen, results, run_dir, answers.closer_look)


def _add_artifact(
    shown: ReportInputs, chosen: Recipe, results: Results, run_dir: Path, closer_look: dict[str, Any]
) -> ReportInputs:
    """What the report shows, with the figures of the artifact."""
    stored = read_budget(run_dir)
    again = "; ".join(stored.get("lines", []))
    export = results["export"].metrics
    return dataclasses.replace(
        shown,
        recipe_yaml=decided_yaml(chosen, results),
        bench={**results["bench"].metrics, **({"near_the_budget": again} if again else {})},
        calibration=results["calibrate"].metrics,
        parity=export["parity"],
        budget=budget_lines(chosen, results, stored.get("seen_ms", {})),
        rungs=export.get("rungs", []),
        precision=export["precision"],
        metrics=quality_metrics(results, closer_look),
        forms={} if shown.probabilities is None else form_probabilities(results, run_dir),
        scrutiny={**shown.scrutiny, "artifact": closer_look},
        shipped=True,
    )


# ------------------------------------------------------------------------------------------------ read from the stages


def metrics_before_artifact(results: Results) -> dict[str, dict[str, Any]]:
    """Test metrics of baseline and teacher, as their stages measured them."""
    stages = {"baseline": "baseline", "teacher": "finetune"}
    return {name: results[stage].metrics["test"] for name, stage in stages.items() if stage in results}


def quality_metrics(results: Results, closer_look: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Test metrics of baseline, teacher, student and artifact.

    Args:
        results: of every stage.
        closer_look: intervals, slices and swaps of the artifact; the teacher's stand in its own metrics.
    """
    student = results.get("prune") or results.get("distill")
    teacher = results["finetune"].metrics
    metrics = {
        "teacher": {**teacher["test"], **scrutiny.of_metrics(teacher)},
        "artifact": {**shipped(results)["test"], **scrutiny.of_metrics(closer_look)},
    }
    if "baseline" in results:
        metrics["baseline"] = results["baseline"].metrics["test"]
    if student:
        metrics["student"] = student.metrics["test"]
    return metrics


def form_probabilities(results: Results, run_dir: Path) -> dict[str, NDArray[np.float64]]:
    """Probabilities (n, labels) of each form of the model on the test rows, before calibration, in the run's order."""
    stages = {"teacher": "finetune", "distilled": "distill", "pruned": "prune", plots.BEFORE: "export"}
    return {name: _stored_probabilities(run_dir / stage) for name, stage in stages.items() if stage in results}


def _stored_probabilities(folder: Path) -> NDArray[np.float64]:
    """Probabilities (n, labels) on the test rows, from the logits that a stage stored."""
    return softmax(read_predictions(folder, "test").astype(np.float64))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, (n, labels) to (n, labels)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def update_metrics(results: Results) -> dict[str, Any]:
    """What an update changed on earlier and new test rows, for teacher and artifact; empty where nothing is updated."""
    stages = {"teacher": "update", "artifact": "update_artifact"}
    return {model: results[stage].metrics for model, stage in stages.items() if stage in results}


def read_curves(results: Results, run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The training history of each stage that trained."""
    curves = {}
    for name in results:
        path = run_dir / name / "history.jsonl"
        if path.exists():
            curves[name] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return curves
