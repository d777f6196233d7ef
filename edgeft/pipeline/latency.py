"""Stage `latency`: what heads, channels and layers of a model cost on this machine, through the runtime in int8."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from transformers import PreTrainedModel

from edgeft import models
from edgeft.bench import machine
from edgeft.bench.race import race
from edgeft.compress.structure import Cut, by_ratios, prune
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.export.draft import drafts
from edgeft.latency_table import LatencyTable
from edgeft.progress import say
from edgeft.recipe import BenchConfig, ExportConfig
from edgeft.runtime import Model
from edgeft.shapes import structure_of
from edgeft.stage import Inputs, Metrics, stage, write_json
from edgeft.train import tasks

TABLE = "latency.json"
IN_A_ROW = 20  # texts in a turn: eight models that take turns at every text would leave each other no cache
SHARES = (0.25, 0.5, 0.75)  # that go, of the heads alone and of the channels alone
PRECISION = "int8"
WHOLE, ONE_LAYER = "whole", "one layer"


def fill(config: BenchConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Measure the table side by side: the whole model, one layer of it, and it with fewer heads or channels.

    Args:
        config: queries and threads.
        inputs: `data` (a data folder) and `model` (a model folder).
        out_dir: gets latency.json.

    Returns:
        `base_ms` and `layer_ms` of the table, and how many forms were measured.
    """
    dataset = load_dataset(inputs["data"])
    head = tasks.class_of(dataset.kind).head(dataset.labels)
    whole = models.load(inputs["model"], head)
    cuts = points(whole)
    say(f"latency: {len(cuts)} forms of the model, in turns, {config.threads} threads")
    with tempfile.TemporaryDirectory(prefix="edgeft-latency-") as scratch:
        contenders = {
            name: runnable(inputs["model"], cut, dataset, Path(scratch) / str(number), config.threads)
            for number, (name, cut) in enumerate(cuts.items())
        }
        texts = tasks.of_artifact(dataset, contenders[WHOLE].manifest).given(dataset.validation)
        raced = race(contenders, texts, config.queries, config.warmup, IN_A_ROW)
        timed = {name: found.p50_ms for name, found in raced.items()}
    found = table(timed, cuts, config, len(texts), len(structure_of(whole).width))
    write_json(out_dir / TABLE, found)
    return {"base_ms": found.base_ms, "layer_ms": found.layer_ms, "forms": len(cuts)}


def points(model: PreTrainedModel) -> dict[str, Cut]:
    """The cuts to measure, by name."""
    found = {WHOLE: by_ratios(model)}
    if (layers := len(structure_of(model).layers)) > 1:
        found[ONE_LAYER] = by_ratios(model, layers=1 - 1 / layers)
    for share in SHARES:
        found[f"heads {share}"] = by_ratios(model, heads=share)
        found[f"channels {share}"] = by_ratios(model, channels=share)
    return found


def runnable(source: Path, cut: Cut, dataset: Dataset, scratch: Path, threads: int) -> Model:
    """A cut model as the runtime would run it; which units go makes no difference to its speed."""
    model = models.load(source, tasks.class_of(dataset.kind).head(dataset.labels))
    tokenizer = models.load_tokenizer(source)
    prune(model, cut, "magnitude")
    models.save(model, tokenizer, scratch / "model", tokenizer.model_max_length)
    bed, files = drafts(ExportConfig(), scratch / "model", dataset, [PRECISION], scratch)
    return bed.model(files[0], threads=threads)


def table(
    timed: Mapping[str, float], cuts: Mapping[str, Cut], config: BenchConfig, texts: int, width: int
) -> LatencyTable:
    """The table of measured medians.

    Args:
        timed: milliseconds of each cut.
        cuts: of the same names.
        config: threads.
        texts: how many were asked.
        width: hidden width.
    """
    heads, channels = cuts[WHOLE].heads or (), cuts[WHOLE].channels or ()
    layers = len(heads)
    # Of a model of one layer, what isn't in the layer can't be told from it.
    layer = (timed[WHOLE] - timed[ONE_LAYER]) / (layers - 1) if layers > 1 else timed[WHOLE]

    def of_layer(name: str) -> float:
        return layer + (timed[name] - timed[WHOLE]) / layers

    by_heads = {round(mean(cuts[name].heads or ())): of_layer(name) for name in cuts if name.startswith("heads")}
    by_channels = {
        round(mean(cuts[name].channels or ())): of_layer(name) for name in cuts if name.startswith("channels")
    }
    return LatencyTable(
        base_ms=timed[WHOLE] - layers * layer,
        layer_ms=layer,
        heads={**by_heads, round(mean(heads)): layer},
        channels={**by_channels, round(mean(channels)): layer},
        width=width,
        precision=PRECISION,
        threads=config.threads,
        texts=texts,
        machine=machine.describe(),
    )


run = stage("latency")(fill)
