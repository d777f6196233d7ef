"""Selective prediction: which answers are sure enough that few of them are wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from edgeft import tasks
from edgeft.errors import RecipeError
from edgeft.recipe import CalibrateConfig

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

# A sequence begins with the fewest answers that may hold this part of the wanted errors. Where none may, it begins with
# few answers, and one early error ends it; with half of them it has room for some.
BEGINNINGS = (0.0, 0.5)
STEPS = 20  # thresholds in a sequence


def check(config: CalibrateConfig, kind: str) -> None:
    """Whether a threshold can hold an error rate.

    Raises:
        RecipeError: it can't with answers of this kind, or this method, and the recipe asks for it.
    """
    if config.max_error is None:
        return
    if not tasks.find_form(kind).has_one_label:
        raise RecipeError(
            f"calibrate.max_error: an answer to {kind} rows is not one label that is right or wrong; leave it unset"
        )
    if config.enabled and config.method in ("isotonic", "vector"):
        raise RecipeError(
            f"calibrate.max_error: method={config.method} follows the validation rows too closely for a threshold on "
            "the same rows; use calibrate.method=auto, which then takes a temperature at most"
        )


def find_threshold(confidences: Floats, wrong: Flags, max_error: float, confidence: float) -> float | None:
    """The lowest threshold that was found to hold an error rate among the answers above it; None: none was.

    Fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test", algorithm 1 with several starting points):
    thresholds are tested from the highest down, each by the binomial tail of its errors, up to the first that fails.
    The chance of an error is shared among the sequences. Nothing but the confidences decides which thresholds are
    tested, so that all that passed hold together.

    Args:
        confidences: (n,) highest probabilities.
        wrong: (n,) whether the answer is.
        max_error: the error rate.
        confidence: with which it is held.
    """
    order = np.argsort(-confidences, kind="stable")
    ranked, errors = confidences[order], np.cumsum(wrong[order])
    starts = _sequence_starts(len(ranked), max_error, confidence)
    level, answered = (1 - confidence) / max(1, len(starts)), 0
    for start in starts:
        for count in _counts_above(ranked, start):
            if binom.cdf(errors[count - 1], count, max_error) > level:
                break
            answered = max(answered, count)
    if answered == len(ranked):
        return 0.0
    # Half way to the next one, so that no rounding moves an answer to the other side.
    return float(ranked[answered - 1] + ranked[answered]) / 2 if answered else None


def _sequence_starts(rows: int, max_error: float, confidence: float) -> list[int]:
    """How many answers the sequences begin with; fewer sequences where there are too few rows for all."""
    counts = np.arange(1, rows + 1)
    for number in range(len(BEGINNINGS), 0, -1):
        level, found = (1 - confidence) / number, []
        for part in BEGINNINGS[:number]:
            passes = binom.cdf(np.floor(part * max_error * counts), counts, max_error) <= level
            found += counts[passes][:1].tolist()
        if len(found) == number:
            return found
    return []


def _counts_above(ranked: Floats, start: int) -> Iterator[int]:
    """How many answers are above each threshold, rising; those with equal confidences stay together."""
    for count in np.unique(np.ceil(np.linspace(start, len(ranked), STEPS)).astype(int)):
        yield int(np.searchsorted(-ranked, -ranked[count - 1], side="right"))


def measure_threshold(confidences: Floats, wrong: Flags, least: float | None) -> tuple[float, float]:
    """Share of the answers that reach a threshold, and the share of wrong ones among them."""
    given = confidences >= (np.inf if least is None else least)
    return float(given.mean()), float(wrong[given].mean()) if given.any() else 0.0
