"""Judge of token classification: a tag for every word."""

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
    """Predictions are logits of all words of all rows, in order, float32 (W, L).

    A word's tag is read at its first token. A word without a token (control characters) gets the log frequencies of the
    tags in the training rows as logits, and so the most frequent tag.
    """

    form = tasks.TOKENS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lead = self.lead_of(self.dataset.labels)
        self.ids = {name: index for index, name in enumerate(self.dataset.labels)}
        counts = Counter(tag for tags in self.dataset.train.columns["tags"] for tag in tags)
        smoothed = np.array([counts[name] + 1 for name in self.dataset.labels], dtype=np.float64)  # (L,)
        self.prior = np.log(smoothed / smoothed.sum()).astype(np.float32)  # (L,)

    @classmethod
    def lead_of(cls, labels: Sequence[str]) -> str:
        return metrics.lead_metric(labels)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """The figures of `metrics.token_classification`, `nll` per word, and `f1_TYPE` for each type of span."""
        metrics.check_finite(predictions)
        guess, truth = self._by_row(predictions, split), split.columns["tags"]
        ids = [self.ids[tag] for tags in truth for tag in tags]
        nll = -metrics.log_softmax(predictions)[np.arange(len(ids)), ids]  # (W,)
        of_type = {f"f1_{name}": value for name, value in metrics.per_type_f1(guess, truth).items()}
        figures = metrics.token_classification(guess, truth)
        return {self.lead: 0.0, **figures, "nll": float(nll.mean()), **of_type}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        """`token_accuracy` and, for tags of a BIO scheme, `span_f1`, computed from the counts of each row."""
        pairs = list(zip(self._by_row(predictions, split), split.columns["tags"], strict=True))
        words = np.array([[sum(map(str.__eq__, *pair)), len(pair[1])] for pair in pairs])  # (n, 2): right, all

        def token_accuracy(rows: Rows) -> float | None:
            right, total = words[rows].sum(axis=0)
            return float(right / total) if total else None

        if self.lead == "token_accuracy":
            return {"token_accuracy": token_accuracy}
        spans = np.array([span_counts(*pair) for pair in pairs])  # (n, 2): right, predicted plus true

        def span_f1(rows: Rows) -> float | None:
            right, total = spans[rows].sum(axis=0)
            return float(2 * right / total) if total else None

        return {"span_f1": span_f1, "token_accuracy": token_accuracy}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        tags: list[int] = predictions.argmax(axis=1).tolist()
        return tags

    def artifact_inputs(self, split: Split) -> list[str]:
        return [" ".join(words) for words in split.columns["tokens"]]

    def predict_artifact(self, model: Model, split: Split) -> Logits:
        assert isinstance(model, Tagger), type(model)
        rows = zip(split.columns["tokens"], self._tokens(model, self.artifact_inputs(split)), strict=True)
        return np.concatenate([self._of_words(words, tokens) for words, tokens in rows])

    def predict_artifact_with_probabilities(
        self, model: Model, split: Split
    ) -> tuple[Logits, NDArray[np.float32] | None]:
        assert isinstance(model, Tagger), type(model)
        tokens = model.tokens(self.artifact_inputs(split), "probabilities")
        logs = [replace(text, values=metrics.logits_of(text.values).astype(np.float32)) for text in tokens]
        rows = zip(split.columns["tokens"], logs, strict=True)
        probabilities: NDArray[np.float32] = np.exp(np.concatenate([self._of_words(*row) for row in rows]))
        return self.predict_artifact(model, split), probabilities

    def _tokens(self, model: Tagger, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, with logits that give the same answers as the calibrated graph."""
        if model.manifest.calibration.keeps_answers:
            return model.tokens(texts)
        tokens = model.tokens(texts, "probabilities")
        return [replace(row, values=metrics.logits_of(row.values).astype(np.float32)) for row in tokens]

    def _of_words(self, words: Sequence[str], tokens: Tokens) -> Logits:
        """(w, L) the logits of each word's first token."""
        logits = np.tile(self.prior, (len(words), 1))
        start, token = 0, 0
        for index, word in enumerate(words):
            at = tokens.text.find(word, start)
            if at < 0:  # the runtime cleans the text, which may remove a word
                continue
            start = at + len(word)
            while token < len(tokens.offsets) and tokens.offsets[token][1] <= at:
                token += 1
            if token < len(tokens.offsets) and tokens.offsets[token][0] < start:
                logits[index] = tokens.values[token]
        return logits

    def logits_and_targets(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        ids = [self.ids[tag] for tags in split.columns["tags"] for tag in tags]
        return predictions, np.array(ids, dtype=np.int64)

    def _by_row(self, predictions: Logits, split: Split) -> list[list[str]]:
        """The predicted tags of each row."""
        names = iter([self.dataset.labels[tag] for tag in predictions.argmax(axis=1).tolist()])
        tags = [[next(names) for _ in words] for words in split.columns["tokens"]]
        assert next(names, None) is None, (len(predictions), sum(map(len, tags)))
        return tags


def span_counts(guess: list[str], truth: list[str]) -> tuple[int, int]:
    """The number of right spans of one row, and of predicted plus true ones; spans as seqeval reads them."""
    entities = require("seqeval.metrics.sequence_labeling", PURPOSE).get_entities
    predicted, true = set(entities(guess)), set(entities(truth))
    return len(predicted & true), len(predicted) + len(true)
