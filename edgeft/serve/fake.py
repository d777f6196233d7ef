"""A model without weights, for tests of whatever stands on a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.artifact import MODEL, InputSpec, Manifest, Quantization
from edgeft.listed_files import File


class FakeModel:
    """Counts the words "good" and "bad".

    Attributes:
        delay_seconds: what each call takes.
        error: raised by each call where set.
        gate: each call waits until it is set.
        calls: the number of texts of each call.
        signer: as of `edgeft.Model`.
    """

    signer: str | None = None

    takes, pairs, sample, long_texts = ("top_k",), False, "warm up", "truncated"

    def __init__(self, name: str = "fake", delay_seconds: float = 0.0, error: Exception | None = None) -> None:
        self.name = name
        self.delay_seconds = delay_seconds
        self.error = error
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[int] = []
        self.labels = ["negative", "positive"]
        self.manifest = Manifest(
            task="text-classification",
            labels=self.labels,
            inputs=InputSpec(names=["input_ids"], max_length=8, pad_token_id=0),
            quantization=Quantization(precision="int8", scheme="none"),
            metrics={"artifact": {"accuracy": 1.0}},
            files={MODEL: File(sha256="0" * 64, bytes=0)},
        )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Laplace's rule of succession on the two counts, shape (texts, 2)."""
        self.calls.append(len(texts))
        self.gate.wait()
        time.sleep(self.delay_seconds)
        if self.error:
            raise self.error
        counts = np.array([[text.count("bad") + 1, text.count("good") + 1] for text in texts], np.float32)
        shares: NDArray[np.float32] = counts / counts.sum(axis=1, keepdims=True)
        return shares

    def __call__(self, texts: str | Sequence[str], top_k: int | None = 1) -> Any:
        """Answers in the shape of `transformers.pipeline`."""
        rows = self.probabilities([texts] if isinstance(texts, str) else texts)
        ranked = [self._ranked(row)[:top_k] for row in rows]
        return [answers[0] for answers in ranked] if top_k == 1 else ranked

    def _ranked(self, row: NDArray[np.float32]) -> list[dict[str, Any]]:
        order = np.argsort(-row, kind="stable")
        return [{"label": self.labels[index], "score": float(row[index])} for index in order]
