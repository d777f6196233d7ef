"""Running one stage of a recipe: in this process, or in several that torchrun starts."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from edgeft import errors, ranks
from edgeft.errors import EdgeftError, TrainingError
from edgeft.files import write_atomically
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage import Stage
from edgeft.stage_folder import Inputs, StageResult

PR_SET_PDEATHSIG = 1  # of prctl(2)


def run(stage: Stage, config: StageConfig, inputs: Inputs, out_dir: Path) -> StageResult:
    """Run a stage in as many processes as its config says; under torchrun, in the processes that it started.

    Args:
        stage: the stage.
        config: of the stage.
        inputs: what it reads.
        out_dir: what it writes.

    Raises:
        EdgeftError: the stage's own error, from any of the processes.
        TrainingError: one of several processes failed in another way.
    """
    processes = getattr(config, "processes", 1)
    if processes > 1 and ranks.world() == 1 and not stage.is_complete(config, inputs, out_dir):
        _torchrun(processes, stage.name, config, inputs, out_dir)
    return stage(config, inputs, out_dir)


def _torchrun(processes: int, name: str, config: StageConfig, inputs: Inputs, out_dir: Path) -> None:
    """Run the stage in several processes on this machine.

    Raises:
        EdgeftError: the stage's own error, from one of them.
        TrainingError: one of them failed in another way.
    """
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    with tempfile.TemporaryDirectory(prefix="edgeft-launch-") as folder:
        order = Path(folder) / "order.json"
        paths = {label: str(path) for label, path in inputs.items()}
        order.write_bytes(msgspec.json.encode([name, config, paths, str(out_dir)]))
        done = subprocess.run(
            [sys.executable, "-m", "edgeft.pipeline.launch", str(order), str(processes)],
            env={"OMP_NUM_THREADS": threads, **os.environ},
            check=False,
        )
        for error_file in sorted(Path(folder).glob("error-*.json")):
            kind, message = msgspec.json.decode(error_file.read_bytes())
            raise getattr(errors, kind)(message)
    if done.returncode:
        raise TrainingError(f"{name}: one of its {processes} processes failed with code {done.returncode}; see above")


def start(order: Path, processes: int) -> None:
    """Start the processes; torchrun's report about failed ones is hidden, as they print their own errors."""
    end_with_parent()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        torchrun(["--standalone", "--nproc-per-node", str(processes), "-m", "edgeft.pipeline.launch", str(order)])
    except ChildFailedError:
        sys.exit(1)


def end_with_parent() -> None:
    """Make Linux kill this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def work(order: Path) -> None:
    """Run the stage in one of the processes; an error is written beside the order for the parent to raise."""
    from edgeft.pipeline.stages import stage_of

    end_with_parent()
    name, config, paths, out_dir = msgspec.json.decode(order.read_bytes())
    inputs = {label: Path(path) for label, path in paths.items()}
    options: Any = msgspec.convert(config, get_type_hints(Recipe)[name])
    try:
        run(stage_of(name), options, inputs, Path(out_dir))
    except EdgeftError as error:
        message = msgspec.json.encode([type(error).__name__, str(error)])
        write_atomically(order.with_name(f"error-{ranks.rank()}.json"), message)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        start(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        work(Path(sys.argv[1]))
