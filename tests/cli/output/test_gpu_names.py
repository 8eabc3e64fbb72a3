from __future__ import annotations

import grpc

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal
from tests.fakes.samples import GPU, ready, status, stopped
from vllmd.cli.output.gpu_names import GpuNames
from vllmd.v1.gpu_pb2 import Gpu
from vllmd.v1.host_service_pb2 import ListGpusResponse, StopEngineResponse


def test_gpus_are_numbered_as_status_does() -> None:
    """MIG slices by their GPU, and one that is not there any more by its UUID."""
    gpus = [Gpu(name="gpus/A", index=0), Gpu(name="gpus/B", index=1, mig_parent="gpus/P")]
    names = GpuNames(lambda: gpus)

    assert names.listed(["gpus/B", "gpus/A"]) == "1:0, 0"
    assert names.label("gpus/A") == "GPU 0"
    assert names.label("gpus/GPU-8f2c1a3b-77d0-4c1e") == "GPU-8f2c1a3b"


def test_pages_have_numbers(daemon: FakeDaemon, run: Run) -> None:
    """The page of an engine, and what its end gave back."""
    daemon.gpus = ListGpusResponse(gpus=status().gpus)
    daemon.engines = [ready()]
    daemon.stop = StopEngineResponse(engine=stopped())

    assert "GPUs     0\n" in "\n".join(line.rstrip() for line in run("engines", "qwen3-8b-3f2a").stdout.splitlines())
    assert "GPU 0      63.0 GiB → 0.5 GiB in use" in run("stop", "qwen3-8b-3f2a").stdout


def test_a_daemon_that_can_not_list_them(daemon: FakeDaemon, run: Run) -> None:
    """The page is there all the same."""
    daemon.engines = [ready()]
    daemon.gpus = Refusal("NVML_UNAVAILABLE", "no", grpc.StatusCode.UNAVAILABLE)
    result = run("engines", "qwen3-8b-3f2a")

    assert result.exit_code == 0
    assert GPU.removeprefix("gpus/").rpartition("-77d0")[0] in result.stdout
