"""Stage `export`: a torch model folder becomes an artifact whose graph was checked against the model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeft import artifact, models
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.bench import machine
from edgeft.bench.race import race, ratio
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError
from edgeft.export import graph, quantize
from edgeft.export.capture import capture
from edgeft.progress import say
from edgeft.recipe import ExportConfig
from edgeft.runtime.engine import Engine
from edgeft.runtime.model import Model, load_tokenizer
from edgeft.stage import Inputs, Metrics, stage
from edgeft.train import evaluate, metrics

CAPTURED, FP32, INT8 = "captured.onnx", "fp32.onnx", "int8.onnx"
SENSITIVITY_ROWS = 64
PROOF_ROWS = 64
RACE_WARMUP = 20


@dataclass(frozen=True)
class Bed:
    """What candidate graphs are tested on.

    Attributes:
        folder: scratch files and results.
        manifest: of the artifact to be, for labels and inputs.
        dataset: real rows.
        config: the gates' bounds.
        reference: torch logits of each split, (rows, labels).
    """

    folder: Path
    manifest: Manifest
    dataset: Dataset
    config: ExportConfig
    reference: dict[str, NDArray[np.float32]]

    def model(self, file: str, threads: int | None = None) -> Model:
        """A candidate through the runtime, exactly as it would ship."""
        spec = self.manifest.inputs
        engine = Engine(self.folder / file, spec.pad_token_id, threads)
        tokenizer = load_tokenizer(self.folder / artifact.TOKENIZER, spec.max_length)
        return Model(self.folder, self.manifest, engine, tokenizer)

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
    bed = lay(config, inputs["model"], dataset, out_dir)
    parity = check_parity(bed)
    found: dict[str, Any] = {"parity": parity, "fp32": gate(bed, FP32, bed.reference)}
    quantization = choose(bed, found)
    chosen = INT8 if quantization.precision == "int8" else FP32
    evaluate.write_predictions(out_dir, bed.logits(chosen))
    (out_dir / chosen).replace(out_dir / artifact.MODEL)
    for leftover in (FP32, INT8, CAPTURED):
        (out_dir / leftover).unlink(missing_ok=True)
    manifest = dataclasses.replace(bed.manifest, quantization=quantization, parity=parity)
    artifact.write_manifest(out_dir, manifest, list(artifact.REQUIRED))
    return {**found, "precision": quantization.precision, "quantization": dataclasses.asdict(quantization)}


def lay(config: ExportConfig, folder: Path, dataset: Dataset, out_dir: Path) -> Bed:
    """Capture the fp32 graph, save the tokenizer, and collect torch's answers."""
    tokenizer = models.load_tokenizer(str(folder))
    model = models.load_classifier(str(folder), None)
    captured = capture(model, config.opset)
    onnx.save(captured, out_dir / CAPTURED)
    graph.finish(out_dir / CAPTURED, out_dir / FP32)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(out_dir / artifact.TOKENIZER))
    spec = InputSpec(
        names=[item.name for item in captured.graph.input],
        max_length=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
    manifest = Manifest(
        task=dataset.task,
        labels=dataset.labels,
        inputs=spec,
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    reference = evaluate.split_logits(model, tokenizer, dataset, tokenizer.model_max_length)
    return Bed(out_dir, manifest, dataset, config, reference)


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
            f"allowed are {bed.config.parity_tolerance:.0e}; nothing was written"
        )
    return {"rows": rows, "max_logit_difference": difference, "tolerance": bed.config.parity_tolerance}


def gate(bed: Bed, file: str, before: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Metrics of a candidate through the runtime, its bytes, and the share of answers as before."""
    found = evaluate.scores(bed.logits(file), bed.dataset, before)
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
    speedup, low = speed(bed)
    agreement = found["int8"]["validation"]["agreement"]
    problems = objections(bed.config, agreement, int8_bytes, fp32_bytes, speedup, low)
    found["int8"]["speedup"] = speedup
    if problems and bed.config.precision == "int8":
        raise GateError(f"export: int8 doesn't hold: {'; '.join(problems)}; nothing was written")
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
        speedup=speedup,
        proved_on=prove(bed, float_layers),
        reason=f"{fp32_bytes / int8_bytes:.1f} times smaller and {speedup:.2f} times faster than fp32 here, "
        f"{agreement:.1%} of the answers equal",
    )


def objections(
    config: ExportConfig, agreement: float, int8_bytes: int, fp32_bytes: int, speedup: float, low: float
) -> list[str]:
    """Why int8 may not ship, both numbers in each line.

    Under `auto` int8 has to win clearly; where a recipe names int8 the race was decided before, so that a tie passes
    and only a clear loss objects.
    """
    problems = []
    if agreement < config.min_agreement:
        problems.append(f"{agreement:.1%} of the answers agree with fp32, wanted are {config.min_agreement:.1%}")
    if int8_bytes >= fp32_bytes:
        problems.append(f"{int8_bytes} bytes are not fewer than the {fp32_bytes} of fp32")
    wanted = config.min_speedup if config.precision == "auto" else 1 / config.min_speedup
    if speedup < wanted:
        problems.append(f"{speedup:.2f} times the speed of fp32 (at least {low:.2f}), wanted is {wanted:.2f}")
    return problems


def settle(bed: Bed, reference: dict[str, NDArray[np.float32]]) -> list[str]:
    """Write the int8 graph; layers that hurt most stay fp32 until the agreement holds.

    Returns:
        The weights that stayed fp32.
    """
    if bed.config.float_layers is not None:
        write_int8(bed, bed.config.float_layers)
        return list(bed.config.float_layers)
    write_int8(bed, [])
    if agreement(bed, reference) >= bed.config.min_agreement:
        return []
    return keep_sensitive(bed, reference)


def keep_sensitive(bed: Bed, reference: dict[str, NDArray[np.float32]]) -> list[str]:
    """Leave 1, 2, 4, ... of the most sensitive weights in fp32, up to half of them."""
    texts = bed.dataset.validation.texts[:SENSITIVITY_ROWS]
    captured = bed.folder / CAPTURED

    def predict(path: Path) -> NDArray[np.float32]:
        return bed.model(path.name).logits(texts, batch_size=1)

    ranked = quantize.sensitivity(captured, bed.folder / "trial.onnx", predict, reference["validation"][: len(texts)])
    count = 1
    while count <= len(ranked) // 2:
        write_int8(bed, ranked[:count])
        if agreement(bed, reference) >= bed.config.min_agreement:
            break
        count *= 2
    return ranked[:count]


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


def speed(bed: Bed) -> tuple[float, float]:
    """How many times faster int8 answers than fp32, one thread, interleaved: ratio and its lower 95% bound."""
    contenders = {"fp32": bed.model(FP32, threads=1), "int8": bed.model(INT8, threads=1)}
    times = race(contenders, bed.dataset.validation.texts, bed.config.latency_queries, RACE_WARMUP)
    found = ratio(times["fp32"], times["int8"])
    return found.median, found.low


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
    if difference > bed.config.parity_tolerance:
        raise GateError(
            f"export: int8 logits differ by {difference:.2e} from the exact u8u8 form of the same graph: products "
            "saturate on this processor; use --set export.precision=fp32"
        )
    sets = machine.describe()["instruction_sets"]
    here = "x86 with VNNI" if any("vnni" in name for name in sets) else "this processor: " + " ".join(sets)
    return [here, "exact u8u8 products, which onnxruntime takes on x86 without VNNI"]


run = stage("export")(fill)
