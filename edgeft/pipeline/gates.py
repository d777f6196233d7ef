"""The gate table: the effect of every stage on quality, size and speed."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from edgeft.bench.forms import raced_forms
from edgeft.pipeline import stages
from edgeft.report import facts
from edgeft.report.race_text import describe_noise
from edgeft.report.run_report import GateRow
from edgeft.stage import GateLine
from edgeft.stage_folder import StageResult

Results = Mapping[str, StageResult]


def versions(results: Results) -> dict[str, str]:
    """The versions behind the results: of edgeft, of Python, and of the libraries that determine a stage's result.

    Returns:
        Name -> version; if stages ran with different ones, as in "2.12.0 (data, finetune), 2.13.0 (export)".
    """
    by: dict[str, dict[str, list[str]]] = {}
    for stage, result in results.items():
        always = {name: result.versions[name] for name in ("edgeft", "python") if name in result.versions}
        # The folder of an earlier release doesn't say which libraries mattered.
        for name, version in (always | (result.libraries or result.versions)).items():
            by.setdefault(name, {}).setdefault(version, []).append(stage)
    return {name: _versions_by_stage(stages) for name, stages in by.items()}


def _versions_by_stage(stages: Mapping[str, list[str]]) -> str:
    if len(stages) == 1:
        return next(iter(stages))
    return ", ".join(f"{version} ({', '.join(names)})" for version, names in stages.items())


def measures(results: Results) -> tuple[str, str | None]:
    """The lead metric of the run's task, and the second one."""
    named = list(results["finetune"].metrics.get("intervals", ())) if "finetune" in results else []
    lead, *others = named or ("accuracy", "macro_f1")
    return lead, others[0] if others else None


def rows(results: Results, split: str = "validation") -> list[GateRow]:
    """One row for each measured form of the model, in the order of the run.

    Args:
        results: of the stages that ran.
        split: whose metrics.
    """
    table, (lead, second), raced = [], measures(results), raced_forms(results)
    for line in lines_of(results):
        scores = line.metrics.get(split, {})
        agreement = scores.get("agreement")
        table.append(
            GateRow(
                stage=line.name,
                lead=scores.get(lead),
                second=scores.get(second) if second else None,
                agreement=agreement,
                changed=None if agreement is None else 1 - agreement,
                bytes=line.metrics.get("bytes"),
                latency_ms=raced.get(line.name, {}).get("p50_ms") if raced else line.metrics.get("latency_ms"),
                note=line.note,
            )
        )
    return table


def lines_of(results: Results) -> list[GateLine]:
    """The forms of the model in the order of the run, as the stages declare them."""
    return [line for name in stages.MODULES if name in results for line in stages.stage_of(name).gate_lines(results)]


def latency_caption(results: Results) -> str:
    """How the table's latencies were measured."""
    if raced_forms(results):
        return "latency: median of one text, all forms in turns in one race"
    return "latency: median of one text, each measured by its own stage at its own time; the bench races them"


def show(results: Results, console: Console) -> None:
    """Print the table with validation and test split; nothing if there is no model yet."""
    if not rows(results):
        return
    lead, second = measures(results)
    names = facts.name(lead), facts.name(second or "")
    table = Table(title="What each stage did", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("stage", "valid", "test", names[1], "changed", "size", "latency"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for row, test in zip(rows(results), rows(results, "test"), strict=True):
        table.add_row(
            row.stage,
            facts.figure(lead, row.lead) if row.lead is not None else "",
            facts.figure(lead, test.lead) if test.lead is not None else "",
            f"{test.second:.3f}" if test.second is not None else "",
            facts.percent(row.changed) if row.changed is not None else "",
            facts.size(row.bytes) if row.bytes is not None else "",
            facts.milliseconds(row.latency_ms) if row.latency_ms is not None else "",
        )
    console.print(table)
    other = f", {names[1]} on test" if second else ""
    console.print(f"{names[0]} on validation and test{other}; changed: answers unlike the stage before's")
    console.print(latency_caption(results))
    if noise := describe_noise(results["bench"].metrics.get("race", {}) if "bench" in results else {}):
        console.print(noise)
    for row in rows(results):
        if row.note:
            console.print(f"  {row.stage}: {row.note}")
