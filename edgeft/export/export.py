"""Stage `export`: a torch model folder becomes an artifact whose graph was checked against the model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from edgeft import artifact, models
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError
from edgeft.export import ladder, parity
from edgeft.export.bed import FP32, Bed, gate, lay
from edgeft.export.package import write_golden
from edgeft.export.texts import texts_of
from edgeft.progress import say
from edgeft.recipe import ExportConfig
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate


def fill(config: ExportConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Capture, check parity, quantize, check agreement and speed, and write what may ship.

    Args:
        config: of the stage.
        inputs: `model` (a model folder) and `data` (a data folder; of an encoder without a head a file of texts, too).
        out_dir: becomes an artifact with temperature 1.

    Returns:
        Gate figures of `fp32` and of the precision that ships, `rungs` (what was tried), `parity`, `precision` and
        `quantization`.

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
    quantization, chosen = ladder.choose(bed, found)
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


run = stage("export")(fill)
