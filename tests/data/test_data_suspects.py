from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edgeft.data.profile import label_errors

Ids = NDArray[np.int64]
Texts = tuple[list[str], Ids]
Judged = tuple[Ids, NDArray[np.bool_], label_errors.Suspects]
TOPICS = {
    0: "goal match team player season coach league score",
    1: "market bank stock price trade profit share fund",
    2: "virus doctor cell patient drug clinic dose nurse",
}
COMMON = ("the", "a", "of", "and", "to", "in", "it", "was")


def topical(count: int, seed: int = 0, labels: int = 3) -> Texts:
    """Sentences of one of three vocabularies, and its number."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        words = rng.choices(TOPICS[i % labels].split(), k=6) + rng.choices(COMMON, k=5)
        rng.shuffle(words)
        made.append((" ".join(words), i % labels))
    texts, ids = zip(*made, strict=True)
    return list(texts), np.array(ids, dtype=np.int64)


def flip(labels: Ids, share: float, seed: int, count: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Labels with a share of them wrong, and which."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[rng.choice(len(labels), int(share * len(labels)), replace=False)] = True
    return np.where(wrong, (labels + rng.integers(1, count, len(labels))) % count, labels), wrong


# -------------------------------------------------------------------------------------------------- confident learning


def test_confident_disagreement_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55], [0.3, 0.7], [0.1, 0.9]])
    given = np.array([0, 0, 0, 0, 1, 1])
    # mean self-confidence: (0.9 + 0.7 + 0.2 + 0.45) / 4 = 0.5625 of label 0, 0.8 of label 1.
    # Row 2 reaches 0.8; row 3 prefers label 1 too, but not as surely as rows of label 1 do.
    scores, believed = label_errors.confident_learning(probabilities, given)
    assert believed.tolist() == [0, 0, 1, 0, 1, 1]
    assert scores == pytest.approx([0.1, 0.3, 0.8, 0.55, 0.3, 0.1])


def test_of_three_labels_the_most_probable_is_suggested() -> None:
    probabilities = np.array([[0.1, 0.4, 0.5], [0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
    scores, believed = label_errors.confident_learning(probabilities, np.array([0, 0, 1, 2]))
    assert believed.tolist() == [2, 0, 1, 2]
    assert scores[0] == pytest.approx((1 + 0.5 - 0.1) / 2)


# ----------------------------------------------------------------------------------------------------------- real rows


@pytest.fixture(scope="module")
def reviews(movie_rows: list[tuple[str, str]]) -> Texts:
    texts, labels = zip(*movie_rows[:2400], strict=True)
    return list(texts), np.array([label == "good" for label in labels], dtype=np.int64)


@pytest.fixture(scope="module")
def judged(reviews: Texts) -> Judged:
    texts, labels = reviews
    given, wrong = flip(labels, 0.03, 0, 2)
    return given, wrong, label_errors.label_errors(texts, given, seed=0)


def test_flipped_reviews_score_higher(judged: Judged) -> None:
    _, wrong, found = judged
    assert roc_auc_score(wrong, found.scores) > 0.75  # 0.87 of all 8,530 rows; less to learn from here
    assert found.suspicious[wrong].mean() > 2 * found.suspicious[~wrong].mean()


def test_what_is_suggested(judged: Judged) -> None:
    given, _, found = judged
    np.testing.assert_array_equal(found.suggested != given, found.suspicious)
    assert found.judged.all()
    assert 0 <= found.scores.min() <= found.scores.max() <= 1


def test_the_order_of_rows_changes_nothing(reviews: Texts) -> None:
    texts, labels = reviews[0][:600], reviews[1][:600]
    texts, labels = [*texts, texts[0], texts[1].upper()], np.append(labels, [1 - labels[0], labels[1]])
    found = label_errors.label_errors(texts, labels, seed=3)
    order = np.random.default_rng(0).permutation(len(texts))
    again = label_errors.label_errors([texts[i] for i in order], labels[order], seed=3)
    np.testing.assert_array_equal(again.scores, found.scores[order])
    np.testing.assert_array_equal(again.suggested, found.suggested[order])


# -------------------------------------------------------------------------------------------------------------- labels


def test_many_classes_by_any_ids() -> None:
    texts, labels = topical(600)
    given, wrong = flip(labels, 0.05, 0, 3)
    found = label_errors.label_errors(texts, given * 10 - 7, seed=0)
    assert roc_auc_score(wrong, found.scores) > 0.97
    assert found.suspicious[wrong].mean() > 0.9
    assert (found.suggested[wrong] == labels[wrong] * 10 - 7).mean() > 0.9
    assert found.suspicious[~wrong].mean() < 0.05


def test_more_labels_than_characters_are_worth() -> None:
    rng = random.Random(0)
    labels = np.arange(720) % 12
    texts = [" ".join(rng.choices([f"w{label}x{i}" for i in range(6)] + ["the", "of"], k=8)) for label in labels]
    given, wrong = flip(labels, 0.05, 1, 12)
    found = label_errors.label_errors(texts, given, seed=0)
    assert roc_auc_score(wrong, found.scores) > 0.95


def test_a_label_with_few_rows_is_left_alone() -> None:
    texts, labels = topical(200, labels=2)
    texts, labels = [*texts, "one rare thing", "two rare things"], np.append(labels, [9, 9])
    found = label_errors.label_errors(texts, labels, seed=0)
    assert found.judged.sum() == 200
    assert not found.suspicious[-2:].any()
    assert found.scores[-2:].tolist() == [0, 0]
    assert 9 not in found.suggested[:-2]


@pytest.mark.parametrize("count", [0, 1, 12])
def test_nothing_to_learn_from(count: int) -> None:
    texts, labels = (topical(count, labels=2)) if count else ([], np.array([], dtype=np.int64))
    found = label_errors.label_errors(texts, labels, seed=0)
    assert found.suspicious.tolist() == [False] * count
    assert found.scores.tolist() == [0.0] * count
    np.testing.assert_array_equal(found.suggested, labels)


def test_texts_without_a_word_or_alike() -> None:
    found = label_errors.label_errors(["?!"] * 30 + [f"{i}" for i in range(30)], np.arange(60) % 2, seed=0)
    assert np.isfinite(found.scores).all()


# --------------------------------------------------------------------------------------------------------------- folds


def test_equal_texts_share_a_fold_and_labels_are_spread() -> None:
    texts, labels = topical(300)
    texts, labels = [*texts, *(text.title() for text in texts[:50])], np.append(labels, (labels[:50] + 1) % 3)
    folds = label_errors._folds(label_errors._keys(texts, 0), labels, 5)
    np.testing.assert_array_equal(folds[:50], folds[300:])
    for label in range(3):
        counts = np.bincount(folds[:300][labels[:300] == label], minlength=5)
        assert counts.min() >= 15  # of 100, dealt in turn; the repeated texts have two labels


def test_a_repeated_error_does_not_vouch_for_itself() -> None:
    texts, labels = topical(300, labels=2)
    texts, given = [*texts, *[texts[0]] * 5], np.append(labels, [1] * 5)
    given[0] = 1
    found = label_errors.label_errors(texts, given, seed=0)
    assert found.suspicious[[0, *range(300, 305)]].all()


def test_another_seed_makes_other_folds() -> None:
    texts, labels = topical(300, labels=2)
    one, two = (label_errors._folds(label_errors._keys(texts, seed), labels, 5) for seed in (0, 1))
    assert (one != two).any()


# --------------------------------------------------------------------------------------------------------------- limits


def test_more_rows_than_are_learnt_from() -> None:
    texts, labels = topical(900, labels=2)
    given, wrong = flip(labels, 0.05, 0, 2)
    found = label_errors.label_errors(texts, given, seed=0, max_rows=300)
    assert found.judged.all()
    assert roc_auc_score(wrong, found.scores) > 0.97
    sample = label_errors.label_errors(texts, given, seed=0, max_rows=300, sample_only=True)
    assert sample.judged.sum() == 300
    np.testing.assert_array_equal(sample.scores[sample.judged], found.scores[sample.judged])
    assert not sample.scores[~sample.judged].any()


def test_long_texts_are_read_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert label_errors._ends("a" * 1000 + "b" * 5000 + "c" * 1000) == "a" * 1000 + " " + "c" * 1000
    monkeypatch.setattr(label_errors, "MAX_CHARACTERS", 10_000)
    texts, labels = topical(400, labels=2)
    assert label_errors.label_errors(texts, labels, seed=0, sample_only=True).judged.sum() < 250
