"""The precisions in the order in which they are tried, and how a captured fp32 graph becomes each of them."""

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
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers import float16

from edgeft.export.candidates import CAPTURED, ExportCandidates
from edgeft.export.onnx import operators
from edgeft.export.onnx.files import load
from edgeft.export.onnx.net import Net
from edgeft.export.quantize import static_int8, tables, token_int8
from edgeft.export.quantize.ranges import Limits, Method, Smoothed, channel_ranges, tensor_ranges
from edgeft.export.quantize.rounding import BLOCK
from edgeft.export.quantize.token_int8 import Ranges
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.engine import CPU


@dataclass(frozen=True)
class Source:
    """What every precision is made of.

    Attributes:
        captured: the file of the fp32 graph.
        rows: training rows, to calibrate on.
        scratch: a folder for files that go again.
        method: how the ranges of static int8 are found.
        embedding_bits: of the tables, as of `tables.quantize`.
        weight_bits: of int8 weights, as of `weights.store`.
        calibrated: what `static` found.
    """

    captured: Path
    rows: Sequence[Window]
    scratch: Path
    method: Method = "minmax"
    embedding_bits: int = 8
    weight_bits: int = 8
    calibrated: dict[float, tuple[dict[str, Smoothed], dict[str, Limits]]] = field(default_factory=dict)

    def copy(self) -> onnx.ModelProto:
        """A graph to change."""
        return load(self.captured)

    @cached_property
    def products(self) -> list[tuple[str, str]]:
        """Each product that int8 is for: its weight, and the value that goes in; several may share either."""
        return [(site.linear.name, site.linear.x) for site in token_int8.find_sites(Net(self.copy()))]

    @property
    def weights(self) -> list[str]:
        """Weights that int8 is for."""
        return list(dict.fromkeys(weight for weight, _ in self.products))

    @cached_property
    def ranges(self) -> Ranges:
        """Largest size of each channel that goes into a product."""
        return channel_ranges(self.captured, [x for _, x in self.products], self.rows, self.scratch / "ranges.onnx")

    def static(self, strength: float) -> tuple[dict[str, Smoothed], dict[str, Limits]]:
        """What goes into each product once smoothed, and its range; calibrated once for each strength."""
        if strength not in self.calibrated:
            ranges = self.ranges
            smoothed = static_int8.smooth_inputs(self.copy(), ranges, strength)
            limits = tensor_ranges(self.captured, smoothed, self.rows, self.scratch / "static.onnx", self.method)
            self.calibrated[strength] = smoothed, limits
        return self.calibrated[strength]


def source_of(candidates: ExportCandidates, rows: Sequence[Window]) -> Source:
    """What the graphs of a candidates are made of, calibrated on some training rows."""
    config = candidates.config
    return Source(
        candidates.folder / CAPTURED,
        rows,
        candidates.folder,
        config.calibration,
        embedding_bits=config.embedding_bits,
        weight_bits=config.weight_bits,
    )


Build = Callable[[Source, float, Collection[str]], onnx.ModelProto]


@dataclass(frozen=True)
class Precision:
    """One trial.

    Attributes:
        name: as a recipe names it.
        scheme: what it is, in a line.
        build: makes the graph: of a source, smoothed with a strength from 0 to 1, some layers left in fp32.
        provider: that it is for.
        layers: whether single layers can be left in fp32.
        smoothed_as: the precision whose best smoothing it takes; empty: nothing is smoothed.
    """

    name: str
    scheme: str
    build: Build = field(repr=False)
    provider: str = CPU
    layers: bool = True
    smoothed_as: str = ""


def _fp32(source: Source, *_: object) -> onnx.ModelProto:
    return operators.add_bodies(source.copy())


def _fp16(source: Source, *_: object) -> onnx.ModelProto:
    whole = inliner.inline_local_functions(operators.add_bodies(source.copy()))
    with _quiet():
        halved: onnx.ModelProto = float16.convert_float_to_float16(whole, keep_io_types=True, disable_shape_infer=True)
    return halved


def _int8(by_token: bool) -> Build:
    def build(source: Source, strength: float, float_layers: Collection[str]) -> onnx.ModelProto:
        ranges = source.ranges  # before the copy is in memory
        return token_int8.quantize(
            source.copy(),
            ranges,
            strength,
            float_layers,
            by_token,
            embedding_bits=source.embedding_bits,
            weight_bits=source.weight_bits,
        )

    return build


def _int8_static(source: Source, strength: float, float_layers: Collection[str]) -> onnx.ModelProto:
    smoothed, limits = source.static(strength)
    return static_int8.quantize(source.copy(), smoothed, limits, float_layers, source.embedding_bits)


def _blocks(bits: int) -> Build:
    def build(source: Source, _: float, float_layers: Collection[str]) -> onnx.ModelProto:
        model = source.copy()
        sites = token_int8.find_sites(Net(model))
        excluded = [site.linear.nodes[0].name for site in sites if site.linear.name in float_layers]
        with _quiet():
            quantizer = MatMulNBitsQuantizer(
                model, bits=bits, block_size=BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=excluded
            )
            quantizer.process()
        net = Net(quantizer.model.model)
        tables.quantize(net, float_layers, source.embedding_bits)
        return operators.add_bodies(net.settle())

    return build


BY_CHANNEL = "int8 weights, a scale for each channel; activations rounded with"
IN_ORDER = (
    Precision("fp32", "none", _fp32, layers=False),
    Precision("int8", f"{BY_CHANNEL} a scale for each token", _int8(by_token=True), smoothed_as="int8"),
    Precision(
        "int8-tensor", f"{BY_CHANNEL} one scale, taken anew each time", _int8(by_token=False), smoothed_as="int8-tensor"
    ),
    Precision("int8-static", f"{BY_CHANNEL} calibrated scales (QDQ)", _int8_static, smoothed_as="int8"),
    Precision("int8-blocks", f"int8 weights in blocks of {BLOCK}", _blocks(8)),
    Precision("int4-blocks", f"int4 weights in blocks of {BLOCK}", _blocks(4)),
    Precision("fp16", "float16 but for inputs and outputs", _fp16, "CUDAExecutionProvider", layers=False),
)
PRECISIONS = {found.name: found for found in IN_ORDER}


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
