from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.models import asked
from vllmd.gpu.inventory import Gpu
from vllmd.planner import planning
from vllmd.planner.choice import Infeasible, Remedy
from vllmd.planner.planning import Plan
from vllmd.planner.remedies import MOST, plan
from vllmd.planner.request import Request, Tenant


def infeasible(request: Request) -> Infeasible:
    found = plan(request)
    assert isinstance(found, Infeasible), found
    return found


def texts(found: Infeasible) -> list[str]:
    return [remedy.text for remedy in found.remedies]


def named(found: Infeasible, *names: str) -> Remedy:
    """The remedy that sets just these arguments."""
    (remedy,) = (one for one in found.remedies if set(one.engine_args) == set(names))
    return remedy


def with_engines(host: str, *engines: Tenant, model: str = "llama-3.1-8b", **asked_for: Any) -> Request:
    """A host on which engines hold memory."""
    request = asked(host, model, **asked_for)
    return dataclasses.replace(request, gpus=_filled(request.gpus, engines), tenants=engines)


def _filled(gpus: Sequence[Gpu], engines: Sequence[Tenant]) -> tuple[Gpu, ...]:
    def filled(gpu: Gpu) -> Gpu:
        taken = sum(engine.used_bytes.get(gpu.uuid, 0) for engine in engines)
        return dataclasses.replace(gpu, used_bytes=gpu.used_bytes + taken, free_bytes=gpu.free_bytes - taken)

    return tuple(map(filled, gpus))


def engine(name: str, **gigabytes: int) -> Tenant:
    """An engine that holds so much of `g0`, `g1` and so on."""
    uuids = {f"g{gpu.index}": gpu.uuid for gpu in asked("8xH100").gpus}
    return Tenant(name, {uuids[gpu]: size * GIB for gpu, size in gigabytes.items()})


def test_where_there_is_a_plan_nothing_has_to_be_remedied() -> None:
    """It is the planner's own."""
    request = asked("1xH100")

    assert plan(request) == planning.plan(request)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        ({"max_model_len": 131073}, "INVALID_ENGINE_ARG"),
        ({"tensor_parallel_size": 3}, "INVALID_ENGINE_ARG"),
        ({"max_model_len": "8k"}, "INVALID_ENGINE_ARG"),
        ({"max_num_seqs": 64, "max_num_batched_tokens": 32}, "INVALID_ENGINE_ARG"),
        ({"quantization": "awq"}, "INVALID_ENGINE_ARG"),
        ({"tensor_parallel_size": 16}, "NOT_ENOUGH_GPUS"),
    ],
)
def test_nothing_is_offered_for_what_is_no_matter_of_memory(client: dict[str, Any], reason: str) -> None:
    """The message itself says what can be."""
    found = infeasible(with_engines("2xH100", engine("a", g0=60), client=client))

    assert (found.reason, found.remedies) == (reason, ())
    assert found.advice == found.message


def test_an_unknown_use_case_is_no_matter_of_memory() -> None:
    """It is refused with those there are."""
    found = infeasible(asked("1xRTX3060", use_case="chatting"))

    assert (found.reason, found.invalid, found.remedies) == ("INVALID_USE_CASE", True, ())
    assert "it can be production, download, debate, latency, throughput." in found.message


def test_a_shorter_context_is_offered_for_one_that_does_not_fit() -> None:
    """As long as it can be, and first of all."""
    found = infeasible(asked("1xRTX3090", client={"max_model_len": 131072}))
    shorter = found.remedies[0]

    assert list(shorter.engine_args) == ["max_model_len"]
    assert 32768 < shorter.engine_args["max_model_len"] < 65536
    assert found.advice.startswith(f"{found.message} What would make it fit: {shorter.text};")


@pytest.mark.parametrize("who", ["client", "host"])
def test_a_smaller_share_is_offered_for_one_that_is_not_free(who: str) -> None:
    """Whoever set it."""
    request = dataclasses.replace(asked("1xH100", taken={0: 0.3}), **{who: {"gpu_memory_utilization": 0.9}})  # type: ignore[arg-type]
    share = named(infeasible(request), "gpu_memory_utilization").engine_args["gpu_memory_utilization"]

    assert 0.5 < share < 0.7


def test_smaller_weights_are_offered_for_a_model_that_is_too_large() -> None:
    """With the context that there would be."""
    found = infeasible(asked("4xRTX3090", "llama-3.3-70b"))

    assert found.reason == "MODEL_TOO_LARGE"
    assert named(found, "quantization").text.startswith("quantization=fp8 (a context of ")


def test_a_smaller_cache_is_offered_for_a_context_that_nearly_fits() -> None:
    """Half the bytes hold twice the tokens."""
    found = infeasible(asked("1xRTX3090", client={"max_model_len": 65536}))

    assert named(found, "kv_cache_dtype").text == "kv_cache_dtype=fp8"


def test_going_without_graphs_is_offered_where_they_are_what_is_missing() -> None:
    """They are a gigabyte of a model of so many layers."""
    found = infeasible(asked("1xRTX3090", taken={0: 0.29}))

    assert named(found, "enforce_eager").text.startswith("enforce_eager=true (a context of ")


def test_where_none_helps_alone_all_of_them_are_tried_together() -> None:
    """It is one remedy, to be taken as a whole."""
    found = infeasible(asked("1xRTX3090", client={"max_model_len": 131072}))
    together = named(found, "kv_cache_dtype", "quantization", "enforce_eager")

    assert together.text == "kv_cache_dtype=fp8 and quantization=fp8 and enforce_eager=true"


def test_what_the_caller_decided_is_not_offered_anew() -> None:
    """It has its reasons."""
    decided = {"kv_cache_dtype": "auto", "quantization": None, "enforce_eager": False}
    found = infeasible(asked("1xRTX3090", client=decided | {"max_model_len": 131072}))

    assert all(remedy.engine_args.keys() <= {"max_model_len"} for remedy in found.remedies)


def test_the_smallest_engine_that_makes_room_is_named() -> None:
    """One that holds less would have to leave for nothing."""
    engines = engine("small", g0=4), engine("middle", g0=28), engine("large", g0=44)
    found = infeasible(with_engines("1xH100", *engines, model="phi-4", client={"max_model_len": 2048}))
    (remedy,) = (one for one in found.remedies if one.engines)

    assert (remedy.text, remedy.engines) == ("stopping engine middle", ("middle",))


def test_where_one_is_not_enough_engines_are_named_from_the_largest_on() -> None:
    """No more of them than it takes."""
    engines = engine("a", g0=10), engine("b", g0=30), engine("c", g0=25), engine("d", g0=12)
    found = infeasible(with_engines("1xH100", *engines, model="qwen3-30b-a3b", client={"quantization": None}))

    assert [one.engines for one in found.remedies if one.engines] == [("b", "c", "d")]


def test_no_engine_is_named_where_none_would_make_room() -> None:
    """The model is too large for the GPU whoever leaves it."""
    found = infeasible(with_engines("1xRTX3090", engine("a", g0=4), model="llama-3.3-70b"))

    assert not any(remedy.engines for remedy in found.remedies)


def test_more_gpus_of_the_same_kind_are_named() -> None:
    """As many as would do, as hosts have them."""
    assert texts(infeasible(asked("1xRTX3090", "llama-3.3-70b")))[-1] == (
        "8 GPUs of this kind (NVIDIA GeForce RTX 3090)"
    )


@pytest.mark.parametrize("client", [{"tensor_parallel_size": 1}, {"pipeline_parallel_size": 1}])
def test_more_gpus_are_no_help_where_their_number_was_set(client: dict[str, Any]) -> None:
    """The caller would have to set another."""
    assert not any("GPUs of this kind" in text for text in texts(infeasible(asked("1xT4", "phi-4", client=client))))


def test_more_mig_slices_are_no_help() -> None:
    """No engine is divided among them."""
    request = asked("1xRTX3090", "llama-3.3-70b")
    slices = tuple(dataclasses.replace(gpu, mig_parent="GPU-P") for gpu in request.gpus)

    assert not texts(infeasible(dataclasses.replace(request, gpus=slices)))


def test_only_a_few_remedies_are_named() -> None:
    """Nobody reads more."""
    engines = [engine(f"e{number}", g0=3) for number in range(6)]
    request = with_engines("1xRTX3090", *engines, client={"max_model_len": 100_000, "gpu_memory_utilization": 0.3})

    assert len(infeasible(request).remedies) <= MOST


def test_who_stops_the_engines_that_are_named_gets_a_plan() -> None:
    """It was tried."""
    engines = engine("a", g0=30, g1=10), engine("b", g1=60), engine("c", g0=40)
    request = with_engines("2xH100", *engines, model="llama-3.3-70b", client={"tensor_parallel_size": 2})
    (remedy,) = (one for one in infeasible(request).remedies if one.engines)
    left = [one for one in engines if one.name not in remedy.engines]

    assert isinstance(planning.plan(with_engines("2xH100", *left, model="llama-3.3-70b", client=request.client)), Plan)
