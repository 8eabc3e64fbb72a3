from __future__ import annotations

import pathlib

from tests.fakes.fake_gpus import GIB, FakeGpus, gpu
from tests.fakes.foreign import Foreign, Watched
from tests.fakes.processes import Family, ends, eventually, lives
from vllmd.events import Kind
from vllmd.watchdog.endings import LOST_SECONDS, RETRY_SECONDS
from vllmd.watchdog.observe import Observer
from vllmd.watchdog.verdicts import Verdict

NOBODY = 2**22 - 1


def freeze(frozen: pathlib.Path, pid: int) -> None:
    """Let SIGKILL not get through to a process."""
    (frozen / "cgroup.procs").write_text(str(pid))
    (frozen / "freezer.state").write_text("FROZEN")
    assert eventually(lambda: (frozen / "freezer.state").read_text() == "FROZEN\n")


async def test_what_sigkill_does_not_end_quarantines_its_gpu(runtime: pathlib.Path, frozen: pathlib.Path) -> None:
    """It counts as dead, is tried again slowly, and the GPU is let out once NVML shows its memory back."""
    async with Watched(runtime, timeout=0.5) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            freeze(frozen, foreign.worker.pid)
            foreign.lose_launcher()
            await watched.pass_by(10.0)
            await watched.tells(Kind.RECLAIM)
            (quarantine,) = watched.told(Kind.QUARANTINE)
            verdict = await watched.verdict(foreign.worker)
            await watched.pass_by(RETRY_SECONDS - 1.0)
            attempts = len(watched.told(Kind.RECLAIM))
            await watched.pass_by(1.0)
            await watched.tells(Kind.RECLAIM, 2)
            still = watched.quarantines.get("GPU-0")
            (frozen / "freezer.state").write_text("THAWED")
            assert ends(foreign.worker, 5.0)
            await watched.dog.round()

            assert "SIGKILL did not end 1 of its processes" in quarantine.reasons[0]
            assert verdict is Verdict.DEAD
            assert attempts == 1
            assert still is not None
            assert watched.quarantines.get("GPU-0") is None
            assert len(watched.told(Kind.QUARANTINE_END)) == 1


async def test_memory_that_stays_quarantines_its_gpu(runtime: pathlib.Path) -> None:
    """Though all processes are gone; a quarantine of somebody else is not ended with it."""
    async with Watched(runtime, timeout=0.2) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            watched.gpus.hold("GPU-1", foreign.worker)
            watched.quarantines.put("GPU-1", "an operator wants it", holder="operator")
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.dog.round()
            watched.gpus.on_snapshot(2, lambda: setattr(watched.gpus, "driver_bytes", 2 * GIB))
            watched.now += 10.0
            await watched.dog.round()
            await watched.tells(Kind.RECLAIM)
            before = watched.quarantines.get("GPU-0")
            watched.gpus.driver_bytes = GIB
            await watched.dog.round()

            assert before is not None
            assert "NVML does not show its memory back" in before.reason
            assert watched.quarantines.get("GPU-0") is None
            assert watched.quarantines.get("GPU-1") is not None


async def test_a_tree_that_would_not_go_and_grows_is_ended_again(runtime: pathlib.Path, engine_id: str) -> None:
    """Who comes later was never killed, so there is nothing to wait for; the quarantine is as it was."""
    async with Watched(runtime, timeout=0.2) as watched:
        with Family("calm", engine_id, directory=runtime / engine_id) as first:
            watched.gpus.hold("GPU-0", first.child)
            watched.gpus.driver_bytes = GIB
            watched.gpus.on_snapshot(2, lambda: setattr(watched.gpus, "driver_bytes", 2 * GIB))
            await watched.dog.round()
            await watched.tells(Kind.RECLAIM)
            kept = watched.quarantines.get("GPU-0")
        with Family("calm", engine_id, directory=runtime / engine_id) as second:
            watched.gpus.hold("GPU-0", second.child)
            watched.gpus.hold("GPU-1", second.leader)
            await watched.dog.round()
            await watched.tells(Kind.RECLAIM, 2)
            left = [member for member in second.members if lives(member)]
            still = watched.quarantines.get("GPU-0"), watched.quarantines.get("GPU-1")
        watched.gpus.driver_bytes = GIB
        await watched.dog.round()

        assert kept is not None
        assert not left
        assert still == (kept, None)
        assert watched.quarantines.get("GPU-0") is None


async def test_what_only_nvml_lists_quarantines_its_gpu(runtime: pathlib.Path) -> None:
    """After so long the driver does not clean up any more; it is let out when it does after all."""
    gpus = FakeGpus(gpu())
    gpus.occupy("GPU-0", GIB, NOBODY)
    async with Watched(runtime, source=gpus) as watched:
        if not Observer().host_pids:
            return  # then NVML's pids are not ours, and nothing follows from one that is not found
        await watched.pass_by(LOST_SECONDS - 1.0)
        early = watched.quarantines.get("GPU-0")
        await watched.pass_by(1.0)
        late = watched.quarantines.get("GPU-0")
        gpus.silence = "the driver hangs"
        await watched.dog.round()
        hidden = watched.quarantines.get("GPU-0")
        gpus.silence = ""
        gpus.set(gpu())
        await watched.dog.round()

        assert early is None
        assert late is not None
        assert f"process {NOBODY}, which is gone" in late.reason
        assert hidden is late
        assert watched.quarantines.get("GPU-0") is None
