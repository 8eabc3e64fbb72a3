from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from vllmd.daemon.signals import Signals, blocked


async def test_the_first_signal_drains_and_the_second_hurries() -> None:
    """SIGTERM and SIGINT count alike, and SIGHUP not at all: that is told to whoever reloads."""
    reloads: list[None] = []
    with blocked():
        signals = Signals(lambda: reloads.append(None))
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await signals.first.wait()
        between = signals.second.is_set()
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await signals.second.wait()
        signals.close()

    assert not between
    assert len(reloads) == 1


async def test_a_stop_is_wished_more_than_an_upgrade() -> None:
    """Whichever came first: there is nobody to serve for the new program."""
    with blocked():
        signals = Signals()
        signal.raise_signal(signal.SIGUSR2)
        upgrade = await signals.next_wish()
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        await signals.first.wait()
        stop = await signals.next_wish()
        signals.close()

    assert (upgrade, stop) == (True, False)


def test_what_comes_after_the_end_ends_nobody() -> None:
    """Signals are as they were before then, and none of those that nobody read is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with blocked():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        during = signal.sigpending()

    assert during == {signal.SIGTERM, signal.SIGHUP}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert signal.sigpending() == set()


NEXT = """
import asyncio
from vllmd.daemon.signals import Signals, blocked
async def listen():
    await asyncio.wait_for(Signals().first.wait(), 20)
    print("heard")
with blocked():
    asyncio.run(listen())
"""
UPGRADE = f"""
import asyncio, os, signal, sys, threading
from vllmd.daemon.signals import Signals, blocked
async def hand_over():
    signals = Signals()
    if sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGTERM)
        await signals.first.wait()
    signals.hold()
with blocked():
    others = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(8)]
    for other in others:
        other.start()
    asyncio.run(hand_over())
    for signum in {{"before": (), "between": (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM)}}[sys.argv[1]]:
        os.kill(os.getpid(), signum)
    os.execv(sys.executable, [sys.executable, "-c", {NEXT!r}])
"""


@pytest.mark.parametrize("when", ["before", "between"])
def test_no_signal_is_lost_between_two_programs(when: str) -> None:
    """One that comes when the loop has ended is heard by the next program, whatever threads there are to take it."""
    ended = subprocess.run(
        [sys.executable, "-c", UPGRADE, when], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr
