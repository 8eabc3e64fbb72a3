from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from vllmd.client.values import duration, made, struct
from vllmd.v1.generation_pb2 import ChatPrompt, SamplingParams


def test_duration_from_seconds_or_timedelta() -> None:
    """Seconds and timedelta mean the same; nothing stays unset."""
    assert duration(1.5) == duration(timedelta(seconds=1.5))
    assert duration(None) is None


def test_values_by_name() -> None:
    """As JSON has them, nested and null included."""
    assert dict(struct({"a": 1, "b": None, "c": True}, "args")) == {"a": 1.0, "b": None, "c": True}
    assert MessageToDict(struct({"a": {"b": ["c"]}}, "args")) == {"a": {"b": ["c"]}}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_tokens", "3", "max_tokens takes a whole number, not '3'"),
        ("temperature", [1], r"temperature takes a number, not \[1\]"),
        ("ignore_eos", "x", "ignore_eos takes True or False, not 'x'"),
        ("stop", [5], r"stop takes a list, each text, not \[5\]"),
        ("stop_token_ids", 2, "stop_token_ids takes a list, each a whole number, not 2"),
        ("bad_words", "darn", "bad_words takes a list, each text, not 'darn'"),
        ("logit_bias", 1, "logit_bias takes a mapping of a whole number to a number, not 1"),
        ("structured_outputs", "json", "structured_outputs takes StructuredOutputs, not 'json'"),
    ],
)
def test_field_of_another_type_is_named(name: str, value: Any, said: str) -> None:
    """With what it takes, and what was given; one text is not many, though Python would count its letters."""
    with pytest.raises(TypeError, match=f"^{said}$"):
        made(SamplingParams, **{"n": 2, name: value})


@pytest.mark.parametrize(("name", "value"), [("seed", 1 << 70), ("stop", ["\ud800"])])
def test_field_out_of_range_is_named(name: str, value: Any) -> None:
    """The value may be long."""
    with pytest.raises(ValueError, match=f"^{name} can't be .*: ") as caught:
        made(SamplingParams, **{"n": 2, name: value})

    assert len(str(caught.value)) < 200


def test_message_of_fields() -> None:
    """What is nothing is left out."""
    params = made(SamplingParams, n=2, seed=None, stop=["a"])

    assert (params.n, params.HasField("seed"), list(params.stop)) == (2, False, ["a"])
    assert made(ChatPrompt) == ChatPrompt()


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, 1 << 2000, [object()]])
def test_what_json_can_not_say_is_named(value: Any) -> None:
    """By what it is a part of, and by its name there."""
    with pytest.raises(TypeError, match=r"^engine_args: 'b' can't be .*, which JSON can't say$"):
        struct({"a": 1, "b": value}, "engine_args")


@pytest.mark.parametrize(("values", "said"), [([1], r"values by name, not \[1\]"), ({5: 1}, "a name is text, not 5")])
def test_what_has_no_names_is_refused(values: Any, said: str) -> None:
    """So that no attribute is missed of a list."""
    with pytest.raises(TypeError, match=said):
        struct(values, "tools")


def test_time_of_another_type_is_refused() -> None:
    """With what it may be."""
    wrong: Any = "60"
    with pytest.raises(TypeError, match="a time is seconds or a timedelta, not '60'"):
        duration(wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_time_that_can_not_be_is_refused(value: float) -> None:
    """By one kind of error, whatever Python calls it."""
    with pytest.raises(ValueError, match=r"a time can't be (nan|inf|1e\+300)"):
        duration(value)


def test_values_that_are_nested_without_end_are_refused() -> None:
    """By the name under which they are."""
    endless: dict[str, Any] = {}
    endless["a"] = endless

    with pytest.raises(ValueError, match="engine_args: 'x' is nested too deep"):
        struct({"x": endless}, "engine_args")
