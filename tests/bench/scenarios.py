"""What `tests.bench.supervision` does to engines, and what it expects of the daemon."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc

from tests.host.foreign import ForeignServer, alive
from tests.host.running import Home, RunningDaemon, cores_of, identity_of, kill, load_request, until
from vllmd.gpu.nvml import Nvml
from vllmd.v1 import engine_pb2, event_pb2, gpu_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2 import LoadedModel, ReleaseRequest
from vllmd.worker.processes import signal_to

MIB = 1 << 20
READY, FAILED = engine_pb2.Engine.STATE_READY, engine_pb2.Engine.STATE_FAILED
STREAMS = 16
_LOAD_SECONDS = 500.0
_BACK_SECONDS = 60.0
_SLACK_MIB = 64
"""What the driver itself may hold more or less from one look to the next."""


class Host:
    """Where a scenario takes place.

    Args:
        place: the daemon's directories; none runs yet.
        python: the interpreter that has vLLM.
        model: a directory.
        engine_args: of every engine.
    """

    def __init__(self, place: Home, python: str, model: str, engine_args: dict[str, Any]) -> None:
        self.place = place
        self.python = python
        self.model = model
        self.engine_args = engine_args
        self.wrong: list[str] = []
        self.nvml = Nvml()
        self.before = self.used()
        """MiB in use on all GPUs before anything was loaded."""

    def used(self) -> float:
        """Memory in use on all GPUs, in MiB; 0 without a GPU."""
        return sum(gpu.used_bytes or 0 for gpu in self.nvml.snapshot().gpus) / MIB

    def say(self, text: str) -> None:
        """Print a figure."""
        print(f"  {text}", flush=True)

    def expect(self, condition: bool, text: str) -> None:
        """Note what is not as it should be."""
        if not condition:
            self.wrong.append(text)

    def load(self, daemon: RunningDaemon) -> LoadedModel:
        """Load the model; the lease stays."""
        begun = time.monotonic()
        request = load_request(self.model, **self.engine_args)
        *_, last = daemon.engines.LoadModel(request, timeout=_LOAD_SECONDS)
        self.say(f"loaded in {time.monotonic() - begun:.1f} s, NVML {self.before:.0f} -> {self.used():.0f} MiB")
        return last.loaded

    def back_to(self, level: float, begun: float) -> float:
        """Wait until NVML is at *level* MiB again; returns seconds since *begun*."""
        until(lambda: self.used() < level + _SLACK_MIB, f"NVML to be at {level:.0f} MiB", _BACK_SECONDS)
        return time.monotonic() - begun

    def ready_again(self, daemon: RunningDaemon, name: str, begun: float) -> float:
        """Wait until the engine serves; returns seconds since *begun*."""
        until(lambda: daemon.engine(name).state in (READY, FAILED), f"{name} to serve", _LOAD_SECONDS)
        self.expect(daemon.engine(name).state == READY, f"{name} failed: {daemon.engine(name).failure.message}")
        return time.monotonic() - begun


def begin(daemon: RunningDaemon, name: str, count: int = STREAMS) -> list[Any]:
    """Begin long generations, and wait for the first token of each."""
    calls = [daemon.generate(name, max_tokens=3000) for _ in range(count)]
    for call in calls:
        next(call)
    return calls


def ends_of(calls: list[Any]) -> set[str]:
    """Wait for the end of each; returns the statuses."""
    found = set()
    for call in calls:
        try:
            for _ in call:
                pass
            found.add("OK")
        except grpc.RpcError as error:
            found.add(str(error.code()).removeprefix("StatusCode."))
    return found


def first_token(daemon: RunningDaemon, name: str) -> float:
    """Generate; returns seconds to the first token."""
    begun = time.monotonic()
    call = daemon.generate(name, max_tokens=16)
    next(call)
    seconds = time.monotonic() - begun
    assert ends_of([call]) == {"OK"}
    return seconds


def events(daemon: RunningDaemon, *kinds: event_pb2.Event.Kind.ValueType) -> list[event_pb2.Event]:
    """Read the daemon's events of these kinds."""
    answers = daemon.host.WatchEvents(host_service_pb2.WatchEventsRequest(last=1000), timeout=10)
    return [event for answer in answers for event in answer.events if event.kind in kinds]


def fell(host: Host, daemon: RunningDaemon, name: str, level: float, begun: float, calls: list[Any]) -> None:
    """Say how long an engine's death took, and how long until it served again."""
    held = host.used()
    codes = ends_of(calls)
    ended = time.monotonic() - begun
    back = host.back_to(level, begun)
    until(lambda: daemon.engine(name).HasField("reclaim"), "the report", _BACK_SECONDS)
    report = daemon.engine(name).reclaim
    host.say(
        f"{len(calls)} streams ended after {ended:.2f} s with {codes}; NVML {held:.0f} -> {host.used():.0f} MiB after "
        f"{back:.2f} s; {len(report.pids)} processes, verified {report.verified} "
        f"({report.exit_duration.ToTimedelta()} for them, {report.memory_duration.ToTimedelta()} for the memory)"
    )
    host.expect(report.verified, f"not verified: {report.summary}")
    host.expect(codes == {"UNAVAILABLE"}, f"streams ended with {codes}")
    again = host.ready_again(daemon, name, begun)
    host.say(f"READY again after {again:.1f} s, first token after {first_token(daemon, name) * 1e3:.0f} ms more")


def worker(host: Host) -> None:
    """SIGKILL of the worker while it generates: its EngineCore is an orphan."""
    daemon = host.place.start()
    name = host.load(daemon).engine.name
    calls = begin(daemon, name)
    victim = identity_of(daemon.engine(name).pid)
    begun = time.monotonic()
    kill(victim)
    fell(host, daemon, name, host.before, begun, calls)


def hang(host: Host) -> None:
    """SIGSTOP of EngineCore while it generates, with --stall-timeout 10."""
    daemon = host.place.start()
    name = host.load(daemon).engine.name
    calls = begin(daemon, name)
    (core,) = cores_of(daemon.engine(name).pid)
    begun = time.monotonic()
    signal_to(core, signal.SIGSTOP)
    fell(host, daemon, name, host.before, begun, calls)
    for event in events(daemon, event_pb2.Event.KIND_STALL):
        host.say(f"event: {event.message} {list(event.reasons)}")
    host.expect(bool(events(daemon, event_pb2.Event.KIND_STALL)), "no event tells of the stall")


def foreign(host: Host) -> None:
    """A foreign `vllm serve` beside an engine: left alone while it lives, reclaimed once it was SIGKILLed."""
    daemon = host.place.start()
    name = host.load(daemon).engine.name
    alone = host.used()
    with socket.socket() as free, contextlib.closing(_serve(host, free)) as server:
        server.wait_ready()
        both = host.used()
        core = server.core
        assert core is not None
        for seconds in (0, 12):  # longer than the grace period
            time.sleep(seconds)
            answer = daemon.host.Reclaim(host_service_pb2.ReclaimRequest(confirmed=True), timeout=60)
            host.expect(not answer.reports, f"a living server was reclaimed: {answer}")
            server.complete()
        verdict = _verdict(daemon, core.pid)
        host.say(f"alive, {both - alone:.0f} MiB: {verdict}; left alone, answers")
        begun = time.monotonic()
        server.kill()
        if not host.nvml.snapshot().gpus:  # what holds no GPU's memory is killed only for somebody who asks
            until(lambda: "FOREIGN_ORPHAN" in _verdict(daemon, core.pid), "the verdict", _BACK_SECONDS)
            daemon.host.Reclaim(host_service_pb2.ReclaimRequest(confirmed=True, pid=core.pid), timeout=60)
        until(lambda: not server.core_alive, "the orphan's end", _BACK_SECONDS)
        ended = time.monotonic() - begun
        back = host.back_to(alone, begun)
        host.say(
            f"server SIGKILLed: its EngineCore was gone after {ended:.2f} s and NVML {both:.0f} -> {host.used():.0f} "
            f"MiB after {back:.2f} s, of which 10 s are the grace period"
        )
    until(lambda: events(daemon, event_pb2.Event.KIND_RECLAIM), "the event", _BACK_SECONDS)
    for event in events(daemon, event_pb2.Event.KIND_KILL, event_pb2.Event.KIND_RECLAIM):
        host.say(f"event: {event.message} {list(event.reasons)}")
    host.say(f"our engine's first token after {first_token(daemon, name) * 1e3:.0f} ms")


def _serve(host: Host, free: socket.socket) -> ForeignServer:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    log = host.place.path / "foreign.log"
    return ForeignServer(host.python, host.model, log, port, host.engine_args, {})


def _verdict(daemon: RunningDaemon, pid: int) -> str:
    found = daemon.host.ListGpuProcesses(host_service_pb2.ListGpuProcessesRequest()).processes
    return ", ".join(
        f"{gpu_pb2.ProcessVerdict.Verdict.Name(one.verdict).removeprefix('VERDICT_')} {list(one.reasons)}"
        for one in found
        if one.pid == pid
    )


def daemon_dies(host: Host) -> None:
    """SIGKILL of the daemon while streams run, then an upgrade while streams run, then a release."""
    daemon = host.place.start()
    loaded = host.load(daemon)
    name, held = loaded.engine.name, host.used()
    pid = daemon.engine(name).pid
    daemon.kept.extend(begin(daemon, name))
    daemon.kill()
    begun = time.monotonic()
    daemon = host.place.start()
    serving = time.monotonic() - begun
    again = host.ready_again(daemon, name, begun)
    first = first_token(daemon, name)
    left = until(lambda: not daemon.engine(name).running_count, "the aborts", 10)
    host.say(
        f"daemon SIGKILLed with {STREAMS} streams: the next serves after {serving:.2f} s, the engine is READY after "
        f"{again:.2f} s, first token {first * 1e3:.0f} ms after that; NVML {held:.0f} -> {host.used():.0f} MiB"
    )
    host.expect(left and daemon.engine(name).pid == pid, "the engine is another")
    host.expect(again < 2, "adoption took more than 2 s")
    calls = begin(daemon, name)
    begun = time.monotonic()
    daemon.upgrade()
    again = host.ready_again(daemon, name, begun)
    first = first_token(daemon, name)
    host.say(
        f"upgraded: READY after {again:.2f} s, first token {first * 1e3:.0f} ms after that, streams {ends_of(calls)}"
    )
    host.expect(daemon.engine(name).pid == pid, "the engine is another after the upgrade")
    begun = time.monotonic()
    report = daemon.engines.Release(ReleaseRequest(lease=loaded.lease.name), timeout=120).engine.reclaim
    took = time.monotonic() - begun
    host.say(f"released in {took:.2f} s: {report.summary} NVML {host.before:.0f} -> {host.used():.0f} MiB")
    host.expect(report.verified, "the release is not verified")
    host.expect(host.used() < host.before + _SLACK_MIB, "memory is left")
    host.expect(daemon.stop() == 0, "the daemon's exit status")


def lifeline(host: Host) -> None:
    """SIGKILL of the daemon that nobody starts again, with --adoption-timeout 10."""
    daemon = host.place.start("--adoption-timeout", "10")
    name = host.load(daemon).engine.name
    cores = cores_of(daemon.engine(name).pid)
    daemon.kill()
    begun = time.monotonic()
    until(lambda: not any(alive(core) for core in cores), "the engine's end", _BACK_SECONDS)
    gone = time.monotonic() - begun
    host.say(f"EngineCore gone after {gone:.1f} s, NVML back after {host.back_to(host.before, begun):.1f} s")
    until(lambda: not host.place.engine_processes(), "the processes' end", _BACK_SECONDS)


SCENARIOS: dict[str, Callable[[Host], None]] = {
    "worker": worker,
    "hang": hang,
    "foreign": foreign,
    "daemon": daemon_dies,
    "lifeline": lifeline,
}
