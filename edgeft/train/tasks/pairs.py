"""Text to text: an encoder reads the source, a decoder writes the target."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.data.formats import Columns
from edgeft.errors import require
from edgeft.models import model_sources
from edgeft.progress import say
from edgeft.train import metrics
from edgeft.train.likelihoods import Likelihoods, collect_likelihoods, nll_statistic, summarize_tokens
from edgeft.train.loop.batches import collate, encode
from edgeft.train.loop.packing import IGNORED, pad
from edgeft.train.loop.processes import unwrap
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure, Rows
from edgeft.train.metrics.texts import rouge_rows
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length
from edgeft.train.tasks.generation import check_positions, split_name

BATCH = 16  # items in a forward pass without gradients


@dataclass(frozen=True, eq=False)
class Translations:
    """The texts that a model generates for sources, and its likelihoods of the right targets.

    Attributes:
        texts: (n,) generated greedily.
        likelihoods: of the targets.
    """

    texts: list[str]
    likelihoods: Likelihoods


class Pairs(TrainingTask):
    """A source text and its target text; predictions are `Translations`.

    Generation is slow, with a forward pass for each token. So evaluations during training use the loss of the
    validation targets; texts are generated and scored after the training.
    """

    form = tasks.PAIRS
    auto = "AutoModelForSeq2SeqLM"
    adapter = "SEQ_2_SEQ_LM"
    smooths = True
    vocabulary = True
    of_tokens = True
    timed = False
    refuses = ("head", "gradual_unfreezing")
    lead = "chrf"

    @classmethod
    def measured_texts(cls, columns: Columns, tokenizer: Any) -> list[list[str]]:
        return [columns["source"], columns["target"]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.said: set[str] = set()

    def items(self, split: Split, training: bool = False) -> Items:
        """Both texts end with the tokenizer's special tokens, even if truncated."""
        sources = encode(self.tokenizer, split.columns["source"], self.max_length)
        targets = self.target_ids(split.columns["target"], truncation=True, max_length=self.max_length)
        if name := split_name(self, split):
            self._report(name, split)
        inputs = [{"input_ids": ids, "labels": labels} for ids, labels in zip(sources, targets, strict=True)]
        return Items(inputs, np.arange(len(inputs)), np.array([len(labels) for labels in targets], dtype=np.float64))

    def target_ids(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """Token ids of target texts, which some tokenizers treat differently from sources."""
        encoded = self.tokenizer(text_target=list(texts), verbose=False, **options) if texts else {"input_ids": []}
        return [list(ids) for ids in encoded["input_ids"]]

    def _report(self, name: str, split: Split) -> None:
        """Report once how many texts are truncated."""
        sources = self.tokenizer(split.columns["source"], verbose=False)["input_ids"]
        long = [
            sum(len(ids) > self.max_length for ids in side)
            for side in (sources, self.target_ids(split.columns["target"]))
        ]
        line = f"{name}: {long[0]} sources and {long[1]} targets of {len(split)} are cut to {self.max_length} tokens"
        if any(long) and line not in self.said:
            self.said.add(line)
            say(line)

    def prepare(self, model: Any) -> None:
        """Refuse a model with too few positions.

        Raises:
            ModelError: it has fewer than `max_length`.
        """
        check_positions(model, self.max_length)

    def targets(self, model: Any, items: Items, indices: Sequence[int]) -> Targets:
        """Logits of the target tokens of some items, given the source and the target's beginning."""
        batch, labels = self._batch(model, items, indices)
        shifted = unwrap(model).prepare_decoder_input_ids_from_labels(labels)
        logits = model(**batch, decoder_input_ids=shifted, use_cache=False).logits  # (B, T, V)
        is_target = labels != IGNORED
        return Targets(logits[is_target].float(), labels[is_target], is_target.nonzero()[:, 0])

    def _batch(self, model: Any, items: Items, indices: Sequence[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Sources as the encoder takes them, and labels, padded with IGNORED; all (B, T)."""
        device, chosen = next(model.parameters()).device, [items.inputs[index] for index in indices]
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        return batch, pad([item["labels"] for item in chosen], IGNORED, device)

    def target_losses(self, targets: Targets) -> torch.Tensor:
        return cross_entropy(
            targets.logits, targets.truth, reduction="none", label_smoothing=self.config.label_smoothing
        )

    @torch.inference_mode()
    def predict(self, model: Any, items: Items) -> Translations:
        return Translations(self.generate(model, items), self.score_all(model, items))

    @torch.inference_mode()
    def score_all(self, model: Any, items: Items) -> Likelihoods:
        """Likelihoods of all targets; leaves the model in eval mode."""
        model.eval()
        groups = batches_by_length(items.lengths, BATCH)
        return collect_likelihoods(((indices, self.targets(model, items, indices)) for indices in groups), items)

    @torch.inference_mode()
    def generate(self, model: Any, items: Items) -> list[str]:
        """(items,) greedily generated texts of at most `max_length` tokens; leaves the model in eval mode."""
        model.eval()
        texts = [""] * len(items)
        for indices in batches_by_length(items.lengths, BATCH):
            batch, _ = self._batch(model, items, indices)
            with model_sources.quietly("generation"):
                ids = model.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=self.max_length)  # (B, T)
            for index, text in zip(indices, self.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                texts[index] = text.strip()
        return texts

    def evaluate(self, model: Any, items: Items, split: Split) -> Figures:
        return summarize_tokens(self.score_all(model, items))

    def score(self, figures: Figures) -> float:
        """Minus the loss of the targets, as nothing is generated during training."""
        return -figures["nll"]

    def figures(self, predictions: Translations, split: Split) -> Figures:
        written = metrics.generation(predictions.texts, split.columns["target"])
        return {self.lead: written["chrf"], **written, **summarize_tokens(predictions.likelihoods)}

    def measures(self, predictions: Translations, split: Split) -> dict[str, Measure]:
        rouge = rouge_rows(predictions.texts, split.columns["target"])
        nll = nll_statistic(predictions.likelihoods, len(split))
        return {
            "chrf": chrf_statistic(predictions.texts, split.columns["target"]),
            "rouge_l": rouge["rouge_l"],
            "nll": nll,
        }

    @classmethod
    def score_name(cls, labels: Sequence[str]) -> str:
        return "minus NLL"

    @staticmethod
    def gain_in_points(before: float, after: float) -> float:
        """chrF already is in points of a hundred."""
        return after - before

    def answers(self, predictions: Translations) -> Sequence[Hashable]:
        return predictions.texts

    def logits_to_compare(self, predictions: Translations) -> NDArray[np.float32]:
        """Logits of the first targets of the first items."""
        return predictions.likelihoods.logits


def chrf_statistic(predicted: Sequence[str], references: Sequence[str]) -> Measure:
    """Corpus chrF of some rows, 0 to 100; n-grams are counted only once, as in sacrebleu's own bootstrap.

    Args:
        predicted: (n,) texts of the model.
        references: (n,) right texts.
    """
    chrf = require("sacrebleu.metrics", "for the metrics").CHRF()
    counts = np.array(chrf._extract_corpus_statistics(list(predicted), [list(references)]))  # (n, 18)

    def of_rows(rows: Rows) -> float:
        return float(chrf._compute_score_from_stats(counts[rows].sum(axis=0).tolist()).score)

    return of_rows
