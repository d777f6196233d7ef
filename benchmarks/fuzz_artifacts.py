"""Artifacts that somebody changed: load, verify, inspect, predict, serve, bench and single-file on thousands of them.

    python benchmarks/fuzz_artifacts.py ARTIFACT [ARTIFACT ...] --folders 5000 --seed 0

Every folder is a copy of a real one with one change, by a seed; the manifest's digests are repaired in most, so that
the change gets past them. Each is tried in a process of its own with 10 s for a command. Counted are tracebacks,
commands that take longer, processes that a signal ends, and answers from bytes that the manifest doesn't list.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MANIFEST, MODEL, TOKENIZER, GOLDEN = "manifest.json", "model.onnx", "tokenizer.json", "golden.json"
SECONDS = {"bench": 60.0, "single_file": 60.0}  # those that start processes or compare ten thousand texts
LIMIT_SECONDS = 10.0
MEMORY_BYTES = 8 * 2**30
SLOW_EVERY = 53  # folders between those that are benched and written as a single file
HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        2**64,
        10**400,
        1e308,
        -0.5,
        "",
        "..",
        "/etc/passwd",
        "a" * 100_000,
        "\x1b[2J",
    ),
    *([], {}, [[]], [None], {"": 0}, [1] * 1000, {"a": {"a": {"a": {}}}}, "\u202e", "1", "-1", "NaN"),
)
PATTERNS = (
    "(a+)+$",
    "(",
    "(?=a)*",
    r"\p{L}*" * 30,
    "x{99999}",
    "(?<n>a)\\g<n>",
    "[",
    "",
    "(.*)*",
    "a{0,65535}" * 3,
    r"\1",
)


# --------------------------------------------------------------------------------------------------------- the changes


def flip_bytes(folder: Path, random: random.Random, name: str) -> None:
    """Change some bytes of a file."""
    content = bytearray((folder / name).read_bytes())
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        content[random.randrange(len(content))] = random.randrange(256)
    (folder / name).write_bytes(content)


def cut_file(folder: Path, random: random.Random, name: str) -> None:
    """Leave the first part of a file, or put bytes behind it."""
    content = (folder / name).read_bytes()
    longer = content + random.randbytes(random.randrange(1, 5000))
    (folder / name).write_bytes(random.choice((content[: random.randrange(len(content))], b"", longer)))


def swap_file(folder: Path, random: random.Random, name: str) -> None:
    """Put something in a file's place that is no regular file."""
    path, away = folder / name, folder.parent / f"{folder.name}-{name}"
    path.rename(away)
    kind = random.choice(("nothing", "folder", "pipe", "link", "broken link", "device", "itself"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to({"link": str(away), "broken link": "nowhere", "device": "/dev/zero", "itself": name}[kind])


def change_json(folder: Path, random: random.Random, name: str) -> None:
    """Change, remove or double values at random places of a document."""
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    for _ in range(random.choice((1, 1, 2, 5))):
        holder, key = pick_place(document, random)
        action = random.randrange(4)
        if action == 0 and isinstance(holder, dict):
            del holder[key]
        elif action == 1:
            other, place = pick_place(document, random)
            with contextlib.suppress(Exception):
                holder[key] = json.loads(json.dumps(other[place]))
        else:
            holder[key] = random.choice(HOSTILE)
    with contextlib.suppress(RecursionError, ValueError):
        (folder / name).write_text(json.dumps(document), encoding="utf-8")


def pick_place(document: Any, random: random.Random) -> tuple[Any, Any]:
    """An object or a list, and a key of it."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting and len(places) < 5000:
        item = waiting.pop()
        pairs = list(item.items() if isinstance(item, dict) else enumerate(item))[:200]
        places += [(item, key) for key, _ in pairs]
        waiting += [value for _, value in pairs if isinstance(value, dict | list) and value]
    return random.choice(places) if places else ({"": 0}, "")


def change_tokenizer(folder: Path, random: random.Random, name: str) -> None:
    """Give the tokenizer a part that somebody thought up."""
    document = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    split = {"type": "Split", "pattern": {"Regex": random.choice(PATTERNS)}, "behavior": "Isolated", "invert": False}
    grow = {
        "type": "Replace",
        "pattern": {"String": random.choice(("a", "", " "))},
        "content": "aa" * random.choice((1, 9)),
    }
    token = {"id": random.choice((0, 5, 10**6, 2**32 - 1)), "content": random.choice(("a", "", "[X]", "é" * 999))}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), random.random() < 0.5)
    parts: list[dict[str, Any]] = [
        {"pre_tokenizer": split},
        {"normalizer": {"type": "Sequence", "normalizers": [grow] * random.choice((1, 30, 1000))}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": random.choice(PATTERNS)}, "content": "b"}},
        {"added_tokens": [*(document.get("added_tokens") or []), {**token, **flags}]},
        {"truncation": {"max_length": 0, "strategy": "LongestFirst", "stride": 7, "direction": "Left"}},
        {"padding": {"strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0}},
        {"model": {**document["model"], "vocab": {"a": random.choice((0, 7, 2**32 - 1))}}},
        {"model": {**document["model"], "type": random.choice(("BPE", "Unigram", "WordLevel", "WordPiece", "X"))}},
        {"post_processor": {"type": "BertProcessing", "sep": ["x", 2**32 - 1], "cls": ["y", 99999]}},
        {"decoder": {"type": "Replace", "pattern": {"Regex": "(a*)*"}, "content": ""}},
    ]
    (folder / TOKENIZER).write_text(json.dumps({**document, **random.choice(parts)}), encoding="utf-8")


def change_graph(folder: Path, random: random.Random, name: str) -> None:
    """Change a graph as a message: nodes, attributes, tensors, outputs, functions."""
    import onnx

    model = onnx.load(folder / MODEL, load_external_data=False)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(GRAPH_CHANGES)(model, random)
    (folder / MODEL).write_bytes(model.SerializeToString())


def change_node(model: Any, random: random.Random) -> None:
    """Another operator, other inputs, twice, or gone."""
    nodes = random.choice([model.graph, *model.functions]).node
    node, other = random.choice(nodes), random.choice(nodes)
    action = random.randrange(5)
    if action == 0:
        node.op_type = random.choice(
            (other.op_type, "Loop", "Scan", "Identity", "EPContext", "Linear", "Attention", "")
        )
        node.domain = random.choice((node.domain, "", "edgeft", "com.microsoft", "ai.onnx.contrib"))
    elif action == 1 and node.input and other.output:
        node.input[random.randrange(len(node.input))] = random.choice((other.output[0], "", "nothing", node.output[0]))
    elif action == 2:
        nodes.append(node)
    elif action == 3:
        nodes.remove(node)
    else:
        del node.input[:1], node.attribute[:1]


def change_attribute(model: Any, random: random.Random) -> None:
    """Another value of an attribute."""
    nodes = [node for part in (model.graph, *model.functions) for node in part.node if node.attribute]
    if nodes:
        attribute = random.choice(random.choice(nodes).attribute)
        attribute.i, attribute.f = random.choice((0, -1, 1, 2**62, -(2**62), 7)), random.choice((0.0, -1.0, 1e38))
        attribute.ints[:] = [random.choice((0, -1, 3, 2**62)) for _ in attribute.ints]


def change_tensor(model: Any, random: random.Random) -> None:
    """Another shape, type or content of a weight, or its values in another file."""
    if not model.graph.initializer:
        return
    tensor = random.choice(model.graph.initializer)
    action = random.randrange(5)
    if action == 0:
        tensor.dims[:] = [random.choice((0, 1, -1, 2, 2**40, *tensor.dims)) for _ in range(random.randrange(4))]
    elif action == 1:
        tensor.data_type = random.randrange(25)
    elif action == 2:
        tensor.raw_data = random.randbytes(len(tensor.raw_data))
    elif action == 3:
        tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
    else:
        tensor.data_location = 1
        tensor.external_data.add(key="location", value=random.choice(("tokenizer.json", "/etc/passwd", "../x")))


def change_outputs(model: Any, random: random.Random) -> None:
    """Another name, type or shape of an input or output."""
    value = random.choice([*model.graph.output, *model.graph.input])
    action = random.randrange(3)
    if action == 0:
        value.name = random.choice(("logits", "probabilities", "x", "input_ids", ""))
    elif action == 1:
        value.type.tensor_type.elem_type = random.randrange(25)
    else:
        del value.type.tensor_type.shape.dim[:1]


def change_function(model: Any, random: random.Random) -> None:
    """A function of another domain, name or body, or versions of operators that don't exist."""
    model.opset_import[0].version = random.choice((model.opset_import[0].version, 1, 7, 99, 0, -1))
    if model.functions:
        function = random.choice(model.functions)
        function.domain = random.choice((function.domain, "", "mine"))
        function.name = random.choice((function.name, "Add", "Attention"))


GRAPH_CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (
    *(change_node, change_node, change_attribute, change_tensor, change_tensor, change_outputs, change_function),
)
CHANGES: dict[str, tuple[Callable[[Path, random.Random, str], None], tuple[str, ...]]] = {
    "bytes": (flip_bytes, (MODEL, TOKENIZER, GOLDEN, MANIFEST)),
    "length": (cut_file, (MODEL, TOKENIZER, GOLDEN, MANIFEST)),
    "no regular file": (swap_file, (MODEL, TOKENIZER, GOLDEN, MANIFEST)),
    "manifest": (change_json, (MANIFEST,)),
    "tokenizer as JSON": (change_json, (TOKENIZER,)),
    "tokenizer thought up": (change_tokenizer, (TOKENIZER,)),
    "golden rows as JSON": (change_json, (GOLDEN,)),
    "graph as a message": (change_graph, (MODEL,)),
}
WEIGHTS = {"graph as a message": 4, "manifest": 3, "tokenizer as JSON": 2, "tokenizer thought up": 2, "bytes": 2}


def mutate(base: Path, target: Path, seed: str) -> dict[str, Any]:
    """Copy an artifact with one change.

    Returns:
        `change`, `file`, and `unlisted`: whether bytes were changed that the manifest then doesn't list.
    """
    generator = random.Random(seed)
    shutil.copytree(base, target)
    name = generator.choices(list(CHANGES), [WEIGHTS.get(name, 1) for name in CHANGES])[0]
    change, files = CHANGES[name]
    file = generator.choice(files)
    before = (target / file).read_bytes()
    change(target, generator, file)
    same = (target / file).is_file() and not (target / file).is_symlink() and (target / file).read_bytes() == before
    repaired = file != MANIFEST and generator.random() < 0.75 and repair(target)
    return {"change": name, "file": file, "unlisted": not (same or repaired or file == MANIFEST)}


def repair(folder: Path) -> bool:
    """Write the digests that the files have now into the manifest; False where a file isn't one."""
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name in document["files"]:
        path = folder / name
        if not path.is_file() or path.is_symlink():
            return False
        content = path.read_bytes()
        document["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return True


# ---------------------------------------------------------------------------------------------------------- the trials


def actions(folder: Path, slow: bool) -> dict[str, Callable[[], object]]:
    """What is done with a folder, by name."""
    texts = ("a good film", "awful plot, so poor")
    quick = ("--seconds", "0.2", "--rounds", "1", "--stream-alone")
    found: dict[str, Callable[[], object]] = {
        "load": lambda: load_and_answer(folder),
        "serve": lambda: load_as_server(folder),
        "inspect": lambda: run_command("inspect", folder),
        "verify": lambda: run_command("verify", folder, "--replay"),
        "predict": lambda: run_command("predict", folder, *texts, "--json"),
    }
    if slow:
        found["bench"] = lambda: run_command("bench", folder, *quick, "--json")
        found["single_file"] = lambda: run_command("single-file", folder, folder.parent / f"{folder.name}.onnx")
    return found


def load_and_answer(folder: Path) -> None:
    """As an app does."""
    import edgeft

    model: Any = edgeft.load(folder, threads=1)
    model([model.sample, model.sample])


def load_as_server(folder: Path) -> None:
    """As the server does before it listens."""
    from edgeft.cli.device import _load_by_name
    from edgeft.serve.messages import card

    for name, model in _load_by_name([str(folder)], 1).items():
        card(name, model)


def run_command(*words: object) -> None:
    """A command line in this process; anything but success is SystemExit."""
    from edgeft import cli

    sys.argv = ["edgeft", *map(str, words)]
    cli.main()


def try_action(action: Callable[[], object]) -> tuple[str, str]:
    """How an action ends, `answered`, `refused` or `traceback`, and the words of the last two."""
    from edgeft.errors import EdgeftError

    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            action()
        except EdgeftError as error:
            return ("refused", str(error)) if "\n" not in str(error) else ("traceback", f"several lines: {error}")
        except SystemExit as stop:
            return ("refused", said.getvalue()[-500:]) if stop.code else ("answered", "")
        except BaseException:  # noqa: BLE001 - this is what is looked for
            return "traceback", traceback.format_exc()[-1500:]
    return "answered", ""


def try_folder(folder: Path, slow: bool) -> Iterator[tuple[str, str, str]]:
    """Every action with its end and its words, in a process of its own."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        work(folder, slow, writing)
    os.close(writing)
    waiting = list(actions(folder, slow))
    with os.fdopen(reading, "rb") as answers:
        while waiting:
            action = waiting.pop(0)
            if not select.select([answers], [], [], SECONDS.get(action, LIMIT_SECONDS))[0]:
                os.kill(process, signal.SIGKILL)
                yield action, "hang", ""
                break
            line = answers.readline()
            if not line:
                yield action, "crash", ""
                break
            end, words = json.loads(line)
            yield action, end, words
    os.waitpid(process, 0)


def work(folder: Path, slow: bool, writing: int) -> None:
    """What the process of a folder does."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with os.fdopen(writing, "w") as answers:
        for action in actions(folder, slow).values():
            answers.write(json.dumps(try_action(action)) + "\n")
            answers.flush()
    os._exit(0)


def count(bases: list[Path], numbers: range, seed: int, seconds: float) -> dict[str, Any]:
    """Try the folders of these numbers until the time is up; the figures, and what went wrong with each that it did."""
    ends: collections.Counter[str] = collections.Counter()
    until, done = time.monotonic() + seconds, 0
    wrong: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edgeft-fuzz-") as place:
        for number in numbers:
            if time.monotonic() > until:
                break
            done += 1
            folder = Path(place) / f"artifact-{number}"
            facts = mutate(bases[number % len(bases)], folder, f"{seed}/{number}")
            for action, end, words in try_folder(folder, number % SLOW_EVERY == 0):
                if end == "answered" and facts["unlisted"] and action != "inspect":
                    end = "answer from unlisted bytes"
                ends[f"{action} {end}"] += 1
                if end not in ("answered", "refused"):
                    wrong.append({"number": number, "action": action, "end": end, "words": words, **facts})
            for left in Path(place).iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    return {"folders": done, "ends": dict(ends), "wrong": wrong}


def warm_up() -> None:
    """Import what every process needs, and start no thread."""
    import numpy  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    from edgeft import cli, runtime  # noqa: F401
    from edgeft.serve import messages  # noqa: F401


def main() -> None:
    """Count, in as many processes as asked, and print a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--folders", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=7200.0, help="no folder is begun after them")
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    warm_up()
    start, workers = time.monotonic(), []
    for index in range(options.processes):
        result = Path(tempfile.mkstemp(prefix="edgeft-fuzz-", suffix=".json")[1])
        if (process := os.fork()) == 0:
            numbers = range(index, options.folders, options.processes)
            found = count(options.artifacts, numbers, options.seed, options.seconds)
            result.write_text(json.dumps(found), encoding="utf-8")
            os._exit(0)
        workers.append((process, result))
    ends: collections.Counter[str] = collections.Counter()
    wrong: list[dict[str, Any]] = []
    folders = 0
    for process, result in workers:
        os.waitpid(process, 0)
        found = json.loads(result.read_text(encoding="utf-8"))
        ends.update(found["ends"])
        wrong += found["wrong"]
        folders += found["folders"]
        result.unlink()
    for item in wrong:
        print(json.dumps(item))
    kinds = collections.Counter(item["end"] for item in wrong)
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({"folders": folders, "runs": sum(ends.values()), "seconds": seconds, "wrong": kinds, **ends}))


if __name__ == "__main__":
    main()
