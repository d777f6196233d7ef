from __future__ import annotations

import numpy as np
import pytest

from edgeft.errors import TrainingError
from edgeft.train.metrics import bootstrap, slices

COLUMN = ["en"] * 25 + ["de"] * 10 + [None] * 5
RIGHT = np.array([1.0] * 20 + [0.0] * 5 + [1.0, 0.0] * 5 + [0.0] * 5)


def test_by_value_by_hand() -> None:
    found = slices.by_value(COLUMN, RIGHT)
    assert [(one.name, one.rows, one.small) for one in found] == [
        ("en", 25, False),
        ("de", 10, True),
        ("(missing)", 5, True),
    ]
    assert [one.figure.value for one in found if one.figure] == [0.8, 0.5, 0.0]
    assert found[0].figure == bootstrap.interval(RIGHT[:25], 25)


def test_a_function_of_rows_gets_the_rows_of_the_slice() -> None:
    found = slices.by_value(COLUMN, lambda rows: float(RIGHT[rows].mean()))
    assert [one.figure.value for one in found if one.figure] == [0.8, 0.5, 0.0]


def test_rare_values_stand_together() -> None:
    found = slices.by_value(["a", "b", "b", "c", "b", "a", "d"], np.arange(7.0), most=2)
    assert [(one.name, one.rows) for one in found] == [("b", 3), ("a", 2), ("(all other values)", 2)]
    assert found[2].figure is not None
    assert found[2].figure.value == (3 + 6) / 2


def test_an_undefined_figure() -> None:
    assert slices.by_value(["a"], lambda rows: None)[0].figure is None


def test_by_length_by_hand() -> None:
    lengths = [8, 1, 2, 3, 4, 5, 6, 7]
    found = slices.by_length(lengths, np.array(lengths, dtype=float))
    assert [(one.name, one.rows) for one in found] == [("1-2", 2), ("3-4", 2), ("5-6", 2), ("7-8", 2)]
    assert [one.figure.value for one in found if one.figure] == [1.5, 3.5, 5.5, 7.5]


@pytest.mark.parametrize(
    ("lengths", "names"), [([5, 5, 5, 5], ["5-5"]), ([3], ["3-3"]), ([1, 1, 1, 9], ["1-1", "9-9"])]
)
def test_one_length_stays_together(lengths: list[int], names: list[str]) -> None:
    assert [one.name for one in slices.by_length(lengths, np.ones(len(lengths)))] == names


def test_from_twenty_rows_on_a_slice_is_not_small() -> None:
    assert [one.small for one in slices.by_value(["a"] * 20 + ["b"] * 19, np.ones(39))] == [False, True]


def test_no_rows() -> None:
    with pytest.raises(TrainingError, match="no rows"):
        slices.by_value([], np.empty(0))
    with pytest.raises(TrainingError, match="no rows"):
        slices.by_length([], np.empty(0))
