"""Stage `export`: a torch model folder becomes an artifact whose graph was checked against the model."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.bench.forms import FP32_GRAPH, graph_name, raced_forms
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import RecipeError
from edgeft.export.candidates import FP32, capture_candidates, gate
from edgeft.export.capture.texts import texts_of
from edgeft.export.package import write_golden
from edgeft.export.quantize import precision_search, rounding
from edgeft.keys import EXPORTING
from edgeft.models import model_facts
from edgeft.progress import say
from edgeft.recipe import ExportConfig, Recipe
from edgeft.runtime.machine import host
from edgeft.stage import GateLine, Work, stage
from edgeft.stage_folder import CHECKPOINTS, RUN_MARKER, Inputs, Metrics, StageResult
from edgeft.train import evaluate

CHOSEN_SPEED = re.compile(r"\d+\.\d+ times faster than fp32 here")
PRECISIONS_TRIED = 3  # graphs that answer every evaluated row


def fill(config: ExportConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Capture, check parity, quantize, check agreement and speed, and write what may ship.

    Args:
        config: of the stage.
        inputs: `model` (a model folder) and `data` (a data folder; of an encoder without a head a file of texts, too).
        out_dir: becomes an artifact without calibration.

    Returns:
        Gate figures of `fp32` and of the precision that ships, `rungs` (what was tried), `parity`, `precision` and
        `quantization`.

    Raises:
        GateError: fp32 parity fails, or a precision that the recipe names doesn't hold.
        RecipeError: bits that the precision doesn't keep.
    """
    rounding.check(config)
    headless = model_facts.is_encoder(inputs["model"])
    dataset = (texts_of if headless else load_dataset)(inputs["data"])
    if headless:
        say(f"export: {inputs['model']} has no head, so its embeddings are exported")
    scratch = out_dir / CHECKPOINTS
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    candidates = capture_candidates(config, inputs["model"], dataset, scratch)
    found: dict[str, Any] = {"parity": candidates.parity, "fp32": gate(candidates, FP32, candidates.reference)}
    quantization, chosen = precision_search.choose(candidates, found)
    if quantization.precision == "fp16":
        say("export: fp16 is for onnxruntime-gpu; it was checked on the CPU, where it would be slow and is not loaded")
    for split, made in candidates.asked(chosen).items():
        if (array := candidates.task.as_array(made)) is not None:
            evaluate.write_predictions(out_dir, split, array)
    shutil.copyfile(scratch / chosen, out_dir / artifact.MODEL)
    shutil.copyfile(scratch / artifact.TOKENIZER, out_dir / artifact.TOKENIZER)
    if chosen != FP32 and (out_dir.parent / RUN_MARKER).exists():
        shutil.copyfile(scratch / FP32, out_dir / FP32)  # the run's bench races it; the package leaves it behind
    manifest = dataclasses.replace(candidates.manifest, quantization=quantization, parity=candidates.parity)
    # What no calibration follows ships as it is.
    files = list(artifact.REQUIRED)
    if headless:
        asked = [*candidates.task.artifact_inputs(dataset.test), *candidates.task.artifact_inputs(dataset.validation)]
        manifest = dataclasses.replace(manifest, golden=write_golden(out_dir, manifest, asked))
        files.append(artifact.GOLDEN)
    artifact.write_manifest(out_dir, manifest, files)
    return {**found, "precision": quantization.precision, "quantization": dataclasses.asdict(quantization)}


def check(recipe: Recipe) -> None:
    """Whether the precision is one that a pipeline can measure, and its options do something.

    Raises:
        RecipeError: they don't.
    """
    if recipe.export.precision == "fp16":
        raise RecipeError("export.precision: fp16 is for a GPU, and a pipeline measures on the CPU; use edgeft export")
    rounding.check(recipe.export)


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The fp32 graph, and the one that was chosen where that is another."""
    metrics, raced = results["export"].metrics, raced_forms(results)
    difference = metrics["parity"]["max_logit_difference"]
    lines = [GateLine(name=FP32_GRAPH, metrics=metrics["fp32"], note=f"logits within {difference:.0e} of torch")]
    if metrics["precision"] != "fp32":
        precision = metrics["precision"]
        note = precision_reason(metrics, raced)
        lines.append(GateLine(name=graph_name(precision), metrics=metrics[precision], note=note))
    return lines


def precision_speedup(metrics: Mapping[str, Any], raced: Mapping[str, Mapping[str, Any]]) -> float | None:
    """How many times as fast as the fp32 graph the one that ships was in the race; None where one was not raced."""
    fp32, chosen = (raced.get(name) for name in (FP32_GRAPH, graph_name(metrics["precision"])))
    if metrics["precision"] == "fp32" or fp32 is None or chosen is None:
        return None
    return float(fp32["p50_ms"] / chosen["p50_ms"])


def precision_reason(metrics: Mapping[str, Any], raced: Mapping[str, Mapping[str, Any]]) -> str:
    """Why this precision ships, its speed as the race has it; before the race as the choice had it."""
    reason: str = metrics["quantization"]["reason"]
    speedup = precision_speedup(metrics, raced)
    if speedup is None:
        return reason
    return CHOSEN_SPEED.sub(f"{speedup:.2f} times faster than fp32 here", reason, count=1)


def answers_s(work: Work) -> float | None:
    """Every graph answers every evaluated row."""
    return None if work.layer_s is None else PRECISIONS_TRIED * work.evaluated_rows * work.student_s


run = stage(
    "export",
    libraries=EXPORTING,
    kernels=True,
    machine=host.identity,
    reads=lambda recipe: {"data": "data", "model": "model"},
    check=check,
    modules={"onnxruntime": "to run the artifact", "onnx": "to export"},
    gate_lines=gate_lines,
    fixed_s=12,
    rows_s=answers_s,
)(fill)
