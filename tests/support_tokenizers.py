"""Small tokenizers of every kind, trained on given texts, and a slow twin of what each does with one word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
KINDS = ("wordpiece", "byte-level", "byte-fallback", "marked", "unigram", "words")


def trained(kind: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of one of `KINDS`; of `words`, only the 300 first ones are known."""
    made, trainer = {
        "wordpiece": _wordpiece,
        "byte-level": _byte_level,
        "byte-fallback": _byte_fallback,
        "marked": _marked,
        "unigram": _unigram,
        "words": _words,
    }[kind]()
    made.train_from_iterator(texts, trainer)
    if kind == "byte-fallback":
        made = _plain_bytes(made)
    if kind == "byte-level":
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    elif kind == "wordpiece":
        made.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    else:
        single, pair = "<s> $A </s>", "<s> $A </s> $B:1 </s>:1"
        template = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)])
        made.post_processor = processors.Sequence([template])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **NAMES)
    tokenizer.padding_side = "left"
    return tokenizer


def _wordpiece() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return made, trainers.WordPieceTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)


def _byte_level() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    options: dict[str, Any] = {"special_tokens": SPECIAL, "initial_alphabet": alphabet, "show_progress": False}
    return made, trainers.BpeTrainer(vocab_size=1100, **options)


def _byte_fallback() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return made, trainers.BpeTrainer(vocab_size=1100, special_tokens=[*SPECIAL, *BYTES], show_progress=False)


def _plain_bytes(made: Tokenizer) -> Tokenizer:
    """Bytes as models have them: in the vocabulary, but not added tokens."""
    tree = json.loads(made.to_str())
    tree["added_tokens"] = tree["added_tokens"][: len(SPECIAL)]
    return Tokenizer.from_str(json.dumps(tree))


def _marked() -> tuple[Tokenizer, Any]:
    """BPE that marks a word's inside and its end."""
    marks: dict[str, Any] = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    made = Tokenizer(models.BPE(unk_token="<unk>", **marks))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made, trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False, **marks)


def _unigram() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    options: dict[str, Any] = {"special_tokens": SPECIAL, "unk_token": "<unk>", "show_progress": False}
    return made, trainers.UnigramTrainer(vocab_size=800, **options)


def _words() -> tuple[Tokenizer, Any]:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made, trainers.WordLevelTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)


# ---------------------------------------------------------------------------------------------------------- slow twins


def slow_tokens(tree: dict[str, Any], known: set[str], word: str) -> list[str]:
    """What a tokenizer.json makes of one word, written down as its papers say, if it knew these pieces only."""
    twins = {"BPE": slow_bpe, "Unigram": slow_unigram, "WordPiece": slow_wordpiece, "WordLevel": slow_words}
    return twins[tree["model"]["type"]](tree["model"], known, word)


def slow_words(model: dict[str, Any], known: set[str], word: str) -> list[str]:
    return [word if word in known else model["unk_token"]]


def slow_wordpiece(model: dict[str, Any], known: set[str], word: str) -> list[str]:
    """The longest known piece, again and again (Wu et al. 2016)."""
    found: list[str] = []
    rest = word
    while rest:
        mark = model["continuing_subword_prefix"] if found else ""
        size = next((size for size in range(len(rest), 0, -1) if mark + rest[:size] in known), None)
        if size is None or len(word) > model["max_input_chars_per_word"]:
            return [model["unk_token"]]
        found.append(mark + rest[:size])
        rest = rest[size:]
    return found


def slow_bpe(model: dict[str, Any], known: set[str], word: str) -> list[str]:
    """The earliest merge that applies, again and again (Sennrich et al. 2016)."""
    mark, end = model["continuing_subword_prefix"] or "", model["end_of_word_suffix"] or ""
    symbols = []
    for place, character in enumerate(word):
        piece = (mark if place else "") + character + (end if place == len(word) - 1 else "")
        if piece not in known and model["byte_fallback"]:
            symbols += [BYTES[byte] for byte in character.encode()]
        elif piece in known or model["unk_token"]:
            symbols.append(piece if piece in known else model["unk_token"])
    for left, right in model["merges"]:
        joined = left + right.removeprefix(mark)
        if {left, right, joined} <= known:
            symbols = _merged(symbols, left, right, joined)
    return symbols


def _merged(symbols: list[str], left: str, right: str, joined: str) -> list[str]:
    """In the order of rank each merge is done everywhere at once; what it makes only later merges can take up."""
    found: list[str] = []
    for symbol in symbols:
        if found and (found[-1], symbol) == (left, right):
            found[-1] = joined
        else:
            found.append(symbol)
    return found


def slow_unigram(model: dict[str, Any], known: set[str], word: str) -> list[str]:
    """The segmentation with the highest sum of scores (Kudo 2018); an unknown character's lies 10 below the least one,
    and several in a row are one token.
    """
    scores = {piece: score for piece, score in model["vocab"] if piece in known}
    penalty = min(score for _, score in model["vocab"]) - 10
    unknown = model["vocab"][model["unk_id"]][0]
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for end in range(1, len(word) + 1):
        options = [
            (best[start][0] + scores[word[start:end]], [*best[start][1], word[start:end]])
            for start in range(end)
            if word[start:end] in scores
        ]
        if word[end - 1] not in scores:
            options.append((best[end - 1][0] + penalty, [*best[end - 1][1], unknown]))
        best.append(max(options))
    path = best[-1][1]
    return [piece for piece, before in zip(path, [None, *path], strict=False) if (piece, before) != (unknown, unknown)]
