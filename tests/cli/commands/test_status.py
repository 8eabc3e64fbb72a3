from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.gpu_samples import slices
from tests.fakes.samples import failed, status
from vllmd.v1.host_service_pb2 import GetStatusResponse, Host


def test_host_gpus_and_engines(daemon: FakeDaemon, run: Run) -> None:
    """The status shows the host, each GPU with who uses it, and each engine with how it is."""
    daemon.status = status()

    lines = [line.split() for line in run("status").stdout.splitlines()]

    assert lines[0][:5] == ["gpu-host-3", "vllmd", "0.1.0", "up", "3h05m"]
    assert ["0", "NVIDIA", "H200", "63.0", "140.0", "GiB", "93%", "qwen3-8b-3f2a"] in lines
    assert ["1", "NVIDIA", "H200", "138.0", "140.0", "GiB", "-", "1", "other", "process", "(137.0", "GiB)"] in lines
    assert ["qwen3-8b-3f2a", "READY", "Qwen/Qwen3-8B", "1h02m", "2", "3", "412"] in lines


def test_start_shows_phase_and_percent_and_failure_its_reason(daemon: FakeDaemon, run: Run) -> None:
    """An engine that starts says how far it is; one that failed says why."""
    daemon.status = status()

    out = run("status").stdout

    assert "STARTING loading weights 42%" in out
    assert "FAILED ENGINE_DIED" in out
    assert "mistral-7b-77aa: VLLM::EngineCore (pid 4802) was killed by signal 9; load the model again" in out


def test_narrow_terminal_keeps_names_whole(daemon: FakeDaemon, run: Run) -> None:
    """In 80 columns no line is longer, and names of engines can still be copied."""
    daemon.status = status()

    lines = run("status", COLUMNS="80").stdout.splitlines()

    assert max(len(line) for line in lines) <= 80
    assert any(line.startswith("llama-3.1-8b-instruct-91bc  ") for line in lines)
    assert any("loading weights 42%" in line for line in lines)


def test_slices_have_the_number_of_their_gpu(daemon: FakeDaemon, run: Run) -> None:
    """And one of their own, as `gpus` has it."""
    daemon.status = GetStatusResponse(gpus=slices().gpus)
    first = [line.split()[:1] for line in run("status").stdout.splitlines()]

    assert first[3:6] == [["0:0"], ["0:1"], ["1"]]


def test_empty_host(daemon: FakeDaemon, run: Run) -> None:
    """Without GPUs the reason is shown, without engines how to load one, and draining is said."""
    daemon.status = GetStatusResponse(host=Host(hostname="h", gpu_error="NVML library not found", draining=True))

    out = run("status").stdout

    assert "No GPUs: NVML library not found." in out
    assert "vllmd-cli load MODEL" in out
    assert "draining" in out


def test_json_has_the_names_of_the_proto(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the message as it is."""
    daemon.status = status()

    answer = json.loads(run("status", "-o", "json").stdout)

    assert answer["host"]["driver_version"] == "570.86.15"
    assert answer["engines"][0]["progress"]["weights_fraction"] == 0.42


def test_json_of_an_empty_host_has_empty_lists(daemon: FakeDaemon, run: Run) -> None:
    """`jq '.gpus[].free_bytes'` of the help prints nothing where there are no GPUs, instead of failing over null."""
    daemon.status = GetStatusResponse(host=Host(hostname="h"))

    answer = json.loads(run("status", "-o", "json").stdout)

    assert (answer["gpus"], answer["engines"]) == ([], [])
    assert answer["host"]["draining"] is False


def test_old_failures_do_not_fill_the_screen(daemon: FakeDaemon, run: Run) -> None:
    """Of many failed engines the status shows the last ones only; `engines` has them all."""
    daemon.engines = [failed() for _ in range(5)]
    for number, engine in enumerate(daemon.engines):
        engine.name = f"engines/e-{number}"
    daemon.status = GetStatusResponse(engines=daemon.engines)

    out = run("status").stdout

    assert "e-2" in out
    assert "e-3" not in out
    assert "… and 2 more that failed: vllmd-cli engines\n" in out
    assert "e-4" in run("engines").stdout
