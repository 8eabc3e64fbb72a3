"""What a daemon knows of loads that were before it."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

from tests.daemon.test_build import settings
from tests.fakes.profiles import info, key, record
from tests.host.running import Home, RunningDaemon, home
from vllmd.daemon import build
from vllmd.profiles import file
from vllmd.profiles.store import NAME
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

        assert await build.installed(options) == "fake"
        assert await build.installed(settings(runtime, backend="vllm", engine_python="/no/such/python")) is None
        assert parts.ground.profiles.lookup(key()) is not None
    assert len(file.read(options.state_dir / NAME)) == 1
