"""Distillation losses; each gives one value for each row of the batch."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax

UNLABELLED = -1


def soft_labels(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher || student) of the softened distributions, times temperature squared.

    The factor keeps the gradient's size when the temperature changes (Hinton, Vinyals, Dean 2015, section 2.1).

    Args:
        student: logits (B, L).
        teacher: logits (B, L).
        temperature: softens both.

    Returns:
        (B,)
    """
    target = log_softmax(teacher / temperature, dim=-1)
    given = log_softmax(student / temperature, dim=-1)
    return kl_div(given, target, log_target=True, reduction="none").sum(-1) * temperature**2


def hard_labels(
    student: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy with the labels, times the label's weight; 0 for a row without one.

    Args:
        student: logits (B, L).
        labels: (B,), -1 where there is none.
        weights: (L,); None: all 1.
        label_smoothing: share of a label's probability that is spread over all labels.

    Returns:
        (B,)
    """
    return cross_entropy(
        student, labels, weights, reduction="none", ignore_index=UNLABELLED, label_smoothing=label_smoothing
    )


def hidden_states(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """One minus the cosine of the last hidden states, averaged over a row's tokens (Sanh et al. 2019, section 2).

    Args:
        student: (B, T, H).
        teacher: (B, T, H).
        attention_mask: (B, T), 1 for a token.

    Returns:
        (B,)
    """
    distance = 1 - cosine_similarity(student, teacher, dim=-1)  # (B, T)
    return (distance * attention_mask).sum(-1) / attention_mask.sum(-1)
