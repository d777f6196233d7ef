from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics


def test_regression_by_hand() -> None:
    figures = metrics.regression(np.array([1.0, 4.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    # Deviations -4/3, 5/3, -1/3 and -1, 0, 1.
    assert figures["pearson"] == pytest.approx(1 / math.sqrt(42 / 9 * 2))
    assert figures["spearman"] == pytest.approx(1 - 6 * (0 + 1 + 1) / (3 * (9 - 1)))
    assert figures["mae"] == pytest.approx((0 + 2 + 1) / 3)
    assert figures["rmse"] == pytest.approx(math.sqrt((0 + 4 + 1) / 3))


def test_a_column_of_logits_will_do() -> None:
    flat = np.array([1.0, 4.0, 2.0], dtype=np.float32)
    assert metrics.regression(flat[:, None], flat) == metrics.regression(flat, flat)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("predicted", [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1 + 1e-16], [1e9, 1e9, 1e9]])
def test_correlation_with_a_constant_is_left_out(predicted: list[float]) -> None:
    varied, constant = np.array([1.0, 2.0, 3.0]), np.array(predicted)
    assert metrics.regression(constant, varied).keys() == {"mae", "rmse"}
    assert metrics.regression(varied, constant).keys() == {"mae", "rmse"}


@pytest.mark.filterwarnings("error")
def test_one_row_has_errors_and_no_correlation() -> None:
    assert metrics.regression(np.array([3.0]), np.array([1.0])) == {"mae": 2.0, "rmse": 2.0}


def test_what_is_refused() -> None:
    with pytest.raises(TrainingError, match="the predictions of 1 of 2 rows are not finite"):
        metrics.regression(np.array([np.nan, 1.0]), np.array([1.0, 2.0]))
    with pytest.raises(TrainingError, match="the targets of 1 of 2 rows are not finite"):
        metrics.regression(np.array([0.0, 1.0]), np.array([1.0, np.inf]))
    with pytest.raises(TrainingError, match="no rows"):
        metrics.regression(np.empty(0), np.empty(0))
