"""Whether what is fast is also right: accuracy and calibration on labelled texts, an artifact's recorded answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import edgeft
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.errors import ArtifactError, UserError
from edgeft.progress import Bar, say
from edgeft.report.scores import bins, matched_interval, wilson_interval
from edgeft.runtime import replay

CHUNK = 64  # texts of a request: progress is seen, and no request takes long
SHOWN_LABELS = 5


def check(subject: Subject, texts: Sequence[Any], labels: Sequence[str]) -> None:
    """Hold the file's labels against a subject's before anything is measured, and name those that it doesn't have.

    The labels of a subject are those that it states, an artifact those of its manifest. Where it states none, they are
    those of its first answers.

    Args:
        subject: opened in a process of its own.
        texts: the first of them are asked.
        labels: the true ones.

    Raises:
        UserError: it has none of the labels.
    """
    with Child(subject, texts[:CHUNK]) as child:
        stated = child.request("facts")["facts"].get("labels")
        answers = child.request("answers", first=0, count=1)["answers"]
        if answers in (None, [None]):
            return
        if not _are_names(stated):
            answers = child.request("answers", first=0, count=len(texts[:CHUNK]))["answers"]
            _refuse_foreign(subject, "answers", {answer[0] for answer in answers if answer}, labels)
            return
    _refuse_foreign(subject, "has the labels", set(stated), labels)
    if unknown := sorted(set(labels) - set(stated)):
        rows = sum(label not in stated for label in labels)
        verb = "has a label" if rows == 1 else "have labels"
        say(
            f"bench: {rows:,} of {len(labels):,} rows {verb} that {subject.name} doesn't have and can't answer: "
            f"{', '.join(unknown[:SHOWN_LABELS])}"
        )


def _are_names(stated: Any) -> bool:
    """Whether what a subject states under `labels` is a list of names; a user's function may state anything."""
    return isinstance(stated, list) and bool(stated) and all(isinstance(name, str) for name in stated)


def measure_quality(child: Child, labels: Sequence[str], indices: Sequence[int]) -> dict[str, Any] | None:
    """Accuracy with its 95% interval (Wilson 1927), expected calibration error, rows, and where it was wrong; None
    where the subject has no labels. A label that it never answers counts like any other: its rows are wrong.

    Args:
        child: asked the labelled texts, one at a time.
        labels: the true one of each.
        indices: of each text in the caller's list.
    """
    answers: list[Any] = []
    with Bar("quality", len(labels)) as bar:
        for first in range(0, len(labels), CHUNK):
            some = child.request("answers", first=first, count=CHUNK)["answers"]
            if some is None or any(answer is None for answer in some):
                return None
            answers += some
            bar.advance(len(some))
    wrong = np.array([answer[0] != label for answer, label in zip(answers, labels, strict=True)])
    scores = np.array([[answer[1], 0.0] for answer in answers])  # the answered label and any other
    error = bins(scores, wrong.astype(int)).calibration_error
    return {
        "accuracy": float(1 - wrong.mean()),
        "accuracy_interval": list(wilson_interval(len(wrong) - int(wrong.sum()), len(wrong))),
        "calibration_error": error,
        "rows": len(labels),
        "wrong": sorted(index for index, missed in zip(indices, wrong, strict=True) if missed),
    }


def _refuse_foreign(subject: Subject, says: str, names: Collection[str], labels: Sequence[str]) -> None:
    """Raise where a subject has none of the file's labels."""
    if not set(names) & set(labels):
        subject_labels, file_labels = (", ".join(sorted(set(some))[:SHOWN_LABELS]) for some in (names, labels))
        raise UserError(f"{subject.name} {says} {subject_labels}; the labels of the file are {file_labels}")


def accuracy_drop(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Points of accuracy that a subject has less than the first one, on the same rows, with the 95% interval.

    Args:
        first: what `measure_quality` returned.
        other: of the same rows.
    """
    wrong_first, wrong_other, rows = set(first["wrong"]), set(other["wrong"]), first["rows"]
    only_other, only_first = len(wrong_other - wrong_first), len(wrong_first - wrong_other)  # rows one alone has wrong
    interval = [100 * end for end in matched_interval(only_other, only_first, rows)]
    return {"drop_points": 100 * (only_other - only_first) / rows, "drop_interval": interval}


def replay_artifact(folder: Path) -> dict[str, Any]:
    """Replay an artifact's recorded answers on this machine; `refused` says why they prove nothing, if so."""
    model = edgeft.load(folder)
    try:
        result = replay(model)
    except ArtifactError as error:
        return {"passed": False, "refused": str(error)}
    return {**asdict(result), "passed": result.passed}
