"""Folders of sentence-transformers: what they say of pooling and length beside the encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeft.errors import ModelError

MODULES, POOLING, LENGTH = "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"
FLAG = "pooling_mode_"
WAYS = {"mean_tokens": "mean", "cls_token": "cls"}


def is_sentence_transformers_folder(folder: Path) -> bool:
    """Whether sentence-transformers wrote the folder."""
    return (folder / MODULES).is_file()


def read_pooling(folder: Path) -> str:
    """How a folder says that tokens become one vector: `mean` or `cls`; without a word of it `mean`.

    Raises:
        ModelError: another way, or a further layer.
    """
    kinds = [module["type"].rpartition(".")[2] for module in _json(folder / MODULES, [])]
    if further := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise ModelError(f"{folder}: its embeddings pass through {further[0]}, which can't be exported")
    said = _json(folder / POOLING, {})
    flags = [name.removeprefix(FLAG) for name, on in said.items() if name.startswith(FLAG) and on]
    wanted: list[str] = [WAYS.get(name, name) for name in flags] or [said.get("pooling_mode", "mean")]
    if len(wanted) > 1 or wanted[0] not in WAYS.values():
        raise ModelError(f"{folder}: pools by {' and '.join(wanted)}; what can be exported: {', '.join(WAYS.values())}")
    return wanted[0]


def read_max_length(folder: Path) -> int | None:
    """Tokens of a text that the folder's encoder was trained for; None: it doesn't say."""
    found: int | None = _json(folder / LENGTH, {}).get("max_seq_length")
    return found


def _json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise
