from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host
from tests.fakes.served import details_of, request, serving, status_of
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_pb2 import EngineArg, LoraAdapter

LLAMA = str(Path(__file__).parents[1] / "data" / "models" / "llama-3.1-8b")


def planning(wanted: pb.LoadModelRequest) -> pb.PlanModelRequest:
    """Ask for the plan of a load."""
    return pb.PlanModelRequest(
        model=wanted.model,
        revision=wanted.revision,
        engine_args=wanted.engine_args,
        disable_auto_config=wanted.disable_auto_config,
        use_case=wanted.use_case,
        lora_adapters=wanted.lora_adapters,
    )


async def failure_of(call: Any) -> tuple[grpc.StatusCode, str, str, dict[str, str]]:
    """How a call fails: its code, reason, message and numbers."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    error = failed.value
    info: Any = details_of(status_of(error))["ErrorInfo"]
    numbers = {key: value for key, value in info.metadata.items() if key != "engine"}
    return error.code(), info.reason, error.details() or "", numbers


def by_name(arguments: Iterable[EngineArg]) -> list[EngineArg]:
    """Engine arguments in an order that does not depend on how a struct was packed."""
    return sorted(arguments, key=lambda one: one.name)


async def test_a_plan_is_what_the_load_then_does() -> None:
    """With the same arguments, reasons, GPUs and memory; the plan itself starts nothing."""
    async with Host(gpu(0), gpu(1)) as host, serving(host) as served:
        wanted = request(LLAMA, max_num_seqs=32)
        wanted.lora_adapters.append(LoraAdapter(name="sql", path="/a/sql"))
        planned = await served.engines.PlanModel(planning(wanted))
        nothing = host.scheduler.engines.entries()
        *_, last = [response async for response in served.engines.LoadModel(wanted)]
        engine = last.loaded.engine
        again = await served.engines.PlanModel(planning(wanted))

        assert nothing == []
        assert by_name(planned.effective_args) == by_name(engine.effective_args)
        assert list(planned.gpus) == list(engine.gpus)
        assert planned.planned_memory == engine.planned_memory
        assert planned.planned_memory.weights_bytes > 7 * GIB  # half of them: there are two GPUs
        assert (planned.shared_engine, list(planned.blocking_engines)) == ("", [])
        assert again.shared_engine == engine.name
        assert by_name(again.effective_args) == by_name(engine.effective_args)
        assert len(host.scheduler.engines.entries()) == 1


@pytest.mark.parametrize(
    ("model", "engine_args", "reason"),
    [
        ("", {}, "INVALID_FIELD"),
        ("fake/model", {"worker_cls": "x"}, "ENGINE_ARG_REFUSED"),
        ("fake/model", {"max_model_len": "8k"}, "INVALID_ENGINE_ARG"),
        (LLAMA, {"tensor_parallel_size": 3}, "INVALID_ENGINE_ARG"),
        (LLAMA, {"tensor_parallel_size": 2}, "NOT_ENOUGH_GPUS"),
        (LLAMA, {"max_model_len": 200_000}, "INVALID_ENGINE_ARG"),
        (LLAMA, {"gpu_memory_utilization": 0.1}, "KV_CACHE_TOO_SMALL"),
    ],
)
async def test_what_can_not_be_planned_can_not_be_loaded(model: str, engine_args: dict[str, Any], reason: str) -> None:
    """And fails in the very same way."""
    async with Host(gpu()) as host, serving(host) as served:
        wanted = request(model, **engine_args)
        planned = await failure_of(served.engines.PlanModel(planning(wanted)))
        loaded = await failure_of(served.engines.LoadModel(wanted).read())

        assert planned == loaded
        assert reason in (planned[1], "KV_CACHE_TOO_SMALL", "MODEL_TOO_LARGE")


async def test_a_daemon_that_takes_no_work_makes_no_plans() -> None:
    """They would be for nothing."""
    async with Host(gpu()) as host, serving(host) as served:
        host.scheduler.draining = True
        planned = await failure_of(served.engines.PlanModel(planning(request())))
        loaded = await failure_of(served.engines.LoadModel(request()).read())
        host.scheduler.draining = False

        assert planned == loaded
        assert planned[:2] == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_an_engine_names_its_adapters_and_answers_with_them() -> None:
    """By the names that LoadModel gave them; without one the model answers alone."""
    async with Host() as host, serving(host) as served:
        wanted = request()
        wanted.lora_adapters.extend([LoraAdapter(name="sql", path="/a/sql"), LoraAdapter(name="poems", path="/a/p")])
        *_, last = [response async for response in served.engines.LoadModel(wanted)]
        name = last.loaded.engine.name

        async def said(lora: str) -> str:
            generate = pb.GenerateRequest(engine=name, text="a", lora=lora)
            generate.sampling_params.CopyFrom(generation_pb2.SamplingParams(max_tokens=2))
            return "".join([response.text async for response in served.engines.Generate(generate)])

        unknown = await failure_of(served.engines.Generate(pb.GenerateRequest(engine=name, text="a", lora="x")).read())

        assert [(one.name, one.path) for one in last.loaded.engine.lora_adapters] == [
            ("poems", "/a/p"),
            ("sql", "/a/sql"),
        ]
        assert [await said(lora) for lora in ("", "sql", "poems")] == ["w0 w1 ", "sql0 sql1 ", "poems0 poems1 "]
        assert unknown[:2] == (grpc.StatusCode.NOT_FOUND, "LORA_NOT_FOUND")
        assert "it has poems, sql" in unknown[2]
