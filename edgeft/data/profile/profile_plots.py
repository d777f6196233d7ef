"""The plots of a data profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeft.data.profile import profile_facts
from edgeft.report import plots
from edgeft.report.plots import FIRST, MUTED, SECOND

Document = Mapping[str, Any]


def _bars(axes: Any, histogram: Document, colour: str) -> None:
    edges = np.array(histogram["edges"])
    axes.bar(edges[:-1], histogram["counts"], width=np.diff(edges) * 0.92, align="edge", color=colour, alpha=0.55)
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)


def lengths(name: str, document: Document) -> str:
    """Histogram of the texts' lengths, with the share that each common max_length truncates."""
    part = document["lengths"]["parts"][name]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        _bars(axes, part["histogram"], FIRST)
        axes.set_xlabel(document["lengths"]["unit"])
        axes.set_ylabel("texts")
        low, high = axes.get_xlim()
        axes.set_ylim(0, max(1, *part["histogram"]["counts"]) * 1.18)
        for step, share in part["cut"].items():
            if low < int(step) < high:
                axes.axvline(int(step), color=SECOND, linewidth=0.9, linestyle=(0, (4, 3)))
                label = f"{step} cuts {profile_facts.cut(share)}"
                annotation = {"xytext": (3, -2), "textcoords": "offset points", "va": "top", "fontsize": 7.5}
                axes.annotate(label, (int(step), axes.get_ylim()[1]), color=MUTED, gid=plots.HALO, **annotation)

    return plots.draw(5.4, 2.7, f"lengths-{name}", f"Lengths of {name}", paint)


def cuts(document: Document) -> str:
    """The share of truncated texts over max_length."""
    lengths = document["lengths"]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for part, colour in zip(lengths["parts"].values(), (FIRST, SECOND, MUTED), strict=False):
            steps = [int(step) for step in part["cut"]]
            axes.plot(steps, [share * 100 for share in part["cut"].values()], color=colour, marker="o", markersize=3)
        if len(lengths["parts"]) > 1:
            axes.legend(axes.get_lines(), list(lengths["parts"]), fontsize=8, labelcolor=MUTED)
        axes.set_xscale("log", base=2)
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.set_ylim(0, None)
        axes.set_xlabel(f"max_length ({lengths['unit']})")
        axes.set_ylabel("texts cut (%)")

    return plots.draw(5.4, 2.7, "cuts", "Share of texts cut by each max_length", paint)


def numbers(targets: Document) -> str:
    """The histogram of a regression's targets."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        _bars(axes, targets["histogram"], FIRST)
        axes.axvline(targets["numbers"]["median"], color=SECOND, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlabel("target (the dashed line is the median)")
        axes.set_ylabel("rows")

    return plots.draw(5.4, 2.7, "numbers", "Histogram of the targets", paint)
