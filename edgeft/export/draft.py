"""Graphs as they would ship but for their answers: for the size and speed of models that haven't learned yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgeft.data.dataset import Dataset
from edgeft.export.candidates import FP32, ExportCandidates, capture_candidates
from edgeft.export.onnx import graph
from edgeft.export.onnx.files import save
from edgeft.export.quantize.precisions import PRECISIONS, source_of
from edgeft.recipe import ExportConfig

ROWS = 16  # of validation and test
CALIBRATION_ROWS = 8
STRENGTH = 0.5  # of smoothing, which neither size nor speed depend on
ANY_DIFFERENCE = 1e9  # of logits: the parity of a model that never learned says nothing
TRIAL = "draft.onnx"


def drafts(
    config: ExportConfig, model: Path, dataset: Dataset, precisions: Sequence[str], scratch: Path
) -> tuple[ExportCandidates, list[str]]:
    """A model's graph in some precisions, no gate asked.

    Args:
        config: opset and layers that stay in fp32.
        model: model folder.
        dataset: the rows that it is for.
        precisions: as a recipe names them.
        scratch: an empty folder, which gets the graphs and the tokenizer.

    Returns:
        The candidates that runs them, and their files in `scratch`.
    """
    config = dataclasses.replace(config, parity_tolerance=ANY_DIFFERENCE, parity_rows=ROWS)
    candidates = capture_candidates(config, model, few(dataset), scratch)
    rows = candidates.task.artifact_inputs(candidates.dataset.train)[:CALIBRATION_ROWS]
    windows = [window for own in candidates.model(FP32).windows(rows) for window in own]
    source = source_of(candidates, windows)
    files = []
    for name in precisions:
        files.append(f"{name}.onnx")
        if files[-1] != FP32:
            save(PRECISIONS[name].build(source, STRENGTH, config.float_layers or ()), candidates.folder / TRIAL)
            graph.finish(candidates.folder / TRIAL, candidates.folder / files[-1], *candidates.post)
    return candidates, files


def few(dataset: Dataset) -> Dataset:
    """The dataset with some of its validation and test rows."""
    validation, test = (one.take(range(min(ROWS, len(one)))) for one in (dataset.validation, dataset.test))
    return dataclasses.replace(dataset, validation=validation, test=test)
