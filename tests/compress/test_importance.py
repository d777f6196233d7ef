"""Taylor importance against hand-computed cases and slow twins; magnitude and chance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support_prune import tiny
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from edgeft.compress.prune import importance, units
from edgeft.compress.prune.units import Units
from edgeft.models.shapes import blocks, encoder_layers


class Tiny(nn.Module):
    """(B, T, 2) -> two channels, reader (1, 2): y = 3 x0 - 1 x1."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: Any = nn.Linear(2, 1, bias=False)
        self.reader.weight.data = torch.tensor([[3.0, -1.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.reader(x)
        return y


def tiny_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over the rows of the signed sum of the row's outputs."""
    sums: torch.Tensor = model(batch["x"]).sum((1, 2))
    return (sums * batch["sign"]).mean()


def test_taylor_by_hand() -> None:
    """Row 0: h = (1, 2), loss +y, h * dL/dh = (3, -2). Row 1: h = (2, 1), loss -y, (-6, 1). Means of |.|: 4.5, 1.5."""
    model = Tiny()
    found = [Units(2, (), (model.reader,))]
    batch = {"x": torch.tensor([[[1.0, 2.0]], [[2.0, 1.0]]]), "sign": torch.tensor([1.0, -1.0])}
    (scores,) = importance.taylor_importance(model, found, [batch], tiny_loss)
    torch.testing.assert_close(scores, torch.tensor([4.5, 1.5]))
    (as_one_head,) = importance.taylor_importance(model, [Units(1, (), (model.reader,))], [batch], tiny_loss)
    torch.testing.assert_close(as_one_head, torch.tensor([(1 + 5) / 2]))


@pytest.fixture
def bert() -> BertForSequenceClassification:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, pad_token_id=0
    )
    return BertForSequenceClassification(config).eval()


def batch_of(rows: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    ids = torch.randint(1, 50, (rows, 6))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(rows) % 2}


def units_of(model: BertForSequenceClassification) -> list[Units]:
    graph, found = units.trace(model), blocks(model)
    return [*(units.heads(block, 8) for block in found), *(units.channels(graph, block) for block in found)]


def rows_of(batch: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    total = len(batch["labels"])
    return [{key: value[at : at + size] for key, value in batch.items()} for at in range(0, total, size)]


def test_taylor_by_hand_of_a_feature_and_of_layers() -> None:
    """The loss is y = 3 x0 - x1. A norm gives (1, 2): its features give 3 and -2. A layer that doubles x adds (1, 2),
    worth 3 - 2, once more doubled (2, 4), worth 6 - 4; the first one's update is read through the second: 2 (3 - 2).
    """
    x, sign = torch.tensor([[[1.0, 2.0]]]), torch.tensor([1.0])
    model = Tiny()
    norm, model.reader = nn.Identity(), nn.Sequential(nn.Identity(), model.reader)
    model.reader[0] = norm
    (scores,) = importance.taylor_importance(
        model, [Units(2, (), (norm,), "output")], [{"x": x, "sign": sign}], tiny_loss
    )
    torch.testing.assert_close(scores, torch.tensor([3.0, 2.0]))
    model, double = Tiny(), [nn.Linear(2, 2, bias=False) for _ in range(2)]
    for layer in double:
        layer.weight.data = 2 * torch.eye(2)
    model.reader = nn.Sequential(*double, model.reader)
    (scores,) = importance.taylor_importance(
        model, [Units(2, (), tuple(double), "update")], [{"x": x, "sign": sign}], tiny_loss
    )
    torch.testing.assert_close(scores, torch.tensor([2.0, 2.0]))


def test_taylor_is_the_sum_of_weights_times_gradients(bert: BertForSequenceClassification) -> None:
    """The slow twin: backward row by row, |sum of w * dw| over the columns that read a unit, averaged."""
    batch, found = batch_of(5), units_of(bert)
    expected = [torch.zeros(unit.count) for unit in found]
    for row in rows_of(batch, 1):
        bert.zero_grad()
        bert(**row).loss.backward()
        for unit, total in zip(found, expected, strict=True):
            weight: Any = unit.places[0].weight
            products = (weight.detach() * weight.grad).sum(0)
            total += products.view(unit.count, -1).sum(1).abs() / 5
    bert.zero_grad(set_to_none=True)
    scores = importance.taylor_importance(bert, found, [batch], importance.own_loss)
    for score, twin in zip(scores, expected, strict=True):
        torch.testing.assert_close(score, twin, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "llama"])
def test_taylor_of_the_width_is_of_the_norms_weights(kind: str) -> None:
    """The slow twin: a gate behind a norm scales its weight and bias, so that dL/dg is their sum of w * dw, by row."""
    model, batch = tiny(kind), batch_of(3)
    unit = units.width(units.trace(model), blocks(model)[0])
    norms = [module for module in model.base_model.modules() if "Norm" in type(module).__name__]
    expected = torch.zeros(32)
    for row in rows_of(batch, 1):
        model.zero_grad()
        model(**row).loss.backward()
        products = [p.detach() * p.grad for norm in norms for p in norm.parameters()]
        expected += torch.stack(products).sum(0).abs() / 3
    model.zero_grad(set_to_none=True)
    (scores,) = importance.taylor_importance(model, [unit], [batch], importance.own_loss)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "llama"])
def test_taylor_of_layers_is_update_times_gradient(kind: str) -> None:
    """The slow twin: what a layer adds to the hidden states times their gradient behind it, summed row by row."""
    model, batch = tiny(kind), batch_of(3)
    seen: dict[nn.Module, Any] = {}
    for layer in encoder_layers(model):
        layer.register_forward_hook(lambda layer, given, answer: seen.update({layer: (given[0], answer)}))
    expected = torch.zeros(3)
    for row in rows_of(batch, 1):
        loss = model(**row).loss
        for place, (before, after) in enumerate(list(seen.values())):
            (slope,) = torch.autograd.grad(loss, after, retain_graph=True)
            expected[place] += ((after - before) * slope).sum().detach().abs() / 3
        seen.clear()
    (scores,) = importance.taylor_importance(model, [units.layers(model)], [batch], importance.own_loss)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_taylor_of_layers_is_the_slope_of_the_loss(kind: str) -> None:
    """The slower twin: the loss of a row with a little more and a little less of one layer's update, in double."""
    model, batch = tiny(kind).double(), batch_of(2)
    step, expected = 1e-5, torch.zeros(3)

    def loss_with(layer: nn.Module, row: dict[str, torch.Tensor], share: float) -> float:
        handle = layer.register_forward_hook(lambda _, given, answer: given[0] + share * (answer - given[0]))
        with torch.no_grad():
            loss = float(model(**row).loss)
        handle.remove()
        return loss

    for row in rows_of(batch, 1):
        for place, layer in enumerate(encoder_layers(model)):
            rise = loss_with(layer, row, 1 + step) - loss_with(layer, row, 1 - step)
            expected[place] += abs(rise) / (2 * step) / 2
    (scores,) = importance.taylor_importance(model, [units.layers(model)], [batch], importance.own_loss)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_division_into_batches_does_not_matter(bert: BertForSequenceClassification, size: int) -> None:
    batch, found = batch_of(5), [*units_of(bert), units.layers(bert)]
    found.append(units.width(units.trace(bert), blocks(bert)[0]))
    whole = importance.taylor_importance(bert, found, [batch], importance.own_loss)
    divided = importance.taylor_importance(bert, found, rows_of(batch, size), importance.own_loss)
    for one, other in zip(whole, divided, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_taylor_leaves_the_model_alone(bert: BertForSequenceClassification) -> None:
    found = [*units_of(bert), units.layers(bert), units.width(units.trace(bert), blocks(bert)[0])]
    bert.requires_grad_(False)
    scores = importance.taylor_importance(bert, found, [batch_of(2)], importance.own_loss)
    assert all(score.max() > 0 for score in scores)
    assert all(parameter.grad is None for parameter in bert.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in bert.modules())


def test_magnitude_by_hand(bert: BertForSequenceClassification) -> None:
    layers: Any = encoder_layers(bert)
    block, found = blocks(bert)[0], units_of(bert)
    squares = sum(writer.weight.detach().square().sum(1) for writer in block.writers)
    squares = squares + block.output.weight.detach().square().sum(0)
    torch.testing.assert_close(importance.magnitude_importance(found[0]), squares.view(4, 8).sum(1))
    up = layers[1].intermediate.dense.weight
    twin = up.detach().square().sum(1) + blocks(bert)[1].down.weight.detach().square().sum(0)
    torch.testing.assert_close(importance.magnitude_importance(found[3]), twin)


def test_magnitude_of_layers_and_of_a_feature(bert: BertForSequenceClassification) -> None:
    matrices = [
        [value.detach() for name, value in layer.named_parameters() if value.dim() == 2]
        for layer in encoder_layers(bert)
    ]
    sums = torch.stack([sum((value.square().sum() for value in own), torch.tensor(0.0)) for own in matrices])
    torch.testing.assert_close(importance.magnitude_importance(units.layers(bert)), sums)
    scores = importance.magnitude_importance(units.width(units.trace(bert), blocks(bert)[0]))
    read = sum(w[:, 5].square().sum() for own in matrices for w in own if w.shape != (32, 24))
    wrote = sum(own[place][5].square().sum() for own in matrices for place in (3, 5))
    # The output of attention (32, 32) is written only, and the pooler reads.
    wrong = sum(own[3][:, 5].square().sum() for own in matrices)
    pooled = bert.bert.pooler.dense.weight.detach()[:, 5].square().sum()
    torch.testing.assert_close(scores[5], read - wrong + wrote + pooled)


def test_chance_depends_on_the_seed_alone(bert: BertForSequenceClassification) -> None:
    found = units_of(bert)
    first, again, other = (importance.random_importance(found, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
