"""Streams against a daemon, from several client processes, so that clients are not what limits."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import statistics
import time
from threading import Barrier

import grpc

from vllmd.v1.engine_service_pb2 import GenerateRequest
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub

_START_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Result:
    """What clients saw."""

    tokens: int
    messages: int
    seconds: float
    first_seconds: tuple[float, ...]
    """Time to first token of each stream."""

    @property
    def tokens_per_second(self) -> float:
        """All streams together."""
        return self.tokens / self.seconds

    @property
    def median_first(self) -> float:
        """Median time to first token, in seconds."""
        return statistics.median(self.first_seconds)


def run(target: str, engine: str, streams: int, max_tokens: int, processes: int = 2) -> Result:
    """Generate *max_tokens* on each of *streams* at once; prompts of 64 tokens, no end token."""
    processes = min(processes, streams)
    shares = [streams // processes + (index < streams % processes) for index in range(processes)]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(processes)
        jobs = [(target, engine, share, max_tokens, barrier) for share in shares]
        with context.Pool(processes) as pool:
            parts = pool.map(_client, jobs, chunksize=1)
    begun = min(part[0] for part in parts)
    ended = max(part[1] for part in parts)
    return Result(
        tokens=sum(part[2] for part in parts),
        messages=sum(part[3] for part in parts),
        seconds=ended - begun,
        first_seconds=tuple(first for part in parts for first in part[4]),
    )


def _client(job: tuple[str, str, int, int, Barrier]) -> tuple[float, float, int, int, list[float]]:
    target, engine, streams, max_tokens, barrier = job
    return asyncio.run(_streams(target, engine, streams, max_tokens, barrier))


async def _streams(
    target: str, engine: str, streams: int, max_tokens: int, barrier: Barrier
) -> tuple[float, float, int, int, list[float]]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = EngineServiceStub(channel)
        await channel.channel_ready()
        barrier.wait(_START_SECONDS)

        async def one(index: int) -> tuple[int, int, float]:
            request = GenerateRequest(engine=engine)
            request.tokens.token_ids.extend([5 + index % 7] * 64)
            request.sampling_params.max_tokens = max_tokens
            request.sampling_params.ignore_eos = True
            request.sampling_params.temperature = 1.0
            begun, first, tokens, messages = time.perf_counter(), 0.0, 0, 0
            async for response in stub.Generate(request):
                first = first or time.perf_counter() - begun
                tokens += len(response.token_ids)
                messages += 1
            return tokens, messages, first

        begun = time.monotonic()
        results = await asyncio.gather(*(one(index) for index in range(streams)))
        ended = time.monotonic()
    tokens, messages, first = zip(*results, strict=True)
    return begun, ended, sum(tokens), sum(messages), list(first)
