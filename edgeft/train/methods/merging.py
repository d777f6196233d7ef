"""From what was trained to one plain model, and the check that both are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from edgeft.errors import GateError
from edgeft.files import write_json
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig
from edgeft.train.loop import memory
from edgeft.train.methods import virtual
from edgeft.train.methods.nf4 import copy_dequantized

ADAPTER = "adapter"


def merge(model: Any, config: FinetuneConfig, source: str, head: model_folder.Head, folder: Path) -> Any:
    """Fold the trained adapter into plain fp32 weights; a model without adapter is one already.

    For QLoRA the base is the de-quantized NF4 base that the adapter was trained on, in fp32: merging into the
    original weights, or back into 4 bits, would be another model than the one that was validated. Virtual tokens become
    words of the vocabulary, which `finished` gives the tokenizer.

    Args:
        model: the trained adapter model, untouched.
        config: of the fine-tuning.
        source: of the base.
        head: what the model answers with.
        folder: where the adapter is kept, under `adapter/`.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    save_adapter(model, folder / ADAPTER)
    model_folder.seed_everything(config.seed or 0)
    base = model_folder.load(source, head)
    if config.method == "qlora":
        copy_dequantized(model.get_base_model(), base)
    if count := virtual.added(config):
        words = model_folder.load_tokenizer(source)
        ids = virtual.token_ids(virtual.extended(words, count), words, count)
        return placed(virtual.into_vocabulary(model, base, ids), next(model.parameters()).device).eval()
    merged = PeftModel.from_pretrained(base, folder / ADAPTER).merge_and_unload()
    return placed(merged, next(model.parameters()).device)


def placed(merged: Any, device: torch.device) -> Any:
    """The model on the device, or on the CPU where the device has no room for it in fp32."""
    try:
        return merged.to(device)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_exhausted(error) or device.type == "cpu":
            raise
        say(f"merge: in fp32 the merged model doesn't fit on {device.type}; it is checked on the CPU")
        return merged.to("cpu")


def finished(tokenizer: Any, config: FinetuneConfig) -> tuple[Any, int]:
    """The tokenizer of the merged model, and the tokens that a text of it may have.

    Args:
        tokenizer: that the model was trained with; left as it is.
        config: of the fine-tuning.
    """
    count = virtual.added(config)
    return (virtual.extended(tokenizer, count) if count else tokenizer), config.max_length + count


def save_adapter(model: Any, folder: Path) -> None:
    """Write a peft folder; peft lists names in the order of a set, which changes from process to process."""
    model.save_pretrained(folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()})


def check_merge(before: Any, after: Any, tolerance: float) -> float:
    """Compare the merged model's logits with the adapter model's.

    Args:
        before: logits of the adapter model, (rows, labels).
        after: logits of the merged model, (rows, labels).
        tolerance: largest difference allowed, relative to the largest logit.

    Returns:
        The relative difference found.

    Raises:
        GateError: it is over the tolerance.
    """
    difference = float(abs(before - after).max() / max(abs(before).max(), 1e-12))
    if not difference <= tolerance:
        raise GateError(
            f"merge: logits of the merged model differ from the adapter's by {difference:.2e} of the largest logit, "
            f"allowed are {tolerance:.0e}; no model was kept"
        )
    return difference
