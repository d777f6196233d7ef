"""What a graph keeps of an int8 weight: its values, or 4 bits of them that become int8 when the graph is loaded.

The 4 bits are those of the weight before smoothing, each `BLOCK` values that go into an output with a scale of their
own. From them the same int8 values are made that a weight rounded like this would have got: the answers are those of
int8, and so is the speed, since onnxruntime computes what depends on constants alone when it loads a graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeft.export.onnx import operators
from edgeft.export.onnx.net import Net
from edgeft.export.quantize.rounding import BLOCK, pack_nibbles, round_blocks, round_columns


@dataclass(frozen=True)
class Stored:
    """An int8 weight in a graph.

    Attributes:
        name: of the value, int8 (K, N).
        scale: name of the constant, float32 (N).
        values: the int8 values.
        scale_values: the scale's.
        made: what makes the value of other constants; none where it is one itself.
    """

    name: str
    scale: str
    values: NDArray[np.int8]
    scale_values: NDArray[np.float32]
    made: list[onnx.NodeProto]


def store(net: Net, name: str, weight: NDArray[np.float32], inverse: str, bits: int = 8) -> Stored:
    """Put a weight into a graph.

    Args:
        net: the graph.
        name: that the names of what is added begin with.
        weight: (K, N), as it is before smoothing.
        inverse: name of the constant that activations are multiplied with to be smoothed, (K).
        bits: 8: the int8 values; 4: blocks of 4 bits, where K is a multiple of `BLOCK`, and 8 elsewhere.
    """
    found = net.constant(inverse)
    assert found is not None
    divisor = np.asarray(found, dtype=np.float32)[:, None]
    in_blocks = bits == 4 and len(weight) % BLOCK == 0
    if in_blocks:
        whole, block_scale = round_blocks(np.ascontiguousarray(weight.T))
        weight = np.ascontiguousarray(dequantize(whole, block_scale).T)
    values, scale_values = round_columns(weight / divisor)
    scale = net.add_constant(f"{name}_scale", scale_values)
    if not in_blocks:
        return Stored(net.add_constant(f"{name}_int8", values), scale, values, scale_values, [])
    inputs = [
        net.add_constant(f"{name}_int4", pack_nibbles(whole)),
        net.add_constant(f"{name}_block_scale", block_scale),
        inverse,
        scale,
    ]
    made = f"{name}_int8"
    there = made in net.maker  # products may share a weight
    return Stored(made, scale, values, scale_values, [] if there else [operators.node("Int8Weight", inputs, made)])


def dequantize(whole: NDArray[np.int8], scale: NDArray[np.float16]) -> NDArray[np.float32]:
    """The values that 4 bits in blocks stand for, (rows, width)."""
    blocks = whole.reshape(len(whole), -1, BLOCK).astype(np.float32)
    return (blocks * scale.astype(np.float32)[..., None]).reshape(whole.shape)
