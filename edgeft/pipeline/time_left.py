"""How long the remaining stages will take: from rows, layers and the time that earlier stages took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeft.errors import EdgeftError
from edgeft.models import model_facts
from edgeft.pipeline import stages
from edgeft.pipeline.shipping.ship import SHIPPING
from edgeft.progress import Whole, about, say
from edgeft.recipe import Recipe
from edgeft.stage import Stage, Work
from edgeft.stage_folder import StageResult
from edgeft.train import defaults

RUNTIME = 0.5  # latency of the runtime relative to torch, batch 1
ALONE = 2.0  # time of a single text relative to its share of a batch
SETTLED_STEPS, SETTLED_S = 5, 3.0  # of a training before its pace is reliable,
SETTLED_SHARE, SURE_S = 0.05, 30.0  # and this share of its steps, or so many seconds

NO_WORK = Work(
    recipe=Recipe(),
    train_rows=0,
    unlabelled_rows=0,
    evaluated_rows=0,
    epochs=0,
    teacher_layers=0,
    student_layers=0,
)  # before anything is known


@dataclass
class RunProgress(Whole):
    """The progress of a run: its stages, their results so far and the pace of training.

    Attributes:
        recipe: resolved.
        names: of the stages, in order.
        before: results of an earlier run in the same folder.
        results: of the finished stages.
        unchanged: whether all finished stages were kept, so that the rest of `before` will be too.
        pace_s: seconds for one row through one layer, forward, in the last training; None: not known yet.
    """

    recipe: Recipe
    names: Sequence[str]
    before: Mapping[str, StageResult] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)
    pace_s: float | None = None
    unchanged: bool = True

    def begin(self, name: str) -> None:
        """Print which stage begins and about how long is left."""
        self.name, self.started = name, time.monotonic()
        left = self.left("", 0, None, 0.0)
        say(f"stage {self.names.index(name) + 1} of {len(self.names)}: {name}{f', {left}' if left else ''}")

    def end(self, name: str, result: StageResult) -> None:
        """Store the result of a stage and update the pace from its time."""
        self.results[name] = result
        self.unchanged &= result == self.before.get(name)
        passes = self.passes(name)
        if passes and result.seconds:
            self.pace_s = result.seconds / passes

    @property
    def where(self) -> str:
        """As "stage 3 of 10"."""
        return f"stage {self.names.index(self.name) + 1} of {len(self.names)}"

    def left(self, title: str, done: int, total: int | None, seconds: float) -> str:
        """About how long the run still takes, as "about 12 min left"; empty if unknown.

        Args:
            title: of the current bar; for a training, the name of its stage.
            done: steps of the bar so far.
            total: steps of the bar.
            seconds: since the bar began.
        """
        pace, current = self.pace_s, self.seconds(self.name, self.pace_s)
        if title == self.name and total and _is_settled(done, total, seconds):
            stage_s = seconds * total / done
            passes = self.passes(self.name)
            pace = pace or (stage_s / passes if passes else None)
            current = stage_s - seconds
        elif current is not None:
            current = max(0.0, current - (time.monotonic() - self.started))
        later = [self.seconds(name, pace) for name in self.names[self.names.index(self.name) + 1 :]]
        estimates = [estimate for estimate in (current, *later) if estimate is not None]
        return f"{about(sum(estimates))} left" if len(estimates) == 1 + len(later) else ""

    # -------------------------------------------------------------------------------------------------------- a stage

    def seconds(self, name: str, pace: float | None) -> float | None:
        """How long a stage takes in seconds; None if unknown."""
        if self.unchanged and name in self.before:
            return 0.0
        stage, work = self._stage(name), self.work(pace)
        if stage.layer_passes is not None:
            return None if work is None or pace is None else pace * stage.layer_passes(work)
        if stage.rows_s is None:
            return None
        rows_s = stage.rows_s(work or NO_WORK)
        return None if rows_s is None else stage.fixed_s + rows_s

    def passes(self, name: str) -> float | None:
        """The layer passes of a training; None if not known before it begins, or if the stage doesn't train."""
        counted, work = self._stage(name).layer_passes, self.work(None)
        return None if counted is None or work is None else counted(work)

    def _stage(self, name: str) -> Stage:
        return stages.stage_of(name) if name in stages.MODULES else SHIPPING

    def work(self, pace: float | None) -> Work | None:
        """The work of the stages; None before rows and layers are known."""
        rows, layers = self._rows(), self._layers()
        if rows is None or layers is None:
            return None
        teacher, student = layers
        trained = self.results.get("finetune")
        teacher_s = trained.metrics.get("latency_ms", 0.0) / 1e3 if trained else 0.0
        teacher_s = teacher_s or ALONE * (pace or 0.0) * teacher
        return Work(
            recipe=self.recipe,
            train_rows=rows["train"],
            unlabelled_rows=rows["unlabelled"],
            evaluated_rows=rows["evaluated"],
            epochs=self._epochs(rows["train"]),
            teacher_layers=teacher,
            student_layers=student,
            layer_s=pace,
            teacher_s=teacher_s,
            student_s=teacher_s * RUNTIME * student / teacher,
        )

    def _epochs(self, rows: float) -> float:
        """Epochs of fine-tuning: the recipe's, or those that fine-tuning decides on."""
        decided = self.results["finetune"].metrics.get("decided", {}) if "finetune" in self.results else {}
        chosen = self.recipe.finetune.epochs or decided.get("epochs", {}).get("value")
        return float(chosen or defaults.choose_epochs(self.recipe.task, round(rows)))

    def _rows(self) -> dict[str, float] | None:
        """Rows to train on, unlabelled rows and rows to evaluate; None before they are read and augmented."""
        if "data" not in self.results or ("augment" in self.names and "augment" not in self.results):
            return None
        counts = self.results["data"].metrics.get("rows", {})
        rows = {name: float(counts.get(name) or 0) for name in ("train", "validation", "test", "unlabelled")}
        if "augment" in self.results:
            rows["train"] = float(self.results["augment"].metrics["train_rows"]["after"])
        return {**rows, "evaluated": rows["validation"] + rows["test"]}

    def _layers(self) -> tuple[int, int] | None:
        """Layers of the teacher and of the student; None if they can't be read."""
        try:
            teacher = model_facts.read_facts(self.recipe.finetune.model or "").layers
            kept_layers = self.recipe.distill.layers
            checkpoint = self.recipe.distill.student
            student = model_facts.read_facts(checkpoint).layers if checkpoint else self.recipe.distill.num_layers
        except EdgeftError:
            return None
        if not self.recipe.distill.enabled:
            return teacher, teacher
        return teacher, len(kept_layers) if kept_layers else student


def _is_settled(done: int, total: int, seconds: float) -> bool:
    """Whether a training's pace is reliable enough for an estimate."""
    enough = done >= SETTLED_SHARE * total or seconds >= SURE_S
    return enough and done >= SETTLED_STEPS and seconds >= SETTLED_S
