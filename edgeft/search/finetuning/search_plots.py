"""The plots of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.errors import require
from edgeft.report import plots
from edgeft.report.plots import FIRST, MUTED, SECOND
from edgeft.search.finetuning.summary import Row
from edgeft.search.space import Choices, Range


def _rows_with_score(rows: Sequence[Row], state: str) -> list[Row]:
    return [row for row in rows if row.state == state and row.score is not None]


def plot_history(rows: Sequence[Row], metric: str) -> str:
    """Each trial's score over its number; the line is the best so far."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        done = _rows_with_score(rows, "complete")
        best = [max(row.score or 0.0 for row in done[: index + 1]) for index in range(len(done))]
        axes.step([row.number for row in done], best, where="post", color=FIRST, linewidth=1.2)
        _points(axes, rows, [row.number for row in rows])
        axes.set_xlabel("trial")
        axes.set_ylabel(f"validation {metric}", parse_math=False)
        axes.xaxis.get_major_locator().set_params(integer=True)

    return plots.draw(5.4, 3.2, "course", f"Validation {metric} of every trial; the line is the best so far", paint)


def plot_option(path: str, options: Choices | Range, rows: Sequence[Row], metric: str) -> str:
    """Each trial's score over one option."""
    drawn = [row for row in rows if path in row.options]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        if isinstance(options, Choices):
            names = [str(value) for value in options.values]
            _points(axes, drawn, [names.index(str(row.options[path])) for row in drawn])
            axes.set_xticks(range(len(names)), names, parse_math=False)
            axes.set_xlim(-0.5, len(names) - 0.5)
        else:
            _points(axes, drawn, [row.options[path] for row in drawn])
            if options.log:
                _logarithmic(axes)
        axes.set_ylabel(f"validation {metric}", parse_math=False)

    return plots.draw(4.2, 2.6, f"option-{path}", f"Validation {metric} over {path}", paint)


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis with plain numbers at it, as in 0.0005."""
    ticker = require("matplotlib.ticker", plots.PURPOSE)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0,), numticks=6))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _points(axes: Any, rows: Sequence[Row], xs: Sequence[float]) -> None:
    """Dots for completed trials, crosses for those that were ended early."""
    for state, colour, marker in (("complete", FIRST, "o"), ("pruned", SECOND, "x")):
        scored = _rows_with_score(rows, state)
        points = [(x, row.score) for x, row in zip(xs, rows, strict=True) if row in scored]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=18, color=colour, marker=marker, linewidths=0 if marker == "o" else 1.2, zorder=3)
    axes.margins(0.08, 0.12)
    axes.tick_params(labelcolor=MUTED)
