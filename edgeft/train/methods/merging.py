"""Merging a trained adapter into a plain model, and the check that both give the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from edgeft.errors import GateError
from edgeft.files import write_json
from edgeft.models import devices, model_folder
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig
from edgeft.train.loop import memory
from edgeft.train.methods import virtual
from edgeft.train.methods.nf4 import copy_dequantized

ADAPTER = "adapter"


def merge(model: Any, config: FinetuneConfig, source: str, head: model_folder.Head, folder: Path) -> Any:
    """Merge the trained adapter into plain fp32 weights; a model without an adapter is returned as it is.

    For QLoRA the base is the dequantized NF4 base that the adapter was trained on, in fp32: a merge into the original
    weights, or back into 4 bits, would be another model than the validated one. Virtual tokens become entries of the
    vocabulary, which `merged_tokenizer` adds to the tokenizer.

    Args:
        model: the trained adapter model; not changed.
        config: of the fine-tuning.
        source: folder or hub id of the base.
        head: of the model.
        folder: where the adapter is saved, under `adapter/`.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    save_adapter(model, folder / ADAPTER)
    devices.seed_everything(config.seed or 0)
    base = model_folder.load(source, head)
    if config.method == "qlora":
        copy_dequantized(model.get_base_model(), base)
    if count := virtual.count_tokens(config):
        words = model_folder.load_tokenizer(source)
        ids = virtual.token_ids(virtual.extend_tokenizer(words, count), words, count)
        return move_to_device(virtual.write_vocabulary(model, base, ids), next(model.parameters()).device).eval()
    merged = PeftModel.from_pretrained(base, folder / ADAPTER).merge_and_unload()
    return move_to_device(merged, next(model.parameters()).device)


def move_to_device(merged: Any, device: torch.device) -> Any:
    """Move the model to the device, or to the CPU if the device has no room for it in fp32."""
    try:
        return merged.to(device)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_exhausted(error) or device.type == "cpu":
            raise
        say(f"merge: the merged model doesn't fit on {device.type} in fp32; it is checked on the CPU")
        return merged.to("cpu")


def merged_tokenizer(tokenizer: Any, config: FinetuneConfig) -> tuple[Any, int]:
    """The tokenizer of the merged model, and its maximum length in tokens.

    Args:
        tokenizer: that the model was trained with; not changed.
        config: of the fine-tuning.
    """
    count = virtual.count_tokens(config)
    return (virtual.extend_tokenizer(tokenizer, count) if count else tokenizer), config.max_length + count


def save_adapter(model: Any, folder: Path) -> None:
    """Write a peft folder with sorted lists: peft writes them in the order of a set, which varies between processes."""
    model.save_pretrained(folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()})


def check_merge(before: Any, after: Any, tolerance: float) -> float:
    """Compare the merged model's logits with the adapter model's.

    Args:
        before: logits of the adapter model, (rows, labels).
        after: logits of the merged model, (rows, labels).
        tolerance: largest allowed difference, relative to the largest logit.

    Returns:
        The relative difference.

    Raises:
        GateError: it exceeds the tolerance.
    """
    difference = float(abs(before - after).max() / max(abs(before).max(), 1e-12))
    if not difference <= tolerance:
        raise GateError(
            f"merge: logits of the merged model differ from the adapter's by {difference:.2e} of the largest logit, "
            f"more than the tolerance of {tolerance:.0e}; no model was saved"
        )
    return difference
