"""Values for unset fine-tuning options, derived from task, method, model and rows, each with its reason.

They are rules of thumb, each with its source; `edgeft search` measures instead. All of it is arithmetic on numbers that
are known before any weight is loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeft.recipe import FinetuneConfig

# Peak learning rates of AdamW for models up to `BASE_WIDTH` wide.
LEARNING_RATES = {
    "full": 5e-5,  # BERT, Devlin et al. 2019, appendix A.3: 2e-5 to 5e-5
    "head": 1e-3,  # AdamW's own default; the best of 3e-4 to 1e-2 on MiniLM's features
    "lora": 5e-4,  # LoRA, Hu et al. 2021, appendix D: 4e-4 to 5e-4 for RoBERTa
    "dora": 5e-4,  # as LoRA; the two end alike on MiniLM
    "rslora": 5e-4,  # ours: at rank 16 its scale is 4 times LoRA's; 1e-3 and 2.5e-4 did worse on MiniLM
    "qlora": 5e-4,  # as LoRA; at 1e-3 one of two seeds on MiniLM fell to chance for half of the training
    "ia3": 8e-3,  # peft's guide to (IA)^3; T-Few, Liu et al. 2022, takes 3e-3 of Adafactor, too slow here
    "peanut": 1e-3,  # AdamW's own default
    "prompt": 3e-2,  # peft's guide to prompt tuning; 1e-2 was still far from its best after two epochs
    "p_tuning": 1e-3,  # peft's guide to p-tuning
}
# The learning rate falls with this power of the width, for methods that train matrices inside the layers.
WIDE = {"full": 1.0, "lora": 0.5, "dora": 0.5, "rslora": 0.5, "qlora": 0.5, "peanut": 0.5}
BASE_WIDTH = 768
BATCH, SMALLEST_BATCH = 16, 4
STEPS_AN_EPOCH = 16
TARGET_STEPS = 1_000
MIN_EPOCHS, MAX_EPOCHS, GENERATION_EPOCHS = 3, 20, 3
LONGEST, ROUNDED_TO, COVERED_SHARE = 512, 8, 0.99  # tokens, tokens, share of the texts
WARMUP, GENERATION_WARMUP = 0.1, 0.03
SHORTEST = 4  # tokens; max_length's lower bound
VIRTUAL_TOKENS = 20  # Lester et al. 2021, figure 3b: more than 20 gain little
VIRTUAL = ("prompt", "p_tuning")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The facts of task, rows and model that the rules need.

    Attributes:
        task: its tag.
        rows: training rows, including copies with swapped terms.
        tokens: (n,) token counts of training texts, with special tokens; of a sample if there are many texts.
        positions: of the model.
        width: of the model's hidden states; 0 if its config.json has none.
        cut: whether texts are truncated to max_length; otherwise a long text becomes several items.
    """

    task: str
    rows: int
    tokens: Sequence[int]
    positions: int
    width: int = 0
    cut: bool = True

    @property
    def generates(self) -> bool:
        """Whether the model learns to generate text."""
        return "generation" in self.task

    def items(self, config: FinetuneConfig) -> tuple[int, str]:
        """The number of items in an epoch, and their name: an item is a row, several packed rows, or a part of a row.

        A part of a long text begins with the last token of the part before.
        """
        length = config.max_length
        if config.packing:
            return max(1, math.ceil(self.all_tokens(length) / length)), "packed items"
        if self.cut:
            return self.rows, "training rows"
        parts = sum(max(1, math.ceil((count - 1) / (length - 1))) for count in self.tokens)
        return math.ceil(parts / len(self.tokens) * self.rows), "items of texts"

    def all_tokens(self, max_length: int) -> float:
        """The approximate number of tokens of all training rows, with items of at most `max_length` tokens."""
        counts = [min(count, max_length) for count in self.tokens] if self.cut else self.tokens
        return sum(counts) / len(counts) * self.rows


Decision = tuple[Any, str]


def decide_options(config: FinetuneConfig, workload: Workload) -> tuple[FinetuneConfig, dict[str, str]]:
    """Decide all unset options that a training needs.

    Args:
        config: options that are set remain as they are.
        workload: facts of task, rows and model.

    Returns:
        The complete config, and the reason for each option that was decided here.
    """
    rules: dict[str, Callable[[FinetuneConfig, Workload], Decision]] = {
        "virtual_tokens": _virtual_tokens,
        "max_length": _max_length,
        "epochs": _epochs,
        "batch_size": _batch_size,
        "learning_rate": _learning_rate,
        "warmup_fraction": _warmup_fraction,
    }
    if config.method not in VIRTUAL:
        del rules["virtual_tokens"]
    config_so_far, reasons = config, {}
    for option, rule in rules.items():
        if getattr(config, option) is None:
            value, reasons[option] = rule(config_so_far, workload)
            config_so_far = dataclasses.replace(config_so_far, **{option: value})
    return config_so_far, reasons


def describe(config: FinetuneConfig, reasons: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Decided option -> its `value` and `reason`."""
    return {option: {"value": getattr(config, option), "reason": why} for option, why in reasons.items()}


def choose_epochs(task: str, rows: int) -> int:
    """Choose enough epochs for about `TARGET_STEPS` steps, within bounds.

    Small datasets need many epochs: Mosbach, Andriushchenko and Klakow 2021 train for 20 on the small tasks of GLUE.
    """
    most = GENERATION_EPOCHS if "generation" in task else MAX_EPOCHS
    return max(MIN_EPOCHS, min(most, math.ceil(TARGET_STEPS * BATCH / rows)))


def _epochs(config: FinetuneConfig, workload: Workload) -> Decision:
    count, what = workload.items(config)
    passes = choose_epochs(workload.task, count)
    seen = f"{count:,} {what}, {passes} times"
    if workload.generates:
        return float(passes), f"{seen}: with more than {GENERATION_EPOCHS} epochs a model memorizes its texts"
    return float(passes), (
        f"{seen}: the model should see about {TARGET_STEPS * BATCH:,} rows, in {MIN_EPOCHS} to {MAX_EPOCHS} epochs "
        "(Mosbach et al. 2021: small datasets need many)"
    )


def _batch_size(config: FinetuneConfig, workload: Workload) -> Decision:
    """The usual size, halved until an epoch has enough steps."""
    count, what = workload.items(config)
    batches = count / config.gradient_accumulation
    size = BATCH
    while size > SMALLEST_BATCH and batches / size < STEPS_AN_EPOCH:
        size //= 2
    if size == BATCH:
        return (
            size,
            "the smaller of BERT's 16 and 32 (Devlin et al. 2019, appendix A.3), which needs less memory",
        )
    return size, (
        f"{count:,} {what} make {math.ceil(batches / size)} steps an epoch; the goal is at least {STEPS_AN_EPOCH} "
        f"steps of {SMALLEST_BATCH} to {BATCH}"
    )


def _learning_rate(config: FinetuneConfig, workload: Workload) -> Decision:
    """By method, and lower for wider models.

    Yang et al. 2022 (Tensor Programs V) derive for Adam that the rate is inversely proportional to the width. Published
    rates of adapters fall with its square root: 5e-4 at 768, QLoRA's 2e-4 at 7 B (width 4096) and 1e-4 at 65 B (width
    8192; Dettmers et al. 2023, table 9).
    """
    peak = LEARNING_RATES[config.method]
    if config.optimizer == "sgd":
        return SGD_RATE, f"plain SGD needs another rate than AdamW; {SGD_RATE} is a first guess"
    if config.method not in WIDE or workload.width <= BASE_WIDTH:
        return peak, f"of method {config.method} for models of this width, with AdamW"
    power = WIDE[config.method]
    rate = float(f"{peak * (BASE_WIDTH / workload.width) ** power:.2g}")
    root, source = (
        ("", "Yang et al. 2022: Adam's rate is inversely proportional to the width")
        if power == 1
        else ("the root of ", "between the rates of LoRA, Hu et al. 2021, and of QLoRA, Dettmers et al. 2023")
    )
    return rate, (
        f"{peak:g} of method {config.method} x {root}{BASE_WIDTH} / {workload.width}, the model's width ({source})"
    )


SGD_RATE = 1e-2


def _warmup_fraction(config: FinetuneConfig, workload: Workload) -> Decision:
    if workload.generates:
        return GENERATION_WARMUP, "as QLoRA (Dettmers et al. 2023, appendix B)"
    return WARMUP, "a warm-up over a tenth of the steps stabilizes the start (Mosbach et al. 2021)"


def _virtual_tokens(config: FinetuneConfig, workload: Workload) -> Decision:
    return VIRTUAL_TOKENS, "more gain little (Lester et al. 2021, figure 3b)"


def _max_length(config: FinetuneConfig, workload: Workload) -> Decision:
    """The length that covers 99% of the texts, rounded up; at most the model's positions, and at most `LONGEST`.

    Packed items are as long as possible, so that fewer texts are cut, while an epoch keeps enough steps.
    """
    covered = quantile(workload.tokens, COVERED_SHARE)
    rounded = math.ceil(max(covered, 1) / ROUNDED_TO) * ROUNDED_TO
    room = workload.positions - (config.virtual_tokens or 0)
    coverage = f"{COVERED_SHARE:.0%} of the training texts have up to {covered:,} tokens"
    if config.packing:
        items = SMALLEST_BATCH * STEPS_AN_EPOCH * config.gradient_accumulation
        shared = int(workload.all_tokens(LONGEST) / items) // ROUNDED_TO * ROUNDED_TO
        least, why = (rounded, f"{coverage}, which are not cut; ") if workload.cut else (ROUNDED_TO, "")
        return min(max(least, shared), room, LONGEST), (
            f"{why}packed texts share items of up to {LONGEST} tokens, as long as an epoch has {STEPS_AN_EPOCH} steps "
            f"of {SMALLEST_BATCH} and the model has the positions"
        )
    length = min(rounded, room, LONGEST)
    if length == rounded:
        return length, f"{coverage}, rounded up to a multiple of {ROUNDED_TO}"
    if room < LONGEST:
        beside = f" and {config.virtual_tokens} virtual tokens" if config.virtual_tokens else ""
        return length, f"{coverage}, but the model has only {workload.positions:,} positions for them{beside}"
    return length, f"{coverage}; attention over more than {LONGEST} is expensive"


def quantile(tokens: Sequence[int], share: float) -> int:
    """The smallest length that at least this share of the texts does not exceed."""
    ordered = sorted(tokens)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
