"""A data profile in words: the findings, how often each occurs, and in which rows."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from edgeft.terminal.printing import visible

Document = Mapping[str, Any]
SHOWN = 10  # rows named in one finding
FLAGGED = "data."  # options with this prefix are flags of `edgeft data`
CLEANED = "would be changed by "

Referrer = Callable[[str, int], str]

# Key of a document -> words.
WITHIN = {
    "train": "near duplicates within training",
    "train_in_test": "near duplicates of test rows in training",
    "train_in_validation": "near duplicates of validation rows in training",
    "validation_in_test": "near duplicates of test rows in validation",
}
LEAKS = {
    "train_in_test": "in training and in your test file",
    "train_in_validation": "in training and in your validation file",
    "validation_in_test": "in validation and in your test file",
}
ODD = {
    "one_word": "texts of one word",
    "far_shorter": "far shorter than the others",
    "far_longer": "far longer than the others",
    "empty_after_cleaning": "nothing left after cleaning",
}
TARGETS = {
    "without_label": "rows without a label",
    "without_entity": "rows without an entity",
    "outliers": "targets far from the others",
    "not_ending_with_the_assistant": "chats that don't end with the assistant",
    "odd_ratio": "targets three times longer or shorter than usual",
    "copies": "targets that equal their source",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        name: what it is.
        count: number of rows.
        where: the first of them in words.
    """

    name: str
    count: int
    where: str


def findings(document: Document) -> list[Finding]:
    """All problems of the rows, by kind."""
    refer = _referrer(document)
    counted = [
        Finding(name=name, count=finding["count"], where=where(finding, refer))
        for name, finding in _counted(document)
        if finding["count"]
    ]
    return counted + _wrong_labels(document.get("label_errors", {}), refer)


def _counted(document: Document) -> Iterator[tuple[str, Document]]:
    for problem, skipped_rows in document["rows"]["skipped"].items():
        yield f"can't be used: {visible(problem)}", skipped_rows
    yield "duplicates (text and answer)", document["duplicates"]
    yield "conflicts (one text, several answers)", document["conflicts"]
    yield from ((words, document["leaks"].get(leak, {"count": 0})) for leak, words in LEAKS.items())
    near = document["near_duplicates"].get("found", {})
    yield from ((words, near.get(within, {"count": 0})) for within, words in WITHIN.items())
    texts = document["texts"]
    yield from ((f"{CLEANED}{step}", skipped_rows) for step, skipped_rows in texts["would_change"].items())
    yield from ((f"personal data: {kind}", skipped_rows) for kind, skipped_rows in texts["personal"].items())
    yield from ((words, texts[key]) for key, words in ODD.items())
    yield from ((words, document["targets"][key]) for key, words in TARGETS.items() if key in document["targets"])


def _referrer(document: Document) -> Referrer:
    """Row numbers alone for the first file, with the file's name for any other."""
    first = document["rows"]["files"][0]["file"]
    return lambda file, row: str(row) if file == first else f"{visible(PurePath(file).name)} {row}"


def where(cited_rows: Document, refer: Referrer) -> str:
    """The first rows in words, consecutive ones as a range, with their twins if they have any."""
    runs = _runs(cited_rows["rows"], refer)[:SHOWN]
    more = cited_rows["count"] - sum(count for count, _ in runs)
    return ", ".join(words for _, words in runs) + (f" and {more:,} more" if more > 0 else "")


def _runs(rows: Sequence[Document], refer: Referrer) -> list[tuple[int, str]]:
    """Consecutive rows as ranges, as in "240–251 as 12–23": the number of rows, and the words."""
    runs: list[tuple[int, str]] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != _following(rows[end - 1]):
            runs.append((end - start, _run(rows[start], rows[end - 1], refer)))
            start = end
    return runs


def _following(row: Document) -> Document:
    """The next row, whose twin is the next row after this one's twin."""
    return {key: value + 1 if key in ("row", "other_row") else value for key, value in row.items()}


def _run(first: Document, last: Document, refer: Referrer) -> str:
    words = []
    for file, row in (("file", "row"), ("other_file", "other_row")):
        if row in first:
            end = f"–{last[row]}" if last != first else ""
            words.append(refer(first[file], first[row]) + end)
    return " as ".join(words)


def _wrong_labels(errors: Document, refer: Referrer) -> list[Finding]:
    """One finding for each pair of a given and a suggested label, the most frequent first."""
    lines = []
    for kind in errors.get("kinds", [])[:SHOWN]:
        rows = [row for row in errors["rows"] if (row["given"], row["suggested"]) == (kind["given"], kind["suggested"])]
        name = f"label {short(kind['given'])}, likely {short(kind['suggested'])}"
        lines.append(Finding(name=name, count=kind["rows"], where=where({"count": kind["rows"], "rows": rows}, refer)))
    return lines


def short(text: str, width: int = 28) -> str:
    """A text shortened to a number of characters, with all of them visible."""
    text = visible(text)
    return text if len(text) <= width else text[: width - 1] + "…"


# ----------------------------------------------------------------------------------------------------------- sentences


def samples(document: Document) -> list[str]:
    """What was measured on a sample of the rows, or not at all."""
    measured = {"lengths": document["lengths"], "texts": document["texts"]}
    lines = [
        f"{name}: {part['rows']:,} of {part['of']:,} rows, chosen by their content"
        for name, part in measured.items()
        if part["rows"] < part["of"]
    ]
    errors = document.get("label_errors", {})
    if errors and errors["judged"] < errors["of"]:
        counts = f"{errors['judged']:,} of {errors['of']:,} rows"
        lines.append(f"wrong labels: {counts}, chosen by their content; --thorough judges more, and more surely")
    return lines + [f"not looked for: {note}" for note in document["notes"]]


def counted_by(document: Document) -> str:
    """The unit of the lengths and how they were counted."""
    lengths = document["lengths"]
    return f"{lengths['unit']}, counted by {visible(lengths['counted_by'])}"


def flag(option: str | None, value: Any) -> str:
    """An option as typed: a flag of `edgeft data`, or a pipeline setting if `edgeft data` has no such flag."""
    if option is None:
        return ""
    if option.startswith(FLAGGED):
        name = "--" + option.removeprefix(FLAGGED).replace("_", "-")
        return name if value is True else f"{name} {shlex.quote(str(value))}"
    return f"pipeline --set {shlex.quote(f'{option}={value}')}"


def cut(share: float) -> str:
    """A share of texts as "0", "<0.1%", "4.2%" or "42%"."""
    if share == 0:
        return "0"
    if share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"


def pairs(targets: Document) -> list[tuple[str, str]]:
    """The simple figures of the targets, as name and words."""
    lines = []
    for key, value in targets.items():
        if key in TARGETS or key in ("labels", "histogram", "entities"):
            continue
        lines.append((key.replace("_", " "), _words(key, value)))
    return lines


def _words(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(name, item)}" for name, item in value.items())
    if key == "share":
        return f"{value:.1%}"
    if key == "imbalance":
        return f"{value:.1f} to 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def label_rows(targets: Document) -> list[tuple[str, int, float]]:
    """Each label or tag, its rows (for tags: tokens) and its share."""
    return [
        (name, counts.get("tokens", counts["rows"]), counts["share"])
        for name, counts in targets.get("labels", {}).items()
    ]


def most(items: Sequence[tuple[str, int, float]], count: int) -> tuple[Sequence[tuple[str, int, float]], int]:
    """The most frequent labels in their order, and the number of omitted ones."""
    if len(items) <= count:
        return items, 0
    names = {name for name, _, _ in sorted(items, key=lambda item: -item[1])[:count]}
    return [item for item in items if item[0] in names], len(items) - count
