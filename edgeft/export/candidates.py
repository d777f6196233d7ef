"""What candidate graphs are tested on: a captured model, its rows, and the runtime that would ship it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.cleaning import versions
from edgeft.data.dataset import Dataset
from edgeft.errors import ArtifactError, GateError, ModelError
from edgeft.export.capture import parity, positions
from edgeft.export.capture.capture import INPUTS, TYPES, captures
from edgeft.export.onnx import files, graph, operators
from edgeft.models import model_folder, sentences
from edgeft.progress import say
from edgeft.recipe import ExportConfig, TrainingConfig
from edgeft.runtime import Model
from edgeft.runtime.loading import assemble
from edgeft.runtime.machine.memory import give_back
from edgeft.train import evaluate, tasks
from edgeft.train.tasks import TrainingTask

CAPTURED, FP32 = "captured.onnx", "fp32.onnx"


@dataclass(frozen=True)
class ExportCandidates:
    """What candidate graphs are tested on.

    Attributes:
        folder: for candidates; it goes when the stage ends.
        manifest: of the artifact to be, for labels and inputs.
        dataset: real rows.
        config: the gates' bounds.
        reference: what torch predicts on each split.
        task: asks and judges.
        parity: how near fp32 came to torch.
        answers: file and split to what was asked; whoever writes a file anew calls `forget`.
    """

    folder: Path
    manifest: Manifest
    dataset: Dataset
    config: ExportConfig
    reference: dict[str, Any]
    task: TrainingTask
    parity: dict[str, Any] = field(default_factory=dict)
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def post(self) -> tuple[str, str]:
        """What `graph.finish` appends."""
        return self.manifest.kind, self.manifest.decoding.get("pooling", "")

    def model(self, file: str, threads: int | None = None, native: bool = True, exact: bool | None = None) -> Model:
        """A candidate through the runtime, exactly as it would ship; options as of `assemble`."""
        return assemble(self.folder, self.manifest, self.folder / file, threads, native=native, exact=exact)

    def inputs(self, rows: int | None = None) -> list[Any]:
        """What the runtime is given of the first validation rows; None: of all."""
        return self.task.artifact_inputs(self.dataset.validation)[:rows]

    def asked(self, file: str) -> dict[str, Any]:
        """A candidate's predictions on each split, row by row, as an app would ask."""
        return {split: self.asked_on(file, split) for split in evaluate.SPLITS}

    def asked_on(self, file: str, split: str) -> Any:
        """A candidate's predictions on one split; asked once."""
        if (file, split) not in self.answers:
            self.answers[file, split] = self.task.predict_artifact(self.model(file), self.dataset.split(split))
        return self.answers[file, split]

    def forget(self, file: str) -> None:
        """Take out what a candidate answered."""
        for split in evaluate.SPLITS:
            self.answers.pop((file, split), None)


def capture_candidates(config: ExportConfig, folder: Path, dataset: Dataset, scratch: Path) -> ExportCandidates:
    """Capture the fp32 graph, save the tokenizer, and collect torch's answers; the torch model is gone then.

    Raises:
        GateError: no fp32 graph's numbers are torch's, or a row has other tokens than in training.
    """
    tokenizer = model_folder.load_tokenizer(str(folder))
    room = tasks.task_class(dataset.kind)
    max_length = tokenizer.model_max_length
    if room.auto == "AutoModel":
        max_length = min(max_length, sentences.read_max_length(folder) or max_length)
    model = model_folder.load(str(folder), room.head(dataset.labels))
    if not model_folder.has_head(model, room.auto):
        raise ModelError(f"{folder}: has no head for {dataset.kind} rows; fine-tune it on them first")
    positions.trim(model, max_length)
    types = room.pairs and model_folder.takes_types(model, tokenizer)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(scratch / artifact.TOKENIZER))
    task = tasks.create_task(dataset, tokenizer, max_length, TrainingConfig())
    spec = InputSpec(
        names=[*INPUTS, TYPES] if types else list(INPUTS),
        max_length=max_length,
        pad_token_id=tokenizer.pad_token_id,
        stride=task.stride(),
        cleaning=dataset.cleaning,
        cleaning_versions=versions(dataset.cleaning),
    )
    manifest = Manifest(
        task=dataset.task,
        kind=dataset.kind,
        labels=room.output_names(dataset.labels),
        decoding=task.decoding_options(model),
        inputs=spec,
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    candidates = ExportCandidates(scratch, manifest, dataset, config, evaluate.predict_splits(task, model), task)
    candidates.parity.update(_write_fp32(candidates, model, types))
    return candidates


def _write_fp32(candidates: ExportCandidates, source: Any, types: bool) -> dict[str, Any]:
    """Capture until a graph runs and its numbers are torch's; its parity."""
    problem = ""
    for captured in captures(source, candidates.config.opset, types):
        give_back()
        files.save(operators.add_bodies(captured), candidates.folder / CAPTURED)
        del captured
        give_back()
        try:
            graph.finish(candidates.folder / CAPTURED, candidates.folder / FP32, *candidates.post)
            found = parity.compare(candidates.task, candidates.model(FP32), source, candidates.config.parity_rows)
        except Exception as error:
            if not comes_from_onnxruntime(error):
                raise
            problem = f"the captured graph doesn't run: {' '.join(str(error).split())[:200]}"
            say(f"export: {problem}")
            continue
        say(f"export: parity on {found.rows} rows, largest logit difference {found.difference:.1e}")
        if found.other_tokens and not candidates.task.loose:
            raise GateError(
                f"export: {found.other_tokens} of {found.rows} rows have other tokens in the runtime than in training; "
                "no artifact was written"
            )
        problem = found.objection(candidates.config.parity_tolerance)
        if not problem:
            return found.as_dict(candidates.config.parity_tolerance)
        say(f"export: {problem}")
    raise GateError(f"export: {problem}; no artifact was written")


def comes_from_onnxruntime(error: Exception) -> bool:
    """Whether an exception is onnxruntime's own, or the runtime's refusal of a graph because of such a one.

    onnxruntime's exceptions share no public base class, so their module decides. Anything else, such as a mistake of
    ours or a MemoryError, says nothing of the graph.
    """
    origin = error.__context__ if isinstance(error, ArtifactError) else error
    return origin is None or type(origin).__module__.partition(".")[0] == "onnxruntime"


def gate(candidates: ExportCandidates, file: str, before: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a candidate through the runtime, its bytes, and the share of answers as before."""
    found = evaluate.score_splits(candidates.task, candidates.asked(file), before)
    found["bytes"] = (candidates.folder / file).stat().st_size
    found["latency_ms"] = evaluate.measure_latency(candidates.model(file, threads=1), candidates.inputs())
    return found
