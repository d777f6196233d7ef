"""The report's plots: matplotlib to inline SVG whose colours are the page's own CSS variables, for light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgeft.errors import require
from edgeft.report import facts
from edgeft.report.scores import Bins, wilson_interval

PURPOSE = "to draw the report's plots"

# Colours that no plot uses otherwise -> what stands in their place on the page.
INK, MUTED, GRID, FIRST, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    FIRST: "var(--accent)",
    SECOND: "var(--second)",
}
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
}
MAX_AREA_PT2 = 1000.0
MIN_AREA_PT2 = 14.0
CHARACTER_PT = 5.2  # mean width of a letter at the plots' font size
HALO = "halo"  # text that is drawn with an outline in the page's colour
BASELINE = "baseline"
BEFORE, AFTER = "before calibration", "after calibration"
LOG_SPAN = 6.0  # latencies that lie further apart than this factor get a logarithmic axis


Box = tuple[float, float, float, float]  # left, bottom, right, top


class Point(Protocol):
    """What the accuracy-latency plot needs of a gate."""

    @property
    def stage(self) -> str: ...
    @property
    def lead(self) -> float | None: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def latency_ms(self) -> float | None: ...


def draw(width: float, height: float, name: str, label: str, paint: Callable[[Any], None]) -> str:
    """Paint one figure and return it as an `<svg>` element.

    Args:
        width: inches.
        height: inches.
        name: salts the ids, so that two plots on one page don't share any.
        label: what a screen reader says.
        paint: draws on the empty figure.
    """
    matplotlib = require("matplotlib", PURPOSE)
    figures = require("matplotlib.figure", PURPOSE)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(stream.getvalue(), label)


def _inline(document: str, label: str) -> str:
    """The bare element: no prologue, metadata or namespaces, group ids gone, colours and font from the page."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", document[document.index("<svg") :].strip(), flags=re.S)
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", head)
    body = f"{head}>{rest}"
    body = body.replace(f'<g id="{HALO}"', f'<g class="{HALO}"')
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = body.replace("'DejaVu Sans'", "inherit").replace("font-family: inherit, sans-serif", "font-family: inherit")
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    return body.replace("<svg", f'<svg role="img" aria-label="{_attribute(label)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def _text(axes: Any, *args: Any, **kwargs: Any) -> Any:
    """Text that may come from the user: a dollar sign in it is a dollar sign."""
    return axes.annotate(*args, parse_math=False, **kwargs)


# ------------------------------------------------------------------------------------------------ accuracy and latency


def accuracy_latency(gates: Sequence[Point], metric: str) -> str | None:
    """Each gate as a bubble: latency across, the lead metric up, area by size; None where fewer than two have both."""
    points = [gate for gate in gates if gate.lead is not None and gate.latency_ms is not None]
    if len(points) < 2:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        x = np.array([point.latency_ms for point in points], dtype=float)
        share = facts.is_share(metric)
        y = np.array([point.lead for point in points], dtype=float) * (100 if share else 1)
        _scale_axes(axes, x, y, 0.8 if share else 0.01)
        path = [index for index, point in enumerate(points) if point.stage != BASELINE]
        areas = _areas(points)
        axes.plot(x[path], y[path], color=MUTED, linewidth=0.8, alpha=0.5, zorder=2)
        axes.scatter(x, y, s=areas, color=FIRST, alpha=0.22, linewidths=0, zorder=3)
        axes.scatter(x, y, s=9, color=FIRST, linewidths=0, zorder=4)
        axes.set_xlabel("latency of one text, p50 (ms)")
        axes.set_ylabel(f"{facts.name(metric)} (%)" if share else facts.name(metric), parse_math=False)
        figure.draw_without_rendering()
        name_points(axes, x, y, [point.stage for point in points], areas)

    return draw(5.4, 3.7, "gates", f"{metric} against latency for every stage; bubble area is the size", paint)


def _scale_axes(axes: Any, x: Any, y: Any, least: float) -> None:
    if x.min() > 0 and x.max() / x.min() > LOG_SPAN:
        axes.set_xscale("log")
        ticker = require("matplotlib.ticker", PURPOSE)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlim(x.min() / 1.9, x.max() * 2.6)
    else:
        span = float(np.ptp(x)) or max(float(x.max()), 1.0) * 0.5
        axes.set_xlim(max(0.0, x.min() - 0.25 * span), x.max() + 0.4 * span)
    margin = max(float(np.ptp(y)) * 0.22, least)
    axes.set_ylim(y.min() - margin, y.max() + margin)


def _areas(points: Sequence[Point]) -> list[float]:
    largest = max((point.bytes or 0 for point in points), default=0) or 1
    return [max((point.bytes or 0) / largest * MAX_AREA_PT2, MIN_AREA_PT2) for point in points]


def name_points(axes: Any, x: Any, y: Any, names: Sequence[str], areas: Sequence[float]) -> None:
    """Write each name at the nearest free place around its bubble, with a thin line where that is away from it."""
    scale = 72 / axes.figure.dpi  # pixels to points
    centres = axes.transData.transform(np.column_stack([x, y])) * scale  # (n, 2)
    low, high = axes.transAxes.transform([(0, 0), (1, 1)]) * scale
    radii = [math.sqrt(area / math.pi) for area in areas]
    bubbles, points = _boxes(centres, [0.8 * radius for radius in radii]), _boxes(centres, [4.0] * len(radii))
    written: list[Box] = []
    for index, (name, radius) in enumerate(zip(names, radii, strict=True)):
        others = bubbles[:index] + bubbles[index + 1 :]
        size = (*centres[index], radius, CHARACTER_PT * len(name))
        spot = _free_place(size, (*low, *high), [*others, *written]) or _free_place(
            size, (*low, *high), [*points, *written]
        )
        dx, dy, side, box = spot or (radius + 4, 0.0, "left", (0.0, 0.0, 0.0, 0.0))
        written.append(box)
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5} if math.hypot(dx, dy) > radius + 9 else None
        at = {"xytext": (dx, dy), "textcoords": "offset points", "ha": side, "va": "center"}
        _text(axes, name, (x[index], y[index]), **at, gid=HALO, zorder=5, arrowprops=line)


def _boxes(centres: Any, radii: Sequence[float]) -> list[Box]:
    return [(px - r, py - r, px + r, py + r) for (px, py), r in zip(centres, radii, strict=True)]


def _free_place(bubble: tuple[float, ...], frame: Box, taken: Sequence[Box]) -> tuple[float, float, str, Box] | None:
    """The first offset around a bubble whose box lies inside the frame and on nothing taken; lengths in points.

    Args:
        bubble: x and y of its centre, its radius, and the width of its name.
        frame: of the axes.
        taken: what the name must not cover.
    """
    px, py, radius, width = bubble
    for dx, dy, side in _places(radius):
        left = px + dx - {"left": 0.0, "center": width / 2, "right": width}[side]
        box = (left, py + dy - 6, left + width, py + dy + 6)
        inside = box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]
        if inside and not any(_overlap(box, other) for other in taken):
            return dx, dy, side, box
    return None


def _places(radius: float) -> Iterator[tuple[float, float, str]]:
    """Offsets around a bubble: beside it, above, below, then further away on every side."""
    for away in (0.0, 13.0, 26.0, 39.0):
        near = radius + away
        if not away:
            yield from ((near + 4, 0.0, "left"), (-near - 4, 0.0, "right"))
        yield from ((0.0, near + 8, "center"), (0.0, -near - 8, "center"))
        yield from ((12.0, near + 8, "left"), (12.0, -near - 8, "left"))
        yield from ((-12.0, near + 8, "right"), (-12.0, -near - 8, "right"))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# --------------------------------------------------------------------------------------------------------- reliability


def reliability(bins: Bins, name: str, low: float = 0.0) -> str:
    """Accuracy against confidence with 95% intervals, and under it how many answers each bin holds.

    Args:
        bins: of one set of answers.
        name: whose they are.
        low: where the axis of confidence starts.
    """

    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        used = np.flatnonzero(bins.counts)
        upper.plot((0, 1), (0, 1), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        _points_with_intervals(upper, bins, used)
        upper.set_xlim(low, 1)
        upper.set_ylim(0, 1.02)
        upper.set_ylabel("share right")
        width = bins.edges[1]
        lower.bar(bins.edges[:-1], bins.counts, width=width * 0.86, align="edge", color=FIRST, alpha=0.45, linewidth=0)
        for index in used:
            _count(lower, bins.edges[index] + width * 0.43, int(bins.counts[index]))
        lower.set_ylim(0, max(1, bins.counts.max()) * 1.35)
        lower.set_yticks([])
        lower.grid(False)
        lower.set_xlabel("confidence")
        lower.set_ylabel("answers")

    return draw(4.2, 4.0, f"reliability-{name}", f"Reliability diagram, {name}", paint)


def _points_with_intervals(axes: Any, bins: Bins, used: Any) -> None:
    for index in used:
        low, high = wilson_interval(int(bins.correct[index]), int(bins.counts[index]))
        axes.plot([bins.confidence[index]] * 2, (low, high), color=FIRST, alpha=0.4, linewidth=2.2)
    axes.scatter(bins.confidence[used], bins.accuracy[used], s=20, color=FIRST, linewidths=0, zorder=4)


def _count(axes: Any, x: float, count: int) -> None:
    text = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
    axes.annotate(text, (x, count), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=6.5, color=MUTED)


# -------------------------------------------------------------------------------------------------------------- curves


def curves(stage: str, rows: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    """Losses above, the validation metric below, over the optimizer steps; None where there is nothing to draw."""
    losses = {"training": _series(rows, "loss"), "validation": _series(rows, "validation_loss")}
    score = _series(rows, f"validation_{metric}") or _series(rows, "validation_accuracy")
    panels = [panel for panel in ("loss", "score") if (score if panel == "score" else any(losses.values()))]
    if not panels:
        return None

    def paint(figure: Any) -> None:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            if panel == "loss":
                _loss_panel(axes, losses)
            else:
                _line(axes, score, SECOND, marker="o")
                axes.set_title(f"validation {facts.name(metric)}", parse_math=False)
        grid[-1].set_xlabel("optimizer step")

    return draw(4.2, 1.0 + 1.45 * len(panels), f"curves-{stage}", f"Training curves of {stage}", paint)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None and row.get("step") is not None]


def _loss_panel(axes: Any, losses: Mapping[str, list[tuple[float, float]]]) -> None:
    _line(axes, losses["training"], FIRST, width=1.0)
    _line(axes, losses["validation"], SECOND, marker="o")
    present = [name for name, series in losses.items() if series]
    axes.set_title("loss" if len(present) > 1 else f"{present[0]} loss")
    if len(present) > 1:
        axes.legend(axes.get_lines(), present, loc="upper right", fontsize=8, labelcolor=MUTED)


def _line(
    axes: Any, series: Sequence[tuple[float, float]], colour: str, marker: str | None = None, width: float = 1.6
) -> None:
    if series:
        steps, values = zip(*series, strict=True)
        axes.plot(
            steps,
            values,
            color=colour,
            marker=marker or ("o" if len(series) == 1 else None),
            markersize=3,
            linewidth=width,
        )
