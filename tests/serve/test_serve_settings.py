from __future__ import annotations

import dataclasses

import pytest

from edgeft.errors import UserError
from edgeft.serve import ServeSettings


def test_every_value_out_of_range_is_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        ServeSettings(port=70000, max_texts=0, timeout_seconds=-1, token=" ")
    lines = str(caught.value).splitlines()
    assert [line.split()[1] for line in lines] == ["port", "max_texts", "timeout_seconds", "the"]
    assert "70000" in lines[0]


def test_the_token_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(ServeSettings(token="hunter2"))


def test_the_docstring_names_every_setting() -> None:
    assert ServeSettings.__doc__
    for field in dataclasses.fields(ServeSettings):
        assert f"        {field.name}: " in ServeSettings.__doc__


def test_loopback_by_default() -> None:
    assert ServeSettings().host == "127.0.0.1"
