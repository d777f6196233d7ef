"""Statistics of the targets: labels, tags, numbers, answers, messages or target texts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from edgeft.cleaning import personal
from edgeft.data.cited import Document, cite_rows
from edgeft.data.clean import checks
from edgeft.data.formats.rows import Rows
from edgeft.data.formats.tags import OUTSIDE
from edgeft.data.profile.lengths import histogram, marks
from edgeft.tasks import Target

ROWS_OF_LABEL = 3  # average rows per label below which the column probably doesn't hold labels
FAR_RATIO = 3.0  # a target this many times longer or shorter than usual is reported


def describe(rows: Rows, unlisted: int = 0) -> Document:
    """Describe the targets of the rows; empty for plain text.

    Args:
        rows: with label names that may be shown.
        unlisted: number of labels, if they look like free text and must not be listed.
    """
    if unlisted:
        return {"unlisted_labels": unlisted}
    describers: dict[Target, Callable[[Rows], Document]] = {
        "label": labels,
        "labels": labels,
        "tags": tags,
        "number": numbers,
        "answers": answers,
        "messages": chat,
        "translation": pairs,
        "completion": pairs,
    }
    describer = describers.get(rows.kind.form.target)
    return describer(rows) if describer else {}


def shown(read: dict[str, Rows], kinds: Collection[str], region: str) -> tuple[dict[str, Rows], int]:
    """Replace label names by ones that may be shown, so that nothing derived from them quotes a text.

    Personal data in a name becomes a placeholder, and names are cut to 40 characters; distinct names stay distinct.

    Args:
        read: the rows of each file field.
        kinds: of personal data to look for.
        region: country whose phone numbers need no prefix.

    Returns:
        The rows, and the number of labels if they look like free text or ids (their names are then numbers), else 0.
    """
    of_part = [part.kind.labels_of(part.columns) or () for part in read.values()]
    names = dict.fromkeys(label for labels_of in of_part for of_row in labels_of for label in of_row)
    many = len(names) > max(checks.MANY_LABELS, sum(map(len, read.values())) / ROWS_OF_LABEL)
    display_names = (
        {name: f"label {number}" for number, name in enumerate(names)} if many else _short(names, kinds, region)
    )
    if any(name != short for name, short in display_names.items()):
        read = {field: _replace_names(part, display_names) for field, part in read.items()}
    return read, len(names) if many else 0


def _short(names: Iterable[str], kinds: Collection[str], region: str) -> dict[str, str]:
    """Each name -> the name to show; names that would become equal are numbered."""
    short_names: dict[str, str] = {}
    taken, often = set[str](), Counter[str]()
    for name in names:
        anonymised = personal.anonymise(name, kinds, region)
        short = anonymised if len(anonymised) <= checks.LONGEST_LABEL else anonymised[: checks.LONGEST_LABEL - 1] + "…"
        unnumbered = short
        while unnumbered in taken:
            often[short] += 1
            unnumbered = f"{short} ({often[short] + 1})"
        taken.add(unnumbered)
        short_names[name] = unnumbered
    return short_names


def _replace_names(rows: Rows, names: Mapping[str, str]) -> Rows:
    column = rows.kind.label_column
    if not column:
        return rows
    cells = rows.columns[column]
    cells_shown = [names[cell] if isinstance(cell, str) else [names[name] for name in cell] for cell in cells]
    return dataclasses.replace(rows, columns={**rows.columns, column: cells_shown})


def _shares(counts: Counter[str], total: int) -> dict[str, Document]:
    return {name: {"rows": counts[name], "share": counts[name] / total} for name in checks.sort_labels(counts)}


def _imbalance(counts: Counter[str]) -> float:
    """Rows of the most frequent label / rows of the rarest."""
    return max(counts.values()) / min(counts.values()) if counts else 1.0


def labels(rows: Rows) -> Document:
    """Rows of each label, their shares and `imbalance`; for multi-label rows also the number of labels per row."""
    of_row = [set(names) for names in rows.kind.labels_of(rows.columns) or ()]
    counts = Counter(name for names in of_row for name in names)
    document: Document = {"labels": _shares(counts, len(rows)), "imbalance": _imbalance(counts)}
    if rows.kind.form.has_several_labels:
        labels_per_row = np.array([len(names) for names in of_row])
        document["labels_per_row"] = {"mean": float(labels_per_row.mean()), "max": int(labels_per_row.max())}
        document["without_label"] = cite_rows(rows, np.flatnonzero(labels_per_row == 0))
    return document


def tags(rows: Rows) -> Document:
    """Tokens of each tag, entities of each type (runs of tags), and rows without any."""
    of_row: list[list[str]] = rows.columns["tags"]
    counts = Counter(tag for names in of_row for tag in names)
    rows_with = Counter(tag for names in of_row for tag in set(names))
    entities = Counter(name for names in of_row for name in _entities(names))
    inside = Counter({tag: count for tag, count in counts.items() if tag != OUTSIDE})
    outside = [i for i, names in enumerate(of_row) if not set(names) - {OUTSIDE}]
    total = sum(counts.values())
    return {
        "labels": {
            tag: {"tokens": counts[tag], "share": counts[tag] / total, "rows": rows_with[tag]}
            for tag in checks.sort_labels(counts)
        },
        "entities": dict(sorted(entities.items())),
        "imbalance": _imbalance(entities if entities else inside),
        "without_entity": cite_rows(rows, outside),
    }


def _entities(names: Sequence[str]) -> Iterable[str]:
    """The type of each entity: a run of B- and I- tags of one type, or of the same bare tag."""
    before = ""
    for name in names:
        head, dash, rest = name.partition("-")
        kind = rest if dash and len(head) == 1 else name
        if name != OUTSIDE and (kind != before or head in ("B", "S", "U")):
            yield kind
        before = kind if name != OUTSIDE else ""


def numbers(rows: Rows) -> Document:
    """Minimum, quartiles, maximum, mean and spread of the targets, and their histogram."""
    values = np.array(rows.columns["target"], dtype=np.float64)
    low, first, median, third, high = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
    far = np.flatnonzero((values < first - 3 * (third - first)) | (values > third + 3 * (third - first)))
    return {
        "numbers": {
            "min": low,
            "p25": first,
            "median": median,
            "p75": third,
            "max": high,
            "mean": float(values.mean()),
            "deviation": float(values.std()),
        },
        "different": len(np.unique(values)),
        "histogram": histogram(values, 30),
        "outliers": cite_rows(rows, far) if third > first else cite_rows(rows, []),
    }


def answers(rows: Rows) -> Document:
    """Share of answerable questions, answers per question, lengths of answers, and number of contexts."""
    of_row = [cell["text"] for cell in rows.columns["answers"]]
    answers_per_row = np.array([len(texts) for texts in of_row])
    answer_texts = [text for texts in of_row for text in texts]
    return {
        "answerable": {"rows": int((answers_per_row > 0).sum()), "share": float((answers_per_row > 0).mean())},
        "answers_per_question": {"mean": float(answers_per_row.mean()), "max": int(answers_per_row.max())},
        "answer_words": _percentiles(marks(answer_texts)),
        "contexts": len(set(rows.columns["context"])),
    }


def _percentiles(values: Sequence[float]) -> Document:
    if not len(values):
        return {}
    low, median, high = np.percentile(values, (5, 50, 95)).tolist()
    return {"p5": low, "median": median, "p95": high, "max": float(max(values))}


def chat(rows: Rows) -> Document:
    """Messages per row, and messages of each role."""
    of_row = rows.columns["messages"]
    roles = Counter(message["role"] for messages in of_row for message in messages)
    last = [i for i, messages in enumerate(of_row) if messages[-1]["role"] != "assistant"]
    return {
        "messages_per_row": _percentiles([len(messages) for messages in of_row]),
        "roles": dict(roles.most_common()),
        "with_system_message": {
            "share": sum(messages[0]["role"] == "system" for messages in of_row) / len(of_row),
        },
        "not_ending_with_the_assistant": cite_rows(rows, last),
    }


def pairs(rows: Rows) -> Document:
    """Ratio of target to source words, rows with an unusual ratio, and copies."""
    first, second = (rows.columns[name] for name in rows.kind.text_columns)
    ratio = np.array(marks(second), dtype=np.float64) / np.maximum(1, marks(first))
    median = float(np.median(ratio))
    document: Document = {"length_ratio": _percentiles(ratio.tolist())}
    if rows.kind.target_follows_length:
        far = (ratio > median * FAR_RATIO) | (ratio * FAR_RATIO < median)
        document["odd_ratio"] = cite_rows(rows, np.flatnonzero(far))
    same = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a.strip() == b.strip()]
    return {**document, "copies": cite_rows(rows, same)}
