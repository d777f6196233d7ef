"""The operators of domain `edgeft`: functions of standard operators, which the runtime's own kernels replace.

onnxruntime takes a registered kernel where there is one and this body elsewhere, so that one file runs everywhere. Both
compute the same: each token's activations get a scale of their own, so that an answer doesn't depend on what else is in
its batch.

Linear and GeluLinear are matrix products of int8. With v = x * smooth (tokens, K) and s = max |v| / 127 for each token,
y = s * round(v / s) W * weight_scale + bias. GeluLinear takes v = (gelu(x) + 0.17) * smooth, which is never below 0,
and s = max v / 255; what the 0.17 adds has been taken from its bias. The Norm forms return
LayerNormalization(y + residual).
Attention is softmax(q k^T scale) v of packed queries, keys and values over the tokens that the mask shows.
Int8Weight expands a weight of 4 bits to int8 (K, N): the values of packed (N, K / 2), each times the scale of its
block in block_scale (N, K / block), divided by smooth and weight_scale. It has no kernel: onnxruntime computes it
once, at load.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import helper, parser

from edgeft.export.quantize.rounding import BLOCK

DOMAIN = "edgeft"
OPSET = 20
GELU_FLOOR = 0.17  # GELU is never below -0.16998

_HEAD = f'<opset_import: ["" : {OPSET}, "com.microsoft" : 1], domain: "{DOMAIN}">'
_INPUTS = "x, weight, weight_scale, bias, smooth"


def _levels(count: int, zero: int) -> str:
    """How many steps the largest size is, and which one stands for 0."""
    return f"""
    levels = Constant<value = float {{{count}.0}}>()
    step = Constant<value = float {{{1 / count}}}>()
    zero = Constant<value = uint8 {{{zero}}}>()
"""


_SIGNED = f"""
    smoothed = Mul(x, smooth)
    size = Abs(smoothed)
    {_levels(127, 128)}
"""
_POSITIVE = f"""
    activated = Gelu(x)
    floor = Constant<value = float {{{GELU_FLOOR}}}>()
    shifted = Add(activated, floor)
    smoothed = Mul(shifted, smooth)
    size = Identity(smoothed)
    {_levels(255, 0)}
"""
_PRODUCT = """
    last = Constant<value_ints = [-1]>()
    most = ReduceMax<keepdims = 1>(size, last)
    least = Constant<value = float {1e-20}>()
    top = Max(most, least)
    inverse = Div(levels, top)
    scaled = Mul(smoothed, inverse)
    one = Constant<value = float {1.0}>()
    quantized = QuantizeLinear(scaled, one, zero)
    product = com.microsoft.MatMulIntegerToFloat(quantized, weight, one, weight_scale, zero)
    scale = Mul(top, step)
    rescaled = Mul(product, scale)
"""
_PLAIN = "    y = Add(rescaled, bias)\n"
_NORM = """
    linear = Add(rescaled, bias)
    sum = Add(linear, residual)
    y = LayerNormalization<axis = -1, epsilon: float = @epsilon>(sum, gamma, beta)
"""
_ATTENTION = """
    queries, keys, values = Split<axis = -1, num_outputs = 3>(qkv)
    shown = Cast<to = 6>(mask)
    y = com.microsoft.MultiHeadAttention<num_heads: int = @num_heads, scale: float = @scale>
        (queries, keys, values, , shown)
"""
_INT8_WEIGHT = f"""
    last = Constant<value_ints = [-1]>()
    fifteen = Constant<value = uint8 {{15}}>()
    four = Constant<value = uint8 {{4}}>()
    low = BitwiseAnd(packed, fifteen)
    high = BitShift<direction = "RIGHT">(packed, four)
    first = Unsqueeze(low, last)
    second = Unsqueeze(high, last)
    pairs = Concat<axis = -1>(first, second)
    in_blocks = Constant<value_ints = [0, -1, {BLOCK}]>()
    moved_bytes = Reshape(pairs, in_blocks)
    moved = Cast<to = 1>(moved_bytes)
    eight = Constant<value = float {{8.0}}>()
    whole = Sub(moved, eight)
    half_scale = Unsqueeze(block_scale, last)
    scale = Cast<to = 1>(half_scale)
    blocks = Mul(whole, scale)
    in_rows = Constant<value_ints = [0, -1]>()
    rows = Reshape(blocks, in_rows)
    smoothed = Div(rows, smooth)
    columns = Transpose<perm = [1, 0]>(smoothed)
    steps = Div(columns, weight_scale)
    rounded = Round(steps)
    y = Cast<to = 3>(rounded)
"""
_NORM_INPUTS = f"{_INPUTS}, residual, gamma, beta"

BODIES = {
    "Linear": f"{_HEAD} Linear ({_INPUTS}) => (y) {{ {_SIGNED} {_PRODUCT} {_PLAIN} }}",
    "GeluLinear": f"{_HEAD} GeluLinear ({_INPUTS}) => (y) {{ {_POSITIVE} {_PRODUCT} {_PLAIN} }}",
    "LinearNorm": f"{_HEAD} LinearNorm <epsilon> ({_NORM_INPUTS}) => (y) {{ {_SIGNED} {_PRODUCT} {_NORM} }}",
    "GeluLinearNorm": f"{_HEAD} GeluLinearNorm <epsilon> ({_NORM_INPUTS}) => (y) {{ {_POSITIVE} {_PRODUCT} {_NORM} }}",
    "Int8Weight": f"{_HEAD} Int8Weight (packed, block_scale, smooth, weight_scale) => (y) {{ {_INT8_WEIGHT} }}",
    "Attention": f"{_HEAD} Attention <num_heads, scale> (qkv, mask) => (y) {{ {_ATTENTION} }}",
}


def function(name: str) -> onnx.FunctionProto:
    """The body of an operator.

    Args:
        name: a key of `BODIES`.
    """
    return parser.parse_function(BODIES[name])


def node(name: str, inputs: Iterable[str], output: str, **attributes: float) -> onnx.NodeProto:
    """A node of domain `edgeft`, named after its output."""
    options: dict[str, Any] = {**attributes}
    return helper.make_node(name, list(inputs), [output], name=output, domain=DOMAIN, **options)


def add_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a model the bodies of the operators that it uses, and nothing else's, in place."""
    used = {found.op_type for found in model.graph.node if found.domain == DOMAIN}
    del model.functions[:]
    model.functions.extend(function(name) for name in BODIES if name in used)
    imports = {item.domain: item for item in model.opset_import}
    for domain, wanted in ((DOMAIN, used), ("com.microsoft", True)):
        if wanted and domain not in imports:
            model.opset_import.append(helper.make_opsetid(domain, 1))
    return model
