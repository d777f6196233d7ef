from __future__ import annotations

import math

import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics
from edgeft.train.metrics import texts


def test_perplexity_by_hand() -> None:
    figures = metrics.perplexity(10 * math.log(4), 10)  # every token has probability 1/4
    assert figures == pytest.approx({"nll": math.log(4), "perplexity": 4.0, "negative_perplexity": -4.0})
    assert metrics.perplexity(0.0, 1)["perplexity"] == 1.0


@pytest.mark.parametrize("nll", [math.nan, math.inf, 1e6])
def test_a_perplexity_that_is_not_finite(nll: float) -> None:
    with pytest.raises(TrainingError, match="perplexity of 2 tokens is not finite"):
        metrics.perplexity(nll, 2)


def test_no_tokens() -> None:
    with pytest.raises(TrainingError, match="no tokens"):
        metrics.perplexity(0.0, 0)


def test_bleu_by_hand() -> None:
    # Of the n-grams 4 of 5, 3 of 4, 2 of 3 and 1 of 2 stand in the reference, which is as long.
    figures = metrics.generation(["a b c d e"], ["a b c d f"])
    assert figures["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))


def test_chrf_by_hand() -> None:
    # One letter of two, no pair of one; longer ones there are none: precision and recall (1/2 + 0) / 2.
    assert metrics.generation(["ab"], ["ac"])["chrf"] == pytest.approx(25.0)


def test_rouge_by_hand() -> None:
    figures = texts.rouge_rows(["the cat sat", "sat the cat"], ["the cat sat on", "the cat sat"])
    assert figures["rouge1"].tolist() == pytest.approx([2 * (1 * 3 / 4) / (1 + 3 / 4), 1.0])
    assert figures["rouge2"].tolist() == pytest.approx([2 * (1 * 2 / 3) / (1 + 2 / 3), 1 / 2])
    assert figures["rouge_l"].tolist() == pytest.approx([6 / 7, 2 / 3])
    both = metrics.generation(["the cat sat", "sat the cat"], ["the cat sat on", "the cat sat"])
    assert both["rouge_l"] == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_rouge_does_not_stem() -> None:
    assert texts.rouge_rows(["walked"], ["walking"])["rouge1"].tolist() == [0.0]


@pytest.mark.filterwarnings("error")
def test_right_and_empty_texts() -> None:
    right = metrics.generation(["the cat sat on the mat"], ["the cat sat on the mat"])
    assert right == pytest.approx({"bleu": 100.0, "chrf": 100.0, "rouge1": 1.0, "rouge2": 1.0, "rouge_l": 1.0})
    assert set(metrics.generation(["", ""], ["the cat", "sat"]).values()) == {0.0}


def test_rouge_is_left_out_where_it_knows_no_token() -> None:
    figures = metrics.generation(["我爱北京天安门"], ["我爱北京天安门"], tokenize="zh")
    assert figures == pytest.approx({"bleu": 100.0, "chrf": 100.0})


def test_no_rows() -> None:
    with pytest.raises(TrainingError, match="no rows"):
        metrics.generation([], [])
