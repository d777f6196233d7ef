"""Distillation losses; each gives one value for each target, or for each item of the batch."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cosine_similarity, kl_div, log_softmax, logsigmoid

HIDDEN_SCORE = -1e9  # of a token that padding hides; finite, so that 0 times its logarithm is 0


def soft_labels(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher || student) of the softened distributions, times temperature squared.

    The factor keeps the gradient's size when the temperature changes (Hinton, Vinyals, Dean 2015, section 2.1). With
    the arguments exchanged it is the reverse divergence, which lets a student leave out what it can't imitate (Gu et
    al. 2024, "MiniLLM", section 2.1).

    Args:
        student: logits (m, C).
        teacher: logits (m, C).
        temperature: softens both.

    Returns:
        (m,)
    """
    target = log_softmax(teacher / temperature, dim=-1)
    given = log_softmax(student / temperature, dim=-1)
    return kl_div(given, target, log_target=True, reduction="none").sum(-1) * temperature**2


def soft_bits(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """`soft_labels` of each of several labels for itself (has it, hasn't it), the mean over the labels.

    Args:
        student: logits (m, C).
        teacher: logits (m, C).
        temperature: softens both.

    Returns:
        (m,)
    """
    return _bernoulli_divergence(teacher / temperature, student / temperature).mean(-1) * temperature**2


def _bernoulli_divergence(wanted: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """KL of Bernoulli distributions, elementwise, by their logits."""
    has, has_not = wanted.sigmoid(), (-wanted).sigmoid()
    return has * (logsigmoid(wanted) - logsigmoid(given)) + has_not * (logsigmoid(-wanted) - logsigmoid(-given))


def soft_numbers(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Half the squared distance of two numbers: KL of two normal distributions of deviation 1.

    Args:
        student: (m, 1).
        teacher: (m, 1).
        temperature: without effect, for the losses' common form.

    Returns:
        (m,)
    """
    return 0.5 * (student - teacher).square().sum(-1)


def fold_classes(logits: torch.Tensor, ids: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits of some classes, and one that stands for all others together.

    softmax(folded / temperature) has the softened probabilities of those classes, and the sum of the others'.

    Args:
        logits: (m, C).
        ids: (m, k) the classes that stay, different ones in each row.
        temperature: that the result will be softened with.

    Returns:
        (m, k + 1)
    """
    others = logits.scatter(-1, ids, -math.inf) / temperature  # (m, C)
    rest = torch.logsumexp(others, dim=-1, keepdim=True) * temperature
    return torch.cat([logits.gather(-1, ids), rest.clamp_min(HIDDEN_SCORE)], dim=-1)


def hidden_states(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """One minus the cosine of the last hidden states, averaged over an item's tokens (Sanh et al. 2019, section 2).

    An item without a token gets 0.

    Args:
        student: (B, T, H).
        teacher: (B, T, H).
        attention_mask: (B, T), 1 for a token.

    Returns:
        (B,)
    """
    distance = 1 - cosine_similarity(student, teacher, dim=-1)  # (B, T)
    return _mean_of_tokens(distance, attention_mask)


def relations(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor, heads: int) -> torch.Tensor:
    """KL(teacher || student) of the self-attention relations of queries, of keys or of values.

    A relation is softmax(a a^T / sqrt(d)) of vectors cut into so many relation heads of d; the divergence is averaged
    over heads and tokens (Wang et al. 2021, "MiniLMv2", arXiv:2012.15828, equations 3 to 5). Widths may differ. An
    item without a token gets 0.

    Args:
        student: (B, T, D).
        teacher: (B, T, E).
        attention_mask: (B, T), 1 for a token.
        heads: relation heads, which divide D and E.

    Returns:
        (B,)
    """
    given, wanted = (_log_relation(vectors, attention_mask, heads) for vectors in (student, teacher))
    each = kl_div(given, wanted, log_target=True, reduction="none").sum(-1).mean(1)  # (B, T)
    return _mean_of_tokens(each, attention_mask)


def _mean_of_tokens(values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """(B,) means over the tokens, 0 where there are none."""
    return (values * attention_mask).sum(-1) / attention_mask.sum(-1).clamp_min(1)


def _log_relation(vectors: torch.Tensor, attention_mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Logarithms of one relation, (B, heads, T, T)."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T, d)
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    return log_softmax(scores.masked_fill(attention_mask[:, None, None] == 0, HIDDEN_SCORE), dim=-1)
