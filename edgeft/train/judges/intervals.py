"""Headline metrics with confidence intervals, and the lead metric on slices of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgeft.data.dataset import Split
from edgeft.data.formats import stored_kind
from edgeft.report.facts import is_share
from edgeft.train.judges.base import Judge
from edgeft.train.metrics import slices
from edgeft.train.metrics.bootstrap import Interval, Measure, interval
from edgeft.train.metrics.slices import Slice

CHARACTERS_OF_WORD = 20  # with more characters a word on average, the language is taken to be written without spaces
Plain = dict[str, Any]


def intervals_and_slices(judge: Judge, predictions: Any, split: Split, resamples: int, seed: int) -> Plain:
    """`intervals`: measure -> `value`, `low` and `high`, the lead first; `slices`: see `slice_lead_metric`.

    Args:
        judge: of the task.
        predictions: of the split.
        split: the rows.
        resamples: of the bootstrap, for each interval.
        seed: of the bootstrap.
    """
    measures = judge.measures(predictions, split)
    return {
        "intervals": {
            name: _interval_fields(interval(measure, len(split), resamples, seed, share=is_share(name)))
            for name, measure in measures.items()
        },
        "slices": slice_lead_metric(judge, measures[judge.lead], split, resamples, seed),
    }


def _interval_fields(measured: Interval | None) -> dict[str, float | None]:
    return {"value": None, "low": None, "high": None} if measured is None else dataclasses.asdict(measured)


def slice_lead_metric(judge: Judge, measure: Measure, split: Split, resamples: int, seed: int) -> Plain:
    """The lead metric on slices of the rows.

    Returns:
        `metric`, its name; `unit` of the lengths; `by_length`; `by_label`, if a row has one label; `by_column`, if the
        split has slice columns. Each maps the name of a slice to `rows`, `value`, `low`, `high` (None if the metric is
        undefined) and `small`, whether the slice has too few rows to say much.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "share": is_share(judge.lead)}
    lengths, unit = measure_lengths(judge.dataset.kind, split)
    result: Plain = {
        "metric": judge.lead,
        "unit": unit,
        "by_length": _slices_by_name(slices.by_length(lengths, measure, **options)),
    }
    if judge.dataset.form.has_one_label:
        names = [judge.dataset.labels[label] for label in split.labels]
        result["by_label"] = _slices_by_name(slices.by_value(names, measure, **options))
    columns = {
        name: _slices_by_name(slices.by_value(values, measure, **options)) for name, values in split.slices.items()
    }
    return result | ({"by_column": columns} if columns else {})


def _slices_by_name(parts: Sequence[Slice]) -> dict[str, Plain]:
    return {part.name: {"rows": part.rows, **_interval_fields(part.figure), "small": part.small} for part in parts}


def measure_lengths(kind: str, split: Split) -> tuple[list[int], str]:
    """(n,) lengths of the inputs and their unit: words, or characters in languages written without spaces."""
    texts = stored_kind(kind).inputs(split.columns)
    words, characters = [len(text.split()) for text in texts], [len(text) for text in texts]
    if sum(characters) > CHARACTERS_OF_WORD * sum(words):
        return characters, "characters"
    return words, "words"
