"""One stage alone, on folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from edgeft import ranks, recipe
from edgeft.cli.app import Flat, Json, app, need_training, print_json, stdout
from edgeft.errors import ModelError, RecipeError
from edgeft.models import hub
from edgeft.recipe import (
    AugmentConfig,
    BenchConfig,
    CalibrateConfig,
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    Recipe,
    StageConfig,
)


def _stage(name: str, config: StageConfig, inputs: dict[str, Path], out: Path, json: bool) -> None:
    """Check the flags, run one stage, print its metrics."""
    from edgeft.pipeline import launch
    from edgeft.pipeline.stages import stage_of

    recipe.check_stage(name, config)
    result = launch.run(stage_of(name), config, {**inputs, **_named_files(name, config)}, out)
    if not ranks.is_main():
        return
    if json:
        print_json(result)
    else:
        from edgeft.pipeline import summary

        summary.show_metrics(result, stdout())


def _named_files(name: str, config: StageConfig) -> dict[str, Path]:
    """The files and folders that a stage's options name as its inputs."""
    from edgeft.pipeline.stages import stage_of

    parts: dict[str, Any] = {name: config} if name in {part.name for part in dataclasses.fields(Recipe)} else {}
    return dict(stage_of(name).named_files(dataclasses.replace(Recipe(), **parts)))


@app.command
def finetune(
    config: Annotated[FinetuneConfig | None, Flat] = None, *, data: Path, out: Path, json: Json = False
) -> None:
    """Fine-tune a pre-trained model on a data folder.

    Args:
        data: a data folder.
        out: the model folder.
    """
    config = config or FinetuneConfig()
    if config.model is None:
        raise RecipeError("finetune: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    hub.check(config.model)
    need_training()
    from edgeft.models import model_facts

    model_facts.read_facts(config.model)  # refused before rows are read
    _stage("finetune", config, {"data": data}, out, json)


@app.command
def augment(
    config: Annotated[AugmentConfig | None, Flat] = None,
    *,
    data: Path,
    teacher: Path | None = None,
    out: Path,
    json: Json = False,
) -> None:
    """Make further training rows of those of a data folder; everything else in it stays as it is.

    Args:
        data: a data folder.
        teacher: a model folder; only rows to which it gives the label of the original are kept.
        out: the data folder with more training rows.
    """
    need_training()
    config = config or AugmentConfig()
    judge = {"teacher": teacher} if teacher and config.teacher_agrees else {}
    _stage("augment", config, {"data": data, **judge}, out, json)


@app.command
def distill(
    config: Annotated[DistillConfig | None, Flat] = None, *, data: Path, teacher: Path, out: Path, json: Json = False
) -> None:
    """Distill a teacher into a smaller student.

    Args:
        data: a data folder.
        teacher: a model folder with predictions, as `edgeft finetune` writes it.
        out: the model folder.
    """
    need_training()
    _stage("distill", config or DistillConfig(), {"data": data, "teacher": teacher}, out, json)


@app.command
def prune(
    config: Annotated[PruneConfig | None, Flat] = None,
    *,
    data: Path,
    model: Path,
    teacher: Path,
    out: Path,
    json: Json = False,
) -> None:
    """Prune vocabulary, layers, width, heads and feed-forward channels, then recover under a teacher.

    Args:
        data: a data folder.
        model: the model folder to prune.
        teacher: the model folder to learn from.
        out: the model folder.
    """
    need_training()
    config = config or PruneConfig()
    if config.max_latency_ms is not None and config.latency_table is None:
        raise RecipeError("prune: --max-latency-ms needs --latency-table FILE; `edgeft latency` measures one")
    _stage("prune", config, {"data": data, "model": model, "teacher": teacher}, out, json)


@app.command
def latency(
    config: Annotated[BenchConfig | None, Flat] = None, *, data: Path, model: Path, out: Path, json: Json = False
) -> None:
    """Measure what heads, channels and layers of a model cost on this machine: the table for --max-latency-ms.

    Args:
        data: a data folder, whose texts are asked.
        model: a model folder.
        out: gets latency.json.
    """
    need_training()
    _stage("latency", config or BenchConfig(), {"data": data, "model": model}, out, json)


@app.command
def export(
    config: Annotated[ExportConfig | None, Flat] = None, *, data: Path, model: Path, out: Path, json: Json = False
) -> None:
    """Export a model folder to an int8 ONNX artifact, checked against the model.

    Args:
        data: a data folder; of an encoder without a head, whose embeddings are exported, also a file of texts.
        model: a model folder, or demo:all-minilm-l6-v2; sentence-transformers' ones say how they pool.
        out: the artifact, its probabilities not yet calibrated.
    """
    need_training()
    from edgeft.models import model_sources

    folder = model_sources.find(str(model))
    if not isinstance(folder, Path):
        raise ModelError(f"export: {model} is no model folder; download it, or fine-tune it first")
    _stage("export", config or ExportConfig(), {"data": data, "model": folder}, out, json)


@app.command
def calibrate(
    artifact: Path,
    config: Annotated[CalibrateConfig | None, Flat] = None,
    *,
    data: Path,
    out: Path,
    json: Json = False,
) -> None:
    """Calibrate the probabilities of an exported artifact and write the calibrated artifact.

    Args:
        artifact: the exported artifact.
        data: a data folder.
        out: gets `calibration` and `artifact`.
    """
    need_training()
    from edgeft.export.package import run as package

    config = config or CalibrateConfig()
    _stage("calibrate", config, {"data": data, "artifact": artifact}, out / "calibration", json)
    inputs = {"data": data, "export": artifact, "calibrate": out / "calibration"}
    package(StageConfig(seed=config.seed), inputs, out / "artifact")
