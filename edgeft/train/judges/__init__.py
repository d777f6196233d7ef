"""What judges predictions of each task, looked up by the form of its rows; a new task is one file here."""

from __future__ import annotations

from edgeft import tasks
from edgeft.data.dataset import Dataset
from edgeft.train.judges.base import Judge

__all__ = ["Judge", "judge_of"]


def judge_of(dataset: Dataset) -> Judge:
    """What judges predictions of a dataset's rows.

    Raises:
        DataError: nothing can be compared with rows of this form.
    """
    judge: type[Judge] = tasks.load_part(dataset.form, "judge")
    return judge(dataset)
