"""Weights as whole numbers of few bits, with the scales that make floats of them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeft.errors import RecipeError
from edgeft.recipe import ExportConfig

BLOCK = 32  # values of a row that share a scale, at 4 bits
# Options that keep 4 bits, and the precisions that they do something for.
OPTIONS = {
    "weight_bits": ("auto", "int8", "int8-tensor"),
    "embedding_bits": ("auto", "int8", "int8-tensor", "int8-static", "int8-blocks", "int4-blocks"),
}


def check(config: ExportConfig) -> None:
    """Whether the options of bits do something.

    Raises:
        RecipeError: names the first that doesn't.
    """
    for option, precisions in OPTIONS.items():
        if getattr(config, option) == 4 and config.precision not in precisions:
            raise RecipeError(f"export.{option}: 4 is for {', '.join(precisions)}, not for {config.precision}")


def round_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights to int8 from -127 to 127, each column with a scale of its own.

    Args:
        weight: (K, N).

    Returns:
        int8 (K, N), float32 (N).
    """
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127
    return np.round(weight / scale).astype(np.int8), scale.astype(np.float32)


def round_blocks(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Rows to 4 bits, from -8 to 7, in blocks that share a scale: a block's largest value, with its sign, is -8.

    Args:
        table: (rows, width), width a multiple of `BLOCK`.

    Returns:
        int8 (rows, width), float16 (rows, width / BLOCK).
    """
    blocks = table.reshape(len(table), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)
    scale = (largest / -8).astype(np.float16)
    divisor = scale.astype(np.float32)
    divisor[divisor == 0] = 1
    values = np.round(blocks / divisor).clip(-8, 7).astype(np.int8)
    return values.reshape(table.shape), scale[..., 0]


def pack_nibbles(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two values of a row in a byte, the first one low, each moved by 8 so that none is below 0.

    Args:
        values: (rows, width), from -8 to 7, width even.

    Returns:
        (rows, width / 2).
    """
    moved = (values + 8).astype(np.uint8)
    return np.bitwise_or(moved[:, 0::2], np.left_shift(moved[:, 1::2], 4), dtype=np.uint8)
