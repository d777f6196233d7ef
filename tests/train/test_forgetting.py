"""EWC and rehearsal: numbers worked out by hand, every method on a tiny model, kill and resume."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import up_and_down, write_csv

from edgeft.data.dataset import Dataset, load, split_of
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import ModelError, RecipeError
from edgeft.recipe import DataConfig, FinetuneConfig
from edgeft.train import forgetting
from edgeft.train.finetune import run as finetune
from edgeft.train.loop import checkpoints
from edgeft.train.loop.loop import Loss, accumulate
from edgeft.train.loop.precision import Arithmetic
from edgeft.train.loop.processes import Processes
from edgeft.train.tasks.sequences import SingleLabel

SHARES: dict[str, Any] = {"validation_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "max_length": 16, "seed": 1, "early_stopping_patience": 0}


class Logistic(torch.nn.Module):
    """P(1 | x) = sigmoid(w x + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([0.0]))
        self.b = torch.nn.Parameter(torch.tensor([math.log(3.0)]))


X, Y = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.0])


def objective(model: Any, indices: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model.w * X[indices] + model.b
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, Y[indices], reduction="none")


# ------------------------------------------------------------------------------------------------------------- by hand


def test_the_fisher_information_of_a_logistic_model_by_hand() -> None:
    """With w = 0 and b = ln 3, P(1) = 3/4 for both rows: gradients (p - y) x are -1/2 and 3, (p - y) -1/4 and 3/4."""
    found = forgetting.fisher_information(Logistic(), objective, [1.0, 1.0])
    assert found["w"].item() == pytest.approx((0.25 + 9) / 2)
    assert found["b"].item() == pytest.approx((1 / 16 + 9 / 16) / 2)


def test_rows_are_squared_one_by_one() -> None:
    """The slow twin; gradients of rows that pull apart don't cancel."""
    model = Logistic()
    squares = []
    for row in range(2):
        grads = torch.autograd.grad(objective(model, [row]).sum(), list(model.parameters()))
        squares.append([gradient.item() ** 2 for gradient in grads])
    found = forgetting.fisher_information(model, objective, [1.0, 1.0])
    assert [found["w"].item(), found["b"].item()] == pytest.approx(np.mean(squares, axis=0).tolist())
    assert all(parameter.grad is None for parameter in model.parameters())


def gradient(parameter: torch.nn.Parameter) -> float:
    assert parameter.grad is not None
    return parameter.grad.item()


def test_the_penalty_by_hand() -> None:
    """Half of 8, times 4.625 * 0.1 ** 2 + 0.3125 * 0.2 ** 2."""
    model = Logistic()
    penalty = forgetting.ewc_penalty(model, forgetting.fisher_information(model, objective, [1.0, 1.0]), 8.0)
    assert penalty().item() == 0.0
    penalty().backward()
    assert [gradient(parameter) for parameter in model.parameters()] == [0.0, 0.0]
    with torch.no_grad():
        model.w.add_(0.1)
        model.b.sub_(0.2)
    assert penalty().item() == pytest.approx(4 * (4.625 * 0.01 + 0.3125 * 0.04))
    model.zero_grad()
    penalty().backward()
    assert gradient(model.w) == pytest.approx(8 * 4.625 * 0.1)
    assert gradient(model.b) == pytest.approx(-8 * 0.3125 * 0.2)


def test_where_new_rows_and_old_ones_disagree_the_weight_decides() -> None:
    """A quadratic loss (w - 3)^2 / 2 under EWC around 0 ends at 3 / (1 + weight * F)."""
    model = Logistic()
    penalty = forgetting.ewc_penalty(model, {"w": torch.tensor([2.0]), "b": torch.tensor([0.0])}, 1.5)

    def quadratic(model: Any, indices: list[int]) -> torch.Tensor:
        loss: torch.Tensor = (model.w - 3) ** 2 / 2 + 0 * model.b
        return loss

    loss = Loss(quadratic, [1], [1.0], str, penalty)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(100):
        optimizer.zero_grad()
        accumulate(Processes(model, 0), loss, [[0]], step, Arithmetic("fp32", torch.device("cpu")))
        optimizer.step()
    assert model.w.item() == pytest.approx(3 / (1 + 1.5 * 2), abs=1e-5)


def test_information_is_that_of_a_target_however_many_an_item_has() -> None:
    found = forgetting.fisher_information(Logistic(), objective, [1.0, 3.0])
    assert found["w"].item() == pytest.approx((0.25 + 9) / 4)


def test_information_knows_neither_smoothing_nor_weights_of_labels() -> None:
    config = FinetuneConfig(label_smoothing=0.3)
    task = SingleLabel(dataclasses.replace(rows(4), class_weights=[1.0, 7.0]), None, 8, config)
    logits, targets = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([0, 1])
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    likelihood: Any = forgetting.use_plain_likelihood(task)
    assert torch.allclose(likelihood.loss(logits, targets), plain)
    assert not torch.allclose(task.loss(logits, targets), plain)


def test_what_does_not_train_costs_nothing_and_what_does_is_held_wherever_it_is() -> None:
    model = Logistic()
    model.b.requires_grad_(False)
    found = forgetting.fisher_information(model, objective, [1.0, 1.0])
    assert list(found) == ["w"]
    penalty = forgetting.ewc_penalty(model, found, 1.0)
    with torch.no_grad():
        model.b.add_(5)
    assert penalty().item() == 0.0


# ----------------------------------------------------------------------------------------------------- what is learnt


def rows(count: int) -> Dataset:
    names = ["a", "b"]
    columns = {"text": [f"t{i}" for i in range(count)], "label": [names[i % 2] for i in range(count)]}
    split = split_of(columns, np.arange(count), names)
    return Dataset(task="text-classification", labels=names, train=split, validation=split, test=split, unlabelled=[])


def test_rows_to_learn_are_all_new_rows_and_a_share_of_the_old_ones() -> None:
    config = FinetuneConfig(seed=3, rehearsal_fraction=0.3, ewc_rows=15)
    found = forgetting.choose_rows(config, rows(50), {"train": 40, "validation": 40, "test": 40})
    texts = found.dataset.train.texts
    assert texts[:10] == [f"t{i}" for i in range(40, 50)]
    again = [int(text[1:]) for text in texts[10:]]
    assert again == sorted(set(again))
    assert len(again) == found.rehearsed == 12
    assert max(again) < 40
    assert len(found.dataset.validation) == len(found.dataset.test) == 50
    assert found.earlier is not None
    assert all(int(text[1:]) < 40 for text in found.earlier.texts)
    assert len(set(found.earlier.texts)) == 15
    assert found.figures() == {
        "update": {"new": 10, "rehearsed": 12, "ewc_rows": 15, "ewc_weight": forgetting.EWC_WEIGHT}
    }

    def texts_at(seed: int) -> list[str]:
        config = FinetuneConfig(seed=seed, rehearsal_fraction=0.3)
        return forgetting.choose_rows(config, rows(50), {"train": 40}).dataset.train.texts

    assert texts_at(3) == texts
    assert texts_at(4) != texts


def test_without_earlier_rows_nothing_changes_and_both_can_be_off() -> None:
    data = rows(6)
    plain = forgetting.choose_rows(FinetuneConfig(), data, None)
    assert plain.dataset is data
    assert plain.figures() == {}
    off = forgetting.choose_rows(FinetuneConfig(ewc_weight=0, rehearsal_fraction=0), data, {"train": 4})
    assert off.dataset.train.texts == ["t4", "t5"]
    assert not off.uses_ewc
    assert len(off.earlier or []) == 0


@pytest.mark.parametrize("option", [{"ewc_weight": 10.0}, {"ewc_rows": 5}, {"rehearsal_fraction": 0.5}])
def test_options_against_forgetting_need_something_to_forget(
    option: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    config = FinetuneConfig(model="demo:all-minilm-l6-v2", **option)
    with pytest.raises(
        RecipeError, match=rf"^finetune.{next(iter(option))}: has no effect without earlier rows; .*edgeft update"
    ):
        finetune(config, {"data": data}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_for_ewc_without_ewc_do_nothing() -> None:
    with pytest.raises(RecipeError, match=r"^finetune.ewc_rows: has no effect if ewc_weight is 0"):
        forgetting.check(FinetuneConfig(ewc_rows=5, ewc_weight=0), update=True)


# ----------------------------------------------------------------------------------------------------- on a tiny model


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with the rows of an update, `both`, and the model of the earlier rows, `teacher`."""
    folder = tmp_path_factory.mktemp("halves")
    everything = up_and_down()
    for name, chosen in (("old", everything[::2]), ("new", everything[1::2])):
        config = DataConfig(file=str(write_csv(folder / f"{name}.csv", chosen, ("text", "label"))), **SHARES)
        inputs = sources.local_files(config)
        if name == "old":
            prepare(config, inputs, folder / "old")
        else:
            prepare(config, {**inputs, "earlier": folder / "old"}, folder / "both")
    training = FinetuneConfig(model=str(tiny_model), method="full", learning_rate=2e-3, **{**QUICK, "epochs": 3.0})
    finetune(training, {"data": folder / "old", "model": tiny_model}, folder / "teacher")
    return folder


def further(method: str, **more: Any) -> FinetuneConfig:
    given: dict[str, Any] = {"learning_rate": 2e-3, "ewc_weight": 100.0, "ewc_rows": 12, "rehearsal_fraction": 0.2}
    return FinetuneConfig(method=method, **{**QUICK, **given, **more})  # type: ignore[arg-type]


def kill(config: FinetuneConfig, inputs: dict[str, Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, inputs, out)


@pytest.mark.parametrize("method", ["full", "head", "lora", "ia3", "qlora"])
def test_a_killed_update_ends_in_the_same_bytes(
    method: str, halves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"data": halves / "both", "model": halves / "teacher"}
    config = further(method, checkpoint_steps=4)
    uninterrupted = finetune(config, inputs, tmp_path / "whole")
    old = len(load(halves / "old").train)
    new = len(load(halves / "both").train) - old
    assert uninterrupted.metrics["update"] == {
        "new": new,
        "rehearsed": round(0.2 * old),
        "ewc_rows": 12,
        "ewc_weight": 100.0,
    }
    assert uninterrupted.metrics["steps"] == math.ceil((new + round(0.2 * old)) / 8)
    kill(config, inputs, tmp_path / "killed", monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == uninterrupted.digest


def test_ewc_holds_the_model_where_it_was(halves: Path, tmp_path: Path) -> None:
    """The more it weighs, the smaller the step that earlier rows feel; without any, the training is the plain one."""
    from safetensors.torch import load_file

    inputs = {"data": halves / "both", "model": halves / "teacher"}
    start = load_file(halves / "teacher" / "model.safetensors")
    moved = {}
    for weight in (0.0, 1e2, 1e6):
        rows = None if weight == 0 else 12
        out = tmp_path / f"{weight:g}"
        finetune(further("full", ewc_weight=weight, ewc_rows=rows, rehearsal_fraction=0.0), inputs, out)
        end = load_file(out / "model.safetensors")
        name = "classifier.weight"  # what every row feels
        moved[weight] = float((end[name] - start[name]).norm())
    assert moved[1e6] < moved[1e2] < moved[0.0]
    assert moved[1e6] < 0.5 * moved[0.0]
    history = [json.loads(line) for line in (tmp_path / "100" / "history.jsonl").read_text().splitlines()]
    plain = [json.loads(line) for line in (tmp_path / "0" / "history.jsonl").read_text().splitlines()]
    assert history[0]["loss"] == plain[0]["loss"]  # before the first step there is nothing to pay
    assert history[4]["loss"] != plain[4]["loss"]


def test_ewc_needs_the_earlier_model_and_not_just_any(halves: Path, tiny_model: Path, tmp_path: Path) -> None:
    inputs = {"data": halves / "both", "model": tiny_model}
    with pytest.raises(ModelError, match=r"^finetune.ewc_weight: the model's head is new"):
        finetune(further("full"), inputs, tmp_path / "out")
    done = finetune(further("full", ewc_weight=0.0, ewc_rows=None), inputs, tmp_path / "out")
    assert done.metrics["update"]["ewc_rows"] == 0


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_other_forms_of_rows_are_held_too(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = (
        {"multi_label": True, "label_column": "labels"} if kind == "multi-label" else {"task": "text-regression"}
    )

    def row(text: str, label: str) -> dict[str, Any]:
        good = label == "up"
        return (
            {"text": text, "labels": [label, "any"][good:]}
            if kind == "multi-label"
            else {"text": text, "target": 10.0 + 3 * good}
        )

    everything = [row(*pair) for pair in up_and_down()]
    configs = {}
    for name, chosen in (("old", everything[::2]), ("new", everything[1::2])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in chosen))
        configs[name] = DataConfig(file=str(file), **SHARES, **more)
    prepare(configs["old"], sources.local_files(configs["old"]), tmp_path / "data")
    inputs = {**sources.local_files(configs["new"]), "earlier": tmp_path / "data"}
    prepare(configs["new"], inputs, tmp_path / "both")
    first = FinetuneConfig(model=str(tiny_model), method="full", learning_rate=1e-3, **QUICK)
    finetune(first, {"data": tmp_path / "data", "model": tiny_model}, tmp_path / "teacher")
    inputs = {"data": tmp_path / "both", "model": tmp_path / "teacher"}
    done = finetune(further("full", learning_rate=1e-3), inputs, tmp_path / "out")
    assert done.metrics["update"]["ewc_rows"] == 12
    assert done.metrics["test"]["rmse" if kind == "regression" else "micro_f1"] >= 0
