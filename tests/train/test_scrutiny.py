"""The closer look at test predictions: hand-computed slices and flips, and edge cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import FinetuneConfig
from edgeft.train import identity_swaps, mitigation, scrutiny, tasks
from edgeft.train.judges.intervals import measure_lengths
from edgeft.train.tasks import TrainingTask

CONFIG = FinetuneConfig(bootstrap_resamples=200, seed=0)
TEXTS = ["he was good", "bad", "the Muslim actor", "a fine film", "éléphant 中文 she", "so"]


def dataset(
    kind: str, columns: dict[str, list[Any]], labels: list[str], slices: dict[str, list[Any]] | None = None
) -> Dataset:
    split = split_of(columns, np.arange(1, len(next(iter(columns.values()))) + 1), labels, slices=slices)
    task = "text-regression" if kind == "regression" else "text-classification"
    return Dataset(task, labels, split, split, split, [], kind=kind)


def task_of(data: Dataset) -> TrainingTask:
    return tasks.create_task(data, None, 32, CONFIG)


def logits(*guesses: int) -> np.ndarray[Any, Any]:
    return np.eye(2, dtype=np.float32)[list(guesses)]


def nobody(texts: Sequence[str]) -> Any:
    raise AssertionError(f"asked for {texts}")


@pytest.fixture
def single() -> TrainingTask:
    slices = {"country": ["fr", None, "fr", "日本", "日本", "日本"]}
    labels = ["up", "down", "up", "up", "up", "down"]
    return task_of(dataset("single-label", {"text": TEXTS, "label": labels}, ["down", "up"], slices))


def look(task: TrainingTask, predictions: Any, predict: scrutiny.Predict = nobody) -> dict[str, Any]:
    return scrutiny.analyze_predictions(task, predictions, task.dataset.test, predict, CONFIG)


def all_up(texts: Sequence[str]) -> Any:
    return logits(*[1] * len(texts))


def test_slices_of_one_label_a_row(single: TrainingTask) -> None:
    found = look(single, logits(1, 0, 0, 1, 1, 1), all_up)  # the third and the last are wrong
    values = {name: interval["value"] for name, interval in found["intervals"].items()}
    # F1 of down: 2 * 1 / (2 + 2); of up: 2 * 3 / (4 + 4).
    assert list(values.items()) == [("accuracy", pytest.approx(4 / 6)), ("macro_f1", pytest.approx((0.5 + 0.75) / 2))]
    assert found["slices"]["metric"] == "accuracy"
    column = found["slices"]["by_column"]["country"]
    assert {name: (part["rows"], part["value"]) for name, part in column.items()} == {
        "日本": (3, pytest.approx(2 / 3)),
        "fr": (2, 0.5),
        "(missing)": (1, 1.0),
    }
    assert all(part["small"] for part in column.values())
    recall = {name: part["value"] for name, part in found["slices"]["by_label"].items()}
    assert recall == {"up": 0.75, "down": 0.5}
    lengths = found["slices"]["by_length"]
    assert found["slices"]["unit"] == "words"
    assert {name: part["rows"] for name, part in lengths.items()} == {"1-1": 2, "3-3": 4}
    assert lengths["1-1"] == {"rows": 2, "value": 0.5, "low": 0.0, "high": 1.0, "small": True}


def test_a_slice_of_one_row_has_the_width_of_wilson(single: TrainingTask) -> None:
    found = look(single, logits(1, 0, 0, 1, 1, 1), all_up)
    assert found["slices"]["by_column"]["country"]["(missing)"] == {
        "rows": 1, "value": 1.0, "low": pytest.approx(1 / (1 + 1.959964**2)), "high": 1.0, "small": True,
    }  # fmt: skip


def test_flips_by_hand_name_their_rows_and_quote_nothing(single: TrainingTask) -> None:
    predicted_texts: list[str] = []

    def predict(texts: Sequence[str]) -> Any:
        predicted_texts.extend(texts)
        return logits(*[0 if "she" in text else 1 for text in texts])

    found = look(single, logits(1, 0, 1, 1, 1, 1), predict)
    assert predicted_texts == ["she was good", "the Muslim actress", "the Jewish actor", "éléphant 中文 he"]
    assert found["counterfactual"] == {
        "texts": 3,
        "flip_rate": pytest.approx(1 / 3),
        "by_kind": {"gender": {"texts": 3, "flip_rate": pytest.approx(1 / 3)},
                    "religion": {"texts": 1, "flip_rate": 0.0}},
        "examples": [{"place": 0, "kind": "gender", "before": "up", "after": "down"}],
    }  # fmt: skip
    written = msgspec.json.encode(found).decode()
    assert not any(text in written for text in TEXTS if " " in text)


def test_no_identity_terms_no_question() -> None:
    data = dataset("single-label", {"text": ["good", "bad"], "label": ["up", "down"]}, ["down", "up"])
    found = look(task_of(data), logits(1, 0))
    assert found["counterfactual"] == {"texts": 0, "flip_rate": None, "by_kind": {}, "examples": []}
    assert "by_column" not in found["slices"]


def test_a_copy_that_is_a_row_itself_is_not_asked_again() -> None:
    data = dataset("single-label", {"text": ["he left", "she left"], "label": ["up", "down"]}, ["down", "up"])
    found = look(task_of(data), logits(1, 0))["counterfactual"]
    assert (found["texts"], found["flip_rate"]) == (2, 1.0)


def test_several_labels() -> None:
    columns: dict[str, list[Any]]
    columns = {"text": ["he is", "she is", "it is"], "labels": [["a", "b"], [], ["b"]]}
    data = dataset("multi-label", columns, ["a", "b"], {"source": ["x", "y", "x"]})
    predictions = np.array([[1, 1], [-1, -1], [1, -1]], dtype=np.float32)
    found = look(task_of(data), predictions)
    assert list(found["intervals"]) == ["micro_f1", "subset_accuracy"]
    assert found["intervals"]["micro_f1"]["value"] == pytest.approx(2 * 2 / (3 + 3))
    assert "by_label" not in found["slices"]
    # No label is given or true there: F1 is undefined.
    assert found["slices"]["by_column"]["source"]["y"] == {
        "rows": 1, "value": None, "low": None, "high": None, "small": True,
    }  # fmt: skip
    assert found["counterfactual"]["examples"][0] == {"place": 0, "kind": "gender", "before": "a, b", "after": "(none)"}


def test_a_number() -> None:
    data = dataset("regression", {"text": ["he is", "it", "it was", "so it was"], "target": [1.0, 2.0, 3.0, 4.0]}, [])
    found = look(task_of(data), np.array([[1.5], [2.0], [3.0], [4.0]], np.float32), lambda texts: np.array([[9.0]]))
    assert list(found["intervals"]) == ["pearson", "mae"]
    assert found["intervals"]["mae"]["value"] == pytest.approx(0.125)
    assert found["slices"]["by_length"]["1-1"]["value"] is None  # one row has no correlation
    # Answers are compared in tenths of the deviation, 1.118: -0.9 and 5.8 of them from the mean, 2.5.
    assert found["counterfactual"]["examples"] == [{"place": 0, "kind": "gender", "before": "1.49", "after": "8.98"}]


def test_lengths_in_characters_where_words_have_no_spaces_between() -> None:
    def split(*texts: str) -> Split:
        return split_of({"text": list(texts), "label": ["a"] * len(texts)}, np.arange(len(texts)), ["a"])

    assert measure_lengths("single-label", split("こ" * 30, "れ" * 50)) == ([30, 50], "characters")
    assert measure_lengths("single-label", split("a b", "c")) == ([2, 1], "words")


def test_other_texts_take_the_place_of_rows(single: TrainingTask) -> None:
    found = scrutiny.replace_texts(single.dataset.test, ["x"] * 9)
    assert found.texts == ["x"] * 9
    assert len(found) == len(found.labels) == len(found.slices["country"]) == 9


def test_equal_seeds_give_equal_figures(single: TrainingTask) -> None:
    first, second = (look(single, logits(1, 0, 0, 1, 1, 1), all_up) for _ in range(2))
    assert first == second


# ------------------------------------------------------------------------------------------------------------- options


def test_rows_that_have_no_swapped_copies_are_refused(tmp_path: Path) -> None:
    mitigation.check(FinetuneConfig(counterfactual_augmentation=True), "multi-label")
    with pytest.raises(RecipeError, match=r"finetune\.counterfactual_augmentation: applies to .* not to squad rows"):
        mitigation.check(FinetuneConfig(counterfactual_augmentation=True), "squad")
    with pytest.raises(RecipeError, match=r"finetune\.identity_terms: applies to .* not to tokens rows"):
        mitigation.check(FinetuneConfig(identity_terms="terms.yaml"), "tokens")
    with pytest.raises(DataError, match=r"identity terms in .*gone\.yaml"):
        mitigation.check(FinetuneConfig(identity_terms=str(tmp_path / "gone.yaml")), "single-label")


def test_copies_beside_the_rows_with_all_that_the_rows_have() -> None:
    train = split_of(
        {"text": ["he is good", "so", "she left", "he left", "his film"], "label": ["up", "up", "up", "down", "down"]},
        np.arange(11, 16),
        ["down", "up"],
        slices={"country": ["fr", "de", "us", None, "it"]},
    )
    test = split_of({"text": ["Her  film"], "label": ["up"]}, np.array([1]), ["down", "up"], slices={"country": ["x"]})
    data = Dataset("text-classification", ["down", "up"], train, test, test, [])
    found, counts = mitigation.add_swapped_copies(data, FinetuneConfig(counterfactual_augmentation=True))
    # "he left" and "she left" are each other's copies, and "her film" stands in the test.
    assert counts == {"counterfactual_rows": 1}
    assert found.train.texts[5:] == ["she is good"]
    assert found.train.labels.tolist() == [1, 1, 1, 0, 0, 1]
    assert found.train.rows.tolist()[5:] == [11]
    assert found.train.slices["country"][5:] == ["fr"]
    assert mitigation.add_swapped_copies(data, FinetuneConfig()) == (data, {})


def test_nothing_to_swap_is_an_error() -> None:
    data = dataset("single-label", {"text": ["good", "bad"], "label": ["up", "down"]}, ["down", "up"])
    with pytest.raises(RecipeError, match=r"swapping identity terms in the 2 training rows gives no new text"):
        mitigation.add_swapped_copies(data, FinetuneConfig(counterfactual_augmentation=True))


def test_own_terms(tmp_path: Path) -> None:
    file = tmp_path / "terms.yaml"
    file.write_text("region:\n  pairs: [[nord, süd]]\n", encoding="utf-8")
    split = split_of({"text": ["Süd", "he"], "label": ["a", "a"]}, np.array([1, 2]), ["a"])
    made = identity_swaps.swap_rows(split, [1, 0], identity_swaps.load_terms(str(file)))
    assert [(one.origin, one.text) for one in made] == [(0, "Nord")]
    assert identity_swaps.terms_file(str(file)) == {"identity_terms": file}
    assert identity_swaps.terms_file(None) == {}
