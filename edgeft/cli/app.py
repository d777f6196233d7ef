"""The application, and what every command uses."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console

from edgeft.errors import require
from edgeft.progress import console
from edgeft.terminal.console import WordConsole
from edgeft.terminal.printing import printable
from edgeft.version import __version__

app = App(
    name="edgeft",
    version=__version__,
    help="From a pre-trained transformer and a labelled file to a small model that runs without PyTorch.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says what a stop means
)

Flat = Parameter(name="*")
Json = Annotated[bool, Parameter(name="--json", negative="", help="print one JSON document as the last line")]


def print_json(document: object) -> None:
    """One JSON document as the last line of standard output."""
    print(msgspec.json.encode(document).decode(), flush=True)


def print_words(text: str) -> None:
    """Lines for people, on standard output; what would act on a terminal is written out."""
    print(printable(text))


def stdout() -> Console:
    """The console of results."""
    return WordConsole()


def need_training() -> None:
    """Load what training needs, which takes seconds, and name the extra where something is missing."""
    with console().status("loading torch and transformers"):
        for module in ("torch", "transformers", "peft", "sklearn", "pyarrow", "torch_pruning", "onnx", "onnxruntime"):
            require(module, "to train and compress")
