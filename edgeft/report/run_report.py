"""The report: everything that decides whether to ship, in one HTML file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.artifact import Selective
from edgeft.report import facts, page, plots, race_text, scores, slice_sections

PURPOSE = "to write the report"
TEMPLATE = "report.html"
BINS = 15
MATRIX_LABELS = 24  # with more labels the most frequent confusions are listed instead
CONFUSIONS = 20
TEXT_CHARACTERS = 600
TEACHERS = ("merged", "finetune", "teacher")
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One stage in the gate table; None where something was not measured.

    Attributes:
        stage: its name, as in `int8 graph`.
        lead: the lead metric on the validation split.
        second: the metric beside it, likewise.
        agreement: share of the answers that equal those of the stage before.
        changed: share that differ, 1 - agreement.
        bytes: size of the model.
        latency_ms: median of one text.
        note: what was decided, and why.
    """

    stage: str
    lead: float | None = None
    second: float | None = None
    agreement: float | None = None
    changed: float | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """All that the report shows.

    Attributes:
        title: heading of the page.
        task: the task's tag.
        labels: in the order of the probabilities' columns.
        recipe_yaml: the resolved recipe.
        gates: the stages in their order, the artifact last.
        lead_metric: the metric that the gates check.
        second_metric: shown beside it.
        test_texts: texts of the test split, (n,); none where they are not to be quoted.
        test_rows: row of each in the labelled file, (n,).
        test_labels: true columns, (n,); None where a row has not one label.
        forms: name to probabilities (n, labels) of each form of the model before calibration, in the run's order.
        probabilities: of the artifact as it ships, else of the trained model, (n, labels).
        curves: stage -> rows with `step` and any of `loss`, `validation_loss`, `validation_<metric>`.
        bench: what `measure` returned, and `against_teacher` with `teacher`, `artifact` and `ratio`.
        calibration: what the calibration stage found.
        parity: what the parity check found.
        budget: one line for each limit that the artifact holds, with what was measured.
        versions: of the libraries.
        data: rows of each split, labels, duplicates and what else the data stage counted.
        metrics: of baseline, teacher, student and artifact, all on the test split; may be empty.
        mistakes: how many of the most confident mistakes are shown.
        scrutiny: `teacher`, and `artifact`, to intervals, slices and counterfactual swaps on the test split.
        flips: examples of answers that change with an identity term.
        shipped: whether there is an artifact; else the report is about the trained model.
        rungs: precisions that were tried, as of `edgeft.export.quantize.precision_search`.
        precision: the one that ships.
        update: of an update, teacher and artifact to `metric`, `max_old_drop_points` and `rows` before and after.
    """

    title: str
    task: str
    labels: list[str]
    recipe_yaml: str
    gates: list[GateRow]
    lead_metric: str
    second_metric: str | None = "macro_f1"
    test_texts: list[str] = field(default_factory=list)
    test_rows: list[int] = field(default_factory=list)
    test_labels: NDArray[np.integer] | None = None
    forms: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    probabilities: NDArray[np.floating] | None = None
    curves: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    budget: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mistakes: int = 20
    scrutiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    flips: Sequence[Mapping[str, Any]] = ()
    shipped: bool = True
    rungs: Sequence[Mapping[str, Any]] = ()
    precision: str = ""
    update: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One of the figures at the top."""

    name: str
    value: str
    notes: list[str]


@dataclass(frozen=True)
class Answered:
    """The test rows where each has one label and an answer.

    Attributes:
        labels: true columns, (n,).
        after: probabilities as they ship, (n, labels).
    """

    labels: NDArray[np.integer]
    after: NDArray[np.floating]

    @classmethod
    def of(cls, inputs: ReportInputs) -> Answered | None:
        """None where there are no such rows."""
        if inputs.test_labels is None or inputs.probabilities is None or not len(inputs.test_labels):
            return None
        return cls(inputs.test_labels, inputs.probabilities)


def render(inputs: ReportInputs) -> str:
    """The report as one self-contained HTML document; equal inputs give equal bytes.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    html_template = page.template(
        TEMPLATE, PURPOSE, percent=facts.percent, size=facts.size, ms=facts.milliseconds, integer=facts.integer
    )
    return str(html_template.render(inputs=inputs, **_context(inputs)))


def _context(inputs: ReportInputs) -> dict[str, Any]:
    answered = Answered.of(inputs)
    return {
        "headlines": headlines(inputs),
        "figure": facts.figure,
        "lead_name": facts.name(inputs.lead_metric),
        "second_name": facts.name(inputs.second_metric or ""),
        "one_label": inputs.test_labels is not None,
        **slice_sections.context(inputs.scrutiny, inputs.flips),
        "gates_plot": plots.accuracy_latency(inputs.gates, inputs.lead_metric),
        "reliability": _reliability(answered, inputs.forms) if answered and inputs.forms else [],
        "confusion": _confusion(answered, inputs.labels) if answered else None,
        "curves": _curves(inputs),
        "mistakes": _mistakes(answered, inputs) if answered else [],
        "wrong": int((answered.after.argmax(axis=1) != answered.labels).sum()) if answered else 0,
        "data_blocks": facts.blocks(inputs.data, overview="checks", verbatim=frozenset(inputs.labels)),
        "bench_blocks": _bench_blocks(inputs.bench),
        "noise": race_text.describe_noise(inputs.bench.get("race", {})),
        "raced": bool(inputs.bench.get("race")),
        "calibration_blocks": _calibration_blocks(inputs.calibration),
        "abstains": Selective(**selective).line if (selective := inputs.calibration.get("selective")) else "",
        "parity_blocks": facts.blocks(inputs.parity, "parity"),
        "update_blocks": _update_blocks(inputs.update),
        "version_blocks": facts.blocks({"versions": inputs.versions}),
    }


# ----------------------------------------------------------------------------------------------------------- headlines


def headlines(inputs: ReportInputs) -> list[Headline]:
    """Quality, size, latency and speed-up, each with what it stands against; without an artifact what there is."""
    if not inputs.shipped and not inputs.gates:
        return []
    if not inputs.shipped:
        return [_quality(inputs), *_second(inputs), _size(inputs), _latency(inputs)]
    return [_quality(inputs), _size(inputs), _latency(inputs), _speedup(inputs)]


def _gate(inputs: ReportInputs, names: Sequence[str]) -> GateRow | None:
    return next((gate for name in names for gate in inputs.gates if gate.stage == name), None)


def _reported_gate(inputs: ReportInputs) -> GateRow | None:
    """What the headlines are about: the artifact, and the trained model where there is none."""
    if not inputs.shipped and (teacher := _gate(inputs, TEACHERS)):
        return teacher
    return _gate(inputs, ["artifact"]) or (inputs.gates[-1] if inputs.gates else None)


def _quality(inputs: ReportInputs) -> Headline:
    """On the test split where the others were measured there too, else on the gates' own split."""
    metric, own_name = inputs.lead_metric, "artifact" if inputs.shipped else "teacher"
    tested = {name: metrics[metric] for name, metrics in inputs.metrics.items() if metrics.get(metric) is not None}
    if own_name in tested:
        names = [name for name in ("teacher", BASELINE) if name in tested and name != own_name]
        others = [f"{name} {facts.figure(metric, tested[name])}" for name in names]
        return Headline(
            name=f"{facts.name(metric)}, test split",
            value=facts.figure(metric, tested[own_name]),
            notes=[", ".join(others), *_interval(inputs, metric), *_texts(inputs)],
        )
    gates = {"teacher": _gate(inputs, TEACHERS), BASELINE: _gate(inputs, [BASELINE])}
    others = [f"{name} {facts.figure(metric, gate.lead)}" for name, gate in gates.items() if gate]
    artifact = _reported_gate(inputs)
    return Headline(
        name=f"{facts.name(metric)}, validation split",
        value=facts.figure(metric, artifact.lead if artifact else None),
        notes=[", ".join(others)],
    )


def _second(inputs: ReportInputs) -> list[Headline]:
    """The metric beside the lead, on the test split."""
    metric, metrics = inputs.second_metric, inputs.metrics.get("teacher", {})
    if metric is None or metrics.get(metric) is None:
        return []
    name, value = f"{facts.name(metric)}, test split", facts.figure(metric, metrics[metric])
    return [Headline(name=name, value=value, notes=_interval(inputs, metric))]


def _interval(inputs: ReportInputs, metric: str) -> list[str]:
    """The bootstrap's interval; without one, that of a share of right answers."""
    intervals = inputs.scrutiny.get("artifact" if inputs.shipped else "teacher", {}).get("intervals", {}).get(metric)
    if intervals is not None and intervals["value"] is not None:
        return [f"95% interval {facts.interval(metric, intervals['low'], intervals['high'])}"]
    answered = Answered.of(inputs)
    if metric != "accuracy" or answered is None:
        return []
    right = int((answered.after.argmax(axis=1) == answered.labels).sum())
    return [f"95% interval {facts.interval(metric, *scores.wilson_interval(right, len(answered.labels)))}"]


def _texts(inputs: ReportInputs) -> list[str]:
    return [f"{facts.integer(len(inputs.test_rows))} texts"] if inputs.test_rows else []


def _size(inputs: ReportInputs) -> Headline:
    artifact, teacher = _reported_gate(inputs), _gate(inputs, TEACHERS)
    count = inputs.bench.get("size", {}).get("device_bytes") or (artifact.bytes if artifact else None)
    notes = ["graph and tokenizer"] if inputs.bench.get("size") else []
    if teacher and teacher is not artifact and teacher.bytes and count:
        notes = [f"teacher {facts.size(teacher.bytes)}, {_times(teacher.bytes / count)} as large", *notes]
    return Headline(name="size", value=facts.size(count), notes=notes)


def _times(factor: float) -> str:
    return f"{factor:.0f} times" if factor >= 20 else f"{factor:.1f} times"


def _latency(inputs: ReportInputs) -> Headline:
    latency, artifact = inputs.bench.get("latency"), _reported_gate(inputs)
    if not latency:
        return Headline(
            name="latency, p50", value=facts.milliseconds(artifact.latency_ms if artifact else None), notes=[]
        )
    threads = inputs.bench.get("threads", 1)
    return Headline(
        name="latency, p50",
        value=facts.milliseconds(latency["p50_ms"]),
        notes=[
            f"p99 {facts.milliseconds(latency['p99_ms'])}, {threads} thread{'s' if threads > 1 else ''}",
            "one text, tokenization counted",
        ],
    )


def _speedup(inputs: ReportInputs) -> Headline:
    race = inputs.bench.get("against_teacher")
    if not race:
        return Headline(name="speed-up", value=facts.MISSING, notes=["the teacher was not raced"])
    ratio = _plain(race["ratio"])
    teacher = facts.milliseconds(_plain(race["teacher"])["p50_ms"])
    interval = f"95% interval {ratio['low']:.1f} to {ratio['high']:.1f}"
    if ratio.get("margin", 1) > 1:
        interval += f", widened by {ratio['margin'] - 1:.0%} at each end for noise"
    if ratio["low"] <= 1:  # a tile is read alone, so it says what is not reported
        notes = [f"{ratio['median']:.1f} times, {interval}", f"teacher {teacher}, same race, in turns"]
        return Headline(name="speed-up", value="none reported", notes=notes)
    return Headline(
        name="speed-up",
        value=f"{ratio['median']:.1f}×",
        notes=[interval, f"teacher {teacher}, same race, in turns"],
    )


def _plain(figures: Any) -> dict[str, Any]:
    """A `Latency` or `Ratio` as plain values, a mapping as it is."""
    return figures.as_dict() if hasattr(figures, "as_dict") else dict(figures)


# ------------------------------------------------------------------------------------------------------------ sections


def _reliability(answered: Answered, forms: Mapping[str, NDArray[np.floating]]) -> list[dict[str, Any]]:
    """The figures and the diagram of each form and of what ships."""
    labels, sides = answered.labels, {**forms, plots.AFTER: answered.after}
    binned = {name: scores.bins(probabilities, labels, BINS) for name, probabilities in sides.items()}
    low = min(float(bins.edges[np.flatnonzero(bins.counts)[0]]) for bins in binned.values())
    return [
        {
            "name": name,
            "plot": plots.reliability(binned[name], name, low),
            "calibration_error": binned[name].calibration_error,
            "by_chance": scores.chance_error(probabilities, BINS),
            "negative_log_likelihood": scores.negative_log_likelihood(probabilities, labels),
            "brier": scores.brier(probabilities, labels),
        }
        for name, probabilities in sides.items()
    ]


def _confusion(answered: Answered, names: Sequence[str]) -> dict[str, Any]:
    counts = scores.confusion(answered.after, answered.labels)  # (L, L)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    return {
        "matrix": len(names) <= MATRIX_LABELS,
        "rows": [
            {
                "label": label,
                "total": int(totals[i]),
                "recall": float(shares[i, i]) if totals[i] else math.nan,
                "cells": [(int(counts[i, j]), float(shares[i, j]), i == j) for j in range(len(names))],
            }
            for i, label in enumerate(names)
        ],
        "pairs": _frequent(counts, names),
    }


def _frequent(counts: NDArray[np.int64], labels: Sequence[str]) -> list[tuple[str, str, int]]:
    """The most frequent confusions: true label, predicted label, how often."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [np.unravel_index(index, off.shape) for index in order]
    return [(labels[i], labels[j], int(off[i, j])) for i, j in pairs if off[i, j]]


def _curves(inputs: ReportInputs) -> list[tuple[str, str]]:
    drawn = [(stage, plots.curves(stage, rows, inputs.lead_metric)) for stage, rows in inputs.curves.items()]
    return [(stage, plot) for stage, plot in drawn if plot]


def _mistakes(answered: Answered, inputs: ReportInputs) -> list[dict[str, Any]]:
    after, rows = answered.after, []
    for index in scores.mistakes(after, answered.labels, inputs.mistakes):
        true, predicted = int(answered.labels[index]), int(after[index].argmax())
        text = inputs.test_texts[index] if inputs.test_texts else ""
        rows.append(
            {
                "text": text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS] + " …",
                "row": inputs.test_rows[index],
                "true": inputs.labels[true],
                "predicted": inputs.labels[predicted],
                "score": float(after[index, predicted]),
                "true_score": float(after[index, true]),
            }
        )
    return rows


def _calibration_blocks(calibration: Mapping[str, Any]) -> list[facts.Block]:
    """Method and figures; the gate table and the diagrams show the rest."""
    elsewhere = ("answers", "cross_validation", "selective")
    return facts.blocks({key: value for key, value in calibration.items() if key not in elsewhere}, "calibration")


def _update_blocks(update: Mapping[str, Mapping[str, Any]]) -> list[facts.Block]:
    """Earlier and new test rows before and after, a table for each form of the model."""
    return [facts.table(f"{change['metric']} of the {what}", change["rows"]) for what, change in update.items()]


def _bench_blocks(bench: Mapping[str, Any]) -> list[facts.Block]:
    """The race first, then what else was measured; bookkeeping left out."""
    elsewhere = ("schema_version", "latency", "against_teacher", "race")
    rest = {key: value for key, value in bench.items() if key not in elsewhere}
    rows = {name: dict(figures) for name, figures in bench.get("race", {}).get("forms", {}).items()}
    if "latency" in bench:  # a p99 of the artifact alone: the other forms were asked too few texts for one
        figures = {key: value for key, value in _plain(bench["latency"]).items() if key != "intervals_ms"}
        rows = {"artifact": figures} | {name: row for name, row in rows.items() if name != "artifact"}
    if "race" not in bench:  # a race of two, artifact against teacher
        against = bench.get("against_teacher") or {}
        rows |= {f"in turns: {name}": _plain(against[name]) for name in ("artifact", "teacher") if name in against}
    latency = [facts.table("latency of one text, all forms in turns in one race", rows)] if rows else []
    return latency + facts.blocks(rest, overview="run")
