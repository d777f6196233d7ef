"""The last stage: budget, report, card and facts make a package the artifact that ships."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import edgeft
from edgeft import artifact, budget, recipe
from edgeft.bench.forms import raced_forms
from edgeft.budget import Limit
from edgeft.compress.prune import goals
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError
from edgeft.export.export import precision_reason, precision_speedup
from edgeft.export.package import ship
from edgeft.files import write_json
from edgeft.keys import DRAWING, RUNNING, SCORING
from edgeft.pipeline import budget_latency, card, gates, licences, scrutiny
from edgeft.pipeline.bench_stage import shipped
from edgeft.pipeline.update.update_recipe import origin
from edgeft.progress import say
from edgeft.recipe import PruneConfig, Recipe
from edgeft.report import plots
from edgeft.report.run_report import ReportInputs, render
from edgeft.stage import Stage, graph_answers_s
from edgeft.stage_folder import StageResult
from edgeft.train import tasks as train_tasks
from edgeft.train.evaluate import read_predictions

BUDGET = "budget.json"  # in the run folder: that the artifact holds its budget, and what was seen

# The last stage; what fills its folder and which results decide it, the run puts in.
SHIPPING = Stage(
    name="artifact",
    fill=lambda config, inputs, out_dir: {},
    libraries=(*RUNNING, *SCORING, *DRAWING),
    kernels=True,
    fixed_s=3,
    rows_s=graph_answers_s,
)

Results = dict[str, StageResult]


def decided(chosen: Recipe, results: Results) -> Recipe:
    """The recipe with what was decided in the run written out, so that repeating it repeats the bytes."""
    export = dataclasses.replace(
        chosen.export,
        precision=results["export"].metrics["precision"],
        float_layers=results["export"].metrics["quantization"]["float_layers"],
        smoothing=results["export"].metrics["quantization"]["smoothing"],
    )
    return dataclasses.replace(taught(chosen, results), export=export, prune=pruned(chosen.prune, results))


def pruned(chosen: PruneConfig, results: Results) -> PruneConfig:
    """The pruning with the shares that a number of parameters or milliseconds came to."""
    kept = results["prune"].metrics["kept"] if "prune" in results else None
    if kept is None or not goals.aimed(chosen):
        return chosen
    shares = {name: results["prune"].metrics["tried"][kept][name] for name in ("head_ratio", "channel_ratio")}
    return dataclasses.replace(chosen, **shares, max_parameters=None, max_latency_ms=None, latency_table=None)


def taught(chosen: Recipe, results: Results) -> Recipe:
    """The recipe with what fine-tuning decided."""
    values = {option: one["value"] for option, one in _unset(results).items()}
    return dataclasses.replace(chosen, finetune=dataclasses.replace(chosen.finetune, **values))


def _unset(results: Results) -> dict[str, dict[str, Any]]:
    """What fine-tuning decided: option to its value and reason."""
    found: dict[str, dict[str, Any]] = results["finetune"].metrics["decided"] if "finetune" in results else {}
    return found


def decided_yaml(chosen: Recipe, results: Results) -> str:
    """The decided recipe, the reasons beside the values."""
    return recipe.to_yaml(decided(chosen, results), _reasons(results))


def taught_yaml(chosen: Recipe, results: Results) -> str:
    """The recipe of a run without an artifact, with what fine-tuning decided and why."""
    return recipe.to_yaml(taught(chosen, results), _reasons(results))


def _reasons(results: Results) -> dict[str, str]:
    return {f"finetune.{option}": one["reason"] for option, one in _unset(results).items()}


def measured(results: Results) -> dict[str, float]:
    """The quantities that a budget limits."""
    latency, size = results["bench"].metrics["latency"], results["package"].metrics["bytes"]
    lead, _ = gates.measures(results)
    drop = 100 * (results["finetune"].metrics["validation"][lead] - shipped(results)["validation"][lead])
    quantiles = {name: latency[f"{name}_ms"] for name in ("p50", "p90", "p99")}
    return {**quantiles, "size": float(size), "drop": drop}


def check_budget(chosen: Recipe, results: Results, run_dir: Path) -> None:
    """Refuse to ship what breaks the budget; an artifact of an earlier run stays, and is named.

    What held is kept in budget.json and not measured again; what broke isn't kept, so that the same command measures
    latencies anew.

    Raises:
        GateError: each broken limit with both numbers.
    """
    file, limits = run_dir / BUDGET, budget.parse(chosen.budget or "")
    decided_for = {"budget": chosen.budget, "bench": results["bench"].key}
    if limits and read_budget(run_dir).get("decided_for") == decided_for:
        return
    file.unlink(missing_ok=True)
    if not limits:
        return
    bench, folders = results["bench"].metrics, (run_dir / "package", run_dir / "data")
    seen = budget_latency.settle(limits, bench, *folders, chosen.bench)
    problems = broken_limits(limits, {**measured(results), **budget_latency.medians(seen)}, seen)
    if problems:
        earlier = run_dir / "artifact"
        old = f" ({earlier} is that of an earlier run)" if earlier.exists() else ""
        again = "; the same command measures them anew" if seen else ""
        raise GateError(f"budget: {'; '.join(problems)}; no artifact was written{old}, the stages are kept{again}")
    lines = [budget_latency.describe(limit, seen[limit.quantity]) for limit in limits if limit.quantity in seen]
    for line in lines:
        say(f"budget: {line}")
    write_json(file, {"decided_for": decided_for, "seen_ms": seen, "lines": lines})


def broken_limits(limits: Sequence[Limit], figures: Mapping[str, float], seen: budget_latency.Seen) -> list[str]:
    """One line for each broken limit: what was measured, in each process where there were several."""
    lines = []
    for limit in limits:
        if said := budget.broken((limit,), figures):
            again = seen.get(limit.quantity)
            lines.append(f"{limit.text}: {budget_latency.describe(limit, again)}" if again else said[0])
    return lines


def read_budget(run_dir: Path) -> dict[str, Any]:
    """What held the budget, as `check_budget` kept it; empty where nothing did."""
    try:
        return msgspec.json.decode((run_dir / BUDGET).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def budget_lines(chosen: Recipe, results: Results, seen: budget_latency.Seen) -> list[str]:
    """One line for each limit of the recipe, with what was measured; in each process where it was measured again."""
    limits = budget.parse(chosen.budget or "")
    figures = measured(results) if limits else {}
    return [
        f"{limit.text}: {budget_latency.describe(limit, seen[limit.quantity])}"
        if limit.quantity in seen
        else budget.describe(limit, figures[limit.quantity])
        for limit in limits
    ]


def quality(results: Results, looked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Test metrics of baseline, teacher, student and artifact.

    Args:
        results: of every stage.
        looked: the closer look at the artifact; the teacher's stands in its own metrics.
    """
    student = results.get("prune") or results.get("distill")
    teacher = results["finetune"].metrics
    found = {
        "teacher": {**teacher["test"], **scrutiny.of_metrics(teacher)},
        "artifact": {**shipped(results)["test"], **scrutiny.of_metrics(looked)},
    }
    if "baseline" in results:
        found["baseline"] = results["baseline"].metrics["test"]
    if student:
        found["student"] = student.metrics["test"]
    return found


def facts(chosen: Recipe, results: Results, looked: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says beyond the package; `looked` is the closer look at the artifact."""
    bench = results["bench"].metrics
    text = decided_yaml(chosen, results)
    latency = {
        name: bench[name]
        for name in ("latency", "by_threads_ms", "throughput_texts_per_s", "cold_start", "machine", "threads")
    }
    return {
        "metrics": quality(results, looked),
        "latency": {
            **latency,
            "against_teacher": bench.get("against_teacher", {}),
            **({"race": raced} if (raced := bench.get("race")) else {}),
        },
        "recipe_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "lineage": {
            "teacher": origin(chosen),
            "method": chosen.finetune.method,
            "student": chosen.distill.student or "layers of the teacher",
            "stages": {name: result.key for name, result in results.items()},
            "versions": gates.versions(results),
            **({"update": updated} if (updated := updates(results)) else {}),
        },
        "licences": licences_of(chosen),
    }


def licences_of(chosen: Recipe) -> dict[str, str]:
    """The licences of the model, of a student that is another checkpoint, and of the data, as their sources say."""
    student = {"student": licences.of_model(chosen.distill.student)} if chosen.distill.student else {}
    return {"model": licences.of_model(origin(chosen)), **student, "data": licences.of_data(chosen.data)}


def quantization(results: Results, package: Path) -> artifact.Quantization:
    """What the manifest says of the precision, its speed beside fp32 as the bench's race has it."""
    kept, metrics = artifact.read_manifest(package).quantization, results["export"].metrics
    raced = raced_forms(results)
    speedup = precision_speedup(metrics, raced)
    if speedup is None:
        return kept
    return dataclasses.replace(kept, speedup=speedup, reason=precision_reason(metrics, raced))


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What the artifact says of the test rows.

    Attributes:
        dataset: the rows.
        probabilities: as it ships, (n, labels); None where a row has not one label.
        looked: the closer look at them.
    """

    dataset: Dataset
    probabilities: NDArray[np.floating] | None
    looked: dict[str, Any]


def answers(chosen: Recipe, run_dir: Path) -> Answers:
    """Ask the package, one text at a time as on a device."""
    dataset, package = load_dataset(run_dir / "data"), edgeft.load(run_dir / "package")
    task = train_tasks.of_artifact(dataset, package.manifest, chosen.finetune)
    found = task.asked(package, dataset.test)
    one_label = dataset.form.has_one_label
    return Answers(
        dataset=dataset,
        probabilities=package.probabilities(dataset.test.texts, batch_size=1) if one_label else None,
        looked=scrutiny.of_artifact(package, task, found, chosen.finetune),
    )


def forms(results: Results, run_dir: Path) -> dict[str, NDArray[np.float64]]:
    """Probabilities (n, labels) of each form of the model on the test rows, before calibration, in the run's order."""
    names = {"teacher": "finetune", "distilled": "distill", "pruned": "prune", plots.BEFORE: "export"}
    return {
        name: softmax(read_predictions(run_dir / stage, "test").astype(np.float64))
        for name, stage in names.items()
        if stage in results
    }


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, (n, labels) to (n, labels)."""
    shifted: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def updates(results: Results) -> dict[str, Any]:
    """What an update did on earlier and new test rows, to the teacher and to the artifact; empty where it is none."""
    names = {"teacher": "update", "artifact": "update_artifact"}
    return {what: results[name].metrics for what, name in names.items() if name in results}


def report(chosen: Recipe, results: Results, run_dir: Path, found: Answers) -> str:
    """The report as HTML."""
    dataset, again = found.dataset, "; ".join(read_budget(run_dir).get("lines", []))
    lead, second = gates.measures(results)
    return render(
        ReportInputs(
            title=f"{chosen.name}: {chosen.task}",
            task=chosen.task,
            labels=dataset.labels,
            recipe_yaml=decided_yaml(chosen, results),
            gates=gates.rows(results),
            lead_metric=lead,
            second_metric=second,
            test_texts=dataset.test.texts if chosen.report.texts and found.probabilities is not None else [],
            test_rows=[int(row) for row in dataset.test.rows],
            test_labels=None if found.probabilities is None else dataset.test.labels,
            curves=curves(results, run_dir),
            bench={**results["bench"].metrics, **({"near_the_budget": again} if again else {})},
            calibration=results["calibrate"].metrics,
            parity=results["export"].metrics["parity"],
            budget=budget_lines(chosen, results, read_budget(run_dir).get("seen_ms", {})),
            rungs=results["export"].metrics.get("rungs", []),
            precision=results["export"].metrics["precision"],
            versions=gates.versions(results),
            data=results["data"].metrics,
            metrics=quality(results, found.looked),
            mistakes=chosen.report.mistakes,
            forms={} if found.probabilities is None else forms(results, run_dir),
            probabilities=found.probabilities,
            scrutiny={"teacher": scrutiny.of_metrics(results["finetune"].metrics), "artifact": found.looked},
            flips=scrutiny.examples(found.looked, dataset.test, chosen.finetune) if chosen.report.texts else (),
            update=updates(results),
        )
    )


def curves(results: Results, run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The history of each stage that trained."""
    found = {}
    for name in results:
        path = run_dir / name / "history.jsonl"
        if path.exists():
            found[name] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found


def write(chosen: Recipe, results: Results, run_dir: Path, out_dir: Path) -> artifact.Manifest:
    """Render the report and the card, and ship.

    Args:
        chosen: the resolved recipe.
        results: of every stage.
        run_dir: the run folder.
        out_dir: becomes the artifact.
    """
    found = answers(chosen, run_dir)
    known = {**facts(chosen, results, found.looked), "quantization": quantization(results, run_dir / "package")}
    if (held := read_budget(run_dir)).get("lines"):
        again = {"limits": chosen.budget, "seen_ms": held["seen_ms"], "seen": held["lines"]}
        known["latency"] = {**known["latency"], "budget": again}
    files = {
        artifact.RECIPE: decided_yaml(chosen, results),
        artifact.REPORT: report(chosen, results, run_dir, found),
        artifact.CARD: card.render(chosen, results, known),
    }
    return ship(run_dir / "package", out_dir, known, files, chosen.report.texts)
