"""Names and places, detected by presidio-analyzer with an installed spaCy model; nothing is downloaded."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from edgeft.cleaning import placeholders
from edgeft.cleaning.placeholders import Found
from edgeft.cleaning.settle import Step, settle
from edgeft.errors import ModelError, require

PURPOSE = "to find names and places"
WINDOW = 50_000  # characters; spaCy refuses more than a million, and its memory grows with the length
SURROGATE = re.compile("[\ud800-\udfff]")
KIND_OF = {"PERSON": "name", "LOCATION": "place"}


class Finder:
    """A loaded spaCy model; calls from several threads are serialized, as spaCy guarantees no more.

    Args:
        model: an installed package's name, or a folder.

    Raises:
        MissingExtraError: presidio-analyzer is not installed.
        ModelError: no such model, or one that can't be loaded.
    """

    def __init__(self, model: str) -> None:
        nlp = _load(model)
        presidio: Any = require("presidio_analyzer", PURPOSE)
        engines: Any = require("presidio_analyzer.nlp_engine", PURPOSE)
        recognizers: Any = require("presidio_analyzer.predefined_recognizers", PURPOSE)
        engine = engines.SpacyNlpEngine(models=[{"lang_code": nlp.lang, "model_name": model}])
        engine.nlp = {nlp.lang: nlp}  # loaded here, as presidio would download a missing model
        recognizer = recognizers.SpacyRecognizer(supported_language=nlp.lang, supported_entities=list(KIND_OF))
        self._language = nlp.lang
        self._analyzer = presidio.AnalyzerEngine(
            registry=presidio.RecognizerRegistry(recognizers=[recognizer], supported_languages=[nlp.lang]),
            nlp_engine=engine,
            supported_languages=[nlp.lang],
        )
        self._lock = threading.Lock()

    def find(self, text: str) -> list[Found]:
        """Names and places in order, without overlaps; placeholders are skipped."""
        shown = SURROGATE.sub("\ufffd", text)  # spaCy takes UTF-8 only
        with self._lock:
            entities = [item for window in windows(shown) for item in self._find_in(window, shown)]
        return placeholders.apart(text, entities)

    def _find_in(self, window: slice, text: str) -> list[Found]:
        results = self._analyzer.analyze(text[window], language=self._language, entities=list(KIND_OF))
        return [
            Found(KIND_OF[item.entity_type], window.start + item.start, window.start + item.end) for item in results
        ]


def windows(text: str) -> Iterator[slice]:
    """The text in parts of at most `WINDOW` characters, divided at white space if there is any."""
    start = 0
    while start < len(text):
        end = start + WINDOW
        if end < len(text):
            end = max(text.rfind(gap, start + 1, end) for gap in " \n")
            end = end if end > start else start + WINDOW
        yield slice(start, end)
        start = end


def _load(model: str) -> Any:
    spacy: Any = require("spacy", PURPOSE)
    if not (spacy.util.is_package(model) or Path(model).is_dir()):
        raise ModelError(f"cleaning: no spaCy model {model!r}: install its package or give its folder")
    try:
        return spacy.load(model)
    except Exception as error:  # noqa: BLE001 - whatever a foreign pipeline raises while it is built
        detail = " ".join(str(error).split())[:200]
        raise ModelError(f"cleaning: spaCy model {model!r} can't be loaded: {detail}") from None


@lru_cache(maxsize=2)
def finder(model: str) -> Finder:
    """The finder of a model, loaded once in a process."""
    return Finder(model)


def names_anonymiser(model: str) -> Step:
    """The function that replaces names and places by `[NAME_1]`, `[PLACE_1]`, ...

    A model may detect another name once the first is replaced, so it runs until it finds nothing.

    Raises:
        As `Finder`.
    """
    return partial(_anonymise, finder(model))


def _anonymise(names: Finder, text: str) -> str:
    return settle(partial(_replace_once, names), text, lambda text: text)


def _replace_once(names: Finder, text: str) -> str:
    entities = names.find(text) if text and not text.isspace() else []
    return placeholders.replace(text, entities) if entities else text
