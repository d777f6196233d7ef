"""Learned positions beyond the longest input: rows of a table that nothing reads."""

from __future__ import annotations

from typing import Any

from torch import nn

BUFFERS = ("position_ids", "token_type_ids")  # that transformers keeps beside the table, (1, positions)


def trim(model: Any, tokens: int) -> None:
    """Drop the positions that no input of so many tokens reaches, in place; models without such a table stay.

    Args:
        model: of transformers.
        tokens: of the longest input.
    """
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return
    # Where padding has a row of its own, the first token's is the next one.
    rows = tokens + (0 if table.padding_idx is None else table.padding_idx + 1)
    if rows >= table.num_embeddings:
        return
    table.weight = nn.Parameter(table.weight.detach()[:rows].clone())
    table.num_embeddings = model.config.max_position_embeddings = rows
    for name in BUFFERS:
        if (buffer := getattr(embeddings, name, None)) is not None:
            setattr(embeddings, name, buffer[:, :rows].clone())
