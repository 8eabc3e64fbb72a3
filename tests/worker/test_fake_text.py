from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from vllmd.worker.backend import InvalidRequest
from vllmd.worker.fake_text import pieces


def said(**outputs: Any) -> str:
    """All of a structured text."""
    return "".join(text for text, _ in pieces({"structured_outputs": outputs}, 0))


def test_words_count_and_each_completion_has_others() -> None:
    """For ever."""
    assert list(itertools.islice(pieces({}, 0), 2)) == [("w0 ", 0), ("w1 ", 1)]
    assert list(itertools.islice(pieces({}, 1), 2)) == [("w100 ", 100), ("w101 ", 101)]


def test_a_choice_is_made_and_an_object_is_one() -> None:
    """The simplest there is."""
    assert said(choice=["yes", "no"]) == "yes"
    assert said(json_object=True) == "{}"
    assert next(pieces({"structured_outputs": {"regex": "[ab]"}}, 0)) == ("w0 ", 0)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}}, {"a": 0, "b": "x"}),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, {"b": {}}),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "string", "minLength": 3}, "www"),
        ({"type": "number", "minimum": 5}, 5),
        ({"type": "null"}, None),
        ({"const": [1]}, [1]),
        (True, {}),
    ],
)
def test_json_fits_plain_schemas(schema: Any, value: Any) -> None:
    """As a client that is tried out expects."""
    assert json.loads(said(json=json.dumps(schema))) == value


DEEP = '{"type": "array", "items": ' * 40 + "{}" + "}" * 40


@pytest.mark.parametrize("outputs", [{"json": "{"}, {"json": '{"type": "nope"}'}, {"json": DEEP}, {"regex": "("}])
def test_what_can_not_be_fit_is_refused(outputs: dict[str, Any]) -> None:
    """With vLLM's reason."""
    with pytest.raises(InvalidRequest) as refused:
        said(**outputs)

    assert refused.value.reason == "INVALID_STRUCTURED_OUTPUTS"
