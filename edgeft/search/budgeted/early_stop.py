"""Ending a training that won't come near enough to the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna

from edgeft.recipe.budget import Limit, tightest
from edgeft.report import facts
from edgeft.train import tasks
from edgeft.train.loop.watch import Training, Watcher

MARGIN_POINTS = 2.0  # what a training is given beyond its own course before it counts as hopeless


class TeacherComparison(Watcher):
    """Ends a training that won't come near enough to the teacher.

    Args:
        form: of the rows.
        limits: of the budget; one of them may limit the drop.
        lead: the task's leading metric.
        teacher: the teacher's, on validation.
    """

    def __init__(self, form: str, limits: Sequence[Limit], lead: str, teacher: float) -> None:
        self.points, self.lead, self.teacher = tasks.task_class(form).gain_in_points, lead, teacher
        self.drop = tightest(limits, "drop")

    def on_start(self, training: Training) -> None:
        """Another training: its looks are its own."""
        self.training, self.looks = training, dict[int, float]()

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """End what is hopeless; by the last look the training is paid for."""
        if self.drop is None or self.lead not in metrics:
            return
        self.looks[step] = metrics[self.lead]
        reached = extrapolate(self.looks, step, self.training.steps)
        if reached is not None and -self.points(self.teacher, reached) > self.drop + MARGIN_POINTS:
            now = facts.figure(self.lead, max(self.looks.values()))
            raise optuna.TrialPruned(
                f"{self.training.title}: {self.lead} {now} after {step} of {self.training.steps} steps, "
                f"the teacher's is {facts.figure(self.lead, self.teacher)}"
            )


def extrapolate(looks: Mapping[int, float], step: int, steps: int) -> float | None:
    """What a training may still reach: as much more as it gained since half as many steps.

    Args:
        looks: step -> the lead metric, of the looks so far.
        step: of the last look.
        steps: of the whole training.

    Returns:
        The metric; None in the first half, at the end, and where no look is old enough.
    """
    early = [value for at, value in looks.items() if 2 * at <= step]
    if 2 * step < steps or step >= steps or not early:
        return None
    now = max(looks.values())
    return now + (now - max(early))
