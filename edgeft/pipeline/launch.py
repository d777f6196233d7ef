"""Running one stage of a recipe: here, or in several processes that torchrun starts."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from edgeft import ranks
from edgeft.errors import TrainingError, UserError
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage import Inputs, Run, StageResult, digest, read_result, stage_key

ROOMS = {
    "data": "edgeft.data.prepare",
    "baseline": "edgeft.train.baseline",
    "finetune": "edgeft.train.finetune",
    "augment": "edgeft.train.augment",
    "distill": "edgeft.compress.distill",
    "prune": "edgeft.compress.prune",
    "export": "edgeft.export.export",
    "calibrate": "edgeft.compress.calibrate",
    "package": "edgeft.export.package",
    "bench": "edgeft.pipeline.measure",
    "update": "edgeft.pipeline.kept",
    "update_artifact": "edgeft.pipeline.kept_artifact",
}


def run(name: str, config: StageConfig, inputs: Inputs, out_dir: Path, room: str = "") -> StageResult:
    """Run a stage, in as many processes as its config says; where torchrun started this one, in those.

    Args:
        name: of the stage; its room is imported now.
        config: of the stage.
        inputs: what it reads.
        out_dir: what it writes.
        room: the module whose `run` it is; empty: that of `ROOMS`.

    Raises:
        UserError: what the stage raises.
        TrainingError: one of several processes failed; it has said why.
    """
    wanted = getattr(config, "processes", 1)
    if wanted > 1 and ranks.world() == 1 and not _is_complete(name, config, inputs, out_dir):
        _torchrun(wanted, name, config, inputs, out_dir)
    stage: Run = importlib.import_module(room or ROOMS[name]).run
    return stage(config, inputs, out_dir)


def _is_complete(name: str, config: StageConfig, inputs: Inputs, out_dir: Path) -> bool:
    done = read_result(out_dir)
    return bool(done and done.key == stage_key(name, config, inputs)[0] and done.digest == digest(out_dir))


def _torchrun(processes: int, name: str, config: StageConfig, inputs: Inputs, out_dir: Path) -> None:
    """Let processes of this machine do the stage together.

    Raises:
        UserError: one of them refused what the user gave.
        TrainingError: one of them failed.
    """
    start = ["--standalone", "--nproc-per-node", str(processes), "-m", "edgeft.pipeline.launch"]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    with tempfile.TemporaryDirectory(prefix="edgeft-launch-") as folder:
        order, code = Path(folder) / "order.json", Path(folder) / "code"
        places = {label: str(path) for label, path in inputs.items()}
        order.write_bytes(msgspec.json.encode([name, config, places, str(out_dir), str(code)]))
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *start, str(order)],
            env={"OMP_NUM_THREADS": threads, **os.environ},
            stderr=None,
            check=False,
        )
        if code.exists():
            raise UserError(code.read_text(encoding="utf-8"))
    if done.returncode:
        raise TrainingError(f"{name}: one of its {processes} processes failed with code {done.returncode}; see above")


def main(order: Path) -> None:
    """One of the processes; what the user did wrong, the first one writes down for the one that started them.

    All of them find it before they wait for each other, and end well: torchrun would add a page about the failure.
    """
    name, config, places, out_dir, code = msgspec.json.decode(order.read_bytes())
    inputs = {label: Path(place) for label, place in places.items()}
    made: Any = msgspec.convert(config, get_type_hints(Recipe)[name])
    try:
        run(name, made, inputs, Path(out_dir))
    except UserError as error:
        if ranks.is_main():
            Path(code).write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
