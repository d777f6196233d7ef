"""Stage `export`: a torch model folder becomes an artifact whose graph was checked against the model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from edgeft import artifact
from edgeft.data.dataset import load as load_dataset
from edgeft.export.bed import FP32, gate, lay
from edgeft.export.capture.texts import texts_of
from edgeft.export.package import write_golden
from edgeft.export.quantize import ladder, rounding
from edgeft.keys import EXPORTING
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.recipe import ExportConfig
from edgeft.runtime.machine import host
from edgeft.stage import CHECKPOINTS, RUN_MARKER, Inputs, Metrics, stage
from edgeft.train import evaluate


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
    headless = model_folder.is_encoder(inputs["model"])
    dataset = (texts_of if headless else load_dataset)(inputs["data"])
    if headless:
        say(f"export: {inputs['model']} has no head, so its embeddings are exported")
    scratch = out_dir / CHECKPOINTS
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    bed = lay(config, inputs["model"], dataset, scratch)
    found: dict[str, Any] = {"parity": bed.parity, "fp32": gate(bed, FP32, bed.reference)}
    quantization, chosen = ladder.choose(bed, found)
    if quantization.precision == "fp16":
        say("export: fp16 is for onnxruntime-gpu; it was checked on the CPU, where it would be slow and is not loaded")
    for split, made in bed.asked(chosen).items():
        if (array := bed.task.array(made)) is not None:
            evaluate.write_predictions(out_dir, split, array)
    shutil.copyfile(scratch / chosen, out_dir / artifact.MODEL)
    shutil.copyfile(scratch / artifact.TOKENIZER, out_dir / artifact.TOKENIZER)
    if chosen != FP32 and (out_dir.parent / RUN_MARKER).exists():
        shutil.copyfile(scratch / FP32, out_dir / FP32)  # the run's bench races it; the package leaves it behind
    manifest = dataclasses.replace(bed.manifest, quantization=quantization, parity=bed.parity)
    # What no calibration follows ships as it is.
    files = list(artifact.REQUIRED)
    if headless:
        candidates = [*bed.task.given(dataset.test), *bed.task.given(dataset.validation)]
        manifest = dataclasses.replace(manifest, golden=write_golden(out_dir, manifest, candidates))
        files.append(artifact.GOLDEN)
    artifact.write_manifest(out_dir, manifest, files)
    return {**found, "precision": quantization.precision, "quantization": dataclasses.asdict(quantization)}


run = stage("export", libraries=EXPORTING, kernels=True, machine=host.identity)(fill)
