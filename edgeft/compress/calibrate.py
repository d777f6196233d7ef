"""Stage `calibrate`: the temperature that makes the shipped graph's probabilities mean what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import edgeft
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.progress import say
from edgeft.recipe import CalibrateConfig
from edgeft.stage import Inputs, Metrics, stage, write_json
from edgeft.train import tasks
from edgeft.train.tasks import TrainingTask

Choices = tuple[NDArray[np.float32], NDArray[np.int64]]  # logits (m, k) and the right ones (m,)

CALIBRATION = "calibration.json"
NO_CHOICES = "none: an answer of this kind is no choice among labels"
RANGE = (0.05, 20.0)  # temperatures looked at
EDGE = 1.02  # nearer to an end of the range than this factor is no optimum


def nll(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats of the labels under softmax(logits / temperature).

    Args:
        logits: (rows, labels).
        labels: (rows,).
        temperature: divides the logits.
    """
    return float(-log_softmax(logits.astype(np.float64) / temperature, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the least NLL (Guo et al. 2017, section 4.2).

    The search is over the logarithm, between 1/20 and 20; at an end of it the data has no optimum, as where every
    answer is right.
    """
    low, high = np.log(RANGE)
    found = minimize_scalar(lambda log: nll(logits, labels, float(np.exp(log))), bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


def chosen_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[float, str]:
    """The fitted temperature and the method's name; 1 and why where the validation rows have no optimum."""
    if bool((logits.argmax(axis=1) == labels).all()):
        return 1.0, f"none: all {len(labels)} validation rows are answered right, which no temperature fits best"
    fitted = fit_temperature(logits, labels)
    if fitted < RANGE[0] * EDGE or fitted > RANGE[1] / EDGE:
        return 1.0, f"none: no optimum between {RANGE[0]} and {RANGE[1]} on {len(labels)} validation rows"
    return fitted, "temperature"


def probabilities(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """softmax(logits / temperature), (rows, labels)."""
    return np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1))


def expected_calibration_error(chances: NDArray[np.float64], labels: NDArray[np.integer], bins: int) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by rows (Guo et al. 2017, equation 3).

    Args:
        chances: probabilities (rows, labels).
        labels: (rows,).
        bins: between 0 and 1; a confidence on an edge counts to the lower bin.
    """
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = [
        abs(confidence[bin_of == index].sum() - right[bin_of == index].sum())
        for index in range(bins)
        if (bin_of == index).any()
    ]
    return float(sum(gaps) / len(labels))


def brier(chances: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Mean squared distance of the probabilities from the one-hot labels, summed over labels (Brier 1950)."""
    wanted = np.eye(chances.shape[1])[labels]
    return float(((chances - wanted) ** 2).sum(axis=1).mean())


def figures(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float, bins: int
) -> dict[str, float]:
    """Expected calibration error, NLL and Brier score at a temperature."""
    chances = probabilities(logits, temperature)
    return {
        "ece": expected_calibration_error(chances, labels, bins),
        "nll": nll(logits, labels, temperature),
        "brier": brier(chances, labels),
    }


def fill(config: CalibrateConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fit the temperature on validation logits of the graph, as the runtime gives them.

    Tags have one choice a word, several labels one choice a label. A number and the ends of an answer have none, and
    keep temperature 1.

    Args:
        config: of the stage.
        inputs: `data` (a data folder) and `artifact` (an artifact folder).
        out_dir: gets calibration.json.

    Returns:
        `temperature`, `method`, and the figures of each split before and after, where there are choices.
    """
    choices = choices_of(load_dataset(inputs["data"]), edgeft.load(inputs["artifact"]))
    if choices is None:
        found: Metrics = {"method": NO_CHOICES, "temperature": 1.0}
        write_json(out_dir / CALIBRATION, found)
        return found
    temperature, method = chosen_temperature(*choices["validation"]) if config.enabled else (1.0, "none")
    found = {"method": method, "temperature": temperature}
    for split, (logits, labels) in choices.items():
        found[split] = {
            "before": figures(logits, labels, 1.0, config.bins),
            "after": figures(logits, labels, temperature, config.bins),
        }
    before, after = (found["test"][when]["ece"] for when in ("before", "after"))
    say(f"calibrate: {method}, temperature {temperature:.3f}, calibration error on test {before:.4f} -> {after:.4f}")
    write_json(out_dir / CALIBRATION, found)
    return found


def choices_of(dataset: Dataset, model: edgeft.Model) -> dict[str, Choices] | None:
    """The choices on validation and test; None where an answer is none."""
    task = tasks.of_artifact(dataset, model.manifest)
    if type(task).choices is TrainingTask.choices:
        return None
    splits = {name: dataset.split(name) for name in ("validation", "test")}
    found = {name: task.choices(task.asked(model, split), split) for name, split in splits.items()}
    return {name: choices for name, choices in found.items() if choices is not None}


run = stage("calibrate")(fill)
