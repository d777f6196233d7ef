"""Substitution of words by a masked language model: several words are masked at once, and the model predicts others."""

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
from edgeft.models import model_facts, model_folder, model_sources
from edgeft.train.augment.word_edits import seed_of, words_to_change
from edgeft.train.generate import Generate, read_config
from edgeft.train.loop.batches import collate, encode

METHOD = "masked_lm"
CHOICES = 10  # one of so many likeliest words is drawn, by probability
# Letters, with apostrophes and hyphens between them. Numbers are excluded: another number would state another fact.
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
Span = tuple[int, int]


def check(source: str) -> None:
    """Refuse a model that is not a masked language model according to its config.json.

    Raises:
        ModelError: the folder does not exist, or its model has no such head.
    """
    config = read_config(source)
    masked_class = MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(config.model_type)
    names = config.architectures or [masked_class]
    # BertForPreTraining and similar classes have this head and another one.
    masks = masked_class is not None and not getattr(config, "is_encoder_decoder", False)
    if not masks or not any(name == masked_class or str(name).endswith("ForPreTraining") for name in names):
        raise ModelError(
            f"augment.masked_model={source}: {names[0] or config.model_type} has no masked-language-model head; "
            f"take a model that has, such as google-bert/bert-base-uncased"
        )


def load(source: str, device: torch.device) -> tuple[Any, Any]:
    """A masked language model in eval mode, and its tokenizer.

    Raises:
        ModelError: the folder can't be used, or its weights lack the head.
    """
    folder, config = model_sources.locate(source), model_facts.read_config(source)
    with model_sources.reading(folder):
        model, info = transformers.AutoModelForMaskedLM.from_pretrained(
            folder,
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
    """Token id -> word, for the tokens that are a whole word when it follows white space."""
    ids = range(len(tokenizer))
    words = [text.strip() for text in tokenizer.batch_decode([[index] for index in ids])]
    plausible = [index for index in ids if WORD.fullmatch(words[index])]
    again = tokenizer([f" {words[index]}" for index in plausible], add_special_tokens=False)["input_ids"]
    return {index: words[index] for index, encoded in zip(plausible, again, strict=True) if encoded == [index]}


def choose_spans(text: str, share: float, generator: random.Random) -> list[Span]:
    """Choose the words to mask, in the order of the text; placeholders of the cleaning are never masked."""
    protected = list(placeholders.spans(text))
    candidates = [
        (start, end)
        for start, end in (match.span() for match in WORD.finditer(text))
        if not any(first <= start < last for first, last in protected)
    ]
    return sorted(generator.sample(candidates, words_to_change(len(candidates), share))) if candidates else []


def replace_spans(text: str, spans: Sequence[Span], words: Sequence[str]) -> str:
    """Replace the first spans of the text with the words, one each."""
    for (start, end), word in reversed(list(zip(spans, words, strict=False))):
        text = text[:start] + word + text[end:]
    return text


def match_case(word: str, original: str) -> str:
    """The word, capitalized like the original."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def mask_logits(model: Any, batch: dict[str, torch.Tensor], mask_token_id: int) -> torch.Tensor:
    """Logits at the masked positions alone.

    The head runs at these positions only: over all tokens its output would be by far the largest array of the model.

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


def draw_word(logits: torch.Tensor, words: dict[int, str], original: str, generator: random.Random) -> str:
    """Draw one of the likeliest words other than the original, by probability.

    Args:
        logits: (vocabulary,), minus infinity for tokens that are not a whole word.
        words: token id -> word.
        original: the word that was masked.
        generator: the source of randomness.
    """
    best = logits.topk(min(CHOICES + 4, len(words)))  # the original may be among them in several spellings
    pairs = [(words[i], v) for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    others = [pair for pair in pairs if pair[0].casefold() != original.casefold()][:CHOICES]
    if not others:
        return original
    weights = torch.tensor([value for _, value in others], dtype=torch.float64).softmax(0).tolist()
    return match_case(generator.choices([word for word, _ in others], weights)[0], original)


class Substitute:
    """Masks words and replaces them with predicted ones; the model is loaded at the first batch.

    Args:
        source: folder or hub id of the model.
        device: where the model runs.
        share: of a text's words that are replaced.
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

    def sampler(self, seed: int, copy: int) -> Generate:
        """A function from a batch of texts to texts with some words substituted."""

        def batch(texts: list[str]) -> list[str]:
            generators = [random.Random(seed_of(text, METHOD, seed, copy)) for text in texts]
            return self._substitute(texts, generators)

        return batch

    def _substitute(self, texts: list[str], generators: list[random.Random]) -> list[str]:
        model, tokenizer, words, barred = self._loaded
        mask = tokenizer.mask_token
        # A text that contains the mask token itself stays unchanged.
        spans = [
            [] if mask in text else choose_spans(text, self.share, generator)
            for text, generator in zip(texts, generators, strict=True)
        ]
        masked = [
            replace_spans(text, text_spans, [mask] * len(text_spans))
            for text, text_spans in zip(texts, spans, strict=True)
        ]
        ids = encode(tokenizer, masked, tokenizer.model_max_length)
        logits = mask_logits(model, collate(ids, tokenizer.pad_token_id, self.device), tokenizer.mask_token_id)
        rows = iter(logits + barred)
        results = []
        for text, text_spans, row, generator in zip(texts, spans, ids, generators, strict=True):
            masks = row.count(tokenizer.mask_token_id)  # fewer than spans if the text was truncated
            drawn = [next(rows) for _ in range(masks)]
            if not text_spans:
                results.append(text)
                continue
            others = [
                draw_word(row, words, text[a:b], generator) for row, (a, b) in zip(drawn, text_spans, strict=False)
            ]
            results.append(replace_spans(text, text_spans, others))
        return results
