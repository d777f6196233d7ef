from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import edgeft
from edgeft import tasks
from edgeft.data.formats import class_of, kind_of
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import DataConfig, Recipe
from edgeft.runtime import Model
from edgeft.tasks import FORMS, RowForm

SOURCES = Path(edgeft.__file__).parent
# Where a form's own part stands, and where it is declared.
PARTS = ("tasks.py", "data/formats/", "train/tasks/", "train/judges/", "runtime/answers/")


def test_every_tag_has_its_task_under_its_name() -> None:
    assert tuple(tasks.TASKS) == get_args(tasks.TaskTag)
    assert all(task.tag == tag for tag, task in tasks.TASKS.items())
    assert set(tasks.SUPPORTED) <= set(tasks.TASKS)


def test_every_task_is_described() -> None:
    for task in tasks.TASKS.values():
        assert task.columns, task.tag
        assert task.prediction, task.tag
        assert task.lead_metric, task.tag


def test_the_default_task_can_be_trained() -> None:
    assert tasks.get(Recipe().task).has_labels


def test_an_unknown_task_and_one_that_no_room_takes_yet() -> None:
    with pytest.raises(RecipeError, match="'sentiment' is not a task; the tasks are text-classification, "):
        tasks.get("sentiment")
    with pytest.raises(RecipeError, match="can't be trained; what can: text-classification"):
        tasks.get("feature-extraction")


# ---------------------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_room_that_a_form_claims_has_its_part(form: RowForm) -> None:
    claimed = [part for part in get_args(tasks.Part) if getattr(form, part)]
    assert "training" in claimed
    for part in claimed:
        found = tasks.load_part(form, part)
        if part == "model":
            assert issubclass(found, Model)
        else:
            assert found.form is form, part


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_what_is_declared_of_a_form_holds_together(form: RowForm) -> None:
    """A figure that gates an artifact needs a judge, rows that are evaluated need an artifact to ask."""
    assert form.can_ship >= form.can_be_judged
    assert not form.has_rows or form.can_ship == form.can_be_judged
    assert form.has_rows == bool(form.target)
    assert form.has_lone_text >= form.can_be_augmented
    assert set(form.balanced_by) <= set(get_args(tasks.Balance))
    assert form.can_ship >= bool(form.probabilities or form.answers_with_embedding or form.can_be_single_file)
    labels = form.has_one_label or form.has_several_labels or form.labels_tokens
    assert bool(form.balanced_by) == labels == (form.has_rows and bool(class_of(form).label_column))
    assert tasks.TASKS[form.task].has_labels == labels


def test_every_task_has_forms_and_its_last_one_takes_any_columns() -> None:
    for task in tasks.TASKS.values():
        *_, last = task.forms
        if last.has_rows:
            config = DataConfig(task=task.tag, multi_label=last.has_several_labels)
            assert class_of(last).matches(config, []), task.tag


@pytest.mark.parametrize(
    ("options", "present", "name"),
    [
        ({}, ["text", "label"], "single-label"),
        ({"multi_label": True}, ["text", "label"], "multi-label"),
        ({"task": "token-classification"}, ["text", "spans"], "tokens"),
        ({"task": "text-generation"}, ["messages", "prompt", "completion", "text"], "messages"),
        ({"task": "text-generation"}, ["completion", "text"], "prompt-completion"),
        ({"task": "text-generation"}, ["text"], "text"),
        ({"task": "text2text-generation"}, ["prompt", "completion"], "pairs"),
    ],
)
def test_the_first_form_that_matches_reads_the_rows(options: Any, present: list[str], name: str) -> None:
    assert kind_of(DataConfig(**options), present).name == name


def test_a_form_that_nobody_declared_and_a_part_that_it_lacks() -> None:
    with pytest.raises(DataError, match=r"^'chess' is no form of rows; the forms are single-label, "):
        tasks.find_form("chess")
    with pytest.raises(DataError, match=r"^pairs rows have no part in edgeft\.runtime\.answers$"):
        tasks.load_part(tasks.PAIRS, "model")


def names_compared(source: str) -> Iterator[str]:
    """Comparisons of a kind, form or task with a name, cases of a match, and tables of such names."""
    names = {*FORMS, *tasks.TASKS}
    asked = ("kind", "form", "task", "name", "manifest", "document")
    for node in ast.walk(ast.parse(source)):
        constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & names
        if isinstance(node, ast.MatchValue) and constants:
            yield ast.unparse(node)
        if isinstance(node, ast.Compare):
            words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            words |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)} - {"roles"}
            ambiguous = constants <= {"text", "tokens"} and "roles" in ast.unparse(node)
            if constants and not ambiguous and words & set(asked):
                yield ast.unparse(node)
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} & names
            if len(keys - {"text", "messages"}) > 1:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        'if dataset.kind == "squad": pass',
        'if manifest.task != "text-classification": pass',
        'if kind in ("single-label", "tokens"): pass',
        'if document["kind"] == "tokens": pass',
        'JUDGES = {"single-label": 1, "regression": 2}',
        'match rows.kind.name:\n    case "pairs": pass',
    ],
)
def test_a_comparison_with_a_name_is_noticed(source: str) -> None:
    assert list(names_compared(source))


def test_no_room_compares_the_name_of_a_form_or_task() -> None:
    """Ask the form for a property, or the room's own part of it for a method (`edgeft/tasks.py`)."""
    found = [
        f"{file.relative_to(SOURCES)}: {line}"
        for file in sorted(SOURCES.rglob("*.py"))
        if not file.relative_to(SOURCES).as_posix().startswith(PARTS)
        for line in names_compared(file.read_text(encoding="utf-8"))
    ]
    assert found == []
