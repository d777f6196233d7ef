"""When two texts count as equal, and numbers that depend on a text's content alone."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# Changing a salt reassigns the splits of every user.
SPLIT_SALT = b"edgeft split 1"
CHOICE_SALT = b"edgeft choice 1"


def content(text: str) -> str:
    """The normal form in which equal texts are compared: NFC, stripped of white space."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()


def hash_pairs(text: str, salt: bytes) -> int:
    """A 64-bit hash of a text's content."""
    return int.from_bytes(hashlib.blake2b(content(text).encode(), digest_size=8, key=salt).digest(), "big")


def hashes(texts: Iterable[str], salt: bytes = SPLIT_SALT) -> Hashes:
    """(n,) 64-bit hashes of the texts' content; among a million texts a collision has probability 3e-8."""
    return np.fromiter((hash_pairs(text, salt) for text in texts), dtype=np.uint64)


def uniform(text: str, salt: bytes) -> float:
    """A number in [0, 1) that depends on the content of a text alone."""
    return (hash_pairs(text, salt) >> 11) / 2**53  # 53 bits: what a float holds exactly


def uniforms(row_hashes: Hashes) -> npt.NDArray[np.float64]:
    """(n,) numbers in [0, 1) of hashes, as `uniform` gives them."""
    return (row_hashes >> np.uint64(11)).astype(np.float64) / 2**53
