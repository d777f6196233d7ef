"""What belongs to a head, a channel and a feature, by hand; the order that cutting leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support_prune import tiny
from torch import nn

from edgeft.compress.prune import units
from edgeft.compress.prune.units import Units
from edgeft.models.shapes import blocks, structure_of


def members(model: Any, found: Units) -> dict[str, list[list[int]]]:
    """The features of each unit, by the end of the module's name."""
    names = {module: name.split(".")[-1] for name, module in model.named_modules()}
    return {names[member.module]: member.features.tolist() for member in found.members}


def test_a_key_value_head_goes_with_its_query_heads() -> None:
    """Four query heads of six features share two key/value heads."""
    model = tiny("llama")
    found = members(model, units.heads(blocks(model)[1], structure_of(model).head_size))
    shared, own = [list(range(12)), list(range(12, 24))], [list(range(6)), list(range(6, 12))]
    assert found == {"o_proj": shared, "q_proj": shared, "k_proj": own, "v_proj": own}


def test_a_head_of_one_layer_for_queries_keys_and_values() -> None:
    """Of four heads of eight features the second is 8 to 15 of the queries, of the keys and of the values."""
    model = tiny("modernbert")
    found = members(model, units.heads(blocks(model)[0], 8))
    assert found["Wo"][1] == list(range(8, 16))
    assert found["Wqkv"][1] == [*range(8, 16), *range(40, 48), *range(72, 80)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", {"dense": [3]}),
        ("distilbert", {"lin2": [3], "lin1": [3]}),
        ("llama", {"down_proj": [3], "up_proj": [3], "gate_proj": [3]}),
        ("modernbert", {"Wo": [3], "Wi": [3, 67]}),
    ],
)
def test_a_channel_goes_with_its_gate(kind: str, expected: dict[str, list[int]]) -> None:
    model = tiny(kind)
    found = members(model, units.channels(units.trace(model), blocks(model)[2]))
    assert {name: features[3] for name, features in found.items()} == expected


def test_all_of_a_model_that_has_the_hidden_width() -> None:
    """Embeddings, norms, seven readers and writers a layer, and the head."""
    model = tiny("llama")
    found = units.width(units.trace(model), blocks(model)[0])
    assert found.count == 32
    assert len(found.members) == 1 + (2 * 3 + 1) + 7 * 3 + 1
    assert all(member.features.tolist() == [[feature] for feature in range(32)] for member in found.members)
    assert len(found.places) == 2 * 3 + 1


@pytest.mark.parametrize("norm", [nn.LayerNorm(300), nn.LayerNorm(300, bias=False), nn.RMSNorm(300)])
def test_few_features_of_many_keep_their_order(norm: Any) -> None:
    """A set of these few numbers is not in their order."""
    stay = [5, 100, 200, 264]
    assert list(set(stay)) != stay
    for parameter in norm.parameters():
        parameter.data = torch.arange(300.0)
    pruner = units.NormPruner()
    pruner.prune_out_channels(norm, [index for index in range(300) if index not in stay])
    assert all(parameter.tolist() == stay for parameter in norm.parameters())
    assert norm(torch.rand(2, 4)).shape == (2, 4)
    assert pruner.get_out_channels(norm) == 4


def test_nothing_goes_where_all_stays() -> None:
    model = tiny("bert")
    found = units.heads(blocks(model)[0], 8)
    before = [member.module.weight for member in found.members]
    units.remove(found, range(4))
    assert all(member.module.weight is weight for member, weight in zip(found.members, before, strict=True))
