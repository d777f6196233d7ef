"""What is unset in a fine-tuning gets a value from task, method, model and rows, each with its reason.

Rules of thumb, each with where it comes from; `edgeft search` measures. Everything here is arithmetic on numbers that
are known before a weight is loaded.
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
# With which power of the width the rate goes down, where matrices inside of the layers move.
WIDE = {"full": 1.0, "lora": 0.5, "dora": 0.5, "rslora": 0.5, "qlora": 0.5, "peanut": 0.5}
BASE_WIDTH = 768
BATCH, SMALLEST_BATCH = 16, 4
STEPS_AN_EPOCH = 16
WANTED_STEPS = 1_000
MIN_EPOCHS, MAX_EPOCHS, GENERATION_EPOCHS = 3, 20, 3
LONGEST, ROUNDED_TO, HELD = 512, 8, 0.99  # tokens, tokens, share of the texts
WARMUP, GENERATION_WARMUP = 0.1, 0.03
SHORTEST = 4  # tokens; max_length's lower bound
VIRTUAL_TOKENS = 20  # Lester et al. 2021, figure 3b: more than 20 gain little
VIRTUAL = ("prompt", "p_tuning")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a fine-tuning is about.

    Attributes:
        task: its tag.
        rows: training rows, copies with swapped terms included.
        tokens: (n,) of training texts, special tokens included; of some, where they are many.
        positions: tokens that the model takes.
        width: of its hidden states; 0 where its config.json has none.
        cut: whether a text loses what is beyond max_length; else it becomes several items.
    """

    task: str
    rows: int
    tokens: Sequence[int]
    positions: int
    width: int = 0
    cut: bool = True

    @property
    def generates(self) -> bool:
        """Whether the model learns to write texts."""
        return "generation" in self.task

    def items(self, config: FinetuneConfig) -> tuple[int, str]:
        """What an epoch has, and what that is called: rows, or items where several rows share one or a row has several.

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
        """Tokens of the training rows, about, in items of so many."""
        counts = [min(count, max_length) for count in self.tokens] if self.cut else self.tokens
        return sum(counts) / len(counts) * self.rows


Decision = tuple[Any, str]


def decide(config: FinetuneConfig, setting: Setting) -> tuple[FinetuneConfig, dict[str, str]]:
    """The config with nothing left unset that a training needs, and why each value is what it is.

    Args:
        config: options that are set stay as they are.
        setting: what is learnt from what by which model.

    Returns:
        The config, and the reason of each option that was decided here.
    """
    rules: dict[str, Callable[[FinetuneConfig, Setting], Decision]] = {
        "virtual_tokens": _virtual_tokens,
        "max_length": _max_length,
        "epochs": _epochs,
        "batch_size": _batch_size,
        "learning_rate": _learning_rate,
        "warmup_fraction": _warmup_fraction,
    }
    if config.method not in VIRTUAL:
        del rules["virtual_tokens"]
    made, reasons = config, {}
    for option, rule in rules.items():
        if getattr(config, option) is None:
            value, reasons[option] = rule(made, setting)
            made = dataclasses.replace(made, **{option: value})
    return made, reasons


def described(config: FinetuneConfig, reasons: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Option to `value` and `reason`, of those that were decided."""
    return {option: {"value": getattr(config, option), "reason": why} for option, why in reasons.items()}


def epochs(task: str, rows: int) -> int:
    """Enough for so many steps as a set of middling size takes, within bounds.

    Small sets want many epochs: Mosbach, Andriushchenko and Klakow 2021 train for 20 on the small tasks of GLUE.
    """
    most = GENERATION_EPOCHS if "generation" in task else MAX_EPOCHS
    return max(MIN_EPOCHS, min(most, math.ceil(WANTED_STEPS * BATCH / rows)))


def _epochs(config: FinetuneConfig, setting: Setting) -> Decision:
    count, what = setting.items(config)
    found = epochs(setting.task, count)
    seen = f"{count:,} {what}, {found} times"
    if setting.generates:
        return float(found), f"{seen}: more than {GENERATION_EPOCHS} epochs learn texts by heart"
    return float(found), (
        f"{seen}: about {WANTED_STEPS * BATCH:,} rows are to be seen, in {MIN_EPOCHS} to {MAX_EPOCHS} epochs "
        "(Mosbach et al. 2021: small sets want many)"
    )


def _batch_size(config: FinetuneConfig, setting: Setting) -> Decision:
    """The usual one, halved until an epoch has enough steps."""
    count, what = setting.items(config)
    each = count / config.gradient_accumulation
    found = BATCH
    while found > SMALLEST_BATCH and each / found < STEPS_AN_EPOCH:
        found //= 2
    if found == BATCH:
        return (
            found,
            "the smaller of BERT's 16 and 32 (Devlin et al. 2019, appendix A.3), which needs less memory",
        )
    return found, (
        f"{count:,} {what} make {math.ceil(each / found)} steps an epoch; at least {STEPS_AN_EPOCH} are "
        f"wanted, with {SMALLEST_BATCH} to {BATCH} each"
    )


def _learning_rate(config: FinetuneConfig, setting: Setting) -> Decision:
    """By method; for wider models less.

    Yang et al. 2022 (Tensor Programs V) derive for Adam that it goes with the inverse of the width. Adapters' rates in
    use go with its square root: 5e-4 at 768, QLoRA's 2e-4 at 7 B (width 4096) and 1e-4 at 65 B (width 8192; Dettmers
    et al. 2023, table 9).
    """
    peak = LEARNING_RATES[config.method]
    if config.optimizer == "sgd":
        return SGD_RATE, f"plain SGD wants a rate of its own; {SGD_RATE} is a first try"
    if config.method not in WIDE or setting.width <= BASE_WIDTH:
        return peak, f"of method {config.method} for models of this width, with AdamW"
    power = WIDE[config.method]
    rate = float(f"{peak * (BASE_WIDTH / setting.width) ** power:.2g}")
    root, source = (
        ("", "Yang et al. 2022: Adam's rate goes with the inverse of the width")
        if power == 1
        else ("the root of ", "between the rates of LoRA, Hu et al. 2021, and of QLoRA, Dettmers et al. 2023")
    )
    return rate, (
        f"{peak:g} of method {config.method} x {root}{BASE_WIDTH} / {setting.width}, the model's width ({source})"
    )


SGD_RATE = 1e-2


def _warmup_fraction(config: FinetuneConfig, setting: Setting) -> Decision:
    if setting.generates:
        return GENERATION_WARMUP, "as QLoRA (Dettmers et al. 2023, appendix B)"
    return WARMUP, "a tenth of the steps steadies the start (Mosbach et al. 2021)"


def _virtual_tokens(config: FinetuneConfig, setting: Setting) -> Decision:
    return VIRTUAL_TOKENS, "more gain little (Lester et al. 2021, figure 3b)"


def _max_length(config: FinetuneConfig, setting: Setting) -> Decision:
    """What holds 99% of the texts, rounded up; no more than the model takes, nor than is affordable.

    Packed texts get all that is affordable, as fewer of them are cut, but leave an epoch its steps.
    """
    held = quantile(setting.tokens, HELD)
    wanted = math.ceil(max(held, 1) / ROUNDED_TO) * ROUNDED_TO
    room = setting.positions - (config.virtual_tokens or 0)
    most = f"{HELD:.0%} of the training texts have up to {held:,} tokens"
    if config.packing:
        items = SMALLEST_BATCH * STEPS_AN_EPOCH * config.gradient_accumulation
        shared = int(setting.all_tokens(LONGEST) / items) // ROUNDED_TO * ROUNDED_TO
        least, why = (wanted, f"{most}, which stay whole; ") if setting.cut else (ROUNDED_TO, "")
        return min(max(least, shared), room, LONGEST), (
            f"{why}packed texts share items of up to {LONGEST} tokens, as far as {STEPS_AN_EPOCH} steps of "
            f"{SMALLEST_BATCH} are left to an epoch and the model has positions"
        )
    found = min(wanted, room, LONGEST)
    if found == wanted:
        return found, f"{most}, rounded up to a multiple of {ROUNDED_TO}"
    if room < LONGEST:
        beside = f" and {config.virtual_tokens} virtual tokens" if config.virtual_tokens else ""
        return found, f"{most}, and the model has {setting.positions:,} positions for them{beside}"
    return found, f"{most}; attention over more than {LONGEST} costs much"


def quantile(tokens: Sequence[int], share: float) -> int:
    """The smallest length that so large a share of the texts doesn't exceed."""
    ordered = sorted(tokens)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
