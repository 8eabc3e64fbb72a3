from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import duration_pb2, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from vllmd.api import parse
from vllmd.errors import InvalidRequest
from vllmd.planner.use_cases import USE_CASES
from vllmd.scheduler.wish import Wish
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb


def _args(value: Any) -> struct_pb2.Struct:
    """Engine arguments, of which there is one."""
    struct = struct_pb2.Struct()
    struct.update({"dtype": value})
    return struct


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_values_keep_their_types_through_a_struct(arguments: dict[str, Any]) -> None:
    """Though a struct has only doubles, whole numbers come out as integers, at every depth."""
    struct = struct_pb2.Struct()
    struct.update(arguments)
    found = parse.struct_values(struct, "engine_args")

    assert found == arguments
    assert repr(found) == repr({name: found[name] for name in found})
    assert all(type(found[name]) is type(value) for name, value in arguments.items())


@pytest.mark.parametrize("value", [0.5, 1e300, -(2.0**60)])
def test_what_is_no_exact_integer_stays_a_double(value: float) -> None:
    """A fraction, and a number too large to be exact, are what they were."""
    struct = struct_pb2.Struct()
    struct.update({"x": value})
    found = parse.struct_values(struct, "engine_args")["x"]

    assert found == value
    assert type(found) is float


def test_what_is_nested_too_deep_or_too_large_is_refused() -> None:
    """An answer that quotes it could not be read by any client, and would be in everybody's list of engines."""
    deep: list[Any] = [1]
    for _ in range(10):
        deep = [deep]
    structs = struct_pb2.Struct(), struct_pb2.Struct()
    structs[0].update({"limit_mm_per_prompt": deep})
    structs[1].update({"dtype": "x" * (64 << 10)})

    for struct in structs:
        with pytest.raises(InvalidRequest) as refused:
            parse.struct_values(struct, "engine_args")
        assert refused.value.metadata["field"] == "engine_args"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    """They could not be passed on to vLLM."""
    struct = struct_pb2.Struct()
    struct.fields["x"].number_value = value

    with pytest.raises(InvalidRequest) as refused:
        parse.struct_values(struct, "engine_args")
    assert refused.value.reason == "INVALID_FIELD"


def test_ids_are_taken_out_of_names() -> None:
    """A name is its collection and an id."""
    assert parse.id_of("engines/qwen3-8b-3f2a", "engines") == "qwen3-8b-3f2a"


@pytest.mark.parametrize("name", ["", "engines", "engines/", "leases/x", "/engines/x", "ENGINES/x", " engines/x"])
def test_other_names_are_refused(name: str) -> None:
    """Whatever is not the name of such a resource is INVALID_NAME."""
    with pytest.raises(InvalidRequest) as refused:
        parse.id_of(name, "engines")

    assert refused.value.reason == "INVALID_NAME"
    assert refused.value.metadata == {"name": name}


def test_a_wish_is_what_the_client_set() -> None:
    """Arguments pass by vLLM's names; a model is required."""
    request = pb.LoadModelRequest(model="a/b", revision="v1", disable_auto_config=True)
    request.engine_args.update({"max_model_len": 8192, "dtype": "auto"})

    assert parse.wish(request) == Wish("a/b", "v1", {"max_model_len": 8192, "dtype": "auto"}, auto_config=False)
    with pytest.raises(InvalidRequest, match="model is required"):
        parse.wish(pb.LoadModelRequest())


@pytest.mark.parametrize("name", ["", *USE_CASES])
def test_a_wish_says_what_it_is_for(name: str) -> None:
    """By the planner's name; nothing if the client does not say."""
    value = engine_pb2.UseCase.Value(f"USE_CASE_{name.upper() or 'UNSPECIFIED'}")

    assert parse.wish(pb.LoadModelRequest(model="m", use_case=value)).use_case == name


def test_a_use_case_of_a_later_client_is_refused_with_those_there_are() -> None:
    """Rather than loading a model for something else."""
    request = pb.LoadModelRequest.FromString(pb.LoadModelRequest(model="m").SerializeToString())
    field = pb.LoadModelRequest.DESCRIPTOR.fields_by_name["use_case"].number
    request.MergeFromString(bytes([field << 3, 99]))

    with pytest.raises(InvalidRequest, match="does not know use case 99: it knows production, download") as refused:
        parse.wish(request)
    assert refused.value.reason == "INVALID_USE_CASE"


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("model", pb.LoadModelRequest(model="m" * 4097)),
        ("model", pb.LoadModelRequest(model="org/m\x1b]0;owned\x07")),
        ("model", pb.LoadModelRequest(model="org/m\0")),
        ("model", pb.LoadModelRequest(model="org/\u202em")),
        ("revision", pb.LoadModelRequest(model="m", revision="r" * 257)),
        ("revision", pb.LoadModelRequest(model="m", revision="main\r")),
        ("engine_args", pb.LoadModelRequest(model="m", engine_args=_args("x" * (64 << 10)))),
    ],
)
def test_a_wish_that_no_client_means_is_refused(field: str, request_: pb.LoadModelRequest) -> None:
    """It is listed, logged and printed for as long as its engine: it is short, and moves no cursor."""
    with pytest.raises(InvalidRequest) as refused:
        parse.wish(request_)

    assert refused.value.reason == "INVALID_FIELD"
    assert refused.value.metadata["field"] == field


def test_a_wish_may_be_as_large_as_any_that_makes_sense() -> None:
    """The longest path there is, in any script, and arguments by the kilobyte."""
    model = "/" + "模" * 4095
    request = pb.LoadModelRequest(model=model, revision="r" * 256, engine_args=_args("x" * (63 << 10)))

    assert parse.wish(request).model == model


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 0), (-1, 0), (86_400, 1), (10**12, 0), (0, -5)])
def test_a_length_of_a_lease_that_makes_no_sense_is_refused(seconds: int, nanos: int) -> None:
    """It is over nothing, and a day at most."""
    with pytest.raises(InvalidRequest, match="at most a day"):
        parse.ttl(duration_pb2.Duration(seconds=seconds, nanos=nanos), given=True)


def test_a_length_that_is_not_given_is_the_default() -> None:
    """Unset is not zero."""
    assert parse.ttl(duration_pb2.Duration(), given=False) is None
    assert parse.ttl(duration_pb2.Duration(seconds=86_400), given=True) == 86_400
    assert parse.ttl(duration_pb2.Duration(nanos=500_000_000), given=True) == 0.5
