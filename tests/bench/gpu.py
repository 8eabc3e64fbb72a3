"""What vllmd costs and gives back on a real GPU: `python -m tests.bench.gpu MODEL --engine-python PATH`.

The model may be a directory without weights: they are random (`load_format=dummy`), which takes the memory and
the time per token of real ones. A bare `AsyncLLM` (`bare.py`) is measured first, in the same run, so that ratios
mean something.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import time
from typing import Any

import grpc
import psutil

from tests.bench import load
from tests.bench.__main__ import cpu_seconds
from tests.host.running import RunningDaemon, cores_of, home, identity_of, kill, load_request, until
from vllmd.gpu.nvml import Nvml
from vllmd.v1 import engine_pb2
from vllmd.v1.engine_service_pb2 import LoadedModel, LoadModelRequest, ReleaseRequest

MIB = 1 << 20
_LOAD_SECONDS = 500.0


def used_mib() -> float:
    """Memory in use on all GPUs, in MiB."""
    return sum(gpu.used_bytes for gpu in Nvml().snapshot().gpus) / MIB


def baseline(python: str, model: str, max_model_len: int, tokens: int, levels: list[int]) -> dict[int, float]:
    """Measure the bare engine; tokens a second by number of streams."""
    begun = time.monotonic()
    program = pathlib.Path(__file__).with_name("bare.py")
    command = [python, str(program), model, str(max_model_len), str(tokens), *map(str, levels)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = re.findall(r"AsyncLLM concurrency (\d+): (\d+) tok/s, TTFT median ([\d.]+) ms", done.stdout)
    for level, rate, first in found:
        print(f"baseline  {level:>4} streams  {int(rate):>7} tok/s  TTFT {float(first):7.1f} ms")
    print(f"baseline took {time.monotonic() - begun:.0f} s, exit status {done.returncode}", flush=True)
    if done.returncode:
        print(done.stdout[-3000:])
    return {int(level): float(rate) for level, rate, _ in found}


def load_model(daemon: RunningDaemon, model: str, max_model_len: int) -> LoadedModel:
    """Load with the baseline's settings, and print how that went."""
    begun, phase = time.monotonic(), ""
    for update in daemon.engines.LoadModel(request(model, max_model_len), timeout=_LOAD_SECONDS):
        if update.HasField("progress") and update.progress.message != phase:
            phase = update.progress.message
            print(f"  {time.monotonic() - begun:6.1f} s  {phase}", flush=True)
    loaded = update.loaded
    report = loaded.engine.report
    print(
        f"loaded in {time.monotonic() - begun:.1f} s: vLLM {report.vllm_version}, {report.kv_cache_tokens} KV tokens, "
        f"{used_mib():.0f} MiB in use",
        flush=True,
    )
    return loaded


def request(model: str, max_model_len: int) -> LoadModelRequest:
    """Ask for what the baseline measures."""
    return load_request(
        model, load_format="dummy", gpu_memory_utilization=0.5, max_model_len=max_model_len, max_num_seqs=1024
    )


def streams(
    daemon: RunningDaemon, engine: str, tokens: int, levels: list[int], processes: int, bare: dict[int, float]
) -> None:
    """Print what streams through the daemon make, beside the bare engine."""
    process = psutil.Process(daemon.process.pid)
    worker = psutil.Process(daemon.engine(engine).pid)
    target = f"unix:{daemon.socket}"
    load.run(target, engine, 256, 32, processes)
    for level in levels:
        used, worker_used = cpu_seconds(process), cpu_seconds(worker)
        result = load.run(target, engine, level, tokens, min(processes, level))
        used, worker_used = cpu_seconds(process) - used, cpu_seconds(worker) - worker_used
        ratio = f"{result.tokens_per_second / bare[level]:.2f} of baseline" if bare.get(level) else ""
        print(
            f"vllmd     {level:>4} streams  {result.tokens_per_second:>7.0f} tok/s  "
            f"TTFT {result.median_first * 1e3:7.1f} ms  {used / result.tokens * 1e6:5.1f} us CPU/token "
            f"(worker {worker_used / result.tokens * 1e6:.1f})  "
            f"{result.messages / result.tokens:.2f} messages/token  {ratio}",
            flush=True,
        )


def release(daemon: RunningDaemon, loaded: LoadedModel, before: float) -> None:
    """Release the last lease, and print what NVML shows then."""
    begun = time.monotonic()
    engine = daemon.engines.Release(ReleaseRequest(lease=loaded.lease.name), timeout=120).engine
    after = used_mib()
    print(
        f"release took {time.monotonic() - begun:.2f} s: {engine.reclaim.summary} NVML {before:.0f} MiB before the "
        f"load, {after:.0f} after the release ({after - before:+.0f}); verified {engine.reclaim.verified}",
        flush=True,
    )


def killed(daemon: RunningDaemon, loaded: LoadedModel, victim: str, before: float, count: int) -> None:
    """SIGKILL the worker or the core while it generates, and print how long everything took."""
    name = loaded.engine.name
    calls = [daemon.generate(name, max_tokens=3000) for _ in range(count)]
    for call in calls:
        next(call)
    pid = daemon.engine(name).pid
    identity = identity_of(pid) if victim == "worker" else cores_of(pid)[0]
    begun = time.monotonic()
    kill(identity)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        codes = set(pool.map(_end_of, calls))
    ended = time.monotonic() - begun
    until(lambda: used_mib() < before + 64, "NVML", 60)
    back = time.monotonic() - begun
    until(lambda: daemon.engine(name).state == engine_pb2.Engine.STATE_FAILED, "the engine's end", 60)
    report = daemon.engine(name).reclaim
    print(
        f"SIGKILL of the {victim} with {count} streams: all ended after {ended:.3f} s with {codes}; NVML back "
        f"after {back:.2f} s, engine FAILED after {time.monotonic() - begun:.2f} s "
        f"({report.exit_duration.ToTimedelta()} for the processes, {report.memory_duration.ToTimedelta()} for the "
        f"memory), verified {report.verified}",
        flush=True,
    )
    print(f"  {daemon.engine(name).failure.message}")


def _end_of(call: Any) -> str:
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        return str(error.code())
    return "OK"


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--engine-python", required=True)
    parser.add_argument("--no-baseline", action="store_true", help="do without the bare engine")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of each stream (default: %(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--max-model-len", type=int, default=4096, help="as in the baseline (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=6, help="client processes (default: %(default)s)")
    parser.add_argument("--kill", choices=("worker", "core"), help="load once more, and kill this while it generates")
    arguments = parser.parse_args()
    python, model = arguments.engine_python, arguments.model
    levels, tokens = arguments.streams, arguments.tokens
    bare = {} if arguments.no_baseline else baseline(python, model, arguments.max_model_len, tokens, levels)
    with home("--engine-python", python, "--restart-limit", "0") as place:
        daemon = place.start()
        try:
            before = used_mib()
            loaded = load_model(daemon, model, arguments.max_model_len)
            streams(daemon, loaded.engine.name, tokens, levels, arguments.processes, bare)
            release(daemon, loaded, before)
            if arguments.kill:
                killed(daemon, load_model(daemon, model, arguments.max_model_len), arguments.kill, before, 64)
            print(f"left on the host: {[str(identity.pid) for identity in place.engine_processes()]}", flush=True)
            print(f"daemon's exit status: {daemon.stop()}")
        finally:
            print(daemon.log.read_text()[-4000:])


if __name__ == "__main__":
    main()
