"""Stage `latency`: what heads, channels and layers of a model cost on this machine, through the runtime in int8."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, TypeAlias

from transformers import PreTrainedModel

from edgeft.bench import machine
from edgeft.bench.race import race
from edgeft.compress.prune import goals
from edgeft.compress.prune.latency_table import FILE, LatencyTable
from edgeft.compress.prune.structure import Cut, cut_by_ratios, prune
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.export.candidates import ExportCandidates
from edgeft.export.draft import drafts
from edgeft.files import write_json
from edgeft.keys import EXPORTING
from edgeft.models import model_folder
from edgeft.models.shapes import structure_of
from edgeft.progress import say
from edgeft.recipe import BenchConfig, ExportConfig, Recipe
from edgeft.runtime.machine import host
from edgeft.stage import stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import tasks

SHAPES, SHAPE_QUERIES = 10, 1000  # about how many queries each form gets, to estimate the stage's time
LEAST_QUERIES = 1000  # of each form; with 300, repeated medians of one form differed by a tenth
IN_A_ROW = 20  # texts in a turn: with a turn for every text, eight models would evict each other from the cache
SHARES = (0, 0.4, 0.8)  # removed, of the heads and of the channels
PRECISION = "int8"
WHOLE, ONE_LAYER = "whole", "one layer"

Graphs: TypeAlias = Mapping[str, tuple[ExportCandidates, str]]  # form name -> its graph
Ask: TypeAlias = Callable[[Graphs, list[Any]], tuple[dict[str, float], dict[str, Any]]]


def fill(config: BenchConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Measure the table in one interleaved run: the whole model, one layer of it, and with fewer heads and channels.

    Args:
        config: threads, and queries if more than the minimum.
        inputs: `data` (a data folder) and `model` (a model folder).
        out_dir: gets latency.json.

    Returns:
        `base_ms` of the table, and the number of measured forms.
    """

    def raced(graphs: Graphs, texts: list[Any]) -> tuple[dict[str, float], dict[str, Any]]:
        contenders = {
            name: candidates.model(file, threads=config.threads) for name, (candidates, file) in graphs.items()
        }
        races = race(contenders, texts, max(config.queries, LEAST_QUERIES), config.warmup, IN_A_ROW)
        return {name: result.p50_ms for name, result in races.items()}, machine.describe()

    latency_table = measure_table(inputs["model"], load_dataset(inputs["data"]), config.threads, raced)
    write_json(out_dir / FILE, latency_table)
    return {"base_ms": latency_table.base_ms, "forms": 1 + sum(map(len, latency_table.layers_ms.values()))}


def measure_table(model: Path, dataset: Dataset, threads: int, ask: Ask) -> LatencyTable:
    """Measure the latency table of a model.

    Args:
        model: its folder.
        dataset: whose validation texts are the queries.
        threads: of the engine.
        ask: gets the graphs of all forms and the texts; returns each form's median in ms, and the machine.
    """
    loaded = model_folder.load(model, tasks.task_class(dataset.kind).head(dataset.labels))
    cuts = cuts_to_measure(loaded)
    say(f"latency: {len(cuts)} forms of the model, in turns, {threads} threads")
    with tempfile.TemporaryDirectory(prefix="edgeft-latency-") as scratch:
        graphs = {
            name: export_cut(model, cut, dataset, Path(scratch) / str(number))
            for number, (name, cut) in enumerate(cuts.items())
        }
        texts = tasks.create_artifact_task(dataset, graphs[WHOLE][0].manifest).artifact_inputs(dataset.validation)
        timed, machine_info = ask(graphs, texts)
    return table(timed, cuts, threads, len(texts), len(structure_of(loaded).width), machine_info)


def cuts_to_measure(model: PreTrainedModel) -> dict[str, Cut]:
    """The cuts to measure, by name, the whole model first; without cuts that are equal in a small model."""
    cuts = {WHOLE: cut_by_ratios(model)}
    if (layers := len(structure_of(model).layers)) > 1:
        cuts[ONE_LAYER] = cut_by_ratios(model, layers=1 - 1 / layers)
    for heads, channels in itertools.product(SHARES, SHARES):
        cut = cut_by_ratios(model, heads=heads, channels=channels)
        if cut not in cuts.values():
            cuts[f"{heads:.0%} of heads, {channels:.0%} of channels gone"] = cut
    return cuts


def export_cut(source: Path, cut: Cut, dataset: Dataset, scratch: Path) -> tuple[ExportCandidates, str]:
    """Export the graph of a cut model with its tokenizer; which units are removed doesn't affect the speed."""
    model = model_folder.load(source, tasks.task_class(dataset.kind).head(dataset.labels))
    tokenizer = model_folder.load_tokenizer(source)
    prune(model, cut, "magnitude")
    model_folder.save(model, tokenizer, scratch / "model", tokenizer.model_max_length)
    candidates, files = drafts(ExportConfig(), scratch / "model", dataset, [PRECISION], scratch)
    return candidates, files[0]


def table(
    timed: Mapping[str, float],
    cuts: Mapping[str, Cut],
    threads: int,
    texts: int,
    width: int,
    machine_info: dict[str, Any],
) -> LatencyTable:
    """The table of measured medians.

    Args:
        timed: milliseconds of each cut.
        cuts: of the same names.
        threads: of the engine.
        texts: number of texts.
        width: hidden width.
        machine_info: the machine, as the bench describes it.
    """
    layers = len(cuts[WHOLE].heads or ())
    # In a model of one layer, the layer's time can't be separated from the rest.
    layer = (timed[WHOLE] - timed[ONE_LAYER]) / (layers - 1) if layers > 1 else timed[WHOLE]
    layers_ms: dict[int, dict[int, float]] = {}
    for name, cut in cuts.items():
        if name != ONE_LAYER:
            heads, channels = (round(mean(units or ())) for units in (cut.heads, cut.channels))
            layers_ms.setdefault(heads, {})[channels] = layer + (timed[name] - timed[WHOLE]) / layers
    return LatencyTable(
        base_ms=timed[WHOLE] - layers * layer,
        layers_ms=layers_ms,
        width=width,
        precision=PRECISION,
        threads=threads,
        texts=texts,
        machine=machine_info,
    )


LIBRARIES = (*EXPORTING, "torch-pruning")


def timing(recipe: Recipe) -> BenchConfig:
    """The options of the bench that the latency table depends on."""
    bench = recipe.bench
    return BenchConfig(queries=bench.queries, warmup=bench.warmup, threads=bench.threads, seed=bench.seed)


run = stage(
    "latency",
    libraries=LIBRARIES,
    kernels=True,
    machine=host.identity,
    reads=lambda recipe: {"data": "data", "model": "model"},
    config=timing,
    wanted=goals.needs_table,
    is_shared=True,  # measuring again gives another table
    fixed_s=60,
    rows_s=lambda work: None if work.layer_s is None else SHAPES * SHAPE_QUERIES * work.student_s,
)(fill)
