"""Which languages a source is written in."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence

from edgeft.errors import require

SALT = b"edgeft languages 1"
MIN_LETTERS = 20
MIN_SHARE = 0.01
OTHER, SHORT = "other", "short"


def languages(texts: Sequence[str], max_texts: int = 500) -> dict[str, float]:
    """Shares of languages in a sample of texts.

    The sample are the texts with the smallest hashes, so that the order of the rows changes nothing.

    Args:
        texts: (n,).
        max_texts: how many to look at, at most; each takes about a millisecond.

    Returns:
        ISO 639-1 code to its share, the largest first; languages of less than one in a hundred together as "other".
        These are shares of the texts that are long enough to tell, and sum to 1; "short" is the share of the sample
        that has fewer than twenty letters. Both stand last, and only where there are any.
    """
    sample = heapq.nsmallest(max_texts, texts, key=_hash)
    told = [text for text in sample if _letters(text) >= MIN_LETTERS]
    shares = _shares(told) if told else {}
    return shares | ({SHORT: 1 - len(told) / len(sample)} if len(told) < len(sample) else {})


def _hash(text: str) -> tuple[bytes, str]:
    return hashlib.blake2b(text.encode(), digest_size=8, key=SALT).digest(), text


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _shares(texts: list[str]) -> dict[str, float]:
    classify = require("py3langid", "to tell languages").classify
    counts = Counter(str(classify(text)[0]) for text in texts)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shares = {code: count / len(texts) for code, count in ranked if count >= MIN_SHARE * len(texts)}
    rare = sum(count for code, count in ranked if code not in shares)
    return shares | ({OTHER: rare / len(texts)} if rare else {})
