"""The one training loop: accumulation, resume under every policy, early stopping, failure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from edgeft.errors import TrainingError
from edgeft.recipe import TrainingConfig
from edgeft.train.loop import optim
from edgeft.train.loop.loop import Loss, Trainer, batches_by_step, plan

ROWS = 24


class Problem:
    """A linear classifier on fixed random rows."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(ROWS, 5, generator=generator)
        self.targets = torch.randint(0, 3, (ROWS,), generator=generator)
        torch.manual_seed(0)
        self.model: Any = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))

    def objective(self, model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        return cross_entropy(model(self.inputs[rows]), self.targets[rows], reduction="none")

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            logits = self.model(self.inputs)
        return {"score": float((logits.argmax(1) == self.targets).float().mean())}

    def trainer(self, config: TrainingConfig, folder: Path) -> Trainer:
        loss = Loss(self.objective, [3] * ROWS, [1.0] * ROWS, lambda indices: f"items {indices}")
        return Trainer(self.model, loss, self.evaluate, config, 0.05, folder, "test")


class Texts(Problem):
    """A BERT of 3 narrow layers, with dropout, on fixed random ids."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = torch.randint(0, 30, (ROWS, 6), generator=torch.Generator().manual_seed(2))
        sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
        config = BertConfig(vocab_size=30, max_position_embeddings=8, num_labels=3, **sizes)
        self.model = BertForSequenceClassification(config)

    def objective(self, model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        return cross_entropy(model(self.ids[rows]).logits.float(), self.targets[rows], reduction="none")

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            logits = self.model(self.ids).logits
        return {"score": -float(cross_entropy(logits, self.targets))}


def gradually(problem: Problem, config: TrainingConfig, folder: Path) -> Trainer:
    """The head alone first, then layer by layer."""
    trainer = problem.trainer(config, folder)
    trainer.before_step = optim.unfreeze_gradually(problem.model, trainer.plan.steps)
    return trainer


def scaled(problem: Problem, config: TrainingConfig, folder: Path) -> Trainer:
    """As under fp16: a loss scale that changes every few steps."""
    trainer = problem.trainer(config, folder)
    trainer.arithmetic.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=4)
    return trainer


Make = Callable[[Problem, TrainingConfig, Path], Trainer]


def with_sgd(trainer: Trainer) -> Trainer:
    """SGD shows an error of scale that Adam hides."""
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer, factor=1.0)
    return trainer


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 2), (2, 4), (3, 3)])
def test_rows_weigh_the_same_however_they_are_batched(tmp_path: Path, batch: int, accumulation: int) -> None:
    whole, parts = Problem(), Problem()
    for problem in (whole, parts):
        problem.model[1].p = 0.0
    rows = list(range(8)) if batch != 3 else list(range(7))
    groups = {"whole": [rows], "parts": [rows[start : start + batch] for start in range(0, len(rows), batch)]}
    config = TrainingConfig(epochs=1, max_grad_norm=1e9, early_stopping_patience=0)
    for problem, group in ((whole, groups["whole"]), (parts, groups["parts"])):
        trainer = with_sgd(problem.trainer(config, tmp_path))
        for _ in range(5):
            trainer._step(group)
    for expected, got in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


class Killed(Exception):
    """Stands for a process that is gone."""


def dying(problem: Problem, calls: int) -> Callable[[torch.nn.Module, list[int]], torch.Tensor]:
    """The problem's objective, until so many calls."""
    done = 0

    def objective(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        nonlocal done
        done += 1
        if done == calls:
            raise Killed
        return problem.objective(model, rows)

    return objective


def other_weights(problem: Problem) -> Problem:
    """So that what is right after a resume came from the checkpoint."""
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.add_(1)
    return problem


@pytest.mark.parametrize(
    ("kind", "make", "options"),
    [
        (Problem, Problem.trainer, {}),
        (Problem, Problem.trainer, {"schedule": "cosine", "length_grouped": False}),
        (Problem, scaled, {"schedule": "constant"}),
        (Texts, Texts.trainer, {"layer_decay": 0.8}),
        (Texts, Texts.trainer, {"precision": "bf16"}),
        (Texts, gradually, {"layer_decay": 0.8, "schedule": "cosine"}),
    ],
)
def test_a_resumed_training_ends_in_the_same_bits(
    tmp_path: Path, kind: type[Problem], make: Make, options: dict[str, Any]
) -> None:
    config = TrainingConfig(epochs=6, batch_size=4, checkpoint_steps=5, early_stopping_patience=0, seed=3, **options)
    straight = kind()
    torch.manual_seed(7)
    (tmp_path / "straight").mkdir()
    whole = make(straight, config, tmp_path / "straight")
    whole.fit()

    interrupted = kind()
    folder = tmp_path / "resumed"
    folder.mkdir()
    torch.manual_seed(7)
    trainer = make(interrupted, config, folder)
    trainer.loss = replace(trainer.loss, objective=dying(interrupted, 18))
    with pytest.raises(Killed):
        trainer.fit()
    again = other_weights(kind())
    torch.manual_seed(99)
    resumed = make(again, config, folder)
    assert resumed.fit().step == 36
    assert resumed.arithmetic.scaler.state_dict() == whole.arithmetic.scaler.state_dict()
    for expected, got in zip(straight.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(expected, got)
    assert (folder / "history.jsonl").read_bytes() == (tmp_path / "straight" / "history.jsonl").read_bytes()


def test_a_checkpoint_has_all_that_will_ever_train(tmp_path: Path) -> None:
    problem = Texts()
    config = TrainingConfig(epochs=6, batch_size=4, checkpoint_steps=5)
    trainer = gradually(problem, config, tmp_path)
    trainer.loss = replace(trainer.loss, objective=dying(problem, 7))
    with pytest.raises(Killed):
        trainer.fit()
    assert not problem.model.bert.encoder.layer[0].output.dense.weight.requires_grad
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    names = {name for name, _ in problem.model.named_parameters()}
    assert state["model"].keys() == state["best_model"].keys() == names
    assert sum(len(group["params"]) for group in state["optimizer"]["param_groups"]) == len(names)


def test_what_is_frozen_for_now_keeps_its_bits_and_moves_later(tmp_path: Path) -> None:
    problem = Texts()
    config = TrainingConfig(epochs=2, batch_size=4, early_stopping_patience=0, warmup_fraction=0, weight_decay=0.5)
    trainer = gradually(problem, config, tmp_path)  # 12 steps, 4 parts
    stack = problem.model.bert.encoder.layer
    watched = [problem.model.classifier, stack[2], stack[1], stack[0], problem.model.bert.embeddings]
    moved: list[list[bool]] = []
    before = [[p.detach().clone() for p in module.parameters()] for module in watched]
    for group in batches_by_step(config, [3] * ROWS, 0, 0, trainer.plan):
        trainer._step(group)
        now = [[p.detach().clone() for p in module.parameters()] for module in watched]
        pairs = zip(before, now, strict=True)
        moved.append([not all(map(torch.equal, old, new)) for old, new in pairs])
    assert [row.count(True) for row in moved] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 5, 5, 5]
    assert moved[3] == [True, True, False, False, False]


def test_the_rate_in_the_history_is_the_peak_of_all_groups(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, batch_size=4, layer_decay=0.5, schedule="constant", warmup_fraction=0)
    progress = Texts().trainer(config, tmp_path).fit()
    assert {row["learning_rate"] for row in progress.history if "learning_rate" in row} == {0.05}


def test_bf16_on_a_cpu_learns_something_near_fp32(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        problem = Texts()
        config = TrainingConfig(epochs=2, batch_size=4, precision=precision, early_stopping_patience=0)
        torch.manual_seed(7)
        progress = problem.trainer(config, tmp_path).fit()
        losses[precision] = [row["loss"] for row in progress.history if "loss" in row]
        assert all(parameter.dtype == torch.float32 for parameter in problem.model.parameters())
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.05)


def test_memory_that_runs_out_names_the_step_and_the_settings(tmp_path: Path) -> None:
    problem = Problem()
    calls = 0

    def greedy(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return problem.objective(model, rows) + (torch.empty(10**15).sum() if calls == 3 else 0)

    trainer = problem.trainer(TrainingConfig(epochs=1, batch_size=4), tmp_path)
    trainer.loss = replace(trainer.loss, objective=greedy)
    with pytest.raises(TrainingError, match=r"out of memory on cpu at step 3; try batch_size 2 \(now 4\)"):
        trainer.fit()


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    problem = Problem()
    scores = iter([0.5, 0.9, 0.4, 0.3, 0.2, 0.1])
    snapshots: list[torch.Tensor] = []

    def evaluate() -> dict[str, float]:
        snapshots.append(problem.model[0].weight.detach().clone())
        return {"score": next(scores)}

    config = TrainingConfig(epochs=10, batch_size=4, evaluations_per_epoch=1, early_stopping_patience=3)
    trainer = problem.trainer(config, tmp_path)
    trainer.evaluate = evaluate
    progress = trainer.fit()
    assert (progress.best_step, progress.step) == (12, 30)
    assert torch.equal(problem.model[0].weight, snapshots[1])


def test_a_loss_that_is_not_finite_names_the_step_and_the_rows(tmp_path: Path) -> None:
    problem = Problem()
    problem.inputs[5] = math.nan
    with pytest.raises(TrainingError) as caught:
        problem.trainer(TrainingConfig(epochs=1, batch_size=4, gradient_accumulation=2), tmp_path).fit()
    said = re.fullmatch(
        r"the loss became nan at step \d+, batch [12] of \d \(items \[([\d, ]+)\]\); lower learning_rate",
        str(caught.value),
    )
    assert said is not None
    assert "5" in said[1].split(", ")


def test_the_plan_by_hand() -> None:
    config = TrainingConfig(epochs=3, batch_size=4, gradient_accumulation=2, warmup_fraction=0.1)
    found = plan(config, 21)  # 6 batches, 3 steps an epoch
    assert (found.steps_per_epoch, found.steps, found.warmup, found.evaluate_every) == (3, 9, 1, 1)
    groups = list(batches_by_step(config, [1] * 21, 0, 0, found))
    assert len(groups) == 9
    assert sorted(row for group in groups[:3] for batch in group for row in batch) == list(range(21))
    assert list(batches_by_step(config, [1] * 21, 0, 4, found)) == groups[4:]
