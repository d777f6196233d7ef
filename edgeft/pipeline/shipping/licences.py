"""Licences of a model's sources, as stated in a card's front matter or in the metadata of a demo's package."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from pathlib import Path

from edgeft.data.read import sources
from edgeft.errors import EdgeftError
from edgeft.models import model_sources
from edgeft.recipe import DataConfig

UNKNOWN = "unknown"
CARD, DATASET_INFO = "README.md", "dataset_info.json"
CARD_BYTES = 1 << 20  # a longer card is read up to here
LONGEST = 80  # characters; a longer "License" field of a package is the licence's whole text
# Front matter of hub cards says `license: other` and names it in the line of the second key.
KEYS = ("license_name", "license")


def of_model(source: str) -> str:
    """The licence in a model's card, else that of its demo package; `unknown` if neither states one.

    Args:
        source: as for `model_sources.find`.
    """
    try:
        folder = model_sources.find(source)
    except EdgeftError:  # the first run of a chain of updates may be gone
        return UNKNOWN
    named = _of_card(folder) if isinstance(folder, Path) else ""
    return named or _of_package(model_sources.DEMOS.get(source, "")) or UNKNOWN


def of_data(config: DataConfig) -> str:
    """The distinct licences of the data's sources; `unknown` for a source that states none.

    Args:
        config: names the sources.
    """
    specs = sources.specs(config)
    named = [_of_source(spec) or UNKNOWN for field in sources.ROW_FIELDS for spec in specs.get(field, [])]
    return ", ".join(dict.fromkeys(named)) or UNKNOWN


def _of_source(spec: str) -> str:
    """The licence of a source: a demo's package, a folder's card or dataset_info.json; a file has none."""
    if spec.startswith(sources.DEMO):
        return _of_package(sources.DEMO_PACKAGE)
    try:
        folder = sources.local_path(spec)
    except EdgeftError:  # merged rows, or a file that was deleted after it was read
        return ""
    return _of_card(folder) or _of_dataset_info(folder) if folder is not None and folder.is_dir() else ""


def _of_card(folder: Path) -> str:
    """The `license:` in the front matter of README.md; a list as "mit, apache-2.0"."""
    path = folder / CARD
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = file.read(CARD_BYTES).splitlines()
    if not lines or lines[0].rstrip() != "---":
        return ""
    return _licence_in(list(itertools.takewhile(lambda line: line.rstrip() != "---", lines[1:])))


def _licence_in(lines: list[str]) -> str:
    """The licence in the lines of a front matter."""
    for key in KEYS:
        for number, line in enumerate(lines):
            if line.startswith(f"{key}:"):
                rest = itertools.takewhile(lambda entry: entry.lstrip().startswith("- "), lines[number + 1 :])
                values = [line.partition(":")[2].strip().strip("[]"), *(entry.lstrip()[2:] for entry in rest)]
                if name := ", ".join(filter(None, (_plain(part) for value in values for part in value.split(",")))):
                    return name
    return ""


def _plain(value: str) -> str:
    """A scalar without its comment and quotes, shortened."""
    return value.partition(" #")[0].strip().strip("'\"").strip()[:LONGEST]


def _of_dataset_info(folder: Path) -> str:
    """The licence that `datasets` saved with a dataset."""
    try:
        document = json.loads((folder / DATASET_INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    named = document.get("license") if isinstance(document, dict) else None
    return " ".join(named.split())[:LONGEST] if isinstance(named, str) else ""


def _of_package(module: str) -> str:
    """The licence that the metadata of an installed package names: its expression, its field, or a classifier."""
    package = next(iter(importlib.metadata.packages_distributions().get(module, ())), None)
    if package is None:
        return ""
    metadata = importlib.metadata.metadata(package).json
    named = str(metadata.get("license_expression") or metadata.get("license") or "")
    if named and len(named) <= LONGEST:
        return " ".join(named.split())
    classifiers = [line for line in metadata.get("classifier", ()) if line.startswith("License ::")]
    return classifiers[0].rpartition("::")[2].strip() if classifiers else ""
