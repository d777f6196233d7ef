"""Students of the full teachers on Rotten Tomatoes: what ships, and what each part of its making is worth.

    python benchmarks/teachers.py --methods full --folder runs/teachers
    python benchmarks/students.py ship --teachers runs/teachers --folder runs/students
    python benchmarks/students.py ablation --teachers runs/teachers --folder runs/students

`importance` shows what decides on heads and channels, `int8` what training in int8 does to the answers, `latency`
whether a model that was pruned down to some milliseconds takes them.

Each seed has its own 7,000 training rows and 1,000 test rows, those of its teacher, and sentences of IMDB reviews
without their labels. Stages are shared among the students of a seed; what is complete is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import movies
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from teachers import TRAIN
from teachers import edgeft as command

import edgeft
from edgeft import recipe
from edgeft.bench.race import race
from edgeft.compress.prune import latency_table
from edgeft.compress.prune.latency_table import FILE
from edgeft.data.dataset import load
from edgeft.files import write_json
from edgeft.pipeline import bench_stage
from edgeft.pipeline.latency import IN_A_ROW
from edgeft.pipeline.stages import steps
from edgeft.stage_folder import RUN_MARKER, StageResult, read_result
from edgeft.train.evaluate import read_predictions
from edgeft.train.metrics.bootstrap import interval

GIVEN = ("data", "finetune")  # made by teachers.py and `data_of`
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
WORDS = (6, 40)  # of a sentence that is taken
WHOLE_MODEL, LAYERS, QUERIES = "whole", 6, 1000
Results = dict[str, StageResult]

# One step that moves nothing.
NOTHING_LEARNED: dict[str, Any] = {"prune.epochs": 1e-6, "prune.learning_rate": 1e-12, "prune.int8_epochs": 0}
# Nothing is tried again at half the shares, or refused.
ANY_LOSS: dict[str, Any] = {"prune.max_drop_points": 100, "export.min_agreement": 0.5}
WHOLE: dict[str, Any] = {"prune.head_ratio": 0, "prune.channel_ratio": 0}
# What is changed of the recipe; the first line is the recipe itself.
ABLATION: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no soft labels": {"prune.soft_weight": 0},
    "no hard labels": {"prune.hard_weight": 0},
    "hidden states as well": {"prune.hidden_weight": 1},
    "relations as well": {"prune.relation_weight": 1},
    "reverse divergence as well": {"prune.reverse_weight": 1},
    "no sentences without labels": {"prune.unlabelled": False},
    "hard labels alone": {
        "prune.unlabelled": False,
        "prune.soft_weight": 0,
        "prune.hard_weight": 1,
    },
    "by magnitude": {"prune.importance": "magnitude"},
    "by chance": {"prune.importance": "random"},
    "heads alone": {"prune.channel_ratio": 0},
    "channels alone": {"prune.head_ratio": 0},
    "layers alike": {"prune.across_layers": False},
    "half of the layers instead": {"prune.across_layers": False, "prune.layer_ratio": 0.5, **WHOLE},
    "in two rounds": {"prune.rounds": 2},
    "all tokens": {"prune.vocabulary_size": None},
    "no recovery": NOTHING_LEARNED,
}
# Half of the teacher goes.
UNRECOVERED: dict[str, Any] = {
    **NOTHING_LEARNED,
    "prune.head_ratio": 0.5,
    "prune.channel_ratio": 0.5,
    "prune.across_layers": False,
    "prune.vocabulary_size": None,
    "prune.unlabelled": False,
    **ANY_LOSS,
}
IMPORTANCE: dict[str, dict[str, Any]] = {
    "taylor": {},
    "magnitude": {"prune.importance": "magnitude"},
    **{f"chance, {seed}": {"prune.importance": "random", "prune.seed": seed} for seed in range(3)},
}

# ------------------------------------------------------------------------------------------------------------ the rows


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of IMDB reviews, drawn by seed."""
    found = {
        sentence.strip()
        for text, _ in movies.rows("imdb")
        for sentence in SENTENCE.split(text.replace("<br />", " "))
        if WORDS[0] <= len(sentence.split()) <= WORDS[1]
    }
    return random.Random(seed).sample(sorted(found), count)


def data_of(seed: int, options: argparse.Namespace) -> Path:
    """The data folder of a seed: the teacher's rows, and the sentences beside them."""
    folder: Path = options.folder / f"data-{options.sentences}-{seed}"
    if read_result(folder / "data") is None:
        folder.mkdir(parents=True, exist_ok=True)
        texts = movies.write_texts(folder / "sentences.csv", sentences(options.sentences, seed))
        rows = options.teachers / f"rows-{seed}"
        own = ("--validation-file", f"{rows}/validation.csv", "--test-file", f"{rows}/test.csv")
        command("data", f"{rows}/train.csv", *own, "--unlabelled-file", str(texts), "--out", str(folder / "data"))
    return folder / "data"


# --------------------------------------------------------------------------------------------------------- the students


def student(
    settings: Mapping[str, Any], seed: int, last: str, options: argparse.Namespace
) -> tuple[Results, dict[str, Path]]:
    """Results and folders of a student's stages up to the one named `last`; what is complete is not run again."""
    whole = recipe.resolve(recipe.load(str(options.recipe), {"baseline.enabled": False, **settings, "seed": seed}))
    run = options.folder / f"run-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / RUN_MARKER, {})  # here the teacher's outputs are kept
    places = {"data": data_of(seed, options), "finetune": options.teachers / f"full-{seed}"}
    found = {name: required(place) for name, place in places.items()}
    for step in steps(whole, places):
        if step.name not in GIVEN:
            places[step.name] = run / f"{step.name}-{step.key()[:16]}"
            found[step.name] = step.run(places[step.name])
        if step.name == last:
            break
    return found, places


def required(folder: Path) -> StageResult:
    """The result of a stage that is complete already."""
    found = read_result(folder)
    if found is None:
        raise SystemExit(f"{folder} isn't complete; run benchmarks/teachers.py first")
    return found


# ----------------------------------------------------------------------------------------------------------- the tables


def shipped(results: Results, teacher: Path) -> dict[str, float]:
    """What a student has to hold: points of test accuracy, share of the teacher's bytes, times its speed."""
    export, bench, error = (results[name].metrics for name in ("export", "bench", "calibrate"))
    graph, ratio = bench_stage.shipped(results)["test"], bench["against_teacher"]["ratio"]
    teachers = 100 * results["finetune"].metrics["test"]["accuracy"]
    artifact = 100 * graph["accuracy"]
    size = results["package"].metrics["bytes"]
    return {
        "teacher": teachers,
        "artifact": artifact,
        "under teacher": teachers - artifact,
        "int8 = fp32": 100 * export[export["precision"]]["test"]["agreement"],
        "ECE before": error["test"]["before"]["ece"],
        "after": error["test"]["after"]["ece"],
        "MB": size / 1e6,
        "bytes, 1 /": (teacher / "model.safetensors").stat().st_size / size,
        "times as fast": ratio["median"],
        "p50 ms": bench["latency"]["p50_ms"],
    }


def ship(options: argparse.Namespace) -> None:
    """Print the table of what ships."""
    rows = {}
    for seed in options.seeds:
        results, _ = student(options.settings, seed, "bench", options)
        rows[seed] = shipped(results, options.teachers / f"full-{seed}")
    names = list(next(iter(rows.values())))
    print("| seed | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for seed, row in rows.items():
        print(f"| {seed} | " + " | ".join(f"{row[name]:.3g}" for name in names) + " |")
    print("| mean | " + " | ".join(f"{mean(row[name] for row in rows.values()):.3g}" for name in names) + " |")


def ablation(options: argparse.Namespace) -> None:
    """Print what each part is worth: points of test accuracy, their difference from the first line, and how near the
    student is to its teacher on test rows. int8 is left for the table of its own.
    """
    seeds = [f"seed {seed}" for seed in options.seeds]
    columns = ("", *seeds, "mean", "difference", "as the teacher", "KL from the teacher")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    first: float | None = None
    for name, settings in ABLATION.items():
        points, alike, away = zip(*(learnt(settings, seed, options) for seed in options.seeds), strict=True)
        first = mean(points) if first is None else first
        shown = [f"{value:.1f}" for value in points]
        figures = (f"{mean(points):.2f}", f"{mean(points) - first:+.2f}", f"{mean(alike):.1f}%", f"{mean(away):.3f}")
        print("| " + " | ".join((name, *shown, *figures)) + " |", flush=True)


def int8(options: argparse.Namespace) -> None:
    """Print how many test answers of the int8 graph are those of the fp32 graph, in percent."""
    columns = ("epochs in int8, bits in the file", *(f"seed {seed}" for seed in options.seeds), "mean")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for epochs, bits in itertools.product((0.0, 0.2), (8, 4)):
        kept = {"export.embedding_bits": bits, "export.weight_bits": bits}
        changed = {"prune.int8_epochs": epochs, **kept, **ANY_LOSS}
        whole = {**options.settings, "prune.epochs": options.epochs, **changed}
        found = []
        for seed in options.seeds:
            results, _ = student(whole, seed, "export", options)
            metrics = results["export"].metrics
            found.append(100 * metrics[metrics["precision"]]["test"]["agreement"])
        shown = " | ".join(f"{value:.1f}" for value in found)
        print(f"| {epochs}, {bits} | {shown} | {mean(found):.2f} |", flush=True)


def learnt(settings: Mapping[str, Any], seed: int, options: argparse.Namespace) -> tuple[float, float, float]:
    """After a recovery of `--epochs`, or of as many steps on the labelled rows alone: points of test accuracy, percent
    of the test rows answered as by the teacher, and the mean divergence from it, KL(teacher || student).
    """
    whole = {"prune.int8_epochs": 0, **ANY_LOSS, **options.settings, "prune.epochs": options.epochs, **settings}
    if whole.get("prune.unlabelled") is False:
        whole["prune.epochs"] *= (TRAIN + options.sentences) / TRAIN
    results, places = student(whole, seed, "prune", options)
    of_teacher, own = (read_predictions(places[stage], "test") for stage in ("finetune", "prune"))  # of the same file
    alike = 100 * float((of_teacher.argmax(axis=-1) == own.argmax(axis=-1)).mean())
    return 100 * results["prune"].metrics["test"]["accuracy"], alike, divergence(of_teacher, own)


def divergence(of_teacher: NDArray[np.floating], own: NDArray[np.floating]) -> float:
    """The mean KL(teacher || student) of two models' logits, (n, C)."""
    given, wanted = (log_softmax(logits, axis=-1) for logits in (own, of_teacher))
    return float((np.exp(wanted) * (wanted - given)).sum(axis=-1).mean())


def importance(options: argparse.Namespace) -> None:
    """Print what half of the teacher's heads and channels cost, nothing learned afterwards, by what decides on them."""
    right: dict[str, list[list[float]]] = {}
    for seed in options.seeds:
        for name, settings in IMPORTANCE.items():
            _, places = student({**options.settings, **UNRECOVERED, **settings}, seed, "prune", options)
            labels = load(places["data"]).test.labels
            hits = read_predictions(places["prune"], "test").argmax(axis=-1) == labels
            right.setdefault(name, []).append(hits.astype(float))
    columns = ("decided by", *(f"seed {seed}" for seed in options.seeds), "mean", "Taylor above it")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, found in right.items():
        rows = np.concatenate(right["taylor"]) - np.concatenate(found)
        ahead = interval(rows, len(rows), 10000)
        assert ahead is not None
        shares = f"{100 * ahead.value:.2f} ({100 * ahead.low:.2f} to {100 * ahead.high:.2f})"
        shown = [f"{100 * mean(one):.1f}" for one in found]
        total = f"{100 * np.concatenate(found).mean():.2f}"
        print(f"| {name} | {' | '.join(shown)} | {total} | {shares} |")


def latency(options: argparse.Namespace) -> None:
    """Print what models that were pruned down to some milliseconds take, nothing learned afterwards.

    They take turns with the uncut model, and times are scaled to what the table says of that: minutes lie between the
    table and the last model, and the machine's pace changes more than what is asked.
    """
    print("| seed | wanted ms | measured | off by | heads | channels |\n|---|---|---|---|---|---|")
    for seed in options.seeds:
        rest = {**options.settings, **UNRECOVERED}
        _, places = student({**rest, "prune.enabled": False}, seed, "package", options)
        artifacts, left = {WHOLE_MODEL: places["package"]}, {}
        for wanted in options.milliseconds:
            results, places = student({**rest, "prune.max_latency_ms": wanted}, seed, "package", options)
            artifacts[str(wanted)], left[wanted] = places["package"], results["prune"].metrics["structure"]
        models = {name: edgeft.load(place, threads=1) for name, place in artifacts.items()}
        times = race(models, load(places["data"]).test.texts, QUERIES, QUERIES // 10, IN_A_ROW)
        table = latency_table.read(places["latency"] / FILE)
        heads = max(table.layers_ms)
        whole = table.predict([heads] * LAYERS, [max(table.layers_ms[heads])] * LAYERS)
        for wanted, structure in left.items():
            measured = whole * times[str(wanted)].p50_ms / times[WHOLE_MODEL].p50_ms
            cut = structure["heads"][0], structure["channels"][0]
            figures = (f"{measured:.3f}", f"{100 * (measured / wanted - 1):+.1f}%", *cut)
            print(f"| {seed} | {wanted} | " + " | ".join(map(str, figures)) + " |", flush=True)


TABLES = {"ship": ship, "ablation": ablation, "importance": importance, "int8": int8, "latency": latency}


def main() -> None:
    """Run what is not complete and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", choices=[*TABLES])
    parser.add_argument("--teachers", type=Path, default=Path("runs/teachers"))
    parser.add_argument("--folder", type=Path, default=Path("runs/students"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sentences", type=int, default=40000)
    parser.add_argument("--epochs", type=float, default=0.35, help="of the recovery, but in what ships")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.9, 1.2, 1.5], help="that are wanted")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    options = parser.parse_args()
    options.settings = recipe.parse_settings(options.settings)
    TABLES[options.table](options)


if __name__ == "__main__":
    main()
