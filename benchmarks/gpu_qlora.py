"""QLoRA of Llama-shaped models with random weights, edgeft beside transformers.Trainer with peft and bitsandbytes.

    python benchmarks/gpu_qlora.py --texts reviews.jsonl --sizes 1.5b 7b --rounds 2

Both sides train the same model on the same texts with the same rank, batch, length and optimizer, each run in a process
of its own, in the order A B B A. edgeft packs the texts; the other side pads them, as it does by itself. Printed are
tokens of real text a second and the largest memory that torch held on the card, and QLoRA's time beside LoRA's.
The texts are a JSONL file with the column `text`; a byte-level BPE of 32,000 pieces is trained on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "1.5b": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 5632},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008},
}
PIECES, RANK, RATE = 32_000, 16, 2e-4


def read(texts: Path) -> list[str]:
    """The texts."""
    return [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]


def make_model(folder: Path, texts: list[str], shape: Mapping[str, int]) -> None:
    """A model folder with random weights in bfloat16, and a tokenizer of the texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=PIECES, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(vocab_size=PIECES, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, **shape)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(before)
    tokenizer.save_pretrained(folder)


# ----------------------------------------------------------------------------------------------------------- two sides


def ours(model: Path, texts: list[str], options: argparse.Namespace) -> dict[str, float]:
    """edgeft's own loop: packed texts."""
    import numpy as np
    import torch

    from edgeft.data.dataset import Dataset, split_of
    from edgeft.models import model_folder
    from edgeft.recipe import FinetuneConfig
    from edgeft.train import methods, tasks
    from edgeft.train.finetune import create_loss
    from edgeft.train.loop import watch
    from edgeft.train.loop.loop import Trainer

    class Clock(watch.Watcher):
        """When each step was done."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step(self, step: int, values: Mapping[str, float]) -> None:
            self.times.append(time.perf_counter())

    length, batch, warmup, steps = options.length, options.batch, options.warmup, options.steps
    split = split_of({"text": texts}, np.arange(len(texts)), [])
    dataset = Dataset("text-generation", [], split, split, split, [], kind="text")
    same: dict[str, Any] = {"batch_size": batch, "max_length": length, "lora_rank": RANK, "lora_alpha": RANK}
    same |= {"packing": True, "learning_rate": RATE, "evaluations_per_epoch": 1, "checkpoint_steps": 10**9}
    same |= {"method": options.method, "device": options.device, "warmup_fraction": 0.0}
    config = FinetuneConfig(model=str(model), seed=0, epochs=1, **same)
    task = tasks.create_task(dataset, model_folder.load_tokenizer(model), length, config)
    items = task.items(split, training=True)
    wanted = (warmup + steps) * batch
    items = type(items)(items.inputs[:wanted], items.rows[:wanted], items.weights[:wanted])
    loaded = methods.load(config, str(model), task.head([]), torch.device(options.device))
    task.prepare(loaded)
    ready = methods.prepare(config, loaded, task.adapter)
    clock = Clock()
    trainer = Trainer(
        ready, create_loss(task, items), lambda: {"score": 0.0}, config, RATE, model.parent / "unused", "ours"
    )
    trainer.out_dir.mkdir(exist_ok=True)
    with watch.watch_with(clock):
        trainer.fit()
    tokens = sum(items.lengths) * steps / (len(items) / batch)
    return figures(tokens, clock.times[-1] - clock.times[warmup - 1], options.device)


def plain(model: Path, texts: list[str], options: argparse.Namespace) -> dict[str, float]:
    """transformers.Trainer with peft and bitsandbytes, as their guides put them together."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Clock(TrainerCallback):  # type: ignore[misc]
        """When each step was done."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, *arguments: Any, **others: Any) -> None:
            self.times.append(time.perf_counter())

    warmup, steps, batch = options.warmup, options.steps, options.batch
    on_gpu, bits, in_bits = options.device == "cuda", None, options.method == "qlora"
    if in_bits:
        dtype = torch.bfloat16 if on_gpu else torch.float32
        bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["lm_head"],
        )
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    loaded = AutoModelForCausalLM.from_pretrained(model, quantization_config=bits, device_map={"": options.device})
    if in_bits:
        loaded = prepare_model_for_kbit_training(loaded, use_gradient_checkpointing=on_gpu)
    adapter = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=RANK, lora_dropout=0.05, target_modules="all-linear")
    rows = [
        {"input_ids": ids}
        for ids in tokenizer(texts, truncation=True, max_length=options.length)["input_ids"]
        if len(ids) > 1
    ]
    rows = rows[: (warmup + steps) * batch]
    clock = Clock()
    arguments = TrainingArguments(
        output_dir=str(model.parent / "plain"),
        per_device_train_batch_size=batch,
        max_steps=warmup + steps,
        learning_rate=RATE,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        optim="paged_adamw_8bit" if on_gpu and in_bits else "adamw_torch",
        gradient_checkpointing=on_gpu and in_bits,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    Trainer(get_peft_model(loaded, adapter), arguments, collator, rows, callbacks=[clock]).train()
    tokens = sum(len(row["input_ids"]) for row in rows) * steps / (warmup + steps)
    return figures(tokens, clock.times[-1] - clock.times[warmup - 1], options.device)


def figures(tokens: float, seconds: float, device: str) -> dict[str, float]:
    """Tokens a second, seconds, and the card's largest memory in bytes (0 on a CPU)."""
    import torch

    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"tokens_per_s": tokens / seconds, "seconds": seconds, "peak_bytes": float(peak)}


# ------------------------------------------------------------------------------------------------------------- running


def run(side: str, size: str, method: str, options: argparse.Namespace) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--sizes", size, "--method", method]
    command += ["--texts", str(options.texts), "--folder", str(options.folder), "--device", options.device]
    for name in ("warmup", "steps", "batch", "length"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(size: str, name: str, found: list[dict[str, float]]) -> float:
    """A row of the table; the median of tokens a second."""
    speed, memory = (median(each[key] for each in found) for key in ("tokens_per_s", "peak_bytes"))
    spread = f"{min(each['tokens_per_s'] for each in found):.0f} to {max(each['tokens_per_s'] for each in found):.0f}"
    print(f"| {size} | {name} | {speed:.0f} ({spread}) | {memory / 1e9:.2f} |", flush=True)
    return speed


def compare(size: str, options: argparse.Namespace) -> None:
    """Both sides in turns, then LoRA beside QLoRA."""
    folder = options.folder / size
    if not (folder / "config.json").exists():
        make_model(folder, read(options.texts), SHAPES[size])
    found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": [], "lora": []}
    for turn in range(options.rounds):
        order = ("ours", "plain") if turn % 2 == 0 else ("plain", "ours")
        for side in order:
            found[side].append(run(side, size, "qlora", options))
        found["lora"].append(run("ours", size, "lora", options))
    speeds = {name: show(size, name, each) for name, each in found.items()}
    print(f"{size}: {speeds['ours'] / speeds['plain']:.2f} times the plain loop's tokens/s; ", end="")
    print(f"QLoRA takes {speeds['lora'] / speeds['ours']:.2f} times LoRA's time")


def main() -> None:
    """Compare the sizes, or run one side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["1.5b", "7b"], choices=SHAPES)
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu_qlora"))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--side", choices=["ours", "plain"])
    parser.add_argument("--method", default="qlora", choices=["qlora", "lora"])
    options = parser.parse_args()
    if options.side:
        train = {"ours": ours, "plain": plain}[options.side]
        place = options.folder / options.sizes[0]
        found = train(place, read(options.texts), options)
        print(json.dumps(found))
        return
    print("| size | side | tokens/s (range) | peak GB |\n|---|---|---|---|")
    for size in options.sizes:
        compare(size, options)


if __name__ == "__main__":
    main()
