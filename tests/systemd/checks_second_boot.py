"""A boot with what a daemon left that had no time to stop."""

from __future__ import annotations

from tests.systemd.checks_zz_power_cut import STATE
from tests.systemd.unit import Unit, entries, unit


def test_a_boot_begins_anew() -> None:
    """Pids of then are other people's now, so nothing is taken over, killed, or in the way."""
    booted = Unit()
    enabled = booted.systemctl("is-enabled").stdout.strip()
    booted.start()  # as the boot has done, or is about to
    engines, left = booted.status().engines, list(STATE.glob("vllmd-*.json"))
    bad = [entry["MESSAGE"] for entry in entries("_SYSTEMD_UNIT=vllmd.service") if int(entry["PRIORITY"]) < 5]
    booted.close()
    with unit() as started:
        loaded = started.load()
        started.systemctl("stop")

        assert (enabled, len(left)) == ("enabled", 1)
        assert list(engines) == []
        assert bad == []
        assert loaded.lease.name
        assert started.left() == []
