"""Faults planted into real rows, and how many of them the data room finds.

    python benchmarks/planted.py [--seeds 3]

Into the demo's 8,530 movie reviews, each kind for itself: near duplicates, flipped labels, test rows copied into
training, personal data with decoys. The same checks over the clean rows count the false alarms.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import random
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import movies
import numpy as np
from sklearn.metrics import roc_auc_score

from edgeft.data.clean.near import earlier_similar, jaccard
from edgeft.data.profile.label_errors import label_errors

SIMILARITY = 0.7
DUPLICATE_SHARE, FLIP_SHARE, LEAKS, PERSONAL = 0.01, 0.02, 50, 100


class Row(NamedTuple):
    """A review and its label, 0 or 1."""

    text: str
    label: int


class Planted(NamedTuple):
    """A value in a row; kind "decoy" must not be found."""

    row: int
    start: int
    end: int
    kind: str


def read() -> list[Row]:
    """The demo's rows."""
    return [Row(text, int(label == "good")) for text, label in movies.rows()]


# ------------------------------------------------------------------------------------------------------ near duplicates


def _typo(words: list[str], rng: random.Random, known: Sequence[str]) -> list[str]:
    """A letter doubled, left out, swapped with the next, or another one."""
    at = max(range(len(words)), key=lambda i: (len(words[i]) > 3, rng.random()))
    word = words[at]
    i = rng.randrange(max(1, len(word) - 1))
    changed = (
        word[:i] + word[i] + word[i:],
        word[:i] + word[i + 1 :],
        word[:i] + word[i : i + 2][::-1] + word[i + 2 :],
        word[:i] + rng.choice(string.ascii_lowercase) + word[i + 1 :],
    )
    return [*words[:at], rng.choice(changed), *words[at + 1 :]]


def _replaced(words: list[str], rng: random.Random, known: Sequence[str]) -> list[str]:
    at = rng.randrange(len(words))
    return [*words[:at], rng.choice(known), *words[at + 1 :]]


def _dressed(words: list[str], rng: random.Random, known: Sequence[str]) -> list[str]:
    """Capitals and punctuation as another source would write them."""
    text = " ".join(words).replace(" ,", ",").replace(" .", rng.choice((".", "!", " ...")))
    return rng.choice((text.capitalize(), text.title(), text.upper())).split()


def _dropped(words: list[str], rng: random.Random, known: Sequence[str]) -> list[str]:
    at = rng.randrange(len(words))
    return words[:at] + words[at + 1 :]


def _appended(words: list[str], rng: random.Random, known: Sequence[str]) -> list[str]:
    return [*words, rng.choice(known)]


EDITS: tuple[Callable[[list[str], random.Random, Sequence[str]], list[str]], ...] = (
    _typo,
    _replaced,
    _dressed,
    _dropped,
    _appended,
)


def plant_duplicates(rows: Sequence[Row], rng: random.Random) -> tuple[list[Row], list[tuple[int, int]]]:
    """The rows with edited copies among them, and the places of each copy and its original."""
    known = [word for row in rows for word in row.text.split()]
    sources = rng.sample(
        [i for i, row in enumerate(rows) if len(row.text.split()) > 1], int(DUPLICATE_SHARE * len(rows))
    )
    copies = [Row(" ".join(rng.choice(EDITS)(rows[i].text.split(), rng, known)), rows[i].label) for i in sources]
    order = rng.sample(range(len(rows) + len(copies)), len(rows) + len(copies))
    place = {index: at for at, index in enumerate(order)}
    together = [*rows, *copies]
    pairs = [(place[len(rows) + copy], place[source]) for copy, source in enumerate(sources)]
    return [together[i] for i in order], pairs


def duplicates_found(rows: Sequence[Row], rng: random.Random) -> dict[str, Any]:
    """How many of the planted near duplicates are found, and what else is."""
    planted, pairs = plant_duplicates(rows, rng)
    texts = [row.text for row in planted]
    earlier = earlier_similar(texts, SIMILARITY)
    similar = [pair for pair in pairs if jaccard(texts[pair[0]], texts[pair[1]]) >= SIMILARITY]

    def share(of: Sequence[tuple[int, int]]) -> float:
        return float(sum(earlier[max(pair)] >= 0 for pair in of) / len(of))

    return {
        "planted": len(pairs),
        "similar_enough": len(similar),
        "found_of_planted": share(pairs),
        "found_of_similar_enough": share(similar),
    }


# -------------------------------------------------------------------------------------------------------- label errors


def plant_flips(rows: Sequence[Row], rng: random.Random) -> tuple[list[Row], set[int]]:
    """The rows with some labels turned round, and which."""
    flipped = set(rng.sample(range(len(rows)), int(FLIP_SHARE * len(rows))))
    return [Row(row.text, 1 - row.label if i in flipped else row.label) for i, row in enumerate(rows)], flipped


def flips_found(rows: Sequence[Row], rng: random.Random, seed: int) -> dict[str, Any]:
    """How well the scores tell the turned labels from the others."""
    planted, flipped = plant_flips(rows, rng)
    wrong = np.isin(np.arange(len(rows)), list(flipped))
    start = time.perf_counter()
    found = label_errors([row.text for row in planted], np.array([row.label for row in planted], dtype=np.int64), seed)
    seconds = time.perf_counter() - start
    worst = np.argsort(-found.scores, kind="stable")[: len(flipped)]
    return {
        "planted": len(flipped),
        "auroc": float(roc_auc_score(wrong, found.scores)),
        "flagged": int(found.suspicious.sum()),
        "found": float(found.suspicious[wrong].mean()),
        "precision": float(wrong[found.suspicious].mean()),
        "precision_of_worst": float(wrong[worst].mean()),
        "seconds": round(seconds, 2),
    }


# --------------------------------------------------------------------------------------------------------------- leaks


def plant_leaks(rows: Sequence[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Training rows and a tenth for the test, of which some stand in training as well."""
    mixed = rng.sample(list(rows), len(rows))
    test, train = mixed[: len(rows) // 10], mixed[len(rows) // 10 :]
    train += rng.sample(test, LEAKS)
    return rng.sample(train, len(train)), test


def leaks_found(rows: Sequence[Row], rng: random.Random) -> dict[str, Any]:
    """What `edgeft data` says of them."""
    train, test = plant_leaks(rows, rng)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"--file": _write(folder / "train.csv", train), "--test-file": _write(folder / "test.csv", test)}
        options = [str(part) for item in files.items() for part in item]
        command = [sys.executable, "-m", "edgeft", "data", *options, "--out", str(folder / "out"), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    leaks = json.loads(done.stdout.splitlines()[-1])["metrics"]["leaks"]
    # A leaked row may fall into the validation rows, which are split off the training file.
    return {"planted": LEAKS, "found": leaks["train_in_test"] + leaks["validation_in_test"]}


def _write(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((row.text, ("bad", "good")[row.label]) for row in rows)
    return path


# ------------------------------------------------------------------------------------------------------- personal data

NAMES = ("anna.kowalska", "j.smith", "li_wei", "maria-garcia", "o.brien+news", "tom", "x.y.z", "support2")
HOSTS = ("example.com", "mail.example.org", "uni-jena.example.de", "example.co.uk", "corp.example.net")
AREAS = ("212", "415", "312", "617", "206", "512", "303", "404")
CARDS = (("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16))
IBANS = (("DE", 18, ""), ("FR", 23, ""), ("ES", 20, ""), ("GB", 14, "NWBK"), ("NL", 10, "ABNA"))
FOREIGN = ("+44 20 7946 0{:03d}", "+49 30 9018 2{:03d}", "+33 1 42 68 5{:01d} 00", "+61 2 9374 4{:03d}")


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def _grouped(value: str, rng: random.Random, separators: str) -> str:
    """In groups of four, or not."""
    separator: str = rng.choice(["", *separators])
    return separator.join(value[i : i + 4] for i in range(0, len(value), 4))


def luhn(digits: str) -> int:
    """The Luhn sum modulo 10; 0 for a valid number (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10


def email(rng: random.Random) -> str:
    """An address of a reserved domain."""
    return f"{rng.choice(NAMES)}@{rng.choice(HOSTS)}"


def credit_card(rng: random.Random) -> str:
    """A number with an issuer's prefix and length and a valid check digit."""
    prefix, length = rng.choice(CARDS)
    digits = prefix + _digits(rng, length - len(prefix) - 1)
    return _grouped(digits + str(-luhn(digits + "0") % 10), rng, " -")


def decoy(rng: random.Random) -> str:
    """A card's number with one digit wrong, so that the check digit fails."""
    value = credit_card(rng)
    at = rng.choice([i for i, letter in enumerate(value) if letter.isdigit() and i > 4])
    return value[:at] + str((int(value[at]) + rng.randint(1, 8)) % 10) + value[at + 1 :]


def iban(rng: random.Random) -> str:
    """A number with valid check digits (ISO 13616, modulo 97)."""
    country, digits, bank = rng.choice(IBANS)
    account = bank + _digits(rng, digits)
    number = int("".join(str(int(letter, 36)) for letter in f"{account}{country}00"))
    return _grouped(f"{country}{98 - number % 97:02d}{account}", rng, " ")


def ip_address(rng: random.Random) -> str:
    """Of version 4, one in four of version 6."""
    if rng.random() < 0.25:
        return f"2001:db8::{rng.randrange(1, 1 << 16):x}:{rng.randrange(1, 1 << 16):x}"
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


def phone(rng: random.Random) -> str:
    """American in four ways of writing, or foreign with its prefix."""
    if rng.random() < 0.25:
        return rng.choice(FOREIGN).format(rng.randint(0, 9))
    area, exchange, line = (
        rng.choice(AREAS),
        f"{rng.randint(3, 9)}{rng.randint(2, 9)}{rng.randint(2, 9)}",
        _digits(rng, 4),
    )
    ways = ("({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "+1 {} {} {}")
    return rng.choice(ways).format(area, exchange, line)


KINDS = {"email": email, "credit_card": credit_card, "iban": iban, "ip_address": ip_address, "phone": phone}


def plant_personal(rows: Sequence[Row], rng: random.Random) -> tuple[list[Row], list[Planted]]:
    """The rows with a value between two words of some, and where; a fifth as many decoys as values."""
    makers = [item for item in KINDS.items() for _ in range(PERSONAL // len(KINDS))]
    makers += [("decoy", decoy)] * (PERSONAL // len(KINDS))
    changed, planted = list(rows), list[Planted]()
    for row, (kind, maker) in zip(rng.sample(range(len(rows)), len(makers)), makers, strict=True):
        words, value = rows[row].text.split(), maker(rng)
        at = rng.randint(0, len(words))
        start = len(" ".join([*words[:at], ""])) if at else 0
        changed[row] = Row(" ".join([*words[:at], value, *words[at:]]), rows[row].label)
        planted.append(Planted(row, start, start + len(value), kind))
    return changed, planted


def personal_found(rows: Sequence[Row], rng: random.Random) -> dict[str, Any]:
    """Share of each kind that is found whole; of decoys, the share that is taken for a card."""
    from edgeft.cleaning.personal import find

    planted, values = plant_personal(rows, rng)
    found, missed = Counter[str](), list[str]()
    for value in values:
        text, kind = planted[value.row].text, "credit_card" if value.kind == "decoy" else value.kind
        hit = any(f.kind == kind and (f.start, f.end) == (value.start, value.end) for f in find(text, [*KINDS], "US"))
        found[value.kind] += hit
        if hit == (value.kind == "decoy"):
            missed.append(f"{value.kind} {text[value.start : value.end]}")
    counts = Counter(value.kind for value in values)
    return {kind: found[kind] / count for kind, count in counts.items()} | {"wrong": missed}


# -------------------------------------------------------------------------------------------------------- false alarms


def false_alarms(rows: Sequence[Row]) -> dict[str, Any]:
    """What is reported of the rows as they stand, with the near duplicates to look at."""
    from edgeft.cleaning.personal import find

    texts = [row.text for row in rows]
    earlier = earlier_similar(texts, SIMILARITY)
    pairs = [(texts[earlier[i]], texts[i]) for i in np.flatnonzero(earlier >= 0)]
    personal = Counter(f.kind for text in texts for f in find(text, [*KINDS], "US"))
    suspicious = label_errors(texts, np.array([row.label for row in rows]), 0).suspicious
    return {
        "rows": len(rows),
        "near_duplicates": len(pairs),
        "pairs": pairs,
        "personal": dict(personal),
        "label_errors": int(suspicious.sum()),
    }


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    rows, runs = read(), list[dict[str, Any]]()
    for seed in range(parser.parse_args().seeds):
        runs.append(
            {
                "seed": seed,
                "duplicates": duplicates_found(rows, random.Random(seed)),
                "label_errors": flips_found(rows, random.Random(seed), seed),
                "leaks": leaks_found(rows, random.Random(seed)),
                "personal": personal_found(rows, random.Random(seed)),
            }
        )
    alarms = false_alarms(rows)
    _print(runs, alarms)
    print(json.dumps({"runs": runs, "clean": alarms}))


def _personal(kind: str, run: dict[str, Any]) -> str:
    return f"{run['personal'][kind]:.0%}"


def _print(runs: Sequence[dict[str, Any]], alarms: dict[str, Any]) -> None:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "seed": lambda run: str(run["seed"]),
        "near duplicates": lambda run: f"{run['duplicates']['found_of_planted']:.1%} of {run['duplicates']['planted']}",
        f"with J >= {SIMILARITY}": lambda run: (
            f"{run['duplicates']['found_of_similar_enough']:.1%} of {run['duplicates']['similar_enough']}"
        ),
        "label errors, AUROC": lambda run: f"{run['label_errors']['auroc']:.3f}",
        "flagged": lambda run: (
            f"{run['label_errors']['found']:.0%} at {run['label_errors']['precision']:.0%} precision"
        ),
        "leaks": lambda run: f"{run['leaks']['found']} of {run['leaks']['planted']}",
        **{kind: functools.partial(_personal, kind) for kind in [*KINDS, "decoy"]},
    }
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for run in runs:
        print(f"| {' | '.join(cell(run) for cell in columns.values())} |")
    personal = ", ".join(f"{count} {kind}" for kind, count in alarms["personal"].items()) or "no personal data"
    print(
        f"clean rows, {alarms['rows']:,}: {alarms['near_duplicates']} near duplicates, {personal}, "
        f"{alarms['label_errors']} labels flagged ({alarms['label_errors'] / alarms['rows']:.1%})"
    )


if __name__ == "__main__":
    main()
