"""A loaded artifact: text in, answer out, in the shape of `transformers.pipeline` for its task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeft import artifact
from edgeft.artifact import InputSpec, Manifest
from edgeft.errors import ArtifactError, UserError
from edgeft.progress import say
from edgeft.runtime import classification
from edgeft.runtime.classification import Prediction
from edgeft.runtime.engine import Engine, Ids

BATCH_SIZE = 8
CHUNK = 1024  # texts that `predict_many` holds at once


class Model:
    """An artifact that answers; safe to call from many threads.

    Made by `edgeft.load`.

    Attributes:
        manifest: what the artifact says of itself.
        name: the folder's name.
        labels: in the order of the probabilities' columns.
    """

    def __init__(self, folder: Path, manifest: Manifest, engine: Engine, tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.manifest = manifest
        self.labels = list(manifest.labels)
        self._engine = engine
        self._tokenizer = tokenizer
        self._clean = _cleaner(manifest.inputs)

    @overload
    def __call__(self, texts: str, top_k: int | None = 1) -> list[Prediction]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, texts: Sequence[str], top_k: int = 1) -> list[Prediction]: ...
    @overload
    def __call__(self, texts: Sequence[str], top_k: None) -> list[list[Prediction]]: ...
    def __call__(self, texts: str | Sequence[str], top_k: int | None = 1) -> list[Prediction] | list[list[Prediction]]:
        """Predict, in the shape of `transformers.pipeline("text-classification")`.

        Args:
            texts: one text or many.
            top_k: how many labels for each text, best first; None: all.

        Returns:
            For one text, or for many with `top_k=1`, a list of `{"label", "score"}`; for many texts with another
            `top_k` a list of such lists.
        """
        _check_counts(top_k)
        many = [texts] if isinstance(texts, str) else texts
        best = classification.decode(self.probabilities(many), self.labels, top_k)
        if isinstance(texts, str):
            return best[0]
        return [row[0] for row in best] if top_k == 1 else best

    def predict_many(
        self, texts: Iterable[str], top_k: int | None = 1, batch_size: int = 1
    ) -> Iterator[list[Prediction]]:
        """Predict one text after the other, in memory that doesn't grow with their number.

        Args:
            texts: any number of them; read as the answers are taken.
            top_k: how many labels for each text, best first; None: all.
            batch_size: texts in a forward pass. The scale of an int8 graph's activations is that of the batch, so only
                at 1 an answer doesn't depend on its neighbours; small models on a CPU gain little from more.

        Returns:
            For each text its labels, in the order of the texts.

        Raises:
            UserError: something that isn't a text (counted from 0), or a number below 1.
        """
        if isinstance(texts, str):
            raise UserError("predict_many: expected several texts, got one; call the model itself")
        _check_counts(top_k, batch_size)
        return self._predicted(texts, top_k, batch_size)

    def _predicted(self, texts: Iterable[str], top_k: int | None, batch_size: int) -> Iterator[list[Prediction]]:
        left, done = iter(texts), 0
        while chunk := list(itertools.islice(left, CHUNK)):
            probabilities = self._run(chunk, "probabilities", batch_size, done)
            yield from classification.decode(probabilities, self.labels, top_k)
            done += len(chunk)

    def probabilities(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """Calibrated probabilities.

        Returns:
            float32 (texts, labels).
        """
        return self._run(texts, "probabilities", batch_size)

    def logits(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """Logits before temperature and softmax.

        Returns:
            float32 (texts, labels).
        """
        return self._run(texts, "logits", batch_size)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cleaned as in training; special tokens included, truncated as in training."""
        return self._encode(texts, 0)

    def _encode(self, texts: Sequence[str], first: int) -> list[list[int]]:
        """As `encode`; an error counts the texts from `first`."""
        cleaned = list(map(self._clean, texts)) if self._clean else list(texts)
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch(cleaned)]
        except TypeError:  # half of a surrogate pair, which no encoder takes
            wrong = next(index for index, text in enumerate(cleaned) if not _is_unicode(text))
            raise UserError(f"text {first + wrong} is not valid Unicode (it has half of a surrogate pair)") from None

    def _run(self, texts: Sequence[str], output: str, batch_size: int, first: int = 0) -> NDArray[np.float32]:
        _check_texts(texts, first)
        _check_counts(None, batch_size)
        answers = np.empty((len(texts), len(self.labels)), dtype=np.float32)  # (N, L)
        ids = self._encode(texts, first)
        for rows in length_sorted(ids, batch_size):
            answers[rows] = self._engine.run([ids[row] for row in rows], [output])[0]
        return answers


def _cleaner(inputs: InputSpec) -> Callable[[str], str] | None:
    """The function that cleans a text; None where nothing is to be done, so that its patterns are never loaded."""
    if not inputs.cleaning:
        return None
    from edgeft.cleaning import cleaner, versions

    clean = cleaner(inputs.cleaning)
    here = versions(inputs.cleaning)
    if here != inputs.cleaning_versions and inputs.cleaning_versions:
        made = ", ".join(f"{name} {version}" for name, version in inputs.cleaning_versions.items())
        mine = ", ".join(f"{name} {version}" for name, version in here.items())
        say(f"cleaning: the model was made with {made}, here is {mine}; odd texts may be cleaned otherwise")
    return clean


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_counts(top_k: int | None, batch_size: int = 1) -> None:
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}, expected 1 or more")


def _check_texts(texts: Sequence[str], first: int) -> None:
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


def load_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """The fast tokenizer with the truncation of training and no padding.

    Raises:
        ArtifactError: the file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the Rust side raises plain Exception
        raise ArtifactError(f"{path} is not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


def assemble(
    folder: Path,
    manifest: Manifest,
    graph: Path | None = None,
    threads: int | None = None,
    provider: str = "CPUExecutionProvider",
) -> Model:
    """A model of files that nobody has checked.

    Args:
        folder: has the tokenizer.
        manifest: labels and inputs.
        graph: the ONNX file; None: the folder's own.
        threads: of one operator; None: the cores this process really has.
        provider: an onnxruntime execution provider.
    """
    engine = Engine(graph or folder / artifact.MODEL, manifest.inputs.pad_token_id, threads, provider)
    return Model(folder, manifest, engine, load_tokenizer(folder / artifact.TOKENIZER, manifest.inputs.max_length))


def load(path: str | Path, threads: int | None = None, provider: str = "CPUExecutionProvider") -> Model:
    """Load an artifact and check that it is the one that was written.

    Args:
        path: the artifact folder.
        threads: of one operator; None: the cores this process really has.
        provider: an onnxruntime execution provider.

    Raises:
        ArtifactError: missing, half-written or changed.
        MissingExtraError: onnxruntime is not installed, or what the cleaning of its texts needs.
        ModelError: the model that finds names for the cleaning is not there.
        UserError: the provider is not installed.
    """
    folder = Path(path)
    manifest = artifact.read_manifest(folder)
    artifact.verify_files(folder, manifest)
    return assemble(folder, manifest, None, threads, provider)
