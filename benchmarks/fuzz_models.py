"""Hostile model folders: seeded mutations of every file of a real one, each loaded in a process with limits.

    python benchmarks/fuzz_models.py --cases 2000 --seed 1

A case is a copy of a tiny model folder with one to three changes: to config.json, structure.json, the index, the head
of the weights, the tokenizer's files, or to bytes and links. Worker processes load it (facts, tokenizer, model) with a
limit of memory and time. An answer is "loaded", or one line of ModelError; anything else is a failure, and its seed
is printed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 10.0  # that a case may take
MEMORY = 3 << 30  # bytes that a case may take beside what torch has mapped before it
SHAPES = ("plain", "pruned", "sharded")
HEAD = struct.Struct("<Q")
STRANGE: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 255, 10**4, 2**20, 2**24, 10**8, 2**31, 2**40, 2**63, 10**30, 10**400),
    *(0.5, -1.0, 1e308, float("nan"), float("inf"), True, False, None, "", "0", "x" * 1000, "../x", "org/name"),
    *([], {}, [[]], {"": {}}, [0] * 1000, ["a"] * 50, {"a": {"b": {"c": 1}}}, "\ud800", "\0", "a\nb"),
)
NAMES = (
    *("attn_implementation", "_attn_implementation", "quantization_config", "auto_map", "configuration_files"),
    *("num_labels", "id2label", "label2id", "architectures", "model_type", "torch_dtype", "dtype", "layer_types"),
    *("text_config", "is_decoder", "is_encoder_decoder", "pad_token_id", "per_layer_config", "problem_type"),
    *("tie_word_embeddings", "rope_scaling", "head_dim", "pruned_heads", "transformers_version", "num_experts"),
)
KINDS = (
    "bert",
    "gpt2",
    "t5",
    "llama",
    "distilbert",
    "albert",
    "mixtral",
    "modernbert",
    "vit",
    "clip",
    "whisper",
    "detr",
)
Mutation = Callable[[Path, random.Random], None]


# ------------------------------------------------------------------------------------------------------------- folders


def write_seeds(root: Path) -> None:
    """A tiny BERT with a tokenizer, the same pruned, and the same in two files."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from edgeft.compress.prune.structure import cut_by_ratios, prune
    from edgeft.models import model_folder

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=60, max_position_embeddings=40, **sizes)).eval()
    words = ["[PAD]", "[UNK]", "good", "bad", "film", *(f"##{letter}" for letter in "abcdefghij")]
    backend = Tokenizer(WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("  ", " ")])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    (root / "outside.json").write_text('{"secret": 1}')
    model_folder.save(model, tokenizer, root / "plain", 16)
    shutil.copytree(root / "plain", root / "sharded")
    weights = model.state_dict()
    parts = {f"model-0000{number}-of-00002.safetensors": sorted(weights)[number - 1 :: 2] for number in (1, 2)}
    for name, keys in parts.items():
        save_file({key: weights[key].clone() for key in keys}, root / "sharded" / name, metadata={"format": "pt"})
    (root / "sharded" / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (root / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    prune(model, cut_by_ratios(model, heads=0.25, channels=0.4, width=0.25), "magnitude")
    model_folder.save(model, tokenizer, root / "pruned", 16)


# ----------------------------------------------------------------------------------------------------------- mutations


def strange(draw: random.Random) -> Any:
    """A value that hardly any field expects."""
    return draw.choice(STRANGE)


def spots(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with every key in it."""
    waiting = [document]
    while waiting:
        container = waiting.pop()
        keys = container.keys() if isinstance(container, dict) else range(len(container))
        for key in list(keys):
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


def change_document(document: Any, draw: random.Random, names: tuple[str, ...] = ()) -> Any:
    """Change, add, remove or swap something in a JSON document, in place where that can be."""
    places = list(spots(document))
    if not places or draw.random() < 0.03:
        return strange(draw)
    container, key = draw.choice(places)
    way = draw.randrange(5)
    if way == 0:
        del container[key]
    elif way == 1 and names and isinstance(document, dict):
        document[draw.choice(names)] = draw.choice(
            [strange(draw), "org/name", draw.choice(KINDS), {"x": strange(draw)}]
        )
    elif way == 2:
        other, there = draw.choice(places)
        container[key] = json.loads(json.dumps(other[there], default=str)) if there in keys_of(other) else None
    else:
        container[key] = strange(draw)
    return document


def keys_of(container: Any) -> Any:
    """What a container can be asked for."""
    return container.keys() if isinstance(container, dict) else range(len(container))


def json_of(name: str, names: tuple[str, ...] = ()) -> Mutation:
    """A mutation of the document in one file."""

    def apply(folder: Path, draw: random.Random) -> None:
        path = folder / name
        if path.is_file():
            with_document(path, lambda document: change_document(document, draw, names))

    return apply


def with_document(path: Path, change: Callable[[Any], Any]) -> None:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    path.write_text(json.dumps(change(document)), encoding="utf-8", errors="surrogatepass")


def other_kind(folder: Path, draw: random.Random) -> None:
    """Another family's name over the same sizes."""
    with_document(
        folder / "config.json",
        lambda document: {**document, "model_type": draw.choice(KINDS)} if isinstance(document, dict) else document,
    )


def large_size(folder: Path, draw: random.Random) -> None:
    """A size inside the bounds, but not that of the weights."""
    names = ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "max_position_embeddings")
    sizes = (64, 256, 1000, 1024, 2**16, 2**20, 2**24)
    more = {draw.choice(names): draw.choice(sizes) for _ in range(draw.randint(1, 4))}
    with_document(
        folder / "config.json", lambda document: {**document, **more} if isinstance(document, dict) else document
    )


def head_of_weights(folder: Path, draw: random.Random) -> None:
    """The head of a file of weights, or the length that it is said to have."""
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not files:
        return
    path = draw.choice(files)
    data = path.read_bytes()
    if len(data) < HEAD.size:
        return
    (length,) = HEAD.unpack(data[: HEAD.size])
    if draw.random() < 0.15:
        path.write_bytes(
            HEAD.pack(draw.choice((0, 1, max(length - 1, 0), length // 2, 2**40, 2**64 - 1))) + data[HEAD.size :]
        )
        return
    try:
        header = json.loads(data[HEAD.size : HEAD.size + length])
    except ValueError:
        return
    text = json.dumps(change_document(header, draw)).encode("utf-8", "surrogatepass")
    path.write_bytes(HEAD.pack(len(text)) + text + data[HEAD.size + length :])


def some_bytes(folder: Path, draw: random.Random) -> None:
    """Bytes of any file: turned over, cut off, or put twice."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    path = draw.choice(files)
    data = bytearray(path.read_bytes())
    way = draw.randrange(4)
    if way == 0:
        del data[draw.randrange(len(data) + 1) :]
    elif way == 1:
        data += data[: draw.randrange(len(data) + 1)]
    else:
        for _ in range(draw.choice((1, 8, 64))):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)


def nested(folder: Path, draw: random.Random) -> None:
    """Depth without end in a JSON file."""
    path = draw.choice(sorted(folder.glob("*.json")))
    depth = draw.choice((100, 900, 5_000, 100_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    path.write_text(f'{{"hidden_size": {opening * depth}1{closing * depth}}}')


def odd_file(folder: Path, draw: random.Random) -> None:
    """A file that isn't one, is a link, or is far too large."""
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    path = folder / draw.choice(names)
    path.unlink(missing_ok=True)
    way = draw.randrange(5)
    if way == 0:
        os.mkfifo(path)
    elif way == 1:
        path.symlink_to(draw.choice(("/dev/zero", "../outside.json", "/", "missing", path.name)))
    elif way == 2:
        path.mkdir()
    elif way == 3:
        path.touch()
        os.truncate(path, 1 << draw.choice((20, 28, 33)))
    else:
        path.write_bytes(b"")


MUTATIONS: tuple[Mutation, ...] = (
    *(json_of("config.json", NAMES),) * 4,
    *(json_of("structure.json"),) * 2,
    *(json_of("model.safetensors.index.json"),) * 2,
    *(json_of("tokenizer.json"),) * 3,
    json_of("tokenizer_config.json", ("tokenizer_class", "auto_map", "added_tokens_decoder", "model_max_length")),
    *(head_of_weights,) * 3,
    *(other_kind, large_size, large_size, some_bytes, some_bytes, nested, odd_file),
)


def mutate(seeds: Path, folder: Path, seed: int) -> str:
    """Write the folder of a case; says what was done."""
    draw = random.Random(seed)
    shape = draw.choice(SHAPES)
    shutil.copytree(seeds / shape, folder)
    chosen = draw.sample(MUTATIONS, draw.choice((1, 1, 2, 3)))
    chosen.sort(key=lambda mutation: mutation is odd_file)  # what comes after it would write through a link
    for mutation in chosen:
        mutation(folder, draw)
    return shape


# ------------------------------------------------------------------------------------------------------------- workers


def load_all(folder: Path) -> str:
    """What a run asks of a model folder: `loaded`, or the line of a ModelError."""
    from edgeft.errors import ModelError
    from edgeft.models import model_facts, model_folder

    try:
        model_facts.read_facts(folder)
        model_folder.load_tokenizer(folder)
        model_folder.load(folder, model_folder.Head("AutoModelForSequenceClassification"))
    except ModelError as error:
        line = str(error)
        assert "\n" not in line, f"several lines: {line}"
        assert len(line) < 2000, f"a line of {len(line)} characters"
        return "refused"
    return "loaded"


def worker(pipe: Connection) -> None:
    """Answer folders until there are no more; the memory that they may take is limited."""
    import resource

    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - panics of Rust are printed past Python
    os.dup2(sys.stderr.fileno(), 2)
    from edgeft.models import model_folder  # noqa: F401 - torch is mapped before the limit is set

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    pipe.send("ready")
    while (folder := pipe.recv()) is not None:
        try:
            pipe.send(load_all(Path(folder)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what this looks for
            pipe.send(f"{type(error).__name__}: {str(error)[:300]}")


class Worker:
    """A process that loads folders, made anew when one hung or ended it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.recv() == "ready"

    def ask(self, folder: Path, seconds: float) -> str:
        """The answer, `hang` or `ended`."""
        self.pipe.send(str(folder))
        try:
            if self.pipe.poll(seconds):
                return str(self.pipe.recv())
            answer = "hang"
        except EOFError:
            answer = "ended"
        self.process.kill()
        self.process.join()
        self._start()
        return answer

    def close(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def fuzz(cases: int, seed: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Run cases in one worker after another.

    Returns:
        `cases`, `seed`, the number of cases by `outcome`, the slowest in `slowest_s`, and `failures` with their seeds.
    """
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_seeds(root)
        process = Worker()
        for number in range(seed, seed + cases):
            folder = root / f"case-{number}"
            shape = mutate(root, folder, number)
            began = time.perf_counter()
            answer = process.ask(folder, seconds)
            slowest = max(slowest, time.perf_counter() - began)
            known = answer in ("loaded", "refused")
            outcomes[answer if known else "failed"] += 1
            if not known:
                failures.append({"seed": number, "shape": shape, "answer": answer})
            shutil.rmtree(folder)
        process.close()
    return {
        "cases": cases,
        "seed": seed,
        "outcomes": dict(outcomes),
        "slowest_s": round(slowest, 2),
        "failures": failures,
    }


def main() -> None:
    """Fuzz, print the failures and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="of the first case; each further one is one more")
    chosen = parser.parse_args()
    document = fuzz(chosen.cases, chosen.seed)
    for failure in document["failures"]:
        print(failure)
    print(json.dumps(document))
    raise SystemExit(bool(document["failures"]))


if __name__ == "__main__":
    main()
