"""Stage `augment`: further training rows made of the training rows, kept where the teacher still agrees."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from edgeft.cleaning import cleaner
from edgeft.data import dataset as datasets
from edgeft.data.dataset import Dataset, Split
from edgeft.data.formats import form_of
from edgeft.errors import RecipeError
from edgeft.keys import TRAINING
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.recipe import AugmentConfig, Recipe
from edgeft.stage import stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import swapped
from edgeft.train.augment import masked, row_filter, translate
from edgeft.train.augment.row_filter import Candidate, Outcome
from edgeft.train.augment.word_edits import CHANGES, seed_of
from edgeft.train.generate import Memory, maker_of, memory_folder, produce

DEFAULT_METHODS = ("swap", "deletion")
# The models that a method needs: options of the recipe.
MODELS = {masked.METHOD: ("masked_model",), translate.METHOD: ("translate_to", "translate_back")}

# Texts and the number of the copy -> a new text for each.
Augment = Callable[[Sequence[str], int], list[str]]


# ------------------------------------------------------------------------------------------------- before anything runs


def methods_of(config: AugmentConfig) -> list[str]:
    """The methods in their order, each once."""
    return list(DEFAULT_METHODS) if config.methods is None else list(dict.fromkeys(config.methods))


def check(config: AugmentConfig, kind: str) -> None:
    """Everything about the options and models that can be known before a row is read or a weight loaded.

    Args:
        config: of the stage.
        kind: the form of the rows, as in `single-label`.

    Raises:
        RecipeError: rows that can't be augmented, no method, a method without its model or a model without its method.
        ModelError: a model of another kind than its method needs.
        MissingExtraError: a package that a method needs.
    """
    row_filter.check_form(kind)
    if problems := list(_problems(config)):
        raise RecipeError("\n".join(problems))
    if swapped.METHOD in methods_of(config):
        swapped.terms_of(config.identity_terms)
    if config.masked_model is not None:
        masked.check(config.masked_model)
    for option in MODELS[translate.METHOD]:
        if (source := getattr(config, option)) is not None:
            translate.check(option, source)


def _problems(config: AugmentConfig) -> Iterator[str]:
    chosen = methods_of(config)
    if not chosen:
        yield "augment.methods: the list is empty; name at least one method, or leave it unset"
    for method, options in MODELS.items():
        for option in options:
            source = getattr(config, option)
            if method in chosen and source is None:
                yield f"augment.{option}: no model for {method}; name a folder or a Hugging Face id"
            elif source is not None and method not in chosen:
                yield f"augment.{option}: {source} is named, but augment.methods has no {method}"
    if config.identity_terms is not None and swapped.METHOD not in chosen:
        yield f"augment.identity_terms: {config.identity_terms} is named, but augment.methods has no {swapped.METHOD}"


def local_models(config: AugmentConfig) -> dict[str, Path]:
    """The local models and terms that a config names, by their option; what they hold is part of the stage's key."""
    named = {option: getattr(config, option) for options in MODELS.values() for option in options}
    places = {option: model_folder.find(source) for option, source in named.items() if source is not None}
    found = {option: place for option, place in places.items() if isinstance(place, Path)}
    return {**found, **swapped.terms_file(config.identity_terms)}


# ------------------------------------------------------------------------------------------------------ making new rows


def chosen_rows(split: Split, config: AugmentConfig) -> list[int]:
    """Places of the training rows to augment, in their order; which ones depends on their texts and the seed."""
    places = list(range(len(split)))
    if config.max_rows is None or config.max_rows >= len(places):
        return places
    keys = [seed_of(text, "rows", config.seed or 0, 0) for text in split.texts]
    return sorted(sorted(places, key=lambda place: keys[place])[: config.max_rows])


def word_augment(method: str, config: AugmentConfig) -> Augment:
    """An augmenter that needs no model."""
    change, seed = CHANGES[method], config.seed or 0

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        return [change(text, config.word_share, random.Random(seed_of(text, method, seed, copy))) for text in texts]

    return augment


def masked_augment(config: AugmentConfig, device: torch.device, memory: Memory) -> Augment:
    """An augmenter that asks a masked language model."""
    source, seed = config.masked_model or "", config.seed or 0
    substitute = masked.Substitute(source, device, config.word_share)
    model = maker_of(source, device.type)

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        maker = f"{model}\0{masked.METHOD} {config.word_share} {seed} {copy}"
        title = f"augment: masked_lm, copy {copy}"
        return produce(texts, substitute.make(seed, copy), memory, maker, config.batch_size, title)

    return augment


def translation_augment(config: AugmentConfig, device: torch.device, memory: Memory) -> Augment:
    """An augmenter that translates there and back.

    All copies share one translation into the other language. The first comes back by beam search, further ones are
    drawn; so another copy costs one direction, and the copies before it stay what they were.
    """
    there, back, seed = config.translate_to or "", config.translate_back or "", config.seed or 0
    into, home = translate.Translator(there, device), translate.Translator(back, device)
    forth_model, back_model = maker_of(there, device.type), maker_of(back, device.type)

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        size, title = config.batch_size, "augment: translation"
        pivots = produce(texts, into.beam, memory, f"{forth_model}\0beam", size, f"{title} there")
        make, how = (home.beam, "beam") if copy == 1 else (home.sample(seed, copy), f"sample {seed} {copy}")
        return produce(pivots, make, memory, f"{back_model}\0{how}", size, f"{title} back, copy {copy}")

    return augment


MODEL_AUGMENTS = {masked.METHOD: masked_augment, translate.METHOD: translation_augment}


def candidates(config: AugmentConfig, split: Split, device: torch.device, cache: Path) -> list[Candidate]:
    """The new rows of every method and copy, one for each chosen row; of `counterfactual` one for each kind of terms.

    Args:
        config: of the stage.
        split: the training rows.
        device: where models run.
        cache: folder where what models made is remembered.
    """
    places = chosen_rows(split, config)
    texts = [split.texts[place] for place in places]
    found: list[Candidate] = []
    for method in methods_of(config):
        if method == swapped.METHOD:  # a text has one swapped copy for each kind of terms, however many are asked for
            found += swapped.candidates(split, places, swapped.terms_of(config.identity_terms))
            continue
        with _augmenter(method, config, device, cache) as augment:
            for copy in range(1, config.copies + 1):
                made = augment(texts, copy)
                found += [Candidate(method, place, text) for place, text in zip(places, made, strict=True)]
    return found


@contextlib.contextmanager
def _augmenter(method: str, config: AugmentConfig, device: torch.device, cache: Path) -> Iterator[Augment]:
    if method in CHANGES:
        yield word_augment(method, config)
        return
    with contextlib.closing(Memory(cache)) as memory:
        yield MODEL_AUGMENTS[method](config, device, memory)


def extended(split: Split, kept: Sequence[Candidate]) -> Split:
    """The split with the new rows at its end; but for the text, each has everything of its original."""
    origins = [candidate.origin for candidate in kept]
    more = {name: [cells[origin] for origin in origins] for name, cells in split.columns.items()}
    more["text"] = [candidate.text for candidate in kept]
    return dataclasses.replace(
        split,
        columns={name: [*cells, *more[name]] for name, cells in split.columns.items()},
        labels=np.concatenate([split.labels, split.labels[origins]]),
        rows=np.concatenate([split.rows, split.rows[origins]]),
        files=[*split.files, *(split.files[origin] for origin in origins)] if split.files else [],
        slices={name: [*values, *(values[origin] for origin in origins)] for name, values in split.slices.items()},
    )


# ------------------------------------------------------------------------------------------------------------ the stage


def fill(config: AugmentConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Write the dataset again, with further training rows; everything else in it stays as it is.

    Args:
        config: of the stage.
        inputs: `data` (a data folder), perhaps `teacher` (a model folder), and what `local_models` gives.
        out_dir: becomes a data folder.

    Returns:
        `train_rows` before and after, `augmented_rows` (originals that were asked for copies), for each of the
        `methods` how many rows it made and what became of them, and whether a `teacher` looked at them.
    """
    dataset = datasets.load(inputs["data"])
    check(config, dataset.kind)
    teacher = teacher_of(config, inputs, dataset)
    device, why = model_folder.device(config.device)
    say(f"augment: {', '.join(methods_of(config))} on {device} ({why})")
    # What the runtime does to a text before the model sees it, the new texts have behind them too.
    clean = cleaner(dataset.cleaning)
    new = candidates(config, dataset.train, device, memory_folder(out_dir))
    made = [dataclasses.replace(candidate, text=clean(candidate.text)) for candidate in new]
    found = row_filter.outcomes(made, dataset)
    if teacher is not None:
        found = row_filter.judged(made, found, dataset, teacher, config)
    kept = [candidate for candidate, outcome in zip(made, found, strict=True) if outcome == "kept"]
    datasets.save(dataclasses.replace(dataset, train=extended(dataset.train, kept)), out_dir)
    return {
        "train_rows": {"before": len(dataset.train), "after": len(dataset.train) + len(kept)},
        "augmented_rows": len(chosen_rows(dataset.train, config)),
        "methods": tally(config, made, found),
        "teacher": teacher is not None,
        "device": str(device),
    }


def teacher_of(config: AugmentConfig, inputs: Inputs, dataset: Dataset) -> Path | None:
    """The teacher that is to look at the new rows, if any; says so where there is none.

    Raises:
        ModelError: it knows other labels than the rows have.
    """
    teacher = inputs.get("teacher")
    if teacher is None or not config.teacher_agrees:
        why = "no teacher was given" if config.teacher_agrees else "augment.teacher_agrees is off"
        say(f"augment: new rows are kept without a look at their labels ({why})")
        return None
    row_filter.check_labels(teacher, dataset)
    return teacher


def tally(config: AugmentConfig, made: Sequence[Candidate], found: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """How many rows each method made, and what became of them."""
    counts = Counter(zip((candidate.method for candidate in made), found, strict=True))
    methods = Counter(candidate.method for candidate in made)
    return {
        method: {"made": methods[method], **{outcome: counts[method, outcome] for outcome in row_filter.OUTCOMES}}
        for method in methods_of(config)
    }


def reads(recipe: Recipe) -> dict[str, str]:
    """The rows, and the teacher where it judges the new ones."""
    judge = {"teacher": "teacher"} if recipe.augment.teacher_agrees else {}
    return {"data": "data", **judge}


run = stage(
    "augment",
    libraries=(*TRAINING, "sentencepiece"),
    reads=reads,
    gives=("rows",),
    wanted=lambda recipe: recipe.augment.enabled,
    named_files=lambda recipe: local_models(recipe.augment),
    check=lambda recipe: check(recipe.augment, form_of(recipe).name),
    is_shared=True,
)(fill)
