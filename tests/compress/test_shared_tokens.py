"""Lining up a student's tokens with its teacher's."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from support_kinds import dataset_of

from edgeft.compress.distill.shared_tokens import SharedTokens, shared_tokens
from edgeft.compress.prune import vocabulary
from edgeft.recipe import DistillConfig
from edgeft.train import tasks


def lined_up(tokenizer: Any, smaller: Any, texts: list[str], lengths: tuple[int, int] = (32, 32)) -> SharedTokens:
    dataset = dataset_of("single-label")
    split = dataset.train.take([0] * len(texts))
    split = dataclasses.replace(split, columns={"text": texts})
    both = [
        tasks.create_task(dataset, one, length, DistillConfig())
        for one, length in zip((smaller, tokenizer), lengths, strict=True)
    ]
    return shared_tokens(both[0], both[0].items(split), both[1], both[1].items(split))


@pytest.fixture
def both(tiny_tokenizer: Any) -> tuple[Any, Any]:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    return tokenizer, vocabulary.cut(tokenizer, ["the film is great a plot bad so"]).tokenizer


def test_the_same_tokenizer_shares_all(tiny_tokenizer: Any) -> None:
    found = lined_up(tiny_tokenizer, copy.deepcopy(tiny_tokenizer), ["the film", "so bad", ""])
    assert (found.share, found.whole.tolist()) == (1.0, [True] * 3)
    assert found.of(0).tolist() == [0, 1, 2, 3]


def test_a_word_in_pieces_is_left_out(both: tuple[Any, Any]) -> None:
    tokenizer, smaller = both
    text = "the actor is great"
    pieces = smaller.tokenize("actor")
    assert (tokenizer.tokenize(text), len(pieces) > 1) == (["the", "actor", "is", "great"], True)
    found = lined_up(tokenizer, smaller, [text, "the film"])
    assert found.of(0).tolist() == [0, 1, *[-1] * len(pieces), 3, 4, 5]
    assert found.whole.tolist() == [False, True]


def test_a_cut_text_shares_its_beginning(tiny_tokenizer: Any) -> None:
    found = lined_up(tiny_tokenizer, copy.deepcopy(tiny_tokenizer), ["the film is great"], (4, 32))
    assert (found.of(0).tolist(), found.whole.tolist()) == ([0, 1, 2, 5], [False])


def test_a_cut_text_is_lined_up_with_its_beginning(both: tuple[Any, Any]) -> None:
    """What comes again behind the cut is another word."""
    tokenizer, smaller = both
    pieces = len(smaller.tokenize("actor"))
    found = lined_up(tokenizer, smaller, ["actor the film and the film"], (pieces + 4, 32))
    assert found.of(0).tolist()[pieces + 1 :] == [2, 3, len(tokenizer("actor the film and the film").input_ids) - 1]


def test_other_items_share_nothing(tiny_tokenizer: Any) -> None:
    dataset = dataset_of("single-label")
    task = tasks.create_task(dataset, tiny_tokenizer, 32, DistillConfig())
    items, fewer = (task.items(dataset.train.take(rows)) for rows in ([0, 1, 2], [0, 1]))
    found = shared_tokens(task, items, task, fewer)
    assert (found.share, found.whole.tolist(), len(found.of(2))) == (0.0, [False] * 3, items.lengths[2])
