from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from edgeft import errors
from edgeft.errors import EdgeftError, MissingExtraError, UserError

ROOT = Path(__file__).parents[1]
CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, Exception)}
# Otherwise the import name with dashes.
DISTRIBUTIONS = {"phonenumbers": "phonenumberslite", "sklearn": "scikit-learn", "spacy": "presidio-analyzer"}


def test_every_class_is_reachable_from_the_root() -> None:
    assert all(issubclass(cls, EdgeftError) for cls in CLASSES.values())


def test_the_drawn_tree_is_the_real_tree() -> None:
    parents: list[str] = []
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if not (found := re.match(r"^((?:│   |├── |└── |    )*)(\w+Error) ", line)):
            continue
        depth = len(found[1]) // 4
        parents[depth:] = [found[2]]
        drawn[found[2]] = parents[depth - 1] if depth else "Exception"
    assert drawn == {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items()}


def test_exit_codes() -> None:
    for cls in CLASSES.values():
        assert cls.exit_code == (2 if issubclass(cls, UserError) else 1)  # type: ignore[attr-defined]


def test_a_missing_package_names_its_extra() -> None:
    message = str(errors.missing_extra("torch.nn", "to train a model"))
    assert message == "torch is not installed and is needed to train a model: pip install 'edgeft[train]'"
    assert str(errors.missing_extra("zzz", "to z")).endswith("pip install zzz")


def test_require() -> None:
    assert errors.require("json", "to test") is __import__("json")
    with pytest.raises(MissingExtraError, match="no_such_module is not installed and is needed to test"):
        errors.require("no_such_module.inner", "to test")


def extras() -> dict[str, set[str]]:
    """Extra -> the distributions it asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = project["optional-dependencies"]
    return {extra: {re.split(r"[<>=!\[; ]", item)[0] for item in items} for extra, items in named.items()}


@pytest.mark.parametrize(("module", "extra"), errors.EXTRA_OF.items())
def test_the_extra_of_a_module_brings_it(module: str, extra: str) -> None:
    assert DISTRIBUTIONS.get(module, module.replace("_", "-")) in extras()[extra]


def test_every_package_of_an_extra_is_known() -> None:
    known = {DISTRIBUTIONS.get(module, module.replace("_", "-")) for module in errors.EXTRA_OF}
    shipped = set().union(*(items for extra, items in extras().items() if extra not in ("dev", "gpu")))
    assert shipped - known == set()
