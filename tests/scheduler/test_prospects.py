from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, wish
from tests.fakes.rules import altered
from vllmd.engines.diagnosis import Failure
from vllmd.gpu.inventory import GpuLink, GpuProcess
from vllmd.planner.planning import Plan
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.prospects import Prospects
from vllmd.scheduler.wish import Wish

LLAMA = str(Path(__file__).parents[1] / "data" / "models" / "llama-3.1-8b")
"""Of 15 GiB of weights; the directory holds its configuration only."""


async def prospects(
    host: Host, wanted: Wish, engines: Sequence[Entry] = (), busy: frozenset[str] = frozenset(), **ground: Any
) -> Plan | Failure:
    """What a wish would come to if engines were vLLM's."""
    of_vllm = altered(host.ground, **{"backend": "vllm", **ground})
    return await Prospects(of_vllm, host.quarantines).plan(wanted, busy, engines)


async def planned(host: Host, wanted: Wish, **ground: Any) -> Plan:
    found = await prospects(host, wanted, **ground)
    assert isinstance(found, Plan), found
    return found


async def failed(host: Host, wanted: Wish, engines: Sequence[Entry] = ()) -> Failure:
    found = await prospects(host, wanted, engines)
    assert isinstance(found, Failure)
    return found


async def held_by_an_engine(host: Host, name: str, size: int) -> Entry:
    """An engine on GPU-0, to which the driver attributes so much."""
    entry, _ = await host.load(wish(f"fake/{name}", gpu_memory_utilization=0.1))
    host.gpus.occupy("GPU-0", size, pid=max(entry.supervisor.known_pids))
    return entry


@pytest.mark.parametrize(
    ("wanted", "ours", "context"),
    [("", "", 131072), ("", "download", 2048), ("debate", "download", 4096), ("production", "", 8192)],
)
async def test_the_use_case_of_a_wish_counts_before_the_hosts(wanted: str, ours: str, context: int) -> None:
    """Which is for who does not say."""
    async with Host(gpu()) as host:
        found = await planned(host, Wish(LLAMA, use_case=wanted), use_case=ours)

    assert found.engine_args["max_model_len"] == context


async def test_arguments_of_the_host_fill_what_a_wish_leaves_open() -> None:
    """And nothing where the client wants nothing chosen."""
    ours = {"max_num_seqs": 16, "dtype": "half"}
    async with Host(gpu()) as host:
        filled = await planned(host, Wish(LLAMA, engine_args={"dtype": "bfloat16"}), engine_args=ours)
        bare = await planned(host, Wish(LLAMA, auto_config=False), engine_args=ours)

    sources = {one.name: (one.value, one.source) for one in filled.choices}
    assert sources["max_num_seqs"] == (16, "host")
    assert sources["dtype"] == ("bfloat16", "client")
    assert bare.engine_args == {}


async def test_a_revision_is_among_the_clients_arguments() -> None:
    """vLLM has to load the same."""
    async with Host(gpu()) as host:
        found = await planned(host, Wish("fake/model", "v2"), backend="fake")

    assert ("revision", "v2", "client") in [(one.name, one.value, one.source) for one in found.choices]


@pytest.mark.parametrize("who", ["client", "host"])
async def test_a_model_that_is_fetched_with_other_rights_is_not_asked_for(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub may let vLLM have with its token what it refuses us; whoever set it, nothing is fetched before."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"failure": "gated", "why": "GatedRepoError"}\'\n')
    python.chmod(0o755)
    token = {"hf_token": "hf_x"}
    async with Host(gpu(), python=python) as host:
        found = await planned(
            host,
            Wish("org/gated", engine_args=token if who == "client" else {}),
            engine_args=token if who == "host" else {},
        )
        refused = await failed(host, Wish("org/gated"))

    assert found.engine_args["hf_token"] == "hf_x"
    assert "gated" in refused.message


async def test_what_links_gpus_decides_among_how_many_a_model_is_divided() -> None:
    """As NVML tells it."""
    joined = tuple(GpuLink("GPU-0", f"GPU-{other}", nvlinks=int(other == 1)) for other in (1, 2, 3))
    async with Host(*(gpu(index) for index in range(4))) as host:
        apart = await planned(host, Wish(LLAMA, use_case="latency"))
        host.gpus.links = joined
        together = await planned(host, Wish(LLAMA, use_case="latency"))

    assert len(apart.gpus) == 1
    assert [one.uuid for one in together.gpus] == ["GPU-0", "GPU-1"]


async def test_the_engine_that_is_in_the_way_is_named() -> None:
    """Who reads the failure knows whom to stop; one that holds nothing there is not named."""
    async with Host(gpu()) as host:
        entry = await held_by_an_engine(host, "old", 70 * GIB)
        other, _ = await host.load(wish("fake/other", gpu_memory_utilization=0.05))
        found = await failed(host, Wish(LLAMA), [entry, other])
        share = await failed(host, Wish("fake/more", engine_args={"gpu_memory_utilization": 0.9}), [entry, other])

        assert f"held by engine {entry.supervisor.id}: 70.0 GiB" in share.message
        assert (found.reason, found.invalid) == ("GPU_MEMORY_EXHAUSTED", False)
        assert f"stopping engine {entry.supervisor.id}" in found.message
        assert other.supervisor.id not in found.message


async def test_an_engine_is_named_where_the_driver_does_not_say_what_it_holds() -> None:
    """As inside most containers: by what its load was seen to take."""
    async with Host(gpu()) as host:
        entry, _ = await host.load(wish(gpu_memory_utilization=0.1))
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("weigh ")))
        untold = (GpuProcess(max(entry.supervisor.known_pids), None),)
        host.gpus.set(dataclasses.replace(gpu(used=70 * GIB), processes=untold))
        host.ground.ledger.enter(entry.supervisor.id, {"GPU-0": 70 * GIB})
        found = await failed(host, Wish(LLAMA), [entry])

        assert f"stopping engine {entry.supervisor.id}" in found.message


async def test_memory_that_no_engine_holds_is_no_engines_fault() -> None:
    """Stopping one would not help."""
    async with Host(gpu(used=70 * GIB)) as host:
        entry, _ = await host.load(wish(gpu_memory_utilization=0.05))
        found = await failed(host, Wish(LLAMA), [entry])

        assert entry.supervisor.id not in found.message


async def test_a_failure_has_the_numbers_for_programs() -> None:
    """As the message has them for people; what the client set and can't work is told to be that."""
    async with Host(gpu(total=24 * GIB)) as host:
        found = await failed(host, Wish(LLAMA, engine_args={"max_model_len": 131072}))

    assert (found.reason, found.invalid) == ("KV_CACHE_TOO_SMALL", True)
    assert {"needed_bytes", "missing_bytes", "longest_max_model_len"} <= dict(found.metadata).keys()
    assert "What would make it fit: max_model_len=" in found.message


async def test_nothing_is_planned_on_a_gpu_in_quarantine() -> None:
    """Something is stuck there."""
    async with Host(gpu(0), gpu(1)) as host:
        host.quarantines.put("GPU-0", "stuck", holder="a test")
        found = await planned(host, Wish(LLAMA))
        refused = await failed(host, Wish(LLAMA, engine_args={"tensor_parallel_size": 2}))
        host.quarantines.put("GPU-1", "stuck", holder="a test")
        nowhere = await failed(host, Wish(LLAMA))

    assert [one.uuid for one in found.gpus] == ["GPU-1"]
    assert refused.reason == nowhere.reason == "GPU_QUARANTINED"
    assert refused.message.endswith("1 more are lost or in quarantine: see vllmd-cli status.")


async def test_nothing_is_planned_on_a_lost_gpu_nor_on_the_cpu_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """A host of GPUs is none of CPUs because they fell off the bus."""
    caplog.set_level(logging.CRITICAL)
    async with Host(gpu(0), gpu(1)) as host:
        host.ground.losses.observe(await host.monitor.snapshot())
        host.gpus.lose("GPU-0")
        host.ground.losses.observe(await host.monitor.snapshot())
        found = await planned(host, Wish(LLAMA))
        refused = await failed(host, Wish(LLAMA, engine_args={"tensor_parallel_size": 2}))
        host.gpus.lose("GPU-1")
        host.ground.losses.observe(await host.monitor.snapshot())
        nowhere = await failed(host, Wish(LLAMA))

    assert [one.uuid for one in found.gpus] == ["GPU-1"]
    assert refused.reason == nowhere.reason == "GPU_LOST"


async def test_a_host_that_can_not_say_what_it_has_plans_nothing() -> None:
    """Nothing follows from silence."""
    async with Host(gpu()) as host:
        host.gpus.silence = "the driver has lost its mind"

        assert (await failed(host, Wish(LLAMA))).reason == "NVML_UNAVAILABLE"


async def test_a_host_without_gpus_plans_for_the_cpu() -> None:
    """With a cache of its own size."""
    async with Host() as host:
        found = await planned(host, Wish(LLAMA))

    assert found.gpus == ()
    assert found.engine_args == {"kv_cache_memory_bytes": GIB}


async def test_a_model_that_is_not_there_is_the_clients_mistake(tmp_path: Path) -> None:
    """Before the GPUs are looked at."""
    async with Host(gpu()) as host:
        found = await failed(host, Wish(str(tmp_path / "nowhere")))

        assert found.invalid
        assert not host.gpus.threads


@pytest.mark.parametrize(("busy", "floor"), [((), 5 * GIB), (("GPU-0",), 7 * GIB)])
async def test_a_look_at_a_gpu_on_which_something_happens_is_not_kept(busy: tuple[str, ...], floor: int) -> None:
    """What is in use there now says nothing of what it is like when nobody is on it."""
    async with Host(gpu(used=5 * GIB)) as host:
        await prospects(host, Wish(LLAMA), busy=frozenset(busy))

        assert host.ground.ledger.expectation(gpu(used=7 * GIB)).floor_bytes == floor


async def test_a_plan_goes_by_the_ranks_of_the_adapters(tmp_path: Path) -> None:
    """As their files say it; for a fake engine they need not exist."""
    (tmp_path / "adapter_config.json").write_text('{"r": 20}')
    (tmp_path / "adapter_model.bin").touch()
    async with Host(gpu()) as host:
        found = await planned(host, Wish(LLAMA, lora={"sql": str(tmp_path)}))
        gone = await failed(host, Wish(LLAMA, lora={"sql": str(tmp_path / "none")}))
        unknown = await planned(host, Wish(LLAMA, lora={"sql": "/none"}), backend="fake")

    assert found.engine_args["max_lora_rank"] == 32
    assert found.lora == {"sql": str(tmp_path)}
    assert (gone.reason, gone.invalid) == ("LORA_NOT_FOUND", True)
    assert unknown.engine_args["enable_lora"] is True
    assert "max_lora_rank" not in unknown.engine_args


async def test_engines_may_be_seen_as_gone() -> None:
    """To find out what comes once they are; of such a look nothing is learned."""
    async with Host(gpu()) as host:
        entry = await held_by_an_engine(host, "old", 70 * GIB)
        of_vllm = altered(host.ground, backend="vllm")
        look = Prospects(of_vllm, host.quarantines)
        full = await look.plan(Wish(LLAMA), None, [entry])
        later = await look.plan(Wish(LLAMA), None, [entry], gone=[entry.supervisor.id])

    assert isinstance(full, Failure)
    assert isinstance(later, Plan)
