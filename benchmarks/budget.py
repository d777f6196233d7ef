"""A budget search of a small recipe beside the recipe as it was written by hand.

    python benchmarks/teachers.py --methods full --seeds 0 --folder runs/teachers
    python benchmarks/budget.py --teachers runs/teachers --folder runs/budget

The budget is what the recipe itself comes to, with `ROOM` for the noise of a latency. Validation rows choose;
on the test rows the found model's answers are compared with those of the recipe's, row by row.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from students import data_of

import edgeft
from edgeft import artifact, recipe
from edgeft.data.dataset import Dataset, load
from edgeft.files import write_json
from edgeft.stage_folder import RUN_MARKER
from edgeft.train.metrics.bootstrap import interval

ROOM = 1.15
LOOSE = "size<=1000MB"
# Of the recovery, and of its part in int8: trials are many, and the hand-written recipe is cut short likewise.
SHORT = {"prune.epochs": 0.2, "prune.int8_epochs": 0.1}


def run_of(options: argparse.Namespace) -> Path:
    """A run folder that ends with the teacher."""
    run: Path = options.folder / f"run-{options.seed}"
    if not (run / RUN_MARKER).exists():
        run.mkdir(parents=True)
        shutil.copytree(data_of(options.seed, options), run / "data")
        shutil.copytree(options.teachers / f"full-{options.seed}", run / "finetune")
        whole = recipe.load(options.recipe, {"baseline.enabled": False, "seed": options.seed})
        (run / artifact.RECIPE).write_text(recipe.to_yaml(whole), encoding="utf-8")
        write_json(run / RUN_MARKER, {"edgeft": edgeft.__version__})
    return run


def compressed(run: Path, budget: str, trials: int, settings: list[str]) -> dict[str, Any]:
    """The document of a search; another budget goes on with the trials of the last one."""
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = ["compress", str(run), "--budget", budget, "--trials", str(trials), "--json", *chosen]
    done = subprocess.run([sys.executable, "-m", "edgeft", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode > 1:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])
    return found


def row(name: str, trial: dict[str, Any]) -> str:
    """A line of the table."""
    quality, measured = trial["quality"], trial["measured"]
    shares = [f"{100 * quality[split]:.1f}" for split in ("validation", "test")]
    figures = [f"{measured['size'] / 1e6:.2f}", f"{measured['p50']:.2f}", f"{measured['p99']:.2f}"]
    options = ", ".join(f"{path.partition('.')[2]} {value}" for path, value in trial["options"].items())
    return f"| {name} | {' | '.join((*shares, *figures))} | {options} |"


def ahead(dataset: Dataset, found: Path, by_hand: Path) -> str:
    """How many points of test accuracy the found model is ahead, with a paired bootstrap's interval."""
    wanted = np.array(dataset.labels)[dataset.test.labels]
    answers = (edgeft.load(place)(dataset.test.texts) for place in (found, by_hand))
    ours, theirs = (np.array([one["label"] for one in given]) == wanted for given in answers)
    difference = ours.astype(float) - theirs
    points = interval(difference, len(difference), 10000)
    assert points is not None
    low, high = 100 * points.low, 100 * points.high
    return f"found above by hand on test: {100 * points.value:+.2f} points ({low:+.2f} to {high:+.2f})"


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--teachers", type=Path, default=Path("runs/teachers"))
    parser.add_argument("--folder", type=Path, default=Path("runs/budget"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=40000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    options = parser.parse_args()
    run, settings = run_of(options), [*(f"{path}={value}" for path, value in SHORT.items()), *options.settings]
    own = compressed(run, LOOSE, 1, settings)["trials"][0]["measured"]
    budget = f"size<={own['size'] / 1e6 * 1.001:.3f}MB,p50<={own['p50'] * ROOM:.3f}ms"
    by_hand = options.folder / f"by-hand-{options.seed}"
    shutil.copytree(run / "compress" / "artifact", by_hand, dirs_exist_ok=True)
    found = compressed(run, budget, options.trials, settings)
    trials = found["trials"]
    print(f"{budget}: {sum(trial['fits'] for trial in trials)} of {len(trials)} trials fit")
    print("| model | validation | test | MB | p50 ms | p99 ms | options |\n|---|---|---|---|---|---|---|")
    print(row("by hand", trials[0]))
    if found["best"] is not None:
        print(row(f"found, trial {found['best']}", trials[found["best"]]))
        print(ahead(load(run / "data"), Path(found["artifact"]), by_hand))


if __name__ == "__main__":
    main()
