"""The folder of a search: whose it is, and for which search."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

import edgeft
from edgeft import recipe
from edgeft.errors import OutputFolderError, UserError
from edgeft.files import make_folder, write_json
from edgeft.recipe import Recipe
from edgeft.search.study import LOCK, exclusive
from edgeft.stage_folder import holds_nothing

MARKER = "search.json"
MACHINE = "machine"  # in the marker, where latencies decide; earlier releases wrote none


@contextlib.contextmanager
def search_folder(folder: Path, search: Mapping[str, Any], flag: str = "--run-dir") -> Iterator[None]:
    """Make or take up the folder; a new one is removed where a user error ends the search before the first trial.

    Several processes may be in it.

    Args:
        folder: of the search.
        search: what must stay the same while trials are added.
        flag: gives the folder on the command line.

    Raises:
        OutputFolderError: it holds something else, or another search.
    """
    _check_ours(folder, flag)
    make_folder(folder)
    with exclusive(folder):
        fresh = not (folder / MARKER).exists()
        if fresh:
            write_json(folder / MARKER, {"edgeft": edgeft.__version__, **search})
        else:
            _check_same(folder, search, flag)
    try:
        yield
    except UserError:
        if fresh and not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=os.name == "nt")  # which removes no file that is open
        raise


def _check_ours(folder: Path, flag: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"{folder} is a file; give a folder as {flag}")
    if not folder.exists() or (folder / MARKER).exists():
        return
    if not holds_nothing(folder, MARKER, LOCK):
        raise OutputFolderError(f"{folder} is not empty and is not a search of edgeft; give another {flag}")


def _check_same(folder: Path, search: Mapping[str, Any], flag: str) -> None:
    """Refuse to mix trials of two searches.

    Raises:
        OutputFolderError: names what differs.
    """
    try:
        before = msgspec.json.decode((folder / MARKER).read_bytes())
    except msgspec.DecodeError:
        raise OutputFolderError(f"{folder / MARKER} can't be read; give another {flag}") from None
    _check_machine(folder, before, search, flag)
    old, new = (_flatten({name: part for name, part in tree.items() if name != MACHINE}) for tree in (before, search))
    changed = [path for path in sorted({*old, *new} - {"edgeft"}) if old.get(path) != new.get(path)]
    if changed:
        shown = ", ".join(f"{path} {old.get(path)!r} -> {new.get(path)!r}" for path in changed[:4])
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        way_back = _describe_return({path: old[path] for path in changed if path in old and path in new}, len(changed))
        raise OutputFolderError(f"{folder} holds another search ({shown}{more}); give another {flag}{way_back}")


def _check_machine(folder: Path, before: Mapping[str, Any], search: Mapping[str, Any], flag: str) -> None:
    """Refuse latencies of another machine.

    Raises:
        OutputFolderError: names what differs, and how to measure here.
    """
    old, new = before.get(MACHINE) or {}, search.get(MACHINE) or {}
    if changed := [f"{name} {old[name]} -> {new[name]}" for name in new if name in old and old[name] != new[name]]:
        raise OutputFolderError(
            f"{folder} holds latencies of another machine ({', '.join(changed)}), which decide nothing here; "
            f"give another {flag}, in which all is measured anew"
        )


def _describe_return(had: Mapping[str, Any], changed: int) -> str:
    """How to go on with the search that is there, where --set alone can say it.

    Args:
        had: what it had where the new one has something else.
        changed: how much differs, with what only one of the two knows.
    """
    stages = {field.name for field in dataclasses.fields(Recipe)}
    options = [path for path in had if path == "seed" or ("." in path and path.partition(".")[0] in stages)]
    if len(options) < changed:
        return ""
    words = shlex.join(word for path in options for word in ("--set", recipe.setting(path, had[path])))
    return f", or go on with it by {words}"


def _flatten(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = f"{path}.{key}" if path else str(key)
        flat |= _flatten(value, inner) if isinstance(value, Mapping) else {inner: value}
    return flat
