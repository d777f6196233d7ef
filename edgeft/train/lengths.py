"""The facts that unset options depend on, measured on the rows: how many there are, and how long their texts are."""

from __future__ import annotations

from typing import Any

from edgeft.data.cited import sample
from edgeft.data.dataset import Dataset
from edgeft.data.profile.lengths import CHUNK, SAMPLED
from edgeft.models.model_facts import Facts
from edgeft.recipe import FinetuneConfig
from edgeft.train.defaults import Workload
from edgeft.train.tasks import task_class


def measure_workload(config: FinetuneConfig, dataset: Dataset, tokenizer: Any, facts: Facts) -> Workload:
    """Measure the facts that unset options depend on.

    Args:
        config: tokens are counted only if max_length is unset, with packing, or if texts become several items.
        dataset: whose training rows count.
        tokenizer: of the model.
        facts: of the model.
    """
    several_items = task_class(dataset.kind).long_texts_become_items
    counted = config.max_length is None or config.packing or several_items
    return Workload(
        task=dataset.task,
        rows=len(dataset.train),
        tokens=token_lengths(dataset, tokenizer) if counted else [],
        positions=facts.positions,
        width=facts.width,
        cut=not several_items,
    )


def token_lengths(dataset: Dataset, tokenizer: Any) -> list[int]:
    """Token counts of the training texts, or of a sample of many; of pairs, those of sources and targets."""
    sides = task_class(dataset.kind).measured_texts(dataset.train.columns, tokenizer)
    texts = [side[index] for side in sides for index in sample(side, SAMPLED)]
    lengths: list[int] = []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(texts[start : start + CHUNK], return_attention_mask=False, verbose=False)
        lengths += map(len, encoded["input_ids"])
    return lengths
