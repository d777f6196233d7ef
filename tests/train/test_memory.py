"""Memory that runs out is one line with the settings to lower, and to what."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeft.errors import TrainingError
from edgeft.recipe import DistillConfig, FinetuneConfig, TrainingConfig
from edgeft.train.loop.memory import Work, explain_exhausted_memory, list_remedies
from edgeft.train.methods.merging import move_to_device

CPU = torch.device("cpu")


def test_the_line_by_hand() -> None:
    config = FinetuneConfig(batch_size=16, gradient_accumulation=2, max_length=128, method="full")
    with pytest.raises(TrainingError) as caught, explain_exhausted_memory(config, torch.device("cuda"), step=7):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert str(caught.value) == (
        "out of memory on cuda at step 7; try batch_size 8 (now 16) with gradient_accumulation 4 (now 2), "
        "32 rows a step (now 32); or gradient_checkpointing true; or max_length 64 (now 128); "
        "or method lora or qlora (now full)"
    )


def test_an_allocation_that_really_fails() -> None:
    with (
        pytest.raises(TrainingError, match=r"out of memory on cpu at step 1; .* batch_size 8 \(now 16\)"),
        explain_exhausted_memory(TrainingConfig(), CPU, step=1),
    ):
        torch.empty(10**15)  # 4 PB


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_exhausted_memory(TrainingConfig(), CPU, step=1):
        raise RuntimeError("shapes differ")


def test_what_can_not_be_lowered_is_not_named() -> None:
    def named(work: Work = "step", **options: Any) -> list[str]:
        usual = {"max_length": 64, "batch_size": 1, "gradient_checkpointing": True}
        return list_remedies(FinetuneConfig(**{**usual, **options}), CPU, work)

    assert named(method="qlora") == ["max_length 32 (now 64)"]
    assert named(method="qlora", gradient_checkpointing=None)[0] == "gradient_checkpointing true"
    assert named(batch_size=3, method="lora")[0].endswith("2 rows a step (now 3)")
    assert named(method="lora")[-1] == "method qlora (now lora)"
    assert named(max_length=4, method="qlora") == ["a smaller model"]
    assert named("earlier rows", method="qlora", rehearsal_fraction=1.0)[0] == "ewc_weight 0"
    assert list_remedies(DistillConfig(batch_size=1), CPU) == ["a teacher fine-tuned with a smaller max_length"]


def test_beside_the_steps_of_a_training() -> None:
    config = FinetuneConfig(batch_size=16, max_length=64, method="full", rehearsal_fraction=0.25)
    assert list_remedies(config, torch.device("cuda"), "load") == ["method qlora (now full)", "a smaller model"]
    assert list_remedies(config, CPU, "load") == ["a smaller model"]  # the merge will need the whole of it there
    assert list_remedies(config, CPU, "set up") == ["method lora or qlora (now full)", "a smaller model"]
    assert list_remedies(config, CPU, "earlier rows") == [
        "ewc_weight 0 with a larger rehearsal_fraction (now 0.25)",
        "max_length 32 (now 64)",
        "method lora or qlora (now full)",
    ]
    with (
        pytest.raises(TrainingError, match=r"^out of memory on cpu while merging the adapter; try a smaller model$"),
        explain_exhausted_memory(config, CPU, "merge"),
    ):
        torch.empty(10**15)


def test_a_merged_model_that_the_device_has_no_room_for_stays_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    class Wide(torch.nn.Linear):
        def to(self, device: Any) -> Any:  # type: ignore[override]
            if torch.device(device).type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().to(device)

    model = Wide(2, 2)
    assert move_to_device(model, torch.device("cuda")) is model
    assert "doesn't fit on cuda in fp32; it is checked on the CPU" in capsys.readouterr().err
