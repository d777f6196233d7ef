"""Which optimizer a recipe gets, and gradient checkpointing, which must change nothing but memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.errors import RecipeError
from edgeft.models import model_folder
from edgeft.recipe import DistillConfig, FinetuneConfig, TrainingConfig
from edgeft.train import methods
from edgeft.train.finetune import run as finetune
from edgeft.train.loop import optim, recompute
from edgeft.train.tasks.sequences import SingleLabel

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
QUICK: dict[str, Any] = {"epochs": 0.5, "batch_size": 16, "max_length": 16, "seed": 1, "learning_rate": 4e-3}


def test_what_auto_means() -> None:
    assert optim.choose_optimizer(TrainingConfig(), CPU) == optim.choose_optimizer(TrainingConfig(), CUDA) == "adamw"
    assert optim.choose_optimizer(FinetuneConfig(method="lora"), CUDA) == "adamw"
    assert optim.choose_optimizer(FinetuneConfig(method="qlora"), CPU) == "adamw"
    assert optim.choose_optimizer(FinetuneConfig(method="qlora"), CUDA) == "paged_adamw_8bit"
    assert optim.choose_optimizer(FinetuneConfig(method="qlora", optimizer="adamw"), CUDA) == "adamw"
    assert recompute.is_enabled(FinetuneConfig(method="qlora"), CUDA)
    assert not recompute.is_enabled(FinetuneConfig(method="qlora"), CPU)
    assert not recompute.is_enabled(FinetuneConfig(method="qlora", gradient_checkpointing=False), CUDA)
    assert recompute.is_enabled(DistillConfig(gradient_checkpointing=True), CPU)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bits_want_cuda_before_anything_is_loaded(
    name: Any, data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "load", lambda *_, **__: pytest.fail("loaded"))
    config = FinetuneConfig(model=str(tiny_model), optimizer=name, device="cpu", **QUICK)
    line = f"^optimizer: {name} runs on CUDA only, and the device is cpu; take adamw$"
    with pytest.raises(RecipeError, match=line):
        finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    with pytest.raises(RecipeError, match=line):
        optim.create_optimizer(torch.nn.Linear(2, 2), DistillConfig(optimizer=name), 1e-3)


def test_sgd_steps_by_the_gradient_and_decays_matrices_alone() -> None:
    """No momentum: w - rate * (gradient + decay * w), of a bias without the decay; twice the same step."""
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.fill_(3.0)
    optimizer = optim.create_optimizer(model, TrainingConfig(optimizer="sgd", weight_decay=0.5), 0.1)
    assert isinstance(optimizer, torch.optim.SGD)
    for weight, bias in (([0.85, -1.8], 2.9), ([0.7075, -1.61], 2.8)):
        optimizer.zero_grad()
        model(torch.tensor([[1.0, -1.0]])).sum().backward()
        optimizer.step()
        torch.testing.assert_close(model.weight[0], torch.tensor(weight))
        torch.testing.assert_close(model.bias, torch.tensor([bias]))


def test_sgd_trains_a_model(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), method="full", optimizer="sgd", **{**QUICK, "learning_rate": 0.1})
    assert finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out").metrics["best_step"] > 0


# --------------------------------------------------------------------------------------------------------- recomputing


def gradients(method: Any, source: Path, checkpointing: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients and layers' passes of one batch in training mode, dropout and all."""
    config = FinetuneConfig(method=method, gradient_checkpointing=checkpointing, seed=3)
    model = methods.load(config, str(source), SingleLabel.head(["a", "b"]), CPU)
    model = methods.prepare(config, model, SingleLabel.adapter)
    recompute.enable(model, config, CPU)
    passes: list[int] = []
    layers: Any = optim.layers_of(model)
    layers[0].attention.register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(5)
    ids = torch.randint(5, 40, (4, 9))
    loss = torch.nn.functional.cross_entropy(model.train()(input_ids=ids).logits, torch.tensor([0, 1, 1, 0]))
    loss.backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return loss.item(), found, len(passes)


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "ia3", "prompt"])
def test_checkpointing_changes_no_gradient(method: str, tiny_model: Path) -> None:
    loss, plain, once = gradients(method, tiny_model, False)
    again, recomputed, twice = gradients(method, tiny_model, True)
    assert loss == again
    assert plain.keys() == recomputed.keys()
    assert len(plain) > 2
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, atol=0, rtol=0)
    assert (once, twice) == (1, 2)


def test_checkpointing_leaves_no_trace_in_the_model(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    inputs = {"data": data, "model": tiny_model}
    options = {"model": str(tiny_model), "method": "lora", **QUICK}
    plain = finetune(FinetuneConfig(**options), inputs, tmp_path / "plain")
    saved = finetune(FinetuneConfig(gradient_checkpointing=True, **options), inputs, tmp_path / "saved")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "saved")]
    assert files[0] == files[1]
    assert plain.metrics["test"] == saved.metrics["test"]


def test_a_model_that_can_not_says_so() -> None:
    with pytest.raises(RecipeError, match=r"^gradient_checkpointing: Linear doesn't support it; set it to false$"):
        recompute.enable(torch.nn.Linear(2, 2), TrainingConfig(gradient_checkpointing=True), CPU)
    recompute.enable(torch.nn.Linear(2, 2), TrainingConfig(), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["auto", "adamw_8bit", "paged_adamw_8bit"])
def test_eight_bits_learn_on_a_gpu(optimizer: Any, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 8.0, "batch_size": 8}
    config = FinetuneConfig(model=str(tiny_model), method="qlora", optimizer=optimizer, device="cuda", **options)
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert result.metrics["test"]["accuracy"] >= 0.85
