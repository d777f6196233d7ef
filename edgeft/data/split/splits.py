"""Splitting by content: a row's split depends on its text (or group, or time) alone, never on its position or file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeft.data.clean import checks, overlap
from edgeft.data.clean.content import CHOICE_SALT, SPLIT_SALT, Hashes, hashes, uniforms
from edgeft.data.clean.overlap import Removed
from edgeft.data.formats import BadRow
from edgeft.data.formats.rows import Rows, moment
from edgeft.data.read.table import some
from edgeft.errors import DataError
from edgeft.progress import say
from edgeft.recipe import DataConfig, name_option, spell_option

SplitName = Literal["train", "validation", "test"]
LEAKS = ("train_in_test", "train_in_validation", "validation_in_test")
LEAK = "leak:"  # prefix of the reason for a row that is also in a held-out split


@dataclass
class Parts:
    """The rows of each split.

    Attributes:
        labels: (L,) all names of labels or tags, sorted.
        train, validation, test: the rows.
        rest: training rows that `max_train_rows` cut off.
        removed: the removed rows, with reasons.
        begins: where validation and test begin, in the unit of the time column; empty without a time column.
    """

    labels: list[str]
    train: Rows
    validation: Rows
    test: Rows
    rest: Rows
    removed: Removed
    begins: dict[str, float] = field(default_factory=dict)

    def splits(self) -> dict[str, Rows]:
        """Test, validation and training rows, in the order of precedence."""
        return {"test": self.test, "validation": self.validation, "train": self.train}


# ------------------------------------------------------------------------------------------------- choosing some rows


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """How many rows to take of each label: proportional (largest remainder), at least one each.

    Args:
        counts: (L,) available rows of each label, each >= 1.
        total: how many to take, L <= total <= sum(counts).
    """
    exact = [count * total / sum(counts) for count in counts]
    taken = [max(1, int(share)) for share in exact]
    while sum(taken) < total:
        open_labels = [i for i in range(len(counts)) if taken[i] < counts[i]]
        taken[max(open_labels, key=lambda i: exact[i] - taken[i])] += 1
    while sum(taken) > total:
        taken[max((i for i in range(len(counts)) if taken[i] > 1), key=lambda i: taken[i] - exact[i])] -= 1
    return taken


def by_choice(rows: Rows) -> npt.NDArray[np.int64]:
    """(n,) indices of the rows in an order that depends on their content alone."""
    inputs = rows.inputs
    keys = hashes(inputs, CHOICE_SALT).tolist()
    return np.array(sorted(range(len(rows)), key=lambda i: (keys[i], inputs[i])), dtype=np.int64)


def choose(rows: Rows, limit: int | None, option: str) -> tuple[Rows, Rows]:
    """At most `limit` rows, stratified by label, those with the smallest hash; and the rest.

    Args:
        rows: what to choose from.
        limit: how many; None for all.
        option: the option that sets the limit.

    Raises:
        DataError: the limit is smaller than the number of labels.
    """
    if limit is None or len(rows) <= limit:
        return rows, rows.pick([])
    of_label: dict[str, list[int]] = {}
    strata = rows.columns.get("label") or [""] * len(rows)
    for index in by_choice(rows).tolist():
        of_label.setdefault(strata[index], []).append(index)
    if limit < len(of_label):
        too_few = f"{name_option(option)} {limit} is less than the {len(of_label)} labels"
        raise DataError(f"{too_few}; every label needs a row")
    names = sorted(of_label)
    chosen = np.zeros(len(rows), dtype=bool)
    for name, quota in zip(names, quotas([len(of_label[name]) for name in names], limit), strict=True):
        chosen[of_label[name][:quota]] = True
    return rows.pick(np.flatnonzero(chosen)), rows.pick(np.flatnonzero(~chosen))


# ------------------------------------------------------------------------------------------------------------ dividing


def assign(row_hashes: Hashes, validation_fraction: float, test_fraction: float) -> npt.NDArray[np.str_]:
    """(n,) the split of each hash.

    The test split takes the low end and validation the high end, so one fraction never affects the other split.
    """
    position = uniforms(row_hashes)
    held_out = np.where(position >= 1 - validation_fraction, "validation", "train")
    return np.where(position < test_fraction, "test", held_out)


def divide(rows: Rows, own_validation: Rows | None, own_test: Rows | None, config: DataConfig) -> Parts:
    """Split the rows, with the user's own validation and test rows if given.

    Rows that are also in the test split are removed from training and validation; those also in validation are removed
    from training.

    Raises:
        DataError: a label that training lacks, or all targets are equal.
    """
    checks.check_label_counts(rows)
    labels = checks.label_names(rows)
    for own_rows in (own_validation, own_test):
        if own_rows is not None:
            if own_rows.kind.name != rows.kind.name:
                checks.fail(own_rows.name, [f"{own_rows.kind.name} rows, but {rows.name} has {rows.kind.name} rows"])
            checks.labels_known(own_rows, labels)
    shares = (config.validation_fraction if own_validation is None else 0.0, _test_share(config, own_test))
    parts = split_by_sources(rows, labels, config, *shares)
    parts.test = parts.test if own_test is None else own_test
    parts.validation = parts.validation if own_validation is None else own_validation
    _take_out_leaks(parts)
    return parts


def split_by_sources(
    rows: Rows, labels: list[str], config: DataConfig, validation_fraction: float, test_fraction: float
) -> Parts:
    """Split the rows of one source.

    Args:
        rows: all rows.
        labels: (L,) all names of labels or tags, sorted.
        config: says whether the time column decides.
        validation_fraction: share of the validation rows.
        test_fraction: share of the test rows.
    """
    shares = (validation_fraction, test_fraction)
    names, begins = _by_time(rows, config, *shares) if config.time_column else (_by_content(rows, *shares), {})
    split = {name: rows.pick(np.flatnonzero(names == name)) for name in ("train", "validation", "test")}
    return Parts(labels, split["train"], split["validation"], split["test"], rows.pick([]), Removed(), begins)


def _test_share(config: DataConfig, own_test: Rows | None) -> float:
    return config.test_fraction if own_test is None else 0.0


def _by_content(rows: Rows, validation_fraction: float, test_fraction: float) -> npt.NDArray[np.str_]:
    """(n,) the split of each row, by its group if there are groups."""
    keys = rows.groups if rows.groups is not None else rows.kind.split_keys(rows.columns)
    return assign(hashes(keys, SPLIT_SALT), validation_fraction, test_fraction)


def _take_out_leaks(parts: Parts) -> None:
    """Remove leaks: test rows stay, then validation rows."""
    parts.validation = _without(parts.validation, parts.test, "validation_in_test", parts.removed)
    parts.train = _without(parts.train, parts.test, "train_in_test", parts.removed)
    parts.train = _without(parts.train, parts.validation, "train_in_validation", parts.removed)


def _without(rows: Rows, held_out: Rows, leak: str, removed: Removed) -> Rows:
    indices, twins = overlap.leaks(rows, held_out)
    removed.add(LEAK + leak, rows, indices, held_out, twins)
    return rows.without(indices)


def limit(parts: Parts, config: DataConfig) -> None:
    """Limit each split to the config's number of rows; the other training rows become `rest`.

    Raises:
        DataError: a limit is smaller than the number of labels.
    """
    parts.train, parts.rest = choose(parts.train, config.max_train_rows, "data.max_train_rows")
    parts.validation = choose(parts.validation, config.max_eval_rows, "data.max_eval_rows")[0]
    parts.test = choose(parts.test, config.max_eval_rows, "data.max_eval_rows")[0]


# ------------------------------------------------------------------------------------------------------------- by time


def _by_time(
    rows: Rows, config: DataConfig, validation_fraction: float, test_fraction: float
) -> tuple[npt.NDArray[np.str_], dict[str, float]]:
    """(n,) the split of each row by time, the latest rows being the test; and where validation and test begin."""
    times = rows.times
    assert times is not None
    test = _begin(rows, times, config.test_from, "data.test_from", test_fraction)
    before = times[times < test]
    if not len(before):
        checks.fail(rows.name, [f"no row lies before the test, which begins at {_time(test)}"])
    share = min(1.0, validation_fraction * len(times) / len(before))
    share = share if validation_fraction else 0.0
    validation = _begin(rows, before, config.validation_from, "data.validation_from", share)
    if validation >= test and validation_fraction and np.isfinite(test):
        first, second = name_option("data.validation_from"), name_option("data.test_from")
        raise DataError(f"{first} {_time(validation)} is not before {second} {_time(test)}")
    begins = {"validation": validation, "test": test}
    names = np.where(times >= validation, "validation", "train")
    return np.where(times >= test, "test", names), {name: begin for name, begin in begins.items() if np.isfinite(begin)}


def _begin(
    rows: Rows, times: npt.NDArray[np.float64], setting: str | float | None, option: str, fraction: float
) -> float:
    """Where a split begins: the recipe's time, else the time from which the latest rows make up its share."""
    if fraction == 0:
        return np.inf
    if setting is not None:
        try:
            value, is_date = moment(setting)
        except BadRow as error:
            raise DataError(f"{spell_option(option, setting)}: {error}") from None
        if is_date != rows.dates:
            is_a, has = ("a number", "dates") if rows.dates else ("a date", "numbers")
            raise DataError(f"{spell_option(option, setting)} is {is_a}, and the times of {rows.name} are {has}")
        return value
    begin = float(np.sort(times)[min(len(times) - 1, int(len(times) * (1 - fraction)))])
    split = option.removeprefix("data.").removesuffix("_from")
    say(f"data: {split} begins at {_time(begin)}; {name_option(option)} keeps it there")
    return begin


def _time(value: float) -> str:
    """A time as the recipe spells it: as a date if possible, else as a number."""
    if 1e8 < value < 1e11:
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


# ------------------------------------------------------------------------------------------------------------ checking


def check(parts: Parts, rows: int, name: str) -> None:
    """Refuse an empty split or a label without training rows; warn of labels that validation or test lacks.

    Args:
        parts: the split rows.
        rows: number of rows before splitting.
        name: of the source, for messages.

    Raises:
        DataError: says which split is empty, or which label has no training row.
    """
    for split, part, option in (
        ("training", parts.train, "smaller fractions"),
        ("validation", parts.validation, _larger("validation")),
        ("test", parts.test, _larger("test")),
    ):
        if not len(part):
            leaks = sum(parts.removed.count(LEAK + leak) for leak in LEAKS)
            taken = f" and taking out {leaks} that stand in your own validation or test file" if leaks else ""
            checks.fail(
                name, [f"the {split} split is empty after splitting {rows:,} rows{taken}; add rows, or set {option}"]
            )
    _check_labels(parts, name)


def _larger(split: str) -> str:
    """The options that give a split more rows."""
    return f"a larger {name_option(f'data.{split}_fraction')}, or a {name_option(f'data.{split}_file')}"


def _check_labels(parts: Parts, name: str) -> None:
    counts = {split: _label_counts(part) for split, part in parts.splits().items()}
    absent = missing_labels(parts.labels, counts["train"])
    if absent and parts.train.kind.form.labels_tokens:
        say(f"data: warning: no training row has the tag {some([checks.shown(tag) for tag in absent])}")
    elif absent:
        total = sum(counts.values(), Counter[str]())
        missing = some([f"{checks.shown(label)} ({total[label]} rows)" for label in absent])
        checks.fail(name, [f"no training row left for label {missing}; add rows of it, or set smaller fractions"])
    for split in ("validation", "test"):
        absent = missing_labels(parts.labels, counts[split])
        if absent:
            names = some([checks.shown(label) for label in absent])
            say(f"data: warning: the {split} split has no row with label {names}")


def _label_counts(rows: Rows) -> Counter[str]:
    """Label -> the number of its rows."""
    return Counter(label for of_row in rows.kind.labels_of(rows.columns) or () for label in dict.fromkeys(of_row))


def missing_labels(labels: Sequence[str], present: Iterable[str]) -> list[str]:
    """The labels that aren't present, in order."""
    present_labels = set(present)
    return [label for label in labels if label not in present_labels]
