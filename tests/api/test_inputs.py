from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.fakes.host import DEADLINE_SECONDS, Host
from tests.fakes.served import Served, reason_of, serving
from vllmd.api import limits
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.generation_pb2 import ChatMessage, ChatPrompt, Prompt, TokenPrompt


async def tokenized(served: Served, lease: str, prompt: Prompt, **more: Any) -> pb.TokenizeResponse:
    """Tokenize."""
    return await served.engines.Tokenize(
        pb.TokenizeRequest(lease=lease, prompt=prompt, **more), timeout=DEADLINE_SECONDS
    )


def same(prompt: Prompt, lease: str) -> pb.GenerateRequest:
    """A generation from the same prompt."""
    match prompt.WhichOneof("content"):
        case "text":
            return pb.GenerateRequest(lease=lease, text=prompt.text)
        case "tokens":
            return pb.GenerateRequest(lease=lease, tokens=prompt.tokens)
        case _:
            return pb.GenerateRequest(lease=lease, chat=prompt.chat)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(text="a b c"),
        Prompt(tokens=TokenPrompt(token_ids=[4, 5])),
        Prompt(chat=ChatPrompt(messages=[ChatMessage(role="user", content="a b")])),
    ],
)
async def test_a_prompt_has_the_tokens_that_a_generation_counts(prompt: Prompt) -> None:
    """Whatever it is."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(max_model_len=512)).lease.name
        found = await tokenized(served, lease, prompt)
        request = same(prompt, lease)
        request.sampling_params.max_tokens = 1
        async with asyncio.timeout(DEADLINE_SECONDS):
            *_, last = [response async for response in served.engines.Generate(request)]

        assert len(found.token_ids) == last.usage.prompt_tokens
        assert found.max_model_len == 512
        assert not found.token_texts


async def test_tokens_become_text_and_text_tokens() -> None:
    """A round trip changes nothing; each token can be had as text."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        found = await tokenized(served, loaded.lease.name, Prompt(text="w5 w77"), return_token_texts=True)
        back = await served.engines.Detokenize(
            pb.DetokenizeRequest(engine=loaded.engine.name, token_ids=found.token_ids), timeout=DEADLINE_SECONDS
        )

        assert found.token_ids == [5, 77]
        assert found.token_texts == ["w5", "w77"]
        assert back.text == "w5 w77"


@pytest.mark.parametrize("runner", ["generate", "pooling"])
async def test_any_engine_makes_tokens(runner: str) -> None:
    """One that makes vectors, too."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(runner=runner)).lease.name

        assert len((await tokenized(served, lease, Prompt(text="a b"))).token_ids) == 2


@pytest.mark.parametrize(
    ("token_ids", "reason"),
    [([], "INVALID_FIELD"), ([1000], "TOKEN_OUT_OF_VOCABULARY"), ([-1], "TOKEN_OUT_OF_VOCABULARY")],
)
async def test_no_text_is_made_of_tokens_that_there_are_not(token_ids: list[int], reason: str) -> None:
    """Nor of none."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.engines.Detokenize(pb.DetokenizeRequest(lease=lease, token_ids=token_ids))

        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(refused.value) == reason


async def test_texts_and_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread of the engine's worker makes all of them."""
    monkeypatch.setattr(limits, "MAX_TOKENS", 10)
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as text:
            await tokenized(served, lease, Prompt(text="é" * (limits.MAX_TEXT_BYTES // 2 + 1)))
        with pytest.raises(grpc.aio.AioRpcError) as tokens:
            await served.engines.Detokenize(pb.DetokenizeRequest(lease=lease, token_ids=[1] * 11))
        fits = await tokenized(served, lease, Prompt(text="x" * limits.MAX_TEXT_BYTES))

        assert (reason_of(text.value), reason_of(tokens.value)) == ("PROMPT_TOO_LARGE", "INVALID_FIELD")
        assert len(fits.token_ids) == 1


async def test_nobody_is_asked_without_a_lease_or_an_engine() -> None:
    """And what there is not is not found."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError, match="either a lease or an engine"):
            await tokenized(served, "", Prompt(text="a"))
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await tokenized(served, "leases/none", Prompt(text="a"))

        assert reason_of(unknown.value) == "LEASE_NOT_FOUND"


async def test_a_question_uses_the_engine() -> None:
    """Nothing of it stays behind."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        await tokenized(served, lease, Prompt(text="a"))
        entry = host.scheduler.engines.entries()[0]
        assert entry.supervisor.link is not None

        assert (entry.using, entry.supervisor.link.running) == (0, 0)
