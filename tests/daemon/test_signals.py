from __future__ import annotations

import asyncio
import os
import signal

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
