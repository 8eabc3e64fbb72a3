"""What one daemon leaves when it is killed or upgraded, and what the next one makes of it."""

from __future__ import annotations

import json
import pathlib
import signal

import pytest

from tests.fakes.foreign import Foreign, send, stat_of
from tests.host.running import Home, cores_of, home, identity_of, kill, until
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.watchdog.halted import noted
from vllmd.worker.processes import signal_to


def leases_written(place: Home) -> int:
    """How many leases the journal knows, which is written a moment after each change."""
    (journal,) = (place.path / "state").glob("*.json")
    return len(json.loads(journal.read_text())["leases"])


@pytest.mark.parametrize("how", ["killed", "upgraded"])
def test_a_lease_survives_a_daemon_that_ends_while_its_engine_waits_for_a_restart(how: str) -> None:
    """The next one goes on with the back-off, under the same names."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load()
        name = loaded.engine.name
        kill(cores_of(loaded.engine.pid)[0])
        until(lambda: daemon.engine(name).state == engine_pb2.Engine.STATE_BACKOFF, "the back-off")
        if how == "upgraded":
            daemon.upgrade()
        else:
            daemon.kill()
            daemon = place.start()
        engine = until(
            lambda: (now := daemon.engine(name)).state == engine_pb2.Engine.STATE_READY and now, "the restart"
        )

        assert engine.adopted
        assert engine.restart_count == 1
        assert daemon.engines.RenewLease(pb.RenewLeaseRequest(lease=loaded.lease.name)).lease.engine == name


def test_a_lease_survives_a_worker_that_dies_with_its_daemon() -> None:
    """What is left of the engine is gone before the next daemon is ready, and then it is started again."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load(fake_leave_core=True)
        before = place.engine_processes()
        until(lambda: leases_written(place), "the journal")
        daemon.kill()
        kill(identity_of(loaded.engine.pid))
        daemon = place.start()
        after = place.engine_processes()
        name = loaded.engine.name
        until(lambda: daemon.engine(name).state == engine_pb2.Engine.STATE_READY, "the restart")

        assert len(before) >= 2
        assert not set(before) & set(after)
        assert daemon.engines.RenewLease(pb.RenewLeaseRequest(lease=loaded.lease.name)).lease.engine == name


@pytest.mark.parametrize("leased", [True, False])
def test_a_tree_that_a_dying_daemon_had_stopped_is_killed_by_the_next(leased: bool) -> None:
    """It had been about to kill it, and nothing of that was in the journal yet; a lease has it started again."""
    with home("--backend", "fake", "--idle-timeout", "600") as place:
        daemon = place.start()
        loaded = daemon.load(fake_workers=1)
        name = loaded.engine.name
        if not leased:
            daemon.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name))
        until(lambda: leases_written(place) == leased, "the journal")
        stopped = place.engine_processes()
        for identity in stopped:
            signal_to(identity, signal.SIGSTOP)
        daemon.kill()
        daemon = place.start()
        left = set(stopped) & set(place.engine_processes())
        names = [engine.name for engine in daemon.engines.ListEngines(pb.ListEnginesRequest()).engines]
        if leased:
            until(lambda: daemon.engine(name).state == engine_pb2.Engine.STATE_READY, "the restart")

        assert len(stopped) >= 3
        assert not left
        assert names == ([name] if leased else [])


def test_what_a_dying_daemon_had_stopped_of_another_program_goes_on(runtime: pathlib.Path) -> None:
    """It was not confirmed to be an orphan, and this daemon has no proof of that."""
    with home("--backend", "fake") as place, Foreign("serving", runtime) as foreign:
        place.start().kill()
        with noted(place.path / "e", foreign.core) as note:
            note.stopping([stat_of(foreign.core.pid)])
            send(foreign.core, signal.SIGSTOP)
            place.start()
            until(lambda: stat_of(foreign.core.pid).state == "S", "the core")
