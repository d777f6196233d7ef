"""What ships: the ladder's decisions on a tiny classifier, its latencies given, its graphs and answers real."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeft.bench import machine
from edgeft.bench.race import Latency, Ratio, summary
from edgeft.data.dataset import Dataset, Split
from edgeft.errors import GateError, RecipeError
from edgeft.export.candidates import FP32, ExportCandidates, capture_candidates
from edgeft.export.package import (
    GOLDEN_ROWS,
    ROUNDED_TOLERANCE,
    TOLERANCE,
    Pair,
    check_count,
    choose_rows,
    measure_tolerance,
)
from edgeft.export.quantize import precision_search, rounding
from edgeft.export.quantize.precision_search import check_names, choose, objections, prove
from edgeft.export.quantize.precisions import IN_ORDER, PRECISIONS
from edgeft.models import model_folder
from edgeft.recipe import ExportConfig
from edgeft.runtime.machine import kernels
from edgeft.runtime.verify import MOST_TOLERANCE, GoldenRow

LABELS = ["a", "b", "c"]
CPU = [trial.name for trial in IN_ORDER if trial.provider == "CPUExecutionProvider" and trial.name != "fp32"]
FAST = dict.fromkeys(CPU, 0.5)


def texts_of(count: int, seed: int) -> list[str]:
    words = ("good", "bad", "fine", "awful", "great", "film", "plot", "actor", "the", "is", "so")
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words, generator.integers(3, 12))) for _ in range(count)]


def split_of(count: int, seed: int) -> Split:
    numbers = np.arange(count, dtype=np.int64)
    return Split(columns={"text": texts_of(count, seed)}, labels=numbers % len(LABELS), rows=numbers + 1)


@pytest.fixture(scope="module")
def laid(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportCandidates:
    """A captured classifier of which one matrix weighs far more than the others."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("ladder")
    (root / "scratch").mkdir()
    model = model_folder.load_classifier(tiny_model, LABELS)
    model.resize_token_embeddings(1100, mean_resizing=False)
    with torch.no_grad():
        model.classifier.weight.normal_()
        model.bert.encoder.layer[3].output.dense.weight.mul_(40)
    model_folder.save(model, model_folder.load_tokenizer(tiny_model), root / "model", 32)
    dataset = Dataset("text-classification", LABELS, split_of(12, 0), split_of(40, 1), split_of(12, 2), [])
    return capture_candidates(ExportConfig(smoothing=0.5), root / "model", dataset, root / "scratch")


def bed_of(laid: ExportCandidates, **options: Any) -> ExportCandidates:
    """The same candidates with other bounds."""
    return dataclasses.replace(laid, config=dataclasses.replace(laid.config, **options))


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds of each contender of every race; fp32 takes 1."""
    given: dict[str, float] = {}

    def race(contenders: Mapping[str, Any], inputs: Any, queries: int, warmup: int) -> dict[str, Latency]:
        assert len(inputs) == 40
        return {name: summary([given.get(name, 1.0)] * queries) for name in contenders}

    monkeypatch.setattr(precision_search, "race", race)
    return given


def agreeing(monkeypatch: pytest.MonkeyPatch, candidates: ExportCandidates, *shares: float) -> None:
    """Let the answers agree by these shares, one after the other; the last one for ever."""
    waiting = list(shares)
    monkeypatch.setattr(candidates.task, "agreement", lambda *_: waiting.pop(0) if len(waiting) > 1 else waiting[0])


def float_products(candidates: ExportCandidates, file: str) -> int:
    proto = onnx.load(candidates.folder / file).graph
    weights = {tensor.name for tensor in proto.initializer}
    return sum(node.op_type in ("MatMul", "Gemm") and node.input[1] in weights for node in proto.node)


def test_fp32_is_not_raced(laid: ExportCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_search, "race", None)
    found: dict[str, Any] = {}
    made, file = choose(bed_of(laid, precision="fp32"), found)
    assert (made.precision, made.reason, file, found) == ("fp32", "the recipe asks for fp32", FP32, {})
    assert made.fp32_bytes == (laid.folder / FP32).stat().st_size


@pytest.mark.parametrize(("name", "packed"), [("int8", "weights and embeddings"), ("int8-static", "embeddings")])
def test_a_scheme_says_what_the_file_keeps_in_4_bits(
    laid: ExportCandidates, times: dict[str, float], name: Any, packed: str
) -> None:
    times[name] = 0.5
    found: dict[str, Any] = {}
    bits: dict[str, Any] = {"weight_bits": 4 if name == "int8" else 8, "embedding_bits": 4}
    made, _ = choose(bed_of(laid, precision=name, min_agreement=0.1, **bits), found)
    assert made.scheme == f"{PRECISIONS[name].scheme}; {packed} kept in 4 bits, in blocks of 32"
    assert found["rungs"][0]["scheme"] == made.scheme


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"precision": "int8-static", "weight_bits": 4},
            "weight_bits: 4 is for auto, int8, int8-tensor, not for",
        ),
        ({"precision": "fp32", "embedding_bits": 4}, "embedding_bits: 4 is for auto, .* not for fp32"),
    ],
)
def test_bits_that_a_precision_does_not_keep(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        rounding.check(ExportConfig(**options))
    rounding.check(ExportConfig(precision="auto", weight_bits=4, embedding_bits=4))


@pytest.mark.parametrize("name", [*CPU, "fp16"])
def test_a_precision_that_the_recipe_names_ships_alone(
    laid: ExportCandidates, times: dict[str, float], name: Any
) -> None:
    times[name] = 0.5
    found: dict[str, Any] = {}
    made, file = choose(bed_of(laid, precision=name, min_agreement=0.1), found)
    assert (made.precision, made.scheme, file) == (name, PRECISIONS[name].scheme, f"{name}.onnx")
    assert [trial["precision"] for trial in found["rungs"]] == [name]
    assert found[name]["bytes"] == (laid.folder / file).stat().st_size < made.fp32_bytes
    assert found[name]["speedup"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert made.speedup == 2.0
    assert 0.1 <= made.agreement == found["rungs"][0]["agreement"]
    assert 0 < made.max_logit_difference < 10
    assert len(made.proved_on) == 3
    assert "2.00 times faster than fp32 here" in made.reason


def test_auto_takes_the_fastest_that_holds(laid: ExportCandidates, times: dict[str, float]) -> None:
    times.update(FAST, **{"int8-tensor": 0.2, "int8": 0.4})
    found: dict[str, Any] = {}
    made, _ = choose(bed_of(laid, min_agreement=0.1), found)
    assert made.precision == "int8-tensor"
    trials = {trial["precision"]: trial for trial in found["rungs"]}
    assert list(trials) == CPU
    assert trials["int8"]["reason"] == "slower: 2.50 times the speed of fp32, int8-tensor 5.00 times"
    assert all(0 < trial["agreement"] <= 1 for trial in trials.values())
    assert len({trial["bytes"] for trial in trials.values()}) == len(CPU)


def test_a_tie_goes_to_the_earlier_rung(laid: ExportCandidates, times: dict[str, float]) -> None:
    times.update(FAST, **{"int8-static": 0.2, "int8": 0.208, "int4-blocks": 0.2})
    assert choose(bed_of(laid, min_agreement=0.1), {})[0].precision == "int8"
    times["int8"] = 0.212
    assert choose(bed_of(laid, min_agreement=0.1), {})[0].precision == "int8-static"


def test_where_nothing_holds_fp32_ships_and_every_rung_has_its_reason(
    laid: ExportCandidates, times: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    times.update(dict.fromkeys(CPU, 1 / 1.04))
    found: dict[str, Any] = {}
    made, file = choose(bed_of(laid), found)
    assert (made.precision, made.scheme, file) == ("fp32", "none", FP32)
    wanted = "1.04 times the speed of fp32 (1.04 to 1.04), wanted is 1.05"
    assert made.reason == "; ".join(f"{name}: {wanted}" for name in CPU)
    assert [trial["reason"] for trial in found["rungs"]] == [wanted] * len(CPU)
    assert "export: fp32 ships, because of int8: 1.04 times" in capsys.readouterr().err


def test_a_fast_rung_that_disagrees_gives_way_to_the_next(
    laid: ExportCandidates, times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    times.update(FAST, **{"int4-blocks": 0.1})
    candidates = bed_of(laid, float_layers=[])
    agreeing(monkeypatch, candidates, 0.9, 0.99)
    found: dict[str, Any] = {}
    assert choose(candidates, found)[0].precision == "int8"
    reasons = {trial["precision"]: trial["reason"] for trial in found["rungs"]}
    assert reasons["int4-blocks"] == "90.0% of the answers agree with fp32, wanted are 98.0%"


def test_layers_stay_fp32_until_the_answers_agree(
    laid: ExportCandidates, times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    times["int8"] = 0.5
    candidates = bed_of(laid, precision="int8")
    agreeing(monkeypatch, candidates, 0.5, 0.6, 0.97, 0.99)
    found: dict[str, Any] = {}
    made, file = choose(candidates, found)
    assert found["rungs"][0]["float_layers"] == made.float_layers
    assert len(made.float_layers) == 4  # after 1 and 2
    heaviest = max(
        (tensor for tensor in onnx.load(candidates.folder / FP32).graph.initializer if list(tensor.dims) == [128, 64]),
        key=lambda tensor: np.abs(onnx.numpy_helper.to_array(tensor)).max(),
    )
    assert heaviest.name in made.float_layers[:2]  # the other one may be what goes into it
    assert float_products(candidates, file) - 4 == float_products(candidates, FP32) - len(onnx_weights(candidates))
    assert made.agreement == 0.99


def onnx_weights(candidates: ExportCandidates) -> list[str]:
    """The weights that int8 is for."""
    return list(precision_search.PrecisionSearch(candidates, 0).source.weights)


def test_half_of_the_layers_is_the_most_that_stays_fp32(
    laid: ExportCandidates, times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    times["int8-blocks"] = 0.5
    candidates = bed_of(laid, precision="int8-blocks")
    agreeing(monkeypatch, candidates, 0.5, 0.6)
    count = len(onnx_weights(candidates))
    most = 2 ** int(np.log2(count // 2))
    with pytest.raises(GateError) as refused:
        choose(candidates, {})
    assert str(refused.value) == (
        "export: int8-blocks: 50.0% of the answers agree with fp32, wanted are 98.0%; "
        f"60.0% with {most} layers in fp32; no artifact was written"
    )


def test_layers_that_make_a_rung_too_slow_rule_it_out(
    laid: ExportCandidates, times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    times.update(FAST, **{"int8": 0.4})
    candidates = bed_of(laid)
    answered = []

    def agreement(*_: Any) -> float:
        answered.append(1)
        if len(answered) == 2:
            times["int8"] = 0.99
        return 0.5 if len(answered) == 1 else 0.99

    monkeypatch.setattr(candidates.task, "agreement", agreement)
    found: dict[str, Any] = {}
    assert choose(candidates, found)[0].precision == "int8-tensor"
    assert "1.01 times the speed of fp32" in found["rungs"][0]["reason"]


@pytest.mark.parametrize(
    ("took", "share", "line"),
    [
        (1.2, 1.0, "0.83 times the speed of fp32 (0.83 to 0.83), wanted is 0.95"),
        (0.5, 0.975, "97.5% of the answers agree with fp32, wanted are 98.0%"),
    ],
)
def test_a_named_precision_that_doesnt_hold_is_one_line(
    laid: ExportCandidates,
    times: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    took: float,
    share: float,
    line: str,
) -> None:
    times["int8"] = took
    candidates = bed_of(laid, precision="int8", float_layers=[])
    agreeing(monkeypatch, candidates, share)
    with pytest.raises(GateError) as refused:
        choose(candidates, {})
    assert str(refused.value) == f"export: int8: {line}; no artifact was written"


def test_layers_that_a_recipe_names_stay_fp32(laid: ExportCandidates, times: dict[str, float]) -> None:
    times["int8"] = 0.5
    kept = onnx_weights(laid)[2:4]
    made, file = choose(bed_of(laid, precision="int8", float_layers=kept, min_agreement=0.1), {})
    assert made.float_layers == kept
    assert set(kept) <= {tensor.name for tensor in onnx.load(laid.folder / file).graph.initializer}
    with pytest.raises(RecipeError, match=f"no weight '{kept[0]}x'; the nearest is {kept[0]}"):
        choose(bed_of(laid, precision="int8", float_layers=[f"{kept[0]}x"]), {})


def test_smoothing_is_measured_where_the_recipe_leaves_it_open(laid: ExportCandidates, times: dict[str, float]) -> None:
    times.update(FAST)
    found: dict[str, Any] = {}
    choose(bed_of(laid, smoothing=None, min_agreement=0.1), found)
    strengths = {trial["precision"]: trial["smoothing"] for trial in found["rungs"]}
    assert {strengths["int8"], strengths["int8-tensor"]} <= set(precision_search.STRENGTHS)
    assert strengths["int8-static"] == strengths["int8"]
    assert strengths["int8-blocks"] == strengths["int4-blocks"] == 0.0


@pytest.mark.parametrize(
    ("precision", "size", "speedup", "words"),
    [
        ("auto", 25, (1.5, 1.4, 1.6), []),
        ("auto", 25, (1.02, 1.01, 1.03), ["1.02 times the speed of fp32 (1.01 to 1.03), wanted is 1.05"]),
        ("auto", 25, (1.2, 0.9, 1.5), ["1.20 times the speed of fp32 (0.90 to 1.50)"]),
        ("int8", 25, (1.02, 0.9, 1.1), []),
        ("int8", 25, (0.9, 0.8, 1.1), []),
        ("int8", 25, (0.9, 0.88, 0.93), ["0.90 times the speed"]),
        ("auto", 100, (1.5, 1.4, 1.6), ["100 bytes are not fewer than the 100"]),
        ("int8", 101, (0.5, 0.4, 0.6), ["101 bytes are not fewer than the 100", "0.50 times the speed"]),
    ],
)
def test_what_a_precision_must_hold(
    precision: Any, size: int, speedup: tuple[float, float, float], words: list[str]
) -> None:
    ratio = Ratio(median=speedup[0], low=speedup[1], high=speedup[2])
    found = objections(ExportConfig(precision=precision), size, 100, ratio)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_a_weight_that_the_graph_has_not_is_named() -> None:
    check_names(["dense_1"], ["dense_1", "dense_2"])
    with pytest.raises(RecipeError, match="no weight 'dens_2'; the nearest is dense_2"):
        check_names(["dens_2"], ["dense_1", "dense_2"])


# ---------------------------------------------------------------------------------------- the same answers everywhere


def test_the_answers_of_a_real_graph_are_proved_on_three_kinds_of_kernel(laid: ExportCandidates) -> None:
    here, portable, exact = prove(laid, FP32)
    assert here.startswith(
        "edgeft's kernels: " if kernels.library() else "onnxruntime's own kernels, as edgeft's don't"
    )
    assert portable.startswith("onnxruntime's own kernels, edgeft's switched off: ")
    assert exact.startswith("onnxruntime's exact u8u8 kernels, which it takes on x86 without VNNI: ")
    facts = machine.describe()
    for line in (here, portable, exact):
        assert line.endswith(f", onnxruntime {onnxruntime.__version__}")
        assert f": {facts['os']} on {facts['architecture']}, {facts['processor']}" in line
        assert "any processor" not in line


def test_a_machine_of_which_little_is_known_is_described_all_the_same() -> None:
    facts = {"processor": "arm", "architecture": "arm64", "instruction_sets": [], "os": "Darwin 24", "versions": {}}
    assert precision_search.describe_machine(facts) == "Darwin 24 on arm64, arm, onnxruntime of an unknown version"


@pytest.mark.parametrize(
    ("portable", "exact", "line"),
    [
        (63, 64, None),  # 98.4% of 64
        (62, 64, "export: only 96.9% of 64 answers are the same with onnxruntime's own kernels"),
        (64, 60, "export: only 93.8% of 64 answers are the same with onnxruntime's exact u8u8"),
    ],
)
def test_answers_that_differ_elsewhere_are_refused(portable: int, exact: int, line: str | None) -> None:
    """Candidates whose model answers rightly to so many rows on each kind of kernel; 64 of its 100 are asked."""
    right = {(True, None): 64, (False, None): portable, (False, True): exact}
    task = SimpleNamespace(
        predict_artifact=lambda model, split: np.arange(len(split)) < model,
        agreement=lambda one, other: (one == other).mean(),
    )
    candidates: Any = SimpleNamespace(
        task=task,
        dataset=SimpleNamespace(validation=split_of(100, 0)),
        model=lambda file, native=True, exact=None: right[native, exact],
    )
    if line is None:
        assert len(prove(candidates, "int8.onnx")) == 3
        return
    with pytest.raises(GateError, match=line):
        prove(candidates, "int8.onnx")


def pair(label: str, here: list[float], elsewhere: list[float], other: str | None = None) -> Pair:
    rows = [
        GoldenRow(text="a", input_ids=[1], logits=logits, label=name)
        for logits, name in ((here, label), (elsewhere, other or label))
    ]
    return Pair(*rows)


def test_rows_that_are_answered_otherwise_elsewhere_are_left_out() -> None:
    first, second, third = (
        pair("a", [1.0, 0.0], [1.0, 0.0039]),
        pair("b", [0.0, 1.0], [9.0, 1.0], "a"),
        pair("a", [2.0, 0.0], [2.0, 0.001]),
    )
    chosen, tried = choose_rows([first, second, third], 1.0, TOLERANCE)
    assert (chosen, tried) == ([first, third], 3)
    assert measure_tolerance(chosen, TOLERANCE) == pytest.approx(2 * 0.0039)  # twice the largest of the rows that stay
    assert measure_tolerance([third], 0.05) == 0.05  # never below the least


@pytest.mark.parametrize(
    ("unit", "least", "apart", "stays"),
    [
        (1.0, TOLERANCE, 0.0099, True),  # fp32: ten times what right runs need
        (1.0, TOLERANCE, 0.0101, False),
        (1.0, ROUNDED_TOLERANCE, 0.124, True),  # int8: half of what the runtime takes for a proof
        (1.0, ROUNDED_TOLERANCE, 0.126, False),
        (100.0, ROUNDED_TOLERANCE, 12.4, True),
    ],
)
def test_rows_far_apart_are_no_golden_rows(unit: float, least: float, apart: float, stays: bool) -> None:
    chosen, tried = choose_rows([pair("a", [1.0], [1.0 + apart])], unit, least)
    assert (len(chosen), tried) == (int(stays), 1)
    assert measure_tolerance(chosen, least * unit) <= MOST_TOLERANCE * unit


@pytest.mark.parametrize(
    ("rows", "tried", "needed"),
    [(30, 1024, 30), (29, 1024, 0), (29, 32, 0), (30, 32, 30), (7, 8, 7), (6, 8, 0), (1, 1, 1), (1, 2, 1), (0, 1, 0)],
)
def test_too_few_golden_rows_are_refused(rows: int, tried: int, needed: int) -> None:
    """At least 30, and where there are fewer inputs than usual all but one."""
    if needed:
        check_count(rows, tried)
        return
    with pytest.raises(GateError, match=f"package: {rows} of {tried} rows are answered alike"):
        check_count(rows, tried)


def test_others_are_looked_for_where_63_of_64_rows_change() -> None:
    pairs = [pair("a", [float(row)], [float(row)], "a" if row % 64 == 0 or row > 200 else "b") for row in range(1024)]
    chosen, tried = choose_rows(iter(pairs), 1.0, TOLERANCE)
    assert (len(chosen), tried) == (GOLDEN_ROWS, 201 + GOLDEN_ROWS - 4)
    assert [row.here.logits[0] for row in chosen[:5]] == [0.0, 64.0, 128.0, 192.0, 201.0]
    assert choose_rows(pairs[:64], 1.0, TOLERANCE) == ([pairs[0]], 64)
