"""What the machine shows of its caches and its clock; nothing is ever set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SYSTEM = Path("/sys")
NOT_MEASURED = "not measured"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    text = _read(path)
    try:
        return float(text)
    except ValueError:
        return None


def caches(root: Path = SYSTEM) -> dict[str, str]:
    """Level and kind to size, as in `L1 data: 32K`, of the first core."""
    found = {}
    for place in sorted((root / "devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(place / name) for name in ("level", "type", "size"))
        if size:
            found[f"L{level} {kind.lower()}"] = size
    return found


def clock(root: Path = SYSTEM) -> dict[str, Any]:
    """Governor and frequencies of the first core in MHz, as far as the machine shows them."""
    place = root / "devices/system/cpu/cpu0/cpufreq"
    found: dict[str, Any] = {"governor": _read(place / "scaling_governor") or NOT_MEASURED}
    for name, file in {"now_mhz": "scaling_cur_freq", "max_mhz": "cpuinfo_max_freq"}.items():
        khz = _number(place / file)
        found[name] = NOT_MEASURED if khz is None else khz / 1e3
    return found


def fastest(cores: Sequence[int], root: Path = SYSTEM) -> list[int]:
    """Those of the largest capacity, else of the highest clock; all where the machine shows neither."""
    places = [root / f"devices/system/cpu/cpu{core}" for core in cores]
    for file in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        found = {core: value for core, place in zip(cores, places, strict=True) if (value := _number(place / file))}
        if len(found) == len(cores):
            return [core for core in cores if found[core] == max(found.values())]
    return list(cores)
