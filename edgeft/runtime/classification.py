"""Decoding of `text-classification`: probabilities to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Prediction(TypedDict):
    """One label with its probability."""

    label: str
    score: float


def decode(probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int | None) -> list[list[Prediction]]:
    """The best labels of each row, best first; equal scores keep the labels' order.

    Args:
        probabilities: (texts, labels).
        labels: the columns' names.
        top_k: how many; None: all.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]  # (N, k)
    return [
        [Prediction(label=labels[column], score=float(row[column])) for column in best]
        for row, best in zip(probabilities, order, strict=True)
    ]
