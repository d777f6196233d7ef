"""Every trial of the ladder, built from a graph with attention operators and from one without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from support_graphs import VOCABULARY, captured, kinds_of, small, token_ids

from edgeft.errors import ArtifactError
from edgeft.export.onnx import graph, operators
from edgeft.export.onnx.files import save
from edgeft.export.onnx.net import Net
from edgeft.export.quantize import token_int8
from edgeft.export.quantize.precisions import IN_ORDER, PRECISIONS, Source
from edgeft.export.quantize.ranges import Method, channel_ranges, tensor_ranges, watch
from edgeft.recipe import ExportConfig
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.engine import Engine

IDS = token_ids([12] * 16, seed=1)
# The mean difference from fp32 as a part of the deviation of its answers.
BOUNDS = {"fp32": 1e-5, "int8": 0.06, "int8-tensor": 0.1, "int8-static": 0.15, "int8-blocks": 0.06, "int4-blocks": 0.5}
BOUNDS["fp16"] = 0.01
# What each trial's products become.
PRODUCTS = {
    "fp32": set(),
    "int8": {"Linear"},
    "int8-tensor": {"DynamicQuantizeMatMul"},
    "int8-static": {"QuantizeLinear", "DequantizeLinear"},
    "int8-blocks": {"MatMulNBits"},
    "int4-blocks": {"MatMulNBits"},
    "fp16": {"Cast"},
}


@pytest.fixture(scope="module", params=["bert", "mpnet"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A captured classifier; BERT's attention is an operator, MPNet's isn't."""
    folder = tmp_path_factory.mktemp(request.param)
    onnx.save(operators.add_bodies(captured(request.param)), folder / "captured.onnx")
    rows = [Window(row) for row in token_ids([12] * 12, seed=2)]
    return Source(folder / "captured.onnx", rows, folder)


def finished(source: Source, model: onnx.ModelProto, name: str) -> Path:
    save(model, source.scratch / "trial.onnx")
    graph.finish(source.scratch / "trial.onnx", source.scratch / name, "regression")
    return source.scratch / name


def asked(path: Path, **options: Any) -> Any:
    return Engine(path, 0, threads=1, **options).run(IDS)[0]


def apart(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).mean() / expected.std())


def values_of(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_recipe_names_every_rung() -> None:
    named = get_args(get_args(get_type_hints(ExportConfig, include_extras=True)["precision"])[0])
    assert {"auto", *PRECISIONS} == set(named)


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_rung_loads_and_answers_near_fp32(source: Source, name: str) -> None:
    before = asked(finished(source, source.copy(), "fp32.onnx"))
    made = PRECISIONS[name].build(source, 0.5, ())
    assert PRODUCTS[name] <= set(kinds_of(made))
    onnx.checker.check_model(made)
    path = finished(source, made, "made.onnx")
    for native in (True, False):
        assert apart(asked(path, native=native), before) <= BOUNDS[name]
    assert (name == "fp32") == (path.stat().st_size >= (source.scratch / "fp32.onnx").stat().st_size)


def test_fp16_is_half_the_size_and_takes_and_gives_fp32(source: Source) -> None:
    made = PRECISIONS["fp16"].build(source, 0.5, ())
    assert not made.functions
    assert {value.type.tensor_type.elem_type for value in made.graph.output} == {TensorProto.FLOAT}
    floats = {tensor.data_type for tensor in made.graph.initializer} & {TensorProto.FLOAT, TensorProto.FLOAT16}
    assert floats == {TensorProto.FLOAT16}
    assert 0.45 < made.ByteSize() / source.copy().ByteSize() < 0.6


@pytest.mark.parametrize("name", [trial.name for trial in IN_ORDER if trial.layers])
def test_layers_that_stay_fp32(source: Source, name: str) -> None:
    kept, other = source.weights[:2]
    found = values_of(PRECISIONS[name].build(source, 0.5, [kept]))
    np.testing.assert_array_equal(found[kept], values_of(source.copy())[kept])
    assert other not in found
    assert kept not in values_of(PRECISIONS[name].build(source, 0.5, ()))


@pytest.mark.parametrize("kind", ["albert", "deberta-v2"])
@pytest.mark.parametrize("name", ["int8", "int8-tensor", "int8-static"])
def test_every_product_of_a_shared_weight_is_int8(kind: str, name: str, tmp_path: Path) -> None:
    onnx.save(operators.add_bodies(captured(kind)), tmp_path / "captured.onnx")
    source = Source(tmp_path / "captured.onnx", [Window(row) for row in token_ids([12] * 4, seed=2)], tmp_path)
    assert len(source.products) > len(source.weights)
    assert not set(source.weights) & set(values_of(PRECISIONS[name].build(source, 0.5, ())))


def test_onnxruntime_fuses_every_static_product(tmp_path: Path) -> None:
    """Wherever the graph itself was fused before it was written; all but a pooler's, which reads one row a text."""
    for kind in ("bert", "mpnet"):
        onnx.save(operators.add_bodies(captured(kind)), tmp_path / "captured.onnx")
        source = Source(tmp_path / "captured.onnx", [Window(row) for row in token_ids([12] * 4, seed=2)], tmp_path)
        path = finished(source, PRECISIONS["int8-static"].build(source, 0.5, ()), "static.onnx")
        pairs = kinds_of(onnx.load(path)).count("QuantizeLinear")
        assert pairs == len(source.products)
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        poolers = sum(site.linear.nodes[0].op_type == "Gemm" for site in token_int8.find_sites(Net(captured(kind))))
        assert kinds_of(onnx.load(tmp_path / "loaded.onnx")).count("MatMulIntegerToFloat") == pairs - poolers


def test_blocks_share_a_scale(source: Source) -> None:
    """int8 and int4 blocks: so many values of 4 or 8 bits to a scale."""
    for name, bits in (("int8-blocks", 8), ("int4-blocks", 4)):
        made = PRECISIONS[name].build(source, 0.5, ())
        values = values_of(made)
        for node in made.graph.node:
            if node.op_type != "MatMulNBits":
                continue
            options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            assert [options["bits"], options["block_size"]] == [bits, 32]
            assert values[node.input[1]].nbytes * 8 == values[node.input[2]].size * 32 * bits


def test_static_ranges_by_every_method(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    table, w, v = (generator.normal(size=size).astype(np.float32) for size in ((VOCABULARY, 64), (64, 64), (64, 64)))
    body = "x = Gather(table, input_ids) p = MatMul(x, w) h = Tanh(p) logits = MatMul(h, v)"
    onnx.save(small(body, "float[batch, tokens, 64] logits", table=table, w=w, v=v), tmp_path / "captured.onnx")
    rows = [Window(row) for row in token_ids([12] * 12, seed=2)]
    steps = {}
    for method in get_args(Method):
        source = Source(tmp_path / "captured.onnx", rows, tmp_path, method=method)
        made = PRECISIONS["int8-static"].build(source, 0.0, ())
        values = values_of(made)
        steps[method] = [float(values[node.input[1]]) for node in made.graph.node if node.op_type == "QuantizeLinear"]
        assert apart(asked(finished(source, made, "static.onnx")), asked(tmp_path / "captured.onnx")) < 0.05
    smoothed = table[[row.ids for row in rows]] * np.abs(w).max(axis=1)
    widest = (smoothed.max() - smoothed.min()) / 255
    assert min(abs(step - widest) for step in steps["minmax"]) < 1e-5
    assert max(steps["percentile"]) < max(steps["minmax"])
    assert len({tuple(found) for found in steps.values()}) == 3


# --------------------------------------------------------------------------------------------------------------- ranges

TABLE = (np.random.default_rng(0).normal(size=(50, 3)) * [1, 5, 0.1]).astype(np.float32)
ROWS = [Window([1, 2, 3]), Window([4]), Window([5, 6])]
ONES = np.ones(3, np.float32)


@pytest.fixture
def looked_up(tmp_path: Path) -> Path:
    body = "x = Gather(table, input_ids) y = Mul(x, two)"
    model = small(body, "float[batch, tokens, 3] y", table=TABLE, two=np.array(2, np.float32))
    onnx.save(model, tmp_path / "captured.onnx")
    return tmp_path / "captured.onnx"


def test_values_inside_a_graph_are_those_of_numpy(looked_up: Path) -> None:
    before = looked_up.read_bytes()
    found = list(watch(looked_up, ["x", "y"], ROWS, looked_up.with_name("watched.onnx")))
    assert len(found) == 3
    for row, values in zip(ROWS, found, strict=True):
        np.testing.assert_array_equal(values["x"], TABLE[[row.ids]])
        np.testing.assert_allclose(values["y"], 2 * TABLE[[row.ids]])
    assert looked_up.read_bytes() == before
    assert list(looked_up.parent.iterdir()) == [looked_up]


def test_ranges_of_channels_and_of_whole_values_are_those_of_numpy(looked_up: Path) -> None:
    seen, scratch = TABLE[1:7], looked_up.with_name("scratch.onnx")
    ranges = channel_ranges(looked_up, ["x", "y", "x"], ROWS, scratch)
    np.testing.assert_allclose(ranges["x"], np.abs(seen).max(axis=0))
    np.testing.assert_allclose(ranges["y"], 2 * np.abs(seen).max(axis=0))
    divisors = np.array([1, 10, 0.01], np.float32)
    whole = tensor_ranges(looked_up, {"p": ("x", ONES), "q": ("x", divisors)}, ROWS, scratch, "minmax")
    assert whole["p"] == pytest.approx((seen.min(), seen.max()))
    assert whole["q"] == pytest.approx(((seen / divisors).min(), (seen / divisors).max()))


def test_percentiles_and_entropy_cut_what_is_rare(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    table[17, 2] = 500
    onnx.save(small("x = Gather(table, input_ids)", "float[batch, tokens, 3] x", table=table), tmp_path / "fp32.onnx")
    rows = [Window(list(range(start, start + 50))) for start in range(0, 1000, 50)]
    most = {}
    for method in get_args(Method):
        found = tensor_ranges(tmp_path / "fp32.onnx", {"p": ("x", ONES)}, rows, tmp_path / "scratch.onnx", method)
        most[method] = max(abs(end) for end in found["p"])
    assert most["minmax"] == 500
    assert most["percentile"] < 500
    assert most["entropy"] < 500


def broken() -> Iterator[Window]:
    yield ROWS[0]
    raise RuntimeError("no such row")


def test_the_scratch_file_goes_when_a_row_fails(looked_up: Path) -> None:
    scratch = looked_up.with_name("scratch.onnx")
    with pytest.raises(RuntimeError, match="no such row"):
        channel_ranges(looked_up, ["x"], broken(), scratch)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        channel_ranges(looked_up, ["x"], [Window([1]), Window([50])], scratch)
    with pytest.raises(ArtifactError, match="can't be loaded"):
        channel_ranges(looked_up, ["absent"], ROWS, scratch)
    assert not scratch.exists()


def test_the_scratch_file_goes_when_nobody_asks_for_more_rows(looked_up: Path) -> None:
    scratch = looked_up.with_name("scratch.onnx")
    values = watch(looked_up, ["x"], ROWS, scratch)
    next(values)
    assert scratch.exists()
    values.close()  # type: ignore[attr-defined]
    assert not scratch.exists()


# ------------------------------------------------------------------------------------------- models with little to save


def tiny_source(folder: Path, rows: int, width: int) -> Source:
    generator = np.random.default_rng(3)
    table, w = (generator.normal(size=size).astype(np.float32) for size in ((rows, 64), (64, width)))
    body = "x = Gather(table, input_ids) t = Tanh(x) logits = MatMul(t, w)"
    onnx.save(small(body, f"float[batch, tokens, {width}] logits", table=table, w=w), folder / "captured.onnx")
    return Source(folder / "captured.onnx", ROWS, folder)


@pytest.mark.parametrize(("rows", "width"), [(50, 64), (50, 2), (VOCABULARY, 2)])
@pytest.mark.parametrize("name", PRECISIONS)
def test_models_without_large_tables_or_products(name: str, rows: int, width: int, tmp_path: Path) -> None:
    source = tiny_source(tmp_path, rows, width)
    ids = [[1, 2, 3]]
    (before,) = Engine(source.captured, 0).run(ids)
    (found,) = Engine(finished(source, PRECISIONS[name].build(source, 0.5, ()), "made.onnx"), 0).run(ids)
    assert apart(found, before) < 0.3
