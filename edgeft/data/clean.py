"""Cleaning the rows: the texts of each, by the steps that the runtime will repeat, and then the rows themselves."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeft.cleaning import Cleaning
from edgeft.cleaning.personal import KINDS, find
from edgeft.cleaning.steps import STEPS, cleaner
from edgeft.cleaning.steps import parts as cleaning_parts
from edgeft.data import near, overlap
from edgeft.data.content import hashes
from edgeft.data.kinds import Cleaner, Columns
from edgeft.data.overlap import NONE, Places, Removed
from edgeft.data.rows import Rows
from edgeft.data.splits import LEAK, Parts, by_choice
from edgeft.data.table import BAR_ROWS
from edgeft.progress import Bar
from edgeft.recipe import DataConfig

EMPTY, DUPLICATE, CONFLICT = "nothing left after cleaning", "duplicate", "conflict"
NEAR_DUPLICATE, LABEL_ERROR = "near duplicate", "label error"


def cleaning_of(config: DataConfig) -> Cleaning:
    """What a config does to texts; the steps always run in the one order."""
    kinds: Sequence[str] = (config.anonymise_kinds or KINDS) if config.anonymise else ()
    return Cleaning(
        steps=[step for step in STEPS if step in (config.clean or ())],
        anonymise=[kind for kind in KINDS if kind in kinds],
        region=config.anonymise_region,
        names_model=config.anonymise_names,
    )


# --------------------------------------------------------------------------------------------------------------- texts


@dataclass
class Counts:
    """What cleaning did to texts.

    Attributes:
        changed: step to the number of rows that it alone would change.
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
    with Bar("clean", len(rows) * (len(cleaning.steps) + bool(cleaning.anonymise) + 1)) as bar:
        for step in cleaning.steps:
            counts.changed[step] += int(_changed(rows.columns, _pass(rows, STEPS[step], bar)[0]).sum())
        if cleaning.anonymise:
            _pass(rows, _counting(cleaning, counts.personal), bar)
        made, lost = _pass(rows, cleaner(cleaning), bar)
    removed.add(EMPTY, rows, lost)
    return dataclasses.replace(rows, columns=made).without(lost)


def _changed(before: Columns, after: Columns) -> npt.NDArray[np.bool_]:
    """(n,) which rows differ."""
    columns = [name for name in before if after[name] is not before[name]]
    pairs = zip(*(before[name] for name in columns), strict=True), zip(*(after[name] for name in columns), strict=True)
    return np.fromiter((old != new for old, new in zip(*pairs, strict=True)), dtype=bool)


def _counting(cleaning: Cleaning, personal: Counter[str]) -> Cleaner:
    def count(text: str) -> str:
        personal.update(found.kind for found in find(text, cleaning.anonymise, cleaning.region))
        return text

    return count


def _pass(rows: Rows, step: Cleaner, bar: Bar) -> tuple[Columns, list[int]]:
    """One step over all rows, counted on the bar."""
    done = 0

    def counted(text: str) -> str:
        nonlocal done
        done += 1
        if done % BAR_ROWS == 0 and done <= len(rows):  # a row may have several texts
            bar.advance(BAR_ROWS)
        return step(text)

    made = rows.kind.clean(rows.columns, counted)
    bar.advance(len(rows) - min(done, len(rows)) // BAR_ROWS * BAR_ROWS)
    return made


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
    found: list[Change] = []
    chain = cleaner(cleaning)
    alone = dict(cleaning_parts(cleaning))
    for index in range(len(rows)):
        if len(found) == count:
            break
        row = rows.pick([index])
        made, lost = row.kind.clean(row.columns, chain)
        if lost or _changed(row.columns, made).any():
            steps = [
                name
                for name, step in alone.items()
                if _changed(row.columns, row.kind.clean(row.columns, step)[0]).any()
            ]
            after = "(taken out: nothing is left)" if lost else row.kind.inputs(made)[0]
            found.append(Change(*row.at(0), steps, row.inputs[0], after))
    return found


# ---------------------------------------------------------------------------------------------------------------- rows


def drop_repeats(rows: Rows, config: DataConfig, removed: Removed) -> tuple[Rows, dict[str, int]]:
    """The rows without those that repeat or contradict others, where the recipe wants that; and how many there are."""
    steps = config.clean or ()
    repeats, first = overlap.duplicates(rows)
    found = {"duplicates": len(repeats)}
    if "duplicates" in steps:
        removed.add(DUPLICATE, rows, repeats, rows, first)
        rows = rows.without(repeats)
    places, found["conflicts"] = overlap.conflicts(rows)
    if "conflicts" in steps:
        removed.add(CONFLICT, rows, places)
        rows = rows.without(places)
    return rows, found


def near_duplicates(parts: Parts, config: DataConfig, bar: Bar | None = None) -> dict[str, int]:
    """Count near duplicates within training and across splits; where the recipe says so, take them out of training.

    The test rows win over validation, these over training; between training rows content alone decides.
    """
    splits = {"test": parts.test, "validation": parts.validation, "train": parts.train}
    order = {name: by_choice(rows) for name, rows in splits.items()}
    texts = [text for name, rows in splits.items() for text in _at(rows.kind.places(rows.columns), order[name])]
    group = overlap.first_of_each(hashes(texts))
    unique = np.unique(group)  # exact repeats are counted elsewhere
    earlier = near.earlier_similar([texts[i] for i in unique], config.near_duplicate_similarity, bar)
    twin = np.full(len(texts), NONE, dtype=np.int64)
    twin[unique] = np.where(earlier == NONE, NONE, unique[earlier])
    twin = twin[group]  # (n,) in the joined order: the place of an earlier near duplicate
    borders = {"test": 0, "validation": len(parts.test), "train": len(parts.test) + len(parts.validation)}
    drop = "near_duplicates" in (config.clean or ())
    found = dict[str, int]()
    for name, others in {"validation": ("test",), "train": ("test", "validation", "train")}.items():
        rows, mine = splits[name], twin[borders[name] : borders[name] + len(splits[name])]
        gone: list[Places] = []
        for other in others:
            hit = np.flatnonzero((mine >= borders[other]) & (mine < borders[other] + len(splits[other])))
            within = name if name == other else f"{name}_in_{other}"
            found[within] = len(hit)
            gone.append(order[name][hit])
            if drop:
                reason = NEAR_DUPLICATE if name == other else f"near {LEAK}{within}"
                parts.removed.add(reason, rows, gone[-1], splits[other], order[other][mine[hit] - borders[other]])
        if drop:
            setattr(parts, name, rows.without(np.concatenate(gone)))
    return found


def _at(items: list[str], places: Places) -> list[str]:
    return [items[i] for i in places.tolist()]


def label_errors(parts: Parts, config: DataConfig) -> int:
    """Take the training rows out whose label is likely wrong; how many they are."""
    from edgeft.data import suspects  # scikit-learn takes a second

    rows = parts.train
    ids = {label: place for place, label in enumerate(parts.labels)}
    labels = np.array([ids[label] for label in rows.columns["label"]], dtype=np.int64)
    found = np.flatnonzero(suspects.label_errors(rows.inputs, labels, config.seed or 0).suspicious)
    parts.removed.add(LABEL_ERROR, rows, found)
    parts.train = rows.without(found)
    return len(found)
