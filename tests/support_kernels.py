"""A pytest plugin: the kernels of this run are those in the folder that EDGEFT_KERNELS names.

`python -m pytest -p support_kernels tests/runtime/test_kernels.py` with `tests` in PYTHONPATH. Installed kernels are
found as a module of `edgeft.runtime`; the folder goes before all others in which modules of it are looked for.
"""

from __future__ import annotations

import os

import edgeft.runtime

edgeft.runtime.__path__.insert(0, os.environ["EDGEFT_KERNELS"])
