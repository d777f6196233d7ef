"""Golden replay: the artifact's own real inputs, run on this machine and compared with what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from edgeft import artifact
from edgeft.errors import ArtifactError
from edgeft.runtime.model import Model


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One recorded input with its output.

    Attributes:
        text: what the model was given: a text, or a question with its context.
        input_ids: of all its windows, one after the other.
        logits: what a replay compares: the logits, of tags the best one of each token; of embeddings the vector.
        label: the answer as words; empty where the numbers are all of it.
    """

    text: str | dict[str, str]
    input_ids: list[int]
    logits: list[float]
    label: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """`golden.json`.

    Attributes:
        tolerance: largest allowed difference of a number.
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
        same_labels: rows with the recorded answer.
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
        return msgspec.json.decode(_golden_bytes(model), type=Golden)
    except FileNotFoundError:
        raise ArtifactError(f"{model.folder} has no {artifact.GOLDEN} to replay") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} can't be read: {error}") from None


def _golden_bytes(model: Model) -> bytes:
    """Of a loaded artifact the bytes that its manifest lists, which is not written yet where they are recorded."""
    if model.checks_answers and artifact.GOLDEN in model.manifest.files:
        return artifact.read_file(model.folder, model.manifest, artifact.GOLDEN)
    return (model.folder / artifact.GOLDEN).read_bytes()


def record(model: Model, inputs: Sequence[Any], tolerance: float) -> Golden:
    """Run the inputs one by one and keep what came out."""
    return Golden(tolerance=tolerance, rows=[_recorded(model, given) for given in inputs])


def _recorded(model: Model, given: Any) -> GoldenRow:
    windows = model.windows([given])
    numbers, answer = model.replayed(windows[0], model.run(windows, model.replays, 1)[0])
    return GoldenRow(
        text=given,
        input_ids=[token for window in windows[0] for token in window.ids],
        logits=[float(value) for value in numbers],
        label=answer,
    )


def replay(model: Model) -> Replay:
    """Run the golden rows one by one and compare."""
    golden = read_golden(model)
    now = record(model, [row.text for row in golden.rows], golden.tolerance).rows
    pairs = list(zip(golden.rows, now, strict=True))
    differences = [difference(old.logits, new.logits) for old, new in pairs]
    return Replay(
        rows=len(pairs),
        same_tokens=sum(old.input_ids == new.input_ids for old, new in pairs),
        same_labels=sum(old.label == new.label for old, new in pairs),
        max_logit_difference=max(differences, default=0.0),
        tolerance=golden.tolerance,
    )


def difference(before: list[float], now: list[float]) -> float:
    """The largest one of any number; infinite where other tokens gave another number of them."""
    if len(before) != len(now):
        return float("inf")
    return float(np.abs(np.subtract(before, now)).max(initial=0.0))
