"""A loaded artifact: text in, answer out, in the shape of `transformers.pipeline` for its task.

What all kinds have in common is here; a kind's own part is one file beside this one (see `edgeft/tasks.py`).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from edgeft.artifact import TOKENIZER, InputSpec, Manifest
from edgeft.errors import ArtifactError, UserError
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.engine import Engine, Ids
from edgeft.runtime.tokenization import is_panic
from edgeft.terminal.printing import say

BATCH_SIZE = 8
CHUNK = 1024  # texts that `predict_many` holds at once

Floats = NDArray[np.float32]
Arrays = tuple[Floats, ...]  # one window's outputs: (labels,), (T, labels), (T,) or (width,)


@dataclass(frozen=True)
class NoDecoding:
    """What reading the outputs needs beside the labels, of `Manifest.decoding`: nothing."""


class Model(ABC):
    """An artifact that answers; safe to call from many threads.

    Made by `edgeft.load`, which chooses the subclass by the artifact's kind.

    Attributes:
        manifest: what the artifact says of itself.
        name: the folder's name.
        labels: in the order of the logits' last axis; none where the kind has none.
        reads: the graph's outputs that an answer is made of.
        numbers: those that a replay compares.
        replays: all that a replay looks at; the numbers first.
        takes: the options of a call, beside the input.
        pairs: whether an input is a question with its context, not a text.
        quotes: whether an answer is words of its input.
        sample: any input.
        engine: token ids in, arrays out.
        checks_answers: whether the shape and the numbers of what the graph gives are looked at, each time.
        signer: fingerprint of the trusted key that signed the artifact; None: no signature was asked for.
    """

    Decoding: ClassVar[type] = NoDecoding

    reads: tuple[str, ...]
    numbers: tuple[str, ...] = ("logits",)
    replays: tuple[str, ...] = ("logits",)
    takes: ClassVar[tuple[str, ...]] = ()
    pairs: ClassVar[bool] = False
    quotes: ClassVar[bool] = False
    sample: ClassVar[Any] = "warm up"
    signer: str | None = None

    def __init__(self, folder: Path, manifest: Manifest, engine: Engine, tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.manifest = manifest
        self.labels = list(manifest.labels)
        self.engine = engine
        self._tokenizer = tokenizer
        self._clean = _cleaner(manifest.inputs)
        self.checks_answers = False

    @property
    def kind(self) -> str:
        """Which of its task's forms the artifact is of, as in `multi-label`."""
        return self.manifest.kind

    @property
    def unit(self) -> float:
        """What differences of its numbers are measured in."""
        return 1.0

    @property
    def vocabulary_size(self) -> int:
        """Tokens that its tokenizer knows, those added to it included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def long_texts(self) -> str:
        """What happens to a text of more than `manifest.inputs.max_length` tokens: `truncated`, or `windowed` where
        all of it is answered.
        """
        return "windowed" if self.manifest.inputs.stride else "truncated"

    # ------------------------------------------------------------------------------------------------- of each kind

    @abstractmethod
    def __call__(self, *texts: Any, **options: Any) -> Any:
        """Answer one input or many, in the shape of `transformers.pipeline`; `takes` names the options."""

    @abstractmethod
    def decode(self, *outputs: Any, **options: Any) -> Any:
        """The answer to one input.

        Args:
            outputs: the input's windows, and for each window the arrays of `reads`.
            options: some of `takes`, checked.
        """

    @abstractmethod
    def replay_values(self, windows: Sequence[Window], arrays: Sequence[Arrays]) -> tuple[Floats, str]:
        """What a replay compares: numbers, and the answer as text; empty if the numbers say it all.

        Args:
            windows: of the input.
            arrays: for each window, the arrays of `replays`.
        """

    def check(self, **options: Any) -> None:
        """Refuse options that this kind doesn't take, and values out of range.

        Raises:
            UserError: names the first of them.
        """
        wrong = next((name for name in options if name not in self.takes), None)
        if wrong is not None:
            has = f"it takes {', '.join(self.takes)}" if self.takes else "it takes none"
            raise UserError(f"{wrong} is no option of {self.manifest.task} ({self.kind}); {has}")
        _check_count("top_k", options.get("top_k"))

    # ------------------------------------------------------------------------------------------------------ answers

    def _predict(self, texts: Any, **options: Any) -> Any:
        """The answer to one input, or the list of those to many."""
        self.check(**options)
        if isinstance(texts, str | dict):
            (windows,) = self.windows([texts])
            return self.decode(windows, self._run_input(windows), **options)
        return list(self._answer_batch(texts, BATCH_SIZE, options))

    def predict_many(self, texts: Iterable[Any], *, batch_size: int = 1, **options: Any) -> Iterator[Any]:
        """Answer one input after the other, in memory that doesn't grow with their number.

        Args:
            texts: any number of them; read as the answers are taken.
            batch_size: inputs in a batch. The scale of an `int8-tensor` graph's activations is that of what runs at
                once, so only at 1 its answers don't depend on their neighbours; small models on a CPU gain little from
                more.
            options: as of a call.

        Returns:
            The answer to each, in their order; of classification a list of labels.

        Raises:
            UserError: an invalid input (counted from 0) or option.
        """
        if isinstance(texts, str | dict):
            raise UserError("predict_many: expected several texts, got one; call the model itself")
        self.check(**options)
        _check_count("batch_size", batch_size)
        return self._answer_in_chunks(texts, batch_size, options)

    def _answer_in_chunks(self, texts: Iterable[Any], batch_size: int, options: dict[str, Any]) -> Iterator[Any]:
        left, done = iter(texts), 0
        while chunk := list(itertools.islice(left, CHUNK)):
            yield from self._answer_batch(chunk, batch_size, options, done)
            done += len(chunk)

    def _answer_batch(
        self, inputs: Sequence[Any], batch_size: int, options: dict[str, Any], first: int = 0
    ) -> Iterator[Any]:
        windows = self.windows(inputs, first)
        for of_input, arrays in zip(windows, self.run(windows, self.reads, batch_size), strict=True):
            yield self.decode(of_input, arrays, **options)

    def probabilities(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        """Calibrated probabilities of each label, float32 (texts, labels); of classification only.

        Raises:
            UserError: this kind has none.
        """
        raise UserError(f"{self.name}: {self.manifest.task} ({self.kind}) has no probabilities of a whole text")

    def logits(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        """Logits before calibration, float32 (texts, labels); of classification and regression only.

        Raises:
            UserError: this kind has none.
        """
        raise UserError(f"{self.name}: {self.manifest.task} ({self.kind}) has no logits of a whole text")

    def embed(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        """Embeddings of length 1, float32 (texts, width); of feature-extraction only.

        Raises:
            UserError: this kind has none.
        """
        raise UserError(f"{self.name}: {self.manifest.task} ({self.kind}) has no embeddings")

    # --------------------------------------------------------------------------------------------- tokens and arrays

    def encode(self, texts: Sequence[Any]) -> list[list[int]]:
        """Token ids of each input, cleaned as in training; special tokens included, truncated as in training, or its
        windows one after the other.
        """
        return [[token for window in windows for token in window.ids] for windows in self.windows(texts)]

    def clean(self, text: str) -> str:
        """A text as the model sees it, and as `start` and `end` of an answer count its characters."""
        return self._clean(text) if self._clean else text

    def windows(self, inputs: Sequence[Any], first: int = 0) -> list[list[Window]]:
        """Tokenize each input into windows for the engine; errors count inputs from `first`."""
        check_texts(inputs, first)
        encoded = self._encode([self.clean(text) for text in inputs], first, with_offsets=False)
        return [[Window(encoding.ids)] for encoding in encoded]

    def _encode(self, inputs: Sequence[Any], first: int, with_offsets: bool = True) -> list[Encoding]:
        """Texts, or pairs of them, as tokens; without `with_offsets` their offsets are all 0, which is faster."""
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast
        try:
            return list(encode(list(inputs)))
        except TypeError:  # half of a surrogate pair, which no encoder takes
            wrong = next(index for index, item in enumerate(inputs) if not _is_unicode("".join(item)))
            raise UserError(f"text {first + wrong} is not valid Unicode (it has half of a surrogate pair)") from None
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            detail = " ".join(str(error).split())[:200]
            path = self.folder / TOKENIZER
            raise ArtifactError(f"{path} can't encode text {first} or one after it: {detail}") from None

    def _run_input(self, windows: Sequence[Window]) -> list[Arrays]:
        """`run` for one input; a single window takes a shorter path, because microseconds count there."""
        if len(windows) > 1:
            return self.run([windows], self.reads, BATCH_SIZE)[0]
        return [tuple([array[0] for array in self._run_engine([windows[0].ids], self.reads, [windows[0].types])])]

    def _run_engine(self, ids: Ids, outputs: Sequence[str], types: Ids) -> list[Floats]:
        """Run the engine on a batch; for a loaded artifact, check that all numbers are finite.

        Raises:
            ArtifactError: they aren't.
        """
        arrays = self.engine.run(ids, outputs, types)
        if self.checks_answers:
            for name, array in zip(outputs, arrays, strict=True):
                # A sum is finite only if all its numbers are, and takes a third of the time of looking at each.
                if len(array) != len(ids) or not isfinite(array.sum()):
                    _check_answer(self.folder, name, array, len(ids))
        return arrays

    def check_graph_answers(self, largest_id: int) -> None:
        """Run the graph once, and compare its outputs with what this kind reads.

        Args:
            largest_id: of the tokenizer's tokens; it is in the batch, so that a table with fewer rows shows.

        Raises:
            ArtifactError: an output is missing or of another type or shape, or the graph can't run.
        """
        names = list(dict.fromkeys([*self.reads, *self.replays]))
        if missing := [name for name in names if name not in self.engine.output_names]:
            has = ", ".join(self.engine.output_names)
            raise ArtifactError(f"{self.folder}: its graph has no output {', '.join(missing)}; it has {has}")
        special = [token for window in self.windows([self.sample])[0][:1] for token in window.ids]
        ids = [largest_id, self.manifest.inputs.pad_token_id, *special[:8]][: self.manifest.inputs.max_length]
        arrays = self.engine.run([ids], names)
        for name, array in zip(names, arrays, strict=True):
            shape = self.output_shape(len(ids))
            if array.dtype not in (np.float32, np.float16) or array.shape != shape:
                seen = f"{name} of shape {_axes(array.shape)} in {array.dtype}"
                raise ArtifactError(f"{self.folder}: its graph gives {seen}, expected {_axes(shape)} in float32")
            _check_answer(self.folder, name, array, 1)

    def output_shape(self, tokens: int) -> tuple[int, ...]:
        """The shape of what the graph gives for one row of so many tokens."""
        return (1, self._width)

    def run(self, windows: Sequence[Sequence[Window]], outputs: Sequence[str], batch_size: int) -> list[list[Arrays]]:
        """The graph's outputs for each window of each input, without padding."""
        _check_count("batch_size", batch_size)
        flat = [window for of_input in windows for window in of_input]
        results: list[Arrays] = [()] * len(flat)
        for rows in length_sorted([window.ids for window in flat], batch_size):
            ids, types = [flat[row].ids for row in rows], [flat[row].types for row in rows]
            arrays = self._run_engine(ids, outputs, types)
            for index, row in enumerate(rows):
                results[row] = tuple(
                    array[index, : len(ids[index])] if name in self.engine.of_tokens else array[index]
                    for name, array in zip(outputs, arrays, strict=True)
                )
        left = iter(results)
        return [list(itertools.islice(left, len(of_input))) for of_input in windows]

    def _rows(self, texts: Sequence[str], output: str, batch_size: int) -> Floats:
        """One output of texts of one window each, (texts, width)."""
        results = self.run(self.windows(texts), [output], batch_size)
        return np.array([windows[0][0] for windows in results], dtype=np.float32).reshape(len(results), self._width)

    @property
    def _width(self) -> int:
        return len(self.labels)


def _cleaner(inputs: InputSpec) -> Callable[[str], str] | None:
    """The function that cleans a text; None where nothing is to be done, so that its patterns are never loaded."""
    if not inputs.cleaning:
        return None
    from edgeft.cleaning import cleaner, versions

    clean = cleaner(inputs.cleaning)
    installed = versions(inputs.cleaning)
    if inputs.cleaning_versions.items() - installed.items():
        recorded = ", ".join(f"{name} {version}" for name, version in inputs.cleaning_versions.items())
        present = ", ".join(f"{name} {version}" for name, version in installed.items())
        say(
            f"cleaning: the model was made with {recorded}, here is {present}; unusual texts may be cleaned differently"
        )
    return clean


def _check_answer(folder: Path, name: str, array: NDArray[Any], rows: int) -> None:
    """Check that an output has `rows` rows of finite numbers.

    Raises:
        ArtifactError: it doesn't.
    """
    if len(array) != rows:
        raise ArtifactError(f"{folder}: its graph gives {len(array)} rows of {name} for a batch of {rows}")
    if not np.isfinite(array).all():
        raise ArtifactError(f"{folder}: its graph answers with {name} that are not finite numbers")


def _axes(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_count(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"{name} is {value}, expected 1 or more")


def check_texts(texts: Sequence[str], first: int) -> None:
    """Check that all inputs are texts.

    Raises:
        UserError: names the first that isn't one, counted from `first`.
    """
    if not isinstance(texts, Sequence):
        raise UserError(f"expected a text or a list of texts, got {type(texts).__name__}")
    wrong = next((index for index, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise UserError(f"text {first + wrong} is {type(texts[wrong]).__name__}, expected str")


def length_sorted(ids: Ids, batch_size: int) -> Iterator[list[int]]:
    """Batches of row indices of similar length, so that little of a batch is padding."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
