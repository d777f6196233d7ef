"""Stage `finetune`: a pre-trained model becomes the teacher, as a plain model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from edgeft import models
from edgeft.data.dataset import Dataset, check_trainable
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import RecipeError
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig
from edgeft.stage import Inputs, Metrics, stage
from edgeft.train import evaluate, methods, metrics, optim
from edgeft.train.batches import collate, encode
from edgeft.train.loop import Evaluate, Objective, Trainer, plan


def validation(model: Any, tokenizer: Any, dataset: Dataset, max_length: int) -> Evaluate:
    """A look at the validation split; accuracy leads, and the lower loss decides between equals."""
    ids = encode(tokenizer, dataset.validation.texts, max_length)

    def look() -> dict[str, float]:
        found = metrics.classification(evaluate.predict(model, ids, tokenizer.pad_token_id), dataset.validation.labels)
        return {**found, "score": found["accuracy"] - 1e-6 * found["nll"]}

    return look


def weights_of(dataset: Dataset, device: torch.device) -> torch.Tensor | None:
    """(L,) the weight of each label in the loss; None where all count alike."""
    return torch.tensor(dataset.class_weights, device=device) if dataset.class_weights else None


def cross_entropy_objective(
    dataset: Dataset, ids: list[list[int]], pad_token_id: int, device: torch.device, label_smoothing: float = 0.0
) -> Objective:
    """Cross-entropy of each training row against its label, times the label's weight.

    With smoothing e over L labels: (1 - e) times that, plus e / L times the sum of every label's weighted
    cross-entropy (Szegedy et al. 2016, section 7; torch's form of it with weights).

    Args:
        dataset: labels of the training rows, and weights of the labels.
        ids: token ids of each training row.
        pad_token_id: fills the shorter rows of a batch.
        device: where the model is.
        label_smoothing: share of a label's probability that is spread over all labels.
    """
    labels, weights = dataset.train.labels, weights_of(dataset, device)

    def objective(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        batch = collate([ids[row] for row in rows], pad_token_id, device)
        targets = torch.as_tensor(labels[rows], device=device)
        logits = model(**batch).logits.float()  # (B, L)
        return cross_entropy(logits, targets, weights, reduction="none", label_smoothing=label_smoothing)  # (B,)

    return objective


def fill(config: FinetuneConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Train, merge, check the merge, and keep the best model.

    Args:
        config: of the stage.
        inputs: `data` (a data folder) and, where the model is a local folder, `model`.
        out_dir: becomes a model folder.

    Returns:
        Metrics of the merged model, with those of the adapter model under `adapter`.
    """
    source = str(inputs["model"]) if "model" in inputs else config.model
    if source is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    methods.check(config, models.facts(source))
    dataset = load_dataset(inputs["data"])
    check_trainable(dataset.kind)
    device, why = models.device(config.device)
    say(f"finetune: {config.method} on {device} ({why})")
    tokenizer = models.load_tokenizer(source)
    model = methods.prepare(config, source, dataset.labels, device)
    optim.freeze(model, config.freeze_layers)
    counts = methods.parameter_counts(model)
    progress = train(model, tokenizer, dataset, config, out_dir)
    found = keep(model, tokenizer, dataset, config, source, out_dir)
    return {**found, **counts, "best_step": progress.best_step, "steps": progress.step, "device": str(device)}


def unfreezing(model: torch.nn.Module, config: FinetuneConfig, rows: int) -> optim.BeforeStep:
    """What trains at which step."""
    return optim.gradual_unfreezing(model, plan(config, rows).steps) if config.gradual_unfreezing else optim.as_it_is


def train(model: Any, tokenizer: Any, dataset: Dataset, config: FinetuneConfig, out_dir: Path) -> Any:
    """Train on the labelled rows; the model ends with its best weights.

    Raises:
        ModelError: freezing or layer-wise rates need the layers, and they aren't found.
        RecipeError: an option doesn't fit the model, the method or the device.
    """
    device = next(model.parameters()).device
    ids = encode(tokenizer, dataset.train.texts, config.max_length)
    trainer = Trainer(
        model,
        cross_entropy_objective(dataset, ids, tokenizer.pad_token_id, device, config.label_smoothing),
        [len(row) for row in ids],
        validation(model, tokenizer, dataset, config.max_length),
        config,
        config.learning_rate or methods.LEARNING_RATES[config.method],
        out_dir,
        "finetune",
        unfreezing(model, config, len(ids)),
    )
    return trainer.fit()


def keep(
    model: Any, tokenizer: Any, dataset: Dataset, config: FinetuneConfig, source: str, out_dir: Path
) -> dict[str, Any]:
    """Merge, check and save; the gate's figures of both forms."""
    methods.compute_in_float32(model)
    adapter = evaluate.split_logits(model, tokenizer, dataset, config.max_length)
    merged = methods.merge(model, config, source, dataset.labels, out_dir)
    found = evaluate.gate(merged, tokenizer, dataset, config.max_length, out_dir)
    if merged is not model:
        difference = methods.check_merge(
            np.concatenate([adapter[split] for split in evaluate.SPLITS]),
            np.concatenate([evaluate.read_predictions(out_dir, split) for split in evaluate.SPLITS]),
            config.merge_tolerance,
        )
        found["adapter"] = evaluate.scores(adapter, dataset, None)
        found["merge_difference"] = difference
        for split in evaluate.SPLITS:
            merged_logits = evaluate.read_predictions(out_dir, split)
            found[split]["agreement"] = metrics.agreement(adapter[split], merged_logits)
    models.save(merged, tokenizer, out_dir, config.max_length)
    return found


run = stage("finetune")(fill)
