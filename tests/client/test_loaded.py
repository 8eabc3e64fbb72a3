from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.fakes.batches import embedded, generated, too_long
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found
from tests.fakes.samples import loaded, stopped, tokens
from vllmd.client import Cancelled, Client, InvalidRequest, Unavailable, VllmdError
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "leases/5d41402abc4b2a76b9719d911017c592"


def test_block_releases_at_its_end(daemon: FakeDaemon, client: Client) -> None:
    """A `with` block generates by the lease and ends it."""
    daemon.load = [loaded()]
    daemon.generate = list(tokens())

    with client.load("m") as model:
        text = model.complete("x", max_tokens=4).text

    assert text == "Once upon a time"
    assert [type(request) for request in daemon.requests] == [
        pb.LoadModelRequest,
        pb.GenerateRequest,
        pb.ReleaseRequest,
    ]
    assert daemon.requests[1].lease == daemon.requests[2].lease == LEASE


def test_release_tells_what_became_of_the_engine(daemon: FakeDaemon, client: Client) -> None:
    """The engine comes back with its proof, and the block does not release again."""
    daemon.load = [loaded()]
    daemon.release = pb.ReleaseResponse(engine=stopped())

    with client.load("m") as model:
        engine = model.release()

    assert engine.reclaim.verified
    assert sum(isinstance(request, pb.ReleaseRequest) for request in daemon.requests) == 1


def test_held_lease_ends_with_its_stream(daemon: FakeDaemon, client: Client) -> None:
    """A lease is held unless it is said otherwise, and a held load keeps its stream until the release."""
    daemon.load = [loaded(), Hang()]

    with client.load("m"):
        assert daemon.arrived.acquire(timeout=5)
        assert not daemon.cancelled.is_set()

    assert daemon.cancelled.wait(5)


def test_waiting_on_a_held_lease_sees_its_engine_die(daemon: FakeDaemon, client: Client) -> None:
    """An engine that dies ends the held stream with the reason."""
    daemon.load = [loaded(), Refusal("ENGINE_DIED", "it died", grpc.StatusCode.UNAVAILABLE)]
    model = client.load("m")

    with pytest.raises(Unavailable, match="ENGINE_DIED"):
        model.wait()
    with pytest.raises(Unavailable, match="ENGINE_DIED"):
        model.generate("x")
    assert [type(request) for request in daemon.requests] == [pb.LoadModelRequest]


def test_lease_that_is_gone_already_is_released(daemon: FakeDaemon, client: Client) -> None:
    """A lease that ran out by itself is no error at the end of a block."""
    daemon.load = [loaded()]
    daemon.release = not_found("lease", LEASE)

    with client.load("m"):
        pass


def test_error_of_the_block_comes_first(daemon: FakeDaemon, client: Client) -> None:
    """A failing release does not hide why the block failed."""
    daemon.load = [loaded()]
    daemon.release = Refusal("INTERNAL", "no")

    with pytest.raises(ZeroDivisionError), client.load("m"):
        raise ZeroDivisionError


def test_failing_release_is_raised(daemon: FakeDaemon, client: Client) -> None:
    """A block that was fine reports that its release was not."""
    daemon.load = [loaded()]
    daemon.release = Refusal("INTERNAL", "no")

    with pytest.raises(VllmdError, match="INTERNAL"), client.load("m"):
        pass


def test_renewed_lease_is_kept(daemon: FakeDaemon, client: Client) -> None:
    """Renewing returns and remembers the lease's new length."""
    daemon.load = [loaded()]

    with client.load("m", hold=False) as model:
        assert model.renew(3000).ttl.seconds == 3000
        assert model.lease.ttl.seconds == 3000


@pytest.mark.parametrize(
    ("wishes", "held"), [({}, True), ({"lease_ttl": 60}, False), ({"hold": False}, False), ({"hold": True}, True)]
)
def test_lease_with_a_length_is_not_held(
    daemon: FakeDaemon, client: Client, wishes: dict[str, Any], held: bool
) -> None:
    """Who says how long it lasts unused means it to."""
    daemon.load = [loaded()]
    client.load("m", **wishes)

    assert daemon.requests[0].hold is held


def test_model_that_nobody_refers_to_lets_its_lease_go(daemon: FakeDaemon, client: Client) -> None:
    """The thread that keeps it does not keep the model."""
    daemon.load = [loaded(), Hang()]
    model = client.load("m")
    assert daemon.arrived.acquire(timeout=5)
    assert not daemon.cancelled.is_set()

    del model

    assert daemon.cancelled.wait(5)


def test_client_that_closes_lets_its_leases_go(daemon: FakeDaemon) -> None:
    """They are its own."""
    daemon.load = [loaded(), Hang()]

    with Client(daemon.target) as client:
        model = client.load("m")

    assert daemon.cancelled.wait(5)
    with pytest.raises(VllmdError, match="CLIENT_CLOSED"):
        model.generate("x")


def test_chat_is_a_conversation(daemon: FakeDaemon, client: Client) -> None:
    """A text alone is the user's."""
    daemon.load = [loaded(), Hang()]
    daemon.generate = list(tokens())

    with client.load("m") as llm:
        texts = [delta.text for delta in llm.chat("hi", template_args={"enable_thinking": False}, seed=7)]
        list(llm.chat([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]))

    assert texts == ["Once", " upon a", " time"]
    first, second = daemon.requests[1:3]
    assert [(message.role, message.content) for message in first.chat.messages] == [("user", "hi")]
    assert first.sampling_params.seed == 7
    assert len(second.chat.messages) == 2


def test_batch_comes_as_it_is_complete_or_in_order(daemon: FakeDaemon, client: Client) -> None:
    """One that failed has its error, and the others go on."""
    failed = pb.GenerateBatchResponse(prompt_index=1, failure=too_long())
    daemon.load = [loaded(), Hang()]
    daemon.batch = [generated(2, "c"), failed, generated(0, "a")]

    with client.load("m") as llm:
        results = list(llm.generate_batch(["x", "y", "z"], max_tokens=4))
        with pytest.raises(InvalidRequest, match="PROMPT_TOO_LONG"):
            llm.complete_batch(["x", "y", "z"])
        daemon.batch = [generated(1, "b"), generated(0, "a")]
        whole = llm.complete_batch(["x", "y"])

    assert [result.index for result in results] == [2, 1, 0]
    assert isinstance(results[1].outcome, InvalidRequest)
    assert results[2].generation.text == "a"
    assert [generation.text for generation in whole] == ["a", "b"]


def test_batch_that_is_left_is_cancelled(daemon: FakeDaemon, client: Client) -> None:
    """The prompts that are still running are aborted."""
    daemon.load = [loaded(), Hang()]
    daemon.batch = [generated(0, "a"), Hang()]

    with client.load("m") as llm:
        assert daemon.arrived.acquire(timeout=5)
        with llm.generate_batch(["x", "y"]) as results:
            next(results)
            assert daemon.arrived.acquire(timeout=5)
        assert daemon.cancelled.wait(5)
        assert list(results) == []


def test_vectors_are_in_the_inputs_order(daemon: FakeDaemon, client: Client) -> None:
    """Whatever the order in which they come; a vector that is missing is an error."""
    daemon.load = [loaded(), Hang()]
    daemon.embed = [embedded(1, 0.0, 1.0), embedded(0, 1.0, 0.0)]

    with client.load("m") as llm:
        vectors = llm.embed(["a", "b"], normalize=True)
        with pytest.raises(VllmdError, match="without a result for number 2"):
            llm.embed(["a", "b", "c"])
        daemon.embed = [embedded(0, 1.0), pb.EmbedResponse(input_index=1, failure=too_long())]
        with pytest.raises(InvalidRequest, match="9000 tokens"):
            llm.embed(["a", "b"])

    assert vectors == [[1.0, 0.0], [0.0, 1.0]]


def test_tokens_and_back(daemon: FakeDaemon, client: Client) -> None:
    """By the lease."""
    daemon.load = [loaded(), Hang()]
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1, 2], max_model_len=8192)
    daemon.detokenize = pb.DetokenizeResponse(text="hi")

    with client.load("m") as llm:
        assert list(llm.tokenize("hi", add_special_tokens=False).token_ids) == [1, 2]
        assert llm.detokenize([1, 2], skip_special_tokens=True) == "hi"

    assert [request.lease for request in daemon.requests[1:3]] == [LEASE, LEASE]
    assert daemon.requests[2].skip_special_tokens


def test_model_that_was_released_says_so(daemon: FakeDaemon, client: Client) -> None:
    """Whatever is asked of it, and without asking the daemon, which would know no such lease."""
    daemon.load = [loaded()]
    with client.load("m") as llm:
        pass

    for use in (llm.generate, llm.complete, llm.tokenize):
        with pytest.raises(Cancelled, match="was released: load it again") as caught:
            use("x")
        assert caught.value.reason == "LEASE_RELEASED"
    with pytest.raises(Cancelled), llm:
        llm.renew()
    llm.wait()
    assert [type(request) for request in daemon.requests] == [pb.LoadModelRequest, pb.ReleaseRequest]
