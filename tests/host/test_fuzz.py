"""Ten thousand random requests, well-formed and not: only typed errors, no crash, and nothing that stays."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fakes.messages import broken, messages
from tests.host.running import Home, RunningDaemon, home, until
from vllmd.v1 import engine_service_pb2, host_service_pb2

ROUNDS = 100
REQUESTS = 100
DEADLINE_SECONDS = 5.0
SHORT_SECONDS = 0.05
"""Of what would go on: watches, and loads, of which each that begins is a tree of processes."""
GROWTH_MIB = 64.0
METHODS = [
    method
    for module in (engine_service_pb2, host_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
SELDOM = frozenset({"LoadModel"})
GOES_ON = frozenset({"LoadModel", "WatchEngines", "WatchEvents", "TailLogs"})
TYPED = frozenset(grpc.StatusCode) - {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.OK}


@dataclasses.dataclass(frozen=True)
class Call:
    """A request to a method, as bytes."""

    method: MethodDescriptor
    request: bytes
    whole: bool
    """Whether these are the bytes of a message."""


class Fuzzed:
    """A daemon with an engine, and what it said so far."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self.daemon = daemon
        self.codes: collections.Counter[str] = collections.Counter()
        self.loaded = daemon.load("a/model", fake_tokens_per_second=0)
        self.process = psutil.Process(daemon.process.pid)

    def load(self) -> None:
        """Load the engine again if its lease was released, whose name some requests have."""
        if self.daemon.engine(self.loaded.engine.name).lease_count == 0:
            self.loaded = self.daemon.load("a/model", fake_tokens_per_second=0)

    @property
    def known(self) -> dict[str, tuple[str, ...]]:
        """What means something, by the names of fields."""
        engine, lease = self.loaded.engine.name, self.loaded.lease.name
        return {"engine": (engine,), "lease": (lease,), "name": (engine,), "model": ("a/model",), "role": ("user",)}

    def call(self, call: Call) -> None:
        """Call, and look at what comes back."""
        method = call.method
        path = f"/{method.containing_service.full_name}/{method.name}"
        channel: Any = self.daemon.channel  # its stubs know no bytes
        seconds = SHORT_SECONDS if method.name in GOES_ON else DEADLINE_SECONDS
        try:
            if method.server_streaming:
                stream = channel.unary_stream(path)(call.request, timeout=seconds)
                for _ in itertools.islice(stream, 3):  # some go on for ever
                    pass
                stream.cancel()
            else:
                channel.unary_unary(path)(call.request, timeout=seconds)
        except grpc.RpcError as error:
            self.codes[error.code().name] += 1
            self.check(call, error)
        else:
            self.codes["OK"] += 1

    def check(self, call: Call, error: Any) -> None:
        """Check that an error is one of the daemon's own, or of a deadline."""
        told = f"{call.method.name}: {error.code()} {error.details()}\n{call.request!r}"
        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            assert call.method.server_streaming or call.method.name == "Release", told
            return
        assert error.code() in TYPED, told
        status = rpc_status.from_call(error)
        assert status is not None, told
        info = error_details_pb2.ErrorInfo()
        assert [detail.Unpack(info) for detail in status.details].count(True) == 1, told
        assert (info.domain, info.reason.isupper()) == ("vllmd", True), told
        assert info.reason != "MALFORMED_REQUEST" or not call.whole, told


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    """Where the daemon is."""
    with home("--backend", "fake", "--restart-limit", "0") as made:
        yield made


@pytest.fixture(scope="module")
def fuzzed(place: Home) -> Fuzzed:
    """The daemon, once for all rounds."""
    return Fuzzed(place.start())


@st.composite
def calls(draw: st.DrawFn, known: dict[str, tuple[str, ...]]) -> Call:
    """Make a call of any method; one in four of bytes that are no message, or another one."""
    seldom = draw(st.integers(0, 99)) == 0
    method = draw(st.sampled_from([one for one in METHODS if seldom or one.name not in SELDOM]))
    request = draw(messages(method.input_type, known)).SerializeToString()
    if draw(st.integers(0, 3)):
        return Call(method, request, whole=True)
    return Call(method, draw(broken(request)), whole=False)


@pytest.mark.timeout(400)
def test_ten_thousand_random_requests(fuzzed: Fuzzed) -> None:
    """Each is served, or refused with a reason; afterwards the daemon is what it was."""
    resident, files = fuzzed.process.memory_info().rss, fuzzed.process.num_fds()

    @settings(
        max_examples=ROUNDS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # what fails is told as it is: to make it smaller would take an hour
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        fuzzed.load()
        for call in data.draw(st.lists(calls(fuzzed.known), min_size=REQUESTS, max_size=REQUESTS)):
            fuzzed.call(call)

    run()
    fuzzed.load()
    print(dict(fuzzed.codes))
    others = [one for one in fuzzed.daemon.status().engines if one.name != fuzzed.loaded.engine.name]
    for engine in others:
        fuzzed.daemon.host.StopEngine(host_service_pb2.StopEngineRequest(name=engine.name, force=True), timeout=30)
    until(lambda: fuzzed.daemon.engine(fuzzed.loaded.engine.name).running_count == 0, "the end of all generations")
    answer = list(fuzzed.daemon.generate(fuzzed.loaded.engine.name, 5))
    growth = (fuzzed.process.memory_info().rss - resident) / (1 << 20)
    print(f"{growth:+.1f} MiB, {fuzzed.process.num_fds() - files:+} files")

    assert sum(fuzzed.codes.values()) >= ROUNDS * REQUESTS
    assert answer[-1].usage.completion_tokens == 5
    assert growth < GROWTH_MIB
    assert fuzzed.process.num_fds() - files < 20
    assert "a call failed unexpectedly" not in fuzzed.daemon.log.read_text()
