"""The teacher's outputs, computed once for a set of items and kept as memory-mapped arrays.

An entry of the cache is a folder for each teacher, items and options; an array in it is whole, or not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft import keys
from edgeft.compress.distill import losses
from edgeft.compress.distill.states import watch_states
from edgeft.files import make_folder, rename_synced
from edgeft.models import model_folder
from edgeft.progress import track
from edgeft.stage import code_version
from edgeft.stage_folder import CHECKPOINTS, RUN_MARKER, digest
from edgeft.train.tasks import Items, TrainingTask
from edgeft.train.tasks.base import batches_by_length
from edgeft.train.tasks.generation import TOKENS

BATCH = 32  # items in a forward pass
Starts = tuple[NDArray[np.int64], NDArray[np.int64]]  # first target and first token of each item

LOGITS, IDS = "logits", "ids"  # arrays of targets; the others are of tokens


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """What the teacher says of each item.

    Attributes:
        tokens: first token of each item in the states, int64 (items + 1,).
        arrays: `logits` float32 (targets, C); of a language model C is those of `ids` (targets, C - 1), int32, and all
            other tokens together; the states, float16 (tokens, width).
    """

    tokens: NDArray[np.int64]
    arrays: dict[str, NDArray[Any]]

    def of_targets(self, name: str, places: NDArray[np.int64]) -> torch.Tensor:
        """Rows of `logits` or `ids` of some targets, by their places among all."""
        return torch.from_numpy(self.arrays[name][places])

    def of_tokens(
        self, name: str, items: Sequence[int], tokens: Sequence[NDArray[np.int32]], longest: int
    ) -> torch.Tensor:
        """States of some items, float32 (B, longest, width), with zeros where there is none.

        Args:
            name: of the states.
            items: (B,) whose.
            tokens: of each item the places of its tokens that are wanted, in order; negative: none.
            longest: tokens of the result, padding included.
        """
        array = self.arrays[name]
        batch = np.zeros((len(items), longest, array.shape[1]), dtype=np.float32)
        for index, (item, places) in enumerate(zip(items, tokens, strict=True)):
            wanted = np.flatnonzero(places >= 0)
            batch[index, wanted] = array[self.tokens[item] + places[wanted]]
        return torch.from_numpy(batch)


@dataclass(frozen=True)
class Question:
    """What is asked of a teacher.

    Attributes:
        folder: its model folder.
        task: with its tokenizer.
        items: as it reads them.
        likeliest: classes that are kept of each target; 0: all.
        temperature: that the logits of the other classes are put together at.
    """

    folder: Path
    task: TrainingTask
    items: Items
    likeliest: int = 0
    temperature: float = 1.0

    def key(self, device: torch.device) -> str:
        """Names the entry of the cache."""
        where = (device.type, code_version(), keys.versions_of(keys.TRAINING))
        about = (digest(self.folder), self.task.dataset.kind, self.likeliest, *where)
        total = hashlib.sha256(repr(about + ((self.temperature,) if self.likeliest else ())).encode())
        for item in self.items.inputs:
            total.update(repr(sorted(item.items())).encode())
        return total.hexdigest()[:24]


def cache_folder(out_dir: Path) -> Path:
    """Where a stage keeps the teacher's outputs: in its run's folder for the next stage, else with its checkpoints."""
    run = out_dir.resolve().parent
    return run / ".cache" if (run / RUN_MARKER).exists() else out_dir / CHECKPOINTS


def load_outputs(question: Question, states: Collection[str], cache: Path, device: torch.device) -> TeacherOutputs:
    """The teacher's outputs, from the cache where they are there.

    Args:
        question: what is asked.
        states: names of the states that are wanted beside the logits.
        cache: folder of entries.
        device: where the teacher runs. It is gone from memory when this returns.
    """
    entry = cache / f"teacher-{question.key(device)}"
    wanted = [LOGITS, *([IDS] if question.likeliest else []), *states]
    missing = [name for name in wanted if not (entry / f"{name}.npy").exists()]
    items = question.items
    starts = _starts(question.task.target_counts(items)), _starts(items.lengths)
    if missing:
        make_folder(entry)
        _compute(question, missing, starts, entry, device)
    arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in wanted}
    return TeacherOutputs(starts[1], arrays)


def _starts(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _compute(question: Question, missing: Sequence[str], starts: Starts, entry: Path, device: torch.device) -> None:
    """Ask the teacher, and give the arrays their names when all of them are whole."""
    task, items = question.task, question.items
    model = model_folder.load(question.folder, task.head(task.dataset.labels), device=device).eval()
    states = [name for name in missing if name not in (LOGITS, IDS)]
    arrays: dict[str, Any] = {}
    # The longest first: answers about tokens are as wide as the longest item.
    with torch.inference_mode(), watch_states(model, states) as seen:
        for places in track(batches_by_length(items.lengths, _batch_size(question))[::-1], "teacher's outputs"):
            found = _fold_logits(question, task.targets(model, items, places).logits)
            given = {name: found[name] for name in missing if name in found}
            _store_rows(arrays, entry, given, _row_indices(starts[0], places), int(starts[0][-1]))
            for name in states:
                mask = _inside_mask([items.lengths[place] for place in places], seen[name].shape[1])
                of_tokens = seen[name].cpu().numpy()[mask].astype(np.float16)
                _store_rows(arrays, entry, {name: of_tokens}, _row_indices(starts[1], places), int(starts[1][-1]))
    for name, array in arrays.items():
        array.flush()
        rename_synced(_unfinished_path(entry, name), entry / f"{name}.npy")


def _batch_size(question: Question) -> int:
    """Items in a forward pass; of a language model each token has logits over the whole vocabulary."""
    longest = max(question.items.lengths, default=1)
    return max(1, TOKENS // longest) if type(question.task).vocabulary else BATCH


def _fold_logits(question: Question, logits: torch.Tensor) -> dict[str, NDArray[Any]]:
    """The logits of all classes, or of the likeliest ones with their ids."""
    if not question.likeliest:
        return {LOGITS: logits.cpu().numpy()}
    ids = logits.topk(min(question.likeliest, logits.shape[1]), dim=-1).indices
    kept = losses.fold_classes(logits, ids, question.temperature)
    return {LOGITS: kept.cpu().numpy(), IDS: ids.cpu().numpy().astype(np.int32)}


def _store_rows(
    arrays: dict[str, Any], entry: Path, found: dict[str, NDArray[Any]], rows: NDArray[np.int64], total: int
) -> None:
    """Put rows of each of some arrays where they belong; an array is made when its first rows come."""
    for name, values in found.items():
        if name not in arrays:
            place, shape = _unfinished_path(entry, name), (total, values.shape[1])
            arrays[name] = np.lib.format.open_memmap(place, mode="w+", dtype=values.dtype, shape=shape)
            if name == LOGITS:
                arrays[name][:] = losses.HIDDEN_SCORE  # of what a shorter item hasn't got
        arrays[name][rows, : values.shape[1]] = values


def _row_indices(starts: NDArray[np.int64], places: Sequence[int]) -> NDArray[np.int64]:
    """Places of all targets, or tokens, of some items."""
    return np.concatenate([np.arange(starts[place], starts[place + 1]) for place in places])


def _inside_mask(lengths: Sequence[int], longest: int) -> NDArray[np.bool_]:
    """(B, longest) what is no padding."""
    return np.arange(longest)[None, :] < np.array(lengths)[:, None]


def _unfinished_path(entry: Path, name: str) -> Path:
    return entry / f"{name}.unfinished.npy"
