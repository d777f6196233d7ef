"""Advice on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeft.pipeline.advise.advise import duration
from edgeft.report import facts

WIDTH = 100


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print the sizes that were weighed, the advice and the notes."""
    problem, here = document["problem"], document["machine"]
    gpu = f"{here['gpu']} with {facts.size(here['gpu_bytes'])}" if here["gpu"] else "no GPU"
    labels = f", {problem['labels']} labels" if problem["labels"] else ""
    rows = f"{problem['task']}: {problem['rows']:,} training rows{labels}, 95% of the texts up to"
    console.print(Text(f"{rows} {problem['tokens']:.0f} tokens", style="bold"))
    console.print(f"this machine: {here['cores']} cores, {facts.size(here['memory_bytes'])} of memory, {gpu}\n")
    console.print(_sizes(document))
    console.print()
    console.print(_advice(document), width=min(console.width, WIDTH))
    for note in document["notes"]:
        console.print(Text(note, style="dim"))


def _sizes(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("size", "parameters", "method", "memory", "time", ""):
        table.add_column(name, justify="right" if name in ("memory", "time") else "left", overflow="fold")
    for row in document["sizes"]:
        cells = [row["size"], row["span"], row["method"], facts.size(row["memory_bytes"]), duration(row["seconds"])]
        verdict = "this one" if row["chosen"] else row["problem"] or "possible"
        table.add_row(*cells, Text(verdict), style="bold" if row["chosen"] else "")
    return table


def _advice(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in document["advice"]:
        name = item["option"].removeprefix("finetune.")
        value = str(item["value"]) if name != "model" else ""
        reason = f"{item['value']}: {item['why']}" if name == "model" else item["why"]
        table.add_row(Text(f"{name} {value}".strip(), style="bold"), Text(reason))
    return table
