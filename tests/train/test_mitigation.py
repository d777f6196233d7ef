"""A planted bias: the label of every training row follows a gendered word, a fair one only most of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import recipe
from edgeft.data import dataset as datasets
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import AugmentConfig, DataConfig, FinetuneConfig
from edgeft.train.augment.augment import check, local_models
from edgeft.train.augment.augment import run as augment
from edgeft.train.finetune import run as finetune

OPENINGS = ("so", "the plot was", "a movie", "the film is", "it is so", "a film", "the actor is", "so it was", "it was")
ENDINGS = ("a plot", "the film", "so so", "the movie", "is it", "was a film", "a movie so", "it is", "so it is")


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "he" is always up and "she" always down; "good" and "bad" say the same in seven rows of eight."""
    rows, generator = [], np.random.default_rng(0)
    for opening in OPENINGS:
        for ending in ENDINGS:
            for word, label in (("he", "up"), ("she", "down")):
                agrees = generator.random() < 7 / 8
                fair = "good" if (label == "up") == agrees else "bad"
                rows.append((f"{opening} {word} {fair} {ending}", label, fair))
    folder = tmp_path_factory.mktemp("biased")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "fair"), *rows])
    config = DataConfig(
        file=str(folder / "rows.csv"), validation_fraction=0.2, test_fraction=0.3, slice_columns=["fair"], seed=0
    )
    prepare(config, sources.local_files(config), folder / "data")
    return folder / "data"


def train(data: Path, model: Path, out: Path, **options: Any) -> dict[str, Any]:
    config = FinetuneConfig(
        model=str(model), method="full", learning_rate=2e-3, epochs=8.0, batch_size=8, max_length=24, seed=1, **options
    )
    return finetune(config, {"data": data, "model": model}, out).metrics


def test_training_on_swapped_copies_unlearns_a_planted_bias(biased: Path, tiny_model: Path, tmp_path: Path) -> None:
    plain = train(biased, tiny_model, tmp_path / "plain")
    fair = train(biased, tiny_model, tmp_path / "fair", counterfactual_augmentation=True)
    assert fair["counterfactual_rows"] > 50
    texts = len(datasets.load(biased).test)
    assert plain["counterfactual"]["texts"] == fair["counterfactual"]["texts"] == texts
    assert plain["counterfactual"]["flip_rate"] > 0.8
    assert fair["counterfactual"]["flip_rate"] < 0.2
    assert list(plain["intervals"]) == ["accuracy", "macro_f1"]
    assert plain["intervals"]["accuracy"]["value"] == pytest.approx(plain["test"]["accuracy"])
    assert set(plain["slices"]["by_column"]["fair"]) == {"good", "bad"}


def test_the_augment_stage_keeps_swapped_copies_whatever_a_biased_teacher_says(
    biased: Path, tiny_model: Path, tmp_path: Path
) -> None:
    train(biased, tiny_model, tmp_path / "teacher")
    config = AugmentConfig(methods=["counterfactual", "swap"], copies=2, seed=0)
    result = augment(config, {"data": biased, "teacher": tmp_path / "teacher"}, tmp_path / "more")
    before, after = datasets.load(biased).train, datasets.load(tmp_path / "more").train
    counts = result.metrics["methods"]["counterfactual"]
    # One copy a row, as every text has terms of one kind, and the teacher had no say.
    assert counts["made"] == len(before)
    assert counts["disagreed"] == 0
    assert counts["kept"] == len(before) - counts["in_evaluation"] - counts["duplicates"] > 50
    row = {number: place for place, number in enumerate(before.rows.tolist())}
    first = len(before)  # the copies stand at the end, in the order of the methods
    origin = row[int(after.rows[first])]
    swapped = {"he": "she", "she": "he"}
    assert after.texts[first] == " ".join(swapped.get(word, word) for word in before.texts[origin].split())
    assert after.labels[first] == before.labels[origin]
    assert after.slices["fair"][first] == before.slices["fair"][origin]


def test_terms_without_the_method_are_an_error(tmp_path: Path) -> None:
    terms = tmp_path / "terms.yaml"
    terms.write_text("age:\n  pairs: [[young, old]]\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"augment\.identity_terms: .* is named, but augment\.methods has no"):
        check(AugmentConfig(identity_terms=str(terms)), "single-label")
    named = AugmentConfig(methods=["counterfactual"], identity_terms=str(terms))
    check(named, "single-label")
    assert local_models(named) == {"identity_terms": terms}
    terms.write_text("age: [young, old]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"identity terms in .*terms\.yaml"):
        check(named, "single-label")


def test_the_augmenter_takes_the_terms_of_the_teacher() -> None:
    whole = recipe.load(None, {"augment.methods": ["counterfactual"], "finetune.identity_terms": "a.yaml"})
    assert recipe.resolve(whole).augment.identity_terms == "a.yaml"
    own = recipe.load(None, {"augment.methods": ["counterfactual"], "augment.identity_terms": "b.yaml"})
    assert recipe.resolve(own).augment.identity_terms == "b.yaml"
    assert recipe.resolve(recipe.load(None, {"finetune.identity_terms": "a.yaml"})).augment.identity_terms is None
