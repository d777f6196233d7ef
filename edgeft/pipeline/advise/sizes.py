"""Sizes of pre-trained models, and what training one takes: memory and time by rules of thumb.

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

from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora", "qlora"]
Family = Literal["encoder", "decoder", "encoder-decoder"]

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
        """What training holds at once, by the rules above."""
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


TINY = Size(
    name="tiny",
    span="4-15M",
    model="google/bert_uncased_L-4_H-256_A-4",
    parameters=11.3e6,
    body=3.2e6,
    layers=4,
    width=256,
    others="google/bert_uncased_L-2_H-128_A-2 4.4M",
)
SMALL = Size(
    name="small",
    span="20-35M",
    model="sentence-transformers/all-MiniLM-L6-v2",
    parameters=22.7e6,
    body=10.6e6,
    layers=6,
    width=384,
)
BASE = Size(
    name="base",
    span="65-150M",
    model="google-bert/bert-base-uncased",
    parameters=110e6,
    body=85e6,
    layers=12,
    width=768,
    others="distilbert/distilbert-base-uncased 66M, answerdotai/ModernBERT-base 149M",
)
LARGE = Size(
    name="large",
    span="300-400M",
    model="google-bert/bert-large-uncased",
    parameters=336e6,
    body=302e6,
    layers=24,
    width=1024,
)
SIZES: dict[Family, tuple[Size, ...]] = {
    "encoder": (TINY, SMALL, BASE, LARGE),
    "decoder": (
        Size(
            name="base",
            span="100-150M",
            model="HuggingFaceTB/SmolLM2-135M",
            parameters=135e6,
            body=106e6,
            layers=30,
            width=576,
            generates=True,
        ),
        Size(
            name="large",
            span="300-400M",
            model="HuggingFaceTB/SmolLM2-360M",
            parameters=362e6,
            body=315e6,
            layers=32,
            width=960,
            generates=True,
        ),
        Size(
            name="1B+",
            span="1-3B",
            model="HuggingFaceTB/SmolLM2-1.7B",
            parameters=1.71e9,
            body=1.61e9,
            layers=24,
            width=2048,
            generates=True,
        ),
        Size(
            name="7B",
            span="7-8B",
            model="mistralai/Mistral-7B-v0.1",
            parameters=7.24e9,
            body=6.98e9,
            layers=32,
            width=4096,
            generates=True,
        ),
    ),
    "encoder-decoder": (
        Size(
            name="small",
            span="60M",
            model="google-t5/t5-small",
            parameters=60.5e6,
            body=44e6,
            layers=12,
            width=512,
            generates=True,
        ),
        Size(
            name="base",
            span="220M",
            model="google-t5/t5-base",
            parameters=223e6,
            body=198e6,
            layers=24,
            width=768,
            generates=True,
        ),
        Size(
            name="large",
            span="740M",
            model="google-t5/t5-large",
            parameters=738e6,
            body=705e6,
            layers=48,
            width=1024,
            generates=True,
        ),
    ),
}
# Encoders that read many languages, by size class, with their parameters.
MULTILINGUAL = {
    "small": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "base": "FacebookAI/xlm-roberta-base",
}


def family(task: str) -> Family:
    """What is usually fine-tuned for a task."""
    families: dict[str, Family] = {"text-generation": "decoder", "text2text-generation": "encoder-decoder"}
    return families.get(task, "encoder")
