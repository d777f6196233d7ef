"""Plain documents become small tables with their units."""

from __future__ import annotations

import math

import pytest

from edgeft.report import facts


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model_bytes", 15_400_000, "15.4 MB"),
        ("bytes", 999, "999 B"),
        ("p50_ms", 1.31, "1.31 ms"),
        ("rows", 12345, "12\u2009345"),
        ("throughput_texts_per_s", 1041.3, "1\u2009041"),
        ("temperature", 1.9234567, "1.923"),
        ("max_logit_difference", 3.1e-6, "3.1e-06"),
        ("passed", True, "yes"),
        ("quota", None, "–"),
        ("sets", ["avx2", "vnni"], "avx2, vnni"),
        ("many", list(range(14)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"),
        ("none", [], "none"),
        ("share", math.nan, "nan"),
        ("share", math.inf, "inf"),
    ],
)
def test_cell(key: str, value: object, text: str) -> None:
    assert facts.cell(key, value) == text


def test_missing_measurements() -> None:
    assert facts.size(None) == facts.milliseconds(math.nan) == facts.percent(None) == "–"


def test_blocks_split_pairs_from_tables() -> None:
    pairs, rows, labels = facts.blocks(
        {"duplicates": 2, "rows": {"train": 10, "test": 5}, "labels": {"train": {"a_b": 6}, "test": {"a_b": 3}}},
        overview="checks",
        verbatim=frozenset(["a_b"]),
    )
    assert (pairs.title, pairs.rows) == ("checks", [("duplicates", ["2"])])
    assert (rows.title, rows.columns) == ("rows", [])
    assert (labels.columns, labels.rows) == (["a_b"], [("train", ["6"]), ("test", ["3"])])


def test_a_wide_table_is_turned() -> None:
    wide = {split: {f"l{index}": index for index in range(9)} for split in ("train", "test")}
    (block,) = facts.blocks({"labels": wide})
    assert block.columns == ["train", "test"]
    assert block.rows[8] == ("l8", ["8", "8"])


def test_nothing_gives_nothing() -> None:
    assert facts.blocks({}) == facts.blocks({"empty": {}}) == []
