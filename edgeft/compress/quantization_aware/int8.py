"""Training that sees int8: matrix products and tables compute as the exported graph will.

With v = x / smooth for each token and s = max |v| / 127, a product is s round(v / s) W' + bias, where each row of W' is
W smooth rounded to 127 steps of its largest weight. After a GELU, v = (x + 0.17) / smooth and s = max v / 255.
With 4 bits for embeddings or weights, each 32 values of a row are x = s q, q from -8 to 7 and -8 the largest of them;
a weight is rounded so before it is smoothed.
Gradients pass the rounding as if it weren't there (Bengio et al. 2013, arXiv:1308.3432, "straight-through").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from edgeft.errors import ModelError
from edgeft.models import shapes

GELU_FLOOR = 0.17  # GELU is never below -0.16998
SMALLEST_WEIGHT, SMALLEST_TABLE = 4096, 1000  # values, rows: smaller ones stay as they are
BLOCK = 32  # values of a row that share a scale, at 4 bits
SMALLEST = 1e-5  # a channel's largest value is taken for at least this
STRENGTH = 0.5  # of the smoothing; the export measures which one is best

Run = Callable[[], object]


def through(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The rounded values, with the gradient of the exact ones."""
    return exact + (rounded - exact).detach()


def rounded_tokens(values: torch.Tensor, positive: bool = False) -> torch.Tensor:
    """Activations rounded to a scale of each token: 127 steps on either side of 0, or 255 above it.

    Args:
        values: (..., K).
        positive: none is below 0.
    """
    levels, size = (255, values) if positive else (127, values.abs())
    step = size.amax(-1, keepdim=True).clamp_min(1e-20) / levels
    return through(values, (values / step).round() * step)


def rounded_rows(weight: torch.Tensor) -> torch.Tensor:
    """Weights (N, K) rounded to 127 steps of the largest of each row."""
    scale = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return through(weight, (weight / scale).round() * scale)


def rounded_blocks(rows: torch.Tensor) -> torch.Tensor:
    """Rows (..., D) rounded to 4 bits in blocks of `BLOCK`, D a multiple of that."""
    blocks = rows.detach().unflatten(-1, (-1, BLOCK))
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = (largest / -8).half().float()  # as the graph keeps it
    whole = (blocks / torch.where(scale == 0, 1, scale)).round().clamp(-8, 7)
    return through(rows, (whole * scale).flatten(-2))


def rounded_embeddings(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows (..., D) of a table as the graph keeps them, in 8 bits or in 4."""
    return rounded_blocks(rows) if bits == 4 and rows.shape[-1] % BLOCK == 0 else rounded_rows(rows)


def rounded_weight(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight (N, K) as the graph keeps it, before it is smoothed and rounded to int8."""
    return rounded_blocks(weight) if bits == 4 and weight.shape[-1] % BLOCK == 0 else weight


def product(x: torch.Tensor, layer: nn.Linear, smooth: torch.Tensor, after_gelu: bool, bits: int = 8) -> torch.Tensor:
    """A linear layer as int8 computes it.

    Args:
        x: (..., K).
        layer: (N, K) and its bias.
        smooth: (K,) what the activations' channels are divided by.
        after_gelu: whether `x` comes out of a GELU.
        bits: of a weight in the file, 8 or 4.
    """
    with torch.autocast(x.device.type, enabled=False):  # half precision would round once more
        weight = rounded_rows(rounded_weight(layer.weight.float(), bits) * smooth)
        given = x.float() / smooth
        if after_gelu:
            floor = GELU_FLOOR / smooth
            given = rounded_tokens(given + floor, positive=True) - floor
        else:
            given = rounded_tokens(given)
        return linear(given, weight, None if layer.bias is None else layer.bias.float()).to(x.dtype)


@contextmanager
def int8(model: Any, run: Run, embedding_bits: int = 8, weight_bits: int = 8) -> Iterator[None]:
    """Let a model compute in int8.

    Args:
        model: of transformers; its weights stay in full precision, and gradients reach them.
        run: passes real rows through it, which give the sizes of the activations.
        embedding_bits: of the values of embedding tables, 8 or 4.
        weight_bits: of a weight in the file, 8 or 4.
    """
    after_gelu = gelu_readers(model)
    smooth = divisors(sizes(products(model), run), after_gelu, packed(model))
    with ExitStack() as undo:
        for layer in smooth:
            undo.enter_context(_patched(layer, smooth[layer], layer in after_gelu, weight_bits))
        for table in tables(model):
            handle = table.register_forward_hook(partial(_rounded_output, bits=embedding_bits))
            undo.callback(handle.remove)
        yield


@torch.no_grad()
def settle(model: Any, embedding_bits: int, weight_bits: int) -> None:
    """Give tables and weights the values that the file keeps of them, in place.

    A graph in full precision of the same model then reads what the int8 graph reads. A table that is the output layer
    as well stays as it is, and so do weights of 8 bits, which the graph rounds once they are smoothed.
    """
    layers, found = products(model), tables(model)
    read, written = ({module.weight.data_ptr() for module in some} for some in (found, layers))
    for table in found:
        if table.weight.data_ptr() not in written:
            table.weight.copy_(rounded_embeddings(table.weight, embedding_bits))
    for layer in layers:
        if layer.weight.data_ptr() not in read:
            layer.weight.copy_(rounded_weight(layer.weight, weight_bits))


def _rounded_output(module: nn.Module, inputs: Any, found: torch.Tensor, *, bits: int) -> torch.Tensor:
    return rounded_embeddings(found, bits)


@contextmanager
def _patched(layer: nn.Linear, smooth: torch.Tensor, after_gelu: bool, bits: int) -> Iterator[None]:
    own: Any = layer
    own.forward = lambda x: product(x, layer, smooth, after_gelu, bits)
    try:
        yield
    finally:
        del own.forward


def products(model: Any) -> list[nn.Linear]:
    """The linear layers that become int8."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.weight.numel() >= SMALLEST_WEIGHT
    ]


def tables(model: Any) -> list[nn.Embedding]:
    """The tables of embeddings that are kept in few bits."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings >= SMALLEST_TABLE
    ]


def gelu_readers(model: Any) -> set[nn.Module]:
    """The linear layers that read a GELU's output and nothing else."""
    names = ("hidden_act", "activation")
    if all(getattr(model.config, name, None) != "gelu" for name in names):
        return set()
    return {block.down for block in _blocks(model)}


def _blocks(model: Any) -> list[shapes.Block]:
    try:
        return shapes.blocks(model)
    except ModelError:
        return []


@torch.inference_mode()
def sizes(layers: list[nn.Linear], run: Run) -> dict[nn.Linear, torch.Tensor]:
    """(K,) largest size of each channel that goes into each layer."""
    found: dict[nn.Linear, torch.Tensor] = {}

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(layer, nn.Linear)
        size = inputs[0].float().abs().flatten(0, -2).amax(0)
        found[layer] = torch.maximum(found[layer], size) if layer in found else size

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {layer: size.clone() for layer, size in found.items()}


def packed(model: Any) -> list[tuple[nn.Linear, ...]]:
    """Layers that the exported graph computes as one product: queries, keys and values of an attention."""
    whole = model.config.model_type in shapes.PACKED
    return [block.writers for block in _blocks(model)] if whole else []


def divisors(
    found: dict[nn.Linear, torch.Tensor], after_gelu: set[nn.Module], together: list[tuple[nn.Linear, ...]]
) -> dict[nn.Linear, torch.Tensor]:
    """(K,) the smoothing of each layer's channels, sqrt(max |x| / max |w|) (Xiao et al. 2023, equation 4).

    Args:
        found: layer to the sizes of what goes in, (K,).
        after_gelu: the layers that read a GELU's output.
        together: layers that share their divisors.
    """
    partners = {layer: group for group in together for layer in group}
    smooth = {}
    for layer, size in found.items():
        group = partners.get(layer, (layer,))
        largest = torch.stack([one.weight.detach().abs().amax(0) for one in group]).amax(0).clamp_min(SMALLEST)
        size = (size + GELU_FLOOR if layer in after_gelu else size).clamp_min(SMALLEST)
        smooth[layer] = size**STRENGTH / largest ** (1 - STRENGTH)
    return smooth
