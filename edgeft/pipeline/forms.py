"""The forms of a run's model that are raced together, as the gate table lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeft import artifact
from edgeft.bench.forms import FP32_GRAPH, PART, SLOW_PART, Form, graph_name
from edgeft.data.dataset import Dataset
from edgeft.export.candidates import FP32
from edgeft.models import model_folder
from edgeft.recipe import BenchConfig, TrainingConfig
from edgeft.runtime import load
from edgeft.runtime.loading import assemble
from edgeft.stage_folder import Inputs
from edgeft.train import baseline, evaluate, tasks
from edgeft.train.tasks import TrainingTask

ARTIFACT, TEACHER, BASELINE = "artifact", "teacher", "baseline"
TORCH = {TEACHER: "teacher", "distilled": "distill", "pruned": "prune"}  # name in the table to input of the stage


def collect_forms(config: BenchConfig, inputs: Inputs, dataset: Dataset, task: TrainingTask) -> dict[str, Form]:
    """Every form of the model in the run folder, the artifact first.

    Args:
        config: threads, and whether torch takes part.
        inputs: of the stage.
        dataset: whose test rows are the queries.
        task: of the artifact; converts rows to inputs of the runtime.
    """
    rows = task.artifact_inputs(dataset.test)
    forms = {ARTIFACT: _of_texts(load(inputs["package"], threads=config.threads), rows, 1.0)}
    if "export" in inputs:
        forms |= _graphs(config, inputs, rows)
    if "baseline" in inputs and (fitted := baseline.read_baseline(inputs["baseline"])) is not None:
        forms[BASELINE] = _of_texts(lambda text: fitted.logits([text]), rows, PART)
    if config.against_teacher:
        torch = {name: _torch(inputs[key], dataset, rows) for name, key in TORCH.items() if key in inputs}
        forms |= {name: form for name, form in torch.items() if form is not None}
    return forms


def _of_texts(answer: Callable[[Any], object], rows: list[Any], share: float) -> Form:
    return Form(answer=lambda row: answer(rows[row]), share=share)


def _graphs(config: BenchConfig, inputs: Inputs, rows: list[Any]) -> dict[str, Form]:
    """The chosen graph, and the fp32 graph if it is another one and was stored."""
    folder = inputs["export"]
    manifest = artifact.read_manifest(folder)
    precision = manifest.quantization.precision
    graphs = {graph_name(precision): _of_texts(load(folder, threads=config.threads), rows, PART)}
    if (folder / FP32).is_file():
        fp32_manifest = replace(manifest, quantization=artifact.Quantization(precision="fp32", scheme="none"))
        model = assemble(folder, fp32_manifest, folder / FP32, config.threads)
        graphs = {FP32_GRAPH: _of_texts(model, rows, PART), **graphs}
    return graphs


def _torch(folder: Any, dataset: Dataset, rows: list[Any]) -> Form | None:
    """A torch model in its transformers pipeline; if the task has none, as the stages run it."""
    room = tasks.task_class(dataset.kind)
    if pipe := model_folder.pipeline(folder, room.head(dataset.labels)):
        return _of_texts(pipe, rows, SLOW_PART)
    if not room.timed:
        return None
    tokenizer = model_folder.load_tokenizer(folder)
    task = tasks.create_task(dataset, tokenizer, tokenizer.model_max_length, TrainingConfig())
    model = model_folder.load(folder, room.head(dataset.labels), device="cpu")
    return Form(answer=evaluate.create_answerer(task, model, "test"), share=SLOW_PART)
