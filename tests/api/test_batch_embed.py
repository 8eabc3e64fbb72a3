"""Embed: what of `vllmd.api.batch` is not GenerateBatch's alone."""

from __future__ import annotations

import array
from typing import Any

import grpc
import pytest

from tests.api.test_batch import batch_of, results, text, tokens, vectors
from tests.fakes.host import Host
from tests.fakes.served import reason_of, serving
from vllmd.api import batch
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.generation_pb2 import Prompt
from vllmd.worker.protocol import Embedded


@pytest.mark.parametrize("dimensions", [0, 1, 31, 32, 4096, 5000])
def test_vectors_of_any_length_become_messages(dimensions: int) -> None:
    """Number for number what protobuf would have made of them."""
    numbers = array.array("f", [index / 7 for index in range(dimensions)])
    found = batch.embedding(Embedded(1, numbers.tobytes(), 3))

    assert found == pb.Embedding(values=numbers, prompt_tokens=3)


async def test_inputs_have_vectors() -> None:
    """Equal ones equal vectors, of length 1; each comes with its tokens counted."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(runner="pooling", fake_tokens_per_second=0)
        found = await vectors(
            served, pb.EmbedRequest(lease=loaded.lease.name, inputs=[text("a b"), tokens(1), text("a b")])
        )
        by_index = {response.input_index: response.embedding for response in found}

        assert loaded.engine.report.runner_type == "pooling"
        assert by_index[0] == by_index[2]
        assert by_index[0].values != by_index[1].values
        assert sum(value * value for value in by_index[0].values) == pytest.approx(1, abs=1e-6)
        assert [by_index[index].prompt_tokens for index in range(3)] == [2, 1, 2]


async def test_a_bad_input_gets_an_error_of_its_own() -> None:
    """As a bad prompt does."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(runner="pooling", fake_tokens_per_second=0)).lease.name
        found = await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a"), tokens(1000), Prompt()]))
        outcomes = {response.input_index: response.failure.reason for response in found}

        assert outcomes == {0: "", 1: "TOKEN_OUT_OF_VOCABULARY", 2: "INVALID_FIELD"}


@pytest.mark.parametrize(
    ("wanted", "code", "reason"),
    [
        ({"dimensions": 8}, grpc.StatusCode.FAILED_PRECONDITION, "DIMENSIONS_UNSUPPORTED"),
        ({"dimensions": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"truncate_prompt_tokens": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_what_no_vector_can_be_made_like_is_refused(
    wanted: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    """For all inputs at once."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(runner="pooling")).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a"), text("b")], **wanted))

        assert (refused.value.code(), reason_of(refused.value)) == (code, reason)


async def test_vectors_are_as_they_are_asked_for() -> None:
    """Shortened, not scaled, of the first tokens only."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(runner="pooling", fake_matryoshka=True)
        lease = loaded.lease.name
        short = await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a")], dimensions=4))
        own = await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a")], normalize=False))
        cut = await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a", "b")], truncate_prompt_tokens=1))
        plain = await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a")]))

        assert len(short[0].embedding.values) == 4
        assert sum(value * value for value in own[0].embedding.values) > 1.1
        assert cut == plain


@pytest.mark.parametrize(("runner", "reason"), [("", "NOT_AN_EMBEDDING_MODEL"), ("pooling", "NOT_A_GENERATING_MODEL")])
async def test_engines_do_what_they_are_for(runner: str, reason: str) -> None:
    """The call fails, not each input; the client is told how such a model is loaded."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(**({"runner": runner} if runner else {}))).lease.name
        call = (
            results(served, batch_of(lease, text("a"), text("b")))
            if runner
            else vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a"), text("b")]))
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call

        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(refused.value) == reason
        assert runner or "runner=pooling and convert=embed" in (refused.value.details() or "")
