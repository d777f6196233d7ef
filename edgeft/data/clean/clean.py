"""Cleaning: first the texts, by the steps that the runtime repeats, then the rows: duplicates and conflicts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeft.cleaning import Cleaning, placeholders
from edgeft.cleaning import parts as cleaning_parts
from edgeft.cleaning.personal import KINDS
from edgeft.cleaning.steps import STEPS, cleaner
from edgeft.data.clean import near, overlap
from edgeft.data.clean.content import hashes
from edgeft.data.clean.overlap import NONE, IndexArray, Removed
from edgeft.data.formats import Cleaner, Columns
from edgeft.data.formats.rows import Rows
from edgeft.data.read.table import BAR_ROWS
from edgeft.data.split import slicing
from edgeft.data.split.splits import LEAK, Parts, by_choice
from edgeft.progress import Bar
from edgeft.recipe import DataConfig, spell_option

# (split of a row, split of an earlier one) -> indices of the rows and of the earlier ones
Pairs = dict[tuple[str, str], tuple[IndexArray, IndexArray]]
EMPTY, DUPLICATE, CONFLICT = "nothing left after cleaning", "duplicate", "conflict"
NEAR_DUPLICATE = "near duplicate"


def cleaning_of(config: DataConfig) -> Cleaning:
    """The cleaning that a config asks for; the order of its steps is fixed."""
    kinds: Sequence[str] = (config.anonymise_kinds or KINDS) if config.anonymise else ()
    return Cleaning(
        steps=[step for step in STEPS if step in (config.clean or ())],
        anonymise=[kind for kind in KINDS if kind in kinds],
        region=config.anonymise_region,
        names_model=config.anonymise_names,
    )


def conflicts_reason() -> str:
    """The reason if no row is left after step `conflicts`."""
    return f"each contradicts another ({spell_option('data.clean', ['conflicts'])})"


# --------------------------------------------------------------------------------------------------------------- texts


@dataclass
class Counts:
    """What cleaning did to texts.

    Attributes:
        changed: step -> number of rows that it changed, after the steps before it.
        personal: kind of personal data -> number of replaced values; never the values.
    """

    changed: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)


def clean_texts(rows: Rows, cleaning: Cleaning, counts: Counts, removed: Removed) -> Rows:
    """Clean the texts of rows and drop rows that become empty.

    Args:
        rows: as read.
        cleaning: what to do.
        counts: updated.
        removed: gets the dropped rows.
    """
    if not cleaning:
        return rows
    rows = dataclasses.replace(rows, slices=slicing.anonymise_slices(rows.slices, cleaning))
    steps = cleaning_parts(cleaning)
    before = count_placeholders(rows)
    with Bar("clean", len(rows) * (len(steps) + 1)) as bar:
        left = rows
        for name, step in steps:
            columns, _ = _pass(left, step, bar)
            if name in STEPS:
                counts.changed[name] += int(_rows_changed(left.columns, columns).sum())
            left = dataclasses.replace(left, columns=columns)
        columns, lost = _pass(rows, cleaner(cleaning), bar)
    removed.add(EMPTY, rows, lost)
    cleaned = dataclasses.replace(rows, columns=columns)
    counts.personal += count_placeholders(cleaned) - before
    return cleaned.without(lost)


def count_placeholders(rows: Rows) -> Counter[str]:
    """Count the placeholders of each kind of personal data."""
    counts = Counter[str]()
    for index in range(len(rows)):
        for text in rows.kind.texts_of(rows.columns, index):
            if "[" in text:
                counts.update(placeholders.count(text))
    return counts


def _rows_changed(before: Columns, after: Columns) -> npt.NDArray[np.bool_]:
    """(n,) whether each row differs."""
    columns = [name for name in before if after[name] is not before[name]]
    pairs = zip(*(before[name] for name in columns), strict=True), zip(*(after[name] for name in columns), strict=True)
    return np.fromiter((old != new for old, new in zip(*pairs, strict=True)), dtype=bool)


def _pass(rows: Rows, step: Cleaner, bar: Bar) -> tuple[Columns, list[int]]:
    """Run one step over all rows, counted on the bar."""
    done = 0

    def clean_and_count(text: str) -> str:
        nonlocal done
        done += 1
        if done % BAR_ROWS == 0 and done <= len(rows):  # a row may have several texts
            bar.advance(BAR_ROWS)
        return step(text)

    result = rows.kind.clean(rows.columns, clean_and_count)
    bar.advance(len(rows) - min(done, len(rows)) // BAR_ROWS * BAR_ROWS)
    return result


@dataclass(frozen=True)
class Change:
    """One row of a preview."""

    file: str
    row: int
    steps: list[str]
    before: str
    after: str


def preview(rows: Rows, cleaning: Cleaning, count: int) -> list[Change]:
    """The first rows that cleaning changes, and the steps that change each.

    Args:
        rows: as read.
        cleaning: what to do.
        count: largest number of rows.
    """
    changes: list[Change] = []
    chain = cleaner(cleaning)
    alone = dict(cleaning_parts(cleaning))
    for index in range(len(rows)):
        if len(changes) == count:
            break
        row = rows.pick([index])
        columns, lost = row.kind.clean(row.columns, chain)
        if lost or _rows_changed(row.columns, columns).any():
            steps = [
                name
                for name, step in alone.items()
                if _rows_changed(row.columns, row.kind.clean(row.columns, step)[0]).any()
            ]
            after = "(taken out: nothing is left)" if lost else row.kind.inputs(columns)[0]
            changes.append(Change(*row.at(0), steps, row.inputs[0], after))
    return changes


# ---------------------------------------------------------------------------------------------------------------- rows


def count_repeats(rows: Rows) -> dict[str, int]:
    """Count the rows that repeat another one, and the inputs that have different answers."""
    return {"duplicates": len(overlap.duplicates(rows)[0]), "conflicts": overlap.conflicts(rows)[1]}


def drop_conflicts(rows: Rows, config: DataConfig, removed: Removed) -> Rows:
    """Drop rows whose input also has another answer, if the recipe asks for it."""
    if "conflicts" not in (config.clean or ()):
        return rows
    indices, _ = overlap.conflicts(rows)
    removed.add(CONFLICT, rows, indices)
    return rows.without(indices)


def drop_duplicates(parts: Parts, config: DataConfig) -> None:
    """Drop rows that repeat another of their split, except in the user's own test or validation files."""
    if "duplicates" not in (config.clean or ()):
        return
    own_files = {"validation": config.validation_file, "test": config.test_file}
    for name, rows in parts.splits().items():
        if own_files.get(name) is None:
            indices, first = overlap.duplicates(rows)
            parts.removed.add(DUPLICATE, rows, indices, rows, first)
            setattr(parts, name, rows.without(indices))


def near_duplicates(parts: Parts, config: DataConfig, bar: Bar | None = None) -> dict[str, int]:
    """Count near duplicates within training and across splits, and drop them if the recipe asks for it.

    Test rows win over validation rows, and these over training rows; between training rows their content decides. In a
    chain of near duplicates only the first row stays.

    Returns:
        `train`, `train_in_test`, `train_in_validation`, `validation_in_test`: rows that are near duplicates of a row
        that wins.
    """
    drop = "near_duplicates" in (config.clean or ())
    held_out: Pairs = {}
    if drop:  # validation first, so that no training row is dropped for a validation row that is dropped itself
        held_out = _near({"test": parts.test, "validation": parts.validation}, config)
        _take_out(parts, "validation", held_out)
    pairs = _near(parts.splits(), config, bar)
    if drop:
        _take_out(parts, "train", pairs)
    counts = {"validation_in_test": len((held_out or pairs)["validation", "test"][0])}
    for (split, other), (indices, _) in pairs.items():
        if split == "train":
            counts["train" if other == "train" else f"train_in_{other}"] = len(indices)
    return counts


def _near(splits: dict[str, Rows], config: DataConfig, bar: Bar | None = None) -> Pairs:
    """Find near duplicates of earlier rows.

    Args:
        splits: the most important first.
        config: sets the similarity.
        bar: counts texts.

    Returns:
        (split of a row, split of the earlier one) -> indices of the rows, and of the earliest row of each one's chain.
    """
    order = {name: by_choice(rows) for name, rows in splits.items()}
    texts = [
        text for name, rows in splits.items() for text in _select(rows.kind.texts_to_compare(rows.columns), order[name])
    ]
    group = overlap.first_of_each(hashes(texts))
    unique = np.unique(group)  # exact duplicates are counted elsewhere
    earlier = near.earlier_similar([texts[i] for i in unique], config.near_duplicate_similarity, bar)
    if bar:
        bar.advance(len(texts) - len(unique))
    joined = {"direct": earlier, "root": _roots(earlier)}
    twin = {name: np.where(earlier == NONE, NONE, unique[indices]) for name, indices in joined.items()}
    twin = {name: _spread(indices, unique, group) for name, indices in twin.items()}  # (n,) in the joined order
    begin = dict(zip(splits, np.cumsum([0, *map(len, splits.values())]).tolist(), strict=False))
    pairs: Pairs = {}
    for name, rows in splits.items():
        twin_of_rows = {link: indices[begin[name] : begin[name] + len(rows)] for link, indices in twin.items()}
        for other, others in splits.items():
            if name == other and not rows.kind.near_within:
                continue
            # Within a split the row at the end of the chain stays; if it is in another split, the chain is cut.
            kept_twin = twin_of_rows["root" if name == other else "direct"]
            inside = (twin_of_rows["direct"] >= begin[other]) & (twin_of_rows["direct"] < begin[other] + len(others))
            hit = np.flatnonzero(inside & (kept_twin >= begin[other]))
            pairs[name, other] = order[name][hit], order[other][kept_twin[hit] - begin[other]]
    return pairs


def _spread(values: IndexArray, unique: IndexArray, group: IndexArray) -> IndexArray:
    """Give each text the value of the first text equal to it."""
    spread = np.full(len(group), NONE, dtype=np.int64)
    spread[unique] = values
    return spread[group]


def _roots(earlier: IndexArray) -> IndexArray:
    """(n,) the end of each text's chain of earlier texts; a text without an earlier one is its own."""
    root = np.where(earlier == NONE, np.arange(len(earlier)), earlier)
    while (root[root] != root).any():
        root = root[root]
    return root


def _take_out(parts: Parts, name: str, pairs: Pairs) -> None:
    """Drop the rows of a split that are near duplicates of rows that stay."""
    splits = parts.splits()
    gone: list[IndexArray] = []
    for (split, other), (indices, twins) in pairs.items():
        if split == name and (name, other) != ("validation", "validation"):
            reason = NEAR_DUPLICATE if other == name else f"near {LEAK}{name}_in_{other}"
            parts.removed.add(reason, splits[name], indices, splits[other], twins)
            gone.append(indices)
    setattr(parts, name, splits[name].without(np.concatenate(gone)))


def _select(items: list[str], indices: IndexArray) -> list[str]:
    return [items[i] for i in indices.tolist()]
