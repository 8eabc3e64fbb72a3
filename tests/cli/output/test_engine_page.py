from __future__ import annotations

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import GIB, failed, ready
from vllmd.v1.engine_pb2 import Engine, GpuMemory


def test_arguments_have_source_and_reason(daemon: FakeDaemon, run: Run) -> None:
    """Who decided each argument, and why, is shown; whole numbers have no point."""
    daemon.engines = [ready()]

    lines = [" ".join(line.split()) for line in run("engines", "engines/qwen3-8b-3f2a").stdout.splitlines()]

    assert "max_model_len 8192 client set by the client" in lines
    assert "gpu_memory_utilization 0.87 auto what is free on the GPU, less 1 GiB" in lines
    assert "vLLM 0.25.1, bfloat16, up to 8192 tokens, KV cache of 131072 tokens" in lines
    assert any(line.endswith("READY vLLM reported ready") for line in lines)


def test_planned_memory_is_shown_as_a_bar(daemon: FakeDaemon, run: Run) -> None:
    """Of the fullest GPU, where there are several; an engine of which it is not known has none."""
    engine = ready()
    engine.planned_memory.CopyFrom(GpuMemory(total_bytes=80 * GIB, weights_bytes=16 * GIB, kv_cache_bytes=48 * GIB))
    daemon.engines = [engine]
    out = run("engines", "qwen3-8b-3f2a").stdout

    assert "MEMORY\nGPU  ███" in out
    assert "█ weights 16.0 GiB   ▓ KV cache 48.0 GiB   · free 16.0 GiB" in out

    engine.gpus.append("gpus/GPU-2")
    assert "fullest GPU  ███" in run("engines", "qwen3-8b-3f2a").stdout

    engine.ClearField("planned_memory")
    assert "MEMORY" not in run("engines", "qwen3-8b-3f2a").stdout


def test_failure_has_its_log_and_reclaim(daemon: FakeDaemon, run: Run) -> None:
    """A failed engine shows why, the end of its log without escape sequences, and what came back."""
    daemon.engines = [failed()]

    out = run("engines", "mistral-7b-77aa").stdout

    assert "ENGINE_DIED: VLLM::EngineCore (pid 4802) was killed by signal 9" in out
    assert "  │ ERROR 11-23 10:00:02 core.py:99 died\n" in out
    assert "yes: no process is left" in out


def test_memory_as_planned_and_as_measured(daemon: FakeDaemon, run: Run) -> None:
    """Side by side, as far as each is known."""
    engine = ready()
    bare = run_lines(daemon, run, engine)
    engine.report.measured_memory.weights_bytes = 15 << 30
    engine.report.measured_memory.graphs_bytes = 1 << 29
    measured = run_lines(daemon, run, engine)
    engine.planned_memory.weights_bytes = 16 << 30
    both = run_lines(daemon, run, engine)

    assert "MEMORY" not in bare
    assert measured[(start := measured.index("MEMORY")) + 1 : start + 7] == [
        "ON THE FULLEST GPU MEASURED",
        "weights 15.0 GiB",
        "KV cache -",
        "activations -",
        "CUDA graphs 0.5 GiB",
        "other -",
    ]
    assert {"ON THE FULLEST GPU PLANNED MEASURED", "weights 16.0 GiB 15.0 GiB"} <= set(both)


def run_lines(daemon: FakeDaemon, run: Run, engine: Engine) -> list[str]:
    """Show an engine, as lines of single-spaced words."""
    daemon.engines = [engine]
    return [" ".join(line.split()) for line in run("engines", engine.name).stdout.splitlines()]
