"""Packing: which documents share a sequence, and that none of them sees another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language import KINDS, language_model
from torch.nn.functional import cross_entropy

from edgeft.errors import ModelError
from edgeft.train.likelihoods import next_token_targets
from edgeft.train.loop import packing
from edgeft.train.tasks import Items

CPU = torch.device("cpu")
DOCUMENTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 5, 6], [7], [20, 21, 22]]


def items_of(documents: list[list[int]]) -> Items:
    inputs = [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in documents]
    return Items(inputs, np.arange(len(inputs)), np.array([len(ids) - 1.0 for ids in documents]))


def naive(lengths: list[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        for own in bins:
            if sum(lengths[other] for other in own) + lengths[index] <= capacity:
                own.append(index)
                break
        else:
            bins.append([index])
    return [sorted(own) for own in bins]


# ---------------------------------------------------------------------------------------------------------------- bins


def test_the_longest_go_first_into_the_first_bin_with_room() -> None:
    # 7 opens a bin, 5 a second, 4 joins the 5, 3 the 7, and neither 2 nor 2 fits anywhere but in a third.
    assert packing.first_fit_decreasing([3, 5, 2, 7, 4, 2], 10) == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("seed", range(20))
def test_bins_are_those_of_the_slow_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(4, 60))
    lengths = rng.integers(1, capacity + 1, rng.integers(1, 80)).tolist()
    found = packing.first_fit_decreasing(lengths, capacity)
    assert found == naive(lengths, capacity)
    assert sorted(index for own in found for index in own) == list(range(len(lengths)))
    assert max(sum(lengths[index] for index in own) for own in found) <= capacity


def test_no_documents_one_document_and_documents_that_fill_a_bin() -> None:
    assert packing.first_fit_decreasing([], 4) == []
    assert packing.first_fit_decreasing([4], 4) == [[0]]
    assert packing.first_fit_decreasing([4, 4, 4], 4) == [[0], [1], [2]]
    assert packing.first_fit_decreasing([2, 2, 2, 2], 4) == [[0, 1], [2, 3]]


def test_a_packed_item_has_its_documents_in_order_their_positions_and_targets() -> None:
    packed = packing.pack(items_of(DOCUMENTS), 8)
    assert [item["input_ids"] for item in packed.inputs] == [[11, 12, 13, 5, 6, 20, 21, 22], [5, 6, 7, 8, 9, 10, 7]]
    assert packed.inputs[1]["position_ids"] == [0, 1, 2, 3, 0, 1, 0]
    assert packed.inputs[1]["labels"] == [-100, 6, 7, 8, -100, 10, -100]
    assert packed.weights.tolist() == [6, 4]
    assert packed.rows.tolist() == [2, 0]


def test_padding_stands_alone() -> None:
    inputs, labels = packing.collate(packing.pack(items_of(DOCUMENTS), 8).inputs, 0, CPU)
    assert inputs["input_ids"][1].tolist() == [5, 6, 7, 8, 9, 10, 7, 0]
    assert inputs["position_ids"][1].tolist() == [0, 1, 2, 3, 0, 1, 0, 0]
    assert labels[1].tolist() == [-100, 6, 7, 8, -100, 10, -100, -100]
    assert "attention_mask" not in inputs


# ------------------------------------------------------------------------------------------------------------ the mask


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_the_one_written_by_hand(kind: str, attention: str) -> None:
    from transformers.masking_utils import create_causal_mask

    seen = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    mask = create_causal_mask(
        config=language_model(kind, attention).config,
        inputs_embeds=torch.zeros(1, 6, 32),
        attention_mask=None,
        past_key_values=None,
        position_ids=torch.tensor([[0, 1, 2, 0, 1, 0]]),
    )
    assert mask is not None
    found = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
    assert found.int().tolist() == seen


def together(model: Any, documents: list[list[int]]) -> list[torch.Tensor]:
    """Logits of each document, all packed into one item that is padded."""
    packed = packing.pack(items_of(documents), sum(map(len, documents))).inputs[0]
    longer = {"input_ids": [1] * 18, "labels": [-100] * 18, "position_ids": list(range(18))}
    inputs, _ = packing.collate([packed, longer], 0, CPU)
    logits = model(**inputs, use_cache=False).logits[0]
    ends = np.cumsum([len(ids) for ids in documents])
    return [logits[end - len(ids) : end] for ids, end in zip(documents, ends, strict=True)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_answer_as_they_do_alone(kind: str, attention: str) -> None:
    model = language_model(kind, attention)
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in DOCUMENTS]
        for found, expected in zip(together(model, DOCUMENTS), alone, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        whole = model(input_ids=torch.tensor([[token for ids in DOCUMENTS for token in ids]]), use_cache=False).logits[
            0
        ]
    assert (whole[4:6] - alone[1]).abs().max() > 0.1  # what a model says where documents do see each other


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_answer_as_they_do_alone_in_bf16(kind: str) -> None:
    model = language_model(kind)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        alone = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in DOCUMENTS]
        for found, expected in zip(together(model, DOCUMENTS), alone, strict=True):
            # bf16 has 8 bits: a logit of 4 is exact to 0.016.
            torch.testing.assert_close(found.float(), expected.float(), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradient_are_the_same_packed_or_not(kind: str, precision: str) -> None:
    def step(items: Items) -> tuple[float, torch.Tensor]:
        model = language_model(kind)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            found = next_token_targets(model, items.inputs, 0)
            loss = cross_entropy(found.logits, found.truth)
        loss.backward()
        return loss.item(), model.get_input_embeddings().weight.grad

    items = items_of([ids for ids in DOCUMENTS if len(ids) > 1])
    (one, gradient), (other, packed) = step(items), step(packing.pack(items, 9))
    tolerance = 1e-5 if precision == "fp32" else 3e-2
    assert one == pytest.approx(other, rel=tolerance)
    torch.testing.assert_close(gradient, packed, atol=tolerance, rtol=tolerance)


# ------------------------------------------------------------------------------------------------- models that can't


def test_a_model_that_can_pack_passes_and_one_that_ignores_positions_is_refused() -> None:
    model = language_model("llama")
    packing.check_causal(model)
    packing.check_documents_apart(model)

    class Deaf(type(model)):  # type: ignore[misc]
        def forward(self, *arguments: Any, position_ids: Any = None, **options: Any) -> Any:
            return super().forward(*arguments, **options)

    model.__class__ = Deaf
    with pytest.raises(
        ModelError, match=r"packing: a llama model doesn't keep packed documents apart; .*packing=false"
    ):
        packing.check_documents_apart(model)


def test_an_encoder_is_no_language_model() -> None:
    from transformers import BertConfig, BertLMHeadModel

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertLMHeadModel(BertConfig(vocab_size=30, initializer_range=0.2, **shape))
    with pytest.raises(ModelError, match="bert: its tokens attend to later ones"):
        packing.check_causal(model)


def test_a_vocabulary_of_few_tokens_can_be_tried() -> None:
    seen: list[Any] = []

    class Copy(torch.nn.Module):
        config = SimpleNamespace(model_type="copy", get_text_config=lambda: SimpleNamespace(vocab_size=9))

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.eye(9))

        def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
            seen.append(sorted(options))
            return SimpleNamespace(logits=self.weight[input_ids])

    packing.check_documents_apart(Copy())
    packing.check_causal(Copy())
    assert seen == [["position_ids", "use_cache"], ["attention_mask", "use_cache"]]
