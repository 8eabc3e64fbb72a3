"""What `AsyncLLM` itself makes of some prompts: run under the interpreter that has vLLM.

Prints a list of token id lists as JSON: `python reference.py MODEL '{"prompts": [[1, 2], …], "max_tokens": 24}'`
"""

import asyncio
import json
import sys


async def main(model: str, prompts: list[list[int]], max_tokens: int, engine_args: dict[str, object]) -> None:
    """Generate greedily, all prompts at once."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **engine_args))

    async def one(index: int, prompt: list[int]) -> list[int]:
        ids: list[int] = []
        params = SamplingParams(
            temperature=0, max_tokens=max_tokens, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        async for output in engine.generate({"prompt_token_ids": prompt}, params, str(index)):
            ids = list(output.outputs[0].token_ids)
        return ids

    results = await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(prompts)))
    print("RESULT " + json.dumps(results), flush=True)
    engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
