"""The gate table: what every stage did to quality, size and speed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from edgeft.report import facts
from edgeft.report.race_text import describe_noise
from edgeft.report.run_report import GateRow
from edgeft.stage import StageResult

Results = Mapping[str, StageResult]
CHOSEN_SPEED = re.compile(r"\d+\.\d+ times faster than fp32 here")


def versions(results: Results) -> dict[str, str]:
    """The versions that made the results: of edgeft, Python, and of each library those that decided a stage.

    Returns:
        Name to version; where stages were made by several, as in "2.12.0 (data, finetune), 2.13.0 (export)".
    """
    by: dict[str, dict[str, list[str]]] = {}
    for stage, result in results.items():
        always = {name: result.versions[name] for name in ("edgeft", "python") if name in result.versions}
        # A folder of an earlier release doesn't say which of them decided.
        for name, version in (always | (result.libraries or result.versions)).items():
            by.setdefault(name, {}).setdefault(version, []).append(stage)
    return {name: _each(stages) for name, stages in by.items()}


def _each(stages: Mapping[str, list[str]]) -> str:
    if len(stages) == 1:
        return next(iter(stages))
    return ", ".join(f"{version} ({', '.join(names)})" for version, names in stages.items())


def measures(results: Results) -> tuple[str, str | None]:
    """The lead metric of the run's rows, and the one beside it."""
    named = list(results["finetune"].metrics.get("intervals", ())) if "finetune" in results else []
    lead, *others = named or ("accuracy", "macro_f1")
    return lead, others[0] if others else None


def rows(results: Results, split: str = "validation") -> list[GateRow]:
    """One row for each measured form of the model, in the order of the run.

    Args:
        results: of the stages that ran.
        split: whose figures.
    """
    table, (lead, second), raced = [], measures(results), race_of(results)
    for name, metrics, note in _forms(results):
        scores = metrics.get(split, {})
        agreement = scores.get("agreement")
        table.append(
            GateRow(
                stage=name,
                lead=scores.get(lead),
                second=scores.get(second) if second else None,
                agreement=agreement,
                changed=None if agreement is None else 1 - agreement,
                bytes=metrics.get("bytes"),
                latency_ms=raced.get(name, {}).get("p50_ms") if raced else metrics.get("latency_ms"),
                note=note,
            )
        )
    return table


def race_of(results: Results) -> Mapping[str, Mapping[str, Any]]:
    """Each form's latency in the one race of the bench; empty before it, where stages show what they measured alone."""
    forms: Mapping[str, Mapping[str, Any]] = (
        results["bench"].metrics.get("race", {}).get("forms", {}) if ("bench" in results) else {}
    )
    return forms


def _forms(results: Results) -> list[tuple[str, Mapping[str, Any], str]]:
    """Name, metrics and note of each form."""
    found: list[tuple[str, Mapping[str, Any], str]] = []
    if "baseline" in results:
        found.append(("baseline", results["baseline"].metrics, "TF-IDF with logistic regression"))
    if "finetune" in results:
        found += _teacher(results["finetune"])
    if "distill" in results:
        found.append(("distilled", results["distill"].metrics, ""))
    if "prune" in results:
        found.append(("pruned", results["prune"].metrics, pruning_note(results["prune"].metrics)))
    if "export" in results:
        found += _graphs(results["export"].metrics, race_of(results))
    if "bench" in results:
        found.append(_artifact(results))
    return found


def _artifact(results: Results) -> tuple[str, Mapping[str, Any], str]:
    """What ships: quality of the chosen graph, bytes with the tokenizer, latency of the bench."""
    export, bench = results["export"].metrics, results["bench"].metrics
    measured = {"bytes": results["package"].metrics["bytes"], "latency_ms": bench["latency"]["p50_ms"]}
    return "artifact", {**shipped(results), **measured}, f"{export['precision']}, size with tokenizer"


def shipped(results: Results) -> dict[str, dict[str, Any]]:
    """Figures of what ships on each split: of the calibrated answers, where there are such."""
    export, calibration = results["export"].metrics, results["calibrate"].metrics
    graph = {split: {**export[export["precision"]][split], "agreement": None} for split in ("validation", "test")}
    return {**graph, **calibration.get("answers", {})}


def _teacher(result: StageResult) -> list[tuple[str, Mapping[str, Any], str]]:
    metrics, method = result.metrics, result.config["method"]
    if "adapter" not in metrics:
        return [("teacher", metrics, method)]
    note = f"merged; logits within {metrics['merge_difference']:.0e} of the adapter's"
    return [("adapter", metrics["adapter"], method), ("teacher", metrics, note)]


def _graphs(
    metrics: Mapping[str, Any], raced: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any], str]]:
    difference = metrics["parity"]["max_logit_difference"]
    found: list[tuple[str, Mapping[str, Any], str]] = [
        ("fp32 graph", metrics["fp32"], f"logits within {difference:.0e} of torch")
    ]
    if metrics["precision"] != "fp32":
        name = f"{metrics['precision']} graph"
        found.append((name, metrics[metrics["precision"]], precision_reason(metrics, raced)))
    return found


def precision_speedup(metrics: Mapping[str, Any], raced: Mapping[str, Mapping[str, Any]]) -> float | None:
    """How many times as fast as the fp32 graph the one that ships was in the race; None where one was not raced."""
    both = [raced.get(name) for name in ("fp32 graph", f"{metrics['precision']} graph")]
    if metrics["precision"] == "fp32" or both[0] is None or both[1] is None:
        return None
    return float(both[0]["p50_ms"] / both[1]["p50_ms"])


def precision_reason(metrics: Mapping[str, Any], raced: Mapping[str, Mapping[str, Any]]) -> str:
    """Why this precision ships, its speed as the race has it; before the race as the choice had it."""
    reason: str = metrics["quantization"]["reason"]
    speedup = precision_speedup(metrics, raced)
    if speedup is None:
        return reason
    return CHOSEN_SPEED.sub(f"{speedup:.2f} times faster than fp32 here", reason, count=1)


def pruning_note(metrics: Mapping[str, Any]) -> str:
    """What was tried and what stayed."""
    tried = metrics["tried"]
    if metrics["kept"] is None:
        worst = ", ".join(f"{attempt['drop_points']:.1f}" for attempt in tried)
        return f"left out: attempts lost {worst} points"
    kept = tried[metrics["kept"]]
    retried = "second attempt, " if metrics["kept"] else ""
    return f"{retried}{kept['gone']}"


def latency_caption(results: Results) -> str:
    """Where the table's latencies come from."""
    if race_of(results):
        return "latency: median of one text, all forms in turns in one race"
    return "latency: median of one text, each measured by its own stage at its own time; the bench races them"


def show(results: Results, console: Console) -> None:
    """Print the table with the test split beside the validation split; nothing before there is a model."""
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
    if said := describe_noise(results["bench"].metrics.get("race", {}) if "bench" in results else {}):
        console.print(said)
    for row in rows(results):
        if row.note:
            console.print(f"  {row.stage}: {row.note}")
