"""Every method on a tiny model: it trains, merges without loss, reloads, and resumes to the same bits."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_processes import Forked, edgeft

from edgeft.errors import GateError
from edgeft.models import model_folder
from edgeft.recipe import DistillConfig, FinetuneConfig, PruneConfig
from edgeft.stage_folder import read_result
from edgeft.train import methods
from edgeft.train.finetune import run as finetune
from edgeft.train.tasks.sequences import SingleLabel

QUICK: dict[str, Any] = {"epochs": 10.0, "batch_size": 8, "max_length": 16, "seed": 1, "early_stopping_patience": 0}


RATES = {"full": 2e-3, "lora": 4e-3, "qlora": 4e-3}


def config_of(method: Any, model: Path) -> FinetuneConfig:
    return FinetuneConfig(model=str(model), method=method, learning_rate=RATES[method], **QUICK)


@pytest.fixture(scope="module")
def teacher(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained in full."""
    folder = tmp_path_factory.mktemp("full") / "out"
    finetune(config_of("full", tiny_model), {"data": data, "model": tiny_model}, folder)
    return folder


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_method_learns_and_ends_as_a_plain_model_folder(
    method: Any, data: Path, tiny_model: Path, teacher: Path, tmp_path: Path
) -> None:
    out = teacher if method == "full" else tmp_path / "out"  # that of the fixture is complete, and kept
    result = finetune(config_of(method, tiny_model), {"data": data, "model": tiny_model}, out)
    assert result.metrics["test"]["accuracy"] >= 0.85
    if method != "full":
        assert result.metrics["merge_difference"] <= 1e-4
        assert result.metrics["test"]["agreement"] == 1.0
    model = model_folder.load_classifier(out, None)
    assert not any("lora" in name or "4bit" in type(module).__name__ for name, module in model.named_modules())
    assert model.config.id2label == {0: "down", 1: "up"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_method_learns_on_a_gpu(method: Any, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), method=method, learning_rate=4e-3, device="cuda", **QUICK)
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert result.metrics["test"]["accuracy"] >= 0.85
    assert result.metrics["device"] == "cuda"


def test_two_runs_give_the_same_bytes(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(tiny_model), method="lora", **{**QUICK, "epochs": 1.0})
    inputs = {"data": data, "model": tiny_model}
    digests = {finetune(config, inputs, tmp_path / name).digest for name in ("one", "two")}
    assert len(digests) == 1


def test_a_merge_that_changes_answers_is_refused() -> None:
    before = np.array([[2.0, -1.0]], dtype=np.float32)
    assert methods.check_merge(before, before + 1e-5, 1e-4) == pytest.approx(5e-6, rel=0.1)
    with pytest.raises(GateError, match=r"merge: .* differ from the adapter's by 5\.00e-02 .* tolerance of 1e-04"):
        methods.check_merge(before, before + 0.1, 1e-4)


def test_merging_into_the_original_weights_would_be_another_model(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Why the base is de-quantized: NF4 and the original differ by far more than the tolerance."""
    config = FinetuneConfig(model=str(tiny_model), method="qlora", **QUICK)
    quantized = methods.load(config, str(tiny_model), SingleLabel.head(["down", "up"]), torch.device("cpu"))
    plain = model_folder.load_classifier(str(tiny_model), ["down", "up"])
    name = "bert.encoder.layer.0.intermediate.dense"
    before = plain.get_submodule(name).weight.detach().clone()
    methods.copy_dequantized(quantized, plain)
    after = plain.get_submodule(name).weight.detach()
    assert float((before - after).abs().max() / before.abs().max()) > 1e-2
    x = torch.randn(2, 64)
    with torch.no_grad():
        torch.testing.assert_close(quantized.get_submodule(name)(x), plain.get_submodule(name)(x), atol=1e-5, rtol=1e-4)


def test_distilling_and_pruning_alone_on_folders(data: Path, teacher: Path, tmp_path: Path) -> None:
    from edgeft.compress.distill.distill import run as distill
    from edgeft.compress.prune.prune import run as prune

    learning: dict[str, Any] = {"epochs": 8.0, "batch_size": 8, "seed": 0, "learning_rate": 2e-3}
    inputs = {"data": data, "teacher": teacher}
    student = distill(DistillConfig(num_layers=2, **learning), inputs, tmp_path / "student")
    assert student.metrics["test"]["accuracy"] >= 0.85
    assert len(model_folder.load_classifier(tmp_path / "student", None).bert.encoder.layer) == 2
    pruned = prune(
        PruneConfig(head_ratio=0.5, channel_ratio=0.5, max_drop_points=100, **learning),
        {**inputs, "model": tmp_path / "student"},
        tmp_path / "pruned",
    )
    assert pruned.metrics["kept"] == 0
    assert pruned.metrics["bytes"] < student.metrics["bytes"]
    assert (tmp_path / "pruned" / "structure.json").exists()


def test_pruning_that_costs_too_much_is_retried_and_left_out(data: Path, teacher: Path, tmp_path: Path) -> None:
    from edgeft.compress.prune.prune import run as prune

    before = read_result(teacher)
    assert before is not None
    result = prune(
        # Hardly any recovery, and no loss allowed at all.
        PruneConfig(head_ratio=0.75, channel_ratio=0.9, max_drop_points=0, epochs=0.1, learning_rate=1e-9, seed=0),
        {"data": data, "model": teacher, "teacher": teacher},
        tmp_path / "pruned",
    )
    if result.metrics["kept"] is None:
        assert [attempt["head_ratio"] for attempt in result.metrics["tried"]] == [0.75, 0.375]
        assert result.metrics["test"] == {**before.metrics["test"], "agreement": 1.0}
    else:
        assert result.metrics["tried"][-1]["drop_points"] <= 0


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_a_stop_and_the_way_on_are_said(
    stop: signal.Signals, code: int, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ["--model", tiny_model, "--method", "full", "--max-length", 16, "--batch-size", 8, "--checkpoint-steps", 2]
    line = ["finetune", "--data", data, "--out", out, *flags]
    with Forked(*line, "--epochs", 20) as process:
        process.wait_until((out / "checkpoints" / "last.pt").exists)
        process.send_signal(stop)
        assert process.wait() == code
        assert process.stderr.splitlines()[-1] == "edgeft: stopped; the same command goes on where it was"
    again = edgeft(*line, "--epochs", 20)
    assert again.returncode == 0
    assert re.search(r"^finetune: resumes after step [2-9]", again.stderr, re.MULTILINE)


def test_an_early_end_is_said(data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = FinetuneConfig(
        model=str(tiny_model), method="full", learning_rate=1e-9, **{**QUICK, "early_stopping_patience": 2}
    )
    finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert "finetune: stops early, as 2 evaluations in a row did not improve" in capsys.readouterr().err
