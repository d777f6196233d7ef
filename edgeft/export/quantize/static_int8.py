"""int8 with scales that were calibrated once, as pairs of QuantizeLinear and DequantizeLinear around each product.

The form of ONNX that providers other than onnxruntime's CPU one take for int8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgeft.export.onnx import operators
from edgeft.export.onnx.net import Linear, Net
from edgeft.export.quantize import tables, token_int8
from edgeft.export.quantize.ranges import Limits, Smoothed
from edgeft.export.quantize.rounding import round_columns
from edgeft.export.quantize.token_int8 import Channels, Ranges

STEPS = 255  # of an activation's uint8


def smooth_inputs(model: onnx.ModelProto, ranges: Ranges, strength: float) -> dict[str, Smoothed]:
    """What goes into each product that int8 is for, and the divisors of its channels; arguments as of
    `token_int8.quantize`.
    """
    found = token_int8.choose_sites(Net(model), ranges, ())
    divisors = token_int8.compute_divisors(found, ranges, strength, by_token=False)
    return {site.linear.product: (site.linear.x, divisors[site.linear.product]) for site in found}


def quantize(
    model: onnx.ModelProto,
    inputs: Mapping[str, Smoothed],
    limits: Mapping[str, Limits],
    float_layers: Collection[str],
    embedding_bits: int = 8,
) -> onnx.ModelProto:
    """Put int8 products and int8 tables of embeddings into a captured fp32 graph, in place.

    Args:
        model: captured.
        inputs: as of `smooth_inputs`.
        limits: the range of what goes into each product, once smoothed.
        float_layers: weights and tables that stay fp32.
        embedding_bits: as of `tables.quantize`.
    """
    net = Net(model)
    for site in token_int8.find_sites(net):
        found = site.linear
        if found.product in inputs and found.name not in float_layers:
            net.replace(found.nodes, _quantize_product(net, found, inputs[found.product][1], limits[found.product]))
    tables.quantize(net, float_layers, embedding_bits)
    return operators.add_bodies(net.settle())


def _quantize_product(net: Net, found: Linear, divisors: Channels, limits: Limits) -> list[onnx.NodeProto]:
    """uint8 activations of one scale, int8 weights with a scale for each column, and the product of both in fp32."""
    name, x, y = found.name, f"{found.product}_x", f"{found.product}_plain"
    values, steps = round_columns(found.weight * divisors[:, None])
    step, zero = scale_and_zero(limits)
    weight = [
        net.add_constant(f"{name}_int8", values),
        net.add_constant(f"{name}_scale", steps),
        net.add_constant(f"{name}_zero", np.zeros(len(steps), dtype=np.int8)),
    ]
    activation = [net.add_constant(f"{x}_scale", step), net.add_constant(f"{x}_zero", zero)]
    bias = net.add_constant(f"{found.product}_bias", found.bias)
    chain: tuple[tuple[str, list[str], str], ...] = (
        ("Mul", [found.x, token_int8.add_inverse(net, name, divisors)], x),
        ("QuantizeLinear", [x, *activation], f"{x}_int8"),
        ("DequantizeLinear", [f"{x}_int8", *activation], f"{x}_back"),
        ("DequantizeLinear", weight, f"{found.product}_weight"),
        ("MatMul", [f"{x}_back", f"{found.product}_weight"], y),
        ("Add", [y, bias], found.y),
    )
    nodes = [helper.make_node(kind, inputs, [made], name=made) for kind, inputs, made in chain]
    nodes[3].attribute.append(helper.make_attribute("axis", 1))
    return nodes


def scale_and_zero(limits: Limits) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The step of uint8 between two limits, and where 0 stands, which is exact."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    step = np.float32(max(high - low, 1e-12) / STEPS)
    return np.array(step, dtype=np.float32), np.array(np.round(-low / step), dtype=np.uint8)
