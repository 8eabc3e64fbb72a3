"""A boot with what a daemon left that had no time to stop."""

from __future__ import annotations

import os
import pathlib
import time

from tests.systemd.checks_zz_power_cut import STATE
from tests.systemd.unit import unit


def test_a_boot_begins_anew() -> None:
    """Pids of then are other people's now, so nothing is taken over, killed, or in the way."""
    left = list(STATE.glob("vllmd-*.json"))
    others = {int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")}
    begun = time.monotonic()
    with unit() as started:
        took = time.monotonic() - begun
        engines = started.status().engines
        loaded = started.load()
        lives = {pid for pid in others if os.path.exists(f"/proc/{pid}")}
        started.systemctl("stop")
        print(f"start took {took:.2f} s; died meanwhile: {len(others - lives)}")

        assert len(left) == 1
        assert list(engines) == []
        assert loaded.lease.name
        assert started.left() == []
