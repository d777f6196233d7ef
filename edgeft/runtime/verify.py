"""Golden replay: the artifact's own real inputs, run on this machine and compared with what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from edgeft import artifact
from edgeft.errors import ArtifactError
from edgeft.runtime.model import Model


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One recorded input with its output."""

    text: str
    input_ids: list[int]
    logits: list[float]
    probabilities: list[float]
    label: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """`golden.json`.

    Attributes:
        tolerance: largest allowed difference of a logit.
        rows: the recorded inputs and outputs.
    """

    tolerance: float
    rows: list[GoldenRow]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay found.

    Attributes:
        rows: how many inputs were run.
        same_tokens: rows whose token ids equal the recorded ones.
        same_labels: rows with the recorded label.
        max_logit_difference: over all rows.
        tolerance: what is allowed.
    """

    rows: int
    same_tokens: int
    same_labels: int
    max_logit_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether tokens and labels are equal and logits within the tolerance."""
        equal = self.same_tokens == self.rows and self.same_labels == self.rows
        return equal and self.max_logit_difference <= self.tolerance


def read_golden(model: Model) -> Golden:
    """The artifact's golden rows.

    Raises:
        ArtifactError: there are none, or the file can't be read.
    """
    path = model.folder / artifact.GOLDEN
    try:
        return msgspec.json.decode(path.read_bytes(), type=Golden)
    except FileNotFoundError:
        raise ArtifactError(f"{model.folder} has no {artifact.GOLDEN} to replay") from None
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path} can't be read: {error}") from None


def record(model: Model, texts: list[str], tolerance: float) -> Golden:
    """Run the texts one by one and keep what came out."""
    rows = []
    for text in texts:
        logits, probabilities = model.logits([text])[0], model.probabilities([text])[0]
        rows.append(
            GoldenRow(
                text=text,
                input_ids=model.encode([text])[0],
                logits=[float(value) for value in logits],
                probabilities=[float(value) for value in probabilities],
                label=model.labels[int(np.argmax(probabilities))],
            )
        )
    return Golden(tolerance=tolerance, rows=rows)


def replay(model: Model) -> Replay:
    """Run the golden rows one by one and compare."""
    golden = read_golden(model)
    now = record(model, [row.text for row in golden.rows], golden.tolerance).rows
    pairs = list(zip(golden.rows, now, strict=True))
    differences = [np.abs(np.subtract(old.logits, new.logits)).max() for old, new in pairs]
    return Replay(
        rows=len(pairs),
        same_tokens=sum(old.input_ids == new.input_ids for old, new in pairs),
        same_labels=sum(old.label == new.label for old, new in pairs),
        max_logit_difference=float(max(differences, default=0.0)),
        tolerance=golden.tolerance,
    )
