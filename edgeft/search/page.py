"""The page of a search: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.errors import require
from edgeft.report import facts, page, plots
from edgeft.report.plots import FIRST, MUTED, SECOND
from edgeft.search import results
from edgeft.search.results import Found, Row
from edgeft.search.space import Choices, Range
from edgeft.search.trial import Job

PURPOSE = "to write the page of a search"
TEMPLATE = "search.html"


def render(found: Found, job: Job) -> str:
    """The page; equal searches give equal bytes but for the seconds.

    Args:
        found: the trials and the best one.
        job: has the recipe's name and the space.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    made = page.template(TEMPLATE, PURPOSE, cell=results.cell, short=results.short, percent=facts.percent)
    return str(
        made.render(
            name=job.base.name,
            found=found,
            headlines=_headlines(found),
            rows=results.ranked(found.rows),
            options=list(job.space),
            course=course(found.rows, found.metric),
            slices=[(path, scatter(path, job.space[path], found.rows, found.metric)) for path in job.space],
        )
    )


def _headlines(found: Found) -> list[tuple[str, str, str]]:
    """Name, value and note of the figures at the top."""
    states = [row.state for row in found.rows]
    seconds = sum(row.seconds or 0.0 for row in found.rows)
    done, pruned, failed = (states.count(state) for state in ("complete", "pruned", "failed"))
    best, test = (facts.cell("", split.get(found.metric)) for split in (found.validation, found.test))
    return [
        (f"validation {found.metric}", best, f"trial {found.best.number}"),
        (f"test {found.metric}", test, "of that model; decided nothing"),
        ("trials", str(len(states)), f"{done} complete, {pruned} ended early, {failed} failed"),
        ("time", f"{seconds / 60:.1f} min", "of all trials, in whatever process"),
    ]


def _scored(rows: Sequence[Row], state: str) -> list[Row]:
    return [row for row in rows if row.state == state and row.score is not None]


def course(rows: Sequence[Row], metric: str) -> str:
    """Each trial's score over its number; the line is the best so far."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        done = _scored(rows, "complete")
        best = [max(row.score or 0.0 for row in done[: index + 1]) for index in range(len(done))]
        axes.step([row.number for row in done], best, where="post", color=FIRST, linewidth=1.2)
        _points(axes, rows, [row.number for row in rows])
        axes.set_xlabel("trial")
        axes.set_ylabel(f"validation {metric}", parse_math=False)
        axes.xaxis.get_major_locator().set_params(integer=True)

    return plots.draw(5.4, 3.2, "course", f"Validation {metric} of every trial; the line is the best so far", paint)


def scatter(path: str, options: Choices | Range, rows: Sequence[Row], metric: str) -> str:
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


def _points(axes: Any, rows: Sequence[Row], places: Sequence[float]) -> None:
    """Dots for completed trials, crosses for those that were ended early."""
    for state, colour, marker in (("complete", FIRST, "o"), ("pruned", SECOND, "x")):
        found = [(place, row.score) for place, row in zip(places, rows, strict=True) if row in _scored(rows, state)]
        if found:
            x, y = zip(*found, strict=True)
            axes.scatter(x, y, s=18, color=colour, marker=marker, linewidths=0 if marker == "o" else 1.2, zorder=3)
    axes.margins(0.08, 0.12)
    axes.tick_params(labelcolor=MUTED)
