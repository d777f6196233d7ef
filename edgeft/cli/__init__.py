"""The command line: one thin function a command, heavy imports inside."""

from __future__ import annotations

import logging
import os
import sys

from cyclopts import CycloptsError, UnknownOptionError

from edgeft import ranks

# Their import registers the commands.
from edgeft.cli import bench, compress, data, device, evaluate, recipes, run, search, stages, update
from edgeft.cli.app import app
from edgeft.errors import EdgeftError
from edgeft.printing import printable

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


def main() -> None:
    """Run a command; a user error is one line on stderr and exit code 2."""
    # Neither the tokenizers' warning about forks nor bitsandbytes' about a kernel hub tells a user what to do.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(" ".join(str(error).split()) + _hint(error), 2)
    except EdgeftError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on where it was", 130)


def _hint(error: CycloptsError) -> str:
    """Where the options of the stages are in a command that has none of them as flags."""
    if isinstance(error, UnknownOptionError) and sys.argv[1:2] in (["pipeline"], ["search"], ["update"], ["compress"]):
        return " An option of a stage goes in --set, as in --set data.target_column=stars"
    return ""


def _fail(message: str, code: int) -> None:
    who = "edgeft" if ranks.is_main() else f"edgeft (process {ranks.rank()})"
    print("\n".join(f"{who}: {printable(line)}" for line in message.splitlines()), file=sys.stderr, flush=True)
    sys.exit(code)
