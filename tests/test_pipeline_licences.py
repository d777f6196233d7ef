"""What card and manifest say of licences: what the sources say, else nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.data.read import sources
from edgeft.models import model_sources
from edgeft.pipeline.shipping import licences
from edgeft.recipe import DataConfig


def model_folder(folder: Path, card: str | None) -> Path:
    """A folder that `models.find` takes."""
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")  # a head that names no weight
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\r\nlicense: 'mit' # as upstream\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense:\n- mit\n- apache-2.0\ntags:\n- bert\n---\n", "mit, apache-2.0"),
        ("---\nlicense: [mit, cc-by-4.0]\n---\n", "mit, cc-by-4.0"),
        ("---\nlanguage: en\n---\nlicense: mit\n", "unknown"),  # in the text, not in the front matter
        ("# A model\nlicense: gpl\n", "unknown"),
        ("---\nlicense:\n---\n", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_models_licence_is_that_of_its_cards_front_matter(card: str | None, licence: str, tmp_path: Path) -> None:
    assert licences.of_model(str(model_folder(tmp_path / "model", card))) == licence


def test_a_demo_model_has_the_licence_of_its_card_else_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert licences.of_model("demo:all-minilm-l6-v2") == "apache-2.0"
    monkeypatch.setattr(model_sources, "find", lambda _: model_folder(tmp_path / "bare", None))
    assert licences.of_model("demo:all-minilm-l6-v2") == "MIT"


def test_a_model_of_a_hub_or_one_that_is_gone_has_no_known_licence(tmp_path: Path) -> None:
    assert licences.of_model("organisation/model") == "unknown"
    assert licences.of_model(str(tmp_path / "gone")) == "unknown"


def test_the_datas_licence_is_that_of_the_demo_package_or_of_its_folder(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,b\n")
    folder, saved = tmp_path / "folder", tmp_path / "saved"
    for made in (folder, saved):
        made.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    (saved / "dataset_info.json").write_text(json.dumps({"license": "cc-by-4.0"}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")  # of something else: rows.csv only lies beside it
    assert licences.of_data(DataConfig(file="demo:rotten-tomatoes")) == "MIT"
    assert licences.of_data(DataConfig(file=str(rows))) == "unknown"
    assert licences.of_data(DataConfig(file=str(folder))) == "cc0-1.0"
    assert licences.of_data(DataConfig(file=str(saved))) == "cc-by-4.0"
    assert licences.of_data(DataConfig(file=[str(folder), str(rows)])) == "cc0-1.0, unknown"
    assert licences.of_data(DataConfig(file=str(folder), test_file="demo:rotten-tomatoes")) == "cc0-1.0, MIT"


def test_a_package_that_is_not_installed_has_no_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEMO_PACKAGE", "no_such_package")
    assert licences.of_data(DataConfig(file="demo:rotten-tomatoes")) == "unknown"
