from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.scheduler.wish import Wish, make_id, satisfies

MODEL = "Qwen/Qwen3-8B"
ARGS: dict[str, Any] = {"max_model_len": 8192, "dtype": "bfloat16"}
EFFECTIVE = ARGS | {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9}


@pytest.mark.parametrize(
    ("wanted", "granted"),
    [
        (Wish(MODEL, engine_args=ARGS), True),
        (Wish(MODEL, engine_args=ARGS | {"tensor_parallel_size": 2}), True),
        (Wish(MODEL), False),
        (Wish(MODEL, engine_args={"max_model_len": 8192}), False),
        (Wish(MODEL, engine_args={"tensor_parallel_size": 2}), False),
        (Wish(MODEL, engine_args={"max_model_len": 4096}), False),
        (Wish(MODEL, engine_args={"seed": 1}), False),
        (Wish("Qwen/Qwen3-14B", engine_args=ARGS), False),
        (Wish(MODEL, "v2", ARGS), False),
        (Wish(MODEL, engine_args=ARGS, auto_config=False), False),
        (Wish(MODEL, auto_config=False), False),
    ],
)
def test_an_engine_grants_what_it_is(wanted: Wish, granted: bool) -> None:
    """What a wish names must be so, by the client or by the plan, and nobody is given what another one set."""
    assert satisfies(Wish(MODEL, engine_args=ARGS), EFFECTIVE, wanted) == granted


def test_who_leaves_the_size_open_shares_what_another_has_sized() -> None:
    """A smaller or slower engine answers the same; one with random weights does not."""
    sized, altered = {"gpu_memory_utilization": 0.4, "max_num_seqs": 8}, {"load_format": "dummy"}

    assert satisfies(Wish(MODEL, engine_args=sized), sized, Wish(MODEL))
    assert not satisfies(Wish(MODEL, engine_args=sized | altered), sized | altered, Wish(MODEL))
    assert not satisfies(Wish(MODEL, engine_args=sized), sized, Wish(MODEL, engine_args={"max_num_seqs": 9}))


@pytest.mark.parametrize(
    ("of_engine", "wanted", "granted"),
    [("debate", "debate", True), ("debate", "", True), ("debate", "production", False), ("", "debate", False)],
)
def test_an_engine_is_shared_by_those_who_want_it_for_the_same(of_engine: str, wanted: str, granted: bool) -> None:
    """Who does not say what for takes what there is; one that was made for something else is sized for that."""
    made_for = Wish(MODEL, engine_args=ARGS, use_case=of_engine)

    for effective in (EFFECTIVE, None):
        assert satisfies(made_for, effective, Wish(MODEL, engine_args=ARGS, use_case=wanted)) == granted


@pytest.mark.parametrize(
    ("of_engine", "wanted", "granted"),
    [
        ({}, {}, True),
        ({"a": "/a"}, {}, True),
        ({"a": "/a", "b": "/b"}, {"a": "/a"}, True),
        ({"a": "/a"}, {"a": "/a", "b": "/b"}, False),
        ({"a": "/a"}, {"a": "/other"}, False),
        ({"a": "/a"}, {"b": "/a"}, False),
    ],
)
def test_an_engine_grants_the_adapters_that_it_has(
    of_engine: dict[str, str], wanted: dict[str, str], granted: bool
) -> None:
    """By name and path; more of them alter nothing for who names none."""
    made_for = Wish(MODEL, engine_args=ARGS, lora=of_engine)

    for auto in (True, False):
        made = dataclasses.replace(made_for, auto_config=auto)
        asked = Wish(MODEL, engine_args=ARGS, auto_config=auto, lora=wanted)
        assert satisfies(made, EFFECTIVE, asked) == granted


def test_before_there_is_a_plan_only_the_wish_counts() -> None:
    """An engine that is still to be planned grants what its own client named, and nothing more."""
    made_for = Wish(MODEL, engine_args=ARGS)

    assert satisfies(made_for, None, Wish(MODEL, engine_args=ARGS))
    assert not satisfies(made_for, None, Wish(MODEL, engine_args=ARGS | {"tensor_parallel_size": 2}))


def test_who_wants_nothing_chosen_gets_an_engine_of_exactly_that() -> None:
    """Without auto-config two wishes share an engine only if they are the same."""
    bare = Wish(MODEL, engine_args=ARGS, auto_config=False)

    assert satisfies(bare, ARGS, Wish(MODEL, engine_args=dict(reversed(ARGS.items())), auto_config=False))
    assert not satisfies(bare, ARGS, Wish(MODEL, engine_args=ARGS))
    assert not satisfies(bare, ARGS, Wish(MODEL, engine_args={"dtype": "bfloat16"}, auto_config=False))


def test_the_revision_is_an_engine_argument_too() -> None:
    """A revision has a field of its own, and vLLM gets it as an argument."""
    assert Wish(MODEL, "main", {"seed": 1}).wanted_args == {"seed": 1, "revision": "main"}
    assert Wish(MODEL).wanted_args == {}


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
arguments = st.dictionaries(st.sampled_from("abcde"), values, max_size=4)


@given(arguments, arguments, st.booleans())
def test_every_wish_is_granted_by_the_engine_made_for_it(
    args: dict[str, Any], chosen: dict[str, Any], auto: bool
) -> None:
    """Whatever the plan adds, the client that asked first gets what it asked for."""
    wish = Wish(MODEL, "", args, auto)

    assert satisfies(wish, chosen | args, wish)
    assert satisfies(wish, None, wish)


@pytest.mark.parametrize(
    ("model", "start"),
    [
        (MODEL, "qwen3-8b-"),
        ("/models/Llama 3.1 8B/", "llama-3-1-8b-"),
        ("org/" + "x" * 300, "x" * 15 + "-"),
        ("///", "engine-"),
        ("日本語", "engine-"),
    ],
)
def test_an_id_tells_the_model(model: str, start: str) -> None:
    """People recognize the model in the id, however odd its name is."""
    assert make_id(model, set()).startswith(start)


@given(st.text(max_size=60))
def test_an_id_fits_into_names_and_paths(model: str) -> None:
    """An id is short, and holds nothing that means something to a shell, a path or a resource name."""
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", make_id(model, set()))


def test_an_id_is_never_taken_twice() -> None:
    """An id that is in use is not given again."""
    taken = {f"m-{number:04x}" for number in range(0x10000)} - {"m-beef"}

    assert make_id("m", taken) == "m-beef"
