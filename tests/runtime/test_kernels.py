"""edgeft's own kernels against numpy and against the operators' standard bodies."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeft.errors import ArtifactError
from edgeft.export.onnx import operators
from edgeft.runtime.engine import Engine
from edgeft.runtime.machine import kernels

Floats = NDArray[np.float32]

WAYS = [
    pytest.param(False, id="body"),
    pytest.param(True, id="kernel", marks=pytest.mark.skipif(kernels.library() is None, reason="no kernels here")),
]
needs_kernels = pytest.mark.skipif(kernels.library() is None, reason="no kernels here")
EPSILON = 1e-5
NOT_FINITE = [np.nan, -np.nan, np.inf, -np.inf]


class Operator:
    """One operator as a graph, run through onnxruntime as an artifact is."""

    def __init__(
        self, place: Path, kind: str, feeds: dict[str, Any], constants: dict[str, Any], **options: Any
    ) -> None:
        names = [*feeds, *constants]
        node = operators.node(kind, [_first(names, wanted) for wanted in ORDER[kind]], "y", **options)
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
            for name, array in feeds.items()
        ]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = helper.make_graph([node], "one", inputs, [output], tensors)
        imports = [helper.make_opsetid("", operators.OPSET)]
        self.path, self.feeds = place / f"{kind}.onnx", feeds
        onnx.save(operators.add_bodies(helper.make_model(graph, opset_imports=imports, ir_version=10)), self.path)

    def run(self, native: bool, threads: int = 1, **feeds: Any) -> Floats:
        session = Engine(self.path, 0, threads, native=native)._session
        answer: Floats = session.run(["y"], {**self.feeds, **feeds})[0]
        return answer


ORDER = {
    "Linear": ["x", "weight", "scale", "bias", "smooth"],
    "GeluLinear": ["x", "weight", "scale", "bias", "smooth"],
    "LinearNorm": ["x", "weight", "scale", "bias", "smooth", "residual", "gamma", "beta"],
    "GeluLinearNorm": ["x", "weight", "scale", "bias", "smooth", "residual", "gamma", "beta"],
    "Attention": ["qkv", "mask"],
}


def _first(names: list[str], wanted: str) -> str:
    return wanted if wanted in names else ""


def numbers(shape: tuple[int, ...], seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def linear_operator(place: Path, kind: str, tokens: tuple[int, ...], k: int, n: int) -> Operator:
    rng = np.random.default_rng(1)
    constants: dict[str, Any] = {
        "weight": rng.integers(-127, 128, (k, n)).astype(np.int8),
        "scale": rng.uniform(0.001, 0.01, n).astype(np.float32),
        "bias": numbers((n,), 2),
        "smooth": rng.uniform(0.5, 2, k).astype(np.float32),
    }
    feeds = {"x": numbers((*tokens, k), 3)}
    options = {}
    if "Norm" in kind:
        feeds["residual"] = numbers((*tokens, n), 4)
        constants |= {"gamma": numbers((n,), 5), "beta": numbers((n,), 6)}
        options["epsilon"] = EPSILON
    found = Operator(place, kind, feeds, constants, **options)
    found.constants = constants  # type: ignore[attr-defined]
    return found


def slow_linear(kind: str, x: Floats, residual: Floats | None, constants: dict[str, Any]) -> NDArray[np.float64]:
    """The definition, one row after the other, in double precision from the rounded activations on."""
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        if kind.startswith("Gelu"):
            gelu = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in row], dtype=np.float32)
            values = (gelu + np.float32(0.17)) * constants["smooth"]
            step = values.max() / 255
        else:
            values = row * constants["smooth"]
            step = np.abs(values).max() / 127
        rounded = np.round(values / step).astype(np.float64)
        rows.append(step * (rounded @ constants["weight"].astype(np.float64)) * constants["scale"] + constants["bias"])
    y = np.array(rows).reshape(*x.shape[:-1], -1)
    if residual is None:
        return y
    y = y + residual
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + EPSILON)
    return np.asarray(y * constants["gamma"] + constants["beta"])


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("kind", ["Linear", "GeluLinear", "LinearNorm", "GeluLinearNorm"])
@pytest.mark.parametrize(("tokens", "k", "n"), [((1, 1), 4, 1), ((2, 5), 32, 48), ((1, 17), 70, 100), ((3,), 384, 49)])
def test_linear_is_its_definition(
    tmp_path: Path, kind: str, native: bool, tokens: tuple[int, ...], k: int, n: int
) -> None:
    operator = linear_operator(tmp_path, kind, tokens, k, n)
    constants = operator.constants  # type: ignore[attr-defined]
    expected = slow_linear(kind, operator.feeds["x"], operator.feeds.get("residual"), constants)
    # One activation in many may be rounded the other way: that is one step of the row times one weight.
    step = 0.2 if "Norm" in kind else 0.05
    found = operator.run(native)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=step)
    assert np.median(np.abs(found - expected)) < 1e-4


def test_one_product_by_hand(tmp_path: Path) -> None:
    constants = {
        "weight": np.array([[10], [20]], dtype=np.int8),
        "scale": np.array([0.5], dtype=np.float32),
        "bias": np.array([1.0], dtype=np.float32),
        "smooth": np.array([1.0, 2.0], dtype=np.float32),
    }
    operator = Operator(tmp_path, "Linear", {"x": np.array([[1.0, 1.0]], dtype=np.float32)}, constants)
    # v = (1, 2), s = 2/127, q = (round(63.5) to even = 64, 127): s (640 + 2540) 0.5 + 1
    expected = 2 / 127 * (64 * 10 + 127 * 20) * 0.5 + 1
    for native in (False, True):
        assert operator.run(native)[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("kind", ["Linear", "GeluLinear"])
def test_a_row_of_zeros_gives_the_bias(tmp_path: Path, kind: str, native: bool) -> None:
    operator = linear_operator(tmp_path, kind, (2, 3), 16, 20)
    constants = operator.constants  # type: ignore[attr-defined]
    found = operator.run(native, x=np.zeros((2, 3, 16), dtype=np.float32))
    expected = slow_linear(kind, np.full((1, 16), 0.0 if kind == "GeluLinear" else 1e-30, np.float32), None, constants)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-4)


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("kind", ["Linear", "GeluLinearNorm"])
def test_a_row_doesnt_depend_on_its_neighbours(tmp_path: Path, kind: str, native: bool) -> None:
    operator = linear_operator(tmp_path, kind, (4, 9), 64, 96)
    whole = operator.run(native)
    feeds = {name: array[1:2, 3:4] for name, array in operator.feeds.items()}
    np.testing.assert_array_equal(whole[1:2, 3:4], operator.run(native, **feeds))


@pytest.mark.skipif(kernels.library() is None, reason="no kernels here")
@pytest.mark.parametrize("tokens", [1, 16, 129, 300])
def test_two_threads_answer_as_one(tmp_path: Path, tokens: int) -> None:
    operator = linear_operator(tmp_path, "GeluLinearNorm", (1, tokens), 96, 200)
    np.testing.assert_array_equal(operator.run(True, threads=1), operator.run(True, threads=2))


def slow_attention(qkv: Floats, mask: NDArray[np.int64], heads: int, scale: float) -> NDArray[np.float64]:
    batch, tokens, width = qkv.shape
    size = width // 3 // heads
    out = np.zeros((batch, tokens, width // 3))
    for text in range(batch):
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            q, k, v = (part[:, columns].astype(np.float64) for part in np.split(qkv[text], 3, axis=1))
            scores = np.where(mask[text], q @ k.T * scale, -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[text, :, columns] = weights / weights.sum(axis=1, keepdims=True) @ v
    return out


@pytest.mark.parametrize("native", WAYS)
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 45), min_size=1, max_size=3),
    heads=st.integers(1, 3),
    size=st.sampled_from([2, 8, 16, 24, 32, 40, 64, 72]),
)
def test_attention_is_its_definition(
    tmp_path_factory: pytest.TempPathFactory, native: bool, lengths: list[int], heads: int, size: int
) -> None:
    tokens = max(lengths)
    mask = np.array([[1] * length + [0] * (tokens - length) for length in lengths], dtype=np.int64)
    qkv = numbers((len(lengths), tokens, 3 * heads * size), 7)
    feeds = {"qkv": qkv, "mask": mask}
    scale = size**-0.5
    operator = Operator(tmp_path_factory.mktemp("graph"), "Attention", feeds, {}, num_heads=heads, scale=scale)
    np.testing.assert_allclose(operator.run(native), slow_attention(qkv, mask, heads, scale), atol=2e-5)


@pytest.mark.parametrize("native", WAYS)
def test_scores_far_apart_dont_overflow(tmp_path: Path, native: bool) -> None:
    qkv = numbers((1, 20, 3 * 32), 8) * 60
    mask = np.ones((1, 20), dtype=np.int64)
    operator = Operator(tmp_path, "Attention", {"qkv": qkv, "mask": mask}, {}, num_heads=1, scale=1.0)
    found = operator.run(native)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, slow_attention(qkv, mask, 1, 1.0), rtol=1e-3, atol=1e-2)


@pytest.mark.skipif(kernels.library() is None, reason="no kernels here")
def test_shapes_that_dont_fit_are_one_line(tmp_path: Path) -> None:
    operator = linear_operator(tmp_path, "LinearNorm", (2, 3), 8, 10)
    with pytest.raises(Exception, match="edgeft: residual, gamma and beta don't fit the weight"):
        operator.run(True, residual=numbers((2, 2, 10), 0))
    with pytest.raises(Exception, match="edgeft: the last axis of x, and smooth, have to fit the weight"):
        operator.run(True, x=numbers((2, 3, 9), 0))


@needs_kernels
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"residual": (3, 2, 10)}, r"residual is \(3, 2, 10\), expected \(2, 3, 10\)"),
        ({"residual": (6, 10)}, r"residual is \(6, 10\), expected \(2, 3, 10\)"),
        ({"residual": (60,)}, r"residual is \(60\), expected \(2, 3, 10\)"),
        ({"x": (2, 3, 9)}, r"the last axis of x is \(9\), expected \(8\)"),
        ({"gamma": (1, 10)}, r"gamma is \(1, 10\), expected \(10\)"),
        ({"beta": (5, 2)}, r"beta is \(5, 2\), expected \(10\)"),
        ({"smooth": (2, 4)}, r"smooth is \(2, 4\), expected \(8\)"),
        ({"scale": (10, 1)}, r"scale is \(10, 1\), expected \(10\)"),
        ({"bias": (2, 5)}, r"bias is \(2, 5\), expected \(10\)"),
    ],
)
def test_as_many_numbers_in_another_shape_are_refused(
    tmp_path: Path, change: dict[str, tuple[int, ...]], line: str
) -> None:
    operator = linear_operator(tmp_path, "LinearNorm", (2, 3), 8, 10)
    model = onnx.load(operator.path)
    ((name, shape),) = change.items()
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(shape), name))
    for value in model.graph.input:
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(shape)))
    onnx.save(model, operator.path)
    feeds: dict[str, Any] = {name: numbers(shape, 0)} if name in operator.feeds else {}
    with pytest.raises(Exception, match=f"edgeft: .*{line}") as caught:
        operator.run(True, **feeds)
    assert "\n" not in str(caught.value)


@needs_kernels
@pytest.mark.parametrize("shape", [(6,), (3, 2), (1, 6), (2, 3, 1)])
def test_a_mask_in_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = np.ones(shape, dtype=np.int64)
    operator = Operator(
        tmp_path, "Attention", {"qkv": numbers((2, 3, 24), 0), "mask": mask}, {}, num_heads=1, scale=1.0
    )
    with pytest.raises(Exception, match=r"edgeft: the mask has to be \(batch, tokens\): mask is .*, expected \(2, 3\)"):
        operator.run(True)


@pytest.mark.skipif(kernels.library() is None, reason="no kernels here")
def test_weights_that_arent_constant_are_refused(tmp_path: Path) -> None:
    operator = linear_operator(tmp_path, "Linear", (2, 3), 8, 10)
    model = onnx.load(operator.path)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.INT8, [8, 10]))
    model.graph.initializer.remove(weight)
    onnx.save(model, operator.path)
    with pytest.raises(ArtifactError, match="weights have to be constant"):
        Engine(operator.path, 0)


@pytest.mark.parametrize("native", WAYS)
def test_a_text_without_a_token_to_see_is_finite(tmp_path: Path, native: bool) -> None:
    qkv = np.ones((2, 5, 3 * 8), dtype=np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=np.int64)
    operator = Operator(tmp_path, "Attention", {"qkv": qkv, "mask": mask}, {}, num_heads=1, scale=1.0)
    np.testing.assert_allclose(operator.run(native), np.ones((2, 5, 8)), rtol=1e-6)


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("kind", ["Linear", "GeluLinear"])
def test_a_number_that_is_none_spoils_no_other_row(tmp_path: Path, kind: str, native: bool) -> None:
    operator = linear_operator(tmp_path, kind, (1, 3), 40, 20)
    x = operator.feeds["x"].copy()
    x[0, 1, 7] = np.nan
    clean = operator.run(native)
    np.testing.assert_array_equal(operator.run(native, x=x)[0, [0, 2]], clean[0, [0, 2]])


@needs_kernels
@pytest.mark.parametrize("kind", ["Linear", "GeluLinear", "LinearNorm", "GeluLinearNorm"])
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_the_kernel_keeps_one_number_that_isnt_finite(tmp_path: Path, kind: str, bad: float) -> None:
    operator = linear_operator(tmp_path, kind, (1, 3), 40, 20)
    clean = operator.run(True)
    for column in (0, 1, 15, 16, 31, 32, 39):
        x = operator.feeds["x"].copy()
        x[0, 1, column] = bad
        answer = operator.run(True, x=x)
        assert not np.isfinite(answer[0, 1]).any()
        np.testing.assert_array_equal(answer[0, [0, 2]], clean[0, [0, 2]])


@pytest.mark.parametrize("native", WAYS)
@pytest.mark.parametrize("kind", ["Linear", "GeluLinear", "LinearNorm", "GeluLinearNorm"])
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_a_row_without_a_number_stays_one(tmp_path: Path, kind: str, native: bool, bad: float) -> None:
    """As a LayerNormalization leaves a row that had one; a body loses one alone, onnxruntime's ReduceMax does."""
    operator = linear_operator(tmp_path, kind, (1, 3), 40, 20)
    x = operator.feeds["x"].copy()
    x[0, 1] = bad
    assert not np.isfinite(operator.run(native, x=x)[0, 1]).any()


@needs_kernels
@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_attention_keeps_what_isnt_finite_as_its_body_does(tmp_path: Path, bad: float, part: str) -> None:
    qkv, mask = numbers((2, 20, 3 * 32), 8), np.ones((2, 20), dtype=np.int64)
    qkv[0, 3, {"query": 0, "key": 32, "value": 64}[part] + 5] = bad
    operator = Operator(tmp_path, "Attention", {"qkv": qkv, "mask": mask}, {}, num_heads=1, scale=1.0)
    kernel, body = operator.run(True), operator.run(False)
    np.testing.assert_array_equal(np.isfinite(kernel), np.isfinite(body))
    assert not np.isfinite(body[0]).all()
    assert np.isfinite(body[1]).all()


@pytest.mark.parametrize("native", WAYS)
def test_gelu_far_out_is_nothing_or_itself(tmp_path: Path, native: bool) -> None:
    operator = linear_operator(tmp_path, "GeluLinear", (1, 1), 8, 16)
    constants = operator.constants  # type: ignore[attr-defined]
    x = np.array([[[-1e6, -50, -6, 50, 3, 0, -1e3, 20]]], dtype=np.float32)
    np.testing.assert_allclose(operator.run(native, x=x), slow_linear("GeluLinear", x, None, constants), rtol=1e-4)


@pytest.mark.skipif(kernels.library() is None, reason="no kernels here")
@pytest.mark.parametrize("heads", [0, -2, 2**40])
def test_heads_that_no_model_has_are_refused(tmp_path: Path, heads: int) -> None:
    feeds = {"qkv": numbers((1, 3, 24), 0), "mask": np.ones((1, 3), dtype=np.int64)}
    with pytest.raises(ArtifactError, match="num_heads has to be 1 to 65536"):
        Operator(tmp_path, "Attention", feeds, {}, num_heads=heads, scale=1.0).run(True)


def test_a_library_that_is_none_of_ours_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.so").write_bytes(b"no library")
    found = SimpleNamespace(origin=str(tmp_path / "other.so"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    assert kernels.library.__wrapped__() is None
