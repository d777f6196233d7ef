"""Stage `augment`: add changed copies of the training rows, as long as the teacher still gives them the same label."""

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
from edgeft.models import devices, model_sources
from edgeft.progress import say
from edgeft.recipe import AugmentConfig, Recipe
from edgeft.stage import stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import identity_swaps
from edgeft.train.augment import masked, row_filter, translate
from edgeft.train.augment.row_filter import Candidate, Outcome
from edgeft.train.augment.word_edits import CHANGES, seed_of
from edgeft.train.generate import Cache, cache_folder, generate_cached, model_identity

DEFAULT_METHODS = ("swap", "deletion")
# The models that a method needs: options of the recipe.
MODELS = {masked.METHOD: ("masked_model",), translate.METHOD: ("translate_to", "translate_back")}

# (texts, number of the copy) -> a new text for each text.
Augment = Callable[[Sequence[str], int], list[str]]


# ------------------------------------------------------------------------------------------------- before anything runs


def methods_of(config: AugmentConfig) -> list[str]:
    """The chosen methods, in order and without repetitions."""
    return list(DEFAULT_METHODS) if config.methods is None else list(dict.fromkeys(config.methods))


def check(config: AugmentConfig, kind: str) -> None:
    """Check options and models before any row is read or any weight is loaded.

    Args:
        config: options of the stage.
        kind: the form of the rows, such as `single-label`.

    Raises:
        RecipeError: the rows can't be augmented, there is no method, a method lacks its model, or a model its method.
        ModelError: a model is not of the kind that its method needs.
        MissingExtraError: a package that a method needs is not installed.
    """
    row_filter.check_form(kind)
    if problems := list(_problems(config)):
        raise RecipeError("\n".join(problems))
    if identity_swaps.METHOD in methods_of(config):
        identity_swaps.load_terms(config.identity_terms)
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
    method = identity_swaps.METHOD
    if config.identity_terms is not None and method not in chosen:
        yield f"augment.identity_terms: {config.identity_terms} is named, but augment.methods has no {method}"


def local_models(config: AugmentConfig) -> dict[str, Path]:
    """Option -> the local model or file of terms that it names; their contents are part of the stage's key."""
    named = {option: getattr(config, option) for options in MODELS.values() for option in options}
    folders = {option: model_sources.find(source) for option, source in named.items() if source is not None}
    local = {option: folder for option, folder in folders.items() if isinstance(folder, Path)}
    return {**local, **identity_swaps.terms_file(config.identity_terms)}


# ---------------------------------------------------------------------------------------------------- creating new rows


def choose_rows(split: Split, config: AugmentConfig) -> list[int]:
    """Indices of the training rows to augment, ascending; the choice depends on the texts and the seed alone."""
    indices = list(range(len(split)))
    if config.max_rows is None or config.max_rows >= len(indices):
        return indices
    keys = [seed_of(text, "rows", config.seed or 0, 0) for text in split.texts]
    return sorted(sorted(indices, key=lambda index: keys[index])[: config.max_rows])


def create_word_augment(method: str, config: AugmentConfig) -> Augment:
    """Augment with changes of words that need no model."""
    change, seed = CHANGES[method], config.seed or 0

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        return [change(text, config.word_share, random.Random(seed_of(text, method, seed, copy))) for text in texts]

    return augment


def create_masked_augment(config: AugmentConfig, device: torch.device, cache: Cache) -> Augment:
    """Augment with a masked language model."""
    source, seed = config.masked_model or "", config.seed or 0
    substitute = masked.Substitute(source, device, config.word_share)
    model = model_identity(source, device.type)

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        identity = f"{model}\0{masked.METHOD} {config.word_share} {seed} {copy}"
        title = f"augment: masked_lm, copy {copy}"
        return generate_cached(texts, substitute.sampler(seed, copy), cache, identity, config.batch_size, title)

    return augment


def create_translation_augment(config: AugmentConfig, device: torch.device, cache: Cache) -> Augment:
    """Augment by translating into another language and back.

    All copies share one translation into the other language. The first copy is translated back by beam search, the
    others are sampled. So another copy costs one direction only and leaves the copies before it unchanged.
    """
    to, back, seed = config.translate_to or "", config.translate_back or "", config.seed or 0
    forward, backward = translate.Translator(to, device), translate.Translator(back, device)
    to_model, back_model = model_identity(to, device.type), model_identity(back, device.type)

    def augment(texts: Sequence[str], copy: int) -> list[str]:
        size, title = config.batch_size, "augment: translation"
        pivots = generate_cached(texts, forward.beam_search, cache, f"{to_model}\0beam", size, f"{title} there")
        beam = copy == 1
        generate, settings = (
            (backward.beam_search, "beam") if beam else (backward.sampler(seed, copy), f"sample {seed} {copy}")
        )
        return generate_cached(pivots, generate, cache, f"{back_model}\0{settings}", size, f"{title} back, copy {copy}")

    return augment


MODEL_AUGMENTS = {masked.METHOD: create_masked_augment, translate.METHOD: create_translation_augment}


def create_candidates(config: AugmentConfig, split: Split, device: torch.device, cache: Path) -> list[Candidate]:
    """Create the new rows: one for each chosen row, method and copy; for `counterfactual` one for each kind of terms.

    Args:
        config: options of the stage.
        split: the training rows.
        device: where models run.
        cache: folder that caches what models generated.
    """
    rows = choose_rows(split, config)
    texts = [split.texts[row] for row in rows]
    created: list[Candidate] = []
    for method in methods_of(config):
        if method == identity_swaps.METHOD:  # has one copy for each kind of terms, whatever `copies` is
            created += identity_swaps.swap_rows(split, rows, identity_swaps.load_terms(config.identity_terms))
            continue
        with _augmenter(method, config, device, cache) as augment:
            for copy in range(1, config.copies + 1):
                new_texts = augment(texts, copy)
                created += [Candidate(method, row, text) for row, text in zip(rows, new_texts, strict=True)]
    return created


@contextlib.contextmanager
def _augmenter(method: str, config: AugmentConfig, device: torch.device, cache: Path) -> Iterator[Augment]:
    if method in CHANGES:
        yield create_word_augment(method, config)
        return
    with contextlib.closing(Cache(cache)) as database:
        yield MODEL_AUGMENTS[method](config, device, database)


def add_rows(split: Split, new_rows: Sequence[Candidate]) -> Split:
    """The split with the new rows appended; a new row copies everything but the text from its original."""
    origins = [candidate.origin for candidate in new_rows]
    more = {name: [cells[origin] for origin in origins] for name, cells in split.columns.items()}
    more["text"] = [candidate.text for candidate in new_rows]
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
    """Write the dataset with further training rows; the rest of the dataset is unchanged.

    Args:
        config: options of the stage.
        inputs: `data` (a data folder), optionally `teacher` (a model folder), and the entries of `local_models`.
        out_dir: becomes a data folder.

    Returns:
        `train_rows` before and after, `augmented_rows` (the originals that were copied), for each of the `methods` the
        number of rows created and their outcomes, and whether a `teacher` checked them.
    """
    dataset = datasets.load(inputs["data"])
    check(config, dataset.kind)
    teacher = find_teacher(config, inputs, dataset)
    device, why = devices.choose_device(config.device)
    say(f"augment: {', '.join(methods_of(config))} on {device} ({why})")
    # The new texts are cleaned like every text that the runtime passes to the model.
    clean = cleaner(dataset.cleaning)
    created = create_candidates(config, dataset.train, device, cache_folder(out_dir))
    cleaned = [dataclasses.replace(candidate, text=clean(candidate.text)) for candidate in created]
    outcomes = row_filter.check_texts(cleaned, dataset)
    if teacher is not None:
        outcomes = row_filter.check_labels_kept(cleaned, outcomes, dataset, teacher, config)
    new_rows = [candidate for candidate, outcome in zip(cleaned, outcomes, strict=True) if outcome == "kept"]
    datasets.save(dataclasses.replace(dataset, train=add_rows(dataset.train, new_rows)), out_dir)
    return {
        "train_rows": {"before": len(dataset.train), "after": len(dataset.train) + len(new_rows)},
        "augmented_rows": len(choose_rows(dataset.train, config)),
        "methods": count_outcomes(config, cleaned, outcomes),
        "teacher": teacher is not None,
        "device": str(device),
    }


def find_teacher(config: AugmentConfig, inputs: Inputs, dataset: Dataset) -> Path | None:
    """The teacher that checks the new rows; None, with a message, if they are not checked.

    Raises:
        ModelError: the teacher's labels differ from those of the rows.
    """
    teacher = inputs.get("teacher")
    if teacher is None or not config.teacher_agrees:
        why = "no teacher was given" if config.teacher_agrees else "augment.teacher_agrees is off"
        say(f"augment: the labels of new rows are not checked ({why})")
        return None
    row_filter.check_labels(teacher, dataset)
    return teacher


def count_outcomes(
    config: AugmentConfig, created: Sequence[Candidate], outcomes: Sequence[Outcome]
) -> dict[str, dict[str, int]]:
    """Count for each method the rows it created and their outcomes."""
    counts = Counter(zip((candidate.method for candidate in created), outcomes, strict=True))
    methods = Counter(candidate.method for candidate in created)
    return {
        method: {"made": methods[method], **{outcome: counts[method, outcome] for outcome in row_filter.OUTCOMES}}
        for method in methods_of(config)
    }


def reads(recipe: Recipe) -> dict[str, str]:
    """The rows, and the teacher if it checks the new ones."""
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
