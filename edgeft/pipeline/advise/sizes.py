"""Sizes of pre-trained models, and the memory and time to train each, by rules of thumb.

Every figure here is a rule of thumb, good to a factor of two:

- Full fine-tuning holds 16 bytes a parameter: fp32 weights, gradients and Adam's two moments (Rajbhandari et al. 2020,
  ZeRO, count the same 16 for mixed precision).
- LoRA holds the weights (4 bytes) and 16 bytes for each parameter of its matrices (Hu et al. 2021).
- QLoRA holds the body at 0.55 bytes a parameter (NF4 with double quantization takes 4.13 bits, Dettmers et al. 2023,
  and some room), embeddings at 4 bytes.
- Activations are batch * length * layers * (34 * width + 5 * heads * length) bytes in 16 bit, twice that in fp32
  (Korthikanti et al. 2022, equation 1, without parallelism or recomputation).
- A model that generates holds logits of the whole vocabulary and their gradients, 8 bytes for each of a token's.
- Training takes 6 floating-point operations for each parameter of the body and token (Kaplan et al. 2020), 4 where the
  weights are frozen and have no gradients.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import msgspec
import yaml

from edgeft import tasks
from edgeft.tasks import Architecture

Method = Literal["full", "lora", "qlora"]

OPTIMIZED_BYTES = 16.0  # of a parameter that trains
WEIGHT_BYTES = 4.0
FOUR_BIT_BYTES = 0.55
HEAD_WIDTH = 64
RANK = 16  # the recipe's lora_rank
OPERATIONS: dict[Method, int] = {"full": 6, "lora": 4, "qlora": 4}


@dataclass(frozen=True, kw_only=True)
class Size:
    """A class of sizes by one well-known model of it.

    Attributes:
        name: of the class.
        span: the parameters of the class in words.
        model: its example.
        parameters: of the example.
        body: of them outside the embeddings.
        layers: of the example.
        width: of its hidden states.
        others: more examples, with their parameters.
        generates: whether every token has logits.
    """

    name: str
    span: str
    model: str
    parameters: float
    body: float
    layers: int
    width: int
    others: str = ""
    generates: bool = False

    def memory_bytes(self, method: Method, batch: int, length: int, gpu: bool) -> float:
        """Memory of training, by the rules above."""
        adapter = 18 * RANK * self.width * self.layers  # in + out of four attention and two feed-forward matrices
        held = {
            "full": OPTIMIZED_BYTES * self.parameters,
            "lora": WEIGHT_BYTES * self.parameters + OPTIMIZED_BYTES * adapter,
            "qlora": FOUR_BIT_BYTES * self.body
            + WEIGHT_BYTES * (self.parameters - self.body)
            + OPTIMIZED_BYTES * adapter,
        }
        a_layer = 34 * self.width + 5 * (self.width / HEAD_WIDTH) * length
        vocabulary = (self.parameters - self.body) / self.width if self.generates else 0.0
        a_token = self.layers * a_layer * (1 if gpu else 2) + 8 * vocabulary
        return held[method] + batch * length * a_token

    def operations(self, method: Method, tokens: float) -> float:
        """Floating-point operations of training on so many tokens, all epochs together."""
        return OPERATIONS[method] * self.body * tokens


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contents of sizes.yaml.

    Attributes:
        sizes: of each family, the smallest first.
        multilingual: the name of a size to an encoder that reads many languages.
    """

    sizes: dict[Architecture, tuple[Size, ...]]
    multilingual: dict[str, str]


@functools.cache
def read_table() -> Table:
    """The known sizes."""
    text = (resources.files("edgeft.pipeline.advise") / "sizes.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), Table)


def family(task: str) -> Architecture:
    """The family of models that is usually fine-tuned for a task."""
    return tasks.known(task).architecture
