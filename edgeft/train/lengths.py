"""What a fine-tuning is about, measured on its rows: how many there are, and how long their texts."""

from __future__ import annotations

from typing import Any

from edgeft.data.cited import sample
from edgeft.data.dataset import Dataset
from edgeft.data.profile.lengths import CHUNK, SAMPLED
from edgeft.models.model_folder import Facts
from edgeft.recipe import FinetuneConfig
from edgeft.train.defaults import Setting
from edgeft.train.tasks import class_of


def setting(config: FinetuneConfig, dataset: Dataset, tokenizer: Any, facts: Facts) -> Setting:
    """What unset options are decided by.

    Args:
        config: lengths are counted only where it leaves max_length open, or packs, or texts become several items.
        dataset: whose training rows count.
        tokenizer: of the model.
        facts: of the model.
    """
    several_items = class_of(dataset.kind).long_texts_become_items
    counted = config.max_length is None or config.packing or several_items
    return Setting(
        task=dataset.task,
        rows=len(dataset.train),
        tokens=token_lengths(dataset, tokenizer) if counted else [],
        positions=facts.positions,
        width=facts.width,
        cut=not several_items,
    )


def token_lengths(dataset: Dataset, tokenizer: Any) -> list[int]:
    """Tokens of the training texts (of some, where they are many); of pairs, of their sources and their targets."""
    sides = class_of(dataset.kind).measured_texts(dataset.train.columns, tokenizer)
    texts = [side[place] for side in sides for place in sample(side, SAMPLED)]
    found: list[int] = []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(texts[start : start + CHUNK], return_attention_mask=False, verbose=False)
        found += map(len, encoded["input_ids"])
    return found
