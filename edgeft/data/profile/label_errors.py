"""Likely label errors: rows on whose label a model that wasn't trained on them confidently disagrees.

Confident learning (Northcutt, Jiang and Chuang 2021) over out-of-fold probabilities of a logistic regression on words
and characters, weighed by naive Bayes (Wang and Manning 2012).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.clean.near import normal
from edgeft.errors import require

PURPOSE = "to find label errors"
FOLDS, FEWEST_FOLDS = 20, 3
FITS = 30  # folds by labels, more than two; many labels get fewer folds
WORDS_ONLY = 10  # most labels; with more, character features cost too much
MIN_TEXTS = 10  # distinct texts that a label needs to be judged
MAX_CHARACTERS = 4_000_000  # to learn from
MAX_CELLS = 4_000_000  # rows to learn from, times labels
HALF_TEXT = 1000  # characters read at each end of a text
CHUNK_ROWS = 4096
BITS, WORD_BITS = (
    20,
    18,
)  # features are hashed to 2^20 buckets for words and as many for characters; 2^18 for words only
SURE = 0.9  # score from which a row is suspicious: half a percent of clean film reviews
C = 10.0  # inverse strength of the L2 penalty
TOKEN = re.compile(r"\w+|[^\w\s]")

Labels = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Suspects:
    """How suspicious each row's label is.

    Attributes:
        scores: (n,) from 0 to 1, higher is more suspicious; 0 for a row that wasn't judged.
        suspicious: (n,) whether the model is confident of another label.
        suggested: (n,) that label; the row's own if it isn't suspicious.
        judged: (n,) whether the row was judged.
    """

    scores: Floats
    suspicious: Flags
    suggested: Labels
    judged: Flags


def label_errors(
    texts: Sequence[str], labels: Labels, seed: int, max_rows: int = 50_000, sample_only: bool = False
) -> Suspects:
    """Judge every row by models that weren't trained on its text.

    The score is the normalised margin: (1 + p(most probable other label) - p(own label)) / 2. A row is suspicious if
    another label is at least as probable as it is on average among the rows with that label, and the score is 0.9 or
    more: without that bound one in fifteen clean film reviews would be suspicious, although they are merely hard. A
    label with fewer than ten distinct texts is neither judged nor suggested.

    The order of the rows has no effect: the training rows and their folds depend on a hash of the text, and equal texts
    share a fold. At most `max_rows` rows are trained on, fewer if they are long (four million characters in total) or
    have many labels. Only the thousand characters at each end of a long text are read.

    Args:
        texts: (n,).
        labels: (n,) ids, of any values.
        seed: of the folds.
        max_rows: largest number of rows to train on.
        sample_only: judge only the training rows; the others take two microseconds a character.
    """
    keys = _keys(texts, seed)
    order = np.lexsort((labels, keys))
    learnt = order[: _affordable(texts, labels, order, max_rows)]
    suspects = Suspects(np.zeros(len(texts)), np.zeros(len(texts), bool), labels.copy(), np.zeros(len(texts), bool))
    names = _learnable(keys[learnt], labels[learnt])
    if len(names) < 2:
        return suspects
    rest = order[:0] if sample_only else order[len(learnt) :]
    learnt, rest = (rows[np.isin(labels[rows], names)] for rows in (learnt, rest))
    judged = np.concatenate((learnt, rest))
    labels_judged = np.searchsorted(names, labels[judged])
    folds = _folds(keys[judged], labels_judged, _how_many_folds(len(names)))
    probabilities = _out_of_fold([texts[i] for i in judged], labels_judged, folds, len(learnt), seed)
    scores, believed = confident_learning(probabilities, labels_judged)
    believed = np.where(scores >= SURE, believed, labels_judged)
    suspects.scores[judged], suspects.suspicious[judged], suspects.suggested[judged] = (
        scores,
        believed != labels_judged,
        names[believed],
    )
    suspects.judged[judged] = True
    return suspects


def confident_learning(probabilities: Floats, labels: Labels) -> tuple[Floats, Labels]:
    """Confident learning: the score of each row and the label that the model is confident of.

    Args:
        probabilities: (n, L), out of fold.
        labels: (n,) from 0 to L - 1, each label at least once.

    Returns:
        Scores, (n,), and labels, (n,): the given one unless the model is confident of another.
    """
    rows = np.arange(len(labels))
    own_probability = probabilities[rows, labels]
    thresholds = np.bincount(labels, weights=own_probability) / np.bincount(labels)  # (L,) mean self-confidence
    others = probabilities.copy()
    others[rows, labels] = -1.0
    scores = (1 + others.max(axis=1) - own_probability) / 2
    others[(others < thresholds) | (others <= own_probability[:, None])] = -1.0
    return scores, np.where(others.max(axis=1) >= 0, others.argmax(axis=1), labels)


# ------------------------------------------------------------------------------------------- what is learnt from, where


def _keys(texts: Sequence[str], seed: int) -> Keys:
    """Hashes of the texts, (n,); texts that differ only in case and white space are equal."""
    salt = f"edgeft label errors {seed}".encode()
    digests = b"".join(hashlib.blake2b(normal(text).encode(), digest_size=8, key=salt).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _affordable(texts: Sequence[str], labels: Labels, order: Labels, max_rows: int) -> int:
    """How many rows, in this order, to train on."""
    characters = np.cumsum([min(len(texts[i]), 2 * HALF_TEXT) for i in order])
    rows = min(max_rows, MAX_CELLS // max(1, len(np.unique(labels))))
    return min(rows, int(np.searchsorted(characters, MAX_CHARACTERS, side="right")))


def _learnable(keys: Keys, labels: Labels) -> Labels:
    """Labels with enough distinct texts, sorted; the rows are given sorted by key, then label."""
    different = np.ones(len(keys), dtype=bool)
    different[1:] = (keys[1:] != keys[:-1]) | (labels[1:] != labels[:-1])
    names, counts = np.unique(labels[different], return_counts=True)
    return names[counts >= MIN_TEXTS]


def _how_many_folds(labels: int) -> int:
    return FOLDS if labels == 2 else max(FEWEST_FOLDS, min(FOLDS, FITS // labels))


def _folds(keys: Keys, labels: Labels, folds: int) -> Labels:
    """The fold of each row, (n,): each label's texts, sorted by key, are dealt in turn; equal texts share a fold."""
    order = np.lexsort((labels, keys))
    different, first, text = np.unique(keys[order], return_index=True, return_inverse=True)
    label = labels[order][first]  # the smallest label of each distinct text
    by_label = np.argsort(label, kind="stable")
    begins = np.searchsorted(label[by_label], label[by_label])
    dealt = np.empty(len(different), dtype=np.int64)
    dealt[by_label] = (np.arange(len(different)) - begins) % folds
    result = np.empty(len(keys), dtype=np.int64)
    result[order] = dealt[text]
    return result


# ------------------------------------------------------------------------------------------------------------ learning


def _ends(text: str) -> str:
    """The part of a text that is read: both ends of a long one."""
    text = normal(text)
    return text if len(text) <= 2 * HALF_TEXT else f"{text[:HALF_TEXT]} {text[-HALF_TEXT:]}"


def _words(text: str) -> list[str]:
    """Words and punctuation, pairs of neighbours, and pairs with one word between them."""
    words = TOKEN.findall(_ends(text))
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return words + pairs + [f"{first} _ {second}" for first, second in zip(words, words[2:], strict=False)]


def _vectorizer(labels: int) -> Any:
    """TF-IDF of words, and of 2 to 6 characters if there are few labels."""
    text = require("sklearn.feature_extraction.text", PURPOSE)
    pipeline = require("sklearn.pipeline", PURPOSE)

    def tfidf(bits: int, **how: Any) -> Any:
        hashed = text.HashingVectorizer(n_features=1 << bits, alternate_sign=False, norm=None, **how)
        return pipeline.make_pipeline(hashed, text.TfidfTransformer(sublinear_tf=True))

    if labels > WORDS_ONLY:
        return tfidf(WORD_BITS, analyzer=_words)
    characters = tfidf(BITS, analyzer="char", ngram_range=(2, 6), preprocessor=_ends)
    return pipeline.make_union(tfidf(BITS, analyzer=_words), characters)


def _out_of_fold(texts: list[str], labels: Labels, folds: Labels, learnt: int, seed: int) -> Floats:
    """Out-of-fold probabilities of each row, (n, L).

    Args:
        texts: (n,) those to train on first.
        labels: (n,) labels from 0 to L - 1.
        folds: (n,).
        learnt: number of texts to train on.
        seed: of the solver.
    """
    n_labels = int(labels.max()) + 1
    vectorizer = _vectorizer(n_labels)
    features = vectorizer.fit_transform(texts[:learnt]).tocsr()
    shared = _shared_columns(features)
    features = features[:, shared]
    probabilities = np.empty((len(texts), n_labels))
    for fold in range(int(folds.max()) + 1):
        train = np.flatnonzero(folds[:learnt] != fold)
        model = _fit(features[train], labels[train], n_labels, seed)
        inside = np.flatnonzero(folds[:learnt] == fold)
        probabilities[inside] = model(features[inside])
        for rows in _chunks(learnt + np.flatnonzero(folds[learnt:] == fold)):
            probabilities[rows] = model(vectorizer.transform([texts[i] for i in rows])[:, shared])
    return probabilities


def _shared_columns(features: Any) -> Labels:
    """Columns of features that occur in two rows or more (at least one column): the others don't generalize."""
    rows = np.bincount(features.indices, minlength=features.shape[1])
    return np.flatnonzero(rows >= min(2, rows.max()))


def _chunks(rows: Labels) -> Iterator[Labels]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]


class _Model:
    """One-vs-rest logistic regressions.

    Args:
        weights: (L, F).
        biases: (L,).
    """

    def __init__(self, weights: npt.NDArray[np.float32], biases: Floats) -> None:
        self.weights = weights
        self.biases = biases

    def __call__(self, features: Any) -> Floats:
        """Probabilities, (n, L)."""
        logits = np.stack([features @ weights for weights in self.weights], axis=1) + self.biases
        alone = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        shares: Floats = alone / alone.sum(axis=1, keepdims=True)
        return shares


def _fit(features: Any, classes: Labels, labels: int, seed: int) -> _Model:
    """Fit each label against the others; with two labels the second is the negated first."""
    weights, biases = np.empty((labels, features.shape[1]), dtype=np.float32), np.empty(labels)
    for label in range(1 if labels == 2 else labels):
        weights[label], biases[label] = _fit_one(features, classes == label, seed)
    if labels == 2:
        weights[1], biases[1] = -weights[0], -biases[0]
    return _Model(weights, biases)


def _fit_one(features: Any, positive: Flags, seed: int) -> tuple[Floats, float]:
    """Weights, (F,), and bias of a logistic regression on features weighted by naive Bayes."""
    if positive.all() or not positive.any():
        return np.zeros(features.shape[1]), 30.0 if positive.all() else -30.0
    ratio = _ratio(features, positive)
    weighed = features.copy()
    weighed.data *= ratio[features.indices]
    linear = require("sklearn.linear_model", PURPOSE)
    solver = linear.LogisticRegression(C=C, solver="liblinear", dual=True, max_iter=1000, random_state=seed)
    solver.fit(weighed, positive)
    return solver.coef_[0] * ratio, float(solver.intercept_[0])


def _ratio(features: Any, positive: Flags) -> Floats:
    """The signed square root of naive Bayes' log-count ratio of each feature's presence, (F,).

    The root lies between Wang and Manning's weights and no weights; it found more label errors than either.
    """

    def log_share(rows: Flags) -> Floats:
        counts = 1 + np.bincount(features[np.flatnonzero(rows)].indices, minlength=features.shape[1])
        shares: Floats = np.log(counts / counts.sum())
        return shares

    ratio = log_share(positive) - log_share(~positive)
    return np.sign(ratio) * np.sqrt(np.abs(ratio))
