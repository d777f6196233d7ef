"""Small labelled files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support_rows import ExampleRows, Pairs, Raw, Write


def example_rows(count: int = 60) -> list[tuple[str, str]]:
    """Distinct texts, labels by turns."""
    return [(f'café number {i}, "quoted"', ("good", "bad")[i % 2]) for i in range(count)]


def write_delimited(path: Path, pairs: Pairs, delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *pairs])


def write_rows(path: Path, pairs: Pairs) -> Path:
    """Write rows in the format of the suffix."""
    match path.suffix:
        case ".csv":
            write_delimited(path, pairs, ",")
        case ".tsv":
            write_delimited(path, pairs, "\t")
        case ".jsonl" | ".ndjson":
            lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case ".parquet":
            texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
            pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
    return path


@pytest.fixture
def rows() -> ExampleRows:
    return example_rows


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("a.csv", rows)` makes the file and gives its path."""
    return lambda name, pairs: str(write_rows(tmp_path / name, pairs))


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """`raw("a.csv", content)` makes a file of these bytes and gives its path."""

    def make(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return make
