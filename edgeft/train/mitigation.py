"""Copies of the teacher's rows with identity terms swapped, so that it unlearns them (Zhao et al. 2018)."""

from __future__ import annotations

import dataclasses

from edgeft.data.dataset import Dataset
from edgeft.errors import RecipeError
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig
from edgeft.train import swapped
from edgeft.train.augment import augment, row_filter


def check(config: FinetuneConfig, kind: str) -> None:
    """Whether the options about identity terms fit the rows, before anything runs.

    Raises:
        RecipeError: rows of this form can't be swapped.
        DataError: a file of terms that can't be used.
    """
    if config.counterfactual_augmentation:
        swapped.check("finetune", "counterfactual_augmentation", kind)
    if config.identity_terms is not None:
        swapped.check("finetune", "identity_terms", kind)
        swapped.terms_of(config.identity_terms)


def with_copies(dataset: Dataset, config: FinetuneConfig) -> tuple[Dataset, dict[str, int]]:
    """The dataset with swapped copies of its training rows, where the config asks for them, and how many there are.

    Copies that stand in another split, or that are training rows already, are left out.

    Raises:
        RecipeError: no training row has an identity term.
    """
    if not config.counterfactual_augmentation:
        return dataset, {}
    places = range(len(dataset.train))
    made = swapped.candidates(dataset.train, places, swapped.terms_of(config.identity_terms))
    kept = [one for one, outcome in zip(made, row_filter.outcomes(made, dataset), strict=True) if outcome == "kept"]
    if not kept:
        raise RecipeError(
            f"finetune.counterfactual_augmentation: it adds nothing, as the {len(places):,} training rows give no new "
            "text with an identity term swapped; name your own finetune.identity_terms, or turn it off"
        )
    say(f"finetune: {len(kept):,} copies with identity terms swapped beside {len(places):,} training rows")
    more = dataclasses.replace(dataset, train=augment.extended(dataset.train, kept))
    return more, {"counterfactual_rows": len(kept)}
