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
    return sum(_bytes(distribution) for distribution in _needed().values())


def _needed() -> dict[str, Distribution]:
    needed: dict[str, Distribution] = {}
    names = [(ROOT, EXTRA)]
    while names:
        name, extra = names.pop()
        distribution = _distribution(name)
        if distribution is None or name in needed:
            continue
        needed[name] = distribution
        for line in distribution.requires or ():
            extra_match = EXTRA_OF.search(line)
            match = NAME.match(line)
            if match and (extra_match is None or extra_match[1] == extra):
                names.append((re.sub(r"[-_.]+", "-", match[0]).lower(), ""))
    return needed


def _distribution(name: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bytes(distribution: Distribution) -> int:
    paths = (Path(str(distribution.locate_file(file))) for file in distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())
