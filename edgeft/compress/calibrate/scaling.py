"""Ways to make probabilities of logits that mean what they say, and the choice among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from edgeft.artifact import Calibration
from edgeft.train.metrics import logits_of

Logits = NDArray[np.floating]  # (m, L)
# The right label of each row (m,); of several labels a row 1 or 0 for each of them (m, L), and each is on its own.
Labels = NDArray[np.integer]
Floats = NDArray[np.float64]

RANGE = (0.05, 20.0)  # temperatures looked at
EDGE = 1.02  # nearer to an end of the range than this factor is no optimum
LEAST_SCALE = 0.01  # of vector scaling: less would turn a label's logit around
DIGITS = 6  # of the scores of an isotonic table, so that no step is steeper than float32 can follow
FOLDS = 5


def to_probabilities(logits: Logits, several: bool) -> Floats:
    """Softmax over the labels, or where there are `several` the sigmoid of each, (m, L)."""
    chances: Floats = (expit if several else lambda values: softmax(values, axis=1))(logits.astype(np.float64))
    return chances


def row_nll(logits: Logits, labels: Labels) -> Floats:
    """(m,) negative log-likelihood of each row in nats; of several labels the mean over them."""
    values = logits.astype(np.float64)
    if labels.ndim == 2:
        of_label: Floats = np.logaddexp(0, values) - values * labels
        losses: Floats = of_label.mean(axis=1)
        return losses
    found: Floats = -log_softmax(values, axis=1)[np.arange(len(labels)), labels]
    return found


def share_right(logits: Logits, labels: Labels) -> Floats:
    """(m,) 1 where the answer is right, else 0; of several labels the share of right ones."""
    if labels.ndim == 2:
        return np.asarray(((logits >= 0) == labels).mean(axis=1), dtype=np.float64)
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def apply_calibration(calibration: Calibration, logits: Logits, several: bool) -> Floats:
    """Calibrated logits (m, L): `probabilities` of them is what the graph answers."""
    values = logits.astype(np.float64)
    if calibration.method == "isotonic":
        columns = zip(to_probabilities(values, several).T, map(np.array, calibration.isotonic), strict=True)
        mapped = np.stack([np.interp(column, points[:, 0], points[:, 1]) for column, points in columns], axis=1)
        return logits_of(mapped if several else mapped / mapped.sum(axis=1, keepdims=True), several)
    if calibration.method == "vector":
        moved: Floats = values * np.array(calibration.scale) + np.array(calibration.bias)
        return moved
    return values / calibration.temperature


# -------------------------------------------------------------------------------------------------------------- methods


def fit_temperature(logits: Logits, labels: Labels) -> Calibration:
    """The temperature with the least NLL (Guo et al. 2017, section 4.2), one for all labels.

    The search is over the logarithm, between 1/20 and 20; at an end of it the data has no optimum.
    """
    low, high = np.log(RANGE)
    found = minimize_scalar(
        lambda log: row_nll(logits / np.exp(log), labels).mean(), bounds=(low, high), method="bounded"
    )
    temperature = float(np.exp(found.x))
    if RANGE[0] * EDGE < temperature < RANGE[1] / EDGE:
        return Calibration(method="temperature", temperature=temperature)
    return Calibration(reason=f"no optimum between {RANGE[0]} and {RANGE[1]} on {len(labels)} validation rows")


def fit_vector(logits: Logits, labels: Labels) -> Calibration:
    """A scale and a bias for each label (Guo et al. 2017, section 4.2; of several labels Platt 1999 for each).

    Normal priors of deviation 1, around a scale of 1 and a bias of 0, bound both where a label never occurs.
    """
    several, count = labels.ndim == 2, logits.shape[1]
    wanted = labels if several else np.eye(count)[labels]  # (m, L)
    rest = np.repeat([1.0, 0.0], count)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        values = logits * parameters[:count] + parameters[count:]
        slopes = to_probabilities(values, several) - wanted  # (m, L)
        total = row_nll(values, labels).sum() * (count if several else 1)
        away = parameters - rest
        gradient = np.concatenate([(slopes * logits).sum(axis=0), slopes.sum(axis=0)]) + away
        return float(total + 0.5 * (away**2).sum()), gradient

    bounds = [(LEAST_SCALE, None)] * count + [(None, None)] * count
    found = minimize(loss, rest, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(method="vector", scale=found[:count].tolist(), bias=found[count:].tolist())


def fit_isotonic(logits: Logits, labels: Labels) -> Calibration:
    """A rising table for each label, against all others (Zadrozny and Elkan 2002).

    No probability is nearer to 0 or 1 than one row in n + 2 would be.
    """
    several, least = labels.ndim == 2, 1 / (len(labels) + 2)
    wanted = labels if several else np.eye(logits.shape[1])[labels]
    tables = []
    for scores, truth in zip(to_probabilities(logits, several).round(DIGITS).T, wanted.T, strict=True):
        fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(scores, truth)
        tables.append(list(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)))
    return Calibration(method="isotonic", isotonic=tables)


METHODS: dict[str, Callable[[Logits, Labels], Calibration]] = {
    "none": lambda logits, labels: Calibration(),
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}
# The simplest first, with the standard errors by which one must be better; a vector can change labels, and needs more.
CANDIDATES = {"none": 0.0, "temperature": 0.5, "vector": 2.0}


def fit(method: str, logits: Logits, labels: Labels, seed: int, keep_answers: bool = False) -> Calibration:
    """Calibrate by a method; by none, and why, where the rows don't tell.

    Args:
        method: one of `METHODS`, or `auto`.
        logits: of the validation rows.
        labels: theirs.
        seed: of the folds of `auto`.
        keep_answers: whether `auto` leaves out what can change a label.
    """
    if method == "none":
        return Calibration(reason="calibrate.method")
    if bool((share_right(logits, labels) == 1).all()):
        return Calibration(reason=f"all {len(labels)} validation rows are answered right, which nothing fits best")
    if method == "auto":
        return choose(logits, labels, seed, keep_answers)
    made = METHODS[method](logits, labels)
    return dataclasses.replace(made, reason=made.reason or "calibrate.method")


# --------------------------------------------------------------------------------------------------------------- choice


def choose(logits: Logits, labels: Labels, seed: int, keep_answers: bool = False) -> Calibration:
    """The simplest method that no other beats clearly on rows that it was not fitted on.

    A method is taken instead of a simpler one where its NLL is lower by more than its part of the standard error of the
    difference (after the rule of one standard error, Breiman et al. 1984, section 3.4.3) and as many answers are right.
    """
    if len(labels) < 2:
        return Calibration(reason="one validation row is too little to choose by")
    names = [name for name in CANDIDATES if not (keep_answers and name == "vector")]
    outside = {name: _fit_out_of_fold(name, logits, labels, seed) for name in names}
    nll = {name: row_nll(values, labels) for name, values in outside.items()}
    best = names[0]
    for name in names[1:]:
        gain = nll[best] - nll[name]  # (m,)
        kept = share_right(outside[name], labels).sum() >= share_right(outside[best], labels).sum()
        if kept and gain.mean() > CANDIDATES[name] * gain.std(ddof=1) / np.sqrt(len(gain)):
            best = name
    means = {name: float(values.mean()) for name, values in nll.items()}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    made = METHODS[best](logits, labels)
    return dataclasses.replace(made, reason=_reason(best, len(labels), shown), cross_validation=means)


def _reason(best: str, rows: int, shown: str) -> str:
    why = "no other is clearly better" if best == "none" else "clearly better than what is simpler"
    return f"{why} in {FOLDS}-fold cross-validation on {rows} validation rows (NLL: {shown})"


def _fit_out_of_fold(name: str, logits: Logits, labels: Labels, seed: int) -> Floats:
    """(m, L) calibrated logits of each row by a fit to the other folds."""
    found = np.empty(logits.shape)
    order = np.random.default_rng(seed).permutation(len(labels))
    for fold in np.array_split(order, min(FOLDS, len(labels))):
        others = np.setdiff1d(order, fold)
        found[fold] = apply_calibration(METHODS[name](logits[others], labels[others]), logits[fold], labels.ndim == 2)
    return found
