"""Stage `calibrate`: what makes the shipped graph's probabilities mean what they say, and when it abstains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import edgeft
from edgeft.artifact import Calibration, Selective
from edgeft.compress.calibrate import scaling, selective
from edgeft.compress.calibrate.scaling import Labels, Logits
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.data.formats import form_of
from edgeft.files import write_json
from edgeft.keys import RUNNING, SCORING
from edgeft.progress import say
from edgeft.recipe import CalibrateConfig
from edgeft.report import scores
from edgeft.stage import graph_answers_s, stage
from edgeft.stage_folder import Inputs, Metrics, read_result
from edgeft.train import tasks
from edgeft.train.tasks import TrainingTask

Choices = Mapping[str, tuple[Logits, Labels]]  # split to logits (m, L) and the right ones, (m,) or (m, L)

CALIBRATION = "calibration.json"
NO_CHOICES = "an answer of this kind is no choice among labels"
SPLITS = ("validation", "test")


def fill(config: CalibrateConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Calibrate on validation logits of the graph, as the runtime gives them.

    Tags have one choice a word, several labels one choice a label. A number and the ends of an answer have none, and
    stay as they are.

    Args:
        config: of the stage.
        inputs: `data` (a data folder) and `artifact` (an artifact folder).
        out_dir: gets calibration.json.

    Returns:
        What stands in calibration.json but for the isotonic tables, and where there are choices the gate figures of the
        calibrated `answers`, whose `agreement` is with those before.

    Raises:
        RecipeError: answers of this kind can't be kept back.
    """
    dataset, model = load_dataset(inputs["data"]), edgeft.load(inputs["artifact"])
    selective.check(config, dataset.kind)
    # An artifact that was calibrated before is calibrated anew.
    model.manifest = dataclasses.replace(model.manifest, calibration=Calibration())
    task = tasks.create_artifact_task(dataset, model.manifest)
    if type(task).logits_and_targets is TrainingTask.logits_and_targets:
        return _write(Calibration(reason=NO_CHOICES), out_dir)
    before = {split: task.predict_artifact(model, dataset.split(split)) for split in SPLITS}
    choices = {split: task.logits_and_targets(arrays, dataset.split(split)) for split, arrays in before.items()}
    calibration = calibrate(config, choices, keep_answers=_is_rebalanced(inputs["data"], dataset))
    after = {
        split: scaling.apply_calibration(calibration, logits, labels.ndim == 2)
        for split, (logits, labels) in choices.items()
    }
    _say(calibration)
    return _write(calibration, out_dir) | {"answers": _measure_answers(task, before, after)}


def _is_rebalanced(data: Path, dataset: Dataset) -> bool:
    """Whether weights or repeated rows moved the answers on purpose, which a bias would take back."""
    done = read_result(data)
    return bool(dataset.class_weights) or (done is not None and done.config.get("balance", "none") != "none")


def calibrate(config: CalibrateConfig, choices: Choices, keep_answers: bool = False) -> Calibration:
    """The calibration, with what it does on each split.

    Args:
        config: of the stage.
        choices: of `validation`, which it is fitted on, and `test`.
        keep_answers: whether `auto` leaves out what can change a label; with a threshold it does: one number fitted to
            the validation rows leaves them fit to find a threshold by, a scale and a bias for each label don't.
    """
    method = config.method if config.enabled else "none"
    plain = keep_answers or config.max_error is not None
    calibration = scaling.fit(method, *choices["validation"], config.seed or 0, plain)
    seen = {split: _compare_before_and_after(calibration, *pair, config.bins) for split, pair in choices.items()}
    calibration = dataclasses.replace(calibration, validation=seen["validation"], test=seen["test"])
    if config.max_error is None:
        return calibration
    return dataclasses.replace(calibration, selective=choose_threshold(config, config.max_error, calibration, choices))


def _compare_before_and_after(
    calibration: Calibration, logits: Logits, labels: Labels, bins: int
) -> dict[str, dict[str, float]]:
    both = {"before": logits, "after": scaling.apply_calibration(calibration, logits, labels.ndim == 2)}
    return {when: measure_calibration(values, labels, bins) for when, values in both.items()}


def measure_calibration(logits: Logits, labels: Labels, bins: int) -> dict[str, float]:
    """Expected calibration error, NLL and Brier score; each of several labels is a choice between two."""
    chances = scaling.to_probabilities(logits, labels.ndim == 2)
    if labels.ndim == 2:
        chances, labels = np.stack([1 - chances.ravel(), chances.ravel()], axis=1), labels.ravel()
    return {
        "ece": scores.bins(chances, labels, bins).calibration_error,
        "nll": scores.negative_log_likelihood(chances, labels),
        "brier": scores.brier(chances, labels),
    }


def choose_threshold(
    config: CalibrateConfig, max_error: float, calibration: Calibration, choices: Choices
) -> Selective:
    """The threshold, from the validation rows, and what it does on both splits."""
    seen = {split: _top_confidences(calibration, *pair) for split, pair in choices.items()}
    least = selective.find_threshold(*seen["validation"], max_error, config.confidence)
    shares = {split: selective.measure_threshold(*pair, least) for split, pair in seen.items()}
    return Selective(
        threshold=least,
        max_error=max_error,
        confidence=config.confidence,
        share={split: share for split, (share, _) in shares.items()},
        error={split: error for split, (_, error) in shares.items()},
    )


def _top_confidences(
    calibration: Calibration, logits: Logits, labels: Labels
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(m,) the highest probabilities, and whether their labels are wrong."""
    chances = scaling.to_probabilities(scaling.apply_calibration(calibration, logits, several=False), several=False)
    return chances.max(axis=1), chances.argmax(axis=1) != labels


def _measure_answers(task: TrainingTask, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Gate figures of the calibrated answers of each split."""
    answers = {}
    for split, arrays in after.items():
        figures_of = task.figures(arrays.astype(np.float32), task.dataset.split(split))
        answers[split] = {**figures_of, "agreement": task.agreement(before[split], arrays)}
    return answers


def _write(calibration: Calibration, out_dir: Path) -> Metrics:
    write_json(out_dir / CALIBRATION, calibration)
    plain: Metrics = msgspec.to_builtins(calibration)
    return {name: value for name, value in plain.items() if name != "isotonic" and value not in ([], {}, None)}


def _say(calibration: Calibration) -> None:
    before, after = (calibration.test[when]["ece"] for when in ("before", "after"))
    say(
        f"calibrate: {calibration.method} ({calibration.reason}), calibration error on test {before:.4f} -> {after:.4f}"
    )
    if calibration.selective:
        say(f"calibrate: {calibration.selective.line}")


run = stage(
    "calibrate",
    libraries=(*RUNNING, *SCORING),
    kernels=True,
    reads=lambda recipe: {"data": "data", "artifact": "export"},
    check=lambda recipe: selective.check(recipe.calibrate, form_of(recipe).name),
    fixed_s=1,
    rows_s=graph_answers_s,
)(fill)
