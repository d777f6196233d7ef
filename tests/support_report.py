"""What the report's tests share: inputs with every section filled, and a parser that wants closed tags."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import numpy as np

from edgeft.report.run_report import GateRow, ReportInputs

LATENCY = {"queries": 10, "p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 4.0, "mean_ms": 2.1, "min_ms": 1.9}
VOID = {"meta", "br", "link", "img", "hr", "input"}


def make(number: int = 2, rows: int = 60, **changes: Any) -> ReportInputs:
    """Inputs with every section filled."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, number, rows)
    logits = generator.normal(size=(rows, number))
    logits[np.arange(rows), truth] += 1.5
    after = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    before = after**2 / (after**2).sum(axis=1, keepdims=True)
    whole = ReportInputs(
        title="demo",
        task="text-classification",
        labels=[f"label_{index}" for index in range(number)],
        recipe_yaml="name: demo\n",
        gates=[
            GateRow(stage="baseline", lead=0.7, second=0.69, bytes=1000, latency_ms=0.2),
            GateRow(stage="merged", lead=0.86, second=0.86, bytes=90_000_000, latency_ms=12.0),
            GateRow(stage="int8 graph", lead=0.85, agreement=0.97, changed=0.03, bytes=9_000_000, latency_ms=2.0),
            GateRow(stage="artifact", lead=0.85, agreement=1.0, changed=0.0, bytes=9_000_000, latency_ms=2.0),
        ],
        lead_metric="accuracy",
        test_texts=[f"text {index}" for index in range(rows)],
        test_rows=list(range(100, 100 + rows)),
        test_labels=truth,
        forms={"teacher": before, "distilled": before, "before calibration": before},
        probabilities=after,
        curves={"distill": [{"step": 1, "loss": 0.9}, {"step": 2, "validation_accuracy": 0.8, "validation_loss": 0.7}]},
        bench={"latency": LATENCY, "threads": 1, "precision": "int8", "size": {"device_bytes": 9_000_000}},
        calibration={"temperature": 1.5, "before": {"nll": 0.5}, "after": {"nll": 0.4}},
        parity={"rows": 256, "max_logit_difference": 1e-5},
        versions={"python": "3.11"},
        data={"rows": {"train": 100}, "duplicates": 3},
        mistakes=5,
    )
    return dataclasses.replace(whole, **changes)


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


NOBODY: dict[str, Any] = {
    "test_texts": [],
    "test_rows": [],
    "test_labels": np.zeros(0, dtype=int),
    "forms": {},
    "probabilities": np.zeros((0, 2)),
}
