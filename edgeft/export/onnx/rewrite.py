"""Rewrites that change no answer: packed attention without reshapes, and one table of positions and token types."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import onnx
from onnx import helper

from edgeft.export.onnx import operators
from edgeft.export.onnx.net import Linear, Net, match_linear
from edgeft.export.onnx.operators import DOMAIN

MASK = "attention_mask"


def pack_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every `Attention` one input of queries, keys and values, from one matrix product where they come from three.

    Args:
        model: captured; `Attention` has queries, keys, values (batch, tokens, width) and a mask. Changed in place.
    """
    net = Net(model)
    shapes = _shapes(model)
    for name in [node.output[0] for node in model.graph.node if node.domain == DOMAIN]:
        node = net.maker[name]
        sources = [_before_reshapes(net, shapes, value) for value in node.input[:3]]
        parts = [_find_linear(net, value) for value in sources]
        whole = [part for part in parts if part is not None]
        packed, new = f"{name}_qkv", []
        if len(whole) == 3 and len({part.x for part in whole}) == 1 and _is_only_user(net, whole, node):
            new = _packed(net, whole, packed)
        else:
            new = [helper.make_node("Concat", sources, [packed], name=packed, axis=-1)]
        old = [node, *_reshapes_after(net, shapes, name)]
        last = old[-1].output[0]
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        new.append(operators.node("Attention", [packed, _mask(net, node.input[3])], last, **options))
        net.replace(old, new)
    return net.settle()


def share_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep one of several equal initializers, which capture makes of weights that layers share; in place."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    alike = Counter((tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer)
    for tensor in model.graph.initializer:
        # Reading the bytes copies them, which the largest tensor, a table of embeddings, can do without.
        if tensor.HasField("raw_data") and alike[tensor.data_type, tuple(tensor.dims)] > 1:
            content = hashlib.sha256(f"{tensor.data_type} {tuple(tensor.dims)}".encode())
            content.update(tensor.raw_data)
            same[tensor.name] = first.setdefault(content.digest(), tensor.name)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    return Net(model).settle()


def _packed(net: Net, parts: list[Linear], packed: str) -> list[onnx.NodeProto]:
    weight = net.add_constant(f"{packed}_weight", np.concatenate([part.weight for part in parts], axis=1))
    bias = net.add_constant(f"{packed}_bias", np.concatenate([part.bias for part in parts]))
    product = f"{packed}_product"
    return [
        helper.make_node("MatMul", [parts[0].x, weight], [product], name=product),
        helper.make_node("Add", [product, bias], [packed], name=packed),
    ]


def _shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Value to its axes, as numbers or names."""
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {
        info.name: [axis.dim_param or axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in infos
        if info.type.tensor_type.HasField("shape")
    }


def _before_reshapes(net: Net, shapes: dict[str, list[int | str]], name: str) -> str:
    """The earliest value of the same shape that only reshapes lie behind."""
    found, value = name, name
    while (node := net.maker.get(value)) is not None and node.op_type == "Reshape":
        value = node.input[0]
        if value in shapes and shapes[value] == shapes.get(name):
            found = value
    return found


def _reshapes_after(net: Net, shapes: dict[str, list[int | str]], name: str) -> list[onnx.NodeProto]:
    """The reshapes that follow a value, up to the last that gives its shape again."""
    passed: list[onnx.NodeProto] = []
    kept, value = 0, name
    while (node := net.only_user(value, "Reshape")) is not None and node.input[0] == value:
        value = node.output[0]
        passed.append(node)
        if value in shapes and shapes[value] == shapes.get(name):
            kept = len(passed)
    return passed[:kept]


def _find_linear(net: Net, value: str) -> Linear | None:
    """The matrix product that a value comes out of."""
    node = net.maker.get(value)
    if node is not None and node.op_type == "Add":
        node = next((made for name in node.input if (made := net.maker.get(name)) and made.op_type == "MatMul"), None)
    found = match_linear(net, node) if node is not None else None
    return found if found is not None and found.y == value else None


def _is_only_user(net: Net, parts: list[Linear], node: onnx.NodeProto) -> bool:
    """Whether nothing but this attention uses the products."""
    for part in parts:
        value = part.y
        while (reshape := net.only_user(value, "Reshape")) is not None:
            value = reshape.output[0]
        if [user.output[0] for user in net.users[value]] != [node.output[0]]:
            return False
    return True


def _mask(net: Net, name: str) -> str:
    """The graph's own mask, behind the cast of a model that wants another type."""
    node = net.maker.get(name)
    return node.input[0] if node is not None and node.op_type == "Cast" and node.input[0] == MASK else name
