"""Stage `update`: what the teacher answered on earlier and on new test rows before it learned more, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft import models
from edgeft.data.dataset import Dataset, Split
from edgeft.data.dataset import load as load_dataset
from edgeft.data.kinds import NAMED
from edgeft.data.merge import earlier_rows
from edgeft.errors import DataError, GateError
from edgeft.files import write_json
from edgeft.keys import TRAINING
from edgeft.pipeline.update import MAX_OLD_DROP_POINTS
from edgeft.progress import say
from edgeft.recipe import DataConfig, TrainingConfig, UpdateConfig
from edgeft.stage import Inputs, Metrics, stage
from edgeft.train import tasks
from edgeft.train.forgetting import EWC_WEIGHT, REHEARSAL_FRACTION
from edgeft.train.metrics import bootstrap
from edgeft.train.metrics.bootstrap import Measure
from edgeft.train.metrics.slices import MISSING, MOST, SMALL
from edgeft.train.tasks import TrainingTask

OLD, NEW = "earlier rows", "new rows"
FIGURES = "update.json"

Places = npt.NDArray[np.int64]
Table = dict[str, dict[str, Any]]


@stage("update", libraries=TRAINING)
def run(config: UpdateConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Compare the teacher with the one that it was.

    Args:
        config: how much may be lost.
        inputs: `data` (a dataset folder of an update), `earlier` and `model` (model folders).
        out_dir: gets update.json.

    Returns:
        See `judged`.

    Raises:
        GateError: too much was forgotten.
    """
    dataset, count = old_and_new(inputs["data"])
    places = [inputs[name] for name in ("earlier", "model")]
    # A perplexity is of texts cut alike; every other model reads as much of a text as it will in use.
    longest = min(models.load_tokenizer(place).model_max_length for place in places)
    cut = longest if tasks.class_of(dataset.kind).packs else None
    measures = [measure_of(place, dataset, cut) for place in places]
    return judged(config, dataset, count, measures[0], measures[1], out_dir, "teacher")


def old_and_new(folder: Path) -> tuple[Dataset, int]:
    """The rows, and how many test rows are earlier ones.

    Raises:
        DataError: it is not the data folder of an update.
    """
    counts = earlier_rows(folder)
    if counts is None:
        raise DataError(f"{folder}: not the data folder of an update, so there are no earlier rows to compare on")
    return load_dataset(folder), counts["test"]


def measure_of(folder: Path, dataset: Dataset, max_length: int | None) -> Measure:
    """The lead metric of a model folder on the test rows, row by row; None: with its own `max_length`."""
    tokenizer = models.load_tokenizer(folder)
    task = task_of(dataset, tokenizer, max_length or tokenizer.model_max_length)
    device, _ = models.device("auto")
    model = models.load(folder, task.head(dataset.labels), device=device)
    return task.measures(task.predict(model, task.items(dataset.test)), dataset.test)[task.lead]


def task_of(dataset: Dataset, tokenizer: Any = None, max_length: int = 0) -> TrainingTask:
    """The task of the rows; without tokenizer it can only judge predictions."""
    return tasks.of(dataset, tokenizer, max_length, TrainingConfig())


# ------------------------------------------------------------------------------------------------------------- judging


def judged(
    config: UpdateConfig, dataset: Dataset, count: int, before: Measure, after: Measure, out_dir: Path, what: str
) -> Metrics:
    """The figures before and after, kept in update.json and refused where too much was forgotten.

    Args:
        config: how much may be lost.
        dataset: its test rows, the earlier ones first.
        count: how many of them are earlier ones.
        before: lead metric row by row, of the earlier model.
        after: of the updated one.
        out_dir: gets update.json.
        what: the model is called.

    Returns:
        `metric`, `max_old_drop_points`, and `rows`: part of the test rows to their number, the metric before and
        after, the change in points, and whether a fall there refuses the update.

    Raises:
        GateError: too much was forgotten.
    """
    lead, drop = tasks.class_of(dataset.kind).lead_of(dataset.labels), config.max_old_drop_points
    budget = MAX_OLD_DROP_POINTS if drop is None else drop
    table = compared(dataset, count, before, after)
    found = {"metric": lead, "max_old_drop_points": budget, "rows": table}
    write_json(out_dir / FIGURES, found)
    if problems := fallen(table, budget):
        for name, figures in table.items():
            before_after = " -> ".join(f"{one:.4f}" for one in (figures["before"], figures["after"]) if one is not None)
            say(f"update: {lead} of the {what} on {name} ({figures['rows']:,}): {before_after}")
        raise GateError(
            f"update: {lead} of the {what} on {'; on '.join(problems)}; at most {budget:g} points may be lost, so "
            f"nothing ships: raise finetune.rehearsal_fraction (unset: {REHEARSAL_FRACTION:g}) or finetune.ewc_weight "
            f"(unset: {EWC_WEIGHT:g}), or allow more (--budget-drop; "
            f"one answer of {SMALL} is {100 / SMALL:.0f} points)"
        )
    return found


def compared(dataset: Dataset, count: int, before: Measure, after: Measure) -> Table:
    """Before and after on the earlier rows, the new ones, and parts of the earlier ones."""
    table, points = {}, tasks.class_of(dataset.kind).points
    for name, places in parts(dataset, count).items():
        old, new = bootstrap.value(before, places), bootstrap.value(after, places)
        change = None if old is None or new is None else points(old, new)
        judged = name != NEW and len(places) >= SMALL
        table[name] = {"rows": len(places), "before": old, "after": new, "change_points": change, "judged": judged}
    return table


def parts(dataset: Dataset, count: int) -> dict[str, Places]:
    """Names to places of test rows; a part without rows is left out."""
    everything = np.arange(len(dataset.test))
    found = {OLD: everything[:count], NEW: everything[count:], **slices(dataset, count)}
    return {name: places for name, places in found.items() if len(places)}


def slices(dataset: Dataset, count: int) -> dict[str, Places]:
    """The earlier test rows of each label (a row of several counts for each), and of each value of a slice column."""
    split = first(dataset.test, count)
    labels = NAMED[dataset.kind](DataConfig()).labels_of(split.columns) or ()
    found = by_value([set(row) for row in labels], len(dataset.labels))
    for column, values in getattr(split, "slices", {}).items():
        named = by_value([{MISSING if value is None else str(value)} for value in values])
        found |= {f"{column} {value}": places for value, places in named.items()}
    return {f"{OLD}, {name}": places for name, places in found.items()}


def by_value(rows: Sequence[Set[str]], most: int = MOST) -> dict[str, Places]:
    """Each of the most frequent values to the places of the rows that have it."""
    places: dict[str, list[int]] = {}
    for row, values in enumerate(rows):
        for value in values:
            places.setdefault(value, []).append(row)
    kept = sorted(places, key=lambda value: (-len(places[value]), value))[:most]
    return {value: np.array(places[value], dtype=np.int64) for value in kept}


def first(split: Split, count: int) -> Split:
    """The first rows of a split."""
    return split.take(range(count))


def fallen(table: Mapping[str, Mapping[str, Any]], budget: float) -> list[str]:
    """The parts that count and fell by more than so many points, each as words."""
    return [
        f"{name} ({figures['rows']:,}) fell from {figures['before']:.4f} to {figures['after']:.4f}, "
        f"by {-figures['change_points']:.1f} points"
        for name, figures in table.items()
        if figures["judged"] and figures["change_points"] is not None and -figures["change_points"] > budget + 1e-9
    ]
