"""Substitution of words by a masked language model: some words are masked together, the model names others."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from edgeft.cleaning import placeholders
from edgeft.errors import ModelError
from edgeft.models import model_folder
from edgeft.train.augment.word_edits import how_many, seed_of
from edgeft.train.generate import Make, config_of
from edgeft.train.loop.batches import collate, encode

METHOD = "masked_lm"
CHOICES = 10  # likeliest words among which one is drawn by its probability
# Letters, with apostrophes and hyphens between them: a number replaced by another would be another fact.
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
Span = tuple[int, int]


def check(source: str) -> None:
    """Refuse what config.json shows to be no masked language model.

    Raises:
        ModelError: no such folder, or one without that head.
    """
    config = config_of(source)
    wanted = MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(config.model_type)
    names = config.architectures or [wanted]
    # BertForPreTraining and its like carry the head beside another one.
    masks = wanted is not None and not getattr(config, "is_encoder_decoder", False)
    if not masks or not any(name == wanted or str(name).endswith("ForPreTraining") for name in names):
        raise ModelError(
            f"augment.masked_model={source}: {names[0] or config.model_type} has no masked-language-model head; "
            f"take a model that has, such as google-bert/bert-base-uncased"
        )


def load(source: str, device: torch.device) -> tuple[Any, Any]:
    """A masked language model in eval mode, and its tokenizer.

    Raises:
        ModelError: the folder can't be used, or its weights lack the head.
    """
    place, config = model_folder.locate(source), model_folder.read_config(source)
    with model_folder.reading(place):
        model, info = transformers.AutoModelForMaskedLM.from_pretrained(
            place,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if info["missing_keys"]:
        raise ModelError(
            f"augment.masked_model={source}: its weights lack a masked-language-model head "
            f"({sorted(info['missing_keys'])[0]} is missing)"
        )
    tokenizer = model_folder.load_tokenizer(source)
    if tokenizer.mask_token is None:
        raise ModelError(f"augment.masked_model={source}: its tokenizer has no mask token")
    return model.to(device).eval(), tokenizer


def whole_words(tokenizer: Any) -> dict[int, str]:
    """The tokens that are a word by themselves: what the tokenizer makes of that word after white space."""
    ids = range(len(tokenizer))
    words = [text.strip() for text in tokenizer.batch_decode([[index] for index in ids])]
    plausible = [index for index in ids if WORD.fullmatch(words[index])]
    again = tokenizer([f" {words[index]}" for index in plausible], add_special_tokens=False)["input_ids"]
    return {index: words[index] for index, found in zip(plausible, again, strict=True) if found == [index]}


def choose(text: str, share: float, generator: random.Random) -> list[Span]:
    """The words to mask, in the order of the text; none is a placeholder of cleaning."""
    kept = list(placeholders.spans(text))
    spans = [
        (start, end)
        for start, end in (match.span() for match in WORD.finditer(text))
        if not any(first <= start < last for first, last in kept)
    ]
    return sorted(generator.sample(spans, how_many(len(spans), share))) if spans else []


def replaced(text: str, spans: Sequence[Span], words: Sequence[str]) -> str:
    """The text with other words in place of the first spans, as many as there are words."""
    for (start, end), word in reversed(list(zip(spans, words, strict=False))):
        text = text[:start] + word + text[end:]
    return text


def like(word: str, original: str) -> str:
    """The word with the capitals of the original."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def mask_logits(model: Any, batch: dict[str, torch.Tensor], mask_token_id: int) -> torch.Tensor:
    """Logits at the masked positions alone.

    The head is given these positions only: over all tokens its output is by far the largest array of the model.

    Returns:
        float32 (masks, vocabulary), in the order of rows and positions.
    """
    at = batch["input_ids"] == mask_token_id  # (B, T)

    def masks_only(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]  # (B, T, H)
        return (hidden[at], *inputs[1:]) if hidden.shape[:2] == at.shape else inputs

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(masks_only) if head is not None else None
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(**batch).logits
    finally:
        if hook is not None:
            hook.remove()
    return (logits[at] if logits.dim() == 3 else logits).float().cpu()


def draw(logits: torch.Tensor, words: dict[int, str], original: str, generator: random.Random) -> str:
    """One of the likeliest words that are not the original.

    Args:
        logits: (vocabulary,), minus infinity for what is no whole word.
        words: of the tokens.
        original: the word that was masked.
        generator: draws by probability.
    """
    best = logits.topk(min(CHOICES + 4, len(words)))  # the original may stand there in several spellings
    pairs = [(words[i], v) for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    others = [pair for pair in pairs if pair[0].casefold() != original.casefold()][:CHOICES]
    if not others:
        return original
    weights = torch.tensor([value for _, value in others], dtype=torch.float64).softmax(0).tolist()
    return like(generator.choices([word for word, _ in others], weights)[0], original)


class Substitute:
    """Masks words and puts others in their place; the model is loaded at the first batch.

    Args:
        source: folder or hub id.
        device: where the model runs.
        share: of a text's words.
    """

    def __init__(self, source: str, device: torch.device, share: float) -> None:
        self.source, self.device, self.share = source, device, share

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, dict[int, str], torch.Tensor]:
        model, tokenizer = load(self.source, self.device)
        rows = model.config.vocab_size
        words = {index: word for index, word in whole_words(tokenizer).items() if index < rows}
        if not words:
            raise ModelError(f"augment.masked_model={self.source}: its vocabulary has no whole word")
        barred = torch.full((rows,), -torch.inf)  # (V,)
        barred[list(words)] = 0
        return model, tokenizer, words, barred

    def make(self, seed: int, copy: int) -> Make:
        """A function from a batch of texts to texts with some words substituted."""

        def batch(texts: list[str]) -> list[str]:
            generators = [random.Random(seed_of(text, METHOD, seed, copy)) for text in texts]
            return self._substituted(texts, generators)

        return batch

    def _substituted(self, texts: list[str], generators: list[random.Random]) -> list[str]:
        model, tokenizer, words, barred = self._loaded
        mask = tokenizer.mask_token
        # A text that spells the mask token itself has nothing to choose from.
        spans = [
            [] if mask in text else choose(text, self.share, generator)
            for text, generator in zip(texts, generators, strict=True)
        ]
        masked = [replaced(text, own, [mask] * len(own)) for text, own in zip(texts, spans, strict=True)]
        ids = encode(tokenizer, masked, tokenizer.model_max_length)
        logits = mask_logits(model, collate(ids, tokenizer.pad_token_id, self.device), tokenizer.mask_token_id)
        rows = iter(logits + barred)
        made = []
        for text, own, row, generator in zip(texts, spans, ids, generators, strict=True):
            kept = row.count(tokenizer.mask_token_id)  # fewer than were masked where the text was truncated
            drawn = [next(rows) for _ in range(kept)]
            if not own:
                made.append(text)
                continue
            others = [draw(row, words, text[a:b], generator) for row, (a, b) in zip(drawn, own, strict=False)]
            made.append(replaced(text, own, others))
        return made
