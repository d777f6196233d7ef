"""The judge of each task's predictions, looked up by the form of the rows; a new task is one file here."""

from __future__ import annotations

from edgeft import tasks
from edgeft.data.dataset import Dataset
from edgeft.train.judges.base import Judge

__all__ = ["Judge", "judge_of"]


def judge_of(dataset: Dataset) -> Judge:
    """The judge of predictions on a dataset.

    Raises:
        DataError: rows of this form have nothing that predictions could be compared with.
    """
    judge: type[Judge] = tasks.load_part(dataset.form, "judge")
    return judge(dataset)
