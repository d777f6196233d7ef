"""How long the stages that are left will take: from the rows, the layers, and the seconds of those before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeft.errors import EdgeftError
from edgeft.models import model_folder
from edgeft.pipeline import stages
from edgeft.pipeline.shipping.ship import SHIPPING
from edgeft.progress import Whole, about, say
from edgeft.recipe import Recipe
from edgeft.stage import Stage, Work
from edgeft.stage_folder import StageResult
from edgeft.train import defaults

RUNTIME = 0.5  # of torch's latency, batch 1
ALONE = 2.0  # a text asked alone takes so many times its share of a batch
SETTLED_STEPS, SETTLED_S = 5, 3.0  # of a training before its pace says anything,
SETTLED_SHARE, SURE_S = 0.05, 30.0  # and this share of it, or so many seconds

NO_WORK = Work(
    recipe=Recipe(),
    train_rows=0,
    unlabelled_rows=0,
    evaluated_rows=0,
    epochs=0,
    teacher_layers=0,
    student_layers=0,
)  # before anything is known of it


@dataclass
class RunProgress(Whole):
    """The stages of a run, and what is known of their pace.

    Attributes:
        recipe: resolved.
        names: of the stages, in order.
        before: results that an earlier run left.
        results: of those that ended.
        unchanged: whether all that ended were kept, so that the others of `before` will be.
        pace_s: of a row through one layer, forward, in the training before; None: nobody knows yet.
    """

    recipe: Recipe
    names: Sequence[str]
    before: Mapping[str, StageResult] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)
    pace_s: float | None = None
    unchanged: bool = True

    def begin(self, name: str) -> None:
        """Say which stage it is and about how long is left."""
        self.name, self.started = name, time.monotonic()
        left = self.left("", 0, None, 0.0)
        say(f"stage {self.names.index(name) + 1} of {len(self.names)}: {name}{f', {left}' if left else ''}")

    def end(self, name: str, result: StageResult) -> None:
        """A stage is done, or was kept: what it took says what the others will."""
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
        """About how long the whole run still takes, as "about 12 min left"; empty where nobody can know.

        Args:
            title: of the bar that moves; a training's is its stage.
            done: of its steps, since it began.
            total: steps that it had to do then.
            seconds: since it began.
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
        """How long a stage takes; None where nobody knows."""
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
        """The work of a training; None where it isn't known before it begins, and of what trains nothing."""
        counted, work = self._stage(name).layer_passes, self.work(None)
        return None if counted is None or work is None else counted(work)

    def _stage(self, name: str) -> Stage:
        return stages.stage_of(name) if name in stages.MODULES else SHIPPING

    def work(self, pace: float | None) -> Work | None:
        """What the stages have to do; None before rows and layers are known."""
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
        """Of fine-tuning: the recipe's, or those that it decides on."""
        decided = self.results["finetune"].metrics.get("decided", {}) if "finetune" in self.results else {}
        chosen = self.recipe.finetune.epochs or decided.get("epochs", {}).get("value")
        return float(chosen or defaults.epochs(self.recipe.task, round(rows)))

    def _rows(self) -> dict[str, float] | None:
        """Rows to train on, to learn from without label, and to evaluate; None before they are read or augmented."""
        if "data" not in self.results or ("augment" in self.names and "augment" not in self.results):
            return None
        counts = self.results["data"].metrics.get("rows", {})
        rows = {name: float(counts.get(name) or 0) for name in ("train", "validation", "test", "unlabelled")}
        if "augment" in self.results:
            rows["train"] = float(self.results["augment"].metrics["train_rows"]["after"])
        return {**rows, "evaluated": rows["validation"] + rows["test"]}

    def _layers(self) -> tuple[int, int] | None:
        """Layers of the teacher and of what is distilled of it."""
        try:
            teacher = model_folder.facts(self.recipe.finetune.model or "").layers
            kept_layers = self.recipe.distill.layers
            checkpoint = self.recipe.distill.student
            student = model_folder.facts(checkpoint).layers if checkpoint else self.recipe.distill.num_layers
        except EdgeftError:
            return None
        if not self.recipe.distill.enabled:
            return teacher, teacher
        return teacher, len(kept_layers) if kept_layers else student


def _is_settled(done: int, total: int, seconds: float) -> bool:
    """Whether the pace of a training says how long it takes."""
    enough = done >= SETTLED_SHARE * total or seconds >= SURE_S
    return enough and done >= SETTLED_STEPS and seconds >= SETTLED_S
