"""The baseline that a model must beat: TF-IDF of words and word pairs with logistic regression, on the same rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgeft.data import dataset
from edgeft.data.dataset import Dataset, Split
from edgeft.errors import DataError, require
from edgeft.files import write_json
from edgeft.keys import SCORING
from edgeft.recipe import BaselineConfig
from edgeft.runtime.machine import host
from edgeft.stage import GateLine, stage
from edgeft.stage_folder import Inputs, Metrics, StageResult
from edgeft.train import metrics

PURPOSE = "to train the baseline"
TERMS, WEIGHTS = "terms.json", "weights.npz"
C_VALUES = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse strength of the L2 penalty
LATENCY_TEXTS, WARM_UP_TEXTS = 100, 10
FLOOR = -30.0  # lowest log-probability: of a label without training rows, or of a probability that underflows

Logits = npt.NDArray[np.float32]


class Baseline:
    """A fitted baseline.

    Args:
        vectorizer: scikit-learn's fitted TfidfVectorizer.
        classifier: scikit-learn's fitted LogisticRegression.
        c: the chosen inverse strength of the penalty.
        labels: the number of labels.
    """

    def __init__(self, vectorizer: Any, classifier: Any, c: float, labels: int) -> None:
        self.vectorizer = vectorizer
        self.classifier = classifier
        self.c = c
        self.labels = labels

    def logits(self, texts: Sequence[str]) -> Logits:
        """Log-probabilities, (n, L)."""
        return _log_probabilities(self.classifier, self.vectorizer.transform(texts), self.labels)

    def size_bytes(self) -> int:
        """The size of the weights as float32 and of the vocabulary as text, one term a line."""
        weights = self.classifier.coef_.size + self.classifier.intercept_.size + self.vectorizer.idf_.size
        return 4 * int(weights) + sum(len(term.encode()) + 1 for term in self.vectorizer.vocabulary_)


def _log_probabilities(classifier: Any, features: Any, labels: int) -> Logits:
    logits = np.full((features.shape[0], labels), FLOOR)
    logits[:, classifier.classes_] = np.maximum(classifier.predict_log_proba(features), FLOOR)
    return logits.astype(np.float32)  # (n, L)


# ----------------------------------------------------------------------------------------------------------- the folder


def write_baseline(model: Baseline, folder: Path) -> None:
    """Write a fitted baseline as terms.json and weights.npz, without pickle."""
    terms = sorted(model.vectorizer.vocabulary_, key=model.vectorizer.vocabulary_.get)
    write_json(folder / TERMS, terms)
    classifier = model.classifier
    arrays = {"idf": model.vectorizer.idf_, "classes": classifier.classes_, "c": np.array(model.c)}
    arrays |= {"coef": classifier.coef_, "intercept": classifier.intercept_, "labels": np.array(model.labels)}
    np.savez(folder / WEIGHTS, allow_pickle=False, **arrays)


def read_baseline(folder: Path) -> Baseline | None:
    """Read what `write_baseline` wrote; None if the folder has no baseline, as in earlier versions."""
    if not (folder / TERMS).is_file() or not (folder / WEIGHTS).is_file():
        return None
    terms = msgspec.json.decode((folder / TERMS).read_bytes(), type=list[str])
    with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
        vectorizer = _vectorizer(vocabulary={term: column for column, term in enumerate(terms)})
        vectorizer.idf_ = arrays["idf"]
        classifier = _classifier(float(arrays["c"]), 0)
        classifier.coef_, classifier.intercept_, classifier.classes_ = (
            arrays["coef"],
            arrays["intercept"],
            arrays["classes"],
        )
        return Baseline(vectorizer, classifier, float(arrays["c"]), int(arrays["labels"]))


# ------------------------------------------------------------------------------------------------------------- fitting


def fit_baseline(data: Dataset, max_features: int, seed: int) -> Baseline:
    """Fit on the training rows; the penalty is chosen on the validation split, by accuracy and then by likelihood.

    Raises:
        DataError: the training texts have no words.
    """
    vectorizer, features = _vectorize(data.train.texts, max_features)
    validation = vectorizer.transform(data.validation.texts)
    best: tuple[tuple[float, float], float, Any] | None = None
    for c in C_VALUES:
        classifier = _classifier(c, seed).fit(features, data.train.labels)
        logits = _log_probabilities(classifier, validation, len(data.labels))
        figures = metrics.classification(logits, data.validation.labels)
        score = (figures["accuracy"], -figures["nll"])
        if best is None or score > best[0]:
            best = (score, c, classifier)
    assert best is not None
    return Baseline(vectorizer, best[2], best[1], len(data.labels))


def _vectorize(texts: list[str], max_features: int) -> tuple[Any, Any]:
    """The fitted vectorizer, and the features of the texts, a sparse (n, terms)."""
    vectorizer = _vectorizer(max_features=max_features)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError as error:
        raise DataError(
            f"baseline: no words in the {len(texts)} training texts ({error}); "
            "switch it off with --set baseline.enabled=false"
        ) from None


def _vectorizer(**options: Any) -> Any:
    sklearn = require("sklearn.feature_extraction.text", PURPOSE)
    return sklearn.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)


def _classifier(c: float, seed: int) -> Any:
    return require("sklearn.linear_model", PURPOSE).LogisticRegression(C=c, max_iter=1000, random_state=seed)


def measure_latency(model: Baseline, texts: Sequence[str]) -> float:
    """Median milliseconds of a prediction, one text at a time, after a warm-up."""
    times = []
    for text in [*texts[:WARM_UP_TEXTS], *texts[:LATENCY_TEXTS]]:
        start = time.perf_counter()
        model.logits([text])
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[min(WARM_UP_TEXTS, len(texts)) :]))


# --------------------------------------------------------------------------------------------------------------- stage


def fill(config: BaselineConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fit the baseline and save its predictions.

    Args:
        config: the number of terms.
        inputs: `data`, a dataset folder.
        out_dir: gets `validation_logits.npy` and `test_logits.npy`, float32 (n, L) log-probabilities, and the files of
            `write_baseline`.

    Returns:
        `validation` and `test` metrics, `bytes`, `latency_ms` (one thread), `chosen_c`.
    """
    data = dataset.load(inputs["data"])
    # The solver's vectors are too short for several threads, which only wait for each other, long on a busy machine.
    # The limit applies only to libraries that are loaded already, so scikit-learn is loaded first.
    require("sklearn.linear_model", PURPOSE)
    with require("threadpoolctl", PURPOSE).threadpool_limits(1):
        return _fit_and_predict(data, config, out_dir)


def _fit_and_predict(data: Dataset, config: BaselineConfig, out_dir: Path) -> Metrics:
    model = fit_baseline(data, config.max_features, config.seed or 0)
    write_baseline(model, out_dir)
    return {
        "validation": _predict(model, data.validation, out_dir / "validation_logits.npy"),
        "test": _predict(model, data.test, out_dir / "test_logits.npy"),
        "bytes": model.size_bytes(),
        "latency_ms": measure_latency(model, data.test.texts),
        "chosen_c": model.c,
    }


def _predict(model: Baseline, split: Split, path: Path) -> dict[str, float]:
    """Save the logits of a split and measure them."""
    logits = model.logits(split.texts)
    np.save(path, logits, allow_pickle=False)
    return metrics.classification(logits, split.labels)


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The baseline's line of the gate table."""
    return [GateLine(name="baseline", metrics=results["baseline"].metrics, note="TF-IDF with logistic regression")]


run = stage(
    "baseline",
    libraries=SCORING,
    machine=host.identity,  # its latency stands beside the artifact's
    reads=lambda recipe: {"data": "data"},
    wanted=lambda recipe: recipe.baseline.enabled,
    takes=lambda form: form.has_baseline,
    modules={"sklearn": PURPOSE},
    gate_lines=gate_lines,
    is_shared=True,
    fixed_s=1,
    rows_s=lambda work: 0.0,
)(fill)
