"""The command line: one thin function a command, heavy imports inside."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from cyclopts import CycloptsError, UnknownOptionError

from edgeft import ranks, recipe

# Their import registers the commands.
from edgeft.cli import bench, compress, data, device, evaluate, recipes, run, search, stages, update
from edgeft.cli.app import app
from edgeft.cli.flags import flags_of
from edgeft.errors import EdgeftError
from edgeft.terminal.printing import printable

__all__ = [
    "app",
    "bench",
    "compress",
    "data",
    "device",
    "evaluate",
    "main",
    "recipes",
    "run",
    "search",
    "stages",
    "update",
]


STOPPED = "stopped; the same command goes on where it was"


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whoever tidies up after Ctrl-C does so for it, too."""


def main() -> None:
    """Run a command; a user error is one line on stderr and exit code 2, a stop by Ctrl-C 130, one by SIGTERM 143."""
    # Neither the tokenizers' warning about forks nor bitsandbytes' about a kernel hub tells a user what to do.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with _terminate_as_interrupt(), recipe.spelled_with(flags_of(sys.argv[1:])):
            app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(" ".join(str(error).split()) + _hint(error), 2)
    except EdgeftError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(str(error), 2)
    except Terminated:
        _fail(STOPPED, 143)
    except KeyboardInterrupt:
        _fail(STOPPED, 130)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM meanwhile; Python lets only the main thread of a process say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _hint(error: CycloptsError) -> str:
    """Where the options of the stages are in a command that has none of them as flags."""
    if isinstance(error, UnknownOptionError) and sys.argv[1:2] in (["pipeline"], ["search"], ["update"], ["compress"]):
        return " An option of a stage goes in --set, as in --set data.target_column=stars"
    return ""


def _fail(message: str, code: int) -> None:
    who = "edgeft" if ranks.is_main() else f"edgeft (process {ranks.rank()})"
    print("\n".join(f"{who}: {printable(line)}" for line in message.splitlines()), file=sys.stderr, flush=True)
    sys.exit(code)
