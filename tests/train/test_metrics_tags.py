from __future__ import annotations

import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics

TRUE = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"]]
PREDICTED = [["B-PER", "I-PER", "O", "O"], ["B-LOC", "B-PER"]]


@pytest.mark.filterwarnings("error")
def test_spans_by_hand() -> None:
    # Three spans in the truth, three predicted, two of them right.
    expected = {"token_accuracy": 4 / 6, "span_f1": 2 / 3, "span_precision": 2 / 3, "span_recall": 2 / 3}
    assert metrics.token_classification(PREDICTED, TRUE) == pytest.approx(expected)
    assert metrics.per_type_f1(PREDICTED, TRUE) == {"LOC": 0.0, "PER": 1.0}


def test_precision_and_recall_are_not_confused() -> None:
    figures = metrics.token_classification([["B-PER", "B-LOC"]], [["B-PER", "O"]])
    assert (figures["span_precision"], figures["span_recall"]) == (0.5, 1.0)


def test_half_a_span_is_none() -> None:
    figures = metrics.token_classification([["B-PER", "O"]], [["B-PER", "I-PER"]])
    assert (figures["token_accuracy"], figures["span_f1"]) == (0.5, 0.0)


@pytest.mark.filterwarnings("error")
def test_no_span_predicted() -> None:
    figures = metrics.token_classification([["O", "O"]], [["B-PER", "O"]])
    assert (figures["span_f1"], figures["span_precision"], figures["span_recall"]) == (0.0, 0.0, 0.0)
    assert metrics.per_type_f1([["O", "O"]], [["B-PER", "O"]]) == {"PER": 0.0}


@pytest.mark.filterwarnings("error")
def test_no_span_anywhere() -> None:
    assert metrics.token_classification([["O"]], [["O"]]) == {"token_accuracy": 1.0}
    assert metrics.per_type_f1([["O"]], [["O"]]) == {}


@pytest.mark.filterwarnings("error")
def test_tags_without_a_scheme_have_no_spans() -> None:
    figures = metrics.token_classification([["NOUN", "VERB"], ["DET"]], [["NOUN", "NOUN"], ["DET"]])
    assert figures == pytest.approx({"token_accuracy": 2 / 3})
    assert metrics.per_type_f1([["NOUN"]], [["NOUN"]]) == {}


@pytest.mark.parametrize(
    ("names", "leads"),
    [
        (["O", "B-PER", "I-PER"], "span_f1"),
        (["O", "B", "I"], "span_f1"),
        (["O", "S-LOC", "E-LOC", "B-LOC", "I-LOC"], "span_f1"),
        (["NOUN", "VERB"], "token_accuracy"),
        (["IN", "B-PER"], "token_accuracy"),
        (["O"], "token_accuracy"),
    ],
)
def test_what_leads(names: list[str], leads: str) -> None:
    assert metrics.lead_metric(names) == leads


def test_no_tokens() -> None:
    nothing: list[list[list[str]]] = [[], [[]]]
    for rows in nothing:
        with pytest.raises(TrainingError, match="no rows"):
            metrics.token_classification(rows, rows)
