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
from edgeft.errors import GateError, RecipeError
from edgeft.export import graph, quantize
from edgeft.export.capture import capture
from edgeft.progress import say
from edgeft.recipe import ExportConfig, TrainingConfig
from edgeft.runtime.model import Model, assemble
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate, metrics, tasks
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
        reference: torch logits of each split, (rows, labels).
        task: gives the figures.
    """

    folder: Path
    manifest: Manifest
    dataset: Dataset
    config: ExportConfig
    reference: dict[str, NDArray[np.float32]]
    task: TrainingTask

    def model(self, file: str, threads: int | None = None) -> Model:
        """A candidate through the runtime, exactly as it would ship."""
        return assemble(self.folder, self.manifest, self.folder / file, threads)

    def logits(self, file: str) -> dict[str, NDArray[np.float32]]:
        """A candidate's logits on each split, text by text, as an app would ask."""
        model = self.model(file)
        return {split: model.logits(getattr(self.dataset, split).texts, batch_size=1) for split in evaluate.SPLITS}


def fill(config: ExportConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Capture, check parity, quantize, check agreement and speed, and write what may ship.

    Args:
        config: of the stage.
        inputs: `data` (a data folder) and `model` (a model folder with its predictions).
        out_dir: becomes an artifact with temperature 1.

    Returns:
        `fp32` and `int8` gate figures, `parity`, `precision` and the `reason` for it.

    Raises:
        GateError: fp32 parity fails, or a precision that the recipe names doesn't hold.
    """
    dataset = load_dataset(inputs["data"])
    scratch = out_dir / CHECKPOINTS
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    bed = lay(config, inputs["model"], dataset, scratch)
    parity = check_parity(bed)
    found: dict[str, Any] = {"parity": parity, "fp32": gate(bed, FP32, bed.reference)}
    quantization = choose(bed, found)
    chosen = INT8 if quantization.precision == "int8" else FP32
    for split, logits in bed.logits(chosen).items():
        evaluate.write_predictions(out_dir, split, logits)
    shutil.copyfile(scratch / chosen, out_dir / artifact.MODEL)
    shutil.copyfile(scratch / artifact.TOKENIZER, out_dir / artifact.TOKENIZER)
    manifest = dataclasses.replace(bed.manifest, quantization=quantization, parity=parity)
    artifact.write_manifest(out_dir, manifest, list(artifact.REQUIRED))
    return {**found, "precision": quantization.precision, "quantization": dataclasses.asdict(quantization)}


def lay(config: ExportConfig, folder: Path, dataset: Dataset, scratch: Path) -> Bed:
    """Capture the fp32 graph, save the tokenizer, and collect torch's answers."""
    tokenizer = models.load_tokenizer(str(folder))
    model = models.load_classifier(str(folder), None)
    captured = capture(model, config.opset)
    onnx.save(captured, scratch / CAPTURED)
    graph.finish(scratch / CAPTURED, scratch / FP32)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(scratch / artifact.TOKENIZER))
    spec = InputSpec(
        names=[item.name for item in captured.graph.input],
        max_length=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
        cleaning=dataset.cleaning,
        cleaning_versions=versions(dataset.cleaning),
    )
    manifest = Manifest(
        task=dataset.task,
        labels=dataset.labels,
        inputs=spec,
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    task = tasks.of(dataset, tokenizer, tokenizer.model_max_length, TrainingConfig())
    return Bed(scratch, manifest, dataset, config, evaluate.on_splits(task, model), task)


def check_parity(bed: Bed) -> dict[str, Any]:
    """fp32 graph through the runtime against torch, tokens included.

    Raises:
        GateError: a logit differs by more than the tolerance, or a text has other tokens.
    """
    rows = min(bed.config.parity_rows, len(bed.dataset.validation.texts))
    texts = bed.dataset.validation.texts[:rows]
    logits = bed.model(FP32).logits(texts, batch_size=1)
    difference = float(np.abs(logits - bed.reference["validation"][:rows]).max())
    say(f"export: parity on {rows} rows, largest logit difference {difference:.1e}")
    if not difference <= bed.config.parity_tolerance:
        raise GateError(
            f"export: fp32 logits of the graph differ from torch by {difference:.2e} on {rows} rows, "
            f"allowed are {bed.config.parity_tolerance:.0e}; no artifact was written"
        )
    return {"rows": rows, "max_logit_difference": difference, "tolerance": bed.config.parity_tolerance}


def gate(bed: Bed, file: str, before: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Metrics of a candidate through the runtime, its bytes, and the share of answers as before."""
    found = evaluate.scores(bed.task, bed.logits(file), before)
    found["bytes"] = (bed.folder / file).stat().st_size
    texts = bed.dataset.validation.texts
    found["latency_ms"] = evaluate.latency_ms(bed.model(file, threads=1), texts)
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
    reference = bed.logits(FP32)
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
    logits = bed.model(INT8).logits(bed.dataset.validation.texts, batch_size=1)
    return Quantization(
        precision="int8",
        scheme=quantize.SCHEME,
        float_layers=float_layers,
        agreement=agreement,
        max_logit_difference=float(np.abs(logits - reference["validation"]).max()),
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


def settle(bed: Bed, reference: dict[str, NDArray[np.float32]]) -> list[str]:
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


def keep_sensitive(bed: Bed, reference: dict[str, NDArray[np.float32]]) -> list[str]:
    """Leave 1, 2, 4, ... of the most sensitive weights in fp32, up to half of them."""
    texts = bed.dataset.validation.texts[:SENSITIVITY_ROWS]
    captured = bed.folder / CAPTURED

    def predict(path: Path) -> NDArray[np.float32]:
        return bed.model(path.name).logits(texts, batch_size=1)

    ranked = quantize.sensitivity(captured, bed.folder / "trial.onnx", predict, reference["validation"][: len(texts)])
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
    graph.finish(plain, bed.folder / INT8)
    plain.unlink()


def agreement(bed: Bed, reference: dict[str, NDArray[np.float32]]) -> float:
    """Share of validation answers of int8 that equal those of fp32."""
    logits = bed.model(INT8).logits(bed.dataset.validation.texts, batch_size=1)
    return metrics.agreement(reference["validation"], logits)


def speed(bed: Bed) -> Ratio:
    """How many times faster int8 answers than fp32: one thread, interleaved."""
    contenders = {"fp32": bed.model(FP32, threads=1), "int8": bed.model(INT8, threads=1)}
    times = race(contenders, bed.dataset.validation.texts, bed.config.latency_queries, RACE_WARMUP)
    return ratio(times["fp32"], times["int8"])


def prove(bed: Bed, float_layers: list[str]) -> list[str]:
    """The kinds of kernel on which the int8 answers were seen to be equal.

    Raises:
        GateError: the graph answers differently from its exact u8u8 twin, so that its products saturate here.
    """
    plain, twin = bed.folder / "plain.onnx", bed.folder / "twin.onnx"
    quantize.int8(bed.folder / CAPTURED, plain, float_layers)
    onnx.save(quantize.exact_twin(onnx.load(plain)), twin)
    texts = bed.dataset.validation.texts[:PROOF_ROWS]
    pair = [bed.model(path.name).logits(texts, batch_size=1) for path in (plain, twin)]
    difference = float(np.abs(pair[0] - pair[1]).max())
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
