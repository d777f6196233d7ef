"""What a model makes of texts, batch by batch, and remembered on disk, so that a kill costs the last batch at most."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import transformers

from edgeft.models import model_folder
from edgeft.progress import track
from edgeft.stage import code_version
from edgeft.stage_folder import CHECKPOINTS, RUN_MARKER, digest

NAME = "generated.sqlite"
# A batch of texts -> what the model makes of each.
Make = Callable[[list[str]], list[str]]


class Memory:
    """Texts that models made, each under what made it and what it was made of.

    Args:
        folder: where the database lives; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / NAME)
        with self._database:
            self._database.execute("CREATE TABLE IF NOT EXISTS made (key TEXT PRIMARY KEY, text TEXT NOT NULL)")

    def get(self, maker: str, texts: Sequence[str]) -> dict[str, str]:
        """What is known of the texts."""
        found: dict[str, str] = {}
        for text in texts:
            row = self._database.execute("SELECT text FROM made WHERE key = ?", (_key(maker, text),)).fetchone()
            if row is not None:
                found[text] = row[0]
        return found

    def put(self, maker: str, made: dict[str, str]) -> None:
        """Keep a batch, whole or not at all."""
        rows = [(_key(maker, text), result) for text, result in made.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", rows)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _key(maker: str, text: str) -> str:
    return hashlib.sha256(f"{maker}\0{text}".encode()).hexdigest()


def memory_folder(out_dir: Path) -> Path:
    """Where a stage's memory lives.

    In a run it is the run's own cache, so that another setting of the stage finds what was made under the last one; a
    stage alone keeps it with its checkpoints, because nothing around its output folder is ours to write. It holds the
    user's texts, so it never leaves for a cache that outlives the run.
    """
    run = out_dir.resolve().parent
    return run / ".cache" if (run / RUN_MARKER).exists() else out_dir / CHECKPOINTS


def produce(texts: Sequence[str], make: Make, memory: Memory, maker: str, batch_size: int, title: str) -> list[str]:
    """What a model makes of each text.

    The batches depend on the texts alone and one is remembered as a whole, so that a resumed run sees the same batches.

    Args:
        texts: each is asked once, however often it stands there; the longest go first.
        make: asks the model.
        memory: is asked before.
        maker: names the model and everything else, but for the text, that the answer depends on.
        batch_size: texts in one call.
        title: of the progress bar.
    """
    unique = sorted(set(texts), key=lambda text: (-len(text), text))
    found: dict[str, str] = {}
    for batch in track([unique[first : first + batch_size] for first in range(0, len(unique), batch_size)], title):
        known = memory.get(maker, batch)
        if missing := [text for text in batch if text not in known]:
            made = dict(zip(missing, make(missing), strict=True))
            memory.put(maker, made)
            found |= made
        found |= known
    return [found[text] for text in texts]


def config_of(source: str) -> Any:
    """A model's config.json, without loading a weight.

    Raises:
        ModelError: it can't be had.
    """
    return model_folder.read_config(source)


def maker_of(source: str, device: str, *settings: object) -> str:
    """The name of a model under settings: by its content, or by its commit on the hub."""
    place = model_folder.find(source)
    content = digest(place) if isinstance(place, Path) else f"{place}@{config_of(source)._commit_hash}"
    return "\0".join(map(str, (content, transformers.__version__, code_version(), device, *settings)))
