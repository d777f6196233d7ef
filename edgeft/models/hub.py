"""Models of the Hugging Face hub: whether an id can be had, from where, and what to do where it can't."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from edgeft.errors import ModelError

SECONDS = 3.0  # for the hub's first answer, where neither of these says how many
TIMEOUTS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
ID = re.compile(r"\w[\w.-]*/[\w.-]+")
DEMO = "demo:all-minilm-l6-v2"
# Who publishes models that begin so; for an id without its organisation.
PUBLISHERS = {
    ("all-", "paraphrase-", "multi-qa-", "msmarco-"): "sentence-transformers",
    ("bert-",): "google-bert",
    ("distilbert-", "distilroberta-", "distilgpt2"): "distilbert",
    ("roberta-", "xlm-roberta-"): "FacebookAI",
    ("deberta-",): "microsoft",
    ("modernbert-",): "answerdotai",
    ("albert-",): "albert",
    ("t5-",): "google-t5",
    ("gpt2",): "openai-community",
    ("smollm",): "HuggingFaceTB",
    ("qwen",): "Qwen",
    ("bge-",): "BAAI",
    ("e5-", "multilingual-e5-"): "intfloat",
}


def suggestions(source: str) -> list[str]:
    """What may be meant by a name that is neither a folder nor a hub id, the likeliest first."""
    folder = Path(source).expanduser()
    lowered = folder.name.lower()
    found = [DEMO] if lowered == DEMO.removeprefix("demo:") else []
    if "/" not in source:
        found += [f"{who}/{source}" for starts, who in PUBLISHERS.items() if lowered.startswith(starts)]
    with contextlib.suppress(OSError):
        beside = [entry.name for entry in folder.parent.iterdir() if (entry / "config.json").is_file()]
        found += [str(folder.parent / name) for name in difflib.get_close_matches(folder.name, beside, 1)]
    return found


def not_there(source: str) -> ModelError:
    """The error for a name that is neither a folder nor a hub id."""
    meant = suggestions(source)
    hint = f" (did you mean {' or '.join(meant)}?)" if meant else ""
    return ModelError(
        f"{source}: no such model folder, and a hub id has its organisation before the name{hint}; "
        f"give a folder, a Hugging Face id (organisation/name) or {DEMO}"
    )


class OutOfReachError(ModelError):
    """The hub can't be reached, and the cache hasn't got the model."""


def check(source: str, ask: bool = True) -> None:
    """Refuse a model that can't be had, in a second: before the libraries that train are imported, or rows read.

    Args:
        source: a folder, an id or `demo:NAME`; folders are looked into later.
        ask: whether the hub is asked; else an id is only looked at.

    Raises:
        ModelError: no such folder, and no id that can be had.
    """
    if source.startswith("demo:") or Path(source).expanduser().exists():
        return
    if not ID.fullmatch(source):
        raise not_there(source)
    if ask:
        locate(source)


@lru_cache(maxsize=64)
def locate(name: str) -> Path | str:
    """Where `transformers` shall read a model of the hub.

    Args:
        name: `organisation/name`.

    Returns:
        The id; or, where the hub can't be reached, the snapshot in the local cache.

    Raises:
        OutOfReachError: it can't be reached, and the cache hasn't got the model.
        ModelError: there is no such model.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except ValueError as error:
        raise ModelError(f"{name}: not an id of the hub: {_first_line(error)}") from None
    problem = _unreachable(name)
    if problem is None:
        return name
    if isinstance(cached, str):
        return Path(cached).parent
    raise OutOfReachError(
        f"{name}: not in the local cache, and {problem}; give a folder or {DEMO}, or fetch it where there is a "
        f"network: hf download {name}"
    )


def _unreachable(name: str) -> str | None:
    """Why the hub can't be reached; None: it can, and has the model.

    Raises:
        ModelError: the hub says that it has no such model, or not for this user.
    """
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_seconds(), retry_on_errors=False)
    except errors.GatedRepoError:
        raise ModelError(f"{name}: its owner has to grant you access on the hub; then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{name}: the hub has no such model, or it is private; check the spelling, or `hf auth login`"
        ) from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{name}: no config.json in it, so it is not a model that edgeft can train") from None
    except Exception as error:  # noqa: BLE001 - whatever the client of the day raises for a network that fails
        late = "timeout" in type(error).__name__.lower() or "timed out" in str(error)
        longer = f"; {TIMEOUTS[0]}=SECONDS waits longer than {_seconds():g} s" if late else ""
        return f"{constants.ENDPOINT} can't be reached ({_first_line(error)}{longer})"
    return None


def _seconds() -> float:
    """How long the hub's first answer may take, as the libraries of the hub are told."""
    for name in TIMEOUTS:
        with contextlib.suppress(ValueError):
            return float(os.environ.get(name, ""))
    return SECONDS


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def out_of_reach() -> Iterator[None]:
    """Let nothing here ask the hub: what a local folder names is not fetched."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
