from __future__ import annotations

import dataclasses

import pytest

from vllmd.worker.adapters import Adapters
from vllmd.worker.backend import InvalidRequest


@dataclasses.dataclass(frozen=True)
class Request:
    """As vLLM's `LoRARequest`."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class Engine:
    """As far as adapters know vLLM's."""

    def __init__(self, refused: str = "") -> None:
        self.loaded: list[Request] = []
        self.refused = refused

    async def add_lora(self, request: Request) -> bool:
        if request.lora_name == self.refused:
            raise ValueError("LoRA rank 64 is greater than max_lora_rank 16.")
        self.loaded.append(request)
        return True


PATHS = {"poems": "/a/poems", "sql": "/a/sql"}


def test_each_adapter_has_a_number_of_its_own() -> None:
    """From 1: vLLM takes 0 for none, and knows them by their numbers."""
    adapters = Adapters(PATHS, Request)

    assert adapters.request("poems") == Request("poems", 1, "/a/poems")
    assert adapters.request("sql") == Request("sql", 2, "/a/sql")
    assert adapters.request("") is None


def test_a_name_that_there_is_not_is_refused() -> None:
    """Also where there are none at all."""
    for adapters in (Adapters(PATHS, Request), Adapters()):
        with pytest.raises(InvalidRequest, match="no adapter 'x'"):
            adapters.request("x")


async def test_all_are_loaded_and_one_that_can_not_be_is_named() -> None:
    """With what vLLM says."""
    engine = Engine()
    await Adapters(PATHS, Request).load(engine)
    with pytest.raises(RuntimeError, match="LoRA adapter 'sql' can't be loaded: LoRA rank 64 is greater"):
        await Adapters(PATHS, Request).load(Engine(refused="sql"))

    assert [request.lora_name for request in engine.loaded] == ["poems", "sql"]
