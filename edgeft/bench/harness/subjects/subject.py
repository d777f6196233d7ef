"""What can be measured: an artifact, an ONNX file, a server of edgeft's, or whatever a Python function opens."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeft import artifact
from edgeft.bench.measure import names_of
from edgeft.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPENERS = "edgeft.bench.harness.subjects.adapters"
IMPORTS = {"artifact": ("edgeft.runtime",), "onnx": ("edgeft.runtime.engine",), "http": (), "callable": ()}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that answers texts, and how a process of its own opens it.

    Attributes:
        name: as tables call it.
        kind: `artifact`, `onnx`, `http`, or `callable` for everything else.
        place: path or address.
        opener: "module:function" or "file.py:function".
        options: keyword arguments of the opener, plain values.
        python: the interpreter of its environment.
    """

    name: str
    kind: str
    place: str
    opener: str
    options: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules whose import is timed for itself."""
        return IMPORTS[self.kind]

    @property
    def served_here(self) -> bool:
        """Whether a server on this machine answers, whose work is no process of the bench's."""
        return self.kind == "http" and urlsplit(self.place).hostname in LOOPBACK


def subjects(paths: list[str], threads: int, tokenizer: Path | None, max_length: int | None) -> list[Subject]:
    """The subjects that a command line names.

    Args:
        paths: artifact folders, `.onnx` files, `http://` addresses, `file.py:function`.
        threads: of the engine.
        tokenizer: tokenizer.json of `.onnx` files; None: the one beside each.
        max_length: tokens that a text of an `.onnx` file is cut to; None: as its tokenizer says.

    Raises:
        UserError: a place that is none of these.
    """
    if twice := [path for path in dict.fromkeys(paths) if paths.count(path) > 1 and "://" in path]:
        raise UserError(f"bench: {twice[0]} is named twice, and one server can't be told from itself")
    names = names_of([Path(path) for path in paths])
    return [_subject(*named, threads, tokenizer, max_length) for named in zip(paths, names, strict=True)]


def _subject(place: str, name: str, threads: int, tokenizer: Path | None, max_length: int | None) -> Subject:
    path, sized = Path(place), {"threads": threads}
    if place.startswith(("http://", "https://")):
        if "@" in urlsplit(place).netloc:
            raise UserError("bench: leave name and password out of the address, they would stand in the document")
        return Subject(name=place, kind="http", place=place, opener=f"{OPENERS}:Endpoint", options={"address": place})
    if ".py:" in place:
        if not Path(place.rpartition(":")[0]).is_file():
            raise UserError(f"{place}: there is no such file")
        return Subject(name=name, kind="callable", place=place, opener=place, options=sized)
    if path.suffix == ".onnx":
        beside = tokenizer or path.parent / artifact.TOKENIZER
        if missing := next((one for one in (path, beside) if not one.is_file()), None):
            raise UserError(f"{missing}: no such file; an ONNX file is asked through its tokenizer.json (--tokenizer)")
        options = {"path": place, "tokenizer": str(beside), "max_length": max_length, **sized}
        return Subject(name=name, kind="onnx", place=place, opener=f"{OPENERS}:Onnx", options=options)
    if (path / artifact.MANIFEST).is_file():
        options = {"path": place, **sized}
        return Subject(name=name, kind="artifact", place=place, opener=f"{OPENERS}:Artifact", options=options)
    if (path / "config.json").is_file():
        folder = "edgeft.pipeline.transformers_folder:Folder"  # torch is not of this room
        return Subject(name=name, kind="callable", place=place, opener=folder, options={"path": place, **sized})
    raise UserError(
        f"{place}: neither an artifact, an .onnx file, a transformers folder, http://..., nor file.py:function"
    )
