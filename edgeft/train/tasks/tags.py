"""Token classification: a tag for every word."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft.data.dataset import Split
from edgeft.train.judges.sequences import Logits
from edgeft.train.judges.tags import TagsJudge
from edgeft.train.loop.batches import collate
from edgeft.train.loop.packing import IGNORED, pad
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length
from edgeft.train.tasks.sequences import BATCH, label_weights

STRIDE = 4  # a window of the runtime shares 1 / STRIDE of its tokens with the next one


@dataclass(frozen=True, eq=False)
class TagItems(Items):
    """Items of words. Each has `labels`, (T,) the tag's id at the first token of a word and `IGNORED` elsewhere, and
    `words`, the indices of those words among all words of the split.

    Attributes:
        total: words of the split, including those without a token.
    """

    total: int


class Tags(TagsJudge, TrainingTask):
    """Words with a tag each; predictions are logits of all words of all rows, in order, float32 (W, L).

    A row that is too long becomes several items of complete words, so that every word has a prediction. Words without a
    token don't count in the loss.
    """

    auto = "AutoModelForTokenClassification"
    adapter = "TOKEN_CLS"
    smooths = True
    loose = True

    def items(self, split: Split, training: bool = False) -> TagItems:
        encoded = encode_words(self.tokenizer, split.columns["tokens"])
        opening, closing = special_tokens(self.tokenizer)
        room = self.max_length - len(opening) - len(closing)
        inputs, rows, total = list[dict[str, Any]](), list[int](), 0
        for row, words in enumerate(encoded):
            tags = [self.ids[tag] for tag in split.columns["tags"][row]]
            words = [word[:room] for word in words]
            for start, end in split_windows([len(word) for word in words], room):
                item = label_first_tokens(words[start:end], tags[start:end], total + start)
                if item["words"]:
                    item["input_ids"] = opening + item["input_ids"] + closing
                    item["labels"] = [IGNORED] * len(opening) + item["labels"] + [IGNORED] * len(closing)
                    inputs.append(item)
                    rows.append(row)
            total += len(words)
        weights = np.array([len(item["words"]) for item in inputs], dtype=np.float64)
        return TagItems(inputs, np.array(rows, dtype=np.int64), weights, total)

    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        """The tags of the words of some items."""
        device = next(model.parameters()).device
        chosen = [items.inputs[index] for index in indices]
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        labels = pad([item["labels"] for item in chosen], IGNORED, device)  # (B, T)
        is_target = labels != IGNORED
        return Targets(model(**batch).logits[is_target].float(), labels[is_target], is_target.nonzero()[:, 0])

    def target_keys(self, items: Items) -> NDArray[np.int64]:
        """The indices of the words: another tokenizer may drop a word, and split long rows elsewhere."""
        return np.array([word for item in items.inputs for word in item["words"]], dtype=np.int64)

    def target_losses(self, targets: Targets) -> torch.Tensor:
        """Cross-entropy times the label's weight, smoothed as in `SingleLabel`."""
        weights, smoothing = (
            label_weights(self.dataset.class_weights, targets.truth.device),
            self.config.label_smoothing,
        )
        return cross_entropy(targets.logits, targets.truth, weights, reduction="none", label_smoothing=smoothing)

    def predict(self, model: Any, items: Items) -> Logits:
        assert isinstance(items, TagItems), type(items)
        device = next(model.parameters()).device
        predictions = np.tile(self.prior, (items.total, 1))  # (W, L)
        model.eval()
        with torch.inference_mode():
            for indices in batches_by_length(items.lengths, BATCH):
                chosen = [items.inputs[index] for index in indices]
                batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
                logits = model(**batch).logits.float().cpu().numpy()  # (B, T, L)
                for item, of_item in zip(chosen, logits, strict=True):
                    is_target = np.array(item["labels"]) != IGNORED  # (T,) of this item
                    predictions[item["words"]] = of_item[: len(is_target)][is_target]
        return predictions

    def stride(self) -> int:
        return self.max_length // STRIDE

    def logits_to_compare(self, predictions: Logits) -> Logits:
        return predictions

    def as_array(self, predictions: Logits) -> Logits:
        return predictions


# ------------------------------------------------------------------------------------------------------ words to tokens


def encode_words(tokenizer: Any, rows: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """Token ids of each word of each row, without special tokens; empty if the tokenizer drops a word.

    Args:
        tokenizer: a fast one.
        rows: the words of each row; they get the tokens that they would have in a text with spaces between words.
    """
    if not rows:
        return []
    space = " " if keeps_space(tokenizer) else ""
    spaced = [[word if index == 0 else space + word for index, word in enumerate(words)] for words in rows]
    encoded = tokenizer(spaced, is_split_into_words=True, add_special_tokens=False, verbose=False)
    encoded_rows = []
    for row, words in enumerate(rows):
        of_word: list[list[int]] = [[] for _ in words]
        for word, token in zip(encoded.word_ids(row), encoded["input_ids"][row], strict=True):
            of_word[word].append(token)
        encoded_rows.append(of_word)
    return encoded_rows


def keeps_space(tokenizer: Any) -> bool:
    """Whether a word must be passed with the space before it, to get the tokens that it has in a text.

    Byte-level BPE such as RoBERTa's needs it: `word` and ` word` have different tokens, and texts contain the second.
    """
    joined, glued, spaced = (
        tokenizer(text, is_split_into_words=is_split, add_special_tokens=False)["input_ids"]
        for text, is_split in (("a a", False), (["a", "a"], True), (["a", " a"], True))
    )
    return bool(glued != joined and spaced == joined)


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    marked = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    runs = [(special, [token for token, _ in run]) for special, run in groupby(marked, lambda pair: pair[1])]
    opening = runs[0][1] if runs[0][0] else []
    return opening, runs[-1][1] if runs[-1][0] else []


def split_windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Split words into as few windows as possible, of similar length, so that none has little context.

    Args:
        lengths: tokens of each word, at most `room`.
        room: tokens of a window.

    Returns:
        First word of each window and the one after its last.
    """
    fewest = len(list(_cut(lengths, room)))
    if fewest <= 1:
        return [(0, len(lengths))] if len(lengths) else []
    low = max(max(lengths), sum(lengths) // fewest)
    # More room never needs more windows, so the smallest sufficient room can be bisected.
    least = low + bisect_left(range(low, room), True, key=lambda tried: len(list(_cut(lengths, tried))) <= fewest)
    return list(_cut(lengths, least))


def _cut(lengths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    start, used = 0, 0
    for word, length in enumerate(lengths):
        if used + length > room:
            yield start, word
            start, used = word, 0
        used += length
    if start < len(lengths):
        yield start, len(lengths)


def label_first_tokens(words: Sequence[Sequence[int]], tags: Sequence[int], first: int) -> dict[str, Any]:
    """One item without special tokens.

    Args:
        words: token ids of each word.
        tags: id of each word's tag.
        first: index of the first word among those of the split.
    """
    return {
        "input_ids": [token for word in words for token in word],
        "labels": [
            target
            for word, tag in zip(words, tags, strict=True)
            if word
            for target in (tag, *[IGNORED] * (len(word) - 1))
        ],
        "words": [first + index for index, word in enumerate(words) if word],
    }
