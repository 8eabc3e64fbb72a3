from __future__ import annotations

from typing import Any

import pytest

from vllmd.planner.choice import Draft, Infeasible, Remedy, gib, parts, whole_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (0, None),
        (-1, None),
        (True, None),
        ("3", None),
        (None, None),
        (3.0, None),
        (1 << 40, 1 << 40),
        (10**30, None),
    ],
)
def test_only_a_positive_whole_number_is_one(value: Any, number: int | None) -> None:
    """A client may have set anything."""
    assert whole_number(value) == number


def test_bytes_for_people() -> None:
    """In the unit of memory."""
    assert gib(1.5 * (1 << 30)) == "1.5 GiB"


@pytest.mark.parametrize(("whole", "part", "number"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_what_does_not_divide_evenly_is_a_part_more(whole: int, part: int, number: int) -> None:
    """Of tokens into blocks, and of layers into stages."""
    assert parts(whole, part) == number


def test_an_argument_is_settled_once() -> None:
    """By whoever comes first: a caller before the host, and both before any rule."""
    draft = Draft()
    draft.choose("max_num_seqs", 8, "client", "set by the client")
    draft.choose("max_num_seqs", 256, "auto", "a rule")
    draft.choose("dtype", "half", "host", "set by this host's configuration")

    assert draft.engine_args == {"max_num_seqs": 8, "dtype": "half"}
    assert [choice.source for choice in draft.choices] == ["client", "host"]
    assert draft.source("max_num_seqs") == "client"
    assert draft.source("seed") is None


def test_another_way_is_tried_on_a_copy() -> None:
    """What one way settles is open on the next."""
    draft = Draft()
    draft.choose("seed", 1, "client", "set by the client")
    other = draft.copy()
    other.choose("tensor_parallel_size", 2, "hardware", "two GPUs")

    assert "tensor_parallel_size" in other
    assert "tensor_parallel_size" not in draft
    assert other.get("seed") == 1


def test_what_was_set_to_nothing_is_settled_and_has_no_value() -> None:
    """The caller wants vLLM's own, so no rule may choose another."""
    draft = Draft()
    draft.choose("max_num_seqs", None, "client", "set by the client")
    draft.choose("max_num_seqs", 256, "auto", "a rule")

    assert "max_num_seqs" in draft
    assert draft.get("max_num_seqs", 7) == 7
    assert draft.count("max_num_seqs", 7) == 7
    assert draft.engine_args == {"max_num_seqs": None}


def test_a_count_that_makes_no_sense_is_as_good_as_open() -> None:
    """Nothing is reckoned with it."""
    draft = Draft()
    draft.choose("max_num_seqs", "many", "client", "set by the client")

    assert draft.count("max_num_seqs") is None
    assert draft.count("seed", 1) == 1


def test_advice_is_the_message_and_what_would_help() -> None:
    """In the order in which it is offered; without remedies only the message."""
    found = Infeasible("MODEL_TOO_LARGE", "It is too large.", {}, forever=True)
    remedies = (Remedy("max_model_len=4096", {"max_model_len": 4096}), Remedy("stopping engine a", engines=("a",)))
    helped = Infeasible("MODEL_TOO_LARGE", "It is too large.", {}, forever=True, remedies=remedies)

    assert found.advice == "It is too large."
    assert helped.advice == "It is too large. What would make it fit: max_model_len=4096; stopping engine a."
