"""The last of the first boot: a daemon and its engine end with the machine, and no one has the time for anything."""

from __future__ import annotations

import pathlib
import re

from tests.systemd.unit import set_up, until

STATE = pathlib.Path("/var/lib/vllmd")


def test_an_engine_runs_when_the_power_goes() -> None:
    """What the daemon wrote down is kept, with the lease; nothing else will be there when it starts again."""
    # Everybody is killed here since systemd tells those that are left to end before it leaves the machine.
    started = set_up(service="RestartSec=60")
    lease = started.load().lease.name.removeprefix("leases/")

    def written() -> bool:
        return any(lease in journal.read_text() for journal in STATE.glob("vllmd-*.json"))

    assert until(written, "the journal")
    started.systemctl("kill", "--signal=KILL", "--kill-whom=all")
    assert written()
    # A unit with a /proc of its own sees the boot id of the container's host, which does not boot anew.
    for journal in STATE.glob("vllmd-*.json"):
        journal.write_text(re.sub('"boot_id":"[^"]*"', '"boot_id":"an-earlier-one"', journal.read_text()))
