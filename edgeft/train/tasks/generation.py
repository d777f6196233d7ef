"""Language models: plain texts, and prompts with completions. What is learnt is the next token of the targets.

A text ends with the tokenizer's end-of-text token, which is a target like any other, so that the model learns to stop.
What the tokenizer puts at the beginning of a text stands there, too.
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
from edgeft.train.likelihoods import Likelihoods, likelihoods, next_tokens, nll_of, token_figures
from edgeft.train.loop import packing
from edgeft.train.loop.packing import IGNORED
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure, Rows
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length

TOKENS = 2048  # in a forward pass without gradients: each has logits over the whole vocabulary


@dataclass(frozen=True)
class Document:
    """Tokens of one sequence, and which of them are learnt."""

    ids: list[int]
    learnt: list[bool]

    def part(self, start: int, stop: int) -> Document:
        """Some of the tokens."""
        return Document(self.ids[start:stop], self.learnt[start:stop])


def name_of(task: TrainingTask, split: Split) -> str | None:
    """The name of a split; None where it is a part of one."""
    return next((name for name in SPLITS if task.dataset.split(name) is split), None)


def check_positions(model: Any, max_length: int) -> None:
    """Whether a model has positions for all tokens of an item.

    Raises:
        ModelError: it has fewer; both numbers are named.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(f"finetune.max_length={max_length} is more than the {positions} tokens the model knows")


class LanguageModel(TrainingTask):
    """Texts to be continued; predictions are `Likelihoods`.

    Nothing is generated: perplexity needs one forward pass a text, and it is what such a training lowers.

    Attributes:
        cut: what happens to a row that is too long, for the message.
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
        """(n,) the rows, of any length."""

    @abstractmethod
    def fitted(self, document: Document) -> list[Document]:
        """The parts of a document of more than `max_length` tokens that are kept, none longer than that."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, without anything put before or after them."""
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False) if texts else {"input_ids": []}
        return [list(row) for row in found["input_ids"]]

    def items(self, split: Split, training: bool = False) -> Items:
        inputs: list[dict[str, Any]] = []
        rows: list[int] = []
        documents = self.documents(split)
        for row, document in enumerate(documents):
            for part in self.fitted(document) if len(document.ids) > self.max_length else [document]:
                labels = [token if learnt else IGNORED for token, learnt in zip(part.ids, part.learnt, strict=True)]
                if any(part.learnt[1:]):  # nothing stands before the first token that could predict it
                    inputs.append({"input_ids": part.ids, "labels": [IGNORED, *labels[1:]]})
                    rows.append(row)
        weights = [sum(label != IGNORED for label in item["labels"]) for item in inputs]
        items = Items(inputs, np.array(rows, dtype=np.int64), np.array(weights, dtype=np.float64))
        if name := name_of(self, split):
            self._report(name, [len(document.ids) for document in documents], items)
        return packing.pack(items, self.max_length) if training and getattr(self.config, "packing", False) else items

    def _report(self, name: str, lengths: list[int], items: Items) -> None:
        """Say once what didn't fit.

        Raises:
            DataError: nothing is left to learn.
        """
        long, lost = sum(length > self.max_length for length in lengths), len(lengths) - len(set(items.rows.tolist()))
        if not len(items):
            raise DataError(
                f"{name}: none of its {len(lengths)} rows has a target in {self.max_length} tokens; raise max_length"
            )
        told = f"{name}: {long} of {len(lengths)} rows are longer than {self.max_length} tokens: {self.cut}"
        gone = f"{name}: {lost} of {len(lengths)} rows have no target in {self.max_length} tokens and are left out"
        for count, line in ((long, told), (lost, gone)):
            if count and line not in self.said:
                self.said.add(line)
                say(line)

    def prepare(self, model: Any) -> None:
        """Refuse what can't learn from its targets, and let an end-of-text token learn that pads, too.

        Raises:
            ModelError: the folder has no language-model head, or its tokens see what follows, or packing fails.
        """
        check_positions(model, self.max_length)
        if model.edgeft_new_head:
            raise ModelError("the model folder has no language-model head; take one that was trained to continue texts")
        embeddings = model.get_input_embeddings()
        if getattr(embeddings, "padding_idx", None) == self.tokenizer.eos_token_id:
            # Else the token that ends each turn of a chat would learn nothing where it pads, too.
            embeddings.padding_idx = None
        packing.check_causal(model)
        if getattr(self.config, "packing", False):
            packing.check_apart(model)

    def targets(self, model: torch.nn.Module, items: Items, places: Sequence[int]) -> Targets:
        return next_tokens(model, [items.inputs[place] for place in places], self.tokenizer.pad_token_id)

    def target_losses(self, found: Targets) -> torch.Tensor:
        return cross_entropy(found.logits, found.truth, reduction="none", label_smoothing=self.config.label_smoothing)

    @torch.inference_mode()
    def predict(self, model: Any, items: Items) -> Likelihoods:
        model.eval()
        groups = batches_by_length(items.lengths, max(1, TOKENS // self.max_length))
        return likelihoods(((places, self.targets(model, items, places)) for places in groups), items)

    def figures(self, predictions: Likelihoods, split: Split) -> Figures:
        return token_figures(predictions)

    def measures(self, predictions: Likelihoods, split: Split) -> dict[str, Measure]:
        nll = nll_of(predictions, len(split))

        def negative_perplexity(rows: Rows) -> float | None:
            found = nll(rows)
            return None if found is None else -math.exp(found)

        return {"negative_perplexity": negative_perplexity, "nll": nll}

    def answers(self, predictions: Likelihoods) -> Sequence[Hashable]:
        """The likeliest token at the place of each target."""
        return predictions.best

    def compared(self, predictions: Likelihoods) -> NDArray[np.float32]:
        """Logits of the first targets of the first items: those of all would not fit into memory."""
        return predictions.logits

    @classmethod
    def scored(cls, labels: Sequence[str]) -> str:
        return "minus NLL"

    @staticmethod
    def points(before: float, after: float) -> float:
        """Percent by which the perplexity fell."""
        return 100 * (1 - after / before)

    def score(self, figures: Figures) -> float:
        """Minus the loss, which orders looks as the perplexity does and has no large numbers early on."""
        return -figures["nll"]


class PlainText(LanguageModel):
    """Plain texts, every token a target. A long one becomes several items.

    An item begins with the last token of the one before, so that each token of the text is predicted once, whatever
    `max_length` is.
    """

    form = tasks.TEXT
    cut = "they are cut into several items"
    long_texts_become_items = True

    def documents(self, split: Split) -> list[Document]:
        found = [[*self.start, *ids, self.tokenizer.eos_token_id] for ids in self.ids(split.texts)]
        return [Document(ids, [True] * len(ids)) for ids in found]

    def fitted(self, document: Document) -> list[Document]:
        starts = range(0, len(document.ids) - 1, self.max_length - 1)
        return [document.part(start, start + self.max_length) for start in starts]


class PromptCompletion(LanguageModel):
    """Prompts, and completions that are the targets. Nothing is put between the two: the prompt ends as it will in use.

    The completion's tokens are those that follow the prompt's in the whole text; where the whole is split otherwise at
    the seam, the completion's alone, because in use the prompt will be a text of its own.
    """

    form = tasks.PROMPT_COMPLETION
    cut = "the prompt loses its beginning, down to a quarter of max_length, then the completion its end"

    def documents(self, split: Split) -> list[Document]:
        prompts, completions = split.columns["prompt"], split.columns["completion"]
        whole = self.ids([first + second for first, second in zip(prompts, completions, strict=True)])
        return [self._document(*row) for row in zip(self.ids(prompts), self.ids(completions), whole, strict=True)]

    def _document(self, prompt: list[int], completion: list[int], whole: list[int]) -> Document:
        after = whole[len(prompt) :] if whole[: len(prompt)] == prompt else completion
        given, asked = [*self.start, *prompt], [*after, self.tokenizer.eos_token_id]
        return Document([*given, *asked], [False] * len(given) + [True] * len(asked))

    def fitted(self, document: Document) -> list[Document]:
        given = document.learnt.index(True)
        asked = len(document.ids) - given
        room = max(self.max_length - asked, min(given, max(1, self.max_length // 4)))  # for the prompt
        first = min(len(self.start), room)
        ids = [*document.ids[:first], *document.ids[given - (room - first) : given]]
        ids += document.ids[given : given + self.max_length - room]
        return [Document(ids, [False] * room + [True] * (len(ids) - room))]
