from __future__ import annotations

import numpy as np
import pytest

from edgeft.errors import TrainingError
from edgeft.train.metrics import bootstrap, slices

COLUMN = ["en"] * 25 + ["de"] * 10 + [None] * 5
RIGHT = np.array([1.0] * 20 + [0.0] * 5 + [1.0, 0.0] * 5 + [0.0] * 5)


def test_by_value_by_hand() -> None:
    parts = slices.by_value(COLUMN, RIGHT)
    assert [(part.name, part.rows, part.small) for part in parts] == [
        ("en", 25, False),
        ("de", 10, True),
        ("(missing)", 5, True),
    ]
    assert [part.figure.value for part in parts if part.figure] == [0.8, 0.5, 0.0]
    assert parts[0].figure == bootstrap.interval(RIGHT[:25], 25)


def test_a_function_of_rows_gets_the_rows_of_the_slice() -> None:
    parts = slices.by_value(COLUMN, lambda rows: float(RIGHT[rows].mean()))
    assert [part.figure.value for part in parts if part.figure] == [0.8, 0.5, 0.0]


def test_rare_values_stand_together() -> None:
    parts = slices.by_value(["a", "b", "b", "c", "b", "a", "d"], np.arange(7.0), most=2)
    assert [(part.name, part.rows) for part in parts] == [("b", 3), ("a", 2), ("(all other values)", 2)]
    assert parts[2].figure is not None
    assert parts[2].figure.value == (3 + 6) / 2


def test_an_undefined_figure() -> None:
    assert slices.by_value(["a"], lambda rows: None)[0].figure is None


def test_by_length_by_hand() -> None:
    lengths = [8, 1, 2, 3, 4, 5, 6, 7]
    parts = slices.by_length(lengths, np.array(lengths, dtype=float))
    assert [(part.name, part.rows) for part in parts] == [("1-2", 2), ("3-4", 2), ("5-6", 2), ("7-8", 2)]
    assert [part.figure.value for part in parts if part.figure] == [1.5, 3.5, 5.5, 7.5]


@pytest.mark.parametrize(
    ("lengths", "names"), [([5, 5, 5, 5], ["5-5"]), ([3], ["3-3"]), ([1, 1, 1, 9], ["1-1", "9-9"])]
)
def test_one_length_stays_together(lengths: list[int], names: list[str]) -> None:
    assert [part.name for part in slices.by_length(lengths, np.ones(len(lengths)))] == names


def test_from_twenty_rows_on_a_slice_is_not_small() -> None:
    assert [part.small for part in slices.by_value(["a"] * 20 + ["b"] * 19, np.ones(39))] == [False, True]


def test_no_rows() -> None:
    with pytest.raises(TrainingError, match="no rows"):
        slices.by_value([], np.empty(0))
    with pytest.raises(TrainingError, match="no rows"):
        slices.by_length([], np.empty(0))
