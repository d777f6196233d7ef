"""Several labels a text, and a number a text: losses by hand, every method, units of the targets."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import killed_finetune, up_and_down
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.data.dataset import load as load_dataset
from edgeft.data.prepare import run as prepare
from edgeft.errors import RecipeError
from edgeft.models import model_folder
from edgeft.recipe import DataConfig, FinetuneConfig
from edgeft.train import tasks
from edgeft.train.evaluate import read_predictions
from edgeft.train.finetune import run as finetune
from edgeft.train.tasks.generation import PlainText
from edgeft.train.tasks.pairs import Pairs
from edgeft.train.tasks.sequences import MultiLabel, Regression

METHODS = ("full", "head", "lora", "dora", "rslora", "qlora", "ia3")
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 16, "max_length": 16, "seed": 1, "early_stopping_patience": 0}
# How a method trains doesn't depend on what a label is; the head and the loss do.
PAIRS = [*((method, "several") for method in METHODS), ("full", "numbers"), ("head", "numbers"), ("qlora", "numbers")]
RATES = {"full": 2e-3, "head": 1e-2, "rslora": 1e-3, "ia3": 2e-2}
WORDS = {"good": 8.0, "great": 9.0, "fine": 7.0, "bad": 3.0, "awful": 1.0, "poor": 2.0}


def prepared(folder: Path, rows: list[dict[str, Any]], **config: Any) -> Path:
    """A data folder of rows."""
    import json

    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chosen = DataConfig(file=str(file), validation_fraction=0.25, test_fraction=0.25, seed=0, **config)
    prepare(chosen, {"file": file}, folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A label for the verdict, one for `film`, and rows without any."""
    rows = [
        {
            "text": text,
            "label": [name for name in (label, "film" if "the film" in text else "") if name != "down" and name],
        }
        for text, label in up_and_down()
    ]
    return prepared(tmp_path_factory.mktemp("several"), rows, task="text-classification", multi_label=True)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A number from 100 to 900 that a single word tells."""
    rows = [
        {"text": text, "target": 100 * next(value for word, value in WORDS.items() if word in text.split())}
        for text, _ in up_and_down()
    ]
    return prepared(tmp_path_factory.mktemp("numbers"), rows, task="text-regression")


def settings(method: Any, model: Path, **others: Any) -> FinetuneConfig:
    return FinetuneConfig(model=str(model), method=method, learning_rate=RATES.get(method, 4e-3), **{**QUICK, **others})


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: str,
    kind: str,
    tiny_model: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data: Path = request.getfixturevalue(kind)
    config = settings(method, tiny_model, checkpoint_steps=3)
    inputs = {"data": data, "model": tiny_model}
    result = finetune(config, inputs, tmp_path / "out")
    if method not in ("full", "head"):
        assert result.metrics["merge_difference"] <= 1e-4

    plain, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert plain.config.problem_type == {"several": "multi_label_classification", "numbers": "regression"}[kind]
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(
        load_dataset(data).test.texts, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        answered = plain(**tokens).logits.numpy()
    np.testing.assert_allclose(answered, read_predictions(tmp_path / "out", "test"), rtol=1e-4, atol=1e-4)

    killed_finetune(config, inputs, tmp_path / "killed", monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == result.digest


def test_several_labels_are_learnt(several: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = finetune(
        settings("full", tiny_model, epochs=14.0), {"data": several, "model": tiny_model}, tmp_path / "out"
    )
    test = result.metrics["test"]
    assert test["micro_f1"] >= 0.9
    assert {"f1_film", "f1_up", "subset_accuracy", "macro_f1", "nll"} <= test.keys()


def test_a_number_is_learnt_in_its_own_unit_and_learnt_further(numbers: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = finetune(
        settings("full", tiny_model, epochs=14.0), {"data": numbers, "model": tiny_model}, tmp_path / "out"
    )
    assert result.metrics["test"]["pearson"] >= 0.9
    assert result.metrics["test"]["mae"] < 150
    assert 300 < read_predictions(tmp_path / "out", "test").mean() < 700
    # An epoch that changes nothing: the second training starts from what the first one says.
    again = FinetuneConfig(model=str(tmp_path / "out"), method="full", **QUICK, learning_rate=1e-12)
    second = finetune(again, {"data": numbers, "model": tmp_path / "out"}, tmp_path / "again")
    assert second.metrics["test"]["mae"] == pytest.approx(result.metrics["test"]["mae"], rel=1e-3)


def test_label_smoothing_is_refused(several: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = settings("full", tiny_model, label_smoothing=0.1)
    with pytest.raises(RecipeError, match=r"^finetune.label_smoothing: has no effect for multi-label rows"):
        finetune(config, {"data": several, "model": tiny_model}, tmp_path / "out")


# ----------------------------------------------------------------------------------------------------------- by hand


def dataset(task: str, kind: str, columns: dict[str, list[Any]], labels: list[str]) -> Dataset:
    split = split_of(columns, np.arange(len(columns["text"])), labels)
    return Dataset(task, labels, split, split, split, [], kind=kind)


def test_the_loss_of_several_labels_by_hand() -> None:
    """Logits (0, ln 3) and labels (1, 0): (ln 2 + ln 4) / 2."""
    made = dataset("text-classification", "multi-label", {"text": ["x"], "labels": [["a"]]}, ["a", "b"])
    task = tasks.create_task(made, None, 8, FinetuneConfig())
    loss = task.loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]]))  # type: ignore[attr-defined]
    assert loss.tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2])


def test_a_rare_label_of_several_weighs_more() -> None:
    """Logits (0, ln 3), labels (1, 1), weights 3 and 2: (3 ln 2 + 2 ln(4/3)) / 2; a label that isn't there keeps 1."""
    made = dataset("text-classification", "multi-label", {"text": ["x"], "labels": [["a"]]}, ["a", "b"])
    task = MultiLabel(replace(made, class_weights=[3.0, 2.0]), None, 8, FinetuneConfig())
    logits = torch.tensor([[0.0, math.log(3)]])
    assert task.loss(logits, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(
        (3 * math.log(2) + 2 * math.log(4 / 3)) / 2
    )
    assert task.loss(logits, torch.tensor([[0.0, 0.0]])).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_figures_and_answers_of_several_labels_by_hand() -> None:
    made = dataset("text-classification", "multi-label", {"text": ["x", "y"], "labels": [["a"], []]}, ["a", "b"])
    task = MultiLabel(made, None, 8, FinetuneConfig())
    logits = np.array([[1.0, 2.0], [-1.0, 0.0]], dtype=np.float32)  # (a, b) and (b): one of three given is right
    found = task.figures(logits, made.test)
    assert (found["micro_f1"], found["subset_accuracy"]) == (0.5, 0.0)
    assert (found["f1_a"], found["f1_b"]) == (1.0, 0.0)
    assert found["nll"] == pytest.approx(np.mean([math.log(1 + math.exp(z)) for z in (-1, 2, -1, 0)]))
    measured: Any = task.measures(logits, made.test)["micro_f1"]
    assert [measured(np.array(rows)) for rows in ([0, 1], [0], [1])] == [0.5, pytest.approx(2 / 3), 0.0]
    assert list(task.answers(logits)) == [(0, 1), (1,)]


def test_a_number_in_standard_deviations_by_hand() -> None:
    """Targets 10 and 30: mean 20, deviation 10; logit 0.5 against 30 is half of (0.5 - 1) squared."""
    made = dataset("text-regression", "regression", {"text": ["x", "y"], "target": [10.0, 30.0]}, [])
    task = Regression(made, None, 8, FinetuneConfig())
    assert (task.mean, task.deviation) == (20.0, 10.0)
    assert task.loss(torch.tensor([[0.5]]), torch.tensor([30.0])).tolist() == pytest.approx([0.125])
    assert list(task.answers(np.array([[25.0], [20.04]], dtype=np.float32))) == [0.5, 0.0]


def test_equal_targets_and_equal_answers_are_no_error() -> None:
    made = dataset("text-regression", "regression", {"text": ["x", "y"], "target": [5.0, 5.0]}, [])
    task = Regression(made, None, 8, FinetuneConfig())
    assert task.deviation == 1.0
    assert task.figures(np.array([[5.0], [5.0]], dtype=np.float32), made.test)["pearson"] == 0.0


def test_a_head_without_bias_learns_around_zero(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """A Llama-shaped classifier's head has none: 10 and 30 are learnt in root mean squares."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tiny_tokenizer), num_labels=1, pad_token_id=0, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    made = dataset("text-regression", "regression", {"text": ["good film", "bad"], "target": [10.0, 30.0]}, [])
    task = Regression(made, tiny_tokenizer, 8, FinetuneConfig())
    model = model_folder.load(tmp_path, task.head([]))
    items = task.items(made.test)
    before = task.predict(model, items)
    task.prepare(model)
    assert task.mean == 0.0
    assert task.deviation == pytest.approx(math.sqrt(500))
    np.testing.assert_allclose(task.predict(model, items), before, rtol=1e-5)
    task.finish(model)
    np.testing.assert_allclose(task.predict(model, items), before, rtol=1e-5)


def test_a_split_of_some_rows() -> None:
    split: Split = dataset("text-regression", "regression", {"text": ["x", "y"], "target": [1.0, 2.0]}, []).test
    taken = split.take([1])
    assert (taken.texts, taken.labels.tolist(), taken.rows.tolist()) == (["y"], [2.0], [1])


def test_points_of_the_leading_figure() -> None:
    """Shares are in points of a hundred, chrF already is, a perplexity loses percent of itself."""
    assert Regression.gain_in_points(0.5, 0.49) == pytest.approx(-1.0)
    assert PlainText.gain_in_points(-20.0, -20.2) == pytest.approx(-1.0)
    assert Pairs.gain_in_points(45.0, 44.5) == pytest.approx(-0.5)
