"""Back-translation with two Marian models: into another language by beam search, and back."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import transformers

from edgeft.errors import ModelError, require
from edgeft.models import model_facts, model_sources
from edgeft.train.augment.word_edits import seed_of
from edgeft.train.generate import Generate, read_config
from edgeft.train.loop.batches import collate

METHOD = "back_translation"
BEAMS = 4
CHOICES = 10  # sampling draws from so many likeliest tokens
SPARE = 16  # a translation has at most twice the tokens of its source and so many more
PURPOSE = "to translate with a Marian model"


def check(option: str, source: str) -> None:
    """Refuse a model that is not a Marian model according to its config.json.

    Args:
        option: of the recipe, for the message.
        source: folder or hub id.

    Raises:
        ModelError: the folder does not exist, or its model is of another kind.
        MissingExtraError: sentencepiece, which its tokenizer needs, is not installed.
    """
    config = read_config(source)
    names = config.architectures or ["MarianMTModel"]
    if config.model_type != "marian" or "MarianMTModel" not in names:
        raise ModelError(
            f"augment.{option}={source}: {names[0] if config.architectures else config.model_type} is no Marian "
            f"translation model; take one, such as Helsinki-NLP/opus-mt-en-de"
        )
    require("sentencepiece", PURPOSE)


def load(source: str, device: torch.device) -> tuple[Any, Any]:
    """A Marian model in eval mode, and its tokenizer, limited to the positions of the model.

    Raises:
        ModelError: the folder can't be used.
        MissingExtraError: sentencepiece is not installed.
    """
    require("sentencepiece", PURPOSE)
    folder, config = model_sources.locate(source), model_facts.read_config(source)
    with model_sources.reading(folder), warnings.catch_warnings():
        # The tokenizer recommends sacremoses for a method that edgeft never calls.
        warnings.filterwarnings("ignore", message=".*sacremoses")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, config=config, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    return model.to(device).eval(), tokenizer


def language_prefix(tokenizer: Any, source: str) -> str:
    """The prefix of every text: empty, or the code of the only language that the model translates into.

    Raises:
        ModelError: the model translates into several languages.
    """
    codes = getattr(tokenizer, "supported_language_codes", [])
    if len(codes) > 1:
        raise ModelError(
            f"{source} translates into {len(codes)} languages ({', '.join(codes[:3])}, ...); "
            "take a model of a single pair of languages"
        )
    return f"{codes[0]} " if codes else ""


class TopKSampling(transformers.LogitsProcessor):
    """Turns greedy search into top-k sampling with a random generator for each row.

    The argmax of logits plus Gumbel noise is a sample of their softmax (Gumbel-max). As each row has its own generator,
    its sample does not depend on the other rows of the batch.

    Args:
        seeds: (batch,).
        choices: k.
    """

    def __init__(self, seeds: Sequence[int], choices: int = CHOICES) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._choices = choices

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (batch, vocabulary): noisy for the k likeliest tokens, minus infinity for all others."""
        best = scores.topk(self._choices)  # both (B, K)
        uniform = torch.stack(
            [torch.rand(self._choices, generator=generator) for generator in self._generators]
        )  # (B, K)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        noisy = best.values + gumbel.to(scores)
        return torch.full_like(scores, -torch.inf).scatter(1, best.indices, noisy)


class OwnLength(transformers.LogitsProcessor):
    """Ends each row at its own length limit, so that no text depends on the limits of its neighbours in the batch.

    Args:
        limits: tokens of each row, the start token included, (batch,).
        beams: hypotheses of each row.
        eos_token_id: ends a row.
    """

    def __init__(self, limits: Sequence[int], beams: int, eos_token_id: int) -> None:
        self._limits = torch.tensor(limits).repeat_interleave(beams)  # (B * beams,)
        self._end = eos_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (batch * beams, vocabulary); a row at its limit can only end here."""
        full = (self._limits <= input_ids.shape[1] + 1).to(scores.device)
        scores = scores.masked_fill(full[:, None], -torch.inf)
        scores[full, self._end] = 0
        return scores


def translate(
    model: Any, tokenizer: Any, texts: Sequence[str], seeds: Sequence[int] | None = None, prefix: str = ""
) -> list[str]:
    """Translate a batch.

    Args:
        model: of the pair of languages.
        tokenizer: of the model.
        texts: truncated to the model's positions.
        seeds: one for each text's sampling; None for beam search.
        prefix: put before each text.
    """
    limit = tokenizer.model_max_length
    ids = tokenizer([prefix + text for text in texts], truncation=True, max_length=limit)["input_ids"]
    limits = [min(limit, 2 * len(row) + SPARE) for row in ids]
    beams = BEAMS if seeds is None else 1
    processors = transformers.LogitsProcessorList([OwnLength(limits, beams, tokenizer.eos_token_id)])
    if seeds is not None:
        processors.append(TopKSampling(seeds))
    batch = collate(ids, tokenizer.pad_token_id, model.device)
    with torch.inference_mode(), model_sources.quietly("translation"):
        answer = model.generate(
            **batch, do_sample=False, num_beams=beams, max_length=max(limits), logits_processor=processors
        )
    return [text.strip() for text in tokenizer.batch_decode(answer, skip_special_tokens=True)]


class Translator:
    """Translation in one direction; the model is loaded at the first batch.

    Args:
        source: folder or hub id of a Marian model.
        device: where it runs.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        self.source, self.device = source, device

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, str]:
        model, tokenizer = load(self.source, self.device)
        return model, tokenizer, language_prefix(tokenizer, self.source)

    def beam_search(self, texts: list[str]) -> list[str]:
        """The likeliest translation of each text that a beam search finds."""
        model, tokenizer, prefix = self._loaded
        return translate(model, tokenizer, texts, None, prefix)

    def sampler(self, seed: int, copy: int) -> Generate:
        """A function from a batch of texts to sampled translations."""

        def batch(texts: list[str]) -> list[str]:
            model, tokenizer, prefix = self._loaded
            seeds = [seed_of(text, METHOD, seed, copy) for text in texts]
            return translate(model, tokenizer, texts, seeds, prefix)

        return batch
