"""What a daemon knows of loads that were before it."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

from tests.daemon.test_build import settings
from tests.fakes.host import eventually
from tests.fakes.profiles import info, key, record
from tests.host.running import Home, RunningDaemon, home
from vllmd.config import Live
from vllmd.daemon import build
from vllmd.engines.supervisor import Supervisor
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.profiles import file
from vllmd.profiles.store import NAME
from vllmd.scheduler.journal import EngineRecord
from vllmd.tasks import spawn
from vllmd.v1 import host_service_pb2 as pb


def listed(daemon: RunningDaemon) -> list[str]:
    """The models that it knows loads of."""
    return [one.model for one in daemon.host.ListProfiles(pb.ListProfilesRequest()).profiles]


def remembering(place: Home, *models: str) -> pathlib.Path:
    """Write down loads of models, as an earlier daemon would have."""
    path = place.path / "state" / NAME
    path.parent.mkdir(mode=0o700)
    records = [record(model, key=key(model), recorded=float(number)) for number, model in enumerate(models)]
    file.write(path, {one.id: one for one in records})
    return path


def test_what_loads_took_outlasts_the_daemon() -> None:
    """Until it is forgotten."""
    with home("--backend", "fake") as place:
        remembering(place, "a", "b")
        daemon = place.start()
        first = listed(daemon)
        count = daemon.host.ForgetProfiles(pb.ForgetProfilesRequest(model="a")).forgotten_count
        daemon.kill()
        daemon = place.start()

        assert first == ["b", "a"]
        assert count == 1
        assert listed(daemon) == ["b"]


@pytest.mark.parametrize("broken", ["no database", "a directory"])
def test_a_file_that_can_not_be_read_stops_no_daemon_and_no_load(broken: str) -> None:
    """It is told in the log."""
    with home("--backend", "fake") as place:
        path = remembering(place, "a")
        if broken == "no database":
            path.write_bytes(b"no database " * 1000)
        else:
            path.unlink()
            path.mkdir()
        daemon = place.start()
        daemon.load()

        assert listed(daemon) == []
        assert NAME in daemon.log.read_text()


async def test_the_version_is_that_of_the_engines_interpreter(runtime: pathlib.Path) -> None:
    """Which for fake engines is no program."""
    options = settings(runtime / "r")
    build.make_directories(options)
    async with contextlib.AsyncExitStack() as cleanup:
        parts = build.build(options, cleanup)
        parts.ground.profiles.learn("m", key(), info("fake"), None)
        await parts.ground.profiles.prepare()

        nowhere = settings(runtime, backend="vllm", engine_python="/no/such/python")

        assert await build.installed(options, Live()) == "fake"
        assert await build.installed(nowhere, Live()) is None
        assert parts.ground.profiles.lookup(key()) is not None
    assert len(file.read(options.state_dir / NAME)) == 1


async def test_a_load_on_a_simulated_host_is_remembered_to_the_byte(runtime: pathlib.Path) -> None:
    """What the engine measured makes up what the watchdog saw it hold, on the GPU where that is most."""
    options = settings(runtime / "r", simulate="2xRTX3090", watchdog_interval=0.1)
    build.make_directories(options)
    async with contextlib.AsyncExitStack() as cleanup:
        parts = build.build(options, cleanup)
        cleanup.callback(spawn("watchdog", parts.watchdog.run()).cancel)
        gpus = (await parts.monitor.snapshot()).gpus
        asked = {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "fake_workers": 2, "max_num_seqs": 64}
        choices = tuple(Choice(name, value, "client", "") for name, value in asked.items())
        supervisor = engine(parts, Plan(choices, gpus, profile_key=key()))
        await eventually(parts.ground.profiles.all)
        (found,) = parts.ground.profiles.all()
        supervisor.stop("the test is over")
        await supervisor.ended()
    took = found.profile
    parted = (took.weights_bytes, took.activation_bytes, took.other_bytes, took.graphs_bytes, took.kv_cache_bytes)

    assert (found.model, took.vllm_version, took.kv_cache_tokens) == ("org/model", "fake", 65536)
    assert took.peak_bytes == sum(size or 0 for size in parted) == gpus[0].total_bytes // 2
    assert file.read(options.state_dir / NAME) == [found]


def engine(parts: build.Parts, plan: Plan) -> Supervisor:
    """Start an engine as planned, that the daemon's scheduler answers for."""
    record = EngineRecord(
        id="e-1",
        model="org/model",
        revision="",
        engine_args={},
        auto_config=True,
        plan=plan,
        created=1.0,
        spawned=None,
        ready=None,
        restarted=[],
    )
    supervisor = parts.scheduler.engines.inherit(record).supervisor
    supervisor.start(plan)
    return supervisor
