"""Vocabulary pruning: the tokens that a task's text needs, and every single character for the text that comes later."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from edgeft.compress.prune import tokenizer_json
from edgeft.errors import ModelError
from edgeft.models.model_facts import OFFSET_POSITIONS

ROWS = 1024  # texts that are encoded at a time
TOKEN_ID = re.compile(r"_token_ids?$")  # pad_token_id, decoder_start_token_id, ...


@dataclass(frozen=True)
class Cut:
    """A tokenizer with fewer tokens.

    Attributes:
        tokenizer: the same class and settings, tokens renumbered.
        kept: old id of each new id, ascending, (new vocabulary,).
    """

    tokenizer: PreTrainedTokenizerFast
    kept: NDArray[np.int64]


def cut(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    size: int | None = None,
    min_count: int = 1,
    others: Sequence[str] = (),
) -> Cut:
    """Keep the tokens that texts need most.

    A text whose tokens all stayed is tokenized as before, provided that WordPiece has a piece for every single
    character that occurs in its pieces, as trained ones have; every other text becomes shorter pieces.

    Args:
        tokenizer: left as it is.
        texts: whose tokens count.
        size: tokens in all, at most; None: as many as `min_count` says.
        min_count: occurrences in all of them that a token needs.
        others: texts of another kind, such as those without labels, whose tokens count as much in all as those of
            `texts`, however many they are.

    Raises:
        ModelError: a size below what must stay in any case, or a tokenizer whose ids can't be renumbered.
    """
    tree = tokenizer_json.read(tokenizer)
    support = tokenizer_json.supports(tree)
    special = tokenizer_json.indispensable(tree) | set(tokenizer.all_special_ids)
    always = set().union(*(support(token_id) for token_id in special))
    if size is not None and size < len(always):
        raise ModelError(
            f"a vocabulary of {size} tokens is too small: special tokens and single characters alone are "
            f"{len(always)}; take at least as many"
        )
    counts = [occurrences(tokenizer, some) for some in (texts, others)]
    needed = sum(count / max(count.sum(), 1) for count in counts)
    kept = sorted(chosen(np.where(sum(counts) >= min_count, needed, -1.0), always, support, size))
    numbers = {old: new for new, old in enumerate(kept)}
    tokenizer_json.restrict(tree, numbers)
    made = tokenizer_json.rebuilt(tokenizer, tree)
    if made.get_vocab() != {piece: numbers[old] for piece, old in tokenizer.get_vocab().items() if old in numbers}:
        raise ModelError("the tokenizer's ids can't be renumbered: its added tokens don't follow its vocabulary")
    return Cut(made, np.array(kept, dtype=np.int64))


def chosen(
    needed: NDArray[np.float64], always: set[int], support: Callable[[int], set[int]], size: int | None
) -> set[int]:
    """Ids that stay: those needed most with their support, of equals the lower id, while they fit.

    Args:
        needed: how much each id is, (old vocabulary,); below 0: it stays only as the support of another.
        always: ids that stay in any case.
        support: of an id, those that must stay with it.
        size: ids in all, at most.
    """
    kept = set(always)
    for token_id in np.argsort(-needed, kind="stable").tolist():
        if needed[token_id] < 0:
            break
        missing = support(token_id) - kept
        if size is None or len(kept) + len(missing) <= size:
            kept |= missing
    return kept


def occurrences(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> NDArray[np.int64]:
    """How often each token stands in whole texts, without what the template puts around them, (vocabulary,)."""
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)
    for ids in encoded(tokenizer, texts):
        np.add.at(counts, ids, 1)
    return counts


def encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Iterator[list[int]]:
    """Ids of each whole text, without what the template puts around it."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    for start in range(0, len(texts), ROWS):
        some = backend.encode_batch_fast(list(texts[start : start + ROWS]), add_special_tokens=False)
        yield from (encoding.ids for encoding in some)


# ----------------------------------------------------------------------------------------------------------- embeddings


@torch.no_grad()
def cut_embeddings(model: PreTrainedModel, kept: NDArray[np.int64]) -> None:
    """Keep some tokens' rows of a model's embeddings, tied or not, in place.

    Its config names the same tokens as before, or None where one didn't stay.

    Args:
        model: encoder or language model, with any head.
        kept: old id of each new id, ascending, as in `Cut`.

    Raises:
        ModelError: it has fewer embeddings than the tokenizer tokens, or its padding token would move its positions.
    """
    numbers = {old: new for new, old in enumerate(kept.tolist())}
    embedding, rows = model.get_input_embeddings(), torch.from_numpy(kept)
    _check(model, embedding.num_embeddings, numbers)
    padding = embedding.padding_idx
    for weight in _by_token(model):
        weight[: len(rows)] = weight[rows.to(weight.device)]
    model.resize_token_embeddings(len(rows), mean_resizing=False)
    model.get_input_embeddings().padding_idx = None if padding is None else numbers.get(padding)
    for config in (model.config, getattr(model, "generation_config", None)):
        if config is not None:
            _renumber(config, numbers)


def _check(model: PreTrainedModel, embeddings: int, numbers: Mapping[int, int]) -> None:
    if (last := max(numbers)) >= embeddings:
        raise ModelError(f"the tokenizer has a token {last}, but the model embeddings for {embeddings} tokens only")
    kind, padding = model.config.model_type, model.config.pad_token_id
    if kind in OFFSET_POSITIONS and numbers.get(padding) != padding:
        raise ModelError(
            f"the padding token's id would change from {padding} to {numbers.get(padding)}, and a {kind} model counts "
            "its positions from it; leave its vocabulary as it is"
        )


def _by_token(model: PreTrainedModel) -> list[Tensor]:
    """Each tensor once that has a row, or of a bias a number, for each token."""
    head = model.get_output_embeddings()
    found = [model.get_input_embeddings().weight]
    if head is not None:
        found += [weight for weight in (head.weight, getattr(head, "bias", None)) if weight is not None]
    return list({weight.data_ptr(): weight for weight in found}.values())


def _renumber(config: Any, numbers: Mapping[int, int]) -> None:
    """Every entry that names a token or a list of them."""
    for name, value in config.to_dict().items():
        if TOKEN_ID.search(name) and isinstance(value, list):
            setattr(config, name, [numbers[old] for old in value if old in numbers] or None)
        elif TOKEN_ID.search(name) and value is not None:
            setattr(config, name, numbers.get(value))


# --------------------------------------------------------------------------------------------------------------- report


def report(
    before: PreTrainedTokenizerFast, after: PreTrainedTokenizerFast, texts: Sequence[str]
) -> dict[str, float | dict[str, float]]:
    """What a smaller vocabulary does to texts that it wasn't chosen by.

    Args:
        before: the tokenizer as it was.
        after: with fewer tokens.
        texts: held-out rows, at least one; they are counted whole, without special tokens of the template.

    Returns:
        Before and after, `vocabulary_tokens`, `tokens_per_text` and `unknown_tokens_share`; `alike_texts_share` of the
        texts have the same tokens, and `covered_tokens_share` of the tokens' occurrences before are in the vocabulary
        after.
    """
    known = after.get_vocab()
    old, new = (_tokens(before, texts), _tokens(after, texts))
    total = sum(map(len, old))
    return {
        "vocabulary_tokens": {"before": len(before), "after": len(after)},
        "tokens_per_text": {"before": total / len(texts), "after": sum(map(len, new)) / len(texts)},
        "unknown_tokens_share": {"before": _unknown(before, old), "after": _unknown(after, new)},
        "alike_texts_share": sum(map(list.__eq__, old, new)) / len(texts),
        "covered_tokens_share": sum(token in known for row in old for token in row) / max(total, 1),
    }


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[str]]:
    """By id: Unigram's encodings name an unknown token by the characters that it stands for."""
    names = {token_id: piece for piece, token_id in tokenizer.get_vocab().items()}
    return [[names[token_id] for token_id in ids] for ids in encoded(tokenizer, texts)]


def _unknown(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[str]]) -> float:
    return sum(row.count(tokenizer.unk_token) for row in rows) / max(sum(map(len, rows)), 1)
