from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.host.running import home, until, vllmd
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb

HEAVY = ("torch", "vllm", "transformers", "numpy", "huggingface_hub", "ray")


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
        assert left == ["cache", "daemon.log", "e"]
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
