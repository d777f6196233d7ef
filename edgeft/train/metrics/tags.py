"""Metrics of token classification: of tokens always, of spans if the tags have a BIO scheme."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgeft.errors import require
from edgeft.train.metrics.checks import PURPOSE, Figures, check_rows

# O, B-PER, I-PER; also S- and E-, which seqeval reads as well, and tags without a type.
SCHEME = re.compile(r"O|[BIES](-.+)?")
Tags = Sequence[Sequence[str]]


def lead_metric(names: Iterable[str]) -> str:
    """The lead metric for a set of tags: `span_f1` if all are of the BIO scheme, else `token_accuracy`.

    Args:
        names: the distinct tags, such as `["O", "B-PER", "I-PER"]` or `["NOUN", "VERB"]`.
    """
    names = set(names)
    return "span_f1" if names - {"O"} and all(SCHEME.fullmatch(name) for name in names) else "token_accuracy"


def token_classification(predicted: Tags, true: Tags) -> Figures:
    """Figures of spans and tokens.

    Args:
        predicted: n sequences of tags.
        true: n sequences of tags, as long as the predicted ones.

    Returns:
        `token_accuracy` over all tokens; `span_f1`, `span_precision`, `span_recall` (micro, seqeval's default mode,
        that of CoNLL's conlleval), left out if the tags are not BIO or there is no span. A span is right if its type,
        start and end are.

    Raises:
        TrainingError: no tokens.
    """
    tokens = _tag_pairs(predicted, true)
    right = sum(guess == tag for guess, tag in tokens)
    figures = {"token_accuracy": right / len(tokens)}
    if _has_spans(tokens):
        seqeval = require("seqeval.metrics", PURPOSE)
        true, predicted = _as_lists(true), _as_lists(predicted)
        figures["span_f1"] = float(seqeval.f1_score(true, predicted, zero_division=0))
        figures["span_precision"] = float(seqeval.precision_score(true, predicted, zero_division=0))
        figures["span_recall"] = float(seqeval.recall_score(true, predicted, zero_division=0))
    return figures


def per_type_f1(predicted: Tags, true: Tags) -> Figures:
    """F1 of the spans of each type.

    Args:
        predicted: n sequences of tags.
        true: n sequences of tags, as long as the predicted ones.

    Returns:
        type -> F1 (seqeval's), for the types that occur as truth or prediction; empty if the tags are not BIO.

    Raises:
        TrainingError: no tokens.
    """
    if not _has_spans(_tag_pairs(predicted, true)):
        return {}
    seqeval = require("seqeval.metrics", PURPOSE)
    scores = seqeval.f1_score(_as_lists(true), _as_lists(predicted), average=None, zero_division=0)  # (types,)
    return dict(zip(_span_types(true, predicted), map(float, scores), strict=True))


def _span_types(*sides: Tags) -> list[str]:
    """The types of all spans, in seqeval's order."""
    entities = require("seqeval.metrics.sequence_labeling", PURPOSE).get_entities
    return sorted({kind for tags in sides for kind, _, _ in entities(_as_lists(tags))})


def _tag_pairs(predicted: Tags, true: Tags) -> list[tuple[str, str]]:
    """Predicted and true tag of each token."""
    assert len(predicted) == len(true), (len(predicted), len(true))
    tokens = [pair for row in zip(predicted, true, strict=True) for pair in zip(*row, strict=True)]
    check_rows(tokens, tokens)
    return tokens


def _has_spans(tokens: Iterable[tuple[str, str]]) -> bool:
    return lead_metric({tag for pair in tokens for tag in pair}) == "span_f1"


def _as_lists(tags: Tags) -> list[list[str]]:
    """seqeval takes lists only."""
    return [list(row) for row in tags]
