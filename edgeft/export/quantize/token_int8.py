"""int8 with a scale for each token: matrix products become the operators of `edgeft.export.onnx.operators`.

Activations are smoothed before they are rounded (SmoothQuant, Xiao et al. 2023, equation 4): what makes a channel of
the activations large moves into the weights, s_k = max |x_k|^a / max |w_k|^(1 - a), x' = x / s, w' = s w.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgeft.export.onnx import operators
from edgeft.export.onnx.net import Linear, Net, find_linears
from edgeft.export.onnx.operators import GELU_FLOOR
from edgeft.export.quantize import tables, weights

SMALLEST_WEIGHT = 4096  # values; what a smaller one saves isn't worth its error
SMALLEST = 1e-5  # a channel's largest value is taken for at least this

Channels = NDArray[np.float32]
Ranges = Mapping[str, Channels]


@dataclass(frozen=True)
class Site:
    """A matrix product with what stands before and behind it.

    Attributes:
        linear: the product.
        gelu: the GELU whose output alone goes into it; None: another value goes in.
        add: the sum with a residual that follows; None: none does.
        norm: the layer normalisation of that sum.
        residual: the other operand of the sum.
    """

    linear: Linear
    gelu: onnx.NodeProto | None = None
    add: onnx.NodeProto | None = None
    norm: onnx.NodeProto | None = None
    residual: str = ""

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes that one operator stands for."""
        around = (self.gelu, self.add, self.norm)
        return [*self.linear.nodes, *(node for node in around if node is not None)]

    @property
    def x(self) -> str:
        """The value that goes in."""
        return self.gelu.input[0] if self.gelu is not None else self.linear.x

    @property
    def y(self) -> str:
        """The value that comes out."""
        return self.norm.output[0] if self.norm is not None else self.linear.y


def find_sites(net: Net) -> list[Site]:
    """Every matrix product that is worth int8."""
    return [_to_site(net, found) for found in find_linears(net) if found.shape[0] * found.shape[1] >= SMALLEST_WEIGHT]


def _to_site(net: Net, found: Linear) -> Site:
    gelu = net.maker.get(found.x)
    exact = gelu is not None and gelu.op_type == "Gelu" and _attribute(gelu, "approximate", b"none") == b"none"
    gelu = gelu if exact and len(net.users[found.x]) == 1 and found.x not in net.outputs else None
    add = net.only_user(found.y, "Add")
    norm = net.only_user(add.output[0], "LayerNormalization") if add is not None else None
    if add is None or norm is None or _attribute(norm, "axis", -1) != -1 or len(norm.input) < 3:
        return Site(found, gelu)
    residual = add.input[1] if add.input[0] == found.y else add.input[0]
    if residual == found.y or net.shape(residual) is not None:
        return Site(found, gelu)
    return Site(found, gelu, add, norm, residual)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def quantize(
    model: onnx.ModelProto,
    ranges: Ranges,
    strength: float = 0.5,
    float_layers: Collection[str] = (),
    by_token: bool = True,
    embedding_bits: int = 8,
    weight_bits: int = 8,
) -> onnx.ModelProto:
    """Put int8 products and int8 tables of embeddings into a captured fp32 graph, in place.

    Args:
        model: captured.
        ranges: value that goes into a product to the largest size of each of its channels, (K), as of
            `edgeft.export.quantize.ranges.channel_ranges`.
        strength: how much of the activations' range moves into the weights, 0 to 1; `a` above.
        float_layers: weights that stay fp32.
        by_token: whether each token has a scale of its own; otherwise all tokens of a batch share one.
        embedding_bits: as of `tables.quantize`.
        weight_bits: as of `weights.store`.
    """
    net = Net(model)
    found = choose_sites(net, ranges, float_layers)
    smooth = compute_divisors(found, ranges, strength, by_token)
    for site in found:
        if by_token:
            net.replace(site.nodes, _quantize_by_token(net, site, smooth[site.linear.product], weight_bits))
        else:
            net.replace(
                site.linear.nodes, _quantize_by_tensor(net, site.linear, smooth[site.linear.product], weight_bits)
            )
    tables.quantize(net, float_layers, embedding_bits)
    return operators.add_bodies(net.settle())


def choose_sites(net: Net, ranges: Ranges, float_layers: Collection[str]) -> list[Site]:
    """The products that become int8."""
    return [site for site in find_sites(net) if site.linear.name not in float_layers and site.linear.x in ranges]


def compute_divisors(found: Iterable[Site], ranges: Ranges, strength: float, by_token: bool) -> dict[str, Channels]:
    """Product to the divisors of its channels, (K); products that share a weight share them, so that it stays one.

    Args:
        found: the products.
        ranges: as of `quantize`.
        strength: as of `quantize`.
        by_token: whether a GELU before the product is taken with it, whose output is then moved above 0.
    """
    sizes: dict[tuple[str, bool], Channels] = {}
    keys = {site.linear.product: (site.linear.name, by_token and site.gelu is not None) for site in found}
    for site in found:
        key = keys[site.linear.product]
        size = ranges[site.linear.x] + (GELU_FLOOR if key[1] else 0)
        sizes[key] = np.maximum(sizes[key], size) if key in sizes else size
    by_weight = {site.linear.name: site.linear for site in found}
    smooth = {
        key: smoothing_divisors(np.maximum(size, SMALLEST), by_weight[key[0]].weight, strength)
        for key, size in sizes.items()
    }
    return {product: smooth[key] for product, key in keys.items()}


def add_inverse(net: Net, name: str, smooth: Channels) -> str:
    """Name of a constant: what activations are multiplied with to be smoothed."""
    return net.add_constant(f"{name}_smooth", (1 / smooth).astype(np.float32))


def _quantize_by_token(net: Net, site: Site, smooth: Channels, bits: int) -> list[onnx.NodeProto]:
    name = site.linear.name + ("_gelu" if site.gelu is not None else "")
    inverted = add_inverse(net, name, smooth)
    weight = weights.store(net, name, site.linear.weight, inverted, bits)
    bias = site.linear.bias
    if site.gelu is not None:
        bias = bias - GELU_FLOOR * weight.scale_values * (weight.values / smooth[:, None]).sum(axis=0)
    added = net.add_constant(f"{site.linear.product}_bias", bias.astype(np.float32))
    inputs = [site.x, weight.name, weight.scale, added, inverted]
    kind = "GeluLinear" if site.gelu is not None else "Linear"
    if site.norm is None:
        return [*weight.made, operators.node(kind, inputs, site.y)]
    inputs += [site.residual, *site.norm.input[1:3]]
    epsilon = _attribute(site.norm, "epsilon", 1e-5)
    return [*weight.made, operators.node(f"{kind}Norm", inputs, site.y, epsilon=epsilon)]


def _quantize_by_tensor(net: Net, found: Linear, smooth: Channels, bits: int) -> list[onnx.NodeProto]:
    x, inverted = f"{found.product}_x", add_inverse(net, found.name, smooth)
    weight = weights.store(net, found.name, found.weight, inverted, bits)
    inputs = [x, weight.name, weight.scale, "", net.add_constant(f"{found.product}_bias", found.bias)]
    product = helper.make_node("DynamicQuantizeMatMul", inputs, [found.y], name=found.y, domain="com.microsoft")
    return [*weight.made, helper.make_node("Mul", [found.x, inverted], [x], name=x), product]


def smoothing_divisors(size: NDArray[np.float32], weight: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """The divisor of each channel of the activations.

    Args:
        size: largest size of each channel, (K).
        weight: (K, N).
        strength: 0: all from the weights, 1: all from the activations.

    Returns:
        float32 (K).
    """
    largest = np.maximum(np.abs(weight).max(axis=1), SMALLEST)
    return np.asarray(size**strength / largest ** (1 - strength), dtype=np.float32)
