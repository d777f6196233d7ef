"""The profile of the rows before training, as one plain document that quotes no text."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from edgeft.data import prepare
from edgeft.data.cited import MAX_CITED, Document, cite_pairs, cite_row, cite_rows, sample
from edgeft.data.clean import checks, clean, overlap
from edgeft.data.clean.clean import Counts
from edgeft.data.clean.overlap import Removed
from edgeft.data.formats import rows, task_of
from edgeft.data.formats.rows import Rows
from edgeft.data.profile import lengths, recommendations, scan, targets
from edgeft.data.profile.lengths import Counting
from edgeft.data.profile.scan import Notes
from edgeft.data.read import sources
from edgeft.data.split import splits
from edgeft.data.split.splits import LEAK, LEAKS, Parts
from edgeft.errors import DataError, MissingExtraError
from edgeft.progress import Bar, say
from edgeft.recipe import DataConfig

SCHEMA_VERSION = 1
JUDGED, THOROUGH = 3_000, 50_000  # most rows whose labels are judged; each thousand takes a second or more
LANGUAGE_TEXTS = 500
MAX_REASONS = 3  # in one line


def profile(config: DataConfig, counting: Counting | None = None, judged: int = JUDGED) -> Document:
    """Profile the rows of a config after its cleaning.

    Unusable rows are counted instead of refused, so that one run shows all problems. The splits are those that the data
    stage would make before `balance`, which repeats or drops rows.

    Args:
        config: the sources, how to clean and how to split.
        counting: counts the lengths of texts; None: words and punctuation marks.
        judged: largest number of labels to judge, which takes most of the time; 0: none.

    Returns:
        `schema_version`, `task`, `kind`, `rows`, `targets`, `numbers_instead` (how labels that are all numbers are
        predicted as numbers, else None), `lengths`, `texts`, `cleaning`, `duplicates`, `conflicts`,
        `near_duplicates`, `leaks`, `splits`, `label_errors`, `languages`, `notes` (what couldn't be checked),
        `todo` (options to set, each with its reason), `seconds` (of each part). Rows are named by `file` and `row`.

    Raises:
        DataError: a source that can't be read at all.
    """
    notes: Notes = []
    seconds: dict[str, float] = {}
    with _timed("read", seconds):
        read = prepare.read_usable(config)
        _refuse_empty(read)
    with _timed("clean", seconds):
        cleaned, done = _clean_rows(read, config)
    document: Document = {"schema_version": SCHEMA_VERSION} | _head(read, config) | {"cleaning": done}
    for name, look in _inspect(cleaned, config, counting or Counting(), judged, notes).items():
        with _timed(name, seconds):
            document |= look()
    document["notes"] = list(dict.fromkeys(notes))
    document["todo"] = recommendations.recommend(document, config)
    document["seconds"] = seconds
    return document


def _inspect(
    cleaned: dict[str, Rows], config: DataConfig, counting: Counting, judged: int, notes: Notes
) -> dict[str, Callable[[], Document]]:
    """The inspections by the name of their entry in `seconds`; each returns parts of the document."""
    region = config.anonymise_region
    named, unlisted = targets.shown(cleaned, scan.findable(region, notes), region)
    everything, judged = rows.join_rows(list(named.values())), 0 if unlisted else judged
    instead = checks.numbers_as_classes(rows.join_rows(list(cleaned.values())))
    return {
        "targets": lambda: {"targets": targets.describe(everything, unlisted), "numbers_instead": instead},
        "lengths": lambda: {"lengths": lengths.measure(everything, counting)},
        "texts": lambda: {"texts": scan.odd(everything) | scan.scan(everything, region, notes)},
        "repeats": lambda: _repeats(named["file"]),
        "splits": lambda: _splits(named, config, notes, not unlisted),
        "label_errors": lambda: {
            "label_errors": _or_note(notes, lambda: _label_errors(everything, judged, config.seed or 0))
        },
        "languages": lambda: {"languages": _or_note(notes, lambda: _languages(everything))},
    }


def _clean_rows(read: dict[str, Rows], config: DataConfig) -> tuple[dict[str, Rows], Document]:
    """The cleaned rows, and what cleaning changed."""
    counts, removed, steps = Counts(), Removed(), clean.cleaning_of(config)
    cleaned_rows = {name: clean.clean_texts(part, steps, counts, removed) for name, part in read.items()}
    _refuse_empty(cleaned_rows)
    return cleaned_rows, {
        "steps": list(config.clean or ()),
        "changed": dict(counts.changed),
        "replaced": dict(counts.personal),
        "emptied": [cite_row(at) for at in removed.row],
    }


def _head(read: dict[str, Rows], config: DataConfig) -> Document:
    kind = read["file"].kind
    return {
        "task": task_of(config),
        "kind": kind.name,
        "source": sources.source_name(config),
        "columns": kind.sources(),
        "rows": _count_rows(read),
    }


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)


def _or_note(notes: Notes, look: Callable[[], Document]) -> Document:
    """The result of an inspection; empty, with a note, if its package isn't installed."""
    try:
        return look()
    except MissingExtraError as error:
        notes.append(str(error))
        return {}


def _refuse_empty(read: dict[str, Rows]) -> None:
    for part in read.values():
        if not len(part):
            why = [f"{problem} ({len(skipped_rows):,} rows)" for problem, skipped_rows in part.skipped.items()]
            checks.fail(part.name, ["no row can be used", *why[:MAX_REASONS]])


# ---------------------------------------------------------------------------------------------------------------- rows


def _count_rows(read: dict[str, Rows]) -> Document:
    """Rows of every file, and the unusable ones by reason."""
    files = [
        {"field": field, "file": name, "rows": int((part.file == index).sum())}
        for field, part in read.items()
        for index, name in enumerate(part.files)
    ]
    skipped = rows.join_skipped(read.values())
    return {
        "total": sum(map(len, read.values())),
        "files": files,
        "skipped": {
            problem: {"count": len(skipped_rows), "rows": [cite_row(at) for at in skipped_rows[:MAX_CITED]]}
            for problem, skipped_rows in skipped.items()
        },
    }


def _repeats(rows: Rows) -> Document:
    """Rows that repeat an earlier one, and inputs with several answers."""
    indices, first = overlap.duplicates(rows)
    across = int((rows.file[indices] != rows.file[first]).sum())
    conflicting, inputs = overlap.conflicts(rows)
    return {
        "duplicates": {**cite_pairs(rows, indices, rows, first), "across_files": across},
        "conflicts": {"inputs": inputs, **cite_rows(rows, conflicting)},
    }


# -------------------------------------------------------------------------------------------------------------- splits


def _splits(cleaned: dict[str, Rows], config: DataConfig, notes: Notes, listed: bool) -> Document:
    """The splits that the data stage would make, the leaks between them, and near duplicates."""
    name, count = cleaned["file"].name, len(cleaned["file"])
    try:
        usable = clean.drop_conflicts(cleaned["file"], config, Removed())
        checks.check_some_left(name, len(usable), count, clean.conflicts_reason())
        parts = splits.divide(usable, cleaned.get("validation_file"), cleaned.get("test_file"), config)
    except DataError as error:
        return {"splits": {"refused": str(error)}, "leaks": {}, "near_duplicates": {}}
    clean.drop_duplicates(parts, config)
    near = _or_note(notes, lambda: _near(parts, config))
    refused = None
    try:
        splits.limit(parts, config)
        splits.check(parts, count, name)
    except DataError as error:
        refused = str(error)
    return {"splits": _split_document(parts, refused, listed), "leaks": _leaks(parts), "near_duplicates": near}


def _split_document(parts: Parts, refused: str | None, listed: bool) -> Document:
    split = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    counts = {name: _label_rows(part) for name, part in split.items()}
    labels = parts.labels if listed else []
    return {
        "refused": refused,
        "rows": {name: len(part) for name, part in split.items()},
        "labels": {label: {name: count[label] for name, count in counts.items()} for label in labels},
        "begins": parts.begins,
    }


def _label_rows(part: Rows) -> Counter[str]:
    return Counter(label for of_row in part.kind.labels_of(part.columns) or () for label in set(of_row))


def _leaks(parts: Parts) -> Document:
    """Rows of one split that are also in another, by pair of splits."""
    return {leak: removals for leak in LEAKS if (removals := _document_removed(parts.removed, LEAK + leak))["count"]}


def _near(parts: Parts, config: DataConfig) -> Document:
    """Near duplicates within training and across splits, each with its twin; dropped if the config says so."""
    trial = copy.copy(parts)
    trial.removed = Removed()
    rehearsal = dataclasses.replace(config, clean=["near_duplicates"])
    with Bar("near duplicates", sum(map(len, (parts.train, parts.validation, parts.test)))) as bar:
        counts = clean.near_duplicates(trial, rehearsal, bar)
    if "near_duplicates" in (config.clean or ()):
        parts.train, parts.validation = trial.train, trial.validation
    reasons = {within: f"near {LEAK}{within}" for within in counts} | {"train": clean.NEAR_DUPLICATE}
    removals = {within: _document_removed(trial.removed, reasons[within]) for within in counts}
    return {"similarity": config.near_duplicate_similarity, "found": removals}


def _document_removed(removed: Removed, reason: str) -> Document:
    removals: list[Document] = []
    for why, at, because in zip(removed.reason, removed.row, removed.because, strict=True):
        if why == reason:
            twin = {"other_file": because[0], "other_row": because[1]} if because else {}
            removals.append(cite_row(at) | twin)
    return {"count": len(removals), "rows": removals[:MAX_CITED]}


# ------------------------------------------------------------------------------------------------- labels and languages


def _label_errors(rows: Rows, limit: int, seed: int) -> Document:
    """Single-label rows whose label is probably wrong, the clearest first."""
    if not rows.kind.form.has_one_label or not limit:
        return {}
    from edgeft.data.profile import label_errors  # scikit-learn takes a second

    judged = rows.pick(sample(rows.inputs, limit))
    names = checks.sort_labels(set(judged.columns["label"]))
    ids = {name: index for index, name in enumerate(names)}
    labels = np.array([ids[name] for name in judged.columns["label"]], dtype=np.int64)
    say(f"wrong labels: judging {len(judged):,} rows")
    errors = label_errors.label_errors(judged.inputs, labels, seed)
    suspects = np.flatnonzero(errors.suspicious)
    suspects = suspects[np.argsort(-errors.scores[suspects], kind="stable")]
    kinds = [(names[labels[i]], names[errors.suggested[i]]) for i in suspects.tolist()]
    document = cite_rows(judged, suspects)
    for row, (own_kind, other) in zip(document["rows"], kinds, strict=False):
        row["given"], row["suggested"] = own_kind, other
    counted = [
        {"given": own_kind, "suggested": other, "rows": n} for (own_kind, other), n in Counter(kinds).most_common()
    ]
    return document | {"kinds": counted, "judged": len(judged), "of": len(rows)}


def _languages(rows: Rows) -> Document:
    from edgeft.data.profile import languages  # reads a model of a few megabytes

    shares = languages.languages(rows.inputs, max_texts=LANGUAGE_TEXTS)
    return {"shares": shares, "texts": min(LANGUAGE_TEXTS, len(rows)), "of": len(rows)}
