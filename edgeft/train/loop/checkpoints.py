"""Checkpoints from which a killed training resumes with bit-identical results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgeft import ranks
from edgeft.errors import TrainingError
from edgeft.files import make_folder, written_whole
from edgeft.progress import say
from edgeft.stage_folder import CHECKPOINTS

NAME = "last.pt"


def save(out_dir: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint atomically: after a kill or a power cut there is the previous one or this one."""
    make_folder(out_dir / CHECKPOINTS)
    with written_whole(out_dir / CHECKPOINTS / NAME) as file:
        torch.save(state, file)


def load(out_dir: Path) -> dict[str, Any] | None:
    """The last checkpoint; None if there is none or if it is damaged."""
    path = out_dir / CHECKPOINTS / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - torch raises nearly anything for damaged bytes
        say(f"{path} can't be read, training starts again: {' '.join(str(error).split())[:100]}")
        return None
    return state


def check_processes(states: list[dict[str, torch.Tensor]]) -> None:
    """Refuse a checkpoint of another number of processes.

    Args:
        states: random state of each process of the checkpoint.

    Raises:
        TrainingError: the numbers differ.
    """
    if len(states) != ranks.world():
        raise TrainingError(
            f"the checkpoint was written by {len(states)} processes, but there are {ranks.world()} now; start as many "
            "as before, or choose another output folder"
        )


def rng_state() -> dict[str, torch.Tensor]:
    """The random state of torch on every device in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore a state of `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
