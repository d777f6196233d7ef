"""The stage: which rows are added, why others are dropped, and that nothing else in the dataset moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_generators import SENTENCES, tiny_marian, tiny_masked

from edgeft.cleaning import Cleaning
from edgeft.data import dataset as datasets
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.errors import ModelError, RecipeError
from edgeft.models import devices, model_folder
from edgeft.recipe import AugmentConfig
from edgeft.stage_folder import digest
from edgeft.train import generate
from edgeft.train.augment import translate
from edgeft.train.augment.augment import check, local_models
from edgeft.train.augment.augment import run as augment
from edgeft.train.loop.batches import encode
from edgeft.train.tasks import sequences

LABELS = ["down", "up"]
UNTOUCHED = ("validation.parquet", "test.parquet", "unlabelled.parquet")


def split(texts: Sequence[str], first: int) -> Split:
    labels = ["down" if "bad" in text or "awful" in text else "up" for text in texts]
    return split_of({"text": list(texts), "label": labels}, np.arange(first, first + len(texts)), LABELS)


def write(folder: Path, train: Sequence[str], test: Sequence[str] = ("the end",), **changes: Any) -> Path:
    made = Dataset(
        task="text-classification",
        labels=LABELS,
        train=split(train, 10),
        validation=split(["so it was"], 1),
        test=split(test, 2),
        unlabelled=["who knows"],
        source="rows.csv",
        columns={"text": "body", "label": "stars"},
    )
    datasets.save(dataclasses.replace(made, **changes), folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "data", SENTENCES)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Random weights that call about half of the sentences up, and its labels in another order than the rows'."""
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    devices.seed_everything(3)
    model = model_folder.load_classifier(tiny_model, ["up", "down"])
    tokenizer = model_folder.load_tokenizer(tiny_model)
    logits = sequences.predict_encoded(model, encode(tokenizer, SENTENCES, 16), tokenizer.pad_token_id)
    with torch.no_grad():
        model.classifier.bias -= torch.from_numpy(np.median(logits, axis=0))
    model_folder.save(model, tokenizer, folder, 16)
    return folder


def new_rows(folder: Path, before: Path) -> list[tuple[str, str, int]]:
    after, originals = datasets.load(folder).train, datasets.load(before).train
    count = len(originals)
    assert after.texts[:count] == originals.texts
    assert after.rows[:count].tolist() == originals.rows.tolist()
    names = [LABELS[label] for label in after.labels[count:]]
    return list(zip(after.texts[count:], names, after.rows[count:].tolist(), strict=True))


def test_new_rows_follow_the_original_ones_and_all_else_stays(data: Path, tmp_path: Path) -> None:
    config = AugmentConfig(seed=1, copies=2)
    result = augment(config, {"data": data}, tmp_path / "out")
    rows = new_rows(tmp_path / "out", data)
    originals = datasets.load(data).train
    for text, label, row in rows:
        origin = originals.texts[row - 10]
        assert set(text.split()) <= set(origin.split())
        assert label == originals.columns["label"][row - 10]
    for name in UNTOUCHED:
        assert (tmp_path / "out" / name).read_bytes() == (data / name).read_bytes()
    before, after = datasets.load(data), datasets.load(tmp_path / "out")
    same = ("task", "labels", "kind", "source", "columns", "cleaning", "class_weights", "unlabelled")
    assert all(getattr(before, name) == getattr(after, name) for name in same)
    assert result.metrics["train_rows"] == {"before": len(SENTENCES), "after": len(SENTENCES) + len(rows)}
    counts = result.metrics["methods"]
    assert list(counts) == ["swap", "deletion"]
    assert sum(method["kept"] for method in counts.values()) == len(rows)
    for method in counts.values():
        assert method.pop("made") == 2 * len(SENTENCES) == sum(method.values())
        assert method["disagreed"] == 0


def test_the_same_inputs_give_the_same_bytes_and_another_seed_other_rows(data: Path, tmp_path: Path) -> None:
    runs = [
        augment(AugmentConfig(seed=seed), {"data": data}, tmp_path / name)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert runs[0].digest == runs[1].digest != runs[2].digest


def test_what_becomes_of_a_row_depends_on_its_content_alone(data: Path, tmp_path: Path) -> None:
    turned = write(tmp_path / "turned", SENTENCES[::-1])
    config = AugmentConfig(seed=1, methods=["deletion"], max_rows=40)
    new = []
    for name, folder in (("one", data), ("two", turned)):
        assert augment(config, {"data": folder}, tmp_path / name).metrics["augmented_rows"] == 40
        new.append({(text, label) for text, label, _ in new_rows(tmp_path / name, folder)})
    assert new[0] == new[1]


def test_what_is_no_new_row_is_dropped_and_counted(tmp_path: Path) -> None:
    train = ["Good film", "word", "bad plot", "plot  BAD", "one two", "big world"]
    data = write(tmp_path / "data", train, test=["film good", "plot"], validation=split(["World  big"], 1))
    config = AugmentConfig(seed=0, methods=["swap"])
    result = augment(config, {"data": data}, tmp_path / "out")
    assert result.metrics["methods"]["swap"] == {
        **{"made": 6, "unchanged": 1, "in_evaluation": 2, "duplicates": 2, "disagreed": 0, "kept": 1}
    }
    assert new_rows(tmp_path / "out", data) == [("two one", "up", 14)]


def test_only_rows_that_the_teacher_takes_like_their_original_are_kept(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    config = AugmentConfig(seed=1, batch_size=7)
    free = augment(config, {"data": data}, tmp_path / "free").metrics["methods"]
    judged = augment(config, {"data": data, "teacher": teacher}, tmp_path / "judged").metrics
    answer = model_folder.pipeline(teacher, model_folder.Head("AutoModelForSequenceClassification"))
    assert answer is not None
    train = datasets.load(data).train
    originals = dict(zip(train.rows.tolist(), train.texts, strict=True))

    def label(text: str) -> str:
        return str(answer(text)[0]["label"])  # type: ignore[index]

    expected = [row for row in new_rows(tmp_path / "free", data) if label(row[0]) == label(originals[row[2]])]
    assert new_rows(tmp_path / "judged", data) == expected
    assert 0 < len(expected) < sum(method["kept"] for method in free.values())
    assert judged["teacher"] is True
    for method, counts in judged["methods"].items():
        assert counts["kept"] + counts["disagreed"] == free[method]["kept"]


def test_a_new_text_is_cleaned_like_the_others(tmp_path: Path) -> None:
    data = write(tmp_path / "data", ["Some Words", "more WORDS"], cleaning=Cleaning(steps=["lowercase"]))
    augment(AugmentConfig(seed=0, methods=["swap"]), {"data": data}, tmp_path / "out")
    assert [text for text, _, _ in new_rows(tmp_path / "out", data)] == ["words some", "words more"]


def test_without_a_look_of_the_teacher_it_says_so(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    augment(AugmentConfig(seed=1, max_rows=2), {"data": data}, tmp_path / "none")
    assert "the labels of new rows are not checked (no teacher was given)" in capsys.readouterr().err
    config = AugmentConfig(seed=1, max_rows=2, teacher_agrees=False)
    augment(config, {"data": data, "teacher": teacher}, tmp_path / "off")
    assert "(augment.teacher_agrees is off)" in capsys.readouterr().err
    assert digest(tmp_path / "none") == digest(tmp_path / "off")


def test_a_teacher_of_other_labels_is_refused(teacher: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data", ["a b"], labels=["bad", *LABELS])
    with pytest.raises(ModelError, match=r"labels of the rows, bad, down, up; it has down, up"):
        augment(AugmentConfig(seed=0), {"data": data, "teacher": teacher}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_methods_together_with_models(data: Path, teacher: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    config = AugmentConfig(
        methods=["back_translation", "masked_lm", "swap", "deletion"],
        copies=2,
        max_rows=10,
        masked_model=str(tiny_masked(tmp_path / "masked", tiny_tokenizer)),
        translate_to=str(tiny_marian(tmp_path / "there")),
        translate_back=str(tiny_marian(tmp_path / "back", seed=1)),
        teacher_agrees=False,
        seed=0,
    )
    inputs = {"data": data, **local_models(config)}
    assert set(inputs) == {"data", "masked_model", "translate_to", "translate_back"}
    result = augment(config, inputs, tmp_path / "out")
    assert {method: counts["made"] for method, counts in result.metrics["methods"].items()} == dict.fromkeys(
        config.methods or (), 20
    )
    assert result.metrics["methods"]["masked_lm"]["kept"] > 10
    assert result.metrics["methods"]["back_translation"]["kept"] > 10
    assert augment(config, inputs, tmp_path / "again").digest == result.digest
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_kill_costs_the_last_batch_and_ends_in_the_same_bytes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentencepiece")
    forth, back = str(tiny_marian(tmp_path / "there")), str(tiny_marian(tmp_path / "back", seed=1))
    config = AugmentConfig(
        methods=["back_translation"], max_rows=12, batch_size=2, seed=0, translate_to=forth, translate_back=back
    )
    inputs = {"data": data, **local_models(config)}
    uninterrupted = augment(config, inputs, tmp_path / "whole")
    batches: list[list[str]] = []
    real = translate.translate

    def dying(model: Any, tokenizer: Any, texts: list[str], *rest: Any) -> list[str]:
        batches.append(texts)
        if len(batches) == 9:
            raise KeyboardInterrupt
        return real(model, tokenizer, texts, *rest)

    monkeypatch.setattr(translate, "translate", dying)
    with pytest.raises(KeyboardInterrupt):
        augment(config, inputs, tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoints" / generate.NAME).exists()
    assert augment(config, inputs, tmp_path / "killed").digest == uninterrupted.digest
    assert len(batches) == 12 + 1
    assert batches[8] == batches[9]


def test_a_run_remembers_for_another_setting(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentencepiece")
    forth, back = str(tiny_marian(tmp_path / "there")), str(tiny_marian(tmp_path / "back", seed=1))
    options: dict[str, Any] = {"methods": ["back_translation"], "max_rows": 4, "seed": 0}
    options |= {"translate_to": forth, "translate_back": back}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    first = AugmentConfig(**options)
    augment(first, {"data": data, **local_models(first)}, tmp_path / "run" / "augment")
    generated: list[str] = []
    real = translate.translate

    def note(model: Any, tokenizer: Any, texts: list[str], *rest: Any) -> Any:
        generated.extend(texts)
        return real(model, tokenizer, texts, *rest)

    monkeypatch.setattr(translate, "translate", note)
    second = AugmentConfig(copies=2, **options)
    augment(second, {"data": data, **local_models(second)}, tmp_path / "run" / "augment")
    assert len(generated) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": []}, "augment.methods: the list is empty"),
        ({"methods": ["masked_lm"]}, "augment.masked_model: no model for masked_lm"),
        (
            {"methods": ["back_translation"], "translate_to": "a/b"},
            "augment.translate_back: no model for back_translation",
        ),
        ({"masked_model": "a/b"}, "augment.masked_model: a/b is named, but augment.methods has no masked_lm"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options: dict[str, Any], words: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        augment(AugmentConfig(seed=0, **options), {"data": data}, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_rows_of_another_form_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"augment: multi-label rows can't be augmented yet \(single-label rows can\)"
    ):
        check(AugmentConfig(), "multi-label")
