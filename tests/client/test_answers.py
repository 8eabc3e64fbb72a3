from __future__ import annotations

import grpc
import pytest

from tests.fakes.batches import embedded, generated, too_long
from vllmd.client import Generation, InvalidRequest, VllmdError
from vllmd.client.answers import InOrder, batch_result, gone_before, vector
from vllmd.v1 import engine_service_pb2 as pb


def test_result_of_a_prompt_is_whole() -> None:
    """All completions of one prompt are one value, and the first is at hand."""
    result = batch_result(generated(2, "a", "b"))

    assert result.index == 2
    assert result.generation.text == "a"
    assert [completion.text for completion in result.generation.completions] == ["a", "b"]
    assert result.generation.usage is not None
    assert result.generation.usage.completion_tokens == 2


def test_prompt_that_failed_has_its_error() -> None:
    """It is of the class that a call of its own would have failed with, and is raised where the result is used."""
    result = batch_result(pb.GenerateBatchResponse(prompt_index=1, failure=too_long()))

    assert isinstance(result.outcome, InvalidRequest)
    with pytest.raises(InvalidRequest, match="9000 tokens") as caught:
        _ = result.generation
    assert caught.value.metadata == {"prompt_tokens": "9000"}
    assert caught.value is not result.outcome  # or its traceback would grow with each use


def test_vector_or_its_error() -> None:
    """A vector is a list of floats."""
    assert vector(embedded(0, 0.5, -1.0)) == [0.5, -1.0]
    with pytest.raises(InvalidRequest, match="PROMPT_TOO_LONG"):
        vector(pb.EmbedResponse(failure=too_long()))


def test_result_of_a_kind_that_is_new_is_an_error() -> None:
    """A newer daemon may send what this client can't read; it is not taken for an empty answer."""
    assert isinstance(batch_result(pb.GenerateBatchResponse()).outcome, VllmdError)
    with pytest.raises(VllmdError, match="unknown here"):
        vector(pb.EmbedResponse())


def test_results_are_put_in_order() -> None:
    """Whatever the order in which they come; one that is left out is an error."""
    found: InOrder[str] = InOrder(2)
    found.put(1, "b")
    with pytest.raises(VllmdError, match="number 0"):
        found.whole()
    found.put(0, "a")

    assert found.whole() == ["a", "b"]
    assert InOrder[Generation](0).whole() == []


def test_what_an_earlier_try_did_is_done() -> None:
    """What is not there any more was ended by a try that got through, and by nothing else."""
    error = VllmdError(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")
    with pytest.raises(VllmdError, match="LEASE_NOT_FOUND"):
        gone_before(error, "LEASE_NOT_FOUND")
    error.earlier = VllmdError(grpc.StatusCode.UNAVAILABLE, "UPGRADING", "", {"engine": "a-1"})

    assert gone_before(error, "LEASE_NOT_FOUND").name == "engines/a-1"
