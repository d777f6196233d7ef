"""The selective threshold against a slow twin, hand numbers and its own promise."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from edgeft.compress.calibrate import selective


def tail(errors: int, count: int, rate: float) -> float:
    """The chance of at most so many errors among so many answers, term by term."""
    return sum(comb(count, k) * rate**k * (1 - rate) ** (count - k) for k in range(errors + 1))


def twin(confidences: np.ndarray, wrong: np.ndarray, rate: float, confidence: float) -> float | None:
    """Every sequence, threshold by threshold, counting by loops."""
    rows = sorted(zip(confidences.tolist(), wrong.tolist(), strict=True), key=lambda row: -row[0])
    starts: list[int] = []
    for number in (2, 1):
        level = (1 - confidence) / number
        firsts = [
            next((m for m in range(1, len(rows) + 1) if tail(int(part * rate * m), m, rate) <= level), None)
            for part in (0.0, 0.5)[:number]
        ]
        if None not in firsts:
            starts = [first for first in firsts if first is not None]
            break
    best = 0
    for start in starts:
        for m in sorted({int(np.ceil(value)) for value in np.linspace(start, len(rows), 20)}):
            while m < len(rows) and rows[m][0] == rows[m - 1][0]:
                m += 1
            if tail(sum(row[1] for row in rows[:m]), m, rate) > level:
                break
            best = max(best, m)
    if best == len(rows):
        return 0.0
    return (rows[best - 1][0] + rows[best][0]) / 2 if best else None


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_is_that_of_a_slow_twin(rate: float, ties: bool) -> None:
    found = []
    for seed in range(15):
        generator = np.random.default_rng(seed)
        confidences = generator.uniform(0.5, 1, 300).round(1 if ties else 9)
        wrong = generator.random(300) < (1 - confidences) * generator.uniform(0.2, 2.0)
        found.append(selective.find_threshold(confidences, wrong, rate, 0.95))
        expected = twin(confidences, wrong, rate, 0.95)
        assert (found[-1] is None) == (expected is None)
        assert found[-1] is None or found[-1] == pytest.approx(expected)
    assert len(set(found)) > 2


def test_rows_that_a_start_needs_by_hand() -> None:
    # Without an error 0.9^m <= 0.05 needs 29 rows; with both sequences each has half of the chance: 0.9^m <= 0.025.
    assert selective._sequence_starts(28, 0.1, 0.95) == []
    assert selective._sequence_starts(29, 0.1, 0.95) == [29]
    first, second = selective._sequence_starts(1000, 0.1, 0.95)
    assert first == 36
    assert tail(int(0.05 * second), second, 0.1) <= 0.025
    assert all(tail(int(0.05 * m), m, 0.1) > 0.025 for m in range(1, second))


def test_all_right_answers_everything_and_too_few_rows_nothing() -> None:
    confidences = np.linspace(0.6, 0.9, 40)
    assert selective.find_threshold(confidences, np.zeros(40, bool), 0.1, 0.95) == 0.0
    assert selective.find_threshold(confidences[:28], np.zeros(28, bool), 0.1, 0.95) is None
    assert selective.find_threshold(np.array([0.9]), np.array([False]), 0.1, 0.95) is None
    assert selective.find_threshold(confidences, np.ones(40, bool), 0.1, 0.95) is None
    assert selective.find_threshold(confidences, np.zeros(40, bool), 0.0, 0.95) is None


def test_share_and_error_by_hand() -> None:
    confidences, wrong = np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True])
    assert selective.measure_threshold(confidences, wrong, 0.75) == (0.5, 0.5)
    assert selective.measure_threshold(confidences, wrong, None) == (0.0, 0.0)
    assert selective.measure_threshold(confidences, wrong, 0.95) == (0.0, 0.0)


def test_the_error_rate_is_held_as_often_as_promised() -> None:
    """Of 300 models whose true error above every threshold is known, at most 5% break it (and some chance)."""
    broken, answered = 0, []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        confidences = generator.uniform(0.5, 1, 400)
        wrong = generator.random(400) < 0.7 * (1 - confidences)  # above t: 0.35 (1 - t) on average
        least = selective.find_threshold(confidences, wrong, 0.1, 0.95)
        if least is not None:
            broken += 0.35 * (1 - max(least, 0.5)) > 0.1
            answered.append(2 * (1 - max(least, 0.5)))
    assert broken / 300 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert len(answered) > 200
    assert 0.3 < np.mean(answered) < 0.58  # 0.571 would be the most
