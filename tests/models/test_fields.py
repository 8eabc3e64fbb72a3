from __future__ import annotations

from typing import Any

import pytest

from vllmd.models import fields


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"a": 3, "b": 4}, 3),
        ({"b": 4}, 4),
        ({"a": None, "b": 4}, 4),
        ({"a": 0, "b": 4}, 4),
        ({"a": True}, None),
        ({"a": "3"}, None),
        ({"a": 3.0}, None),
        ({}, None),
    ],
)
def test_the_first_name_with_a_sensible_number_counts(config: dict[str, Any], value: int | None) -> None:
    """What is no whole number over zero is as if it were not there."""
    assert fields.integer(config, "a", "b") == value


def test_zero_counts_where_it_may() -> None:
    """An offset may be zero, a number of heads may not."""
    assert fields.integer({"a": 0}, "a", least=0) == 0


@pytest.mark.parametrize("name", ["text_config", "llm_config", "language_config"])
def test_the_text_model_is_inside(name: str) -> None:
    """Whatever its family calls it; a model that only reads is its own."""
    assert fields.text({name: {"a": 1}}) == {"a": 1}
    assert fields.text({"thinker_config": {name: {"a": 1}}}) == {"a": 1}
    assert fields.text({"a": 1, name: "nonsense"}) == {"a": 1, name: "nonsense"}


def test_what_is_left_open_is_the_default_of_its_class() -> None:
    """Gemma 3's files hold little; what they say counts."""
    text = fields.text({"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}})

    assert (text["num_hidden_layers"], text["num_attention_heads"], text["vocab_size"]) == (34, 8, 262_208)


def test_values_of_another_type_are_unknown() -> None:
    """Each reader knows one type."""
    config = {"text": "x", "flag": False, "list": ["a", 1, "b"], "inner": {"a": 1}, "float": 2.5}

    assert (fields.word(config, "flag", "text"), fields.word(config, "list")) == ("x", None)
    assert (fields.boolean(config, "flag", True), fields.boolean(config, "text", True)) == (False, True)
    assert (fields.words(config, "list"), fields.words(config, "text")) == (("a", "b"), ())
    assert (fields.inner(config, "inner"), fields.inner(config, "list")) == ({"a": 1}, {})
    assert (fields.number(config, "float"), fields.number(config, "flag")) == (2.5, None)


@pytest.mark.parametrize("text", ["\ud800", "a\x1b[2J", "a\x9bJ", "\u202ea", "x" * 1001, ""])
def test_a_text_that_can_not_be_shown_is_none(text: str) -> None:
    """Half of a surrogate pair can't be sent, and one model like that kept the list of engines from everybody."""
    assert fields.word({"a": text, "b": "c"}, "a", "b") == "c"
    assert fields.words({"a": [text, "c"]}, "a") == ("c",)
