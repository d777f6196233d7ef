"""Whether what is fast is also right: accuracy and calibration on labelled texts, an artifact's recorded answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import edgeft
from edgeft.bench.harness.child import Child
from edgeft.bench.scores import bins
from edgeft.errors import UserError
from edgeft.progress import Bar
from edgeft.runtime import replay

CHUNK = 64  # texts of a request: progress is seen, and no request takes long


def judged(child: Child, labels: Sequence[str]) -> dict[str, float] | None:
    """Accuracy, expected calibration error and rows; None where the subject has no labels.

    Args:
        child: asked the labelled texts, one at a time.
        labels: the true one of each.

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
        own, wanted = (", ".join(sorted(set(names))[:5]) for names in (found, labels))
        raise UserError(f"{child.subject.name} answers {own}; the labels of the file are {wanted}")
    wrong = np.array([own != label for own, label in zip(found, labels, strict=True)])
    given = np.array([[answer[1], 0.0] for answer in answers])  # the answered label and any other
    error = bins(given, wrong.astype(int)).calibration_error
    return {"accuracy": float(1 - wrong.mean()), "calibration_error": error, "rows": len(labels)}


def replayed(folder: Path) -> dict[str, Any]:
    """What an artifact's recorded answers come to here."""
    found = replay(edgeft.load(folder))
    return {**asdict(found), "passed": found.passed}
