"""Hostile recipes, settings and spaces are one line; mutated files of rows and recipes end in no traceback."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import hostile_rows
import pytest

from edgeft import recipe
from edgeft.errors import RecipeError
from edgeft.recipe import bounded_yaml
from edgeft.search import space

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "aliases": (LAUGHS, "more than 20,000 values, aliases written out"),
    "itself": ("a: &a [*a]", "the alias *a stands inside what it stands for"),
    "nesting": ("a: " + "[" * 5_000 + "]" * 5_000, "nest more than 32 deep"),
    "block nesting": ("".join(f"{' ' * i}a:\n" for i in range(400)), "nest more than 32 deep"),
    "digits": ("seed: " + "1" * 5_000, "a number has more than 400 digits; a text goes in quotes"),
    "size": ("a: " + "b" * 300_000, "more than 262,144 characters, which no recipe has"),
    "date": ("data: {test_from: 2024-13-45}", "a value can't be read (month must be in 1..12); put it in quotes"),
    "tag": ("seed: !!int x", "a value can't be read ("),
    "constructor": ("seed: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_recipe_space_or_setting_is_one_line(name: str, tmp_path: Path) -> None:
    text, said = HOSTILE[name]
    (tmp_path / "a.yaml").write_text(text)
    reads: list[Any] = [
        lambda: recipe.load(str(tmp_path / "a.yaml")),
        lambda: space.read(tmp_path / "a.yaml", recipe.load(None)),
        lambda: recipe.parse_settings([f"distill.epochs={text}"]),
    ]
    for read in reads:
        start = time.perf_counter()
        with pytest.raises(RecipeError) as caught:
            read()
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert time.perf_counter() - start < 5


def test_anchors_of_an_honest_recipe_are_read() -> None:
    text = "base: &base {epochs: 2}\ndistill: {<<: *base, batch_size: 8}\nlong: '" + "1" * 500 + "'\n"
    assert bounded_yaml.read(text)["distill"] == {"epochs": 2, "batch_size": 8}


def test_mutations_end_in_no_traceback(tmp_path: Path) -> None:
    counts, wrong = hostile_rows.fuzz(90, 7, tmp_path)
    assert wrong == []
    assert counts["refused"] > 50
    assert sum(counts.values()) == 90


def test_the_fuzzer_sees_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: Path, chance: random.Random) -> None:
        raise ValueError("found")

    monkeypatch.setitem(hostile_rows.COMMANDS, "data", broken)
    counts, wrong = hostile_rows.fuzz(3, 0, tmp_path, ("data",))
    assert counts == {"traceback": 3}
    assert "ValueError: found" in wrong[0]
