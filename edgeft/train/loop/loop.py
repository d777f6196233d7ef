"""The training loop. The objective defines what is learned, the config how long and how fast."""

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
from edgeft.train.loop.optim import BeforeStep, change_nothing, create_optimizer, create_schedule, trainable_parameters
from edgeft.train.loop.precision import Arithmetic
from edgeft.train.loop.processes import Processes

HISTORY = "history.jsonl"

# (model, indices of the items in a batch) -> loss of each item, summed over its targets, (B,)
Objective = Callable[[torch.nn.Module, list[int]], torch.Tensor]
# indices of items -> their name in an error
Names = Callable[[Sequence[int]], str]
# () -> the term that is added to the mean loss of a step, a scalar
Penalty = Callable[[], torch.Tensor]
# () -> metrics; `score` leads and higher is better
Evaluate = Callable[[], dict[str, float]]


@dataclass
class Progress:
    """The progress of a training; part of the checkpoint.

    Attributes:
        step: optimizer steps done.
        best: metrics of the best evaluation so far, by `score`.
        best_step: its step.
        stale: evaluations since then.
        history: one row for each step and one for each evaluation.
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
        steps_per_epoch: optimizer steps of a full epoch.
        steps: of the full training.
        warmup: steps with a rising rate.
        evaluate_every: steps between two evaluations on the validation split.
    """

    steps_per_epoch: int
    steps: int
    warmup: int
    evaluate_every: int


def plan(config: TrainingConfig, rows: int) -> Plan:
    """Plan the steps of a training on so many rows."""
    batches = math.ceil(rows / config.batch_size)
    per_epoch = math.ceil(batches / config.gradient_accumulation)
    steps = max(1, round(config.epochs * per_epoch))
    return Plan(
        steps_per_epoch=per_epoch,
        steps=steps,
        warmup=round(config.warmup_fraction * steps),
        evaluate_every=max(1, per_epoch // config.evaluations_per_epoch),
    )


def batches_by_step(
    config: TrainingConfig, lengths: Sequence[int], seed: int, first_step: int, plan: Plan
) -> Iterator[list[list[int]]]:
    """The batches of each optimizer step, from `first_step` (0-based) to the plan's end."""
    step = first_step
    while step < plan.steps:
        epoch, offset = divmod(step, plan.steps_per_epoch)
        size = config.batch_size
        # Which items share a step doesn't depend on how the step is divided into batches.
        blocks = epoch_batches(lengths, size * config.gradient_accumulation, seed, epoch, config.length_grouped)
        for block in blocks[offset : offset + plan.steps - step]:
            yield [block[start : start + size] for start in range(0, len(block), size)]
            step += 1


def copy_parameters(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of parameters, by name."""
    return {name: value.detach().clone() for name, value in parameters.items()}


def restore_parameters(parameters: dict[str, torch.nn.Parameter], state: dict[str, torch.Tensor]) -> None:
    """Write the values that `copy_parameters` saved back into the parameters."""
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss that a training minimizes.

    Attributes:
        objective: loss of each item of a batch.
        lengths: tokens of each item.
        weights: of each item in the mean: 1, or the number of its targets.
        names: names items in an error.
        penalty: added to the mean loss of each step.
    """

    objective: Objective
    lengths: Sequence[int]
    weights: Sequence[float]
    names: Names
    penalty: Penalty | None = None

    def batch_share(self, model: torch.nn.Module, batch: list[int], total: float) -> torch.Tensor:
        """The batch's share of the step's loss, a scalar; the shares of all its batches sum to that loss.

        Args:
            model: in training mode.
            batch: indices of its items.
            total: weight of all items of the step.
        """
        loss = self.objective(model, batch).sum() / total
        if self.penalty is None:
            return loss
        return loss + self.penalty() * (sum(self.weights[index] for index in batch) / total)


def accumulate(processes: Processes, loss_fn: Loss, group: list[list[int]], step: int, arithmetic: Arithmetic) -> float:
    """Run forward and backward for the batches of one optimizer step; every target weighs the same in any batching.

    Returns:
        The mean loss over the targets of all processes, plus the penalty.

    Raises:
        TrainingError: the loss is not finite; the message has step, batch and rows.
    """
    weight = sum(loss_fn.weights[index] for batch in group for index in batch)
    total = 0.0
    for index, batch in enumerate(group):
        share, counts = processes.share(batch)
        with processes.delay_exchange(last=index == len(group) - 1):
            with arithmetic.forward():
                loss = loss_fn.batch_share(processes.model, share, weight) * counts
            value = loss.item() / ranks.world()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} at step {step}, batch {index + 1} of {len(group)} "
                    f"({loss_fn.names(share)}); lower learning_rate"
                )
            arithmetic.backward(loss)
        total += value
    processes.average_gradients()
    return processes.reduce_sum(total)


@contextlib.contextmanager
def use_deterministic_kernels() -> Iterator[None]:
    """Use deterministic kernels where torch has them, so that a resumed run is bit-identical."""
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
        loss: on the training items.
        evaluate: gives the metrics on the validation split; `score` decides.
        config: epochs, schedule, patience.
        learning_rate: the peak.
        out_dir: for checkpoints and history.jsonl.
        title: of the progress bar.
        score_name: the name of the figure behind `score`.
        before_step: called before each step with the number of steps done; may change which parameters train.
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
        before_step: BeforeStep = change_nothing,
        score_name: str = "score",
    ) -> None:
        self.model, self.loss, self.evaluate = model, loss, evaluate
        self.config, self.out_dir, self.title = config, out_dir, title
        self.before_step, self.score_name = before_step, score_name
        self.plan = plan(config, len(loss.lengths))
        self.device = next(model.parameters()).device
        self.arithmetic = Arithmetic(config.precision, self.device)
        recompute.enable(model, config, self.device)
        self.parameters = dict(trainable_parameters(model))  # all that will ever train
        self.optimizer = create_optimizer(model, config, learning_rate)
        self.scheduler = create_schedule(self.optimizer, config, self.plan.warmup, self.plan.steps)
        self.progress = Progress()
        self.best_state = copy_parameters(self.parameters)
        self.processes = Processes(model, config.seed or 0, getattr(config, "shard_frozen", False))

    def fit(self) -> Progress:
        """Train from the last checkpoint or from the start, and leave the best weights in the model.

        Returns:
            The history and the best evaluation.

        Raises:
            TrainingError: the loss is not finite, or memory runs out.
        """
        self._resume()
        if self.progress.step:
            say(f"{self.title}: resumes after step {self.progress.step}")
        groups = batches_by_step(self.config, self.loss.lengths, self.config.seed or 0, self.progress.step, self.plan)
        with (
            use_deterministic_kernels(),
            reporting.report_training(self._describe_training()),
            Bar(self.title, self.plan.steps) as bar,
        ):
            bar.resume(self.progress.step)
            for group in groups:
                if self._should_stop():
                    say(f"{self.title}: stops early, as {self.progress.stale} evaluations in a row did not improve")
                    break
                with memory.explain_exhausted_memory(self.config, self.device, step=self.progress.step + 1):
                    self._step(group)
                bar.advance()
                bar.show(self._progress_note())
        restore_parameters(self.parameters, self.best_state)
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
        watch.report_step(self.progress.step, self.progress.history[-1])
        if self.progress.step % self.plan.evaluate_every == 0 or self.progress.step == self.plan.steps:
            self._evaluate()
        if self.progress.step % self.config.checkpoint_steps == 0:
            self._checkpoint()

    def _evaluate(self) -> None:
        self.model.eval()
        metrics = self.processes.broadcast(self.evaluate())
        shown = {f"validation_{name}": value for name, value in metrics.items()}
        self.progress.history.append({"step": self.progress.step, **shown})
        if self.progress.best is None or metrics["score"] > self.progress.best["score"]:
            self.progress.best, self.progress.best_step, self.progress.stale = metrics, self.progress.step, 0
            self.best_state = copy_parameters(self.parameters)
        else:
            self.progress.stale += 1
        watch.report_evaluation(self.progress.step, metrics)

    def _describe_training(self) -> watch.Training:
        plan = self.plan
        steps = (plan.steps, plan.steps_per_epoch, plan.evaluate_every, self.progress.step)
        return watch.Training(self.title, self.config, *steps, self.out_dir)

    def _should_stop(self) -> bool:
        patience = self.config.early_stopping_patience
        return patience > 0 and self.progress.stale >= patience

    def _progress_note(self) -> str:
        loss = next((row["loss"] for row in reversed(self.progress.history) if "loss" in row), math.nan)
        best = self.progress.best
        name = self.score_name
        validation = f", best {name} {best.get(name, best['score']):.4f} on validation" if best else ""
        return f"loss {loss:.3f}{validation}"

    def _checkpoint(self) -> None:
        state = {
            "model": copy_parameters(self.parameters),
            "best_model": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.arithmetic.scaler.state_dict(),
            "progress": asdict(self.progress),
            "rng": self.processes.gather(checkpoints.rng_state()),
        }
        if ranks.is_main():
            checkpoints.save(self.out_dir, state)

    def _resume(self) -> None:
        state = self.processes.broadcast(checkpoints.load(self.out_dir) if ranks.is_main() else None)
        if state is None:
            return
        checkpoints.check_processes(state["rng"])
        checkpoints.set_rng_state(state["rng"][ranks.rank()], self.device)
        restore_parameters(self.parameters, state["model"])
        self.best_state = {name: value.to(self.device) for name, value in state["best_model"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.arithmetic.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    def _write_history(self) -> None:
        lines = [json.dumps(row) + "\n" for row in self.progress.history]
        (self.out_dir / HISTORY).write_text("".join(lines), encoding="utf-8")
