"""Advice as a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.pipeline.advise.advise import duration
from edgeft.report import facts
from edgeft.report.blocks import Column, Paragraph, Report, Row, Section, Table

SIZES = (
    Column("size"),
    Column("parameters"),
    Column("method"),
    Column("memory", "number"),
    Column("time", "number"),
    Column(),
)

Document = Mapping[str, Any]


def report(document: Document) -> Report:
    """The sizes that were compared, the advice and the notes."""
    problem, specs = document["problem"], document["machine"]
    gpu = f"{specs['gpu']} with {facts.size(specs['gpu_bytes'])}" if specs["gpu"] else "no GPU"
    labels = f", {problem['labels']} labels" if problem["labels"] else ""
    rows = f"{problem['rows']:,} training rows{labels}, 95% of the texts up to {problem['tokens']:.0f} tokens"
    machine = f"this machine: {specs['cores']} cores, {facts.size(specs['memory_bytes'])} of memory, {gpu}"
    sizes = Table(SIZES, tuple(map(_size_row, document["sizes"])))
    advice = Table((Column(kind="code"), Column(kind="prose")), tuple(map(_advice_row, document["advice"])))
    notes = (Paragraph(note, "pale") for note in document["notes"])
    return Report(
        title=problem["task"],
        tab=f"{problem['task']}: advice",
        subtitle=rows,
        sections=(Section("Sizes", (sizes,), machine), Section("Advice", (advice, *notes))),
    )


def _size_row(size: Document) -> Row:
    needs = (facts.size(size["memory_bytes"]), duration(size["seconds"]))
    verdict = "this one" if size["chosen"] else size["problem"] or "possible"
    cells = (size["size"], size["span"], size["method"], *needs, verdict)
    return Row(cells, "strong" if size["chosen"] else "plain")


def _advice_row(item: Document) -> Row:
    name = item["option"].removeprefix("finetune.")
    if name == "model":
        return Row((name, f"{item['value']}: {item['why']}"))
    return Row((f"{name} {item['value']}".strip(), item["why"]))
