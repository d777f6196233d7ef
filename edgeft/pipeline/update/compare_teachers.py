"""Stage `update`: compare the teacher before and after an update, on earlier and new test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.dataset import Dataset, Split
from edgeft.data.dataset import load as load_dataset
from edgeft.data.formats import stored_kind
from edgeft.data.merge import earlier_rows
from edgeft.errors import DataError, GateError
from edgeft.files import write_json
from edgeft.keys import TRAINING
from edgeft.models import devices, model_folder
from edgeft.pipeline.update.update_recipe import MAX_OLD_DROP_POINTS
from edgeft.progress import say
from edgeft.recipe import TrainingConfig, UpdateConfig
from edgeft.stage import Work, stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import tasks
from edgeft.train.forgetting import EWC_WEIGHT, REHEARSAL_FRACTION
from edgeft.train.metrics import bootstrap
from edgeft.train.metrics.bootstrap import LEVEL, Measure
from edgeft.train.metrics.slices import MISSING, MOST
from edgeft.train.tasks import TrainingTask

OLD, NEW = "earlier rows", "new rows"
FIGURES = "update.json"

IndexArray = npt.NDArray[np.int64]
Table = dict[str, dict[str, Any]]


def fill(config: UpdateConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Compare the updated teacher with the earlier one.

    Args:
        config: the largest allowed drop.
        inputs: `data` (a dataset folder of an update), `earlier` and `model` (model folders).
        out_dir: gets update.json.

    Returns:
        See `judge_update`.

    Raises:
        GateError: too much was forgotten.
    """
    dataset, count = old_and_new(inputs["data"])
    folders = [inputs[name] for name in ("earlier", "model")]
    # Perplexities are comparable only on equally truncated texts; other models truncate as they will in use.
    longest = min(model_folder.load_tokenizer(folder).model_max_length for folder in folders)
    cut = longest if tasks.task_class(dataset.kind).packs else None
    measures = [measure_of(folder, dataset, cut) for folder in folders]
    return judge_update(config, dataset, count, measures[0], measures[1], out_dir, "teacher")


def old_and_new(folder: Path) -> tuple[Dataset, int]:
    """The dataset, and the number of its test rows that are earlier ones.

    Raises:
        DataError: it is not the data folder of an update.
    """
    counts = earlier_rows(folder)
    if counts is None:
        raise DataError(f"{folder}: not the data folder of an update, so there are no earlier rows to compare on")
    return load_dataset(folder), counts["test"]


def measure_of(folder: Path, dataset: Dataset, max_length: int | None) -> Measure:
    """The lead metric of a model folder on the test rows, row by row; None: with its own `max_length`."""
    tokenizer = model_folder.load_tokenizer(folder)
    task = task_of(dataset, tokenizer, max_length or tokenizer.model_max_length)
    device, _ = devices.choose_device("auto")
    model = model_folder.load(folder, task.head(dataset.labels), device=device)
    return task.measures(task.predict(model, task.items(dataset.test)), dataset.test)[task.lead]


def task_of(dataset: Dataset, tokenizer: Any = None, max_length: int = 0) -> TrainingTask:
    """The task of the rows; without a tokenizer it can only score predictions."""
    return tasks.create_task(dataset, tokenizer, max_length, TrainingConfig())


# ------------------------------------------------------------------------------------------------------------- judging


def judge_update(
    config: UpdateConfig, dataset: Dataset, count: int, before: Measure, after: Measure, out_dir: Path, what: str
) -> Metrics:
    """Compare the metrics before and after, write update.json, and refuse the update if too much was forgotten.

    Args:
        config: the largest allowed drop.
        dataset: its test rows, the earlier ones first.
        count: how many of them are earlier ones.
        before: lead metric row by row, of the earlier model.
        after: of the updated one.
        out_dir: gets update.json.
        what: name of the model in messages.

    Returns:
        `metric`, `max_old_drop_points`, and `rows`: part of the test rows -> its metrics, see `compare_parts`.

    Raises:
        GateError: on some judged part, even the lower end of the loss's interval exceeds the budget.
    """
    lead, drop = tasks.task_class(dataset.kind).lead_of(dataset.labels), config.max_old_drop_points
    budget = MAX_OLD_DROP_POINTS if drop is None else drop
    table = compare_parts(dataset, count, before, after, budget)
    metrics = {"metric": lead, "max_old_drop_points": budget, "rows": table}
    write_json(out_dir / FIGURES, metrics)
    problems = describe_losses(table, budget)
    for line in describe_unproved(table, budget):
        say(f"update: {lead} of the {what} on {line}")
    if problems:
        for name, figures in table.items():
            pair = (figures["before"], figures["after"])
            before_after = " -> ".join(f"{figure:.4f}" for figure in pair if figure is not None)
            say(f"update: {lead} of the {what} on {name} ({figures['rows']:,}): {before_after}")
        raise GateError(
            f"update: {lead} of the {what} on {'; on '.join(problems)}; at most {budget:g} points may be lost, so "
            f"nothing ships: raise finetune.rehearsal_fraction (unset: {REHEARSAL_FRACTION:g}) or finetune.ewc_weight "
            f"(unset: {EWC_WEIGHT:g}), or allow more (--budget-drop)"
        )
    return metrics


def compare_parts(dataset: Dataset, count: int, before: Measure, after: Measure, budget: float = 0.0) -> Table:
    """The metric before and after, on the earlier rows, the new ones, and parts of the earlier ones.

    Returns:
        Part -> `rows`, the metric `before` and `after`, `change_points`, `judged` (whether a loss there can refuse the
        update), and, if each row is right or wrong, `answers_lost`, net. If a judged part lost more than the budget,
        also `level` and `least_loss_points`: the lower end of its paired interval.
    """
    table, points = {}, tasks.task_class(dataset.kind).gain_in_points
    indices_of = index_parts(dataset, count)
    of_slices = slice_level(sum(name not in (OLD, NEW) for name in indices_of))
    for name, indices in indices_of.items():
        level = LEVEL if name == OLD else of_slices
        old, new = bootstrap.value(before, indices), bootstrap.value(after, indices)
        change = None if old is None or new is None else points(old, new)
        judged = name != NEW and len(indices) >= fewest_rows(level)
        figures = {"rows": len(indices), "before": old, "after": new, "change_points": change, "judged": judged}
        if (lost := answers_lost(before, after, indices)) is not None:
            figures["answers_lost"] = lost
        if judged and exceeds(change, budget):
            figures |= {"level": level, "least_loss_points": least_loss(before, after, indices, points, level)}
        table[name] = figures
    return table


def slice_level(count: int) -> float:
    """The confidence level for one of `count` slices, so that all intervals hold together at `LEVEL` (Bonferroni).

    With thirty slices at 95% each, a harmless update would often exceed the budget on one of them by chance.
    """
    return 1 - (1 - LEVEL) / max(count, 1)


def fewest_rows(level: float) -> int:
    """The fewest rows for which a part is judged: 6 at 95%.

    A harmless update makes answers better and worse equally often, so all of n changes are for the worse with
    probability 0.5**n. As long as this exceeds (1 - level) / 2, a part proves nothing even if every answer is lost.
    """
    return math.ceil(math.log2(2 / (1 - level)) - 1e-9)


def least_loss(
    before: Measure, after: Measure, indices: IndexArray, points: Callable[[float, float], float], level: float
) -> float | None:
    """The lower end of the loss's bootstrap interval [points]; both models are resampled on the same rows."""
    if not callable(before) and not callable(after):
        # The points of a mean are linear, so the loss of a resample is the mean of its rows' losses.
        worse = -points(0, 1) * (np.asarray(after, np.float64) - np.asarray(before, np.float64))
        ends = bootstrap.interval(worse, indices, level=level)
        return ends.low if ends else None

    def loss(rows: IndexArray) -> float | None:
        old, new = bootstrap.value(before, rows), bootstrap.value(after, rows)
        return None if old is None or new is None else -points(old, new)

    ends = bootstrap.interval(loss, indices, level=level)
    return ends.low if ends else None


def answers_lost(before: Measure, after: Measure, indices: IndexArray) -> int | None:
    """Right answers before minus those after; None if rows aren't simply right or wrong."""
    if callable(before) or callable(after):
        return None
    pair = np.stack((before[indices], after[indices])).astype(np.float64)  # (2, m)
    return int(pair[0].sum() - pair[1].sum()) if np.isin(pair, (0.0, 1.0)).all() else None


def exceeds(change_points: float | None, budget: float) -> bool:
    """Whether a change is a loss of more than the budget; an equal loss isn't."""
    return change_points is not None and -change_points > budget + 1e-9


def index_parts(dataset: Dataset, count: int) -> dict[str, IndexArray]:
    """Part name -> indices of its test rows; parts without rows are omitted."""
    everything = np.arange(len(dataset.test))
    parts = {OLD: everything[:count], NEW: everything[count:], **index_slices(dataset, count)}
    return {name: indices for name, indices in parts.items() if len(indices)}


def index_slices(dataset: Dataset, count: int) -> dict[str, IndexArray]:
    """Indices of the earlier test rows of each label (a row can have several) and of each value of a slice column."""
    split = first_rows(dataset.test, count)
    labels = stored_kind(dataset.kind).labels_of(split.columns) or ()
    slices = index_values([set(row) for row in labels], len(dataset.labels))
    for column, values in getattr(split, "slices", {}).items():
        named = index_values([{MISSING if value is None else str(value)} for value in values])
        slices |= {f"{column} {value}": indices for value, indices in named.items()}
    return {f"{OLD}, {name}": indices for name, indices in slices.items()}


def index_values(rows: Sequence[Set[str]], most: int = MOST) -> dict[str, IndexArray]:
    """Each of the most frequent values -> indices of the rows that have it."""
    rows_of: dict[str, list[int]] = {}
    for row, values in enumerate(rows):
        for value in values:
            rows_of.setdefault(value, []).append(row)
    frequent = sorted(rows_of, key=lambda value: (-len(rows_of[value]), value))[:most]
    return {value: np.array(rows_of[value], dtype=np.int64) for value in frequent}


def first_rows(split: Split, count: int) -> Split:
    """The first rows of a split."""
    return split.take(range(count))


def describe_losses(table: Mapping[str, Mapping[str, Any]], budget: float) -> list[str]:
    """The parts that certainly lost more than the budget, each in words."""
    return [
        f"{name} ({figures['rows']:,}) {describe_fall(figures)}, "
        f"and by at least {figures['least_loss_points']:.1f} points in its {100 * figures['level']:.3g}% interval"
        for name, figures in table.items()
        if lost_for_sure(figures, budget)
    ]


def lost_for_sure(figures: Mapping[str, Any], budget: float) -> bool:
    """Whether even the lower end of the loss's interval exceeds the budget."""
    least = figures.get("least_loss_points")
    return least is not None and exceeds(-least, budget)


def describe_fall(figures: Mapping[str, Any]) -> str:
    """A loss in words, as in "fell from 0.6875 to 0.6562, by 1 of 32 answers (3.1 points)"."""
    points = f"{-figures['change_points']:.1f} points"
    lost = figures.get("answers_lost")
    amount = points if lost is None else f"{lost:,} of {figures['rows']:,} answers ({points})"
    return f"fell from {figures['before']:.4f} to {figures['after']:.4f}, by {amount}"


def describe_unproved(table: Mapping[str, Mapping[str, Any]], budget: float) -> list[str]:
    """The earlier parts that lost more than the budget but don't refuse the update, each in words with the reason."""
    return [
        f"{name} {describe_fall(figures)}: {'may be chance' if figures['judged'] else 'too few rows to judge'}"
        for name, figures in table.items()
        if name != NEW and exceeds(figures["change_points"], budget) and not lost_for_sure(figures, budget)
    ]


def rows_s(work: Work) -> float | None:
    """Seconds in which both teachers answer every row."""
    return None if work.layer_s is None else 2 * work.evaluated_rows * work.teacher_layers * work.layer_s


run = stage(
    "update",
    libraries=TRAINING,
    reads=lambda recipe: {"data": "data", "model": "teacher"},
    wanted=lambda recipe: recipe.update.run is not None,
    named_files=lambda recipe: {"earlier": Path(recipe.update.run or "") / "finetune"},
    is_shared=True,
    fixed_s=5,
    rows_s=rows_s,
)(fill)
