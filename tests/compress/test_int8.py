"""Training in int8 against the graph that ships: the same arithmetic, and gradients as if nothing were rounded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_graphs import answers, captured, classifier, model_of, token_ids
from torch import nn
from transformers import AutoModelForCausalLM

from edgeft.compress.quantization_aware import int8 as rounding
from edgeft.compress.quantization_aware.int8 import (
    int8,
    product,
    rounded_blocks,
    rounded_embeddings,
    rounded_rows,
    rounded_tokens,
    rounded_weight,
    settle,
)
from edgeft.export.onnx import operators
from edgeft.export.onnx.files import save
from edgeft.export.onnx.net import Net
from edgeft.export.quantize import rounding as rounding_of_graph
from edgeft.export.quantize import token_int8
from edgeft.export.quantize.ranges import channel_ranges
from edgeft.runtime.answers.windows import Window

IDS = token_ids([5, 9, 3, 12])


def logits(model: Any, rows: list[list[int]] = IDS) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return np.concatenate([model(input_ids=torch.tensor([ids])).logits.numpy() for ids in rows])


FORMS = [(kind, (8, 8)) for kind in ("bert", "distilbert", "roberta", "electra", "modernbert", "llama")]
FORMS += [("bert", bits) for bits in ((4, 8), (8, 4), (4, 4))]


@pytest.mark.parametrize(("kind", "bits"), FORMS)
def test_the_model_answers_as_the_int8_graph(kind: str, bits: tuple[int, int], tmp_path: Path) -> None:
    model, fp32 = classifier(kind), captured(kind)
    save(operators.add_bodies(captured(kind)), tmp_path / "fp32.onnx")
    names = [site.linear.x for site in token_int8.find_sites(Net(captured(kind)))]
    ranges = channel_ranges(tmp_path / "fp32.onnx", names, [Window(ids, [0] * len(ids)) for ids in IDS], tmp_path / "r")
    graph = token_int8.quantize(fp32, ranges, rounding.STRENGTH, (), True, *bits)
    expected = np.concatenate([answers(graph, tmp_path / "int8.onnx", [ids], ["logits"])[0] for ids in IDS])
    exact = logits(model)
    with int8(model, lambda: logits(model), *bits):
        found = logits(model)
    # A value at the edge between two steps may round either way; another arithmetic would err another way.
    ours, theirs = (found - exact).ravel(), (expected - exact).ravel()
    assert ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)) > 0.8
    np.testing.assert_array_equal(logits(model), exact)


def test_rounding_by_hand() -> None:
    values = torch.tensor([[1.27, -0.506, 0.0]])
    torch.testing.assert_close(rounded_tokens(values), torch.tensor([[1.27, -0.51, 0.0]]))
    torch.testing.assert_close(rounded_tokens(values.abs() * 2, True), torch.tensor([[2.54, 1.0160, 0.0]]))
    torch.testing.assert_close(
        rounded_rows(torch.tensor([[127.0, 0.4], [0.127, 0.0994]])), torch.tensor([[127.0, 0.0], [0.127, 0.099]])
    )
    assert rounded_tokens(torch.zeros(2, 3)).tolist() == torch.zeros(2, 3).tolist()


def test_tables_of_4_bits_are_rounded_as_the_graph_keeps_them() -> None:
    table = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    values, scale = rounding_of_graph.round_blocks(table.detach().numpy())
    kept = (values.reshape(50, 2, 32) * scale.astype(np.float32)[..., None]).reshape(50, 64)
    found = rounded_blocks(table)
    np.testing.assert_array_equal(found.detach().numpy(), kept)
    (grown,) = torch.autograd.grad(found.sum(), table)
    assert (grown == 1).all()
    assert torch.equal(rounded_embeddings(table, 4), found)
    assert torch.equal(rounded_embeddings(table[:, :48], 4), rounded_rows(table[:, :48]))
    assert rounded_blocks(torch.zeros(1, 32)).tolist() == torch.zeros(1, 32).tolist()


@pytest.mark.parametrize("bits", [8, 4])
def test_settled_tables_are_what_the_graph_keeps(bits: int) -> None:
    model = copy.deepcopy(classifier("bert"))
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    settle(model, bits, 8)
    settled = model.bert.embeddings.word_embeddings.weight.detach()
    torch.testing.assert_close(settled, rounded_embeddings(before, bits), rtol=0, atol=0)
    torch.testing.assert_close(rounded_embeddings(settled, bits), settled, rtol=1e-6, atol=0)
    assert not torch.equal(settled, before)


def test_settled_weights_are_what_the_graph_keeps() -> None:
    model = copy.deepcopy(classifier("bert"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settle(model, 8, 4)
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(model.state_dict()[name], rounded_blocks(before[name]))
    assert not torch.equal(model.state_dict()[name], before[name])
    again = copy.deepcopy(model)
    settle(again, 8, 4)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=1e-6, atol=0)
    odd = before[name][:, :24]
    assert torch.equal(rounded_weight(odd, 4), odd)


@pytest.mark.parametrize("tied", [True, False])
def test_a_table_that_is_the_output_layer_too_is_left_alone(tied: bool) -> None:
    model = model_of(AutoModelForCausalLM, "llama", 2)
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    before = model.get_output_embeddings().weight.detach().clone()
    settle(model, 8, 4)
    kept = before if tied else rounded_weight(before, 4)
    assert torch.equal(model.get_output_embeddings().weight, kept)
    assert tied == torch.equal(kept, before)


@pytest.mark.parametrize("after_gelu", [False, True])
def test_a_product_is_near_the_exact_one_and_has_its_gradient(after_gelu: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 8), torch.randn(3, 5, 32)
    x = (torch.nn.functional.gelu(x) if after_gelu else x).requires_grad_(True)
    smooth = torch.rand(32) + 0.5
    found, exact = product(x, layer, smooth, after_gelu), layer(x)
    assert 0 < (found - exact).abs().max() < 0.05
    grown = torch.autograd.grad(found.sum(), [x, layer.weight, layer.bias])
    plain = torch.autograd.grad(exact.sum(), [x, layer.weight, layer.bias])
    for one, other in zip(grown, plain, strict=True):
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_small_layers_stay_exact_and_the_run_decides_which_take_part() -> None:
    model = classifier("bert")
    head = model.classifier
    with int8(model, lambda: logits(model)):
        assert "forward" not in vars(head)
        assert "forward" in vars(model.bert.encoder.layer[0].output.dense)
    assert not any("forward" in vars(module) for module in model.modules())
