"""Fine-tuning methods: which fits which model, which weights train, and the merge into a plain model."""

from edgeft.train.defaults import LEARNING_RATES
from edgeft.train.methods.adapters import HEADS, load, parameter_counts, prepare
from edgeft.train.methods.fit import NOT_PLAIN, check, check_head, reset_unused_options, unused_lora_options
from edgeft.train.methods.merging import ADAPTER, check_merge, merge, merged_tokenizer
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
    "merged_tokenizer",
    "unused_lora_options",
    "load",
    "merge",
    "parameter_counts",
    "prepare",
    "reset_unused_options",
]
