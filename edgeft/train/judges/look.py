"""A closer look at predictions: the headline metrics with intervals, and the lead on parts of the rows."""

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

CHARACTERS_OF_WORD = 20  # on average, from which on a language writes without spaces
Plain = dict[str, Any]


def intervals_and_slices(judge: Judge, predictions: Any, split: Split, resamples: int, seed: int) -> Plain:
    """`intervals`, measure to `value`, `low` and `high`, the lead first; `slices`, see `sliced`.

    Args:
        judge: of the predictions.
        predictions: of the split.
        split: the rows.
        resamples: draws behind each interval.
        seed: of the draws.
    """
    measures = judge.measures(predictions, split)
    return {
        "intervals": {
            name: _plain(interval(measure, len(split), resamples, seed, share=is_share(name)))
            for name, measure in measures.items()
        },
        "slices": sliced(judge, measures[judge.lead], split, resamples, seed),
    }


def _plain(found: Interval | None) -> dict[str, float | None]:
    return {"value": None, "low": None, "high": None} if found is None else dataclasses.asdict(found)


def sliced(judge: Judge, measure: Measure, split: Split, resamples: int, seed: int) -> Plain:
    """The lead metric on parts of the rows.

    Returns:
        `metric`, its name; `unit` of the lengths; `by_length`, `by_label` (one label a row only) and, for each of the
        rows' own columns, `by_column`: name of the slice to `rows`, `value`, `low`, `high` (None where the metric is
        undefined) and `small`, whether there are too few rows to tell much.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "share": is_share(judge.lead)}
    lengths, unit = lengths_of(judge.dataset.kind, split)
    found: Plain = {
        "metric": judge.lead,
        "unit": unit,
        "by_length": _of(slices.by_length(lengths, measure, **options)),
    }
    if judge.dataset.form.has_one_label:
        names = [judge.dataset.labels[label] for label in split.labels]
        found["by_label"] = _of(slices.by_value(names, measure, **options))
    columns = {name: _of(slices.by_value(values, measure, **options)) for name, values in split.slices.items()}
    return found | ({"by_column": columns} if columns else {})


def _of(found: Sequence[Slice]) -> dict[str, Plain]:
    return {part.name: {"rows": part.rows, **_plain(part.figure), "small": part.small} for part in found}


def lengths_of(kind: str, split: Split) -> tuple[list[int], str]:
    """(n,) lengths of the inputs, and their unit: words, or characters where no spaces stand between words."""
    texts = stored_kind(kind).inputs(split.columns)
    words, characters = [len(text.split()) for text in texts], [len(text) for text in texts]
    if sum(characters) > CHARACTERS_OF_WORD * sum(words):
        return characters, "characters"
    return words, "words"
