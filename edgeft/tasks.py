"""What a task is, and each form of its rows, declared once. Tags are the ecosystem's own.

Rooms compare no names: they ask a form for a property, or for the class that is their part of it (`load_part`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edgeft.errors import DataError, RecipeError

TaskTag = Literal[
    "text-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "text-generation",
    "text2text-generation",
    "feature-extraction",
]
# What a model learns to give for a row.
Target = Literal["label", "labels", "number", "tags", "answers", "text", "completion", "messages", "translation", ""]
Balance = Literal["class_weights", "oversample", "undersample"]
Architecture = Literal["encoder", "decoder", "encoder-decoder"]
# A room's part of a form, and the package where its class stands.
Part = Literal["rows", "training", "judge", "model"]
PACKAGES: dict[Part, str] = {
    "rows": "edgeft.data.formats",
    "training": "edgeft.train.tasks",
    "judge": "edgeft.train.judges",
    "model": "edgeft.runtime.answers",
}
DEFAULT: TaskTag = "text-classification"


@dataclass(frozen=True, kw_only=True)
class RowForm:
    """One form of the rows of a task.

    Attributes:
        name: as dataset.json and the manifest name it.
        task: the tag of its task.
        target: what a row teaches; empty where rows are texts without a target.
        rows: its class in data/formats, as `module:Class`; empty where no file has such rows.
        training: its class in train/tasks.
        judge: its class in train/judges; empty where no artifact's answers can be compared with rows.
        model: its class in runtime/answers; empty where no artifact can be made of it.
        balanced_by: the values of `data.balance` that mean something.
        probabilities: the ONNX operator that makes them of logits; empty where the graph has none.
        answers_with_embedding: whether the graph pools hidden states into one vector.
        has_lone_text: whether a row is one text whose target doesn't point into it, so that the text may be changed,
            or stand without a target.
        has_baseline: whether TF-IDF with logistic regression can be trained on it.
        can_be_augmented: whether a teacher can say that a new text has the label of its original.
        can_be_distilled: whether a student can learn from a teacher, and a pruned model recover.
        can_be_single_file: whether an artifact can become one ONNX file with its tokenizer inside.
    """

    name: str
    task: TaskTag
    target: Target
    rows: str = ""
    training: str
    judge: str = ""
    model: str = ""
    balanced_by: tuple[Balance, ...] = ()
    probabilities: Literal["Softmax", "Sigmoid", ""] = ""
    answers_with_embedding: bool = False
    has_lone_text: bool = False
    has_baseline: bool = False
    can_be_augmented: bool = False
    can_be_distilled: bool = True
    can_be_single_file: bool = False

    @property
    def has_one_label(self) -> bool:
        """Whether a row has one label, which is right or wrong."""
        return self.target == "label"

    @property
    def has_several_labels(self) -> bool:
        """Whether a row has any number of labels."""
        return self.target == "labels"

    @property
    def labels_tokens(self) -> bool:
        """Whether each token of a row has a label: a tag."""
        return self.target == "tags"

    @property
    def has_rows(self) -> bool:
        """Whether rows of this form are read from files."""
        return bool(self.rows)

    @property
    def can_ship(self) -> bool:
        """Whether a model trained on this form can become an artifact."""
        return bool(self.model)

    @property
    def can_be_judged(self) -> bool:
        """Whether an artifact's answers can be compared with rows."""
        return bool(self.judge)


SINGLE_LABEL = RowForm(
    name="single-label",
    task="text-classification",
    target="label",
    rows="classification:SingleLabel",
    training="sequences:SingleLabel",
    judge="sequences:SingleLabelJudge",
    model="classification:Classifier",
    balanced_by=("class_weights", "oversample", "undersample"),
    probabilities="Softmax",
    has_lone_text=True,
    has_baseline=True,
    can_be_augmented=True,
    can_be_single_file=True,
)
MULTI_LABEL = RowForm(
    name="multi-label",
    task="text-classification",
    target="labels",
    rows="classification:MultiLabel",
    training="sequences:MultiLabel",
    judge="sequences:MultiLabelJudge",
    model="classification:Classifier",
    balanced_by=("class_weights",),
    probabilities="Sigmoid",
    has_lone_text=True,
    can_be_single_file=True,
)
REGRESSION = RowForm(
    name="regression",
    task="text-regression",
    target="number",
    rows="classification:Regression",
    training="sequences:Regression",
    judge="sequences:RegressionJudge",
    model="classification:Classifier",
    has_lone_text=True,
)
TOKENS = RowForm(
    name="tokens",
    task="token-classification",
    target="tags",
    rows="tags:Tokens",
    training="tags:Tags",
    judge="tags:TagsJudge",
    model="tags:Tagger",
    balanced_by=("class_weights",),
    probabilities="Softmax",
)
SQUAD = RowForm(
    name="squad",
    task="question-answering",
    target="answers",
    rows="questions:Squad",
    training="questions:Questions",
    judge="questions:QuestionsJudge",
    model="questions:Reader",
)
MESSAGES = RowForm(
    name="messages",
    task="text-generation",
    target="messages",
    rows="generation:Messages",
    training="chats:Messages",
)
PROMPT_COMPLETION = RowForm(
    name="prompt-completion",
    task="text-generation",
    target="completion",
    rows="generation:PromptCompletion",
    training="generation:PromptCompletion",
)
TEXT = RowForm(
    name="text",
    task="text-generation",
    target="text",
    rows="generation:PlainText",
    training="generation:PlainText",
)
PAIRS = RowForm(
    name="pairs",
    task="text2text-generation",
    target="translation",
    rows="generation:Pairs",
    training="pairs:Pairs",
    can_be_distilled=False,
)
EMBEDDINGS = RowForm(
    name="embeddings",
    task="feature-extraction",
    target="",
    training="embeddings:Embeddings",
    model="embeddings:Embedder",
    answers_with_embedding=True,
    can_be_distilled=False,
)
# Of one task in the order in which they are tried; the last takes what no other takes.
FORMS: dict[str, RowForm] = {
    form.name: form
    for form in (
        *(SINGLE_LABEL, MULTI_LABEL, REGRESSION, TOKENS, SQUAD),
        *(MESSAGES, PROMPT_COMPLETION, TEXT, PAIRS, EMBEDDINGS),
    )
}


def find_form(name: str) -> RowForm:
    """The form of rows with this name.

    Raises:
        DataError: no such form.
    """
    if name not in FORMS:
        raise DataError(f"{name!r} is no form of rows; the forms are {', '.join(FORMS)}")
    return FORMS[name]


def name_forms(holds: Callable[[RowForm], bool]) -> tuple[str, ...]:
    """Names of the forms that satisfy a condition."""
    return tuple(form.name for form in FORMS.values() if holds(form))


def load_part(form: RowForm, part: Part) -> Any:
    """Import and return the class that implements a form in one package.

    Raises:
        DataError: the form has none there.
    """
    module, _, name = getattr(form, part).partition(":")
    if not module:
        raise DataError(f"{form.name} rows have no part in {PACKAGES[part]}")
    return getattr(importlib.import_module(f"{PACKAGES[part]}.{module}"), name)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        tag: the ecosystem's name.
        columns: the columns a row must have, inputs first.
        prediction: what one prediction looks like to a user.
        lead_metric: the metric that gates and tables are about; higher is better.
        has_labels: whether the label column holds names from a closed set.
        generates: whether it writes texts, of which one input may well have several.
        architecture: of the models that are usually fine-tuned for it.
        example: what stands between the brackets where an artifact is called.
    """

    tag: TaskTag
    columns: tuple[str, ...]
    prediction: str
    lead_metric: str
    has_labels: bool
    generates: bool = False
    architecture: Architecture = "encoder"
    example: str = '"some text"'

    @property
    def forms(self) -> tuple[RowForm, ...]:
        """The forms of its rows, in the order in which they are tried."""
        return tuple(form for form in FORMS.values() if form.task == self.tag)

    @property
    def can_ship(self) -> bool:
        """Whether what is trained on some form of its rows can become an artifact."""
        return any(form.can_ship for form in self.forms)


TASKS: dict[str, Task] = {
    task.tag: task
    for task in (
        Task(
            tag="text-classification",
            columns=("text", "label"),
            prediction='{"label": str, "score": float}',
            lead_metric="accuracy",
            has_labels=True,
        ),
        Task(
            tag="text-regression",
            columns=("text", "target"),
            prediction='{"label": "score", "score": float}',
            lead_metric="pearson",
            has_labels=False,
        ),
        Task(
            tag="token-classification",
            columns=("tokens", "tags"),
            prediction='[{"entity": str, "score": float, "start": int, "end": int, "word": str}]',
            lead_metric="span_f1",
            has_labels=True,
        ),
        Task(
            tag="question-answering",
            columns=("question", "context", "answers"),
            prediction='{"answer": str, "score": float, "start": int, "end": int}',
            lead_metric="token_f1",
            has_labels=False,
            example='question="who?", context="some text"',
        ),
        Task(
            tag="text-generation",
            columns=("text",),
            prediction='{"generated_text": str}',
            lead_metric="negative_perplexity",
            has_labels=False,
            generates=True,
            architecture="decoder",
        ),
        Task(
            tag="text2text-generation",
            columns=("source", "target"),
            prediction='{"generated_text": str}',
            lead_metric="chrf",
            has_labels=False,
            generates=True,
            architecture="encoder-decoder",
        ),
        Task(
            tag="feature-extraction",
            columns=("text",),
            prediction="[float, ...]",
            lead_metric="spearman",
            has_labels=False,
        ),
    )
}

# The tasks that have rows of their own to train on.
SUPPORTED = tuple(tag for tag, task in TASKS.items() if any(form.rows for form in task.forms))


def known(tag: str) -> Task:
    """The task with this tag, whether or not every room can take it.

    Raises:
        RecipeError: no such task.
    """
    if tag not in TASKS:
        raise RecipeError(f"task: {tag!r} is not a task; the tasks are {', '.join(TASKS)}")
    return TASKS[tag]


def get(tag: str) -> Task:
    """The task with this tag, which can be trained.

    Raises:
        RecipeError: no such task, or one that has no rows to train on.
    """
    task = known(tag)
    if tag not in SUPPORTED:
        raise RecipeError(f"task: {tag!r} can't be trained; what can: {', '.join(SUPPORTED)}")
    return task
