"""What to do about the rows: the exact options to set, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from edgeft import tasks
from edgeft.data.cited import Document
from edgeft.data.profile.lengths import STEPS, WORDS
from edgeft.recipe import DataConfig, name_option

MUST, SET, LOOK = "must", "set", "look"  # the data stage refuses the rows; an option helps; no option helps
IMBALANCE = 5.0  # ratio of the most frequent to the rarest label above which accuracy hides the rare one
FEW_OF_LABEL = 50  # training rows of a label, below which results vary much from seed to seed
FEW_TEST = 400  # rows, below which the 95% interval of an accuracy of 90% is wider than +-3 points
SHARE_OF_URLS = 0.01
SECOND_LANGUAGE = 0.05
LIKELY = 0.9  # the accuracy for which the width of the interval is reported

REASONS = {
    "unicode": "wrongly decoded or odd characters (mojibake, ligatures, full-width letters)",
    "html": "HTML tags or entities",
    "control": "characters that nobody sees",
    "whitespace": "runs of white space, or white space around the text",
    "urls": "web addresses; replace them where the address itself says nothing of the label",
}
Things = Iterator[Document]


def recommend(profile: Document, config: DataConfig) -> list[Document]:
    """Recommend what to do, the most urgent first.

    Args:
        profile: the document.
        config: options that it already sets aren't recommended.

    Returns:
        Each with `level` (must, set, look), `option` and `value` (None if no option helps), and `why`.
    """
    lookers: list[Callable[[Document, DataConfig], Things]] = [
        _refusals,
        _repeats,
        _near,
        _labels,
        _suspects,
        _cleaning,
        _personal,
        _lengths,
        _sizes,
        _targets,
    ]
    recommendations = [thing for look in lookers for thing in look(profile, config)]
    return sorted(recommendations, key=lambda thing: (MUST, SET, LOOK).index(thing["level"]))


def is_fatal(recommendations: list[Document]) -> bool:
    """Whether the data stage refuses the rows for a reason that no option fixes."""
    return any(thing["level"] == MUST and not thing["option"] for thing in recommendations)


def settings(recommendations: list[Document]) -> dict[str, Any]:
    """The options of all recommendations as one mapping; cleaning steps as a list."""
    chosen: dict[str, Any] = {}
    for thing in recommendations:
        if thing["level"] == LOOK:
            continue
        if thing["option"] == "data.clean":
            chosen.setdefault("data.clean", []).append(thing["value"])
        elif thing["option"]:
            chosen[thing["option"]] = thing["value"]
    return chosen


def _recommendation(level: str, why: str, option: str | None = None, value: Any = None) -> Document:
    return {"level": level, "option": option, "value": value, "why": why}


def _clean(step: str, why: str, config: DataConfig) -> Things:
    if step not in (config.clean or ()):
        yield _recommendation(SET, why, "data.clean", step)


def rows(count: int, does: str = "", do: str = "") -> str:
    """A number of rows, as in "1 row" or "2,000 rows", with the right form of the verb."""
    verb = does if count == 1 else do
    return f"{count:,} row{'' if count == 1 else 's'}" + (f" {verb}" if verb else "")


# --------------------------------------------------------------------------------------------------------------- looks


def _refusals(profile: Document, config: DataConfig) -> Things:
    skipped = sum(problem["count"] for problem in profile["rows"]["skipped"].values())
    if skipped and not config.skip_bad_rows:
        why = f"{rows(skipped)} can't be used, and so the data stage refuses the file; mend them, or leave them out"
        yield _recommendation(MUST, why, "data.skip_bad_rows", True)
    if unlisted := profile["targets"].get("unlisted_labels"):
        yield _recommendation(MUST, _unlisted(profile, unlisted))
    elif profile["splits"]["refused"]:
        yield _recommendation(MUST, f"the data stage refuses these rows: {profile['splits']['refused']}")


def _unlisted(profile: Document, count: int) -> str:
    """What the column with too many labels looks like, and the option that fixes it."""
    what = f"{count:,} different labels in {rows(profile['rows']['total'])}"
    if instead := profile.get("numbers_instead"):
        return f"{what}: they are numbers; {instead.partition('; ')[2]}"
    role = list(profile["columns"])[-1]
    return (
        f"{what}: the column looks like free text or an id, so they are not listed; let "
        f"{name_option(f'data.{role}_column')} name the column of the labels"
    )


def _repeats(profile: Document, config: DataConfig) -> Things:
    if repeats := profile["duplicates"]["count"]:
        why = f"{rows(repeats, 'repeats', 'repeat')} an earlier one; repeats weigh more in training and in every figure"
        yield from _clean("duplicates", why, config)
    if inputs := profile["conflicts"]["inputs"]:
        texts = "1 text stands" if inputs == 1 else f"{inputs:,} texts stand"
        why = (
            f"{texts} there with different answers ({rows(profile['conflicts']['count'])}); no model can give them all"
        )
        yield from _clean("conflicts", why, config)
    leaks = sum(leak["count"] for leak in profile["leaks"].values())
    if leaks:
        why = (
            f"{rows(leaks, 'stands', 'stand')} in your own validation or test file as well; the data stage takes them "
            "out of training (the test wins), but find out how they got there"
        )
        yield _recommendation(LOOK, why)


def _near(profile: Document, config: DataConfig) -> Things:
    near = profile["near_duplicates"].get("found", {})
    across = sum(count["count"] for name, count in near.items() if name != "train")
    within = near.get("train", {}).get("count", 0)
    if across:
        tail = f", {within:,} more within training" if within else ""
        why = (
            f"{rows(across, 'is', 'are')} nearly a row of a held-out split, which makes the test easier than life{tail}"
        )
        yield from _clean("near_duplicates", why, config)
    elif within:
        why = f"{rows(within, 'is', 'are')} nearly another row of the training split"
        yield from _clean("near_duplicates", why, config)


def _labels(profile: Document, config: DataConfig) -> Things:
    counts = profile["splits"].get("labels", {})
    training = {label: count["train"] for label, count in counts.items()}
    form = tasks.find_form(profile["kind"])
    if (form.has_one_label or form.has_several_labels) and training:
        rarest = min(training, key=lambda label: training[label])
        if training[rarest] < FEW_OF_LABEL:
            why = (
                f"label {rarest!r} has {rows(training[rarest])} to learn from; rule of thumb: below {FEW_OF_LABEL} "
                "results vary much from seed to seed. Add rows, or augment"
            )
            yield _recommendation(LOOK, why)
    imbalance = profile["targets"].get("imbalance", 1.0)
    if imbalance >= IMBALANCE and form.has_one_label and config.balance == "none":
        why = f"the most frequent label has {imbalance:.0f} times the rows of the rarest; judge by macro F1"
        yield _recommendation(SET, why, "data.balance", "class_weights")
    if (instead := profile.get("numbers_instead")) and "unlisted_labels" not in profile["targets"]:
        yield _recommendation(LOOK, instead)
    absent = [
        f"{split} lacks {label!r}"
        for label, count in counts.items()
        for split in ("validation", "test")
        if not count[split]
    ]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        yield _recommendation(LOOK, f"{', '.join(absent[:3])}{more}: nothing will be measured of it")


def _suspects(profile: Document, config: DataConfig) -> Things:
    errors = profile["label_errors"]
    if errors.get("count"):
        share = errors["count"] / max(1, errors["judged"])
        why = (
            f"{rows(errors['count'])} ({share:.1%}) with a label that the other rows speak against: wrong or just "
            "hard. Look at them and mend the file"
        )
        yield _recommendation(LOOK, why)


def _cleaning(profile: Document, config: DataConfig) -> Things:
    rows_seen = profile["texts"]["rows"]
    for step, hit in profile["texts"]["would_change"].items():
        if step != "urls" or hit["count"] >= SHARE_OF_URLS * rows_seen:
            yield from _clean(step, f"{rows(hit['count'])} of {rows_seen:,} with {REASONS[step]}", config)
    changed = profile["texts"]["would_change"]
    if "html" in changed and "whitespace" not in changed:
        yield from _clean("whitespace", "where HTML tags were, white space stays behind", config)
    if empty := profile["texts"]["empty_after_cleaning"]["count"]:
        yield _recommendation(LOOK, f"{rows(empty, 'has', 'have')} nothing left after cleaning, which takes them out")


def _personal(profile: Document, config: DataConfig) -> Things:
    personal = profile["texts"]["personal"]
    if personal and not config.anonymise:
        kinds = ", ".join(f"{kind} in {rows(hit['count'])}" for kind, hit in personal.items())
        yield _recommendation(
            SET, f"personal data: {kinds}; placeholders keep it out of the model", "data.anonymise", True
        )


def _lengths(profile: Document, config: DataConfig) -> Things:
    measured = profile["lengths"]
    if measured["unit"] == WORDS:
        yield _recommendation(LOOK, "no tokenizer counted the lengths; give --model to know what max_length cuts")
        return
    name, part = next(iter(measured["parts"].items()))
    step, largest = measured["max_length"], measured["limit"] or STEPS[-1]
    if step is None:
        cut = part["cut"].get(str(largest))
        share = f" ({cut:.0%} of them)" if cut else ""
        yield _recommendation(
            LOOK, f"many of the {name} are longer than {largest:,} tokens{share}; shorten or split them"
        )
        return
    yield _recommendation(SET, _cut(part, step), "finetune.max_length", step)


def _cut(part: Document, step: int) -> str:
    """The share of texts that a max_length truncates, and that of the next smaller one."""
    shares = {int(name): share for name, share in part["cut"].items()}
    smaller = max((other for other in shares if other < step), default=None)
    lost = "is all that the model takes"
    if step in shares:
        lost = f"cuts {shares[step]:.1%} of the texts" if shares[step] else "cuts no text"
    other = "" if smaller is None else f" ({smaller} would cut {shares[smaller]:.1%})"
    return f"{lost}{other}; 95% have up to {part['percentiles']['p95']:.0f} tokens"


def _sizes(profile: Document, config: DataConfig) -> Things:
    test = profile["splits"].get("rows", {}).get("test", 0)
    if 0 < test < FEW_TEST:
        points = 196 * math.sqrt(LIKELY * (1 - LIKELY) / test)
        precision = f"an accuracy of {LIKELY:.0%} is known to +-{points:.1f} points (95%)"
        if not tasks.find_form(profile["kind"]).has_one_label:
            precision = "figures will move by points from one such split to another"
        yield _recommendation(LOOK, f"the test split has {rows(test)}: {precision}")
    languages = profile["languages"].get("shares", {})
    many = {name: share for name, share in languages.items() if share >= SECOND_LANGUAGE and len(name) == 2}
    if len(many) > 1:
        precision = ", ".join(f"{name} {share:.0%}" for name, share in many.items())
        yield _recommendation(LOOK, f"several languages ({precision}): take a multilingual model")
    elif many and "en" not in many:
        yield _recommendation(LOOK, f"the language is {next(iter(many))}: take a model that was trained on it")


def _targets(profile: Document, config: DataConfig) -> Things:
    reasons = {
        "outliers": ("has", "have", "a target far from the others"),
        "without_entity": ("has", "have", "no entity at all"),
        "not_ending_with_the_assistant": ("doesn't end", "don't end", "with the assistant's answer"),
        "odd_ratio": ("has", "have", "a target three times longer or shorter than usual, and may be misaligned"),
        "copies": ("has", "have", "a target that equals its source"),
    }
    for key, (does, do, words) in reasons.items():
        count = profile["targets"].get(key, {}).get("count", 0)
        if count and not (key == "without_entity" and count < profile["rows"]["total"] / 2):
            yield _recommendation(LOOK, f"{rows(count, does, do)} {words}")
    if longer := profile["texts"]["far_longer"]["count"]:
        yield _recommendation(LOOK, f"{rows(longer, 'is', 'are')} far longer than the others")
