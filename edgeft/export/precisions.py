"""The ladder of precisions: how a captured fp32 graph becomes each of them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
from onnx import inliner
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.transformers import float16

from edgeft.export import operators, token_int8
from edgeft.export.net import Net
from edgeft.export.ranges import Method, channel_ranges, tensor_ranges
from edgeft.export.token_int8 import Ranges, Site

BLOCK = 32  # values of a block of weights that share a scale


@dataclass(frozen=True)
class Source:
    """What every precision is made of.

    Attributes:
        captured: the fp32 graph; never changed.
        rows: token ids of training texts, to calibrate on.
        scratch: a folder for files that go again.
        strength: of smoothing, 0 to 1.
        method: how the ranges of static int8 are found.
    """

    captured: onnx.ModelProto
    rows: Sequence[Sequence[int]]
    scratch: Path
    strength: float = 0.5
    method: Method = "minmax"

    def copy(self) -> onnx.ModelProto:
        """A graph to change."""
        copied = onnx.ModelProto()
        copied.CopyFrom(self.captured)
        return copied

    @cached_property
    def sites(self) -> list[Site]:
        """The products that int8 is for."""
        return token_int8.sites(Net(self.copy()))

    @cached_property
    def ranges(self) -> Ranges:
        """Largest size of each channel that goes into a product."""
        names = [site.linear.x for site in self.sites]
        return channel_ranges(operators.add_bodies(self.copy()), names, self.rows, self.scratch / "ranges.onnx")


Build = Callable[[Source, Collection[str]], onnx.ModelProto]


@dataclass(frozen=True)
class Precision:
    """One rung.

    Attributes:
        name: as a recipe names it.
        scheme: what it is, in a line.
        build: makes the graph, some layers left in fp32.
        provider: that it is for.
        layers: whether single layers can be left in fp32.
    """

    name: str
    scheme: str
    build: Build = field(repr=False)
    provider: str = "CPUExecutionProvider"
    layers: bool = True


def _fp32(source: Source, _: Collection[str]) -> onnx.ModelProto:
    return operators.add_bodies(source.copy())


def _fp16(source: Source, _: Collection[str]) -> onnx.ModelProto:
    whole = inliner.inline_local_functions(operators.add_bodies(source.copy()))
    with _quiet():
        return float16.convert_float_to_float16(whole, keep_io_types=True, disable_shape_infer=True)


def _int8(source: Source, float_layers: Collection[str]) -> onnx.ModelProto:
    return token_int8.quantize(source.copy(), source.ranges, source.strength, float_layers)


def _int8_tensor(source: Source, float_layers: Collection[str]) -> onnx.ModelProto:
    return token_int8.quantize(source.copy(), source.ranges, source.strength, float_layers, by_token=False)


def _int8_static(source: Source, float_layers: Collection[str]) -> onnx.ModelProto:
    model = token_int8.smoothed(source.copy(), source.ranges, source.strength, float_layers)
    products = [found for found in token_int8.sites(Net(model)) if found.linear.name not in float_layers]
    names = [name for site in products for name in (site.linear.x, site.linear.product)]
    ranges = tensor_ranges(
        operators.add_bodies(model), names, source.rows, source.scratch / "static.onnx", source.method
    )
    nodes = [site.linear.nodes[0].name for site in products]
    with _quiet():
        quantizer = QDQQuantizer(
            inliner.inline_local_functions(model), True, False, QuantType.QInt8, QuantType.QUInt8, ranges, nodes, [],
            ["MatMul", "Gemm"], {"ActivationSymmetric": False, "DedicatedQDQPair": False, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )  # fmt: skip
        quantized: onnx.ModelProto = quantizer.quantize_model()
    return quantized


def _blocks(bits: int) -> Build:
    def build(source: Source, float_layers: Collection[str]) -> onnx.ModelProto:
        model = source.copy()
        excluded = [site.linear.nodes[0].name for site in source.sites if site.linear.name in float_layers]
        with _quiet():
            quantizer = MatMulNBitsQuantizer(
                model, bits=bits, block_size=BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=excluded
            )
            quantizer.process()
        made: onnx.ModelProto = quantizer.model.model
        return operators.add_bodies(token_int8.quantize_tables(made, float_layers))

    return build


PRECISIONS = {
    found.name: found
    for found in (
        Precision("fp32", "none", _fp32, layers=False),
        Precision("fp16", "float16 but for inputs and outputs", _fp16, "CUDAExecutionProvider", layers=False),
        Precision("int8", "int8 weights per channel, activations rounded with a scale for each token", _int8),
        Precision(
            "int8-tensor", "int8 weights per channel, activations rounded with a scale for each tensor", _int8_tensor
        ),
        Precision("int8-static", "int8 weights per channel, activations with calibrated ranges (QDQ)", _int8_static),
        Precision("int8-blocks", f"int8 weights in blocks of {BLOCK}", _blocks(8)),
        Precision("int4-blocks", f"int4 weights in blocks of {BLOCK}", _blocks(4)),
    )
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizers advise pre-processing that the capture has already done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
            yield
    finally:
        logging.disable(before)
