"""The device and why it was chosen; seeds, and how large a model is."""

from __future__ import annotations

from typing import Literal

import torch
import transformers
from transformers import PreTrainedModel

from edgeft import ranks
from edgeft.errors import ModelError


def choose_device(choice: Literal["auto", "cpu", "cuda"]) -> tuple[torch.device, str]:
    """The device, and why this one.

    Raises:
        ModelError: a GPU was asked for and there is none.
    """
    if choice == "cpu":
        return torch.device("cpu"), "cpu was asked for"
    if torch.cuda.is_available():
        if ranks.world() == 1:
            return torch.device("cuda"), f"{torch.cuda.get_device_name()} found"
        torch.cuda.set_device(ranks.local())  # each process has a card of its own
        return torch.device("cuda", ranks.local()), f"{torch.cuda.get_device_name()} found"
    absent = "no GPU found" if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
    if choice == "cuda":
        raise ModelError(f"device: cuda was asked for, but {absent}; take auto or cpu")
    return torch.device("cpu"), absent


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, GPUs included."""
    transformers.set_seed(seed)


def count_parameters(model: PreTrainedModel) -> int:
    """How many parameters a model has."""
    return int(model.num_parameters())


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of a model's parameters in fp32."""
    return 4 * count_parameters(model)
