"""Rows of every task: what they become, what makes them unusable, and how cleaning changes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_rows import make_rows

from edgeft.cleaning import Cleaning, cleaner
from edgeft.data.formats import BadRow, kind_of
from edgeft.data.formats.rows import Rows
from edgeft.data.formats.tags import tag_tokens
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import DataConfig

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
SQUAD = {"text": ["Rome"], "answer_start": [10]}
CONTEXT = "I went to Rome."

GOOD: dict[str, tuple[dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]]] = {
    "multi-label list": (
        {"multi_label": True},
        {"text": ["a", "b"], "label": [["x", "y", "x"], []]},
        {"text": ["a", "b"], "labels": [["x", "y"], []]},
    ),
    "multi-label delimited": (
        {"multi_label": True, "label_delimiter": "|"},
        {"text": ["a", "b", "c"], "label": ["y| x", "", "[1, 2]"]},
        {"text": ["a", "b", "c"], "labels": [["x", "y"], [], ["1", "2"]]},
    ),
    "regression": (
        {"task": "text-regression"},
        {"text": ["a", "b"], "target": ["1.5", 2]},
        {"text": ["a", "b"], "target": [1.5, 2.0]},
    ),
    "tokens": (
        {"task": "token-classification"},
        {"tokens": [["I", "run"], "she runs"], "tags": [["PRO", "VERB"], "PRO VERB"]},
        {"tokens": [["I", "run"], ["she", "runs"]], "tags": [["PRO", "VERB"], ["PRO", "VERB"]]},
    ),
    "spans": (
        {"task": "token-classification"},
        {"text": ["Ann Lee, hi"], "spans": [[{"start": 0, "end": 7, "label": "PER"}]]},
        {"tokens": [["Ann", "Lee", ",", "hi"]], "tags": [["B-PER", "I-PER", "O", "O"]]},
    ),
    "squad": (
        {"task": "question-answering"},
        {
            "question": ["where?", "who?", "where?"],
            "context": [CONTEXT] * 3,
            "answers": [SQUAD, {"text": [], "answer_start": []}, json.dumps([{"text": "Rome", "answer_start": 10}])],
        },
        {
            "question": ["where?", "who?", "where?"],
            "context": [CONTEXT] * 3,
            "answers": [SQUAD, {"text": [], "answer_start": []}, SQUAD],
        },
    ),
    "text": ({"task": "text-generation"}, {"text": ["a"]}, {"text": ["a"]}),
    "prompt": (
        {"task": "text-generation"},
        {"prompt": ["a"], "completion": ["b"], "text": ["c"]},
        {"prompt": ["a"], "completion": ["b"]},
    ),
    "chat": ({"task": "text-generation"}, {"messages": [CHAT, json.dumps(CHAT)]}, {"messages": [CHAT, CHAT]}),
    "pairs": (
        {"task": "text2text-generation"},
        {"source": ["a"], "target": ["b"]},
        {"source": ["a"], "target": ["b"]},
    ),
}

BAD: dict[str, tuple[dict[str, Any], dict[str, list[Any]], str]] = {
    "labels": ({"multi_label": True}, {"text": ["a", "b"], "label": [[[1]], None]}, "a label of type list"),
    "no labels": (
        {"multi_label": True},
        {"text": ["a", " "], "label": [["x"], None]},
        "an empty text in row 2; no labels",
    ),
    "word": ({"task": "text-regression"}, {"text": ["a"], "target": ["x"]}, "a target that is not a number in row 1"),
    "infinite": (
        {"task": "text-regression"},
        {"text": ["a"], "target": ["inf"]},
        "not a finite number of 32 bits in",
    ),
    "no target": ({"task": "text-regression"}, {"text": ["a"], "target": [""]}, "no target in row 1"),
    "bool": ({"task": "text-regression"}, {"text": ["a"], "target": [True]}, "a target of type bool"),
    "counts": (
        {"task": "token-classification"},
        {"tokens": [["a"], ["a", "b"]], "tags": [["x"], ["x"]]},
        "another number of tags than of tokens (1 and 2) in row 2",
    ),
    "empty tokens": ({"task": "token-classification"}, {"tokens": [[]], "tags": [[]]}, "no tokens in row 1"),
    "empty token": ({"task": "token-classification"}, {"tokens": [[" "]], "tags": [["x"]]}, "an empty token in row 1"),
    "token type": ({"task": "token-classification"}, {"tokens": [[1]], "tags": [["x"]]}, "a token of type int"),
    "no tag": ({"task": "token-classification"}, {"tokens": [["a"]], "tags": [[None]]}, "no tag in row 1"),
    "tokens type": (
        {"task": "token-classification"},
        {"tokens": [3], "tags": ["x"]},
        "tokens of type int instead of a",
    ),
    "overlap": (
        {"task": "token-classification"},
        {"text": ["abc"], "spans": [[{"start": 0, "end": 2, "label": "x"}, {"start": 1, "end": 3, "label": "x"}]]},
        "spans that overlap in row 1",
    ),
    "span ends": (
        {"task": "token-classification"},
        {"text": ["abc"], "spans": [[{"start": 0, "end": 9, "label": "x"}]]},
        "a span outside its text (0 to 9 of 3 characters) in row 1",
    ),
    "span keys": ({"task": "token-classification"}, {"text": ["abc"], "spans": [[{}]]}, "a span without start, end"),
    "span JSON": (
        {"task": "token-classification"},
        {"text": ["abc"], "spans": ["{"]},
        "spans that are no JSON in row 1",
    ),
    "place": (
        {"task": "question-answering"},
        {"question": ["q"], "context": [CONTEXT], "answers": [{"text": ["Rome"], "answer_start": [9]}]},
        "an answer that doesn't stand at its answer_start (9) in row 1",
    ),
    "answer lists": (
        {"task": "question-answering"},
        {"question": ["q"], "context": [CONTEXT], "answers": [{"text": ["Rome"], "answer_start": []}]},
        "not two lists of one length in row 1",
    ),
    "answer keys": (
        {"task": "question-answering"},
        {"question": ["q"], "context": [CONTEXT], "answers": [{"text": ["Rome"]}]},
        "answers without text and answer_start in row 1",
    ),
    "no question": (
        {"task": "question-answering"},
        {"question": [""], "context": [None], "answers": [SQUAD]},
        "a question that is empty in row 1; no context in row 1",
    ),
    "role": (
        {"task": "text-generation"},
        {"messages": [[{"role": "boss", "content": "x"}]]},
        "a message whose role is none of system, user, assistant, tool in row 1",
    ),
    "no answer": (
        {"task": "text-generation"},
        {"messages": [CHAT[:1]]},
        "messages without an answer of the assistant in row 1",
    ),
    "content": (
        {"task": "text-generation"},
        {"messages": [[{"role": "user", "content": None}]]},
        "a message whose content is no text in row 1",
    ),
    "chat JSON": ({"task": "text-generation"}, {"messages": ["hello"]}, "messages that are no JSON in row 1"),
    "completion": (
        {"task": "text-generation"},
        {"prompt": ["a"], "completion": [None]},
        "no completion in row 1",
    ),
    "target text": ({"task": "text2text-generation"}, {"source": ["a"], "target": [3]}, "a target of type int instead"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_rows_become(name: str) -> None:
    options, columns, expected = GOOD[name]
    assert make_rows(columns, **options).columns == expected


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_one_line_with_its_number(name: str) -> None:
    options, columns, expected = BAD[name]
    with pytest.raises(DataError) as caught:
        make_rows(columns, **options)
    assert str(caught.value).startswith("a.csv: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_can_be_left_out_and_are_counted(name: str) -> None:
    options, columns, _ = BAD[name]
    good = next(c for o, c, _ in GOOD.values() if o == options and columns.keys() <= c.keys())
    both = {column: [good[column][0], *cells, good[column][0]] for column, cells in columns.items()}
    found = make_rows(both, skip_bad_rows=True, **options)
    count = len(next(iter(both.values())))
    assert found.rows.tolist()[0] == 1
    assert found.rows.tolist()[-1] == count
    bad = {row for rows in found.skipped.values() for _, row in rows}
    assert bad
    assert bad | set(found.rows.tolist()) == set(range(1, count + 1))
    assert not bad & set(found.rows.tolist())


def test_one_column_cannot_be_two() -> None:
    kind = kind_of(DataConfig(task="question-answering", context_column="question"), [])
    with pytest.raises(DataError, match="are both 'question'; name two columns"):
        kind.sources()


def test_tasks_that_have_no_rows() -> None:
    with pytest.raises(RecipeError, match="'chess' is not a task"):
        kind_of(DataConfig(task="chess"), [])
    with pytest.raises(RecipeError, match="feature-extraction has no labelled rows"):
        kind_of(DataConfig(task="feature-extraction"), [])


# ------------------------------------------------------------------------------------------------------------ spans


@given(st.text(max_size=60), st.data())
def test_tokens_of_spans_cover_every_word_once(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6, unique=True)))
    spans = [(a, b, "x") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    try:
        tokens, tags = tag_tokens(text, spans)
    except BadRow:
        assert not text.split()
        return
    assert "".join(tokens) == "".join("".join(text[a:b].split()) for a, b in _pieces(text, spans))
    assert len(tokens) == len(tags)


def _pieces(text: str, spans: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    borders = sorted({0, len(text), *(place for a, b, _ in spans for place in (a, b))})
    return list(pairwise(borders))


# ------------------------------------------------------------------------------------------------- what stays together


def test_questions_about_one_context_stay_together() -> None:
    rows = make_rows(GOOD["squad"][1], task="question-answering")
    assert rows.kind.split_keys(rows.columns) == [CONTEXT] * 3
    assert rows.inputs[0] == f"where?\n{CONTEXT}"


def test_answers_to_one_prompt_stay_together() -> None:
    rows = make_rows({"messages": [CHAT, [CHAT[0], {"role": "assistant", "content": "go"}]]}, task="text-generation")
    assert rows.kind.split_keys(rows.columns) == ["user: hi"] * 2
    assert rows.kind.targets(rows.columns) is None


# ---------------------------------------------------------------------------------------------------------- cleaning


def clean(rows: Rows, step: Callable[[str], str]) -> Any:
    return rows.kind.clean(rows.columns, step)


def test_a_text_of_which_nothing_is_left_is_lost() -> None:
    rows = make_rows({"text": ["<b>", "x<b>"], "label": ["a", "b"]})
    made, lost = clean(rows, lambda text: text.replace("<b>", ""))
    assert (made["text"], lost) == (["", "x"], [0])


def test_a_token_of_which_nothing_is_left_goes_with_its_tag() -> None:
    rows = make_rows(
        {"tokens": [["a", "-", "b"], ["-"]], "tags": [["X", "Y", "Z"], ["Y"]]}, task="token-classification"
    )
    made, lost = clean(rows, lambda text: text.replace("- ", "").replace("-", ""))
    assert made["tokens"][0] == ["a", "b"]
    assert made["tags"][0] == ["X", "Z"]
    assert lost == [1]


def test_several_tokens_that_become_one_have_the_tag_of_the_first() -> None:
    rows = make_rows(
        {"tokens": [["call", "555", "0100", "now"]], "tags": [["V", "B", "I", "A"]]}, task="token-classification"
    )
    made, _ = clean(rows, lambda text: text.replace("555 0100", "[PHONE_1]"))
    assert made == {"tokens": [["call", "[PHONE_1]", "now"]], "tags": [["V", "B", "A"]]}


def test_an_answer_is_found_again_in_the_cleaned_context() -> None:
    context = "x" * 5 + "  Rome, Rome and  Rome"
    answers = {"text": ["Rome"], "answer_start": [context.rindex("Rome")]}
    rows = make_rows({"question": ["q"], "context": [context], "answers": [answers]}, task="question-answering")
    made, lost = clean(rows, lambda text: " ".join(text.split()))
    start = made["answers"][0]["answer_start"][0]
    assert start == made["context"][0].rindex("Rome")
    assert lost == []


def test_a_row_whose_answer_is_cleaned_away_is_lost() -> None:
    rows = make_rows({"question": ["q"], "context": [CONTEXT], "answers": [SQUAD]}, task="question-answering")
    assert clean(rows, lambda text: text.replace("to Rome", "there"))[1] == [0]


def test_every_message_is_cleaned() -> None:
    rows = make_rows({"messages": [CHAT]}, task="text-generation")
    made, lost = clean(rows, str.upper)
    assert [message["content"] for message in made["messages"][0]] == ["HI", "HELLO"]
    assert lost == []


# ------------------------------------------------------------------------------------- personal data in several texts

HIDE = cleaner(Cleaning(anonymise=["email"]))


def test_one_value_has_one_placeholder_in_all_texts_of_a_row() -> None:
    said = ["my mail is a@x.com", "I wrote to b@y.org, not a@x.com"]
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
    rows = make_rows({"messages": [messages, messages]}, task="text-generation")
    made, _ = clean(rows, HIDE)
    for found in made["messages"]:
        assert [message["content"] for message in found] == [
            "my mail is [EMAIL_1]",
            "I wrote to [EMAIL_2], not [EMAIL_1]",
        ]
    pairs = make_rows({"source": ["a@x.com b@y.org"], "target": ["b@y.org a@x.com"]}, task="text2text-generation")
    assert clean(pairs, HIDE)[0] == {"source": ["[EMAIL_1] [EMAIL_2]"], "target": ["[EMAIL_2] [EMAIL_1]"]}


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("Write to anna@x.com for sales or to bob@y.org for support.", "bob@y.org", "[EMAIL_2]"),
        ("mail anna@x.com please, anna!", "anna", None),
        ("anna wrote: mail anna@x.com please", "anna", None),
        ("ask anna or mail bob@y.org, anna", "anna", "anna"),
    ],
)
def test_an_answer_stays_the_same_answer_when_its_context_is_anonymised(
    context: str, answer: str, expected: str | None
) -> None:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    rows = make_rows({"question": ["q"], "context": [context], "answers": [answers]}, task="question-answering")
    made, lost = clean(rows, HIDE)
    if expected is None:
        assert lost == [0]
        return
    found = made["answers"][0]
    assert found["text"] == [expected]
    start = found["answer_start"][0]
    assert made["context"][0][start : start + len(expected)] == expected
    assert made["context"][0][:start].count(expected) == context[: context.index(answer)].count(answer)


def test_a_deeply_nested_cell_is_a_bad_row() -> None:
    said = r"labels that are no JSON within limits \(lists or objects nest more than 32 deep: .*\) in row 1"
    with pytest.raises(DataError, match=said):
        make_rows({"text": ["a"], "label": ["[" * 100_000]}, multi_label=True)


def test_what_differs_from_row_to_row_makes_no_further_problem() -> None:
    columns = {"tokens": [["a"] * i for i in range(2, 60)], "tags": [["x"]] * 58}
    found = make_rows(
        {**columns, "tokens": [["a"], *columns["tokens"][1:]]}, task="token-classification", skip_bad_rows=True
    )
    assert list(found.skipped) == ["another number of tags than of tokens"]
    assert len(found) == 1
