"""Checks of the inputs of every metric."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
import numpy.typing as npt

from edgeft.errors import TrainingError

PURPOSE = "to measure predictions"
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
Figures = dict[str, float]


def check_finite(values: Floats, name: str = "logits") -> None:
    """Refuse NaN and infinity; the message counts the rows that have them.

    Args:
        values: (n, ...).
        name: what they are, for the message.

    Raises:
        TrainingError: some are not finite.
    """
    bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum()) if len(values) else 0
    if bad:
        raise TrainingError(f"the {name} of {bad} of {len(values)} rows are not finite")


def check_rows(predicted: Sized, true: Sized) -> None:
    """Refuse an empty set of rows; predictions and targets must be as many.

    Raises:
        TrainingError: there are no rows.
    """
    assert len(predicted) == len(true), (len(predicted), len(true))
    if not len(true):
        raise TrainingError("there are no rows to measure")
