"""tokenizer.json with fewer tokens: which ones can't be missed, what a token rests on, and the file rewritten.

A tree here is tokenizer.json as Python objects. Ids of tokens stand in its vocabulary and in the places of `id_slots`.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

Tree = dict[str, Any]
Ranks = Mapping[tuple[str, str], int]

FILE = "tokenizer.json"
BYTE = re.compile("<0x[0-9A-F]{2}>")
SPACE = "\u2581"  # what SentencePiece writes for a space


def read(tokenizer: PreTrainedTokenizerFast) -> Tree:
    """A tokenizer's tree; its model is BPE, Unigram, WordLevel or WordPiece, there are no others."""
    tree: Tree = json.loads(tokenizer.backend_tokenizer.to_str())
    return tree


def pieces(tree: Tree) -> dict[int, str]:
    """Id to piece of the model's vocabulary; added tokens may lie outside of it."""
    vocabulary = tree["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return {token_id: piece for piece, token_id in vocabulary.items()}
    return {token_id: piece for token_id, (piece, _) in enumerate(vocabulary)}


def id_slots(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Each place outside the vocabulary that holds the id of a token: a container and the key in it."""
    for token in tree["added_tokens"]:
        yield token, "id"
    if tree["padding"] is not None:
        yield tree["padding"], "pad_id"
    if tree["model"].get("unk_id") is not None:
        yield tree["model"], "unk_id"
    yield from _template_slots(tree["post_processor"] or {"type": None})


def _template_slots(processor: Tree) -> Iterator[tuple[Any, Any]]:
    if processor["type"] == "Sequence":
        for inner in processor["processors"]:
            yield from _template_slots(inner)
    elif processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            yield from ((token["ids"], place) for place in range(len(token["ids"])))
    elif processor["type"] in ("BertProcessing", "RobertaProcessing"):
        yield processor["sep"], 1
        yield processor["cls"], 1


# ------------------------------------------------------------------------------------------------------ what must stay


def indispensable(tree: Tree) -> set[int]:
    """Ids without which a text could fail or a special token be lost.

    They are the added tokens, those of the template and of padding, the unknown token, and every piece of a single
    character or byte; of Unigram also the least likely piece, whose score decides what an unknown character costs.
    """
    model = tree["model"]
    found = {container[key] for container, key in id_slots(tree)}
    found |= {token_id for token_id, piece in pieces(tree).items() if _is_single(piece, model)}
    found |= {token_id for token_id, piece in pieces(tree).items() if piece == model.get("unk_token")}
    if model["type"] == "Unigram":
        found.add(min(range(len(model["vocab"])), key=lambda token_id: model["vocab"][token_id][1]))
    return found


def _is_single(piece: str, model: Tree) -> bool:
    """Whether a piece is one character, marks of a word's inside, end or beginning aside, or one byte."""
    inside, end = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    bare = piece.removeprefix(inside).removesuffix(end).removeprefix(SPACE)
    return len(bare) <= 1 or BYTE.fullmatch(piece) is not None


def supports(tree: Tree) -> Callable[[int], set[int]]:
    """A function of a token's id: the ids that must stay for a text to be given this token as before, its own included.

    A BPE token needs what its merges make on the way. Merges inside a token never depend on what stands around it, and
    the ones that stay keep their order, so where every token of a text has its support, the same merges are chosen.
    Longest match (WordPiece) and best path (Unigram) need the token alone: what is gone can't match.
    """
    model = tree["model"]
    if model["type"] != "BPE":
        return lambda token_id: {token_id}
    names, numbers = pieces(tree), model["vocab"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    return lambda token_id: (
        {token_id} | {numbers[piece] for piece in merge_path(names.get(token_id, ""), ranks, model) if piece in numbers}
    )


def merge_path(token: str, ranks: Ranks, model: Tree) -> set[str]:
    """The pieces that BPE makes until it has made a token; none where merges never make it.

    Args:
        token: as the vocabulary has it.
        ranks: of each pair that merges, the lowest first.
        model: part of the tree, for the marks of a word's inside and end.
    """
    inside = model["continuing_subword_prefix"] or ""
    symbols = _symbols(token, inside, model["end_of_word_suffix"] or "")
    path = set(symbols)
    while len(symbols) > 1:
        rank, place = min((ranks.get(pair, math.inf), place) for place, pair in enumerate(pairwise(symbols)))
        if rank == math.inf:
            return set()
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1].removeprefix(inside)]
        path.add(symbols[place])
    return path


def _symbols(token: str, inside: str, end: str) -> list[str]:
    """The characters that a token starts from, with their marks."""
    bare = token.removeprefix(inside).removesuffix(end)
    if not bare:
        return [token]
    first = inside if inside and token.startswith(inside) else ""
    symbols = [first + bare[0], *(inside + character for character in bare[1:])]
    if end and token.endswith(end):
        symbols[-1] += end
    return symbols


# ------------------------------------------------------------------------------------------------------------ rewriting


def restrict(tree: Tree, numbers: Mapping[int, int]) -> None:
    """Leave out all other tokens and renumber these, in place; nothing else changes.

    Args:
        tree: is rewritten.
        numbers: old id to new id, in the same order, from 0; `indispensable` ids among them.
    """
    model = tree["model"]
    for container, key in id_slots(tree):
        container[key] = numbers[container[key]]
    if isinstance(model["vocab"], list):
        model["vocab"] = [entry for token_id, entry in enumerate(model["vocab"]) if token_id in numbers]
        return
    model["vocab"] = {piece: numbers[token_id] for piece, token_id in model["vocab"].items() if token_id in numbers}
    if model["type"] == "BPE":
        inside = model["continuing_subword_prefix"] or ""
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if {left, right, left + right.removeprefix(inside)} <= model["vocab"].keys()
        ]


def rebuilt(tokenizer: PreTrainedTokenizerFast, tree: Tree) -> PreTrainedTokenizerFast:
    """A tokenizer of the same class and settings on another tree, loaded as it will be from its own folder."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / FILE).write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
        made = type(tokenizer).from_pretrained(folder, trust_remote_code=False)
    made.padding_side, made.truncation_side = tokenizer.padding_side, tokenizer.truncation_side
    return made
