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
    sizes = {}
    for folder in sorted((root / "devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if size:
            sizes[f"L{level} {kind.lower()}"] = size
    return sizes


def clock(root: Path = SYSTEM) -> dict[str, Any]:
    """Governor and frequencies of the first core in MHz, as far as the machine shows them."""
    folder = root / "devices/system/cpu/cpu0/cpufreq"
    clock_facts: dict[str, Any] = {"governor": _read(folder / "scaling_governor") or NOT_MEASURED}
    for name, file in {"now_mhz": "scaling_cur_freq", "max_mhz": "cpuinfo_max_freq"}.items():
        khz = _number(folder / file)
        clock_facts[name] = NOT_MEASURED if khz is None else khz / 1e3
    return clock_facts


def fastest_cores(cores: Sequence[int], root: Path = SYSTEM) -> list[int]:
    """Those of the largest capacity, else of the highest clock; all where the machine shows neither."""
    folders = [root / f"devices/system/cpu/cpu{core}" for core in cores]
    for file in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {core: value for core, folder in zip(cores, folders, strict=True) if (value := _number(folder / file))}
        if len(speeds) == len(cores):
            return [core for core in cores if speeds[core] == max(speeds.values())]
    return list(cores)
