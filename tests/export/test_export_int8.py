"""int8 with a scale for each token, against numpy on nets of a few lines and against fp32 on every architecture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper
from support_graphs import KINDS, Floats, answers, captured, check_refused_here, kinds_of, small, token_ids

from edgeft.export.onnx import operators
from edgeft.export.onnx.files import load, save
from edgeft.export.onnx.net import Net, find_linears
from edgeft.export.quantize import token_int8, weights
from edgeft.export.quantize.ranges import channel_ranges
from edgeft.export.quantize.rounding import round_blocks, round_columns
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.machine import kernels

WAYS = [
    pytest.param(False, id="body"),
    pytest.param(True, id="kernel", marks=pytest.mark.skipif(kernels.library() is None, reason="no kernels here")),
]
EPSILON = 1e-3


def numbers(*shape: int, seed: int, scale: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


ROWS, WIDTH = 999, 64  # a table of one row more becomes int8
CONSTANTS: dict[str, NDArray[Any]] = {
    "table": numbers(ROWS, WIDTH, seed=0) * np.exp(numbers(WIDTH, seed=1)),
    "w": numbers(WIDTH, WIDTH, seed=2, scale=0.2),
    "wt": numbers(WIDTH, WIDTH, seed=3, scale=0.2),
    "small": numbers(WIDTH, WIDTH - 1, seed=4, scale=0.2),
    "b": numbers(WIDTH, seed=5),
    "other": numbers(WIDTH, seed=6),
    "gamma": numbers(WIDTH, seed=7),
    "beta": numbers(WIDTH, seed=8),
    "zero": np.array(0),
}
IDS = [[number % ROWS for number in row] for row in token_ids([5, 5, 5])]
X, FIRST = "x = Gather(table, input_ids)", "first = Gather<axis = 1>(x, zero)"
GELU, PRODUCT, BIAS = "g = Gelu(x)", "p = MatMul(x, w)", "h = Add(p, b)"
GELU_PRODUCT = f"{GELU} p = MatMul(g, w) {BIAS}"
NORM = f"LayerNormalization<axis = -1, epsilon = {EPSILON}>(s, gamma, beta)"
Y, FLAT = "float[batch, tokens, n] y", "float[batch, n] y"

# Form to its nodes, its output and the operator that stands for it.
FORMS = {
    "bias": (f"{PRODUCT} y = Add(p, b)", Y, "Linear"),
    "bias first": (f"{PRODUCT} y = Add(b, p)", Y, "Linear"),
    "no bias": ("y = MatMul(x, w)", Y, "Linear"),
    "gelu": (f"{GELU} p = MatMul(g, w) y = Add(p, b)", Y, "GeluLinear"),
    "norm": (f"{PRODUCT} {BIAS} s = Add(h, x) y = {NORM}", Y, "LinearNorm"),
    "residual first": (f"{PRODUCT} {BIAS} s = Add(x, h) y = {NORM}", Y, "LinearNorm"),
    "gelu and norm": (f"{GELU_PRODUCT} s = Add(h, x) y = {NORM}", Y, "GeluLinearNorm"),
    "gemm": (f"{FIRST} y = Gemm(first, w, b)", FLAT, "Linear"),
    "gemm, transposed": (f"{FIRST} y = Gemm<transB = 1>(first, wt, b)", FLAT, "Linear"),
    "gelu and gemm": (f"{FIRST} g = Gelu(first) y = Gemm(g, w, b)", FLAT, "GeluLinear"),
}
OTHER = "float[batch, tokens, n] other_y"
TWO, PRE_NORM = f"{Y}, {OTHER}", f"{PRODUCT} {BIAS} s = Add(h, x)"
TURNED = f"{FIRST} t = Transpose<perm = [1, 0]>(first)"
# What must not be taken whole: its nodes, its outputs, and what is left of it.
LEFT = {
    "an approximate GELU": (
        'g = Gelu<approximate = "tanh">(x) p = MatMul(g, w) y = Add(p, b)',
        Y,
        ["Gelu", "Linear"],
    ),
    "a GELU that others use": (
        f"{GELU} p = MatMul(g, w) y = Add(p, b) other_y = Mul(g, g)",
        TWO,
        ["Gelu", "Mul", "Linear"],
    ),
    "a GELU that is an output": (
        f"{GELU} p = MatMul(g, w) y = Add(p, b)",
        f"{Y}, float[batch, tokens, n] g",
        ["Gelu", "Linear"],
    ),
    "a residual that is the product": (
        f"{PRODUCT} {BIAS} s = Add(h, h) y = {NORM}",
        Y,
        ["Linear", "Add", "LayerNormalization"],
    ),
    "a residual that is constant": (
        f"{PRODUCT} {BIAS} s = Add(h, other) y = {NORM}",
        Y,
        ["Linear", "Add", "LayerNormalization"],
    ),
    "a product that is an output": (f"{PRODUCT} y = Add(p, b)", f"{Y}, float[batch, tokens, n] p", ["Linear", "Add"]),
    "a sum that is an output": (
        f"{PRE_NORM} y = {NORM}",
        f"{Y}, float[batch, tokens, n] s",
        ["Linear", "Add", "LayerNormalization"],
    ),
    "a product with its bias that is an output": (
        f"{PRE_NORM} y = {NORM}",
        f"{Y}, float[batch, tokens, n] h",
        ["Linear", "Add", "LayerNormalization"],
    ),
    "a norm without a shift": (
        f"{PRE_NORM} y = LayerNormalization(s, gamma)",
        Y,
        ["Linear", "Add", "LayerNormalization"],
    ),
    "a small weight": ("y = MatMul(x, small)", Y, ["MatMul"]),
    "a scaled gemm": (f"{FIRST} y = Gemm<alpha = 2.0>(first, w, b)", FLAT, ["Gather", "Gemm"]),
    "a gemm of turned activations": (
        f"{TURNED} y = Gemm<transA = 1>(t, w, b)",
        FLAT,
        ["Gather", "Transpose", "Gemm"],
    ),
    "a gemm without a bias": (f"{FIRST} y = Gemm(first, w)", FLAT, ["Gather", "Linear"]),
    "a product of activations": (
        f"{FIRST} {TURNED.removeprefix(FIRST)} y = MatMul(t, first)",
        "float[m, n] y",
        ["Gather", "Transpose", "MatMul"],
    ),
    "a weight on the left": (f"{TURNED} y = MatMul(w, t)", "float[m, n] y", ["Gather", "Transpose", "MatMul"]),
}


def net_of(body: str, outputs: str, **more: NDArray[Any]) -> onnx.ModelProto:
    given = {**CONSTANTS, **more}
    whole = small(f"{X} {body}", outputs, **given)
    return Net(whole).settle()


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def ranges_of(model: onnx.ModelProto, path: Path, ids: list[list[int]]) -> dict[str, Floats]:
    names = [found.x for found in find_linears(Net(copy_of(model)))]
    onnx.save(model, path.with_suffix(".fp32"))
    return channel_ranges(path.with_suffix(".fp32"), names, [Window(row) for row in ids], path)


def gelu(values: NDArray[Any]) -> NDArray[np.float64]:
    slow = np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))))
    found: NDArray[np.float64] = slow(values.astype(np.float64))
    return found


def slow_int8(
    x: Floats, weight: Floats, bias: Floats, size: Floats, strength: float, positive: bool
) -> NDArray[np.float64]:
    """The definition in double precision, one token after the other; a positive x has gone through GELU."""
    floor = 0.17 if positive else 0.0
    smooth = [(size[k] + floor) ** strength / np.abs(weight[k]).max() ** (1 - strength) for k in range(len(weight))]
    smoothed = weight.astype(np.float64) * np.array(smooth)[:, None]
    scale = np.abs(smoothed).max(axis=0) / 127
    integers = np.round(smoothed / scale)
    rows = []
    for token in x.reshape(-1, x.shape[-1]).astype(np.float64):
        values = (token + floor) / smooth
        step = np.abs(values).max() / (255 if positive else 127)
        product = step * (np.round(values / step) @ integers) * scale
        rows.append(product - floor * ((1 / np.array(smooth)) @ (integers * scale)) + bias)
    return np.array(rows).reshape(*x.shape[:-1], -1)


def normalized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(values.var(-1, keepdims=True) + EPSILON)
    return np.asarray(scaled * CONSTANTS["gamma"] + CONSTANTS["beta"])


def slow_form(form: str, strength: float) -> NDArray[np.float64]:
    """A form of `FORMS` by numpy alone."""
    looked_up = CONSTANTS["table"][np.array(IDS)]
    x = looked_up[:, 0] if "gemm" in form else looked_up
    positive = "gelu" in form
    went_in = gelu(x).astype(np.float32) if positive else x
    size = np.abs(went_in).reshape(-1, WIDTH).max(axis=0)
    weight = CONSTANTS["wt"].T if "transposed" in form else CONSTANTS["w"]
    bias = np.zeros(WIDTH, np.float32) if form == "no bias" else CONSTANTS["b"]
    y = slow_int8(went_in, weight, bias, size, strength, positive)
    return normalized(y + x) if "norm" in form or "residual" in form else y


def apart(found: Floats, expected: NDArray[Any]) -> float:
    """The mean difference as a part of the deviation of what was expected."""
    return float(np.abs(found - expected).mean() / expected.std())


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_its_definition(form: str, native: bool, tmp_path: Path) -> None:
    body, outputs, operator = FORMS[form]
    model = net_of(body, outputs)
    ranges = ranges_of(model, tmp_path / "ranges.onnx", IDS)
    (before,) = answers(model, tmp_path / "fp32.onnx", IDS)
    for strength in (0.5, 0.8):
        made = token_int8.quantize(copy_of(model), ranges, strength)
        assert kinds_of(made)[-1] == operator
        assert [found.name for found in made.functions] == [operator]
        assert len(made.graph.node) == (3 if "gemm" in form else 2)
        (found,) = answers(made, tmp_path / "int8.onnx", IDS, native=native)
        expected = slow_form(form, strength)
        assert found.shape == expected.shape
        # One activation in many may be rounded the other way, which is a step of its token times one weight.
        np.testing.assert_allclose(found, expected, atol=0.1)
        assert np.median(np.abs(found - expected)) < 1e-4
        assert 1e-4 < apart(found, before) < 0.02


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_taken_whole(case: str, tmp_path: Path) -> None:
    body, outputs, kept = LEFT[case]
    model = net_of(body, outputs)
    ranges = ranges_of(model, tmp_path / "ranges.onnx", IDS)
    before = answers(model, tmp_path / "fp32.onnx", IDS)
    made = token_int8.quantize(copy_of(model), ranges)
    assert kinds_of(made) == ["Gather", *kept]
    for found, expected in zip(answers(made, tmp_path / "int8.onnx", IDS), before, strict=True):
        assert apart(found, expected) < 0.03


def test_layers_that_stay_fp32_and_layers_without_ranges() -> None:
    body = f"{PRODUCT} {BIAS} q = MatMul(h, wt) y = Add(q, b)"
    ranges = {"x": np.ones(WIDTH, np.float32), "h": np.ones(WIDTH, np.float32)}
    kept = token_int8.quantize(net_of(body, Y), ranges, float_layers=["w"])
    assert kinds_of(kept) == ["Gather", "MatMul", "Add", "Linear"]
    assert {"w", "wt_int8"} <= {tensor.name for tensor in kept.graph.initializer}
    assert not {"wt", "w_int8"} & {tensor.name for tensor in kept.graph.initializer}
    del ranges["h"]
    assert kinds_of(token_int8.quantize(net_of(body, Y), ranges)) == ["Gather", "Linear", "MatMul", "Add"]


def test_a_shared_weight_is_kept_once(tmp_path: Path) -> None:
    model = net_of(f"{PRODUCT} {BIAS} q = MatMul(h, w) y = Add(q, b)", Y)
    ranges = ranges_of(model, tmp_path / "ranges.onnx", IDS)
    (before,) = answers(model, tmp_path / "fp32.onnx", IDS)
    made = token_int8.quantize(model, ranges)
    assert kinds_of(made) == ["Gather", "Linear", "Linear"]
    tensors = [tensor.name for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert tensors == ["w_int8"]
    if not check_refused_here(made, tmp_path / "int8.onnx"):
        assert apart(answers(made, tmp_path / "int8.onnx", IDS)[0], before) < 0.03


def test_one_scale_for_all_tokens_is_its_definition(tmp_path: Path) -> None:
    model = net_of(f"{PRODUCT} y = Add(p, b)", Y)
    x = CONSTANTS["table"][np.array(IDS)]
    size = np.abs(x).reshape(-1, WIDTH).max(axis=0)
    made = token_int8.quantize(model, {"x": size}, 0.5, by_token=False)
    assert kinds_of(made) == ["Gather", "Mul", "DynamicQuantizeMatMul"]
    smooth = np.sqrt(size / np.abs(CONSTANTS["w"]).max(axis=1))
    values, weight = x / smooth, CONSTANTS["w"] * smooth[:, None]
    step = (max(values.max(), 0) - min(values.min(), 0)) / 255
    zero = np.round(-min(values.min(), 0) / step)
    rounded = np.clip(np.round(values / step) + zero, 0, 255) - zero
    scale = np.abs(weight).max(axis=0) / 127
    expected = step * (rounded @ np.round(weight / scale)) * scale + CONSTANTS["b"]
    (found,) = answers(made, tmp_path / "int8.onnx", IDS)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.median(np.abs(found - expected)) < 1e-3


def test_smoothing_by_hand() -> None:
    size, weight = np.array([4, 1], np.float32), np.array([[1, -2], [3, 0.5]], np.float32)
    for strength, expected in ((0.5, [2 / 2**0.5, 1 / 3**0.5]), (0.0, [1 / 2, 1 / 3]), (1.0, [4, 1])):
        np.testing.assert_allclose(token_int8.smoothing_divisors(size, weight, strength), expected, rtol=1e-6)
    # A row of zeros counts as 1e-5.
    np.testing.assert_allclose(
        token_int8.smoothing_divisors(size[:1], np.zeros((1, 2), np.float32), 0.5), [2 / 1e-5**0.5], 1e-6
    )


def test_rounding_by_hand() -> None:
    values, scale = round_columns(np.array([[127, -1, 0], [63, 0.5, 0], [-0.6, 0.25, 0]], np.float32))
    assert values.dtype == np.int8
    assert values.T.tolist() == [[127, 63, -1], [-127, 64, 32], [0, 0, 0]]
    np.testing.assert_allclose(scale, [1, 1 / 127, 1e-12 / 127], rtol=1e-6)


def test_tables_of_a_thousand_rows_have_a_scale_for_each_row(tmp_path: Path) -> None:
    table = numbers(1000, 8, seed=9) * np.exp(numbers(1000, 1, seed=10))
    table[7] = 0
    model = small("y = Gather(table, input_ids)", Y, table=table)
    made = token_int8.quantize(copy_of(model), {})
    assert made.ByteSize() < 0.5 * model.ByteSize()
    ids = [[7, 3, 999]]
    (found,) = answers(made, tmp_path / "int8.onnx", ids)
    for token, row in zip(ids[0], found[0], strict=True):
        scale = np.abs(table[token]).max() / 127
        expected = np.round(table[token] / scale) * scale if scale else np.zeros(8)
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    assert kinds_of(token_int8.quantize(copy_of(model), {}, 0.5, ["table"])) == ["Gather"]
    few = small("y = Gather(table, input_ids)", Y, table=table[:999])
    assert kinds_of(token_int8.quantize(few, {})) == ["Gather"]


def test_rounding_to_4_bits_by_hand() -> None:
    table = np.zeros((2, 64), np.float32)
    table[0, :4] = [-8, 7, 2.6, -0.4]
    table[0, 32:36] = [4, -4, 1.2, 0.1]  # the first of the largest is -8 steps, so a step is -0.5
    values, scale = round_blocks(table)
    assert (values.dtype, scale.dtype) == (np.dtype(np.int8), np.dtype(np.float16))
    assert scale.tolist() == [[1, -0.5], [0, 0]]
    assert values[0, :4].tolist() == [-8, 7, 3, 0]
    assert values[0, 32:36].tolist() == [-8, 7, -2, 0]  # 8 steps up is one more than there are
    assert not values[1].any()


def test_tables_of_4_bits_have_a_scale_for_each_block(tmp_path: Path) -> None:
    table = numbers(1000, 64, seed=9) * np.exp(numbers(1000, 1, seed=10))
    table[7, :32] = 0
    model = small("y = Gather(table, input_ids)", Y, table=table)
    made = token_int8.quantize(copy_of(model), {}, embedding_bits=4)
    assert made.ByteSize() < 0.15 * model.ByteSize()
    ids = [[7, 3, 999], [0, 7, 7]]
    (found,) = answers(made, tmp_path / "int4.onnx", ids)
    values, scale = round_blocks(table)
    expected = (values.reshape(1000, 2, 32) * scale.astype(np.float32)[..., None]).reshape(1000, 64)
    np.testing.assert_allclose(found, expected[np.array(ids)], rtol=1e-3, atol=1e-6)
    away = np.abs(expected - table).reshape(1000, 2, 32).max(-1)
    largest = np.abs(table).reshape(1000, 2, 32).max(-1)
    assert (away <= largest / 8 * 1.01).all()  # half a step, and a whole one where 8 steps up would be needed
    odd = small("y = Gather(table, input_ids)", Y, table=table[:, :48])
    eight = token_int8.quantize(copy_of(odd), {})
    assert token_int8.quantize(odd, {}, embedding_bits=4) == eight


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("form", ["bias", "gelu", "norm"])
def test_weights_of_4_bits_become_the_int8_that_they_stand_for(form: str, by_token: bool, tmp_path: Path) -> None:
    """Of a weight that 4 bits can say, the int8 graph is the same whether the file keeps 8 or 4."""
    nodes, output, _ = FORMS[form]
    weight = CONSTANTS["w"]
    kept = np.ascontiguousarray(weights.dequantize(*round_blocks(np.ascontiguousarray(weight.T))).T)
    assert 0 < np.abs(kept - weight).max() < np.abs(weight).max() / 8
    ranges = ranges_of(net_of(nodes, output), tmp_path / "ranges", IDS)
    smoothed = 1.0  # by the activations alone, so that both weights are smoothed alike
    eight = token_int8.quantize(net_of(nodes, output, w=kept), ranges, smoothed, (), by_token)
    four = token_int8.quantize(net_of(nodes, output), ranges, smoothed, (), by_token, weight_bits=4)
    (expected,), (found,) = (answers(made, tmp_path / "int8.onnx", IDS) for made in (eight, four))
    np.testing.assert_array_equal(found, expected)


def test_a_session_keeps_nothing_but_the_int8_weight(tmp_path: Path) -> None:
    ranges = {"x": np.ones(WIDTH, np.float32)}
    made = token_int8.quantize(net_of(f"{PRODUCT} y = Add(p, b)", Y), ranges, weight_bits=4)
    assert [node.op_type for node in made.graph.node].count("Int8Weight") == 1
    save(made, tmp_path / "int4.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    ort.InferenceSession(tmp_path / "int4.onnx", options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx")
    assert not {node.op_type for node in loaded.graph.node} & {"BitShift", "Round", "Int8Weight", "Transpose"}
    assert [list(tensor.dims) for tensor in loaded.graph.initializer if tensor.data_type == onnx.TensorProto.INT8] == [
        [WIDTH, WIDTH]
    ]


def test_a_weight_that_blocks_do_not_divide_keeps_8_bits() -> None:
    model = net_of("y = MatMul(x, w)", Y, table=CONSTANTS["table"][:, :48], w=numbers(48, 128, seed=12))
    ranges = {"x": np.ones(48, np.float32)}
    assert token_int8.quantize(copy_of(model), ranges, weight_bits=4) == token_int8.quantize(model, ranges)


def test_a_model_without_large_products_is_left_as_it_is() -> None:
    model = net_of("y = MatMul(x, small)", Y)
    assert token_int8.quantize(copy_of(model), {}) == model


# -------------------------------------------------------------------------------------------------- whole architectures

ROWS_OF_TEXT = token_ids([12] * 16, seed=1)


def int8_of(kind: str, scratch: Path, by_token: bool = True) -> onnx.ModelProto:
    model = captured(kind)
    ranges = ranges_of(operators.add_bodies(captured(kind)), scratch / "ranges.onnx", token_ids([12] * 8, seed=2))
    return token_int8.quantize(model, ranges, by_token=by_token)


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_in_int8_is_near_its_fp32(kind: str, tmp_path: Path) -> None:
    before = operators.add_bodies(captured(kind))
    made = int8_of(kind, tmp_path)
    products = [name for name in kinds_of(made) if name in operators.BODIES and name != "Attention"]
    assert len(products) == len(token_int8.find_sites(Net(captured(kind))))
    assert made.ByteSize() < 0.5 * before.ByteSize()
    if check_refused_here(made, tmp_path / "int8.onnx"):
        return
    (wanted,) = answers(before, tmp_path / "fp32.onnx", ROWS_OF_TEXT)
    for native in (True, False):
        (found,) = answers(made, tmp_path / "int8.onnx", ROWS_OF_TEXT, native=native)
        assert 1e-4 < apart(found, wanted) < 0.06


def test_answers_dont_depend_on_what_else_is_in_the_batch(tmp_path: Path) -> None:
    ids = token_ids([4, 31, 12, 7], seed=3)
    changed = {}
    for by_token in (True, False):
        made = int8_of("bert", tmp_path, by_token)
        (together,) = answers(made, tmp_path / "int8.onnx", ids)
        alone = np.concatenate([answers(made, tmp_path / "int8.onnx", [row])[0] for row in ids])
        changed[by_token] = float(np.abs(together - alone).max())
    assert changed[True] < 1e-5 < 1e-3 < changed[False]


# -------------------------------------------------------------------------------------------------------- net


def node(kind: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs.split()[0])


def test_nodes_come_after_what_they_use(tmp_path: Path) -> None:
    net = Net(net_of(f"{PRODUCT} {BIAS} y = Tanh(h)", Y))
    two = [node("Tanh", "b2", "y"), node("Mul", "a2 x", "b2"), node("Abs", "x", "a2")]
    net.replace([net.maker["y"], net.maker["h"], net.maker["p"]], two)
    assert kinds_of(net.model) == ["Gather", "Abs", "Mul", "Tanh"]
    x = CONSTANTS["table"][np.array(IDS)]
    (found,) = answers(net.settle(), tmp_path / "net.onnx", IDS)
    np.testing.assert_allclose(found, np.tanh(np.abs(x) * x), atol=1e-5)


def test_replaced_values_are_found_again() -> None:
    net = Net(small(f"{X} {PRODUCT} y = Add(p, b)", Y, **CONSTANTS))
    net.replace([net.maker["p"]], [node("MatMul", "x wt", "p")])
    assert list(net.maker["p"].input) == ["x", "wt"]
    assert [user.op_type for user in net.users["p"]] == ["Add"]
    assert [user.op_type for user in net.users["x"]] == ["MatMul"]
    assert not net.users["w"]


def test_what_nothing_uses_goes() -> None:
    model = small(f"{X} dead = Abs(x) deader = Neg(dead) a, c = Split<num_outputs = 2>(x) y = Tanh(c)", Y, **CONSTANTS)
    model.graph.value_info.append(helper.make_tensor_value_info("dead", onnx.TensorProto.FLOAT, None))
    settled = Net(model).settle()
    assert kinds_of(settled) == ["Gather", "Split", "Tanh"]
    assert [tensor.name for tensor in settled.graph.initializer] == ["table"]
    assert not settled.graph.value_info


def test_a_constant_of_the_same_name_is_replaced() -> None:
    net = Net(net_of(f"{PRODUCT} y = Add(p, b)", Y))
    count = len(net.model.graph.initializer)
    assert net.add_constant("b", np.ones(3, np.float32)) == "b"
    assert net.add_constant("new", np.arange(6).reshape(2, 3).T) == "new"
    assert len(net.model.graph.initializer) == count + 1
    np.testing.assert_array_equal(net.constant("b"), np.ones(3))
    np.testing.assert_array_equal(net.constant("new"), [[0, 3], [1, 4], [2, 5]])
    assert net.constant("x") is None


def test_the_only_user_of_a_value() -> None:
    net = Net(net_of(f"{PRODUCT} s = Add(p, p) y = Tanh(s) other_y = Neg(x)", TWO))
    assert net.only_user("s", "Tanh") is net.maker["y"]
    assert net.only_user("s", "Add") is None
    assert net.only_user("p", "Add") is None  # both of its operands
    assert net.only_user("x", "MatMul") is None
    net = Net(net_of(f"{PRODUCT} y = Add(p, b)", f"{Y}, float[batch, tokens, n] p"))
    assert net.only_user("p", "Add") is None  # an output of the graph


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        "p = MatMul(x, w) h = Add(p, b) q = MatMul(h, w) y = Add(q, other)",
        "p = MatMul(x, w) q = MatMul(p, w) y = Add(q, b)",
        "p = MatMul(x, w) h = Add(p, b) g = Gelu(h) q = MatMul(g, w) y = Add(q, b)",
    ],
)
def test_uses_of_one_weight_keep_what_is_their_own(body: str, by_token: bool, tmp_path: Path) -> None:
    model = net_of(body, Y)
    (expected,) = answers(copy_of(model), tmp_path / "fp32.onnx", IDS)
    ranges = ranges_of(model, tmp_path / "ranges.onnx", IDS)
    quantized = token_int8.quantize(copy_of(model), ranges, 0.5, by_token=by_token)
    if not check_refused_here(quantized, tmp_path / "int8.onnx"):
        assert apart(answers(quantized, tmp_path / "int8.onnx", IDS)[0], expected) < 0.15


def test_a_written_model_is_read_again_piece_by_piece(tmp_path: Path) -> None:
    model = operators.add_bodies(captured("bert"))
    model.graph.initializer.append(onnx.helper.make_tensor("floats", onnx.TensorProto.FLOAT, [2], [1.5, 2.5]))
    model.graph.initializer.append(onnx.helper.make_tensor("empty", onnx.TensorProto.FLOAT, [0], b"", raw=True))
    save(model, tmp_path / "model.onnx")
    assert load(tmp_path / "model.onnx") == onnx.load(tmp_path / "model.onnx") == model
    onnx.save(model, tmp_path / "other.onnx")
    assert load(tmp_path / "other.onnx") == model
