from __future__ import annotations

import pytest

from tests.fakes.batches import embedded, generated
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found, upgrading
from tests.fakes.samples import loaded, ready, stopped, weights
from vllmd.client import Client, VllmdError
from vllmd.v1 import engine_service_pb2 as pb
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


def test_lease_that_an_upgrade_took_is_released(daemon: FakeDaemon, client: Client) -> None:
    """The first try had ended it; its engine went with the earlier program, and nothing more is made up of it."""
    daemon.refusals = [upgrading(engine="qwen3-8b-3f2a")]
    daemon.release = not_found("lease", "leases/5d41")

    assert client.release("5d41") == Engine(name="engines/qwen3-8b-3f2a")


def test_what_was_never_there_is_an_error(daemon: FakeDaemon, client: Client) -> None:
    """At the first try nothing can have been done before."""
    daemon.release = not_found("lease", "leases/5d41")
    daemon.stop = not_found("engine", "engines/a-1")

    with pytest.raises(VllmdError, match="LEASE_NOT_FOUND"):
        client.release("5d41")
    with pytest.raises(VllmdError, match="ENGINE_NOT_FOUND"):
        client.stop("a-1")


def test_plan(daemon: FakeDaemon, client: Client) -> None:
    """How a model would be loaded, by what `load` would be told."""
    daemon.plan = pb.PlanModelResponse(gpus=["gpus/GPU-1"], shared_engine="engines/a-1")

    assert client.plan("m", use_case="production", engine_args={"dtype": "half"}) == daemon.plan
    assert daemon.requests[0].engine_args["dtype"] == "half"


def test_watch_engines(daemon: FakeDaemon, client: Client) -> None:
    """First as they are, then as they change."""
    daemon.watch = [pb.WatchEnginesResponse(engines=[ready()]), pb.WatchEnginesResponse(engines=[stopped()])]

    assert [response.engines[0] for response in client.watch_engines("qwen3-8b-3f2a")] == [ready(), stopped()]
    assert daemon.requests == [pb.WatchEnginesRequest(name="engines/qwen3-8b-3f2a")]


def test_calls_by_an_engines_name(daemon: FakeDaemon, client: Client) -> None:
    """Everything that a lease can be used for works with an engine too, and as the daemon sent it."""
    daemon.batch = [generated(0, "a")]
    daemon.embed = [embedded(0, 1.0)]
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1])
    daemon.detokenize = pb.DetokenizeResponse(text="hi")

    assert list(client.generate_batch("a-1", ["x"], n=2)) == [generated(0, "a")]
    assert list(client.embed("a-1", ["x"], dimensions=1)) == [embedded(0, 1.0)]
    assert client.tokenize("a-1", "x", return_token_texts=True) == daemon.tokenize
    assert client.detokenize("a-1", [1]) == "hi"
    assert {request.engine for request in daemon.requests} == {"engines/a-1"}
