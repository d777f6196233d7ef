"""Detection of the languages of a source."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence

from edgeft.errors import require

SALT = b"edgeft languages 1"
MIN_LETTERS = 20
MIN_SHARE, MIN_PROBABILITY = 0.01, 0.8
OTHER, UNSURE, SHORT = "other", "unsure", "short"


def languages(texts: Sequence[str], max_texts: int = 500) -> dict[str, float]:
    """Shares of languages in a sample of texts.

    The sample is the texts with the smallest hashes, so that the order of the rows has no effect.

    Args:
        texts: (n,).
        max_texts: largest size of the sample; each text takes about a millisecond.

    Returns:
        ISO 639-1 code -> its share, the largest first; languages below one percent together as "other". The shares are
        of the texts whose language is detected with a probability of 0.8 or more, and sum to 1. "unsure" is the share
        of the sample below 0.8, "short" that of texts with fewer than twenty letters. These three come last, if any.
    """
    sample = heapq.nsmallest(max_texts, texts, key=_hash)
    long = [text for text in sample if _letters(text) >= MIN_LETTERS]
    detected = _detect(long) if long else []
    shares = _shares(detected) if detected else {}
    beside = {UNSURE: len(long) - len(detected), SHORT: len(sample) - len(long)}
    return shares | {name: count / len(sample) for name, count in beside.items() if count}


def _hash(text: str) -> tuple[bytes, str]:
    return hashlib.blake2b(text.encode(), digest_size=8, key=SALT).digest(), text


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _detect(texts: list[str]) -> list[str]:
    """The language of each text in which it can be detected."""
    langid = require("py3langid.langid", "to tell languages")
    classify = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True).classify
    return [str(code) for code, probability in map(classify, texts) if probability >= MIN_PROBABILITY]


def _shares(codes: list[str]) -> dict[str, float]:
    ranked = sorted(Counter(codes).items(), key=lambda item: (-item[1], item[0]))
    shares = {code: count / len(codes) for code, count in ranked if count >= MIN_SHARE * len(codes)}
    rare = sum(count for code, count in ranked if code not in shares)
    return shares | ({OTHER: rare / len(codes)} if rare else {})
