"""The data stage at 10 thousand, 100 thousand and a million generated rows: seconds, memory, and the rerun.

    python benchmarks/data_scale.py [--chats] [ROWS ...]

Rows are sentences of words of the demo's reviews, drawn at random (seeded), one in a hundred repeated and one in a
hundred repeated with a word changed; some carry an e-mail, HTML or a web address. Each run is a process of its own.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import movies

SIZES = (10_000, 100_000, 1_000_000)
STEPS = ("unicode", "html", "urls", "control", "whitespace", "duplicates", "near_duplicates", "conflicts")
DIRT = ("&amp;", "<b>", "https://example.org/page?id=7", "caf\u00c3\u00a9", "me@example.org", "\u200b")


def words() -> list[str]:
    """The words of the demo's reviews, as often as they stand there."""
    return " ".join(text for text, _ in movies.rows()).split()


def sentences(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Texts and labels."""
    rng, known = random.Random(seed), words()
    last, label = "nothing yet", "good"
    for number in range(count):
        luck = rng.random()
        if luck < 0.01:
            text = last
        elif luck < 0.02:
            text = " ".join([*last.split()[:-1], rng.choice(known)])
        else:
            text, label = " ".join(rng.choices(known, k=rng.randint(8, 32))), "good" if number % 2 else "bad"
        if luck > 0.95:
            text = f"{text} {rng.choice(DIRT)}"
        last = text
        yield text, label


def write_chats(path: Path, count: int) -> None:
    """A JSONL file of generated chats, a question and an answer each."""
    texts = (text for text, _ in sentences(2 * count, 1))
    with path.open("w", encoding="utf-8") as file:
        for question, answer in zip(texts, texts, strict=True):
            said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": said}) + "\n")


def write(path: Path, count: int) -> None:
    """A CSV file of generated rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(sentences(count))


def stage(path: Path, out: Path) -> tuple[dict[str, object], float]:
    """One run of `edgeft data` with the steps above: its stage.json, and seconds of the process."""
    command = [sys.executable, "-m", "edgeft", "data", "--file", str(path), "--out", str(out), "--anonymise"]
    chats = path.suffix == ".jsonl"
    command += ["--task", "text-generation"] if chats else []
    steps = [step for step in STEPS if not chats or step != "conflicts"]
    command += [part for step in steps for part in ("--clean", step)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "stage.json").read_text()), time.perf_counter() - start


def main() -> None:
    """Print a table and one JSON line."""
    chats = "--chats" in sys.argv
    sizes = [int(size) for size in sys.argv[1:] if size != "--chats"] or list(SIZES)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path, out = Path(folder) / f"{size}.{'jsonl' if chats else 'csv'}", Path(folder) / f"out-{size}"
            (write_chats if chats else write)(path, size)
            result, seconds = stage(path, out)
            _, again = stage(path, out)
            found.append(
                {
                    "rows": size,
                    "file_bytes": path.stat().st_size,
                    "process_seconds": round(seconds, 2),
                    "stage_seconds": round(float(result["seconds"]), 2),  # type: ignore[arg-type]
                    "peak_memory_bytes": result["peak_memory_bytes"],
                    "rerun_seconds": round(again, 2),
                    "removed": result["metrics"]["removed"],  # type: ignore[index]
                }
            )
    print("| rows | file | stage | a row | peak memory | rerun (whole process) |\n|---|---|---|---|---|---|")
    for row in found:
        each = 1e6 * row["stage_seconds"] / row["rows"]
        print(
            f"| {row['rows']:,} | {row['file_bytes'] / 1e6:.1f} MB | {row['stage_seconds']} s | {each:.0f} us "
            f"| {row['peak_memory_bytes'] / 1e9:.2f} GB | {row['rerun_seconds']} s |"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
