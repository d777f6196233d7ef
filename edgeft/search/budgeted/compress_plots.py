"""The plots of a budget search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeft.recipe.budget import tightest
from edgeft.report import facts, plots
from edgeft.report.plots import FIRST, MUTED, SECOND
from edgeft.search.budgeted.ranking import Row
from edgeft.search.budgeted.summary import BudgetSummary

MAX_AREA_PT2, MIN_AREA_PT2 = 420.0, 12.0
DASHED = (0, (4, 3))


def plot_by_latency(summary: BudgetSummary) -> str:
    """Quality over latency; the bubbles' area is the size."""

    def x_of(row: Row) -> float:
        return row.measured[summary.latency]

    label = f"latency of one text, {summary.latency} (ms)"
    return _plot(summary, "latency", label, x_of, tightest(summary.limits, summary.latency), bubbles=True)


def plot_by_size(summary: BudgetSummary) -> str:
    """Quality over size."""
    bound = tightest(summary.limits, "size")
    limit = None if bound is None else bound / 1e6

    def x_of(row: Row) -> float:
        return row.measured["size"] / 1e6

    return _plot(summary, "size", "size of graph and tokenizer (MB)", x_of, limit, bubbles=False)


def _plot(
    summary: BudgetSummary, name: str, label: str, x_of: Callable[[Row], float], limit: float | None, bubbles: bool
) -> str:
    """Every measured trial, the line through the Pareto points, and the budget's limits."""
    rows = [row for row in summary.rows if row.measured]
    scale = 100.0 if facts.is_share(summary.metric) else 1.0
    largest = max(row.measured["size"] for row in rows)

    def area(row: Row) -> float:
        return max(MAX_AREA_PT2 * row.measured["size"] / largest, MIN_AREA_PT2) if bubbles else 26.0

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        _frame(axes, [x_of(row) for row in rows], [row.quality["validation"] * scale for row in rows], summary, scale)
        _limits(axes, summary, limit, scale)
        _line(axes, summary, x_of, scale)
        for fits, colour in ((True, FIRST), (False, SECOND)):
            some = [row for row in rows if row.fits == fits]
            x, y = [x_of(row) for row in some], [row.quality["validation"] * scale for row in some]
            axes.scatter(x, y, s=[area(row) for row in some], color=colour, alpha=0.22, linewidths=0, zorder=3)
            axes.scatter(x, y, s=9, color=colour, linewidths=0, zorder=4)
        unit = " (%)" if scale > 1 else ""
        axes.set_xlabel(label)
        axes.set_ylabel(f"validation {facts.name(summary.metric)}{unit}", parse_math=False)
        figure.draw_without_rendering()
        shown = [summary.rows[number] for number in summary.pareto]
        names = [f"{row.number}" + (" best" if row == summary.best else "") for row in shown]
        y = [row.quality["validation"] * scale for row in shown]
        plots.name_points(axes, [x_of(row) for row in shown], y, names, [area(row) for row in shown])

    described = f"Validation {summary.metric} over {name} of every trial, with the budget's limits"
    return plots.draw(5.4, 3.9, f"compress-{name}", described, paint)


def _frame(axes: Any, x: Sequence[float], y: Sequence[float], summary: BudgetSummary, scale: float) -> None:
    """Room for all trials and for the limits near them."""
    teacher = summary.teacher["validation"] * scale
    low, high = min(y), max(*y, teacher)
    margin = max(0.14 * (high - low), 0.008 * scale)
    axes.set_ylim(low - margin, high + margin)
    span = (max(x) - min(x)) or max(x) * 0.5
    axes.set_xlim(max(0.0, min(x) - 0.2 * span), max(x) + 0.25 * span)


def _limits(axes: Any, summary: BudgetSummary, limit: float | None, scale: float) -> None:
    """The teacher, what the drop leaves of it, and the limit across; one that lies outside widens the frame."""
    teacher = summary.teacher["validation"] * scale
    left = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 7.5}
    axes.axhline(teacher, color=MUTED, linewidth=0.8)
    axes.annotate("teacher", (0, teacher), xytext=(3, 3), color=MUTED, **left)
    if (drop := tightest(summary.limits, "drop")) is not None:
        floor = teacher - drop * scale / 100
        axes.axhline(floor, color=SECOND, linewidth=0.8, linestyle=DASHED)
        axes.annotate("largest drop", (0, floor), xytext=(3, 3), color=SECOND, **left)
        axes.set_ylim(min(axes.get_ylim()[0], floor - 0.006 * scale))
    if limit is not None:
        axes.axvline(limit, color=SECOND, linewidth=0.8, linestyle=DASHED)
        top = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "rotation": 90, "fontsize": 7.5}
        axes.annotate("limit", (limit, 0), xytext=(3, 4), color=SECOND, va="bottom", **top)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, limit * 0.95), max(high, limit * 1.05))


def _line(axes: Any, summary: BudgetSummary, x_of: Callable[[Row], float], scale: float) -> None:
    """Steps through the trials that none beats in quality at this cost: the best to be had up to a place."""
    rows = sorted((summary.rows[number] for number in summary.pareto), key=lambda row: (x_of(row), -_quality(row)))
    steps = [row for index, row in enumerate(rows) if all(_quality(row) > _quality(old) for old in rows[:index])]
    x, y = [x_of(row) for row in steps], [_quality(row) * scale for row in steps]
    axes.step(x, y, where="post", color=FIRST, linewidth=1.0, alpha=0.7, zorder=2)


def _quality(row: Row) -> float:
    return row.quality["validation"]
