"""An evaluation as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeft.data.profile.profile_facts import visible
from edgeft.report import facts
from edgeft.report.slice_sections import lowest

SHOWN = 8  # slices
Document = Mapping[str, Any]
Cells = tuple[str, str, str, str]  # metric, here, its interval, recorded


def show(found: Document, console: Console) -> None:
    """Print metrics, calibration and the weakest slices.

    Args:
        found: the document.
        console: where to.
    """
    console.print(escape(f"{visible(found['artifact'])} on {found['rows']:,} rows of {visible(found['file'])}"))
    if found["left_out"]:
        console.print(f"{found['left_out']:,} more rows have no text after cleaning")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "here", "95% interval", "recorded on its own test rows"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    for cells in metric_rows(found):
        table.add_row(*map(escape, cells))
    console.print(table)
    for line in calibration_lines(found):
        console.print(line)
    if weakest := list(lowest(found, SHOWN)):
        _show_slices(found, weakest, console)


def metric_rows(found: Document) -> list[Cells]:
    """Each metric with its interval and, where the manifest has it, what was measured when it was made."""
    intervals, recorded = found["intervals"], found["recorded"]
    names = [*intervals, *(name for name in found["metrics"] if name not in intervals)]
    return [
        (
            visible(facts.name(name)),
            facts.figure(name, found["metrics"].get(name, intervals.get(name, {}).get("value"))),
            facts.interval(name, *_ends(intervals.get(name))),
            facts.figure(name, (recorded.get(name) or {}).get("value")),
        )
        for name in names
    ]


def _ends(interval: Document | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval["low"], interval["high"])


def calibration_lines(found: Document) -> list[str]:
    """What can be believed of the probabilities; nothing where there are none."""
    calibration = found["calibration"]
    if calibration is None:
        return []
    ends = {name: _ends(calibration.get("intervals", {}).get(name)) for name in ("nll", "brier")}
    between = {name: f" ({facts.interval('', *both)})" if both[0] is not None else "" for name, both in ends.items()}
    lines = [
        f"calibration: ECE {calibration['ece']:.4f} (right probabilities would show {calibration['ece_by_chance']:.4f} "
        f"by chance), NLL {calibration['nll']:.4f}{between['nll']}, Brier {calibration['brier']:.4f}{between['brier']}"
    ]
    if given := calibration.get("abstains"):
        lines.append(f"answered without abstaining: {given['share']:.1%}, of which {given['error']:.1%} are wrong")
    return lines


def _show_slices(found: Document, weakest: list[tuple[str, Any]], console: Console) -> None:
    metric = found["slices"]["metric"]
    table = Table(title="Where it is weakest", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("slice", overflow="fold")
    for column in ("texts", facts.name(metric), "95% interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, part in weakest:
        cells = [facts.figure(metric, part["value"]), facts.interval(metric, part["low"], part["high"])]
        table.add_row(escape(visible(name)), facts.integer(part["rows"]), *cells)
    console.print(table)
