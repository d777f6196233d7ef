"""Metrics of text regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeft.errors import require
from edgeft.train.metrics.checks import PURPOSE, Figures, Floats, check_finite, check_rows

CONSTANT = 1e-13  # SciPy treats values with a smaller relative deviation as constant


def regression(predicted: Floats, targets: Floats) -> Figures:
    """Correlations and errors.

    Args:
        predicted: (n,) or (n, 1).
        targets: (n,) or (n, 1), in the same unit.

    Returns:
        `pearson`, `spearman` (SciPy's pearsonr and spearmanr; left out if predictions or targets are constant, as the
        correlation is undefined), `mae` and `rmse` in the unit of the targets (scikit-learn's).

    Raises:
        TrainingError: no rows, or values that are not finite.
    """
    check_rows(predicted, targets)
    check_finite(predicted, "predictions")
    check_finite(targets, "targets")
    guess, truth = (np.asarray(values, dtype=np.float64).reshape(len(values)) for values in (predicted, targets))
    sklearn = require("sklearn.metrics", PURPOSE)
    figures: Figures = {}
    if _varies(guess) and _varies(truth):
        stats = require("scipy.stats", PURPOSE)
        figures["pearson"] = float(stats.pearsonr(guess, truth).statistic)
        figures["spearman"] = float(stats.spearmanr(guess, truth).statistic)
    figures["mae"] = float(sklearn.mean_absolute_error(truth, guess))
    figures["rmse"] = float(sklearn.root_mean_squared_error(truth, guess))
    return figures


def _varies(values: npt.NDArray[np.float64]) -> bool:
    mean = values.mean()
    return bool(np.linalg.norm(values - mean) > CONSTANT * abs(mean)) and len(np.unique(values)) > 1
