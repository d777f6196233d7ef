"""What config.json may say, checked before `transformers` builds anything from it: sizes, other tools, code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError

# Tools whose quantized weights are trained and merged here; others' would have to be unpacked first.
OUR_TOOLS = ("bitsandbytes",)
LARGEST_NUMBER = 1 << 62


@dataclass(frozen=True)
class Bound:
    """The names of a kind of size, and what such a size may be.

    Attributes:
        names: a pattern that a whole name has to match.
        most: the largest value.
        least: the smallest value.
        typed: whether a value has to be a whole number at all; some configs use a name for something else.
    """

    names: re.Pattern[str]
    most: int
    least: int = 0
    typed: bool = True


# The first that matches counts. Upper bounds are several times what the largest models have.
BOUNDS = (
    Bound(re.compile(r"(?:n|num|encoder|decoder)_(?:\w+_)?layers?"), 1 << 10),
    Bound(re.compile(r"(?:n|num|encoder|decoder)_(?:\w+_)?heads?"), 1 << 12),
    Bound(re.compile(r"(?:n|num)_(?:\w+_)?experts?"), 1 << 13),
    Bound(re.compile(r"num_labels"), 1 << 20),
    Bound(re.compile(r"vocab_size"), 1 << 24, least=1),
    Bound(re.compile(r"hidden_size|d_model|n_embd|dim|intermediate_size|d_ff|hidden_dim"), 1 << 20, least=1),
    Bound(re.compile(r"max_position_embeddings|n_positions"), 1 << 31, least=-1),
    Bound(re.compile(r"\w+_vocab_size"), 1 << 24, typed=False),
    Bound(re.compile(r"\w+_size|\w+_dim|\w+_width|d_\w+|n_inner"), 1 << 20, least=-LARGEST_NUMBER, typed=False),
)
ANY_NUMBER = Bound(re.compile(r".*"), LARGEST_NUMBER, least=-LARGEST_NUMBER, typed=False)


def check(document: Any, file: Path) -> None:
    """Whether a config.json is one that a model can be built from, without code from elsewhere.

    Args:
        document: what was read.
        file: where from, for the message.

    Raises:
        ModelError: the name, the value and what it may be; or what else edgeft doesn't take, and the remedy.
    """
    if not isinstance(document, dict) or not document:
        what = "empty" if document == {} else f"a JSON {type(document).__name__}"
        raise ModelError(f"{file}: {what}, and a config is an object with the sizes of a model")
    if not isinstance(document.get("model_type", ""), str):
        raise ModelError(f"{file}: model_type is {document['model_type']!r}, and has to be a name such as 'bert'")
    if "configuration_files" in document:
        raise ModelError(f"{file}: configuration_files points to another config; put that one's content here")
    for name, value in _numbers(document):
        _check_number(name, value, file)
    _check_labels(document, file)
    _check_quantization(document.get("quantization_config"), file)


FREE = ("id2label", "label2id", "task_specific_params")  # names in them are a user's words, not sizes


def _numbers(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every name with a value that is no object, at any depth; of a list, its items."""
    waiting: list[tuple[str, Any]] = list(document.items())
    while waiting:
        name, value = waiting.pop()
        if name in FREE:
            continue
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]
        else:
            yield name, value


def _check_number(name: str, value: Any, file: Path) -> None:
    bound = next((bound for bound in BOUNDS if bound.names.fullmatch(name)), ANY_NUMBER)
    if type(value) is int:
        if not bound.least <= value <= bound.most:
            shown = value if abs(value) < 10**30 else f"a number of {len(str(value))} digits"
            least = max(bound.least, 0)
            raise ModelError(f"{file}: {name} is {shown}; edgeft takes {least:,} to {bound.most:,}")
    elif bound.typed and value is not None:
        raise ModelError(f"{file}: {name} is {_short(value)}, and has to be a whole number")


def _check_labels(document: dict[str, Any], file: Path) -> None:
    for name in ("id2label", "label2id"):
        if not isinstance(document.get(name) or {}, dict):
            raise ModelError(f"{file}: {name} is {_short(document[name])}, and has to be an object")


def _check_quantization(quantized: Any, file: Path) -> None:
    """Whether its weights are plain ones, or of a tool that edgeft trains with."""
    if not quantized:
        return
    tool = (
        quantized.get("quant_method", "bitsandbytes" if "load_in_4bit" in quantized else None)
        if isinstance(quantized, dict)
        else None
    )
    if tool not in OUR_TOOLS:
        named = f"by {_short(tool)}" if tool else "by an unnamed tool"
        raise ModelError(
            f"{file}: quantization_config: the weights were quantized {named}, and edgeft trains and exports plain "
            "ones (or bitsandbytes'); give the model from before that, which the card usually names as its base model"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def names_code(document: dict[str, Any]) -> bool:
    """Whether a config asks for classes of its own, which edgeft never runs."""
    return bool(document.get("auto_map"))
