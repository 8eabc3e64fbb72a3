"""The worker, the core and the daemon are killed while an engine loads, idles and generates: nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.host.running import Home, RunningDaemon, cores_of, home, identity_of, kill, load_request, until
from vllmd.v1 import engine_pb2

FAILED = engine_pb2.Engine.STATE_FAILED
ADOPTION_SECONDS = 1.0


@pytest.fixture(params=["cgroup", "session"])
def host(request: pytest.FixtureRequest) -> Iterator[tuple[Home, RunningDaemon]]:
    """A daemon with fake engines, contained in either way."""
    with home("--backend", "fake", "--restart-limit", "0", "--adoption-timeout", str(ADOPTION_SECONDS)) as place:
        daemon = place.start("--containment", request.param)

        assert daemon.status().host.containment == request.param
        yield place, daemon


def start_loading(daemon: RunningDaemon, **engine_args: Any) -> tuple[Any, engine_pb2.Engine]:
    """Begin a load that hangs once EngineCore runs; returns the call and the engine."""
    call = daemon.engines.LoadModel(load_request(fake_hang_phase="compiling", fake_workers=2, **engine_args))
    next(call)
    name = until(lambda: daemon.status().engines, "the engine")[0].name
    until(lambda: cores_of(daemon.engine(name).pid), "EngineCore and its workers")
    return call, daemon.engine(name)


def victim_of(which: str, engine: engine_pb2.Engine) -> Any:
    """Pick the process to kill."""
    return cores_of(engine.pid)[0] if which == "core" else identity_of(engine.pid)


@pytest.mark.parametrize("which", ["worker", "core"])
def test_a_death_while_loading_fails_the_load_and_leaves_nothing(host: tuple[Home, RunningDaemon], which: str) -> None:
    """The LoadModel call ends with an error once everything of the engine is gone."""
    place, daemon = host
    call, engine = start_loading(daemon)
    if which == "core":
        # A hung worker does not notice its core's death; one that is only slow does.
        call.cancel()
        until(lambda: daemon.engine(engine.name).state == engine_pb2.Engine.STATE_STOPPED, "the cancelled load")
        call = daemon.engines.LoadModel(load_request("slow", fake_load_seconds=20, fake_workers=2))
        next(call)
        name = next(item.name for item in daemon.status().engines if item.model == "slow")
        until(lambda: cores_of(daemon.engine(name).pid), "EngineCore")
        engine = daemon.engine(name)

    kill(victim_of(which, engine))
    with pytest.raises(grpc.RpcError) as raised:
        list(call)

    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert daemon.engine(engine.name).state == FAILED
    assert daemon.engine(engine.name).reclaim.verified
    assert place.leftovers(engine.name) == []


@pytest.mark.parametrize("which", ["worker", "core"])
@pytest.mark.parametrize("escape", [False, True])
def test_a_death_while_idle_leaves_nothing(host: tuple[Home, RunningDaemon], which: str, escape: bool) -> None:
    """The rest of the tree is killed at once, even a core in a session of its own that ignores SIGTERM."""
    place, daemon = host
    name = daemon.load(fake_workers=2, fake_escape=escape, fake_ignore_sigterm=True, fake_leave_core=True).engine.name

    kill(victim_of(which, daemon.engine(name)))
    until(lambda: daemon.engine(name).state == FAILED, "the engine's end")

    assert daemon.engine(name).failure.reason == "ENGINE_DIED"
    assert daemon.engine(name).reclaim.verified
    assert place.leftovers(name) == []


@pytest.mark.parametrize("which", ["worker", "core"])
def test_a_death_while_generating_ends_the_streams(host: tuple[Home, RunningDaemon], which: str) -> None:
    """Every stream ends UNAVAILABLE with the reason, and nothing is left."""
    place, daemon = host
    name = daemon.load(fake_workers=1).engine.name
    streams = [daemon.generate(name, max_tokens=3000) for _ in range(8)]
    for stream in streams:
        next(stream)

    kill(victim_of(which, daemon.engine(name)))
    codes = []
    for stream in streams:
        with pytest.raises(grpc.RpcError) as raised:
            list(stream)
        codes.append(raised.value.code())
    until(lambda: daemon.engine(name).state == FAILED, "the engine's end")

    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
    assert place.leftovers(name) == []


@pytest.mark.parametrize("phase", ["loading", "idle", "generating"])
def test_a_tree_ends_itself_once_its_daemon_is_dead(host: tuple[Home, RunningDaemon], phase: str) -> None:
    """After the adoption timeout the worker kills its tree and removes what it leaves."""
    place, daemon = host
    name = busy_engine(daemon, phase)

    daemon.kill()
    until(lambda: not place.leftovers(name), "the tree's own end")

    assert place.engine_processes() == []


@pytest.mark.parametrize("phase", ["loading", "idle", "generating"])
@pytest.mark.parametrize("containment", ["cgroup", "session"])
def test_the_next_daemon_takes_over_what_a_dead_one_left(phase: str, containment: str) -> None:
    """The same processes go on, and what ran for a client of the dead one does not."""
    with home("--backend", "fake", "--containment", containment, "--adoption-timeout", "600") as place:
        first = place.start()
        name = busy_engine(first, phase)
        before = first.engine(name)
        first.kill()
        second = place.start()
        engine = second.engine(name)

        assert engine.adopted
        assert engine.pid == before.pid
        assert engine.model == before.model
        if phase == "loading":
            assert engine.state == engine_pb2.Engine.STATE_STARTING
        else:
            assert engine.state == engine_pb2.Engine.STATE_READY
            assert engine.running_count == 0
            assert engine.lease_count == before.lease_count
            *_, last = second.generate(name, 5)
            assert last.usage.completion_tokens == 5
        assert second.stop() == 0
        assert place.leftovers(name) == []


def test_what_died_with_its_daemon_is_cleared_up_by_the_next() -> None:
    """Before it calls itself ready: nothing that runs is taken over, and without restarts nothing comes back."""
    with home("--backend", "fake", "--adoption-timeout", "600", "--restart-limit", "0") as place:
        first = place.start()
        name = first.load(fake_workers=2, fake_leave_core=True).engine.name
        worker = identity_of(first.engine(name).pid)
        first.kill()
        kill(worker)
        survivors = place.engine_processes()
        second = place.start()

        assert survivors
        assert place.leftovers(name) == []
        assert all(engine.state == FAILED for engine in second.status().engines)


def test_a_worker_that_is_stopped_is_not_taken_over() -> None:
    """It could not say hello; it is killed with all of its own before the next daemon is ready."""
    with home("--backend", "fake", "--adoption-timeout", "600", "--restart-limit", "0") as place:
        first = place.start()
        name = first.load(fake_workers=2).engine.name
        os.kill(first.engine(name).pid, signal.SIGSTOP)
        first.kill()
        place.start()

        assert place.leftovers(name) == []


def busy_engine(daemon: RunningDaemon, phase: str) -> str:
    """Bring an engine into a phase; returns its name."""
    if phase == "loading":
        call, engine = start_loading(daemon)
        daemon.kept.append(call)
        return engine.name
    name = daemon.load(fake_workers=2).engine.name
    if phase == "generating":
        daemon.kept.append(daemon.generate(name, max_tokens=3000))
        next(daemon.kept[-1])
    return name
