from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from edgeft.errors import TrainingError
from edgeft.train.metrics import bootstrap
from edgeft.train.metrics.bootstrap import Interval, interval

RIGHT = (np.random.default_rng(0).random(300) < 0.8).astype(float)


def test_two_rows_by_hand() -> None:
    # The mean of a draw is 0, 1/2 or 1, with chances of 1/4, 1/2 and 1/4: the middle half reaches from 1/4 to 3/4.
    assert interval(np.array([0.0, 1.0]), 2) == Interval(0.5, 0.0, 1.0)
    assert interval(np.array([0.0, 1.0]), 2, level=0.3) == Interval(0.5, 0.5, 0.5)


def test_scipy_finds_the_same() -> None:
    found = interval(RIGHT, 300, resamples=20_000)
    twin = stats.bootstrap((RIGHT,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(twin.confidence_interval, abs=0.005)
    assert found.value == RIGHT.mean()


def test_a_function_of_rows() -> None:
    by_mean = interval(RIGHT, 300)
    by_function = interval(lambda rows: float(RIGHT[rows].mean()), 300)
    assert by_mean is not None
    assert by_function is not None
    assert (by_function.low, by_function.high) == pytest.approx((by_mean.low, by_mean.high), abs=0.01)


def test_f1_of_rows() -> None:
    true, predicted = np.array([0, 1] * 20), np.array([0, 1, 1, 1] * 10)
    found = interval(lambda rows: f1_score(true[rows], predicted[rows]), 40, resamples=100)
    assert found is not None
    assert found.value == pytest.approx(0.8)  # 20 hits, 10 false alarms
    assert found.low < 0.8 < found.high


def test_coverage() -> None:
    rng, inside = np.random.default_rng(5), 0
    for draw in range(200):
        found = interval((rng.random(200) < 0.7).astype(float), 200, seed=draw)
        assert found is not None
        inside += found.low <= 0.7 <= found.high
    assert 0.90 <= inside / 200 <= 0.985


def test_a_thousand_draws_of_a_thousand_rows_are_quick() -> None:
    values = np.random.default_rng(0).random(1000)
    interval(values, 1000)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        interval(values, 1000)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_the_seed_decides() -> None:
    assert interval(RIGHT, 300, seed=3) == interval(RIGHT, 300, seed=3)
    assert interval(np.arange(300.0), 300, seed=3) != interval(np.arange(300.0), 300, seed=4)


def test_blocks_hold_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = interval(RIGHT, 300)
    monkeypatch.setattr(bootstrap, "DRAWN", 300 * 7)
    in_blocks = interval(RIGHT, 300)
    assert whole is not None
    assert in_blocks is not None
    assert (in_blocks.low, in_blocks.high) == pytest.approx((whole.low, whole.high), abs=0.01)


def test_some_rows_only() -> None:
    assert interval(np.array([1.0, 0.0, 1.0]), np.array([0, 2])) == Interval(1.0, 1.0, 1.0)


def test_one_row_has_no_width() -> None:
    assert interval(np.array([0.3]), 1) == Interval(0.3, 0.3, 0.3)


def test_where_the_figure_is_undefined() -> None:
    def share_of_first(rows: np.ndarray) -> float | None:
        return float((rows == 0).mean()) if (rows == 1).any() else None

    assert interval(share_of_first, 2) == Interval(0.5, 0.0, 0.5)  # a draw of row 0 alone doesn't count
    assert interval(lambda rows: None, 2) is None


def test_what_is_refused() -> None:
    with pytest.raises(TrainingError, match="the figures of 1 of 2 rows are not finite"):
        interval(np.array([np.nan, 1.0]), 2)
    with pytest.raises(TrainingError, match="undefined one must be None"):
        interval(lambda rows: float("nan"), 2)
    with pytest.raises(TrainingError, match="no rows"):
        interval(np.empty(0), 0)


def test_a_share_at_its_end_has_wilson_s_interval() -> None:
    """10 of 10 by Wilson: 10 / (10 + 1.96^2) to 1. Inside, and where it is no share, nothing changes."""
    low = 10 / (10 + 1.959964**2)
    for right, ends in ((np.ones(10), (low, 1.0)), (np.zeros(10), (0.0, 1 - low))):
        found = interval(right, 10, share=True)
        assert found is not None
        assert (found.low, found.high) == pytest.approx(ends)
        plain = interval(right, 10)
        assert plain is not None
        assert plain.low == plain.high
    one = interval(np.ones(3), np.array([1]), share=True)
    assert one is not None
    assert one.low == pytest.approx(1 / (1 + 1.959964**2))
    some = np.array([1.0, 0, 1, 1])
    assert interval(some, 4, share=True) == interval(some, 4)
