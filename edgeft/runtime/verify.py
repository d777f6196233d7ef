"""Golden replay: the artifact's own real inputs, run on this machine and compared with what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from edgeft import artifact
from edgeft.errors import ArtifactError, UserError
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.model import Model

# The largest tolerance that still proves something, in `Model.unit`. Of an int8 student whose logits deviate by
# 1.04, edgeft's kernels and onnxruntime's are at most 0.013 logits apart on 100 reviews, and onnxruntime's saturating
# and exact products, the coarsest difference there is, 0.102 on 600. At 0.25 an undecided text moves by 12 points.
MOST_TOLERANCE = 0.25
AGAIN = "make the artifact again with this edgeft (the same `edgeft pipeline` command; finished stages are kept)"


@dataclass(frozen=True, kw_only=True)
class GoldenWindow:
    """What a `Window` is beside its token ids, its text left out.

    Attributes:
        tokens: how many of the row's token ids are its own.
        first: place among them of the first token of the text that it cuts.
        start: how many of that text's tokens stand before this window.
        text_tokens: how many of them are in it.
        types: (tokens,) token type ids; empty where all are 0.
    """

    tokens: int
    first: int = 0
    start: int = 0
    text_tokens: int = 0
    types: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GoldenRow:
    """One recorded input with its output.

    Attributes:
        text: what the model was given: a text, or a question with its context; None where texts were left out.
        input_ids: of all its windows, one after the other.
        logits: what a replay compares: the logits, of tags the best one of each token; of embeddings the vector.
        label: the answer as words; empty where the numbers are all of it, or where it would be words of the text.
        windows: how `input_ids` are cut, where there is no text that would say so.
    """

    text: str | dict[str, str] | None
    input_ids: list[int]
    logits: list[float]
    label: str
    windows: list[GoldenWindow] = field(default_factory=list)


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
    """The result of a replay.

    Attributes:
        rows: how many inputs were run.
        texts: how many of them are texts, and were tokenized here; the others are token ids.
        same_tokens: texts whose token ids equal the recorded ones.
        same_labels: rows with the recorded answer.
        max_logit_difference: over all rows.
        tolerance: what is allowed.
    """

    rows: int
    texts: int
    same_tokens: int
    same_labels: int
    max_logit_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether there are rows, tokens and labels are equal, and logits within the tolerance."""
        equal = self.same_tokens == self.texts and self.same_labels == self.rows > 0
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
    """Of a loaded artifact the bytes that its manifest lists, which is not written yet where they are recorded.

    Raises:
        FileNotFoundError: the manifest lists none; what else lies there may be anybody's.
    """
    if model.checks_answers:
        if artifact.GOLDEN not in model.manifest.files:
            raise FileNotFoundError(artifact.GOLDEN)
        return artifact.read_file(model.folder, model.manifest, artifact.GOLDEN)
    return (model.folder / artifact.GOLDEN).read_bytes()


def record(model: Model, inputs: Sequence[Any], tolerance: float) -> Golden:
    """Run the inputs one by one and record their outputs."""
    return Golden(tolerance=tolerance, rows=[_record_input(model, text) for text in inputs])


def _record_input(model: Model, text: Any) -> GoldenRow:
    windows = model.windows([text])[0]
    numbers, answer = _run_windows(model, windows)
    return GoldenRow(
        text=text, input_ids=[token for window in windows for token in window.ids], logits=numbers, label=answer
    )


def _run_windows(model: Model, windows: Sequence[Window]) -> tuple[list[float], str]:
    """The numbers and the answer of one input."""
    numbers, answer = model.replay_values(windows, model.run([windows], model.replays, 1)[0])
    return [float(value) for value in numbers], answer


def leave_out_texts(model: Model, golden: Golden) -> Golden:
    """The rows as token ids, cut as the model cuts them, without texts and without answers that are words of a text.

    Args:
        model: that the rows were recorded of.
        golden: rows with texts.
    """
    return replace(golden, rows=[_without_text(model, row) for row in golden.rows])


def _without_text(model: Model, row: GoldenRow) -> GoldenRow:
    windows = [
        GoldenWindow(
            tokens=len(window.ids),
            first=window.first,
            start=window.start,
            text_tokens=len(window.offsets),
            types=list(window.types) if any(window.types) else [],
        )
        for window in model.windows([row.text])[0]
    ]
    return replace(row, text=None, windows=windows, label="" if model.quotes else row.label)


def _windows_of(row: GoldenRow) -> list[Window]:
    """The windows of a row without text; nobody can ask them where in it an answer stands."""
    windows, start = [], 0
    for part in row.windows:
        ids = row.input_ids[start : start + part.tokens]
        windows.append(Window(ids, part.types, "", part.first, part.start, [(0, 0)] * part.text_tokens))
        start += part.tokens
    return windows


def replay(model: Model) -> Replay:
    """Run the golden rows one by one and compare.

    Raises:
        ArtifactError: there are none, they are not those that the manifest speaks of, or they can't be asked.
    """
    golden = read_golden(model)
    _check(model, golden)
    try:
        pairs = [(row, _replay_row(model, row)) for row in golden.rows]
    except (UserError, IndexError, ValueError) as error:
        raise ArtifactError(f"{model.folder / artifact.GOLDEN}: a row can't be asked: {error}; {AGAIN}") from None
    return Replay(
        rows=len(pairs),
        texts=sum(row.text is not None for row in golden.rows),
        same_tokens=sum(old.text is not None and old.input_ids == new.input_ids for old, new in pairs),
        same_labels=sum(old.label == new.label for old, new in pairs),
        max_logit_difference=max(difference(old.logits, new.logits) for old, new in pairs),
        tolerance=golden.tolerance,
    )


def _replay_row(model: Model, row: GoldenRow) -> GoldenRow:
    if row.text is not None:
        return _record_input(model, row.text)
    numbers, answer = _run_windows(model, _windows_of(row))
    return replace(row, logits=numbers, label="" if model.quotes else answer)


def most_tolerance(model: Model) -> float:
    """The largest tolerance of golden rows that this runtime takes for a proof, in the unit of the numbers."""
    return MOST_TOLERANCE * model.unit


def _check(model: Model, golden: Golden) -> None:
    """Refuse golden rows that would prove nothing.

    Raises:
        ArtifactError: both numbers, and what to do.
    """
    path, promised = model.folder / artifact.GOLDEN, model.manifest.golden
    if not golden.rows:
        raise ArtifactError(f"{path} has no rows, and a replay of none proves nothing; {AGAIN}")
    most = most_tolerance(model)
    if not 0 <= golden.tolerance <= most:
        raise ArtifactError(
            f"{path} allows numbers to differ by {golden.tolerance:.3g}, and more than {most:.3g} proves nothing; "
            f"{AGAIN}"
        )
    if promised is not None and (promised.rows, promised.tolerance) != (len(golden.rows), golden.tolerance):
        raise ArtifactError(
            f"{path} has {len(golden.rows)} rows with a tolerance of {golden.tolerance:.3g}, but {artifact.MANIFEST} "
            f"speaks of {promised.rows} with {promised.tolerance:.3g}; {AGAIN}"
        )
    size = model.vocabulary_size
    if any(row.text is None and not _is_whole(row, size) for row in golden.rows):
        raise ArtifactError(f"{path} has a row without a text whose token ids can't be cut as it says; {AGAIN}")


def _is_whole(row: GoldenRow, size: int) -> bool:
    """Whether a row without text is windows of known tokens; what comes from elsewhere may be anything.

    Args:
        row: as read.
        size: of the vocabulary.
    """
    total = len(row.input_ids)
    return (
        sum(part.tokens for part in row.windows) == total > 0
        and all(0 <= token < size for token in row.input_ids)
        and all(
            part.tokens > 0
            and 0 <= part.first <= part.first + part.text_tokens <= part.tokens
            and 0 <= part.start <= total
            and len(part.types) in (0, part.tokens)
            and all(0 <= kind <= 1 for kind in part.types)
            for part in row.windows
        )
    )


def difference(before: list[float], now: list[float]) -> float:
    """The largest one of any number; infinite where other tokens gave another number of them, or one is no number."""
    if len(before) != len(now):
        return float("inf")
    if not np.isfinite([*before, *now]).all():
        return float("inf")
    return float(np.abs(np.subtract(before, now)).max(initial=0.0))
