"""The last of the first boot: it leaves a daemon with an engine, and the machine is switched off under them."""

from __future__ import annotations

import pathlib

from tests.systemd.unit import set_up, until

STATE = pathlib.Path("/var/lib/vllmd")


def test_an_engine_runs_when_the_power_goes() -> None:
    """What the daemon wrote down is kept, with the lease; nothing else will be there when it starts again."""
    lease = set_up().load().lease.name.removeprefix("leases/")

    def written() -> bool:
        return any(lease in journal.read_text() for journal in STATE.glob("vllmd-*.json"))

    assert until(written, "the journal")
