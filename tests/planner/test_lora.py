from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.models import asked, planned
from vllmd.planner.choice import Infeasible
from vllmd.planner.lora import RANKS, Adapters
from vllmd.planner.planning import plan

TWO = Adapters({"poems": "/a/poems", "sql": "/a/sql"}, rank=12)
NAMES = ("enable_lora", "max_lora_rank", "max_loras", "max_cpu_loras")


def many(count: int, rank: int | None = 8) -> Adapters:
    """So many adapters."""
    return Adapters({f"a{number}": f"/a/{number}" for number in range(count)}, rank)


def chosen(adapters: Adapters, there: str = "1xH100", **client: Any) -> dict[str, Any]:
    """What a plan chooses for some adapters."""
    found = planned(asked(there, adapters=adapters, client=client))
    return {choice.name: choice.value for choice in found.choices if choice.name in NAMES}


def refused(adapters: Adapters, **request: Any) -> Infeasible:
    """Why there is no plan for some adapters."""
    found = plan(asked("1xH100", adapters=adapters, **request))
    assert isinstance(found, Infeasible)
    return found


def test_without_adapters_nothing_is_chosen() -> None:
    """Slots for them take memory."""
    assert chosen(Adapters()) == {}
    assert planned(asked("1xH100")).lora == {}


def test_what_vllm_needs_follows_from_the_adapters() -> None:
    """The rank is rounded up to one that vLLM takes, and each has its reason."""
    found = planned(asked("1xH100", adapters=TWO))
    reasons = {choice.name: (choice.source, choice.reason) for choice in found.choices}

    assert chosen(TWO) == {"enable_lora": True, "max_lora_rank": 16, "max_loras": 2}
    assert found.lora == TWO.paths
    assert reasons["enable_lora"] == ("client", "LoRA adapters are asked for")
    assert reasons["max_lora_rank"] == ("model", "the least that vLLM takes for a rank of 12, the adapters' largest")


def test_many_adapters_take_turns_on_the_gpu_and_stay_in_main_memory() -> None:
    """A slot on the GPU costs memory whether it is used or not."""
    assert chosen(many(10)) == {"enable_lora": True, "max_lora_rank": 8, "max_loras": 4, "max_cpu_loras": 10}
    assert chosen(many(10), max_loras=2)["max_cpu_loras"] == 10
    assert chosen(many(10), max_cpu_loras=3)["max_loras"] == 3
    assert "max_cpu_loras" not in chosen(many(2), max_loras=8)


@pytest.mark.parametrize("rank", [1, 8, 9, 256, 512])
def test_any_rank_up_to_the_largest_has_one_that_vllm_takes(rank: int) -> None:
    """The least."""
    found = chosen(many(1, rank))["max_lora_rank"]

    assert found in RANKS
    assert rank <= found < 2 * max(rank, 8)


def test_a_rank_that_is_not_known_is_left_to_vllm() -> None:
    """As for a fake engine, whose adapters need not exist."""
    assert "max_lora_rank" not in chosen(many(1, None))


def test_what_the_client_set_stays() -> None:
    """A larger rank may be meant for what comes later."""
    assert chosen(TWO, max_lora_rank=64, max_loras=1, max_cpu_loras=5) == {
        "enable_lora": True,
        "max_lora_rank": 64,
        "max_loras": 1,
        "max_cpu_loras": 5,
    }


@pytest.mark.parametrize(
    ("client", "text"),
    [
        ({"enable_lora": False}, "enable_lora must be true, or left open"),
        ({"max_lora_rank": 8}, "an adapter has a rank of 12: at least 16 is needed"),
        ({"max_lora_rank": "16"}, "max_lora_rank must be a whole number from 1"),
        ({"max_loras": 0}, "max_loras must be a whole number from 1"),
        ({"max_loras": 4, "max_cpu_loras": 2}, "max_cpu_loras must be at least max_loras, 4"),
    ],
)
def test_what_contradicts_the_adapters_is_refused(client: dict[str, Any], text: str) -> None:
    """By name, with and without auto-config; what the host has set is told to be the host's."""
    for auto in (True, False):
        found = refused(TWO, client=client, auto=auto)
        assert (found.reason, found.invalid) == ("INVALID_ENGINE_ARG", True)
        assert text in found.message
    host = refused(TWO, host=client)

    assert not host.invalid
    assert "as this host's configuration sets it" in host.message


def test_a_rank_that_vllm_never_takes_is_refused() -> None:
    """With the largest."""
    found = refused(many(1, 513))

    assert (found.reason, found.invalid, found.numbers) == ("INVALID_LORA", True, {"rank": 513, "largest_rank": 512})


def test_without_auto_config_and_on_the_cpu_it_is_the_same() -> None:
    """The adapters were asked for; there is nothing to choose about that."""
    bare = planned(asked("1xH100", adapters=TWO, auto=False))
    on_cpu = planned(dataclasses.replace(asked("1xH100", adapters=TWO), gpus=()))

    assert bare.engine_args == {"enable_lora": True, "max_lora_rank": 16, "max_loras": 2}
    assert on_cpu.engine_args["max_lora_rank"] == 16
    assert bare.lora == on_cpu.lora == TWO.paths


def test_slots_for_adapters_count_as_weights() -> None:
    """Four of rank 256 for an 8B model take gigabytes, which the KV cache lacks then."""
    without, within = (planned(asked("1xH100", adapters=one)).memory for one in (Adapters(), many(4, 256)))

    assert without is not None
    assert within is not None
    assert within.weights - without.weights > 2 << 30
    assert within.kv_cache < without.kv_cache
