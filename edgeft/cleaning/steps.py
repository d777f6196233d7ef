"""The text steps by name, and the whole cleaning as one function.

Every step is idempotent, never raises and takes time linear in the text: servers run them on untrusted texts.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from functools import partial

from edgeft.cleaning.characters import REPAIR, join_whitespace, lowercase, remove_control, repair_unicode
from edgeft.cleaning.markup import replace_urls, strip_html, without_openers
from edgeft.cleaning.names import names_anonymiser
from edgeft.cleaning.personal import KINDS, anonymiser
from edgeft.cleaning.placeholders import one_row
from edgeft.cleaning.settle import Step, settle
from edgeft.cleaning.spec import Cleaning
from edgeft.errors import ArtifactError, require

STEPS: dict[str, Step] = {
    "unicode": repair_unicode,
    "html": strip_html,
    "urls": replace_urls,
    "control": remove_control,
    "whitespace": join_whitespace,
    "lowercase": lowercase,
}


def cleaner(cleaning: Cleaning) -> Step:
    """The function that cleans one text, in training and on the device.

    A step can enable an earlier one (a control character inside a tag hides it from `html`), so the steps are repeated
    until the text stays as it is: cleaning a clean text gives the same text. A text that still changes after a few
    passes was built to do so; it loses every `<` and `&`. Lowercasing comes last, once nothing else changes.

    Raises:
        ArtifactError: a step or kind unknown to this version of edgeft.
        MissingExtraError: a step needs a package that is not installed.
        ModelError: the model that finds names is missing.
        RecipeError: an unknown region.
    """
    step_of = dict(parts(cleaning))
    if not step_of:
        return _unchanged
    if len(step_of) == 1:
        return next(iter(step_of.values()))
    last = step_of.pop("lowercase", None)
    rounds = partial(settle, partial(_once, list(step_of.values())), last_resort=without_openers)
    return rounds if last is None else partial(settle, partial(_once, [rounds, last]), last_resort=without_openers)


def clean_row(clean: Step, texts: Sequence[str]) -> list[str]:
    """Clean the texts of one row; the same value has the same placeholder in all of them.

    Args:
        clean: as from `cleaner`.
        texts: of one row, as the question and the context.
    """
    with one_row(texts):
        return [clean(text) for text in texts]


def parts(cleaning: Cleaning) -> list[tuple[str, Step]]:
    """The steps of a cleaning by name, in the order in which they run; `anonymise` and `names` stand for two of them.

    Raises:
        As `cleaner`.
    """
    _check_known("step", cleaning.steps, STEPS)
    _check_known("kind of personal data", cleaning.anonymise, KINDS)
    if "unicode" in cleaning.steps:
        require("ftfy", REPAIR)
    named_steps = [(name, step) for name, step in STEPS.items() if name in cleaning.steps and name != "lowercase"]
    if cleaning.anonymise:
        named_steps.append(("anonymise", anonymiser(cleaning.anonymise, cleaning.region)))
    if cleaning.names_model:
        named_steps.append(("names", names_anonymiser(cleaning.names_model)))
    if "lowercase" in cleaning.steps:
        named_steps.append(("lowercase", STEPS["lowercase"]))
    return named_steps


def versions(cleaning: Cleaning) -> dict[str, str]:
    """Versions of the packages that a cleaning uses: another version may clean differently."""
    packages = ["ftfy"] if "unicode" in cleaning.steps else []
    packages += ["phonenumberslite", "phonenumbers"] if "phone" in cleaning.anonymise else []
    packages += ["python-stdnum"] if {"credit_card", "iban"} & set(cleaning.anonymise) else []
    packages += ["presidio-analyzer", "spacy"] if cleaning.names_model else []
    version_of = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version_of[package] = importlib.metadata.version(package)
    return version_of


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ArtifactError(
            f"cleaning: unknown {what} {unknown!r}; this edgeft knows {', '.join(known)}: install a newer edgeft"
        )


def _unchanged(text: str) -> str:
    return text


def _once(steps: list[Step], text: str) -> str:
    for step in steps:
        text = step(text)
    return text
