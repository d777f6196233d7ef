"""Texts of one length, what is installed, and a pace that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from support_counts import write_artifact

from edgeft.bench.harness import lengths
from edgeft.bench.harness.conditions import installed
from edgeft.bench.harness.scenarios.sustained import measure_sustained
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject, subjects
from edgeft.errors import UserError


def pieces(text: str) -> int:
    """Two tokens around the text, one for every three letters of a word."""
    return 2 + sum(-(-len(word) // 3) for word in text.split())


@pytest.mark.parametrize("tokens", [3, 4, 17, 128])
def test_texts_have_exactly_so_many_tokens(tokens: int) -> None:
    given = [
        "a fine film about nothing",
        "an unnecessarily long remark",
        "its plot is told in the very first of three hours",
    ]
    made = lengths.make_texts(given, tokens, pieces)
    assert len(made) == lengths.TEXTS
    assert {pieces(text) for text in made} == {tokens}
    assert len(set(made)) > 1 or tokens < 5


def test_a_length_that_cant_be_made_is_said() -> None:
    with pytest.raises(UserError, match="no text of exactly this length could be made; the nearest has 3"):
        lengths.make_texts(["a b c"], 500, lambda text: min(3, pieces(text)))
    with pytest.raises(UserError, match="the nearest has 2 tokens"):
        lengths.make_texts([], 5, pieces)


def test_the_first_subjects_tokenizer_counts(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "counts")
    for place in (folder, folder / "model.onnx"):
        count = lengths.token_counter(subjects([str(place)], 1, None, None)[0])
        assert count("good bad good") == 3
    cut = subjects([str(folder / "model.onnx")], 1, None, 4)[0]  # what it never runs isn't counted
    with pytest.raises(UserError, match="no text of exactly this length could be made; the nearest has 4"):
        lengths.make_texts(["good bad good"], 6, lengths.token_counter(cut))
    with pytest.raises(UserError, match="--tokens counts by the first subject's tokenizer"):
        lengths.token_counter(Subject(name="a", kind="http", place="http://a", opener=""))


def test_what_is_installed_has_bytes() -> None:
    names = set(installed._needed())
    assert {"edgeft", "numpy", "onnxruntime", "tokenizers", "msgspec"} <= names
    assert not names & {"torch", "pytest", "litestar", "matplotlib"}
    assert installed.install_bytes() > 50e6


class Slowing:
    """A child whose queries take a millisecond more in each window."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def request(self, do: str, first: int, count: int) -> dict[str, Any]:
        assert first == 0  # the same texts in each window
        self.counts.append(count)
        return {"ms": [float(len(self.counts))] * count}


def test_the_last_pace_stands_beside_the_first() -> None:
    child = Slowing()
    found = measure_sustained(cast(Child, child), 1.0, 6.0)
    assert child.counts == [500] * 12
    assert (found.burst_ms, found.sustained_ms) == (1.0, 12.0)
    assert found.windows_ms == [float(place) for place in range(1, 13)]
