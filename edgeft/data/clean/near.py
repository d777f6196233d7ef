"""Near duplicates: MinHash sketches, banded into buckets by sorting, every reported pair verified.

Signatures are one byte a slot (b-bit minwise hashing, Li and König 2010) and buckets are runs of equal keys in a sorted
array: 240 bytes a text in all, where an index of hash tables takes 1.1 kB (rensa's) or 11 kB (datasketch's).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgeft.errors import require
from edgeft.progress import Bar

GRAM = 5  # characters
SLOTS = 128  # minima in a signature, at most
RECALL = 0.99  # recall of the banding for a pair exactly at the similarity
MAX_ROWS = 16  # slots in a band
PREDECESSORS = 3  # nearest earlier texts of a bucket that a text is compared with, besides the bucket's first
COMPARED = 16  # most earlier texts that a text is compared with in full
CHUNK_CHARACTERS = 1 << 18
PAIR_BITS = 14  # of a 64-bit key that says pair and 5-gram
SEED = 20_210  # of the sketch; arbitrary
PAD = "\udfff"  # lengthens a text of fewer than 5 characters: half of a surrogate pair, which no valid text holds
WEIGHTS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
MIX = np.uint64(0xFF51AFD7ED558CCD)

IndexArray = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint8]


def earlier_similar(texts: Sequence[str], similarity: float, bar: Bar | None = None) -> IndexArray:
    """For each text an earlier one that is a near duplicate of it.

    Similarity is Jaccard's, of the sets of character 5-grams (`normal`). There are no false positives: every reported
    pair is compared in full. About one in a hundred pairs exactly at the similarity is missed, far fewer of
    more similar ones. To stay linear where thousands of texts share a bucket, a text is compared there with the first
    and the three before it, and in full with at most sixteen; of those found the earliest is reported, which may itself
    be a near duplicate of one before. The result depends on the texts and their order alone.

    Args:
        texts: (n,) the most important first.
        similarity: in (0, 1], at which two texts count as near duplicates.
        bar: counts the texts as their signatures are computed.

    Returns:
        (n,) index of an earlier text, -1 if there is none.
    """
    bands, rows = banding(similarity)
    signatures = _signatures(texts, bands * rows, bar)  # (n, bands * rows)
    search = _Search(texts, signatures, similarity)
    for start in range(0, bands * rows, rows):
        search.within(_buckets(signatures[:, start : start + rows]))
    return np.where(search.earliest < len(texts), search.earliest, -1)


def banding(similarity: float) -> tuple[int, int]:
    """The number of bands and of slots in each: the widest bands that still reach the recall.

    A pair of similarity s shares one of b bands of r slots with probability 1 - (1 - s^r)^b (Broder 1997; Leskovec,
    Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
    """
    wide = [r for r in range(1, MAX_ROWS + 1) if 1 - (1 - similarity**r) ** (SLOTS // r) >= RECALL]
    rows = max(wide, default=1)
    return SLOTS // rows, rows


# ------------------------------------------------------------------------------------------------------------- 5-grams


def normal(text: str) -> str:
    """The form that is compared: NFC, case-folded, with single spaces and stripped."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of two texts: shared 5-grams / 5-grams of either."""
    a, b = _gram_set(first), _gram_set(second)
    return len(a & b) / len(a | b)


def _gram_set(text: str) -> set[str]:
    text = normal(text).ljust(GRAM, PAD)
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)}


def _grams(texts: Sequence[str]) -> tuple[Hashes, Hashes]:
    """64-bit hashes of the 5-grams of some texts, repetitions included.

    Returns:
        All hashes, (g,), and the offset of each text and of the end, (n + 1,).
    """
    normals = [normal(text).ljust(GRAM, PAD) for text in texts]
    lengths = np.fromiter(map(len, normals), dtype=np.int64, count=len(normals))
    codes = np.frombuffer("".join(normals).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    hashes = np.zeros(len(codes) - GRAM + 1, dtype=np.uint64)
    for index, weight in enumerate(WEIGHTS):
        hashes += codes[index : index + len(hashes)] * np.uint64(weight)
    inside = np.ones(len(codes), dtype=bool)
    inside[(np.cumsum(lengths)[:, None] - np.arange(1, GRAM)).ravel()] = False  # these reach into the next text
    offsets = np.concatenate(([0], np.cumsum(lengths - GRAM + 1))).astype(np.uint64)
    return _mix(hashes[inside[: len(hashes)]]), offsets


def _mix(hashes: Hashes) -> Hashes:
    """Spread every bit over all (the finalizer of MurmurHash3, cut to one round); one to one."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * MIX
    return hashes ^ (hashes >> np.uint64(29))


def _chunks(texts: Sequence[str], indices: IndexArray, most: int) -> Iterator[tuple[int, int]]:
    """Cut a list of indices into runs of about a million characters and at most `most` texts."""
    start = characters = 0
    for end, index in enumerate(indices):
        if end > start and (characters >= CHUNK_CHARACTERS or end - start >= most):
            yield start, end
            start, characters = end, 0
        characters += len(texts[index]) + GRAM
    if len(indices):
        yield start, len(indices)


# ---------------------------------------------------------------------------------------------------------- signatures


def _signatures(texts: Sequence[str], slots: int, bar: Bar | None) -> Signatures:
    """MinHash signatures cut to a byte a slot, (n, slots)."""
    sketch = require("rensa", "to find near duplicates").RMinHash.digest_matrix_from_flat_token_hashes
    signatures = np.empty((len(texts), slots), dtype=np.uint8)
    for start, end in _chunks(texts, np.arange(len(texts)), len(texts)):
        digests = np.array(sketch(*_grams(texts[start:end]), slots, SEED).to_rows(), dtype=np.uint32)
        signatures[start:end] = (digests * np.uint32(MIX & np.uint64(0xFFFFFFFF))) >> np.uint32(24)
        if bar:
            bar.advance(end - start)
    return signatures


def _buckets(band: Signatures) -> Hashes:
    """Texts sorted by their band, equal ones by index.

    Args:
        band: (n, r) a band of all signatures.

    Returns:
        (n,) the bucket in the upper 32 bits, the text's index in the lower.
    """
    keys = np.zeros(len(band), dtype=np.uint64)
    for slot in band.T:
        keys = keys * np.uint64(WEIGHTS[0]) + slot
    keys = (_mix(keys) >> np.uint64(32) << np.uint64(32)) | np.arange(len(band), dtype=np.uint64)
    keys.sort()
    return keys


# -------------------------------------------------------------------------------------------------------------- search


class _Search:
    """The near duplicates found so far.

    Args:
        texts: (n,).
        signatures: (n, slots).
        similarity: from which two texts are near duplicates.
    """

    def __init__(self, texts: Sequence[str], signatures: Signatures, similarity: float) -> None:
        self.texts = texts
        self.signatures = signatures
        self.similarity = similarity
        self.equal_slots = _equal_slots(similarity, signatures.shape[1])
        self.earliest = np.full(len(texts), len(texts), dtype=np.int64)
        self.compared = np.full((len(texts), COMPARED), -1, dtype=np.int32)
        self.comparisons = np.zeros(len(texts), dtype=np.uint8)

    def within(self, keys: Hashes) -> None:
        """Compare the texts of one band's buckets.

        Args:
            keys: (n,) as `_buckets` gives them.
        """
        texts, buckets = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), keys >> np.uint64(32)
        fresh = np.ones(len(keys), dtype=bool)
        fresh[1:] = buckets[1:] != buckets[:-1]
        firsts = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]  # (n,) where each one's bucket begins
        positions = np.flatnonzero(~fresh)
        self._compare(texts[positions], texts[firsts[positions]])
        for back in range(1, PREDECESSORS + 1):
            positions = positions[positions - back > firsts[positions]]
            self._compare(texts[positions], texts[positions - back])

    def _compare(self, texts: IndexArray, earlier: IndexArray) -> None:
        """Store the pairs that are near duplicates; each text occurs once."""
        useful = (earlier < self.earliest[texts]) & (self.comparisons[texts] < COMPARED)
        texts, earlier = self._alike(texts[useful], earlier[useful])
        self.compared[texts, self.comparisons[texts]] = earlier
        self.comparisons[texts] += 1
        for start, end in _chunks(self.texts, texts, 1 << PAIR_BITS):
            pairs = texts[start:end], earlier[start:end]
            same = _jaccards([self.texts[i] for i in pairs[0]], [self.texts[i] for i in pairs[1]]) >= self.similarity
            self.earliest[pairs[0][same]] = pairs[1][same]

    def _alike(self, texts: IndexArray, earlier: IndexArray) -> tuple[IndexArray, IndexArray]:
        """The pairs that were not compared yet and aren't ruled out by their signatures."""
        keep = np.zeros(len(texts), dtype=bool)
        for start in range(0, len(texts), CHUNK_CHARACTERS // SLOTS):
            some = slice(start, start + CHUNK_CHARACTERS // SLOTS)
            equal = np.count_nonzero(self.signatures[texts[some]] == self.signatures[earlier[some]], axis=1)
            known = (self.compared[texts[some]] == earlier[some, None]).any(axis=1)
            keep[some] = (equal >= self.equal_slots) & ~known
        return texts[keep], earlier[keep]


def _equal_slots(similarity: float, slots: int) -> int:
    """How many equal slots a pair needs: the number expected at the similarity, less 2.5 standard deviations."""
    equal = similarity + (1 - similarity) / 256
    return math.ceil(slots * equal - 2.5 * math.sqrt(slots * equal * (1 - equal)) - 1e-9)


def _jaccards(first: Sequence[str], second: Sequence[str]) -> npt.NDArray[np.float64]:
    """Similarity of each pair, (p,) with p <= 2^14; 5-grams are identified by 50 bits of their hash."""
    a, b = _distinct(first), _distinct(second)
    together = np.sort(np.concatenate((a, b)), kind="stable")  # merges the two runs
    shared = together[1:][together[1:] == together[:-1]]
    sizes = [
        np.bincount((keys >> np.uint64(64 - PAIR_BITS)).astype(np.int64), minlength=len(first))
        for keys in (a, b, shared)
    ]
    return sizes[2] / (sizes[0] + sizes[1] - sizes[2])


def _distinct(texts: Sequence[str]) -> Hashes:
    """Distinct 5-grams of each text as sorted keys, the text's index in the upper bits."""
    hashes, offsets = _grams(texts)
    text_of = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(offsets).astype(np.int64))
    keys = np.sort(text_of << np.uint64(64 - PAIR_BITS) | hashes >> np.uint64(PAIR_BITS))
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
