"""The plots of a measurement of the harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeft.report import plots
from edgeft.report.plots import FIRST, INK, MUTED, SECOND

LINES = ((FIRST, "-"), (SECOND, "-"), (MUTED, "-"), (INK, (0, (4, 3))), (FIRST, (0, (4, 3))), (SECOND, (0, (1, 2))))

Document = Mapping[str, Any]


def distribution(subjects: Sequence[Document]) -> str:
    """How many of the texts are answered by when, one line for each subject."""

    def paint(axes: Any) -> None:
        for subject, (colour, dashes) in zip(subjects, LINES * len(subjects), strict=False):
            quantiles = subject["single_stream"]["quantiles_ms"]
            label = subject["name"].replace("$", r"\$")
            axes.plot(quantiles.values(), [float(q) for q in quantiles], color=colour, linestyle=dashes, label=label)
        _logarithmic(axes, [q for subject in subjects for q in subject["single_stream"]["quantiles_ms"].values()])
        axes.set_xlabel("ms")
        axes.set_ylabel("% of texts answered by then")

    return _drawn("distribution", "Distribution of the latency of one text", len(subjects), paint)


def loads(subjects: Sequence[Document]) -> str:
    """Latency over arrivals: solid p99, faint p50; a mark where p99 still holds."""

    def paint(axes: Any) -> None:
        for subject, (colour, dashes) in zip(subjects, LINES * len(subjects), strict=False):
            server = subject["server"]
            rates = [load["rate"] for load in server["loads"]]
            label = subject["name"].replace("$", r"\$")
            p99 = [load["p99_ms"] for load in server["loads"]]
            axes.plot(rates, p99, color=colour, linestyle=dashes, label=label, marker="o", markersize=3)
            axes.plot(rates, [load["p50_ms"] for load in server["loads"]], color=colour, linewidth=0.9, alpha=0.5)
            axes.axhline(server["bound_ms"], color=colour, linewidth=0.8, linestyle=(0, (1, 3)))
            if server["rate"]:
                axes.axvline(server["rate"], color=colour, linewidth=0.8, alpha=0.6)
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
        axes.set_xlabel("queries due in a second")
        axes.set_ylabel("ms from when a query was due")

    return _drawn("loads", "Latency against arrivals; the dotted line is the bound of p99", len(subjects), paint)


def _drawn(name: str, label: str, lines: int, paint: Callable[[Any], None]) -> str:
    def whole(figure: Any) -> None:
        axes = figure.subplots()
        paint(axes)
        if lines > 1:
            axes.legend(loc="best", fontsize=8)

    return plots.draw(5.4, 3.5, name, label, whole)


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    if max(values) / min(values) > plots.LOG_SPAN:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)


def _plain_ticks(axis: Any) -> None:
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
