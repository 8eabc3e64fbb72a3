from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from vllmd.daemon.signals import Signals


async def test_the_first_signal_drains_and_the_second_hurries() -> None:
    """SIGTERM and SIGINT count alike."""
    signals = Signals()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(20):
        await signals.first.wait()
    between = signals.second.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await signals.second.wait()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(signum)

    assert not between


NEXT = """
import asyncio
from vllmd.daemon.signals import Signals
async def listen():
    await asyncio.wait_for(Signals().first.wait(), 20)
    print("heard")
asyncio.run(listen())
"""
UPGRADE = f"""
import asyncio, os, signal, sys
from vllmd.daemon.signals import Signals
async def hand_over():
    signals = Signals()
    if sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGTERM)
        await signals.first.wait()
    signals.hold()
asyncio.run(hand_over())
for signum in {{"before": (), "between": (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM)}}[sys.argv[1]]:
    os.kill(os.getpid(), signum)
os.execv(sys.executable, [sys.executable, "-c", {NEXT!r}])
"""


@pytest.mark.parametrize("when", ["before", "between"])
def test_no_signal_is_lost_between_two_programs(when: str) -> None:
    """One that comes while the next program is executed is heard by that, and ends nobody before it listens."""
    ended = subprocess.run(
        [sys.executable, "-c", UPGRADE, when], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr
