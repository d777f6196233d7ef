"""The latency table: from medians to what a layer costs, measured on a tiny model, and where pruning reads it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support_kinds import dataset_of, trained

from edgeft import recipe
from edgeft.compress.distill.distillation_data import with_bits
from edgeft.compress.prune import latency_table
from edgeft.compress.prune.structure import Cut
from edgeft.data import dataset as datasets
from edgeft.pipeline import latency
from edgeft.pipeline.stages import in_run, steps
from edgeft.recipe import BenchConfig, PruneConfig


def test_a_table_of_medians_by_hand() -> None:
    cuts = {
        "whole": Cut([4, 4, 4], [80, 80, 80], 64, 3),
        "one layer": Cut([4, 4, 4], [80, 80, 80], 64, 1),
        "few heads": Cut([2, 2, 2], [80, 80, 80], 64, 3),
        "few channels": Cut([4, 4, 4], [40, 40, 40], 64, 3),
        "few of both": Cut([2, 2, 2], [40, 40, 40], 64, 3),
    }
    timed = {"whole": 7.0, "one layer": 3.0, "few heads": 5.5, "few channels": 4.0, "few of both": 2.2}
    found = latency.table(timed, cuts, 1, 9, 64, {})
    assert found.base_ms == 1.0
    assert found.layers_ms == {4: {80: 2.0, 40: 1.0}, 2: {80: 1.5, 40: pytest.approx(0.4)}}
    for name, cut in cuts.items():
        if name != "one layer":
            assert found.predict(cut.heads or (), cut.channels or ()) == pytest.approx(timed[name])
    assert found.predict([4], [80]) == timed["one layer"]
    single = latency.table({"whole": 7.0}, {"whole": Cut([4], [80], 64, 1)}, 1, 9, 64, {})
    assert (single.base_ms, single.layers_ms) == (0.0, {4: {80: 7.0}})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Draws each form once for all tests here."""
    graphs: dict[str, Any] = {}

    def draw(source: Path, cut: Cut, dataset: Any, _: Path) -> Any:
        if str(cut) not in graphs:
            graphs[str(cut)] = whole(source, cut, dataset, tmp_path_factory.mktemp("form") / "scratch")
        return graphs[str(cut)]

    whole = latency.export_cut
    return draw


@pytest.fixture
def few_forms(drawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five forms instead of seven, and 50 queries instead of a thousand."""
    monkeypatch.setattr(latency, "export_cut", drawn)
    monkeypatch.setattr(latency, "SHARES", (0, 0.8))
    monkeypatch.setattr(latency, "LEAST_QUERIES", 50)


@pytest.mark.usefixtures("few_forms")
def test_the_stage_measures_each_form_side_by_side(tiny_tokenizer: Any, tmp_path: Path) -> None:
    datasets.save(dataset_of("single-label"), tmp_path / "data")
    model = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "model")
    inputs = {"data": tmp_path / "data", "model": model}
    done = latency.run(BenchConfig(queries=10, warmup=1, seed=0), inputs, tmp_path / "latency")
    found = latency_table.read(tmp_path / "latency" / latency_table.FILE)
    assert done.metrics["forms"] == 1 + 2 * 2
    assert (found.width, found.precision, found.texts, found.threads) == (64, "int8", 12, 1)
    assert {heads: set(row) for heads, row in found.layers_ms.items()} == {heads: {16, 64} for heads in (1, 2)}
    assert found.machine["processor"]


@pytest.mark.parametrize(
    ("options", "wanted", "read"),
    [
        ({}, False, None),
        ({"max_latency_ms": 1.0}, True, "run/latency/latency.json"),
        ({"max_latency_ms": 1.0, "latency_table": "phone.json"}, False, "phone.json"),
        ({"max_latency_ms": 1.0, "enabled": False}, False, None),
    ],
)
def test_a_table_is_measured_where_pruning_needs_one(options: dict[str, Any], wanted: bool, read: str | None) -> None:
    whole = dataclasses.replace(recipe.resolve(recipe.Recipe()), prune=PruneConfig(**options))
    found = {step.name: step for step in steps(whole, in_run(Path("run")))}
    assert ("latency" in found) == wanted
    if read is not None:
        assert found["prune"].inputs()["latency"] == Path(read)
    elif "prune" in found:
        assert "latency" not in found["prune"].inputs()


def test_training_in_int8_knows_the_bits_of_the_export() -> None:
    whole = recipe.load("small", {"export.weight_bits": 4, "export.embedding_bits": 8})
    told = with_bits(whole.prune, whole.export)
    assert (told.weight_bits, told.embedding_bits) == (4, 8)
    own = dataclasses.replace(whole.prune, weight_bits=8)
    assert with_bits(own, whole.export).weight_bits == 8
    without = dataclasses.replace(whole.prune, int8_epochs=0.0)
    assert with_bits(without, whole.export) == without


@pytest.mark.usefixtures("few_forms")
def test_the_bench_writes_the_same_table(run: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    datasets.save(dataset_of("single-label"), tmp_path / "data")
    model = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "model")
    table = ("bench", model, "--latency-table", tmp_path / "table.json", "--data", tmp_path / "data")
    code, shown, err = run(*table, "--seconds", 0.1, "--rounds", 2)
    assert code == 0, err
    assert "table.json: a layer with everything takes" in shown
    found = latency_table.read(tmp_path / "table.json")
    assert (found.width, found.threads) == (64, 1)
    assert {heads: set(row) for heads, row in found.layers_ms.items()} == {heads: {16, 64} for heads in (1, 2)}
    for words, said in {
        ("bench", model, model, "--latency-table", "t.json"): "of one folder of transformers, with --data FOLDER",
        ("bench", model, "--latency-table", "none/t.json", "--data", tmp_path / "data"): "there is no folder none",
        ("bench", tmp_path, "--latency-table", tmp_path / "t.json", "--data", tmp_path / "data"): "config.json",
    }.items():
        code, _, err = run(*words)
        assert (code, said in err) == (2, True), err
