"""Which arithmetic a training takes, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeft.errors import RecipeError
from edgeft.train.loop.precision import Arithmetic, dtype_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_bf16_where_a_gpu_has_it(monkeypatch: Any, has_bf16: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert dtype_of("auto", CUDA) == expected


def test_the_choices() -> None:
    assert dtype_of("auto", CPU) is None
    assert [dtype_of(name, CUDA) for name in ("fp32", "bf16", "fp16")] == [None, torch.bfloat16, torch.float16]
    assert [dtype_of(name, CPU) for name in ("fp32", "bf16")] == [None, torch.bfloat16]


def test_fp16_on_a_cpu_is_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match=r"^precision: fp16 trains on a GPU only, .*; take bf16 or fp32$"):
        Arithmetic("fp16", CPU)


def test_bf16_multiplies_in_bf16_and_keeps_weights_and_gradients_in_fp32() -> None:
    linear = torch.nn.Linear(64, 64)
    x = torch.randn(4, 64)
    arithmetic = Arithmetic("bf16", CPU)
    with arithmetic.forward():
        given = linear(x)
    assert given.dtype == torch.bfloat16
    arithmetic.backward(given.float().sum())
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == linear.weight.dtype == torch.float32
    difference = float((given.float() - linear(x)).abs().max().detach())
    assert 0 < difference < 0.05  # 8 bits of mantissa
    assert not arithmetic.scaler.is_enabled()


def test_gradients_that_overflow_leave_the_step_out() -> None:
    """The scaler runs on a CPU too, which is how it's tested without a GPU."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    arithmetic = Arithmetic("fp32", CPU)
    arithmetic.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = model.weight.detach().clone()
    arithmetic.backward(model(torch.full((1, 2), torch.finfo(torch.float32).max)).sum())
    arithmetic.step(optimizer, model, 1.0)
    assert torch.equal(model.weight, before)
    assert arithmetic.scaler.get_scale() == 512.0
    optimizer.zero_grad()
    arithmetic.backward(model(torch.ones(1, 2)).sum())
    arithmetic.step(optimizer, model, 2.0)  # the gradient is (1, 1, 1), of norm 1.73: unscaled, it isn't clipped
    torch.testing.assert_close(model.weight.detach(), before - 1.0)
