from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.host_samples import gpu_processes, lost, orphan, owned, suspect
from tests.fakes.samples import GIB, ago, status
from vllmd.v1.gpu_pb2 import ProcessVerdict
from vllmd.v1.host_service_pb2 import GetStatusResponse, Host


def test_a_clean_host(daemon: FakeDaemon, run: Run) -> None:
    """Engines that serve and programs that are well are in order."""
    daemon.status = status()
    daemon.gpu_processes = gpu_processes(owned(), suspect())

    result = run("verify")
    lines = [line.split() for line in result.stdout.splitlines()]

    assert result.exit_code == 0
    assert ["0", "NVIDIA", "H200", "63.0", "GiB", "140.0", "GiB", "1.0", "GiB"] in lines
    assert "Clean: nothing is left that nobody answers for.\nWhat no process holds is the driver's own" in result.stdout


@pytest.mark.parametrize("left", [orphan(), lost()])
def test_what_is_left_is_not_clean(daemon: FakeDaemon, run: Run, left: ProcessVerdict) -> None:
    """Orphans and what is stuck; if a reclaim would help, it says how much and how."""
    daemon.status = status()
    daemon.gpu_processes = gpu_processes(owned(), left)

    result = run("verify")

    assert result.exit_code == 1
    assert "Not clean: 1 process left." in result.stdout
    assert ("A reclaim would give back 40.0 GiB:\n  vllmd-cli reclaim --yes" in result.stdout) is left.doomed


def test_a_quarantine_is_not_clean(daemon: FakeDaemon, run: Run) -> None:
    """An operator should look at it; the status says so as well."""
    daemon.status = status()
    daemon.status.gpus[1].quarantine.reason = "SIGKILL did not end 1 of its processes (4711)"
    daemon.status.gpus[1].quarantine.start_time.CopyFrom(ago(90))

    result = run("verify")

    assert result.exit_code == 1
    assert re.search(r"GPU 1 is in quarantine for 1m3\ds: SIGKILL did not end 1 of its proc\w+ \(4711\)", result.stdout)
    assert "Not clean: 1 GPU in quarantine." in result.stdout
    assert "GPU 1 is in quarantine for 1m3" in run("status").stdout


def test_what_the_driver_does_not_say_is_unknown(daemon: FakeDaemon, run: Run) -> None:
    """Inside a container nobody knows how much is held by nobody."""
    daemon.status = status()
    for process in daemon.status.gpus[0].processes:
        process.ClearField("used_bytes")

    lines = [line.split() for line in run("verify").stdout.splitlines()]

    assert ["0", "NVIDIA", "H200", "63.0", "GiB", "140.0", "GiB", "?"] in lines


def test_a_host_without_gpus(daemon: FakeDaemon, run: Run) -> None:
    """It is clean, and says why there is nothing to see."""
    daemon.status = GetStatusResponse(host=Host(gpu_error="NVML library not found"))

    result = run("verify")

    assert result.exit_code == 0
    assert "No GPUs: NVML library not found." in result.stdout


def test_gpus_that_cannot_be_read_are_not_clean(daemon: FakeDaemon, run: Run) -> None:
    """Nobody can tell what is left on them."""
    error = "NVML does not answer within 5 s"
    daemon.status = GetStatusResponse(host=Host(gpu_error=error, gpus_unreadable=True))

    result = run("verify")
    answer = json.loads(run("verify", "-o", "json").stdout)

    assert result.exit_code == 1
    assert f"No GPUs: {error}." in result.stdout
    assert "Not clean: the GPUs can't be read." in result.stdout
    assert (answer["clean"], answer["gpu_error"]) == (False, error)


def test_a_lost_gpu_is_not_clean(daemon: FakeDaemon, run: Run) -> None:
    """Its memory can't be looked at; status, ps and reclaim tell it, too."""
    daemon.status = status()
    daemon.status.lost_gpus.add(index=3, reason="NVML: GPU is lost", start_time=ago(90))

    result = run("verify")
    answer = json.loads(run("verify", "-o", "json").stdout)
    told = re.compile(r"GPU 3 fell off the bus 1m3\ds ago: NVML: GPU is lost\. Look\s+at\s+dmesg")

    assert result.exit_code == 1
    assert told.search(result.stdout)
    assert "Not clean: 1 GPU lost." in result.stdout
    assert (answer["clean"], answer["lost_gpus"][0]["index"]) == (False, 3)
    assert told.search(run("status").stdout)
    assert told.search(run("ps").stderr)
    assert told.search(run("reclaim").stderr)


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the verdict, and what it is based on by the proto's names."""
    daemon.status = status()
    daemon.gpu_processes = gpu_processes(orphan())

    result = run("verify", "-o", "json")
    answer = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (answer["clean"], answer["reclaimable_bytes"]) == (False, 40 * GIB)
    assert answer["gpus"][0]["product"] == "NVIDIA H200"
    assert answer["processes"][0]["pid"] == 3412991


def test_memory_that_is_not_back_yet_is_not_clean(daemon: FakeDaemon, run: Run) -> None:
    """Nobody holds it, and it is only known that it should go."""
    daemon.status = status()
    daemon.status.engines[0].state = daemon.status.engines[0].STATE_RECLAIMING
    daemon.gpu_processes = gpu_processes(owned())

    result = run("verify")

    assert result.exit_code == 1
    assert "Not clean: 1 engine on the way out" in result.stdout
