"""Stage `export`: a torch model folder becomes an artifact whose graph was checked against the model."""

from __future__ import annotations

import dataclasses
import difflib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeft import artifact, models
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.bench import machine
from edgeft.bench.race import Ratio, race, ratio
from edgeft.cleaning import versions
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError, ModelError, RecipeError
from edgeft.export import graph, parity, quantize
from edgeft.export.capture import capture
from edgeft.export.package import write_golden
from edgeft.export.texts import texts_of
from edgeft.progress import say
from edgeft.recipe import ExportConfig, TrainingConfig
from edgeft.runtime import Model
from edgeft.runtime.loading import assemble
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate, tasks
from edgeft.train.tasks import TrainingTask

CAPTURED, FP32, INT8 = "captured.onnx", "fp32.onnx", "int8.onnx"
SENSITIVITY_ROWS = 64
PROOF_ROWS = 64
RACE_WARMUP = 20


@dataclass(frozen=True)
class Bed:
    """What candidate graphs are tested on.

    Attributes:
        folder: for candidates; it goes when the stage ends.
        manifest: of the artifact to be, for labels and inputs.
        dataset: real rows.
        config: the gates' bounds.
        reference: what torch predicts on each split.
        task: asks and judges.
        source: the torch model.
    """

    folder: Path
    manifest: Manifest
    dataset: Dataset
    config: ExportConfig
    reference: dict[str, Any]
    task: TrainingTask
    source: Any

    @property
    def post(self) -> tuple[str, str]:
        """What `graph.finish` appends."""
        return self.manifest.kind, self.manifest.decoding.get("pooling", "")

    def model(self, file: str, threads: int | None = None) -> Model:
        """A candidate through the runtime, exactly as it would ship."""
        return assemble(self.folder, self.manifest, self.folder / file, threads)

    def inputs(self, rows: int | None = None) -> list[Any]:
        """What the runtime is given of the first validation rows; None: of all."""
        return self.task.given(self.dataset.validation)[:rows]

    def asked(self, file: str) -> dict[str, Any]:
        """A candidate's predictions on each split, row by row, as an app would ask."""
        model = self.model(file)
        return {split: self.task.asked(model, self.dataset.split(split)) for split in evaluate.SPLITS}

    def raw(self, file: str, rows: int) -> NDArray[np.float32]:
        """All that a graph answers to the first validation rows, finished or not, as one row of numbers."""
        return self.model(file).raw(self.inputs(rows))


def fill(config: ExportConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Capture, check parity, quantize, check agreement and speed, and write what may ship.

    Args:
        config: of the stage.
        inputs: `model` (a model folder) and `data` (a data folder; of an encoder without a head a file of texts, too).
        out_dir: becomes an artifact with temperature 1.

    Returns:
        `fp32` and `int8` gate figures, `parity`, `precision` and the `reason` for it.

    Raises:
        GateError: fp32 parity fails, or a precision that the recipe names doesn't hold.
    """
    headless = models.is_encoder(inputs["model"])
    dataset = (texts_of if headless else load_dataset)(inputs["data"])
    if headless:
        say(f"export: {inputs['model']} has no head, so its embeddings are exported")
    scratch = out_dir / CHECKPOINTS
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    bed = lay(config, inputs["model"], dataset, scratch)
    held = check_parity(bed)
    found: dict[str, Any] = {"parity": held, "fp32": gate(bed, FP32, bed.reference)}
    quantization = choose(bed, found)
    chosen = INT8 if quantization.precision == "int8" else FP32
    for split, made in bed.asked(chosen).items():
        if (array := bed.task.array(made)) is not None:
            evaluate.write_predictions(out_dir, split, array)
    shutil.copyfile(scratch / chosen, out_dir / artifact.MODEL)
    shutil.copyfile(scratch / artifact.TOKENIZER, out_dir / artifact.TOKENIZER)
    manifest = dataclasses.replace(bed.manifest, quantization=quantization, parity=held)
    # What no temperature follows ships as it is.
    files = write_golden(out_dir, manifest, bed.task.given(dataset.test)) if headless else []
    artifact.write_manifest(out_dir, manifest, [*artifact.REQUIRED, *files])
    return {**found, "precision": quantization.precision, "quantization": dataclasses.asdict(quantization)}


def lay(config: ExportConfig, folder: Path, dataset: Dataset, scratch: Path) -> Bed:
    """Capture the fp32 graph, save the tokenizer, and collect torch's answers."""
    tokenizer = models.load_tokenizer(str(folder))
    room = tasks.class_of(dataset.kind)
    max_length = tokenizer.model_max_length
    if room.auto == "AutoModel":
        max_length = min(max_length, models.longest(folder))
    model = models.load(str(folder), room.head(dataset.labels))
    if not models.has_head(model, room.auto):
        raise ModelError(f"{folder}: has no head for {dataset.kind} rows; fine-tune it on them first")
    captured = capture(model, config.opset, types=room.pairs and models.takes_types(model, tokenizer))
    onnx.save(captured, scratch / CAPTURED)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(scratch / artifact.TOKENIZER))
    task = tasks.of(dataset, tokenizer, max_length, TrainingConfig())
    spec = InputSpec(
        names=[item.name for item in captured.graph.input],
        max_length=max_length,
        pad_token_id=tokenizer.pad_token_id,
        stride=task.stride(),
        cleaning=dataset.cleaning,
        cleaning_versions=versions(dataset.cleaning),
    )
    manifest = Manifest(
        task=dataset.task,
        kind=dataset.kind,
        labels=room.named(dataset.labels),
        decoding=task.decoding(model),
        inputs=spec,
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    bed = Bed(scratch, manifest, dataset, config, evaluate.on_splits(task, model), task, model)
    graph.finish(scratch / CAPTURED, scratch / FP32, *bed.post)
    return bed


def check_parity(bed: Bed) -> dict[str, Any]:
    """fp32 graph through the runtime against torch, tokens included.

    Raises:
        GateError: a number differs by more than the tolerance, or a row has other tokens than in training.
    """
    tolerance = bed.config.parity_tolerance
    found = parity.compare(bed.task, bed.model(FP32), bed.source, bed.config.parity_rows)
    say(f"export: parity on {found.rows} rows, largest logit difference {found.difference:.1e}")
    if found.other_tokens and not bed.task.loose:
        raise GateError(
            f"export: {found.other_tokens} of {found.rows} rows have other tokens in the runtime than in training; "
            "no artifact was written"
        )
    if not found.difference <= tolerance:
        raise GateError(
            f"export: fp32 logits of the graph differ from torch by {found.difference:.2e} on {found.rows} rows, "
            f"allowed are {tolerance:.0e}; no artifact was written"
        )
    return {
        "rows": found.rows,
        "max_logit_difference": found.difference,
        "tolerance": tolerance,
        "rows_with_other_tokens": found.other_tokens,
    }


def gate(bed: Bed, file: str, before: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a candidate through the runtime, its bytes, and the share of answers as before."""
    found = evaluate.scores(bed.task, bed.asked(file), before)
    found["bytes"] = (bed.folder / file).stat().st_size
    found["latency_ms"] = evaluate.latency_ms(bed.model(file, threads=1), bed.inputs())
    return found


# -------------------------------------------------------------------------------- precision


def choose(bed: Bed, found: dict[str, Any]) -> Quantization:
    """Decide between int8 and fp32; the figures of int8 go into `found`.

    Raises:
        GateError: the recipe names int8 and int8 doesn't hold.
    """
    fp32_bytes = (bed.folder / FP32).stat().st_size
    if bed.config.precision == "fp32":
        return Quantization(precision="fp32", scheme="none", fp32_bytes=fp32_bytes, reason="the recipe asks for fp32")
    reference = bed.asked(FP32)
    float_layers = settle(bed, reference)
    found["int8"] = gate(bed, INT8, reference)
    int8_bytes = found["int8"]["bytes"]
    speedup = speed(bed)
    agreement = found["int8"]["validation"]["agreement"]
    problems = objections(bed.config, agreement, int8_bytes, fp32_bytes, speedup)
    found["int8"]["speedup"] = speedup.as_dict()
    if problems and bed.config.precision == "int8":
        raise GateError(f"export: int8 doesn't hold: {'; '.join(problems)}; no artifact was written")
    if problems:
        say(f"export: fp32 ships, because of int8: {'; '.join(problems)}")
        return Quantization(precision="fp32", scheme="none", fp32_bytes=fp32_bytes, reason="; ".join(problems))
    answers = bed.task.asked(bed.model(INT8), bed.dataset.validation)
    numbers = [bed.task.compared(made) for made in (answers, reference["validation"])]
    return Quantization(
        precision="int8",
        scheme=quantize.SCHEME,
        float_layers=float_layers,
        agreement=agreement,
        max_logit_difference=float(np.abs(numbers[0] - numbers[1]).max()),
        fp32_bytes=fp32_bytes,
        speedup=speedup.median,
        proved_on=prove(bed, float_layers),
        reason=f"{fp32_bytes / int8_bytes:.1f} times smaller and {speedup.median:.2f} times faster than fp32 here, "
        f"{agreement:.1%} of the answers equal",
    )


def objections(config: ExportConfig, agreement: float, int8_bytes: int, fp32_bytes: int, speedup: Ratio) -> list[str]:
    """Why int8 may not ship, both numbers in each line.

    Under `auto` int8 has to win clearly, the lower bound of the ratio included. Where a recipe names int8 the race was
    decided before: a tie passes, only a clear loss objects.
    """
    problems = []
    if agreement < config.min_agreement:
        problems.append(f"{agreement:.1%} of the answers agree with fp32, wanted are {config.min_agreement:.1%}")
    if int8_bytes >= fp32_bytes:
        problems.append(f"{int8_bytes} bytes are not fewer than the {fp32_bytes} of fp32")
    auto = config.precision == "auto"
    clear_loss = speedup.median < 1 / config.min_speedup and speedup.high < 1
    if (auto and (speedup.median < config.min_speedup or speedup.low <= 1)) or (not auto and clear_loss):
        wanted = config.min_speedup if auto else 1 / config.min_speedup
        problems.append(
            f"{speedup.median:.2f} times the speed of fp32 ({speedup.low:.2f} to {speedup.high:.2f}), "
            f"wanted is {wanted:.2f}"
        )
    return problems


def settle(bed: Bed, reference: dict[str, Any]) -> list[str]:
    """Write the int8 graph; layers that hurt most stay fp32 until the agreement holds.

    Returns:
        The weights that stayed fp32.
    """
    if bed.config.float_layers is not None:
        check_names(bed.config.float_layers, quantize.weights(bed.folder / CAPTURED))
        write_int8(bed, bed.config.float_layers)
        return list(bed.config.float_layers)
    write_int8(bed, [])
    if agreement(bed, reference) >= bed.config.min_agreement:
        return []
    return keep_sensitive(bed, reference)


def check_names(wanted: list[str], names: list[str]) -> None:
    """Whether the graph has these weights.

    Raises:
        RecipeError: names the first that it hasn't, and the nearest one that it has.
    """
    unknown = next((name for name in wanted if name not in names), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, names, n=1, cutoff=0.0)
        raise RecipeError(f"export.float_layers: the graph has no weight {unknown!r}; the nearest is {close[0]}")


def keep_sensitive(bed: Bed, reference: dict[str, Any]) -> list[str]:
    """Leave 1, 2, 4, ... of the most sensitive weights in fp32, up to half of them."""
    captured = bed.folder / CAPTURED

    def predict(path: Path) -> NDArray[np.float32]:
        return bed.raw(path.name, SENSITIVITY_ROWS)

    ranked = quantize.sensitivity(captured, bed.folder / "trial.onnx", predict, predict(captured))
    kept: list[str] = []
    while 2 * len(kept) <= len(ranked) // 2:
        kept = ranked[: max(1, 2 * len(kept))]
        write_int8(bed, kept)
        if agreement(bed, reference) >= bed.config.min_agreement:
            break
    return kept


def write_int8(bed: Bed, float_layers: list[str]) -> None:
    """Quantize the captured graph and finish it."""
    plain = bed.folder / "plain.onnx"
    quantize.int8(bed.folder / CAPTURED, plain, float_layers)
    graph.finish(plain, bed.folder / INT8, *bed.post)
    plain.unlink()


def agreement(bed: Bed, reference: dict[str, Any]) -> float:
    """Share of validation answers of int8 that equal those of fp32."""
    return bed.task.agreement(reference["validation"], bed.task.asked(bed.model(INT8), bed.dataset.validation))


def speed(bed: Bed) -> Ratio:
    """How many times faster int8 answers than fp32: one thread, interleaved."""
    contenders = {"fp32": bed.model(FP32, threads=1), "int8": bed.model(INT8, threads=1)}
    times = race(contenders, bed.inputs(), bed.config.latency_queries, RACE_WARMUP)
    return ratio(times["fp32"], times["int8"])


def prove(bed: Bed, float_layers: list[str]) -> list[str]:
    """The kinds of kernel on which the int8 answers were seen to be equal.

    Raises:
        GateError: the graph answers differently from its exact u8u8 twin, so that its products saturate here.
    """
    plain, twin = bed.folder / "plain.onnx", bed.folder / "twin.onnx"
    quantize.int8(bed.folder / CAPTURED, plain, float_layers)
    onnx.save(quantize.exact_twin(onnx.load(plain)), twin)
    pair = [bed.raw(path.name, PROOF_ROWS) for path in (plain, twin)]
    difference = float(np.abs(pair[0] - pair[1]).max()) / bed.task.unit
    plain.unlink()
    twin.unlink()
    if not difference <= bed.config.parity_tolerance:
        raise GateError(
            f"export: int8 logits differ by {difference:.2e} from the exact u8u8 form of the same graph: products "
            "saturate on this processor; use --set export.precision=fp32"
        )
    sets = machine.describe()["instruction_sets"]
    here = "x86 with VNNI" if any("vnni" in name for name in sets) else "this processor: " + " ".join(sets)
    return [here, "exact u8u8 products, which onnxruntime takes on x86 without VNNI"]


run = stage("export")(fill)
