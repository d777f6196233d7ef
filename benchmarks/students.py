"""Students of the full teachers on Rotten Tomatoes: what ships, and what each part of its making is worth.

    python benchmarks/teachers.py --methods full --folder runs/teachers
    python benchmarks/students.py ship --teachers runs/teachers --folder runs/students
    python benchmarks/students.py ablation --teachers runs/teachers --folder runs/students

Each seed has its own 7,000 training rows and 1,000 test rows, those of its teacher, and sentences of IMDB reviews
without their labels. Stages are shared among the students of a seed; what is complete is not run again.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import movies
from teachers import edgeft

from edgeft import recipe
from edgeft.pipeline import gates
from edgeft.pipeline.steps import steps
from edgeft.stage import RUN_MARKER, StageResult, read_result, stage_key, write_json

GIVEN = ("data", "finetune")  # made by teachers.py and `data_of`
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
WORDS = (6, 40)  # of a sentence that is taken
Results = dict[str, StageResult]


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
    folder = options.folder / f"data-{options.sentences}-{seed}"
    if read_result(folder / "data") is None:
        folder.mkdir(parents=True, exist_ok=True)
        texts = movies.write_texts(folder / "sentences.csv", sentences(options.sentences, seed))
        rows = options.teachers / f"rows-{seed}"
        own = ("--validation-file", f"{rows}/validation.csv", "--test-file", f"{rows}/test.csv")
        edgeft("data", f"{rows}/train.csv", *own, "--unlabelled-file", str(texts), "--out", str(folder / "data"))
    return folder / "data"


# --------------------------------------------------------------------------------------------------------- the students


def student(settings: Mapping[str, Any], seed: int, last: str, options: argparse.Namespace) -> Results:
    """Run the stages of a student up to the one named `last`, but for those that are complete."""
    whole = recipe.resolve(recipe.load(str(options.recipe), {**settings, "seed": seed}))
    run = options.folder / f"run-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / RUN_MARKER, {})  # here the teacher's outputs are kept
    places = {"data": data_of(seed, options), "finetune": options.teachers / f"full-{seed}"}
    found = {name: required(place) for name, place in places.items()}
    for step in steps(whole, places):
        if step.name not in GIVEN:
            places[step.name] = run / f"{step.name}-{stage_key(step.name, step.config, step.inputs())[0][:16]}"
            found[step.name] = step.run(places[step.name])
        if step.name == last:
            break
    return found


def required(folder: Path) -> StageResult:
    """The result of a stage that is complete already."""
    found = read_result(folder)
    if found is None:
        raise SystemExit(f"{folder} isn't complete; run benchmarks/teachers.py first")
    return found


# ----------------------------------------------------------------------------------------------------------- the tables


def shipped(results: Results, teacher: Path) -> dict[str, float]:
    """What a student has to hold: points of test accuracy, share of the teacher's bytes, times its speed."""
    export, bench = results["export"].metrics, results["bench"].metrics
    graph, ratio = gates.shipped(results)["test"], bench["against_teacher"]["ratio"]
    teachers = 100 * results["finetune"].metrics["test"]["accuracy"]
    artifact = 100 * graph["accuracy"]
    size = results["package"].metrics["bytes"]
    return {
        "teacher": teachers,
        "artifact": artifact,
        "under teacher": teachers - artifact,
        "int8 = fp32": 100 * export[export["precision"]]["test"]["agreement"],
        "MB": size / 1e6,
        "bytes, 1 /": (teacher / "model.safetensors").stat().st_size / size,
        "times as fast": ratio["median"],
        "p50 ms": bench["latency"]["p50_ms"],
    }


def ship(options: argparse.Namespace) -> None:
    """Print the table of what ships."""
    rows = {}
    for seed in options.seeds:
        results = student(options.settings, seed, "bench", options)
        rows[seed] = shipped(results, options.teachers / f"full-{seed}")
    names = list(next(iter(rows.values())))
    print("| seed | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for seed, row in rows.items():
        print(f"| {seed} | " + " | ".join(f"{row[name]:.2f}" for name in names) + " |")
    print("| mean | " + " | ".join(f"{mean(row[name] for row in rows.values()):.2f}" for name in names) + " |")


def ablation(options: argparse.Namespace) -> None:
    """Print what each part is worth."""


def main() -> None:
    """Run what is not complete and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", choices=["ship", "ablation"])
    parser.add_argument("--teachers", type=Path, default=Path("runs/teachers"))
    parser.add_argument("--folder", type=Path, default=Path("runs/students"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sentences", type=int, default=120000)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    options = parser.parse_args()
    options.settings = recipe.parse_settings(options.settings)
    {"ship": ship, "ablation": ablation}[options.table](options)


if __name__ == "__main__":
    main()
