"""Learned positions beyond the longest input: rows of a table that nothing reads."""

from __future__ import annotations

from typing import Any

from torch import nn

from edgeft.models import OFFSET_POSITIONS

BUFFERS = ("position_ids", "token_type_ids")  # that transformers keeps beside the table, (1, positions)


def trim(model: Any, tokens: int) -> None:
    """Drop the positions that no input of so many tokens reaches, in place; models without such a table stay.

    Args:
        model: of transformers.
        tokens: of the longest input.
    """
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    offset = (model.config.pad_token_id or 0) + 1 if model.config.model_type in OFFSET_POSITIONS else 0
    rows = tokens + offset
    if not isinstance(table, nn.Embedding) or rows >= table.num_embeddings:
        return
    table.weight = nn.Parameter(table.weight.detach()[:rows].clone())
    table.num_embeddings = model.config.max_position_embeddings = rows
    for name in BUFFERS:
        if (buffer := getattr(embeddings, name, None)) is not None:
            setattr(embeddings, name, buffer[:, :rows].clone())
