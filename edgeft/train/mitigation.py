"""Bias mitigation: the teacher also learns copies of its rows with swapped identity terms (Zhao et al. 2018)."""

from __future__ import annotations

import dataclasses

from edgeft.data.dataset import Dataset
from edgeft.errors import RecipeError
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig
from edgeft.train import identity_swaps
from edgeft.train.augment import augment, row_filter


def check(config: FinetuneConfig, kind: str) -> None:
    """Check the options for identity terms before anything runs.

    Raises:
        RecipeError: they don't apply to rows of this form.
        DataError: the file of terms can't be used.
    """
    if config.counterfactual_augmentation:
        identity_swaps.check_form("finetune", "counterfactual_augmentation", kind)
    if config.identity_terms is not None:
        identity_swaps.check_form("finetune", "identity_terms", kind)
        identity_swaps.load_terms(config.identity_terms)


def add_swapped_copies(dataset: Dataset, config: FinetuneConfig) -> tuple[Dataset, dict[str, int]]:
    """The dataset with swapped copies of its training rows, if the config asks for them, and their number.

    Copies that are in another split, or among the training rows already, are left out.

    Raises:
        RecipeError: no training row has an identity term.
    """
    if not config.counterfactual_augmentation:
        return dataset, {}
    rows = range(len(dataset.train))
    copies = identity_swaps.swap_rows(dataset.train, rows, identity_swaps.load_terms(config.identity_terms))
    new_copies = [
        candidate
        for candidate, outcome in zip(copies, row_filter.check_texts(copies, dataset), strict=True)
        if outcome == "kept"
    ]
    if not new_copies:
        raise RecipeError(
            f"finetune.counterfactual_augmentation: has no effect, as swapping identity terms in the {len(rows):,} "
            "training rows gives no new text; set finetune.identity_terms to a file of your own, or turn it off"
        )
    say(f"finetune: {len(new_copies):,} copies with swapped identity terms added to {len(rows):,} training rows")
    more = dataclasses.replace(dataset, train=augment.add_rows(dataset.train, new_copies))
    return more, {"counterfactual_rows": len(new_copies)}
