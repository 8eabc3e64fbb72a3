from __future__ import annotations

import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found, upgrading
from tests.fakes.gpu_samples import eight_gpus
from tests.fakes.host_samples import events, gpu_processes, orphan, profile, reclaim
from tests.fakes.samples import loaded, ready, status, stopped, weights
from vllmd.client import Client, VllmdError
from vllmd.v1 import host_service_pb2
from vllmd.v1.engine_pb2 import Engine, LoadProgress


def test_load_reports_progress_and_ends_with_the_model(daemon: FakeDaemon, client: Client) -> None:
    """Every step reaches the callback, then the result is returned."""
    daemon.load = [weights(0.25), weights(0.75), loaded(reused=True)]
    seen: list[float] = []

    model = client.load("Qwen/Qwen3-8B", on_progress=lambda progress: seen.append(progress.weights_fraction))

    assert seen == [0.25, 0.75]
    assert model.engine.name == "engines/qwen3-8b-3f2a"
    assert model.reused


def test_load_is_cancelled_by_its_callback(daemon: FakeDaemon, client: Client) -> None:
    """Ctrl-C, or any exception in the callback, cancels the load."""
    daemon.load = [weights(0.25), Hang()]

    def interrupt(progress: LoadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.load("m", on_progress=interrupt)

    assert daemon.cancelled.wait(5)


def test_load_that_ends_without_a_result_is_an_error(daemon: FakeDaemon, client: Client) -> None:
    """A stream that just ends is not taken for success."""
    daemon.load = [weights(0.25)]

    with pytest.raises(VllmdError, match="without a result"):
        client.load("m")


def test_failed_load_has_the_log(daemon: FakeDaemon, client: Client) -> None:
    """Why a load failed comes with the end of the engine's log."""
    daemon.load = [weights(0.25), Refusal("ENGINE_OUT_OF_MEMORY", "no memory", log_lines=["CUDA out of memory"])]

    with pytest.raises(VllmdError) as caught:
        client.load("m")

    assert caught.value.log_lines == ("CUDA out of memory",)


def test_engines_reads_all_pages(daemon: FakeDaemon, client: Client) -> None:
    """The list is whole, whatever the size of the daemon's pages."""
    daemon.engines = [Engine(name=f"engines/{number}") for number in range(5)]
    daemon.page_size = 2

    assert [engine.name for engine in client.engines()] == [f"engines/{number}" for number in range(5)]


def test_engine_by_either_name(daemon: FakeDaemon, client: Client) -> None:
    """An engine is found with and without the collection's prefix."""
    daemon.engines = [ready()]

    assert client.engine("qwen3-8b-3f2a") == client.engine("engines/qwen3-8b-3f2a") == ready()


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


def test_lease_that_an_upgrade_took_is_released(daemon: FakeDaemon, client: Client) -> None:
    """The first try had ended it; its engine went with the earlier program, and nothing more is made up of it."""
    daemon.refusals = [upgrading(engine="qwen3-8b-3f2a")]
    daemon.release = not_found("lease", "leases/5d41")

    assert client.release("5d41") == Engine(name="engines/qwen3-8b-3f2a")


def test_engine_that_an_upgrade_took_is_stopped(daemon: FakeDaemon, client: Client) -> None:
    """It is not there for the new program."""
    daemon.refusals = [upgrading()]
    daemon.stop = not_found("engine", "engines/a-1")

    assert client.stop("a-1") == Engine(name="engines/a-1")


def test_what_was_never_there_is_an_error(daemon: FakeDaemon, client: Client) -> None:
    """At the first try nothing can have been done before."""
    daemon.release = not_found("lease", "leases/5d41")
    daemon.stop = not_found("engine", "engines/a-1")

    with pytest.raises(VllmdError, match="LEASE_NOT_FOUND"):
        client.release("5d41")
    with pytest.raises(VllmdError, match="ENGINE_NOT_FOUND"):
        client.stop("a-1")


def test_logs_ask_for_as_many_lines_as_wished(daemon: FakeDaemon, client: Client) -> None:
    """Zero lines is a wish; no wish is the daemon's default."""
    daemon.logs = [host_service_pb2.TailLogsResponse(lines=["a", "b"])]

    assert [line for response in client.logs("e", lines=0) for line in response.lines] == ["a", "b"]
    assert list(client.logs("e"))

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
    """They come as the daemon sent them."""
    daemon.events = [events()]

    assert list(client.events(last=2)) == [events()]
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
