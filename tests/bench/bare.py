"""The bare engine, `AsyncLLM` in this process without a server: `bare.py MODEL MAX_MODEL_LEN TOKENS CONCURRENCY…`.

Run under the interpreter that has vLLM. Settings and requests are those of `tests.bench.gpu`.
"""

import asyncio
import sys
import time


async def main(model: str, max_model_len: int, tokens: int, levels: list[int]) -> None:
    """Measure each number of streams."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(
        model=model, load_format="dummy", gpu_memory_utilization=0.5, max_model_len=max_model_len, max_num_seqs=1024
    )
    engine = AsyncLLM.from_engine_args(arguments)

    async def one(index: int, count: int) -> tuple[int, float]:
        params = SamplingParams(max_tokens=count, ignore_eos=True, temperature=1.0, output_kind=RequestOutputKind.DELTA)
        begun, first, received = time.perf_counter(), 0.0, 0
        prompt = {"prompt_token_ids": [5 + index % 7] * 64}
        async for output in engine.generate(prompt, params, request_id=f"{index}-{begun}"):
            first = first or time.perf_counter() - begun
            received += len(output.outputs[0].token_ids)
        return received, first

    await asyncio.gather(*(one(index, 32) for index in range(256)))
    for level in levels:
        begun = time.perf_counter()
        results = await asyncio.gather(*(one(index, tokens) for index in range(level)))
        rate = sum(received for received, _ in results) / (time.perf_counter() - begun)
        first = sorted(first for _, first in results)[level // 2]
        print(f"AsyncLLM concurrency {level}: {rate:.0f} tok/s, TTFT median {first * 1e3:.1f} ms", flush=True)
    engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(level) for level in sys.argv[4:]]))
