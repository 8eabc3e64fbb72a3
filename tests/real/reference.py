"""What `AsyncLLM` itself makes of some prompts: run under the interpreter that has vLLM.

Prints a list of token id lists as JSON: `python reference.py MODEL '{"prompts": [[1, 2], …], "max_tokens": 24}'`
With `"logprobs": 3` it prints a list of objects with `ids`, `logprobs` and `prompt_logprobs` in place of that.
"""

import asyncio
import json
import sys
from typing import Any


def places(found: Any) -> list[list[list[Any]]]:
    """Read log probabilities as ids, values, ranks and texts, in vLLM's order."""
    return [[[token, p.logprob, p.rank, p.decoded_token] for token, p in (place or {}).items()] for place in found]


async def main(
    model: str, prompts: list[list[int]], max_tokens: int, engine_args: dict[str, object], logprobs: int | None = None
) -> None:
    """Generate greedily, all prompts at once."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **engine_args))

    async def one(index: int, prompt: list[int]) -> Any:
        result: Any = []
        params = SamplingParams(
            temperature=0,
            max_tokens=max_tokens,
            ignore_eos=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            logprobs=logprobs,
            prompt_logprobs=logprobs,
        )
        async for output in engine.generate({"prompt_token_ids": prompt}, params, str(index)):
            result = list(output.outputs[0].token_ids)
            if logprobs is not None:
                found = {"logprobs": output.outputs[0].logprobs, "prompt_logprobs": output.prompt_logprobs}
                result = {"ids": result} | {name: places(value) for name, value in found.items()}
        return result

    results = await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(prompts)))
    print("RESULT " + json.dumps(results), flush=True)
    engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], **json.loads(sys.argv[2])))
