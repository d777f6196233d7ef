"""Metrics of generated text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeft.errors import TrainingError, require
from edgeft.train.metrics.checks import PURPOSE, Figures, check_rows

ROUGE = {"rouge1": "rouge1", "rouge2": "rouge2", "rougeL": "rouge_l"}  # the library's name -> ours
ROUGE_TOKEN = re.compile("[a-z0-9]")  # rouge-score drops all other characters


def perplexity(nll_nats: float, tokens: int) -> Figures:
    """Perplexity of a text under a language model: exp of the mean negative log-likelihood of a token.

    Formula: Jurafsky & Martin, "Speech and Language Processing", 3.3. It depends on the tokenizer: compare it only
    between models that share one.

    Args:
        nll_nats: negative log-likelihood in nats, summed over the predicted tokens.
        tokens: how many were predicted.

    Returns:
        `nll` (nats a token), `perplexity`, and `negative_perplexity`, for which higher is better.

    Raises:
        TrainingError: no tokens, or a likelihood or perplexity that is not finite.
    """
    if tokens < 1:
        raise TrainingError("there are no tokens to measure")
    mean = nll_nats / tokens
    if not math.isfinite(mean) or mean > math.log(np.finfo(np.float64).max):
        raise TrainingError(f"the perplexity of {tokens} tokens is not finite: {nll_nats} nats")
    return {"nll": mean, "perplexity": math.exp(mean), "negative_perplexity": -math.exp(mean)}


def generation(predicted: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> Figures:
    """Overlap of generated texts with their references.

    Args:
        predicted: (n,) texts of the model; they may be empty.
        references: (n,) right texts.
        tokenize: sacrebleu's tokenizer for BLEU: `13a`; `zh` for Chinese, `char` for Korean; see its docs for others.

    Returns:
        `bleu` and `chrf`, of the corpus, 0 to 100 (sacrebleu: Papineni et al. 2002, Popovic 2015); `rouge1`, `rouge2`,
        `rouge_l`, mean F-measure of the rows, 0 to 1, no stemming (rouge-score: Lin 2004). ROUGE is left out if no
        reference has a Latin letter or digit, as rouge-score sees no other tokens.

    Raises:
        TrainingError: no rows.
    """
    check_rows(predicted, references)
    sacrebleu = require("sacrebleu", PURPOSE)
    guesses, streams = list(predicted), [list(references)]
    figures = {
        "bleu": float(sacrebleu.corpus_bleu(guesses, streams, tokenize=tokenize).score),
        "chrf": float(sacrebleu.corpus_chrf(guesses, streams).score),
    }
    if any(ROUGE_TOKEN.search(text.lower()) for text in references):
        figures |= {name: float(scores.mean()) for name, scores in rouge_rows(predicted, references).items()}
    return figures


def rouge_rows(predicted: Sequence[str], references: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """ROUGE F-measures of each row.

    Args:
        predicted: (n,) texts of the model.
        references: (n,) right texts.

    Returns:
        `rouge1`, `rouge2`, `rouge_l`, (n,) each, 0 to 1.
    """
    scorer = require("rouge_score.rouge_scorer", PURPOSE).RougeScorer(list(ROUGE), use_stemmer=False)
    rows = [scorer.score(right, guess) for guess, right in zip(predicted, references, strict=True)]
    return {ours: np.array([row[name].fmeasure for row in rows]) for name, ours in ROUGE.items()}
