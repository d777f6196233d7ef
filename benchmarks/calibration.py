"""What each calibration and the selective threshold do to unseen rows: resplits of a model's validation and test rows.

    python benchmarks/calibration.py runs/teachers --models full-0 full-1 full-2 --data rows-0 rows-1 rows-2

A model folder has `validation_logits.npy` and `test_logits.npy`, as every stage that trains leaves them; `--data` names
what it was trained on, or the folder above it. Both splits are pooled and drawn anew, `--rows` of them for validation.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from edgeft.compress.calibrate import calibrate, scaling
from edgeft.data.dataset import load
from edgeft.recipe import CalibrateConfig
from edgeft.report.scores import chance_error
from edgeft.train.evaluate import SPLITS, read_predictions

METHODS = ("none", "temperature", "vector", "isotonic", "auto")
HELD = 0.03  # calibration errors above this are to be halved


def pooled(model: Path, data: Path) -> tuple[Any, Any]:
    """Logits and labels of validation and test rows together."""
    dataset = load(data / "data" if (data / "data").is_dir() else data)
    logits = np.concatenate([read_predictions(model, split) for split in SPLITS])
    return logits, np.concatenate([dataset.split(split).labels for split in SPLITS])


def resplits(count: int, rows: int, number: int) -> Iterator[dict[str, Any]]:
    """Places of validation and test rows, drawn anew each time."""
    for seed in range(number):
        order = np.random.default_rng(seed).permutation(count)
        yield {"validation": order[:rows], "test": order[rows:]}


def calibrations(logits: Any, labels: Any, options: argparse.Namespace) -> None:
    """Print figures on the test rows by method, the means over the resplits."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    chosen, chance = [], []
    for places in resplits(len(labels), options.rows, options.resplits):
        choices = {split: (logits[rows], labels[rows]) for split, rows in places.items()}
        for method in METHODS:
            made = calibrate.calibrate(CalibrateConfig(method=method, seed=0), choices)  # type: ignore[arg-type]
            before, after = made.test["before"]["ece"], made.test["after"]
            moved = scaling.apply_calibration(made, choices["test"][0], several=False).argmax(axis=1)
            right = float((moved == choices["test"][1]).mean())
            halved = float(before <= HELD or after["ece"] <= before / 2)
            found[method].append([after["ece"], after["nll"], after["brier"], right, halved])
            if method == "auto":
                chosen.append(made.method)
                values = scaling.apply_calibration(made, choices["test"][0], several=False)
                chance.append(chance_error(scaling.to_probabilities(values, several=False)))
    print("| method | ECE | NLL | Brier | accuracy | resplits with half the ECE |\n|---|---|---|---|---|---|")
    for method, rows in found.items():
        ece, nll, brier, right, halved = map(mean, zip(*rows, strict=True))
        print(f"| {method} | {ece:.4f} | {nll:.4f} | {brier:.4f} | {right:.2%} | {halved:.0%} |")
    counts = {name: chosen.count(name) for name in sorted(set(chosen))}
    print(f"auto chose {counts}; perfect probabilities would show an ECE of {mean(chance):.4f}\n", flush=True)


def selections(logits: Any, labels: Any, options: argparse.Namespace) -> None:
    """Print how often the threshold held its error rate on the test rows, and the share of them that was answered."""
    print("| method | wanted error | held | answered | error of them | nothing answered |\n|---|---|---|---|---|---|")
    for method in ("auto", "vector", "isotonic"):  # the last one is refused in a recipe, and this shows why
        for wanted in options.max_error:
            config = CalibrateConfig(method=method, max_error=wanted, seed=0)
            seen = []
            for places in resplits(len(labels), options.rows, options.resplits):
                choices = {split: (logits[rows], labels[rows]) for split, rows in places.items()}
                made = calibrate.calibrate(config, choices).selective
                assert made is not None
                share, error = made.share["test"], made.error["test"]
                seen.append([float(error <= wanted), share, error, float(made.threshold is None)])
            held, share, error, nothing = map(mean, zip(*seen, strict=True))
            print(f"| {method} | {wanted:.0%} | {held:.1%} | {share:.1%} | {error:.2%} | {nothing:.0%} |", flush=True)
    print()


def main() -> None:
    """Print both tables of each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["full-0", "full-1", "full-2"])
    parser.add_argument("--data", nargs="+", default=["rows-0", "rows-1", "rows-2"])
    parser.add_argument("--rows", type=int, default=530)
    parser.add_argument("--resplits", type=int, default=20)
    parser.add_argument("--max-error", type=float, nargs="+", default=[0.05, 0.1])
    options = parser.parse_args()
    for model, data in zip(options.models, options.data, strict=True):
        logits, labels = pooled(options.folder / model, options.folder / data)
        print(f"{model}: {len(labels)} rows, {options.resplits} resplits\n")
        calibrations(logits, labels, options)
        selections(logits, labels, options)


if __name__ == "__main__":
    main()
