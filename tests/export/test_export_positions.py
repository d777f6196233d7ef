"""Positions that nothing reads go, and answers stay what they were."""

from __future__ import annotations

import copy

import pytest
import torch
from support_graphs import classifier, token_ids

from edgeft.export.capture.positions import trim

ROWS = {"bert": 20, "distilbert": 20, "electra": 20, "roberta": 21}  # RoBERTa counts from the token after padding


@pytest.mark.parametrize("kind", ROWS)
def test_answers_stay_up_to_the_longest_input(kind: str) -> None:
    model = classifier(kind)
    shorter = copy.deepcopy(model)
    trim(shorter, 20)
    (ids,) = token_ids([20])
    with torch.inference_mode():
        wanted, found = (one(input_ids=torch.tensor([ids])).logits for one in (model, shorter))
        assert torch.equal(wanted, found)
        with pytest.raises((IndexError, RuntimeError)):
            shorter(input_ids=torch.tensor([ids + ids[:4]]))
    table = shorter.base_model.embeddings.position_embeddings
    assert len(table.weight) == table.num_embeddings == ROWS[kind] == shorter.config.max_position_embeddings


@pytest.mark.parametrize(("kind", "tokens"), [("bert", 64), ("bert", 500), ("llama", 20)])
def test_what_is_read_or_computed_stays(kind: str, tokens: int) -> None:
    model = copy.deepcopy(classifier(kind))
    before = {name: value.shape for name, value in model.state_dict().items()}
    trim(model, tokens)
    assert {name: value.shape for name, value in model.state_dict().items()} == before
