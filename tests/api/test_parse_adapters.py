from __future__ import annotations

import pytest

from vllmd.api.parse_adapters import MOST, adapters
from vllmd.errors import InvalidRequest
from vllmd.v1.engine_pb2 import LoraAdapter


def test_adapters_are_read_by_name() -> None:
    """In the order of their names, so that two clients who ask for the same ask for the same."""
    given = [LoraAdapter(name="sql", path="/a/1"), LoraAdapter(name="A.b_c-9", path="/a/2")]

    assert list(adapters(given).items()) == [("A.b_c-9", "/a/2"), ("sql", "/a/1")]
    assert adapters([]) == {}


@pytest.mark.parametrize("name", ["", " ", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """It stands in logs and messages."""
    with pytest.raises(InvalidRequest, match="no name of a LoRA adapter") as refused:
        adapters([LoraAdapter(name=name, path="/a")])

    assert refused.value.reason == "INVALID_LORA"
    assert refused.value.metadata["field"] == "lora_adapters"


@pytest.mark.parametrize("path", ["", "a", "./a", "~/a", "org/name", "/a\nb", "/a\0b", "/" + "x" * 1024])
def test_a_path_that_is_not_absolute_is_refused(path: str) -> None:
    """Vllm would ask the hub for any other."""
    with pytest.raises(InvalidRequest, match="absolute"):
        adapters([LoraAdapter(name="a", path=path)])


def test_no_name_is_given_twice() -> None:
    """Not for the same path either."""
    with pytest.raises(InvalidRequest, match="Two LoRA adapters are named a"):
        adapters([LoraAdapter(name="a", path="/a"), LoraAdapter(name="a", path="/a")])


def test_there_are_not_too_many() -> None:
    """The limit is told."""
    given = [LoraAdapter(name=f"a{number}", path="/a") for number in range(MOST + 1)]
    with pytest.raises(InvalidRequest, match="at most 64 LoRA adapters; 65"):
        adapters(given)

    assert len(adapters(given[:MOST])) == MOST
