"""Static int8 against arithmetic by hand, and a slow twin of its product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support_graphs import VOCABULARY, answers, kinds_of, small, token_ids

from edgeft.export.quantize import static_int8, token_int8
from edgeft.export.quantize.ranges import channel_ranges, tensor_ranges
from edgeft.runtime.answers.windows import Window

GENERATOR = np.random.default_rng(7)
TABLE = (GENERATOR.normal(size=(VOCABULARY, 64)) * np.exp(GENERATOR.normal(size=64))).astype(np.float32)
W, B = GENERATOR.normal(size=(64, 96)).astype(np.float32), GENERATOR.normal(size=96).astype(np.float32)
IDS = token_ids([12] * 4, seed=3)


@pytest.mark.parametrize(
    ("limits", "step", "zero"), [((-1.0, 1.55), 0.01, 100), ((0.5, 2.55), 0.01, 0), ((-5.1, -1.0), 0.02, 255)]
)
def test_the_scale_of_a_range_by_hand(limits: tuple[float, float], step: float, zero: int) -> None:
    found = static_int8.scale_and_zero(limits)
    assert float(found[0]) == pytest.approx(step)
    assert int(found[1]) == zero


def test_a_value_that_is_always_0_has_a_scale() -> None:
    step, zero = static_int8.scale_and_zero((0.0, 0.0))
    assert step > 0
    assert int(zero) == 0


@pytest.mark.parametrize("strength", [0.0, 0.6])
def test_a_product_against_its_slow_twin(strength: float, tmp_path: Path) -> None:
    model = small("x = Gather(table, input_ids) p = MatMul(x, w) y = Add(p, b)", "float[batch, tokens, 96] y",
                  table=TABLE, w=W, b=B)  # fmt: skip
    onnx.save(model, tmp_path / "fp32.onnx")
    rows = [Window(row) for row in IDS]
    ranges = channel_ranges(tmp_path / "fp32.onnx", ["x"], rows, tmp_path / "scratch.onnx")
    products = static_int8.smooth_inputs(onnx.load(tmp_path / "fp32.onnx"), ranges, strength)
    limits = tensor_ranges(tmp_path / "fp32.onnx", products, rows, tmp_path / "scratch.onnx", "minmax")
    made = static_int8.quantize(onnx.load(tmp_path / "fp32.onnx"), products, limits, ["table"])
    onnx.checker.check_model(made)
    found = answers(made, tmp_path / "static.onnx", IDS)[0]

    smooth = np.maximum(np.abs(TABLE[IDS]).max((0, 1)), token_int8.SMALLEST) ** strength
    smooth = smooth / np.abs(W).max(1) ** (1 - strength)
    x, w = TABLE[IDS] / smooth, W * smooth[:, None]
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    zero = np.round(-min(x.min(), 0) / step)
    steps = np.abs(w).max(0) / 127
    back = (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
    expected = back @ (np.round(w / steps) * steps) + B
    # A value may be rounded to the next step in float32.
    assert np.abs(found - expected).mean() < 0.01 * np.abs(found - (TABLE[IDS] @ W + B)).mean()
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds_of(made))
    assert model.ByteSize() - made.ByteSize() > 0.6 * W.nbytes
