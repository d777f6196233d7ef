"""Where torch and the runtime meet: the fp32 graph against the model that it was captured from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgeft.data.dataset import Split
from edgeft.models import model_folder
from edgeft.runtime import Model
from edgeft.runtime.answers.windows import Window
from edgeft.train.tasks import TrainingTask


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What was found.

    Attributes:
        rows: that were compared.
        difference: the largest one of any number, in the task's unit.
        other_tokens: rows whose tokens are not those of training.
    """

    rows: int
    difference: float
    other_tokens: int

    def objection(self, tolerance: float) -> str:
        """Why numbers are too far apart; empty: they aren't."""
        if self.difference <= tolerance:
            return ""
        return (
            f"fp32 logits of the graph differ from torch by {self.difference:.2e} on {self.rows} rows, "
            f"allowed are {tolerance:.0e}"
        )

    def as_dict(self, tolerance: float) -> dict[str, float]:
        """For the manifest."""
        return {
            "rows": self.rows,
            "max_logit_difference": self.difference,
            "tolerance": tolerance,
            "rows_with_other_tokens": self.other_tokens,
        }


def compare(task: TrainingTask, model: Model, source: Any, most: int) -> Parity:
    """Put the same tokens to both, as the runtime makes them of the validation rows, and compare every number.

    Args:
        task: of the rows.
        model: the fp32 graph through the runtime.
        source: the torch model.
        most: rows at most.
    """
    split = task.dataset.validation
    split = split.take(range(min(most, len(split))))
    windows = model.windows(task.artifact_inputs(split))
    flat = [window for own in windows for window in own]
    found = [arrays for of_row in model.run(windows, model.numbers, 1) for arrays in of_row]
    wanted = [torch_arrays(task, source, window) for window in flat]
    differences = [
        float(np.abs(own - expected).max(initial=0.0))
        for arrays, others in zip(found, wanted, strict=True)
        for own, expected in zip(arrays, others, strict=True)
    ]
    differences.append(padded(model, flat, found))
    difference = max(differences) / task.unit if np.isfinite(differences).all() else float("inf")
    return Parity(rows=len(split), difference=difference, other_tokens=_others(task, windows, split))


def padded(model: Model, windows: Sequence[Window], found: Sequence[Any]) -> float:
    """The largest difference that padding makes to the shortest window, beside the longest in one batch."""
    order = sorted(range(len(windows)), key=lambda place: len(windows[place].ids))
    ends = [order[0], order[-1]]
    together = model.run([[windows[place]] for place in ends], model.numbers, len(ends))
    return max(
        float(np.abs(own - alone).max(initial=0.0))
        for place, (arrays,) in zip(ends, together, strict=True)
        for own, alone in zip(arrays, found[place], strict=True)
    )


def torch_arrays(task: TrainingTask, source: Any, window: Window) -> list[Any]:
    """What the torch model has for the graph's numbers on one window."""
    ids = torch.tensor([window.ids])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task.pairs and model_folder.takes_types(source, task.tokenizer):
        batch["token_type_ids"] = torch.tensor([window.types])
    with torch.inference_mode():
        return [array[0].float().numpy() for array in task.outputs(source.eval(), batch)]


def _others(task: TrainingTask, windows: Sequence[Sequence[Window]], split: Split) -> int:
    """Rows whose tokens differ from training's; where only one of the two cut a row, there is nothing to compare."""
    items = task.items(split)
    trained: dict[int, list[dict[str, Any]]] = {}
    for row, item in zip(items.rows.tolist(), items.inputs, strict=True):
        trained.setdefault(row, []).append(item)
    return sum(
        [_tokens(task, window) for window in own] != [_trained(task, item) for item in trained[row]]
        for row, own in enumerate(windows)
        if row in trained and (not task.loose or len(own) == len(trained[row]) == 1)
    )


def _tokens(task: TrainingTask, window: Window) -> tuple[list[int], list[int]]:
    return window.ids, list(window.types) if task.pairs else []


def _trained(task: TrainingTask, item: dict[str, Any]) -> tuple[list[int], list[int]]:
    return item["input_ids"], item["types"] if task.pairs else []
