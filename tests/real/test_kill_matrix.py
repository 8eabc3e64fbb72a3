"""The kill matrix on real vLLM, with one worker and with two: `make test-matrix`, as each cell takes a minute."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.host.running import Home, RunningDaemon, cores_of, home, identity_of, kill, load_request, until
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS
from vllmd.v1 import engine_pb2
from vllmd.worker.processes import Identity, processes

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(LOAD_SECONDS + 100)]

READY, FAILED = engine_pb2.Engine.STATE_READY, engine_pb2.Engine.STATE_FAILED
BINDING = {1: "auto", 2: "0|1"}
"""By number of workers: which cores vLLM's CPU workers run on; two on one NUMA node have to be told."""


@pytest.fixture(scope="module", params=[1, 2])
def size(request: pytest.FixtureRequest) -> int:
    """How many workers."""
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture(scope="module")
def host(engine_python: str, size: int) -> Iterator[Home]:
    """Where daemons run, of which a test may kill the last."""
    with home("--engine-python", engine_python, "--restart-limit", "0") as place:
        place.start(environment={"VLLM_CPU_OMP_THREADS_BIND": BINDING[size]})
        yield place
        assert place.latest.stop() == 0


def ranks_of(core: Identity) -> list[Identity]:
    """vLLM's workers below EngineCore."""
    return [
        stat.identity for stat in processes() if stat.parent_pid == core.pid and stat.name.startswith("VLLM::Worker")
    ]


def victim_of(which: str, daemon: RunningDaemon, name: str) -> Identity:
    """Who is killed."""
    pid = daemon.engine(name).pid
    if which == "worker":
        return identity_of(pid)
    core: Identity = until(lambda: cores_of(pid), "EngineCore", LOAD_SECONDS)[0]
    if which == "core":
        return core
    ranks: list[Identity] = until(lambda: ranks_of(core), "a worker of vLLM's", LOAD_SECONDS)
    return ranks[0]


def begin(daemon: RunningDaemon, model: pathlib.Path, size: int) -> tuple[Any, str]:
    """Begin to load; returns the call and the engine's name."""
    before = {engine.name for engine in daemon.status().engines}
    request = load_request(str(model), **ENGINE_ARGS, tensor_parallel_size=size)
    call = daemon.engines.LoadModel(request, timeout=LOAD_SECONDS)
    next(call)
    return call, next(engine.name for engine in daemon.status().engines if engine.name not in before)


@pytest.mark.parametrize("phase", ["loading", "idle", "generating"])
@pytest.mark.parametrize("which", ["worker", "core", "rank"])
def test_a_death_leaves_nothing(host: Home, model: pathlib.Path, size: int, which: str, phase: str) -> None:
    """Whoever of the tree it is: the rest goes at once, and calls end with a status."""
    daemon = host.latest
    call, name = begin(daemon, model, size)
    if phase == "loading":
        if which == "rank":
            until(lambda: daemon.engine(name).progress.phase >= 5, "the weights", LOAD_SECONDS)
        kill(victim_of(which, daemon, name))
        with pytest.raises(grpc.RpcError):
            list(call)
    else:
        list(call)
        victim = victim_of(which, daemon, name)  # now: to look for it may take as long as the streams do
        streams = [daemon.generate(name, 400) for _ in range(4 if phase == "generating" else 0)]
        for stream in streams:
            next(stream)
        kill(victim)
        until(lambda: daemon.engine(name).state == FAILED, "the engine's end", 60)
        for stream in streams:
            with pytest.raises(grpc.RpcError) as ended:
                list(stream)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE

    assert daemon.engine(name).reclaim.verified
    assert host.leftovers(name) == []


@pytest.mark.parametrize("phase", ["loading", "idle", "generating"])
def test_a_daemons_death_costs_no_engine(host: Home, model: pathlib.Path, size: int, phase: str) -> None:
    """The next one goes on with it, wherever it was."""
    call, name = begin(host.latest, model, size)
    if phase == "loading":
        until(lambda: cores_of(host.latest.engine(name).pid), "EngineCore", LOAD_SECONDS)
    else:
        list(call)
        if phase == "generating":
            host.latest.kept.append(host.latest.generate(name, 400))
            next(host.latest.kept[-1])
    pid = host.latest.engine(name).pid
    host.latest.kill()
    daemon = host.start(environment={"VLLM_CPU_OMP_THREADS_BIND": BINDING[size]})
    until(lambda: daemon.engine(name).state == READY, "the engine", LOAD_SECONDS)
    *_, last = daemon.generate(name, 5)
    engine = daemon.engine(name)

    assert (engine.adopted, engine.pid) == (True, pid)
    assert last.usage.completion_tokens == 5
    kill(identity_of(pid))
    until(lambda: daemon.engine(name).state == FAILED, "the engine's end", 60)
    assert host.leftovers(name) == []
