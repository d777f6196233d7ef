"""Back-translation through tiny Marian folders, loaded the way real ones are."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_generators import tiny_marian

from edgeft.errors import MissingExtraError, ModelError
from edgeft.recipe import AugmentConfig
from edgeft.train.augment import translate
from edgeft.train.augment.augment import create_translation_augment
from edgeft.train.generate import Cache

pytest.importorskip("sentencepiece")

CPU = torch.device("cpu")
TEXTS = [
    "a good film",
    "the plot was awful and so was the actor, a very long story that was sad",
    "fun",
    "this bad plot",
]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_marian(tmp_path_factory.mktemp("marian") / "there")


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_marian(tmp_path_factory.mktemp("marian") / "back", seed=1)


@pytest.fixture(scope="module")
def loaded(marian: Path) -> tuple[Any, Any]:
    return translate.load(str(marian), CPU)


def config(marian: Path, back: Path, **more: Any) -> AugmentConfig:
    models: dict[str, Any] = {"translate_to": str(marian), "translate_back": str(back)}
    return AugmentConfig(methods=["back_translation"], batch_size=2, seed=0, **models, **more)


def test_a_marian_folder_passes_and_loads_without_a_word(
    marian: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    translate.check("translate_to", str(marian))
    model, tokenizer = translate.load(str(marian), CPU)
    assert type(model).__name__ == "MarianMTModel"
    assert tokenizer.model_max_length == 48
    assert translate.language_prefix(tokenizer, "m") == ""
    assert capsys.readouterr().err == ""
    assert not [warning for warning in recwarn if "sacremoses" in str(warning.message)]


def test_a_batch_translates_like_single_texts(loaded: tuple[Any, Any]) -> None:
    together = translate.translate(*loaded, TEXTS)
    assert together == [translate.translate(*loaded, [text])[0] for text in TEXTS]
    seeds = [5, 6, 7, 8]
    drawn = translate.translate(*loaded, TEXTS, seeds)
    alone = [translate.translate(*loaded, [text], [seed])[0] for text, seed in zip(TEXTS, seeds, strict=True)]
    assert drawn == alone
    assert drawn != together
    assert translate.translate(*loaded, TEXTS, [9, 10, 11, 12]) != drawn


def test_a_long_text_is_truncated(loaded: tuple[Any, Any]) -> None:
    assert len(translate.translate(*loaded, ["good film " * 100])) == 1


def test_noise_makes_the_draws_of_a_softmax() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0, -9.0]]).repeat(4000, 1)
    sampling = translate.TopKSampling(range(4000), choices=3)
    counts = Counter(sampling(torch.zeros(4000, 1), scores).argmax(dim=1).tolist())
    expected = torch.tensor([2.0, 1.0, 0.0]).softmax(0).tolist()
    assert set(counts) == {0, 1, 2}
    assert [counts[token] / 4000 for token in range(3)] == pytest.approx(expected, abs=0.03)


def test_another_copy_costs_one_direction_and_moves_no_copy_before_it(
    marian: Path, back: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_sizes: list[int] = []
    real = translate.translate

    def counted(model: Any, tokenizer: Any, texts: Any, *rest: Any) -> list[str]:
        batch_sizes.append(len(texts))
        return real(model, tokenizer, texts, *rest)

    monkeypatch.setattr(translate, "translate", counted)
    chosen = config(marian, back, copies=2)

    def copies(folder: Path, *numbers: int) -> list[list[str]]:
        batch_sizes.clear()
        augment = create_translation_augment(chosen, CPU, Cache(folder))
        return [augment(TEXTS, copy) for copy in numbers]

    (first,) = copies(tmp_path, 1)
    assert sum(batch_sizes) == 2 * len(TEXTS)
    assert copies(tmp_path, 1, 2)[0] == first
    assert sum(batch_sizes) == len(TEXTS)
    second = copies(tmp_path, 2)[0]
    assert batch_sizes == []
    assert second != first
    assert copies(tmp_path / "elsewhere", 1, 2) == [first, second]


def test_what_is_no_marian_model_is_refused(marian: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"augment.translate_to=.*: BertModel is no Marian translation model"):
        translate.check("translate_to", str(tiny_model))
    with pytest.raises(ModelError, match="nowhere: no such model folder"):
        translate.check("translate_back", str(tmp_path / "nowhere"))
    many = tiny_marian(tmp_path / "many", codes=[">>fra<<", ">>ita<<"])
    with pytest.raises(ModelError, match=r"translates into 2 languages \(>>fra<<, >>ita<<, ...\)"):
        translate.Translator(str(many), CPU).beam_search(["a film"])


def test_the_only_language_code_stands_before_the_text(tmp_path: Path) -> None:
    _, tokenizer = translate.load(str(tiny_marian(tmp_path / "one", codes=[">>deu<<"])), CPU)
    prefix = translate.language_prefix(tokenizer, "m")
    ids = tokenizer([f"{prefix}a film"])["input_ids"][0]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == ">>deu<<"
    assert tokenizer.unk_token_id not in ids


def test_the_missing_package_is_named(marian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match="sentencepiece is not installed and is needed to translate"):
        translate.check("translate_to", str(marian))
