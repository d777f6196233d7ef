"""The page of a data profile: one HTML file that needs no network and quotes no text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeft.data.profile import profile_facts
from edgeft.report import facts, page, plots
from edgeft.report.plots import FIRST, MUTED, SECOND

PURPOSE = "to write the page"
TEMPLATE = "rows.html"
MAX_LABELS = 60
LEVELS = {"must": "must", "set": "set", "look": "look at"}

Document = Mapping[str, Any]


def render(document: Document) -> str:
    """The page; equal documents give equal bytes.

    Args:
        document: as `edgeft.data.profile.profile` makes it.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    made = page.template(
        TEMPLATE,
        PURPOSE,
        percent=facts.percent,
        integer=facts.integer,
        cut=profile_facts.cut,
        visible=profile_facts.visible,
    )
    return str(made.render(document=document, **_context(document)))


def _context(document: Document) -> dict[str, Any]:
    targets = document["targets"]
    labels, left_out = profile_facts.most(profile_facts.label_rows(targets), MAX_LABELS)
    return {
        "headlines": _headlines(document),
        "todo": [
            (LEVELS[thing["level"]], profile_facts.flag(thing["option"], thing["value"]), thing["why"])
            for thing in document["todo"]
        ],
        "labels": labels,
        "most": max((share for _, _, share in labels), default=1.0) or 1.0,
        "left_out": left_out,
        "counted": "tokens" if document["kind"] == "tokens" else "rows",
        "figures": profile_facts.pairs(targets),
        "entities": targets.get("entities", {}),
        "numbers": _numbers(targets),
        "unit": profile_facts.counted_by(document),
        "lengths": [(name, _histogram(name, document)) for name in document["lengths"]["parts"]],
        "cuts": _cuts(document),
        "findings": profile_facts.findings(document),
        "splits": document["splits"].get("rows", {}),
        "split_labels": _split_labels(document),
        "languages": document["languages"].get("shares", {}),
        "samples": profile_facts.samples(document),
    }


def _headlines(document: Document) -> list[tuple[str, str, str]]:
    """Name, value and note of the figures at the top."""
    name, part = next(iter(document["lengths"]["parts"].items()))
    unit = document["lengths"]["unit"]
    files, labels = len(document["rows"]["files"]), len(document["targets"].get("labels", {}))
    what = "tags" if document["kind"] == "tokens" else "labels"
    faulty = sum(found["count"] for found in document["rows"]["skipped"].values())
    second = (what, f"{labels:,}", f"imbalance {document['targets'].get('imbalance', 1.0):.1f} to 1")
    near = document["near_duplicates"].get("found", {})
    repeats = document["duplicates"]["count"] + sum(found["count"] for found in near.values())
    return [
        ("rows", f"{document['rows']['total']:,}", f"{files} file{'s' if files > 1 else ''}, {faulty:,} can't be used"),
        second
        if labels
        else ("characters", f"{document['texts']['characters']['median']:,.0f}", "median of the texts"),
        (
            f"p95 {unit}" if unit == "tokens" else "p95 words",
            f"{part['percentiles']['p95']:,.0f}",
            f"{name}, median {part['percentiles']['p50']:,.0f}",
        ),
        ("repeats", f"{repeats:,}", "duplicates and near duplicates"),
    ]


def _split_labels(document: Document) -> list[tuple[str, list[int]]]:
    """Rows of each label in each split; none where there are very many labels."""
    counts = document["splits"].get("labels", {})
    if len(counts) > MAX_LABELS:
        return []
    return [(label, [count[split] for split in ("train", "validation", "test")]) for label, count in counts.items()]


# --------------------------------------------------------------------------------------------------------------- plots


def _bars(axes: Any, histogram: Document, colour: str) -> None:
    edges = np.array(histogram["edges"])
    axes.bar(edges[:-1], histogram["counts"], width=np.diff(edges) * 0.92, align="edge", color=colour, alpha=0.55)
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)


def _histogram(name: str, document: Document) -> str:
    """How many texts have how many tokens, with what the usual max_length would cut."""
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
                place = {"xytext": (3, -2), "textcoords": "offset points", "va": "top", "fontsize": 7.5}
                axes.annotate(label, (int(step), axes.get_ylim()[1]), color=MUTED, gid=plots.HALO, **place)

    return plots.draw(5.4, 2.7, f"lengths-{name}", f"Lengths of {name}", paint)


def _cuts(document: Document) -> str:
    """The share of texts that are cut, over max_length."""
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


def _numbers(targets: Document) -> str | None:
    """The histogram of a regression's targets; None where there are no numbers."""
    if "numbers" not in targets:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        _bars(axes, targets["histogram"], FIRST)
        axes.axvline(targets["numbers"]["median"], color=SECOND, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlabel("target (the dashed line is the median)")
        axes.set_ylabel("rows")

    return plots.draw(5.4, 2.7, "numbers", "Histogram of the targets", paint)
