"""What has to be installed for an answer, in bytes."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.metadata import Distribution
from pathlib import Path

ROOT, EXTRA = "edgeft", "cpu"
NAME = re.compile(r"[A-Za-z0-9._-]+")
EXTRA_OF = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def install_bytes() -> int:
    """Bytes of the files of edgeft, its `[cpu]` extra and what they need, those of this environment.

    An editable installation counts without edgeft's own files. Platform markers are not read: what is installed counts.
    """
    return sum(_bytes(found) for found in _needed().values())


def _needed() -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    names = [(ROOT, EXTRA)]
    while names:
        name, extra = names.pop()
        own = _distribution(name)
        if own is None or name in found:
            continue
        found[name] = own
        for line in own.requires or ():
            asked = EXTRA_OF.search(line)
            match = NAME.match(line)
            if match and (asked is None or asked[1] == extra):
                names.append((re.sub(r"[-_.]+", "-", match[0]).lower(), ""))
    return found


def _distribution(name: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bytes(found: Distribution) -> int:
    places = (Path(str(found.locate_file(file))) for file in found.files or ())
    return sum(place.stat().st_size for place in places if place.is_file())
