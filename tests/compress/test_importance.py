"""Taylor importance against a hand-computed case and a slow twin; magnitude and chance."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from edgeft.compress import importance
from edgeft.compress.importance import Units
from edgeft.shapes import blocks


class Tiny(nn.Module):
    """(B, T, 2) -> two channels, reader (1, 2): y = 3 x0 - 1 x1."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.Linear(2, 1, bias=False)
        self.reader.weight.data = torch.tensor([[3.0, -1.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reader(x)


def tiny_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over the rows of the signed sum of the row's outputs."""
    return (model(batch["x"]).sum((1, 2)) * batch["sign"]).mean()


def test_taylor_by_hand() -> None:
    """Row 0: h = (1, 2), loss +y, h * dL/dh = (3, -2). Row 1: h = (2, 1), loss -y, (-6, 1). Means of |.|: 4.5, 1.5."""
    model = Tiny()
    units = [Units(model.reader, (), count=2, width=1)]
    batch = {"x": torch.tensor([[[1.0, 2.0]], [[2.0, 1.0]]]), "sign": torch.tensor([1.0, -1.0])}
    (scores,) = importance.taylor(model, units, [batch], tiny_loss)
    torch.testing.assert_close(scores, torch.tensor([4.5, 1.5]))
    (as_one_head,) = importance.taylor(model, [Units(model.reader, (), count=1, width=2)], [batch], tiny_loss)
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
    found = [Units(block.output, (block.query, block.key, block.value), 4, 8) for block in blocks(model)]
    return found + [Units(block.down, (block.up,), 24, 1) for block in blocks(model)]


def rows_of(batch: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    total = len(batch["labels"])
    return [{key: value[at : at + size] for key, value in batch.items()} for at in range(0, total, size)]


def test_taylor_is_the_sum_of_weights_times_gradients(bert: BertForSequenceClassification) -> None:
    """The slow twin: backward row by row, |sum of w * dw| over the columns that read a unit, averaged."""
    batch, units = batch_of(5), units_of(bert)
    expected = [torch.zeros(unit.count) for unit in units]
    for row in rows_of(batch, 1):
        bert.zero_grad()
        bert(**row).loss.backward()
        for unit, total in zip(units, expected, strict=True):
            weight = unit.reader.weight
            assert weight.grad is not None
            products = (weight.detach() * weight.grad).sum(0)
            total += products.view(unit.count, unit.width).sum(1).abs() / 5
    bert.zero_grad(set_to_none=True)
    scores = importance.taylor(bert, units, [batch], importance.own_loss)
    for score, twin in zip(scores, expected, strict=True):
        torch.testing.assert_close(score, twin, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_division_into_batches_does_not_matter(bert: BertForSequenceClassification, size: int) -> None:
    batch, units = batch_of(5), units_of(bert)
    whole = importance.taylor(bert, units, [batch], importance.own_loss)
    divided = importance.taylor(bert, units, rows_of(batch, size), importance.own_loss)
    for one, other in zip(whole, divided, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_taylor_leaves_the_model_alone(bert: BertForSequenceClassification) -> None:
    bert.requires_grad_(False)
    scores = importance.taylor(bert, units_of(bert), [batch_of(2)], importance.own_loss)
    assert all(score.max() > 0 for score in scores)
    assert all(parameter.grad is None for parameter in bert.parameters())
    assert not any(module._forward_pre_hooks for module in bert.modules())


def test_magnitude_by_hand(bert: BertForSequenceClassification) -> None:
    block, unit = blocks(bert)[0], units_of(bert)[0]
    ids = torch.ones(1, 5, dtype=torch.long)
    graph = tp.DependencyGraph().build_dependency(
        bert, example_inputs={"input_ids": ids}, output_transform=lambda output: output.logits
    )
    group = graph.get_pruning_group(unit.reader, tp.prune_linear_in_channels, list(range(32)))
    squares = sum(layer.weight.detach().square().sum(1) for layer in (block.query, block.key, block.value))
    squares = squares + block.output.weight.detach().square().sum(0)
    torch.testing.assert_close(importance.magnitude(group, unit), squares.view(4, 8).sum(1))


def test_chance_depends_on_the_seed_alone(bert: BertForSequenceClassification) -> None:
    units = units_of(bert)
    first, again, other = (importance.chance(units, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
