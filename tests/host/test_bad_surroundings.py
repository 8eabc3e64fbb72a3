"""What befalls a daemon: full disks, clients that die or never read, crowds, and programs that are newer than it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
import psutil
import pytest

from tests.fakes.served import reason_of
from tests.host.running import DEADLINE_SECONDS, Home, RunningDaemon, home, load_request, until, vllmd
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.generation_pb2 import Prompt, SamplingParams

CROWD = 100
PROMPTS = 200
TOKENS = 20_000
"""Each of some bytes: what is never read is more than gRPC's windows hold."""
GROWN_MIB, GROWTH_MIB = 30.0, 200.0
"""Of which 64 are what may gather for one generation, and as much what Python keeps of it."""
QUICK_SECONDS = 20.0

DYING = """
import os, signal, sys
from vllmd.client import Client

client = Client(sys.argv[1])
llm = client.load("a/model", engine_args={"fake_tokens_per_second": 50})
stream = llm.generate("once upon a time", max_tokens=100_000)
batch = llm.generate_batch(["a", "b"], max_tokens=100_000)
next(iter(stream))
print(llm.engine.name, flush=True)
next(iter(batch))
"""


def tokens(daemon: RunningDaemon, engine: str) -> int:
    """Generate, and count."""
    *_, last = daemon.generate(engine, 5)
    return int(last.usage.completion_tokens)


@contextlib.contextmanager
def mounted(path: pathlib.Path, options: str) -> Iterator[pathlib.Path]:
    """A file system of its own at a directory."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(path: pathlib.Path) -> None:
    """Write a file until not a byte more fits."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(fd, b"x" * size)
    finally:
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is full")
def test_a_disk_that_is_full() -> None:
    """Loads are refused until there is room again; the engine that is there serves, and the daemon stops well."""
    with home("--backend", "fake") as place, mounted(place.path, "size=4m") as disk:
        daemon = place.start()
        loaded = daemon.load("a/model", fake_tokens_per_second=0)
        fill(disk / "fill")
        with pytest.raises(grpc.RpcError) as refused:
            daemon.load("another/model")
        served = tokens(daemon, loaded.engine.name)
        (disk / "fill").unlink()
        daemon.load("a/third")

        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refused.value) == "DISK_FULL"
        assert served == 5
        assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is read-only")
def test_a_state_directory_that_is_read_only() -> None:
    """It is said once that nothing can be kept there; all else works."""
    with home("--backend", "fake") as place, mounted(place.path / "state", "ro"):
        daemon = place.start()
        served = tokens(daemon, daemon.load("a/model", fake_tokens_per_second=0).engine.name)
        status = daemon.stop()
        said = [line for line in daemon.log.read_text().splitlines() if " ERROR " in line]

        assert (served, status) == (5, 0)
        assert sum("the journal can't be written" in line for line in said) == 1
        assert all("Read-only file system" in line or "readonly" in line for line in said)


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home("--backend", "fake", "--restart-limit", "0") as made:
        made.start()
        yield made


@pytest.fixture
def daemon(place: Home) -> RunningDaemon:
    return place.latest


def test_a_hundred_loads_of_one_model(place: Home, daemon: RunningDaemon) -> None:
    """One engine, and a lease for each."""

    def load(_: int) -> pb.LoadedModel:
        return daemon.load("crowd/model")

    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        loaded = list(pool.map(load, range(CROWD)))
    engine = daemon.engine(loaded[0].engine.name)
    for one in loaded:
        daemon.engines.Release(pb.ReleaseRequest(lease=one.lease.name), timeout=DEADLINE_SECONDS)

    assert {one.engine.name for one in loaded} == {engine.name}
    assert len({one.lease.name for one in loaded}) == engine.lease_count == CROWD
    assert place.leftovers(engine.name) == []


def test_a_client_that_never_reads(daemon: RunningDaemon) -> None:
    """Whatever it asked for: others are served, the daemon does not grow, and nothing runs on without it."""
    loaded = daemon.load("unread/model", fake_tokens_per_second=0)
    engine, process = loaded.engine.name, psutil.Process(daemon.process.pid)
    params = SamplingParams(max_tokens=TOKENS, ignore_eos=True)
    much = SamplingParams(max_tokens=TOKENS, ignore_eos=True, n=64, logprobs=20)
    before = process.memory_info().rss

    def grown() -> float:
        return (process.memory_info().rss - before) / (1 << 20)

    channel = grpc.insecure_channel(f"unix:{daemon.socket}", [("grpc.use_local_subchannel_pool", 1)])
    stub = EngineServiceStub(channel)
    prompts = [Prompt(text="a")] * PROMPTS
    unread = [
        *(stub.Generate(pb.GenerateRequest(engine=engine, text="a", sampling_params=params)) for _ in range(8)),
        stub.Generate(pb.GenerateRequest(engine=engine, text="a", sampling_params=much)),
        stub.GenerateBatch(pb.GenerateBatchRequest(engine=engine, prompts=prompts, sampling_params=params)),
        *(stub.WatchEngines(pb.WatchEnginesRequest()) for _ in range(8)),
    ]
    until(lambda: daemon.engine(engine).running_count > len(unread) // 2, "the generations to run")
    until(lambda: grown() > GROWN_MIB, "what nobody reads to gather")
    begun = time.monotonic()
    served = [tokens(daemon, engine) for _ in range(50)]
    seconds = time.monotonic() - begun
    growth = grown()
    channel.close()
    until(lambda: daemon.engine(engine).running_count == 0, "the end of what nobody reads")

    assert served == [5] * 50
    assert seconds < QUICK_SECONDS
    print(f"{growth:+.1f} MiB")
    assert growth < GROWTH_MIB
    daemon.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name), timeout=DEADLINE_SECONDS)


def test_a_client_that_dies(place: Home, daemon: RunningDaemon) -> None:
    """Its streams end, and its lease, so that its engine does, too."""
    command = [sys.executable, "-c", DYING, f"unix:{daemon.users_socket}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            engine = client.stdout.readline().strip()
            until(lambda: daemon.engine(engine).running_count == 2, "the generations to run")
        finally:
            client.kill()
    until(lambda: not place.leftovers(engine), "the engine to be gone")

    assert engine.startswith("engines/")
    assert engine not in {one.name for one in daemon.status().engines}


def test_a_deadline_that_is_past(daemon: RunningDaemon) -> None:
    """The call ends as such, and leaves no lease."""
    with pytest.raises(grpc.RpcError) as late:
        list(daemon.engines.LoadModel(load_request("late/model"), timeout=0.0))
    calls = [daemon.engines.LoadModel(load_request("late/model"), timeout=0.001) for _ in range(20)]
    ends = [until(call.code, "the end of a call") for call in calls]

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert set(ends) == {grpc.StatusCode.DEADLINE_EXCEEDED}
    until(
        lambda: not any(one.model == "late/model" for one in daemon.status().engines), "loads nobody waits for to end"
    )


def test_a_message_that_is_too_large(daemon: RunningDaemon) -> None:
    """gRPC itself refuses it, so there is no reason; the client of ours has one: MESSAGE_TOO_LARGE."""
    request = pb.GenerateRequest(lease="leases/x", text="x" * (65 << 20))
    channel = grpc.insecure_channel(f"unix:{daemon.socket}", [("grpc.max_send_message_length", -1)])
    with channel, pytest.raises(grpc.RpcError) as refused:
        list(EngineServiceStub(channel).Generate(request, timeout=DEADLINE_SECONDS))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert daemon.status().host.HasField("start_time")


def test_a_client_that_is_newer(daemon: RunningDaemon) -> None:
    """What it says beyond what is known is passed over; a choice that is unknown is refused, never guessed."""
    later = load_request("newer/model", fake_tokens_per_second=0).SerializeToString() + b"\xfa\x3f\x05later"
    *_, last = daemon.engines.LoadModel(pb.LoadModelRequest.FromString(later), timeout=DEADLINE_SECONDS)
    request = load_request("newer/model")
    request.use_case = 99  # type: ignore[assignment]
    with pytest.raises(grpc.RpcError) as unknown:
        list(daemon.engines.LoadModel(request, timeout=DEADLINE_SECONDS))
    daemon.engines.Release(pb.ReleaseRequest(lease=last.loaded.lease.name), timeout=DEADLINE_SECONDS)

    assert reason_of(unknown.value) == "INVALID_USE_CASE"


def test_a_second_daemon(daemon: RunningDaemon) -> None:
    """It says who is there, and the first one serves on."""
    second = vllmd("--backend", "fake", "--runtime-dir", str(daemon.home), "--state-dir", str(daemon.home / "state"))

    assert second.returncode == 1
    assert str(daemon.process.pid) in second.stderr
    assert daemon.status().host.HasField("start_time")
