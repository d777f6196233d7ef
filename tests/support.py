"""What several tests use: small files, quick settings, a training that is killed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

# Cleaning that a device repeats without any package of an extra.
CLEANED = (
    "data.clean=[html,control,whitespace,duplicates]",
    "data.anonymise=true",
    "data.anonymise_kinds=[email,ip_address]",
)

# A whole run over a tiny model, in code: from rows to an fp32 artifact that nobody compares with a teacher.
TINY_RUN: dict[str, Any] = {
    "data.text_column": "review",
    "data.label_column": "stars",
    "finetune.method": "full",
    "finetune.max_length": 16,
    "distill.num_layers": 2,
    "prune.enabled": False,
    "export.precision": "fp32",
    "export.latency_queries": 10,
    "bench.queries": 10,
    "bench.warmup": 1,
    "bench.against_teacher": False,
}

QUICK = (
    "finetune.epochs=1",
    "finetune.max_length=32",
    "distill.epochs=1",
    "prune.epochs=0.5",
    "prune.max_drop_points=100",
    "prune.importance_rows=32",
    "export.latency_queries=30",
    # A student that learned for seconds sits near the boundary, where int8 changes many answers.
    "export.min_agreement=0.8",
    "bench.queries=20",
    "bench.warmup=5",
)


def dirty(number: int, text: str) -> str:
    """A text with something to clean in every third row."""
    spoilt = (f"<p>{text}</p>", f"write to me{number}@example.org:  {text}", f"{text} &amp; 10.20.30.{number % 256}")
    return spoilt[number // 3 % 3] if number % 3 == 0 else text


def up_and_down() -> list[tuple[str, str]]:
    """432 rows whose label a single word tells."""
    words = {"good": "up", "great": "up", "fine": "up", "bad": "down", "awful": "down", "poor": "down"}
    openings = ("a", "the", "this was a", "it is", "so", "was it a", "this is the", "it was so", "the plot is")
    fillers = ("the plot", "the actor", "a movie", "it was", "the film", "was the movie", "a plot", "is it")
    return [
        (f"{opening} {word} film so {filler}", label)
        for opening in openings
        for filler in fillers
        for word, label in words.items()
    ]


def in_turn(*changes: Callable[[T], object]) -> Callable[[T], None]:
    """Several changes of the same thing as one."""

    def change(thing: T) -> None:
        for make in changes:
            make(thing)

    return change


def last_json(text: str) -> Any:
    """The JSON document on the last line."""
    return json.loads(text.strip().splitlines()[-1])


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...] = ("review", "stars")) -> Path:
    """Write a labelled CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def killed_finetune(config: Any, inputs: dict[str, Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fine-tuning that ends right after its first checkpoint."""
    from edgeft.train.finetune import run as finetune
    from edgeft.train.loop import checkpoints

    save = checkpoints.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, inputs, out)
