"""Batches: every row once, of similar length or not, the same again from the same seed."""

from __future__ import annotations

import pytest
import torch

from edgeft.recipe import TrainingConfig
from edgeft.train.loop.batches import collate, epoch_batches
from edgeft.train.loop.loop import batches_by_step, plan

LENGTHS = [row % 17 + 1 for row in range(203)]


@pytest.mark.parametrize("grouped", [True, False])
def test_each_row_is_in_one_batch_and_epochs_differ(grouped: bool) -> None:
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0, length_grouped=grouped)
    assert sorted(row for batch in batches for row in batch) == list(range(203))
    assert sorted(map(len, batches)) == [3, *[8] * 25]
    assert batches == epoch_batches(LENGTHS, 8, seed=0, epoch=0, length_grouped=grouped)
    assert batches != epoch_batches(LENGTHS, 8, seed=0, epoch=1, length_grouped=grouped)
    assert batches != epoch_batches(LENGTHS, 8, seed=1, epoch=0, length_grouped=grouped)


def spread(batches: list[list[int]]) -> float:
    """Mean difference between the longest and the shortest row of a batch, in tokens."""
    gaps = [max(LENGTHS[row] for row in batch) - min(LENGTHS[row] for row in batch) for batch in batches]
    return sum(gaps) / len(gaps)


def test_grouped_batches_are_of_similar_length_and_plain_ones_are_not() -> None:
    assert max(len({LENGTHS[row] for row in batch}) for batch in epoch_batches(LENGTHS, 8, 0, 0)) <= 3
    assert spread(epoch_batches(LENGTHS, 8, 0, 0)) <= 2
    assert spread(epoch_batches(LENGTHS, 8, 0, 0, length_grouped=False)) > 8


def test_plain_batches_are_the_shuffle_cut_into_pieces() -> None:
    """They don't look at the lengths at all."""
    same = epoch_batches([1] * 203, 8, 0, 0, length_grouped=False)
    assert epoch_batches(LENGTHS, 8, 0, 0, length_grouped=False) == same
    assert [len(batch) for batch in same] == [*[8] * 25, 3]


def test_the_config_says_which_batches_a_step_has() -> None:
    for grouped in (True, False):
        config = TrainingConfig(epochs=1, batch_size=8, length_grouped=grouped)
        groups = list(batches_by_step(config, LENGTHS, 5, 0, plan(config, len(LENGTHS))))
        assert [batch for group in groups for batch in group] == epoch_batches(LENGTHS, 8, 5, 0, grouped)


def test_collate_pads_on_the_right() -> None:
    batch = collate([[5, 6, 7], [8]], pad_token_id=9, device=torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
