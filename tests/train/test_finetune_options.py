"""What an option of the training changes in the model that the stage leaves, and what is refused before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.data.dataset import Dataset, Split
from edgeft.errors import RecipeError
from edgeft.models import model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train.finetune import run as finetune
from edgeft.train.tasks.sequences import SingleLabel

QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "max_length": 16, "seed": 1, "early_stopping_patience": 0}


def changed(folder: Path, source: Path) -> set[str]:
    """Names of the body's weights that fine-tuning moved."""
    before = dict(model_folder.load_classifier(source, ["down", "up"]).base_model.named_parameters())
    after = dict(model_folder.load_classifier(folder, None).base_model.named_parameters())
    return {name for name, value in after.items() if "pooler" not in name and not torch.equal(value, before[name])}


def single_label(weights: list[float], label_smoothing: float) -> SingleLabel:
    """The task with these weights of its labels; it needs no rows for its loss."""
    none: Any = {"columns": {}, "labels": np.zeros(0), "rows": np.zeros(0)}
    empty = Split(**none)
    dataset = Dataset("text-classification", ["down", "up"], empty, empty, empty, [], class_weights=weights)
    return SingleLabel(dataset, None, 16, FinetuneConfig(label_smoothing=label_smoothing))


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, 0.2 * 0.5 * 1.6739764 + 0.8 * 0.2876821), ([2.0, 0.5], 0.4067158)]
)
def test_label_smoothing_by_hand(weights: list[float] | None, expected: float) -> None:
    """Logits (0, ln 3), so p = (1/4, 3/4), label 1, smoothing 0.2.

    With weights (2, 1/2): 0.8 * 0.5 * ln(4/3) + 0.1 * (2 * ln 4 + 0.5 * ln(4/3)) = 0.4067158.
    """
    task = single_label(weights or [], label_smoothing=0.2)
    loss = task.loss(torch.tensor([[0.0, 1.0986123]]), torch.tensor([1]))
    assert loss.tolist() == pytest.approx([expected], rel=1e-6)


def test_without_smoothing_the_loss_keeps_its_bits() -> None:
    logits, labels = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 1])
    got = single_label([0.3, 1.7], label_smoothing=0.0).loss(logits, labels)
    expected = torch.nn.functional.cross_entropy(logits, labels, torch.tensor([0.3, 1.7]), reduction="none")
    assert torch.equal(got, expected)


def test_smoothing_bounds_the_loss_of_a_training(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Smoothing 0.5 over 2 labels asks for (3/4, 1/4), whose entropy is 0.5623: no loss can be lower."""
    config = FinetuneConfig(
        model=str(tiny_model), method="full", learning_rate=2e-3, label_smoothing=0.5, **{**QUICK, "epochs": 5.0}
    )
    finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    rows = map(json.loads, (tmp_path / "out" / "history.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [row["loss"] for row in rows if "loss" in row]
    assert 0.5623 <= min(losses) < 0.6


@pytest.mark.parametrize("method", ["full", "lora"])
def test_frozen_layers_end_as_they_were(method: Any, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), method=method, learning_rate=2e-3, freeze_layers=3, **QUICK)
    finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    moved = changed(tmp_path / "out", tiny_model)
    assert moved
    assert all(name.startswith("encoder.layer.3.") for name in moved)


def test_unfreezing_reaches_the_layers_from_the_top(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """4 steps are too few for the fifth part, in which layer 0 and the embeddings would begin."""
    options = {**QUICK, "epochs": 4 / 27, "warmup_fraction": 0}
    config = FinetuneConfig(model=str(tiny_model), method="full", gradual_unfreezing=True, **options)
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert (result.metrics["steps"], result.metrics["best_step"]) == (4, 4)
    moved = changed(tmp_path / "out", tiny_model)
    assert {".".join(name.split(".")[:3]) for name in moved} == {f"encoder.layer.{layer}" for layer in (1, 2, 3)}


def test_more_frozen_layers_than_the_model_has(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), freeze_layers=9, **QUICK)
    with pytest.raises(RecipeError, match="freeze_layers: 9 is more than the 4 layers of the model; at most 4"):
        finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")


def test_fp16_on_a_cpu_is_refused(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), precision="fp16", device="cpu", **QUICK)
    with pytest.raises(RecipeError, match="precision: fp16 trains on a GPU only"):
        finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"method": "full", "learning_rate": 2e-3, "gradual_unfreezing": True, "layer_decay": 0.9, "schedule": "cosine"},
        {"method": "lora", "learning_rate": 4e-3, "precision": "bf16", "label_smoothing": 0.1, "length_grouped": False},
        {"method": "qlora", "learning_rate": 4e-3, "precision": "bf16", "freeze_layers": 1, "schedule": "constant"},
    ],
)
def test_options_together_learn_and_merge(
    options: dict[str, Any], data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = FinetuneConfig(model=str(tiny_model), **{**QUICK, "epochs": 8.0}, **options)
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert result.metrics["test"]["accuracy"] >= 0.85
    if options["method"] == "full":
        assert {name.split(".")[0] for name in changed(tmp_path / "out", tiny_model)} == {"embeddings", "encoder"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns_on_a_gpu(precision: Any, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(
        model=str(tiny_model), learning_rate=4e-3, precision=precision, device="cuda", **{**QUICK, "epochs": 8.0}
    )
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert result.metrics["test"]["accuracy"] >= 0.85
