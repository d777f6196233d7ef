"""The one training loop. What is learned is the objective's business, how long and how fast the config's."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from edgeft import ranks
from edgeft.errors import TrainingError
from edgeft.progress import Bar, say
from edgeft.recipe import TrainingConfig
from edgeft.train.loop import checkpoints, memory, recompute, reporting, watch
from edgeft.train.loop.batches import epoch_batches
from edgeft.train.loop.optim import BeforeStep, as_it_is, optimizer_for, schedule_for, trainable
from edgeft.train.loop.precision import Arithmetic
from edgeft.train.loop.processes import Processes

HISTORY = "history.jsonl"

# (model, places of a batch's items) -> loss of each item, summed over its targets, (B,)
Objective = Callable[[torch.nn.Module, list[int]], torch.Tensor]
# places of items -> what an error calls them
Names = Callable[[Sequence[int]], str]
# () -> what is added to the mean loss of a step, a scalar
Penalty = Callable[[], torch.Tensor]
# () -> metrics; `score` leads and higher is better
Evaluate = Callable[[], dict[str, float]]


@dataclass
class Progress:
    """Where a training stands; it travels in the checkpoint.

    Attributes:
        step: optimizer steps done.
        best: the best validation so far, by `score`.
        best_step: when that was.
        stale: looks at the validation split since then.
        history: one row for each step with a loss or a look.
    """

    step: int = 0
    best: dict[str, float] | None = None
    best_step: int = 0
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """The steps of a training.

    Attributes:
        steps_per_epoch: optimizer steps of a whole epoch.
        steps: of the whole training.
        warmup: of them with a rising rate.
        evaluate_every: steps between two looks at the validation split.
    """

    steps_per_epoch: int
    steps: int
    warmup: int
    evaluate_every: int


def plan(config: TrainingConfig, rows: int) -> Plan:
    """Steps of a training over so many rows."""
    batches = math.ceil(rows / config.batch_size)
    per_epoch = math.ceil(batches / config.gradient_accumulation)
    steps = max(1, round(config.epochs * per_epoch))
    return Plan(
        steps_per_epoch=per_epoch,
        steps=steps,
        warmup=round(config.warmup_fraction * steps),
        evaluate_every=max(1, per_epoch // config.evaluations_per_epoch),
    )


def step_groups(
    config: TrainingConfig, lengths: Sequence[int], seed: int, first_step: int, plan: Plan
) -> Iterator[list[list[int]]]:
    """The batches of each optimizer step, from `first_step` (0-based) to the plan's end."""
    step = first_step
    while step < plan.steps:
        epoch, offset = divmod(step, plan.steps_per_epoch)
        size = config.batch_size
        # What meets in a step doesn't depend on how it is cut into batches.
        blocks = epoch_batches(lengths, size * config.gradient_accumulation, seed, epoch, config.length_grouped)
        for block in blocks[offset : offset + plan.steps - step]:
            yield [block[start : start + size] for start in range(0, len(block), size)]
            step += 1


def copies(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of parameters, by name."""
    return {name: value.detach().clone() for name, value in parameters.items()}


def put_back(parameters: dict[str, torch.nn.Parameter], state: dict[str, torch.Tensor]) -> None:
    """Put back what `copies` gave."""
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)


@dataclass(frozen=True, eq=False)
class Loss:
    """What a training lowers.

    Attributes:
        objective: loss of each item of a batch.
        lengths: tokens of each item.
        weights: what each item counts in the mean, as a text or by its targets.
        names: what an error calls items.
        penalty: added to the mean of each step.
    """

    objective: Objective
    lengths: Sequence[int]
    weights: Sequence[float]
    names: Names
    penalty: Penalty | None = None

    def of(self, model: torch.nn.Module, batch: list[int], total: float) -> torch.Tensor:
        """The batch's share of a step's loss, a scalar; the shares of all batches sum to it.

        Args:
            model: in training mode.
            batch: places of its items.
            total: what all items of the step count together.
        """
        loss = self.objective(model, batch).sum() / total
        if self.penalty is None:
            return loss
        return loss + self.penalty() * (sum(self.weights[place] for place in batch) / total)


def accumulate(processes: Processes, loss_of: Loss, group: list[list[int]], step: int, arithmetic: Arithmetic) -> float:
    """Backward of one optimizer step's batches; every target weighs the same, however the items are batched.

    Returns:
        The mean loss over the targets of all processes, and the penalty.

    Raises:
        TrainingError: the loss is not finite; names step, batch and rows.
    """
    weight = sum(loss_of.weights[place] for batch in group for place in batch)
    total = 0.0
    for place, batch in enumerate(group):
        own, counts = processes.share(batch)
        with processes.quiet(last=place == len(group) - 1):
            with arithmetic.forward():
                loss = loss_of.of(processes.model, own, weight) * counts
            value = loss.item() / ranks.world()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} at step {step}, batch {place + 1} of {len(group)} "
                    f"({loss_of.names(own)}); lower learning_rate"
                )
            arithmetic.backward(loss)
        total += value
    processes.exchange()
    return processes.total(total)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic kernels where torch has them, so that a resumed run ends in the same bits."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class Trainer:
    """One training: model, loss and validation under a config.

    Args:
        model: on its device; parameters with `requires_grad` train.
        loss: what is to be lowered, on the training items.
        evaluate: metrics on the validation split, `score` leads.
        config: epochs, rates, patience.
        learning_rate: the peak.
        out_dir: for checkpoints and history.jsonl.
        title: of the progress bar.
        scored: the name of what `score` orders looks by.
        before_step: called with the steps done before each step; may change which of the parameters train.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        evaluate: Evaluate,
        config: TrainingConfig,
        learning_rate: float,
        out_dir: Path,
        title: str,
        before_step: BeforeStep = as_it_is,
        scored: str = "score",
    ) -> None:
        self.model, self.loss, self.evaluate = model, loss, evaluate
        self.config, self.out_dir, self.title = config, out_dir, title
        self.before_step, self.scored = before_step, scored
        self.plan = plan(config, len(loss.lengths))
        self.device = next(model.parameters()).device
        self.arithmetic = Arithmetic(config.precision, self.device)
        recompute.switch(model, config, self.device)
        self.parameters = dict(trainable(model))  # all that will ever train
        self.optimizer = optimizer_for(model, config, learning_rate)
        self.scheduler = schedule_for(self.optimizer, config, self.plan.warmup, self.plan.steps)
        self.progress = Progress()
        self.best_state = copies(self.parameters)
        self.processes = Processes(model, config.seed or 0, getattr(config, "shard_frozen", False))

    def fit(self) -> Progress:
        """Train from the last checkpoint, or from the start, and leave the best weights in the model.

        Returns:
            The history and the best validation.

        Raises:
            TrainingError: a loss that is not finite, or memory that runs out.
        """
        self._resume()
        if self.progress.step:
            say(f"{self.title}: goes on after step {self.progress.step}")
        groups = step_groups(self.config, self.loss.lengths, self.config.seed or 0, self.progress.step, self.plan)
        with deterministic(), reporting.followed(self._training()), Bar(self.title, self.plan.steps) as bar:
            bar.resume(self.progress.step)
            for group in groups:
                if self._stopped():
                    say(f"{self.title}: stops early, as {self.progress.stale} looks in a row were no better")
                    break
                with memory.explained(self.config, self.device, step=self.progress.step + 1):
                    self._step(group)
                bar.advance()
                bar.show(self._note())
        put_back(self.parameters, self.best_state)
        self.processes.finish()
        self._write_history()
        return self.progress

    def _step(self, group: list[list[int]]) -> None:
        self.model.train()
        self.before_step(self.progress.step)
        loss = accumulate(self.processes, self.loss, group, self.progress.step + 1, self.arithmetic)
        self.arithmetic.step(self.optimizer, self.model, self.config.max_grad_norm)
        rate = max(self.scheduler.get_last_lr())
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.progress.history.append({"step": self.progress.step, "loss": loss, "learning_rate": rate})
        watch.logged(self.progress.step, self.progress.history[-1])
        if self.progress.step % self.plan.evaluate_every == 0 or self.progress.step == self.plan.steps:
            self._look()
        if self.progress.step % self.config.checkpoint_steps == 0:
            self._checkpoint()

    def _look(self) -> None:
        self.model.eval()
        metrics = self.processes.agreed(self.evaluate())
        shown = {f"validation_{name}": value for name, value in metrics.items()}
        self.progress.history.append({"step": self.progress.step, **shown})
        if self.progress.best is None or metrics["score"] > self.progress.best["score"]:
            self.progress.best, self.progress.best_step, self.progress.stale = metrics, self.progress.step, 0
            self.best_state = copies(self.parameters)
        else:
            self.progress.stale += 1
        watch.looked(self.progress.step, metrics)

    def _training(self) -> watch.Training:
        plan = self.plan
        steps = (plan.steps, plan.steps_per_epoch, plan.evaluate_every, self.progress.step)
        return watch.Training(self.title, self.config, *steps, self.out_dir)

    def _stopped(self) -> bool:
        patience = self.config.early_stopping_patience
        return patience > 0 and self.progress.stale >= patience

    def _note(self) -> str:
        loss = next((row["loss"] for row in reversed(self.progress.history) if "loss" in row), math.nan)
        best = self.progress.best
        named = f", best {self.scored} {best.get(self.scored, best['score']):.4f} on validation" if best else ""
        return f"loss {loss:.3f}{named}"

    def _checkpoint(self) -> None:
        state = {
            "model": copies(self.parameters),
            "best_model": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.arithmetic.scaler.state_dict(),
            "progress": asdict(self.progress),
            "rng": self.processes.all_of(checkpoints.rng_state()),
        }
        if ranks.is_main():
            checkpoints.save(self.out_dir, state)

    def _resume(self) -> None:
        state = self.processes.agreed(checkpoints.load(self.out_dir) if ranks.is_main() else None)
        if state is None:
            return
        checkpoints.check_processes(state["rng"])
        checkpoints.set_rng_state(state["rng"][ranks.rank()], self.device)
        put_back(self.parameters, state["model"])
        self.best_state = {name: value.to(self.device) for name, value in state["best_model"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.arithmetic.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    def _write_history(self) -> None:
        lines = [json.dumps(row) + "\n" for row in self.progress.history]
        (self.out_dir / HISTORY).write_text("".join(lines), encoding="utf-8")
