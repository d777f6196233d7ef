"""Vocabulary pruning: which tokens stay, the embeddings that go with them, and what it does to held-out rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_encoders import SHAPES, SMALL
from support_tokenizers import trained
from tiny_language import language_model
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from edgeft.compress.prune.structure import cut_by_ratios, prune
from edgeft.compress.prune.vocabulary import chosen, cut, cut_embeddings, occurrences, report
from edgeft.errors import ModelError
from edgeft.models import model_folder

LLAMA = {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 80}
ENCODERS: dict[str, dict[str, Any]] = {
    kind: {**SHAPES[kind], "max_position_embeddings": 80} for kind in ("bert", "roberta", "distilbert")
} | {"modernbert": {**LLAMA, "num_attention_heads": 2, "local_attention": 16}, "llama": LLAMA}


@pytest.fixture(scope="module")
def texts(movie_rows: list[tuple[str, str]]) -> list[str]:
    return [text for text, _ in movie_rows[:300]]


@pytest.fixture(scope="module")
def whole(texts: list[str]) -> Any:
    return trained("byte-level", texts)


def config_of(kind: str, tokenizer: Any) -> Any:
    """Of a tiny model whose config names the tokenizer's special tokens."""
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    return AutoConfig.for_model(kind, vocab_size=len(tokenizer), **(ENCODERS[kind] | ids))


def noisy(model: Any) -> Any:
    """Biases that are not zero either."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def classifier(kind: str, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return noisy(AutoModelForSequenceClassification.from_config(config_of(kind, tokenizer)))


@torch.no_grad()
def logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    found: torch.Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """A product with fewer columns may add up in another order."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- which tokens stay


def alone(token_id: int) -> set[int]:
    return {token_id}


@pytest.mark.parametrize(
    ("size", "kept"),
    [(None, {0, 1, 2, 3, 5}), (3, {0, 1, 2}), (1, {1}), (9, {0, 1, 2, 3, 5})],  # 2 and 3 are equal, the lower id stays
)
def test_choice_by_hand(size: int | None, kept: set[int]) -> None:
    assert chosen(np.array([0.5, -1, 0.3, 0.3, -1, 0.0]), {1}, alone, size) == kept


def test_of_many_equals_the_lowest_ids_stay() -> None:
    assert chosen(np.array([0.1, 0.2] * 500), set(), alone, 600) == {*range(1, 1000, 2), *range(0, 200, 2)}


@pytest.mark.parametrize(("min_count", "words"), [(1, {"good", "film", "plot"}), (2, {"good", "film"}), (4, {"good"})])
def test_a_token_needs_its_occurrences(min_count: int, words: set[str], tiny_tokenizer: Any) -> None:
    rows, others = ["good film good"], ["film plot", "good good"]
    found = cut(tiny_tokenizer, rows, None, min_count, others).tokenizer
    assert words == {word for word in ("good", "film", "plot", "bad") if word in found.get_vocab()}


def test_few_rows_count_as_much_as_many_texts(tiny_tokenizer: Any) -> None:
    rows, others = ["actor so"], ["good plot film", "good plot", "good"] * 100
    for size, words in ((57, {"good"}), (58, {"good", "actor"}), (60, {"good", "actor", "so", "plot"})):
        found = cut(tiny_tokenizer, rows, size, 1, others).tokenizer
        assert words == {word for word in ("good", "film", "plot", "actor", "so") if word in found.get_vocab()}


def test_a_token_comes_with_its_support_or_not_at_all() -> None:
    """5 needs 3 and 4: for three there is no room, so the next one that fits takes the place."""
    needed = np.array([-1, 0.2, -1, -1, -1, 0.9])
    needs = {5: {3, 4, 5}}
    for size, kept in ((2, {0, 1}), (3, {0, 1}), (4, {0, 3, 4, 5}), (5, {0, 1, 3, 4, 5})):
        assert chosen(needed, {0}, lambda token_id: needs.get(token_id, {token_id}), size) == kept


def test_occurrences_by_hand(tiny_tokenizer: Any) -> None:
    """Whole texts count, longer than the model takes, and without what the template adds."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer("good", truncation=True, padding="max_length")
    counts = occurrences(tokenizer, ["good " * 40 + "bad", "", "good xy \u2603"])
    found = {tokenizer.convert_ids_to_tokens(int(at)): int(counts[at]) for at in np.flatnonzero(counts)}
    assert found == {"good": 41, "bad": 1, "x": 1, "##y": 1, "[UNK]": 1}
    assert len(counts) == len(tokenizer)
    assert occurrences(tokenizer, []).sum() == 0


def test_size_counts_every_token(tiny_tokenizer: Any) -> None:
    """4 special tokens and 26 letters twice, of which `a` is a word too, are 56; the other 14 words may go."""
    assert len(tiny_tokenizer) == 70
    assert len(cut(tiny_tokenizer, []).kept) == 56
    small = cut(tiny_tokenizer, ["good good film the film good", "plot"], size=58)
    assert {"good", "film"} == set(small.tokenizer.get_vocab()) - set(cut(tiny_tokenizer, []).tokenizer.get_vocab())
    assert len(small.tokenizer) == len(small.kept) == 58
    with pytest.raises(ModelError, match=r"a vocabulary of 55 tokens is too small: .* alone are 56; take"):
        cut(tiny_tokenizer, ["good"], size=55)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "byte-fallback", "marked", "unigram"])
def test_size_holds(kind: str, texts: list[str]) -> None:
    whole = trained(kind, texts)
    least = len(cut(whole, []).kept)
    for size in (least, least + 7, least + 100):
        assert size - 5 <= len(cut(whole, texts, size=size).kept) <= size


# ----------------------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("kind", ENCODERS)
def test_covered_texts_are_answered_alike_and_saved(kind: str, texts: list[str], whole: Any, tmp_path: Path) -> None:
    model = classifier(kind, whole)
    before = logits(model, whole, texts[:40])
    small = cut(whole, texts[:40])
    cut_embeddings(model, small.kept)
    assert model.get_input_embeddings().weight.shape == (len(small.kept), 32)
    assert model.config.vocab_size == len(small.kept) < len(whole)
    assert torch.equal(logits(model, small.tokenizer, texts[:40]), before)
    model_folder.save(model, small.tokenizer, tmp_path, 64)
    loaded, tokenizer = model_folder.load_classifier(tmp_path, None), model_folder.load_tokenizer(tmp_path)
    assert tokenizer(texts, truncation=True)["input_ids"] == small.tokenizer(texts, truncation=True)["input_ids"]
    assert torch.equal(logits(loaded, tokenizer, texts[:40]), before)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
def test_masked_language_models_keep_their_rows(kind: str, texts: list[str], whole: Any, tmp_path: Path) -> None:
    """The head is tied to the embeddings, its bias to nothing or to a second name."""
    torch.manual_seed(0)
    model = noisy(AutoModelForMaskedLM.from_config(config_of(kind, whole)))
    before = logits(model, whole, texts[:20])
    small = cut(whole, texts[:20])
    cut_embeddings(model, small.kept)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    close(logits(model, small.tokenizer, texts[:20]), before[..., small.kept])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    close(logits(loaded, small.tokenizer, texts[:20]), before[..., small.kept])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_causal_language_models_keep_their_rows(
    kind: str, tied: bool, texts: list[str], whole: Any, tmp_path: Path
) -> None:
    model = language_model(kind, vocabulary=len(whole))
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    short = [text[:80] for text in texts[:20]]
    before = logits(model, whole, short)
    small = cut(whole, short)
    cut_embeddings(model, small.kept)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    close(logits(model, small.tokenizer, short), before[..., small.kept])
    model_folder.save(model, small.tokenizer, tmp_path, 64)
    loaded = model_folder.load(tmp_path, model_folder.Head("AutoModelForCausalLM"))
    close(logits(loaded, model_folder.load_tokenizer(tmp_path), short), before[..., small.kept])


def test_a_model_of_fewer_heads_stays_so(texts: list[str], whole: Any, tmp_path: Path) -> None:
    model = classifier("bert", whole)
    prune(model, cut_by_ratios(model, heads=0.5, channels=0.5, width=0.25), "magnitude")
    before = logits(model, whole, texts[:10])
    small = cut(whole, texts[:10])
    cut_embeddings(model, small.kept)
    model_folder.save(model, small.tokenizer, tmp_path, 64)
    assert torch.equal(logits(model_folder.load_classifier(tmp_path, None), small.tokenizer, texts[:10]), before)


def test_ids_of_the_config_by_hand() -> None:
    model = language_model("llama", vocabulary=10)
    ids = {"bos_token_id": 3, "eos_token_id": [5, 4, 9], "pad_token_id": 4, "decoder_start_token_id": 9}
    for config in (model.config, model.generation_config):
        for name, value in ids.items():
            setattr(config, name, value)
    model.generation_config.forced_eos_token_id = [4]
    embedding = model.get_input_embeddings()
    embedding.padding_idx = 4
    embedding.weight.requires_grad_(False)
    cut_embeddings(model, np.array([1, 3, 5, 9]))
    for config in (model.config, model.generation_config):
        named = (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.decoder_start_token_id)
        assert named == (1, [2, 3], None, 3)
    assert model.generation_config.forced_eos_token_id is None
    assert model.get_input_embeddings().padding_idx is None
    assert not model.get_input_embeddings().weight.requires_grad
    assert model.get_input_embeddings().num_embeddings == model.lm_head.out_features == 4


def test_the_padding_token_keeps_its_embedding_from_learning() -> None:
    """Rows 2 and 5 stay; 5 pads, so its gradient is zero under its new number."""
    config = AutoConfig.for_model("bert", vocab_size=6, pad_token_id=5, **SHAPES["bert"])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    cut_embeddings(model, np.array([2, 5]))
    assert model.config.pad_token_id == 1
    model(input_ids=torch.tensor([[0, 0, 1]]), labels=torch.tensor([1])).loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0


def test_what_does_not_fit_is_refused(whole: Any) -> None:
    model = classifier("bert", whole)
    with pytest.raises(ModelError, match=rf"has a token {len(whole)}, but the model embeddings for {len(whole)} tok"):
        cut_embeddings(model, np.array([0, len(whole)]))
    model = classifier("roberta", whole)
    with pytest.raises(ModelError, match="would change from 1 to 0, and a roberta model counts its positions from it"):
        cut_embeddings(model, np.array([1, 2]))
    with pytest.raises(ModelError, match="would change from 1 to None"):
        cut_embeddings(model, np.array([0, 2]))


# --------------------------------------------------------------------------------------------------------------- report


def test_report_by_hand(tiny_tokenizer: Any) -> None:
    """`good` falls into four letters; the second text is as before, and so is the empty one."""
    small = cut(tiny_tokenizer, ["bad film"])
    found = report(tiny_tokenizer, small.tokenizer, ["good film", "bad \u2603 \u2603", ""])
    assert found == {
        "vocabulary_tokens": {"before": 70, "after": 58},
        "tokens_per_text": {"before": 5 / 3, "after": 8 / 3},
        "unknown_tokens_share": {"before": 2 / 5, "after": 2 / 8},
        "alike_texts_share": 2 / 3,
        "covered_tokens_share": 4 / 5,
    }


def test_unknown_characters_of_unigram_are_counted(texts: list[str]) -> None:
    whole = trained("unigram", texts)
    found: dict[str, Any] = report(whole, cut(whole, texts[:50]).tokenizer, ["\u2603", "the"])
    assert found["unknown_tokens_share"]["before"] == pytest.approx(1 / 3)  # and a space before each text
    assert report(whole, whole, [""])["covered_tokens_share"] == 0


def test_minilm_on_real_rows(movie_rows: list[tuple[str, str]]) -> None:
    whole = model_folder.load_tokenizer("demo:all-minilm-l6-v2")
    texts, held_out = ([text for text, _ in movie_rows[start : start + 400]] for start in (0, 1000))
    small = cut(whole, texts)
    assert type(small.tokenizer) is type(whole)
    assert report(whole, small.tokenizer, texts)["alike_texts_share"] == 1
    found: dict[str, Any] = report(whole, small.tokenizer, held_out)
    assert 0.6 < found["covered_tokens_share"] < 0.95
    assert (
        found["tokens_per_text"]["before"] < found["tokens_per_text"]["after"] < 2 * found["tokens_per_text"]["before"]
    )
    assert found["unknown_tokens_share"] == {"before": 0, "after": 0}
    assert 1994 < len(small.kept) < 6000  # every single character, twice, and the words of 400 rows
