"""What judges predictions of each task, looked up by the form of its rows; a new task is one file here."""

from __future__ import annotations

from edgeft.train.judges.base import Judge
from edgeft.train.judges.questions import QuestionsJudge
from edgeft.train.judges.sequences import MultiLabelJudge, RegressionJudge, SingleLabelJudge
from edgeft.train.judges.tags import TagsJudge

__all__ = ["KNOWN", "Judge"]

KNOWN: dict[str, type[Judge]] = {
    kind: judge
    for judge in (SingleLabelJudge, MultiLabelJudge, RegressionJudge, TagsJudge, QuestionsJudge)
    for kind in judge.kinds
}
