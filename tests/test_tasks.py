from __future__ import annotations

from typing import get_args

import pytest

from edgeft import tasks
from edgeft.errors import RecipeError
from edgeft.recipe import Recipe


def test_every_tag_has_its_task_under_its_name() -> None:
    assert tuple(tasks.TASKS) == get_args(tasks.TaskTag)
    assert all(task.tag == tag for tag, task in tasks.TASKS.items())
    assert set(tasks.SUPPORTED) <= set(tasks.TASKS)


def test_every_task_is_described() -> None:
    for task in tasks.TASKS.values():
        assert task.columns, task.tag
        assert task.prediction, task.tag
        assert task.lead_metric, task.tag


def test_the_default_task_can_be_trained() -> None:
    assert tasks.get(Recipe().task).has_labels


def test_an_unknown_task_and_one_that_no_room_takes_yet() -> None:
    with pytest.raises(RecipeError, match="'sentiment' is not a task; the tasks are text-classification, "):
        tasks.get("sentiment")
    with pytest.raises(RecipeError, match="can't be trained; what can: text-classification"):
        tasks.get("feature-extraction")
