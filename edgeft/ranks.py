"""Which of several processes of one training this is, as torchrun and `accelerate launch` tell it."""

from __future__ import annotations

import os


def rank() -> int:
    """This process' number, from 0."""
    return int(os.environ.get("RANK", "0"))


def local() -> int:
    """This process' number on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0
