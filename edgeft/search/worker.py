"""What a worker process runs. Nothing heavy is imported before the process is set up."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
from pathlib import Path

from edgeft.errors import EdgeftError
from edgeft.progress import say


def main(shared: bytes, threads: int, logs: Path) -> None:
    """Run trials until there are enough; the lines go to a file, where they don't mix with other workers'.

    Args:
        shared: a pickled `Search`.
        threads: of this process.
        logs: folder; the file is named by the process.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in edgeft.cli
    with (logs / f"{os.getpid()}.log").open("w", encoding="utf-8", buffering=1) as log:
        sys.stderr = log
        try:
            _run(shared, threads)
        except EdgeftError as error:
            say(f"edgeft: {error}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception:  # noqa: BLE001 - its last line is what the parent shows
            traceback.print_exc()
            sys.exit(1)
        finally:
            sys.stderr = sys.__stderr__


def _run(shared: bytes, threads: int) -> None:
    import torch

    from edgeft.search.engine import run_trials

    torch.set_num_threads(threads)
    run_trials(pickle.loads(shared))
