"""How many cores this process really has."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
WORTH = 1.1  # more threads have to be faster by this to be worth their cores


def usable_cores() -> int:
    """Cores by affinity and by the container's share, whichever is less; at least 1.

    onnxruntime sizes its threads to the host, which a container with a smaller share pays for in latency.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = container_share()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def fastest(by_threads_ms: Mapping[str, float], cores: int) -> int:
    """How many threads to run.

    Args:
        by_threads_ms: number of threads to the latency that was measured with them; may be empty.
        cores: that this process has.

    Returns:
        The smallest measured number whose latency is at most `WORTH` above the best of those that fit; all the cores
        where nothing was measured.
    """
    fitting = {int(count): ms for count, ms in by_threads_ms.items() if int(count) <= cores}
    if not fitting:
        return cores
    bound = min(fitting.values()) * WORTH
    return min(count for count, ms in fitting.items() if ms <= bound)


def container_share() -> float | None:
    """The cgroup's CPU quota in cores, None where there is none."""
    try:
        if CGROUP_V2.exists():
            quota, period = CGROUP_V2.read_text().split()
        else:
            quota = (CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
