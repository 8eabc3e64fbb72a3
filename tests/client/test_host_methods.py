from __future__ import annotations

from tests.fakes.fake_daemon import FakeDaemon, not_found, upgrading
from tests.fakes.gpu_samples import eight_gpus
from tests.fakes.host_samples import events, gpu_processes, orphan, profile, reclaim
from tests.fakes.samples import status, stopped
from vllmd.client import Client
from vllmd.v1 import host_service_pb2
from vllmd.v1.engine_pb2 import Engine


def test_status(daemon: FakeDaemon, client: Client) -> None:
    """The status comes as the daemon sent it."""
    daemon.status = status()

    assert client.status() == daemon.status


def test_gpus(daemon: FakeDaemon, client: Client) -> None:
    """With how they are connected."""
    daemon.gpus = eight_gpus()
    found = client.gpus(timeout=5)

    assert (len(found.gpus), len(found.links)) == (8, 28)


def test_stop_returns_the_proof(daemon: FakeDaemon, client: Client) -> None:
    """Stopping asks by full name and returns what was given back."""
    daemon.stop = host_service_pb2.StopEngineResponse(engine=stopped())

    assert client.stop("qwen3-8b-3f2a", force=True).reclaim.killed_count == 1
    assert daemon.requests == [host_service_pb2.StopEngineRequest(name="engines/qwen3-8b-3f2a", force=True)]


def test_engine_that_an_upgrade_took_is_stopped(daemon: FakeDaemon, client: Client) -> None:
    """It is not there for the new program."""
    daemon.refusals = [upgrading()]
    daemon.stop = not_found("engine", "engines/a-1")

    assert client.stop("a-1") == Engine(name="engines/a-1")


def test_logs_ask_for_as_many_lines_as_wished(daemon: FakeDaemon, client: Client) -> None:
    """Zero lines is a wish; no wish is the daemon's default."""
    daemon.logs = [host_service_pb2.TailLogsResponse(lines=["a", "b"])]

    assert list(client.logs("e", lines=0)) == ["a", "b"]
    assert list(client.logs("e")) == ["a", "b"]

    assert [request.HasField("lines") for request in daemon.requests] == [True, False]


def test_gpu_processes(daemon: FakeDaemon, client: Client) -> None:
    """The list comes as the daemon sent it."""
    daemon.gpu_processes = gpu_processes(orphan())

    assert client.gpu_processes() == daemon.gpu_processes


def test_a_reclaim_is_confirmed_on_purpose(daemon: FakeDaemon, client: Client) -> None:
    """Without a word it is a dry run of all."""
    daemon.reclaim = reclaim()
    client.reclaim()
    client.reclaim(confirmed=True, pid=5)

    assert daemon.requests == [
        host_service_pb2.ReclaimRequest(),
        host_service_pb2.ReclaimRequest(confirmed=True, pid=5),
    ]


def test_events(daemon: FakeDaemon, client: Client) -> None:
    """They come one by one."""
    daemon.events = [events()]

    assert list(client.events(last=2)) == list(events().events)
    assert daemon.requests == [host_service_pb2.WatchEventsRequest(last=2)]


def test_profiles(daemon: FakeDaemon, client: Client) -> None:
    """Of one model or of all; so they are forgotten."""
    daemon.profiles = host_service_pb2.ListProfilesResponse(profiles=[profile()])
    daemon.forget = host_service_pb2.ForgetProfilesResponse(forgotten_count=3)

    assert client.profiles("org/model") == [profile()]
    assert client.forget_profiles() == 3
    assert daemon.requests == [
        host_service_pb2.ListProfilesRequest(model="org/model"),
        host_service_pb2.ForgetProfilesRequest(),
    ]
