"""Predictions of a tag for every word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.errors import require
from edgeft.runtime import Model
from edgeft.runtime.answers.tags import Tagger, Tokens
from edgeft.train import metrics
from edgeft.train.judges.base import Judge
from edgeft.train.judges.sequences import Logits
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure, Rows
from edgeft.train.metrics.checks import PURPOSE


class TagsJudge(Judge):
    """Predictions are logits of all words of all rows in their order, float32 (W, L).

    A word's tag is read at its first token. A word without any token (control characters) has the log shares of the
    tags in the training rows for logits: it gets the most frequent tag.
    """

    form = tasks.TOKENS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lead = self.lead_of(self.dataset.labels)
        self.ids = {name: place for place, name in enumerate(self.dataset.labels)}
        counts = Counter(tag for tags in self.dataset.train.columns["tags"] for tag in tags)
        smoothed = np.array([counts[name] + 1 for name in self.dataset.labels], dtype=np.float64)  # (L,)
        self.prior = np.log(smoothed / smoothed.sum()).astype(np.float32)  # (L,)

    @classmethod
    def lead_of(cls, labels: Sequence[str]) -> str:
        return metrics.lead_metric(labels)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """Those of `metrics.token_classification`, `nll` a word, and `f1_TYPE` of each type of spans."""
        metrics.check_finite(predictions)
        guess, truth = self._by_row(predictions, split), split.columns["tags"]
        ids = [self.ids[tag] for tags in truth for tag in tags]
        nll = -metrics.log_softmax(predictions)[np.arange(len(ids)), ids]  # (W,)
        of_type = {f"f1_{name}": value for name, value in metrics.per_type_f1(guess, truth).items()}
        found = metrics.token_classification(guess, truth)
        return {self.lead: 0.0, **found, "nll": float(nll.mean()), **of_type}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        """`token_accuracy` and, of tags with a scheme, `span_f1`: functions of the rows' counts of words and spans."""
        pairs = list(zip(self._by_row(predictions, split), split.columns["tags"], strict=True))
        words = np.array([[sum(map(str.__eq__, *pair)), len(pair[1])] for pair in pairs])  # (n, 2): right, all

        def token_accuracy(rows: Rows) -> float | None:
            right, total = words[rows].sum(axis=0)
            return float(right / total) if total else None

        if self.lead == "token_accuracy":
            return {"token_accuracy": token_accuracy}
        spans = np.array([span_counts(*pair) for pair in pairs])  # (n, 2): right, given and true

        def span_f1(rows: Rows) -> float | None:
            right, total = spans[rows].sum(axis=0)
            return float(2 * right / total) if total else None

        return {"span_f1": span_f1, "token_accuracy": token_accuracy}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        found: list[int] = predictions.argmax(axis=1).tolist()
        return found

    def given(self, split: Split) -> list[str]:
        return [" ".join(words) for words in split.columns["tokens"]]

    def asked(self, model: Model, split: Split) -> Logits:
        assert isinstance(model, Tagger), type(model)
        rows = zip(split.columns["tokens"], self._tokens(model, self.given(split)), strict=True)
        return np.concatenate([self._of_words(words, tokens) for words, tokens in rows])

    def asked_with_probabilities(self, model: Model, split: Split) -> tuple[Logits, NDArray[np.float32] | None]:
        assert isinstance(model, Tagger), type(model)
        made = model.tokens(self.given(split), "probabilities")
        logs = [replace(own, values=metrics.logits_of(own.values).astype(np.float32)) for own in made]
        rows = zip(split.columns["tokens"], logs, strict=True)
        probabilities: NDArray[np.float32] = np.exp(np.concatenate([self._of_words(*row) for row in rows]))
        return self.asked(model, split), probabilities

    def _tokens(self, model: Tagger, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text with logits that give the answers of the calibrated graph."""
        if model.manifest.calibration.keeps_answers:
            return model.tokens(texts)
        made = model.tokens(texts, "probabilities")
        return [replace(own, values=metrics.logits_of(own.values).astype(np.float32)) for own in made]

    def _of_words(self, words: Sequence[str], tokens: Tokens) -> Logits:
        """(w, L) the logits of each word's first token."""
        found = np.tile(self.prior, (len(words), 1))
        start, token = 0, 0
        for place, word in enumerate(words):
            at = tokens.text.find(word, start)
            if at < 0:  # the runtime cleans the whole text, which may leave nothing of a word
                continue
            start = at + len(word)
            while token < len(tokens.offsets) and tokens.offsets[token][1] <= at:
                token += 1
            if token < len(tokens.offsets) and tokens.offsets[token][0] < start:
                found[place] = tokens.values[token]
        return found

    def choices(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        ids = [self.ids[tag] for tags in split.columns["tags"] for tag in tags]
        return predictions, np.array(ids, dtype=np.int64)

    def _by_row(self, predictions: Logits, split: Split) -> list[list[str]]:
        """The predicted tags of each row."""
        names = iter([self.dataset.labels[place] for place in predictions.argmax(axis=1).tolist()])
        found = [[next(names) for _ in words] for words in split.columns["tokens"]]
        assert next(names, None) is None, (len(predictions), sum(map(len, found)))
        return found


def span_counts(guess: list[str], truth: list[str]) -> tuple[int, int]:
    """Right spans of one row, and predicted and true ones together; spans as seqeval reads them."""
    entities = require("seqeval.metrics.sequence_labeling", PURPOSE).get_entities
    given, true = set(entities(guess)), set(entities(truth))
    return len(given & true), len(given) + len(true)
