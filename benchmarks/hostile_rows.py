"""Mutated files of rows and mutated recipes through the commands that read them: how many end in a traceback.

    python benchmarks/hostile_rows.py [--runs 4000] [--seed 0] [--commands data,recipe,predict]

Every run must end well or in a user's error (exit code 2); anything else is counted and shown.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from edgeft import recipe
from edgeft.data.profile import profile
from edgeft.data.read import sources
from edgeft.errors import EdgeftError
from edgeft.recipe import DataConfig
from edgeft.runtime.texts import texts

SLOW_S = 10.0
PIECES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xe9",
        b'"',
        b'""',
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
    ),
    *(b"nan", b"inf", b"-0", b"1e999", b"9" * 5_000, b"[" * 5_000, b"{" * 40, b'{"a":' * 3_000, b"\\ud800", b"null"),
    *(b"true", b"2024-13-45", b"&a [*a]", b"<<: *a", b"!!binary x", b"!!int x", b"? [a]", b"!!python/name:os.system"),
    *(
        b"\xf0\x9f\x98\x80",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"a" * 70_000,
        b"sep=;\n",
        b"- ",
        b": ",
        b"0x",
        b"1_000",
        b"~",
    ),
)


def tables() -> dict[str, bytes]:
    """Small good files, by name: the form of rows of every task, in every format."""
    plain = [{"text": f"words of row {i}", "label": "ab"[i % 2], "target": i / 7, "when": 1700 + i} for i in range(24)]
    asked = [{"question": "who?", "context": "Ada Lovelace", "answers": {"text": ["Ada"], "answer_start": [0]}}] * 4
    tagged = [{"tokens": ["Ada", "was"], "tags": ["B-P", "O"], "spans": [{"start": 0, "end": 3, "label": "P"}]}] * 6
    chats = [{"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}] * 5
    pairs = [{"source": f"one {i}", "target": f"two {i}"} for i in range(20)]
    made = {
        f"{name}.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        for name, rows in (("plain", plain), ("asked", asked), ("tagged", tagged), ("chats", chats), ("pairs", pairs))
    }
    for ending, mark in (("csv", ","), ("tsv", "\t"), ("csv", ";")):
        lines: list[Iterable[object]] = [plain[0].keys(), *(row.values() for row in plain)]
        made[f"plain{ord(mark)}.{ending}"] = "".join(mark.join(map(str, line)) + "\n" for line in lines).encode()
    made["cells.csv"] = b'tokens,tags\n"[""a"", ""b""]","[""X"", ""O""]"\n' * 1 + b'"[""c""]","[""O""]"\n' * 5
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), sink)
    made["plain.parquet"] = sink.getvalue().to_pybytes()
    table = made["plain44.csv"]
    made |= {"a.csv.gz": gzip.compress(table), "a.csv.bz2": bz2.compress(table), "a.csv.xz": lzma.compress(table)}
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", table)
    return made | {"a.zip": inside.getvalue(), "a.csv.zst": _zstd(table)}


def _zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to four changes: a byte, a piece put in, a part taken out, doubled or moved."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(made) + 1)
        end = min(len(made), start + chance.choice((0, 1, 1, 4, 30, 400)))
        match chance.randrange(4):
            case 0 if made:
                made[start % len(made)] = chance.randrange(256)
            case 1:
                made[start:end] = chance.choice(PIECES)
            case 2:
                del made[start:end]
            case _:
                made[start:start] = made[start:end] * chance.choice((1, 2, 50))
    return bytes(made)


def look_at_rows(file: Path, chance: random.Random) -> None:
    """What `edgeft data FILE` does, with options by chance."""
    tasks = (None, None, "text-classification", "text-regression", "token-classification", "question-answering")
    config = DataConfig(
        file=str(file),
        task=chance.choice((*tasks, "text-generation", "text2text-generation")),
        skip_bad_rows=chance.random() < 0.5,
        multi_label=chance.random() < 0.1,
        time_column="when" if chance.random() < 0.1 else None,
        group_column="label" if chance.random() < 0.1 else None,
        clean=["unicode", "html", "whitespace"] if chance.random() < 0.2 else None,
    )
    recipe.check_stage("data", config)
    sources.task_by_columns(config)
    if chance.random() < 0.5:
        sources.read_rows(config)
    else:
        profile.profile(config, judged=0)


def read_recipe(file: Path, chance: random.Random) -> None:
    """What `edgeft recipe show FILE --set ...` does."""
    settings = [f"distill.epochs={file.read_bytes()[:200].decode('latin-1')}"] if chance.random() < 0.3 else []
    recipe.to_yaml(recipe.load(str(file), recipe.parse_settings(settings)))


def read_texts(file: Path, chance: random.Random) -> None:
    """What `edgeft predict --file FILE` reads."""
    for _ in texts(file, chance.choice(("text", "text", "label"))):
        pass


COMMANDS: dict[str, Callable[[Path, random.Random], None]] = {
    "data": look_at_rows,
    "recipe": read_recipe,
    "predict": read_texts,
}


def fuzz(
    runs: int, seed: int, folder: Path, commands: tuple[str, ...] = tuple(COMMANDS)
) -> tuple[Counter[str], list[str]]:
    """Run mutations.

    Args:
        runs: how many.
        seed: of everything.
        folder: for the files.
        commands: those of COMMANDS.

    Returns:
        How many runs ended how (`well`, `refused`, `traceback`, `slow`, `several lines`), and what was wrong.
    """
    rows, counts, wrong = tables(), Counter[str](), list[str]()
    written = {
        "a.yaml": recipe.to_yaml(recipe.load("small")).encode(),
        "b.yaml": b"data: {file: a.csv, test_from: 2024-01-02}\n",
    }
    for run in range(runs):
        chance = random.Random(f"{seed} {run}")
        command = chance.choice(commands)
        name, content = chance.choice(sorted((written if command == "recipe" else rows).items()))
        file = folder / name
        file.write_bytes(mutated(content, chance))
        ended, detail = _end(COMMANDS[command], file, chance)
        counts[ended] += 1
        if ended not in ("well", "refused"):
            wrong.append(f"run {run} ({command} {name}): {detail}")
        file.unlink()
    return counts, wrong


def _end(command: Callable[[Path, random.Random], None], file: Path, chance: random.Random) -> tuple[str, str]:
    """How one run ends."""
    start, ended, detail = time.perf_counter(), "well", ""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            command(file, chance)
        except EdgeftError as error:
            lines = str(error).splitlines()
            single = len(lines) == 1 or command is read_recipe  # a recipe's problems are a line each
            ended, detail = ("refused", "") if single and str(error) else ("several lines", repr(str(error)[:300]))
        except Exception:  # noqa: BLE001 - what is counted
            ended, detail = "traceback", traceback.format_exc(limit=-4)
    return ("slow", f"{time.perf_counter() - start:.0f} s") if time.perf_counter() - start > SLOW_S else (ended, detail)


def main() -> None:
    """Fuzz and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = fuzz(asked.runs, asked.seed, Path(folder), tuple(asked.commands.split(",")))
    print("\n".join(wrong[:20]))
    print(json.dumps({"runs": asked.runs, "seed": asked.seed, **counts}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
