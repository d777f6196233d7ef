"""What a graph from elsewhere may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from support_counts import write_artifact
from support_graphs import small

from edgeft.errors import ArtifactError
from edgeft.export.onnx import files, operators
from edgeft.runtime import graph_check
from edgeft.runtime.engine import Engine
from edgeft.runtime.graph_check import BODY_SHA256, body_sha256, check_graph
from edgeft.runtime.machine.memory import memory_bytes

WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def graph() -> onnx.ModelProto:
    """A graph with one of edgeft's functions and a table of weights."""
    model = small("y = Gather(table, input_ids)", "float[batch, tokens, 2] y", table=WEIGHT)
    model.functions.append(operators.function("Linear"))
    return model


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor whose values are in another file."""
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights")
    tensor.ClearField("raw_data")
    return tensor


def a_tensor() -> onnx.TensorProto:
    return external(numpy_helper.from_array(WEIGHT, "outside"))


def a_sparse_tensor() -> onnx.SparseTensorProto:
    values, places = numpy_helper.from_array(WEIGHT[0], "v"), numpy_helper.from_array(np.array([0, 1]), "i")
    return helper.make_sparse_tensor(external(values), places, [2])


def a_graph(tensor: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor])


def put_in_initializers(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0])


def put_in_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=a_tensor()))


def put_in_list(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("X", [], ["c"], values=[a_tensor()]))


def put_in_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("If", ["b"], ["c"], then_branch=a_graph(a_tensor())))


def put_in_subgraphs(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("X", ["b"], ["c"], branches=[a_graph(a_tensor())]))


def put_in_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(a_sparse_tensor())


def put_in_sparse_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=a_sparse_tensor()))


@pytest.mark.parametrize(
    "put",
    [
        put_in_initializers,
        put_in_constant,
        put_in_list,
        put_in_subgraph,
        put_in_subgraphs,
        put_in_sparse_initializer,
        put_in_sparse_constant,
    ],
)
def test_external_data_is_refused_wherever_it_stands(put: Callable[[onnx.ModelProto], None]) -> None:
    model = graph()
    check_graph(model.SerializeToString(), "model.onnx")
    put(model)
    with pytest.raises(ArtifactError, match=r"^model.onnx has external data, .*; save it with all inside$"):
        check_graph(model.SerializeToString(), "model.onnx")


def test_a_name_of_another_file_alone_is_external_data() -> None:
    model = graph()
    model.graph.initializer[0].external_data.add(key="location", value="weights")
    with pytest.raises(ArtifactError, match="external data"):
        check_graph(model.SerializeToString(), "model.onnx")


def test_a_graph_in_parts_is_read_whole(tmp_path: Path) -> None:
    model = graph()
    put_in_initializers(model)
    files.save(model, tmp_path / "parts.onnx")  # the graph stands there once for each initializer
    with pytest.raises(ArtifactError, match="external data"):
        check_graph((tmp_path / "parts.onnx").read_bytes(), "model.onnx")


def test_the_digests_are_those_of_the_functions_that_export_writes() -> None:
    assert {name: body_sha256(operators.function(name).SerializeToString()) for name in operators.BODIES} == BODY_SHA256


def test_a_body_is_the_same_in_whatever_order_its_fields_stand() -> None:
    whole = operators.function("Attention").SerializeToString()
    pieces: list[bytes] = []
    start = 0
    for _, _, _, after in graph_check.read_fields(whole, 0, len(whole)):
        pieces.append(whole[start:after])
        start = after
    pieces.sort(key=lambda piece: -(piece[0] >> 3))  # stable: nodes keep their order
    moved = b"".join(pieces)
    assert moved != whole
    assert onnx.FunctionProto.FromString(moved) == operators.function("Attention")
    assert body_sha256(moved) == BODY_SHA256["Attention"]


FUNCTIONS = {
    "another domain": (lambda f: setattr(f, "domain", ""), "has a function of domain ''; only those of 'edgeft'"),
    "another name": (lambda f: setattr(f, "name", "Better"), "has a function 'Better', which this edgeft doesn't know"),
    "an overload": (lambda f: setattr(f, "overload", "x"), "has a body of Linear that is not edgeft's"),
    "another constant": (
        lambda f: next(n for n in f.node if n.op_type == "Constant").attribute[0].t.float_data.__setitem__(0, 126.0),
        "has a body of Linear that is not edgeft's",
    ),
    "one operator more": (lambda f: f.node.append(f.node[-1]), "has a body of Linear that is not edgeft's"),
    "two operators the other way round": (lambda f: f.node.insert(0, f.node.pop(3)), "that is not edgeft's"),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_edgeft_did_not_write_is_refused(kind: str) -> None:
    change, words = FUNCTIONS[kind]
    model = graph()
    change(model.functions[0])  # type: ignore[no-untyped-call]
    with pytest.raises(ArtifactError, match=words) as caught:
        check_graph(model.SerializeToString(), "model.onnx")
    assert "\n" not in str(caught.value)


def test_operators_that_repeat_without_bound_are_refused_also_inside() -> None:
    body = parser.parse_graph("g (int64 i, bool c) => (bool d) { d = Identity(c) }")
    model = graph()
    inner = helper.make_graph([helper.make_node("Loop", ["n"], ["r"], body=body)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["c"], then_branch=inner))
    with pytest.raises(ArtifactError, match="uses operator Loop, which no graph of edgeft's does"):
        check_graph(model.SerializeToString(), "model.onnx")


NO_GRAPHS = {
    "a text": b"hello, this is no graph",
    "a number that never ends": b"\xff" * 40,
    "a field that is longer than the file": b"\x3a\xff\xff\x03abc",
    "a group": b"\x0b\x0c",
    "field 0": b"\x00\x01",
    "a field of 2**29": b"\x80\x80\x80\x80\x10\x01",
}


@pytest.mark.parametrize("kind", NO_GRAPHS)
def test_what_is_no_graph_is_said_in_a_line(kind: str) -> None:
    with pytest.raises(ArtifactError, match=r"^model.onnx is not an ONNX file: ") as caught:
        check_graph(NO_GRAPHS[kind], "model.onnx")
    assert "\n" not in str(caught.value)


def test_depth_and_number_of_fields_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph()
    inner = a_graph(numpy_helper.from_array(WEIGHT, "deep"))
    for _ in range(25):
        inner = helper.make_graph([helper.make_node("If", ["b"], ["c"], then_branch=inner)], "g", [], [])
    model.graph.node.append(inner.node[0])
    with pytest.raises(ArtifactError, match="is nested deeper than 60 messages"):
        check_graph(model.SerializeToString(), "model.onnx")
    monkeypatch.setattr(graph_check, "MAX_FIELDS", 20)
    with pytest.raises(ArtifactError, match="has more than 20 fields"):
        check_graph(graph().SerializeToString(), "model.onnx")


BOMBS = {
    "that a file says": "big = Identity(size)",
    "that grows with the text": "s = Shape(input_ids) \n p = ReduceProd(s) \n big = Mul(p, size)",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_graph_that_asks_for_all_of_the_memory_is_refused_before_it_has_it(kind: str, tmp_path: Path) -> None:
    lines = f"{BOMBS[kind]} \n c = Expand(weight, big) \n r = ReduceSum(c) \n y = Mul(weight, r)"
    model = small(lines, "float[one] y", weight=np.ones(1, np.float32), size=np.array([memory_bytes() // 4]))
    check_graph(model.SerializeToString(), "model.onnx")
    engine = Engine(tmp_path / "model.onnx", 0, content=model.SerializeToString())
    before = psutil.Process().memory_info().rss
    with pytest.raises(
        ArtifactError, match=r"can't answer 1 x 3 tokens .* asks for more than [\d.]+ GB, what a graph may"
    ):
        engine.run([[1, 2, 3]], ["y"])
    assert psutil.Process().memory_info().rss < before + 2**28


def test_the_format_of_onnxruntime_is_refused() -> None:
    content = b"\x08\x01\x09\x00ORTM" + graph().SerializeToString()
    with pytest.raises(ArtifactError, match="is in onnxruntime's own format"):
        check_graph(content, "model.onnx")


def test_the_engine_takes_onnx_alone(tmp_path: Path) -> None:
    """Bytes that onnxruntime would take for its own format, as its reader looks at the fifth to the eighth."""
    own = tmp_path / "model.ort"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(own)
    options.add_session_config_entry("session.save_model_format", "ORT")
    model = write_artifact(tmp_path / "artifact") / "model.onnx"
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    content = own.read_bytes()
    assert content[4:8] == b"ORTM"
    onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])  # it would be loaded
    with pytest.raises(ArtifactError, match="can't be loaded"):
        Engine(own, 0, content=content)


def test_fields_are_counted_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one flat message, before the whole of it was read."""
    monkeypatch.setattr(graph_check, "MAX_FIELDS", 100)
    read = 0

    def counted(*arguments: Any) -> Any:
        nonlocal read
        for field in fields(*arguments):
            read += 1
            yield field

    fields = graph_check.read_fields
    monkeypatch.setattr(graph_check, "read_fields", counted)
    with pytest.raises(ArtifactError, match="has more than 100 fields"):
        check_graph(b"\x08\x01" * 10_000, "model.onnx")
    assert read == 101


def test_a_function_is_of_bounded_size() -> None:
    padded = b"\x52\x06edgeft\x0a\x06Linear" + b"\x10\x01" * 40_000
    model = graph().SerializeToString() + b"\xca\x01" + varint(len(padded)) + padded
    with pytest.raises(ArtifactError, match="has a function of 80,016 bytes; edgeft writes at most 65,536"):
        check_graph(model, "model.onnx")


def varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
