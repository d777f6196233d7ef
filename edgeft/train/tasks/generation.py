"""Language models: plain texts, and prompts with completions. The model learns to predict the next token.

A text ends with the tokenizer's end-of-text token, which is a target like any other, so that the model learns to stop.
If the tokenizer puts a token at the beginning of a text, it is there, too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft import tasks
from edgeft.data.dataset import SPLITS, Split
from edgeft.errors import DataError, ModelError
from edgeft.progress import say
from edgeft.train.likelihoods import (
    Likelihoods,
    collect_likelihoods,
    next_token_targets,
    nll_statistic,
    summarize_tokens,
)
from edgeft.train.loop import packing
from edgeft.train.loop.packing import IGNORED
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure, Rows
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length

TOKENS = 2048  # in a forward pass without gradients; each token has logits over the whole vocabulary


@dataclass(frozen=True)
class Document:
    """Tokens of one sequence, and which of them are targets."""

    ids: list[int]
    is_target: list[bool]

    def part(self, start: int, stop: int) -> Document:
        """The tokens from `start` to `stop`."""
        return Document(self.ids[start:stop], self.is_target[start:stop])


def split_name(task: TrainingTask, split: Split) -> str | None:
    """The name of a split; None if it is only a part of one."""
    return next((name for name in SPLITS if task.dataset.split(name) is split), None)


def check_positions(model: Any, max_length: int) -> None:
    """Refuse a model with fewer positions than an item may have tokens.

    Raises:
        ModelError: it has fewer; the message has both numbers.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(f"finetune.max_length={max_length} is more than the model's {positions} positions")


class LanguageModel(TrainingTask):
    """Texts to continue; predictions are `Likelihoods`.

    Nothing is generated: perplexity is what the training lowers, and it needs only one forward pass a text.

    Attributes:
        cut: what happens to rows that are too long, for the message.
    """

    auto = "AutoModelForCausalLM"
    adapter = "CAUSAL_LM"
    smooths = True
    packs = True
    vocabulary = True
    of_tokens = True
    timed = False
    refuses = ("head", "gradual_unfreezing")
    lead = "negative_perplexity"
    cut: str

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.tokenizer.eos_token_id is None:
            raise ModelError("the model's tokenizer has no end-of-text token, which a text must end with")
        first = self.tokenizer("a")["input_ids"][:1]
        self.start = first if first == [self.tokenizer.bos_token_id] else []
        self.said: set[str] = set()

    @abstractmethod
    def documents(self, split: Split) -> list[Document]:
        """(n,) the rows as tokens, of any length."""

    @abstractmethod
    def cut_to_length(self, document: Document) -> list[Document]:
        """The parts that remain of a document of more than `max_length` tokens; none is longer than that."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, without special tokens."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False) if texts else {"input_ids": []}
        return [list(row) for row in encoded["input_ids"]]

    def items(self, split: Split, training: bool = False) -> Items:
        inputs: list[dict[str, Any]] = []
        rows: list[int] = []
        documents = self.documents(split)
        for row, document in enumerate(documents):
            for part in self.cut_to_length(document) if len(document.ids) > self.max_length else [document]:
                labels = [token if target else IGNORED for token, target in zip(part.ids, part.is_target, strict=True)]
                if any(part.is_target[1:]):  # the first token has none before it that could predict it
                    inputs.append({"input_ids": part.ids, "labels": [IGNORED, *labels[1:]]})
                    rows.append(row)
        weights = [sum(label != IGNORED for label in item["labels"]) for item in inputs]
        items = Items(inputs, np.array(rows, dtype=np.int64), np.array(weights, dtype=np.float64))
        if name := split_name(self, split):
            self._report(name, [len(document.ids) for document in documents], items)
        return packing.pack(items, self.max_length) if training and getattr(self.config, "packing", False) else items

    def _report(self, name: str, lengths: list[int], items: Items) -> None:
        """Report once which rows did not fit.

        Raises:
            DataError: nothing is left to learn.
        """
        long, lost = sum(length > self.max_length for length in lengths), len(lengths) - len(set(items.rows.tolist()))
        if not len(items):
            raise DataError(
                f"{name}: none of its {len(lengths)} rows has a target in {self.max_length} tokens; raise max_length"
            )
        cut = f"{name}: {long} of {len(lengths)} rows are longer than {self.max_length} tokens: {self.cut}"
        gone = f"{name}: {lost} of {len(lengths)} rows have no target in {self.max_length} tokens and are left out"
        for count, line in ((long, cut), (lost, gone)):
            if count and line not in self.said:
                self.said.add(line)
                say(line)

    def prepare(self, model: Any) -> None:
        """Refuse models that can't learn from such targets, and let an end-of-text token that is also padding learn.

        Raises:
            ModelError: the model has no language-model head, is not causal, or mixes packed documents.
        """
        check_positions(model, self.max_length)
        if model.edgeft_new_head:
            raise ModelError("the model folder has no language-model head; take one that was trained to continue texts")
        embeddings = model.get_input_embeddings()
        if getattr(embeddings, "padding_idx", None) == self.tokenizer.eos_token_id:
            # Otherwise the embedding of the token that ends each turn of a chat would get no gradient.
            embeddings.padding_idx = None
        packing.check_causal(model)
        if getattr(self.config, "packing", False):
            packing.check_documents_apart(model)

    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        return next_token_targets(model, [items.inputs[index] for index in indices], self.tokenizer.pad_token_id)

    def target_losses(self, targets: Targets) -> torch.Tensor:
        return cross_entropy(
            targets.logits, targets.truth, reduction="none", label_smoothing=self.config.label_smoothing
        )

    @torch.inference_mode()
    def predict(self, model: Any, items: Items) -> Likelihoods:
        model.eval()
        groups = batches_by_length(items.lengths, max(1, TOKENS // self.max_length))
        return collect_likelihoods(((indices, self.targets(model, items, indices)) for indices in groups), items)

    def figures(self, predictions: Likelihoods, split: Split) -> Figures:
        return summarize_tokens(predictions)

    def measures(self, predictions: Likelihoods, split: Split) -> dict[str, Measure]:
        nll = nll_statistic(predictions, len(split))

        def negative_perplexity(rows: Rows) -> float | None:
            mean = nll(rows)
            return None if mean is None else -math.exp(mean)

        return {"negative_perplexity": negative_perplexity, "nll": nll}

    def answers(self, predictions: Likelihoods) -> Sequence[Hashable]:
        """The likeliest token at the position of each target."""
        return predictions.best

    def logits_to_compare(self, predictions: Likelihoods) -> NDArray[np.float32]:
        """Logits of the first targets of the first items: all logits would not fit into memory."""
        return predictions.logits

    @classmethod
    def score_name(cls, labels: Sequence[str]) -> str:
        return "minus NLL"

    @staticmethod
    def gain_in_points(before: float, after: float) -> float:
        """By how many percent the perplexity fell."""
        return 100 * (1 - after / before)

    def score(self, figures: Figures) -> float:
        """Minus the loss: it orders evaluations as the perplexity does, without its large numbers early on."""
        return -figures["nll"]


class PlainText(LanguageModel):
    """Plain texts, in which every token is a target. A long text becomes several items.

    An item begins with the last token of the item before, so that each token of the text is predicted exactly once.
    """

    form = tasks.TEXT
    cut = "they are cut into several items"
    long_texts_become_items = True

    def documents(self, split: Split) -> list[Document]:
        sequences = [[*self.start, *ids, self.tokenizer.eos_token_id] for ids in self.ids(split.texts)]
        return [Document(ids, [True] * len(ids)) for ids in sequences]

    def cut_to_length(self, document: Document) -> list[Document]:
        starts = range(0, len(document.ids) - 1, self.max_length - 1)
        return [document.part(start, start + self.max_length) for start in starts]


class PromptCompletion(LanguageModel):
    """Prompts, and completions that are the targets. Nothing is put between the two, as nothing will be in use.

    The targets are the tokens that follow the prompt's in the joined text. If joining changes the tokens of the prompt,
    prompt and completion are tokenized separately, because in use the prompt is a text of its own.
    """

    form = tasks.PROMPT_COMPLETION
    cut = "the prompt loses its beginning, down to a quarter of max_length, then the completion its end"

    def documents(self, split: Split) -> list[Document]:
        prompts, completions = split.columns["prompt"], split.columns["completion"]
        together = self.ids([first + second for first, second in zip(prompts, completions, strict=True)])
        return [self._document(*row) for row in zip(self.ids(prompts), self.ids(completions), together, strict=True)]

    def _document(self, prompt: list[int], completion: list[int], together: list[int]) -> Document:
        after = together[len(prompt) :] if together[: len(prompt)] == prompt else completion
        source, target = [*self.start, *prompt], [*after, self.tokenizer.eos_token_id]
        return Document([*source, *target], [False] * len(source) + [True] * len(target))

    def cut_to_length(self, document: Document) -> list[Document]:
        prompt_tokens = document.is_target.index(True)
        completion_tokens = len(document.ids) - prompt_tokens
        least = min(prompt_tokens, max(1, self.max_length // 4))
        room = max(self.max_length - completion_tokens, least)  # for the prompt
        first = min(len(self.start), room)
        ids = [*document.ids[:first], *document.ids[prompt_tokens - (room - first) : prompt_tokens]]
        ids += document.ids[prompt_tokens : prompt_tokens + self.max_length - room]
        return [Document(ids, [False] * room + [True] * (len(ids) - room))]
