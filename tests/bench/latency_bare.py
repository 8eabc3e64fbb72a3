"""The bare engine for `tests.bench.latency`: `latency_bare.py MODEL ENGINE_ARGS REQUESTS TOKENS PAUSE`.

Prints for each request, one after the other, the seconds until its first token and those for each token after that.
"""

import asyncio
import json
import sys
import time


async def main(model: str, engine_args: dict[str, object], requests: int, tokens: int, pause: float) -> None:
    """Measure them."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, disable_log_stats=True, **engine_args))
    for index in range(-3, requests):
        params = SamplingParams(
            max_tokens=tokens, ignore_eos=True, temperature=0.0, output_kind=RequestOutputKind.DELTA
        )
        prompt = {"prompt_token_ids": [6 + (index + 3) % 90] * 64}
        await asyncio.sleep(pause)
        begun, first = time.perf_counter(), 0.0
        async for _ in engine.generate(prompt, params, request_id=str(index)):
            first = first or time.perf_counter()
        ended = time.perf_counter()
        if index >= 0:  # those before warm it up
            print("measured", json.dumps([first - begun, (ended - first) / (tokens - 1)]), flush=True)
    engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
