"""Token-level distillation of language models: forward and reverse divergence over the likeliest tokens."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import dataset, language_folder

from edgeft.compress.distill import distillation_data, losses
from edgeft.errors import RecipeError
from edgeft.models import model_facts, model_folder
from edgeft.recipe import DistillConfig
from edgeft.train import tasks

SIZE, LENGTH = 345, 48


def config_of(top_k: int, **weights: Any) -> DistillConfig:
    none = {"soft_weight": 0.0, "hard_weight": 0.0, "hidden_weight": 0.0}
    return DistillConfig(seed=0, teacher_top_k=top_k, temperature=1.5, **{**none, **weights})


def setting(kind: str, folder: Path, config: DistillConfig) -> tuple[Any, Any]:
    place = language_folder(folder, "llama")
    tokenizer = model_folder.load_tokenizer(place)
    task = tasks.create_task(dataset(kind), tokenizer, LENGTH, config)
    student = model_folder.load(place, task.head([]))
    task.prepare(student)
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(place)
    return task, student


def loss_of(config: DistillConfig, task: Any, student: Any, folder: Path, places: list[int]) -> list[float]:
    taught = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    with torch.no_grad():
        found: list[float] = distillation_data.build_objective(config, task, student, taught)(
            student.eval(), places
        ).tolist()
    return found


@torch.no_grad()
def shaken(model: Any) -> Any:
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("loss", ["soft_weight", "reverse_weight"])
@pytest.mark.parametrize("kind", ["text", "prompt-completion", "messages"])
def test_all_tokens_kept_give_the_whole_divergence_and_few_a_part_of_it(kind: str, loss: str, tmp_path: Path) -> None:
    folder, places = tmp_path / "teacher", [4, 0, 9]
    config = config_of(SIZE, **{loss: 1.0})
    task, student = setting(kind, folder, config)
    teacher = copy.deepcopy(student)
    assert loss_of(config, task, student, folder, places) == pytest.approx([0, 0, 0], abs=1e-4)
    shaken(student)
    whole = loss_of(config, task, student, folder, places)
    assert whole == pytest.approx([_slow(loss, config, task, student, teacher, place) for place in places], rel=1e-4)
    some = loss_of(config_of(5, **{loss: 1.0}), task, student, folder, places)
    assert all(0 < part < all_of_it for part, all_of_it in zip(some, whole, strict=True))


@torch.no_grad()
def _slow(loss: str, config: DistillConfig, task: Any, student: Any, teacher: Any, place: int) -> float:
    """The divergence over the whole vocabulary, token by token."""
    items = task.items(task.dataset.train)
    item = items.inputs[place]
    ids = torch.tensor([item["input_ids"]])
    given, wanted = (model(input_ids=ids).logits[0, :-1] for model in (student, teacher))
    learnt = [at for at, label in enumerate(item["labels"][1:]) if label != -100]
    pair = (given[learnt], wanted[learnt]) if loss == "soft_weight" else (wanted[learnt], given[learnt])
    return float(losses.soft_labels(*pair, config.temperature).sum())


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    config = config_of(5, soft_weight=1.0)
    task, student = setting("text", tmp_path / "teacher", config)
    other = tasks.create_task(task.dataset, task.tokenizer, 4, config)  # cuts the texts elsewhere
    with pytest.raises(RecipeError, match="token by token"):
        distillation_data.prepare_data(config, other, student, tmp_path / "teacher", tmp_path / "cache")


def test_other_ids_of_the_same_tokens_are_refused(tmp_path: Path) -> None:
    from edgeft.compress.prune import vocabulary

    config = config_of(5, soft_weight=1.0)
    task, student = setting("text", tmp_path / "teacher", config)
    few = dataclasses.replace(task.dataset, train=task.dataset.train.take([15, 16, 17]))
    cut = vocabulary.cut(task.tokenizer, few.train.texts)  # they are read as before
    vocabulary.cut_embeddings(student, cut.kept)
    other = tasks.create_task(few, cut.tokenizer, LENGTH, config)
    assert [cut.tokenizer.tokenize(text) for text in few.train.texts] == [
        task.tokenizer.tokenize(text) for text in few.train.texts
    ]
    with pytest.raises(RecipeError, match="token by token"):
        distillation_data.prepare_data(config, other, student, tmp_path / "teacher", tmp_path / "cache")


def test_a_language_model_is_distilled_into_fewer_layers(tmp_path: Path) -> None:
    from edgeft.compress.distill.distill import run
    from edgeft.data import dataset as datasets

    setting("text", tmp_path / "teacher", DistillConfig())
    datasets.save(dataset("text"), tmp_path / "data")
    rates: dict[str, Any] = {"epochs": 40, "batch_size": 4, "learning_rate": 1e-2, "early_stopping_patience": 0}
    config = DistillConfig(num_layers=1, hard_weight=0, device="cpu", seed=0, **rates)
    inputs = {"data": tmp_path / "data", "teacher": tmp_path / "teacher"}
    metrics = run(config, inputs, tmp_path / "student").metrics
    assert model_facts.read_facts(tmp_path / "student").layers == 1
    assert metrics["validation"]["agreement"] > 0.3
