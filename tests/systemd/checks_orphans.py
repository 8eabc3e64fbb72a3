"""Orphans of other users' programs, with the powers that the unit gives and without them."""

from __future__ import annotations

import pathlib
import tempfile

import pytest

from tests.fakes.foreign import Foreign
from tests.fakes.processes import ends, lives
from tests.systemd.unit import entries, run, unit, until
from vllmd.worker.simulation import claim, read_gpus

SIMULATED = pathlib.Path("/run/vllmd/sim")


@pytest.mark.parametrize(("service", "killed"), [("", True), ("AmbientCapabilities=", False)])
def test_an_orphan_of_another_user(service: str, killed: bool) -> None:
    """It is killed with CAP_KILL; without it is reported, and left."""
    with unit("--orphan-grace 0.5 --watchdog-interval 0.2", service) as started:
        directory = pathlib.Path(tempfile.mkdtemp())
        directory.chmod(0o777)
        with Foreign("serving", directory, user="1000") as foreign:
            uuid = next(iter(read_gpus(SIMULATED)))
            claim(SIMULATED, {uuid: 1 << 30}, foreign.core)
            until(lambda: str(foreign.core.pid) in run("/opt/vllmd/bin/vllmd-cli", "ps").stdout, "the foreign core", 5)
            foreign.lose_launcher()
            ended = ends(foreign.core, 10.0 if killed else 4.0)

            def told(kind: str) -> list[str]:
                messages = (str(entry["MESSAGE"]) for entry in entries(f"_PID={started.pid}"))
                return [one for one in messages if f": {kind}: " in one and str(foreign.core.pid) in one]

            assert ended == killed
            assert ends(foreign.worker, 5.0) if killed else lives(foreign.worker)
            assert until(lambda: told("RECLAIM" if killed else "VERDICT"), "the word of it", 5)
            assert bool(told("KILL")) == killed
