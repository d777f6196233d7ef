"""Measuring a tiny real artifact."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from support_counts import TEXTS, write_artifact

from edgeft import artifact
from edgeft.bench import measure
from edgeft.bench.harness.scenarios.single import LEAST_QUERIES
from edgeft.errors import ArtifactError, EdgeftError, UserError
from edgeft.recipe import BenchConfig

CONFIG = BenchConfig(queries=12, warmup=2, batch_size=2, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("bench") / "run" / "artifact")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "cold_start", functools.partial(measure.cold_start, runs=measure.COLD_RUNS))
        return measure.measure(folder, TEXTS, CONFIG, labels=["positive", "negative", "negative"])


def test_measures_everything_with_its_conditions(measured: dict[str, Any], folder: Path) -> None:
    assert measured["artifact"] == "artifact"
    assert measured["latency"]["queries"] == 12
    assert 0 < measured["latency"]["p50_ms"] <= measured["latency"]["p99_ms"]
    assert measured["throughput_texts_per_s"] > 0
    assert measured["texts"] == {"rows": 3, "median_tokens": 1.0, "max_tokens": 2}
    assert (measured["threads"], measured["batch_size"], measured["precision"]) == (1, 2, "fp32")
    assert measured["quality"] == {"accuracy": pytest.approx(2 / 3), "rows": 3}
    sizes = measured["size"]
    assert sizes["model_bytes"] == (folder / artifact.MODEL).stat().st_size
    assert sizes["device_bytes"] == sizes["model_bytes"] + sizes["tokenizer_bytes"] < sizes["folder_bytes"]
    assert "processor" in measured["machine"]


def test_the_pipeline_asks_as_many_queries_as_a_p99_wants() -> None:
    assert BenchConfig().queries == LEAST_QUERIES


def test_cold_start_comes_from_a_fresh_process(measured: dict[str, Any]) -> None:
    cold = measured["cold_start"]
    parts = cold["import_ms"] + cold["load_ms"] + cold["first_answer_ms"]
    assert 0 < cold["first_answer_ms"] < parts < cold["process_ms"] * 1.5
    assert 5e6 < cold["peak_rss_bytes"] < 1e9
    assert cold["runs"] == measure.COLD_RUNS


def test_the_document_is_plain_json_without_paths(measured: dict[str, Any], folder: Path) -> None:
    assert json.loads(json.dumps(measured)) == measured
    assert str(folder) not in json.dumps(measured)


@pytest.mark.parametrize(
    ("labels", "message"), [(["positive"], "3 texts but 1 labels"), (["positive", "x", "negative"], "label 'x'")]
)
def test_labels_that_do_not_fit(folder: Path, labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure.measure(folder, TEXTS, CONFIG, labels)


def test_a_cold_start_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"cold start of none failed with exit code 1: .*no such artifact"):
        measure.cold_start(tmp_path / "none", "x", 1)


def test_golden_texts(folder: Path, tmp_path: Path) -> None:
    assert measure.texts_of(folder) == TEXTS
    with pytest.raises(ArtifactError, match="give texts"):
        measure.texts_of(tmp_path)
    for content, message in (("{", "can't be read"), ("[]", "can't be read"), ('{"rows": []}', "no rows")):
        (tmp_path / artifact.GOLDEN).write_text(content)
        with pytest.raises(ArtifactError, match=message):
            measure.texts_of(tmp_path)


def test_names_are_the_shortest_that_differ(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "artifact", tmp_path / "b" / "artifact"]
    assert measure.names_of(paths[:1]) == ["artifact"]
    assert measure.names_of(paths) == ["a/artifact", "b/artifact"]
    assert measure.names_of([paths[0], paths[0]]) == ["artifact", "artifact (2)"]
