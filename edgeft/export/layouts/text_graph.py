"""A tokenizer as ONNX nodes: strings in, padded token ids out.

A WordPiece tokenizer is rebuilt from what it does to each character, which is asked of the tokenizer itself: so its
version of Unicode and its treatment of accents come along. Most operators are those of onnxruntime-extensions, which
read C strings (NUL has to go before them) and lines of two columns (no key can hold a tab or a line end).
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from edgeft.artifact import InputSpec
from edgeft.errors import ModelError
from edgeft.export.layouts.odd_texts import SURROGATES

EXTENSIONS, CONTRIB = "ai.onnx.contrib", "com.microsoft"
IDS, MASK = "input_ids", "attention_mask"
TEXT = "text"
PREFIX = "tokenizer/"
# What the graph uses for itself; in a text these characters are replaced by others of the same effect.
ROW_END, GONE = "\x01", "\x02"
END_ID = -1  # the id of ROW_END
FIRST_ADDED = 0xE000  # private use: one character for each added token
BIG = 64  # code points of a range that goes into a pattern; smaller ones go into a table


@dataclass
class Nodes:
    """ONNX nodes and constants in the making; every name begins with PREFIX."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> list[str]:
        """Append a node.

        Returns:
            The names of its outputs.
        """
        name = f"{PREFIX}{len(self.nodes)}_{operator}"
        made = [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), made, name=name, domain=domain, **attributes))
        return made

    def numbers(self, *values: int) -> str:
        """A constant int64 vector."""
        return self._constant(numpy_helper.from_array(np.array(values, dtype=np.int64)))

    def scalar(self, value: int) -> str:
        """A constant int64 scalar."""
        return self._constant(numpy_helper.from_array(np.array(value, dtype=np.int64)))

    def grid(self, value: int) -> str:
        """A constant int64 array of one row and column."""
        return self._constant(numpy_helper.from_array(np.array([[value]], dtype=np.int64)))

    def filled(self, like: str, value: int) -> str:
        """An int64 array of one value, in the shape of another array."""
        number = numpy_helper.from_array(np.array([value], dtype=np.int64))
        return self.add("ConstantOfShape", self.add("Shape", like)[0], value=number)[0]

    def strings(self, *values: str) -> str:
        """A constant string vector."""
        encoded: list[Any] = [value.encode() for value in values]
        return self._constant(helper.make_tensor("", TensorProto.STRING, [len(values)], encoded))

    def switch(self, value: bool) -> str:
        """A constant bool vector of one."""
        return self._constant(numpy_helper.from_array(np.array([value])))

    def replace(self, text: str, pattern: str, rewrite: str) -> str:
        """Replace every match of an RE2 pattern.

        Args:
            text: name of a string vector.
        """
        constants = self.strings(pattern), self.strings(rewrite)
        return self.add("StringRegexReplace", text, *constants, domain=EXTENSIONS, global_replace=1)[0]

    def join(self, texts: str, separator: str, axis: int) -> str:
        """Join strings along an axis."""
        return self.add("StringJoin", texts, self.strings(separator), self.numbers(axis), domain=EXTENSIONS)[0]

    def _constant(self, tensor: onnx.TensorProto) -> str:
        tensor.name = f"{PREFIX}constant_{len(self.constants)}"
        self.constants.append(tensor)
        return tensor.name


@dataclass(frozen=True)
class Characters:
    """What normalizer and pre-tokenizer make of each character by itself.

    Attributes:
        removed: nothing.
        spaces: the end of a word.
        alone: a word of their own, unchanged.
        changed: character to what becomes of it, a space where a word ends.
        plain: ASCII letters, digits and space that stay as they are.
    """

    removed: set[str]
    spaces: set[str]
    alone: set[str]
    changed: dict[str, str]
    plain: str


def wordpiece(tokenizer: Tokenizer, inputs: InputSpec) -> Nodes:
    """The nodes of a WordPiece tokenizer; outputs `input_ids` and `attention_mask`, int64 (batch, tokens).

    Raises:
        ModelError: the tokenizer keeps control characters.
    """
    model = json.loads(tokenizer.to_str())["model"]
    nodes, signs = Nodes(), _signs(tokenizer)
    words = _words(nodes, _characters(tokenizer), signs)
    ids = _pieces(nodes, words, model, signs, tokenizer)
    _frame(nodes, ids, tokenizer, inputs)
    return nodes


def _signs(tokenizer: Tokenizer) -> dict[str, str]:
    """Each added token's character, longer tokens first, as they are matched."""
    added = sorted((token.content for token in tokenizer.get_added_tokens_decoder().values()), key=len, reverse=True)
    return {token: chr(FIRST_ADDED + index) for index, token in enumerate(added)}


def _characters(tokenizer: Tokenizer) -> Characters:
    """Ask the tokenizer for every character, between two letters that stay as they are.

    A changed letter whose result the vocabulary lacks makes its word unknown, changed or not, and is left out.
    """
    known = {*"".join(tokenizer.get_vocab())}
    found = Characters(set(), set(), set(), {}, "")
    for character in map(chr, (code for code in range(1, 0x110000) if code not in SURROGATES)):
        image = _image(tokenizer, character)
        if image == "":
            found.removed.add(character)
        elif image == " " != character:
            found.spaces.add(character)
        elif image == f" {character} ":
            found.alone.add(character)
        elif image != character and (" " in image or character in known or known.issuperset(image)):
            found.changed[character] = image
    taken = {*found.removed, *found.spaces, *found.alone, *found.changed}
    plain = "".join(sign for sign in string.ascii_letters + string.digits + " " if sign not in taken)
    return Characters(found.removed, found.spaces, found.alone, found.changed, plain)


def _image(tokenizer: Tokenizer, character: str) -> str:
    """What becomes of a character inside a word, spaces where words end."""
    text = f"a{character}a"
    normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    words = tokenizer.pre_tokenizer.pre_tokenize_str(normal) if tokenizer.pre_tokenizer else [(normal, (0, 0))]
    return " ".join(word for word, _ in words)[1:-1]


def _stand_in(characters: Characters, reserved: set[str]) -> str:
    """A character that is removed as the reserved ones are, in whose place it can stand.

    Raises:
        ModelError: they are not removed.
    """
    if not characters.removed.issuperset(reserved):
        raise ModelError("its tokenizer keeps control characters, which onnxruntime-extensions can't carry")
    return min(characters.removed - reserved)


def _words(nodes: Nodes, characters: Characters, signs: dict[str, str]) -> str:
    """From `text` to the normalised words of all rows, ROW_END behind each row.

    Returns:
        The name of a string vector (words).
    """
    reserved = {ROW_END, GONE, *signs.values()}
    stand_in = _stand_in(characters, reserved)
    split = nodes.add("Tokenizer", TEXT, domain=CONTRIB, separators=["\0"], mark=0, mincharnum=1, pad_value="")[0]
    rows = nodes.replace(nodes.join(split, stand_in, axis=1), _any_of(reserved), stand_in)
    for token, sign in signs.items():
        rows = nodes.replace(rows, _literal(token), f" {sign} ")
    removed, alone = _big(characters.removed - reserved), _big(characters.alone)
    for group, rewrite in ((removed, ""), (characters.spaces, " "), (alone, r" \1 ")):
        if group:
            rows = nodes.replace(rows, f"({_any_of(group)})", rewrite)
    table = {
        **dict.fromkeys(characters.removed - removed - reserved, GONE),
        **{character: f" {character} " for character in characters.alone - alone},
        **characters.changed,
    }
    ended = nodes.replace(rows, r"\z", f" {ROW_END} ")
    joined = _mapped(nodes, ended, {character: table[character] for character in sorted(table)}, characters.plain)
    return nodes.add("StringSplit", joined, nodes.strings(" "), nodes.switch(True), outputs=3, domain=EXTENSIONS)[1]


def _mapped(nodes: Nodes, rows: str, table: dict[str, str], plain: str) -> str:
    """Replace single characters, except those of `plain`, which are not looked at, and join all rows."""
    pattern = nodes.strings(f"([^{plain}])")
    pieces = nodes.add("StringRegexSplitWithOffsets", rows, pattern, pattern, outputs=4, domain=EXTENSIONS)[0]
    lines = "\n".join(f"{character}\t{image}" for character, image in table.items())
    pieces = nodes.add("StringMapping", pieces, domain=EXTENSIONS, map=lines)[0]
    return nodes.replace(nodes.join(pieces, "", axis=0), GONE, "")


def _pieces(nodes: Nodes, words: str, model: dict[str, Any], signs: dict[str, str], tokenizer: Tokenizer) -> str:
    """WordPiece.

    Returns:
        The name of the token ids of all rows, END_ID behind each row, int64 (tokens).
    """
    added = {sign: tokenizer.token_to_id(token) for token, sign in signs.items()}
    ids = {**model["vocab"], **added, ROW_END: END_ID}
    tokens, _, begins, ends = nodes.add(
        "WordpieceTokenizer",
        words,
        nodes.numbers(),
        outputs=4,
        domain=EXTENSIONS,
        vocab=json.dumps(dict.fromkeys(ids, 0), ensure_ascii=False),
        suffix_indicator=model["continuing_subword_prefix"],
        unknown_token=model["unk_token"],
        max_input_chars_per_word=model["max_input_chars_per_word"],
    )
    unknown = ids[model["unk_token"]]
    # No word has a tab or a line end inside, and the operator's table can't hold them.
    lines = "\n".join(f"{token}\t{index}" for token, index in ids.items() if token and not {"\t", "\n"} & {*token})
    found = nodes.add("StringToVector", tokens, domain=EXTENSIONS, map=lines, unk=str(unknown))[0]
    return _whole(nodes, nodes.add("Reshape", found, nodes.numbers(-1))[0], begins, ends, unknown)


def _whole(nodes: Nodes, ids: str, begins: str, ends: str, unknown: int) -> str:
    """Drop the pieces that the operator leaves in front of the unknown token of a word.

    Args:
        ids: int64 (tokens).
        begins: where each word begins in `ids`, (words).
        ends: where it ends.
    """
    last = nodes.add("Sub", ends, nodes.scalar(1))[0]
    lost = nodes.add("Equal", nodes.add("Gather", ids, last)[0], nodes.scalar(unknown))[0]
    first = nodes.add("Where", lost, last, begins)[0]
    marks = nodes.add("ScatterElements", nodes.filled(ids, 0), begins, nodes.filled(begins, 1))[0]
    word = nodes.add("Sub", nodes.add("CumSum", marks, nodes.scalar(0))[0], nodes.scalar(1))[0]  # of each token
    place = nodes.add("Sub", nodes.add("CumSum", nodes.filled(ids, 1), nodes.scalar(0))[0], nodes.scalar(1))[0]
    keep = nodes.add("GreaterOrEqual", place, nodes.add("Gather", first, word)[0])[0]
    return nodes.add("Compress", ids, keep, axis=0)[0]


def _frame(nodes: Nodes, ids: str, tokenizer: Tokenizer, inputs: InputSpec) -> None:
    """Truncate, put the special tokens around each row, and pad.

    One table holds what goes before, what goes after, the padding and then all ids; each cell of the result is an
    index into it.

    Args:
        ids: int64 (tokens), END_ID behind each row.
    """
    before, after = _around(tokenizer)
    edges = len(before) + len(after)
    table = nodes.add("Concat", nodes.numbers(*before, *after, inputs.pad_token_id), ids, axis=0)[0]
    ends = nodes.add("NonZero", nodes.add("Equal", ids, nodes.scalar(END_ID))[0])[0]  # (1, B)
    ends = nodes.add("Reshape", ends, nodes.numbers(-1, 1))[0]  # (B, 1)
    behind = nodes.add("Add", nodes.add("Slice", ends, nodes.numbers(0), nodes.numbers(-1))[0], nodes.scalar(1))[0]
    begins = nodes.add("Concat", nodes.grid(0), behind, axis=0)[0]  # (B, 1)
    room = nodes.scalar(inputs.max_length - edges)
    lengths = nodes.add("Min", nodes.add("Sub", ends, begins)[0], room)[0]  # (B, 1)
    longest = nodes.add("Add", nodes.add("ReduceMax", lengths, keepdims=0)[0], nodes.scalar(edges))[0]
    column = nodes.add("Range", nodes.scalar(0), longest, nodes.scalar(1))[0]  # (T,)
    inside = nodes.add("Sub", column, nodes.scalar(len(before)))[0]  # (T,) place among the row's own tokens
    beyond = nodes.add("Sub", inside, lengths)[0]  # (B, T) from 0 on: behind the row's tokens
    own = nodes.add("Add", inside, nodes.add("Add", begins, nodes.scalar(edges + 1))[0])[0]
    tail = nodes.add("Min", beyond, nodes.scalar(len(after)))[0]  # the padding follows what goes after
    tail = nodes.add("Add", tail, nodes.scalar(len(before)))[0]
    index = nodes.add("Where", nodes.add("Less", beyond, nodes.scalar(0))[0], own, tail)[0]
    index = nodes.add("Where", nodes.add("Less", inside, nodes.scalar(0))[0], column, index)[0]
    real = nodes.add("Less", beyond, nodes.scalar(len(after)))[0]
    nodes.nodes.append(helper.make_node("Gather", [table, index], [IDS], name=f"{PREFIX}{IDS}"))
    nodes.nodes.append(helper.make_node("Cast", [real], [MASK], name=f"{PREFIX}{MASK}", to=TensorProto.INT64))


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    encoding = tokenizer.encode("a")
    own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]


def _ranges(characters: Iterable[str]) -> list[tuple[int, int]]:
    """First and last code point of each run, in order."""
    runs: list[tuple[int, int]] = []
    for code in sorted(map(ord, characters)):
        if runs and runs[-1][1] == code - 1:
            runs[-1] = (runs[-1][0], code)
        else:
            runs.append((code, code))
    return runs


def _big(characters: set[str]) -> set[str]:
    """Those that stand in runs too long for a table."""
    return {chr(code) for first, last in _ranges(characters) if last - first >= BIG for code in range(first, last + 1)}


def _any_of(characters: Iterable[str]) -> str:
    """An RE2 class of characters."""
    return "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in _ranges(characters)) + "]"


def _literal(text: str) -> str:
    """An RE2 pattern of exactly this text."""
    return "".join(rf"\x{{{ord(character):X}}}" for character in text)


def alone(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph up to `input_ids` and `attention_mask`, which are its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    inner = copy.graph
    nodes = [node for node in inner.node if node.name.startswith(PREFIX)]
    constants = [tensor for tensor in inner.initializer if tensor.name.startswith(PREFIX)]
    for part in (inner.node, inner.initializer, inner.output, inner.value_info):
        del part[:]
    inner.node.extend(nodes)
    inner.initializer.extend(constants)
    inner.output.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in (IDS, MASK)
    )
    return copy
