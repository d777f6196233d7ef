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
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.train import metrics
from edgeft.train.likelihoods import Likelihoods, likelihoods, nll_of, token_figures
from edgeft.train.loop.batches import collate, encode
from edgeft.train.loop.packing import IGNORED, padded
from edgeft.train.loop.processes import unwrapped
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure, Rows
from edgeft.train.metrics.texts import rouge_rows
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length
from edgeft.train.tasks.generation import check_positions, name_of

BATCH = 16  # items in a forward pass without gradients


@dataclass(frozen=True, eq=False)
class Translations:
    """What a model writes for sources, and what it thinks of the right targets.

    Attributes:
        texts: (n,) written greedily.
        likelihoods: of the targets.
    """

    texts: list[str]
    likelihoods: Likelihoods


class Pairs(TrainingTask):
    """A source text and its target text; predictions are `Translations`.

    Writing is slow, a forward pass for each token. So a look during training takes the loss of the validation targets;
    texts are written and scored when the training is over.
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
        """Both texts end as the tokenizer ends them, truncated ones too."""
        sources = encode(self.tokenizer, split.columns["source"], self.max_length)
        targets = self.target_ids(split.columns["target"], truncation=True, max_length=self.max_length)
        if name := name_of(self, split):
            self._report(name, split)
        inputs = [{"input_ids": ids, "labels": labels} for ids, labels in zip(sources, targets, strict=True)]
        return Items(inputs, np.arange(len(inputs)), np.array([len(labels) for labels in targets], dtype=np.float64))

    def target_ids(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """Token ids of target texts, which some tokenizers treat unlike sources."""
        found = self.tokenizer(text_target=list(texts), verbose=False, **options) if texts else {"input_ids": []}
        return [list(ids) for ids in found["input_ids"]]

    def _report(self, name: str, split: Split) -> None:
        """Say once how many texts are truncated."""
        sources = self.tokenizer(split.columns["source"], verbose=False)["input_ids"]
        long = [
            sum(len(ids) > self.max_length for ids in found)
            for found in (sources, self.target_ids(split.columns["target"]))
        ]
        line = f"{name}: {long[0]} sources and {long[1]} targets of {len(split)} are cut to {self.max_length} tokens"
        if any(long) and line not in self.said:
            self.said.add(line)
            say(line)

    def prepare(self, model: Any) -> None:
        """Refuse a model without the positions.

        Raises:
            ModelError: it has fewer than `max_length`.
        """
        check_positions(model, self.max_length)

    def targets(self, model: Any, items: Items, places: Sequence[int]) -> Targets:
        """What a model says of the targets of some items, given the source and the target's beginning."""
        batch, labels = self._batch(model, items, places)
        shifted = unwrapped(model).prepare_decoder_input_ids_from_labels(labels)
        logits = model(**batch, decoder_input_ids=shifted, use_cache=False).logits  # (B, T, V)
        wanted = labels != IGNORED
        return Targets(logits[wanted].float(), labels[wanted], wanted.nonzero()[:, 0])

    def _batch(self, model: Any, items: Items, places: Sequence[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Sources as the encoder takes them, and labels, padded with IGNORED; all (B, T)."""
        device, chosen = next(model.parameters()).device, [items.inputs[place] for place in places]
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        return batch, padded([item["labels"] for item in chosen], IGNORED, device)

    def target_losses(self, found: Targets) -> torch.Tensor:
        return cross_entropy(found.logits, found.truth, reduction="none", label_smoothing=self.config.label_smoothing)

    @torch.inference_mode()
    def predict(self, model: Any, items: Items) -> Translations:
        return Translations(self.write(model, items), self.score_all(model, items))

    @torch.inference_mode()
    def score_all(self, model: Any, items: Items) -> Likelihoods:
        """Likelihoods of all targets; leaves the model in eval mode."""
        model.eval()
        groups = batches_by_length(items.lengths, BATCH)
        return likelihoods(((places, self.targets(model, items, places)) for places in groups), items)

    @torch.inference_mode()
    def write(self, model: Any, items: Items) -> list[str]:
        """(items,) the greedy texts, of `max_length` tokens at most; leaves the model in eval mode."""
        model.eval()
        texts = [""] * len(items)
        for places in batches_by_length(items.lengths, BATCH):
            batch, _ = self._batch(model, items, places)
            with model_folder._quietly("generation"):
                ids = model.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=self.max_length)  # (B, T)
            for place, text in zip(places, self.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                texts[place] = text.strip()
        return texts

    def look(self, model: Any, items: Items, split: Split) -> Figures:
        return token_figures(self.score_all(model, items))

    def score(self, figures: Figures) -> float:
        """Minus the loss of the targets: nothing is written during training."""
        return -figures["nll"]

    def figures(self, predictions: Translations, split: Split) -> Figures:
        written = metrics.generation(predictions.texts, split.columns["target"])
        return {self.lead: written["chrf"], **written, **token_figures(predictions.likelihoods)}

    def measures(self, predictions: Translations, split: Split) -> dict[str, Measure]:
        rouge = rouge_rows(predictions.texts, split.columns["target"])
        nll = nll_of(predictions.likelihoods, len(split))
        return {"chrf": chrf_of(predictions.texts, split.columns["target"]), "rouge_l": rouge["rouge_l"], "nll": nll}

    @classmethod
    def scored(cls, labels: Sequence[str]) -> str:
        return "minus NLL"

    @staticmethod
    def points(before: float, after: float) -> float:
        """chrF is in points of a hundred already."""
        return after - before

    def answers(self, predictions: Translations) -> Sequence[Hashable]:
        return predictions.texts

    def compared(self, predictions: Translations) -> NDArray[np.float32]:
        """Logits of the first targets of the first items."""
        return predictions.likelihoods.logits


def chrf_of(predicted: Sequence[str], references: Sequence[str]) -> Measure:
    """chrF of the corpus that some rows make, 0 to 100; n-grams are counted once, as sacrebleu's own bootstrap does.

    Args:
        predicted: (n,) texts of the model.
        references: (n,) right texts.
    """
    chrf = require("sacrebleu.metrics", "for the metrics").CHRF()
    counts = np.array(chrf._extract_corpus_statistics(list(predicted), [list(references)]))  # (n, 18)

    def of_rows(rows: Rows) -> float:
        return float(chrf._compute_score_from_stats(counts[rows].sum(axis=0).tolist()).score)

    return of_rows
