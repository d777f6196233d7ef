"""Metrics of token classification: spans where the tags have a scheme, tokens always."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgeft.errors import require
from edgeft.train.metrics.checks import PURPOSE, Figures, check_rows

# O, B-PER, I-PER; also S- and E-, which seqeval reads the same way, and tags without a type.
SCHEME = re.compile(r"O|[BIES](-.+)?")
Tags = Sequence[Sequence[str]]


def lead_metric(names: Iterable[str]) -> str:
    """The metric that leads for a set of tags: `span_f1` if all are of the BIO scheme, else `token_accuracy`.

    Args:
        names: the distinct tags, as in `["O", "B-PER", "I-PER"]` or `["NOUN", "VERB"]`.
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
        that of CoNLL's conlleval), left out where the tags are not BIO or no span stands anywhere. A span is right
        when type, start and end are.

    Raises:
        TrainingError: no tokens.
    """
    tokens = _tokens(predicted, true)
    right = sum(guess == tag for guess, tag in tokens)
    found = {"token_accuracy": right / len(tokens)}
    if _has_spans(tokens):
        seqeval = require("seqeval.metrics", PURPOSE)
        true, predicted = _lists(true), _lists(predicted)
        found["span_f1"] = float(seqeval.f1_score(true, predicted, zero_division=0))
        found["span_precision"] = float(seqeval.precision_score(true, predicted, zero_division=0))
        found["span_recall"] = float(seqeval.recall_score(true, predicted, zero_division=0))
    return found


def per_type_f1(predicted: Tags, true: Tags) -> Figures:
    """F1 of the spans of each type.

    Args:
        predicted: n sequences of tags.
        true: n sequences of tags, as long as the predicted ones.

    Returns:
        type -> F1 (seqeval's), for the types that occur as truth or prediction; nothing where the tags are not BIO.

    Raises:
        TrainingError: no tokens.
    """
    if not _has_spans(_tokens(predicted, true)):
        return {}
    seqeval = require("seqeval.metrics", PURPOSE)
    found = seqeval.f1_score(_lists(true), _lists(predicted), average=None, zero_division=0)  # (types,)
    return dict(zip(_types(true, predicted), map(float, found), strict=True))


def _types(*sides: Tags) -> list[str]:
    """The types of all spans, in seqeval's order."""
    entities = require("seqeval.metrics.sequence_labeling", PURPOSE).get_entities
    return sorted({kind for tags in sides for kind, _, _ in entities(_lists(tags))})


def _tokens(predicted: Tags, true: Tags) -> list[tuple[str, str]]:
    """Predicted and true tag of each token."""
    assert len(predicted) == len(true), (len(predicted), len(true))
    tokens = [pair for row in zip(predicted, true, strict=True) for pair in zip(*row, strict=True)]
    check_rows(tokens, tokens)
    return tokens


def _has_spans(tokens: Iterable[tuple[str, str]]) -> bool:
    return lead_metric({tag for pair in tokens for tag in pair}) == "span_f1"


def _lists(tags: Tags) -> list[list[str]]:
    """seqeval takes lists only."""
    return [list(row) for row in tags]
