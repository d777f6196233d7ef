"""Fine-tuning methods: what fits which model, which weights train, and how they become one plain model again."""

from edgeft.train.defaults import LEARNING_RATES
from edgeft.train.methods.adapters import HEADS, load, parameter_counts, prepare
from edgeft.train.methods.fit import NOT_PLAIN, check, check_head, idle_lora, without_idle
from edgeft.train.methods.merging import ADAPTER, check_merge, finished, merge
from edgeft.train.methods.nf4 import compute_in_float32, copy_dequantized

__all__ = [
    "ADAPTER",
    "HEADS",
    "LEARNING_RATES",
    "NOT_PLAIN",
    "check",
    "check_head",
    "check_merge",
    "compute_in_float32",
    "copy_dequantized",
    "finished",
    "idle_lora",
    "load",
    "merge",
    "parameter_counts",
    "prepare",
    "without_idle",
]
