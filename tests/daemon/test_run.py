from __future__ import annotations

import concurrent.futures
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from tests.host.running import RunningDaemon, home, until, vllmd
from vllmd.client import Client
from vllmd.daemon import run
from vllmd.gpu.simulation import Faults, inject
from vllmd.v1 import engine_pb2, event_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import host_service_pb2 as host_pb

HEAVY = ("torch", "vllm", "transformers", "numpy", "huggingface_hub", "ray")


def cli(daemon: RunningDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `vllmd-cli` to its end."""
    command = [sys.executable, "-m", "vllmd.cli", "--address", str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_daemon_stays_light() -> None:
    """Nothing that it imports brings torch or vLLM, or anything else that an engine's environment is for."""
    program = (
        "import pkgutil, sys, importlib, vllmd\n"
        "skipped = ('vllmd.worker.vllm_backend', 'vllmd.worker.__main__', 'vllmd.__main__', 'vllmd.cli.__main__')\n"
        "for found in pkgutil.walk_packages(vllmd.__path__, 'vllmd.'):\n"
        "    if found.name not in skipped: importlib.import_module(found.name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], 'vllmd.api.server' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert answer.stdout.strip() == "[] True", answer.stderr


def test_sigterm_ends_the_daemon_and_all_that_is_its_own() -> None:
    """The exit status says that all is gone, and so it is: engines, socket and lock."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load()
        status = daemon.stop()
        left = sorted(path.name for path in place.path.iterdir())

        assert status == 0
        assert left == ["cache", "daemon.log", "e", "state"]
        assert place.leftovers(loaded.engine.name) == []
        assert "every engine is gone" in daemon.log.read_text()


def test_a_second_sigterm_hurries() -> None:
    """An engine that ignores SIGTERM holds the daemon up for its grace period, but not after a second signal."""
    with home("--backend", "fake", "--stop-grace", "600") as place:
        daemon = place.start()
        loaded = daemon.load(fake_ignore_sigterm=True)
        daemon.process.send_signal(signal.SIGTERM)
        stopping = engine_pb2.Engine.STATE_STOPPING
        until(lambda: daemon.engine(loaded.engine.name).state == stopping, "the first signal's effect")
        status = daemon.stop()

        assert status == 0
        assert place.leftovers(loaded.engine.name) == []


def test_a_daemon_that_drains_takes_no_new_work() -> None:
    """While a generation goes on after SIGTERM, loads are refused, and the generation ends well."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load(fake_tokens_per_second=100)
        generation = daemon.generate(loaded.engine.name, 100)
        next(generation)
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: daemon.status().host.draining, "the drain")
        with pytest.raises(grpc.RpcError) as refused:
            daemon.load("another")
        *_, last = generation
        status = daemon.process.wait(30)

        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert last.usage.completion_tokens == 100
        assert status == 0


def test_a_second_daemon_is_refused_and_the_first_goes_on() -> None:
    """It names the first one's process, and does not touch its socket."""
    with home("--backend", "fake") as place:
        first = place.start()
        second = vllmd("--backend", "fake", "--runtime-dir", str(place.path))

        assert second.returncode == 1
        assert f"pid {first.process.pid}" in second.stderr
        assert first.status().host.pid == first.process.pid


def test_a_second_daemon_of_one_directory_is_refused_whatever_its_socket(tmp_path: Path) -> None:
    """The engines in it are the first one's: a second one would take them for left behind."""
    with home("--backend", "fake") as place:
        place.start()
        other = vllmd("--backend", "fake", "--runtime-dir", str(place.path), "--socket", str(tmp_path / "other"))

        assert other.returncode == 1
        assert "ALREADY_RUNNING" in other.stderr
        assert not (tmp_path / "other").exists()


def test_a_simulated_host_gives_its_memory_back() -> None:
    """An engine holds memory of GPUs that are not there while it lives, and the proof of its end is the usual one."""
    with home("--simulate", "1xH200,1xRTX3090") as place:
        daemon = place.start()
        loaded = daemon.load(gpu_memory_utilization=0.5)
        status = daemon.status()
        held = [gpu.used_bytes // (1 << 30) for gpu in status.gpus]
        report = daemon.host.StopEngine(host_pb.StopEngineRequest(name=loaded.engine.name)).engine.reclaim
        exit_status = daemon.stop()

        assert status.host.driver_version == "simulated"
        assert [gpu.product for gpu in status.gpus] == ["NVIDIA H200", "NVIDIA GeForce RTX 3090"]
        assert held == [70, 0]
        assert report.verified
        assert report.gpus[0].used_bytes_before - report.gpus[0].used_bytes_after == 143771 * (1 << 20) // 2
        assert exit_status == 0
        assert sorted(path.name for path in place.path.iterdir()) == ["cache", "daemon.log", "e", "state"]


def test_a_gpu_that_falls_off_the_bus_fails_its_engines() -> None:
    """And nothing else: the next engine goes to the other GPU, and everybody is told until it is back."""
    with home("--simulate", "2xRTX3090", "--reclaim-timeout", "0.5", "--watchdog-interval", "0.2") as place:
        daemon = place.start()
        engine = daemon.load(tensor_parallel_size=1).engine
        (lost,) = engine.gpus
        inject(place.path / "sim", Faults(lost=frozenset({lost.removeprefix("gpus/")})))
        until(lambda: daemon.engine(engine.name).state == engine_pb2.Engine.STATE_FAILED, "the failure")
        failed, status = daemon.engine(engine.name), daemon.status()
        verified = cli(daemon, "verify")
        other = daemon.load(tensor_parallel_size=1).engine
        inject(place.path / "sim", Faults())
        until(lambda: not daemon.status().lost_gpus, "the return")
        events = daemon.host.WatchEvents(host_pb.WatchEventsRequest(last=1000))
        kinds = [event.kind for batch in events for event in batch.events]

        assert failed.failure.reason == "GPU_LOST"
        assert "fell off the bus" in failed.failure.message
        assert not failed.reclaim.verified
        assert f"{lost.removeprefix('gpus/')} can't be read" in failed.reclaim.summary
        assert failed.restart_count == 0
        assert [gpu.name for gpu in status.lost_gpus] == [lost]
        assert lost not in [gpu.name for gpu in status.gpus]
        assert verified.returncode == 1
        assert "1 GPU lost" in verified.stdout
        assert list(other.gpus) != [lost]
        assert kinds.count(event_pb2.Event.KIND_GPU_LOST) == kinds.count(event_pb2.Event.KIND_GPU_BACK) == 1


def test_what_is_simulated_outlasts_a_daemon_that_dies() -> None:
    """Its engines live on, and so does what they hold."""
    with home("--simulate", "1xL4") as place:
        daemon = place.start()
        daemon.load()
        daemon.kill()

        assert len(list((place.path / "sim" / "claims").iterdir())) == 1


def test_the_socket_of_a_killed_daemon_is_replaced() -> None:
    """What `kill -9` leaves is in nobody's way."""
    with home("--backend", "fake") as place:
        first = place.start()
        first.kill()
        first.channel.close()  # its broken connection would be the second one's, as gRPC shares them by address
        with socket.socket(socket.AF_UNIX) as stale, pytest.raises(ConnectionRefusedError):
            stale.connect(str(first.socket))
        second = place.start()

        assert second.status().host.pid == second.process.pid
        assert list(second.engines.ListEngines(pb.ListEnginesRequest()).engines) == []


def test_an_upgrade_keeps_process_engines_and_leases() -> None:
    """The streams end with word of when to try again, and go on at once when they are."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load(fake_workers=1)
        stream = daemon.generate(loaded.engine.name, 4000)
        next(stream)
        daemon.upgrade()
        with pytest.raises(grpc.RpcError) as ended:
            list(stream)
        engine = daemon.engine(loaded.engine.name)
        request = pb.GenerateRequest(lease=loaded.lease.name, text="again")
        request.sampling_params.max_tokens = 5
        *_, last = daemon.engines.Generate(request)
        pid = daemon.status().host.pid
        released = daemon.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name)).engine
        status = daemon.stop()

        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "is being upgraded" in (ended.value.details() or "")
        assert pid == daemon.process.pid
        assert engine.adopted
        assert engine.pid == loaded.engine.pid
        assert engine.state == engine_pb2.Engine.STATE_READY
        assert last.usage.completion_tokens == 5
        assert released.reclaim.verified
        assert status == 0
        assert place.leftovers(loaded.engine.name) == []


def test_an_upgrade_is_not_seen_by_short_calls_of_our_client() -> None:
    """They wait for the socket to be there again."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        name = daemon.load().engine.name
        seen: list[int] = []
        done = threading.Event()

        def ask() -> None:
            with Client(f"unix:{daemon.socket}") as client:
                while not done.is_set():
                    seen.append(client.engine(name).pid)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            until(lambda: len(seen) > 5, "the first answers")
            before = len(seen)
            daemon.upgrade()
            until(lambda: len(seen) > before + 5 or asking.done(), "answers after the upgrade")
            done.set()
            asking.result()

        assert len(set(seen)) == 1


async def test_a_program_that_does_not_start_is_not_executed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There would be no way back from it."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import sys; sys.exit('it is broken')"])

    assert not await run.can_execute()
    assert "it is broken" in caplog.text
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "pass"])
    assert not await run.can_execute()
    assert "does not say that it can start" in caplog.text
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "vllmd", "--backend", "fake"])
    assert await run.can_execute()


def test_an_engine_that_leaks_is_told() -> None:
    """On a simulated host: by an event with the engine, the GPU and how much it is; the engine goes on."""
    with home("--simulate", "1xH100") as place:
        daemon = place.start()
        loaded = daemon.load(gpu_memory_utilization=0.2, fake_vram_growth_bytes=200 << 20)
        request = host_service_pb2.WatchEventsRequest(last=100, follow=True)
        events = (event for update in daemon.host.WatchEvents(request, timeout=60) for event in update.events)
        leak = next(event for event in events if event.kind == event_pb2.Event.KIND_LEAK)

        assert leak.engine == loaded.engine.name
        assert "more of GPU GPU-SIM-0000" in leak.message
        assert daemon.engine(loaded.engine.name).state == engine_pb2.Engine.STATE_READY
