"""Whether what is fast is also right: accuracy and calibration on labelled texts, an artifact's recorded answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import edgeft
from edgeft.bench.harness.child import Child
from edgeft.bench.harness.subject import Subject
from edgeft.bench.scores import bins, matched, wilson
from edgeft.errors import UserError
from edgeft.progress import Bar
from edgeft.runtime import replay

CHUNK = 64  # texts of a request: progress is seen, and no request takes long


def check(subject: Subject, texts: Sequence[Any], labels: Sequence[str]) -> None:
    """See before anything is measured whether the labels are a subject's, where it says what those are.

    Args:
        subject: opened in a process of its own.
        texts: the first of them is asked.
        labels: the true ones.

    Raises:
        UserError: it knows none of the labels.
    """
    with Child(subject, texts[:1]) as child:
        own = child.request("facts")["facts"].get("labels")
        answered = child.request("answers", first=0, count=1)["answers"]
    named = isinstance(own, list) and all(isinstance(name, str) for name in own)
    if named and own and answered not in (None, [None]) and not set(own) & set(labels):
        raise _foreign(subject, "has the labels", own, labels)


def judged(child: Child, labels: Sequence[str], places: Sequence[int]) -> dict[str, Any] | None:
    """Accuracy with its 95% interval (Wilson 1927), expected calibration error, rows, and where it was wrong; None
    where the subject has no labels.

    Args:
        child: asked the labelled texts, one at a time.
        labels: the true one of each.
        places: of each text among those given.

    Raises:
        UserError: it knows none of the labels.
    """
    answers: list[Any] = []
    with Bar("quality", len(labels)) as bar:
        for first in range(0, len(labels), CHUNK):
            some = child.request("answers", first=first, count=CHUNK)["answers"]
            if some is None or any(answer is None for answer in some):
                return None
            answers += some
            bar.advance(len(some))
    found = [answer[0] for answer in answers]
    if not set(found) & set(labels):
        raise _foreign(child.subject, "answers", found, labels)
    wrong = np.array([own != label for own, label in zip(found, labels, strict=True)])
    given = np.array([[answer[1], 0.0] for answer in answers])  # the answered label and any other
    error = bins(given, wrong.astype(int)).calibration_error
    return {
        "accuracy": float(1 - wrong.mean()),
        "accuracy_interval": list(wilson(len(wrong) - int(wrong.sum()), len(wrong))),
        "calibration_error": error,
        "rows": len(labels),
        "wrong": sorted(place for place, missed in zip(places, wrong, strict=True) if missed),
    }


def _foreign(subject: Subject, says: str, own: Sequence[str], labels: Sequence[str]) -> UserError:
    these, wanted = (", ".join(sorted(set(names))[:5]) for names in (own, labels))
    return UserError(f"{subject.name} {says} {these}; the labels of the file are {wanted}")


def lost(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Points of accuracy that a subject has less than the first one, on the same rows, with the 95% interval.

    Args:
        first: what `judged` found.
        other: of the same rows.
    """
    here, there, rows = set(first["wrong"]), set(other["wrong"]), first["rows"]
    apart = len(there - here), len(here - there)  # rows that the other alone has wrong, and the first
    interval = [100 * end for end in matched(*apart, rows)]
    return {"drop_points": 100 * (apart[0] - apart[1]) / rows, "drop_interval": interval}


def replayed(folder: Path) -> dict[str, Any]:
    """What an artifact's recorded answers come to here."""
    found = replay(edgeft.load(folder))
    return {**asdict(found), "passed": found.passed}
