"""How much is forgotten: a model of one half of Rotten Tomatoes learns the other half, whose labels are noisy.

Plain further training, EWC, rehearsal and both, each through the stages of `edgeft update`: accuracy on the test rows
of the first half (clean), of the second as they are labelled (noisy), and of the second as they should be.

python benchmarks/forgetting.py --seeds 0 1 2 --noise one-sided --folder runs/forgetting
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import movies
import msgspec
import numpy as np

from edgeft.data import prepare
from edgeft.data.dataset import load as load_dataset
from edgeft.data.read import sources
from edgeft.pipeline.update.compare_teachers import old_and_new
from edgeft.recipe import DataConfig, FinetuneConfig
from edgeft.train.evaluate import read_predictions
from edgeft.train.finetune import run as finetune

MODEL = "demo:all-minilm-l6-v2"
TRUTH = "truth.json"
Rows = list[tuple[str, str]]


def noisy(rows: Rows, noise: str, share: float, generator: random.Random) -> Rows:
    """The rows with wrong labels.

    Args:
        rows: clean.
        noise: `flip`: of all rows; `one-sided`: of the good ones only, twice the share, which become bad.
        share: of the rows.
        generator: chooses them.
    """
    other = {"good": "bad", "bad": "good"}
    found = []
    for text, label in rows:
        chance = share if noise == "flip" else 2 * share * (label == "good")
        found.append((text, other[label] if generator.random() < chance else label))
    return found


def halves(folder: Path, noise: str, share: float, seed: int) -> dict[str, Path]:
    """The two files, and the true labels of both."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    rows = movies.rows()
    generator.shuffle(rows)
    old, new = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    (folder / TRUTH).write_bytes(msgspec.json.encode(dict(rows)))
    return {
        "old": movies.write(folder / "old.csv", old),
        "new": movies.write(folder / "new.csv", noisy(new, noise, share, generator)),
    }


def accuracies(folder: Path, data: Path, truth: dict[str, str]) -> list[float]:
    """Percent on the old test rows, the new ones as labelled, and the new ones as they should be.

    Args:
        folder: a model folder of the fine-tuning stage, on this data.
        data: the data folder of the update.
        truth: text to its true label.
    """
    dataset, count = old_and_new(data)
    guess = read_predictions(folder, "test").argmax(axis=1)
    true = np.array([dataset.labels.index(truth[text]) for text in dataset.test.texts])
    given, asked = dataset.test.labels, true
    shares = [(guess == given)[:count], (guess == given)[count:], (guess == asked)[count:]]
    return [100 * float(share.mean()) for share in shares]


def variants(weight: float, fraction: float) -> dict[str, dict[str, Any]]:
    """The four ways."""
    return {
        "plain": {"ewc_weight": 0.0, "rehearsal_fraction": 0.0},
        "EWC": {"ewc_weight": weight, "rehearsal_fraction": 0.0},
        "rehearsal": {"ewc_weight": 0.0, "rehearsal_fraction": fraction},
        "EWC and rehearsal": {"ewc_weight": weight, "rehearsal_fraction": fraction},
    }


def measure(options: argparse.Namespace, seed: int) -> dict[str, list[float]]:
    """One seed: form of the model to its three accuracies."""
    folder = options.folder / f"{options.noise}-{seed}"
    files = halves(folder, options.noise, options.share, seed)
    split: dict[str, Any] = {
        "max_train_rows": options.rows,
        "max_eval_rows": options.test_rows,
        "test_fraction": 0.25,
        "seed": seed,
    }
    before, after = (DataConfig(file=str(file), **split) for file in files.values())
    prepare.run(before, sources.local_files(before), folder / "old")
    prepare.run(after, {**sources.local_files(after), "earlier": folder / "old"}, folder / "both")
    training: dict[str, Any] = {"method": options.method, "max_length": 48, "seed": seed}
    training |= {"evaluations_per_epoch": 1, "early_stopping_patience": 0}
    teacher = FinetuneConfig(model=MODEL, epochs=options.epochs + 1, **training)
    finetune(teacher, {"data": folder / "old"}, folder / "teacher")
    truth = msgspec.json.decode((folder / TRUTH).read_bytes(), type=dict[str, str])
    # A training of no length: the figures of the earlier model on the rows of both.
    still = FinetuneConfig(epochs=0.0001, learning_rate=1e-12, **training, ewc_weight=0, rehearsal_fraction=0)
    found = {}
    settings = {"before": still}
    for name, chosen in variants(options.ewc_weight, options.rehearsal_fraction).items():
        settings[name] = FinetuneConfig(epochs=options.epochs, **training, **chosen)
    for name, config in settings.items():
        out = folder / name.replace(" ", "-")
        finetune(config, {"data": folder / "both", "model": folder / "teacher"}, out)
        found[name] = accuracies(out, folder / "both", truth)
    rows = load_dataset(folder / "both")
    print(f"seed {seed}: {len(rows.train)} training rows, {len(rows.test)} test rows; {found}", flush=True)
    return found


def main() -> None:
    """Run what is not complete and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", choices=["flip", "one-sided"], default="one-sided")
    parser.add_argument("--share", type=float, default=0.3, help="of the new rows with a wrong label")
    parser.add_argument("--rows", type=int, default=700, help="training rows of each half")
    parser.add_argument("--test-rows", type=int, default=400, help="test rows of each half")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the further training; the first has one more")
    parser.add_argument("--method", default="full")
    parser.add_argument("--ewc-weight", type=float, default=1e4)
    parser.add_argument("--rehearsal-fraction", type=float, default=0.25)
    parser.add_argument("--folder", type=Path, default=Path("runs/forgetting"))
    options = parser.parse_args()
    seeds = [measure(options, seed) for seed in options.seeds]
    print(f"\n{options.noise} noise of {options.share:.0%}, {options.rows} rows a half, seeds {options.seeds}")
    names = ("further training", "old test rows", "change", "new, as labelled", "new, as they should be")
    print(f"| {' | '.join(names)} |")
    print("|" + "---|" * len(names))
    for name in seeds[0]:
        columns = list(zip(*(found[name] for found in seeds), strict=True))
        changes = [found[name][0] - found["before"][0] for found in seeds]
        spread = f" ± {stdev(changes):.1f}" if len(changes) > 1 else ""
        shown = [f"{mean(column):.1f}" for column in columns]
        print(f"| {name} | {shown[0]} | {mean(changes):+.1f}{spread} | {shown[1]} | {shown[2]} |")


if __name__ == "__main__":
    main()
