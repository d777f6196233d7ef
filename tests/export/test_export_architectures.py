"""Every architecture and every kind of head, with random weights: the fp32 graph answers as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support_graphs import KINDS, SIZES, capture_of, captured, classifier, model_of, token_ids
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DPRConfig,
    DPRContextEncoder,
)

from edgeft.compress.prune.structure import cut_by_ratios, prune
from edgeft.errors import ModelError
from edgeft.export.capture.capture import capture
from edgeft.export.onnx import graph, operators
from edgeft.export.onnx.files import save
from edgeft.runtime.engine import Engine, pad

PLAIN = ("bert", "distilbert", "roberta", "albert", "electra")  # attention of them is no more than a mask of tokens
SPANS = {"start_logits": ["batch", "tokens"], "end_logits": ["batch", "tokens"]}
LENGTHS = ([7], [9, 4], [3, 20, 11], [33])  # tokens of the texts of each batch
CLOSE = 1e-4
WIDTH, LAYERS, HEADS = (SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))


def largest_difference(model: Any, path: Path, native: bool) -> float:
    """Between torch and the graph through the runtime's engine, relative to the largest answer; padding apart."""
    engine = Engine(path, 0, threads=1, native=native)
    worst = 0.0
    for lengths in LENGTHS:
        ids = token_ids(lengths)
        feeds = {name: torch.from_numpy(array) for name, array in pad(ids, 0).items()}
        with torch.no_grad():
            expected = model(**{name: feeds[name] for name in ("input_ids", "attention_mask")})
        for name, found in zip(engine.output_names, engine.run(ids, engine.output_names), strict=True):
            wanted = expected[name].numpy()
            assert found.shape == wanted.shape
            if found.shape[:2] == feeds["attention_mask"].shape:
                seen = feeds["attention_mask"].numpy() > 0
                found, wanted = found[seen], wanted[seen]
            worst = max(worst, float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())))
    return worst


def both_ways(model: Any, found: onnx.ModelProto, path: Path) -> list[float]:
    """With edgeft's kernels and without."""
    save(operators.add_bodies(found), path.with_suffix(".captured"))
    graph.finish(path.with_suffix(".captured"), path, "regression")
    return [largest_difference(model, path, native) for native in (True, False)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_answers_as_torch_does(kind: str, tmp_path: Path) -> None:
    assert max(both_ways(classifier(kind), captured(kind), tmp_path / "model.onnx")) <= CLOSE
    assert "exporter failed" not in (capture_of(kind) / "said.txt").read_text(encoding="utf-8")
    proto = onnx.load(tmp_path / "model.onnx").graph
    assert [value.name for value in proto.output] == ["logits"]
    assert {value.name for value in proto.input} == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_attention_is_one_operator_of_packed_queries_keys_and_values(kind: str) -> None:
    proto = captured(kind).graph
    maker = {name: node for node in proto.node for name in node.output}
    shapes = {tensor.name: list(tensor.dims) for tensor in proto.initializer}
    found = [node for node in proto.node if node.domain == operators.DOMAIN]
    assert [node.op_type for node in found] == ["Attention"] * LAYERS
    for node in found:
        assert node.input[1] == "attention_mask"
        bias = maker[node.input[0]]
        product = maker[bias.input[0]]
        assert [bias.op_type, product.op_type] == ["Add", "MatMul"]
        assert [shapes[bias.input[1]], shapes[product.input[1]]] == [[3 * WIDTH], [WIDTH, 3 * WIDTH]]
        options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        assert options == {"num_heads": HEADS, "scale": pytest.approx((WIDTH / HEADS) ** -0.5)}
    assert not {"Reshape", "Transpose", "Softmax", "Split"}.intersection(node.op_type for node in proto.node)
    assert [body.name for body in operators.add_bodies(captured(kind)).functions] == ["Attention"]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(PLAIN)))
def test_attention_of_more_than_a_mask_stays_as_it_is(kind: str) -> None:
    found = captured(kind)
    assert operators.DOMAIN not in {node.domain for node in found.graph.node}
    assert [node.op_type for node in found.graph.node].count("Softmax") == LAYERS
    assert not operators.add_bodies(found).functions


def test_the_model_attends_as_before_after_its_capture() -> None:
    for kind in PLAIN:
        assert (capture_of(kind) / "attention.txt").read_text(encoding="utf-8") not in ("", "edgeft_capture")


@pytest.mark.parametrize(
    ("kind", "auto", "labels", "outputs"),
    [
        ("bert", AutoModelForTokenClassification, 3, {"logits": ["batch", "tokens", ""]}),
        ("bert", AutoModelForQuestionAnswering, 2, SPANS),
        ("bert", AutoModel, 2, {"last_hidden_state": ["batch", "tokens", ""]}),  # a pooler is left out
        ("llama", AutoModel, 2, {"last_hidden_state": ["batch", "tokens", ""]}),  # keys and values are left out
    ],
)
def test_every_head_answers_as_torch_does(
    kind: str, auto: Any, labels: int, outputs: dict[str, list[str]], tmp_path: Path
) -> None:
    model = model_of(auto, kind, labels)
    before = model.config.to_dict()
    found = capture(model, 20)
    shapes = {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in found.graph.output}
    assert shapes == outputs
    assert model.config.to_dict() == before
    assert max(both_ways(model, found, tmp_path / "model.onnx")) <= CLOSE


@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_a_pruned_model_answers_as_torch_does(kind: str, tmp_path: Path) -> None:
    """Half of the heads, channels and layers are gone, and a quarter of the hidden width."""
    model = model_of(AutoModelForSequenceClassification, kind, 3)
    prune(model, cut_by_ratios(model, heads=0.5, channels=0.5, width=0.25, layers=0.5), "magnitude")
    found = capture(model, 20)
    assert max(both_ways(model, found, tmp_path / "model.onnx")) <= CLOSE
    attention = [node for node in found.graph.node if node.domain == operators.DOMAIN]
    heads = [onnx.helper.get_attribute_value(node.attribute[0]) for node in attention]
    assert heads == ([HEADS // 2] if kind == "bert" else [])


def test_a_model_that_answers_with_something_else_is_refused() -> None:
    model = DPRContextEncoder(DPRConfig(**SIZES)).eval()
    with pytest.raises(
        ModelError, match=r"^DPRContextEncoder answers with pooler_output; what can be exported: logits,"
    ):
        capture(model, 20)
