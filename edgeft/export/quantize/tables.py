"""Tables of embeddings in few bits: a graph reads the rows that it needs and makes floats of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeft.export.onnx.net import Net
from edgeft.export.quantize.rounding import BLOCK, pack_nibbles, round_blocks, round_columns

SMALLEST_TABLE = 1000  # rows


def quantize(net: Net, float_layers: Collection[str], bits: int = 8) -> None:
    """Round the large tables of embeddings, in place.

    Args:
        net: of a captured graph.
        float_layers: weights and tables that stay fp32.
        bits: 8: each row has a scale of its own; 4: each block of `BLOCK` values of a row has one, where the width is a
            multiple of that, and 8 elsewhere.
    """
    for node in list(net.model.graph.node):
        table = net.constant(node.input[0]) if node.op_type == "Gather" else None
        large = table is not None and table.ndim == 2 and len(table) >= SMALLEST_TABLE
        if table is None or not large or node.input[0] in float_layers or table.dtype != np.float32:
            continue
        read = _blocks_read if bits == 4 and table.shape[1] % BLOCK == 0 else _rows_read
        net.replace([node], read(net, node, np.asarray(table, dtype=np.float32)))


def _rows_read(net: Net, node: onnx.NodeProto, values: NDArray[np.float32]) -> Iterable[onnx.NodeProto]:
    table, ids, out = node.input[0], node.input[1], node.output[0]
    whole, scale = round_columns(values.T)
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Gather", [net.add_constant(f"{table}_int8", whole.T), ids], f"{out}_int8", {}),
        ("Cast", [f"{out}_int8"], f"{out}_float", {"to": TensorProto.FLOAT}),
        ("Gather", [net.add_constant(f"{table}_scale", scale[:, None]), ids], f"{out}_scale", {}),
        ("Mul", [f"{out}_float", f"{out}_scale"], out, {}),
    )
    return [helper.make_node(kind, inputs, [made], name=made, **options) for kind, inputs, made, options in steps]


def _blocks_read(net: Net, node: onnx.NodeProto, values: NDArray[np.float32]) -> Iterable[onnx.NodeProto]:
    table, ids, out = node.input[0], node.input[1], node.output[0]
    whole, scale = round_blocks(values)
    inputs = [
        net.add_constant(f"{table}_int4", pack_nibbles(whole)),
        ids,
        net.add_constant(f"{table}_scale", scale),
    ]
    half = f"{out}_half"
    options: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK, "bits": 4}
    read = helper.make_node("GatherBlockQuantized", inputs, [half], name=half, domain="com.microsoft", **options)
    return [read, helper.make_node("Cast", [half], [out], name=out, to=TensorProto.FLOAT)]
