"""Names and places through presidio, with a spaCy pipeline made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.cleaning import Cleaning, cleaner
from edgeft.errors import ModelError

pytest.importorskip("presidio_analyzer")
spacy = pytest.importorskip("spacy")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spaCy folder that knows two people and a town."""
    nlp = spacy.blank("en")
    people = [{"label": "PERSON", "pattern": name} for name in ("Ada Lovelace", "Alan Turing", "NAME_1")]
    nlp.add_pipe("entity_ruler").add_patterns([*people, {"label": "GPE", "pattern": "London"}])
    folder = tmp_path_factory.mktemp("spacy") / "names"
    nlp.to_disk(folder)
    return str(folder)


def test_names_and_places_are_replaced_alike_within_a_text(model: str) -> None:
    clean = cleaner(Cleaning(names_model=model))
    once = clean("Ada Lovelace and Alan Turing met in London; Ada Lovelace left.")
    assert once == "[NAME_1] and [NAME_2] met in [PLACE_1]; [NAME_1] left."
    assert clean(once) == once
    assert clean("") == ""


def test_capitals_are_still_there_when_names_are_looked_for(model: str) -> None:
    whole = Cleaning(steps=["whitespace", "lowercase"], anonymise=["email"], names_model=model)
    assert cleaner(whole)("Ada  Lovelace, ada@x.org, of LONDON") == "[NAME_1], [EMAIL_1], of london"


def test_any_string_is_taken_however_long(model: str) -> None:
    clean = cleaner(Cleaning(names_model=model))
    assert clean("\ud800 Alan Turing \x00") == "\ud800 [NAME_1] \x00"
    long = clean("Ada Lovelace wrote it. " * 5_000 + "x" * 60_000)
    assert long.count("[NAME_1] wrote") >= 4_998
    assert clean("x" * 1_000_001) == "x" * 1_000_001


def test_a_missing_or_broken_model_is_one_line_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(spacy.cli, "download", download)
    for name in ("en_core_web_lg_of_nobody", str(tmp_path / "nothing")):
        with pytest.raises(ModelError, match=r"no spaCy model .*: install its package or give its folder"):
            cleaner(Cleaning(names_model=name))
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        cleaner(Cleaning(names_model=str(tmp_path)))
    assert "\n" not in str(caught.value)
