"""Text embeddings: nothing is trained, an encoder without a head is exported as it is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.models import shapes
from edgeft.runtime import Model
from edgeft.train.judges.sequences import Logits
from edgeft.train.loop.batches import collate, encode
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length
from edgeft.train.tasks.sequences import BATCH

NEAR = 0.98  # two embeddings of a text with at least this cosine count as the same answer


class Embeddings(TrainingTask):
    """Texts without labels; predictions are unit vectors, float32 (n, width)."""

    form = tasks.EMBEDDINGS
    auto = "AutoModel"
    adapter = None
    lead = "spearman"

    def items(self, split: Split, training: bool = False) -> Items:
        ids = encode(self.tokenizer, split.texts, self.max_length)
        return Items([{"input_ids": row} for row in ids], np.arange(len(ids)), np.ones(len(ids)))

    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        raise NotImplementedError("embeddings are exported, not trained")

    def target_losses(self, targets: Targets) -> torch.Tensor:
        raise NotImplementedError("embeddings are exported, not trained")

    def predict(self, model: Any, items: Items) -> Logits:
        embeddings: list[Any] = [None] * len(items)
        model.eval()
        with torch.inference_mode():
            for indices in batches_by_length(items.lengths, BATCH):
                ids = [items.inputs[index]["input_ids"] for index in indices]
                (vectors,) = self.outputs(model, collate(ids, self.tokenizer.pad_token_id, model.device))
                for index, vector in zip(indices, vectors.float().cpu().numpy(), strict=True):
                    embeddings[index] = vector
        return np.stack(embeddings)

    def outputs(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """(B, width) unit vectors, pooled as the model folder says."""
        hidden = model(**batch).last_hidden_state  # (B, T, width)
        if model.edgeft_pooling == "cls":
            return (normalize(hidden[:, 0]),)
        mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
        return (normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1)),)

    def predict_artifact(self, model: Model, split: Split) -> Logits:
        return model.embed(self.artifact_inputs(split), batch_size=1)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """Empty: there is no truth to compare with."""
        return {}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        return {}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        return [tuple(row) for row in predictions.tolist()]

    def agreement(self, before: Logits, now: Logits) -> float:
        """Share of the texts whose two embeddings have a cosine of at least `NEAR`."""
        return float(((before * now).sum(axis=1) >= NEAR).mean())

    def logits_to_compare(self, predictions: Logits) -> Logits:
        return predictions

    def as_array(self, predictions: Logits) -> Logits:
        return predictions

    def decoding_options(self, model: Any) -> dict[str, Any]:
        return {"pooling": model.edgeft_pooling, "width": shapes.width(model)}
