"""The quick figures equal scikit-learn's and SciPy's, on the rows and on every draw."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score

from edgeft.train.metrics import resampling
from edgeft.train.metrics.bootstrap import interval


def draws(n: int, count: int = 50) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.arange(n), *(generator.integers(0, n, generator.integers(1, n)) for _ in range(count))]


@pytest.mark.parametrize("labels", [2, 3, 40])
def test_macro_f1_is_scikit_learns(labels: int) -> None:
    generator = np.random.default_rng(labels)
    truth, guess = generator.integers(0, labels, (2, 60))
    figure = resampling.macro_f1(truth, guess)
    for rows in draws(60):
        expected = f1_score(truth[rows], guess[rows], average="macro", zero_division=0)
        assert figure(rows) == pytest.approx(expected, abs=1e-12)


def test_macro_f1_by_hand() -> None:
    figure = resampling.macro_f1(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]))
    # Label 0: 2 * 1 / (2 + 1); label 1: 2 * 1 / (1 + 3); label 2: 0.
    assert figure(np.arange(4)) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert figure(np.array([3])) == 0.0
    assert figure(np.array([0, 0])) == 1.0


def test_pearson_is_scipys_and_undefined_where_a_side_is_constant() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(3, 1, (2, 60))
    figure = resampling.pearson(a, b)
    for rows in draws(60):
        if len(set(rows.tolist())) > 1:
            assert figure(rows) == pytest.approx(pearsonr(a[rows], b[rows]).statistic, abs=1e-9)
    assert figure(np.array([4])) is None
    assert figure(np.array([4, 4, 4])) is None
    assert resampling.pearson(np.full(3, 0.1), np.arange(3.0))(np.arange(3)) is None
    assert resampling.pearson(np.arange(3.0), -np.arange(3.0))(np.arange(3)) == pytest.approx(-1)


def test_ratio_by_hand() -> None:
    figure = resampling.ratio(np.array([1, 0, 2]), np.array([4, 0, 4]), 2.0)
    assert figure(np.arange(3)) == 2 * 3 / 8
    assert figure(np.array([0, 0])) == 2 * 2 / 8
    assert figure(np.array([1])) is None


def test_a_thousand_draws_of_a_thousand_rows_take_less_than_a_second() -> None:
    generator = np.random.default_rng(0)
    truth, guess = generator.integers(0, 5, (2, 1000))
    start = time.perf_counter()
    assert interval(resampling.macro_f1(truth, guess), 1000) is not None
    assert interval(resampling.pearson(truth * 1.0, guess * 1.0), 1000) is not None
    assert time.perf_counter() - start < 2
