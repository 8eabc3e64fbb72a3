"""One `GenerateBatch` against parallel `Generate` streams, on the same prompts and the same engine, turn by turn.

`python -m tests.bench.batch` takes a fake engine, which makes tokens as fast as it can; with `--model` and
`--engine-python` it takes real vLLM. Both have as many prompts in flight, by the engine's `max_num_seqs`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import psutil

from tests.bench.__main__ import cpu_seconds
from tests.host.running import home, load_request
from vllmd.v1.engine_service_pb2 import GenerateBatchRequest, GenerateRequest
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.generation_pb2 import Prompt, SamplingParams, TokenPrompt

_LOAD_SECONDS = 500.0
_PROMPT_TOKENS = 64
_ON_A_CPU = {"max_model_len": 512, "dtype": "float32", "kv_cache_memory_bytes": 512 << 20}


@dataclasses.dataclass(frozen=True)
class Round:
    """What one way of asking came to."""

    tokens: int
    seconds: float
    daemon_seconds: float
    """CPU time of the daemon."""
    client_seconds: float
    """CPU time of this process."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


class Bench:
    """One engine, and one connection to its daemon.

    Args:
        target: the daemon's address.
        pid: the daemon's process.
        engine: `engines/…`.
        prompts: how many.
        streams: how many at once.
        max_tokens: of each.
    """

    def __init__(self, target: str, pid: int, engine: str, prompts: int, streams: int, max_tokens: int) -> None:
        self._target = target
        self._daemon = psutil.Process(pid)
        self._engine = engine
        self._prompts = [TokenPrompt(token_ids=[5 + index % 7] * _PROMPT_TOKENS) for index in range(prompts)]
        self._streams = streams
        self._params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, temperature=1.0)

    async def run(self, rounds: int) -> tuple[list[Round], list[Round]]:
        """Ask each way so many times, turn by turn, after one time that does not count."""
        async with grpc.aio.insecure_channel(self._target, [("grpc.max_receive_message_length", 64 << 20)]) as channel:
            stub = EngineServiceStub(channel)
            ways: tuple[Callable[[Any], Awaitable[int]], ...] = (self._streamed, self._batched)
            found: tuple[list[Round], list[Round]] = ([], [])
            for index in range(rounds + 1):
                for way, results in zip(ways, found, strict=True):
                    result = await self._measure(way, stub)
                    if index:
                        results.append(result)
        return found

    async def _measure(self, way: Callable[[Any], Awaitable[int]], stub: Any) -> Round:
        client = psutil.Process()
        daemon_used, client_used, begun = cpu_seconds(self._daemon), cpu_seconds(client), time.perf_counter()
        tokens = await way(stub)
        seconds = time.perf_counter() - begun
        return Round(tokens, seconds, cpu_seconds(self._daemon) - daemon_used, cpu_seconds(client) - client_used)

    async def _streamed(self, stub: Any) -> int:
        waiting = iter(self._prompts)

        async def one() -> int:
            tokens = 0
            for prompt in waiting:
                request = GenerateRequest(engine=self._engine, tokens=prompt, sampling_params=self._params)
                async for response in stub.Generate(request):
                    tokens += len(response.token_ids)
            return tokens

        return sum(await asyncio.gather(*(one() for _ in range(self._streams))))

    async def _batched(self, stub: Any) -> int:
        prompts = [Prompt(tokens=prompt) for prompt in self._prompts]
        request = GenerateBatchRequest(engine=self._engine, prompts=prompts, sampling_params=self._params)
        tokens = 0
        async for response in stub.GenerateBatch(request):
            tokens += response.generated.usage.completion_tokens
        return tokens


def show(name: str, rounds: list[Round]) -> None:
    """Print the medians of some rounds."""
    median = statistics.median
    print(
        f"{name:<22} {median(one.rate for one in rounds):>10,.0f} tokens/s   "
        f"daemon {median(one.daemon_seconds / one.tokens for one in rounds) * 1e6:>6.1f} µs/token   "
        f"client {median(one.client_seconds / one.tokens for one in rounds) * 1e6:>6.1f} µs/token",
        flush=True,
    )


def main() -> None:
    """Load, measure both ways, and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument(
        "--streams", type=int, default=256, help="at once, and of a batch as well (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=64, help="of each prompt (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="a directory; default: a fake engine")
    parser.add_argument("--engine-python", help="the interpreter that has vLLM")
    parser.add_argument(
        "--engine-args", type=json.loads, help="vLLM's, as a JSON object (default: what a tiny model on a CPU takes)"
    )
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"max_num_seqs": arguments.streams // 2}  # a batch has twice as many in hand
    options = ["--log-level", "warning", *(["--backend", "fake"] if not arguments.model else [])]
    if arguments.model:
        options += ["--engine-python", arguments.engine_python]
        settings |= _ON_A_CPU if arguments.engine_args is None else arguments.engine_args
    else:
        settings["fake_tokens_per_second"] = 0
    with home(*options) as place:
        daemon = place.start()
        *_, last = daemon.engines.LoadModel(load_request(arguments.model or "fake", **settings), timeout=_LOAD_SECONDS)
        engine = last.loaded.engine.name
        target = f"unix:{daemon.socket}"
        bench = Bench(target, daemon.process.pid, engine, arguments.prompts, arguments.streams, arguments.tokens)
        streamed, batched = asyncio.run(bench.run(arguments.rounds))
    what = f"{arguments.prompts} prompts of {_PROMPT_TOKENS} tokens, {arguments.tokens} tokens each"
    print(f"{what}, medians of {arguments.rounds} rounds")
    show(f"{arguments.streams} Generate streams", streamed)
    show("GenerateBatch", batched)
    ratios = [one.rate / other.rate for one, other in zip(batched, streamed, strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
