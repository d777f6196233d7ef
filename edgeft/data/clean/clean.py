"""Cleaning the rows: the texts of each, by the steps that the runtime will repeat, and then the rows themselves."""

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

# (split of a row, split of an earlier one) to places of the rows and of the earlier ones
Pairs = dict[tuple[str, str], tuple[IndexArray, IndexArray]]
EMPTY, DUPLICATE, CONFLICT = "nothing left after cleaning", "duplicate", "conflict"
NEAR_DUPLICATE = "near duplicate"


def cleaning_of(config: DataConfig) -> Cleaning:
    """What a config does to texts; the steps always run in the one order."""
    kinds: Sequence[str] = (config.anonymise_kinds or KINDS) if config.anonymise else ()
    return Cleaning(
        steps=[step for step in STEPS if step in (config.clean or ())],
        anonymise=[kind for kind in KINDS if kind in kinds],
        region=config.anonymise_region,
        names_model=config.anonymise_names,
    )


def conflicts_reason() -> str:
    """Why no row is left after step `conflicts`."""
    return f"each contradicts another ({spell_option('data.clean', ['conflicts'])})"


# --------------------------------------------------------------------------------------------------------------- texts


@dataclass
class Counts:
    """What cleaning did to texts.

    Attributes:
        changed: step to the number of rows that it changed, of what the steps before it left.
        personal: kind of personal data to how many pieces were replaced; never what they are.
    """

    changed: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)


def clean_texts(rows: Rows, cleaning: Cleaning, counts: Counts, removed: Removed) -> Rows:
    """The rows with cleaned texts, without those of which nothing is left.

    Args:
        rows: as read.
        cleaning: what to do.
        counts: what was done is added here.
        removed: the rows that are gone are added here.
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
                counts.changed[name] += int(_changed(left.columns, columns).sum())
            left = dataclasses.replace(left, columns=columns)
        columns, lost = _pass(rows, cleaner(cleaning), bar)
    removed.add(EMPTY, rows, lost)
    cleaned = dataclasses.replace(rows, columns=columns)
    counts.personal += count_placeholders(cleaned) - before
    return cleaned.without(lost)


def count_placeholders(rows: Rows) -> Counter[str]:
    """How many placeholders of each kind of personal data rows have."""
    counts = Counter[str]()
    for index in range(len(rows)):
        for text in rows.kind.texts_of(rows.columns, index):
            if "[" in text:
                counts.update(placeholders.count(text))
    return counts


def _changed(before: Columns, after: Columns) -> npt.NDArray[np.bool_]:
    """(n,) which rows differ."""
    columns = [name for name in before if after[name] is not before[name]]
    pairs = zip(*(before[name] for name in columns), strict=True), zip(*(after[name] for name in columns), strict=True)
    return np.fromiter((old != new for old, new in zip(*pairs, strict=True)), dtype=bool)


def _pass(rows: Rows, step: Cleaner, bar: Bar) -> tuple[Columns, list[int]]:
    """One step over all rows, counted on the bar."""
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
    """One row as a preview shows it."""

    file: str
    row: int
    steps: list[str]
    before: str
    after: str


def preview(rows: Rows, cleaning: Cleaning, count: int) -> list[Change]:
    """The first rows that cleaning changes, and which steps would.

    Args:
        rows: as read.
        cleaning: what to do.
        count: at most so many.
    """
    changes: list[Change] = []
    chain = cleaner(cleaning)
    alone = dict(cleaning_parts(cleaning))
    for index in range(len(rows)):
        if len(changes) == count:
            break
        row = rows.pick([index])
        columns, lost = row.kind.clean(row.columns, chain)
        if lost or _changed(row.columns, columns).any():
            steps = [
                name
                for name, step in alone.items()
                if _changed(row.columns, row.kind.clean(row.columns, step)[0]).any()
            ]
            after = "(taken out: nothing is left)" if lost else row.kind.inputs(columns)[0]
            changes.append(Change(*row.at(0), steps, row.inputs[0], after))
    return changes


# ---------------------------------------------------------------------------------------------------------------- rows


def count_repeats(rows: Rows) -> dict[str, int]:
    """How many rows repeat another one, and how many inputs stand there with different answers."""
    return {"duplicates": len(overlap.duplicates(rows)[0]), "conflicts": overlap.conflicts(rows)[1]}


def drop_conflicts(rows: Rows, config: DataConfig, removed: Removed) -> Rows:
    """The rows without those whose input stands there with another answer as well, where the recipe wants that."""
    if "conflicts" not in (config.clean or ()):
        return rows
    indices, _ = overlap.conflicts(rows)
    removed.add(CONFLICT, rows, indices)
    return rows.without(indices)


def drop_duplicates(parts: Parts, config: DataConfig) -> None:
    """Take the rows out that repeat one of their own split, but for test or validation files of the user's own."""
    if "duplicates" not in (config.clean or ()):
        return
    own_files = {"validation": config.validation_file, "test": config.test_file}
    for name, rows in parts.splits().items():
        if own_files.get(name) is None:
            indices, first = overlap.duplicates(rows)
            parts.removed.add(DUPLICATE, rows, indices, rows, first)
            setattr(parts, name, rows.without(indices))


def near_duplicates(parts: Parts, config: DataConfig, bar: Bar | None = None) -> dict[str, int]:
    """Count near duplicates within training and across splits; where the recipe says so, take them out.

    The test rows win over validation, these over training; between training rows content alone decides. Where one row
    is like a second, and that one like a third, the first alone stays.

    Returns:
        `train`, `train_in_test`, `train_in_validation`, `validation_in_test`: rows that are like one of a split that
        wins.
    """
    drop = "near_duplicates" in (config.clean or ())
    held_out: Pairs = {}
    if drop:  # validation first, so that no training row goes because of a validation row that goes itself
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
    """Near duplicates of rows that come earlier.

    Args:
        splits: the most important first.
        config: how similar.
        bar: counts texts.

    Returns:
        (split of a row, split of the earlier one) to places of the rows and of the earliest that each leads back to.
    """
    order = {name: by_choice(rows) for name, rows in splits.items()}
    texts = [
        text for name, rows in splits.items() for text in _select(rows.kind.texts_to_compare(rows.columns), order[name])
    ]
    group = overlap.first_of_each(hashes(texts))
    unique = np.unique(group)  # exact repeats are counted elsewhere
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
            # Within a split the row that stays is the one where the chain ends; if it ends elsewhere, the chain breaks.
            kept_twin = twin_of_rows["root" if name == other else "direct"]
            inside = (twin_of_rows["direct"] >= begin[other]) & (twin_of_rows["direct"] < begin[other] + len(others))
            hit = np.flatnonzero(inside & (kept_twin >= begin[other]))
            pairs[name, other] = order[name][hit], order[other][kept_twin[hit] - begin[other]]
    return pairs


def _spread(values: IndexArray, unique: IndexArray, group: IndexArray) -> IndexArray:
    """Each text has what the first of its equals has."""
    spread = np.full(len(group), NONE, dtype=np.int64)
    spread[unique] = values
    return spread[group]


def _roots(earlier: IndexArray) -> IndexArray:
    """(n,) where each chain of earlier ones ends, a text without one at itself."""
    root = np.where(earlier == NONE, np.arange(len(earlier)), earlier)
    while (root[root] != root).any():
        root = root[root]
    return root


def _take_out(parts: Parts, name: str, pairs: Pairs) -> None:
    """Take the rows of a split out that are near duplicates of rows that stay."""
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
