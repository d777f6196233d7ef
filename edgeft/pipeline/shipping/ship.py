"""The last stage: budget, report, card and facts make a package the artifact that ships."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.bench.forms import raced_forms
from edgeft.export.export import precision_reason, precision_speedup
from edgeft.export.package import ship
from edgeft.keys import DRAWING, RUNNING, SCORING
from edgeft.pipeline import gates
from edgeft.pipeline.shipping import card, licences
from edgeft.pipeline.shipping.budget_check import read_budget
from edgeft.pipeline.shipping.decided_recipe import decided_yaml
from edgeft.pipeline.shipping.report import ask_package, quality_metrics, report_artifact, update_metrics
from edgeft.pipeline.update.update_recipe import first_model
from edgeft.recipe import Recipe
from edgeft.stage import Stage, graph_answers_s
from edgeft.stage_folder import StageResult

Results = Mapping[str, StageResult]

# The last stage. The run sets what fills its folder and which results decide it.
SHIPPING = Stage(
    name="artifact",
    fill=lambda config, inputs, out_dir: {},
    libraries=(*RUNNING, *SCORING, *DRAWING),
    kernels=True,
    fixed_s=3,
    rows_s=graph_answers_s,
)


def facts(chosen: Recipe, results: Results, closer_look: dict[str, Any]) -> dict[str, Any]:
    """What the manifest adds to the package; `closer_look` is that of the artifact."""
    bench = results["bench"].metrics
    text = decided_yaml(chosen, results)
    latency = {
        name: bench[name]
        for name in ("latency", "by_threads_ms", "throughput_texts_per_s", "cold_start", "machine", "threads")
    }
    return {
        "metrics": quality_metrics(results, closer_look),
        "latency": {
            **latency,
            "against_teacher": bench.get("against_teacher", {}),
            **({"race": raced} if (raced := bench.get("race")) else {}),
        },
        "recipe_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "lineage": {
            "teacher": first_model(chosen),
            "method": chosen.finetune.method,
            "student": chosen.distill.student or "layers of the teacher",
            "stages": {name: result.key for name, result in results.items()},
            "versions": gates.versions(results),
            **({"update": updated} if (updated := update_metrics(results)) else {}),
        },
        "licences": licences_of(chosen),
    }


def licences_of(chosen: Recipe) -> dict[str, str]:
    """The licences of the model, of a student from another checkpoint, and of the data, as stated by their sources."""
    student = {"student": licences.of_model(chosen.distill.student)} if chosen.distill.student else {}
    return {"model": licences.of_model(first_model(chosen)), **student, "data": licences.of_data(chosen.data)}


def quantization(results: Results, package: Path) -> artifact.Quantization:
    """The manifest's entry about the precision, with the speedup over fp32 from the bench's race."""
    packaged, metrics = artifact.read_manifest(package).quantization, results["export"].metrics
    raced = raced_forms(results)
    speedup = precision_speedup(metrics, raced)
    if speedup is None:
        return packaged
    return dataclasses.replace(packaged, speedup=speedup, reason=precision_reason(metrics, raced))


def write(chosen: Recipe, results: Results, run_dir: Path, out_dir: Path) -> artifact.Manifest:
    """Render the report and the card, and ship.

    Args:
        chosen: the resolved recipe.
        results: of every stage.
        run_dir: the run folder.
        out_dir: becomes the artifact.
    """
    answers = ask_package(chosen, run_dir)
    closer_look = answers.closer_look or {}
    manifest_facts = {**facts(chosen, results, closer_look), "quantization": quantization(results, run_dir / "package")}
    if (stored := read_budget(run_dir)).get("lines"):
        again = {"limits": chosen.budget, "seen_ms": stored["seen_ms"], "seen": stored["lines"]}
        manifest_facts["latency"] = {**manifest_facts["latency"], "budget": again}
    files = {
        artifact.RECIPE: decided_yaml(chosen, results),
        artifact.REPORT: report_artifact(chosen, results, run_dir, answers),
        artifact.CARD: card.render(chosen, results, manifest_facts),
    }
    return ship(run_dir / "package", out_dir, manifest_facts, files, chosen.report.texts)
