"""The key of a stage: a hash of everything that its result depends on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft.files import file_sha256
from edgeft.version import __version__

# What a stage declares as `libraries`: distributions whose version can change its output, and Python, whose Unicode
# tables affect how texts are cleaned and compared. Distributions that aren't installed are left out of the key.
PYTHON = "python"
READING = (PYTHON, "numpy", "pyarrow", "datasets", "rensa", "py3langid")
CLEANING = ("ftfy", "phonenumberslite", "phonenumbers", "python-stdnum", "presidio-analyzer", "spacy")
SCORING = ("numpy", "scikit-learn", "scipy", "seqeval", "sacrebleu", "rouge-score")
TRAINING = (PYTHON, "torch", "transformers", "tokenizers", "safetensors", "accelerate", "optimum", *SCORING)
ADAPTING = ("peft", "bitsandbytes")
RUNNING = (PYTHON, "onnxruntime", "onnxruntime-gpu", "tokenizers", "numpy", *CLEANING)
EXPORTING = ("torch", "transformers", "safetensors", "optimum", "onnx", "onnxscript", "onnx-ir", *RUNNING, *SCORING)
DRAWING = ("jinja2", "matplotlib")  # the report
VERSIONED = tuple(dict.fromkeys((*TRAINING, *ADAPTING, "torch-pruning", *EXPORTING, *READING, *CLEANING)))

SHOWN = 3  # changes named in one line


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """Everything that the output of a stage depends on.

    Attributes:
        stage: its name.
        options: the config's options that affect the output.
        inputs: digest of each input.
        code: hash of edgeft's sources.
        libraries: version of each library that affects the output.
        kernels: hash of the C sources and built libraries; empty if the stage runs no graph.
        machine: the hardware that timings depend on; empty if no timing affects the output.
        facts: further dependencies, such as keys of other stages.
    """

    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    code: str
    libraries: dict[str, str] = field(default_factory=dict)
    kernels: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 of all fields."""
        return hashlib.sha256(msgspec.json.encode(asdict(self), order="deterministic")).hexdigest()


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ones among these packages; Python's without the patch number."""
    versions = {}
    for package in packages:
        if package == PYTHON:
            versions[package] = ".".join(platform.python_version_tuple()[:2])
            continue
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def versions() -> dict[str, str]:
    """Versions of edgeft, Python and the installed libraries that can affect a result."""
    return {**versions_of(VERSIONED), "edgeft": __version__, PYTHON: platform.python_version()}


@functools.cache
def kernels_version() -> str:
    """Hash of edgeft's C sources and the libraries built from them."""
    return digest_of_kernels(Path(__file__).parent / "runtime")


def digest_of_kernels(runtime: Path) -> str:
    """Hash of all C sources and built libraries below a folder; a missing library changes it, too."""
    total = hashlib.sha256()
    for file in sorted(runtime.rglob("*")):
        if file.suffix in (".c", ".h", ".so", ".pyd", ".dylib", ".dll"):
            total.update(f"{file.relative_to(runtime).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def describe_differences(before: Any, now: Ingredients, paths: Mapping[str, Path]) -> str:
    """Say why a stored result is out of date.

    Args:
        before: its `StageResult`; one of an earlier release lacks `code` and `libraries`.
        now: the current dependencies.
        paths: the inputs' files and folders.
    """
    changes = [
        *_changed_options(before, now),
        *_changed_inputs(before, now, paths),
        *_changed_facts(before, now),
        *_changed_environment(before, now),
    ]
    more = [f"{len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return ", ".join([*changes[:SHOWN], *more]) or "edgeft or its libraries changed since"


def _changed_options(before: Any, now: Ingredients) -> Iterator[str]:
    for name, value in now.options.items():
        if name in before.config and before.config[name] != value:
            yield f"{now.stage}.{name} {_as_json(before.config[name])} -> {_as_json(value)}"


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _changed_inputs(before: Any, now: Ingredients, paths: Mapping[str, Path]) -> Iterator[str]:
    for label, digest in now.inputs.items():
        what = paths[label].name if paths[label].is_file() else f"its input {label}"
        if label not in before.inputs:
            yield f"{what} is new"
        elif before.inputs[label] != digest:
            yield f"{what} changed since"
    yield from (f"its input {label} is gone" for label in before.inputs if label not in now.inputs)


def _changed_facts(before: Any, now: Ingredients) -> Iterator[str]:
    changed = [name for name, fact in now.facts.items() if before.facts and before.facts.get(name) != fact]
    if changed:
        yield f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} new"


def _changed_environment(before: Any, now: Ingredients) -> Iterator[str]:
    """Yield changes of machine, libraries, kernels and code."""
    if before.machine != now.machine and before.machine:
        yield f"another machine ({', '.join(_changed_values(before.machine, now.machine))})"
    if before.libraries:
        yield from _changed_values(before.libraries, now.libraries)
    if before.kernels and before.kernels != now.kernels:
        yield "edgeft's kernels changed"
    if before.code and before.code != now.code:
        old, new = before.versions.get("edgeft"), __version__
        yield f"edgeft {old} -> {new}" if old != new else "edgeft's code changed"


def _changed_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} {_as_text(before.get(name))} -> {_as_text(now.get(name))}" for name in names]


def _as_text(value: Any) -> str:
    return "none" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
