from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from tests.fakes.fake_gpus import FakeGpus, gpu
from tests.fakes.host import eventually
from vllmd.gpu.monitor import GpuMonitor

HANGING = """
import asyncio, threading
from vllmd.gpu.monitor import GpuMonitor
class Hanging:
    def snapshot(self):
        threading.Event().wait()
    def close(self):
        raise AssertionError("it hangs before that")
monitor = GpuMonitor(Hanging(), timeout=0.05)
print(asyncio.run(monitor.snapshot()).available)
monitor.close()
"""


async def test_the_loop_goes_on_while_the_driver_is_busy() -> None:
    """A snapshot that blocks blocks a thread of its own, not the event loop."""
    source = FakeGpus(gpu())
    source.answering.clear()
    monitor = GpuMonitor(source)
    asking = asyncio.get_running_loop().create_task(monitor.snapshot())
    await asyncio.to_thread(source.asked.acquire, timeout=20)
    pending = not asking.done()
    source.answering.set()
    inventory = await asking
    monitor.close()

    assert pending
    assert [found.uuid for found in inventory.gpus] == ["GPU-0"]
    assert threading.get_ident() not in source.threads


async def test_calls_never_overlap() -> None:
    """NVML is asked by one thread, whoever wants to know."""
    source = FakeGpus(gpu())
    monitor = GpuMonitor(source)
    await asyncio.gather(*(monitor.snapshot() for _ in range(20)))
    monitor.close()

    assert len(source.threads) == 1


async def test_a_failure_comes_to_who_asked() -> None:
    """What the source raises is raised by the snapshot, and the next one is asked for afresh."""
    source = FakeGpus(gpu())
    source.broken = ValueError("no such thing")
    monitor = GpuMonitor(source)
    with pytest.raises(ValueError, match="no such thing"):
        await monitor.snapshot()
    source.broken = None
    inventory = await monitor.snapshot()
    monitor.close()

    assert len(inventory.gpus) == 1


async def test_a_driver_that_hangs_is_said_to_be_silent() -> None:
    """Nobody waits longer than the timeout, and once the driver answers again so does the monitor."""
    source = FakeGpus(gpu())
    source.answering.clear()
    monitor = GpuMonitor(source, timeout=0.5)
    start = time.monotonic()
    hanging = await monitor.snapshot()
    elapsed = time.monotonic() - start
    source.answering.set()
    again = await monitor.snapshot()
    monitor.close()

    assert (hanging.available, hanging.gpus) == (False, ())
    assert "does not answer" in hanging.error
    assert 0.4 < elapsed < 3.0
    assert (again.available, len(again.gpus)) == (True, 1)


def test_a_driver_that_hangs_does_not_keep_the_daemon_from_its_end() -> None:
    """The interpreter waits for no thread that is stuck in the driver."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "False\n"


async def test_closing_lets_go_of_the_driver() -> None:
    """The source is closed, on the thread that used it, without waiting for it."""
    source = FakeGpus()
    monitor = GpuMonitor(source)
    monitor.close()
    await eventually(lambda: source.closed)

    with pytest.raises(RuntimeError):
        await monitor.snapshot()
