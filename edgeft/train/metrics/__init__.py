"""Metrics of every task, with intervals and slices, and counterfactual fairness by swapped identity terms."""

from __future__ import annotations

from edgeft.train.metrics import bootstrap, counterfactual, slices
from edgeft.train.metrics.checks import Figures, Floats, Labels, check_finite
from edgeft.train.metrics.classification import (
    agreement,
    classification,
    log_softmax,
    logits_of,
    multi_label,
    per_label_f1,
    single_label,
)
from edgeft.train.metrics.questions import question_answering
from edgeft.train.metrics.regression import regression
from edgeft.train.metrics.tags import lead_metric, per_type_f1, token_classification
from edgeft.train.metrics.texts import generation, perplexity

# `classification` and `regression` are the functions here; they hide the modules of the same name.
__all__ = [
    "Figures",
    "Floats",
    "Labels",
    "agreement",
    "bootstrap",
    "check_finite",
    "classification",
    "counterfactual",
    "generation",
    "lead_metric",
    "log_softmax",
    "logits_of",
    "multi_label",
    "per_label_f1",
    "per_type_f1",
    "perplexity",
    "question_answering",
    "regression",
    "single_label",
    "slices",
    "token_classification",
]
