"""tokenizer.json with fewer tokens: against slow twins, by hand, and texts of every odd kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_tokenizers import BYTES, KINDS, SPECIAL, slow_tokens, trained
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from edgeft.compress.prune import tokenizer_json
from edgeft.compress.prune.vocabulary import Cut, cut
from edgeft.errors import ModelError

Pair = tuple[PreTrainedTokenizerFast, Cut]

ODD = (
    *(
        "",
        " ",
        "\n\t",
        "\x00",
        "\u2603",
        "\u2603 \u2603\u2603",
        "\U0001f996\U0001f996 dino",
        "e\u0301\u200d",
        "\ud55c\uad6d",
    ),
    *("x" * 5000, "\u2603" * 5000, "<s> </s> <unk> <pad>", "<0x0A> ## ##a </w> \u2581", "a" * 99 + " " + "b" * 101),
)


@pytest.fixture(scope="module")
def pairs(movie_rows: list[tuple[str, str]]) -> Callable[[str], Pair]:
    """Kind to a tokenizer of 300 rows and what 100 of them leave of it; made once."""
    texts = [text for text, _ in movie_rows[:300]]
    made: dict[str, Pair] = {}

    def pair(kind: str) -> Pair:
        if kind not in made:
            whole = trained(kind, texts)
            made[kind] = whole, cut(whole, texts[:100], min_count=4)
        return made[kind]

    return pair


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_chose_the_tokens_are_tokenized_as_before(kind: str, movie_rows: list[tuple[str, str]]) -> None:
    texts = [text for text, _ in movie_rows[:300]]
    whole = trained(kind, texts)
    small = cut(whole, texts[:40])
    assert 0.2 < len(small.tokenizer) / len(whole) < 0.95
    assert small.kept[:4].tolist() == [0, 1, 2, 3]
    for text, second in zip(texts[:40], texts[39::-1], strict=True):
        assert small.kept[small.tokenizer(text)["input_ids"]].tolist() == whole(text)["input_ids"]
        now, before = small.tokenizer(text, second), whole(text, second)
        assert small.kept[now["input_ids"]].tolist() == before["input_ids"]
        assert [now[key] for key in now if key != "input_ids"] == [before[key] for key in before if key != "input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_slow_twin_that_knows_the_same_pieces(
    kind: str, pairs: Callable[[str], Pair], movie_rows: list[tuple[str, str]]
) -> None:
    whole, small = pairs(kind)
    tree, known = tokenizer_json.read(whole), set(small.tokenizer.get_vocab())
    backend = small.tokenizer.backend_tokenizer
    names = {token_id: piece for piece, token_id in small.tokenizer.get_vocab().items()}
    shorter = 0
    for text in (*(text for text, _ in movie_rows[300:380]), "\u2603ab \u2603\u2603 abx\u2603\ud55c"):
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
        wanted = [piece for word in words for piece in slow_tokens(tree, known, word)]
        found = small.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [names[token_id] for token_id in found] == wanted
        shorter += wanted != whole.convert_ids_to_tokens(whole(text, add_special_tokens=False)["input_ids"])
    assert shorter > 20


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_fails(kind: str, pairs: Callable[[str], Pair]) -> None:
    whole, small = pairs(kind)
    for text in ODD:
        ids = small.tokenizer(text)["input_ids"]
        assert max(ids) < len(small.tokenizer) == len(small.kept)
        assert ids[:1] + ids[-1:] == [0, 2]
        if set(before := whole(text)["input_ids"]) <= set(small.kept.tolist()):
            assert small.kept[ids].tolist() == before
    padded = small.tokenizer(list(ODD), padding=True, truncation=True)["input_ids"]
    assert len({len(row) for row in padded}) == 1
    assert 3 < len(padded[0]) <= 64
    assert padded[0] == [1] * (len(padded[0]) - 2) + [0, 2]  # padding_side is that of the whole one


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, database=None)
@given(data=st.data())
def test_any_text_whose_tokens_stayed_is_tokenized_as_before(
    kind: str, pairs: Callable[[str], Pair], data: st.DataObject
) -> None:
    whole, small = pairs(kind)
    known = [whole.decode([token_id]) for token_id in small.kept]
    text = "".join(data.draw(st.lists(st.sampled_from(known) | st.text(max_size=3) | st.just(" "), max_size=12)))
    ids, before = small.tokenizer(text)["input_ids"], whole(text)["input_ids"]
    assert all(0 <= token_id < len(small.kept) for token_id in ids)
    if set(before) <= set(small.kept.tolist()):
        assert small.kept[ids].tolist() == before
    assert small.tokenizer.decode(ids) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_single_characters_bytes_and_special_tokens_stay(kind: str, pairs: Callable[[str], Pair]) -> None:
    whole, small = pairs(kind)
    left = small.tokenizer.get_vocab().keys()
    singles = {piece for piece in whole.get_vocab() if len(piece.strip("#\u2581").removesuffix("</w>")) == 1}
    assert singles | set(SPECIAL) <= left
    assert (kind != "byte-fallback") or set(BYTES) <= left
    assert small.tokenizer.special_tokens_map == whole.special_tokens_map
    assert small.tokenizer.model_max_length == 64
    assert len(left) < len(whole)


def test_everything_but_the_vocabulary_is_as_before(pairs: Callable[[str], Pair]) -> None:
    for kind in KINDS:
        trees = [tokenizer_json.read(one) for one in (pairs(kind)[0], pairs(kind)[1].tokenizer)]
        for tree in trees:  # ids of the special tokens are 0 to 3 before and after
            tree["model"] |= {"vocab": None, "merges": None}
        assert trees[0] == trees[1]


# -------------------------------------------------------------------------------------------------------------- by hand


def hand_made(model: dict[str, Any], **parts: Any) -> PreTrainedTokenizerFast:
    """From parts of a tokenizer.json."""
    tree: dict[str, Any]
    tree = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    tree |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, **parts, "model": model}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tree)))


def bpe(pieces: str, merges: list[Any], **options: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": {piece: at for at, piece in enumerate(pieces.split())}, "merges": merges, **options}


def test_every_id_outside_the_vocabulary_is_renumbered() -> None:
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "both", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"both": {"id": "both", "ids": [4, 5], "tokens": ["over", "</s>"]}},
    }
    bert = {"type": "BertProcessing", "sep": ["</s>", 5], "cls": ["over", 4]}
    padding = {"strategy": {"Fixed": 6}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 4}
    padding |= {"pad_type_id": 0, "pad_token": "over"}
    words = {word: at for at, word in enumerate(["gone", "a", "lost", "none", "over"])}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "none"}
    parts = {"added_tokens": [{"id": 5, "content": "</s>", **added}], "padding": padding}
    whole = hand_made(model, **parts, post_processor={"type": "Sequence", "processors": [template, bert]})
    small = cut(whole, [])
    assert small.kept.tolist() == [1, 3, 4, 5]
    assert small.tokenizer.get_vocab() == {"a": 0, "none": 1, "over": 2, "</s>": 3}
    slots = tokenizer_json.id_slots(tokenizer_json.read(small.tokenizer))
    assert [container[key] for container, key in slots] == [2, 3, 2, 2, 3, 3, 2]  # added, padding, template, pair
    now, before = (one.backend_tokenizer.encode("a").ids for one in (small.tokenizer, whole))
    assert small.kept[now].tolist() == before


def test_two_tokens_of_one_id_are_refused() -> None:
    """The vocabulary has a hole at 1, so the added token takes the id of `foo`."""
    added = {"id": 1, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 2, "foo": 3}, "unk_token": "a"}
    with pytest.raises(ModelError, match="can't be renumbered: its added tokens don't follow its vocabulary"):
        cut(hand_made(model, added_tokens=[{**added, "special": True}]), [])


def test_a_merge_stays_with_its_parts_and_its_result() -> None:
    """`abc` is made by ab + c, since that merge comes first: `bc` isn't on its path, so it goes."""
    whole = hand_made(bpe("a b c d ab bc abc bcd", ["a b", "b c", "ab c", "a bc", "bc d"]))  # merges as one string
    small = cut(whole, ["abc"])
    tree = tokenizer_json.read(small.tokenizer)
    assert list(tree["model"]["vocab"]) == ["a", "b", "c", "d", "ab", "abc"]
    assert tree["model"]["merges"] == [["a", "b"], ["ab", "c"]]
    assert small.tokenizer.tokenize("abc bcd abcd") == ["abc", "b", "c", "d", "abc", "d"]


def test_a_merge_given_twice_counts_as_before() -> None:
    """The last one decides its rank: b c comes before a b."""
    whole = hand_made(bpe("a b c ab bc", [["a", "b"], ["b", "c"], ["a", "b"]]))
    assert whole.tokenize("abc") == ["a", "bc"]
    small = cut(whole, ["abc ab"])
    assert small.tokenizer.tokenize("abc ab") == ["a", "bc", "ab"]
    assert tokenizer_json.read(small.tokenizer)["model"]["merges"] == [["b", "c"], ["a", "b"]]


def test_a_word_that_no_merge_makes_stays_where_merges_are_ignored() -> None:
    merges = [["a", "b"], ["b", "c"], ["bc", "d"]]
    whole = hand_made(bpe("a b c d ab bc bcd abcd", merges, ignore_merges=True))
    small = cut(whole, ["abcd"])
    assert small.kept.tolist() == [0, 1, 2, 3, 7]
    assert small.tokenizer.tokenize("abcd abcdd bcd") == ["abcd", *"abcdd", *"bcd"]


def test_merge_path_by_hand() -> None:
    marked = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    plain = dict.fromkeys(marked)
    ranks = {
        ("b", "c"): 0,
        ("a", "b"): 1,
        ("a", "bc"): 2,
        ("##t", "##s</w>"): 3,
        ("ca", "##ts</w>"): 4,
        ("c", "##a"): 5,
    }
    path = tokenizer_json.merge_path
    assert path("abc", ranks, plain) == {"a", "b", "c", "bc", "abc"}
    assert path("ab", ranks, plain) == {"a", "b", "ab"}
    assert path("ca", ranks, plain) == set()
    assert path("a", ranks, plain) == {"a"}
    assert path("", ranks, plain) == {""}
    assert path("cats</w>", ranks, marked) == {"c", "##a", "##t", "##s</w>", "ca", "##ts</w>", "cats</w>"}
    assert path("##ts</w>", ranks, marked) == {"##t", "##s</w>", "##ts</w>"}


def test_the_price_of_an_unknown_character_stays() -> None:
    """`rare` is seen nowhere, but its score is the least, and an unknown character's lies 10 below it: at -30, `x` and
    `bcd` make -31, less than the -25 of `xb`, `c`, `d`. Without `rare` it would be -19, and they -20.
    """
    scores = {"<unk>": 0, "rare": -20, "xb": -9, "b": -8, "c": -8, "d": -8, "bcd": -1, "lost": -4}
    vocabulary = [[piece, float(score)] for piece, score in scores.items()]
    whole = hand_made({"type": "Unigram", "vocab": vocabulary, "unk_id": 0, "byte_fallback": False})
    small = cut(whole, ["xbcd bcd"])
    assert small.tokenizer.get_vocab().keys() == scores.keys() - {"lost"}
    assert small.tokenizer.tokenize("xbcd bcd") == whole.tokenize("xbcd bcd") == ["xb", "c", "d", "bcd"]


def test_the_tokenizer_given_is_left_as_it_is(pairs: Callable[[str], Pair]) -> None:
    whole = copy.deepcopy(pairs("wordpiece")[0])
    whole("a text", truncation=True, padding="max_length")
    before = whole.backend_tokenizer.to_str()
    small = cut(whole, ["good " * 100])
    assert whole.backend_tokenizer.to_str() == before
    assert small.tokenizer.backend_tokenizer.truncation == whole.backend_tokenizer.truncation
