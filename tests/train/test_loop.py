"""The one training loop: accumulation, resume, early stopping, failure."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from edgeft.errors import TrainingError
from edgeft.recipe import TrainingConfig
from edgeft.train.batches import collate, epoch_batches
from edgeft.train.loop import Trainer, optimizer_for, plan, step_groups

ROWS = 24


class Problem:
    """A linear classifier on fixed random rows."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(ROWS, 5, generator=generator)
        self.targets = torch.randint(0, 3, (ROWS,), generator=generator)
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))

    def objective(self, model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        return cross_entropy(model(self.inputs[rows]), self.targets[rows], reduction="none")

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            logits = self.model(self.inputs)
        return {"score": float((logits.argmax(1) == self.targets).float().mean())}

    def trainer(self, config: TrainingConfig, folder: Path) -> Trainer:
        return Trainer(self.model, self.objective, [3] * ROWS, self.evaluate, config, 0.05, folder, "test")


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


def test_a_resumed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=6, batch_size=4, checkpoint_steps=5, early_stopping_patience=0, seed=3)
    straight = Problem()
    torch.manual_seed(7)
    (tmp_path / "straight").mkdir()
    straight.trainer(config, tmp_path / "straight").fit()

    class Killed(Exception):
        pass

    interrupted = Problem()
    steps = 0

    def dies(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 18:
            raise Killed
        return interrupted.objective(model, rows)

    folder = tmp_path / "resumed"
    folder.mkdir()
    torch.manual_seed(7)
    trainer = interrupted.trainer(config, folder)
    trainer.objective = dies
    with pytest.raises(Killed):
        trainer.fit()
    again = Problem()
    torch.manual_seed(99)
    progress = again.trainer(config, folder).fit()
    assert progress.step == 36
    for expected, got in zip(straight.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(expected, got)
    assert (folder / "history.jsonl").read_bytes() == (tmp_path / "straight" / "history.jsonl").read_bytes()


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    problem = Problem()
    scores = iter([0.5, 0.9, 0.4, 0.3, 0.2, 0.1])
    kept: list[torch.Tensor] = []

    def evaluate() -> dict[str, float]:
        kept.append(problem.model[0].weight.detach().clone())
        return {"score": next(scores)}

    config = TrainingConfig(epochs=10, batch_size=4, evaluations_per_epoch=1, early_stopping_patience=3)
    trainer = problem.trainer(config, tmp_path)
    trainer.evaluate = evaluate
    progress = trainer.fit()
    assert (progress.best_step, progress.step) == (12, 30)
    assert torch.equal(problem.model[0].weight, kept[1])


def test_a_loss_that_is_not_finite_names_the_step_and_the_rows(tmp_path: Path) -> None:
    problem = Problem()
    problem.inputs[5] = math.nan
    with pytest.raises(
        TrainingError, match=r"the loss became nan at step \d+ \(training rows .*\); lower learning_rate"
    ):
        problem.trainer(TrainingConfig(epochs=1, batch_size=4), tmp_path).fit()


def test_the_plan_by_hand() -> None:
    config = TrainingConfig(epochs=3, batch_size=4, gradient_accumulation=2, warmup_fraction=0.1)
    found = plan(config, 21)  # 6 batches, 3 steps an epoch
    assert (found.steps_per_epoch, found.steps, found.warmup, found.evaluate_every) == (3, 9, 1, 1)
    groups = list(step_groups(config, [1] * 21, 0, 0, found))
    assert len(groups) == 9
    assert sorted(row for group in groups[:3] for batch in group for row in batch) == list(range(21))
    assert list(step_groups(config, [1] * 21, 0, 4, found)) == groups[4:]


def test_batches_are_of_similar_length_and_differ_between_epochs() -> None:
    lengths = [row % 17 + 1 for row in range(200)]
    batches = epoch_batches(lengths, 8, seed=0, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert max(spread) <= 2
    assert batches == epoch_batches(lengths, 8, seed=0, epoch=0) != epoch_batches(lengths, 8, seed=0, epoch=1)


def test_biases_and_norms_do_not_decay() -> None:
    model = torch.nn.ModuleDict({"dense": torch.nn.Linear(2, 2), "LayerNorm": torch.nn.LayerNorm(2)})
    groups = optimizer_for(model, TrainingConfig(weight_decay=0.3), 1.0).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.3), (3, 0.0)]


def test_collate_pads_on_the_right() -> None:
    batch = collate([[5, 6, 7], [8]], pad_token_id=9, device=torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
