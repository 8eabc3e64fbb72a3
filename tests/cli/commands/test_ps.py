from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.host_samples import gpu_processes, orphan, owned
from tests.fakes.samples import status


def test_who_holds_gpu_memory(daemon: FakeDaemon, run: Run) -> None:
    """GPUs go by the numbers that the status has."""
    daemon.status = status()
    daemon.gpu_processes = gpu_processes(owned(), orphan())

    lines = [line.split() for line in run("ps", COLUMNS="200").stdout.splitlines()]

    assert lines[2][:8] == ["3412991", "VLLM::Worker_TP", "0,1", "40.0", "GiB", "1d01h", "FOREIGN", "ORPHAN"]


def test_nobody(daemon: FakeDaemon, run: Run) -> None:
    """Then that is said."""
    assert run("ps").stdout == "Nobody holds GPU memory, and nothing is called like vLLM's.\n"


def test_gpus_that_cannot_be_read_are_no_all_clear(daemon: FakeDaemon, run: Run) -> None:
    """Nobody can tell who holds their memory; `reclaim` says so, too."""
    daemon.status.host.gpu_error = "NVML does not answer within 5 s"
    daemon.status.host.gpus_unreadable = True

    for command in ("ps", "reclaim"):
        assert "can't be read, so who holds their memory is unknown: NVML does not answer" in run(command).stderr


def test_json_has_the_names_of_the_proto(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the message as it is."""
    daemon.gpu_processes = gpu_processes(orphan())

    answer = json.loads(run("ps", "-o", "json").stdout)

    assert [(one["pid"], one["verdict"], one["doomed"]) for one in answer["processes"]] == [
        (3412991, "VERDICT_FOREIGN_ORPHAN", True)
    ]
    assert answer["foreign_orphan_policy"] == "kill"
