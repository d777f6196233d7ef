"""The teacher's outputs, computed once for a set of texts and kept as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft import models
from edgeft.progress import track
from edgeft.stage import CHECKPOINTS, RUN_MARKER, code_version, digest
from edgeft.train.batches import collate, encode

BATCH = 32


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says of each text.

    Attributes:
        logits: float32 (texts, labels).
        hidden: last hidden states of all tokens of all texts, float16 (tokens, width).
        starts: first token of each text in `hidden`, int64 (texts + 1,).
        ids: the texts' token ids, as the teacher saw them.
    """

    logits: NDArray[np.float32]
    hidden: NDArray[np.float16]
    starts: NDArray[np.int64]
    ids: list[list[int]]

    def hidden_of(self, rows: Sequence[int], longest: int) -> torch.Tensor:
        """Hidden states of some texts, padded with zeros: float32 (batch, longest, width)."""
        batch = np.zeros((len(rows), longest, self.hidden.shape[1]), dtype=np.float32)
        for index, row in enumerate(rows):
            states = self.hidden[self.starts[row] : self.starts[row + 1]]
            batch[index, : len(states)] = states
        return torch.from_numpy(batch)


def cache_of(out_dir: Path) -> Path:
    """Where a stage keeps the teacher's outputs: in its run's folder for the next stage, else with its checkpoints."""
    run = out_dir.resolve().parent
    return run / ".cache" if (run / RUN_MARKER).exists() else out_dir / CHECKPOINTS


def outputs(folder: Path, texts: Sequence[str], max_length: int, cache: Path, device: torch.device) -> TeacherOutputs:
    """The teacher's outputs on the texts, from the cache where they are there.

    Args:
        folder: the teacher's model folder.
        texts: what it is asked about.
        max_length: tokens.
        cache: folder of caches; one entry for each teacher, text set and length.
        device: where the teacher runs. It is gone from memory when this returns.
    """
    tokenizer = models.load_tokenizer(str(folder))
    ids = encode(tokenizer, texts, max_length)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    entry = cache / f"teacher-{_key(folder, texts, max_length, device)}"
    if not entry.is_dir():
        _compute(folder, ids, starts, tokenizer.pad_token_id, entry, device)
    return TeacherOutputs(
        logits=np.load(entry / "logits.npy"),
        hidden=np.load(entry / "hidden.npy", mmap_mode="r"),
        starts=starts,
        ids=ids,
    )


def _key(folder: Path, texts: Sequence[str], max_length: int, device: torch.device) -> str:
    total = hashlib.sha256(f"{digest(folder)}\0{max_length}\0{device.type}\0{code_version()}\0".encode())
    for text in texts:
        total.update(text.encode() + b"\0")
    return total.hexdigest()[:24]


def _compute(
    folder: Path, ids: list[list[int]], starts: Any, pad_token_id: int, entry: Path, device: torch.device
) -> None:
    """Fill a folder beside the entry and rename it, so that a kill leaves no half entry."""
    unfinished = entry.with_name(entry.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model = models.load_classifier(str(folder), None, device=device).eval()
    logits = np.empty((len(ids), model.config.num_labels), dtype=np.float32)
    hidden = np.lib.format.open_memmap(
        unfinished / "hidden.npy", mode="w+", dtype=np.float16, shape=(int(starts[-1]), model.config.hidden_size)
    )
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    with torch.inference_mode():
        for rows in track(batches, "teacher's outputs"):
            answer = model(**collate([ids[row] for row in rows], pad_token_id, device), output_hidden_states=True)
            logits[rows] = answer.logits.float().cpu().numpy()
            last = answer.hidden_states[-1].float().cpu().numpy()  # (B, T, H)
            for index, row in enumerate(rows):
                hidden[starts[row] : starts[row + 1]] = last[index, : len(ids[row])]
    hidden.flush()
    np.save(unfinished / "logits.npy", logits)
    unfinished.rename(entry)
